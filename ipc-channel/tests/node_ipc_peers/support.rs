//! Node processes that are driven by lines of JSON, our ends beside them, and a bound on every wait.

use std::{ffi::OsStr, future::Future, path::PathBuf, process::Stdio, time::Duration};

use ipc_channel::{
    Event,
    events::{
        Client, ClientConfig, Reply, RetryPolicy, Server, ServerConfig, Wire, node_ipc::default_path_v9,
    },
};
use ipc_testkit::process::TempDir;
use ipc_transport::Endpoint;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
    sync::mpsc,
};

/// How long anything may take before the test fails: a watchdog, no figure.
const PATIENCE: Duration = Duration::from_secs(120);

/// Waits for something that must come.
pub(crate) async fn soon<F: Future>(what: &str, future: F) -> F::Output {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(output) => output,
        Err(_) => panic!("{what} did not come"),
    }
}

/// Where Node's programs are; `None` after saying that nothing is shown.
pub(crate) fn peers() -> Option<PathBuf> {
    let found = std::env::var_os("IPC_NODE_IPC").filter(|path| !path.is_empty()).map(PathBuf::from);
    if found.is_none() {
        eprintln!("NOT SHOWN: IPC_NODE_IPC names no directory with node-ipc 9.2.1");
    }
    found
}

