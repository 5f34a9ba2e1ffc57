//! The sending handle.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use super::{FullPolicy, Permit, Queue, QueueCounters, QueueEvents, QueueSink};
use crate::{SendError, SendErrorReason, TrySendError, blocking::block_on, signal::Key, sync::Arc};

/// Puts values into a queue. Any number of clones and threads may use it at once.
///
/// Values of one sending task or thread come out in the order in which it sent them. The queue closes when the last
/// `Sender` is dropped; what was accepted can still be taken.
///
/// *Cancel safe* means here: a future that is dropped before it is ready has accepted nothing, and holds no place in
/// the queue and none in the order of those who wait.
///
/// A value that was sent belongs to the receiver:
/// ```compile_fail,E0382
/// # async fn example(sender: ipc_pipeline::Sender<String>) {
/// let value = String::from("mine");
/// sender.send(value).await.ok();
/// println!("{value}"); // P-17: borrow of moved value
/// # }
/// ```
pub struct Sender<T> {
    queue: Arc<Queue<T>>,
}

impl<T> Sender<T> {
    pub(super) fn new(queue: Arc<Queue<T>>) -> Self {
        Self { queue }
    }

    /// Sends a value; when the queue is full it does what the [`FullPolicy`] says, which is to wait by default.
    ///
    /// Those who wait get room in the order in which they came.
    ///
    /// # Errors
    /// `Closed` when the queue is closed or no receiver is left, `Full` under [`FullPolicy::Fail`]. The value comes
    /// back.
    ///
    /// # Cancel safety
    /// Cancel safe. A dropped future has not sent its value, which is dropped with it; [`Sender::reserve`] waits
    /// without putting a value at risk.
    #[inline]
    pub fn send(&self, value: T) -> Sending<'_, T> {
        Sending { queue: &self.queue, value: Some(value), key: None, weight: 0 }
    }

    /// Sends a value without waiting.
    ///
    /// # Errors
    /// `Full` when there is no room or others wait for it, unless the policy drops; otherwise as [`Sender::send`].
    /// The value comes back.
    #[inline]
    pub fn try_send(&self, value: T) -> Result<(), TrySendError<T>> {
        match self.queue.ring.try_push(value) {
            Ok(pushed) => {
                self.queue.pushed(pushed, 1);
                Ok(())
            }
            Err(value) => self.queue.attempt(value),
        }
    }

    /// Waits for room and sets it aside.
    ///
    /// A permit reserves capacity, not a position: the value's place in the order is that of [`Permit::send`]. Under
    /// [`FullPolicy::DropOldest`] it makes room by dropping; under [`FullPolicy::DropNewest`] it waits.
    ///
    /// # Errors
    /// As [`Sender::send`], without a value.
    ///
    /// # Cancel safety
    /// Cancel safe.
    #[inline]
    pub async fn reserve(&self) -> Result<Permit<'_, T>, SendErrorReason> {
        if !self.queue.ring.try_reserve() {
            self.acquire(0).await?;
        }
        Ok(Permit::new(&self.queue))
    }

    /// Sends all values of an iterator; room is claimed once per batch of up to 128 values, not once per value.
    ///
    /// The iterator is never advanced under a lock, and no value is pulled from it before there is room for it. An
    /// iterator that cannot tell its end by `size_hint` may therefore wait for room once more than needed. Pass
    /// `&mut iterator` to keep the rest after an error or a cancellation. Returns how many values were accepted, those
    /// that the policy dropped included.
    ///
    /// # Errors
    /// As [`Sender::send`]; the values that come back are those that were pulled and not accepted.
    ///
    /// # Cancel safety
    /// Cancel safe: every value that was pulled has been accepted, the others are still in the iterator.
    pub async fn send_many<I>(&self, values: I) -> Result<usize, SendError<Vec<T>>>
    where
        I: IntoIterator<Item = T>,
    {
        let mut values = values.into_iter();
        let mut sent = 0;
        let mut batch = Vec::new();
        while values.size_hint().1 != Some(0) {
            if self.queue.rules.policy != FullPolicy::Wait {
                // The policy decides at each value; none of these waits.
                let Some(value) = values.next() else { break };
                self.try_send(value).map_err(|error| SendError::from(error).map(|value| vec![value]))?;
                sent += 1;
                continue;
            }
            let mut places = self.queue.ring.try_reserve_many(BATCH);
            if places == 0 {
                self.acquire(0).await.map_err(|reason| SendError::new(Vec::new(), reason))?;
                places = 1;
            }
            let count = self.send_batch(&mut values, &mut batch, places)?;
            sent += count;
            if count < places {
                break;
            }
        }
        Ok(sent)
    }

    /// Sends a value and lets the thread wait, by the policy. Not to be called where async tasks run.
    ///
    /// # Errors
    /// As [`Sender::send`].
    pub fn blocking_send(&self, value: T) -> Result<(), SendError<T>> {
        match block_on(self.send(value), None) {
            Some(outcome) => outcome,
            None => unreachable!("without a deadline it ends with an outcome"),
        }
    }

    /// As [`Sender::blocking_send`], and waits this long at most.
    ///
    /// # Errors
    /// `TimedOut` when there was no room in that time; otherwise as [`Sender::send`].
    pub fn blocking_send_timeout(&self, value: T, timeout: Duration) -> Result<(), SendError<T>> {
        let value = match self.try_send(value) {
            Ok(()) => return Ok(()),
            Err(TrySendError::Failed(error)) => return Err(error),
            Err(TrySendError::Full(value)) => value,
        };
        let weight = self.queue.rules.weigh(&value);
        // A deadline beyond what the clock can tell is none.
        match block_on(self.acquire(weight), Instant::now().checked_add(timeout)) {
            Some(Ok(())) => self.queue.fill(value, weight),
            Some(Err(reason)) => Err(SendError::new(value, reason)),
            None => Err(SendError::new(value, SendErrorReason::TimedOut)),
        }
    }

    /// Closes the queue for all senders. Waiting sends get their value back; what was accepted can still be taken.
    pub fn close(&self) {
        self.queue.close();
    }

    /// Whether nothing can be sent any more.
    pub fn is_closed(&self) -> bool {
        self.queue.ring.is_closed()
    }

    /// How many values are in the queue, those being put in included.
    pub fn len(&self) -> usize {
        self.queue.ring.len()
    }

    /// Whether no value is in the queue.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many values the queue can hold.
    pub fn capacity(&self) -> usize {
        self.queue.ring.capacity()
    }

    /// What has passed through the queue so far.
    pub fn counters(&self) -> QueueCounters {
        self.queue.counters()
    }

    /// Reports of drops and watermarks from now on.
    pub fn events(&self) -> QueueEvents<T> {
        QueueEvents::new(Arc::clone(&self.queue))
    }

    /// The same handle as a `Sink`.
    pub fn into_sink(self) -> QueueSink<T> {
        QueueSink::new(self)
    }

    pub(super) fn queue(&self) -> &Arc<Queue<T>> {
        &self.queue
    }

    fn acquire(&self, weight: usize) -> Acquire<'_, T> {
        Acquire { queue: &self.queue, key: None, weight }
    }

    /// Fills places that were set aside for as long as the iterator yields; gives the others back, also on a panic.
    fn send_batch(
        &self,
        values: &mut impl Iterator<Item = T>,
        batch: &mut Vec<T>,
        places: usize,
    ) -> Result<usize, SendError<Vec<T>>> {
        let mut places = Places { queue: &self.queue, count: places };
        batch.extend(values.take(places.count));
        let count = batch.len();
        if count == 0 {
            return Ok(0);
        }
        if self.queue.rules.gated {
            let mut all = std::mem::take(batch).into_iter();
            while let Some(value) = all.next() {
                places.count -= 1;
                if let Err(error) = self.queue.fill(value, 0) {
                    return Err(error.map(|value| std::iter::once(value).chain(all).collect()));
                }
            }
            return Ok(count);
        }
        match self.queue.ring.push_reserved_many(batch) {
            Some(pushed) => {
                places.count -= count;
                self.queue.pushed(pushed, count);
                Ok(count)
            }
            None => Err(SendError::new(std::mem::take(batch), SendErrorReason::Closed)),
        }
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        self.queue.sender_added();
        Self { queue: Arc::clone(&self.queue) }
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        self.queue.sender_gone();
    }
}

