//! Events as a stream, for those who prefer a loop to a handler.

use std::{
    fmt,
    future::poll_fn,
    pin::Pin,
    task::{Context, Poll},
};

use futures_core::Stream;
use ipc_pipeline::Receiver;

use crate::{Event, Subscription};

/// The events of one name, or all of them, each with the handle to answer through. It has one owner.
///
/// It holds a fixed number of events. While it is full, connections that have an event for it wait, and their later
/// events with them. Dropping it removes the subscription, and drops what it holds.
pub struct EventStream<T, C> {
    receiver: Receiver<(Event<T>, C)>,
    subscription: Subscription,
}

impl<T, C> EventStream<T, C> {
    pub(super) fn new(receiver: Receiver<(Event<T>, C)>, subscription: Subscription) -> Self {
        Self { receiver, subscription }
    }

    /// Takes the next event; waits for one. `None` when the subscription was removed, or what it belonged to is gone,
    /// and everything was taken.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: a dropped future has taken nothing.
    pub async fn next(&mut self) -> Option<(Event<T>, C)> {
        poll_fn(|context| self.poll_event(context)).await
    }

    /// As [`EventStream::next`], for hand-written futures: the newest poll's waker is the one that is woken.
    pub fn poll_event(&mut self, context: &mut Context<'_>) -> Poll<Option<(Event<T>, C)>> {
        self.receiver.poll_recv(context).map(Result::ok)
    }

    /// The handle that removes the stream from the handlers: no event comes in any more, and those that it holds can
    /// still be taken.
    pub fn subscription(&self) -> &Subscription {
        &self.subscription
    }
}

impl<T, C> Stream for EventStream<T, C> {
    type Item = (Event<T>, C);

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.get_mut().poll_event(context)
    }
}

// Events are moved, never pinned in place.
impl<T, C> Unpin for EventStream<T, C> {}

impl<T, C> Drop for EventStream<T, C> {
    fn drop(&mut self) {
        self.subscription.cancel();
    }
}

impl<T, C> fmt::Debug for EventStream<T, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventStream")
            .field("subscription", &self.subscription)
            .field("len", &self.receiver.len())
            .field("capacity", &self.receiver.capacity())
            .finish_non_exhaustive()
    }
}