/// A process of Node's; killed when it is dropped.
pub(crate) struct Node {
    child: Child,
    input: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Node {
    /// Starts `program` with these arguments.
    pub(crate) fn start<A: AsRef<OsStr>>(
        program: &str,
        arguments: impl IntoIterator<Item = A>,
    ) -> Option<Self> {
        let directory = peers()?;
        let mut child = Command::new("node")
            .arg(directory.join(program))
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let input = child.stdin.take().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Some(Self { child, input, lines })
    }

    /// A server at this place, ready; and where it listens.
    pub(crate) async fn server(at: &Endpoint, more: &[&str]) -> Option<(Self, Endpoint)> {
        let mut node =
            Self::start("server.js", place_of(at).iter().map(String::as_str).chain(more.to_vec()))?;
        let ready = node.report("ready").await;
        let at = match ready.get("port").and_then(Value::as_u64) {
            Some(port) => format!("tcp://127.0.0.1:{port}").parse().unwrap(),
            None => at.clone(),
        };
        Some((node, at))
    }

    /// A client of a server at this place; it need not be there yet.
    pub(crate) fn client(at: &Endpoint, more: &[&str]) -> Option<Self> {
        Self::start("client.js", place_of(at).iter().map(String::as_str).chain(more.to_vec()))
    }

    /// Has it do something.
    pub(crate) async fn tell(&mut self, command: Value) {
        self.input.write_all(format!("{command}\n").as_bytes()).await.unwrap();
    }

    /// Its next report with this key; others before it are passed over, except for errors.
    pub(crate) async fn report(&mut self, key: &str) -> Value {
        self.report_of(&[key]).await
    }

    /// Its next report with one of these keys.
    async fn report_of(&mut self, keys: &[&str]) -> Value {
        loop {
            let line = soon(&keys.join(" or "), self.lines.next_line()).await.unwrap();
            let line = line.unwrap_or_else(|| panic!("Node has ended before it said {keys:?}"));
            let report: Value = serde_json::from_str(&line).unwrap();
            if keys.iter().any(|key| report.get(key).is_some()) {
                return report;
            }
            assert!(report.get("error").is_none(), "Node says {report}");
        }
    }

    /// Has a client say `message` on its next connection to a server that answers it.
    ///
    /// Where a server has just died, a connection may still have come to its backlog: then it is the one after.
    pub(crate) async fn says_hello(&mut self) {
        loop {
            self.report("connect").await;
            self.tell(json!({ "command": "emit", "type": "message", "data": "hello" })).await;
            let report = self.report_of(&["event", "disconnect"]).await;
            if report.get("event").is_some() {
                assert_eq!(report, json!({ "event": "message", "data": "hello world!" }));
                return;
            }
        }
    }

    /// Waits until it has counted so many numbers, and says whether they came in order.
    pub(crate) async fn counted(&mut self, at_least: u64) -> (u64, bool) {
        self.tell(json!({ "command": "await_count", "at_least": at_least })).await;
        let report = self.report("counted").await;
        (report["counted"].as_u64().unwrap(), report["in_order"].as_bool().unwrap())
    }

    /// Kills it as `kill -9` does, and waits until it is gone.
    pub(crate) async fn kill(mut self) {
        self.child.start_kill().unwrap();
        soon("the end of a process", self.child.wait()).await.unwrap();
    }
}

/// The arguments that lead Node to this place.
fn place_of(at: &Endpoint) -> Vec<String> {
    let text = at.to_string();
    if let Some(path) = text.strip_prefix("unix:") {
        return vec!["--path".to_owned(), path.to_owned()];
    }
    let (host, port) = text.strip_prefix("tcp://").unwrap().rsplit_once(':').unwrap();
    ["--host", host, "--port", port].map(ToOwned::to_owned).to_vec()
}

/// A fresh socket file and a free TCP port, and the directory that has to stay meanwhile.
pub(crate) fn places() -> (TempDir, [Endpoint; 2]) {
    let directory = TempDir::new().unwrap();
    let unix = unix_in(&directory);
    (directory, [unix, "tcp://127.0.0.1:0".parse().unwrap()])
}

/// A socket file in a directory, where node-ipc has it when the directory is its root.
pub(crate) fn unix_in(directory: &TempDir) -> Endpoint {
    format!("unix:{}", default_path_v9(&root_of(directory), "app.", "world").unwrap()).parse().unwrap()
}

pub(crate) fn root_of(directory: &TempDir) -> String {
    format!("{}/", directory.path().display())
}

pub(crate) fn server_config(at: &Endpoint) -> ServerConfig {
    ServerConfig::new("world").endpoint(at.clone()).wire(Wire::node_ipc())
}

pub(crate) async fn server(at: &Endpoint) -> Server {
    Server::start(server_config(at)).await.unwrap()
}

/// Has a server answer `message` as that of the source's README does.
pub(crate) fn answer_hello(server: &Server) {
    server.on("message", async |text: Event<String>, client: Reply| {
        // Whoever is gone meanwhile hears nothing.
        let _ = client.emit("message", &format!("{} world!", *text)).await;
    });
}

pub(crate) fn client_config(at: &Endpoint) -> ClientConfig {
    let retry = RetryPolicy::Every(Duration::from_millis(20));
    ClientConfig::new("world").endpoint(at.clone()).wire(Wire::node_ipc()).retry(retry)
}

pub(crate) fn client(at: &Endpoint) -> Client {
    Client::start(client_config(at)).unwrap()
}

/// The connects and disconnects of a server's clients, as they come.
pub(crate) fn comings_and_goings(server: &Server) -> mpsc::UnboundedReceiver<(bool, String)> {
    let (told, heard) = mpsc::unbounded_channel();
    let came = told.clone();
    server.on_connect(move |client: Reply| {
        let _ = came.send((true, client.id().to_owned()));
        async {}
    });
    server.on_disconnect(move |departure| {
        let _ = told.send((false, departure.id.as_ref().to_owned()));
        async {}
    });
    heard
}

/// The connects and disconnects of a client, as they come.
pub(crate) fn ups_and_downs(client: &Client) -> mpsc::UnboundedReceiver<bool> {
    let (told, heard) = mpsc::unbounded_channel();
    let up = told.clone();
    client.on_connect(move |_| {
        let _ = up.send(true);
        async {}
    });
    client.on_disconnect(move |_| {
        let _ = told.send(false);
        async {}
    });
    heard
}

/// Counts the numbers that arrive as events `count`, until all below `end` have come in order.
pub(crate) async fn count_to(end: u64, numbers: &mut ipc_channel::EventStream<u64, Reply>) {
    for wanted in 0..end {
        let (number, _): (Event<u64>, Reply) = soon("a number", numbers.next()).await.unwrap();
        assert_eq!(*number, wanted);
    }
}
