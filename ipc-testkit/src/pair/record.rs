//! The receiving application of one session: what came, what was taken, what is held.

use std::collections::{BTreeSet, VecDeque};

use ipc_pipeline::protocol::{
    Arrival, Control, HEADER_LEN, Header, Incoming, Kind, MAX_PAYLOAD, Run, SessionId, Taken,
};

/// One session at the receiver.
#[derive(Debug)]
pub(super) struct Record {
    pub(super) machine: Incoming,
    pub(super) untaken: VecDeque<Value>,
    pub(super) taken: Taken,
    pub(super) held: Vec<u64>,
    pub(super) last: u64,
    pub(super) seen: BTreeSet<u64>,
    pub(super) acked: BTreeSet<u64>,
    /// Numbers that this incarnation was told are dropped.
    pub(super) skipped: BTreeSet<u64>,
    /// Everything up to here the machine may call released.
    pub(super) done_until: u64,
    /// The highest number written to any connection before this incarnation met the session.
    pub(super) met_at: u64,
}

/// A value that arrived.
#[derive(Debug)]
pub(super) struct Value {
    pub(super) number: u64,
    pub(super) bytes: Vec<u8>,
    pub(super) frame_len: u64,
    pub(super) redelivered: bool,
}

impl Record {
    pub(super) fn new(machine: Incoming, met_at: u64) -> Self {
        Self {
            taken: machine.taken(),
            done_until: machine.released(),
            machine,
            untaken: VecDeque::new(),
            held: Vec::new(),
            last: 0,
            seen: BTreeSet::new(),
            acked: BTreeSet::new(),
            skipped: BTreeSet::new(),
            met_at,
        }
    }

    /// Bytes of frames that wait to be taken.
    pub(super) fn untaken_bytes(&self) -> u64 {
        self.untaken.iter().map(|value| value.frame_len).sum()
    }

    /// The oldest number that is not done with: not taken, or not acked in explicit mode, and not dropped either.
    pub(super) fn oldest_undone(&mut self, explicit: bool) -> u64 {
        let done = if explicit { &self.acked } else { &self.seen };
        let is_done = |number| done.contains(&number) || self.skipped.contains(&number);
        while is_done(self.done_until + 1) {
            self.done_until += 1;
        }
        self.done_until + 1
    }

    pub(super) fn arrive(&mut self, arrival: Arrival, skipped: &mut BTreeSet<u64>) {
        match arrival {
            Arrival::Large { number, payload, maybe_seen_until } => {
                let pieces = payload.len().div_ceil(MAX_PAYLOAD).max(1);
                self.untaken.push_back(Value {
                    number,
                    frame_len: (payload.len() + pieces * HEADER_LEN) as u64,
                    bytes: payload,
                    redelivered: number <= maybe_seen_until,
                });
            }
            Arrival::Run(run) => self.walk(&run, skipped),
        }
    }

    fn walk(&mut self, run: &Run, skipped: &mut BTreeSet<u64>) {
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
                        skipped.extend(number..number + count);
                        self.skipped.extend(number..number + count);
                        number += count;
                    }
                }
                _ => {}
            }
        }
    }
}

/// What the value of this number is made of: no two are alike.
pub(super) fn content(session: SessionId, number: u64, size: usize) -> Vec<u8> {
    let seed = (session.bits() as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ number;
    (0..size).map(|index| (seed.rotate_left(index as u32 % 64) as u8) ^ index as u8).collect()
}
