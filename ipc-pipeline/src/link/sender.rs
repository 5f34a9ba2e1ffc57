//! Sending handles: reserve, encode in place, be accepted.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    future::poll_fn,
    io::{self, IoSlice},
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Waker},
};

use futures_sink::Sink;
use ipc_transport::{EncodeError, Encoder, WriteHalf};
use tokio::{io::AsyncWrite, sync::watch};

use super::{LinkConfig, LostReason, Room, Status};
use crate::{
    FullPolicy, SendError, SendErrorReason, TrySendError,
    protocol::{AppendError, End, Outgoing, OutgoingCounters, SessionId},
};

/// From this many waiting bytes on the sending task attempts one write itself.
const FLUSH_BYTES: usize = 64 * 1024;

/// Values pulled from an iterator before the lock is taken.
const BATCH: usize = 256;

/// Slices of one vectored write.
const MAX_SLICES: usize = 32;

/// What the handles, the owner and the driver of a sending end share.
pub(super) struct Shared {
    state: Mutex<State>,
    /// The thread that is encoding under the lock, to recognise a nested send; 0 if none.
    encoding: AtomicUsize,
    pub(super) status: watch::Sender<Status>,
    pub(super) room: watch::Sender<Room>,
    pub(super) config: LinkConfig,
}

pub(super) struct State {
    pub(super) machine: Outgoing,
    pub(super) writer: Option<WriteHalf>,
    /// The driver's waker, taken when it is woken and put back when it runs.
    pub(super) driver: Option<Waker>,
    waiters: Waiters,
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
    full: bool,
}

/// Tasks that wait for a permit, first come, first served.
#[derive(Default)]
struct Waiters {
    waiting: BTreeMap<u64, Waker>,
    granted: BTreeSet<u64>,
    next: u64,
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
                full: false,
            }),
            encoding: AtomicUsize::new(0),
            status: watch::Sender::new(Status::Closed),
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

    /// A reserved unit is not needed.
    fn give_back(&self) {
        let mut state = self.lock();
        state.machine.unreserve();
        let wakers = self.settle(&mut state);
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
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

    fn note_full(&self, state: &mut State) {
        if !state.full {
            state.full = true;
            self.room.send_modify(|room| room.full = true);
        }
    }
}

impl State {
    /// Why no value is accepted now, if so.
    fn refusal(&self) -> Option<SendErrorReason> {
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
        if self.strict && !self.machine.is_live() {
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
                return Ok(Flushed::Done);
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
                Poll::Ready(Ok(written)) => self.machine.handle_written(written),
                Poll::Ready(Err(error)) => return Err(error),
                Poll::Pending => return Ok(Flushed::Blocked),
            }
        }
        if self.machine.poll_transmit().pending { Ok(Flushed::More) } else { Ok(Flushed::Done) }
    }

    /// After values were accepted: a write by the sending task when much waits; whom to wake.
    #[inline]
    fn after_append(&mut self, values: usize, bytes: usize) -> Option<Waker> {
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
struct Encoding<'a>(&'a AtomicUsize);

impl<'a> Encoding<'a> {
    #[inline]
    fn begin(shared: &'a Shared) -> Self {
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

/// A sending handle of a link; clones send into the same link, in the order in which their sends are accepted.
pub struct Sender<T> {
    pub(super) shared: Arc<Shared>,
    encoder: Arc<dyn Encoder<T>>,
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        Self { shared: self.shared.clone(), encoder: self.encoder.clone() }
    }
}

impl<T> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender")
            .field("pending", &self.shared.lock().machine.pending())
            .finish_non_exhaustive()
    }
}

