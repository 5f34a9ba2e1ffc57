//! What must hold after every step, and what must hold in the end.

use ipc_pipeline::protocol::{End, FLOOR_BYTES};

use super::{Pair, Violation};

impl Pair {
    pub(super) fn check(&self) -> Result<(), Violation> {
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
        Ok(())
    }

    pub(super) fn check_complete(&self) -> Result<(), Violation> {
        let session = self.sender.session();
        if self.sender.pending() > 0 {
            return Err(Violation::Lost { value: (session, self.sender.lowest()) });
        }
        if self.finished && self.sender.end() != Some(&End::Finished) {
            return Err(Violation::Unfinished);
        }
        for value in self.accepted.keys().filter(|value| !self.handed.contains_key(value)) {
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
