//! Servers and clients at addresses of their own, and a bound on every wait.

use std::{future::Future, path::PathBuf, time::Duration};

use ipc_channel::events::{Client, ClientConfig, Server, ServerConfig};
use ipc_transport::Endpoint;

/// How long anything may take before the test fails: a watchdog, no figure.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Waits for something that must come.
pub(crate) async fn soon<F: Future>(what: &str, future: F) -> F::Output {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(output) => output,
        Err(_) => panic!("{what} did not come"),
    }
}

/// A directory of a test's own, gone with it.
pub(crate) struct Place {
    directory: PathBuf,
}

impl Place {
    pub(crate) fn new() -> Self {
        use std::os::unix::fs::DirBuilderExt as _;
        let name = format!("ipc-events-{:08x}", fastrand::u32(..));
        let directory = std::env::temp_dir().join(name);
        std::fs::DirBuilder::new().mode(0o700).create(&directory).unwrap();
        Self { directory }
    }

    pub(crate) fn unix(&self, name: &str) -> Endpoint {
        format!("unix:{}/{name}.sock", self.directory.display()).parse().unwrap()
    }

    /// The socket file of that name.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.directory.join(format!("{name}.sock"))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

/// Where the tests that run over every transport have their servers.
pub(crate) fn endpoints(place: &Place) -> Vec<Endpoint> {
    vec![place.unix("world"), "tcp://127.0.0.1:0".parse().unwrap(), "tcp://[::1]:0".parse().unwrap()]
}

pub(crate) async fn server(at: &Endpoint) -> Server {
    Server::start(ServerConfig::new("world").endpoint(at.clone())).await.unwrap()
}

pub(crate) fn config(server: &Server) -> ClientConfig {
    ClientConfig::new(server.id()).endpoint(server.endpoint().clone())
}

pub(crate) async fn client(server: &Server) -> Client {
    let client = Client::start(config(server)).unwrap();
    soon("the connection", client.connected()).await.unwrap();
    client
}

pub(crate) async fn named(server: &Server, name: &str) -> Client {
    let client = Client::start(config(server).name(name)).unwrap();
    soon("the connection", client.connected()).await.unwrap();
    client
}
