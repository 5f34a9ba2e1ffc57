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
    /// Chunks that the socket did not take at once, in the order in which they go: at most one of each lane, and the
    /// lane's end behind it.
    queue: VecDeque<Chunk>,
    /// How many chunks there were, how many of them the connection has taken, and how many it has flushed.
    begun: u64,
    written: u64,
    flushed: u64,
    /// The connection takes no more bytes; what has arrived is read before the driver gives up.
    broken: bool,
    pub(super) lanes: Vec<Lane>,
    /// The driver's waker, taken when it is woken and put back when it runs.
    pub(super) driver: Option<Waker>,
    /// The driver is to end at once.
    pub(super) cut: bool,
}

/// A chunk that has still to go, whole or from some byte on.
struct Chunk {
    lane: u8,
    number: u64,
    bytes: Vec<u8>,
    written: usize,
}

/// One lane, as this side sees it.
#[derive(Default)]
pub(super) struct Lane {
    pub(super) arrived: VecDeque<u8>,
    pub(super) reader: Option<Waker>,
    /// The task that waits until its chunk is written, or flushed.
    writer: Option<Waker>,
    /// A chunk of its bytes is in the queue.
    queued: bool,
    /// Its writer waits for more than the queue: for the connection to flush.
    flushing: bool,
    /// The number of its last chunk.
    last: u64,
    /// Somebody has, or had, its connection.
    opened: bool,
    /// Its reading half is gone: what still arrives is dropped.
    pub(super) unread: bool,
    /// The peer has said that nothing follows.
    pub(super) peer_ended: bool,
}

