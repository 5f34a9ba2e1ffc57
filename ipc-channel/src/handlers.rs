//! Handlers: who is told of which event, in which order, and who answers which request.
//!
//! This room knows no socket and no connection. Whoever reads a connection has a [`Dispatcher`] for it, hands over one
//! event after the other, and gives a context that handlers answer through. Nothing here spawns, and no lock is held
//! while a handler runs.
//!
//! ```text
//!   on, once, on_any, stream, respond          one table for all connections,
//!        │ change: copy on write               a new version number for each change
//!        ▼
//!   Handlers ── table ──▶ Dispatcher           one per connection: its own copy of the table's handle,
//!                            │                 and a runner for each subscription it has met
//!                            ▼
//!                         Runner               the place where the future of a running handler lies
//! ```
//!
//! The number of handlers is bounded by the user's own calls alone; no peer can add one. Unknown names leave nothing
//! behind. Names are keys and nothing else: `connect`, `__proto__` and the empty one are as good as any.

mod caught;
mod counters;
mod dispatch;
mod respond;
mod runner;
mod stream;
mod table;
#[cfg(test)]
mod tests;

use std::{
    fmt::Display,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use ipc_pipeline::CapacityError;
use serde::{Serialize, de::DeserializeOwned};

pub use counters::HandlerCounters;
pub(crate) use dispatch::Dispatcher;
pub use respond::DuplicateResponder;
pub(crate) use respond::{RespondError, Responder};
pub use stream::EventStream;

use counters::Counts;
use respond::Responding;
use runner::{Read, Subscribed, Typed, Whole};
use table::Table;

use crate::{
    Event, Payload, Subscription,
    subscription::{Registry, State, Topic},
};

/// What is handed to handlers beside the event: a handle to answer through.
pub(crate) trait Context: Clone + Send + Sync + 'static {}

impl<C: Clone + Send + Sync + 'static> Context for C {}

/// The handlers of one server or client, for all of its connections.
///
/// Handlers may be added and removed at any time, also from inside a handler. One that is added while an event is being
/// dispatched sees the next event; one that is removed meanwhile does not run any more if it has not begun.
pub(crate) struct Handlers<C> {
    table: Mutex<Arc<Table<C>>>,
    /// Changes with the table, under its lock.
    version: AtomicU64,
    counts: Arc<Counts>,
}

/// The names that somebody listens to, sorted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HandlerNames {
    /// Events with at least one handler of their own; wildcard handlers have no name.
    pub(crate) events: Vec<Arc<str>>,
    /// Requests with a handler.
    pub(crate) requests: Vec<Arc<str>>,
}

