//! The MessagePack codec, for peers in other languages that want less than JSON costs.

use std::io;

use rmp_serde::{decode, encode};
use serde::{Serialize, de::DeserializeOwned};

use super::{
    DecodeError, Decoder, EncodeBuffer, EncodeError, Encoder,
    depth::{self, DepthError, deserialize_bounded, serialize_within},
    message::bounded_message,
    writer::Writer,
};

/// Carries any serde type as MessagePack; structs are maps with named fields, as other languages expect them.
///
/// The bytes describe themselves, so types that ask for that (untagged and tagged enums) work. Nesting stops at
/// [`MessagePack::with_max_depth`] levels in both directions, bytes after the value are an error, and decoding allocates no
/// more than the bytes can fill.
///
/// Source: the MessagePack specification.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MessagePack {
    max_depth: usize,
}

impl MessagePack {
    /// The name in the hello.
    pub const ID: &'static str = "messagepack";

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

impl Default for MessagePack {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: Serialize> Encoder<T> for MessagePack {
    fn id(&self) -> &str {
        Self::ID
    }

    fn encode(&self, value: &T, out: &mut EncodeBuffer<'_>) -> Result<(), EncodeError> {
        let mut writer = Writer::new(out);
        let mut serializer = rmp_serde::Serializer::new(&mut writer).with_struct_map();
        let outcome = serialize_within(value, &mut serializer, self.max_depth);
        match outcome {
            Ok(()) => Ok(()),
            Err(DepthError::Depth { max }) => Err(EncodeError::Depth { max }),
            Err(DepthError::Format(error)) => {
                Err(writer.into_failure().unwrap_or_else(|| explain_encode(&error)))
            }
        }
    }
}

impl<T: DeserializeOwned> Decoder<T> for MessagePack {
    fn id(&self) -> &str {
        Self::ID
    }

    fn decode(&self, input: &[u8]) -> Result<T, DecodeError> {
        let mut rest = input;
        let mut deserializer = rmp_serde::Deserializer::new(&mut rest);
        // Ours is the limit that is met; theirs counts otherwise and must not be in its way.
        deserializer.set_max_depth(usize::MAX);
        let value =
            deserialize_bounded(&mut deserializer, self.max_depth, input.len()).map_err(
                |error| match error {
                    DepthError::Depth { max } => DecodeError::Depth { max },
                    DepthError::Format(error) => explain_decode(&error),
                },
            )?;
        drop(deserializer);
        match rest {
            [] => Ok(value),
            rest => Err(DecodeError::TrailingBytes { count: rest.len() }),
        }
    }
}

fn explain_encode(error: &encode::Error) -> EncodeError {
    match error {
        encode::Error::UnknownLength => {
            EncodeError::Unsupported { what: "a sequence or map of unknown length" }
        }
        error => EncodeError::Custom { message: bounded_message(error) },
    }
}

fn explain_decode(error: &decode::Error) -> DecodeError {
    use decode::Error as E;
    match error {
        E::InvalidDataRead(error) | E::InvalidMarkerRead(error)
            if error.kind() == io::ErrorKind::UnexpectedEof =>
        {
            DecodeError::UnexpectedEnd { needed: 1, remaining: 0 }
        }
        E::TypeMismatch(_) => DecodeError::Invalid { what: "type of value" },
        E::OutOfRange => DecodeError::Invalid { what: "number" },
        E::Utf8Error(_) => DecodeError::Invalid { what: "text" },
        error => DecodeError::Custom { message: bounded_message(error) },
    }
}
