//! Frames behind their length: four bytes, little-endian, then as many bytes of payload.

use bytes::{Buf, Bytes, BytesMut};

use super::FrameError;

/// Turns payloads into frames behind their length.
#[derive(Debug, Clone)]
pub struct LengthEncoder {
    max: usize,
}

impl LengthEncoder {
    /// An encoder for payloads of at most `max` bytes; never more than `u32::MAX`, which the prefix can express.
    #[must_use]
    pub fn new(max: usize) -> Self {
        Self { max: clamp(max) }
    }

    /// The prefix of a frame whose payload has `len` bytes, for writers that send the payload beside it uncopied.
    ///
    /// # Errors
    ///
    /// [`FrameError::TooLarge`].
    pub fn prefix(&self, len: usize) -> Result<[u8; PREFIX], FrameError> {
        match u32::try_from(len) {
            Ok(prefix) if len <= self.max => Ok(prefix.to_le_bytes()),
            _ => Err(FrameError::TooLarge { len, max: self.max }),
        }
    }

    /// Appends one frame to `out`; nothing is appended on error.
    ///
    /// # Errors
    ///
    /// [`FrameError::TooLarge`].
    pub fn encode(&self, payload: &[u8], out: &mut Vec<u8>) -> Result<(), FrameError> {
        let prefix = self.prefix(payload.len())?;
        out.reserve(PREFIX + payload.len());
        out.extend_from_slice(&prefix);
        out.extend_from_slice(payload);
        Ok(())
    }
}

/// Turns chunks of a stream, cut anywhere, into the payloads of frames behind their length.
///
/// It holds at most one unfinished frame and what was pushed since frames were last taken out: a caller that takes all
/// frames before it pushes again holds it to `max` bytes, the prefix and one chunk. Frames share the buffer they
/// arrived in; one that is kept for long keeps its neighbours' memory too, unless it is copied.
#[derive(Debug)]
pub struct LengthDecoder {
    max: usize,
    buffer: BytesMut,
}

impl LengthDecoder {
    /// A decoder for payloads of at most `max` bytes; never more than `u32::MAX`, which the prefix can express.
    #[must_use]
    pub fn new(max: usize) -> Self {
        Self { max: clamp(max), buffer: BytesMut::new() }
    }

    /// Takes the next bytes of the stream.
    pub fn push(&mut self, chunk: &[u8]) {
        self.buffer.extend_from_slice(chunk);
    }

    /// The buffer behind the decoder, to append to it without a copy (`read_buf`); its contents are not yet framed.
    pub fn buffer_mut(&mut self) -> &mut BytesMut {
        &mut self.buffer
    }

    /// The payload of the next frame, or `None` until more bytes are pushed.
    ///
    /// # Errors
    ///
    /// [`FrameError::TooLarge`] as soon as a prefix announces too much, and again at every later call: the stream
    /// cannot be followed beyond it.
    pub fn poll_frame(&mut self) -> Result<Option<Bytes>, FrameError> {
        let Some(prefix) = self.buffer.first_chunk::<PREFIX>() else {
            return Ok(None);
        };
        let len = u32::from_le_bytes(*prefix) as usize;
        if len > self.max {
            return Err(FrameError::TooLarge { len, max: self.max });
        }
        if self.buffer.len() - PREFIX < len {
            return Ok(None);
        }
        self.buffer.advance(PREFIX);
        Ok(Some(self.buffer.split_to(len).freeze()))
    }

    /// Tells that the stream ended, after the last frame was taken out.
    ///
    /// # Errors
    ///
    /// [`FrameError::Truncated`] when it ended within a frame.
    pub fn finish(&self) -> Result<(), FrameError> {
        if self.buffer.is_empty() { Ok(()) } else { Err(FrameError::Truncated { have: self.buffer.len() }) }
    }
}

fn clamp(max: usize) -> usize {
    max.min(u32::MAX as usize)
}

const PREFIX: usize = 4;