impl<T> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender").field("queue", &self.queue.ring).finish()
    }
}

/// A value on its way into the queue, from [`Sender::send`]. Nothing happens before the first poll.
///
/// A named future instead of an `async fn`: the common case is one attempt, and it is to cost no state machine.
#[must_use = "a send does nothing until it is awaited"]
pub struct Sending<'a, T> {
    queue: &'a Queue<T>,
    /// `None` when it is done.
    value: Option<T>,
    key: Option<Key>,
    weight: usize,
}

impl<T> Sending<'_, T> {
    #[cold]
    fn poll_slowly(&mut self, context: &mut Context<'_>, value: T) -> Poll<Result<(), SendError<T>>> {
        let value = if self.key.is_some() {
            value
        } else {
            match self.queue.attempt(value) {
                Ok(()) => return Poll::Ready(Ok(())),
                Err(TrySendError::Full(value)) if self.queue.rules.policy == FullPolicy::Wait => value,
                Err(error) => return Poll::Ready(Err(error.into())),
            }
        };
        if self.key.is_none() {
            self.weight = self.queue.rules.weigh(&value);
        }
        match self.queue.poll_acquire(context, &mut self.key, self.weight) {
            Poll::Ready(Ok(())) => Poll::Ready(self.queue.fill(value, self.weight)),
            Poll::Ready(Err(reason)) => Poll::Ready(Err(SendError::new(value, reason))),
            Poll::Pending => {
                self.value = Some(value);
                Poll::Pending
            }
        }
    }
}

