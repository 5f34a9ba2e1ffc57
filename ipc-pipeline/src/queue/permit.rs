//! A place in the queue that is set aside.

use std::fmt;

use super::Queue;
use crate::SendError;

/// Room for one value, from [`Sender::reserve`](super::Sender::reserve). Dropped unused, it goes to the next in line.
#[must_use = "a permit holds room until it is used or dropped"]
pub struct Permit<'a, T> {
    queue: &'a Queue<T>,
}

impl<'a, T> Permit<'a, T> {
    pub(super) fn new(queue: &'a Queue<T>) -> Self {
        Self { queue }
    }

    /// Sends a value into the room that was set aside, without waiting.
    ///
    /// # Errors
    /// `Closed` when the queue was closed meanwhile; the value comes back.
    #[inline]
    pub fn send(self, value: T) -> Result<(), SendError<T>> {
        let queue = self.queue;
        // The place is used by what follows, in every case.
        std::mem::forget(self);
        queue.fill(value, 0)
    }
}

impl<T> Drop for Permit<'_, T> {
    fn drop(&mut self) {
        self.queue.give_back(1);
    }
}

impl<T> fmt::Debug for Permit<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Permit").finish_non_exhaustive()
    }
}
