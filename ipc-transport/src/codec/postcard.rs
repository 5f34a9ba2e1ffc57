//! The postcard codec: variable-length integers, for links where every byte counts.

use std::cell::RefCell;

use postcard::ser_flavors::Flavor;
use serde::{Serialize, de::DeserializeOwned};

use super::{
    DecodeError, Decoder, EncodeBuffer, EncodeError, Encoder,
    depth::{self, DepthError, deserialize_bounded, serialize_within},
};

/// Carries any serde type in the format of postcard 1: small integers take one byte, lengths too.
///
/// It is a third smaller than [`Bincode`](crate::Bincode) on records of small numbers, and several times slower. Like
/// there, both ends need the same type: the bytes do not describe themselves. Nesting stops at
/// [`Postcard::with_max_depth`] levels in both directions, bytes after the value are an error, and decoding allocates no
/// more than the bytes can stand for; elements without any bytes of their own stop at [`depth::MAX_EMPTY`].
///
/// Source: the postcard wire format, version 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Postcard {
    max_depth: usize,
}

impl Postcard {
    /// The name in the hello.
    pub const ID: &'static str = "postcard";

    /// The codec with a nesting limit of 64 levels.
    #[must_use]
    pub const fn new() -> Self {
        Self { max_depth: depth::DEFAULT_MAX }
    }

    /// Sets how deep values may nest, in levels; see [`depth`]. Default 64.
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

impl Default for Postcard {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: Serialize> Encoder<T> for Postcard {
    fn id(&self) -> &str {
        Self::ID
    }

    fn encode(&self, value: &T, out: &mut EncodeBuffer<'_>) -> Result<(), EncodeError> {
        let failed = RefCell::new(None);
        let mut serializer = postcard::Serializer { output: Output { out, failed: &failed } };
        let outcome = serialize_within(value, &mut serializer, self.max_depth);
        match outcome {
            Ok(()) => Ok(()),
            Err(DepthError::Depth { max }) => Err(EncodeError::Depth { max }),
            Err(DepthError::Format(error)) => {
                Err(failed.into_inner().unwrap_or_else(|| explain_encode(error)))
            }
        }
    }
}

impl<T: DeserializeOwned> Decoder<T> for Postcard {
    fn id(&self) -> &str {
        Self::ID
    }

    fn decode(&self, input: &[u8]) -> Result<T, DecodeError> {
        let mut deserializer = postcard::Deserializer::from_bytes(input);
        let value =
            deserialize_bounded(&mut deserializer, self.max_depth, input.len()).map_err(
                |error| match error {
                    DepthError::Depth { max } => DecodeError::Depth { max },
                    DepthError::Format(error) => explain_decode(error),
                },
            )?;
        match deserializer.finalize().map_err(explain_decode)? {
            [] => Ok(value),
            rest => Err(DecodeError::TrailingBytes { count: rest.len() }),
        }
    }
}

fn explain_encode(error: postcard::Error) -> EncodeError {
    match error {
        postcard::Error::SerializeSeqLengthUnknown => {
            EncodeError::Unsupported { what: "a sequence or map of unknown length" }
        }
        error => EncodeError::Custom { message: error.to_string().into() },
    }
}

fn explain_decode(error: postcard::Error) -> DecodeError {
    use postcard::Error as E;
    let invalid = |what| DecodeError::Invalid { what };
    match error {
        E::DeserializeUnexpectedEnd => DecodeError::UnexpectedEnd { needed: 1, remaining: 0 },
        E::DeserializeBadBool => invalid("bool"),
        E::DeserializeBadChar => invalid("char"),
        E::DeserializeBadEnum => invalid("variant"),
        E::DeserializeBadOption => invalid("option"),
        E::DeserializeBadUtf8 => invalid("text"),
        E::DeserializeBadVarint => invalid("integer"),
        E::WontImplement | E::NotYetImplemented => {
            DecodeError::Unsupported { what: "a type that describes itself" }
        }
        error => DecodeError::Custom { message: error.to_string().into() },
    }
}

/// Lets postcard write into an [`EncodeBuffer`] and keeps the buffer's own error.
struct Output<'o, 'b> {
    out: &'o mut EncodeBuffer<'b>,
    failed: &'o RefCell<Option<EncodeError>>,
}

impl Flavor for Output<'_, '_> {
    type Output = ();

    #[inline]
    fn try_extend(&mut self, bytes: &[u8]) -> postcard::Result<()> {
        self.out.write(bytes).map_err(|error| {
            *self.failed.borrow_mut() = Some(error);
            postcard::Error::SerializeBufferFull
        })
    }

    #[inline]
    fn try_push(&mut self, byte: u8) -> postcard::Result<()> {
        self.try_extend(&[byte])
    }

    fn finalize(self) -> postcard::Result<()> {
        Ok(())
    }
}
