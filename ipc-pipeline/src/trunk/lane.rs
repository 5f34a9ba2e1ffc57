//! The two halves of one lane.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{MAX_UNREAD, shared::Shared};

/// Reads what the driver has sorted out for this lane.
pub(super) struct LaneReader {
    shared: Arc<Shared>,
    lane: u8,
}

/// Writes chunks of this lane.
pub(super) struct LaneWriter {
    shared: Arc<Shared>,
    lane: u8,
    ended: bool,
}

impl LaneReader {
    pub(super) fn new(shared: Arc<Shared>, lane: u8) -> Self {
        Self { shared, lane }
    }
}

impl AsyncRead for LaneReader {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut guard = self.shared.lock();
        let state = &mut *guard;
        let over = state.is_over();
        let lane = &mut state.lanes[usize::from(self.lane)];
        let before = lane.unread_len();
        if before == 0 {
            if lane.peer_ended || over {
                return Poll::Ready(Ok(()));
            }
            if !lane.reader.as_ref().is_some_and(|known| known.will_wake(cx.waker())) {
                lane.reader = Some(cx.waker().clone());
            }
            return Poll::Pending;
        }
        let count = before.min(buf.remaining());
        buf.put_slice(&lane.arrived[lane.arrived_at..lane.arrived_at + count]);
        lane.arrived_at += count;
        if lane.unread_len() == 0 {
            // An idle lane holds no memory beyond what small messages need.
            if lane.arrived.capacity() > 4 * 1024 {
                lane.arrived = Vec::new()
            } else {
                lane.arrived.clear()
            }
            lane.arrived_at = 0;
        }
        let resumes = before >= MAX_UNREAD && before - count < MAX_UNREAD;
        let driver = if resumes { state.driver.take() } else { None };
        drop(guard);
        driver.into_iter().for_each(Waker::wake);
        Poll::Ready(Ok(()))
    }
}

impl Drop for LaneReader {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        let lane = &mut state.lanes[usize::from(self.lane)];
        lane.unread = true;
        lane.arrived = Vec::new();
        lane.arrived_at = 0;
        let driver = state.driver.take();
        drop(state);
        driver.into_iter().for_each(Waker::wake);
    }
}

impl LaneWriter {
    pub(super) fn new(shared: Arc<Shared>, lane: u8) -> Self {
        Self { shared, lane, ended: false }
    }

    fn end(&mut self) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        let mut state = self.shared.lock();
        state.lanes[usize::from(self.lane)].end_due = true;
        let driver = state.driver.take();
        drop(state);
        driver.into_iter().for_each(Waker::wake);
    }
}

impl AsyncWrite for LaneWriter {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.ended {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let mut state = self.shared.lock();
        let written = state.poll_chunk(self.lane, bufs, cx);
        // The rest of a chunk is the driver's, which waits for the socket with its own waker.
        let driver = if written.is_ready() && state.has_rest() { state.try_flush() } else { None };
        drop(state);
        driver.into_iter().for_each(Waker::wake);
        written
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.shared.lock();
        if state.is_over() {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        if !state.has_rest() {
            return Poll::Ready(Ok(()));
        }
        let outcome = state.wait(self.lane, cx);
        let driver = state.driver.take();
        drop(state);
        driver.into_iter().for_each(Waker::wake);
        outcome
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.end();
        Poll::Ready(Ok(()))
    }
}

impl Drop for LaneWriter {
    fn drop(&mut self) {
        self.end();
    }
}
