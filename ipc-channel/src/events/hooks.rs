//! Handlers of what happens to connections. Only this process can raise it: no name that a peer sends leads here.

use std::{
    panic::AssertUnwindSafe,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
};

use crate::{
    Subscription,
    subscription::{Registry, State, Topic},
};

type Run<E> = Arc<dyn Fn(E) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync>;

/// The handlers of one kind of occasion, run one after the other in the order in which they were added.
pub(super) struct Hooks<E> {
    state: Mutex<List<E>>,
}

struct List<E> {
    next: u64,
    hooks: Vec<(Arc<State>, Run<E>)>,
}

impl<E: Clone + Send + 'static> Hooks<E> {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self { state: Mutex::new(List { next: 0, hooks: Vec::new() }) })
    }

    pub(super) fn add<F, Fut>(self: &Arc<Self>, handler: F) -> Subscription
    where
        F: Fn(E) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        let run: Run<E> = Arc::new(move |event| Box::pin(handler(event)));
        let mut list = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        list.next += 1;
        let state = Arc::new(State::new(list.next, Topic::Any, false, None));
        list.hooks.push((state.clone(), run));
        drop(list);
        let registry = Arc::downgrade(self);
        Subscription::new(state, registry)
    }

    /// Runs all handlers to their ends; how many of them panicked.
    pub(super) async fn run(&self, event: E) -> u64 {
        let hooks: Vec<_> = {
            let list = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            list.hooks.clone()
        };
        let mut panicked = 0;
        for (state, run) in hooks {
            if state.begin() {
                let event = event.clone();
                let begun = std::panic::catch_unwind(AssertUnwindSafe(move || run(event)));
                let ended = match begun {
                    Ok(future) => caught(future).await,
                    Err(_) => false,
                };
                panicked += u64::from(!ended);
            }
        }
        panicked
    }
}

/// Brings a future to its end; `false` when it panicked.
async fn caught(mut future: Pin<Box<dyn Future<Output = ()> + Send>>) -> bool {
    std::future::poll_fn(move |cx| {
        match std::panic::catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx))) {
            Ok(polled) => polled.map(|()| true),
            Err(_) => std::task::Poll::Ready(false),
        }
    })
    .await
}

impl<E: Send> Registry for Hooks<E> {
    fn forget(&self, state: &State) {
        let mut list = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let place = list.hooks.iter().position(|(known, _)| known.id == state.id);
        let removed = place.map(|place| list.hooks.remove(place));
        drop(list);
        drop(removed);
    }
}
