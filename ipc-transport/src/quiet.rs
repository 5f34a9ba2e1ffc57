//! Writing to sockets without SIGPIPE, whatever the program has made of that signal.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
};

use rustix::{
    fd::{AsFd, BorrowedFd},
    net::{SendAncillaryBuffer, SendFlags, send, sendmsg},
};
use tokio::io::{AsyncWrite, Interest};

/// The writing half of a socket; a peer that is gone is an error and never a signal.
///
/// A Rust program ignores SIGPIPE from its start, but a library may also live in a program of another language,
/// where a write to a dead peer would end the process.
#[derive(Debug)]
pub(crate) struct QuietWriter<H>(pub(crate) H);

/// The owned writing halves of tokio's sockets.
pub(crate) trait SocketHalf: AsyncWrite + Unpin {
    fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;
    fn try_io(&self, write: impl FnOnce(BorrowedFd<'_>) -> io::Result<usize>) -> io::Result<usize>;
}

#[cfg(feature = "unix")]
impl SocketHalf for tokio::net::unix::OwnedWriteHalf {
    fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.as_ref().poll_write_ready(cx)
    }

    fn try_io(&self, write: impl FnOnce(BorrowedFd<'_>) -> io::Result<usize>) -> io::Result<usize> {
        self.as_ref().try_io(Interest::WRITABLE, || write(self.as_ref().as_fd()))
    }
}

#[cfg(feature = "tcp")]
impl SocketHalf for tokio::net::tcp::OwnedWriteHalf {
    fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.as_ref().poll_write_ready(cx)
    }

    fn try_io(&self, write: impl FnOnce(BorrowedFd<'_>) -> io::Result<usize>) -> io::Result<usize> {
        self.as_ref().try_io(Interest::WRITABLE, || write(self.as_ref().as_fd()))
    }
}

impl<H: SocketHalf> QuietWriter<H> {
    fn poll_send(
        &self,
        cx: &mut Context<'_>,
        send: impl Fn(BorrowedFd<'_>) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.0.poll_ready(cx))?;
            match self.0.try_io(&send) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => return Poll::Ready(result),
            }
        }
    }
}

impl<H: SocketHalf> AsyncWrite for QuietWriter<H> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        // The plain call is the cheaper one for a single slice.
        self.poll_send(cx, |socket| Ok(send(socket, buf, NO_SIGNAL)?))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let bufs = &bufs[..bufs.len().min(MAX_SLICES)];
        self.poll_send(cx, |socket| {
            Ok(sendmsg(socket, bufs, &mut SendAncillaryBuffer::default(), NO_SIGNAL)?)
        })
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

/// Apple's systems know it as an option of the socket instead, which the standard library sets.
const NO_SIGNAL: SendFlags =
    if cfg!(target_vendor = "apple") { SendFlags::empty() } else { SendFlags::NOSIGNAL };
/// What one call takes on every system; more would be refused.
const MAX_SLICES: usize = 1024;
