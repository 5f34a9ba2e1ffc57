//! The input of the bincode 2 format: primitives off a slice, and the error they share.

use std::fmt;

use serde::de;

use super::Bincode;
use crate::codec::DecodeError;
use crate::codec::message::bounded_message;

/// The bytes not read yet.
pub(super) struct Reader<'de> {
    input: &'de [u8],
    /// What is left of [`Bincode::MAX_EMPTY`].
    empty_left: usize,
}

impl<'de> Reader<'de> {
    #[inline]
    pub(super) fn new(input: &'de [u8]) -> Self {
        Self { input, empty_left: Bincode::MAX_EMPTY }
    }

    /// Checks that nothing is left over.
    #[inline]
    pub(super) fn finish(&self) -> Result<(), Error> {
        if self.input.is_empty() { Ok(()) } else { Err(trailing_bytes(self.input.len())) }
    }

    #[inline]
    pub(super) fn remaining(&self) -> usize {
        self.input.len()
    }

    #[inline(always)]
    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        match self.input.split_first_chunk() {
            Some((bytes, rest)) => {
                self.input = rest;
                Ok(*bytes)
            }
            None => Err(unexpected_end(N as u64, self.input.len())),
        }
    }

    #[inline(always)]
    pub(super) fn byte(&mut self) -> Result<u8, Error> {
        let [byte] = self.array()?;
        Ok(byte)
    }

    /// A length, whatever it says; who uses it compares it with what remains.
    #[inline(always)]
    pub(super) fn length(&mut self) -> Result<u64, Error> {
        self.array().map(u64::from_le_bytes)
    }

    #[inline]
    pub(super) fn bytes(&mut self) -> Result<&'de [u8], Error> {
        let len = self.length()?;
        if len > self.input.len() as u64 {
            return Err(unexpected_end(len, self.input.len()));
        }
        let (bytes, rest) = self.input.split_at(len as usize);
        self.input = rest;
        Ok(bytes)
    }

    #[inline]
    pub(super) fn text(&mut self) -> Result<&'de str, Error> {
        std::str::from_utf8(self.bytes()?).map_err(|_| invalid("text"))
    }

    #[inline]
    pub(super) fn character(&mut self) -> Result<char, Error> {
        let width = match self.input.first() {
            None => return Err(unexpected_end(1, 0)),
            Some(0x00..=0x7f) => 1,
            Some(0xc0..=0xdf) => 2,
            Some(0xe0..=0xef) => 3,
            Some(0xf0..=0xf7) => 4,
            Some(_) => return Err(invalid("char")),
        };
        let Some((bytes, rest)) = self.input.split_at_checked(width) else {
            return Err(unexpected_end(width as u64, self.input.len()));
        };
        let text = std::str::from_utf8(bytes).map_err(|_| invalid("char"))?;
        self.input = rest;
        text.chars().next().ok_or_else(|| invalid("char"))
    }

    /// Charges an element that took no bytes and stands for `size` bytes of memory.
    #[inline]
    pub(super) fn charge_empty(&mut self, size: usize) -> Result<(), Error> {
        match self.empty_left.checked_sub(size.max(1)) {
            Some(rest) => {
                self.empty_left = rest;
                Ok(())
            }
            None => Err(invalid("number of elements without bytes")),
        }
    }
}

/// One word, so that results travel in a register; the box is paid by failures alone.
#[derive(Debug)]
pub(super) struct Error(Box<DecodeError>);

impl Error {
    /// The error for the caller. The deserializer counts levels down and so does not know the limit; it is added
    /// here.
    #[cold]
    #[inline(never)]
    pub(super) fn into_decode_error(self, max_depth: usize) -> DecodeError {
        match *self.0 {
            DecodeError::Depth { .. } => DecodeError::Depth { max: max_depth },
            error => error,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for Error {}

impl de::Error for Error {
    #[cold]
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self(Box::new(DecodeError::Custom { message: bounded_message(message) }))
    }
}

#[cold]
#[inline(never)]
fn unexpected_end(needed: u64, remaining: usize) -> Error {
    Error(Box::new(DecodeError::UnexpectedEnd { needed, remaining }))
}

#[cold]
#[inline(never)]
fn trailing_bytes(count: usize) -> Error {
    Error(Box::new(DecodeError::TrailingBytes { count }))
}

#[cold]
#[inline(never)]
pub(super) fn invalid(what: &'static str) -> Error {
    Error(Box::new(DecodeError::Invalid { what }))
}

#[cold]
#[inline(never)]
pub(super) fn too_deep() -> Error {
    Error(Box::new(DecodeError::Depth { max: 0 }))
}

#[cold]
#[inline(never)]
pub(super) fn unsupported(what: &'static str) -> Error {
    Error(Box::new(DecodeError::Unsupported { what }))
}
