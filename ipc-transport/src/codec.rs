//! Codecs: values to bytes and back, always over bounded slices.

use bytes::Bytes;

#[cfg(feature = "bincode")]
mod bincode;
pub mod depth;
#[cfg(feature = "json")]
mod json;
#[cfg(any(feature = "bincode", feature = "json", feature = "messagepack"))]
mod message;
#[cfg(feature = "messagepack")]
mod messagepack;
#[cfg(feature = "postcard")]
mod postcard;
mod raw;
mod value;
#[cfg(any(feature = "json", feature = "messagepack"))]
mod writer;

#[cfg(feature = "bincode")]
pub use bincode::Bincode;
#[cfg(feature = "json")]
pub use json::Json;
#[cfg(feature = "messagepack")]
pub use messagepack::MessagePack;
#[cfg(feature = "postcard")]
pub use postcard::Postcard;
pub use raw::Raw;
pub use value::Value;

/// Turns values of one type into bytes.
///
/// It is an object per value type, so that a port's type names only the value: `OutgoingPort<T>`.
pub trait Encoder<T>: Send + Sync + 'static {
    /// The name that both ends compare in the hello: `bincode2-fixed`, `json`, `raw`.
    fn id(&self) -> &str;

    /// Appends the encoding of `value`.
    ///
    /// It may be called a second time for the same value when the first call met [`EncodeError::NoRoom`], so it
    /// must pass that error through and have no side effects.
    fn encode(&self, value: &T, out: &mut EncodeBuffer<'_>) -> Result<(), EncodeError>;
}

/// Turns bytes into values of one type.
pub trait Decoder<T>: Send + Sync + 'static {
    /// The name that both ends compare in the hello.
    fn id(&self) -> &str;

    /// Decodes one value from exactly these bytes; bytes left over are an error.
    fn decode(&self, input: &[u8]) -> Result<T, DecodeError>;

    /// Decodes one value from a buffer of its own, which the value may keep.
    fn decode_owned(&self, input: Bytes) -> Result<T, DecodeError> {
        self.decode(&input)
    }

    /// Decodes a run of values that lie in one buffer, each at one of `spans` (start, end), and pushes them.
    ///
    /// The values before an undecodable one are pushed. One dynamic call serves the whole run.
    ///
    /// # Panics
    ///
    /// When a span does not lie within `input`.
    fn decode_batch(&self, input: &[u8], spans: &[(u32, u32)], out: &mut Vec<T>) -> Result<(), BatchError> {
        out.reserve(spans.len());
        for (index, &(start, end)) in spans.iter().enumerate() {
            match self.decode(&input[start as usize..end as usize]) {
                Ok(value) => out.push(value),
                Err(error) => return Err(BatchError { index, error }),
            }
        }
        Ok(())
    }
}

/// Where in a run decoding stopped, and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("value {index} of a run does not decode")]
pub struct BatchError {
    /// The place in the run, from 0.
    pub index: usize,
    /// What is wrong with that value.
    #[source]
    pub error: DecodeError,
}

/// Where an encoder writes: a slice of a segment first, a growing buffer for a value that does not fit.
///
/// After an error the bytes written for that value mean nothing; the caller discards them.
#[derive(Debug)]
pub struct EncodeBuffer<'a> {
    target: Target<'a>,
    attached: Option<Bytes>,
}

