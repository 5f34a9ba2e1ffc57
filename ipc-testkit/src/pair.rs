//! Two link machines and a wire that is cut anywhere: the whole protocol in one thread, without a clock.
//!
//! [`Pair`] carries out scripts of [`Step`]s and keeps the oracle: what was accepted, what was written, what was
//! handed out by which incarnation, with which flag. Every rule of the link that can be stated in one sentence is a
//! [`Violation`].

mod record;
mod script;
mod tap;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    io::IoSlice,
};

use ipc_pipeline::{
    FullPolicy,
    protocol::{
        Budget, ControlReader, End, FLOOR_BYTES, FrameReader, Hello, IncomingConfig, Outgoing,
        OutgoingConfig, PREAMBLE_LEN, Refusal, SessionId,
    },
};

pub use self::script::{Step, configs, scripts};
use self::{
    record::{Record, content},
    tap::Tap,
};

/// What a pair is made of.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct PairConfig {
    /// The sender's side.
    pub outgoing: OutgoingConfig,
    /// The receiver's side.
    pub incoming: IncomingConfig,
    /// The receiving process's budget in bytes.
    pub budget: usize,
    /// Whether unreported moves are reported at the end; without, half the window and requests must do.
    pub ticker: bool,
}

impl Default for PairConfig {
    fn default() -> Self {
        Self {
            outgoing: OutgoingConfig::default(),
            incoming: IncomingConfig::default(),
            budget: 64 * 1024 * 1024,
            ticker: true,
        }
    }
}

/// A rule of the link that a script has broken.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Violation {
    /// A value was accepted and can never arrive.
    Lost {
        /// The session and the value's number.
        value: (SessionId, u64),
    },
    /// A value was handed out twice by one incarnation, or again by a later one without the flag.
    Doubled {
        /// The session and the value's number.
        value: (SessionId, u64),
    },
    /// A value came before one that was accepted earlier.
    Reordered {
        /// The session and the value's number.
        value: (SessionId, u64),
    },
    /// A value arrived with other bytes than it was sent with.
    Corrupt {
        /// The session and the value's number.
        value: (SessionId, u64),
    },
    /// The flag is set although no earlier incarnation can have seen the value.
    WronglyFlagged {
        /// The session and the value's number.
        value: (SessionId, u64),
    },
    /// The policy dropped a value of which something had been written.
    DroppedWritten {
        /// The session and the value's number.
        value: (SessionId, u64),
    },
    /// The receiver was told that a number was dropped, and it was not; or a drop was not reported.
    WronglySkipped {
        /// How many drops the sender counted.
        dropped: u64,
        /// How many numbers the receiver was told of.
        skipped: u64,
    },
    /// The flag is not set although an earlier incarnation may have seen the value.
    NotFlagged {
        /// The session and the value's number.
        value: (SessionId, u64),
    },
    /// The two ends go on talking although nobody does anything.
    Restless,
    /// An end that announced itself was not confirmed.
    Unfinished,
    /// The sender's counts do not add up.
    Miscounted {
        /// What is pending.
        pending: usize,
        /// What was accepted and neither released nor dropped.
        counted: u64,
    },
    /// More values than the capacity are kept, or more bytes held or promised than allowed.
    Unbounded,
    /// One of the machines called the other's bytes a violation of the protocol.
    Protocol(String),
}

#[derive(Debug)]
struct Wire {
    reader: FrameReader,
    control: ControlReader,
    forward: VecDeque<u8>,
    back: VecDeque<u8>,
    tap: Tap,
}

/// Two machines, a wire and an oracle.
#[derive(Debug)]
pub struct Pair {
    config: PairConfig,
    budget: Budget,
    sender: Outgoing,
    sessions: u128,
    incarnation: u64,
    records: BTreeMap<SessionId, Record>,
    wire: Option<Wire>,
    /// What was accepted, by session and number, with its size.
    accepted: BTreeMap<(SessionId, u64), usize>,
    /// Which incarnations handed a value out.
    handed: BTreeMap<(SessionId, u64), BTreeSet<u64>>,
    /// What the current session has written.
    written: tap::Written,
    /// Numbers that receivers of the current session were told are dropped.
    skipped: BTreeSet<u64>,
    hellos: Vec<Hello>,
    finished: bool,
}

impl Pair {
    /// A pair that has not met.
    pub fn new(config: PairConfig) -> Self {
        Self {
            budget: Budget::new(config.budget),
            sender: Outgoing::new(SessionId::from_bits(1), config.outgoing.clone()),
            sessions: 1,
            incarnation: 1,
            records: BTreeMap::new(),
            wire: None,
            accepted: BTreeMap::new(),
            handed: BTreeMap::new(),
            written: tap::Written::default(),
            skipped: BTreeSet::new(),
            hellos: Vec::new(),
            finished: false,
            config,
        }
    }

    /// Carries out a script, then lets everything settle, and checks every rule.
    pub fn run(&mut self, script: &[Step]) -> Result<(), Violation> {
        for step in script {
            self.step(*step)?;
        }
        self.settle()
    }

    /// Carries out one step.
    pub fn step(&mut self, step: Step) -> Result<(), Violation> {
        match step {
            Step::Ack(which) => self.ack(which),
            Step::Cut(keep) => {
                self.forward(keep.into())?;
                self.disconnect();
            }
            Step::Dial => self.dial()?,
            Step::DialInVain => {
                self.greet(false)?;
                self.disconnect();
            }
            Step::Finish => {
                self.finished = true;
                self.sender.finish();
            }
            Step::Forget => self.forget(),
            Step::Forward(count) => self.forward(count.into())?,
            Step::LateHello => self.late_hello()?,
            Step::ReceiverDies => self.receiver_dies(),
            Step::Recover => self.recover(),
            Step::Return(count) => self.back(count.into())?,
            Step::Send(size) => self.send(size as usize)?,
            Step::SenderDies => self.sender_dies(),
            Step::Take(count) => self.take(count.into())?,
            Step::Tick => self.answer(true),
            Step::Write(count) => self.write(count.into()),
        }
        self.check()
    }

