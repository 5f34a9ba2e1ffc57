//! The receiver that several share.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

use super::{Queue, QueueCounters, QueueEvents};
use crate::{Closed, TryRecvError, blocking::block_on, ring::SharedConsumer, signal::Key, sync::Arc};

/// Takes values out of a queue together with its clones: first come, first served, each value to exactly one.
///
/// It comes from [`Receiver::into_shared`](super::Receiver::into_shared). Dropping the last clone closes the queue and
/// drops what is left in it, which is counted.
pub struct SharedReceiver<T> {
    queue: Arc<Queue<T>>,
    consumer: SharedConsumer<T>,
}

impl<T> SharedReceiver<T> {
    /// The caller has counted the handle.
    pub(super) fn new(queue: Arc<Queue<T>>, consumer: SharedConsumer<T>) -> Self {
        Self { queue, consumer }
    }

    /// Takes the next value; waits for one. Those who wait are served in the order in which they came.
    ///
    /// # Errors
    /// [`Closed`] when the queue is closed and empty.
    ///
    /// # Cancel safety
    /// Cancel safe: a dropped future has taken nothing, and passes its turn on.
    pub async fn recv(&self) -> Result<T, Closed> {
        self.wait(|queue, consumer| queue.take(consumer)).await
    }

    /// Takes the next value if one is there.
    ///
    /// # Errors
    /// `Empty` when none is there, `Closed` when none will come either.
    pub fn try_recv(&self) -> Result<T, TryRecvError> {
        let mut consumer = &self.consumer;
        match self.queue.take(&mut consumer) {
            Some(value) => Ok(value),
            None => self.queue.try_again(&mut consumer),
        }
    }

    /// Appends up to `max` values to `out`; waits until there is at least one. Returns how many came.
    ///
    /// With a `max` of zero it returns zero at once.
    ///
    /// # Errors
    /// [`Closed`] when the queue is closed and empty.
    ///
    /// # Cancel safety
    /// Cancel safe: a dropped future has taken nothing, and passes its turn on.
    pub async fn recv_many(&self, out: &mut Vec<T>, max: usize) -> Result<usize, Closed> {
        if max == 0 {
            return Ok(0);
        }
        self.wait(|queue, consumer| queue.take_some(consumer, out, max)).await
    }

    /// Takes the next value and lets the thread wait for it. Not to be called where async tasks run.
    ///
    /// # Errors
    /// [`Closed`] when the queue is closed and empty.
    pub fn blocking_recv(&self) -> Result<T, Closed> {
        match block_on(self.recv(), None) {
            Some(outcome) => outcome,
            None => unreachable!("without a deadline it ends with an outcome"),
        }
    }

    /// Closes the queue: senders get their values back, what was accepted can still be taken.
    pub fn close(&self) {
        self.queue.close();
    }

    /// Whether nothing can be sent any more; values may be left.
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

    /// How many places in waiting lists this queue's futures hold at the moment.
    #[doc(hidden)]
    pub fn waiting_places(&self) -> usize {
        self.queue.waiting_places()
    }

    fn wait<R, F>(&self, take: F) -> Taking<'_, T, F>
    where
        F: FnMut(&Queue<T>, &mut &SharedConsumer<T>) -> Option<R>,
    {
        Taking { receiver: self, key: None, take }
    }
}

impl<T> Clone for SharedReceiver<T> {
    fn clone(&self) -> Self {
        self.queue.receiver_added();
        Self { queue: Arc::clone(&self.queue), consumer: self.consumer.clone() }
    }
}

impl<T> Drop for SharedReceiver<T> {
    fn drop(&mut self) {
        self.queue.receiver_gone(&mut &self.consumer);
    }
}

impl<T> fmt::Debug for SharedReceiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedReceiver").field("queue", &self.queue.ring).finish()
    }
}

/// One of several that wait, with its own place in the order.
struct Taking<'a, T, F> {
    receiver: &'a SharedReceiver<T>,
    key: Option<Key>,
    take: F,
}

// Nothing in it is pinned: `take` is only called.
impl<T, F> Unpin for Taking<'_, T, F> {}

impl<T, R, F> Future for Taking<'_, T, F>
where
    F: FnMut(&Queue<T>, &mut &SharedConsumer<T>) -> Option<R>,
{
    type Output = Result<R, Closed>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        let mut consumer = &this.receiver.consumer;
        this.receiver.queue.poll_take(&mut consumer, context, &mut this.key, &mut this.take)
    }
}

impl<T, F> Drop for Taking<'_, T, F> {
    fn drop(&mut self) {
        if let Some(key) = self.key.take() {
            self.receiver.queue.leave(key, false);
        }
    }
}