#[derive(Debug)]
enum Target<'a> {
    Slice { room: &'a mut [u8], written: usize },
    Growing { bytes: &'a mut Vec<u8>, start: usize, max: usize },
}

impl<'a> EncodeBuffer<'a> {
    /// Payloads from this size on are worth referencing instead of copying: 16 KiB.
    pub const ATTACH_FROM: usize = 16 * 1024;

    /// Writes into a fixed slice; what does not fit is [`EncodeError::NoRoom`].
    pub fn in_slice(slice: &'a mut [u8]) -> Self {
        Self { target: Target::Slice { room: slice, written: 0 }, attached: None }
    }

    /// Appends to a vector, at most `max` bytes; more is [`EncodeError::TooLarge`].
    pub fn growing(bytes: &'a mut Vec<u8>, max: usize) -> Self {
        let start = bytes.len();
        Self { target: Target::Growing { bytes, start, max }, attached: None }
    }

    /// Appends bytes.
    #[inline]
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), EncodeError> {
        match &mut self.target {
            Target::Slice { room, written } => {
                if room.len() < bytes.len() {
                    return Err(EncodeError::NoRoom);
                }
                // What is left of the slice is kept, not a position in it: one comparison for each write.
                let (place, rest) = std::mem::take(room).split_at_mut(bytes.len());
                place.copy_from_slice(bytes);
                *room = rest;
                *written += bytes.len();
                Ok(())
            }
            Target::Growing { bytes: to, start, max } => {
                let used = to.len() - *start;
                if bytes.len() > max.saturating_sub(used) {
                    return Err(EncodeError::TooLarge { len: used.saturating_add(bytes.len()), max: *max });
                }
                to.extend_from_slice(bytes);
                Ok(())
            }
        }
    }

    /// Gives the whole encoding as a buffer to be referenced, not copied; nothing may be written beside it.
    pub fn attach(&mut self, bytes: Bytes) {
        debug_assert_eq!(self.len(), 0, "an attached payload is the whole encoding");
        self.attached = Some(bytes);
    }

    /// The referenced payload, if the encoder gave one.
    pub fn take_attached(&mut self) -> Option<Bytes> {
        self.attached.take()
    }

    /// Bytes written so far, an attached payload not counted.
    #[inline]
    pub fn len(&self) -> usize {
        match &self.target {
            Target::Slice { written, .. } => *written,
            Target::Growing { bytes, start, .. } => bytes.len() - start,
        }
    }

    /// Whether nothing was written.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Why a value could not be encoded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// The value nests deeper than allowed.
    #[error("value nests deeper than {max} levels")]
    Depth {
        /// The limit.
        max: usize,
    },
    /// The value's own `Serialize` reported a failure. The message is cut at 256 bytes.
    #[error("value refused to be encoded: {message}")]
    Custom {
        /// What it said.
        message: Box<str>,
    },
    /// The slice is full; the caller offers a larger place. Encoders pass it through.
    #[error("no room left in the segment")]
    NoRoom,
    /// The encoding is larger than a message may be.
    #[error("encoding of {len} bytes or more exceeds the limit of {max}")]
    TooLarge {
        /// Bytes when it was noticed.
        len: usize,
        /// The limit.
        max: usize,
    },
    /// The format cannot express this: a sequence of unknown length, for one.
    #[error("the format cannot express {what}")]
    Unsupported {
        /// What it cannot express.
        what: &'static str,
    },
}

/// Why bytes are not a value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The value's own `Deserialize` reported a failure. The message is cut at 256 bytes; it may quote the data.
    #[error("bytes do not make a valid value: {message}")]
    Custom {
        /// What it said.
        message: Box<str>,
    },
    /// The value nests deeper than allowed.
    #[error("value nests deeper than {max} levels")]
    Depth {
        /// The limit.
        max: usize,
    },
    /// A byte or tag that cannot stand there: a bool of 7, text that is not UTF-8.
    #[error("invalid {what}")]
    Invalid {
        /// What it should have been.
        what: &'static str,
    },
    /// Bytes were left over after the value.
    #[error("{count} bytes left over after the value")]
    TrailingBytes {
        /// How many.
        count: usize,
    },
    /// The bytes ended before the value did.
    #[error("value needs {needed} more bytes where {remaining} remain")]
    UnexpectedEnd {
        /// How many were asked for.
        needed: u64,
        /// How many were left.
        remaining: usize,
    },
    /// The format cannot express this: a type that describes itself, for one.
    #[error("the format cannot express {what}")]
    Unsupported {
        /// What it cannot express.
        what: &'static str,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slice_takes_what_fits_and_nothing_of_what_does_not() {
        let mut slice = [0; 5];
        let mut out = EncodeBuffer::in_slice(&mut slice);
        assert!(out.is_empty());
        out.write(b"abc").unwrap();
        assert_eq!(out.write(b"def"), Err(EncodeError::NoRoom));
        out.write(b"de").unwrap();
        out.write(b"").unwrap();
        assert_eq!(out.len(), 5);
        assert_eq!(&slice, b"abcde");
    }

    #[test]
    fn a_growing_buffer_counts_from_where_it_began() {
        let mut bytes = b"before".to_vec();
        let mut out = EncodeBuffer::growing(&mut bytes, 3);
        out.write(b"ab").unwrap();
        assert_eq!(out.write(b"cd"), Err(EncodeError::TooLarge { len: 4, max: 3 }));
        assert_eq!(out.len(), 2);
        assert_eq!(bytes, b"beforeab");
    }

    #[test]
    fn an_attached_payload_is_taken_once() {
        let mut out = EncodeBuffer::in_slice(&mut []);
        out.attach(Bytes::from_static(b"large"));
        assert_eq!(out.take_attached(), Some(Bytes::from_static(b"large")));
        assert_eq!(out.take_attached(), None);
    }
}