impl<T: 'static> Sender<T> {
    pub(super) fn new(shared: Arc<Shared>, encoder: Arc<dyn Encoder<T>>) -> Self {
        Self { shared, encoder }
    }

    /// Sends a value: waits for room, encodes it, and returns when it is *accepted*.
    ///
    /// An accepted value is kept until the receiver releases it, over any number of connections.
    ///
    /// # Errors
    ///
    /// The value comes back when it does not encode, is too large, or the link is closed, paused, refused, or full
    /// under [`FullPolicy::Fail`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future while it waits drops the value, which was not accepted. To keep the value, wait with
    /// [`reserve`](Self::reserve).
    pub fn send(&self, value: T) -> Sending<'_, T> {
        Sending { sender: self, value: Some(value), waiting: Waiting { shared: &self.shared, ticket: None } }
    }

    /// Sends a value if there is room now.
    ///
    /// # Errors
    ///
    /// [`TrySendError::Full`] when there is none, or others wait for it already; otherwise as [`send`](Self::send).
    pub fn try_send(&self, value: T) -> Result<(), TrySendError<T>> {
        match self.try_accept(&value) {
            Ok(true) => Ok(()),
            Ok(false) => Err(TrySendError::Full(value)),
            Err(reason) => Err(TrySendError::Failed(SendError::new(value, reason))),
        }
    }

    /// Waits for room for one value and keeps it until the permit is used or dropped.
    ///
    /// Permits are granted while values and permits are below the capacity and retained bytes below the byte bound.
    /// The bound is not checked after encoding: the overshoot is at most one value for each outstanding permit.
    /// Waiting tasks are served in order.
    ///
    /// # Errors
    ///
    /// The reason, when the link accepts no values.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives up the place in the queue; nothing else is at risk.
    pub async fn reserve(&self) -> Result<Permit<'_, T>, SendErrorReason> {
        let mut waiting = Waiting { shared: &self.shared, ticket: None };
        poll_fn(|cx| waiting.poll(cx)).await?;
        waiting.ticket = None;
        Ok(Permit { sender: self })
    }

    /// Sends many values, in order, with one lock and one wake-up per batch; waits whenever there is no room.
    ///
    /// Returns how many were accepted: all of them, or those not dropped by a policy.
    ///
    /// # Errors
    ///
    /// The values that were taken from the iterator and not accepted come back; the iterator keeps the rest when it
    /// is passed as `&mut iter`.
    ///
    /// # Cancel safety
    ///
    /// Values accepted before the drop stay accepted; at most 256 that were taken from the iterator are dropped.
    pub async fn send_many<I>(&self, values: I) -> Result<usize, SendManyError<T>>
    where
        I: IntoIterator<Item = T>,
    {
        let mut values = values.into_iter();
        let mut accepted = 0;
        // Filled outside the lock, as the iterator is the user's; reversed, so that `pop` gives the next one.
        let mut batch = Vec::new();
        loop {
            if batch.is_empty() {
                batch.extend(values.by_ref().take(BATCH));
                if batch.is_empty() {
                    return Ok(accepted);
                }
                batch.reverse();
            }
            let before = batch.len();
            match self.accept_batch(&mut batch) {
                Ok(()) => accepted += before - batch.len(),
                Err(reason) => {
                    accepted += before - batch.len();
                    batch.reverse();
                    return Err(SendManyError { accepted, values: batch, reason });
                }
            }
            if batch.is_empty() {
                continue;
            }
            match self.reserve().await {
                // The unit goes straight back and is taken again with the whole batch.
                Ok(permit) => drop(permit),
                Err(reason) => {
                    batch.reverse();
                    return Err(SendManyError { accepted, values: batch, reason });
                }
            }
        }
    }

    /// Waits until everything accepted so far is released.
    ///
    /// # Errors
    ///
    /// [`SendErrorReason::PeerClosed`] or [`SendErrorReason::Refused`]; a lost connection is waited out.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future changes nothing.
    pub async fn settled(&self) -> Result<(), SendErrorReason> {
        let number = self.shared.lock().machine.last_number();
        poll_fn(|cx| {
            let mut state = self.shared.lock();
            if state.machine.is_released(number) {
                return Poll::Ready(Ok(()));
            }
            match state.machine.end() {
                Some(End::PeerClosed) => return Poll::Ready(Err(SendErrorReason::PeerClosed)),
                Some(End::Refused(_)) => return Poll::Ready(Err(SendErrorReason::Refused)),
                Some(_) => return Poll::Ready(Err(SendErrorReason::Closed)),
                None if state.stopped => return Poll::Ready(Err(SendErrorReason::Closed)),
                None => {}
            }
            state.watch(cx);
            state.machine.wait_for_release();
            let driver = state.driver.take();
            drop(state);
            if let Some(waker) = driver {
                waker.wake();
            }
            Poll::Pending
        })
        .await
    }

    /// Values accepted, not released and not dropped: unsent, in flight, or untaken at the receiver.
    pub fn pending(&self) -> usize {
        self.shared.lock().machine.pending()
    }

    /// The most that [`pending`](Self::pending) can be.
    pub fn capacity(&self) -> usize {
        self.shared.config.capacity.get()
    }

    /// Counts since the link was made.
    pub fn counters(&self) -> OutgoingCounters {
        self.shared.lock().machine.counters()
    }

    /// The link's status, to look at or to watch.
    pub fn status(&self) -> watch::Receiver<Status> {
        self.shared.status.subscribe()
    }

    /// Whether the link is full, to look at or to watch: one notification per change.
    pub fn room(&self) -> watch::Receiver<Room> {
        self.shared.room.subscribe()
    }

    /// A [`Sink`] for combinators; its `flush` means *handed to the link* and never waits for the peer.
    pub fn into_sink(self) -> LinkSink<T> {
        LinkSink { sender: self, ticket: None, reserved: false }
    }

    /// Drops the current connection, if there is one; the link dials again and resumes. For tests and operators.
    pub fn cut(&self) {
        self.shared.command(|state| state.cut = true);
    }

    /// Accepts the value, or lets a policy drop it, and returns `true`; `false` when it has to wait.
    #[inline]
    fn try_accept(&self, value: &T) -> Result<bool, SendErrorReason> {
        if self.is_encoding_here() {
            return Err(SendErrorReason::Reentrant);
        }
        // Declared before the lock is taken, so that it gives back after the lock is free.
        let mut unused = UnusedUnit { shared: &self.shared, armed: false };
        let mut state = self.shared.lock();
        if let Some(reason) = state.refusal() {
            return Err(reason);
        }
        if !(state.waiters.waiting.is_empty() && state.machine.reserve()) {
            match self.full(&mut state) {
                OnFull::Dropped => return Ok(true),
                OnFull::Fail => return Err(SendErrorReason::Full),
                OnFull::Reserved => {}
                OnFull::Wait => return Ok(false),
            }
        }
        unused.armed = true;
        let (result, waker) = self.append(&mut state, value);
        unused.armed = result.is_err();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
        result.map(|()| true)
    }

    /// Encodes under a reserved unit, which stays reserved on failure.
    #[inline]
    fn append(&self, state: &mut State, value: &T) -> (Result<(), SendErrorReason>, Option<Waker>) {
        let before = state.machine.pending_bytes();
        let outcome = {
            let _encoding = Encoding::begin(&self.shared);
            state.machine.append(|out| self.encoder.encode(value, out))
        };
        match outcome {
            Ok(_) => {
                let bytes = state.machine.pending_bytes() - before;
                (Ok(()), state.after_append(1, bytes))
            }
            Err(error) => (Err(reason_of(error)), None),
        }
    }

    /// Accepts values from the end of `batch` while there is room.
    fn accept_batch(&self, batch: &mut Vec<T>) -> Result<(), SendErrorReason> {
        if self.is_encoding_here() {
            return Err(SendErrorReason::Reentrant);
        }
        let mut reserved = UnusedUnit { shared: &self.shared, armed: false };
        let mut state = self.shared.lock();
        let mut accepted = 0;
        let before = state.machine.pending_bytes();
        let mut outcome = state.refusal().map_or(Ok(()), Err);
        while outcome.is_ok()
            && let Some(value) = batch.last()
        {
            if !(state.waiters.waiting.is_empty() && state.machine.reserve()) {
                match self.full(&mut state) {
                    OnFull::Dropped => {
                        batch.pop();
                        continue;
                    }
                    OnFull::Fail => {
                        outcome = Err(SendErrorReason::Full);
                        break;
                    }
                    OnFull::Reserved => {}
                    OnFull::Wait => break,
                }
            }
            // A panic in the user's encoding must not leave the unit reserved.
            reserved.armed = true;
            let appended = {
                let _encoding = Encoding::begin(&self.shared);
                state.machine.append(|out| self.encoder.encode(value, out))
            };
            reserved.armed = false;
            match appended {
                Ok(_) => {
                    batch.pop();
                    accepted += 1;
                }
                Err(error) => {
                    state.machine.unreserve();
                    outcome = Err(reason_of(error));
                }
            }
        }
        let bytes = state.machine.pending_bytes().saturating_sub(before);
        let waker = if accepted > 0 { state.after_append(accepted, bytes) } else { None };
        drop(state);
        drop(reserved);
        if let Some(waker) = waker {
            waker.wake();
        }
        outcome
    }

    #[cold]
    fn full(&self, state: &mut State) -> OnFull {
        self.shared.note_full(state);
        match self.shared.config.policy {
            FullPolicy::DropNewest => {
                state.machine.drop_newest();
                OnFull::Dropped
            }
            FullPolicy::DropOldest => {
                if state.machine.drop_oldest() && state.machine.reserve() {
                    return OnFull::Reserved;
                }
                state.machine.drop_newest();
                OnFull::Dropped
            }
            FullPolicy::Fail => OnFull::Fail,
            _ => OnFull::Wait,
        }
    }

    fn is_encoding_here(&self) -> bool {
        self.shared.encoding.load(Ordering::Relaxed) == thread_mark()
    }
}

