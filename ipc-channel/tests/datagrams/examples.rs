//! What node-ipc does over UDP: the example of its README, both versions of IP, broadcasts, limits of a datagram.

use std::net::{IpAddr, Ipv6Addr};

use ipc_channel::{
    Event, PayloadCodec,
    events::{DatagramReply, Datagrams, DatagramsConfig, EmitError, Wire},
};
use ipc_testkit::MemTransport;
use ipc_transport::{AddressFamily, DatagramAddress, Endpoint, Error};
use serde::{Deserialize, Serialize};

use crate::support::{Bare, ask, config, end, name, soon, udp, until};

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Said {
    from: String,
    message: String,
}

fn wires() -> [Wire; 2] {
    [Wire::Native, Wire::node_ipc()]
}

/// N-03, N-25: two ends, of which one answers to the address that an event came from.
#[tokio::test]
async fn hello_hears_the_answer_at_its_own_address() {
    for at in ["udp://127.0.0.1:0", "udp://[::1]:0"] {
        for wire in wires() {
            let (world, hello) = (udp(at, wire.clone()).await, udp(at, wire).await);
            world.on("message", async |said: Event<Said>, reply: DatagramReply| {
                let message = format!("{} world!", said.message);
                reply.emit("message", &Said { from: "world".to_owned(), message }).unwrap();
            });
            let mut answers = hello.events::<Said>("message", 8).unwrap();
            let hi = Said { from: "hello".to_owned(), message: "Hello".to_owned() };
            let say = || hello.emit_at(world.endpoint(), "message", &hi).unwrap();
            let (answer, from) = ask(say, &mut answers).await;
            assert_eq!((&*answer.from, &*answer.message), ("world", "Hello world!"));
            assert_eq!(Some(from.address()), DatagramAddress::of(world.endpoint()).as_ref());
        }
    }
}

/// N-25: who sent an event is its address and port.
#[tokio::test]
async fn a_handler_knows_the_address_that_an_event_came_from() {
    for at in ["udp://127.0.0.1:0", "udp://[::1]:0"] {
        let (world, hello) = (udp(at, Wire::node_ipc()).await, udp(at, Wire::node_ipc()).await);
        let mut heard = world.events::<u32>("number", 8).unwrap();
        let to = world.endpoint().socket_addr().unwrap();
        let (_, from) = ask(|| hello.emit(to, "number", &7).unwrap(), &mut heard).await;
        assert_eq!(*from.address(), hello.endpoint().socket_addr().unwrap().into());
    }
}

/// N-25: two frames of node-ipc in one datagram are two events, in order.
#[tokio::test]
async fn two_frames_in_one_datagram_are_two_events_in_order() {
    for at in ["udp://127.0.0.1:0", "udp://[::1]:0"] {
        let world = udp(at, Wire::node_ipc()).await;
        let mut heard = world.events::<u32>("n", 64).unwrap();
        let mut peer = Bare::udp(at).await;
        let both = b"{\"type\":\"n\",\"data\":1}\x0c{\"type\":\"n\",\"data\":2}\x0c";
        let first = soon("both", async {
            loop {
                peer.say(world.endpoint(), *both).await;
                let wait = std::time::Duration::from_millis(500);
                if let Ok(event) = tokio::time::timeout(wait, heard.next()).await {
                    break event.unwrap();
                }
            }
        });
        assert_eq!(*first.await.0, 1);
        assert_eq!(*soon("the second", heard.next()).await.unwrap().0, 2);
    }
}

/// N-25: as in node-ipc, whose default host is `::1`, `udp4` has 127.0.0.1 in its place.
#[tokio::test]
async fn udp4_binds_the_loopback_address_of_ipv4_in_place_of_that_of_ipv6() {
    let default: IpAddr = Ipv6Addr::LOCALHOST.into();
    for (family, host) in [(AddressFamily::V4, "127.0.0.1"), (AddressFamily::V6, "::1")] {
        let end = Datagrams::start(DatagramsConfig::node_ipc(family, default, 0)).await.unwrap();
        assert_eq!(end.endpoint().socket_addr().unwrap().ip(), host.parse::<IpAddr>().unwrap());
        assert_eq!(end.max_datagram(), 65_507);
    }
    let wrong = DatagramsConfig::node_ipc(AddressFamily::V6, [127, 0, 0, 1].into(), 0);
    assert!(matches!(Datagrams::start(wrong).await, Err(Error::WrongFamily { .. })));
}

