//! Permits: room for values, granted first come, first served.

use std::{
    fmt,
    task::{Context, Poll, Waker},
};

use super::{Sender, shared::Shared};
use crate::{FullPolicy, SendError, SendErrorReason};

/// Room for one value, granted by [`Sender::reserve`]; capacity is reserved, not a position.
#[must_use = "dropping the permit gives the room back"]
pub struct Permit<'a, T> {
    pub(super) sender: &'a Sender<T>,
}

impl<T: 'static> Permit<'_, T> {
    /// Encodes and accepts a value at once, without waiting.
    ///
    /// # Errors
    ///
    /// The value comes back when it does not encode, is too large, or the link has ended; the room is given back.
    pub fn send(self, value: T) -> Result<(), SendError<T>> {
        if self.sender.shared.is_encoding_here() {
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

/// A place in the queue for permits.
pub(super) struct Waiting<'a> {
    pub(super) shared: &'a Shared,
    pub(super) ticket: Option<u64>,
}

impl Waiting<'_> {
    #[cold]
    fn give_up(&self, ticket: u64) {
        let mut state = self.shared.lock();
        state.waiters.waiting.remove(&ticket);
        if state.waiters.granted.remove(&ticket) {
            state.machine.unreserve();
        }
        let wakers = self.shared.settle(&mut state);
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
    }

    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), SendErrorReason>> {
        let shared = self.shared;
        if shared.is_encoding_here() {
            return Poll::Ready(Err(SendErrorReason::Reentrant));
        }
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
            FullPolicy::DropOldest if first => {
                while state.machine.drop_oldest() {
                    if state.machine.reserve() {
                        if let Some(ticket) = self.ticket.take() {
                            state.waiters.waiting.remove(&ticket);
                        }
                        return Poll::Ready(Ok(()));
                    }
                }
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
    #[inline]
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket.take() {
            self.give_up(ticket);
        }
    }
}

/// Gives a reserved unit back if a failure or a panic leaves it unused.
pub(super) struct UnusedUnit<'a> {
    pub(super) shared: &'a Shared,
    pub(super) armed: bool,
}

impl Drop for UnusedUnit<'_> {
    #[inline]
    fn drop(&mut self) {
        if self.armed {
            self.shared.give_back();
        }
    }
}
