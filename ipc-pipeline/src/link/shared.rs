//! What the handles, the owner and the driver of a sending end share: the machine and the writing half, under one
//! lock that is never held across an await.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{self, IoSlice},
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Waker},
};

use ipc_transport::WriteHalf;
use tokio::{io::AsyncWrite, runtime::Handle, sync::watch};

use super::{LastError, LinkConfig, Room, Status};
use crate::{
    SendErrorReason,
    protocol::{End, Outgoing, SessionId},
};

/// From this many waiting bytes on the sending task attempts one write itself.
const FLUSH_BYTES: usize = 64 * 1024;

/// Slices of one vectored write.
const MAX_SLICES: usize = 32;

/// What the handles, the owner and the driver of a sending end share.
pub(super) struct Shared {
    state: Mutex<State>,
    /// The thread that is encoding under the lock, to recognise a nested send; 0 if none.
    encoding: AtomicUsize,
    /// Units that were given back from inside an encoding, which could not take the lock.
    owed: AtomicUsize,
    /// Held by the driver that runs: one that takes its place waits until it is done.
    pub(super) turn: tokio::sync::Mutex<()>,
    pub(super) status: watch::Sender<Status>,
    pub(super) last_error: LastError,
    pub(super) room: watch::Sender<Room>,
    pub(super) config: LinkConfig,
}

pub(super) struct State {
    pub(super) machine: Outgoing,
    pub(super) writer: Option<WriteHalf>,
    /// The driver's waker, taken when it is woken and put back when it runs.
    pub(super) driver: Option<Waker>,
    pub(super) waiters: Waiters,
    /// Tasks that wait for releases or for the end.
    watchers: Vec<Waker>,
    unflushed_values: usize,
    unflushed_bytes: usize,
    /// The port refuses sends for now.
    pub(super) paused: bool,
    /// Sends fail while there is no connection.
    pub(super) strict: bool,
    /// No more values are accepted: the owner closes.
    pub(super) closing: bool,
    /// The driver is to stop at once.
    pub(super) stopped: bool,
    /// The current connection is to be cut.
    pub(super) cut: bool,
    /// A write failed; the driver will see to it.
    pub(super) broken: bool,
    /// The connection was written to and not flushed since.
    pub(super) holds_bytes: bool,
    /// A hello is out and not answered.
    pub(super) asking: bool,
    full: bool,
    /// Grows with each order to connect; the driver of an earlier one stops.
    pub(super) order: u64,
    /// Where the driver runs, as long as there is one.
    pub(super) runtime: Option<Handle>,
    /// The driver went before it was over, as with its runtime; another order to connect makes a new one.
    pub(super) abandoned: bool,
}

/// Tasks that wait for a permit, first come, first served.
#[derive(Default)]
pub(super) struct Waiters {
    pub(super) waiting: BTreeMap<u64, Waker>,
    pub(super) granted: BTreeSet<u64>,
    pub(super) next: u64,
}

