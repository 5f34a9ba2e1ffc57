//! The owner of a sending end: connects it, closes it, aborts it.

use std::{
    fmt,
    future::poll_fn,
    pin::pin,
    sync::Arc,
    task::Poll,
    time::{Duration, Instant},
};

use ipc_transport::{Encoder, Error};
use tokio::{
    runtime::Handle,
    time::{sleep, timeout},
};

use super::{
    Connector, LinkConfig, LinkNames, Sender, Status, driver,
    shared::{Shared, State},
};
use crate::{
    blocking::block_on,
    protocol::{Delivered, End, Refusal, SessionId},
};

/// How long an abort waits for the receiver's answer.
const ABORT_ANSWER: Duration = Duration::from_secs(1);

/// Values that were accepted and not released when the time was up.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{count} accepted values were not delivered")]
#[non_exhaustive]
pub struct Undelivered {
    /// How many: an upper bound, as the receiver may have taken some without our knowing.
    pub count: usize,
}

/// What an abort gave up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Aborted {
    /// At least so many accepted values were not delivered.
    pub at_least: u64,
    /// At most so many were not; equal to `at_least` when the receiver answered within 1 s.
    pub at_most: u64,
}

impl Aborted {
    /// The number, if it is certain.
    pub fn exact(self) -> Option<u64> {
        (self.at_least == self.at_most).then_some(self.at_least)
    }
}

/// The sending end of a link.
///
/// It accepts values from the beginning, connected or not. Dropping it announces the end and goes on delivering for
/// [`LinkConfig::linger`] at most; the drop itself never waits.
pub struct OutgoingLink<T> {
    sender: Sender<T>,
    codec: String,
}

