//! Sending handles: reserve, encode in place, be accepted.

use std::{
    fmt,
    future::poll_fn,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use ipc_transport::{EncodeError, Encoder};
use tokio::sync::watch;

use super::{
    AttemptError, LinkSink, Permit, Room, Status,
    permit::{UnusedUnit, Waiting},
    shared::{Encoding, Shared, State},
};
use crate::{
    FullPolicy, SendError, SendErrorReason, TrySendError,
    blocking::block_on,
    protocol::{AppendError, End, OutgoingCounters},
};

/// Values pulled from an iterator before the lock is taken.
const BATCH: usize = 256;

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
    /// The value comes back when it does not encode, is too large, or the link is closed, paused, refused, full under
    /// [`FullPolicy::Fail`], or without the runtime that it was connected in.
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
    /// Returns how many were accepted, those that a policy dropped included.
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
                // The unit is used, as whoever waits behind would take it, and this one would wait for ever.
                Ok(permit) => {
                    let value = batch.pop().expect("it was looked at above");
                    match permit.send(value) {
                        Ok(()) => accepted += 1,
                        Err(error) => {
                            let (value, reason) = error.into_parts();
                            batch.push(value);
                            batch.reverse();
                            return Err(SendManyError { accepted, values: batch, reason });
                        }
                    }
                }
                Err(reason) => {
                    batch.reverse();
                    return Err(SendManyError { accepted, values: batch, reason });
                }
            }
        }
    }

    /// Sends a value and lets the thread wait, by the policy, for threads without a runtime.
    ///
    /// Not to be called where async tasks run: the thread may be the one that would make room.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send).
    pub fn blocking_send(&self, value: T) -> Result<(), SendError<T>> {
        match block_on(self.send(value), None) {
            Some(outcome) => outcome,
            None => unreachable!("without a deadline it ends with an outcome"),
        }
    }

    /// As [`blocking_send`](Self::blocking_send), and waits this long at most.
    ///
    /// # Errors
    ///
    /// [`SendErrorReason::TimedOut`] when there was no room in that time; otherwise as [`send`](Self::send).
    pub fn blocking_send_timeout(&self, value: T, timeout: Duration) -> Result<(), SendError<T>> {
        let mut sending = self.send(value);
        // A deadline beyond what the clock can tell is none.
        match block_on(&mut sending, Instant::now().checked_add(timeout)) {
            Some(outcome) => outcome,
            None => {
                let value = sending.value.take().expect("a send that waits has its value");
                Err(SendError::new(value, SendErrorReason::TimedOut))
            }
        }
    }

    /// Waits until everything accepted so far is released.
    ///
    /// # Errors
    ///
    /// [`SendErrorReason::PeerClosed`] or [`SendErrorReason::Refused`]; a lost connection is waited out.
    /// [`SendErrorReason::NotConnected`] when the runtime that the link was connected in is gone.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future changes nothing.
    pub async fn settled(&self) -> Result<(), SendErrorReason> {
        let number = self.shared.lock().machine.last_number();
        let mut asked = false;
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
                None if state.abandoned => return Poll::Ready(Err(SendErrorReason::NotConnected)),
                None => {}
            }
            state.watch(cx);
            if std::mem::replace(&mut asked, true) {
                return Poll::Pending;
            }
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

    /// As [`settled`](Self::settled), and lets the thread wait, for threads without a runtime.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn blocking_settled(&self) -> Result<(), SendErrorReason> {
        match block_on(self.settled(), None) {
            Some(outcome) => outcome,
            None => unreachable!("without a deadline it ends with an outcome"),
        }
    }

    /// Values accepted, not released and not dropped: unsent, in flight, or untaken at the receiver.
    ///
    /// Like [`counters`](Self::counters) and [`settled`](Self::settled) it must not be called while a value of the same
    /// link is being encoded, from inside its `Serialize`: it would wait for itself.
    pub fn pending(&self) -> usize {
        self.shared.lock().machine.pending()
    }

    /// Whether no value will be accepted any more: this end or the receiving one was closed, or the link given up.
    ///
    /// A refusal does not count, as another connect may end it.
    pub fn is_closed(&self) -> bool {
        let state = self.shared.lock();
        let ended = matches!(state.machine.end(), Some(End::Aborted(_) | End::Finished | End::PeerClosed));
        ended || state.stopped || state.closing
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

    /// Why the last attempt to connect came to nothing, to look at or to watch: one notification for each that did.
    ///
    /// `None` before the first attempt, while the receiving end is reached, be it parked, and after another order to
    /// connect. An attempt is made again by itself, so an error may pass, or may be one that only somebody who reads it
    /// can mend. A final refusal is in the status alone.
    pub fn last_error(&self) -> watch::Receiver<Option<AttemptError>> {
        self.shared.last_error.subscribe()
    }

    /// Whether the link is full, to look at or to watch: one notification per change.
    pub fn room(&self) -> watch::Receiver<Room> {
        self.shared.room.subscribe()
    }

    /// The same handle as a [`Sink`](futures_sink::Sink); its `flush` means *handed to the link* and never waits for the peer.
    pub fn into_sink(self) -> LinkSink<T> {
        LinkSink::new(self)
    }

    /// Drops the current connection, if there is one; the link dials again and resumes. For tests and operators.
    pub fn cut(&self) {
        self.shared.command(|state| state.cut = true);
    }

    /// Accepts the value, or lets a policy drop it, and returns `true`; `false` when it has to wait.
    #[inline]
    fn try_accept(&self, value: &T) -> Result<bool, SendErrorReason> {
        if self.shared.is_encoding_here() {
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
    pub(super) fn append(
        &self,
        state: &mut State,
        value: &T,
    ) -> (Result<(), SendErrorReason>, Option<Waker>) {
        let before = state.machine.pending_bytes();
        let outcome = {
            let _encoding = Encoding::begin(&self.shared);
            state.machine.append(|out| self.encoder.encode(value, out))
        };
        self.shared.repay(state);
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
        if self.shared.is_encoding_here() {
            return Err(SendErrorReason::Reentrant);
        }
        let mut reserved = UnusedUnit { shared: &self.shared, armed: false };
        let mut state = self.shared.lock();
        let encoding = Encoding::begin(&self.shared);
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
            let appended = state.machine.append(|out| self.encoder.encode(value, out));
            reserved.armed = false;
            self.shared.repay(&mut state);
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
        // Before the lock is free, as the next thread to encode sets its own mark.
        drop(encoding);
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
                // More than one where the byte bound asks for it.
                while state.machine.drop_oldest() {
                    if state.machine.reserve() {
                        return OnFull::Reserved;
                    }
                }
                state.machine.drop_newest();
                OnFull::Dropped
            }
            FullPolicy::Fail => OnFull::Fail,
            _ => OnFull::Wait,
        }
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
