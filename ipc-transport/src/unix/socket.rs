//! The halves of a connected Unix socket, which are woken only for what they wait for.
//!
//! A Unix socket tells its writer about room whenever the peer reads, wanted or not. A task that waits for an answer
//! would so be woken twice per round trip: by the peer's read and by its answer. These halves therefore watch the
//! socket for reading alone. A writer that finds it full watches for room through a second descriptor, and stops
//! doing so once its writes go through at once again.
//!
//! Twice the usual room makes up for what the surplus wake-ups were good for: a writer of large values that stays
//! ahead of its reader is not put to sleep for every fill.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use rustix::{
    buffer::{Buffer, spare_capacity},
    fd::{AsFd, BorrowedFd, OwnedFd},
    io::Errno,
    net::{RecvFlags, Shutdown, recv, shutdown, sockopt::set_socket_send_buffer_size},
};
use tokio::{
    io::{AsyncWrite, Interest, ReadBuf, unix::AsyncFd},
    net::UnixStream,
    runtime::Handle,
    task::{JoinHandle, coop},
    time::sleep,
};

use crate::quiet;

/// Splits a stream into its halves; needs the runtime that will drive them.
pub(super) fn split(stream: UnixStream) -> io::Result<(SocketReader, Writer)> {
    let socket = OwnedFd::from(stream.into_std()?);
    // A system that refuses leaves its default, which works as well.
    let _ = set_socket_send_buffer_size(&socket, SEND_BUFFER);
    let socket = Arc::new(register(socket, Interest::READABLE)?);
    let writer =
        Writer { socket: Arc::clone(&socket), runtime: Handle::current(), room: Room::Assumed, at_once: 0 };
    Ok((SocketReader(socket), writer))
}

/// Registers a descriptor with the runtime for one interest alone.
#[allow(
    deprecated,
    reason = "the successor is unsafe because of types that lie about their descriptor; OwnedFd does not"
)]
fn register(socket: OwnedFd, interest: Interest) -> io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::with_interest(socket, interest)
}

/// The reading half.
#[derive(Debug)]
pub(crate) struct SocketReader(Arc<AsyncFd<OwnedFd>>);

impl SocketReader {
    /// As [`AsyncRead::poll_read`](tokio::io::AsyncRead::poll_read).
    pub(crate) fn poll_read(&self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        // Memory that is not initialised yet is so only as far as one read is likely to fill it.
        let initialised = buf.initialized().len() - buf.filled().len();
        let space = buf.initialize_unfilled_to(buf.remaining().min(initialised.max(MAX_CLEARED)));
        let count = ready!(self.poll_recv(cx, space.len(), |socket| receive(socket, &mut *space)))?;
        buf.advance(count);
        Poll::Ready(Ok(()))
    }