#[tokio::test]
async fn localhost_is_the_own_loopback_address_and_other_names_are_not_looked_up() {
    for at in ["udp://127.0.0.1:0", "udp://[::1]:0"] {
        let (world, hello) = (udp(at, Wire::Native).await, udp(at, Wire::Native).await);
        let mut heard = world.events::<u32>("number", 8).unwrap();
        let port = world.endpoint().socket_addr().unwrap().port();
        let to: Endpoint = format!("udp://localhost:{port}").parse().unwrap();
        let (seven, _) = ask(|| hello.emit_at(&to, "number", &7_u32).unwrap(), &mut heard).await;
        assert_eq!(*seven, 7);
        for to in ["udp://example.org:1", "tcp://127.0.0.1:1", "mem:place"] {
            let outcome = hello.emit_at(&to.parse().unwrap(), "number", &7_u32);
            assert_eq!(outcome, Err(EmitError::Unreachable { to: to.to_owned() }));
        }
    }
    let (four, six) =
        (udp("udp://127.0.0.1:0", Wire::Native).await, udp("udp://[::1]:0", Wire::Native).await);
    let outcome = four.emit_at(six.endpoint(), "number", &7_u32);
    assert!(matches!(outcome, Err(EmitError::Unreachable { .. })), "{outcome:?}");
}

/// N-26: each peer is told once, however often it was heard from.
#[tokio::test]
async fn a_broadcast_reaches_every_peer_heard_from_once() {
    for wire in wires() {
        let world = MemTransport::new();
        let server = end(&world, "server", wire.clone()).await;
        let mut greetings = server.events::<()>("hi", 16).unwrap();
        let mut peers = Vec::new();
        for label in ["a", "b", "c"] {
            let peer = end(&world, label, wire.clone()).await;
            let news = peer.all_events(8).unwrap();
            for _ in 0..3 {
                peer.emit_bare(name("server"), "hi").unwrap();
                soon("the greeting", greetings.next()).await.unwrap();
            }
            peers.push((peer, news));
        }
        let silent = end(&world, "silent", wire.clone()).await;
        let known: Vec<_> = server.peers().iter().map(|peer| peer.address().to_string()).collect();
        assert_eq!(known, ["a", "b", "c"]);
        assert_eq!(server.broadcast("news", "rain"), Ok(3));
        for (peer, news) in &mut peers {
            let (event, from) = soon("the news", news.next()).await.unwrap();
            assert_eq!((event.name(), event.decode::<String>().unwrap()), ("news", "rain".to_owned()));
            assert_eq!(*from.address(), name("server"));
            // Whatever had come twice would stand before this.
            server.emit(DatagramAddress::of(peer.endpoint()).unwrap(), "end", &()).unwrap();
            assert_eq!(soon("the end", news.next()).await.unwrap().0.name(), "end");
        }
        assert_eq!(silent.counters().received, 0);
        assert!(server.forget(&name("b")) && !server.forget(&name("b")));
        assert_eq!(server.broadcast("news", "sun"), Ok(2));
    }
}

/// N-27: what does not fit into a datagram is an error before anything is sent, and the largest that fits passes.
#[tokio::test]
async fn what_is_larger_than_a_datagram_is_refused_before_it_is_sent() {
    let (world, hello) =
        (udp("udp://127.0.0.1:0", Wire::node_ipc()).await, udp("udp://127.0.0.1:0", Wire::node_ipc()).await);
    let to = world.endpoint().socket_addr().unwrap();
    // {"type":"m","data":"…"} and a form feed.
    let room = 65_507 - 22 - 1;
    let outcome = hello.emit(to, "m", &"x".repeat(room + 1));
    assert!(matches!(outcome, Err(EmitError::TooLarge { max: 65_506, .. })), "{outcome:?}");
    let mut heard = world.events::<String>("m", 8).unwrap();
    let largest = "x".repeat(room);
    let (text, _) = ask(|| hello.emit(to, "m", &largest).unwrap(), &mut heard).await;
    assert_eq!(text.len(), room);

    let native = udp("udp://127.0.0.1:0", Wire::Native).await;
    // A header of 24 bytes, the name, and a length of eight bytes before the text.
    let room = 1_200 - 24 - 1 - 8;
    assert_eq!(native.emit(to, "m", &"x".repeat(room)), Ok(()));
    let outcome = native.emit(to, "m", &"x".repeat(room + 1));
    assert!(matches!(outcome, Err(EmitError::TooLarge { max: 1_200, .. })), "{outcome:?}");
    let outcome = native.emit(to, &"n".repeat(257), &());
    assert!(matches!(outcome, Err(EmitError::NameTooLong { len: 257, max: 256 })), "{outcome:?}");

    let raw = udp("udp://127.0.0.1:0", Wire::Raw).await;
    let outcome = raw.emit_bytes(to, vec![0; 65_508]);
    assert_eq!(outcome, Err(EmitError::TooLarge { len: 65_508, max: 65_507 }));
}

