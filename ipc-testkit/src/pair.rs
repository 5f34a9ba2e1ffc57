//! Two link machines and a wire that is cut anywhere: the whole protocol in one thread, without a clock.
//!
//! [`Pair`] carries out scripts of [`Step`]s and keeps the oracle: what was accepted, what was handed out by which
//! incarnation, with which flag. Every rule of the link that can be stated in one sentence is a [`Violation`].

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    io::IoSlice,
};

use ipc_pipeline::{
    FullPolicy,
    protocol::{
        Arrival, Budget, Control, ControlReader, End, FrameReader, HEADER_LEN, Header, Incoming,
        IncomingConfig, Kind, Outgoing, OutgoingConfig, Run, SessionId, Taken,
    },
};
use proptest::prelude::*;

/// One step of a script.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Step {
    /// The application acks one of the values it holds, in explicit mode.
    Ack(u8),
    /// The connection is cut; of the bytes under way to the receiver so many still arrive.
    Cut(u16),
    /// A new connection is made and both machines greet each other.
    Dial,
    /// So many bytes travel to the receiver.
    Forward(u16),
    /// The receiving process dies and another incarnation takes its place.
    ReceiverDies,
    /// The receiving application takes everything back that it did not ack, in explicit mode.
    Recover,
    /// So many bytes travel back to the sender.
    Return(u16),
    /// The sending application sends a value of this size.
    Send(u32),
    /// The sending process dies; another session takes its place.
    SenderDies,
    /// The receiving application takes so many values.
    Take(u8),
    /// The ticker runs: moves that were not reported are.
    Tick,
    /// The sender's machine writes at most so many bytes.
    Write(u16),
}

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
}

