//! The face `events`: a server and a client of `ipc-channel`, whose handlers do the work.

use std::{
    error::Error,
    io,
    ops::Range,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use ipc_channel::{
    Event,
    events::{Client, ClientConfig, Reply, Server, ServerConfig},
};
use tokio::sync::{Notify, oneshot};

use super::{
    cli::{PeerRole, Plan},
    figures::{Figures, cpu_time},
    flow::WARM_UP,
    measure::{Peer, Run},
    peer,
    value::{Message as _, Value},
    wire::{PEER, Site},
};

/// The client's side: its handler of the answers sends what comes next.
pub(crate) async fn client(run: &Run<'_>) -> io::Result<Figures> {
    let (process, site) = Peer::start(run).await?;
    let client = Client::start(client_config(run.plan, &site)?).map_err(other_error)?;
    client.connected().await.map_err(other_error)?;
    let plan = run.plan.clone();
    tokio::spawn(time(client, plan, process)).await.map_err(io::Error::other)?
}

/// The peer's side: its handler answers what arrives, or counts it.
pub(crate) async fn peer(role: &PeerRole) -> io::Result<()> {
    let plan = &role.plan;
    let server = Server::start(server_config(plan, &Site::of_peer(role)?)?).await.map_err(other_error)?;
    let answers = plan.work.in_flight().is_some();
    let total = if answers { plan.count() + WARM_UP } else { plan.count() };
    let served = Arc::new(Served { count: AtomicU64::new(0), total, all: Notify::new() });
    let serving = served.clone();
    if answers {
        server.on(MESSAGE, move |event: Event<Value>, client: Reply| {
            let serving = serving.clone();
            async move {
                if client.emit(MESSAGE, event.value()).await.is_ok() {
                    serving.one_more();
                }
            }
        });
    } else {
        server.on(MESSAGE, move |event: Event<Value>, _| {
            // What is not in its place does not count, and the client waits in vain for the whole.
            if event.check(&(), serving.count.load(Ordering::Relaxed)).is_ok() {
                serving.one_more();
            }
            async {}
        });
    }
    let gone = Arc::new(Notify::new());
    let leaving = gone.clone();
    server.on_disconnect(move |_| {
        leaving.notify_one();
        async {}
    });
    let before = cpu_time();
    peer::ready(plan, PEER)?;
    tokio::select! {
        () = served.all.notified() => {}
        () = gone.notified() => return Err(io::Error::other("the client left before it was served")),
    }
    peer::done(plan, cpu_time() - before, total)?;
    gone.notified().await;
    server.close(DEADLINE).await.map_err(other_error)
}

async fn time(client: Client, plan: Plan, mut peer: Peer) -> io::Result<Figures> {
    let lost = Arc::new(Notify::new());
    let losing = lost.clone();
    client.on_disconnect(move |_| {
        losing.notify_one();
        async {}
    });
    let (took, times, cpu) = tokio::select! {
        measured = measured(&client, &plan, &mut peer) => measured?,
        () = lost.notified() => return Err(io::Error::other("the server is gone")),
    };
    client.close(DEADLINE).await.map_err(other_error)?;
    peer.end().await?;
    Ok(Figures::new(&plan, true, took, cpu, times))
}

async fn measured(
    client: &Client,
    plan: &Plan,
    peer: &mut Peer,
) -> io::Result<(Duration, Vec<u64>, Duration)> {
    let Some(in_flight) = plan.work.in_flight() else {
        let (start, before) = (Instant::now(), cpu_time());
        for number in 0..plan.count() {
            client.emit(MESSAGE, &Value::new(number)).await.map_err(other_error)?;
        }
        let (peer_cpu, _) = peer.report().await?;
        return Ok((start.elapsed(), Vec::new(), cpu_time() - before + peer_cpu));
    };
    let trips = Trips::of(client);
    trips.run(client, 0..WARM_UP, in_flight).await?;
    let (start, before) = (Instant::now(), cpu_time());
    let times = trips.run(client, WARM_UP..WARM_UP + plan.count(), in_flight).await?;
    let took = start.elapsed();
    let (peer_cpu, _) = peer.report().await?;
    Ok((took, times, cpu_time() - before + peer_cpu))
}

/// What the server's handler has dealt with.
struct Served {
    count: AtomicU64,
    total: u64,
    all: Notify,
}

impl Served {
    fn one_more(&self) {
        // Relaxed: handlers of one client run one after the other, and the waiter only wants to know.
        if self.count.fetch_add(1, Ordering::Relaxed) + 1 == self.total {
            self.all.notify_one();
        }
    }
}

/// Round trips that keep themselves going: each answer sends the next value.
#[derive(Default)]
pub(crate) struct Trips {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The next value to send.
    next: u64,
    /// The next answer to come.
    due: u64,
    end: u64,
    /// When the value under way was sent, if there is one at a time.
    began: Option<Instant>,
    times: Vec<u64>,
    done: Option<oneshot::Sender<io::Result<Vec<u64>>>>,
}

impl Trips {
    /// Those of this client.
    pub(crate) fn of(client: &Client) -> Arc<Self> {
        let trips = Arc::new(Self::default());
        let answered = trips.clone();
        client.on(MESSAGE, move |event: Event<Value>, server: Reply| {
            let next = answered.answered(event.value());
            let trips = answered.clone();
            async move {
                let Some(next) = next else { return };
                if let Err(error) = server.emit(MESSAGE, &Value::new(next)).await {
                    trips.lock().end_with(Err(io::Error::other(error)));
                }
            }
        });
        trips
    }

    /// The time of each round trip with one in flight, else none.
    pub(crate) async fn run(
        &self,
        client: &Client,
        numbers: Range<u64>,
        in_flight: u64,
    ) -> io::Result<Vec<u64>> {
        // What was taken before and not released yet would take room.
        client.settled().await.map_err(other_error)?;
        let (done, ended) = oneshot::channel();
        {
            let mut state = self.lock();
            let first = in_flight.min(numbers.end - numbers.start);
            let times = if in_flight == 1 { numbers.end - numbers.start } else { 0 };
            *state = State {
                next: numbers.start + first,
                due: numbers.start,
                end: numbers.end,
                began: (in_flight == 1).then(Instant::now),
                times: Vec::with_capacity(usize::try_from(times).unwrap_or_default()),
                done: Some(done),
            };
            // With the lock held, so that no answer sends its value before these.
            for number in numbers.start..numbers.start + first {
                client.try_emit(MESSAGE, &Value::new(number)).map_err(other_error)?;
            }
        }
        ended.await.map_err(io::Error::other)?
    }

    /// The value to send after this answer.
    fn answered(&self, value: &Value) -> Option<u64> {
        let mut state = self.lock();
        if let Err(error) = value.check(&(), state.due) {
            state.end_with(Err(error));
            return None;
        }
        if let Some(began) = state.began {
            let now = Instant::now();
            state.times.push(u64::try_from((now - began).as_nanos()).unwrap_or(u64::MAX));
            state.began = Some(now);
        }
        state.due += 1;
        if state.due == state.end {
            let times = std::mem::take(&mut state.times);
            state.end_with(Ok(times));
        }
        (state.next < state.end).then(|| {
            state.next += 1;
            state.next - 1
        })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn end_with(&mut self, outcome: io::Result<Vec<u64>>) {
        if let Some(done) = self.done.take() {
            // Nobody waits any more when the connection was lost.
            let _ = done.send(outcome);
        }
    }
}

/// A client of the peer, as planned.
pub(crate) fn client_config(plan: &Plan, site: &Site) -> io::Result<ClientConfig> {
    let [_, at] = site.endpoints()?;
    let config = ClientConfig::new(PEER).endpoint(at).capacity(plan.capacity).wire(plan.spoken().wire());
    Ok(match site.tls() {
        Some(tls) => config.transport(tls),
        None => config,
    })
}

/// The peer, as planned.
pub(crate) fn server_config(plan: &Plan, site: &Site) -> io::Result<ServerConfig> {
    let [_, at] = site.endpoints()?;
    let config = ServerConfig::new(PEER).endpoint(at).capacity(plan.capacity).wire(plan.spoken().wire());
    Ok(match site.tls() {
        Some(tls) => config.transport(tls),
        None => config,
    })
}

pub(crate) fn other_error(error: impl Error + Send + Sync + 'static) -> io::Error {
    io::Error::other(error)
}

/// The name of the events that are measured, and of their answers.
pub(crate) const MESSAGE: &str = "message";

/// How long an end may take.
pub(crate) const DEADLINE: Duration = Duration::from_secs(10);
