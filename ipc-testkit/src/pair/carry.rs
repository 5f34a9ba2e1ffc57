//! What happens to the connection and to the two processes: greetings, bytes under way, cuts and deaths.

use std::{
    collections::{BTreeSet, VecDeque},
    io::IoSlice,
};

use ipc_pipeline::protocol::{
    ControlReader, FrameReader, Hello, Incoming, Outgoing, PREAMBLE_LEN, Refusal, SessionId,
};

use super::{
    Pair, Violation,
    record::Record,
    tap::{Tap, Written},
    violation::protocol,
};

/// The bytes under way of one connection, and what understands them.
#[derive(Debug)]
pub(super) struct Wire {
    reader: FrameReader,
    control: ControlReader,
    forward: VecDeque<u8>,
    back: VecDeque<u8>,
    tap: Tap,
}

impl Pair {
    pub(super) fn dial(&mut self) -> Result<(), Violation> {
        self.greet(true)
    }

    /// One attempt; the answer may get lost.
    pub(super) fn greet(&mut self, answered: bool) -> Result<(), Violation> {
        if self.sender.end().is_some() {
            return Ok(());
        }
        // The receiver learns of the old connection's end by the new hello.
        if self.wire.take().is_some() {
            self.sender.handle_disconnected();
        }
        let hello = self.sender.hello("test");
        let hello = Hello::decode(&hello.encode().map_err(protocol)?[PREAMBLE_LEN..]).map_err(protocol)?;
        self.hellos.push(hello.clone());
        let mut config = self.config.incoming.clone();
        config.incarnation = self.incarnation;
        let (budget, met_at) = (&self.budget, self.written.whole);
        let record = self.records.entry(hello.session).or_insert_with(|| {
            let machine = Incoming::new(config, &hello, budget.share());
            Record::new(machine, met_at)
        });
        let welcome = record.machine.handle_hello(&hello).map_err(protocol)?;
        if !answered {
            return Ok(());
        }
        if welcome.unknown_session {
            // The sender cannot tell whether an earlier such answer led to anything.
            record.met_at = met_at;
        }
        self.sender.handle_welcome(&welcome).map_err(protocol)?;
        self.wire = Some(Wire {
            reader: FrameReader::new(),
            control: ControlReader::new(),
            forward: VecDeque::new(),
            back: VecDeque::new(),
            tap: Tap::default(),
        });
        Ok(())
    }

    /// An attempt that was overtaken is refused and disturbs nothing.
    pub(super) fn late_hello(&mut self) -> Result<(), Violation> {
        for hello in &self.hellos {
            if let Some(record) = self.records.get_mut(&hello.session)
                && (record.machine.is_connected() || hello.attempt < self.hellos.len() as u64)
            {
                match record.machine.handle_hello(hello) {
                    Err(Refusal::Stale) => {}
                    other => return Err(Violation::Protocol(format!("a late hello got {other:?}"))),
                }
                break;
            }
        }
        Ok(())
    }

    pub(super) fn disconnect(&mut self) {
        if self.wire.take().is_some() {
            self.sender.handle_disconnected();
        }
        if let Some(record) = self.records.get_mut(&self.sender.session()) {
            record.machine.handle_disconnected();
        }
    }

    pub(super) fn receiver_dies(&mut self) {
        self.disconnect();
        self.records.clear();
        self.incarnation += 1;
        // What dead senders had transferred and its application was not done with dies with it.
        let living = self.sender.session();
        self.lose_unless(|id, _| id.0 == living);
    }

    pub(super) fn sender_dies(&mut self) {
        self.disconnect();
        // What had been accepted and not transferred dies with its sender.
        let session = self.sender.session();
        let received = self.records.get(&session).map_or(0, |record| record.machine.received());
        self.lose_unless(|id, skipped| id.0 != session || id.1 <= received && !skipped.contains(&id.1));
        self.settled_below = 0;
        self.sessions += 1;
        self.sender = Outgoing::new(SessionId::from_bits(self.sessions), self.config.outgoing.clone());
        self.written = Written::default();
        self.skipped.clear();
        self.hellos.clear();
        self.finished = false;
    }