impl Default for PairConfig {
    fn default() -> Self {
        Self {
            outgoing: OutgoingConfig::default(),
            incoming: IncomingConfig::default(),
            budget: 64 * 1024 * 1024,
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
    /// More values than the capacity are kept, or more bytes promised than allowed.
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
}

#[derive(Debug)]
struct Record {
    machine: Incoming,
    untaken: VecDeque<Value>,
    taken: Taken,
    held: Vec<u64>,
    last: u64,
    seen: BTreeSet<u64>,
}

#[derive(Debug)]
struct Value {
    number: u64,
    bytes: Vec<u8>,
    frame_len: u64,
    redelivered: bool,
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
    accepted: BTreeMap<(SessionId, u64), usize>,
    handed: BTreeMap<(SessionId, u64), BTreeSet<u64>>,
    written_before_met: u64,
    /// Values that the policy dropped after they had been accepted.
    dropped: usize,
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
            written_before_met: 0,
            dropped: 0,
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
                Ok(())
            }
            Step::Dial => self.dial(),
            Step::Forward(count) => self.forward(count.into()),
            Step::ReceiverDies => {
                self.disconnect();
                self.records.clear();
                self.incarnation += 1;
                // What dead senders had transferred and it had not handed out dies with it.
                let (session, handed) = (self.sender.session(), &self.handed);
                self.accepted.retain(|id, _| id.0 == session || handed.contains_key(id));
                Ok(())
            }
            Step::Recover => self.recover(),
            Step::Return(count) => self.back(count.into()),
            Step::Send(size) => self.send(size as usize),
            Step::SenderDies => {
                self.disconnect();
                self.forget_untransferred();
                self.sessions += 1;
                self.sender =
                    Outgoing::new(SessionId::from_bits(self.sessions), self.config.outgoing.clone());
                Ok(())
            }
            Step::Take(count) => self.take(count.into()),
            Step::Tick => {
                self.answer(true);
                Ok(())
            }
            Step::Write(count) => {
                self.write(count.into());
                Ok(())
            }
        }
    }

    /// Reconnects, moves every byte, takes and acks everything until nothing moves; then nothing may be missing.
    pub fn settle(&mut self) -> Result<(), Violation> {
        if self.wire.is_none() {
            self.dial()?;
        }
        self.sender.wait_for_release();
        for _ in 0..10_000 {
            self.write(usize::MAX);
            self.forward(usize::MAX)?;
            self.take(usize::MAX)?;
            while self.records.values().any(|record| !record.held.is_empty()) {
                self.ack(0)?;
            }
            self.answer(true);
            self.back(usize::MAX)?;
            if self.sender.pending() == 0 {
                break;
            }
        }
        let session = self.sender.session();
        if self.sender.pending() > 0 {
            return Err(Violation::Lost { value: (session, self.sender.lowest()) });
        }
        let mut missing = self.accepted.keys().filter(|value| !self.handed.contains_key(value));
        if let Some(value) = missing.nth(self.dropped) {
            return Err(Violation::Lost { value: *value });
        }
        Ok(())
    }

    /// The sender's machine.
    pub fn sender(&mut self) -> &mut Outgoing {
        &mut self.sender
    }

    /// How many values were handed out, by all incarnations.
    pub fn handed_out(&self) -> usize {
        self.handed.values().map(BTreeSet::len).sum()
    }

    fn send(&mut self, size: usize) -> Result<(), Violation> {
        let mut reserved = self.sender.reserve();
        if !reserved && self.config.outgoing.policy == FullPolicy::DropOldest && self.sender.drop_oldest() {
            self.dropped += 1;
            reserved = self.sender.reserve();
        }
        if !reserved {
            match self.config.outgoing.policy {
                FullPolicy::DropNewest | FullPolicy::DropOldest => self.sender.drop_newest(),
                _ => self.sender.set_held_up(true),
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
        if self.sender.pending() > self.config.outgoing.capacity.get() {
            return Err(Violation::Unbounded);
        }
        Ok(())
    }

    fn dial(&mut self) -> Result<(), Violation> {
        self.disconnect();
        let hello = self.sender.hello("test");
        let hello = ipc_pipeline::protocol::Hello::decode(&hello.encode().map_err(protocol)?[8..])
            .map_err(protocol)?;
        let mut config = self.config.incoming.clone();
        config.incarnation = self.incarnation;
        if hello.known != self.incarnation {
            self.written_before_met = self.sender.written_until();
        }
        let record = self.records.entry(hello.session).or_insert_with(|| Record {
            taken: Taken { number: hello.lowest - 1, ..Taken::default() },
            machine: Incoming::new(config, &hello, self.budget.share()),
            untaken: VecDeque::new(),
            held: Vec::new(),
            last: 0,
            seen: BTreeSet::new(),
        });
        let welcome = record
            .machine
            .handle_hello(&hello)
            .map_err(|refusal| Violation::Protocol(refusal.to_string()))?;
        self.sender.handle_welcome(&welcome).map_err(protocol)?;
        self.wire = Some(Wire {
            reader: FrameReader::new(),
            control: ControlReader::new(),
            forward: VecDeque::new(),
            back: VecDeque::new(),
        });
        Ok(())
    }

    fn disconnect(&mut self) {
        if self.wire.take().is_some() {
            self.sender.handle_disconnected();
            if let Some(record) = self.records.get_mut(&self.sender.session()) {
                record.machine.handle_disconnected();
            }
        }
    }

    fn write(&mut self, mut budget: usize) {
        let Some(wire) = &mut self.wire else { return };
        while budget > 0 && self.sender.poll_transmit().pending {
            let mut slices = [IoSlice::new(&[]); 8];
            let count = self.sender.slices(&mut slices);
            let mut written = 0;
            for slice in &slices[..count] {
                let part = slice.len().min(budget - written);
                wire.forward.extend(&slice[..part]);
                written += part;
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
            record.arrive(arrival);
        }
        outcome.map_err(protocol)?;
        self.answer(false);
        Ok(())
    }

    fn answer(&mut self, tick: bool) {
        let Some(wire) = &mut self.wire else { return };
        let Some(record) = self.records.get_mut(&self.sender.session()) else { return };
        record.machine.handle_taken(record.taken);
        if record.machine.wants_oversize() {
            record.machine.grant_oversize();
        }
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
        sender.set_held_up(false);
        Ok(())
    }

    fn take(&mut self, count: usize) -> Result<(), Violation> {
        let current = self.sender.session();
        for (session, record) in &mut self.records {
            for _ in 0..count {
                let Some(value) = record.untaken.pop_front() else { break };
                let id = (*session, value.number);
                record.taken.number = value.number;
                record.taken.values += 1;
                record.taken.bytes += value.frame_len;
                if record.machine.is_acked(value.number) && self.config.incoming.explicit {
                    record.machine.count_duplicate();
                    continue;
                }
                let size = self.accepted.get(&id).copied();
                if size.is_none_or(|size| content(*session, value.number, size) != value.bytes) {
                    return Err(Violation::Corrupt { value: id });
                }
                let new = record.seen.insert(value.number);
                let retaken = self.config.incoming.explicit && value.redelivered;
                if !new && !retaken {
                    return Err(Violation::Doubled { value: id });
                }
                if value.number <= record.last && !value.redelivered {
                    return Err(Violation::Reordered { value: id });
                }
                record.last = value.number;
                let incarnations = self.handed.entry(id).or_default();
                if incarnations.iter().any(|earlier| *earlier != self.incarnation) && !value.redelivered {
                    return Err(Violation::Doubled { value: id });
                }
                let again = incarnations.contains(&self.incarnation);
                if *session == current
                    && value.redelivered
                    && !again
                    && value.number > self.written_before_met
                {
                    return Err(Violation::WronglyFlagged { value: id });
                }
                incarnations.insert(self.incarnation);
                if self.config.incoming.explicit {
                    record.held.push(value.number);
                }
            }
        }
        self.answer(false);
        Ok(())
    }

    fn ack(&mut self, which: u8) -> Result<(), Violation> {
        for record in self.records.values_mut() {
            if !record.held.is_empty() {
                let index = usize::from(which) % record.held.len();
                let number = record.held.swap_remove(index);
                record.machine.handle_taken(record.taken);
                record.machine.handle_acked(number);
            }
        }
        self.answer(false);
        Ok(())
    }

    fn recover(&mut self) -> Result<(), Violation> {
        if !self.config.incoming.explicit {
            return Ok(());
        }
        self.disconnect();
        // The link of a dead sender has nobody to send again.
        if let Some(record) = self.records.get_mut(&self.sender.session()) {
            record.machine.handle_taken(record.taken);
            record.machine.recover();
            record.untaken.clear();
            record.held.clear();
            record.taken = Taken { number: record.machine.released(), ..Taken::default() };
            record.last = record.machine.released();
        }
        Ok(())
    }

    /// What had been accepted and not transferred dies with its sender.
    fn forget_untransferred(&mut self) {
        let session = self.sender.session();
        let received = self.records.get(&session).map_or(0, |record| record.machine.received());
        let handed = &self.handed;
        self.accepted.retain(|id, _| id.0 != session || id.1 <= received || handed.contains_key(id));
    }

    /// Whether the session has ended, and how.
    pub fn end(&self) -> Option<&End> {
        self.sender.end()
    }
}

impl Record {
    fn arrive(&mut self, arrival: Arrival) {
        match arrival {
            Arrival::Large { number, payload, maybe_seen_until } => {
                let pieces = payload.len().div_ceil(256 * 1024).max(1);
                self.untaken.push_back(Value {
                    number,
                    frame_len: (payload.len() + pieces * HEADER_LEN) as u64,
                    bytes: payload,
                    redelivered: number <= maybe_seen_until,
                });
            }
            Arrival::Run(run) => self.walk(&run),
        }
    }

    fn walk(&mut self, run: &Run) {
        let (mut at, mut number) = (run.start, run.first);
        while at < run.end {
            let header = Header::decode(*run.segment[at..].first_chunk().expect("runs hold whole frames"));
            let payload = &run.segment[at + HEADER_LEN..at + header.frame_len()];
            at += header.frame_len();
            match header.kind() {
                Ok(Some(Kind::Data)) => {
                    let redelivered = number <= run.maybe_seen_until;
                    let frame_len = header.frame_len() as u64;
                    self.untaken.push_back(Value { number, bytes: payload.to_vec(), frame_len, redelivered });
                    number += 1;
                }
                Ok(Some(Kind::Skip)) => {
                    if let Ok(Control::Skip { count }) = Control::decode(Kind::Skip, payload) {
                        number += count;
                    }
                }
                _ => {}
            }
        }
    }
}

fn content(session: SessionId, number: u64, size: usize) -> Vec<u8> {
    let seed = (session.bits() as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ number;
    (0..size).map(|index| (seed.rotate_left(index as u32 % 64) as u8) ^ index as u8).collect()
}

fn protocol(error: impl std::fmt::Display) -> Violation {
    Violation::Protocol(error.to_string())
}

/// Scripts of up to `max` steps, for both ack modes.
pub fn scripts(max: usize) -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        8 => prop_oneof![4 => 0_u32..200, 1 => 0_u32..5_000, 1 => 30_000_u32..70_000].prop_map(Step::Send),
        6 => prop_oneof![(0_u16..300), any::<u16>()].prop_map(Step::Write),
        6 => prop_oneof![(0_u16..300), any::<u16>()].prop_map(Step::Forward),
        4 => prop_oneof![(0_u16..60), any::<u16>()].prop_map(Step::Return),
        5 => (1_u8..8).prop_map(Step::Take),
        4 => any::<u8>().prop_map(Step::Ack),
        3 => Just(Step::Dial),
        2 => any::<u16>().prop_map(Step::Cut),
        1 => Just(Step::Tick),
        1 => Just(Step::ReceiverDies),
        1 => Just(Step::SenderDies),
        1 => Just(Step::Recover),
    ];
    proptest::collection::vec(step, 1..max)
}
