//! The other end of a conversation, for as long as it is known: over any number of connections.

use std::{
    future::poll_fn,
    pin::pin,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use bytes::Bytes;
use ipc_pipeline::link::{Event as LinkEvent, Receiver, RecvError};
use ipc_transport::{ConnectionInfo, EncodeBuffer, EncodeError, PeerIdentity};
use serde::Serialize;
use tokio::{
    sync::{oneshot, watch},
    task::JoinHandle,
    time::{Instant, timeout},
};

use super::{
    CallError, EmitError, Reply,
    calls::{Answered, Calls, Ended, Waiter},
    core::Core,
    frame::Frame,
    message::{MAX_NAME, Message},
    native::Inlets,
    node_ipc::{Envelope, Introspection},
    outlet::Outlet,
    plain::Arrived,
};
use crate::event::Meta;

/// How long a peer that was told everything has for the last word.
const LAST_WORD: Duration = Duration::from_secs(5);

/// One peer: a client, as its server knows it, or the server of a client.
pub(super) struct Peer {
    /// 32 hexadecimal digits for a client; the server's own id for a server.
    pub(super) id: Arc<str>,
    name: OnceLock<Arc<str>>,
    pub(super) core: Arc<Core>,
    pub(super) wire: Outlet,
    pub(super) calls: Calls,
    state: Mutex<State>,
    /// Events are handed out only while it is open: not before the handlers of the connect have run.
    gate: Gate,
    /// Held while a message of the control lane is taken and handled.
    handling: Mutex<()>,
    /// Held by its connection, from before the handlers of the connect until those of the disconnect have run.
    pub(super) turn: Arc<tokio::sync::Mutex<()>>,
    /// Whether there is a connection, to be watched.
    here: watch::Sender<bool>,
}

#[derive(Default)]
struct State {
    info: Option<ConnectionInfo>,
    connected: bool,
    /// Grows with each connection.
    epoch: u64,
    /// The newest dial of the peer's.
    attempt: u64,
    /// It said that it will not come back.
    left: bool,
    /// It broke the protocol on this connection.
    malformed: bool,
    /// It is of no interest any more.
    retired: bool,
    tasks: Vec<JoinHandle<()>>,
}

impl Peer {
    pub(super) fn new(id: Arc<str>, name: Option<Arc<str>>, core: Arc<Core>, wire: Outlet) -> Arc<Self> {
        let name = name.map(OnceLock::from).unwrap_or_default();
        let calls = Calls::new(core.tuning.max_calls, core.tuning.max_in_flight);
        let (state, gate, handling, turn) = Default::default();
        let here = watch::Sender::new(false);
        Arc::new(Self { id, name, core, wire, calls, state, gate, handling, turn, here })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What others call it: its name, or else its id.
    pub(super) fn label(&self) -> &Arc<str> {
        self.name().unwrap_or(&self.id)
    }

    pub(super) fn name(&self) -> Option<&Arc<str>> {
        self.name.get()
    }

    /// `false` when it has one already.
    pub(super) fn set_name(&self, name: Arc<str>) -> bool {
        self.name.set(name).is_ok()
    }

    pub(super) fn identity(&self) -> PeerIdentity {
        self.lock().info.as_ref().map_or(PeerIdentity::Unknown, |info| info.peer.clone())
    }

    pub(super) fn info(&self) -> Option<ConnectionInfo> {
        self.lock().info.clone()
    }

    pub(super) fn is_connected(&self) -> bool {
        self.lock().connected
    }

    pub(super) fn has_left(&self) -> bool {
        self.lock().left
    }

    /// Waits for a message that was taken to be handled, which takes no longer than that.
    pub(super) fn finish_handling(&self) {
        drop(self.handling.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Completes when there is a connection.
    pub(super) async fn back(&self) {
        // The sender lives as long as this.
        let _ = self.here.subscribe().wait_for(|here| *here).await;
    }

    /// Whether it broke the protocol on its last connection.
    pub(super) fn is_malformed(&self) -> bool {
        self.lock().malformed
    }

    /// Completes when there is no connection and waiting for the next one is no use: nothing is kept for the peer, or it
    /// is a client that said goodbye.
    pub(super) async fn wants_nothing(&self) {
        let mut here = self.here.subscribe();
        // The sender lives as long as this.
        while here.wait_for(|here| !here).await.is_ok() {
            let is_last = self.core.roster().is_some() && self.has_left();
            if is_last || self.wire.pending() == 0 {
                return;
            }
            let _ = here.changed().await;
        }
    }

    /// Starts the tasks that take what the peer sends; they end with the peer.
    pub(super) fn start(self: &Arc<Self>, inlets: Inlets) {
        let events = tokio::spawn(take_events(self.clone(), inlets.events));
        let control = tokio::spawn(take_control(self.clone(), inlets.control));
        self.lock().tasks = vec![events, control];
    }

    /// Whether this dial of the peer's is newer than those that are known.
    pub(super) fn is_newer(&self, attempt: u64) -> bool {
        let state = self.lock();
        attempt > state.attempt && !state.retired
    }

    /// As [`start`](Self::start), where the wire has no links; the task also ends by itself, when nothing arrives any more.
    pub(super) fn start_plain(self: &Arc<Self>, arrivals: ipc_pipeline::Receiver<Arrived>) {
        let arrivals = tokio::spawn(take_arrivals(self.clone(), arrivals));
        self.lock().tasks = vec![arrivals];
    }

    /// A connection is there, and this its epoch; events wait until [`open`](Self::open). `None` when a newer attempt of
    /// the same peer is known, or it is of no interest any more.
    pub(super) fn connected(&self, attempt: u64, info: ConnectionInfo) -> Option<u64> {
        let mut state = self.lock();
        if attempt <= state.attempt || state.retired {
            return None;
        }
        self.gate.close();
        let replaces = std::mem::replace(&mut state.connected, true);
        state.malformed = false;
        // A server that went away in good order is back.
        state.left &= self.core.roster().is_some();
        state.attempt = attempt;
        self.here.send_replace(true);
        state.info = Some(info);
        state.epoch += 1;
        let epoch = state.epoch;
        drop(state);
        tracing::trace!(id = %self.id, epoch, "connected");
        if replaces {
            // The peer saw the end of the connection before, and gave up what went over it.
            self.end_calls();
        }
        Some(epoch)
    }

    /// The handlers of the connect have run: events may flow, unless a newer connection is there.
    pub(super) fn open(&self, epoch: u64) {
        let state = self.lock();
        if state.epoch == epoch {
            self.gate.open();
        }
    }

    /// The connection of this epoch is gone; `false` when another one had taken its place.
    pub(super) fn disconnected(&self, epoch: u64) -> bool {
        {
            let mut state = self.lock();
            if state.epoch != epoch || !state.connected {
                return false;
            }
            state.connected = false;
            self.here.send_replace(false);
        }
        tracing::trace!(id = %self.id, epoch, "disconnected");
        self.end_calls();
        self.gate.open();
        true
    }

    /// Takes no events to send any more, delivers what it has, and says a last word to one that is connected; how many
    /// events were not delivered.
    pub(super) async fn close(&self, last: Option<Message<'static>>, until: Instant) -> usize {
        let left = || until.saturating_duration_since(Instant::now());
        let native = match &self.wire {
            Outlet::Native(native) => native,
            Outlet::Plain(plain) => {
                plain.finish();
                let _ = timeout(left().max(Duration::from_millis(1)), plain.settled()).await;
                return plain.pending();
            }
        };
        let mut undelivered = 0;
        for closer in native.closers() {
            let closed = tokio::select! {
                biased;
                closed = closer.close(left()) => closed,
                () = self.wants_nothing() => closer.close(Duration::ZERO).await,
            };
            undelivered += closed.map_or_else(|rest| rest.count, |()| 0);
        }
        // Requests, answers and words are for this connection alone: without one nobody waits for them.
        let connected = self.is_connected();
        if let (Some(last), true) = (last, connected) {
            self.post(&last);
        }
        let control = native.control_closer();
        let limit = if connected { left().min(LAST_WORD) } else { Duration::ZERO };
        tokio::select! {
            _ = control.close(limit) => {}
            () = self.wants_nothing() => {}
        }
        undelivered
    }

    /// Whether nothing has come after the connection of this epoch.
    pub(super) fn is_gone_since(&self, epoch: u64) -> bool {
        let state = self.lock();
        !state.connected && state.epoch == epoch
    }

    /// Whether it is of no interest any more.
    pub(super) fn is_retired(&self) -> bool {
        self.lock().retired
    }

    /// It is of no interest any more: its tasks end, and whoever waits hears of it.
    pub(super) fn retire(&self) {
        let tasks = {
            let mut state = self.lock();
            state.retired = true;
            std::mem::take(&mut state.tasks)
        };
        self.wire.end();
        if let Some(native) = self.wire.native() {
            // Whoever still has a handle hears that there is nobody any more.
            native.abandon();
        }
        self.end_calls();
        tasks.into_iter().for_each(|task| task.abort());
    }

    /// Calls in both directions end with their connection.
    fn end_calls(&self) {
        self.fail_calls(&CallError::Disconnected);
        for ended in self.calls.cancel_in_flight() {
            pass_on(ended);
        }
    }

    /// Ends the tasks that take what the peer sends, and completes when no handler of its events runs any more.
    pub(super) async fn stop(&self) {
        let tasks = std::mem::take(&mut self.lock().tasks);
        tasks.iter().for_each(JoinHandle::abort);
        for task in tasks {
            let _ = task.await;
        }
    }

    fn fail_calls(&self, error: &CallError) {
        for (id, waiter) in self.calls.take_pending() {
            // If the request still gets there, nobody is to work for it.
            self.post(&Message::Cancel { id });
            answer(waiter, Err(error.clone()));
        }
    }

    // Sending.

    pub(super) fn encode<T>(&self, head: &Message<'_>, value: &T) -> Result<Frame, EmitError>
    where
        T: Serialize + ?Sized,
    {
        let codec = self.core.tuning.codec;
        let write = |out: &mut EncodeBuffer<'_>| -> Result<(), EncodeError> {
            head.encode_head(out)?;
            codec.encode(value, out)
        };
        Ok(Frame::build(self.core.tuning.limits.max_message, write)?)
    }

    /// Puts a message of ours on the control lane without waiting.
    pub(super) fn post(&self, message: &Message<'_>) {
        // One of ours encodes, unless it is larger than messages may be: then there is nobody to tell.
        match Frame::build(self.core.tuning.limits.max_message, |out| message.encode(out)) {
            Ok(frame) => self.wire.post(frame),
            Err(error) => tracing::debug!(%error, "a message was not sent"),
        }
    }

    /// Puts somebody else's request on the control lane if there is room: nobody may fill it up with theirs.
    fn put(&self, message: &Message<'_>) -> Result<(), CallError> {
        let max = self.core.tuning.limits.max_message;
        let frame = Frame::build(max, |out| message.encode(out)).map_err(EmitError::from)?;
        self.wire.try_control(frame).map_err(|error| match error {
            EmitError::Full => CallError::Busy,
            EmitError::Closed => CallError::Disconnected,
            error => error.into(),
        })
    }

    /// Asks, and waits for the answer until the deadline.
    pub(super) async fn call(
        self: &Arc<Self>,
        encode: impl FnOnce(u64) -> Result<Frame, EmitError>,
        deadline: Duration,
    ) -> Result<Bytes, CallError> {
        let (answer, answered) = oneshot::channel();
        let id = self.calls.begin(Waiter::Local(answer))?;
        // However this ends before its answer: nobody is to work for it any more.
        let mut waiting = Waiting { peer: self, id, sent: false };
        let frame = encode(id)?;
        let asked = async {
            self.wire.control(frame).await?;
            waiting.sent = true;
            answered.await.unwrap_or(Err(CallError::Disconnected))
        };
        match timeout(deadline, asked).await {
            Ok(answered) => answered,
            Err(_) => Err(CallError::TimedOut),
        }
    }
}

/// A call that waits for its answer; dropped before that, the other side is told.
struct Waiting<'a> {
    peer: &'a Peer,
    id: u64,
    sent: bool,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if self.peer.calls.give_up(self.id) && self.sent {
            self.peer.post(&Message::Cancel { id: self.id });
        }
    }
}

/// Whether events may be taken and handed out; one task waits for that.
#[derive(Default)]
struct Gate {
    is_open: AtomicBool,
    waiting: Mutex<Option<Waker>>,
}

impl Gate {
    fn close(&self) {
        self.is_open.store(false, Ordering::Release);
    }

    fn open(&self) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        self.is_open.store(true, Ordering::Release);
        let waiting = waiting.take();
        waiting.into_iter().for_each(Waker::wake);
    }

    async fn pass(&self) {
        poll_fn(|cx| self.poll_pass(cx)).await;
    }

    fn poll_pass(&self, cx: &Context<'_>) -> Poll<()> {
        // Acquire: with the release of `open`, what the handlers of the connect did is seen.
        if self.is_open.load(Ordering::Acquire) {
            return Poll::Ready(());
        }
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if self.is_open.load(Ordering::Acquire) {
            return Poll::Ready(());
        }
        *waiting = Some(cx.waker().clone());
        Poll::Pending
    }
}

/// Takes the next event while the gate is open: one that is taken is not sent again, so none is held behind it.
async fn next_event(peer: &Peer, events: &mut Receiver<Frame>) -> Result<LinkEvent<Frame>, RecvError> {
    let event = {
        let mut next = pin!(events.recv_event());
        poll_fn(|cx| {
            ready!(peer.gate.poll_pass(cx));
            next.as_mut().poll(cx)
        })
        .await
    };
    // A connection may have been made in that very moment.
    peer.gate.pass().await;
    event
}

/// Hands the events of one peer to their handlers, one after the other.
async fn take_events(peer: Arc<Peer>, mut events: Receiver<Frame>) {
    let core = peer.core.clone();
    let mut dispatcher = core.handlers.dispatcher();
    let reply = Reply::new(peer.clone());
    loop {
        let (frame, redelivered) = match next_event(&peer, &mut events).await {
            Ok(LinkEvent::Value(delivery)) => {
                let redelivered = delivery.redelivered();
                (delivery.into_value(), redelivered)
            }
            Ok(LinkEvent::Skipped { count, .. }) => {
                core.counters.missed.fetch_add(count, Ordering::Relaxed);
                continue;
            }
            // A server or client that closed in good order; another life of it may follow.
            Ok(_) | Err(RecvError::EndOfStream) => continue,
            Err(RecvError::Undecodable { .. } | RecvError::ExplicitAcks) => continue,
            Err(_) => return,
        };
        match Message::decode(frame.as_slice()) {
            Ok(Message::Event { name, from, payload }) => {
                tracing::trace!(id = %peer.id, bytes = payload.len(), redelivered, "an event arrived");
                let from = if from.is_empty() { None } else { core.told_by(from) };
                let meta = Meta { from, redelivered };
                let codec = core.tuning.codec;
                let outcome = dispatcher.dispatch(name, codec, payload, meta, &reply).await;
                if outcome.panicked > 0 && core.hangs_up_on_panic() {
                    peer.wire.cut();
                }
            }
            _ => peer.broke_the_protocol(),
        }
    }
}

/// Arrivals that are taken together: each taking has the price of a lock. They count as read ahead as well.
const BATCH: usize = 64;

/// Hands what arrives on a wire without links to its handlers, one after the other.
async fn take_arrivals(peer: Arc<Peer>, mut arrivals: ipc_pipeline::Receiver<Arrived>) {
    let core = peer.core.clone();
    let mut dispatcher = core.handlers.dispatcher();
    let reply = Reply::new(peer.clone());
    let mut batch = Vec::with_capacity(BATCH);
    while arrivals.recv_many(&mut batch, BATCH).await.is_ok() {
        for arrived in batch.drain(..) {
            peer.gate.pass().await;
            match arrived {
                Arrived::Bytes(bytes) => {
                    let panicked = core.bytes.run((bytes, reply.clone())).await;
                    core.counters.hooks_panicked.fetch_add(panicked, Ordering::Relaxed);
                }
                Arrived::Event(frame) => {
                    tracing::trace!(id = %peer.id, bytes = frame.len(), "an event arrived");
                    if peer.sees_to(frame.name()) {
                        continue;
                    }
                    let envelope = frame.envelope();
                    peer.identify(&envelope);
                    // Without data a handler gets what `null` is of its type.
                    let data = envelope.data.unwrap_or(b"null");
                    let codec = core.tuning.codec;
                    let outcome =
                        dispatcher.dispatch(&envelope.name, codec, data, Meta::default(), &reply).await;
                    if outcome.panicked > 0 && core.hangs_up_on_panic() {
                        peer.wire.cut();
                    }
                }
            }
        }
    }
}

impl Peer {
    /// What the wire of node-ipc asks and tells of itself, and no handler is to see; whether this was such.
    fn sees_to(&self, name: &str) -> bool {
        let (Some(wire), Some(writer)) = (self.core.node_ipc(), self.core.node_ipc_writer()) else {
            return false;
        };
        let Some(introspection) = Introspection::of(name) else { return false };
        match introspection {
            Introspection::GetBroadcasting | Introspection::GetListening => {
                let Some(catalogue) = &wire.catalogue else { return false };
                let mut bytes = Vec::new();
                if catalogue.answer(introspection, &self.core.id, writer, &mut bytes).is_ok() {
                    let _ = self.wire.try_event(Frame::copy(&bytes));
                }
                true
            }
            // The greeting of an old server is for nobody; what was asked for goes to its handler.
            Introspection::Broadcasting | Introspection::Listening => {
                self.core.roster().is_none() && !self.core.asks_for_events()
            }
        }
    }

    /// Takes the member `id` of an event's data for the client's name, where that is wanted.
    fn identify(self: &Arc<Self>, envelope: &Envelope<'_>) {
        if self.name().is_some() || !self.core.node_ipc().is_some_and(|wire| wire.identify_peer) {
            return;
        }
        if let (Some(roster), Some(claimed)) = (self.core.roster(), envelope.claimed_id())
            && claimed.len() <= MAX_NAME
        {
            roster.give_name(self, &claimed);
        }
    }
}

/// Takes requests, answers and the like; it never waits for a handler.
async fn take_control(peer: Arc<Peer>, mut control: Receiver<Frame>) {
    let mut goes_on = |cx: &mut Context<'_>| {
        // With the lock, so that what is taken, and thereby acknowledged, is handled before anybody looks.
        let _handling = peer.handling.lock().unwrap_or_else(PoisonError::into_inner);
        match ready!(control.poll_recv(cx)) {
            Ok(delivery) => {
                let redelivered = delivery.redelivered();
                peer.handle(delivery.as_slice(), redelivered);
                Poll::Ready(true)
            }
            Err(RecvError::EndOfStream | RecvError::Undecodable { .. } | RecvError::ExplicitAcks) => {
                Poll::Ready(true)
            }
            Err(_) => Poll::Ready(false),
        }
    };
    while poll_fn(&mut goes_on).await {}
}

