//! Connections: two owned halves that move bytes in order, and what is known about the peer.

use std::{
    any::Any,
    fmt,
    future::Future as _,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::{Buf, BufMut, Bytes};
use futures_core::Stream;
use futures_sink::Sink;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf};

#[cfg(feature = "unix")]
use crate::unix::SocketReader;
use crate::{Endpoint, Error, PeerIdentity};

/// The most of one vectored write that is handed to a frame sink as one frame.
const MAX_SINK_FRAME: usize = 64 * 1024;

/// One established connection: bytes in order both ways, or an error.
///
/// One concrete type whatever the transport: the halves are boxed once per connection, and each poll moves a
/// whole batch, so the indirect call does not count.
pub struct Connection {
    reader: ReadHalf,
    writer: WriteHalf,
    info: ConnectionInfo,
}

/// What is known about a connection besides its bytes.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ConnectionInfo {
    /// Our end.
    pub local: Endpoint,
    /// The peer's end; for an accepted Unix connection the listening address, as the dialler has none.
    pub remote: Endpoint,
    /// Who the peer is, as the kernel or a certificate tells.
    pub peer: PeerIdentity,
}

impl ConnectionInfo {
    /// Facts about a connection between these two endpoints.
    pub fn new(local: Endpoint, remote: Endpoint, peer: PeerIdentity) -> Self {
        Self { local, remote, peer }
    }
}

impl Connection {
    /// A connection over a byte stream.
    pub fn from_bytes(
        reader: impl AsyncRead + Send + Unpin + 'static,
        writer: impl AsyncWrite + Send + Unpin + 'static,
        info: ConnectionInfo,
    ) -> Self {
        Self {
            reader: ReadHalf(Reader::Bytes(Box::new(reader)), None),
            writer: WriteHalf(Writer::Bytes(Box::new(writer)), None),
            info,
        }
    }

    /// A connection over a Unix socket, whose reader can do more than [`AsyncRead`].
    #[cfg(feature = "unix")]
    pub(crate) fn from_socket(
        reader: SocketReader,
        writer: impl AsyncWrite + Send + Unpin + 'static,
        info: ConnectionInfo,
    ) -> Self {
        Self {
            reader: ReadHalf(Reader::Socket(reader), None),
            writer: WriteHalf(Writer::Bytes(Box::new(writer)), None),
            info,
        }
    }

    /// A connection over a transport that moves whole frames, reliably and in order.
    ///
    /// The frames carry a byte stream: their boundaries mean nothing to what runs above.
    pub fn from_frames(
        reader: impl Stream<Item = Result<Bytes, Error>> + Send + Unpin + 'static,
        writer: impl Sink<Bytes, Error = Error> + Send + Unpin + 'static,
        info: ConnectionInfo,
    ) -> Self {
        Self {
            reader: ReadHalf(
                Reader::Frames { stream: Box::new(reader), rest: Bytes::new(), has_ended: false },
                None,
            ),
            writer: WriteHalf(Writer::Frames(Box::new(writer)), None),
            info,
        }
    }

    /// Keeps something for as long as either half lives: the process at the other end of its pipes, or a permit.
    #[must_use]
    pub fn holding(mut self, held: impl Send + Sync + 'static) -> Self {
        let earlier = self.reader.1.take();
        let held: Held = Arc::new((held, earlier));
        self.reader.1 = Some(held.clone());
        self.writer.1 = Some(held);
        self
    }

    /// Endpoints and identity.
    pub fn info(&self) -> &ConnectionInfo {
        &self.info
    }

    /// The two halves, each with one owner, and the facts.
    pub fn into_parts(self) -> (ReadHalf, WriteHalf, ConnectionInfo) {
        (self.reader, self.writer, self.info)
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("info", &self.info).finish_non_exhaustive()
    }
}

/// The half that reads; use it as [`AsyncRead`].
pub struct ReadHalf(Reader, Option<Held>);