enum OnFull {
    Dropped,
    Fail,
    Reserved,
    Wait,
}

fn reason_of(error: AppendError) -> SendErrorReason {
    match error {
        AppendError::Encode(EncodeError::TooLarge { len, max }) => SendErrorReason::TooLarge { len, max },
        AppendError::Encode(error) => SendErrorReason::Encode(error),
        AppendError::Ended => SendErrorReason::Closed,
    }
}

/// Gives a reserved unit back if a failure or a panic leaves it unused.
struct UnusedUnit<'a> {
    shared: &'a Shared,
    armed: bool,
}

impl Drop for UnusedUnit<'_> {
    #[inline]
    fn drop(&mut self) {
        if self.armed {
            self.shared.give_back();
        }
    }
}

/// The future of [`Sender::send`].
///
/// It is written by hand: the value stays in one place until it is encoded, which a state machine of the compiler
/// would move it through.
#[must_use = "futures do nothing unless polled"]
pub struct Sending<'a, T> {
    sender: &'a Sender<T>,
    value: Option<T>,
    waiting: Waiting<'a>,
}

impl<T> Unpin for Sending<'_, T> {}

impl<T: 'static> Future for Sending<'_, T> {
    type Output = Result<(), SendError<T>>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        let value = this.value.as_ref().expect("polled after completion");
        if this.waiting.ticket.is_none() {
            match this.sender.try_accept(value) {
                Ok(true) => {
                    this.value = None;
                    return Poll::Ready(Ok(()));
                }
                Ok(false) => {}
                Err(reason) => return this.fail(reason),
            }
        }
        this.poll_waiting(cx)
    }
}

