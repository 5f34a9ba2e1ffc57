//! The sources of a receiving end: who may send, what waits of each, and whose turn it is. Sans-IO.

use std::{
    collections::{HashMap, VecDeque},
    time::Instant,
};

use bytes::Bytes;
use ipc_transport::{Datagram, DatagramAddress, PeerIdentity};

use super::{ReceiverConfig, ReceiverCounters, SourceInfo, Sources};
use crate::protocol::{DATAGRAM_HEADER_LEN, DatagramHeader, SessionId, Standing, Tally};

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
    /// Which connection announced it, 0 for none.
    announced: u64,
    address: Option<DatagramAddress>,
    /// Whether it may still send, as far as is known.
    attached: bool,
    heard: Instant,
    tally: Tally,
    waiting: VecDeque<Waiting>,
    waiting_bytes: usize,
    overrun: u64,
}

impl SourceTable {
    pub(super) fn new(config: ReceiverConfig, codec: u32) -> Self {
        let (sources, turns) = (HashMap::new(), VecDeque::new());
        Self { config, codec, sources, turns, counters: ReceiverCounters::default() }
    }

    /// Lets a session in; `false` when there is no room for another one.
    pub(super) fn announce(
        &mut self,
        session: SessionId,
        (process, port): (&str, &str),
        peer: PeerIdentity,
        connection: u64,
        now: Instant,
    ) -> bool {
        if let Some(source) = self.sources.get_mut(&session) {
            (source.announced, source.attached, source.heard) = (connection, true, now);
            return true;
        }
        if !self.make_room(now) {
            return false;
        }
        let mut source = Source::new(now);
        (source.process, source.port, source.peer) = (process.to_owned(), port.to_owned(), peer);
        source.announced = connection;
        self.sources.insert(session, source);
        true
    }

    /// The connection that announced a session is gone; what is still under way is taken all the same.
    pub(super) fn hang_up(&mut self, session: SessionId, connection: u64) {
        if let Some(source) = self.sources.get_mut(&session)
            && source.announced == connection
        {
            source.attached = false;
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
        if !self.sources.contains_key(&header.session) {
            if self.config.sources == Sources::Announced {
                self.counters.unannounced += 1;
                return false;
            }
            if !self.make_room(now) {
                self.counters.turned_away += 1;
                return false;
            }
            self.sources.insert(header.session, Source::new(now));
        }
        let Some(source) = self.sources.get_mut(&header.session) else { return false };
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
        let (capacity, byte_bound) = (self.config.capacity.get(), self.config.byte_bound);
        source.waiting_bytes += payload.len();
        let (session, number) = (header.session, header.number);
        source.waiting.push_back(Waiting { session, number, gap, late, payload });
        while source.waiting.len() > capacity || source.waiting.len() > 1 && source.waiting_bytes > byte_bound
        {
            if let Some(oldest) = source.waiting.pop_front() {
                source.waiting_bytes -= oldest.payload.len();
                source.overrun += 1;
            }
        }
        true
    }

    /// The next value: one of each source that has something, in turns.
    pub(super) fn take(&mut self) -> Option<Waiting> {
        let session = self.turns.pop_front()?;
        let source = self.sources.get_mut(&session)?;
        let taken = source.waiting.pop_front()?;
        source.waiting_bytes -= taken.payload.len();
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
            attached: source.attached,
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
            let silent = source.announced == 0 && now.saturating_duration_since(source.heard) >= ttl;
            source.waiting.is_empty() && (!source.attached || silent)
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
    fn new(now: Instant) -> Self {
        Self {
            process: String::new(),
            port: String::new(),
            peer: PeerIdentity::Unknown,
            announced: 0,
            address: None,
            attached: true,
            heard: now,
            tally: Tally::new(),
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            overrun: 0,
        }
    }
}
