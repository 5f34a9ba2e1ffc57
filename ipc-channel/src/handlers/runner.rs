//! Running one handler: the value is decoded for it, and its future lies in a place that is used again and again.

use std::{
    marker::PhantomData,
    pin::Pin,
    sync::Arc,
    task::{Context as TaskContext, Poll},
};

use bytes::Bytes;
use ipc_transport::DecodeError;
use serde::de::DeserializeOwned;

use super::{
    Context,
    caught::{Panicked, caught, clear, poll_caught},
};
use crate::{Event, Payload, PayloadCodec, event::Meta, subscription::State};

/// An event on its way to its handlers.
pub(super) struct Arrival<'a> {
    pub(super) name: &'a Arc<str>,
    pub(super) codec: PayloadCodec,
    pub(super) payload: &'a [u8],
    /// The payload once more, to be kept: made where wildcard handlers are, once for all of them.
    pub(super) whole: Option<Bytes>,
    pub(super) meta: &'a Meta,
}

/// How a handler reads the value of an event.
pub(super) trait Read<T>: 'static {
    fn read(arrival: &Arrival<'_>) -> Result<T, DecodeError>;
}

/// Decodes it.
pub(super) struct Typed;

impl<T: DeserializeOwned> Read<T> for Typed {
    fn read(arrival: &Arrival<'_>) -> Result<T, DecodeError> {
        arrival.codec.decode(arrival.payload)
    }
}

/// Hands it over as it is.
pub(super) struct Whole;

impl Read<Payload> for Whole {
    fn read(arrival: &Arrival<'_>) -> Result<Payload, DecodeError> {
        let bytes = arrival.whole.clone().unwrap_or_else(|| Bytes::copy_from_slice(arrival.payload));
        Ok(Payload::new(arrival.codec, bytes))
    }
}

/// A handler in the table.
pub(super) trait Handler<C>: Send + Sync {
    fn state(&self) -> &State;

    /// Makes what runs it for one connection.
    fn runner(self: Arc<Self>) -> Box<dyn Run<C>>;
}

/// A handler with its types: `T` is what it gets, and `D` says how that is read.
pub(super) struct Subscribed<T, D, F> {
    state: Arc<State>,
    handler: F,
    types: PhantomData<fn(D) -> T>,
}

impl<T, D, F> Subscribed<T, D, F> {
    pub(super) fn new(state: Arc<State>, handler: F) -> Self {
        Self { state, handler, types: PhantomData }
    }
}

impl<T, D, F, C, Fut> Handler<C> for Subscribed<T, D, F>
where
    T: Send + 'static,
    D: Read<T>,
    C: Context,
    F: Fn(Event<T>, C) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    fn state(&self) -> &State {
        &self.state
    }

    fn runner(self: Arc<Self>) -> Box<dyn Run<C>> {
        Box::new(Runner { subscribed: self, place: Box::pin(None) })
    }
}

/// Runs a handler for the events of one connection, one event at a time.
pub(super) trait Run<C>: Send {
    fn state(&self) -> &State;

    /// Begins with an event; then it is to be polled to its end.
    fn start(&mut self, arrival: &Arrival<'_>, context: &C) -> Started;

    fn poll(&mut self, context: &mut TaskContext<'_>) -> Poll<Result<(), Panicked>>;

    /// Drops what has begun and not ended.
    fn clear(&mut self) -> Result<(), Panicked>;
}

/// What became of the attempt to begin.
pub(super) enum Started {
    /// It has begun.
    Begun,
    /// It panicked as it was called, or as its value was decoded.
    Panicked,
    /// It was removed, or it has run and was to run once.
    Skipped,
    /// The value is not of its type.
    Undecodable(DecodeError),
}

struct Runner<T, D, F, Fut> {
    subscribed: Arc<Subscribed<T, D, F>>,
    place: Pin<Box<Option<Fut>>>,
}

impl<T, D, F, C, Fut> Run<C> for Runner<T, D, F, Fut>
where
    T: Send + 'static,
    D: Read<T>,
    C: Context,
    F: Fn(Event<T>, C) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    fn state(&self) -> &State {
        &self.subscribed.state
    }

    fn start(&mut self, arrival: &Arrival<'_>, context: &C) -> Started {
        let Subscribed { state, handler, .. } = &*self.subscribed;
        if !state.is_active() {
            return Started::Skipped;
        }
        let place = &mut self.place;
        let begun = caught(|| {
            let value = match D::read(arrival) {
                Ok(value) => value,
                Err(error) => return Started::Undecodable(error),
            };
            // After decoding, so that a value of another type does not use up what runs once.
            if !state.begin() {
                return Started::Skipped;
            }
            let event = Event::new(value, Arc::clone(arrival.name), arrival.meta.clone());
            place.set(Some(handler(event, context.clone())));
            Started::Begun
        });
        begun.unwrap_or(Started::Panicked)
    }

    fn poll(&mut self, context: &mut TaskContext<'_>) -> Poll<Result<(), Panicked>> {
        poll_caught(self.place.as_mut(), context)
    }

    fn clear(&mut self) -> Result<(), Panicked> {
        clear(self.place.as_mut())
    }
}
