//! What one source has sent and nobody has taken, in order.

use std::{
    collections::{BTreeSet, VecDeque},
    sync::Arc,
};

use super::super::session::Session;
use crate::protocol::{Run, SKIP_LEN, Segment, SessionId};

/// A run as short as this is added to the one before it, so that trickling values do not each keep a segment.
const COALESCE: usize = 16 * 1024;

pub(super) struct Lane {
    pub(super) process: String,
    pub(super) port: String,
    pub(super) items: VecDeque<Item>,
    pub(super) queued: bool,
    pub(super) current: SessionId,
    /// The orders of its sessions that are remembered.
    pub(super) orders: BTreeSet<u64>,
}

/// What lies in a lane.
pub(in crate::link) enum Item {
    Large {
        session: Arc<Session>,
        /// The session's generation when it arrived, as of a run.
        generation: u64,
        number: u64,
        payload: Vec<u8>,
        maybe_seen_until: u64,
    },
    /// Sessions from this order on begin here.
    Restarted { order: u64 },
    /// With the place of the last frame, if it is a SKIP.
    Run { session: Arc<Session>, generation: u64, run: Run, skip_at: Option<usize> },
}

impl Lane {
    /// A session begins here, after another one; restarts with nothing between them are told once.
    pub(super) fn restart(&mut self, order: u64) {
        if let Some(Item::Restarted { order: last }) = self.items.back()
            && !self.orders.contains(last)
        {
            self.items.pop_back();
        }
        self.items.push_back(Item::Restarted { order });
    }

    /// A session with nothing untaken is forgotten: what is left of it is at most notices, which go with it.
    pub(super) fn forget(&mut self, session: &Session) {
        self.orders.remove(&session.order);
        self.items.retain(|item| item.session() != Some(session.id));
        let is_own = |item: &Item| matches!(item, Item::Restarted { order } if *order == session.order);
        if let Some(at) = self.items.iter().position(is_own)
            && matches!(self.items.get(at + 1), Some(Item::Restarted { .. }))
        {
            self.items.remove(at);
        }
    }

    /// Whether nothing will come out of it any more, unless a new session comes.
    pub(super) fn is_over(&self) -> bool {
        self.items.is_empty() && self.orders.is_empty()
    }

    /// Takes out what belongs to later sessions.
    pub(super) fn split_off_after(&mut self, order: u64) -> Option<VecDeque<Item>> {
        let begins_later = |item: &Item| matches!(item, Item::Restarted { order: begun } if *begun > order);
        let at = self.items.iter().position(begins_later)?;
        Some(self.items.split_off(at))
    }

    /// Queues a run; a short one is copied behind the last, and its segment comes back.
    pub(super) fn push_run(&mut self, session: &Arc<Session>, mut run: Run) -> Option<Segment> {
        // The caller holds the session's lock, under which alone a generation begins.
        let generation = session.generation();
        let mut skip_at = if run.marks { run.condense() } else { None };
        if let Some(Item::Run { session: last, generation: of_last, run: tail, skip_at: Some(at) }) =
            self.items.back_mut()
            && (last.id, *of_last) == (session.id, generation)
            && run.marks
            && run.begins_with_skip()
        {
            // The numbers adjoin, so the two are one.
            let more = run.skip_count(run.start);
            skip_at = skip_at.filter(|last| *last != run.start);
            run.first += more;
            run.start += SKIP_LEN;
            tail.add_to_skip(*at, more);
        }
        let len = run.end - run.start;
        if len == 0 {
            return Some(run.segment);
        }
        if let Some(Item::Run { session: last, generation: of_last, run: tail, skip_at: tail_skip }) =
            self.items.back_mut()
            && len <= COALESCE
            && tail.end + len <= tail.segment.len()
            && (last.id, *of_last) == (session.id, generation)
            && tail.maybe_seen_until == run.maybe_seen_until
        {
            *tail_skip = skip_at.map(|at| at - run.start + tail.end);
            tail.segment[tail.end..tail.end + len].copy_from_slice(&run.segment[run.start..run.end]);
            tail.end += len;
            return Some(run.segment);
        }
        self.items.push_back(Item::Run { session: session.clone(), generation, run, skip_at });
        None
    }
}

impl Item {
    pub(super) fn session(&self) -> Option<SessionId> {
        match self {
            Self::Large { session, .. } | Self::Run { session, .. } => Some(session.id),
            Self::Restarted { .. } => None,
        }
    }

    /// Whether it still counts: its session was not taken back or given up since it arrived.
    pub(super) fn is_current(&self) -> bool {
        match self {
            Self::Large { session, generation, .. } | Self::Run { session, generation, .. } => {
                session.generation() == *generation
            }
            Self::Restarted { .. } => true,
        }
    }
}
