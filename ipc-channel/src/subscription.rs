//! Subscriptions: the handle by which a handler is removed again.

use std::{
    fmt,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
    },
};

/// A handler that was added, and the way to remove it.
///
/// Dropping it keeps the handler. Its clones are handles of the same handler; all of them may outlive the server or
/// client to which the handler belongs.
#[derive(Clone)]
pub struct Subscription {
    state: Arc<State>,
    registry: Weak<dyn Registry>,
}

impl Subscription {
    pub(crate) fn new(state: Arc<State>, registry: Weak<dyn Registry>) -> Self {
        Self { state, registry }
    }

    /// Removes the handler: it does not begin again. What has begun goes on to its end.
    ///
    /// It may be called at any time, from inside a handler too, and any number of times. Another task may be about to
    /// begin the handler in this very moment; then that event is its last. A connection lets go of the handler itself,
    /// and of what its closure holds, with its next event or its end.
    pub fn cancel(&self) {
        if self.state.end()
            && let Some(registry) = self.registry.upgrade()
        {
            registry.forget(&self.state);
        }
    }

    /// Whether the handler may still run: it was not removed, it was not used up, and what it belongs to exists.
    pub fn is_active(&self) -> bool {
        self.state.is_active() && self.registry.strong_count() > 0
    }

    /// The name that it was added for; `None` for a wildcard.
    pub fn name(&self) -> Option<&str> {
        match &self.state.topic {
            Topic::Any => None,
            Topic::Event(name) | Topic::Request(name) => Some(name),
        }
    }
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription")
            .field("topic", &self.state.topic)
            .field("active", &self.is_active())
            .finish_non_exhaustive()
    }
}

/// Where handlers are registered, whatever their context is.
pub(crate) trait Registry: Send + Sync {
    /// Takes the handler out of the table, if it is still there.
    fn forget(&self, state: &State);
}

/// What a handler is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Topic {
    /// Every event.
    Any,
    /// The events of one name.
    Event(Arc<str>),
    /// The requests of one name.
    Request(Arc<str>),
}

/// What a registered handler and its subscriptions share.
pub(crate) struct State {
    /// Its place in the order of subscription.
    pub(crate) id: u64,
    pub(crate) topic: Topic,
    once: bool,
    active: AtomicBool,
    ended: Option<Box<dyn Fn() + Send + Sync>>,
}

impl State {
    /// `ended` is called once, without any lock held, when the handler is removed.
    pub(crate) fn new(id: u64, topic: Topic, once: bool, ended: Option<Box<dyn Fn() + Send + Sync>>) -> Self {
        Self { id, topic, once, active: AtomicBool::new(true), ended }
    }

    pub(crate) fn is_active(&self) -> bool {
        // Acquire: with the release of `end`, what was done before a removal is seen by who finds it removed.
        self.active.load(Ordering::Acquire)
    }

    /// Whether it was to run once and has begun, or was removed.
    pub(crate) fn is_spent(&self) -> bool {
        self.once && !self.is_active()
    }

    /// Asks to run now. Of all that ask a handler that runs once, one may.
    pub(crate) fn begin(&self) -> bool {
        if self.once { self.end() } else { self.is_active() }
    }

    /// Makes it inactive; `false` if it was so already.
    pub(crate) fn end(&self) -> bool {
        // AcqRel: see `is_active`, for both sides.
        let first = self.active.swap(false, Ordering::AcqRel);
        if let (true, Some(ended)) = (first, &self.ended) {
            ended();
        }
        first
    }
}
