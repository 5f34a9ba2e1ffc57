//! Where scenarios run: every transport, both flavours of runtime, a watchdog, and a look for what was left behind.

use std::{
    fs,
    future::{Future, poll_fn},
    path::PathBuf,
    pin::{Pin, pin},
    sync::Arc,
    task::Poll,
    time::Duration,
};

use async_trait::async_trait;
use ipc_ports::{Node, NodeConfig, OutgoingPort};
use ipc_testkit::{certificates::Authority, process::TempDir};
use ipc_transport::{
    Endpoint, Error, ListenOptions, Listener, NameWatch, Naming, RuntimeDirectory, RuntimeNaming,
    StaticNaming, TlsTransport, Transports,
};
use serde::{Deserialize, Serialize};
use tokio::{
    runtime::{Builder, Handle},
    time::timeout,
};

/// How long anything may take before a test counts as hung.
pub(crate) const WATCHDOG: Duration = Duration::from_secs(120);

/// A deadline that no scenario is meant to reach.
pub(crate) const LONG: Duration = Duration::from_secs(25);

/// The names of a scenario and what its nodes use to find each other.
#[derive(Debug, Clone)]
pub(crate) struct World {
    naming: Arc<dyn Naming>,
    directory: Arc<TempDir>,
    tls: Option<TlsTransport>,
}

impl World {
    /// Names in a runtime directory of its own: Unix sockets.
    pub(crate) fn unix() -> Self {
        let directory = TempDir::new().unwrap();
        let naming = RuntimeNaming::new(RuntimeDirectory::at(directory.path()).unwrap());
        Self { naming: Arc::new(naming), directory: Arc::new(directory), tls: None }
    }

    /// Names in a table: TCP on the loopback, at ports that the system picks.
    pub(crate) fn tcp() -> Self {
        Self::table("tcp://127.0.0.1:0", None)
    }

    /// The same with everything encrypted, and both sides verified.
    pub(crate) fn tls() -> Self {
        let tls = Authority::new("the world").mutual(["127.0.0.1"]);
        Self::table("tls://127.0.0.1:0", Some(tls))
    }

    fn table(at: &str, tls: Option<TlsTransport>) -> Self {
        let naming = ["process1", "process2", "process3"]
            .into_iter()
            .fold(StaticNaming::new(), |naming, name| naming.with(name, at.parse().unwrap()));
        Self { naming: Arc::new(naming), directory: Arc::new(TempDir::new().unwrap()), tls }
    }

    pub(crate) fn config(&self, name: &str) -> NodeConfig {
        let config = NodeConfig::new(name).shared_naming(self.naming.clone());
        match &self.tls {
            Some(tls) => config.transport(tls.clone()),
            None => config,
        }
    }

    pub(crate) async fn node(&self, name: &str) -> Node {
        Node::start(self.config(name)).await.unwrap()
    }

    /// The nodes of most scenarios: `process1` sends, `process2` receives.
    pub(crate) async fn pair(&self) -> (Node, Node) {
        (self.node("process1").await, self.node("process2").await)
    }

    /// Where a name is to be dialled.
    pub(crate) async fn endpoint(&self, name: &str) -> Endpoint {
        self.naming.resolve(name).await.unwrap()
    }

    /// What dials the nodes of this world.
    pub(crate) fn transports(&self) -> Transports {
        match &self.tls {
            Some(tls) => Transports::default().with(tls.clone()),
            None => Transports::default(),
        }
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.directory.path().to_owned()
    }
}

/// Runs a scenario over each transport and on both flavours of runtime; nothing may hang or be left behind.
pub(crate) fn everywhere<F: Future<Output = ()>>(scenario: impl Fn(World) -> F) {
    for transport in [World::unix, World::tcp, World::tls] {
        for threads in [0, 2] {
            in_world(threads, transport(), &scenario);
        }
    }
}

/// Runs a scenario on Unix sockets and a runtime with two workers.
pub(crate) fn once<F: Future<Output = ()>>(scenario: impl FnOnce(World) -> F) {
    in_world(2, World::unix(), scenario);
}

/// Runs a scenario of several processes, which find each other over each transport.
pub(crate) fn processes<F: Future<Output = ()>>(scenario: impl Fn(Site) -> F) {
    for tcp in [false, true] {
        let directory = TempDir::new().unwrap();
        run(2, scenario(Site::new(&directory, tcp)));
    }
}

