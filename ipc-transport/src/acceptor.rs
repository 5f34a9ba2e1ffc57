//! Takes connections from a listener, each into a task of its own, and bounds the handshakes that are under way.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use tokio::{
    sync::{oneshot, watch},
    task::{AbortHandle, JoinSet},
    time::{Instant, sleep, sleep_until},
};

use crate::{Error, Incoming, Limits, Listener};

/// The pause after a failed accept that the transport did not wait out by itself.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);

/// Accepts for as long as it runs: a stranger that says nothing holds up nobody but itself.
///
/// At most [`Limits::max_handshakes`] handshakes, and always one, are unfinished at a time; then the listener's backlog
/// holds the rest until one finishes, or until the oldest is older than [`Limits::handshake_eviction_age`] and makes room.
#[derive(Debug)]
pub struct Acceptor {
    limits: Limits,
    accepted: AtomicU64,
    evicted: AtomicU64,
}

/// Held while the handshake of one connection is under way; dropping it says that it is done, whatever came of it.
#[derive(Debug)]
#[must_use = "dropping it says that the handshake is done"]
pub struct Handshaking {
    _done: oneshot::Sender<()>,
}

/// An unfinished handshake: since when, and how to end it.
struct Handshake {
    since: Instant,
    waiting: oneshot::Receiver<()>,
    task: AbortHandle,
}

impl Acceptor {
    /// An acceptor that keeps to the limits on handshakes.
    #[must_use]
    pub fn new(limits: &Limits) -> Self {
        Self { limits: limits.clone(), accepted: AtomicU64::new(0), evicted: AtomicU64::new(0) }
    }

    /// Connections accepted so far.
    pub fn accepted(&self) -> u64 {
        self.accepted.load(Ordering::Relaxed)
    }

    /// Handshakes that had to make room for newer ones so far.
    pub fn evicted(&self) -> u64 {
        self.evicted.load(Ordering::Relaxed)
    }

    /// Accepts until `stopped` is true or its sender gone, or until the listener fails for good; then closes the
    /// listener and ends what was spawned. Each connection is served by the future that `serve` makes of it.
    ///
    /// # Errors
    ///
    /// The name is lost ([`Error::LeaseLost`], [`Error::NotFound`]): nobody can find this listener any more. Other
    /// failures are waited out.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the listener and ends what was spawned.
    pub async fn run<F, Fut>(
        &self,
        mut listener: Box<dyn Listener>,
        mut stopped: watch::Receiver<bool>,
        serve: F,
    ) -> Result<(), Error>
    where
        F: Fn(Incoming, Handshaking) -> Fut,
        Fut: Future<Output = ()> + Send + 'static,
    {
        let mut tasks = JoinSet::new();
        let mut handshakes: Vec<Handshake> = Vec::new();
        let max_handshakes = self.limits.max_handshakes.max(1);
        let mut outcome = Ok(());
        loop {
            while tasks.try_join_next().is_some() {}
            handshakes.retain_mut(|handshake| is_waiting(&mut handshake.waiting));
            if handshakes.len() >= max_handshakes {
                // The backlog holds the rest until one finishes or is old enough to be evicted.
                let evict_at = handshakes[0].since.checked_add(self.limits.handshake_eviction_age);
                tokio::select! {
                    // One that has just finished is not evicted.
                    biased;
                    _ = stopped.wait_for(|stopped| *stopped) => break,
                    _ = &mut handshakes[0].waiting => {}
                    _ = tasks.join_next(), if !tasks.is_empty() => {}
                    () = reached(evict_at) => {
                        handshakes.remove(0).task.abort();
                        self.evicted.fetch_add(1, Ordering::Relaxed);
                    }
                }
                continue;
            }
            let accepted = tokio::select! {
                _ = stopped.wait_for(|stopped| *stopped) => break,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok(incoming) => {
                    self.accepted.fetch_add(1, Ordering::Relaxed);
                    let (done, waiting) = oneshot::channel();
                    let task = tasks.spawn(serve(incoming, Handshaking { _done: done }));
                    handshakes.push(Handshake { since: Instant::now(), waiting, task });
                }
                Err(error @ (Error::LeaseLost { .. } | Error::NotFound { .. })) => {
                    outcome = Err(error);
                    break;
                }
                Err(error) => {
                    tracing::debug!(%error, "accept failed");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        if let Err(error) = listener.close().await {
            tracing::debug!(%error, "closing the listener failed");
        }
        tasks.shutdown().await;
        outcome
    }
}

/// Completes at that time; one beyond what the clock can tell never comes.
async fn reached(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => std::future::pending().await,
    }
}

fn is_waiting(waiting: &mut oneshot::Receiver<()>) -> bool {
    matches!(waiting.try_recv(), Err(oneshot::error::TryRecvError::Empty))
}
