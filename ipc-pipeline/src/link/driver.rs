//! The sending end's task: dial, greet, move bytes, dial again.
//!
//! ```text
//!  ┌─▶ dial ──▶ greet ──▶ frames ──▶ lost ─┐
//!  │     │        │          │             │
//!  └── back-off ◀─┴──────────┴─────────────┘     over: closed, stopped, refused for good
//! ```

use std::{
    future::poll_fn,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use ipc_transport::{Backoff, BackoffConfig, ReadHalf, WriteHalf};
use tokio::io::{AsyncRead, ReadBuf};

use super::{
    AttemptError, Connector, LinkNames, LostReason, Status,
    dial::{Greeted, greet, violation},
    shared::{Flushed, Shared, State},
};
use crate::protocol::{Control, ControlReader, End, ProtocolError, Refusal, Welcome};

/// Reads and writes of one turn before others get theirs.
const TURNS: usize = 16;

/// A connection that lasted this long was worth dialling at once again, whatever it moved.
const LASTING: Duration = Duration::from_secs(1);

/// A driver's hold on its link, from the order to connect until it is over, or dropped with its runtime.
pub(super) struct Driving {
    shared: Arc<Shared>,
    order: u64,
}

impl Driving {
    pub(super) fn new(shared: Arc<Shared>, order: u64) -> Self {
        Self { shared, order }
    }
}

impl Drop for Driving {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        if state.order != self.order {
            return;
        }
        // A panic, or the end of the runtime, takes a driver away that has things to do: nobody is to wait for it.
        state.abandoned = !state.is_over(self.order);
        state.runtime = None;
        state.driver = None;
        let status = match state.machine.end() {
            Some(End::Refused(refusal)) => Status::Refused(refusal.clone()),
            Some(End::PeerClosed) => Status::Refused(Refusal::PeerClosed),
            _ => Status::Closed,
        };
        let wakers = self.shared.settle(&mut state);
        drop(state);
        self.shared.status.send_replace(status);
        wake(wakers);
    }
}

/// Drives a sending end until it is over.
pub(super) async fn run(driving: Driving, connector: Arc<dyn Connector>, names: LinkNames, codec: String) {
    let (shared, order) = (&driving.shared, driving.order);
    let _turn = shared.turn.lock().await;
    if shared.lock().order != order {
        return;
    }
    let mut schedule = Schedule::new(shared, &*connector);
    shared.status.send_replace(Status::Waiting);
    let mut released_before = 0;
    while !shared.lock().is_over(order) {
        let began = Instant::now();
        match attempt(shared, &*connector, &names, &codec, order).await {
            Attempt::Lost(reason) => {
                tracing::debug!(?reason, "connection lost");
                shared.status.send_replace(Status::Lost(reason));
                // A peer that welcomes and hangs up at once must not be dialled in a busy loop.
                let released = shared.lock().machine.counters().released;
                if released > released_before || began.elapsed() >= LASTING {
                    schedule.backoff.reset();
                }
                released_before = released;
            }
            Attempt::Failed(error) => shared.tell_error(Some(error), order),
            Attempt::Interrupted => continue,
            Attempt::Refused => {}
        }
        let delay = schedule.next_delay(shared, &*connector);
        let mut changed = pin!(connector.changed());
        let mut interrupted = pin!(shared.interrupted(order));
        tokio::select! {
            () = tokio::time::sleep(delay) => {}
            () = &mut changed => {}
            () = &mut interrupted => {}
        }
    }
}

/// When to dial again, by the link's configuration or else by the peer's place, which may change.
struct Schedule {
    shape: BackoffConfig,
    backoff: Backoff,
}

impl Schedule {
    fn new(shared: &Shared, connector: &dyn Connector) -> Self {
        let shape = shared.config.backoff.clone().unwrap_or_else(|| connector.backoff());
        Self { backoff: Backoff::new(shape.clone(), fastrand::u64(..)), shape }
    }

    fn next_delay(&mut self, shared: &Shared, connector: &dyn Connector) -> Duration {
        if shared.config.backoff.is_none() && connector.backoff() != self.shape {
            *self = Self::new(shared, connector);
        }
        self.backoff.next_delay(Instant::now())
    }
}

