//! What a guard allows, and what a peer cannot do.

use std::{sync::Arc, time::Duration};

use ipc_channel::events::{
    DisconnectReason, EmitError, NodeIpc, Server, ServerConfig, Wire,
    node_ipc::{Guard, Profile, WireError},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::UnixStream,
    sync::mpsc,
};

use super::{client, departures, peer, wire_of};
use crate::support::{Place, soon};

/// N-35: each limit has an error of its own, the connection ends for it, and all others live on.
#[tokio::test]
async fn each_limit_of_a_guard_ends_that_connection_alone() {
    let guard = Guard::default()
        .with_max_message(1000)
        .with_max_name(20)
        .with_max_depth(5)
        .with_frame_timeout(Duration::from_millis(50));
    let place = Place::new();
    let world = guarded(&place, guard).await;
    let mut departures = departures(&world);
    let good = client(&world, NodeIpc::default()).await;
    let mut echoes = good.events::<u32>("echo", 8).unwrap();
    world.on("echo", async |number: ipc_channel::Event<u32>, client| {
        let client: ipc_channel::events::Reply = client;
        client.emit("echo", &*number).await.unwrap();
    });
    let long = "n".repeat(21);
    let cases = [
        (format!(r#"{{"type":"a","data":"{}"}}"#, "x".repeat(1000)) + "\x0c", "size"),
        (format!(r#"{{"type":"{long}","data":1}}"#) + "\x0c", "name"),
        (r#"{"type":"a","data":[[[[[[1]]]]]]}"#.to_owned() + "\x0c", "depth"),
        (r#"{"type":"a","da"#.to_owned(), "incomplete"),
        (r#"{"type":"__proto__","data":1}"#.to_owned() + "\x0c", "reserved"),
        ("no json\x0c".to_owned(), "json"),
    ];
    let count = cases.len() as u64;
    for (number, (bytes, what)) in cases.into_iter().enumerate() {
        let mut bad = UnixStream::connect(place.file("guarded")).await.unwrap();
        bad.write_all(bytes.as_bytes()).await.unwrap();
        let reason = soon(what, departures.recv()).await.unwrap().reason;
        let DisconnectReason::Wire(error) = reason else { panic!("{what}: {reason:?}") };
        let is_it = match what {
            "size" => matches!(error, WireError::TooLarge { max: 1000, .. }),
            "name" => error == WireError::NameTooLong { len: 21, max: 20 },
            "depth" => error == WireError::Depth { max: 5 },
            "incomplete" => error == WireError::IncompleteFrame { limit: Duration::from_millis(50) },
            "reserved" => error == WireError::Reserved { name: "__proto__" },
            _ => matches!(error, WireError::NotJson { .. }),
        };
        assert!(is_it, "{what}: {error:?}");
        let mut rest = Vec::new();
        let _ = soon("the hang-up", bad.read_to_end(&mut rest)).await;
        assert!(rest.is_empty(), "nothing is answered");
        // The others live on.
        good.emit("echo", &number).await.unwrap();
        let (echo, _) = soon("the echo", echoes.next()).await.unwrap();
        assert_eq!(*echo as usize, number);
    }
    assert_eq!(world.counters().malformed, count);
}

/// N-35: a peer that does not read is given up when more bytes wait for it than may, and says so to whoever sends; bytes
/// that are written, or dropped by a policy, count no more.
#[tokio::test]
async fn a_peer_for_whom_too_much_waits_is_given_up() {
    let place = Place::new();
    let world = guarded(&place, Guard::default().with_max_pending(64 * 1024)).await;
    let mut departures = departures(&world);
    // Ten times as much as may wait, but it is read.
    let reads = client(&world, NodeIpc::default()).await;
    let mut texts = reads.events::<String>("text", 8).unwrap();
    let one = loop {
        match world.clients().pop() {
            Some(one) => break one,
            None => tokio::task::yield_now().await,
        }
    };
    let text = "x".repeat(10_000);
    for _ in 0..64 {
        one.emit("text", &text).await.unwrap();
        soon("a text", texts.next()).await.unwrap();
    }
    drop(reads);
    soon("its end", departures.recv()).await.unwrap();
    let _never_reads = UnixStream::connect(place.file("guarded")).await.unwrap();
    let other = loop {
        match world.clients().pop() {
            Some(other) => break other,
            None => tokio::task::yield_now().await,
        }
    };
    let error = loop {
        if let Err(error) = other.emit("text", &text).await {
            break error;
        }
        // The socket is to be full before.
        tokio::task::yield_now().await;
    };
    let EmitError::Wire(WireError::Pending { len, max: 65_536 }) = error else { panic!("{error:?}") };
    assert!(len > 65_536);
    let reason = soon("its end", departures.recv()).await.unwrap().reason;
    assert!(matches!(reason, DisconnectReason::Wire(WireError::Pending { .. })), "{reason:?}");
    // Whoever waits for what will not be written hears of it.
    assert_eq!(soon("the end of a wait", other.settled()).await, Err(EmitError::Closed));
}

/// N-35: events that a policy dropped do not wait.
#[tokio::test]
async fn what_a_policy_drops_does_not_count_as_waiting() {
    let place = Place::new();
    let wire = wire_of(Profile::Guarded(Guard::default().with_max_pending(1000)));
    let config = super::away(&place, wire)
        .capacity(4.try_into().unwrap())
        .policy(ipc_pipeline::FullPolicy::DropOldest);
    let alone = ipc_channel::events::Client::start(config).unwrap();
    for number in 0..1000 {
        alone.emit("count", &number).await.unwrap();
    }
    assert_eq!((alone.pending(), alone.counters().dropped), (4, 996));
}

/// N-36: with a list of names, others are refused in both directions, and nothing tells their names.
#[tokio::test]
async fn only_listed_names_pass_and_others_are_not_told() {
    let place = Place::new();
    let world = guarded(&place, Guard::default().with_allowed(["message"])).await;
    let mut departures = departures(&world);
    let mut messages = world.events::<u32>("message", 4).unwrap();
    let mut stranger = peer(&place, "guarded").await;
    stranger
        .write_all(b"{\"type\":\"message\",\"data\":1}\x0c{\"type\":\"launch\",\"data\":2}\x0c")
        .await
        .unwrap();
    assert_eq!(*soon("the first", messages.next()).await.unwrap().0, 1);
    let departure = soon("its end", departures.recv()).await.unwrap();
    assert_eq!(departure.reason, DisconnectReason::Wire(WireError::NotAllowed));
    assert!(!format!("{departure:?}").contains("launch"));
    let refused = world.try_broadcast("launch", &2).unwrap_err();
    assert_eq!(refused, EmitError::Wire(WireError::NotAllowed));
    assert!(!format!("{refused:?} {refused}").contains("launch"));
}

/// X-14: whatever a peer names its events, they raise nothing but handlers of that name: no connect, no disconnect, no end.
#[tokio::test]
async fn no_name_of_a_peers_raises_a_lifecycle_event() {
    let place = Place::new();
    let config = ServerConfig::new("world").endpoint(place.unix("open")).wire(Wire::node_ipc());
    let world = Server::start(config).await.unwrap();
    let (told, mut heard) = mpsc::unbounded_channel();
    let told = Arc::new(told);
    let tell = |what: &'static str| {
        let told = told.clone();
        move || told.send(what.to_owned()).unwrap()
    };
    let (came, went, lost) = (tell("connect"), tell("disconnect"), tell("undelivered"));
    world.on_connect(move |_| {
        came();
        async {}
    });
    world.on_disconnect(move |_| {
        went();
        async {}
    });
    world.on_undelivered(move |_| {
        lost();
        async {}
    });
    world.on_any(move |event, _| {
        told.send(format!("event {:?}", event.name())).unwrap();
        async {}
    });
    let names = [
        "connect",
        "disconnect",
        "destroy",
        "error",
        "data",
        "close",
        "start",
        "socket.disconnected",
        "*",
        "",
        "__proto__",
        "constructor",
        "undelivered",
        "end",
    ];
    let mut stranger = peer(&place, "open").await;
    for name in names {
        stranger.write_all(format!("{{\"type\":\"{name}\",\"data\":null}}\x0c").as_bytes()).await.unwrap();
    }
    // Frames that are none are passed over, on this profile.
    stranger
        .write_all(b"[1]\x0c{}\x0c{\"type\":7}\x0c\xff\xfe\x0c\x0c\x0c{\"type\":\"last\"}\x0c")
        .await
        .unwrap();
    assert_eq!(soon("the connect", heard.recv()).await.unwrap(), "connect");
    for name in names.into_iter().chain(["last"]) {
        assert_eq!(soon("an event", heard.recv()).await.unwrap(), format!("event {name:?}"));
    }
    assert_eq!((world.clients().len(), world.counters().malformed), (1, 4));
    drop(stranger);
    assert_eq!(soon("the disconnect", heard.recv()).await.unwrap(), "disconnect");
}

async fn guarded(place: &Place, guard: Guard) -> Server {
    let config = ServerConfig::new("world").endpoint(place.unix("guarded"));
    Server::start(config.wire(wire_of(Profile::Guarded(guard)))).await.unwrap()
}
