//! A bounded one-way byte pipe with socket-like endings, woken by wakers alone.

use std::{
    collections::VecDeque,
    io,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker, ready},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    task::coop,
};

/// Two connected pipes: the ends of one connection, each as its reading and its writing half.
///
/// An end counts as gone when both of its halves are dropped, as with a socket whose halves share a descriptor:
/// dropping the reading half alone does not fail the peer's writes.
pub(super) fn duplex(capacity: usize) -> [(PipeReader, PipeWriter); 2] {
    let forth = Arc::new(Pipe::new(capacity));
    let back = Arc::new(Pipe::new(capacity));
    let near = Arc::new(End { incoming: back.clone() });
    let far = Arc::new(End { incoming: forth.clone() });
    [
        (
            PipeReader { pipe: back.clone(), _end: near.clone() },
            PipeWriter { pipe: forth.clone(), _end: near },
        ),
        (PipeReader { pipe: forth, _end: far.clone() }, PipeWriter { pipe: back, _end: far }),
    ]
}

/// The half that takes bytes out.
#[derive(Debug)]
pub(super) struct PipeReader {
    pipe: Arc<Pipe>,
    _end: Arc<End>,
}

impl PipeReader {
    /// How many bytes wait to be read.
    pub(super) fn available(&self) -> usize {
        self.pipe.state().bytes.len()
    }
}

impl AsyncRead for PipeReader {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let progress = ready!(coop::poll_proceed(cx));
        let mut state = self.pipe.state();
        if state.bytes.is_empty() && !state.writer_closed && buf.remaining() > 0 {
            register(&mut state.reader, cx);
            return Poll::Pending;
        }
        let (front, back) = state.bytes.as_slices();
        let from_front = front.len().min(buf.remaining());
        buf.put_slice(&front[..from_front]);
        let from_back = back.len().min(buf.remaining());
        buf.put_slice(&back[..from_back]);
        state.bytes.drain(..from_front + from_back);
        let writer = if from_front > 0 { state.writer.take() } else { None };
        drop(state);
        wake(writer);
        progress.made_progress();
        Poll::Ready(Ok(()))
    }
}

/// The half that puts bytes in; dropping it ends the stream, as shutting it down does.
#[derive(Debug)]
pub(super) struct PipeWriter {
    pipe: Arc<Pipe>,
    _end: Arc<End>,
}

impl PipeWriter {
    /// Ready when at least one byte has a place.
    pub(super) fn poll_room(&self, cx: &Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.pipe.state();
        state.check_open()?;
        if state.bytes.len() >= self.pipe.capacity {
            register(&mut state.writer, cx);
            return Poll::Pending;
        }
        Poll::Ready(Ok(()))
    }

    /// Puts all of these bytes in, whether they have a place or not.
    pub(super) fn push(&self, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.pipe.state();
        state.check_open()?;
        state.bytes.extend(bytes);
        let reader = state.reader.take();
        drop(state);
        wake(reader);
        Ok(())
    }
}

impl AsyncWrite for PipeWriter {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[io::IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let progress = ready!(coop::poll_proceed(cx));
        let mut state = self.pipe.state();
        state.check_open()?;
        let room = self.pipe.capacity.saturating_sub(state.bytes.len());
        if room == 0 && bufs.iter().any(|buf| !buf.is_empty()) {
            register(&mut state.writer, cx);
            return Poll::Pending;
        }
        let mut written = 0;
        for buf in bufs {
            let count = buf.len().min(room - written);
            state.bytes.extend(&buf[..count]);
            written += count;
        }
        let reader = if written > 0 { state.reader.take() } else { None };
        drop(state);
        wake(reader);
        progress.made_progress();
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.pipe.close_writer();
        Poll::Ready(Ok(()))
    }
}

impl Drop for PipeWriter {
    fn drop(&mut self) {
        self.pipe.close_writer();
    }
}

/// Lives as long as one of the two halves of an end; afterwards nobody will ever read what the peer writes.
#[derive(Debug)]
struct End {
    incoming: Arc<Pipe>,
}

impl Drop for End {
    fn drop(&mut self) {
        let mut state = self.incoming.state();
        state.reader_gone = true;
        state.bytes = VecDeque::new();
        let writer = state.writer.take();
        drop(state);
        wake(writer);
    }
}

#[derive(Debug)]
struct Pipe {
    capacity: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    bytes: VecDeque<u8>,
    reader: Option<Waker>,
    writer: Option<Waker>,
    writer_closed: bool,
    reader_gone: bool,
}

impl State {
    /// Whether a writer may write.
    fn check_open(&self) -> io::Result<()> {
        if self.writer_closed || self.reader_gone { Err(io::ErrorKind::BrokenPipe.into()) } else { Ok(()) }
    }
}

impl Pipe {
    fn new(capacity: usize) -> Self {
        Self { capacity, state: Mutex::default() }
    }

    /// A panic elsewhere leaves the state whole, as nothing in here unwinds half-way.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn close_writer(&self) {
        let mut state = self.state();
        state.writer_closed = true;
        let reader = state.reader.take();
        drop(state);
        wake(reader);
    }
}

pub(super) fn register(place: &mut Option<Waker>, cx: &Context<'_>) {
    match place {
        Some(waker) => waker.clone_from(cx.waker()),
        None => *place = Some(cx.waker().clone()),
    }
}

/// Wakers run foreign code, so they are woken after the lock is released.
pub(super) fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}