impl Peer {
    fn broke_the_protocol(&self) {
        // Once for each connection, however much of it is still to be read.
        if !std::mem::replace(&mut self.lock().malformed, true) {
            self.core.counters.malformed.fetch_add(1, Ordering::Relaxed);
        }
        self.wire.cut();
    }

    fn handle(self: &Arc<Self>, bytes: &[u8], redelivered: bool) {
        let Ok(message) = Message::decode(bytes) else { return self.broke_the_protocol() };
        tracing::trace!(id = %self.id, what = message.kind(), bytes = bytes.len(), "a message arrived");
        match message {
            Message::Answer { id, payload } => self.answered(id, Ok(Bytes::copy_from_slice(payload))),
            Message::Failure { id, code, text } => self.answered(id, Err(CallError::of_wire(code, text))),
            Message::Cancel { id } => {
                if let Some(ended) = self.calls.cancelled(id) {
                    pass_on(ended);
                }
            }
            // Whoever asked it was told that the connection is gone: an earlier life of ours may have acted on it.
            Message::Request { .. } if redelivered => {
                self.core.counters.stale_requests.fetch_add(1, Ordering::Relaxed);
            }
            Message::Request { id, to: "", from, name, payload } => {
                let from = if from.is_empty() { None } else { self.core.told_by(from) };
                self.respond(id, name, payload, from);
            }
            Message::Request { id, to, name, payload, .. } => self.relay_request(id, to, name, payload),
            Message::EmitTo { id, to, name, payload } => self.relay_event(id, to, name, payload),
            Message::Broadcast { id, include_self, name, payload } => {
                let from = self.label().clone();
                let except = if include_self { None } else { Some(self) };
                let message = Message::Event { name, from: &from, payload };
                let outcome = match self.core.roster() {
                    Some(roster) => roster.broadcast(&self.core, &message, except).map_err(CallError::from),
                    None => Err(CallError::Rejected { what: "only a server broadcasts".to_owned() }),
                };
                self.tell(id, outcome.map(|clients| (clients as u64).to_le_bytes().to_vec()));
            }
            Message::Discover { id } => {
                let directory = self.core.directory();
                let mut bytes = Vec::new();
                let mut out = EncodeBuffer::growing(&mut bytes, self.core.tuning.limits.max_message);
                let encoded = self.core.tuning.codec.encode(&directory, &mut out);
                self.tell(id, encoded.map(|()| bytes).map_err(|error| EmitError::from(error).into()));
            }
            Message::GoAway { .. } => {
                // A client has no clients: what it says here means nothing.
                if self.core.roster().is_none() {
                    self.lock().left = true;
                }
            }
            Message::Goodbye => self.lock().left = true,
            Message::Event { .. } => self.broke_the_protocol(),
        }
    }

