//! What must hold after every step, and what must hold in the end.

use ipc_pipeline::protocol::{End, FLOOR_BYTES, SessionId};

use super::{Pair, Violation};

impl Pair {
    pub(super) fn check(&mut self) -> Result<(), Violation> {
        let pending = self.sender.pending();
        if pending > self.config.outgoing.capacity.get() || self.budget.used() > self.config.budget {
            return Err(Violation::Unbounded);
        }
        let counters = self.sender.counters();
        let counted = counters.accepted - counters.released - counters.dropped;
        if counted != pending as u64 {
            return Err(Violation::Miscounted { pending, counted });
        }
        let config = &self.config.incoming;
        let most = config.max_window_bytes.max(FLOOR_BYTES) + config.max_message as u64 + 64;
        for record in self.records.values() {
            let window = config.window.get().min(self.config.outgoing.capacity.get() as u64);
            if record.untaken.len() as u64 > window || record.untaken_bytes() > most {
                return Err(Violation::Unbounded);
            }
        }
        self.check_released()
    }

    /// Nothing is released before the application is done with it, by the receiver's word and at the sender.
    fn check_released(&mut self) -> Result<(), Violation> {
        let explicit = self.config.incoming.explicit;
        for (session, record) in &mut self.records {
            let undone = record.oldest_undone(explicit);
            // What was acked before a recovery is not released before it has come again.
            let first_unreleasable = undone.min(record.machine.received() + 1);
            if record.machine.released() >= first_unreleasable {
                return Err(Violation::ReleasedEarly { value: (*session, first_unreleasable) });
            }
        }
        let (session, lowest) = (self.sender.session(), self.sender.lowest());
        // What was never written can only have been dropped, which the end of the script looks at.
        let written = self.written.begun.range(self.settled_below..lowest);
        if let Some(number) = written.copied().find(|number| !self.is_done((session, *number))) {
            return Err(Violation::ReleasedEarly { value: (session, number) });
        }
        self.settled_below = lowest;
        Ok(())
    }

    /// Whether nobody need see this value any more: an application acked it, or took it in automatic mode.
    pub(super) fn is_done(&self, value: (SessionId, u64)) -> bool {
        if self.config.incoming.explicit {
            self.acked.contains(&value)
        } else {
            self.handed.contains_key(&value)
        }
    }

    pub(super) fn check_complete(&self) -> Result<(), Violation> {
        let session = self.sender.session();
        if self.sender.pending() > 0 {
            return Err(Violation::Lost { value: (session, self.sender.lowest()) });
        }
        if self.finished && self.sender.end() != Some(&End::Finished) {
            return Err(Violation::Unfinished);
        }
        for value in self.accepted.keys().filter(|value| !self.is_done(**value)) {
            if value.0 != session || !self.skipped.contains(&value.1) {
                return Err(Violation::Lost { value: *value });
            }
            if self.written.begun.contains(&value.1) {
                return Err(Violation::DroppedWritten { value: *value });
            }
        }
        let (dropped, skipped) = (self.sender.counters().dropped, self.skipped.len() as u64);
        let handed = self.skipped.iter().any(|number| self.handed.contains_key(&(session, *number)));
        if dropped != skipped || handed {
            return Err(Violation::WronglySkipped { dropped, skipped });
        }
        Ok(())
    }
}
