//! Waiting with a thread instead of a task.

use std::{
    pin::pin,
    task::{Context, Poll, Wake, Waker},
    time::Instant,
};

use crate::sync::{park, thread};

/// Polls a future on this thread, parked in between; `None` if the deadline comes first, and the future is dropped.
pub(crate) fn block_on<F: Future>(future: F, deadline: Option<Instant>) -> Option<F::Output> {
    let mut future = pin!(future);
    // std's own `Arc`, also in a model: `Wake` asks for it.
    let waker = Waker::from(std::sync::Arc::new(Unpark(thread::current())));
    let mut context = Context::from_waker(&waker);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return Some(output);
        }
        let at_most = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        if at_most.is_some_and(|time| time.is_zero()) {
            return None;
        }
        // It may return early; the next poll finds out.
        park(at_most);
    }
}

struct Unpark(thread::Thread);

impl Wake for Unpark {
    fn wake(self: std::sync::Arc<Self>) {
        self.0.unpark();
    }
}
