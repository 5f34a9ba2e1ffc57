//! The buffer of a receiving end: runs of every source, in order, taken in fair turns.

mod lane;
mod registry;

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    future::poll_fn,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use ipc_transport::{ConnectionInfo, Limits, PeerIdentity, WriteHalf};

pub(super) use self::lane::Item;
use self::registry::{Leaving, Phase, State};
use super::{
    AckMode, ReceiverConfig, RecvError, SourceId, SourceInfo,
    oversize::OversizeSlot,
    session::{Core, Session},
};
use crate::protocol::{
    Answer, Arrival, DeliveryMode, FrameReader, Hello, Refusal, SEGMENT_LEN, Segment, SessionId, Terms,
};

/// Empty segments kept for readers.
const MAX_SPARE: usize = 8;

pub(super) struct Inbox {
    state: Mutex<State>,
    /// How many sources have something queued: a hint for the task that takes.
    ready_hint: AtomicUsize,
    pub(super) config: ReceiverConfig,
    pub(super) codec: String,
    pub(super) incarnation: u64,
    oversize: Arc<OversizeSlot>,
}

/// How a session came in.
pub(super) enum Admitted {
    /// Attached: the epoch of its connection.
    Attached {
        session: Arc<Session>,
        epoch: u64,
        /// Who has to know: the driver of an older connection, and the task that waits for notices.
        wakers: [Option<Waker>; 2],
    },
    Refused(Refusal),
    /// This end is gone; another may come under its name.
    Gone,
}

