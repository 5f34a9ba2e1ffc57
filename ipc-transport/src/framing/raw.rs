//! No frames at all: bytes as they come, in pieces of a bounded size.

use std::num::NonZeroUsize;

use bytes::{Bytes, BytesMut};

/// Hands the bytes of a stream on as they arrive, each piece at most `max` bytes long.
///
/// For peers with a format of their own, and for byte streams without any. Where a piece ends means nothing: the network
/// cuts and joins as it likes, and so may the buffer here, so only the sequence of bytes counts. There is no encoder, as
/// bytes are written as they are, and no error, as every byte is as good as another: 0 to 255 pass unchanged.
///
/// It holds what was pushed since pieces were last taken out: a caller that takes all pieces before it pushes again holds
/// it to one chunk. Pieces share the buffer they arrived in; one that is kept for long keeps its neighbours' memory too,
/// unless it is copied.
///
/// # Examples
///
/// ```
/// use std::num::NonZeroUsize;
/// use ipc_transport::framing::RawDecoder;
///
/// let mut decoder = RawDecoder::new(NonZeroUsize::new(4).ok_or("zero")?);
/// decoder.push(b"\0six\xff.");
/// assert_eq!(decoder.poll_frame().as_deref(), Some(&b"\0six"[..]));
/// assert_eq!(decoder.poll_frame().as_deref(), Some(&b"\xff."[..]));
/// assert_eq!(decoder.poll_frame(), None);
/// # Ok::<(), &str>(())
/// ```
#[derive(Debug)]
pub struct RawDecoder {
    max: NonZeroUsize,
    buffer: BytesMut,
}

impl RawDecoder {
    /// A decoder for pieces of at most `max` bytes.
    #[must_use]
    pub fn new(max: NonZeroUsize) -> Self {
        Self { max, buffer: BytesMut::new() }
    }

    /// Takes the next bytes of the stream.
    pub fn push(&mut self, chunk: &[u8]) {
        self.buffer.extend_from_slice(chunk);
    }

    /// The buffer behind the decoder, to append to it without a copy (`read_buf`).
    pub fn buffer_mut(&mut self) -> &mut BytesMut {
        &mut self.buffer
    }

    /// What has arrived, up to the limit and never empty; `None` until more bytes are pushed.
    pub fn poll_frame(&mut self) -> Option<Bytes> {
        let len = self.buffer.len().min(self.max.get());
        (len > 0).then(|| self.buffer.split_to(len).freeze())
    }
}
