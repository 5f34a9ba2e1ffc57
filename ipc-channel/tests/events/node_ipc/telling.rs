//! What ends tell: logs, what they listen to, and who they are.

use std::{
    fmt::{self, Write as _},
    sync::{Arc, Mutex},
    time::Duration,
};

use ipc_channel::events::{
    Client, NodeIpc, Server, ServerConfig, Wire,
    node_ipc::{Announcement, Catalogue, Guard, Profile},
};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tracing::{
    Event, Metadata, Subscriber,
    field::{Field, Visit},
    span,
};

use super::{away, client, departures, peer, wire_of, world};
use crate::support::{Place, soon};

/// N-37: a subscriber of `tracing` hears of connects, disconnects with their reasons, refusals and failed attempts, with the
/// ids of connections and never a name or a payload of an event. Without a subscriber nothing is written anywhere.
#[tokio::test]
async fn a_subscriber_hears_of_connections_and_never_of_payloads() {
    let log = Log::default();
    let _logging = tracing::subscriber::set_default(log.clone());
    let place = Place::new();
    let early = Client::start(away(&place, Wire::node_ipc())).unwrap();
    early.emit("private-name", "private-text").await.unwrap();
    while early.counters().failed_attempts == 0 {
        tokio::task::yield_now().await;
    }
    let wire = wire_of(Profile::Guarded(Guard::default().with_allowed(["private-name"])));
    let config = ServerConfig::new("world").endpoint(place.unix("world")).wire(wire);
    let world = Server::start(config.max_clients(1)).await.unwrap();
    let mut departures = departures(&world);
    let mut messages = world.events::<String>("private-name", 4).unwrap();
    let (message, from) = soon("the message", messages.next()).await.unwrap();
    assert_eq!(*message, "private-text");
    let mut refused = peer(&place, "world").await;
    let mut rest = Vec::new();
    let _ = soon("the hang-up", tokio::io::AsyncReadExt::read_to_end(&mut refused, &mut rest)).await;
    early.close(Duration::from_secs(60)).await.unwrap();
    soon("the departure", departures.recv()).await.unwrap();
    let mut stranger = peer(&place, "world").await;
    stranger.write_all(b"{\"type\":\"private-other\",\"data\":\"private-text\"}\x0c").await.unwrap();
    soon("the departure", departures.recv()).await.unwrap();
    let text = log.text();
    for wanted in
        ["an attempt to connect failed", "connected", "a client was refused", "NotAllowed", "disconnected"]
    {
        assert!(text.contains(wanted), "{wanted:?} is not in\n{text}");
    }
    assert!(text.contains(from.id()), "a line has the id of its client:\n{text}");
    assert!(!text.contains("private"), "{text}");
}

/// I-20: with a subscriber each action is told, on the native wire too: what is sent, what arrives, and of which kind a
/// message is, again without names and payloads. Without one nothing is written, which is the default.
#[tokio::test]
async fn a_subscriber_hears_of_each_action() {
    let log = Log::default();
    let _logging = tracing::subscriber::set_default(log.clone());
    let place = Place::new();
    let world = crate::support::server(&place.unix("world")).await;
    let mut events = world.events::<String>("private-name", 4).unwrap();
    world.respond("private-request", async |_: ipc_channel::Event<String>, _| Ok::<_, String>(7)).unwrap();
    let hello = crate::support::named(&world, "hello").await;
    let deadline = Duration::from_secs(60);
    hello.emit("private-name", "private-text").await.unwrap();
    soon("the event", events.next()).await.unwrap();
    let seven: i32 = hello.call("private-request", "private-text", deadline).await.unwrap();
    assert_eq!(seven, 7);
    hello.broadcast("private-name", "private-text", deadline).await.unwrap();
    hello.discover(deadline).await.unwrap();
    world.broadcast("private-name", "private-text").await.unwrap();
    let text = log.text();
    for wanted in [
        "an event is sent",
        "an event arrived",
        "an event is sent to somebody as to everybody",
        "a request is sent",
        "what=\"request\"",
        "what=\"answer\"",
        "what=\"broadcast\"",
        "what=\"discover\"",
    ] {
        assert!(text.contains(wanted), "{wanted:?} is not in\n{text}");
    }
    assert!(!text.contains("private"), "{text}");
}

