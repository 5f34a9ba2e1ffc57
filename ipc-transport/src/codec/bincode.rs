//! The default codec: the bincode 2 format with fixed-width little-endian integers.
//!
//! Read and written by this crate over bounded slices. The bytes are those of the `bincode` crate 2.0 under
//! `config::standard().with_fixed_int_encoding()`, which `tests/codec_bincode.rs` shows for every class of types:
//!
//! | value | bytes |
//! |---|---|
//! | integers, floats | little-endian, their own width |
//! | bool | one byte, 0 or 1 |
//! | char | its UTF-8 bytes, 1 to 4 |
//! | text, byte strings | length as `u64`, then the bytes |
//! | option | one byte, 0 or 1, then the value if 1 |
//! | sequence, map | number of elements or entries as `u64`, then each |
//! | tuple, array, struct | the fields in order, nothing between |
//! | unit, unit struct | nothing |
//! | newtype struct | the value within |
//! | enum | the variant's index as `u32`, then its contents |

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::depth;
use super::{BatchError, DecodeError, Decoder, EncodeBuffer, EncodeError, Encoder, Target};
use output::{GrowingOutput, SliceOutput};
use reader::Reader;

mod de;
mod output;
mod reader;
mod ser;

/// Carries any serde type in the bincode 2 format with fixed-width integers.
///
/// What a hostile or broken peer can make it do is bounded:
///
/// - Every length is compared with the bytes that remain before anything is allocated for it.
/// - Nesting stops at [`Bincode::with_max_depth`] levels, in both directions.
/// - Bytes left over after the value are an error.
/// - Elements of a sequence or map that take no bytes on the wire (`()`, empty structs) cost nothing to announce, so
///   a message may hold at most [`Bincode::MAX_EMPTY`] bytes of them in memory, each counted as one byte at least. The
///   sender refuses more than so many elements; it cannot know their size.
///
/// A message may still occupy more memory decoded than encoded, by the ratio that its type has: an
/// `Option<[u64; 8]>` takes 72 bytes for the one byte that says `None`.
///
/// Types that need a format which describes itself (`#[serde(tag)]`, `#[serde(untagged)]`, `#[serde(flatten)]`,
/// `serde_json::Value`) do not decode; use [`Value`](super::Value) for dynamic data. Byte payloads are copied in one
/// piece when they serialise as bytes (the `serde_bytes` crate), about thirty times faster than a plain `Vec<u8>`.
///
/// # Examples
///
/// ```
/// use ipc_transport::{Bincode, Decoder, EncodeBuffer, Encoder};
///
/// let codec = Bincode::default();
/// let mut bytes = Vec::new();
/// codec.encode(&(7_u16, "seven".to_owned()), &mut EncodeBuffer::growing(&mut bytes, 1024))?;
/// assert_eq!(bytes, b"\x07\0\x05\0\0\0\0\0\0\0seven");
///
/// let back: (u16, String) = codec.decode(&bytes)?;
/// assert_eq!(back, (7, "seven".to_owned()));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bincode {
    max_depth: usize,
}

impl Bincode {
    /// The name in the hello.
    pub const ID: &'static str = "bincode2-fixed";

    /// Memory that elements without bytes may take in one message: 64 KiB, an element counting one byte at least.
    ///
    /// Without it sixteen bytes could announce 2⁶⁴ units and keep the receiver counting for ever.
    pub const MAX_EMPTY: usize = 64 * 1024;

    /// The codec with a nesting limit of 64 levels.
    #[must_use]
    pub const fn new() -> Self {
        Self { max_depth: depth::DEFAULT_MAX }
    }

    /// Sets how deep values may nest, in levels. Default 64.
    ///
    /// A sequence, map, tuple, struct, newtype struct, enum variant with contents and present option is one level
    /// each. Every level costs stack while decoding, some hundred bytes in a release build; both ends should agree,
    /// or the receiver refuses what the sender accepted.
    #[must_use]
    pub const fn with_max_depth(self, max_depth: usize) -> Self {
        Self { max_depth }
    }

    /// How deep values may nest, in levels.
    #[must_use]
    pub const fn max_depth(&self) -> usize {
        self.max_depth
    }
}

impl Default for Bincode {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: Serialize> Encoder<T> for Bincode {
    fn id(&self) -> &str {
        Self::ID
    }

    #[inline]
    fn encode(&self, value: &T, out: &mut EncodeBuffer<'_>) -> Result<(), EncodeError> {
        let Target::Slice { room, written } = &mut out.target else {
            return self.encode_growing(value, out);
        };
        let mut output = SliceOutput::new(room);
        match ser::serialize(value, &mut output, self.max_depth) {
            Ok(()) => {
                let count = output.written();
                *room = &mut std::mem::take(room)[count..];
                *written += count;
                Ok(())
            }
            Err(error) => Err(error.into_encode_error(self.max_depth)),
        }
    }
}

impl<T: DeserializeOwned> Decoder<T> for Bincode {
    fn id(&self) -> &str {
        Self::ID
    }

    #[inline]
    fn decode(&self, input: &[u8]) -> Result<T, DecodeError> {
        self.read::<T, 0>(input).map_err(|error| error.into_decode_error(self.max_depth))
    }

    /// Reading inlined into the loop moves the fields from the input straight to their place in `out`; by way of
    /// [`Decoder::decode`] they stop over on the stack, which triples the time for a small struct.
    fn decode_batch(&self, input: &[u8], spans: &[(u32, u32)], out: &mut Vec<T>) -> Result<(), BatchError> {
        out.reserve(spans.len());
        for (index, &(start, end)) in spans.iter().enumerate() {
            match self.read::<T, 1>(&input[start as usize..end as usize]) {
                Ok(value) => out.push(value),
                Err(error) => {
                    return Err(BatchError { index, error: error.into_decode_error(self.max_depth) });
                }
            }
        }
        Ok(())
    }
}

impl Bincode {
    /// Outside [`Encoder::encode`] so that the common way stays small.
    #[inline(never)]
    fn encode_growing<T: Serialize>(&self, value: &T, out: &mut EncodeBuffer<'_>) -> Result<(), EncodeError> {
        let Target::Growing { bytes, start, max } = &mut out.target else {
            return Err(EncodeError::NoRoom);
        };
        let before = bytes.len();
        let mut output = GrowingOutput::new(bytes, *start, *max);
        ser::serialize(value, &mut output, self.max_depth).map_err(|error| {
            bytes.truncate(before);
            error.into_encode_error(self.max_depth)
        })
    }

    #[inline(always)]
    fn read<T: DeserializeOwned, const SITE: u8>(&self, input: &[u8]) -> Result<T, reader::Error> {
        let mut reader = Reader::new(input);
        let value = de::deserialize::<T, SITE>(&mut reader, self.max_depth)?;
        reader.finish()?;
        Ok(value)
    }
}