    /// Says how a request of the peer's ended.
    fn tell(&self, id: u64, outcome: Result<Vec<u8>, CallError>) {
        match &outcome {
            Ok(payload) => self.post(&Message::Answer { id, payload }),
            Err(error) => match error.to_wire() {
                Some((code, text)) => self.post(&Message::Failure { id, code, text }),
                None => {
                    let text = error.to_string();
                    self.post(&Message::Failure { id, code: 5, text: &text });
                }
            },
        }
    }

    fn answered(&self, id: u64, outcome: Answered) {
        if let Some(waiter) = self.calls.answered(id) {
            answer(waiter, outcome);
        }
    }

    /// Has the handler of a request run as a task of its own.
    fn respond(self: &Arc<Self>, id: u64, name: &str, payload: &[u8], from: Option<Arc<str>>) {
        let Some(responder) = self.core.handlers.responder(name) else {
            return self.tell(id, Err(CallError::UnknownRequest { name: name.to_owned() }));
        };
        let Some(epoch) = self.calls.take_in(id) else {
            self.core.counters.busy.fetch_add(1, Ordering::Relaxed);
            return self.tell(id, Err(CallError::Busy));
        };
        let max = self.core.max_answer();
        let meta = Meta { from, redelivered: false };
        let codec = self.core.tuning.codec;
        let answering = responder.call(codec, payload, meta, Reply::new(self.clone()), max);
        let peer = self.clone();
        let task = tokio::spawn(async move {
            let outcome = answering.await.map_err(CallError::from);
            let panicked = outcome == Err(CallError::Panicked);
            if peer.calls.done(id, epoch) {
                peer.tell(id, outcome);
            }
            if panicked && peer.core.hangs_up_on_panic() {
                peer.wire.cut();
            }
        });
        self.calls.runs_here(id, task.abort_handle());
    }

