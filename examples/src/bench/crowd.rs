//! Many clients on one server: the round trips of one of them, while another reads and while it is stalled.
//!
//! With each answer the server also sends something to that other one, and now and then to everybody. A stalled client is
//! one whose handler does not return, so what is kept for it grows up to its bounds.

use std::{
    io,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Instant,
};

use futures_util::future::try_join_all;
use ipc_channel::{
    Event,
    events::{Client, Reply, Server},
};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::sync::Notify;

use super::{
    cli::{PeerRole, Plan},
    events::{MESSAGE, Trips, client_config, other_error, server_config},
    figures::{Crowd, Figures, cpu_time},
    flow::WARM_UP,
    measure::{Peer, Run},
    peer,
    value::Value,
    wire::{PEER, Site},
};

/// The process of all clients.
pub(crate) async fn client(run: &Run<'_>) -> io::Result<Figures> {
    raise_open_files()?;
    let (process, site) = Peer::start(run).await?;
    let plan = run.plan.clone();
    tokio::spawn(async move { time(&plan, &site, process).await }).await.map_err(io::Error::other)?
}

/// The process of the server.
pub(crate) async fn peer(role: &PeerRole) -> io::Result<()> {
    raise_open_files()?;
    let plan = &role.plan;
    let config = server_config(plan, &Site::of_peer(role)?)?;
    let config = config.broadcast_capacity(plan.capacity).max_clients(plan.clients());
    let server = Server::start(config).await.map_err(other_error)?;
    let crowd = Arc::new(Serving { total: WARM_UP + 2 * plan.count(), ..Serving::default() });
    let other = crowd.clone();
    server.on(OTHER, move |_: Event<Value>, client: Reply| {
        *other.other() = Some(client);
        async {}
    });
    let serving = crowd.clone();
    server.on(MESSAGE, move |event: Event<Value>, client: Reply| {
        let serving = serving.clone();
        async move {
            if client.emit(MESSAGE, event.value()).await.is_ok() {
                serving.answered(event.value());
            }
        }
    });
    let gone = Arc::new(Notify::new());
    let going = gone.clone();
    server.on_disconnect(move |_| {
        going.notify_one();
        async {}
    });
    let before = cpu_time();
    peer::ready(plan, PEER)?;
    loop {
        crowd.wake.notified().await;
        if crowd.count.load(Ordering::Relaxed) >= crowd.total {
            break;
        }
        server.try_broadcast(NEWS, &Value::new(0)).map_err(other_error)?;
    }
    let held = crowd.full.load(Ordering::Relaxed) + crowd.other().as_ref().map_or(0, Reply::dropped);
    peer::done(plan, cpu_time() - before, held)?;
    while !server.clients().is_empty() {
        gone.notified().await;
    }
    Ok(())
}

#[derive(Default)]
struct Serving {
    /// The client that reads and later does not.
    other: Mutex<Option<Reply>>,
    count: AtomicU64,
    total: u64,
    /// Events for the other one that found no room.
    full: AtomicU64,
    /// It is time for a broadcast, or for the end.
    wake: Notify,
}

impl Serving {
    fn other(&self) -> std::sync::MutexGuard<'_, Option<Reply>> {
        self.other.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn answered(&self, value: &Value) {
        if let Some(other) = &*self.other()
            && other.try_emit(NEWS, value).is_err()
        {
            self.full.fetch_add(1, Ordering::Relaxed);
        }
        let count = self.count.fetch_add(1, Ordering::Relaxed) + 1;
        if count.is_multiple_of(BROADCAST_EVERY) || count == self.total {
            self.wake.notify_one();
        }
    }
}

async fn time(plan: &Plan, site: &Site, mut peer: Peer) -> io::Result<Figures> {
    let start = |_| -> io::Result<Client> {
        let client = Client::start(client_config(plan, site)?).map_err(other_error)?;
        client.on(NEWS, |_: Event<Value>, _| async {});
        Ok(client)
    };
    let mut crowd = Vec::with_capacity(plan.clients());
    let idle = plan.clients() - 2;
    for first in (0..idle).step_by(AT_ONCE) {
        // So many at once that none waits long enough to be turned away.
        let some = (first..idle.min(first + AT_ONCE)).map(start).collect::<io::Result<Vec<_>>>()?;
        try_join_all(some.iter().map(Client::connected)).await.map_err(other_error)?;
        crowd.extend(some);
    }
    let measured = start(0)?;
    let other = Client::start(client_config(plan, site)?).map_err(other_error)?;
    let stalls = Arc::new(AtomicBool::new(false));
    let stalling = stalls.clone();
    other.on(NEWS, move |_: Event<Value>, _| {
        let stalls = stalling.load(Ordering::Relaxed);
        async move {
            if stalls {
                std::future::pending().await
            }
        }
    });
    other.emit(OTHER, &Value::new(0)).await.map_err(other_error)?;
    other.connected().await.map_err(other_error)?;
    measured.connected().await.map_err(other_error)?;

    let trips = Trips::of(&measured);
    trips.run(&measured, 0..WARM_UP, 1).await?;
    let before = cpu_time();
    let middle = WARM_UP + plan.count();
    let calm = trips.run(&measured, WARM_UP..middle, 1).await?;
    stalls.store(true, Ordering::Relaxed);
    let start = Instant::now();
    let stalled = trips.run(&measured, middle..middle + plan.count(), 1).await?;
    let took = start.elapsed();
    let (peer_cpu, held) = peer.report().await?;
    let cpu = cpu_time() - before + peer_cpu;
    other.abort().await;
    measured.abort().await;
    for client in crowd {
        client.abort().await;
    }
    peer.end().await?;
    let crowd = Crowd::new(plan.clients(), calm, stalled.clone(), held);
    Ok(Figures::new(plan, true, took, cpu, stalled).with_crowd(crowd))
}

/// Each client is an open file on either side, and a writer that waits for room one more.
fn raise_open_files() -> io::Result<()> {
    let limit = getrlimit(Resource::Nofile);
    Ok(setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit })?)
}

/// Clients that connect at once.
const AT_ONCE: usize = 32;

/// Answers between two broadcasts: often enough that the slowest hundredth of the round trips meets them.
const BROADCAST_EVERY: u64 = 50;

/// What goes to the other client, and now and then to everybody.
const NEWS: &str = "news";

/// How the other client says that it is the one.
const OTHER: &str = "other";
