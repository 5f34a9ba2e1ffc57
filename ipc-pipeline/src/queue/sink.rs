//! A sender as a `Sink`.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

use futures_sink::Sink;

use super::{FullPolicy, Sender};
use crate::{SendError, signal::Key};

/// A [`Sender`] as a `Sink`, from [`Sender::into_sink`].
///
/// `poll_ready` sets a place aside and `start_send` fills it; flushed is what is in the queue, so flushing never
/// waits. Closing the sink closes the queue for all senders. Errors carry the value where there was one.
pub struct QueueSink<T> {
    sender: Sender<T>,
    key: Option<Key>,
    ready: bool,
}

impl<T> QueueSink<T> {
    pub(super) fn new(sender: Sender<T>) -> Self {
        Self { sender, key: None, ready: false }
    }

    /// The sender that it was made of; a place set aside and not filled is given back.
    pub fn into_inner(self) -> Sender<T> {
        self.sender.clone()
    }

    /// Whether the policy decides at each value, so that nothing is to be waited for.
    fn drops(&self) -> bool {
        matches!(self.sender.queue().rules.policy, FullPolicy::DropNewest | FullPolicy::DropOldest)
    }
}

impl<T> Sink<T> for QueueSink<T> {
    type Error = SendError<Option<T>>;

    fn poll_ready(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        let this = self.get_mut();
        if this.ready || this.drops() {
            return Poll::Ready(Ok(()));
        }
        let queue = this.sender.queue();
        if this.key.is_none() && queue.ring.try_reserve() {
            this.ready = true;
            return Poll::Ready(Ok(()));
        }
        queue.poll_acquire(context, &mut this.key, 0).map(|outcome| match outcome {
            Ok(()) => {
                this.ready = true;
                Ok(())
            }
            Err(reason) => Err(SendError::new(None, reason)),
        })
    }

    fn start_send(self: Pin<&mut Self>, value: T) -> Result<(), Self::Error> {
        let this = self.get_mut();
        let outcome = if std::mem::take(&mut this.ready) {
            this.sender.queue().fill(value, 0)
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
        self.sender.close();
        Poll::Ready(Ok(()))
    }
}

// Values are moved, never pinned in place.
impl<T> Unpin for QueueSink<T> {}

impl<T> Drop for QueueSink<T> {
    fn drop(&mut self) {
        let queue = self.sender.queue();
        if let Some(key) = self.key.take() {
            queue.cancel_acquire(key, 0);
        }
        if self.ready {
            queue.give_back(1);
        }
    }
}

impl<T> fmt::Debug for QueueSink<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QueueSink").field("sender", &self.sender).field("ready", &self.ready).finish()
    }
}