impl<T: 'static> Sending<'_, T> {
    #[cold]
    fn poll_waiting(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), SendError<T>>> {
        match self.waiting.poll(cx) {
            Poll::Ready(Ok(())) => {
                let value = self.value.take().expect("it is there until the future completes");
                Poll::Ready(Permit { sender: self.sender }.send(value))
            }
            Poll::Ready(Err(reason)) => self.fail(reason),
            Poll::Pending => Poll::Pending,
        }
    }

    #[cold]
    fn fail(&mut self, reason: SendErrorReason) -> Poll<Result<(), SendError<T>>> {
        let value = self.value.take().expect("it is there until the future completes");
        Poll::Ready(Err(SendError::new(value, reason)))
    }
}

impl<T> fmt::Debug for Sending<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sending")
    }
}

/// A place in the queue for permits.
struct Waiting<'a> {
    shared: &'a Shared,
    ticket: Option<u64>,
}

impl Waiting<'_> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), SendErrorReason>> {
        let shared = self.shared;
        let mut guard = shared.lock();
        let state = &mut *guard;
        if let Some(ticket) = self.ticket
            && state.waiters.granted.remove(&ticket)
        {
            self.ticket = None;
            return Poll::Ready(Ok(()));
        }
        if let Some(reason) = state.refusal() {
            if let Some(ticket) = self.ticket.take() {
                state.waiters.waiting.remove(&ticket);
            }
            return Poll::Ready(Err(reason));
        }
        let first =
            state.waiters.waiting.first_key_value().is_none_or(|(first, _)| self.ticket == Some(*first));
        if first && state.machine.reserve() {
            if let Some(ticket) = self.ticket.take() {
                state.waiters.waiting.remove(&ticket);
            }
            return Poll::Ready(Ok(()));
        }
        match shared.config.policy {
            FullPolicy::Fail => return Poll::Ready(Err(SendErrorReason::Full)),
            FullPolicy::DropOldest if state.machine.drop_oldest() && state.machine.reserve() => {
                return Poll::Ready(Ok(()));
            }
            _ => {}
        }
        let ticket = *self.ticket.get_or_insert_with(|| {
            state.waiters.next += 1;
            state.waiters.next
        });
        state.waiters.waiting.insert(ticket, cx.waker().clone());
        shared.note_full(state);
        state.machine.set_held_up(true);
        let driver = state.driver.take();
        drop(guard);
        if let Some(waker) = driver {
            waker.wake();
        }
        Poll::Pending
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let Some(ticket) = self.ticket.take() else { return };
        let mut state = self.shared.lock();
        state.waiters.waiting.remove(&ticket);
        if state.waiters.granted.remove(&ticket) {
            state.machine.unreserve();
        }
        let wakers = self.shared.settle(&mut state);
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
    }
}