    /// A client asks another one: the answer comes back by the same way.
    fn relay_request(self: &Arc<Self>, id: u64, to: &str, name: &str, payload: &[u8]) {
        let target = match self.core.find(to) {
            Ok(target) => target,
            Err(error) => return self.tell(id, Err(error)),
        };
        if self.calls.take_in(id).is_none() {
            self.core.counters.busy.fetch_add(1, Ordering::Relaxed);
            return self.tell(id, Err(CallError::Busy));
        }
        let waiter = Waiter::Relay { origin: Arc::downgrade(self), id };
        match target.calls.begin(waiter) {
            Ok(there) => {
                self.calls.runs_there(id, &target, there);
                let from = self.label().clone();
                let message = Message::Request { id: there, to: "", from: &from, name, payload };
                if let Err(error) = target.put(&message) {
                    if target.calls.give_up(there) && self.calls.done_there(id) {
                        self.tell(id, Err(error));
                    }
                    return;
                }
                // It may have gone meanwhile, before the call was among those that hear of it.
                if !target.is_connected() && target.calls.give_up(there) {
                    target.post(&Message::Cancel { id: there });
                    if self.calls.done_there(id) {
                        self.tell(id, Err(CallError::Disconnected));
                    }
                }
            }
            Err(_) => {
                if self.calls.done_there(id) {
                    self.tell(id, Err(CallError::Busy));
                }
            }
        }
    }

