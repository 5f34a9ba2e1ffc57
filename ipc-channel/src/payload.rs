//! Payloads: the value of an event, encoded, and the codec that reads it.

use std::fmt;

use bytes::Bytes;
use ipc_transport::{Bincode, DecodeError, Decoder, EncodeBuffer, EncodeError, Encoder, Json};
use serde::{Serialize, de::DeserializeOwned};

/// As deep as the parser goes, since peers in other languages nest as they like.
const JSON: Json = Json::new().with_max_depth(127);

/// How the values of events are encoded.
///
/// Both ends of a connection use the same one; it is compared when they greet each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum PayloadCodec {
    /// Compact and fast, and the default: both ends know the types. See [`Bincode`].
    #[default]
    Bincode,
    /// Text that describes itself, for peers in other languages. See [`Json`]; values may nest 127 levels.
    Json,
}

impl PayloadCodec {
    /// The name that both ends compare.
    #[must_use]
    pub fn id(self) -> &'static str {
        match self {
            Self::Bincode => Bincode::ID,
            Self::Json => Json::ID,
        }
    }

    /// Appends the encoding of a value.
    ///
    /// # Errors
    ///
    /// As [`Encoder::encode`].
    pub fn encode<T>(self, value: &T, out: &mut EncodeBuffer<'_>) -> Result<(), EncodeError>
    where
        T: Serialize + ?Sized,
    {
        match self {
            Self::Bincode => Encoder::encode(&Bincode::default(), &value, out),
            Self::Json => Encoder::encode(&JSON, &value, out),
        }
    }

    /// Decodes one value from exactly these bytes.
    ///
    /// # Errors
    ///
    /// As [`Decoder::decode`].
    pub fn decode<T: DeserializeOwned>(self, bytes: &[u8]) -> Result<T, DecodeError> {
        match self {
            Self::Bincode => Decoder::decode(&Bincode::default(), bytes),
            Self::Json => Decoder::decode(&JSON, bytes),
        }
    }
}

/// An encoded value that has not been read yet: what a wildcard handler gets.
#[derive(Clone, PartialEq, Eq)]
pub struct Payload {
    codec: PayloadCodec,
    bytes: Bytes,
}

impl Payload {
    /// Bytes that this codec reads.
    #[must_use]
    pub fn new(codec: PayloadCodec, bytes: Bytes) -> Self {
        Self { codec, bytes }
    }

    /// The codec that reads it.
    #[must_use]
    pub fn codec(&self) -> PayloadCodec {
        self.codec
    }

    /// The encoding.
    #[must_use]
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Reads it as a value of this type.
    ///
    /// # Errors
    ///
    /// The bytes are no such value.
    pub fn decode<T: DeserializeOwned>(&self) -> Result<T, DecodeError> {
        self.codec.decode(&self.bytes)
    }
}

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Never the bytes: payloads are not for logs.
        f.debug_struct("Payload")
            .field("codec", &self.codec)
            .field("len", &self.bytes.len())
            .finish_non_exhaustive()
    }
}
