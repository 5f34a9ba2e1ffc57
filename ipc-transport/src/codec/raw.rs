//! The codec that is none: bytes as they are, large ones without a copy.

use bytes::Bytes;

use super::{DecodeError, Decoder, EncodeBuffer, EncodeError, Encoder};

/// Carries [`Bytes`] as they are; payloads from [`EncodeBuffer::ATTACH_FROM`] on are referenced, not copied.
#[derive(Debug, Clone, Copy, Default)]
pub struct Raw;

impl Encoder<Bytes> for Raw {
    fn id(&self) -> &str {
        "raw"
    }

    fn encode(&self, value: &Bytes, out: &mut EncodeBuffer<'_>) -> Result<(), EncodeError> {
        if value.len() >= EncodeBuffer::ATTACH_FROM {
            out.attach(value.clone());
            return Ok(());
        }
        out.write(value)
    }
}

impl Decoder<Bytes> for Raw {
    fn id(&self) -> &str {
        "raw"
    }

    fn decode(&self, input: &[u8]) -> Result<Bytes, DecodeError> {
        Ok(Bytes::copy_from_slice(input))
    }

    fn decode_owned(&self, input: Bytes) -> Result<Bytes, DecodeError> {
        Ok(input)
    }
}
