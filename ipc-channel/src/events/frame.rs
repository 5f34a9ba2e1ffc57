//! One encoded message: small ones lie in place, so that sending one allocates nothing.

use std::fmt;

use bytes::Bytes;
use ipc_transport::{DecodeError, Decoder, EncodeBuffer, EncodeError, Encoder};

/// Messages up to this many bytes lie in place. With it a frame takes two cache lines.
const INLINE: usize = 126;

/// One message as it travels.
#[derive(Clone)]
pub(crate) enum Frame {
    /// A small one.
    Inline { len: u8, bytes: [u8; INLINE] },
    /// A large one, shared by all that send it.
    Shared(Bytes),
}

impl Frame {
    /// Has a message written, in place if it fits there; at most `max` bytes.
    pub(crate) fn build<F>(max: usize, mut write: F) -> Result<Self, EncodeError>
    where
        F: FnMut(&mut EncodeBuffer<'_>) -> Result<(), EncodeError>,
    {
        let mut bytes = [0; INLINE];
        let room = bytes.len().min(max);
        let mut out = EncodeBuffer::in_slice(&mut bytes[..room]);
        match write(&mut out) {
            Ok(()) => {
                let len = out.len() as u8;
                return Ok(Self::Inline { len, bytes });
            }
            Err(EncodeError::NoRoom) => {}
            Err(error) => return Err(error),
        }
        let mut bytes = Vec::new();
        write(&mut EncodeBuffer::growing(&mut bytes, max))?;
        Ok(Self::Shared(Bytes::from(bytes)))
    }

    /// A message that is written already.
    pub(crate) fn copy(bytes: &[u8]) -> Self {
        match u8::try_from(bytes.len()) {
            Ok(len) if bytes.len() <= INLINE => {
                let mut place = [0; INLINE];
                place[..bytes.len()].copy_from_slice(bytes);
                Self::Inline { len, bytes: place }
            }
            _ => Self::Shared(Bytes::copy_from_slice(bytes)),
        }
    }

    /// The same, with its memory if it is a large one.
    pub(crate) fn of(bytes: Vec<u8>) -> Self {
        if bytes.len() <= INLINE { Self::copy(&bytes) } else { Self::Shared(Bytes::from(bytes)) }
    }

    #[inline]
    pub(crate) fn as_slice(&self) -> &[u8] {
        match self {
            Self::Inline { len, bytes } => &bytes[..usize::from(*len)],
            Self::Shared(bytes) => bytes,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.as_slice().len()
    }
}

impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Frame").field("len", &self.len()).finish_non_exhaustive()
    }
}

/// Frames as the values of a link: bytes as they are.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FrameCodec;

impl FrameCodec {
    /// Grows with each change of the messages' layout.
    pub(crate) const ID: &'static str = "events/1";
}

impl Encoder<Frame> for FrameCodec {
    fn id(&self) -> &str {
        Self::ID
    }

    fn encode(&self, frame: &Frame, out: &mut EncodeBuffer<'_>) -> Result<(), EncodeError> {
        match frame {
            Frame::Shared(bytes) if bytes.len() >= EncodeBuffer::ATTACH_FROM => {
                out.attach(bytes.clone());
                Ok(())
            }
            frame => out.write(frame.as_slice()),
        }
    }
}

impl Decoder<Frame> for FrameCodec {
    fn id(&self) -> &str {
        Self::ID
    }

    fn decode(&self, input: &[u8]) -> Result<Frame, DecodeError> {
        Ok(Frame::copy(input))
    }

    fn decode_owned(&self, input: Bytes) -> Result<Frame, DecodeError> {
        Ok(Frame::Shared(input))
    }
}
