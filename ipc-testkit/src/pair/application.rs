//! What the two applications do: send at one end; take, ack and recover at the other.

use ipc_pipeline::FullPolicy;

use super::{Pair, Violation, record::content};

impl Pair {
    pub(super) fn send(&mut self, size: usize) -> Result<(), Violation> {
        if self.finished || self.sender.end().is_some() {
            return Ok(());
        }
        let mut reserved = self.sender.reserve();
        if !reserved && self.config.outgoing.policy == FullPolicy::DropOldest {
            while !reserved && self.sender.drop_oldest() {
                reserved = self.sender.reserve();
            }
        }
        if !reserved {
            match self.config.outgoing.policy {
                FullPolicy::DropNewest | FullPolicy::DropOldest => self.sender.drop_newest(),
                FullPolicy::Wait => self.sender.set_held_up(true),
                _ => {}
            }
            return Ok(());
        }
        let number = self.sender.last_number() + 1;
        let session = self.sender.session();
        let content = content(session, number, size);
        match self.sender.append(|out| out.write(&content)) {
            Ok(found) => assert_eq!(found, number, "numbers follow one another"),
            Err(_) => {
                self.sender.unreserve();
                return Ok(());
            }
        }
        self.accepted.insert((session, number), size);
        Ok(())
    }

    pub(super) fn take(&mut self, count: usize) -> Result<(), Violation> {
        let explicit = self.config.incoming.explicit;
        for (session, record) in &mut self.records {
            for _ in 0..count {
                let Some(value) = record.untaken.pop_front() else { break };
                let id = (*session, value.number);
                record.taken.number = value.number;
                record.taken.values += 1;
                record.taken.bytes += value.frame_len;
                if record.machine.is_acked(value.number) && explicit {
                    record.machine.count_duplicate();
                    continue;
                }
                let size = self.accepted.get(&id).copied();
                if size.is_none_or(|size| content(*session, value.number, size) != value.bytes) {
                    return Err(Violation::Corrupt { value: id });
                }
                let new = record.seen.insert(value.number);
                let incarnations = self.handed.entry(id).or_default();
                let elsewhere = incarnations.iter().any(|earlier| *earlier != self.incarnation);
                // Certainly never handed to any application, or else flagged: nothing in between.
                let may_be_seen = value.number <= record.met_at || explicit && !new;
                let fresh = (new || value.redelivered && explicit) && !record.acked.contains(&value.number);
                if !fresh || elsewhere && !value.redelivered {
                    return Err(Violation::Doubled { value: id });
                }
                if may_be_seen && !value.redelivered {
                    return Err(Violation::NotFlagged { value: id });
                }
                if value.redelivered && !may_be_seen {
                    return Err(Violation::WronglyFlagged { value: id });
                }
                if value.number <= record.last {
                    return Err(Violation::Reordered { value: id });
                }
                record.last = value.number;
                incarnations.insert(self.incarnation);
                if explicit {
                    record.held.push(value.number);
                }
            }
        }
        self.answer(false);
        Ok(())
    }

    pub(super) fn ack(&mut self, which: u8) {
        for (session, record) in &mut self.records {
            if !record.held.is_empty() {
                let index = usize::from(which) % record.held.len();
                let number = record.held.swap_remove(index);
                record.acked.insert(number);
                self.acked.insert((*session, number));
                record.machine.handle_taken(record.taken);
                record.machine.handle_acked(number);
            }
        }
        self.answer(false);
    }

    pub(super) fn recover(&mut self) {
        if !self.config.incoming.explicit {
            return;
        }
        self.disconnect();
        // The link of a dead sender has nobody to send again.
        if let Some(record) = self.records.get_mut(&self.sender.session()) {
            record.machine.handle_taken(record.taken);
            record.machine.recover();
            record.untaken.clear();
            record.held.clear();
            record.taken = record.machine.taken();
            record.last = record.machine.released();
        }
    }
}
