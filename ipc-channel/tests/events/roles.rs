//! Processes that are clients or servers until they are killed.

use std::{
    future::pending,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use ipc_channel::{
    Event,
    events::{Client, ClientConfig, Reply, Server, ServerConfig},
};
use ipc_testkit::process::{self, Parent, Role, RoleProcess};
use ipc_transport::Endpoint;
use serde::{Deserialize, Serialize};

/// Where a process is to go, and its name there.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Life {
    endpoint: String,
    name: String,
}

impl Life {
    pub(crate) fn new(endpoint: &Endpoint, name: &str) -> Self {
        Self { endpoint: endpoint.to_string(), name: name.to_owned() }
    }
}

/// What a process of this file says.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Sat {
    /// The client is connected, or the server listens.
    Connected,
    /// It was asked something that it never answers.
    Asked,
    /// An event: its number, and whether it may have been seen before.
    Event { number: u64, redelivered: bool },
    /// How many events a client has taken and missed.
    Counts { taken: u64, missed: u64 },
}

/// A client that counts the events `tick`, never answers `wait`, and tells its counts when it hears `count`.
pub(crate) fn sitting_client(life: &Life) -> RoleProcess {
    Role::new("roles::role_client").argument(life).spawn().unwrap()
}

/// A server that tells of each event `number`, answers `double` and never answers `wait`.
pub(crate) fn sitting_server(life: &Life) -> RoleProcess {
    Role::new("roles::role_server").argument(life).spawn().unwrap()
}

#[test]
fn role_client() {
    let Some(mut parent) = process::enter("roles::role_client") else { return };
    let life: Life = parent.argument();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let at = life.endpoint.parse().unwrap();
        let client = Client::start(ClientConfig::new("world").endpoint(at).name(life.name)).unwrap();
        let ticks = Arc::new(AtomicU64::new(0));
        let ticked = ticks.clone();
        client.on("tick", move |_: Event<u64>, _: Reply| {
            ticked.fetch_add(1, Ordering::Relaxed);
            async {}
        });
        let (asked, mut asks) = tokio::sync::mpsc::unbounded_channel();
        let ask = asked.clone();
        client
            .respond("wait", move |_: Event<()>, _: Reply| {
                ask.send(Sat::Asked).unwrap();
                pending::<Result<(), String>>()
            })
            .unwrap();
        let client = Arc::new(client);
        let counted = Arc::downgrade(&client);
        client.on("count", move |_: Event<()>, _: Reply| {
            let taken = ticks.load(Ordering::Relaxed);
            let missed = counted.upgrade().unwrap().counters().missed;
            asked.send(Sat::Counts { taken, missed }).unwrap();
            async {}
        });
        client.connected().await.unwrap();
        parent.send(&Sat::Connected).unwrap();
        tell(&mut parent, &mut asks).await;
    });
}

#[test]
fn role_server() {
    let Some(mut parent) = process::enter("roles::role_server") else { return };
    let life: Life = parent.argument();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let at = life.endpoint.parse().unwrap();
        let server = Server::start(ServerConfig::new(life.name).endpoint(at)).await.unwrap();
        let (told, mut tells) = tokio::sync::mpsc::unbounded_channel();
        let asked = told.clone();
        server.on("number", move |event: Event<u64>, _: Reply| {
            told.send(Sat::Event { number: *event, redelivered: event.redelivered() }).unwrap();
            async {}
        });
        server
            .respond("wait", move |_: Event<()>, _: Reply| {
                asked.send(Sat::Asked).unwrap();
                pending::<Result<(), String>>()
            })
            .unwrap();
        server.respond("double", async |number: Event<u64>, _: Reply| Ok::<_, String>(*number * 2)).unwrap();
        parent.send(&Sat::Connected).unwrap();
        tell(&mut parent, &mut tells).await;
    });
}

/// Passes on what is to be said until the parent is gone.
async fn tell(parent: &mut Parent, said: &mut tokio::sync::mpsc::UnboundedReceiver<Sat>) {
    while let Some(saying) = said.recv().await {
        if parent.send(&saying).is_err() {
            return;
        }
    }
}