enum Reader {
    #[cfg(feature = "unix")]
    Socket(SocketReader),
    Bytes(Box<dyn AsyncRead + Send + Unpin>),
    Frames {
        stream: Box<dyn Stream<Item = Result<Bytes, Error>> + Send + Unpin>,
        rest: Bytes,
        /// A stream that is asked again after its end may panic.
        has_ended: bool,
    },
}

impl ReadHalf {
    /// Appends what has arrived to a vector: at most `limit` bytes, and no more than it has capacity for.
    ///
    /// This is what [`AsyncReadExt::read_buf`](tokio::io::AsyncReadExt::read_buf) does, for those who poll; Unix
    /// sockets read without clearing the memory first where the limit is all the spare capacity. `Ok(0)` is the end of the stream, or a `limit` or a spare
    /// capacity of zero.
    ///
    /// # Errors
    ///
    /// Those of the connection; it is of no use afterwards.
    pub fn poll_read_vec(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut Vec<u8>,
        limit: usize,
    ) -> Poll<io::Result<usize>> {
        let limit = limit.min(buf.capacity() - buf.len());
        if limit == 0 {
            return Poll::Ready(Ok(0));
        }
        #[cfg(feature = "unix")]
        if let Reader::Socket(reader) = &self.0 {
            return reader.poll_read_vec(cx, buf, limit);
        }
        let mut space = BufMut::limit(buf, limit);
        std::pin::pin!(self.read_buf(&mut space)).poll(cx)
    }
}

impl AsyncRead for ReadHalf {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().0 {
            #[cfg(feature = "unix")]
            Reader::Socket(reader) => reader.poll_read(cx, buf),
            Reader::Bytes(reader) => Pin::new(reader).poll_read(cx, buf),
            Reader::Frames { stream, rest, has_ended } => {
                while rest.is_empty() && !*has_ended {
                    match ready!(Pin::new(&mut *stream).poll_next(cx)) {
                        Some(frame) => *rest = frame?,
                        None => *has_ended = true,
                    }
                }
                let count = rest.len().min(buf.remaining());
                buf.put_slice(&rest[..count]);
                rest.advance(count);
                Poll::Ready(Ok(()))
            }
        }
    }
}

impl fmt::Debug for ReadHalf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ReadHalf")
    }
}

/// The half that writes; use it as [`AsyncWrite`]. Closing it is seen by the peer as end of stream: once it is shut down
/// the transport's writer is dropped, for those that end with it, as pipes do.
pub struct WriteHalf(Writer, Option<Held>);

/// What lives as long as either half.
type Held = Arc<dyn Any + Send + Sync>;

enum Writer {
    Bytes(Box<dyn AsyncWrite + Send + Unpin>),
    Frames(Box<dyn Sink<Bytes, Error = Error> + Send + Unpin>),
    /// Shut down.
    Closed,
}

impl AsyncWrite for WriteHalf {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.0 {
            Writer::Bytes(writer) => Pin::new(writer).poll_write(cx, buf),
            Writer::Closed => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
            Writer::Frames(_) => self.poll_write_vectored(cx, &[io::IoSlice::new(buf)]),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().0 {
            Writer::Bytes(writer) => Pin::new(writer).poll_write_vectored(cx, bufs),
            Writer::Closed => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
            Writer::Frames(sink) => {
                ready!(Pin::new(&mut *sink).poll_ready(cx))?;
                let mut frame = Vec::new();
                for buf in bufs {
                    let count = buf.len().min(MAX_SINK_FRAME - frame.len());
                    frame.extend_from_slice(&buf[..count]);
                }
                if frame.is_empty() {
                    return Poll::Ready(Ok(0));
                }
                let count = frame.len();
                Pin::new(&mut *sink).start_send(Bytes::from(frame))?;
                // Nobody flushes a byte stream, so the frame is set moving here; how far it got does not matter.
                let _ = Pin::new(&mut *sink).poll_flush(cx)?;
                Poll::Ready(Ok(count))
            }
        }
    }