/// N-38, W-05: a service says which events it listens to and broadcasts, with descriptions, to whoever asks; one that greets
/// says it to each client before anything else, as node-ipc 0.9 does, and our clients pass over that.
#[tokio::test]
async fn a_service_tells_its_events_when_it_is_asked_or_greets() {
    for greets in [false, true] {
        let place = Place::new();
        let catalogue = Catalogue::new()
            .with_listening("message", "says it back")
            .with_broadcasting("tick", "each second");
        let wire = NodeIpc::default().with_catalogue(catalogue).with_greeting(greets);
        let world = world(&place, wire).await;
        world.on("message", async |text: ipc_channel::Event<String>, reply: ipc_channel::events::Reply| {
            reply.emit("message", &*text).await.unwrap();
        });
        let hello = client(&world, NodeIpc::default()).await;
        let mut all = hello.all_events(16).unwrap();
        hello.emit("message", "first").await.unwrap();
        // A greeting would have come before.
        assert_eq!(soon("the answer", all.next()).await.unwrap().0.name(), "message");
        for (query, answer, event, description) in [
            ("get.events.listening", "events.listening", "message", "says it back"),
            ("get.events.broadcasting", "events.broadcasting", "tick", "each second"),
        ] {
            hello.emit(query, &json!({})).await.unwrap();
            let (said, _) = soon("the answer", all.next()).await.unwrap();
            assert_eq!(said.name(), answer);
            let announcement = Announcement::decode(said.bytes()).unwrap();
            assert_eq!(announcement.id, "world");
            assert_eq!(announcement.events, [(event.to_owned(), description.to_owned())]);
        }
        let mut stranger = peer(&place, "world").await;
        stranger.write_all(b"{\"type\":\"message\",\"data\":\"hi\"}\x0c").await.unwrap();
        let heard = lines(&mut stranger, if greets { 3 } else { 1 }).await;
        let names: Vec<_> = heard.iter().map(|frame| frame["type"].as_str().unwrap()).collect();
        let greeting = ["events.broadcasting", "events.listening", "message"];
        assert_eq!(names, if greets { &greeting[..] } else { &greeting[2..] });
    }
}

/// N-39: a client has the name that it claims only where that is wanted; the first claim stays, and a name that is taken is
/// not given. Who is behind the connection is what the kernel says, whatever is claimed.
#[tokio::test]
async fn a_claimed_name_is_given_only_where_that_is_wanted() {
    for identifies in [false, true] {
        let place = Place::new();
        let world = world(&place, NodeIpc::default().with_identify_peer(identifies)).await;
        let mut claims = world.events::<Value>("claim", 4).unwrap();
        let ada = client(&world, NodeIpc::default()).await;
        let other = client(&world, NodeIpc::default()).await;
        for (who, claimed, named) in [
            (&ada, "ada", Some("ada")),
            (&ada, "eve", Some("ada")),
            (&other, "ada", None),
            (&other, "bob", Some("bob")),
        ] {
            who.emit("claim", &json!({ "id": claimed })).await.unwrap();
            let (_, from) = soon("the claim", claims.next()).await.unwrap();
            assert_eq!(from.name(), named.filter(|_| identifies));
            assert!(
                matches!(from.identity(), ipc_transport::PeerIdentity::Process { .. }),
                "{:?}",
                from.identity()
            );
        }
        assert_eq!(world.client("bob").is_some(), identifies);
        if identifies {
            other.close(Duration::from_secs(60)).await.unwrap();
            let mut gone = ada.events::<u32>("bob is gone", 1).unwrap();
            while world.client("bob").is_some() {
                tokio::task::yield_now().await;
            }
            world.emit("ada", "bob is gone", &1).await.unwrap();
            soon("the word", gone.next()).await.unwrap();
        }
    }
}

/// The next frames of a stream.
async fn lines(stream: &mut tokio::net::UnixStream, count: usize) -> Vec<Value> {
    let mut bytes = Vec::new();
    while bytes.iter().filter(|byte| **byte == 0x0c).count() < count {
        let read = tokio::io::AsyncReadExt::read_buf(stream, &mut bytes);
        assert!(soon("a frame", read).await.unwrap() > 0);
    }
    bytes
        .split(|byte| *byte == 0x0c)
        .take(count)
        .map(|frame| serde_json::from_slice(frame).unwrap())
        .collect()
}

/// Keeps every line of ours.
#[derive(Clone, Default)]
struct Log {
    text: Arc<Mutex<String>>,
}

impl Log {
    fn text(&self) -> String {
        self.text.lock().unwrap().clone()
    }
}

impl Subscriber for Log {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("ipc_")
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut line = Line(String::new());
        event.record(&mut line);
        writeln!(self.text.lock().unwrap(), "{}{}", event.metadata().level(), line.0).unwrap();
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        write!(self.0, " {field}={value:?}").unwrap();
    }
}