enum Attempt {
    /// Nobody there, or not ready.
    Failed(AttemptError),
    /// A command came; look at the state again.
    Interrupted,
    /// There was a connection and it is gone.
    Lost(LostReason),
    /// For good, as the machine knows.
    Refused,
}

async fn attempt(
    shared: &Arc<Shared>,
    connector: &dyn Connector,
    names: &LinkNames,
    codec: &str,
    order: u64,
) -> Attempt {
    let connection = tokio::select! {
        outcome = connector.connect() => outcome,
        () = shared.interrupted(order) => return Attempt::Interrupted,
    };
    let connection = match connection {
        Ok(connection) => connection,
        Err(error) => return Attempt::Failed(AttemptError::Dial(error)),
    };
    let remote = connection.info().remote.clone();
    let hello = {
        let mut state = shared.lock();
        state.cut = false;
        let mut hello = state.machine.hello(codec);
        hello.from_process.clone_from(&names.from_process);
        hello.from_port.clone_from(&names.from_port);
        hello.to_process.clone_from(&names.to_process);
        hello.to_port.clone_from(&names.to_port);
        hello.schema.clone_from(&shared.config.schema);
        hello.credentials.clone_from(&shared.config.credentials);
        hello
    };
    let Some(asking) = Asking::begin(shared, order) else { return Attempt::Interrupted };
    let parked = || {
        asking.end();
        shared.tell_error(None, order);
    };
    let greeted = tokio::select! {
        greeted = greet(connection, &hello, shared.config.handshake_timeout, parked) => greeted,
        () = shared.interrupted(order) => return Attempt::Interrupted,
    };
    match greeted {
        Greeted::Failed(error) => Attempt::Failed(AttemptError::handshake(remote, error)),
        Greeted::Datagrams(_) => {
            let error = ProtocolError::Hello { what: "datagrams were not asked for" };
            Attempt::Failed(AttemptError::handshake(remote, violation(error)))
        }
        Greeted::Refused(refusal) => {
            if refusal.is_transient() {
                return Attempt::Failed(AttemptError::Refused(refusal));
            }
            shared.tell_error(None, order);
            shared.lock().machine.handle_refusal(refusal);
            Attempt::Refused
        }
        Greeted::Welcome(welcome) => {
            let (welcome, reader, writer) = *welcome;
            shared.tell_error(None, order);
            frames(shared, asking, &welcome, reader, writer, order).await
        }
    }
}

/// A hello that is out and not answered yet: the receiver may count this source from now on, so an end that comes in
/// between waits for the answer, to be announced. A parked hello counts for nobody.
struct Asking<'a> {
    shared: &'a Shared,
}

impl<'a> Asking<'a> {
    /// Nothing is asked any more once it is over.
    fn begin(shared: &'a Shared, order: u64) -> Option<Self> {
        let mut state = shared.lock();
        state.asking = !state.is_over(order);
        state.asking.then(|| Self { shared })
    }

    fn end(&self) {
        let mut state = self.shared.lock();
        if std::mem::take(&mut state.asking) {
            // Whoever closes may be waiting for this alone, the driver included.
            let mut wakers = self.shared.settle(&mut state);
            wakers.extend(state.driver.take());
            drop(state);
            wake(wakers);
        }
    }
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        self.end();
    }
}

async fn frames(
    shared: &Arc<Shared>,
    asking: Asking<'_>,
    welcome: &Welcome,
    mut reader: ReadHalf,
    writer: WriteHalf,
    order: u64,
) -> Attempt {
    let wakers = {
        let mut state = shared.lock();
        if let Err(error) = state.machine.handle_welcome(welcome) {
            return Attempt::Lost(LostReason::Protocol(error));
        }
        state.writer = Some(writer);
        state.broken = false;
        state.holds_bytes = false;
        shared.settle(&mut state)
    };
    let connected = Connected { shared };
    drop(asking);
    wake(wakers);
    shared.status.send_replace(Status::Connected);
    let mut control = ControlReader::new();
    let lost = tokio::select! {
        biased;
        lost = poll_fn(|cx| poll_frames(shared, &mut reader, &mut control, order, cx)) => lost,
        () = unanswered_ping(shared) => LostReason::Unresponsive,
    };
    drop(connected);
    Attempt::Lost(lost)
}

