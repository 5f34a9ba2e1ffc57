//! Taking values out of a queue, whoever takes: the one receiver, or one of several.

use std::task::{Context, Poll};

use super::Queue;
use crate::{
    Closed, TryRecvError,
    ring::{Popped, SharedConsumer, TailWord},
    signal::Key,
    sync::{lock, relax},
};

/// A consumer of the ring.
pub(super) trait Take<T> {
    /// Takes the oldest value, if it is published.
    fn pop(&mut self) -> Option<(T, Popped)>;
    /// Appends up to `max` values to `out`.
    fn pop_many(&mut self, out: &mut Vec<T>, max: usize) -> Popped;
    /// Whether nothing is left before this moment of the tail word, not even under way.
    fn is_drained(&self, tail: TailWord) -> bool;
}

impl<T> Take<T> for &SharedConsumer<T> {
    fn pop(&mut self) -> Option<(T, Popped)> {
        SharedConsumer::pop(self)
    }

    fn pop_many(&mut self, out: &mut Vec<T>, max: usize) -> Popped {
        SharedConsumer::pop_many(self, out, max)
    }

    fn is_drained(&self, tail: TailWord) -> bool {
        SharedConsumer::is_drained(self, tail)
    }
}

impl<T> Queue<T> {
    #[inline]
    pub(super) fn take(&self, consumer: &mut impl Take<T>) -> Option<T> {
        if self.rules.gated {
            return self.take_gated(consumer);
        }
        let (value, popped) = consumer.pop()?;
        self.popped(popped);
        Some(value)
    }

    #[inline]
    pub(super) fn take_many(&self, consumer: &mut impl Take<T>, out: &mut Vec<T>, max: usize) -> usize {
        if self.rules.gated {
            return self.take_many_gated(consumer, out, max);
        }
        let popped = consumer.pop_many(out, max);
        self.popped(popped);
        popped.count
    }

    /// As `take_many`, for those who wait for at least one.
    pub(super) fn take_some(
        &self,
        consumer: &mut impl Take<T>,
        out: &mut Vec<T>,
        max: usize,
    ) -> Option<usize> {
        let count = self.take_many(consumer, out, max);
        (count > 0).then_some(count)
    }

    /// After an unsuccessful look: tells empty from closed, and waits for a last value that is under way.
    #[cold]
    pub(super) fn try_again(&self, consumer: &mut impl Take<T>) -> Result<T, TryRecvError> {
        let mut round = 0;
        loop {
            // The order matters: once it is closed nothing is added, so what is not found after that is not there.
            let tail = self.ring.tail_word();
            if let Some(value) = self.take(consumer) {
                return Ok(value);
            }
            if !tail.is_closed() {
                return Err(TryRecvError::Empty);
            }
            if consumer.is_drained(tail) {
                return Err(TryRecvError::Closed);
            }
            relax(&mut round);
        }
    }

    /// Takes with `take`, or registers and looks again; the entry in the list is gone when it is ready.
    pub(super) fn poll_take<C: Take<T>, R>(
        &self,
        consumer: &mut C,
        context: &mut Context<'_>,
        key: &mut Option<Key>,
        mut take: impl FnMut(&Self, &mut C) -> Option<R>,
    ) -> Poll<Result<R, Closed>> {
        let mut round = 0;
        loop {
            if let Some(taken) = take(self, consumer) {
                if let Some(key) = key.take() {
                    self.leave(key, true);
                }
                return Poll::Ready(Ok(taken));
            }
            let mut closed = false;
            let mut drained = false;
            let waits = self.receivers.register(&self.ring, key, context.waker(), |tail| {
                closed = tail.is_closed();
                drained = consumer.is_drained(tail);
                closed || !drained
            });
            if waits {
                return Poll::Pending;
            }
            if closed && drained {
                return Poll::Ready(Err(Closed));
            }
            // A value is under way: its producer is between claiming and publishing.
            if round > UNDER_WAY_ROUNDS {
                // Its thread is not running at the moment; other tasks of this thread go first.
                context.waker().wake_by_ref();
                return Poll::Pending;
            }
            relax(&mut round);
        }
    }

    /// Gives up a place among those who wait for values.
    pub(super) fn leave(&self, key: Key, satisfied: bool) {
        self.receivers.unregister(&self.ring, key, satisfied);
    }

    pub(super) fn waiting_places(&self) -> usize {
        self.receivers.occupied() + lock(&self.gate).occupied()
    }
}

/// Looks at a value under way before the task gives its thread to others. Spinning covers a producer that runs; the
/// last rounds are time slices given away.
const UNDER_WAY_ROUNDS: u32 = 80;
