//! The node's acceptor: takes connections, greets them off the listener, and parks those whose port is not there.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use ipc_pipeline::{link::Greeting, protocol::Refusal};
use ipc_transport::{Error, Incoming, Listener};
use tokio::{
    sync::{oneshot, watch},
    task::JoinSet,
    time::{Instant, sleep_until},
};

use crate::node::Shared;

/// The pause after a failed accept that the transport did not wait out by itself.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);

/// An unfinished handshake: since when, and how to end it; the hello has not come as long as `waiting` is open.
struct Handshake {
    since: Instant,
    waiting: oneshot::Receiver<()>,
    task: tokio::task::AbortHandle,
}

/// Accepts until stopped, or until the listener fails for good.
pub(crate) async fn run(
    mut listener: Box<dyn Listener>,
    shared: Arc<Shared>,
    mut stopped: watch::Receiver<bool>,
    failed: watch::Sender<Option<Error>>,
) {
    let mut tasks = JoinSet::new();
    let mut handshakes: Vec<Handshake> = Vec::new();
    let max_handshakes = shared.config.limits.max_handshakes.max(1);
    loop {
        while tasks.try_join_next().is_some() {}
        handshakes.retain_mut(|handshake| is_waiting(&mut handshake.waiting));
        if handshakes.len() >= max_handshakes {
            // The backlog holds the rest until one finishes or is old enough to be evicted.
            let evict_at = handshakes[0].since.checked_add(shared.config.limits.handshake_eviction_age);
            tokio::select! {
                _ = stopped.wait_for(|stopped| *stopped) => break,
                () = reached(evict_at) => {
                    let oldest = handshakes.remove(0);
                    oldest.task.abort();
                    shared.counters.failed.fetch_add(1, Ordering::Relaxed);
                }
                _ = &mut handshakes[0].waiting => {}
                _ = tasks.join_next(), if !tasks.is_empty() => {}
            }
            continue;
        }
        let accepted = tokio::select! {
            _ = stopped.wait_for(|stopped| *stopped) => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok(incoming) => {
                shared.counters.accepted.fetch_add(1, Ordering::Relaxed);
                let (greeted, waiting) = oneshot::channel();
                let task = tasks.spawn(serve(incoming, shared.clone(), stopped.clone(), greeted));
                handshakes.push(Handshake { since: Instant::now(), waiting, task });
            }
            Err(error @ (Error::LeaseLost { .. } | Error::NotFound { .. })) => {
                tracing::warn!(%error, "the node takes no more connections");
                failed.send_replace(Some(error));
                break;
            }
            Err(error) => {
                tracing::debug!(%error, "accept failed");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    if let Err(error) = listener.close().await {
        tracing::debug!(%error, "closing the listener failed");
    }
    tasks.shutdown().await;
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

/// One connection, from its first byte until a receiver has it.
async fn serve(
    incoming: Incoming,
    shared: Arc<Shared>,
    stopped: watch::Receiver<bool>,
    greeted: oneshot::Sender<()>,
) {
    let limit = shared.config.limits.handshake_timeout;
    let read = async {
        let connection = incoming.establish().await.map_err(std::io::Error::from)?;
        Greeting::read(connection, limit).await
    };
    let greeting = match tokio::time::timeout(limit, read).await {
        Ok(Ok(greeting)) => greeting,
        Ok(Err(error)) => {
            shared.counters.failed.fetch_add(1, Ordering::Relaxed);
            tracing::debug!(%error, "handshake failed");
            return;
        }
        Err(_) => {
            shared.counters.failed.fetch_add(1, Ordering::Relaxed);
            return;
        }
    };
    drop(greeted);
    let wanted = &greeting.hello().to_process;
    if *wanted != shared.config.name {
        shared.counters.refused.fetch_add(1, Ordering::Relaxed);
        let refusal = Refusal::WrongProcess { wanted: wanted.clone() };
        let _ = tokio::time::timeout(limit, greeting.refuse(refusal)).await;
        return;
    }
    dispatch(greeting, shared, stopped).await;
}

/// Hands a greeting to its port, now or when the port appears.
async fn dispatch(mut greeting: Greeting, shared: Arc<Shared>, mut stopped: watch::Receiver<bool>) {
    let mut appeared = shared.appeared.subscribe();
    let mut parked: Option<Parked> = None;
    loop {
        appeared.borrow_and_update();
        if let Some(intake) = shared.intake(&greeting.hello().to_port, greeting.hello().session) {
            match intake.accept(greeting).await {
                Ok(()) => return,
                Err(unanswered) => greeting = unanswered,
            }
        }
        if parked.is_none() {
            let Some(place) = Parked::enter(&shared) else {
                shared.counters.refused.fetch_add(1, Ordering::Relaxed);
                let limit = shared.config.limits.handshake_timeout;
                let _ = tokio::time::timeout(limit, greeting.refuse(Refusal::Busy)).await;
                return;
            };
            parked = Some(place);
            if greeting.wait().await.is_err() {
                return;
            }
        }
        tokio::select! {
            _ = stopped.wait_for(|stopped| *stopped) => return,
            () = greeting.hung_up() => return,
            changed = appeared.changed() => if changed.is_err() { return },
        }
    }
}

/// A place among the parked connections, given back when dropped.
struct Parked {
    shared: Arc<Shared>,
}

impl Parked {
    fn enter(shared: &Arc<Shared>) -> Option<Self> {
        let parked = &shared.counters.parked;
        let before = parked.fetch_add(1, Ordering::Relaxed);
        let place = Self { shared: shared.clone() };
        (before < shared.config.max_parked).then_some(place)
    }
}

impl Drop for Parked {
    fn drop(&mut self) {
        self.shared.counters.parked.fetch_sub(1, Ordering::Relaxed);
    }
}
