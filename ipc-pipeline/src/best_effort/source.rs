//! The sources of a receiving end: who may send, what waits of each, and whose turn it is. Sans-IO.

use std::{
    collections::{HashMap, VecDeque},
    time::{Duration, Instant},
};

use bytes::Bytes;
use ipc_transport::{Datagram, DatagramAddress, PeerIdentity};

use super::{ReceiverConfig, ReceiverCounters, SourceInfo, Sources};
use crate::protocol::{DATAGRAM_HEADER_LEN, DatagramHeader, Refusal, SessionId, Standing, Tally};

/// How long after the end of a source's connection its datagrams are still taken.
const GRACE: Duration = Duration::from_secs(3);

/// A value that arrived and was not taken yet.
pub(super) struct Waiting {
    pub(super) session: SessionId,
    pub(super) number: u64,
    pub(super) gap: u64,
    pub(super) late: bool,
    pub(super) payload: Bytes,
}

/// All sources, those that have ended included as long as there is room.
pub(super) struct SourceTable {
    config: ReceiverConfig,
    codec: u32,
    sources: HashMap<SessionId, Source>,
    /// Sources that have something waiting, each once, in the order of their turns.
    turns: VecDeque<SessionId>,
    counters: ReceiverCounters,
}

struct Source {
    process: String,
    port: String,
    peer: PeerIdentity,
    attachment: Attachment,
    address: Option<DatagramAddress>,
    heard: Instant,
    tally: Tally,
    /// In the order of arrival.
    waiting: VecDeque<Waiting>,
    waiting_bytes: usize,
    /// How many of them are late: without any, the oldest arrival is the lowest number.
    waiting_late: usize,
    overrun: u64,
}

/// What allows a source to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Attachment {
    /// A connection that stands.
    Announced,
    /// The receiving end takes datagrams from anybody.
    Anybody,
    /// A connection that stood until then.
    HungUp(Instant),
}

impl SourceTable {
    pub(super) fn new(config: ReceiverConfig, codec: u32) -> Self {
        let (sources, turns) = (HashMap::new(), VecDeque::new());
        Self { config, codec, sources, turns, counters: ReceiverCounters::default() }
    }

    /// Lets a session in, unless it is known or there is no room for another one.
    pub(super) fn announce(
        &mut self,
        session: SessionId,
        (process, port): (&str, &str),
        peer: PeerIdentity,
        now: Instant,
    ) -> Result<(), Refusal> {
        if self.sources.contains_key(&session) {
            // Each connection is a session of its own.
            return Err(Refusal::Stale);
        }
        if !self.make_room(now) {
            self.counters.turned_away += 1;
            return Err(Refusal::Busy);
        }
        let mut source = Source::new(Attachment::Announced, now);
        (source.process, source.port, source.peer) = (process.to_owned(), port.to_owned(), peer);
        self.sources.insert(session, source);
        Ok(())
    }

    /// The connection that announced a session is gone: what is under way has a little time to arrive.
    pub(super) fn hang_up(&mut self, session: SessionId, now: Instant) {
        if let Some(source) = self.sources.get_mut(&session) {
            source.attachment = Attachment::HungUp(now);
        }
    }

    /// Enters a datagram; whether there is more to take than before.
    pub(super) fn handle(&mut self, datagram: Datagram, now: Instant) -> bool {
        let Some(header) = DatagramHeader::decode(&datagram.payload) else {
            self.counters.malformed += 1;
            return false;
        };
        if header.codec != self.codec {
            self.counters.mismatched += 1;
            return false;
        }
        let is_known = self.sources.contains_key(&header.session);
        if !is_known && self.config.sources == Sources::Anybody {
            if !self.make_room(now) {
                self.counters.turned_away += 1;
                return false;
            }
            self.sources.insert(header.session, Source::new(Attachment::Anybody, now));
        }
        let source = self.sources.get_mut(&header.session).filter(|source| source.may_send(now));
        let Some(source) = source else {
            self.counters.unannounced += 1;
            return false;
        };
        source.heard = now;
        let (gap, late) = match source.tally.handle(header.number, header.skipped) {
            Standing::Next { gap } => {
                source.address = Some(datagram.peer);
                (gap, false)
            }
            Standing::Late => (0, true),
            Standing::Duplicate | Standing::Stale => return false,
        };
        let payload = datagram.payload.slice(DATAGRAM_HEADER_LEN..);
        if source.waiting.is_empty() {
            self.turns.push_back(header.session);
        }
        let (session, number) = (header.session, header.number);
        source.push(Waiting { session, number, gap, late, payload });
        let (capacity, byte_bound) = (self.config.capacity.get(), self.config.byte_bound);
        while source.waiting.len() > capacity || source.waiting.len() > 1 && source.waiting_bytes > byte_bound
        {
            source.drop_oldest();
        }
        true
    }

