//! A pipe seen as a stream and a sink of frames, as a message-oriented transport would offer it.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use futures_util::{Sink, Stream};
use ipc_transport::{Endpoint, Error};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::pipe::{PipeReader, PipeWriter};

/// Frames out of a pipe; their boundaries mean nothing.
#[derive(Debug)]
pub(super) struct FrameStream {
    pub(super) reader: PipeReader,
    pub(super) endpoint: Endpoint,
}

impl Stream for FrameStream {
    type Item = Result<Bytes, Error>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        let mut frame = vec![0; this.reader.available().clamp(1, MAX_FRAME)];
        let mut buf = ReadBuf::new(&mut frame);
        if let Err(error) = ready!(Pin::new(&mut this.reader).poll_read(cx, &mut buf)) {
            return Poll::Ready(Some(Err(Error::io("read", &this.endpoint, error))));
        }
        let count = buf.filled().len();
        frame.truncate(count);
        Poll::Ready((count > 0).then(|| Ok(Bytes::from(frame))))
    }
}

/// Frames into a pipe. One frame is accepted whole as soon as there is any room, so that none is ever half accepted.
#[derive(Debug)]
pub(super) struct FrameSink {
    pub(super) writer: PipeWriter,
    pub(super) endpoint: Endpoint,
}

impl Sink<Bytes> for FrameSink {
    type Error = Error;

    fn poll_ready(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.writer.poll_room(cx).map_err(|error| Error::io("write", &self.endpoint, error))
    }

    fn start_send(self: Pin<&mut Self>, frame: Bytes) -> Result<(), Error> {
        self.writer.push(&frame).map_err(|error| Error::io("write", &self.endpoint, error))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let this = self.get_mut();
        Pin::new(&mut this.writer)
            .poll_shutdown(cx)
            .map_err(|error| Error::io("close", &this.endpoint, error))
    }
}

/// The largest frame that comes out of a pipe.
const MAX_FRAME: usize = 64 * 1024;
