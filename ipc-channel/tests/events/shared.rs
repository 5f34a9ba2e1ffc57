//! One listener that several processes serve.

use std::{
    collections::BTreeSet,
    env,
    io::{BufRead as _, BufReader},
    os::{fd::OwnedFd, unix::net::UnixListener},
    process::{Child, Command, Stdio},
};

use ipc_channel::{
    Event,
    events::{Client, ClientConfig, Server, ServerConfig},
};
use ipc_transport::{Endpoint, Inherited, ListenOptions};

use crate::support::{PATIENCE, Place, soon};

/// Set for the processes that serve.
const ROLE: &str = "IPC_EVENTS_SHARED";

/// N-29: several processes accept on one listener that they inherited. Each connection is served by exactly one of them,
/// each of them serves when the others are gone, and none of them removes the socket's file.
#[tokio::test]
async fn processes_share_a_listener_and_each_connection_has_one_of_them() {
    let place = Place::new();
    let socket = UnixListener::bind(place.file("shared")).unwrap();
    let at = place.unix("shared");
    let mut servers: Vec<Serving> = (0..3).map(|_| Serving::start(socket.try_clone().unwrap())).collect();
    let pids: BTreeSet<u32> = servers.iter().map(|server| server.0.id()).collect();
    for _ in 0..12 {
        assert!(pids.contains(&who_serves(&at).await));
    }
    while let Some(mut server) = servers.pop() {
        server.stop();
        if let Some(last) = servers.last().filter(|_| servers.len() == 1) {
            for _ in 0..3 {
                assert_eq!(who_serves(&at).await, last.0.id(), "the one that is left");
            }
        }
    }
    assert!(place.file("shared").exists(), "it belongs to whoever made it");
    drop(socket);
}

/// Asks twice over one connection, so that it is one process that answers.
async fn who_serves(at: &Endpoint) -> u32 {
    let client = Client::start(ClientConfig::new("shared").endpoint(at.clone())).unwrap();
    let first: u32 = soon("an answer", client.call("who", &(), PATIENCE)).await.unwrap();
    let second: u32 = soon("an answer", client.call("who", &(), PATIENCE)).await.unwrap();
    assert_eq!(first, second);
    client.close(PATIENCE).await.unwrap();
    first
}

/// A process that serves, until it is dropped.
struct Serving(Child);

impl Serving {
    /// As a supervisor starts it: the socket is descriptor 3, and the environment says so.
    fn start(socket: UnixListener) -> Self {
        let script = "exec 3<&0 </dev/null; LISTEN_FDS=1 LISTEN_PID=$$ exec \"$0\" \"$@\"";
        let mut child = Command::new("sh")
            .args(["-c", script])
            .arg(env::current_exe().unwrap())
            .args(["--exact", "shared::role_serve", "--nocapture", "--test-threads=1"])
            .env(ROLE, "1")
            .stdin(Stdio::from(OwnedFd::from(socket)))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.as_mut().unwrap()).lines();
        assert!(lines.any(|line| line.unwrap().contains("serving")), "it serves");
        Self(child)
    }

    fn stop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The process: says who it is to whoever asks. It ends when it is killed, or its parent has gone.
#[test]
#[allow(clippy::print_stdout, reason = "the parent reads it")]
fn role_serve() {
    if env::var_os(ROLE).is_none() {
        return;
    }
    let mut inherited = Inherited::from_env().unwrap();
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let listener = inherited.listener_at(0, &ListenOptions::default()).unwrap().unwrap();
        let _server = Server::start_on(ServerConfig::new("shared"), listener, |server| {
            server.respond("who", async |_: Event<()>, _| Ok::<u32, String>(std::process::id())).unwrap();
        })
        .unwrap();
        println!("serving");
        tokio::time::sleep(PATIENCE * 4).await; // Sleeps until it is killed; a bound, if nobody does.
    });
}
