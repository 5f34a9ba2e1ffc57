//! The one receiver of a queue.

use std::{
    fmt,
    future::poll_fn,
    pin::Pin,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use futures_core::Stream;

use super::{FullPolicy, Queue, QueueCounters, QueueEvents, SharedReceiver, take::Take};
use crate::{
    Closed, TryRecvError,
    blocking::block_on,
    ring::{Consumer, Popped, SharedConsumer, TailWord},
    signal::Key,
    sync::Arc,
};

/// Takes values out of a queue, in the order in which they were put in. It has one owner.
///
/// Dropping it closes the queue and drops what is left in it, which is counted.
pub struct Receiver<T> {
    end: End<T>,
    key: Option<Key>,
}

impl<T> Receiver<T> {
    pub(super) fn new(queue: Arc<Queue<T>>, head: Head<T>) -> Self {
        Self { end: End { queue, head }, key: None }
    }

    /// Takes the next value; waits for one.
    ///
    /// # Errors
    /// [`Closed`] when the queue is closed and empty.
    ///
    /// # Cancel safety
    /// Cancel safe: a dropped future has taken nothing.
    #[inline]
    pub fn recv(&mut self) -> impl Future<Output = Result<T, Closed>> {
        poll_fn(|context| self.poll_recv(context))
    }

    /// As [`Receiver::recv`], for hand-written futures: the newest poll's waker is the one that is woken.
    #[inline]
    pub fn poll_recv(&mut self, context: &mut Context<'_>) -> Poll<Result<T, Closed>> {
        match self.end.queue.take(&mut self.end.head) {
            Some(value) if self.key.is_none() => Poll::Ready(Ok(value)),
            value => self.poll_slowly(context, value),
        }
    }

    /// Takes the next value if one is there.
    ///
    /// # Errors
    /// `Empty` when none is there, `Closed` when none will come either.
    #[inline]
    pub fn try_recv(&mut self) -> Result<T, TryRecvError> {
        match self.end.queue.take(&mut self.end.head) {
            Some(value) => Ok(value),
            None => self.end.queue.try_again(&mut self.end.head),
        }
    }

    /// Appends up to `max` values to `out`; waits until there is at least one. Returns how many came.
    ///
    /// It takes what is there with one step per run of 128 values, which is the fastest way to receive. With a `max`
    /// of zero it returns zero at once.
    ///
    /// # Errors
    /// [`Closed`] when the queue is closed and empty.
    ///
    /// # Cancel safety
    /// Cancel safe: a dropped future has taken nothing.
    #[inline]
    pub async fn recv_many(&mut self, out: &mut Vec<T>, max: usize) -> Result<usize, Closed> {
        let count = self.end.queue.take_many(&mut self.end.head, out, max);
        if count > 0 || max == 0 {
            return Ok(count);
        }
        let End { queue, head } = &mut self.end;
        let key = &mut self.key;
        poll_fn(|context| queue.poll_take(head, context, key, |queue, head| queue.take_some(head, out, max)))
            .await
    }

    /// Takes the next value and lets the thread wait for it. Not to be called where async tasks run.
    ///
    /// # Errors
    /// [`Closed`] when the queue is closed and empty.
    pub fn blocking_recv(&mut self) -> Result<T, Closed> {
        match block_on(self.recv(), None) {
            Some(outcome) => outcome,
            None => unreachable!("without a deadline it ends with an outcome"),
        }
    }

    /// As [`Receiver::blocking_recv`], and waits this long at most; `None` when nothing came in that time.
    ///
    /// # Errors
    /// [`Closed`] when the queue is closed and empty.
    pub fn blocking_recv_timeout(&mut self, timeout: Duration) -> Result<Option<T>, Closed> {
        // A deadline beyond what the clock can tell is none.
        block_on(self.recv(), Instant::now().checked_add(timeout)).transpose()
    }

    /// Closes the queue: senders get their values back, what was accepted can still be taken.
    pub fn close(&mut self) {
        self.end.queue.close();
    }

    /// Makes a receiver that can be cloned: each value goes to whichever clone comes first.
    pub fn into_shared(mut self) -> SharedReceiver<T> {
        self.forget_place();
        let queue = Arc::clone(&self.end.queue);
        queue.receiver_added();
        let consumer = match std::mem::replace(&mut self.end.head, Head::Gone) {
            Head::Many(consumer) => consumer,
            Head::One(consumer) => consumer.into_shared(),
            Head::Gone => unreachable!("only this function leaves it so, and it takes the receiver"),
        };
        SharedReceiver::new(queue, consumer)
    }

    /// Whether nothing can be sent any more; values may be left.
    pub fn is_closed(&self) -> bool {
        self.end.queue.ring.is_closed()
    }

    /// How many values are in the queue, those being put in included.
    pub fn len(&self) -> usize {
        self.end.queue.ring.len()
    }

    /// Whether no value is in the queue.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many values the queue can hold.
    pub fn capacity(&self) -> usize {
        self.end.queue.ring.capacity()
    }

    /// What has passed through the queue so far.
    pub fn counters(&self) -> QueueCounters {
        self.end.queue.counters()
    }

    /// Reports of drops and watermarks from now on.
    pub fn events(&self) -> QueueEvents<T> {
        QueueEvents::new(Arc::clone(&self.end.queue))
    }

    /// How many places in waiting lists this queue's futures hold at the moment.
    #[doc(hidden)]
    pub fn waiting_places(&self) -> usize {
        self.end.queue.waiting_places()
    }

    #[cold]
    fn poll_slowly(&mut self, context: &mut Context<'_>, mut value: Option<T>) -> Poll<Result<T, Closed>> {
        self.end.queue.poll_take(&mut self.end.head, context, &mut self.key, |queue, head| {
            value.take().or_else(|| queue.take(head))
        })
    }

    fn forget_place(&mut self) {
        if let Some(key) = self.key.take() {
            self.end.queue.leave(key, true);
        }
    }
}

impl<T> Stream for Receiver<T> {
    type Item = T;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<T>> {
        self.get_mut().poll_recv(context).map(Result::ok)
    }
}

// Values are moved, never pinned in place.
impl<T> Unpin for Receiver<T> {}

impl<T> fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver").field("queue", &self.end.queue.ring).finish()
    }
}

