//! What the lanes and the driver of a trunk share: the writing half and what arrived, under one lock that is never
//! held across an await.

use std::{
    collections::VecDeque,
    fmt,
    io::{self, IoSlice},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker, ready},
};

use ipc_transport::{Connection, ConnectionInfo, WriteHalf};
use tokio::io::AsyncWrite;

use super::{
    HEADER_LEN, MAX_CHUNK,
    lane::{LaneReader, LaneWriter},
};

/// The most lanes of one trunk.
pub const MAX_LANES: u8 = 16;

/// Slices of one vectored write, the header's included.
const MAX_SLICES: usize = 33;

/// One connection with its lanes; clones are the same one.
///
/// Somebody has to run its [`TrunkDriver`](super::TrunkDriver): nothing moves without it.
#[derive(Clone)]
pub struct Trunk {
    pub(super) shared: Arc<Shared>,
}

pub(super) struct Shared {
    state: Mutex<State>,
    info: ConnectionInfo,
}

pub(super) struct State {
    /// `None` once the connection is given up.
    pub(super) writer: Option<WriteHalf>,
    /// What the socket did not take of a chunk that has begun.
    stash: Vec<u8>,
    stash_at: usize,
    /// The connection was written to and not flushed since.
    holds_bytes: bool,
    /// Tasks of lanes that wait until the stash is gone, in the order in which they came.
    waiting: VecDeque<(u8, Waker)>,
    pub(super) lanes: Vec<Lane>,
    /// The driver's waker, taken when it is woken and put back when it runs.
    pub(super) driver: Option<Waker>,
    /// The driver is to end at once.
    pub(super) cut: bool,
}

/// One lane, as this side sees it.
#[derive(Default)]
pub(super) struct Lane {
    pub(super) arrived: Vec<u8>,
    pub(super) arrived_at: usize,
    pub(super) reader: Option<Waker>,
    /// Somebody has, or had, its connection.
    opened: bool,
    /// Its reading half is gone: what still arrives is dropped.
    pub(super) unread: bool,
    /// The peer has said that nothing follows.
    pub(super) peer_ended: bool,
    /// Our writing half is gone, and the peer is to be told.
    pub(super) end_due: bool,
}

impl Trunk {
    pub(super) fn new(writer: WriteHalf, info: ConnectionInfo, lanes: u8) -> Self {
        let lanes = (0..lanes.min(MAX_LANES)).map(|_| Lane::default()).collect();
        let state = State {
            writer: Some(writer),
            stash: Vec::new(),
            stash_at: 0,
            holds_bytes: false,
            waiting: VecDeque::new(),
            lanes,
            driver: None,
            cut: false,
        };
        Self { shared: Arc::new(Shared { state: Mutex::new(state), info }) }
    }

    /// What is known of the connection.
    pub fn info(&self) -> &ConnectionInfo {
        &self.shared.info
    }

    /// The connection of one lane; `None` when it was given out before, when the trunk is gone, and for a lane that it
    /// does not have.
    pub fn lane(&self, lane: u8) -> Option<Connection> {
        let mut state = self.shared.lock();
        if state.is_over() {
            return None;
        }
        let entry = state.lanes.get_mut(usize::from(lane)).filter(|entry| !entry.opened)?;
        entry.opened = true;
        drop(state);
        let reader = LaneReader::new(self.shared.clone(), lane);
        let writer = LaneWriter::new(self.shared.clone(), lane);
        Some(Connection::from_bytes(reader, writer, self.shared.info.clone()))
    }

    /// Gives the connection up at once; every lane ends on both sides.
    pub fn cut(&self) {
        let mut state = self.shared.lock();
        state.cut = true;
        let driver = state.driver.take();
        drop(state);
        if let Some(waker) = driver {
            waker.wake();
        }
    }

    /// Whether the connection is gone or given up.
    pub fn is_over(&self) -> bool {
        self.shared.lock().is_over()
    }
}

impl fmt::Debug for Trunk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trunk").field("info", &self.shared.info).finish_non_exhaustive()
    }
}

impl Shared {
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    pub(super) fn is_over(&self) -> bool {
        self.cut || self.writer.is_none()
    }