impl Shared {
    pub(super) fn new(session: SessionId, config: LinkConfig) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new(State {
                machine: Outgoing::new(session, config.machine()),
                writer: None,
                driver: None,
                waiters: Waiters::default(),
                watchers: Vec::new(),
                unflushed_values: 0,
                unflushed_bytes: 0,
                paused: false,
                strict: false,
                closing: false,
                stopped: false,
                cut: false,
                broken: false,
                holds_bytes: false,
                asking: false,
                full: false,
                order: 0,
                runtime: None,
                abandoned: false,
            }),
            encoding: AtomicUsize::new(0),
            owed: AtomicUsize::new(0),
            turn: tokio::sync::Mutex::new(()),
            status: watch::Sender::new(Status::Closed),
            last_error: LastError::new(),
            room: watch::Sender::new(Room::default()),
            config,
        })
    }

    /// The state; a panic in a user's `Serialize` leaves it whole, so poisoning does not matter.
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the state and then wakes the driver, outside the lock.
    pub(super) fn command(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.lock();
        change(&mut state);
        let driver = state.driver.take();
        drop(state);
        if let Some(waker) = driver {
            waker.wake();
        }
    }

    /// Hands out what was freed and tells everybody who waits; call after anything was released or ended.
    pub(super) fn settle(&self, state: &mut State) -> Vec<Waker> {
        let mut wakers = std::mem::take(&mut state.watchers);
        if state.refusal().is_some() {
            wakers.extend(std::mem::take(&mut state.waiters.waiting).into_values());
        } else {
            while !state.waiters.waiting.is_empty() && state.machine.reserve() {
                let (ticket, waker) = state.waiters.waiting.pop_first().expect("it is not empty");
                state.waiters.granted.insert(ticket);
                wakers.push(waker);
            }
        }
        if state.waiters.waiting.is_empty() {
            state.machine.set_held_up(false);
        }
        self.note_room(state);
        wakers
    }

    /// Whether this thread is encoding a value of this link: a nested send would wait for itself.
    #[inline]
    pub(super) fn is_encoding_here(&self) -> bool {
        // Only this thread stores its own mark, so no ordering is needed.
        self.encoding.load(Ordering::Relaxed) == thread_mark()
    }

    /// A reserved unit is not needed.
    pub(super) fn give_back(&self) {
        if self.is_encoding_here() {
            // Inside an encoding, under the lock: whoever encodes sees to it.
            self.owed.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let mut state = self.lock();
        state.machine.unreserve();
        let wakers = self.settle(&mut state);
        // A panic may have come after values of the same batch were accepted.
        let driver = state.driver.take();
        drop(state);
        wakers.into_iter().chain(driver).for_each(Waker::wake);
    }

    /// Gives back what was owed from inside an encoding that is over now.
    #[inline]
    pub(super) fn repay(&self, state: &mut State) {
        // Written by this thread, or by one that had the lock before.
        if self.owed.load(Ordering::Relaxed) > 0 {
            self.repay_now(state);
        }
    }

    #[cold]
    fn repay_now(&self, state: &mut State) {
        for _ in 0..self.owed.swap(0, Ordering::Relaxed) {
            state.machine.unreserve();
        }
        self.settle(state).into_iter().for_each(Waker::wake);
    }

    fn note_room(&self, state: &mut State) {
        if state.full && state.waiters.waiting.is_empty() && state.machine.reserve() {
            state.machine.unreserve();
            state.full = false;
            self.room.send_modify(|room| {
                room.full = false;
                room.drained += 1;
            });
        }
    }

    pub(super) fn note_full(&self, state: &mut State) {
        if !state.full {
            state.full = true;
            self.room.send_modify(|room| room.full = true);
        }
    }
}

impl State {
    /// Whether nothing will be sent any more.
    pub(super) fn is_ended(&self) -> bool {
        self.closing || self.stopped
    }

    /// Why no value is accepted now, if so.
    pub(super) fn refusal(&self) -> Option<SendErrorReason> {
        if self.closing || self.stopped {
            return Some(SendErrorReason::Closed);
        }
        match self.machine.end() {
            Some(End::PeerClosed) => return Some(SendErrorReason::PeerClosed),
            Some(End::Refused(_)) => return Some(SendErrorReason::Refused),
            Some(_) => return Some(SendErrorReason::Closed),
            None => {}
        }
        if self.paused {
            return Some(SendErrorReason::PortClosed);
        }
        if self.abandoned || self.strict && !self.machine.is_live() {
            return Some(SendErrorReason::NotConnected);
        }
        None
    }

