//! A sending handle as a `Sink`, for combinators.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

use futures_sink::Sink;

use super::{Permit, Sender, permit::Waiting};
use crate::{FullPolicy, SendError};

/// A [`Sender`] as a [`Sink`], from [`Sender::into_sink`].
///
/// `poll_ready` sets a place aside and `start_send` encodes into it; under a policy that drops there is nothing to wait
/// for, and `start_send` does what [`Sender::send`] does. Flushed is what was handed to the link, so flushing never
/// waits, and closing the sink leaves the link open for its owner and other senders. Errors carry the value where there
/// was one.
pub struct LinkSink<T> {
    sender: Sender<T>,
    ticket: Option<u64>,
    ready: bool,
}

impl<T> LinkSink<T> {
    pub(super) fn new(sender: Sender<T>) -> Self {
        Self { sender, ticket: None, ready: false }
    }

    /// The sender that it was made of; a place set aside and not filled is given back.
    pub fn into_inner(self) -> Sender<T> {
        self.sender.clone()
    }

    /// Whether the policy decides at each value, so that nothing is to be waited for.
    fn drops(&self) -> bool {
        matches!(self.sender.shared.config.policy, FullPolicy::DropNewest | FullPolicy::DropOldest)
    }
}

impl<T: 'static> Sink<T> for LinkSink<T> {
    type Error = SendError<Option<T>>;

    fn poll_ready(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        let this = self.get_mut();
        if this.ready || this.drops() {
            return Poll::Ready(Ok(()));
        }
        let mut waiting = Waiting { shared: &this.sender.shared, ticket: this.ticket.take() };
        let outcome = waiting.poll(context);
        this.ticket = waiting.ticket.take();
        this.ready = matches!(outcome, Poll::Ready(Ok(())));
        outcome.map_err(|reason| SendError::new(None, reason))
    }

    fn start_send(self: Pin<&mut Self>, value: T) -> Result<(), Self::Error> {
        let this = self.get_mut();
        let outcome = if std::mem::take(&mut this.ready) {
            Permit { sender: &this.sender }.send(value)
        } else {
            // Without a successful `poll_ready` there may be no place; then the value comes back.
            this.sender.try_send(value).map_err(SendError::from)
        };
        outcome.map_err(|error| error.map(Some))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }
}

// Values are moved, never pinned in place.
impl<T> Unpin for LinkSink<T> {}

impl<T> Drop for LinkSink<T> {
    fn drop(&mut self) {
        if self.ready {
            self.sender.shared.give_back();
        }
        drop(Waiting { shared: &self.sender.shared, ticket: self.ticket.take() });
    }
}

impl<T> fmt::Debug for LinkSink<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LinkSink")
            .field("sender", &self.sender)
            .field("ready", &self.ready)
            .finish_non_exhaustive()
    }
}