impl<T> Future for Sending<'_, T> {
    type Output = Result<(), SendError<T>>;

    #[inline]
    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        let Some(value) = this.value.take() else { polled_after_the_end() };
        if this.key.is_some() {
            return this.poll_slowly(context, value);
        }
        match this.queue.ring.try_push(value) {
            Ok(pushed) => {
                this.queue.pushed(pushed, 1);
                Poll::Ready(Ok(()))
            }
            Err(value) => this.poll_slowly(context, value),
        }
    }
}

// The value is moved, never pinned in place.
impl<T> Unpin for Sending<'_, T> {}

impl<T> Drop for Sending<'_, T> {
    #[inline]
    fn drop(&mut self) {
        if let Some(key) = self.key.take() {
            self.queue.cancel_acquire(key, self.weight);
        }
    }
}

impl<T> fmt::Debug for Sending<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sending").field("waiting", &self.key.is_some()).finish_non_exhaustive()
    }
}

#[cold]
fn polled_after_the_end() -> ! {
    panic!("a future was polled after it was ready");
}

/// Waits for one place; ready with `Ok` it owns nothing any more: the caller has the place.
struct Acquire<'a, T> {
    queue: &'a Queue<T>,
    key: Option<Key>,
    weight: usize,
}

impl<T> Future for Acquire<'_, T> {
    type Output = Result<(), SendErrorReason>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        this.queue.poll_acquire(context, &mut this.key, this.weight)
    }
}

impl<T> Drop for Acquire<'_, T> {
    fn drop(&mut self) {
        if let Some(key) = self.key.take() {
            self.queue.cancel_acquire(key, self.weight);
        }
    }
}

/// Places that were set aside and go back when this is dropped.
struct Places<'a, T> {
    queue: &'a Queue<T>,
    count: usize,
}

impl<T> Drop for Places<'_, T> {
    fn drop(&mut self) {
        self.queue.give_back(self.count);
    }
}

/// Values that one claim of `send_many` covers at most: enough to make its cost vanish, few enough to share room.
const BATCH: usize = 128;
