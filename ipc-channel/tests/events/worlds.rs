//! Where scenarios run: every transport, both flavours of runtime, a watchdog, and a look for what was left behind.

use std::{future::Future, sync::Arc, time::Duration};

use ipc_channel::events::{Client, ClientConfig, Server, ServerConfig};
use ipc_testkit::{MemTransport, certificates::Authority, process::TempDir};
use ipc_transport::{Endpoint, TlsTransport};
use tokio::{
    runtime::{Builder, Handle},
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
    time::timeout,
};

/// How long a scenario may take before it counts as hung.
const WATCHDOG: Duration = Duration::from_secs(240);

/// A deadline that no scenario is meant to reach.
pub(crate) const LONG: Duration = Duration::from_secs(200);

/// A place for one server, and what dials it.
#[derive(Clone)]
pub(crate) struct World {
    pub(crate) at: Endpoint,
    mem: Option<MemTransport>,
    tls: Option<TlsTransport>,
    /// Where a Unix socket lies.
    pub(crate) directory: Arc<TempDir>,
}

impl World {
    fn new(at: &str) -> Self {
        let directory = Arc::new(TempDir::new().unwrap());
        let at = at.replace("DIRECTORY", directory.path().to_str().unwrap());
        Self { at: at.parse().unwrap(), mem: None, tls: None, directory }
    }

    pub(crate) fn unix() -> Self {
        Self::new("unix:DIRECTORY/world.sock")
    }

    pub(crate) fn tcp() -> Self {
        Self::new("tcp://127.0.0.1:0")
    }

    pub(crate) fn tls() -> Self {
        let tls = Authority::new("the world").mutual(["127.0.0.1"]);
        Self { tls: Some(tls), ..Self::new("tls://127.0.0.1:0") }
    }

    pub(crate) fn mem() -> Self {
        Self { mem: Some(MemTransport::new()), ..Self::new("mem:world") }
    }

    pub(crate) fn server_config(&self) -> ServerConfig {
        let config = ServerConfig::new("world").endpoint(self.at.clone());
        match (&self.mem, &self.tls) {
            (Some(mem), _) => config.transport(mem.clone()),
            (_, Some(tls)) => config.transport(tls.clone()),
            _ => config,
        }
    }

    pub(crate) async fn server(&self) -> Server {
        Server::start(self.server_config()).await.unwrap()
    }

    /// A client of the server here, which need not be there yet where its address is known before.
    pub(crate) fn client_config(&self) -> ClientConfig {
        self.config_at(&self.at)
    }

    pub(crate) fn config_at(&self, at: &Endpoint) -> ClientConfig {
        let config = ClientConfig::new("world").endpoint(at.clone());
        match (&self.mem, &self.tls) {
            (Some(mem), _) => config.transport(mem.clone()),
            (_, Some(tls)) => config.transport(tls.clone()),
            _ => config,
        }
    }

    pub(crate) async fn client(&self, server: &Server) -> Client {
        connected(self.config_at(server.endpoint())).await
    }

    pub(crate) async fn named(&self, server: &Server, name: &str) -> Client {
        connected(self.config_at(server.endpoint()).name(name)).await
    }
}

/// A client that has connected.
pub(crate) async fn connected(config: ClientConfig) -> Client {
    let client = Client::start(config).unwrap();
    client.connected().await.unwrap();
    client
}

/// Runs a scenario over each transport and on both flavours of runtime; nothing may hang or be left behind.
pub(crate) fn everywhere<F: Future<Output = ()>>(scenario: impl Fn(World) -> F) {
    for world in [World::unix, World::mem, World::tcp, World::tls] {
        for threads in [0, 2] {
            run(threads, scenario(world()));
        }
    }
}

/// Runs a scenario where addresses are known before a server is there.
pub(crate) fn at_known_places<F: Future<Output = ()>>(scenario: impl Fn(World) -> F) {
    for world in [World::unix, World::mem] {
        for threads in [0, 2] {
            run(threads, scenario(world()));
        }
    }
}

/// Runs a scenario on Unix sockets and a runtime with two workers.
pub(crate) fn once<F: Future<Output = ()>>(scenario: impl FnOnce(World) -> F) {
    run(2, scenario(World::unix()));
}

pub(crate) fn run(threads: usize, scenario: impl Future<Output = ()>) {
    let runtime = match threads {
        0 => Builder::new_current_thread().enable_all().build(),
        _ => Builder::new_multi_thread().worker_threads(threads).enable_all().build(),
    };
    runtime.unwrap().block_on(async {
        timeout(WATCHDOG, scenario).await.expect("the watchdog barked: the scenario hangs");
        timeout(WATCHDOG, no_tasks()).await.expect("the watchdog barked: tasks were left behind");
    });
}

/// Completes when the runtime has no task left.
async fn no_tasks() {
    until(|| Handle::current().metrics().num_alive_tasks() == 0).await;
}

/// Waits for something that no event tells of.
pub(crate) async fn until(mut condition: impl FnMut() -> bool) {
    while !condition() {
        // Sleeps between two looks: there is nothing to await.
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// What handlers wrote down, in order.
pub(crate) struct Journal<T> {
    write: UnboundedSender<T>,
    read: UnboundedReceiver<T>,
}

impl<T: Send + 'static> Journal<T> {
    pub(crate) fn new() -> Self {
        let (write, read) = unbounded_channel();
        Self { write, read }
    }

    /// What a handler writes with.
    pub(crate) fn pen(&self) -> Pen<T> {
        Pen(self.write.clone())
    }

    /// The next entry; waits for it.
    pub(crate) async fn next(&mut self) -> T {
        self.read.recv().await.unwrap()
    }

    /// So many entries; waits for them.
    pub(crate) async fn take(&mut self, count: usize) -> Vec<T> {
        let mut entries = Vec::new();
        while entries.len() < count {
            entries.push(self.next().await);
        }
        entries
    }

    /// All that is left, once nobody can write any more.
    pub(crate) async fn finish(self) -> Vec<T> {
        let Self { write, mut read } = self;
        drop(write);
        let mut entries = Vec::new();
        while let Some(entry) = read.recv().await {
            entries.push(entry);
        }
        entries
    }

    /// What is there now.
    pub(crate) fn rest(&mut self) -> Vec<T> {
        std::iter::from_fn(|| self.read.try_recv().ok()).collect()
    }
}

/// Writes into a journal.
pub(crate) struct Pen<T>(UnboundedSender<T>);

impl<T> Pen<T> {
    pub(crate) fn write(&self, entry: T) {
        // Nobody may be reading any more.
        let _ = self.0.send(entry);
    }
}

impl<T> Clone for Pen<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}