/// N-27: the others go on, and so does its sender.
#[tokio::test]
async fn a_malformed_datagram_affects_only_its_peer() {
    for (wire, good) in [
        (Wire::Native, crate::support::native("m", "x", 0)),
        (Wire::node_ipc(), b"{\"type\":\"m\",\"data\":\"x\"}\x0c".to_vec()),
    ] {
        let world = MemTransport::new();
        let server = end(&world, "server", wire).await;
        let mut heard = server.events::<String>("m", 16).unwrap();
        let (mut bad, mut other) = (Bare::mem(&world, "bad").await, Bare::mem(&world, "other").await);
        other.say(server.endpoint(), good.clone()).await;
        bad.say(server.endpoint(), good.clone()).await;
        // A fragment: what is cut off does not come with the next one.
        bad.say(server.endpoint(), &good[..good.len() - 3]).await;
        bad.say(server.endpoint(), b"\xFF\x00rubbish".to_vec()).await;
        bad.say(server.endpoint(), Vec::new()).await;
        other.say(server.endpoint(), good.clone()).await;
        bad.say(server.endpoint(), good.clone()).await;
        let mut from = Vec::new();
        while from.len() < 4 {
            let (text, reply) = soon("an event", heard.next()).await.unwrap();
            // On the native wire nothing tells that a text was cut off, except for its own encoding.
            assert_eq!(*text, "x");
            from.push((reply.address().to_string(), reply));
        }
        let names: Vec<_> = from.iter().map(|(name, _)| &**name).collect();
        assert_eq!(names, ["other", "bad", "other", "bad"]);
        let (of_other, of_bad) = (from[0].1.malformed(), from[1].1.malformed());
        let undecodable = server.counters().handlers.undecodable;
        assert_eq!((of_other, of_bad + undecodable), (0, 3));
        assert_eq!(server.counters().malformed, of_bad);
        from[1].1.emit("still", "there").unwrap();
        assert!(!bad.hear().await.is_empty());
    }
}

/// N-33: the share of datagrams; each comes as it was sent, the empty one too.
#[tokio::test]
async fn bare_bytes_come_as_they_are_both_ways() {
    let world = MemTransport::new();
    let (server, client) = (end(&world, "server", Wire::Raw).await, end(&world, "client", Wire::Raw).await);
    server.on_bytes(async |bytes, reply: DatagramReply| reply.emit_bytes(bytes).unwrap());
    let (told, mut heard) = tokio::sync::mpsc::unbounded_channel();
    client.on_bytes(move |bytes, _| {
        let told = told.clone();
        async move { told.send(bytes).unwrap() }
    });
    let all: Vec<u8> = (0..=255).collect();
    for bytes in [all, Vec::new(), b"{\"type\":\"m\"}\x0c".to_vec()] {
        client.emit_bytes(name("server"), bytes.clone()).unwrap();
        assert_eq!(soon("the bytes", heard.recv()).await.unwrap(), bytes);
    }
    assert_eq!(server.broadcast_bytes(b"all".to_vec()), Ok(1));
    assert_eq!(soon("the bytes", heard.recv()).await.unwrap(), "all");
    let outcome = client.emit(name("server"), "m", &());
    assert!(matches!(outcome, Err(EmitError::Unsupported { .. })), "{outcome:?}");
    let native = end(&world, "native", Wire::Native).await;
    let outcome = native.emit_bytes(name("server"), b"x".to_vec());
    assert!(matches!(outcome, Err(EmitError::Unsupported { .. })), "{outcome:?}");
}

/// Each datagram says how its value is encoded, so ends with different settings understand each other.
#[tokio::test]
async fn both_codecs_are_read_whichever_is_written() {
    let world = MemTransport::new();
    let json = Datagrams::start(config(&world, "json").codec(PayloadCodec::Json)).await.unwrap();
    let binary = end(&world, "binary", Wire::Native).await;
    let (mut of_json, mut of_binary) = (json.all_events(8).unwrap(), binary.all_events(8).unwrap());
    json.emit(name("binary"), "n", &5_u32).unwrap();
    binary.emit(name("json"), "n", &6_u32).unwrap();
    let (five, _) = soon("five", of_binary.next()).await.unwrap();
    let (six, _) = soon("six", of_json.next()).await.unwrap();
    assert_eq!((five.codec(), five.decode::<u32>().unwrap()), (PayloadCodec::Json, 5));
    assert_eq!((six.codec(), six.decode::<u32>().unwrap()), (PayloadCodec::Bincode, 6));
}

#[tokio::test]
async fn handlers_come_and_go_and_a_panic_is_counted() {
    let world = MemTransport::new();
    let (server, client) =
        (end(&world, "server", Wire::Native).await, end(&world, "client", Wire::Native).await);
    let mut heard = server.events::<u32>("n", 16).unwrap();
    server.once("n", async |_: Event<u32>, _| panic!("on purpose"));
    for number in 0..3_u32 {
        client.emit(name("server"), "n", &number).unwrap();
        assert_eq!(*soon("the number", heard.next()).await.unwrap().0, number);
    }
    until("the handlers", || server.counters().handlers.dispatched == 4).await;
    assert_eq!(server.counters().handlers.panicked, 1);
    assert_eq!(server.remove_all("n"), 1);
    client.emit(name("server"), "n", &3_u32).unwrap();
    until("the event", || server.counters().handlers.unhandled == 1).await;
}