    /// Writes until nothing is pending or the socket takes no more; at most `turns` system calls.
    pub(super) fn flush(&mut self, cx: &mut Context<'_>, turns: usize) -> io::Result<Flushed> {
        self.unflushed_values = 0;
        self.unflushed_bytes = 0;
        for _ in 0..turns {
            if !self.machine.poll_transmit().pending {
                return self.flush_writer(cx);
            }
            let Some(writer) = &mut self.writer else { return Ok(Flushed::Done) };
            let mut slices = [IoSlice::new(&[]); MAX_SLICES];
            let count = self.machine.slices(&mut slices);
            let written = match &slices[..count] {
                // The plain call is the cheaper one for a single slice.
                [slice] => Pin::new(writer).poll_write(cx, slice),
                slices => Pin::new(writer).poll_write_vectored(cx, slices),
            };
            match written {
                Poll::Ready(Ok(0)) => return Err(io::ErrorKind::WriteZero.into()),
                Poll::Ready(Ok(written)) => {
                    self.machine.handle_written(written);
                    self.holds_bytes = true;
                }
                Poll::Ready(Err(error)) => return Err(error),
                Poll::Pending => return Ok(Flushed::Blocked),
            }
        }
        if self.machine.poll_transmit().pending { Ok(Flushed::More) } else { self.flush_writer(cx) }
    }

    /// Has the connection send what it may have kept back: one that encrypts may have taken more than its socket did.
    fn flush_writer(&mut self, cx: &mut Context<'_>) -> io::Result<Flushed> {
        let Some(writer) = self.writer.as_mut().filter(|_| self.holds_bytes) else {
            return Ok(Flushed::Done);
        };
        match Pin::new(writer).poll_flush(cx)? {
            Poll::Ready(()) => {
                self.holds_bytes = false;
                Ok(Flushed::Done)
            }
            Poll::Pending => Ok(Flushed::Blocked),
        }
    }

    /// After values were accepted: a write by the sending task when much waits; whom to wake.
    #[inline]
    pub(super) fn after_append(&mut self, values: usize, bytes: usize) -> Option<Waker> {
        self.unflushed_values += values;
        self.unflushed_bytes += bytes;
        let quarter = self.machine.config().capacity.get() / 4;
        if (self.unflushed_bytes >= FLUSH_BYTES || self.unflushed_values >= quarter.max(16))
            && self.writer.is_some()
        {
            return self.flush_from_sender();
        }
        self.driver.take()
    }

    #[cold]
    fn flush_from_sender(&mut self) -> Option<Waker> {
        match self.flush(&mut Context::from_waker(Waker::noop()), 1) {
            Ok(Flushed::Done) => None,
            // The waker that the socket knows now is nobody's: the driver registers its own again.
            Ok(Flushed::Blocked | Flushed::More) => self.driver.take(),
            Err(_) => {
                self.broken = true;
                self.driver.take()
            }
        }
    }
}

/// How far a flush came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flushed {
    /// The socket takes no more; it wakes the task that flushed.
    Blocked,
    /// Everything is written.
    Done,
    /// There is more to write, in another turn.
    More,
}

/// Marks the thread that encodes, for as long as it lives.
pub(super) struct Encoding<'a>(&'a AtomicUsize);

impl<'a> Encoding<'a> {
    #[inline]
    pub(super) fn begin(shared: &'a Shared) -> Self {
        // Only this thread can read its own mark back, so no ordering is needed.
        shared.encoding.store(thread_mark(), Ordering::Relaxed);
        Self(&shared.encoding)
    }
}

impl Drop for Encoding<'_> {
    #[inline]
    fn drop(&mut self) {
        self.0.store(0, Ordering::Relaxed);
    }
}

#[inline]
fn thread_mark() -> usize {
    thread_local!(static MARK: u8 = const { 0 });
    MARK.with(|mark| std::ptr::from_ref(mark).addr())
}

impl State {
    /// Wakes this task when anything is released or the link ends.
    pub(super) fn watch(&mut self, cx: &Context<'_>) {
        if !self.watchers.iter().any(|waker| waker.will_wake(cx.waker())) {
            self.watchers.push(cx.waker().clone());
        }
    }
}
