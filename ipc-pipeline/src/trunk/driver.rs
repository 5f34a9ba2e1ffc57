//! The trunk's task: sorts what arrives into lanes, and writes what the socket did not take at once.

use std::{
    fmt, io,
    pin::Pin,
    task::{Context, Poll, Waker, ready},
};

use ipc_transport::ReadHalf;
use tokio::io::{AsyncRead, ReadBuf};

use super::{
    HEADER_LEN, MAX_CHUNK, MAX_UNREAD,
    shared::{State, Trunk, register, wake},
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
                    lane.arrived.extend(part);
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

    fn poll_trunk(&mut self, cx: &mut Context<'_>) -> Poll<TrunkEnd> {
        let mut wakers = Vec::new();
        for turn in 0.. {
            let mut state = self.trunk.shared.lock();
            if state.is_over() {
                return Poll::Ready(TrunkEnd::Cut);
            }
            let broken = matches!(state.poll_flush(cx, &mut wakers), Poll::Ready(Err(_)));
            register(&mut state.driver, cx.waker());
            let holds = state.lanes.iter().any(|lane| lane.arrived.len() >= MAX_UNREAD);
            drop(state);
            wake(&mut wakers);
            if holds {
                // The lane's reader wakes this task when it has made room.
                return if broken { Poll::Ready(TrunkEnd::HangUp) } else { Poll::Pending };
            }
            if turn >= TURNS {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            let count = match self.poll_read(cx) {
                Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(TrunkEnd::HangUp),
                Poll::Ready(Ok(count)) => count,
                // A peer that takes nothing any more may have said its last words.
                Poll::Pending if broken => return Poll::Ready(TrunkEnd::HangUp),
                Poll::Pending => return Poll::Pending,
            };
            let trunk = self.trunk.clone();
            let mut state = trunk.shared.lock();
            let sorted = self.sort(&mut state, count, &mut wakers);
            drop(state);
            wake(&mut wakers);
            if let Err(what) = sorted {
                return Poll::Ready(TrunkEnd::Protocol { what });
            }
            self.fit(count);
        }
        Poll::Pending
    }

    /// Gives the connection up; every lane ends.
    fn end(&mut self) {
        let mut wakers = Vec::new();
        let mut state = self.trunk.shared.lock();
        let writer = state.writer.take();
        state.end(&mut wakers);
        drop(state);
        wake(&mut wakers);
        drop(writer);
    }
}

impl Future for TrunkDriver {
    type Output = TrunkEnd;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<TrunkEnd> {
        let this = self.get_mut();
        let end = ready!(this.poll_trunk(cx));
        this.end();
        Poll::Ready(end)
    }
}

/// However the task ends: every lane ends with it.
impl Drop for TrunkDriver {
    fn drop(&mut self) {
        self.end();
    }
}

impl fmt::Debug for TrunkDriver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TrunkDriver").field("trunk", &self.trunk).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use ipc_transport::{Connection, ConnectionInfo, Endpoint, PeerIdentity};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex, split};

    use super::*;

    /// A reader that lags behind by a byte never empties its lane.
    #[tokio::test]
    async fn what_was_read_of_a_lane_is_forgotten() {
        let (ours, mut peer) = duplex(100_000);
        let (reader, writer) = split(ours);
        let at = Endpoint::new("direct", "here").unwrap();
        let info = ConnectionInfo::new(at.clone(), at, PeerIdentity::Unknown);
        let (reader, writer, info) = Connection::from_bytes(reader, writer, info).into_parts();
        let trunk = Trunk::new(writer, info, 1);
        let driver = tokio::spawn(TrunkDriver::new(trunk.clone(), reader));
        let (mut lane, _writer, _) = trunk.lane(0).unwrap().into_parts();
        let chunk = [&[0x60, 0xEA, 0, 0][..], &[7; 60_000]].concat();
        peer.write_all(&chunk).await.unwrap();
        lane.read_exact(&mut [0; 59_999]).await.unwrap();
        for _ in 0..200 {
            peer.write_all(&chunk).await.unwrap();
            lane.read_exact(&mut [0; 60_000]).await.unwrap();
            let capacity = trunk.shared.lock().lanes[0].arrived.capacity();
            assert!(capacity <= 2 * (MAX_UNREAD + LARGE_READ), "{capacity} bytes for one");
        }
        trunk.cut();
        assert_eq!(driver.await.unwrap(), TrunkEnd::Cut);
    }
}
