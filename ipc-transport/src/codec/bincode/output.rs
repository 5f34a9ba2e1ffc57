//! The output of the bincode 2 format: a slice or a growing vector, and the error they share.

use std::fmt;

use serde::ser;

use super::Bincode;
use crate::codec::EncodeError;
use crate::codec::message::bounded_message;

/// Where the bytes go. Two kinds and one copy of the code for each, so that the common one, a slice of a segment,
/// keeps its cursor in registers.
pub(super) trait Output {
    fn put<const N: usize>(&mut self, bytes: [u8; N]) -> Result<(), Error>;
    fn write(&mut self, bytes: &[u8]) -> Result<(), Error>;
    /// A measure that changes whenever a byte is written.
    fn mark(&self) -> usize;
    /// What is left of [`Bincode::MAX_EMPTY`].
    fn empty_left(&mut self) -> &mut usize;
}

/// Writes into what is left of a slice.
pub(super) struct SliceOutput<'a> {
    room: &'a mut [u8],
    size: usize,
    empty_left: usize,
}

impl<'a> SliceOutput<'a> {
    #[inline]
    pub(super) fn new(room: &'a mut [u8]) -> Self {
        Self { size: room.len(), room, empty_left: Bincode::MAX_EMPTY }
    }

    #[inline]
    pub(super) fn written(&self) -> usize {
        self.size - self.room.len()
    }
}

impl Output for SliceOutput<'_> {
    #[inline(always)]
    fn put<const N: usize>(&mut self, bytes: [u8; N]) -> Result<(), Error> {
        self.write(&bytes)
    }

    #[inline(always)]
    fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        if self.room.len() < bytes.len() {
            return Err(no_room());
        }
        let (place, rest) = std::mem::take(&mut self.room).split_at_mut(bytes.len());
        place.copy_from_slice(bytes);
        self.room = rest;
        Ok(())
    }

    #[inline(always)]
    fn mark(&self) -> usize {
        self.room.len()
    }

    #[inline(always)]
    fn empty_left(&mut self) -> &mut usize {
        &mut self.empty_left
    }
}

/// Appends to a vector up to a limit.
pub(super) struct GrowingOutput<'a> {
    bytes: &'a mut Vec<u8>,
    start: usize,
    max: usize,
    /// The length of `bytes` that reaches `max`.
    limit: usize,
    empty_left: usize,
}

impl<'a> GrowingOutput<'a> {
    #[inline]
    pub(super) fn new(bytes: &'a mut Vec<u8>, start: usize, max: usize) -> Self {
        Self { limit: start.saturating_add(max), bytes, start, max, empty_left: Bincode::MAX_EMPTY }
    }
}

impl Output for GrowingOutput<'_> {
    #[inline]
    fn put<const N: usize>(&mut self, bytes: [u8; N]) -> Result<(), Error> {
        self.write(&bytes)
    }

    #[inline]
    fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        if bytes.len() > self.limit.saturating_sub(self.bytes.len()) {
            return Err(too_large((self.bytes.len() - self.start).saturating_add(bytes.len()), self.max));
        }
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    #[inline]
    fn mark(&self) -> usize {
        self.bytes.len()
    }

    #[inline]
    fn empty_left(&mut self) -> &mut usize {
        &mut self.empty_left
    }
}

/// One word, so that results travel in a register; the box is paid by failures alone.
#[derive(Debug)]
pub(super) struct Error(Box<EncodeError>);

impl Error {
    /// The error for the caller. The serializer counts levels down and so does not know the limit; it is added here.
    #[cold]
    #[inline(never)]
    pub(super) fn into_encode_error(self, max_depth: usize) -> EncodeError {
        match *self.0 {
            EncodeError::Depth { .. } => EncodeError::Depth { max: max_depth },
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

impl ser::Error for Error {
    #[cold]
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self(Box::new(EncodeError::Custom { message: bounded_message(message) }))
    }
}

#[cold]
#[inline(never)]
fn no_room() -> Error {
    Error(Box::new(EncodeError::NoRoom))
}

#[cold]
#[inline(never)]
fn too_large(len: usize, max: usize) -> Error {
    Error(Box::new(EncodeError::TooLarge { len, max }))
}

#[cold]
#[inline(never)]
pub(super) fn too_deep() -> Error {
    Error(Box::new(EncodeError::Depth { max: 0 }))
}

#[cold]
#[inline(never)]
pub(super) fn unsupported(what: &'static str) -> Error {
    Error(Box::new(EncodeError::Unsupported { what }))
}
