//! The buffer of a receiving end: runs of every source, in order, taken in fair turns.

use std::{
    collections::{HashMap, VecDeque},
    future::poll_fn,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use super::{AckMode, ReceiverConfig, RecvError, SourceId, oversize::OversizeSlot, session::Session};
use crate::protocol::{
    Answer, Arrival, Control, FrameReader, Hello, Incoming, IncomingConfig, Refusal, Run, SEGMENT_LEN,
    SKIP_LEN, Segment, SessionId,
};

/// A run as short as this is added to the one before it, so that trickling values do not each keep a segment.
const COALESCE: usize = 16 * 1024;

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

struct State {
    lanes: HashMap<SourceId, Lane>,
    by_name: HashMap<(String, String), SourceId>,
    ready: VecDeque<SourceId>,
    /// The source that was served last.
    serving: Option<SourceId>,
    sessions: HashMap<SessionId, Entry>,
    detached: VecDeque<SessionId>,
    consumer: Option<Waker>,
    /// Empty segments for readers, whole ones and small ones.
    spare: Vec<Segment>,
    small: Vec<Segment>,
    next_source: u64,
    next_order: u64,
    attached: usize,
    /// Sessions that hold the end of the stream: attached or lost, and not ended.
    open: usize,
    sources_seen: usize,
    /// A source has attached since the last end of stream.
    armed: bool,
    leaving: Leaving,
    /// Tasks of drivers, awaited by an orderly leave.
    drivers: usize,
    idle: Vec<Waker>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Leaving {
    Closed,
    Detached,
    No,
}

struct Entry {
    session: Arc<Session>,
    phase: Phase,
    /// Whether it holds the end of the stream.
    open: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Attached,
    Detached,
}

struct Lane {
    process: String,
    port: String,
    items: VecDeque<Item>,
    queued: bool,
    current: SessionId,
    sessions: usize,
}

/// What lies in a lane.
pub(super) enum Item {
    Large {
        session: Arc<Session>,
        number: u64,
        payload: Vec<u8>,
        maybe_seen_until: u64,
    },
    /// Sessions from this order on begin here.
    Restarted {
        order: u64,
    },
    /// With the place of the last frame, if it is a SKIP.
    Run {
        session: Arc<Session>,
        run: Run,
        skip_at: Option<usize>,
    },
}

/// How a session came in.
pub(super) enum Admitted {
    /// Attached: the epoch of its connection.
    Attached {
        session: Arc<Session>,
        epoch: u64,
        older: Option<Waker>,
    },
    Refused(Refusal),
    /// This end is gone; another may come under its name.
    Gone,
}

impl Inbox {
    pub(super) fn new(config: ReceiverConfig, codec: String, incarnation: u64) -> Arc<Self> {
        Arc::new(Self {
            ready_hint: AtomicUsize::new(0),
            config,
            codec,
            incarnation,
            oversize: Arc::default(),
            state: Mutex::new(State {
                lanes: HashMap::new(),
                by_name: HashMap::new(),
                ready: VecDeque::new(),
                serving: None,
                sessions: HashMap::new(),
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
    pub(super) fn admit(&self, hello: &Hello, writer: &mut Option<ipc_transport::WriteHalf>) -> Admitted {
        // The hook is the user's: it runs without the lock.
        let checked = self.check(hello);
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
            None => state.enter(self, hello),
        };
        drop(state);
        let mut core = session.lock();
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
        let (epoch, older) = session.attach(&mut core, writer, &Answer::Welcome(welcome).encode());
        let mut state = self.lock();
        state.drivers += 1;
        state.set_phase(session.id, Phase::Attached, open);
        state.armed |= open;
        let leaving = state.leaving;
        drop(state);
        if leaving != Leaving::No {
            // It left meanwhile and could not tell this connection.
            let released = core.machine.released();
            let closed = leaving == Leaving::Closed;
            let _ = core.leave(if closed { Control::Closed { released } } else { Control::Detach });
        }
        drop(core);
        Admitted::Attached { session, epoch, older }
    }

    fn check(&self, hello: &Hello) -> Result<(), Refusal> {
        if self.config.admission.as_ref().is_some_and(|admit| !admit(hello)) {
            return Err(Refusal::NotPermitted);
        }
        if hello.codec != self.codec {
            let what = format!("the sender's codec is {}, the receiver's {}", hello.codec, self.codec);
            return Err(Refusal::Incompatible { what });
        }
        if let (Some(theirs), Some(ours)) = (&hello.schema, &self.config.schema)
            && theirs != ours
        {
            let what = format!("the sender's schema is {theirs}, the receiver's {ours}");
            return Err(Refusal::Incompatible { what });
        }
        if hello.max_message > self.config.max_message as u64 {
            let what = format!(
                "the sender's messages may have {} bytes, the receiver's {}",
                hello.max_message, self.config.max_message
            );
            return Err(Refusal::Incompatible { what });
        }
        Ok(())
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
                    let session = session.clone();
                    lane.items.push_back(Item::Large { session, number, payload, maybe_seen_until });
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
    pub(super) fn put_back(&self, source: SourceId, item: Item) {
        let mut guard = self.lock();
        let state = &mut *guard;
        if let Some(lane) = state.lanes.get_mut(&source) {
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
        if let Some(source) = turn_of
            && let Some(item) = state.lanes.get_mut(&source).and_then(|lane| lane.items.pop_front())
        {
            // Its place among those that wait stays what it is.
            return Poll::Ready(Ok((source, item)));
        }
        while let Some(source) = state.ready.pop_front() {
            let Some(lane) = state.lanes.get_mut(&source) else { continue };
            let item = lane.items.pop_front();
            lane.queued = false;
            let Some(item) = item else { continue };
            if !lane.items.is_empty() {
                lane.queued = true;
                // Behind the others: the taken item is this source's turn.
                state.ready.push_back(source);
            }
            state.serving = Some(source);
            self.ready_hint.store(state.others_ready(), Ordering::Relaxed);
            return Poll::Ready(Ok((source, item)));
        }
        self.ready_hint.store(0, Ordering::Relaxed);
        if state.leaving != Leaving::No {
            return Poll::Ready(Err(RecvError::Closed));
        }
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
    pub(super) fn driver_stopped(&self, session: &Session, current: bool, ending: bool) -> Vec<Waker> {
        let mut state = self.lock();
        state.drivers -= 1;
        if current {
            state.set_phase(session.id, Phase::Detached, !ending);
        }
        let mut wakers: Vec<Waker> = state.consumer.take().into_iter().collect();
        if state.drivers == 0 {
            wakers.append(&mut state.idle);
        }
        wakers
    }

    /// A lost source has been away too long: it no longer holds the end of the stream.
    pub(super) fn expire(&self, session: &Session, epoch: u64) {
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
        if state.leaving == Leaving::No {
            state.leaving = if closed { Leaving::Closed } else { Leaving::Detached };
        }
        for lane in state.lanes.values_mut() {
            lane.items.clear();
        }
        state.ready.clear();
        let sessions: Vec<_> = state.sessions.values().map(|entry| entry.session.clone()).collect();
        let consumer = state.consumer.take();
        drop(state);
        for session in sessions {
            let mut core = session.lock();
            // What was released and not yet reported must not come again to a successor, nor hold up a close.
            core.report(&session);
            let released = core.machine.released();
            let waker = core.leave(if closed { Control::Closed { released } } else { Control::Detach });
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
    pub(super) fn recover(&self) {
        let sessions: Vec<_> = self.lock().sessions.values().map(|entry| entry.session.clone()).collect();
        for session in sessions {
            let mut core = session.lock();
            if session.recover(&mut core) {
                self.discard(&session);
                self.lock().set_phase(session.id, Phase::Detached, true);
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

    pub(super) fn source(&self, source: SourceId) -> Option<(String, String, Option<Arc<Session>>)> {
        let state = self.lock();
        let lane = state.lanes.get(&source)?;
        let session = state.sessions.get(&lane.current).map(|entry| entry.session.clone());
        Some((lane.process.clone(), lane.port.clone(), session))
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

    pub(super) fn sessions(&self) -> Vec<Arc<Session>> {
        self.lock().sessions.values().map(|entry| entry.session.clone()).collect()
    }
}

impl State {
    /// A record for a session that is not known, in the lane of its source.
    fn enter(&mut self, inbox: &Inbox, hello: &Hello) -> Arc<Session> {
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
                    sessions: 0,
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
        let machine = Incoming::new(config, hello, inbox.config.budget.share());
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
        lane.sessions += 1;
        let earlier = std::mem::replace(&mut lane.current, hello.session);
        if earlier != hello.session {
            // Values of the earlier session that are here come first.
            lane.items.push_back(Item::Restarted { order: self.next_order });
            if !lane.queued {
                lane.queued = true;
                self.ready.push_back(source);
            }
        }
        // It holds the end of the stream before the earlier one lets go: no end may be seen between the two.
        self.sessions
            .insert(hello.session, Entry { session: session.clone(), phase: Phase::Detached, open: true });
        self.open += 1;
        if earlier != hello.session {
            self.set_open(earlier, false);
        }
        session
    }

    fn set_phase(&mut self, id: SessionId, phase: Phase, open: bool) {
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
        let current = self.sessions.get(&id).is_some_and(|entry| {
            self.lanes.get(&entry.session.source).is_some_and(|lane| lane.current == id)
        });
        self.set_open(id, open && current);
    }

    fn set_open(&mut self, id: SessionId, open: bool) {
        if let Some(entry) = self.sessions.get_mut(&id)
            && entry.open != open
        {
            entry.open = open;
            self.open = if open { self.open + 1 } else { self.open - 1 };
        }
    }

    /// How many sources wait for their turn, the one that has it aside.
    fn others_ready(&self) -> usize {
        let own = self.serving.and_then(|source| self.lanes.get(&source)).is_some_and(|lane| lane.queued);
        self.ready.len() - usize::from(own)
    }

    /// A session that was not attached after all is remembered as before.
    fn keep(&mut self, id: SessionId) {
        if self.sessions.get(&id).is_some_and(|entry| entry.phase == Phase::Detached) {
            self.detached.push_back(id);
        }
    }

    /// Forgets detached sessions, oldest first, that have nothing untaken or unacked; `false` if none can be.
    fn make_room(&mut self, max: usize) -> bool {
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
                lane.sessions -= 1;
                if lane.sessions == 0 && lane.items.is_empty() {
                    let name = (std::mem::take(&mut lane.process), std::mem::take(&mut lane.port));
                    self.by_name.remove(&name);
                    self.lanes.remove(&source);
                }
            }
        }
        true
    }
}

impl Lane {
    /// Takes out what belongs to later sessions.
    fn split_off_after(&mut self, order: u64) -> Option<VecDeque<Item>> {
        let begins_later = |item: &Item| matches!(item, Item::Restarted { order: begun } if *begun > order);
        let at = self.items.iter().position(begins_later)?;
        Some(self.items.split_off(at))
    }

    /// Queues a run; a short one is copied behind the last, and its segment comes back.
    fn push_run(&mut self, session: &Arc<Session>, mut run: Run) -> Option<Segment> {
        let mut skip_at = if run.marks { run.condense() } else { None };
        if let Some(Item::Run { session: last, run: tail, skip_at: Some(at) }) = self.items.back_mut()
            && last.id == session.id
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
        if let Some(Item::Run { session: last, run: tail, skip_at: tail_skip }) = self.items.back_mut()
            && len <= COALESCE
            && tail.end + len <= tail.segment.len()
            && last.id == session.id
            && tail.maybe_seen_until == run.maybe_seen_until
        {
            *tail_skip = skip_at.map(|at| at - run.start + tail.end);
            tail.segment[tail.end..tail.end + len].copy_from_slice(&run.segment[run.start..run.end]);
            tail.end += len;
            return Some(run.segment);
        }
        self.items.push_back(Item::Run { session: session.clone(), run, skip_at });
        None
    }
}

impl Item {
    fn session(&self) -> Option<SessionId> {
        match self {
            Self::Large { session, .. } | Self::Run { session, .. } => Some(session.id),
            Self::Restarted { .. } => None,
        }
    }
}