impl State {
    /// Wakes this task when anything is released or the link ends.
    pub(super) fn watch(&mut self, cx: &Context<'_>) {
        if !self.watchers.iter().any(|waker| waker.will_wake(cx.waker())) {
            self.watchers.push(cx.waker().clone());
        }
    }
}

/// Room for one value, granted by [`Sender::reserve`]; capacity is reserved, not a position.
#[must_use = "dropping the permit gives the room back"]
pub struct Permit<'a, T> {
    sender: &'a Sender<T>,
}

impl<T: 'static> Permit<'_, T> {
    /// Encodes and accepts a value at once, without waiting.
    ///
    /// # Errors
    ///
    /// The value comes back when it does not encode, is too large, or the link has ended; the room is given back.
    pub fn send(self, value: T) -> Result<(), SendError<T>> {
        if self.sender.is_encoding_here() {
            return Err(SendError::new(value, SendErrorReason::Reentrant));
        }
        let mut state = self.sender.shared.lock();
        if let Some(reason) = state.refusal() {
            drop(state);
            return Err(SendError::new(value, reason));
        }
        let (result, waker) = self.sender.append(&mut state, &value);
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
        match result {
            Ok(()) => {
                // The value has used the unit up.
                std::mem::forget(self);
                Ok(())
            }
            Err(reason) => Err(SendError::new(value, reason)),
        }
    }
}

impl<T> Drop for Permit<'_, T> {
    fn drop(&mut self) {
        self.sender.shared.give_back();
    }
}

impl<T> fmt::Debug for Permit<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Permit")
    }
}

/// Values that [`Sender::send_many`] took from its iterator and could not send, and why; `Debug` hides them.
#[derive(thiserror::Error)]
#[error("sending stopped after {accepted} values")]
pub struct SendManyError<T> {
    /// How many were accepted before.
    pub accepted: usize,
    /// The values taken from the iterator and not accepted, in order.
    pub values: Vec<T>,
    /// Why the first of them was not accepted.
    #[source]
    pub reason: SendErrorReason,
}

impl<T> fmt::Debug for SendManyError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SendManyError")
            .field("accepted", &self.accepted)
            .field("values", &self.values.len())
            .field("reason", &self.reason)
            .finish()
    }
}

/// A [`Sink`] over a [`Sender`]: `poll_ready` waits for room, `start_send` encodes and accepts.
pub struct LinkSink<T> {
    sender: Sender<T>,
    ticket: Option<u64>,
    reserved: bool,
}

impl<T> LinkSink<T> {
    /// The sender back.
    pub fn sender(&self) -> &Sender<T> {
        &self.sender
    }
}

impl<T> fmt::Debug for LinkSink<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LinkSink").field("sender", &self.sender).finish_non_exhaustive()
    }
}

impl<T: 'static> Sink<T> for LinkSink<T> {
    type Error = SendErrorReason;

    fn poll_ready(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), SendErrorReason>> {
        let this = self.get_mut();
        if this.reserved {
            return Poll::Ready(Ok(()));
        }
        let mut waiting = Waiting { shared: &this.sender.shared, ticket: this.ticket.take() };
        let outcome = waiting.poll(cx);
        this.ticket = waiting.ticket.take();
        this.reserved = matches!(outcome, Poll::Ready(Ok(())));
        outcome
    }

    fn start_send(self: Pin<&mut Self>, value: T) -> Result<(), SendErrorReason> {
        let this = self.get_mut();
        assert!(std::mem::take(&mut this.reserved), "start_send without poll_ready");
        Permit { sender: &this.sender }.send(value).map_err(|error| error.into_parts().1)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), SendErrorReason>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), SendErrorReason>> {
        Poll::Ready(Ok(()))
    }
}

impl<T> Drop for LinkSink<T> {
    fn drop(&mut self) {
        if self.reserved {
            self.sender.shared.give_back();
        }
        drop(Waiting { shared: &self.sender.shared, ticket: self.ticket.take() });
    }
}

impl From<LostReason> for Status {
    fn from(reason: LostReason) -> Self {
        Self::Lost(reason)
    }
}
