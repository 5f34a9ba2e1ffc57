//! Dispatching the events of one connection, in order.

use std::{
    collections::HashMap,
    mem,
    pin::Pin,
    sync::Arc,
    task::{Context as TaskContext, Poll},
};

use bytes::Bytes;
use ipc_transport::DecodeError;

use super::{
    Context, Handlers,
    caught::Panicked,
    runner::{Arrival, Run, Started},
    table::{List, Table},
};
use crate::{PayloadCodec, event::Meta, subscription::Registry};

/// Runs the handlers of one connection's events, one event at a time.
///
/// It keeps a runner for each subscription that it has met, so that an event costs no allocation, except a name and a
/// copy of the payload for wildcard handlers. It lets go of the runners of removed subscriptions with the next event.
pub(crate) struct Dispatcher<C> {
    handlers: Arc<Handlers<C>>,
    version: u64,
    table: Arc<Table<C>>,
    /// Places in `runners` by name.
    met: HashMap<Arc<str>, usize>,
    /// Of the names met so far; at most as many as the table has.
    runners: Vec<Runners<C>>,
    /// The place of the last event's name: many events in a row have the same one.
    last: usize,
    any: Vec<Box<dyn Run<C>>>,
}

/// What became of one event.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Dispatched {
    /// Handlers that began, those that panicked included.
    pub(crate) ran: usize,
    /// Handlers that panicked.
    pub(crate) panicked: usize,
    /// Handlers of whose types the value was not.
    pub(crate) undecodable: usize,
    /// Why the first of these could not have it.
    pub(crate) error: Option<DecodeError>,
}

impl Dispatched {
    /// Whether there was no handler at all.
    pub(crate) fn is_unhandled(&self) -> bool {
        self.ran == 0 && self.undecodable == 0
    }
}

/// The runners of one name's handlers, in their order.
struct Runners<C> {
    name: Arc<str>,
    list: Vec<Box<dyn Run<C>>>,
}

impl<C: Context> Dispatcher<C> {
    pub(super) fn new(handlers: Arc<Handlers<C>>) -> Self {
        let (table, version) = handlers.snapshot();
        let any = table.of_any().iter().map(|handler| Arc::clone(handler).runner()).collect();
        Self { handlers, version, table, met: HashMap::new(), runners: Vec::new(), last: 0, any }
    }

    /// Runs the handlers of one event: those of its name in the order of subscription, then the wildcard ones, each to
    /// its end before the next begins.
    ///
    /// A handler that never waits is done within the first poll.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the handler that is running, in the middle of what it does, and the later ones do not
    /// run. The dispatcher can be used again for the next event.
    pub(crate) async fn dispatch(
        &mut self,
        name: &str,
        codec: PayloadCodec,
        payload: &[u8],
        meta: Meta,
        context: &C,
    ) -> Dispatched {
        self.refresh();
        let mut outcome = Dispatched::default();
        let place = self.place_of(name);
        let Self { handlers, runners, any, .. } = self;
        let mut own = None;
        if let Some(runners) = place.and_then(|place| runners.get_mut(place)) {
            let arrival = Arrival { name: &runners.name, codec, payload, whole: None, meta: &meta };
            for runner in &mut runners.list {
                run(handlers, runner.as_mut(), &arrival, context, &mut outcome).await;
            }
            own = Some(&runners.name);
        }
        if !any.is_empty() {
            let name = own.map_or_else(|| Arc::from(name), Arc::clone);
            let whole = Some(Bytes::copy_from_slice(payload));
            let arrival = Arrival { name: &name, codec, payload, whole, meta: &meta };
            for runner in any {
                run(handlers, runner.as_mut(), &arrival, context, &mut outcome).await;
            }
        }
        if outcome.is_unhandled() {
            handlers.counts.unhandled.add_one();
        }
        outcome
    }

    #[cfg(test)]
    pub(super) fn names_met(&self) -> usize {
        self.met.len()
    }

    /// Follows the table, if it has changed since the last event.
    fn refresh(&mut self) {
        if self.version == self.handlers.version() {
            return;
        }
        let (table, version) = self.handlers.snapshot();
        self.runners.retain_mut(|runners| match table.of_event(&runners.name) {
            Some((_, list)) => {
                follow(&mut runners.list, list);
                true
            }
            None => false,
        });
        let places = self.runners.iter().enumerate();
        self.met = places.map(|(place, runners)| (Arc::clone(&runners.name), place)).collect();
        follow(&mut self.any, table.of_any());
        self.table = table;
        // Last: what a removed handler held may panic as it is dropped, and then all of this is done again.
        self.version = version;
    }

    /// Where the runners of an event's name are; they are made when it is met for the first time.
    fn place_of(&mut self, name: &str) -> Option<usize> {
        if self.runners.get(self.last).is_some_and(|runners| *runners.name == *name) {
            return Some(self.last);
        }
        if let Some(&place) = self.met.get(name) {
            self.last = place;
            return Some(place);
        }
        let (name, list) = self.table.of_event(name)?;
        let place = self.runners.len();
        let list = list.iter().map(|handler| Arc::clone(handler).runner()).collect();
        // A copy of the name: events of several connections would wear out one count of references together.
        self.runners.push(Runners { name: Arc::from(name.as_ref()), list });
        self.met.insert(Arc::clone(name), place);
        Some(place)
    }
}

/// Keeps the runners of handlers that are still there and makes those of new ones; both are sorted by their numbers.
fn follow<C>(runners: &mut Vec<Box<dyn Run<C>>>, list: &List<C>) {
    let mut before = mem::take(runners).into_iter().peekable();
    for handler in list.iter() {
        let id = handler.state().id;
        while before.next_if(|runner| runner.state().id < id).is_some() {}
        let kept = before.next_if(|runner| runner.state().id == id);
        runners.push(kept.unwrap_or_else(|| Arc::clone(handler).runner()));
    }
}

/// Runs one handler for one event.
async fn run<C: Context>(
    handlers: &Handlers<C>,
    runner: &mut dyn Run<C>,
    arrival: &Arrival<'_>,
    context: &C,
    outcome: &mut Dispatched,
) {
    let counts = &handlers.counts;
    let started = runner.start(arrival, context);
    if runner.state().is_spent() {
        handlers.forget(runner.state());
    }
    match started {
        Started::Begun => {
            outcome.ran += 1;
            counts.dispatched.add_one();
            if Running(runner).await.is_err() {
                outcome.panicked += 1;
                counts.panicked.add_one();
            }
        }
        Started::Panicked => {
            outcome.ran += 1;
            outcome.panicked += 1;
            counts.dispatched.add_one();
            counts.panicked.add_one();
        }
        Started::Skipped => {}
        Started::Undecodable(error) => {
            outcome.undecodable += 1;
            outcome.error.get_or_insert(error);
            counts.undecodable.add_one();
        }
    }
}

/// A handler that has begun. Dropped before its end, it drops the handler's future.
struct Running<'a, C>(&'a mut dyn Run<C>);

impl<C> Future for Running<'_, C> {
    type Output = Result<(), Panicked>;

    fn poll(mut self: Pin<&mut Self>, context: &mut TaskContext<'_>) -> Poll<Self::Output> {
        self.0.poll(context)
    }
}

impl<C> Drop for Running<'_, C> {
    fn drop(&mut self) {
        // Nobody is left who could be told of a panic in here; it must not go on, as this may be one already.
        let _ = self.0.clear();
    }
}
