//! The two halves of one lane.

use std::{
    collections::VecDeque,
    io::{self, IoSlice},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{
    MAX_UNREAD,
    shared::{Shared, register, wake},
};

/// An idle lane holds no memory beyond what small messages need.
const IDLE_CAPACITY: usize = 4 * 1024;

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
        let mut state = self.shared.lock();
        let over = state.is_over();
        let lane = &mut state.lanes[usize::from(self.lane)];
        let before = lane.arrived.len();
        if before == 0 {
            if lane.peer_ended || over {
                return Poll::Ready(Ok(()));
            }
            register(&mut lane.reader, cx.waker());
            return Poll::Pending;
        }
        let count = before.min(buf.remaining());
        let (front, back) = lane.arrived.as_slices();
        let of_front = count.min(front.len());
        buf.put_slice(&front[..of_front]);
        buf.put_slice(&back[..count - of_front]);
        lane.arrived.drain(..count);
        if lane.arrived.is_empty() && lane.arrived.capacity() > IDLE_CAPACITY {
            lane.arrived = VecDeque::new();
        }
        let resumes = before >= MAX_UNREAD && before - count < MAX_UNREAD;
        let driver = if resumes { state.driver.take() } else { None };
        drop(state);
        driver.into_iter().for_each(Waker::wake);
        Poll::Ready(Ok(()))
    }
}

impl Drop for LaneReader {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        let lane = &mut state.lanes[usize::from(self.lane)];
        lane.unread = true;
        lane.arrived = VecDeque::new();
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
        let mut wakers = Vec::new();
        self.shared.lock().end_lane(self.lane, &mut wakers);
        wake(&mut wakers);
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
        let mut wakers = Vec::new();
        let written = self.shared.lock().poll_chunk(self.lane, bufs, cx, &mut wakers);
        wake(&mut wakers);
        written
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.shared.lock().poll_lane_flush(self.lane, cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.end();
        self.poll_flush(cx)
    }
}

impl Drop for LaneWriter {
    fn drop(&mut self) {
        self.end();
    }
}
