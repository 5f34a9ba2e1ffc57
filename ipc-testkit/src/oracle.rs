//! What should have happened: a bounded queue that is obviously right, and a ledger of deliveries.

mod ledger;

use std::{collections::VecDeque, num::NonZeroUsize};

pub use self::ledger::{Ledger, Violation};

/// A bounded first-in, first-out queue, to compare real ones with.
///
/// It never waits: what would wait is told to the caller.
///
/// # Examples
///
/// ```
/// use std::num::NonZeroUsize;
/// use ipc_testkit::oracle::BoundedFifo;
///
/// let mut queue = BoundedFifo::new(NonZeroUsize::new(2).unwrap());
/// assert_eq!((queue.push('a'), queue.push('b'), queue.push('c')), (Ok(()), Ok(()), Err('c')));
/// assert_eq!(queue.push_dropping_oldest('d'), Some('a'));
/// assert_eq!((queue.pop(), queue.pop(), queue.pop()), (Some('b'), Some('d'), None));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BoundedFifo<T> {
    values: VecDeque<T>,
    capacity: NonZeroUsize,
    closed: bool,
}

impl<T> BoundedFifo<T> {
    /// An empty queue.
    pub fn new(capacity: NonZeroUsize) -> Self {
        Self { values: VecDeque::new(), capacity, closed: false }
    }

    /// Adds a value, or gives it back when the queue is full or closed.
    ///
    /// # Errors
    ///
    /// The value itself.
    pub fn push(&mut self, value: T) -> Result<(), T> {
        if self.closed || self.is_full() {
            return Err(value);
        }
        self.values.push_back(value);
        Ok(())
    }

    /// Adds a value in any case and gives back the one that had to make room; a closed queue gives back the new one.
    pub fn push_dropping_oldest(&mut self, value: T) -> Option<T> {
        if self.closed {
            return Some(value);
        }
        let dropped = if self.is_full() { self.values.pop_front() } else { None };
        self.values.push_back(value);
        dropped
    }

    /// Takes the oldest value; a closed queue still gives what it has.
    pub fn pop(&mut self) -> Option<T> {
        self.values.pop_front()
    }

    /// Takes at most so many of the oldest values.
    pub fn pop_many(&mut self, max: usize) -> Vec<T> {
        self.values.drain(..max.min(self.values.len())).collect()
    }

    /// Takes no more values from now on.
    pub fn close(&mut self) {
        self.closed = true;
    }

    /// Whether it was closed.
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// How many values it holds.
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// Whether it holds nothing.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// Whether it holds as much as it may.
    pub fn is_full(&self) -> bool {
        self.values.len() >= self.capacity.get()
    }

    /// How many values it may hold.
    pub fn capacity(&self) -> NonZeroUsize {
        self.capacity
    }
}