impl<T: 'static> OutgoingLink<T> {
    /// An unconnected sending end of a new session.
    pub fn new(config: LinkConfig, encoder: impl Encoder<T>) -> Self {
        let codec = encoder.id().to_owned();
        let shared = Shared::new(fresh_session(), config);
        Self { sender: Sender::new(shared, Arc::new(encoder)), codec }
    }

    /// Starts to connect, and to connect again whenever the connection is lost; returns at once.
    ///
    /// A refused link may be connected anew, and so may one whose runtime is gone.
    ///
    /// # Errors
    ///
    /// [`Error::NoRuntime`] outside a tokio runtime.
    pub fn connect(&self, connector: Arc<dyn Connector>, names: LinkNames) -> Result<(), Error> {
        let runtime = Handle::try_current().map_err(|_| Error::NoRuntime)?;
        let shared = self.sender.shared.clone();
        let mut order = 0;
        // A driver that still runs, as after a refusal that was just noticed, makes room for this one.
        shared.command(|state| {
            state.machine.clear_refusal();
            state.order += 1;
            order = state.order;
            state.runtime = Some(runtime.clone());
            state.abandoned = false;
        });
        shared.status.send_replace(Status::Waiting);
        shared.last_error.clear();
        let driving = driver::Driving::new(shared, order);
        runtime.spawn(driver::run(driving, connector, names, self.codec.clone()));
        Ok(())
    }

    /// Waits until connected or refused.
    ///
    /// # Errors
    ///
    /// The refusal; [`Refusal::PeerClosed`] also when this end was closed.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future cancels nothing: the link goes on connecting.
    pub async fn connected(&self) -> Result<(), Refusal> {
        let mut status = self.sender.status();
        loop {
            match &*status.borrow_and_update() {
                Status::Connected => return Ok(()),
                Status::Refused(refusal) => return Err(refusal.clone()),
                Status::Closed if self.sender.shared.lock().is_ended() => return Err(Refusal::PeerClosed),
                _ => {}
            }
            if status.changed().await.is_err() {
                return Err(Refusal::PeerClosed);
            }
        }
    }

    /// A sending handle.
    pub fn sender(&self) -> &Sender<T> {
        &self.sender
    }

    /// Refuses sends, or accepts them again; what was accepted goes on being delivered.
    pub fn set_paused(&self, paused: bool) {
        self.sender.shared.command(|state| state.paused = paused);
        self.sender.shared.resettle();
    }

    /// Whether sends fail while there is no connection.
    pub fn set_strict(&self, strict: bool) {
        self.sender.shared.command(|state| state.strict = strict);
        self.sender.shared.resettle();
    }

    /// Announces the end and waits until everything is released and the receiver knows of the end.
    ///
    /// A lost connection is waited for. A receiver that left in good order needs no announcement.
    ///
    /// # Errors
    ///
    /// [`Undelivered`] at the deadline, or at once when the peer closed or refused, or when the link was never
    /// connected; the rest is given up.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future is dropping the link: it lingers.
    pub async fn close(self, deadline: Duration) -> Result<(), Undelivered> {
        self.control().close(deadline).await
    }

    /// As [`close`](Self::close), and lets the thread wait, for threads without a runtime.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn blocking_close(self, deadline: Duration) -> Result<(), Undelivered> {
        self.control().blocking_close(deadline)
    }

    /// A handle that can close this link from elsewhere.
    pub fn control(&self) -> LinkControl {
        LinkControl { shared: self.sender.shared.clone() }
    }

    /// Gives up at once what is not delivered; the receiver drops what it has not handed out.
    ///
    /// Waits up to 1 s for the receiver to say how far it came.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives up all the same.
    pub async fn abort(self) -> Aborted {
        self.abort_now().await
    }

    /// As [`abort`](Self::abort), for an owner that cannot give the link away; it takes no more values.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives up all the same.
    pub async fn abort_now(&self) -> Aborted {
        let shared = &self.sender.shared;
        shared.command(|state| {
            state.closing = true;
            state.machine.abort();
        });
        shared.resettle();
        // A receiver that has met the session is told, also when the link is between two connections.
        let answered = poll_fn(|cx| {
            let mut state = shared.lock();
            if state.has_nobody_to_tell() || !(state.machine.is_known() || state.asking) {
                // At once, so that no hello goes out meanwhile.
                state.stopped = true;
                return Poll::Ready(());
            }
            state.watch(cx);
            Poll::Pending
        });
        shared.within(ABORT_ANSWER, answered).await;
        let mut state = shared.lock();
        state.stopped = true;
        let machine = &state.machine;
        let at_most = machine.pending() as u64;
        let aborted = match machine.end() {
            Some(End::Aborted(Some(Delivered { taken, .. }))) => {
                // An earlier incarnation may have taken more than the one that answered knows of.
                let seen = machine.maybe_seen_until().max(*taken);
                Aborted {
                    at_least: machine.pending_beyond(seen) as u64,
                    at_most: machine.pending_beyond(*taken) as u64,
                }
            }
            _ => {
                let transferred = (machine.written_until() + 1).saturating_sub(machine.lowest());
                Aborted { at_least: at_most.saturating_sub(transferred), at_most }
            }
        };
        drop(state);
        shared.command(|_| ());
        aborted
    }
}

/// Closes a link whose owner is elsewhere: what a node's shutdown needs; it knows nothing of the values' type.
#[derive(Clone)]
pub struct LinkControl {
    shared: Arc<Shared>,
}

impl LinkControl {
    /// As [`OutgoingLink::close`]; the owner's handles refuse values from now on.
    ///
    /// # Errors
    ///
    /// [`Undelivered`], as there.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves the link closing; its owner's drop ends it.
    pub async fn close(&self, deadline: Duration) -> Result<(), Undelivered> {
        self.shared.begin_close();
        self.shared.closed(deadline).await
    }

    /// Gives up at once, without a word to the receiver and without waiting, for an owner that goes: its handles refuse
    /// values from now on. How many accepted values were not released is returned: an upper bound.
    pub fn abandon(&self) -> usize {
        let mut pending = 0;
        self.shared.command(|state| {
            state.closing = true;
            state.stopped = true;
            pending = state.machine.pending();
        });
        self.shared.resettle();
        pending
    }

    /// As [`close`](Self::close), and lets the thread wait, for threads without a runtime.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn blocking_close(&self, deadline: Duration) -> Result<(), Undelivered> {
        self.shared.begin_close();
        // A deadline beyond what the clock can tell is none.
        let _ = block_on(self.shared.released(), Instant::now().checked_add(deadline));
        self.shared.count_undelivered()
    }
}