    /// The next value: one of each source that has something, in turns.
    pub(super) fn take(&mut self) -> Option<Waiting> {
        let session = self.turns.pop_front()?;
        let source = self.sources.get_mut(&session)?;
        let taken = source.remove(0)?;
        if !source.waiting.is_empty() {
            self.turns.push_back(session);
        }
        Some(taken)
    }

    pub(super) fn counters(&self) -> ReceiverCounters {
        self.counters
    }

    pub(super) fn count_undecodable(&mut self) {
        self.counters.undecodable += 1;
    }

    pub(super) fn count_failure(&mut self) {
        self.counters.failures += 1;
    }

    pub(super) fn infos(&self) -> Vec<SourceInfo> {
        let info = |(session, source): (&SessionId, &Source)| SourceInfo {
            session: *session,
            process: source.process.clone(),
            port: source.port.clone(),
            peer: source.peer.clone(),
            address: source.address.clone(),
            attached: !matches!(source.attachment, Attachment::HungUp(_)),
            waiting: source.waiting.len(),
            overrun: source.overrun,
            tally: source.tally.counts(),
        };
        self.sources.iter().map(info).collect()
    }

    /// Forgets a source that has ended, or has been silent, if there is no room; whether there is room then.
    ///
    /// Sources that still have something waiting are left alone.
    fn make_room(&mut self, now: Instant) -> bool {
        if self.sources.len() < self.config.max_sources.get() {
            return true;
        }
        let ttl = self.config.source_ttl;
        let free = |source: &Source| {
            let is_gone = match source.attachment {
                Attachment::Announced => false,
                Attachment::Anybody => now.saturating_duration_since(source.heard) >= ttl,
                Attachment::HungUp(since) => now.saturating_duration_since(since) > GRACE,
            };
            is_gone && source.waiting.is_empty()
        };
        let oldest = self.sources.iter().filter(|(_, source)| free(source));
        let Some(session) = oldest.min_by_key(|(_, source)| source.heard).map(|(session, _)| *session) else {
            return false;
        };
        self.sources.remove(&session);
        self.counters.forgotten += 1;
        true
    }
}

impl Source {
    fn new(attachment: Attachment, now: Instant) -> Self {
        Self {
            process: String::new(),
            port: String::new(),
            peer: PeerIdentity::Unknown,
            attachment,
            address: None,
            heard: now,
            tally: Tally::new(),
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            waiting_late: 0,
            overrun: 0,
        }
    }

    fn may_send(&self, now: Instant) -> bool {
        match self.attachment {
            Attachment::Announced | Attachment::Anybody => true,
            Attachment::HungUp(since) => now.saturating_duration_since(since) <= GRACE,
        }
    }

    fn push(&mut self, value: Waiting) {
        self.waiting_bytes += value.payload.len();
        self.waiting_late += usize::from(value.late);
        self.waiting.push_back(value);
    }

    fn remove(&mut self, index: usize) -> Option<Waiting> {
        let value = self.waiting.remove(index)?;
        self.waiting_bytes -= value.payload.len();
        self.waiting_late -= usize::from(value.late);
        Some(value)
    }

    /// The lowest number goes, which is not the oldest arrival if some came late.
    fn drop_oldest(&mut self) {
        let oldest = match self.waiting_late {
            0 => Some(0),
            _ => {
                self.waiting.iter().enumerate().min_by_key(|(_, value)| value.number).map(|(index, _)| index)
            }
        };
        if oldest.and_then(|index| self.remove(index)).is_some() {
            self.overrun += 1;
        }
    }
}