    /// Nobody can hand these values out any more, and nobody needs to.
    fn lose_unless(&mut self, is_kept: impl Fn((SessionId, u64), &BTreeSet<u64>) -> bool) {
        let mut accepted = std::mem::take(&mut self.accepted);
        accepted.retain(|id, _| self.is_done(*id) || is_kept(*id, &self.skipped));
        self.accepted = accepted;
    }

    pub(super) fn forget(&mut self) {
        let session = self.sender.session();
        let settled = self.records.get(&session).is_some_and(|record| {
            record.untaken.is_empty()
                && record.held.is_empty()
                && record.machine.released() == record.machine.received()
        });
        if settled && self.wire.is_none() {
            self.records.remove(&session);
        }
    }

    pub(super) fn write(&mut self, mut budget: usize) {
        let Some(wire) = &mut self.wire else { return };
        while budget > 0 && self.sender.poll_transmit().pending {
            let mut slices = [IoSlice::new(&[]); 8];
            let count = self.sender.slices(&mut slices);
            let mut written = 0;
            for slice in &slices[..count] {
                let part = &slice[..slice.len().min(budget - written)];
                wire.forward.extend(part);
                wire.tap.write(part, &mut self.written);
                written += part.len();
            }
            if written == 0 {
                break;
            }
            budget = budget.saturating_sub(written);
            self.sender.handle_written(written);
        }
    }

    pub(super) fn forward(&mut self, count: usize) -> Result<(), Violation> {
        let Some(wire) = &mut self.wire else { return Ok(()) };
        let Some(record) = self.records.get_mut(&self.sender.session()) else { return Ok(()) };
        let count = count.min(wire.forward.len());
        let bytes: Vec<u8> = wire.forward.drain(..count).collect();
        let mut arrivals = Vec::new();
        let outcome = wire.reader.handle_bytes(&bytes, &mut record.machine, &mut arrivals);
        for arrival in arrivals {
            record.arrive(arrival, &mut self.skipped);
        }
        outcome.map_err(protocol)?;
        self.answer(false);
        Ok(())
    }

    pub(super) fn answer(&mut self, tick: bool) {
        let Some(wire) = &mut self.wire else { return };
        let Some(record) = self.records.get_mut(&self.sender.session()) else { return };
        record.machine.handle_taken(record.taken);
        let mut out = Vec::new();
        record.machine.poll_control(tick, &mut out);
        if record.machine.wants_oversize() {
            record.machine.grant_oversize();
            record.machine.poll_control(tick, &mut out);
        }
        wire.back.extend(out);
    }

    pub(super) fn back(&mut self, count: usize) -> Result<(), Violation> {
        let Some(wire) = &mut self.wire else { return Ok(()) };
        let count = count.min(wire.back.len());
        let bytes: Vec<u8> = wire.back.drain(..count).collect();
        let sender = &mut self.sender;
        wire.control.handle_bytes(&bytes, |control| sender.handle_control(control)).map_err(protocol)?;
        // Whoever waited is let go as soon as there is room.
        if count > 0 && sender.reserve() {
            sender.unreserve();
            sender.set_held_up(false);
        }
        Ok(())
    }

    /// Moves every byte that waits, both ways; whether there was one.
    pub(super) fn exchange(&mut self) -> Result<bool, Violation> {
        self.write(usize::MAX);
        let moved = self.wire.as_ref().is_some_and(|wire| !wire.forward.is_empty());
        self.forward(usize::MAX)?;
        let answered = self.wire.as_ref().is_some_and(|wire| !wire.back.is_empty());
        self.back(usize::MAX)?;
        Ok(moved || answered)
    }
}
