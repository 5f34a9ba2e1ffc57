//! What waits to leave, and the task that hands it to the socket.

use std::{
    collections::VecDeque,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use bytes::BytesMut;
use futures_sink::Sink;
use ipc_transport::{Datagram, DatagramAddress, DatagramWriter, Error};
use tokio::{sync::watch, time::sleep};

use super::{SenderConfig, SenderCounters};
use crate::{
    SendErrorReason,
    protocol::{DATAGRAM_HEADER_LEN, DatagramHeader, SessionId},
};

/// Datagrams of one turn before others get theirs.
const TURN: usize = 64;

/// How long a socket that takes nothing is waited for after its owner is gone.
const LINGER: Duration = Duration::from_secs(1);

/// What the handles and the tasks of a sending end share.
pub(super) struct Outbox {
    state: Mutex<State>,
    pub(super) config: SenderConfig,
    pub(super) codec: u32,
    /// How much longer the sending task may take, once that is settled.
    ending: watch::Sender<Option<Duration>>,
    /// Whether the sending task is gone, with its runtime if not with the end.
    gone: watch::Sender<bool>,
}

#[derive(Default)]
struct State {
    /// Encoded values, each behind room for its header.
    waiting: VecDeque<BytesMut>,
    waiting_bytes: usize,
    /// Which order to lead values somewhere is the latest; what an earlier one finds counts no more.
    order: u64,
    /// Whether somebody looks for a target.
    seeking: bool,
    target: Option<Target>,
    /// No value is accepted any more.
    closed: bool,
    /// Nobody waits for the end: what has nowhere to go is given up.
    forsaken: bool,
    gone: bool,
    /// Values that were given up when the end came.
    left: usize,
    driver: Option<Waker>,
    counters: SenderCounters,
}

/// Where values go, as one session.
struct Target {
    to: DatagramAddress,
    session: SessionId,
    /// The number of the next datagram.
    next: u64,
    /// Values given up since the session began.
    skipped: u64,
}

impl Outbox {
    pub(super) fn new(config: SenderConfig, codec: u32) -> Self {
        let (ending, gone) = (watch::Sender::new(None), watch::Sender::new(false));
        Self { state: Mutex::default(), config, codec, ending, gone }
    }

    /// Why nothing is accepted any more, if so.
    pub(super) fn refusal(&self) -> Option<SendErrorReason> {
        self.lock().refusal()
    }

    /// Puts an encoded value behind the others; the oldest make room.
    pub(super) fn push(&self, message: BytesMut) -> Result<(), SendErrorReason> {
        let mut guard = self.lock();
        let state = &mut *guard;
        if let Some(reason) = state.refusal() {
            return Err(reason);
        }
        state.waiting_bytes += message.len();
        state.waiting.push_back(message);
        state.counters.accepted += 1;
        let (capacity, byte_bound) = (self.config.capacity.get(), self.config.byte_bound);
        while state.waiting.len() > capacity || state.waiting.len() > 1 && state.waiting_bytes > byte_bound {
            state.give_up_oldest();
        }
        // Without a target there is nothing to do for the task.
        let driver = if state.target.is_some() { state.driver.take() } else { None };
        drop(guard);
        wake(driver);
        Ok(())
    }

    /// A new order to lead values somewhere, which whoever has it looks for; until then they are held back. After the end
    /// there is none.
    pub(super) fn begin_order(&self, seeking: bool) -> Option<u64> {
        let mut state = self.lock();
        if state.refusal().is_some() {
            return None;
        }
        state.order += 1;
        state.target = None;
        state.seeking = seeking;
        Some(state.order)
    }

    /// No order counts any more.
    pub(super) fn end_orders(&self) {
        self.lock().order += 1;
    }

    /// Begins a session towards a target, if the order is still the latest; whether it is.
    pub(super) fn lead_to(&self, order: u64, to: DatagramAddress, session: SessionId) -> bool {
        let mut state = self.lock();
        let counts = state.order == order;
        if counts {
            state.target = Some(Target { to, session, next: 1, skipped: 0 });
        }
        let driver = state.driver.take();
        drop(state);
        wake(driver);
        counts
    }

    /// Holds values back, if the order is still the latest; when nobody looks for another target, so it stays.
    pub(super) fn hold_back(&self, order: u64, seeking: bool) {
        let mut state = self.lock();
        if state.order == order {
            state.target = None;
            state.seeking = seeking;
        }
        let driver = state.driver.take();
        drop(state);
        wake(driver);
    }

    pub(super) fn is_latest(&self, order: u64) -> bool {
        self.lock().order == order
    }

    /// The owner is gone: what can leave does, and no value is accepted any more.
    pub(super) fn forsake(&self) {
        self.end(LINGER, |state| state.forsaken = true);
    }

    pub(super) fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        let driver = state.driver.take();
        drop(state);
        wake(driver);
    }

    /// Gives up what still waits, and says how much was given up since the end came.
    pub(super) fn abandon(&self) -> usize {
        self.end(Duration::ZERO, State::give_up_rest);
        self.lock().left
    }

    pub(super) fn is_closed(&self) -> bool {
        self.lock().closed
    }

    pub(super) fn counters(&self) -> SenderCounters {
        let state = self.lock();
        SenderCounters { waiting: state.waiting.len(), ..state.counters }
    }

    /// Completes when the task that sends is gone; with how much it gave up.
    pub(super) async fn gone(&self) -> usize {
        let _ = self.gone.subscribe().wait_for(|gone| *gone).await;
        self.lock().left
    }

    fn end(&self, within: Duration, change: impl FnOnce(&mut State)) {
        let mut state = self.lock();
        state.closed = true;
        change(&mut state);
        let driver = state.driver.take();
        drop(state);
        self.ending.send_modify(|ending| *ending = Some(ending.map_or(within, |before| before.min(within))));
        wake(driver);
    }

    /// What the socket says concerns the datagram that it was handed, if any; the next one may fare better, and the
    /// receiver finds this one missing.
    fn note(&self, handed: &mut bool, outcome: Result<(), Error>) {
        if std::mem::take(handed) {
            self.failed(outcome);
        }
    }

    fn failed(&self, outcome: Result<(), Error>) {
        if let Err(error) = outcome {
            tracing::debug!(%error, "a datagram was not sent");
            self.count_failure();
        }
    }

    fn count_failure(&self) {
        self.lock().counters.failed += 1;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn refusal(&self) -> Option<SendErrorReason> {
        match (self.closed, self.gone) {
            (true, _) => Some(SendErrorReason::Closed),
            (false, true) => Some(SendErrorReason::NotConnected),
            (false, false) => None,
        }
    }

    /// Whether no value will leave any more: none waits, or there is nowhere to go and nobody looks for a place.
    fn is_over(&self) -> bool {
        let stuck = self.target.is_none() && (self.forsaken || !self.seeking);
        self.closed && (self.waiting.is_empty() || stuck)
    }

    fn give_up_rest(&mut self) {
        self.left += self.waiting.len();
        while !self.waiting.is_empty() {
            self.give_up_oldest();
        }
    }

    fn give_up_oldest(&mut self) {
        if let Some(oldest) = self.waiting.pop_front() {
            self.waiting_bytes -= oldest.len();
            self.counters.dropped += 1;
            if let Some(target) = &mut self.target {
                target.skipped += 1;
            }
        }
    }

    /// The next datagram with its header, if there is one and somewhere to send it.
    fn next(&mut self, codec: u32) -> Option<Datagram> {
        let target = self.target.as_mut()?;
        let mut message = self.waiting.pop_front()?;
        self.waiting_bytes -= message.len();
        let header =
            DatagramHeader { session: target.session, codec, number: target.next, skipped: target.skipped };
        target.next += 1;
        self.counters.sent += 1;
        message[..DATAGRAM_HEADER_LEN].copy_from_slice(&header.encode());
        Some(Datagram { payload: message.freeze(), peer: target.to.clone() })
    }
}

/// The task that sends, until the end was announced and nothing is left, or nothing can be sent.
pub(super) struct SendingTask {
    outbox: Arc<Outbox>,
    /// There until the end.
    writer: Option<DatagramWriter>,
    /// Whether the socket has a datagram of which it has not told yet what became of it.
    handed: bool,
}

impl SendingTask {
    pub(super) fn new(outbox: Arc<Outbox>, writer: DatagramWriter) -> Self {
        Self { outbox, writer: Some(writer), handed: false }
    }

    pub(super) async fn run(mut self) {
        let mut ending = self.outbox.ending.subscribe();
        let limit = async move {
            let within = match ending.wait_for(Option::is_some).await {
                Ok(within) => within.unwrap_or_default(),
                Err(_) => return,
            };
            sleep(within).await;
        };
        tokio::select! {
            biased;
            () = std::future::poll_fn(|cx| self.poll_send(cx)) => {}
            () = limit => {}
        }
    }

    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Self { outbox, writer: Some(writer), handed } = self else { return Poll::Ready(()) };
        for _ in 0..TURN {
            let mut state = outbox.lock();
            state.driver = Some(cx.waker().clone());
            let (is_over, is_idle) = (state.is_over(), state.waiting.is_empty() || state.target.is_none());
            drop(state);
            if is_over || is_idle {
                let flushed = ready!(Pin::new(&mut *writer).poll_flush(cx));
                outbox.note(handed, flushed);
                return if is_over { Poll::Ready(()) } else { Poll::Pending };
            }
            let had_one = *handed;
            let is_ready = ready!(Pin::new(&mut *writer).poll_ready(cx));
            let failed = is_ready.is_err();
            outbox.note(handed, is_ready);
            if failed && had_one {
                continue;
            }
            let Some(datagram) = outbox.lock().next(outbox.codec) else { continue };
            if failed {
                // A socket that is broken for good costs a value each time: nobody waits for it to be whole again.
                outbox.count_failure();
                continue;
            }
            let outcome = Pin::new(&mut *writer).start_send(datagram);
            *handed = outcome.is_ok();
            outbox.failed(outcome);
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

/// However the task ends, with its runtime too: whoever waits for it must know.
impl Drop for SendingTask {
    fn drop(&mut self) {
        // The socket first, so that its address is free when its end is known.
        drop(self.writer.take());
        let mut state = self.outbox.lock();
        state.gone = true;
        state.give_up_rest();
        // What the socket had not sent yet went with it.
        state.counters.failed += u64::from(self.handed);
        drop(state);
        self.outbox.gone.send_replace(true);
    }
}

fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}
