//! What handlers did, counted.

use std::sync::atomic::{AtomicU64, Ordering};

/// What the handlers of a server or a client did so far, on all of its connections together.
///
/// Each number is exact at rest; while events are under way, the numbers may be some events apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct HandlerCounters {
    /// Runs of handlers of events that began, streams and wildcards included. An event with two handlers counts twice.
    pub dispatched: u64,
    /// Requests that were answered with the error that their handler returned, or whose answer could not be encoded.
    pub failed: u64,
    /// Handlers that panicked, those of requests included.
    pub panicked: u64,
    /// Requests that were handed to their handler.
    pub requests: u64,
    /// Values that were not of a handler's type, once for each such handler.
    pub undecodable: u64,
    /// Events for which there was no handler at all.
    pub unhandled: u64,
}

#[derive(Default)]
pub(super) struct Counts {
    pub(super) dispatched: Count,
    pub(super) failed: Count,
    pub(super) panicked: Count,
    pub(super) requests: Count,
    pub(super) undecodable: Count,
    pub(super) unhandled: Count,
}

impl Counts {
    pub(super) fn read(&self) -> HandlerCounters {
        HandlerCounters {
            dispatched: self.dispatched.get(),
            failed: self.failed.get(),
            panicked: self.panicked.get(),
            requests: self.requests.get(),
            undecodable: self.undecodable.get(),
            unhandled: self.unhandled.get(),
        }
    }
}

#[derive(Default)]
pub(super) struct Count(AtomicU64);

impl Count {
    pub(super) fn add_one(&self) {
        // Relaxed: a count says nothing about anything else.
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        // Relaxed: as in `add_one`.
        self.0.load(Ordering::Relaxed)
    }
}
