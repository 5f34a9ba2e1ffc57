//! The trunk's task: sorts what arrives into lanes, and writes what the socket did not take at once.

use std::{
    fmt, io,
    pin::Pin,
    task::{Context, Poll, Waker},
};

use ipc_transport::ReadHalf;
use tokio::io::{AsyncRead, ReadBuf};

use super::{
    HEADER_LEN, MAX_CHUNK, MAX_UNREAD,
    shared::{State, Trunk},
};

/// Reads of one turn before others get theirs.
const TURNS: usize = 8;

/// What is read at once, at first and after a while of small reads: 4 KiB.
const SMALL_READ: usize = 4 * 1024;

/// What is read at once when reads come full: 64 KiB.
const LARGE_READ: usize = 64 * 1024;

/// Small reads after which the buffer shrinks again.
const SHRINK_AFTER: u32 = 64;

/// Why a trunk is over.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum TrunkEnd {
    /// This side cut it.
    Cut,
    /// The peer hung up, or the connection broke.
    HangUp,
    /// The peer broke the protocol.
    Protocol {
        /// How.
        what: &'static str,
    },
}

/// Moves the bytes of one trunk until it is over; a future to be spawned or awaited.
///
/// Dropping it ends the trunk.
#[must_use = "nothing moves unless the driver is polled"]
pub struct TrunkDriver {
    trunk: Trunk,
    reader: ReadHalf,
    buffer: Vec<u8>,
    small_reads: u32,
    /// A chunk's header that has not come whole.
    partial: ([u8; HEADER_LEN], usize),
    /// The lane of the chunk that is coming, and what is left of it.
    chunk: (usize, usize),
}

impl TrunkDriver {
    pub(super) fn new(trunk: Trunk, reader: ReadHalf) -> Self {
        Self {
            trunk,
            reader,
            buffer: Vec::new(),
            small_reads: 0,
            partial: ([0; HEADER_LEN], 0),
            chunk: (0, 0),
        }
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.buffer.is_empty() {
            self.buffer = vec![0; SMALL_READ];
        }
        let mut space = ReadBuf::new(&mut self.buffer);
        let count = match Pin::new(&mut self.reader).poll_read(cx, &mut space) {
            Poll::Ready(Ok(())) => space.filled().len(),
            Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
            Poll::Pending => return Poll::Pending,
        };
        Poll::Ready(Ok(count))
    }

    /// Grows the buffer for a stream and shrinks it again behind one.
    fn fit(&mut self, count: usize) {
        if count == self.buffer.len() {
            self.small_reads = 0;
            if count < LARGE_READ {
                self.buffer = vec![0; LARGE_READ];
            }
        } else if count < SMALL_READ && self.buffer.len() > SMALL_READ {
            self.small_reads += 1;
            if self.small_reads >= SHRINK_AFTER {
                self.small_reads = 0;
                self.buffer = Vec::new();
            }
        }
    }

    /// Sorts what was read into its lanes.
    fn sort(&mut self, state: &mut State, count: usize, wakers: &mut Vec<Waker>) -> Result<(), &'static str> {
        let mut rest = &self.buffer[..count];
        while !rest.is_empty() {
            let (lane, left) = self.chunk;
            if left > 0 {
                let (part, behind) = rest.split_at(left.min(rest.len()));
                rest = behind;
                self.chunk.1 -= part.len();
                let lane = &mut state.lanes[lane];
                if !lane.unread {
                    lane.arrived.extend_from_slice(part);
                    wakers.extend(lane.reader.take());
                }
                continue;
            }
            let (header, have) = &mut self.partial;
            let part = rest.len().min(HEADER_LEN - *have);
            header[*have..*have + part].copy_from_slice(&rest[..part]);
            *have += part;
            rest = &rest[part..];
            if *have < HEADER_LEN {
                break;
            }
            *have = 0;
            let word = u32::from_le_bytes(*header);
            let (lane, len) = ((word >> 24) as usize, (word & 0x00FF_FFFF) as usize);
            let Some(entry) = state.lanes.get_mut(lane) else { return Err("a lane that there is not") };
            if entry.peer_ended {
                return Err("bytes behind the end of a lane");
            }
            if len > MAX_CHUNK {
                return Err("a chunk of more than 64 KiB");
            }
            if len == 0 {
                entry.peer_ended = true;
                wakers.extend(entry.reader.take());
            }
            self.chunk = (lane, len);
        }
        Ok(())
    }
}

impl Future for TrunkDriver {
    type Output = TrunkEnd;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<TrunkEnd> {
        let this = self.get_mut();
        let mut wakers = Vec::new();
        for turn in 0.. {
            let mut state = this.trunk.shared.lock();
            if state.is_over() {
                return Poll::Ready(TrunkEnd::Cut);
            }
            match state.poll_flush(cx) {
                Poll::Ready(Ok(())) => {
                    wakers.extend(state.take_waiting().into_iter().map(|(_, waker)| waker))
                }
                Poll::Ready(Err(_)) => return Poll::Ready(TrunkEnd::HangUp),
                Poll::Pending => {}
            }
            state.register(cx.waker());
            let holds = state.lanes.iter().any(|lane| lane.unread_len() >= MAX_UNREAD);
            drop(state);
            wake(&mut wakers);
            if holds {
                // The lane's reader wakes this task when it has made room.
                return Poll::Pending;
            }
            if turn >= TURNS {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            let count = match this.poll_read(cx) {
                Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(TrunkEnd::HangUp),
                Poll::Ready(Ok(count)) => count,
                Poll::Pending => return Poll::Pending,
            };
            let trunk = this.trunk.clone();
            let mut state = trunk.shared.lock();
            let sorted = this.sort(&mut state, count, &mut wakers);
            drop(state);
            wake(&mut wakers);
            if let Err(what) = sorted {
                return Poll::Ready(TrunkEnd::Protocol { what });
            }
            this.fit(count);
        }
        Poll::Pending
    }
}

/// However the task ends: every lane ends with it.
impl Drop for TrunkDriver {
    fn drop(&mut self) {
        let mut state = self.trunk.shared.lock();
        let writer = state.writer.take();
        let mut wakers = state.end();
        drop(state);
        wake(&mut wakers);
        drop(writer);
    }
}

impl fmt::Debug for TrunkDriver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TrunkDriver").field("trunk", &self.trunk).finish_non_exhaustive()
    }
}

impl State {
    fn register(&mut self, waker: &Waker) {
        if !self.driver.as_ref().is_some_and(|known| known.will_wake(waker)) {
            self.driver = Some(waker.clone());
        }
    }
}

fn wake(wakers: &mut Vec<Waker>) {
    wakers.drain(..).for_each(Waker::wake);
}
