//! What becomes of a connection to a node: greeted off the listener, handed to its port, or parked until that is there.

use std::sync::{Arc, atomic::Ordering};

use ipc_pipeline::{link::Greeting, protocol::Refusal};
use ipc_transport::{Error, Handshaking, Incoming, Listener};
use tokio::sync::watch;

use crate::node::Shared;

/// Accepts until stopped, or until the listener fails for good.
pub(crate) async fn run(
    listener: Box<dyn Listener>,
    shared: Arc<Shared>,
    stopped: watch::Receiver<bool>,
    failed: watch::Sender<Option<Error>>,
) {
    let serve_one = |incoming, handshaking| serve(incoming, shared.clone(), stopped.clone(), handshaking);
    if let Err(error) = shared.acceptor.run(listener, stopped.clone(), serve_one).await {
        tracing::warn!(%error, "the node takes no more connections");
        failed.send_replace(Some(error));
    }
}

/// One connection, from its first byte until a receiver has it.
async fn serve(
    incoming: Incoming,
    shared: Arc<Shared>,
    stopped: watch::Receiver<bool>,
    handshaking: Handshaking,
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
    drop(handshaking);
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
