//! The table of handlers: which there are, by name and in order.

use std::{collections::HashMap, sync::Arc};

use super::{respond::Responder, runner::Handler};
use crate::subscription::{State, Topic};

/// One handler of events.
type Entry<C> = Arc<dyn Handler<C>>;

/// Handlers in the order of subscription, which is that of their numbers.
pub(super) type List<C> = Arc<Vec<Entry<C>>>;

/// All handlers at one time. Copying it copies handles only.
pub(super) struct Table<C> {
    events: HashMap<Arc<str>, List<C>>,
    any: List<C>,
    responders: HashMap<Arc<str>, Responder<C>>,
    next_id: u64,
}

impl<C> Table<C> {
    pub(super) fn new() -> Self {
        Self { events: HashMap::new(), any: List::default(), responders: HashMap::new(), next_id: 0 }
    }

    /// A number for the next handler. Taken and used under one lock, so that lists are sorted by it.
    pub(super) fn next_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    pub(super) fn add(&mut self, handler: Entry<C>) {
        let list = match &handler.state().topic {
            Topic::Any => &mut self.any,
            Topic::Event(name) | Topic::Request(name) => self.events.entry(Arc::clone(name)).or_default(),
        };
        Arc::make_mut(list).push(handler);
    }

    pub(super) fn add_responder(&mut self, name: Arc<str>, responder: Responder<C>) {
        self.responders.insert(name, responder);
    }

    pub(super) fn contains(&self, state: &State) -> bool {
        let has = |list: &List<C>| position(list, state).is_some();
        match &state.topic {
            Topic::Any => has(&self.any),
            Topic::Event(name) => self.events.get(name).is_some_and(has),
            Topic::Request(name) => self.responders.get(name).is_some_and(|is| is.id() == state.id),
        }
    }

    pub(super) fn responder(&self, name: &str) -> Option<&Responder<C>> {
        self.responders.get(name)
    }

    /// The handlers of an event's name, with the name as the table has it.
    pub(super) fn of_event(&self, name: &str) -> Option<(&Arc<str>, &List<C>)> {
        self.events.get_key_value(name)
    }

    pub(super) fn of_any(&self) -> &List<C> {
        &self.any
    }

    /// The names of events and those of requests, in no order.
    pub(super) fn names(&self) -> (Vec<Arc<str>>, Vec<Arc<str>>) {
        (self.events.keys().cloned().collect(), self.responders.keys().cloned().collect())
    }

    /// Takes a handler out, for the caller to drop without the lock.
    pub(super) fn take(&mut self, state: &State) -> (Option<Entry<C>>, Option<Responder<C>>) {
        if !self.contains(state) {
            return (None, None);
        }
        match &state.topic {
            Topic::Any => (take_from(&mut self.any, state), None),
            Topic::Event(name) => {
                let Some(list) = self.events.get_mut(name) else { return (None, None) };
                let handler = take_from(list, state);
                if list.is_empty() {
                    self.events.remove(name);
                }
                (handler, None)
            }
            Topic::Request(name) => (None, self.responders.remove(name)),
        }
    }

    /// Takes out all handlers of an event's name, for the caller to end and to drop without the lock.
    pub(super) fn take_all(&mut self, name: &str) -> Option<List<C>> {
        self.events.remove(name)
    }
}

impl<C> Clone for Table<C> {
    fn clone(&self) -> Self {
        Self {
            events: self.events.clone(),
            any: Arc::clone(&self.any),
            responders: self.responders.clone(),
            next_id: self.next_id,
        }
    }
}

fn take_from<C>(list: &mut List<C>, state: &State) -> Option<Entry<C>> {
    let position = position(list, state)?;
    Some(Arc::make_mut(list).remove(position))
}

fn position<C>(list: &List<C>, state: &State) -> Option<usize> {
    list.binary_search_by_key(&state.id, |handler| handler.state().id).ok()
}
