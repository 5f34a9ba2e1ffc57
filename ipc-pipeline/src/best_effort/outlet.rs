//! What waits to leave, and the task that hands it to the socket.

use std::{
    collections::VecDeque,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker, ready},
};

use bytes::BytesMut;
use futures_sink::Sink;
use ipc_transport::{Datagram, DatagramAddress, DatagramWriter, Error};

use super::{SenderConfig, SenderCounters};
use crate::{
    SendErrorReason,
    protocol::{DATAGRAM_HEADER_LEN, DatagramHeader, SessionId},
};

/// Datagrams of one turn before others get theirs.
const TURN: usize = 64;

/// What the handles and the task that sends share.
pub(super) struct Outlet {
    state: Mutex<State>,
    pub(super) config: SenderConfig,
    pub(super) codec: u32,
}

#[derive(Default)]
struct State {
    /// Encoded values, each behind room for its header.
    waiting: VecDeque<BytesMut>,
    waiting_bytes: usize,
    target: Option<Target>,
    /// No value is accepted any more.
    closed: bool,
    /// Nobody waits for the end: what has nowhere to go is given up.
    forsaken: bool,
    /// The task that sends is gone, with its runtime if not with the end.
    gone: bool,
    driver: Option<Waker>,
    /// Values that were given up when the end came.
    left: usize,
    /// Those who wait until the task is gone.
    closers: Vec<Waker>,
    counters: SenderCounters,
}

/// Where values go, as one session.
#[derive(Clone)]
struct Target {
    to: DatagramAddress,
    session: SessionId,
    /// The number of the next datagram.
    next: u64,
    /// Values given up since the session began.
    skipped: u64,
}

impl Outlet {
    pub(super) fn new(config: SenderConfig, codec: u32) -> Self {
        Self { state: Mutex::default(), config, codec }
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

    /// Begins a session towards a target, or holds values back without one.
    pub(super) fn lead_to(&self, target: Option<(DatagramAddress, SessionId)>) {
        let mut state = self.lock();
        state.target = target.map(|(to, session)| Target { to, session, next: 1, skipped: 0 });
        let driver = state.driver.take();
        drop(state);
        wake(driver);
    }

    /// Holds values back if this session is still the one that they go to.
    pub(super) fn hold_back(&self, session: SessionId) {
        let mut state = self.lock();
        if state.target.as_ref().is_some_and(|target| target.session == session) {
            state.target = None;
        }
    }

    /// The last handle is gone.
    pub(super) fn forsake(&self) {
        self.lock().forsaken = true;
        self.close();
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
        let mut state = self.lock();
        state.give_up_rest();
        let (left, driver) = (state.left, state.driver.take());
        drop(state);
        wake(driver);
        left
    }

    pub(super) fn is_closed(&self) -> bool {
        self.lock().closed
    }

    pub(super) fn counters(&self) -> SenderCounters {
        let state = self.lock();
        SenderCounters { waiting: state.waiting.len(), ..state.counters }
    }

    /// Ready when the task that sends is gone; with how much it gave up.
    pub(super) fn poll_gone(&self, cx: &mut Context<'_>) -> Poll<usize> {
        let mut state = self.lock();
        if state.gone {
            return Poll::Ready(state.left);
        }
        if !state.closers.iter().any(|waker| waker.will_wake(cx.waker())) {
            state.closers.push(cx.waker().clone());
        }
        Poll::Pending
    }

    fn note(&self, outcome: Result<(), Error>) {
        if let Err(error) = outcome {
            tracing::debug!(%error, "a datagram was not sent");
            self.lock().counters.failed += 1;
        }
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
pub(super) async fn run(sending: SendingTask, mut writer: DatagramWriter) {
    std::future::poll_fn(|cx| poll_send(&sending.0, &mut writer, cx)).await;
}

/// However the task ends, with its runtime too: whoever waits for it must know.
pub(super) struct SendingTask(pub(super) Arc<Outlet>);

impl Drop for SendingTask {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.gone = true;
        state.give_up_rest();
        let closers = std::mem::take(&mut state.closers);
        drop(state);
        closers.into_iter().for_each(Waker::wake);
    }
}

fn poll_send(outlet: &Outlet, writer: &mut DatagramWriter, cx: &mut Context<'_>) -> Poll<()> {
    for _ in 0..TURN {
        // Whatever the system says of one datagram, the next one may fare better; the receiver counts what is missing.
        let flushed = ready!(Pin::new(&mut *writer).poll_ready(cx));
        outlet.note(flushed);
        let mut state = outlet.lock();
        let Some(datagram) = state.next(outlet.codec) else {
            let over = state.closed && (state.waiting.is_empty() || state.forsaken);
            state.driver = Some(cx.waker().clone());
            drop(state);
            let flushed = ready!(Pin::new(&mut *writer).poll_flush(cx));
            outlet.note(flushed);
            return if over { Poll::Ready(()) } else { Poll::Pending };
        };
        drop(state);
        let handed = Pin::new(&mut *writer).start_send(datagram);
        outlet.note(handed);
    }
    cx.waker().wake_by_ref();
    Poll::Pending
}

fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}