    /// Writes the beginning of what a lane offers as one chunk; the rest of a chunk that has begun is kept here.
    pub(super) fn poll_chunk(
        &mut self,
        lane: u8,
        offered: &[IoSlice<'_>],
        cx: &Context<'_>,
    ) -> Poll<io::Result<usize>> {
        if self.is_over() {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        if self.stash_at < self.stash.len() {
            return self.wait(lane, cx);
        }
        let offered_len: usize = offered.iter().map(|slice| slice.len()).sum();
        let len = offered_len.min(MAX_CHUNK);
        if len == 0 {
            return Poll::Ready(Ok(0));
        }
        let header = header(lane, len);
        let mut slices = [IoSlice::new(&[]); MAX_SLICES];
        slices[0] = IoSlice::new(&header);
        let mut count = 1;
        let mut taken = 0;
        for slice in offered {
            if taken == len || count == MAX_SLICES {
                break;
            }
            let part = &slice[..slice.len().min(len - taken)];
            slices[count] = IoSlice::new(part);
            count += 1;
            taken += part.len();
        }
        // More slices than one call takes: the chunk is what these make up.
        let header = (taken < len).then(|| self::header(lane, taken));
        if let Some(header) = &header {
            slices[0] = IoSlice::new(header);
        }
        let written = self.poll_write_slices(&slices[..count])?;
        if written < HEADER_LEN + taken {
            self.keep(&slices[..count], written);
        }
        Poll::Ready(Ok(taken))
    }

    /// Writes what the socket takes now. It does not wake anybody: whoever leaves a rest wakes the driver.
    fn poll_write_slices(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let Some(writer) = &mut self.writer else { return Err(io::ErrorKind::BrokenPipe.into()) };
        let mut cx = Context::from_waker(Waker::noop());
        if !writer.is_write_vectored() {
            // It would take the header alone: the chunk goes through the stash, in one piece.
            return Ok(0);
        }
        match Pin::new(writer).poll_write_vectored(&mut cx, slices) {
            Poll::Ready(Ok(0)) => Err(io::ErrorKind::WriteZero.into()),
            Poll::Ready(Ok(written)) => {
                self.holds_bytes = true;
                Ok(written)
            }
            Poll::Ready(Err(error)) => Err(error),
            Poll::Pending => Ok(0),
        }
    }

    /// Keeps what was not written of these slices, and tries once more where it is in one piece.
    fn keep(&mut self, slices: &[IoSlice<'_>], written: usize) {
        self.stash.clear();
        self.stash_at = 0;
        let mut skip = written;
        for slice in slices {
            let from = skip.min(slice.len());
            self.stash.extend_from_slice(&slice[from..]);
            skip -= from;
        }
    }

    /// The driver's part, or a lane's attempt: writes what is kept, and flushes.
    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            while self.stash_at < self.stash.len() {
                let Some(writer) = &mut self.writer else { break };
                match ready!(Pin::new(writer).poll_write(cx, &self.stash[self.stash_at..]))? {
                    0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                    written => {
                        self.stash_at += written;
                        self.holds_bytes = true;
                    }
                }
            }
            self.stash.clear();
            self.stash_at = 0;
            let Some(lane) = self.lanes.iter_mut().position(|lane| std::mem::take(&mut lane.end_due)) else {
                break;
            };
            self.stash.extend_from_slice(&header(lane as u8, 0));
        }
        if self.stash.capacity() > 4 * 1024 {
            self.stash = Vec::new();
        }
        if self.holds_bytes
            && let Some(writer) = &mut self.writer
        {
            // A connection that encrypts may have taken more than its socket did.
            ready!(Pin::new(writer).poll_flush(cx))?;
            self.holds_bytes = false;
        }
        Poll::Ready(Ok(()))
    }

    /// Writes and flushes what is left without waiting; the driver, if it has to go on with it.
    pub(super) fn try_flush(&mut self) -> Option<Waker> {
        match self.poll_flush(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Ok(())) => None,
            // An error is the driver's to find as well.
            Poll::Ready(Err(_)) | Poll::Pending => self.driver.take(),
        }
    }

    /// Whether there is something that only the driver sees to.
    pub(super) fn has_rest(&self) -> bool {
        self.stash_at < self.stash.len() || self.holds_bytes
    }

    /// Waits for the rest of an earlier chunk to go.
    pub(super) fn wait<T>(&mut self, lane: u8, cx: &Context<'_>) -> Poll<T> {
        match self.waiting.iter_mut().find(|(of, _)| *of == lane) {
            Some((_, waker)) => waker.clone_from(cx.waker()),
            None => self.waiting.push_back((lane, cx.waker().clone())),
        }
        Poll::Pending
    }

    /// Those who wait for room, to be woken outside the lock, the longest waiting first.
    pub(super) fn take_waiting(&mut self) -> VecDeque<(u8, Waker)> {
        std::mem::take(&mut self.waiting)
    }

    /// The connection is gone: every lane ends.
    pub(super) fn end(&mut self) -> Vec<Waker> {
        self.cut = true;
        self.stash = Vec::new();
        self.stash_at = 0;
        let mut wakers: Vec<_> = self.take_waiting().into_iter().map(|(_, waker)| waker).collect();
        wakers.extend(self.lanes.iter_mut().filter_map(|lane| lane.reader.take()));
        wakers
    }
}

impl Lane {
    pub(super) fn unread_len(&self) -> usize {
        self.arrived.len() - self.arrived_at
    }
}

pub(super) fn header(lane: u8, len: usize) -> [u8; HEADER_LEN] {
    (len as u32 | u32::from(lane) << 24).to_le_bytes()
}