impl Inbox {
    pub(super) fn new(mut config: ReceiverConfig, codec: String, incarnation: u64) -> Arc<Self> {
        config.max_message = config.max_message.min(Limits::MAX_MESSAGE_CAP);
        Arc::new(Self {
            ready_hint: AtomicUsize::new(0),
            config,
            codec,
            incarnation,
            oversize: Arc::default(),
            state: Mutex::new(State {
                lanes: BTreeMap::new(),
                by_name: HashMap::new(),
                ready: VecDeque::new(),
                serving: None,
                sessions: BTreeMap::new(),
                detached: VecDeque::new(),
                consumer: None,
                spare: Vec::new(),
                small: Vec::new(),
                next_source: 0,
                next_order: 0,
                attached: 0,
                open: 0,
                sources_seen: 0,
                armed: false,
                leaving: Leaving::No,
                drivers: 0,
                idle: Vec::new(),
            }),
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Admits a session's connection; `writer` is taken only when it is attached.
    pub(super) fn admit(
        &self,
        hello: &Hello,
        info: &ConnectionInfo,
        writer: &mut Option<WriteHalf>,
    ) -> Admitted {
        // The hook is the user's: it runs without the lock.
        let checked = self.check(hello, info);
        let mut state = self.lock();
        match state.leaving {
            Leaving::Closed if state.sessions.contains_key(&hello.session) => {
                return Admitted::Refused(Refusal::PeerClosed);
            }
            Leaving::No => {}
            Leaving::Closed | Leaving::Detached => return Admitted::Gone,
        }
        if let Err(refusal) = checked {
            return Admitted::Refused(refusal);
        }
        // From here on it cannot be forgotten meanwhile.
        state.detached.retain(|id| *id != hello.session);
        let known = state.sessions.get(&hello.session).map(|entry| entry.session.clone());
        let is_new = known.is_none();
        let attaching = state.sessions.get(&hello.session).is_none_or(|entry| entry.phase == Phase::Detached);
        if attaching && state.attached >= self.config.max_sources {
            state.keep(hello.session);
            return Admitted::Refused(Refusal::Busy);
        }
        if is_new && !state.make_room(self.config.max_detached) {
            return Admitted::Refused(Refusal::Busy);
        }
        let session = match known {
            Some(session) => session,
            None => state.enter(self, hello, info),
        };
        drop(state);
        let mut core = session.lock();
        session.say_farewell(&mut core);
        if session.recover_at_hello(&mut core) {
            self.discard(&session);
        }
        let welcome = match core.machine.handle_hello(hello) {
            Ok(welcome) => welcome,
            Err(refusal) => {
                let mut state = self.lock();
                state.keep(hello.session);
                if is_new {
                    state.set_open(session.id, false);
                }
                drop(state);
                return Admitted::Refused(refusal);
            }
        };
        // A sender that comes back only to hear that its end was seen does not begin the stream anew.
        let open = !core.machine.is_ending();
        let writer = writer.take().expect("the caller brought the writing half");
        let (epoch, older) =
            session.attach(&mut core, writer, &info.peer, &Answer::Welcome(welcome).encode());
        let mut state = self.lock();
        state.drivers += 1;
        state.set_phase(session.id, Phase::Attached, open);
        state.armed |= open;
        let leaving = state.leaving;
        let consumer = if is_new { state.consumer.take() } else { None };
        drop(state);
        if leaving != Leaving::No {
            // It left meanwhile and could not tell this connection.
            let _ = session.begin_farewell(&mut core, leaving.farewell());
        }
        drop(core);
        Admitted::Attached { session, epoch, wakers: [older, consumer] }
    }

    fn check(&self, hello: &Hello, info: &ConnectionInfo) -> Result<(), Refusal> {
        if self.config.admission.as_ref().is_some_and(|admit| !admit(hello, info)) {
            return Err(Refusal::NotPermitted);
        }
        let terms = Terms {
            delivery: DeliveryMode::Reliable,
            codec: &self.codec,
            schema: self.config.schema.as_deref(),
            max_message: Some(self.config.max_message as u64),
        };
        terms.check(hello)
    }

    /// Queues what arrived; the caller holds the session's lock, so that nothing overtakes it.
    pub(super) fn push(
        &self,
        session: &Arc<Session>,
        arrivals: &mut Vec<Arrival>,
        frames: &mut FrameReader,
    ) -> Option<Waker> {
        let mut guard = self.lock();
        let state = &mut *guard;
        if state.leaving != Leaving::No {
            // Nobody takes it any more, and its sender is told how much was taken.
            arrivals.clear();
            return None;
        }
        let lane = state.lanes.get_mut(&session.source)?;
        // An earlier session that is still delivering: its values go before the notice that a later one began.
        let later = if lane.current == session.id { None } else { lane.split_off_after(session.order) };
        for arrival in arrivals.drain(..) {
            match arrival {
                Arrival::Run(run) => {
                    if let Some(spare) = lane.push_run(session, run) {
                        frames.recycle(spare);
                    }
                }
                Arrival::Large { number, payload, maybe_seen_until } => {
                    let (session, generation) = (session.clone(), session.generation());
                    let item = Item::Large { session, generation, number, payload, maybe_seen_until };
                    lane.items.push_back(item);
                }
            }
        }
        lane.items.extend(later.into_iter().flatten());
        if let Some(small) = state.small.pop_if(|small| frames.wants(small)) {
            frames.recycle(small);
        }
        if !lane.queued && !lane.items.is_empty() {
            lane.queued = true;
            state.ready.push_back(session.source);
            self.ready_hint.store(state.others_ready(), Ordering::Relaxed);
        }
        state.consumer.take()
    }

    /// What is left of an item goes back to the front of its lane, which waits for its next turn.
    ///
    /// One that does not count any more is dropped: whoever began the new generation drops the others only after it.
    pub(super) fn put_back(&self, source: SourceId, item: Item) {
        let mut guard = self.lock();
        let state = &mut *guard;
        if state.leaving != Leaving::No {
            return;
        }
        if let Some(lane) = state.lanes.get_mut(&source)
            && item.is_current()
        {
            lane.items.push_front(item);
            if !lane.queued {
                lane.queued = true;
                state.ready.push_back(source);
            }
        }
        self.ready_hint.store(state.others_ready(), Ordering::Relaxed);
    }

    /// The next item, or why there is none; of the source whose turn is not over, if there is one.
    pub(super) fn poll_item(
        &self,
        cx: Option<&mut Context<'_>>,
        turn_of: Option<SourceId>,
    ) -> Poll<Result<(SourceId, Item), RecvError>> {
        let mut guard = self.lock();
        let state = &mut *guard;
        if state.leaving != Leaving::No {
            self.ready_hint.store(0, Ordering::Relaxed);
            return Poll::Ready(Err(RecvError::Closed));
        }
        if let Some(source) = turn_of
            && let Some(item) = state.lanes.get_mut(&source).and_then(|lane| lane.items.pop_front())
        {
            // Its place among those that wait stays what it is.
            state.tidy(source);
            return Poll::Ready(Ok((source, item)));
        }
        while let Some(source) = state.ready.pop_front() {
            let Some(lane) = state.lanes.get_mut(&source) else { continue };
            let item = lane.items.pop_front();
            lane.queued = false;
            let Some(item) = item else {
                state.tidy(source);
                continue;
            };
            if !lane.items.is_empty() {
                lane.queued = true;
                // Behind the others: the taken item is this source's turn.
                state.ready.push_back(source);
            }
            state.tidy(source);
            state.serving = Some(source);
            self.ready_hint.store(state.others_ready(), Ordering::Relaxed);
            return Poll::Ready(Ok((source, item)));
        }
        self.ready_hint.store(0, Ordering::Relaxed);
        if state.armed && state.open == 0 && state.sources_seen >= self.config.expect_sources {
            state.armed = false;
            return Poll::Ready(Err(RecvError::EndOfStream));
        }
        if let Some(cx) = cx
            && !state.consumer.as_ref().is_some_and(|known| known.will_wake(cx.waker()))
        {
            state.consumer = Some(cx.waker().clone());
        }
        Poll::Pending
    }

    /// Whether another source waits for its turn.
    pub(super) fn others_wait(&self) -> bool {
        self.ready_hint.load(Ordering::Relaxed) > 0
    }

    /// Lends a reader an empty segment, in place of the one that it is about to hand over.
    pub(super) fn lend(&self, frames: &mut FrameReader) {
        if let Some(spare) = self.lock().spare.pop_if(|spare| frames.wants(spare)) {
            frames.recycle(spare);
        }
    }

    pub(super) fn recycle(&self, segment: Segment) {
        let mut state = self.lock();
        let spare = if segment.len() == SEGMENT_LEN { &mut state.spare } else { &mut state.small };
        if spare.len() < MAX_SPARE {
            spare.push(segment);
        }
    }

    /// The sender has announced its end: it no longer holds the end of the stream.
    pub(super) fn ended(&self, session: SessionId) -> Option<Waker> {
        let mut state = self.lock();
        state.set_open(session, false);
        state.consumer.take()
    }

    /// A driver has stopped; `current` if it served the session's newest connection.
    ///
    /// The caller holds the session's lock, so that a newer connection cannot come in between, and wakes who waits.
    pub(super) fn driver_stopped(
        self: &Arc<Self>,
        session: &Arc<Session>,
        core: &mut Core,
        current: bool,
    ) -> Vec<Waker> {
        let ending = core.machine.is_ending();
        let mut state = self.lock();
        state.drivers -= 1;
        if current {
            state.set_phase(session.id, Phase::Detached, !ending);
        }
        if current && !ending && state.leaving == Leaving::No {
            self.begin_expiry(session, core);
        }
        let mut wakers: Vec<Waker> = state.consumer.take().into_iter().collect();
        if state.drivers == 0 {
            wakers.append(&mut state.idle);
        }
        wakers
    }

    /// A source is lost: after a while it no longer holds the end of the stream. The caller holds its lock.
    fn begin_expiry(self: &Arc<Self>, session: &Arc<Session>, core: &mut Core) {
        let Some(ttl) = self.config.source_ttl else { return };
        let (inbox, of_timer, epoch) = (Arc::downgrade(self), Arc::downgrade(session), core.epoch());
        core.set_timer(async move {
            tokio::time::sleep(ttl).await;
            if let (Some(inbox), Some(session)) = (inbox.upgrade(), of_timer.upgrade()) {
                inbox.expire(&session, epoch);
            }
        });
    }

    /// A lost source has been away too long: it no longer holds the end of the stream.
    fn expire(&self, session: &Session, epoch: u64) {
        let core = session.lock();
        let mut state = self.lock();
        // It may have been here again meanwhile, and be away for less than the whole time.
        if core.is_newest(epoch)
            && state.sessions.get(&session.id).is_some_and(|entry| entry.phase == Phase::Detached)
        {
            state.set_open(session.id, false);
        }
        let consumer = state.consumer.take();
        drop(state);
        drop(core);
        if let Some(waker) = consumer {
            waker.wake();
        }
    }

    /// No more values are handed out; every connection gets a last word.
    pub(super) fn leave(&self, closed: bool) {
        let mut state = self.lock();
        if state.leaving != Leaving::No {
            return;
        }
        state.leaving = if closed { Leaving::Closed } else { Leaving::Detached };
        let farewell = state.leaving.farewell();
        for lane in state.lanes.values_mut() {
            lane.items.clear();
            lane.queued = false;
        }
        state.ready.clear();
        state.spare.clear();
        state.small.clear();
        let sessions: Vec<_> = state.sessions.values().map(|entry| entry.session.clone()).collect();
        let consumer = state.consumer.take();
        drop(state);
        for session in sessions {
            let mut core = session.lock();
            let waker = session.begin_farewell(&mut core, farewell);
            if !core.machine.is_connected() {
                session.say_farewell(&mut core);
            }
            drop(core);
            if let Some(waker) = waker {
                waker.wake();
            }
        }
        if let Some(waker) = consumer {
            waker.wake();
        }
    }

    /// Completes when no driver runs, or after 1 s.
    pub(super) async fn idle(&self) {
        let idle = poll_fn(|cx| {
            let mut state = self.lock();
            if state.drivers == 0 {
                return Poll::Ready(());
            }
            state.idle.push(cx.waker().clone());
            Poll::Pending
        });
        let _ = tokio::time::timeout(Duration::from_secs(1), idle).await;
    }

    /// Every session, for a recovery; drops their untaken values.
    pub(super) fn recover(self: &Arc<Self>) {
        let sessions: Vec<_> = self.lock().sessions.values().map(|entry| entry.session.clone()).collect();
        for session in sessions {
            let mut core = session.lock();
            if core.machine.is_finished() {
                // Its sender is done and will not come again: there is nothing to take back.
                continue;
            }
            if session.recover(&mut core) {
                self.discard(&session);
                self.lock().set_phase(session.id, Phase::Detached, true);
                self.begin_expiry(&session, &mut core);
            }
            let waker = core.take_driver();
            drop(core);
            if let Some(waker) = waker {
                waker.wake();
            }
        }
    }

    /// Drops the untaken values of a session; the caller holds the session's lock and has begun a generation.
    pub(super) fn discard(&self, session: &Session) {
        if let Some(lane) = self.lock().lanes.get_mut(&session.source) {
            lane.items.retain(|item| item.session() != Some(session.id));
        }
    }

    /// Who a source is.
    pub(super) fn source(&self, source: SourceId) -> Option<SourceInfo> {
        let state = self.lock();
        let lane = state.lanes.get(&source)?;
        let session = state.sessions.get(&lane.current).map(|entry| entry.session.clone());
        let mut info = SourceInfo {
            process: lane.process.clone(),
            port: lane.port.clone(),
            peer: PeerIdentity::Unknown,
            connected: false,
            received_bytes: 0,
            oldest_unacked: None,
        };
        drop(state);
        if let Some(session) = session {
            let mut core = session.lock();
            core.machine.handle_taken(session.taken());
            info.peer = core.peer().clone();
            info.connected = core.machine.is_connected();
            info.received_bytes = core.machine.received_bytes();
            if self.config.ack_mode == AckMode::Explicit {
                info.oldest_unacked = core.machine.oldest_unacked();
            }
        }
        Some(info)
    }

    pub(super) fn sources(&self) -> Vec<SourceId> {
        let mut sources: Vec<_> = self.lock().lanes.keys().copied().collect();
        sources.sort_unstable();
        sources
    }

    pub(super) fn is_left(&self) -> bool {
        self.lock().leaving != Leaving::No
    }

    pub(super) fn is_closed(&self) -> bool {
        self.lock().leaving == Leaving::Closed
    }

    pub(super) fn knows(&self, session: SessionId) -> bool {
        self.lock().sessions.contains_key(&session)
    }

    /// Values that came again to all sessions and were passed over.
    pub(super) fn duplicates(&self) -> u64 {
        let sessions: Vec<_> = self.lock().sessions.values().map(|entry| entry.session.clone()).collect();
        sessions.iter().map(|session| session.lock().machine.duplicates()).sum()
    }
}