    fn is_write_vectored(&self) -> bool {
        match &self.0 {
            Writer::Bytes(writer) => writer.is_write_vectored(),
            Writer::Closed | Writer::Frames(_) => true,
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().0 {
            Writer::Bytes(writer) => Pin::new(writer).poll_flush(cx),
            Writer::Closed => Poll::Ready(Ok(())),
            Writer::Frames(sink) => Pin::new(sink).poll_flush(cx).map_err(Into::into),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let writer = &mut self.get_mut().0;
        match writer {
            Writer::Bytes(writer) => ready!(Pin::new(writer).poll_shutdown(cx))?,
            Writer::Closed => {}
            Writer::Frames(sink) => ready!(Pin::new(sink).poll_close(cx))?,
        }
        *writer = Writer::Closed;
        Poll::Ready(Ok(()))
    }
}

impl fmt::Debug for WriteHalf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WriteHalf")
    }
}

#[cfg(test)]
mod tests {
    use futures_util::{SinkExt as _, StreamExt as _, sink, stream};
    use tokio::io::AsyncWriteExt as _;

    use super::*;

    #[tokio::test]
    async fn reading_after_the_end_of_the_frames_gives_the_end_again() {
        // This stream panics when it is asked after its end.
        let frames =
            stream::unfold(2, async |left| (left > 0).then(|| (Ok(Bytes::from_static(b"ab")), left - 1)));
        let at: Endpoint = "mem:a".parse().unwrap();
        let (mut reader, _, _) = Connection::from_frames(
            frames.boxed(),
            sink::drain().sink_map_err(|never| match never {}),
            ConnectionInfo::new(at.clone(), at, PeerIdentity::Unknown),
        )
        .into_parts();
        let mut all = Vec::new();
        assert_eq!(reader.read_to_end(&mut all).await.unwrap(), 4);
        for _ in 0..2 {
            assert_eq!(reader.read(&mut [0; 8]).await.unwrap(), 0);
            let mut more = Vec::with_capacity(8);
            assert_eq!(std::future::poll_fn(|cx| reader.poll_read_vec(cx, &mut more, 8)).await.unwrap(), 0);
        }
        assert_eq!(all, b"abab");
    }

    fn over(
        reader: impl AsyncRead + Send + Unpin + 'static,
        writer: impl AsyncWrite + Send + Unpin + 'static,
    ) -> Connection {
        let at: Endpoint = "mem:a".parse().unwrap();
        Connection::from_bytes(reader, writer, ConnectionInfo::new(at.clone(), at, PeerIdentity::Unknown))
    }

    #[test]
    fn what_is_held_lives_as_long_as_either_half() {
        let (first, second) = (Arc::new(1), Arc::new(2));
        let connection = over(tokio::io::empty(), tokio::io::sink());
        let (reader, writer, _) = connection.holding(first.clone()).holding(second.clone()).into_parts();
        drop(reader);
        assert_eq!((Arc::strong_count(&first), Arc::strong_count(&second)), (2, 2));
        drop(writer);
        assert_eq!((Arc::strong_count(&first), Arc::strong_count(&second)), (1, 1));
    }

    #[tokio::test]
    async fn a_writer_that_is_shut_down_is_dropped() {
        let (near, mut far) = tokio::io::duplex(8);
        let (_, mut writer, _) = over(tokio::io::empty(), near).into_parts();
        writer.write_all(b"ab").await.unwrap();
        writer.shutdown().await.unwrap();
        let mut all = Vec::new();
        assert_eq!(far.read_to_end(&mut all).await.unwrap(), 2);
        // The other end is gone, and not only closed.
        assert_eq!(far.write(b"c").await.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
        assert_eq!(writer.write(b"c").await.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
        writer.flush().await.unwrap();
        writer.shutdown().await.unwrap();
    }
}