/// A connection that frames flow over; when it goes, so does its writing half.
struct Connected<'a> {
    shared: &'a Shared,
}

impl Drop for Connected<'_> {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        let writer = state.writer.take();
        state.machine.handle_disconnected();
        let wakers = self.shared.settle(&mut state);
        drop(state);
        wake(wakers);
        drop(writer);
    }
}

/// Completes when a ping was not answered before the next one was due; never, if nobody asked for pings.
async fn unanswered_ping(shared: &Shared) {
    let Some(interval) = shared.config.ping else { return std::future::pending().await };
    for token in 0.. {
        shared.command(|state| state.machine.ping(token));
        tokio::time::sleep(interval).await;
        if shared.lock().machine.answered_ping() != Some(token) {
            return;
        }
    }
}

fn poll_frames(
    shared: &Shared,
    reader: &mut ReadHalf,
    control: &mut ControlReader,
    order: u64,
    cx: &mut Context<'_>,
) -> Poll<LostReason> {
    let mut buffer = [0; 256];
    for turn in 0.. {
        let mut space = ReadBuf::new(&mut buffer);
        let read = Pin::new(&mut *reader).poll_read(cx, &mut space);
        let mut guard = shared.lock();
        let state = &mut *guard;
        let mut lost = None;
        match read {
            Poll::Ready(Ok(())) if !space.filled().is_empty() => {
                if let Err(reason) = handle_control(state, control, space.filled()) {
                    lost = Some(reason);
                }
            }
            Poll::Ready(_) => lost = Some(LostReason::HangUp),
            Poll::Pending => {}
        }
        if std::mem::take(&mut state.cut) || state.stopped || state.order != order {
            lost.get_or_insert(LostReason::Cut);
        }
        let wakers = shared.settle(state);
        match state.flush(cx, TURNS) {
            Ok(Flushed::More) => cx.waker().wake_by_ref(),
            Ok(Flushed::Blocked | Flushed::Done) => {}
            Err(_) => lost = lost.or(Some(LostReason::HangUp)),
        }
        if state.broken || state.machine.end().is_some() {
            lost.get_or_insert(LostReason::HangUp);
        }
        state.register(cx.waker());
        drop(guard);
        wake(wakers);
        if let Some(reason) = lost {
            return Poll::Ready(reason);
        }
        if read.is_pending() {
            return Poll::Pending;
        }
        if turn >= TURNS {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
    }
    Poll::Pending
}

fn handle_control(state: &mut State, control: &mut ControlReader, bytes: &[u8]) -> Result<(), LostReason> {
    let mut detached = false;
    let outcome: Result<(), ProtocolError> = control.handle_bytes(bytes, |message| {
        detached |= message == Control::Detach;
        state.machine.handle_control(message)
    });
    outcome.map_err(LostReason::Protocol)?;
    if detached { Err(LostReason::Detached) } else { Ok(()) }
}

fn wake(wakers: Vec<Waker>) {
    wakers.into_iter().for_each(Waker::wake);
}

impl Shared {
    fn tell_error(&self, error: Option<AttemptError>, order: u64) {
        self.last_error.tell(error, || self.lock().order == order);
    }

    /// Completes when the driver has to look at the state: over, or an order to cut.
    async fn interrupted(&self, order: u64) {
        poll_fn(|cx| {
            let mut state = self.lock();
            if state.is_over(order) || std::mem::take(&mut state.cut) {
                return Poll::Ready(());
            }
            state.register(cx.waker());
            Poll::Pending
        })
        .await;
    }
}

impl State {
    /// Whether there is nothing left to do for a driver.
    fn is_over(&self, order: u64) -> bool {
        self.order != order
            || self.stopped
            || self.machine.end().is_some()
            || self.closing && self.machine.is_idle() && !self.asking
    }

    fn register(&mut self, waker: &Waker) {
        if !self.driver.as_ref().is_some_and(|known| known.will_wake(waker)) {
            self.driver = Some(waker.clone());
        }
    }
}