    /// A client tells another one something; it hears whether that was accepted.
    fn relay_event(self: &Arc<Self>, id: u64, to: &str, name: &str, payload: &[u8]) {
        let from = self.label().clone();
        let outcome = self.core.find(to).and_then(|target| {
            let message = Message::Event { name, from: &from, payload };
            let max = self.core.tuning.limits.max_message;
            let frame = Frame::build(max, |out| message.encode(out)).map_err(EmitError::from)?;
            target.wire.try_event(frame).map_err(CallError::from)
        });
        self.tell(id, outcome.map(|()| Vec::new()));
    }
}

/// Hands an answer to whoever waits for it.
fn answer(waiter: Waiter, outcome: Answered) {
    match waiter {
        // Whoever gave up meanwhile does not want it.
        Waiter::Local(waiting) => drop(waiting.send(outcome)),
        Waiter::Relay { origin, id } => {
            if let Some(origin) = Weak::upgrade(&origin)
                && origin.calls.done_there(id)
            {
                match outcome {
                    Ok(payload) => origin.post(&Message::Answer { id, payload: &payload }),
                    Err(error) => origin.tell(id, Err(error)),
                }
            }
        }
    }
}

/// Tells another client that nobody waits for its answer any more.
fn pass_on(ended: Ended) {
    if let Ended::There { target, id } = ended
        && target.calls.give_up(id)
    {
        target.post(&Message::Cancel { id });
    }
}

/// Counts of a server or a client.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) missed: AtomicU64,
    pub(super) malformed: AtomicU64,
    pub(super) stale_requests: AtomicU64,
    pub(super) busy: AtomicU64,
    pub(super) refused: AtomicU64,
    pub(super) failed: AtomicU64,
    pub(super) hooks_panicked: AtomicU64,
}