    /// Appends at most `limit` bytes, for which there must be capacity.
    pub(crate) fn poll_read_vec(
        &self,
        cx: &mut Context<'_>,
        buf: &mut Vec<u8>,
        limit: usize,
    ) -> Poll<io::Result<usize>> {
        let len = buf.len();
        if buf.capacity() - len == limit {
            return self.poll_recv(cx, limit, |socket| receive(socket, spare_capacity(buf)));
        }
        buf.resize(len + limit, 0);
        let result = self.poll_recv(cx, limit, |socket| receive(socket, &mut buf[len..]));
        buf.truncate(len + if let Poll::Ready(Ok(count)) = result { count } else { 0 });
        result
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        length: usize,
        mut receive: impl FnMut(BorrowedFd<'_>) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        loop {
            let mut readable = ready!(self.0.poll_read_ready(cx))?;
            match receive(self.0.as_fd()) {
                Ok(count) => {
                    // Less than asked for was all there is; what comes later is told anew.
                    if 0 < count && count < length {
                        readable.clear_ready();
                    }
                    return Poll::Ready(Ok(count));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => readable.clear_ready(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

fn receive(socket: BorrowedFd<'_>, space: impl Buffer<u8>) -> io::Result<usize> {
    let (_, count) = recv(socket, space, RecvFlags::empty())?;
    Ok(count)
}

/// The writing half; closing or dropping it is the end of the stream for the peer.
#[derive(Debug)]
pub(super) struct Writer {
    socket: Arc<AsyncFd<OwnedFd>>,
    runtime: Handle,
    room: Room,
    /// Writes in a row that went through at once although room is watched.
    at_once: u32,
}

/// What is known about room for writing.
#[derive(Debug)]
enum Room {
    /// There has always been some; the next write tries.
    Assumed,
    /// A duplicate of the descriptor, registered for writing.
    Watched(AsyncFd<OwnedFd>),
    /// The process is out of descriptors or of memory to watch with: time tells. The runtime waits, since a timer that
    /// is polled after the end of its runtime panics, and a task only ends.
    Unknown(JoinHandle<()>),
}

impl Writer {
    fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        send: impl Fn(BorrowedFd<'_>) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        loop {
            match &mut self.room {
                Room::Assumed => {
                    // Nothing of the runtime is asked here, so nothing else would make a busy writer yield.
                    let progress = ready!(coop::poll_proceed(cx));
                    match send(self.socket.as_fd()) {
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.watch()?,
                        Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                        result => {
                            progress.made_progress();
                            return Poll::Ready(result);
                        }
                    }
                }
                Room::Watched(room) => {
                    let mut writable = ready!(room.poll_write_ready(cx))?;
                    match send(self.socket.as_fd()) {
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                            writable.clear_ready();
                            self.at_once = 0;
                        }
                        Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                        result => {
                            self.at_once += 1;
                            if self.at_once == ENOUGH {
                                self.room = Room::Assumed;
                            }
                            return Poll::Ready(result);
                        }
                    }
                }
                Room::Unknown(pause) => {
                    let _ = ready!(Pin::new(pause).poll(cx));
                    self.room = Room::Assumed;
                }
            }
        }
    }

    /// Arranges to be told about room; fails when the runtime is gone.
    fn watch(&mut self) -> io::Result<()> {
        // A write may be polled outside the runtime to which the socket belongs.
        let _context = self.runtime.enter();
        let duplicate = self.socket.get_ref().try_clone();
        let watched = duplicate.and_then(|duplicate| register(duplicate, Interest::WRITABLE));
        self.at_once = 0;
        self.room = match watched {
            Ok(room) => Room::Watched(room),
            Err(error) if is_shortage(&error) => {
                tracing::debug!(%error, "cannot watch a socket for room");
                Room::Unknown(self.runtime.spawn(async { sleep(PAUSE).await }))
            }
            Err(error) => return Err(error),
        };
        Ok(())
    }
}

impl AsyncWrite for Writer {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.get_mut().poll_send(cx, |socket| quiet::send(socket, buf))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.get_mut().poll_send(cx, |socket| quiet::send_vectored(socket, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(shutdown(self.socket.get_ref(), Shutdown::Write).map_err(Into::into))
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // Without this the peer would see the end only when the reading half is gone as well.
        let _ = shutdown(self.socket.get_ref(), Shutdown::Write);
    }
}

fn is_shortage(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::MFILE | Errno::NFILE | Errno::NOMEM | Errno::NOSPC))
}

/// Room for writing, of which Linux grants the double: as much as its default settings allow anybody to ask for, and
/// twice what a socket has of itself. Large values stream about a tenth faster than with that; four times as much
/// gains nothing more.
const SEND_BUFFER: usize = 208 * 1024;
/// The most that one read clears of memory that nobody has initialised.
const MAX_CLEARED: usize = 64 * 1024;
/// So many writes that need no waiting in a row, and room is no longer watched. More than a stream that now and then
/// overtakes its reader has between two waits, as each change costs four calls.
const ENOUGH: u32 = 64;
/// How long to wait for room that cannot be watched.
const PAUSE: Duration = Duration::from_millis(5);