impl<C: Context> Handlers<C> {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            table: Mutex::new(Arc::new(Table::new())),
            version: AtomicU64::new(0),
            counts: Arc::new(Counts::default()),
        })
    }

    /// Runs `handler` for each event of this name.
    ///
    /// The handlers of an event run one after the other, each to its end, in the order of subscription; a handler that
    /// waits holds up the events behind it on the same connection, and no other connection. Handlers of different types
    /// on one name each get a decoding of their own. A value that is no `T` is counted as undecodable for this handler
    /// and skipped; the others still run. A handler that panics is counted, and the next one runs.
    pub(crate) fn on<T, F, Fut>(self: &Arc<Self>, name: &str, handler: F) -> Subscription
    where
        T: DeserializeOwned + Send + 'static,
        F: Fn(Event<T>, C) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        self.subscribe::<T, Typed, _, _>(Topic::Event(Arc::from(name)), false, None, handler)
    }

    /// Runs `handler` for the next event of this name and then no more, also when several connections deliver one at
    /// the same time.
    ///
    /// It is removed as it begins. An event whose value is no `T` does not use it up. Otherwise as [`Handlers::on`].
    pub(crate) fn once<T, F, Fut>(self: &Arc<Self>, name: &str, handler: F) -> Subscription
    where
        T: DeserializeOwned + Send + 'static,
        F: Fn(Event<T>, C) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        self.subscribe::<T, Typed, _, _>(Topic::Event(Arc::from(name)), true, None, handler)
    }

    /// Runs `handler` for every event, whatever its name is, after the handlers of that name.
    ///
    /// It gets the value undecoded. This is a method and no name, so that `*` is an event like others.
    pub(crate) fn on_any<F, Fut>(self: &Arc<Self>, handler: F) -> Subscription
    where
        F: Fn(Event<Payload>, C) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        self.subscribe::<Payload, Whole, _, _>(Topic::Any, false, None, handler)
    }

    /// The events of this name as a stream, which holds up to `capacity` of them.
    ///
    /// It has the place of a handler in the order of subscription. While it is full, each connection that has an event
    /// for it waits, its later events with it; so whoever takes from the stream must not wait for one of them. Dropping
    /// the stream removes it. It ends when it is removed, after what it holds was taken.
    ///
    /// # Errors
    ///
    /// A capacity of zero, or one above [`ipc_pipeline::QueueConfig::MAX_CAPACITY`].
    pub(crate) fn stream<T>(
        self: &Arc<Self>,
        name: &str,
        capacity: usize,
    ) -> Result<EventStream<T, C>, CapacityError>
    where
        T: DeserializeOwned + Send + 'static,
    {
        self.stream_of::<T, Typed>(Topic::Event(Arc::from(name)), capacity)
    }

    /// Every event as a stream, whatever its name is, undecoded. Otherwise as [`Handlers::stream`].
    ///
    /// # Errors
    ///
    /// As [`Handlers::stream`].
    pub(crate) fn stream_any(
        self: &Arc<Self>,
        capacity: usize,
    ) -> Result<EventStream<Payload, C>, CapacityError> {
        self.stream_of::<Payload, Whole>(Topic::Any, capacity)
    }

    /// Removes all handlers and streams of the events of this name, and says how many there were.
    ///
    /// Wildcards and the handler of requests of this name stay.
    pub(crate) fn remove_all(&self, name: &str) -> usize {
        // Dropped after the lock was: a closure may hold whatever calls back into here.
        let removed = self.change(|table| table.take_all(name));
        removed.iter().flat_map(|list| list.iter()).filter(|handler| handler.state().end()).count()
    }

    /// Answers the requests of this name with what `handler` returns.
    ///
    /// A handler without a value answers `()`, which is `null` in JSON and no bytes in binary. An error is sent as its
    /// text, cut at [`respond::MAX_MESSAGE`] bytes. Panics are caught and counted, that call fails, and all else goes on.
    /// Removing the handler lets calls that have begun come to their end.
    ///
    /// # Errors
    ///
    /// The name has a handler of requests already: each request has one answer.
    pub(crate) fn respond<T, R, E, F, Fut>(
        self: &Arc<Self>,
        name: &str,
        handler: F,
    ) -> Result<Subscription, DuplicateResponder>
    where
        T: DeserializeOwned + Send + 'static,
        R: Serialize + 'static,
        E: Display + 'static,
        F: Fn(Event<T>, C) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<R, E>> + Send + 'static,
    {
        let responding = Arc::new(Responding::new(Arc::from(name), handler, Arc::clone(&self.counts)));
        let name: Arc<str> = Arc::from(name);
        let state = self.change(|table| {
            if table.responder(&name).is_some() {
                return None;
            }
            let state = Arc::new(State::new(table.next_id(), Topic::Request(Arc::clone(&name)), false, None));
            table.add_responder(Arc::clone(&name), Responder::new(Arc::clone(&state), responding));
            Some(state)
        });
        match state {
            Some(state) => Ok(self.subscription(state)),
            None => Err(DuplicateResponder { name: name.as_ref().to_owned() }),
        }
    }

    /// The handler of the requests of this name.
    pub(crate) fn responder(&self, name: &str) -> Option<Responder<C>> {
        self.lock().responder(name).cloned()
    }

    /// The names that somebody listens to.
    pub(crate) fn names(&self) -> HandlerNames {
        let table = Arc::clone(&self.lock());
        let (mut events, mut requests) = table.names();
        events.sort_unstable();
        requests.sort_unstable();
        HandlerNames { events, requests }
    }

    /// What has happened so far, on all connections together.
    pub(crate) fn counters(&self) -> HandlerCounters {
        self.counts.read()
    }

    /// Runs the handlers of one connection's events.
    pub(crate) fn dispatcher(self: &Arc<Self>) -> Dispatcher<C> {
        Dispatcher::new(Arc::clone(self))
    }

    fn stream_of<T, D>(
        self: &Arc<Self>,
        topic: Topic,
        capacity: usize,
    ) -> Result<EventStream<T, C>, CapacityError>
    where
        T: Send + 'static,
        D: Read<T>,
    {
        let (sender, receiver) = ipc_pipeline::bounded::<(Event<T>, C)>(capacity)?;
        let sender = Arc::new(sender);
        // Weak: when the handlers are gone, so are all senders, and the stream ends.
        let closing = Arc::downgrade(&sender);
        let ended = move || {
            if let Some(sender) = closing.upgrade() {
                sender.close();
            }
        };
        let handler = move |event, context| {
            let sender = Arc::clone(&sender);
            async move {
                // A stream that was dropped meanwhile wants no more events.
                let _ = sender.send((event, context)).await;
            }
        };
        let subscription = self.subscribe::<T, D, _, _>(topic, false, Some(Box::new(ended)), handler);
        Ok(EventStream::new(receiver, subscription))
    }

    fn subscribe<T, D, F, Fut>(
        self: &Arc<Self>,
        topic: Topic,
        once: bool,
        ended: Option<Box<dyn Fn() + Send + Sync>>,
        handler: F,
    ) -> Subscription
    where
        T: Send + 'static,
        D: Read<T>,
        F: Fn(Event<T>, C) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        let state = self.change(|table| {
            let state = Arc::new(State::new(table.next_id(), topic, once, ended));
            table.add(Arc::new(Subscribed::<T, D, F>::new(Arc::clone(&state), handler)));
            state
        });
        self.subscription(state)
    }

    fn subscription(self: &Arc<Self>, state: Arc<State>) -> Subscription {
        let registry = Arc::downgrade(self);
        Subscription::new(state, registry)
    }

    /// The table as it is now and its version.
    fn snapshot(&self) -> (Arc<Table<C>>, u64) {
        let table = self.lock();
        // Relaxed: the lock orders it.
        (Arc::clone(&table), self.version.load(Ordering::Relaxed))
    }

    fn version(&self) -> u64 {
        // Acquire: with the release of `change`, who sees the number finds the table when it locks.
        self.version.load(Ordering::Acquire)
    }

    /// Changes the table, which is copied first if a dispatcher knows it. What the change takes out is returned, so
    /// that it is dropped without the lock.
    fn change<R>(&self, change: impl FnOnce(&mut Table<C>) -> R) -> R {
        let mut table = self.lock();
        let result = change(Arc::make_mut(&mut table));
        // Release: see `version`.
        self.version.fetch_add(1, Ordering::Release);
        result
    }

    fn lock(&self) -> MutexGuard<'_, Arc<Table<C>>> {
        // No foreign code runs under the lock, so a poisoned one holds a whole table all the same.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<C: Context> Registry for Handlers<C> {
    fn forget(&self, state: &State) {
        let known = self.lock().contains(state);
        // Somebody else may remove it between the two; then the change finds nothing.
        let removed = known.then(|| self.change(|table| table.take(state)));
        drop(removed);
    }
}
