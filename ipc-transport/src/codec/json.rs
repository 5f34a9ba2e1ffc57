//! The JSON codec, on serde_json, with limits.

use serde::Serialize;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::error::Category;

use super::depth::{self, DepthError, deserialize_within, serialize_within};
use super::message::bounded_message;
use super::writer::Writer;
use super::{DecodeError, Decoder, EncodeBuffer, EncodeError, Encoder};

/// Carries any serde type as JSON text, for peers in other languages and for people who read along.
///
/// Nesting stops at [`Json::with_max_depth`] levels in both directions, and anything but white space after the value
/// is an error. Decoding allocates no more than the text can fill.
///
/// JSON has no infinite numbers and no NaN: a plain `f64` that holds one is written as `null` and comes back as an
/// error or `None`. [`Value::Float`](super::Value::Float) carries them. Byte strings are arrays of numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Json {
    max_depth: usize,
}

impl Json {
    /// The name in the hello.
    pub const ID: &'static str = "json";

    /// The most that [`Json::with_max_depth`] can grant to arrays and objects: serde_json's own limit.
    const PARSER_DEPTH: usize = 127;

    /// The codec with a nesting limit of 64 levels.
    #[must_use]
    pub const fn new() -> Self {
        Self { max_depth: depth::DEFAULT_MAX }
    }

    /// Sets how deep values may nest, in levels. Default 64.
    ///
    /// A sequence, map, tuple, struct, newtype struct, enum variant with contents and present option is one level
    /// each, as in every codec here. Arrays and objects in the text stop at 127 whatever is set: the parser's own
    /// limit.
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

impl Default for Json {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: Serialize> Encoder<T> for Json {
    fn id(&self) -> &str {
        Self::ID
    }

    fn encode(&self, value: &T, out: &mut EncodeBuffer<'_>) -> Result<(), EncodeError> {
        let mut writer = Writer::new(out);
        match serialize_within(value, &mut serde_json::Serializer::new(&mut writer), self.max_depth) {
            Ok(()) => Ok(()),
            Err(DepthError::Depth { max }) => Err(EncodeError::Depth { max }),
            Err(DepthError::Format(error)) => Err(writer
                .into_failure()
                .unwrap_or_else(|| EncodeError::Custom { message: bounded_message(error) })),
        }
    }
}

impl<T: DeserializeOwned> Decoder<T> for Json {
    fn id(&self) -> &str {
        Self::ID
    }

    fn decode(&self, input: &[u8]) -> Result<T, DecodeError> {
        let mut deserializer = serde_json::Deserializer::from_slice(input);
        let value = deserialize_within(&mut deserializer, self.max_depth).map_err(|error| match error {
            DepthError::Depth { max } => DecodeError::Depth { max },
            DepthError::Format(error) => explain(&error, input),
        })?;
        if deserializer.end().is_err() {
            // The parser stands before the first byte that is not white space.
            let end = deserializer.into_iter::<IgnoredAny>().byte_offset();
            return Err(DecodeError::TrailingBytes { count: input.len().saturating_sub(end) });
        }
        Ok(value)
    }
}

fn explain(error: &serde_json::Error, input: &[u8]) -> DecodeError {
    match error.classify() {
        Category::Eof => DecodeError::UnexpectedEnd { needed: 1, remaining: 0 },
        Category::Syntax if error.to_string().starts_with("recursion limit exceeded") => {
            DecodeError::Depth { max: Json::PARSER_DEPTH }
        }
        Category::Syntax if std::str::from_utf8(input).is_err() => DecodeError::Invalid { what: "text" },
        Category::Syntax => DecodeError::Invalid { what: "JSON" },
        Category::Data | Category::Io => DecodeError::Custom { message: bounded_message(error) },
    }
}