impl Trunk {
    pub(super) fn new(writer: WriteHalf, info: ConnectionInfo, lanes: u8) -> Self {
        let lanes = (0..lanes.min(MAX_LANES)).map(|_| Lane::default()).collect();
        let state = State {
            writer: Some(writer),
            queue: VecDeque::new(),
            begun: 0,
            written: 0,
            flushed: 0,
            broken: false,
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
        if state.is_broken() {
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
        self.shared.lock().is_broken()
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
    /// Whether the driver is to end, or has.
    pub(super) fn is_over(&self) -> bool {
        self.cut || self.writer.is_none()
    }

    /// Whether nothing can be written any more.
    pub(super) fn is_broken(&self) -> bool {
        self.broken || self.is_over()
    }

    /// Takes the beginning of what a lane offers as one chunk: the socket gets it at once if nobody else waits for it,
    /// and the queue what is left.
    pub(super) fn poll_chunk(
        &mut self,
        lane: u8,
        offered: &[IoSlice<'_>],
        cx: &Context<'_>,
        wakers: &mut Vec<Waker>,
    ) -> Poll<io::Result<usize>> {
        if self.is_broken() {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let entry = &mut self.lanes[usize::from(lane)];
        entry.flushing = false;
        if entry.queued {
            return self.wait(lane, cx);
        }
        let mut slices = [IoSlice::new(&[]); MAX_SLICES];
        let (mut count, mut len) = (1, 0);
        for slice in offered.iter().filter(|slice| !slice.is_empty()) {
            if len == MAX_CHUNK || count == MAX_SLICES {
                break;
            }
            let part = &slice[..slice.len().min(MAX_CHUNK - len)];
            slices[count] = IoSlice::new(part);
            count += 1;
            len += part.len();
        }
        if len == 0 {
            return Poll::Ready(Ok(0));
        }
        let header = header(lane, len);
        slices[0] = IoSlice::new(&header);
        let slices = &slices[..count];
        let first = self.queue.is_empty();
        let written = if first { self.write_now(slices, wakers)? } else { 0 };
        let number = self.begin(lane);
        if written < HEADER_LEN + len {
            self.lanes[usize::from(lane)].queued = true;
            self.queue.push_back(Chunk { lane, number, bytes: rest(slices, written), written: 0 });
        } else {
            self.written = number;
        }
        if first {
            self.flush_now(wakers);
        }
        Poll::Ready(Ok(len))
    }

    /// Has the peer told that nothing follows on a lane.
    pub(super) fn end_lane(&mut self, lane: u8, wakers: &mut Vec<Waker>) {
        if self.is_broken() {
            return;
        }
        let number = self.begin(lane);
        self.queue.push_back(Chunk { lane, number, bytes: header(lane, 0).to_vec(), written: 0 });
        wakers.extend(self.driver.take());
    }

    /// Ready when what a lane has written so far has gone. The driver knows of it and sees to it.
    pub(super) fn poll_lane_flush(&mut self, lane: u8, cx: &Context<'_>) -> Poll<io::Result<()>> {
        if self.lanes[usize::from(lane)].last <= self.flushed {
            return Poll::Ready(Ok(()));
        }
        if self.is_broken() {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        self.lanes[usize::from(lane)].flushing = true;
        self.wait(lane, cx)
    }

    /// Writes what is in the queue, and flushes; whoever waited for it is to be woken outside the lock.
    pub(super) fn poll_flush(
        &mut self,
        cx: &mut Context<'_>,
        wakers: &mut Vec<Waker>,
    ) -> Poll<io::Result<()>> {
        if self.is_broken() {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let outcome = ready!(self.poll_queue(cx, wakers));
        if outcome.is_err() {
            self.break_down(wakers);
        }
        Poll::Ready(outcome)
    }

    fn poll_queue(&mut self, cx: &mut Context<'_>, wakers: &mut Vec<Waker>) -> Poll<io::Result<()>> {
        loop {
            // Lanes that never stop keep the queue filled; who waits for a flush does not wait for its end.
            if self.flushed < self.written && (self.queue.is_empty() || self.is_flush_due()) {
                let Some(writer) = &mut self.writer else { break };
                // A connection that encrypts may have taken more than its socket did.
                ready!(Pin::new(writer).poll_flush(cx))?;
                self.flushed = self.written;
                let flushed = self.lanes.iter_mut().filter(|lane| lane.last <= self.flushed);
                wakers.extend(flushed.filter_map(|lane| lane.writer.take()));
            }
            let (Some(chunk), Some(writer)) = (self.queue.front_mut(), &mut self.writer) else { break };
            while chunk.written < chunk.bytes.len() {
                match ready!(Pin::new(&mut *writer).poll_write(cx, &chunk.bytes[chunk.written..]))? {
                    0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                    written => chunk.written += written,
                }
            }
            self.written = chunk.number;
            let lane = &mut self.lanes[usize::from(chunk.lane)];
            lane.queued = false;
            wakers.extend(lane.writer.take());
            self.queue.pop_front();
        }
        Poll::Ready(Ok(()))
    }

    /// Whether a lane waits for what has been written already to be flushed.
    fn is_flush_due(&self) -> bool {
        let (flushed, written) = (self.flushed, self.written);
        self.lanes.iter().any(|lane| lane.flushing && flushed < lane.last && lane.last <= written)
    }

    /// Writes what the socket takes now. Its waker is nobody's: [`flush_now`](Self::flush_now) has to follow.
    fn write_now(&mut self, slices: &[IoSlice<'_>], wakers: &mut Vec<Waker>) -> io::Result<usize> {
        let Some(writer) = &mut self.writer else { return Err(io::ErrorKind::BrokenPipe.into()) };
        if !writer.is_write_vectored() {
            // It would take the header alone: the chunk goes through the queue, in one piece.
            return Ok(0);
        }
        let mut cx = Context::from_waker(Waker::noop());
        match Pin::new(writer).poll_write_vectored(&mut cx, slices) {
            Poll::Ready(Ok(written)) if written > 0 => Ok(written),
            Poll::Ready(outcome) => {
                self.break_down(wakers);
                Err(outcome.err().unwrap_or_else(|| io::ErrorKind::WriteZero.into()))
            }
            Poll::Pending => Ok(0),
        }
    }

    /// Flushes without waiting; what is left is the driver's, which waits for the socket with a waker of its own.
    fn flush_now(&mut self, wakers: &mut Vec<Waker>) {
        if self.poll_flush(&mut Context::from_waker(Waker::noop()), wakers).is_pending() {
            wakers.extend(self.driver.take());
        }
    }

    /// The number of a new chunk of this lane.
    fn begin(&mut self, lane: u8) -> u64 {
        self.begun += 1;
        self.lanes[usize::from(lane)].last = self.begun;
        self.begun
    }

    fn wait<T>(&mut self, lane: u8, cx: &Context<'_>) -> Poll<T> {
        register(&mut self.lanes[usize::from(lane)].writer, cx.waker());
        Poll::Pending
    }

    /// The connection takes no more bytes: nobody waits for that, and the driver reads what there is and ends.
    fn break_down(&mut self, wakers: &mut Vec<Waker>) {
        self.broken = true;
        self.queue.clear();
        wakers.extend(self.lanes.iter_mut().filter_map(|lane| lane.writer.take()));
        wakers.extend(self.driver.take());
    }

    /// The connection is gone: every lane ends.
    pub(super) fn end(&mut self, wakers: &mut Vec<Waker>) {
        self.break_down(wakers);
        self.cut = true;
        wakers.extend(self.lanes.iter_mut().filter_map(|lane| lane.reader.take()));
    }
}

/// Remembers whom to wake.
pub(super) fn register(place: &mut Option<Waker>, waker: &Waker) {
    if !place.as_ref().is_some_and(|known| known.will_wake(waker)) {
        *place = Some(waker.clone());
    }
}

/// Wakes them; never under the lock.
pub(super) fn wake(wakers: &mut Vec<Waker>) {
    wakers.drain(..).for_each(Waker::wake);
}

/// What was not written of these slices.
fn rest(slices: &[IoSlice<'_>], written: usize) -> Vec<u8> {
    let len: usize = slices.iter().map(|slice| slice.len()).sum();
    let mut rest = Vec::with_capacity(len - written);
    let mut skip = written;
    for slice in slices {
        let from = skip.min(slice.len());
        rest.extend_from_slice(&slice[from..]);
        skip -= from;
    }
    rest
}

fn header(lane: u8, len: usize) -> [u8; HEADER_LEN] {
    (len as u32 | u32::from(lane) << 24).to_le_bytes()
}
