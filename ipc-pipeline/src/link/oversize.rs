//! One value larger than a window at a time: otherwise a large value could never come, or many would come at once.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use super::session::Session;
use crate::protocol::SessionId;

/// The one value larger than a window that a receiving end lets in at a time, in order of asking.
#[derive(Default)]
pub(super) struct OversizeSlot {
    state: Mutex<SlotState>,
}

#[derive(Default)]
struct SlotState {
    taken: bool,
    queue: VecDeque<(SessionId, Weak<Session>)>,
}

impl OversizeSlot {
    pub(super) fn acquire(&self, session: &Arc<Session>) -> bool {
        let mut state = self.lock();
        let first = state.queue.front().is_none_or(|(id, _)| *id == session.id);
        if !state.taken && first {
            state.queue.pop_front();
            state.taken = true;
            return true;
        }
        if !state.queue.iter().any(|(id, _)| *id == session.id) {
            state.queue.push_back((session.id, Arc::downgrade(session)));
        }
        false
    }

    pub(super) fn release(&self) {
        let mut state = self.lock();
        state.taken = false;
        Self::tell_next(state);
    }

    /// The session does not ask any more; whoever asked next must not wait for it.
    pub(super) fn forget(&self, session: &Session) {
        let mut state = self.lock();
        let was_first = state.queue.front().is_some_and(|(id, _)| *id == session.id);
        state.queue.retain(|(id, _)| *id != session.id);
        if was_first {
            Self::tell_next(state);
        }
    }

    fn tell_next(state: MutexGuard<'_, SlotState>) {
        if state.taken {
            return;
        }
        let next = state.queue.front().and_then(|(_, session)| session.upgrade());
        drop(state);
        if let Some(session) = next {
            // Through the ticker's thread, as this one holds its own session's lock.
            session.arm();
        }
    }

    fn lock(&self) -> MutexGuard<'_, SlotState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
