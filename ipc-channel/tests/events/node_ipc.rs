//! The wire of node-ipc between ends of ours, and bare bytes.

mod guard;
mod lifecycle;
mod sending;
mod sync;
mod telling;

use std::{sync::Arc, time::Duration};

use ipc_channel::{
    Event,
    events::{
        Client, ClientConfig, Departure, NodeIpc, Reply, RetryPolicy, Server, ServerConfig, Wire,
        node_ipc::Profile,
    },
};
use tokio::{net::UnixStream, sync::mpsc};

use crate::support::{Place, endpoints, soon};

/// N-01, N-02: the example of the README, on the wire of node-ipc.
#[tokio::test]
async fn hello_hears_hello_world_as_json() {
    let place = Place::new();
    for at in endpoints(&place) {
        let config = ServerConfig::new("world").endpoint(at).wire(Wire::node_ipc());
        let world = Server::start(config).await.unwrap();
        world.on("message", async |data: Event<String>, reply: Reply| {
            reply.emit("message", &format!("{} world!", *data)).await.unwrap();
        });
        let config = ClientConfig::new("world").endpoint(world.endpoint().clone()).wire(Wire::node_ipc());
        let hello = Client::start(config).unwrap();
        let mut answers = hello.events::<String>("message", 8).unwrap();
        hello.emit("message", "hello").await.unwrap();
        let (answer, _) = soon("the answer", answers.next()).await.unwrap();
        assert_eq!(*answer, "hello world!");
        hello.close(Duration::from_secs(30)).await.unwrap();
    }
}

/// N-33: every byte comes as it was, both ways.
#[tokio::test]
async fn bare_bytes_come_as_they_are_both_ways() {
    let place = Place::new();
    let config = ServerConfig::new("world").endpoint(place.unix("raw")).wire(Wire::Raw);
    let world = Server::start(config).await.unwrap();
    world.on_bytes(async |bytes, reply| reply.emit_bytes(bytes).await.unwrap());
    let config = ClientConfig::new("world").endpoint(world.endpoint().clone()).wire(Wire::Raw);
    let hello = Client::start(config).unwrap();
    let (told, mut heard) = mpsc::unbounded_channel();
    let told = Arc::new(told);
    hello.on_bytes(move |bytes, _| {
        let told = told.clone();
        async move { told.send(bytes).unwrap() }
    });
    let all: Vec<u8> = (0..=255).chain((0..=255).rev()).chain(*b"\0\x0c\xff\xfe{}").collect();
    hello.emit_bytes(all.clone()).await.unwrap();
    let mut back = Vec::new();
    while back.len() < all.len() {
        back.extend_from_slice(&soon("the bytes", heard.recv()).await.unwrap());
    }
    assert_eq!(back, all);
}

/// A server of this wire.
async fn world(place: &Place, wire: NodeIpc) -> Server {
    let config = ServerConfig::new("world").endpoint(place.unix("world")).wire(Wire::NodeIpc(wire));
    Server::start(config).await.unwrap()
}

/// A client of a server of this wire, connected.
async fn client(world: &Server, wire: NodeIpc) -> Client {
    let config = ClientConfig::new("world").endpoint(world.endpoint().clone()).wire(Wire::NodeIpc(wire));
    let client = Client::start(config).unwrap();
    soon("the connection", client.connected()).await.unwrap();
    client
}

/// A client of a server that need not be there.
fn away(place: &Place, wire: Wire) -> ClientConfig {
    let retry = RetryPolicy::Every(Duration::from_millis(5));
    ClientConfig::new("world").endpoint(place.unix("world")).wire(wire).retry(retry)
}

fn wire_of(profile: Profile) -> Wire {
    Wire::NodeIpc(NodeIpc::default().with_profile(profile))
}

/// A connection without any of our code behind it.
async fn peer(place: &Place, name: &str) -> UnixStream {
    UnixStream::connect(place.file(name)).await.unwrap()
}

/// The departures of a server's clients, as they come.
fn departures(server: &Server) -> mpsc::UnboundedReceiver<Departure> {
    let (told, heard) = mpsc::unbounded_channel();
    server.on_disconnect(move |departure| {
        let _ = told.send(departure);
        async {}
    });
    heard
}