    /// Reconnects, moves every byte, takes and acks everything until nothing moves; then nothing may be missing.
    pub fn settle(&mut self) -> Result<(), Violation> {
        if self.wire.is_none() {
            self.dial()?;
        }
        self.sender.wait_for_release();
        self.calm()?;
        for _ in 0..10_000 {
            self.exchange()?;
            // A few at a time, so that small windows and their bounds are met on the way.
            self.take(3)?;
            while self.records.values().any(|record| !record.held.is_empty()) {
                self.ack(0);
            }
            self.answer(self.config.ticker);
            self.back(usize::MAX)?;
            let untaken = self.records.values().any(|record| !record.untaken.is_empty());
            let unfinished = self.finished && self.sender.end().is_none();
            if self.sender.pending() == 0 && !untaken && !unfinished {
                break;
            }
        }
        self.exchange()?;
        self.calm()?;
        self.check()?;
        self.check_complete()
    }

    /// Nobody does anything: the two ends must fall silent.
    pub fn calm(&mut self) -> Result<(), Violation> {
        for _ in 0..200 {
            if !self.exchange()? {
                return Ok(());
            }
        }
        Err(Violation::Restless)
    }

    /// The sender's machine.
    pub fn sender(&mut self) -> &mut Outgoing {
        &mut self.sender
    }

    /// How many values were handed out, by all incarnations.
    pub fn handed_out(&self) -> usize {
        self.handed.values().map(BTreeSet::len).sum()
    }

    /// The numbers of the current session's values that were handed out.
    pub fn handed_numbers(&self) -> Vec<u64> {
        let session = self.sender.session();
        self.handed.keys().filter(|value| value.0 == session).map(|value| value.1).collect()
    }

    /// How many numbers the current session's receivers were told are dropped.
    pub fn skipped(&self) -> usize {
        self.skipped.len()
    }

    /// Whether the session has ended, and how.
    pub fn end(&self) -> Option<&End> {
        self.sender.end()
    }

    fn check(&self) -> Result<(), Violation> {
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

    fn check_complete(&self) -> Result<(), Violation> {
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

    fn send(&mut self, size: usize) -> Result<(), Violation> {
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

    fn dial(&mut self) -> Result<(), Violation> {
        self.greet(true)
    }

    /// One attempt; the answer may get lost.
    fn greet(&mut self, answered: bool) -> Result<(), Violation> {
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
            let machine = ipc_pipeline::protocol::Incoming::new(config, &hello, budget.share());
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
    fn late_hello(&mut self) -> Result<(), Violation> {
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

    fn disconnect(&mut self) {
        if self.wire.take().is_some() {
            self.sender.handle_disconnected();
        }
        if let Some(record) = self.records.get_mut(&self.sender.session()) {
            record.machine.handle_disconnected();
        }
    }

    fn receiver_dies(&mut self) {
        self.disconnect();
        self.records.clear();
        self.incarnation += 1;
        // What dead senders had transferred and it had not handed out dies with it.
        let (session, handed) = (self.sender.session(), &self.handed);
        self.accepted.retain(|id, _| id.0 == session || handed.contains_key(id));
    }

    fn sender_dies(&mut self) {
        self.disconnect();
        // What had been accepted and not transferred dies with its sender.
        let session = self.sender.session();
        let received = self.records.get(&session).map_or(0, |record| record.machine.received());
        let (handed, skipped) = (&self.handed, &self.skipped);
        self.accepted.retain(|id, _| {
            id.0 != session || handed.contains_key(id) || id.1 <= received && !skipped.contains(&id.1)
        });
        self.sessions += 1;
        self.sender = Outgoing::new(SessionId::from_bits(self.sessions), self.config.outgoing.clone());
        self.written = tap::Written::default();
        self.skipped.clear();
        self.hellos.clear();
        self.finished = false;
    }

    fn forget(&mut self) {
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

    fn write(&mut self, mut budget: usize) {
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

    fn forward(&mut self, count: usize) -> Result<(), Violation> {
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

    fn answer(&mut self, tick: bool) {
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

    fn back(&mut self, count: usize) -> Result<(), Violation> {
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
    fn exchange(&mut self) -> Result<bool, Violation> {
        self.write(usize::MAX);
        let moved = self.wire.as_ref().is_some_and(|wire| !wire.forward.is_empty());
        self.forward(usize::MAX)?;
        let answered = self.wire.as_ref().is_some_and(|wire| !wire.back.is_empty());
        self.back(usize::MAX)?;
        Ok(moved || answered)
    }

    fn take(&mut self, count: usize) -> Result<(), Violation> {
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

    fn ack(&mut self, which: u8) {
        for record in self.records.values_mut() {
            if !record.held.is_empty() {
                let index = usize::from(which) % record.held.len();
                let number = record.held.swap_remove(index);
                record.acked.insert(number);
                record.machine.handle_taken(record.taken);
                record.machine.handle_acked(number);
            }
        }
        self.answer(false);
    }

    fn recover(&mut self) {
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

fn protocol(error: impl std::fmt::Display) -> Violation {
    Violation::Protocol(error.to_string())
}
