//! Who a receiving end knows: its sources, their sessions, and what each of them still holds open.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque, btree_map},
    sync::Arc,
    task::Waker,
};

use ipc_transport::ConnectionInfo;

use super::{
    super::{
        AckMode, SourceId,
        session::{Farewell, Session},
    },
    Inbox,
    lane::Lane,
};
use crate::protocol::{Hello, Incoming, IncomingConfig, Segment, SessionId};

pub(super) struct State {
    pub(super) lanes: BTreeMap<SourceId, Lane>,
    pub(super) by_name: HashMap<(String, String), SourceId>,
    pub(super) ready: VecDeque<SourceId>,
    /// The source that was served last.
    pub(super) serving: Option<SourceId>,
    pub(super) sessions: BTreeMap<SessionId, Entry>,
    pub(super) detached: VecDeque<SessionId>,
    pub(super) consumer: Option<Waker>,
    /// Empty segments for readers, whole ones and small ones.
    pub(super) spare: Vec<Segment>,
    pub(super) small: Vec<Segment>,
    pub(super) next_source: u64,
    pub(super) next_order: u64,
    pub(super) attached: usize,
    /// Sessions that hold the end of the stream: attached or lost, and not ended.
    pub(super) open: usize,
    pub(super) sources_seen: usize,
    /// A source has attached since the last end of stream.
    pub(super) armed: bool,
    pub(super) leaving: Leaving,
    /// Tasks of drivers, awaited by an orderly leave.
    pub(super) drivers: usize,
    pub(super) idle: Vec<Waker>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Leaving {
    Closed,
    Detached,
    No,
}

impl Leaving {
    /// What the sources are told; nothing of the kind as long as this end is here.
    pub(super) fn farewell(self) -> Farewell {
        match self {
            Self::Closed => Farewell::Closed,
            Self::Detached | Self::No => Farewell::Detached,
        }
    }
}

pub(super) struct Entry {
    pub(super) session: Arc<Session>,
    pub(super) phase: Phase,
    /// Whether it holds the end of the stream.
    pub(super) open: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    Attached,
    Detached,
}

impl State {
    /// A record for a session that is not known, in the lane of its source.
    pub(super) fn enter(&mut self, inbox: &Inbox, hello: &Hello, info: &ConnectionInfo) -> Arc<Session> {
        let name = (hello.from_process.clone(), hello.from_port.clone());
        let source = match self.by_name.get(&name) {
            Some(source) => *source,
            None => {
                self.next_source += 1;
                self.sources_seen += 1;
                let source = SourceId(self.next_source);
                self.by_name.insert(name.clone(), source);
                let lane = Lane {
                    process: name.0,
                    port: name.1,
                    items: VecDeque::new(),
                    queued: false,
                    current: hello.session,
                    orders: BTreeSet::new(),
                };
                self.lanes.insert(source, lane);
                source
            }
        };
        let explicit = inbox.config.ack_mode == AckMode::Explicit;
        let config = IncomingConfig {
            incarnation: inbox.incarnation,
            window: std::num::NonZeroU64::try_from(inbox.config.window).expect("it is not zero"),
            max_window_bytes: inbox.config.max_window_bytes as u64,
            max_message: inbox.config.max_message,
            explicit,
            ticked: inbox.config.ticker,
        };
        let budget = &inbox.config.budget;
        let share = info.peer.foreign_user().map_or_else(|| budget.share(), |uid| budget.foreign_share(uid));
        let machine = Incoming::new(config, hello, share);
        self.next_order += 1;
        let session = Session::new(
            hello.session,
            source,
            self.next_order,
            machine,
            inbox.oversize.clone(),
            inbox.config.ticker,
        );
        let lane = self.lanes.get_mut(&source).expect("it was found or made above");
        let earlier = std::mem::replace(&mut lane.current, hello.session);
        if earlier != hello.session {
            // Values of the earlier session that are here come first.
            lane.restart(self.next_order);
            if !lane.queued {
                lane.queued = true;
                self.ready.push_back(source);
            }
        }
        lane.orders.insert(self.next_order);
        // It holds the end of the stream before the earlier one lets go: no end may be seen between the two.
        self.sessions
            .insert(hello.session, Entry { session: session.clone(), phase: Phase::Detached, open: true });
        self.open += 1;
        let is_away = |entry: &Entry| entry.phase == Phase::Detached;
        if earlier != hello.session && self.sessions.get(&earlier).is_some_and(is_away) {
            self.set_open(earlier, false);
        }
        session
    }

    pub(super) fn set_phase(&mut self, id: SessionId, phase: Phase, open: bool) {
        let Some(entry) = self.sessions.get_mut(&id) else { return };
        if entry.phase != phase {
            entry.phase = phase;
            match phase {
                Phase::Attached => {
                    self.attached += 1;
                    self.detached.retain(|detached| *detached != id);
                }
                Phase::Detached => {
                    self.attached -= 1;
                    self.detached.push_back(id);
                }
            }
        }
        // One that is here holds the end whatever came after it; one that is away only if nothing did.
        let holds = phase == Phase::Attached
            || self.sessions.get(&id).is_some_and(|entry| {
                self.lanes.get(&entry.session.source).is_some_and(|lane| lane.current == id)
            });
        self.set_open(id, open && holds);
    }

    pub(super) fn set_open(&mut self, id: SessionId, open: bool) {
        if let Some(entry) = self.sessions.get_mut(&id)
            && entry.open != open
        {
            entry.open = open;
            self.open = if open { self.open + 1 } else { self.open - 1 };
        }
    }

    /// How many sources wait for their turn, the one that has it aside.
    pub(super) fn others_ready(&self) -> usize {
        let own = self.serving.and_then(|source| self.lanes.get(&source)).is_some_and(|lane| lane.queued);
        self.ready.len() - usize::from(own)
    }

    /// A session that was not attached after all is remembered as before.
    pub(super) fn keep(&mut self, id: SessionId) {
        if self.sessions.get(&id).is_some_and(|entry| entry.phase == Phase::Detached) {
            self.detached.push_back(id);
        }
    }

    /// Forgets detached sessions, oldest first, that have nothing untaken or unacked; `false` if none can be.
    pub(super) fn make_room(&mut self, max: usize) -> bool {
        if self.detached.len() < max.max(1) {
            return true;
        }
        let Some(at) = self
            .detached
            .iter()
            .position(|id| self.sessions.get(id).is_none_or(|entry| entry.session.is_settled()))
        else {
            return false;
        };
        let id = self.detached.remove(at).expect("it was just found");
        self.set_open(id, false);
        if let Some(entry) = self.sessions.remove(&id) {
            let source = entry.session.source;
            if let Some(lane) = self.lanes.get_mut(&source) {
                lane.forget(&entry.session);
            }
            self.tidy(source);
        }
        true
    }

    /// Forgets a source of which nothing is left.
    pub(super) fn tidy(&mut self, source: SourceId) {
        if let btree_map::Entry::Occupied(lane) = self.lanes.entry(source)
            && lane.get().is_over()
        {
            let lane = lane.remove();
            self.by_name.remove(&(lane.process, lane.port));
            if lane.queued {
                self.ready.retain(|ready| *ready != source);
            }
        }
    }
}
