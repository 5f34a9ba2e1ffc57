//! Codecs: values to bytes and back, always over bounded slices.

use bytes::Bytes;

mod raw;

pub use raw::Raw;

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
    fn decode_batch(&self, input: &[u8], spans: &[(u32, u32)], out: &mut Vec<T>) -> Result<(), BatchError> {
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
#[derive(Debug)]
pub struct EncodeBuffer<'a> {
    target: Target<'a>,
    attached: Option<Bytes>,
}

#[derive(Debug)]
enum Target<'a> {
    Slice { slice: &'a mut [u8], len: usize },
    Growing { bytes: &'a mut Vec<u8>, start: usize, max: usize },
}

impl<'a> EncodeBuffer<'a> {
    /// Payloads from this size on are worth referencing instead of copying: 16 KiB.
    pub const ATTACH_FROM: usize = 16 * 1024;

    /// Writes into a fixed slice; what does not fit is [`EncodeError::NoRoom`].
    pub fn in_slice(slice: &'a mut [u8]) -> Self {
        Self { target: Target::Slice { slice, len: 0 }, attached: None }
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
            Target::Slice { slice, len } => {
                let Some(room) = slice.get_mut(*len..*len + bytes.len()) else {
                    return Err(EncodeError::NoRoom);
                };
                room.copy_from_slice(bytes);
                *len += bytes.len();
                Ok(())
            }
            Target::Growing { bytes: to, start, max } => {
                let len = to.len() - *start + bytes.len();
                if len > *max {
                    return Err(EncodeError::TooLarge { len, max: *max });
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
            Target::Slice { len, .. } => *len,
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
    /// The value's own `Serialize` reported a failure.
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
    /// The value's own `Deserialize` reported a failure.
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