impl fmt::Debug for LinkControl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LinkControl")
    }
}

impl Shared {
    async fn closed(&self, deadline: Duration) -> Result<(), Undelivered> {
        self.within(deadline, self.released()).await;
        self.count_undelivered()
    }

    /// Completes when there is nothing to deliver any more, or nobody to deliver it.
    fn released(&self) -> impl Future<Output = ()> {
        // With nothing pending there is still the end to announce to a receiver that has met the session.
        self.watched(|state| state.has_nobody_to_tell() || state.machine.is_idle() && !state.asking)
    }

    fn count_undelivered(&self) -> Result<(), Undelivered> {
        let count = self.lock().machine.pending();
        if count > 0 {
            self.command(|state| state.stopped = true);
            return Err(Undelivered { count });
        }
        Ok(())
    }

    /// Completes when the state is so; it is looked at whenever something was released or ended.
    fn watched(&self, is_so: impl Fn(&State) -> bool) -> impl Future<Output = ()> {
        poll_fn(move |cx| {
            let mut state = self.lock();
            if is_so(&state) {
                return Poll::Ready(());
            }
            state.watch(cx);
            Poll::Pending
        })
    }

    /// Waits for `done`, this long at most, by the clock of the driver's runtime: whoever polls need not have one.
    async fn within(&self, limit: Duration, done: impl Future<Output = ()>) {
        let mut done = pin!(done);
        let mut timer = None;
        poll_fn(|cx| {
            if done.as_mut().poll(cx).is_ready() {
                return Poll::Ready(());
            }
            if timer.is_none() {
                // Without a driver it is done, only that this came between.
                let Some(runtime) = self.lock().runtime.clone() else { return Poll::Ready(()) };
                let _entered = runtime.enter();
                timer = Some(Box::pin(sleep(limit)));
            }
            timer.as_mut().map_or(Poll::Pending, |timer| timer.as_mut().poll(cx))
        })
        .await;
    }

    fn begin_close(&self) {
        self.command(|state| {
            state.closing = true;
            state.machine.finish();
            state.machine.wait_for_release();
        });
        self.resettle();
    }

    /// Tells waiting tasks that sends are refused or accepted now.
    fn resettle(&self) {
        let mut state = self.lock();
        let wakers = self.settle(&mut state);
        drop(state);
        wakers.into_iter().for_each(std::task::Waker::wake);
    }
}

impl<T> Drop for OutgoingLink<T> {
    fn drop(&mut self) {
        let shared = self.sender.shared.clone();
        shared.begin_close();
        let runtime = {
            let state = shared.lock();
            state.runtime.clone().filter(|_| !state.stopped)
        };
        if let Some(runtime) = runtime {
            runtime.spawn(async move {
                // The driver says when it is over: nothing lingers for longer than it has something to deliver.
                let mut status = shared.status.subscribe();
                let over = status.wait_for(|status| matches!(status, Status::Closed | Status::Refused(_)));
                let _ = timeout(shared.config.linger, over).await;
                shared.command(|state| state.stopped = true);
            });
        } else {
            shared.command(|state| state.stopped = true);
        }
    }
}

impl<T> fmt::Debug for OutgoingLink<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OutgoingLink").field("sender", &self.sender).finish_non_exhaustive()
    }
}

impl State {
    /// Whether the link is over, or has no driver: waiting would not change anything.
    fn has_nobody_to_tell(&self) -> bool {
        self.stopped || self.runtime.is_none() || self.machine.end().is_some()
    }
}

/// The id of a session that begins.
pub(crate) fn fresh_session() -> SessionId {
    // Without any entropy the id must be unique, not secret.
    secret_session().unwrap_or_else(|| {
        SessionId::from_bits(u128::from(fastrand::u64(..)) << 64 | u128::from(fastrand::u64(..)))
    })
}

/// The id of a session that nobody can guess; `None` when the system has no randomness to give.
pub(crate) fn secret_session() -> Option<SessionId> {
    let mut bits = [0; 16];
    getrandom::fill(&mut bits).ok()?;
    Some(SessionId::from_bits(u128::from_le_bytes(bits)))
}