/// How a policy wants the head to be consumed: under `DropOldest` the senders do so too.
pub(super) fn head_for<T>(policy: FullPolicy, consumer: Consumer<T>) -> (Head<T>, Option<SharedConsumer<T>>) {
    if policy == FullPolicy::DropOldest {
        let shared = consumer.into_shared();
        (Head::Many(shared.clone()), Some(shared))
    } else {
        (Head::One(consumer), None)
    }
}

/// The way to the oldest value.
pub(super) enum Head<T> {
    /// It was handed on.
    Gone,
    Many(SharedConsumer<T>),
    One(Consumer<T>),
}

impl<T> Take<T> for Head<T> {
    #[inline]
    fn pop(&mut self) -> Option<(T, Popped)> {
        match self {
            Self::One(consumer) => consumer.pop(),
            Self::Many(consumer) => consumer.pop(),
            Self::Gone => None,
        }
    }

    #[inline]
    fn pop_many(&mut self, out: &mut Vec<T>, max: usize) -> Popped {
        match self {
            Self::One(consumer) => consumer.pop_many(out, max),
            Self::Many(consumer) => consumer.pop_many(out, max),
            Self::Gone => Popped::NOTHING,
        }
    }

    fn is_drained(&self, tail: TailWord) -> bool {
        match self {
            Self::One(consumer) => consumer.is_drained(tail),
            Self::Many(consumer) => consumer.is_drained(tail),
            Self::Gone => true,
        }
    }
}

/// A receiving end; the last one that is dropped closes the queue and drops what is left.
struct End<T> {
    queue: Arc<Queue<T>>,
    head: Head<T>,
}

impl<T> Drop for End<T> {
    fn drop(&mut self) {
        self.queue.receiver_gone(&mut self.head);
    }
}
