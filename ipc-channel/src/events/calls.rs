//! Calls under way: those of this side that wait for answers, and those of the other side that are being answered.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use tokio::{sync::oneshot, task::AbortHandle};

use super::{CallError, peer::Peer};

/// What an answer is, until somebody decodes it.
pub(super) type Answered = Result<Bytes, CallError>;

/// Who waits for an answer.
pub(super) enum Waiter {
    /// A call of this process.
    Local(oneshot::Sender<Answered>),
    /// A client that asks another one through this server, and the number that it gave its request.
    Relay { origin: Weak<Peer>, id: u64 },
}

/// The calls to one peer, and from it. Numbers count per peer, so those of one say nothing to another.
pub(super) struct Calls {
    state: Mutex<State>,
    max_pending: usize,
    max_in_flight: usize,
    late: AtomicU64,
}

#[derive(Default)]
struct State {
    next: u64,
    pending: HashMap<u64, Waiter>,
    in_flight: HashMap<u64, InFlight>,
    /// Grows with each lost connection: what began before is of no interest any more.
    epoch: u64,
}

/// A request of the peer's that is being answered.
enum InFlight {
    /// Its task is about to be spawned.
    Beginning,
    /// By a handler of this process.
    Here(AbortHandle),
    /// By another client: who, and the number that the request has there.
    There { target: Weak<Peer>, id: u64 },
}

/// Where the answer to a request of another client's is on its way, as the request ends.
pub(super) enum Ended {
    /// Nothing else is to be done.
    Here,
    /// The other client is to be told that nobody waits any more.
    There { target: Arc<Peer>, id: u64 },
}

impl Calls {
    pub(super) fn new(max_pending: usize, max_in_flight: usize) -> Self {
        Self { state: Mutex::default(), max_pending, max_in_flight, late: AtomicU64::new(0) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Answers that came when nobody waited for them any more.
    pub(super) fn late(&self) -> u64 {
        self.late.load(Ordering::Relaxed)
    }

    // Calls of this side.

    /// Numbers a call; its waiter gets the answer, or hears why there is none.
    pub(super) fn begin(&self, waiter: Waiter) -> Result<u64, CallError> {
        let mut state = self.lock();
        if state.pending.len() >= self.max_pending {
            return Err(CallError::TooManyCalls { max: self.max_pending });
        }
        state.next += 1;
        let id = state.next;
        state.pending.insert(id, waiter);
        Ok(id)
    }

    /// Whoever waited for this call, which is over; `None`, and counted, when nobody does any more.
    pub(super) fn answered(&self, id: u64) -> Option<Waiter> {
        let waiter = self.lock().pending.remove(&id);
        if waiter.is_none() {
            self.late.fetch_add(1, Ordering::Relaxed);
        }
        waiter
    }

    /// Nobody waits any more; `false` when the answer was faster.
    pub(super) fn give_up(&self, id: u64) -> bool {
        self.lock().pending.remove(&id).is_some()
    }

    /// Everybody who waits.
    pub(super) fn take_pending(&self) -> Vec<(u64, Waiter)> {
        self.lock().pending.drain().collect()
    }

    // Requests of the peer.

    /// Takes a request in; `None` when as many as may are being answered.
    pub(super) fn take_in(&self, id: u64) -> Option<u64> {
        let mut state = self.lock();
        if state.in_flight.len() >= self.max_in_flight || state.in_flight.contains_key(&id) {
            return None;
        }
        state.in_flight.insert(id, InFlight::Beginning);
        Some(state.epoch)
    }

    /// Its handler runs in this task.
    pub(super) fn runs_here(&self, id: u64, task: AbortHandle) {
        match self.lock().in_flight.get_mut(&id) {
            Some(entry) => *entry = InFlight::Here(task),
            // It is over already, or nobody has waited for it since before its task was known.
            None => task.abort(),
        }
    }

    /// It was passed on to another client.
    pub(super) fn runs_there(&self, id: u64, target: &Arc<Peer>, there: u64) {
        if let Some(entry) = self.lock().in_flight.get_mut(&id) {
            *entry = InFlight::There { target: Arc::downgrade(target), id: there };
        }
    }

    /// The request is answered; `false` when nobody wants the answer any more.
    pub(super) fn done(&self, id: u64, epoch: u64) -> bool {
        let mut state = self.lock();
        state.epoch == epoch && state.in_flight.remove(&id).is_some()
    }

    /// As [`done`](Self::done), for one that was answered elsewhere.
    pub(super) fn done_there(&self, id: u64) -> bool {
        self.lock().in_flight.remove(&id).is_some()
    }

    /// The peer does not wait for this answer any more.
    pub(super) fn cancelled(&self, id: u64) -> Option<Ended> {
        let entry = self.lock().in_flight.remove(&id)?;
        Some(end(entry))
    }

    /// The peer's connection is gone: it waits for nothing any more.
    pub(super) fn cancel_in_flight(&self) -> Vec<Ended> {
        let mut state = self.lock();
        state.epoch += 1;
        let entries: Vec<_> = state.in_flight.drain().collect();
        drop(state);
        entries.into_iter().map(|(_, entry)| end(entry)).collect()
    }
}

fn end(entry: InFlight) -> Ended {
    match entry {
        InFlight::Beginning => Ended::Here,
        InFlight::Here(task) => {
            task.abort();
            Ended::Here
        }
        InFlight::There { target, id } => match target.upgrade() {
            Some(target) => Ended::There { target, id },
            None => Ended::Here,
        },
    }
}
