//! Frames before a delimiter: any byte string that does not occur in a payload, such as a line feed or a form feed.

use bytes::{Buf, Bytes, BytesMut};

use super::FrameError;

/// The byte string that ends a frame; never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delimiter(Bytes);

impl Delimiter {
    /// The byte string as a delimiter.
    ///
    /// # Errors
    ///
    /// [`FrameError::EmptyDelimiter`].
    pub fn new(bytes: impl Into<Bytes>) -> Result<Self, FrameError> {
        let bytes = bytes.into();
        if bytes.is_empty() { Err(FrameError::EmptyDelimiter) } else { Ok(Self(bytes)) }
    }

    /// Its bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Where it first begins in `bytes`.
    fn find(&self, bytes: &[u8]) -> Option<usize> {
        let first = self.0[0];
        let mut from = 0;
        while let Some(at) = bytes[from..].iter().position(|&byte| byte == first) {
            if bytes[from + at..].starts_with(&self.0) {
                return Some(from + at);
            }
            from += at + 1;
        }
        None
    }
}

/// Turns payloads into frames before a delimiter.
#[derive(Debug, Clone)]
pub struct DelimiterEncoder {
    delimiter: Delimiter,
    max: usize,
}

impl DelimiterEncoder {
    /// An encoder for payloads of at most `max` bytes.
    #[must_use]
    pub fn new(delimiter: Delimiter, max: usize) -> Self {
        Self { delimiter, max }
    }

    /// Appends one frame to `out`; `out` is as before on error.
    ///
    /// # Errors
    ///
    /// [`FrameError::ContainsDelimiter`], also when the delimiter would begin within the payload and end in the
    /// delimiter proper; [`FrameError::TooLarge`].
    pub fn encode(&self, payload: &[u8], out: &mut Vec<u8>) -> Result<(), FrameError> {
        if payload.len() > self.max {
            return Err(FrameError::TooLarge { len: payload.len(), max: self.max });
        }
        let start = out.len();
        out.extend_from_slice(payload);
        self.end(out, start)
    }

    /// Ends a frame whose payload stands in `out` from `start` on, for payloads that are made where they are sent from;
    /// `out` is cut at `start` on error.
    ///
    /// # Errors
    ///
    /// As [`DelimiterEncoder::encode`].
    pub fn end(&self, out: &mut Vec<u8>, start: usize) -> Result<(), FrameError> {
        let start = start.min(out.len());
        let len = out.len() - start;
        if len > self.max {
            out.truncate(start);
            return Err(FrameError::TooLarge { len, max: self.max });
        }
        out.extend_from_slice(self.delimiter.as_bytes());
        match self.delimiter.find(&out[start..]) {
            Some(at) if at < len => {
                out.truncate(start);
                Err(FrameError::ContainsDelimiter { at })
            }
            _ => Ok(()),
        }
    }
}

/// Turns chunks of a stream, cut anywhere, into the payloads of frames before a delimiter.
///
/// It holds at most one unfinished frame and what was pushed since frames were last taken out: a caller that takes all
/// frames before it pushes again holds it to `max` bytes, the delimiter and one chunk. No byte is searched twice,
/// apart from the few that may begin a delimiter.
#[derive(Debug)]
pub struct DelimiterDecoder {
    delimiter: Delimiter,
    max: usize,
    buffer: BytesMut,
    /// No delimiter begins before this position.
    searched: usize,
}

impl DelimiterDecoder {
    /// A decoder for payloads of at most `max` bytes.
    #[must_use]
    pub fn new(delimiter: Delimiter, max: usize) -> Self {
        Self { delimiter, max, buffer: BytesMut::new(), searched: 0 }
    }

    /// Takes the next bytes of the stream.
    pub fn push(&mut self, chunk: &[u8]) {
        self.buffer.extend_from_slice(chunk);
    }

    /// The buffer behind the decoder, to append to it without a copy (`read_buf`); its contents are not yet framed.
    ///
    /// What is in it may not be changed: it was searched already.
    pub fn buffer_mut(&mut self) -> &mut BytesMut {
        &mut self.buffer
    }

    /// The payload of the next frame, or `None` until more bytes are pushed.
    ///
    /// # Errors
    ///
    /// [`FrameError::TooLarge`] once more than `max` bytes came without a delimiter, and again at every later call.
    pub fn poll_frame(&mut self) -> Result<Option<Bytes>, FrameError> {
        let Some(found) = self.delimiter.find(&self.buffer[self.searched..]) else {
            // The last bytes may begin a delimiter whose rest has not arrived.
            self.searched = self.searched.max((self.buffer.len() + 1).saturating_sub(self.delimiter.0.len()));
            return if self.searched > self.max { Err(self.too_large(self.searched)) } else { Ok(None) };
        };
        let len = self.searched + found;
        if len > self.max {
            return Err(self.too_large(len));
        }
        let frame = self.buffer.split_to(len).freeze();
        self.buffer.advance(self.delimiter.0.len());
        self.searched = 0;
        Ok(Some(frame))
    }

    /// Tells that the stream ended, after the last frame was taken out.
    ///
    /// # Errors
    ///
    /// [`FrameError::Truncated`] when it ended within a frame.
    pub fn finish(&self) -> Result<(), FrameError> {
        if self.buffer.is_empty() { Ok(()) } else { Err(FrameError::Truncated { have: self.buffer.len() }) }
    }

    fn too_large(&self, len: usize) -> FrameError {
        FrameError::TooLarge { len, max: self.max }
    }
}
