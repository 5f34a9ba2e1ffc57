//! A sending handle as a `Sink`, for combinators.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

use futures_sink::Sink;

use super::{Permit, Sender, permit::Waiting};
use crate::SendErrorReason;

/// A [`Sink`] over a [`Sender`]: `poll_ready` waits for room, `start_send` encodes and accepts.
pub struct LinkSink<T> {
    sender: Sender<T>,
    ticket: Option<u64>,
    reserved: bool,
}

impl<T> LinkSink<T> {
    pub(super) fn new(sender: Sender<T>) -> Self {
        Self { sender, ticket: None, reserved: false }
    }

    /// The sender back.
    pub fn sender(&self) -> &Sender<T> {
        &self.sender
    }
}

impl<T> fmt::Debug for LinkSink<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LinkSink").field("sender", &self.sender).finish_non_exhaustive()
    }
}

impl<T: 'static> Sink<T> for LinkSink<T> {
    type Error = SendErrorReason;

    fn poll_ready(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), SendErrorReason>> {
        let this = self.get_mut();
        if this.reserved {
            return Poll::Ready(Ok(()));
        }
        let mut waiting = Waiting { shared: &this.sender.shared, ticket: this.ticket.take() };
        let outcome = waiting.poll(cx);
        this.ticket = waiting.ticket.take();
        this.reserved = matches!(outcome, Poll::Ready(Ok(())));
        outcome
    }

    fn start_send(self: Pin<&mut Self>, value: T) -> Result<(), SendErrorReason> {
        let this = self.get_mut();
        assert!(std::mem::take(&mut this.reserved), "start_send without poll_ready");
        Permit { sender: &this.sender }.send(value).map_err(|error| error.into_parts().1)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), SendErrorReason>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), SendErrorReason>> {
        Poll::Ready(Ok(()))
    }
}

impl<T> Drop for LinkSink<T> {
    fn drop(&mut self) {
        if self.reserved {
            self.sender.shared.give_back();
        }
        drop(Waiting { shared: &self.sender.shared, ticket: self.ticket.take() });
    }
}