/// Runs a scenario in a world that outlives it: a node holds its name until its tasks have ended, and would make a
/// directory anew that went before. Neither sockets nor the directory may be left.
fn in_world<F: Future<Output = ()>>(threads: usize, world: World, scenario: impl FnOnce(World) -> F) {
    run(threads, scenario(world.clone()));
    let path = world.path();
    let left = fs::read_dir(&path).unwrap().filter_map(Result::ok);
    let sockets: Vec<_> = left.filter(|entry| entry.path().extension() == Some("sock".as_ref())).collect();
    assert!(sockets.is_empty(), "sockets were left behind: {sockets:?}");
    drop(world);
    assert!(!path.exists(), "the directory was left behind: {}", path.display());
}

pub(crate) fn run(threads: usize, scenario: impl Future<Output = ()>) {
    let runtime = match threads {
        0 => Builder::new_current_thread().enable_all().build(),
        _ => Builder::new_multi_thread().worker_threads(threads).enable_all().build(),
    };
    let guarded = async {
        timeout(WATCHDOG, scenario).await.expect("the watchdog barked: the scenario hangs");
        timeout(WATCHDOG, no_tasks()).await.expect("the watchdog barked: tasks were left behind");
    };
    runtime.unwrap().block_on(guarded);
}

/// Completes when the runtime has no task left; nothing tells that, so it is looked for.
async fn no_tasks() {
    while Handle::current().metrics().num_alive_tasks() > 0 {
        tokio::task::yield_now().await;
    }
}

/// Waits for something that no event tells of.
pub(crate) async fn until(mut condition: impl FnMut() -> bool) {
    while !condition() {
        // Sleeps between two looks: there is nothing to await.
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// Polls once, and tells whether that was not enough.
pub(crate) async fn is_pending<F: Future>(mut future: Pin<&mut F>) -> bool {
    poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx).is_pending())).await
}

/// Polls at most so many times, whenever the future asks for it, and then drops it.
pub(crate) async fn polled<F: Future>(times: usize, future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    let mut left = times;
    poll_fn(|cx| {
        if left == 0 {
            return Poll::Ready(None);
        }
        left -= 1;
        match future.as_mut().poll(cx) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending if left == 0 => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

/// Sends these numbers without ever waiting.
pub(crate) fn fill(out: &OutgoingPort<u64>, values: impl IntoIterator<Item = u64>) {
    for value in values {
        out.try_send(value).unwrap();
    }
}

/// How a role's process finds the others.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Site {
    directory: PathBuf,
    tcp: bool,
}

impl Site {
    pub(crate) fn new(directory: &TempDir, tcp: bool) -> Self {
        Self { directory: directory.path().to_owned(), tcp }
    }

    pub(crate) fn is_tcp(&self) -> bool {
        self.tcp
    }

    pub(crate) fn naming(&self) -> Arc<dyn Naming> {
        if self.tcp {
            Arc::new(Notes { directory: self.directory.clone() })
        } else {
            Arc::new(RuntimeNaming::new(RuntimeDirectory::at(&self.directory).unwrap()))
        }
    }

    pub(crate) async fn node(&self, name: &str) -> Node {
        Node::start(NodeConfig::new(name).shared_naming(self.naming())).await.unwrap()
    }

    /// Where the socket of a name lies.
    pub(crate) fn socket(&self, name: &str) -> PathBuf {
        self.directory.join(format!("{name}.sock"))
    }
}

/// A naming of our own: a claim listens on a free port and notes it in a file.
#[derive(Debug)]
struct Notes {
    directory: PathBuf,
}

#[async_trait]
impl Naming for Notes {
    async fn claim(
        &self,
        name: &str,
        transports: &Transports,
        options: &ListenOptions,
    ) -> Result<Box<dyn Listener>, Error> {
        let at = "tcp://127.0.0.1:0".parse().unwrap();
        let listener = transports.listen(&at, options).await?;
        let draft = self.directory.join(format!("{name}.draft"));
        fs::write(&draft, listener.local_endpoint().to_string()).unwrap();
        fs::rename(draft, self.directory.join(name)).unwrap();
        Ok(listener)
    }

    async fn resolve(&self, name: &str) -> Result<Endpoint, Error> {
        let noted = fs::read_to_string(self.directory.join(name));
        noted
            .ok()
            .and_then(|note| note.parse().ok())
            .ok_or_else(|| Error::NotFound { endpoint: name.to_owned() })
    }

    fn watch(&self, _: &str) -> Result<Box<dyn NameWatch>, Error> {
        Ok(Box::new(NoWatch))
    }
}

#[derive(Debug)]
struct NoWatch;

#[async_trait]
impl NameWatch for NoWatch {
    async fn changed(&mut self) {
        std::future::pending().await
    }
}
