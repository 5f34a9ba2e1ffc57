//! Reports: values dropped, watermarks passed.

use std::{
    fmt,
    future::poll_fn,
    pin::Pin,
    task::{Context, Poll},
};

use futures_core::Stream;

use super::Queue;
use crate::{
    Closed,
    signal::Key,
    sync::{Arc, lock},
};

/// Something that happened to a queue as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum QueueEvent {
    /// The policy dropped values, or the last receiver left some behind.
    Dropped {
        /// How many since the last report to this listener.
        count: u64,
    },
    /// The queue has filled up to the high watermark.
    High {
        /// How often a watermark was passed so far, in either direction; it grows by one from report to report unless
        /// the listener was slower than the queue.
        transition: u64,
    },
    /// The queue has emptied down to the low watermark: there is room.
    Low {
        /// As in `High`.
        transition: u64,
    },
}

/// A listener for the reports of one queue, from [`Sender::events`](super::Sender::events).
///
/// It holds nothing back and needs no bound: a slow listener gets one report where it missed several, and the numbers
/// in it are exact. It does not keep the queue open.
pub struct QueueEvents<T> {
    queue: Arc<Queue<T>>,
    transitions: u64,
    dropped: u64,
    key: Option<Key>,
}

impl<T> QueueEvents<T> {
    pub(super) fn new(queue: Arc<Queue<T>>) -> Self {
        let (transitions, dropped) = {
            let gate = lock(&queue.gate);
            (gate.transitions, gate.dropped())
        };
        Self { queue, transitions, dropped, key: None }
    }

    /// The next report; waits for one.
    ///
    /// # Errors
    /// [`Closed`] when the last receiver is gone and all reports are given.
    ///
    /// # Cancel safety
    /// Cancel safe: a dropped future has swallowed no report.
    pub async fn next(&mut self) -> Result<QueueEvent, Closed> {
        poll_fn(|context| self.poll_event(context)).await
    }

    /// The next report if there is one.
    pub fn try_next(&mut self) -> Option<QueueEvent> {
        let queue = Arc::clone(&self.queue);
        let gate = lock(&queue.gate);
        self.report(gate.dropped(), gate.transitions, gate.is_above())
    }

    fn poll_event(&mut self, context: &mut Context<'_>) -> Poll<Result<QueueEvent, Closed>> {
        let waker = context.waker().clone();
        let queue = Arc::clone(&self.queue);
        let mut gate = lock(&queue.gate);
        let removed = self.key.take().map(|key| gate.listeners.remove(key));
        let outcome = match self.report(gate.dropped(), gate.transitions, gate.is_above()) {
            Some(event) => Poll::Ready(Ok(event)),
            None if gate.abandoned => Poll::Ready(Err(Closed)),
            None => {
                self.key = Some(gate.listeners.insert(waker, 0));
                Poll::Pending
            }
        };
        drop(gate);
        drop(removed);
        outcome
    }

    fn report(&mut self, dropped: u64, transitions: u64, above: bool) -> Option<QueueEvent> {
        if dropped > self.dropped {
            let count = dropped - self.dropped;
            self.dropped = dropped;
            return Some(QueueEvent::Dropped { count });
        }
        if transitions > self.transitions {
            self.transitions = transitions;
            let transition = transitions;
            return Some(if above {
                QueueEvent::High { transition }
            } else {
                QueueEvent::Low { transition }
            });
        }
        None
    }
}

impl<T> Stream for QueueEvents<T> {
    type Item = QueueEvent;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<QueueEvent>> {
        self.get_mut().poll_event(context).map(Result::ok)
    }
}

// Nothing in it is pinned.
impl<T> Unpin for QueueEvents<T> {}

impl<T> Drop for QueueEvents<T> {
    fn drop(&mut self) {
        if let Some(key) = self.key.take() {
            let removed = lock(&self.queue.gate).listeners.remove(key);
            drop(removed);
        }
    }
}

impl<T> fmt::Debug for QueueEvents<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QueueEvents")
            .field("transitions", &self.transitions)
            .field("dropped", &self.dropped)
            .finish_non_exhaustive()
    }
}
