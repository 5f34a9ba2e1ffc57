//! What a peer can make an end do: be heard, and nothing else.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use ipc_channel::{
    Event,
    events::{DatagramReply, EmitError, NodeIpc, Wire},
};
use ipc_testkit::MemTransport;
use ipc_transport::PeerIdentity;
use serde_json::json;

use crate::support::{Bare, end, name, native, soon, until};

/// N-39: the share of datagrams. What an event says of its sender counts where that is asked for, and is no identity.
#[tokio::test]
async fn a_peer_is_its_address_and_its_claimed_id_counts_only_where_it_is_asked_for() {
    let asked = Wire::NodeIpc(NodeIpc::default().with_identify_peer(true));
    for (wire, expected) in [(asked, Some("sam")), (Wire::node_ipc(), None), (Wire::Native, None)] {
        let world = MemTransport::new();
        let (server, client) = (end(&world, "server", wire.clone()).await, end(&world, "client", wire).await);
        let mut heard = server.all_events(8).unwrap();
        client.emit(name("server"), "m", &BTreeMap::from([("id", "sam")])).unwrap();
        let (_, from) = soon("the event", heard.next()).await.unwrap();
        assert_eq!(from.claimed_id(), expected);
        assert_eq!(from.identity(), PeerIdentity::Unknown);
        // The next one claims nothing, and nothing is remembered.
        client.emit(name("server"), "m", "text").unwrap();
        let (_, from) = soon("the event", heard.next()).await.unwrap();
        assert_eq!(from.claimed_id(), None);
    }
}

/// names that mean something in node-ipc are events like others here, and raise nothing else.
#[tokio::test]
async fn no_name_that_a_peer_sends_is_more_than_a_name() {
    const NAMES: [&str; 14] = [
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
        "get.events.listening",
        "events.broadcasting",
    ];
    for wire in [Wire::Native, Wire::node_ipc()] {
        let world = MemTransport::new();
        let server = end(&world, "server", wire.clone()).await;
        let named = Arc::new(Mutex::new(Vec::new()));
        for label in NAMES {
            let named = named.clone();
            server.on(label, move |event: Event<String>, _| {
                named.lock().unwrap().push((label, event.into_value()));
                std::future::ready(())
            });
        }
        let mut all = server.all_events(64).unwrap();
        let mut peer = Bare::mem(&world, "peer").await;
        for label in NAMES {
            let datagram = match wire {
                Wire::Native => native(label, label, 0),
                _ => format!("{}\x0c", json!({"type": label, "data": label})).into_bytes(),
            };
            peer.say(server.endpoint(), datagram).await;
            assert_eq!(soon("the event", all.next()).await.unwrap().0.name(), label);
        }
        let heard: Vec<_> = NAMES.map(|label| (label, label.to_owned())).into();
        assert_eq!(*named.lock().unwrap(), heard);
        until("all handlers", || server.counters().handlers.dispatched == 28).await;
        // Nobody was answered, greeted or hung up on.
        assert_eq!(peer.heard(), None);
        assert_eq!(server.peers().len(), 1);
    }
}

/// A victim in whose name somebody asks gets three times what came in its name, whatever handlers and broadcasts do.
#[tokio::test]
async fn an_address_that_proves_nothing_gets_three_times_what_came_from_it_at_most() {
    let world = MemTransport::new();
    let server = end(&world, "server", Wire::Native).await;
    let refused = Arc::new(Mutex::new(0));
    let counted = refused.clone();
    server.on("m", move |_: Event<String>, reply: DatagramReply| {
        for len in (0..30).chain([1_000]) {
            match reply.emit("answer", &"x".repeat(len)) {
                Err(EmitError::Unproved { len, max }) if len > max => *counted.lock().unwrap() += 1,
                outcome => outcome.unwrap(),
            }
        }
        std::future::ready(())
    });
    let mut victim = Bare::mem(&world, "victim").await;
    let (mut asked, mut heard) = (0, 0);
    for _ in 0..20 {
        // What stands in for a forger: the victim's own socket, which repeats nothing.
        let forged = native("m", "x", 0);
        asked += forged.len();
        let before = server.counters().handlers.dispatched;
        victim.say(server.endpoint(), forged).await;
        until("the handler", || server.counters().handlers.dispatched > before).await;
        for _ in 0..10 {
            server.broadcast("news", &"y".repeat(500)).unwrap();
            let _ = server.emit(name("victim"), "direct", &"z".repeat(500));
        }
        while let Some(datagram) = victim.heard() {
            heard += datagram.len();
        }
        assert!(heard <= 3 * asked, "{heard} bytes for {asked}");
    }
    server.close(crate::support::PATIENCE).await.unwrap();
    while let Some(datagram) = victim.heard() {
        heard += datagram.len();
    }
    assert!(0 < heard && heard <= 3 * asked, "{heard} bytes for {asked}");
    assert!(*refused.lock().unwrap() > 0);
}

/// Ends of ours prove their addresses by themselves: the first large answer is refused, a later one passes.
#[tokio::test]
async fn a_large_answer_passes_once_the_address_is_proved() {
    let world = MemTransport::new();
    let (server, client) =
        (end(&world, "server", Wire::Native).await, end(&world, "client", Wire::Native).await);
    let large = "x".repeat(1_000);
    let answer = large.clone();
    server.on("ask", move |_: Event<()>, reply: DatagramReply| {
        let _ = reply.emit("answer", &answer);
        std::future::ready(())
    });
    let mut answers = client.events::<String>("answer", 8).unwrap();
    client.emit_bare(name("server"), "ask").unwrap();
    until("the refusal", || server.counters().unproved == 1).await;
    until("the proof", || server.peers().iter().all(|peer| peer.is_proved())).await;
    assert_eq!(server.broadcast("answer", &large), Ok(1));
    client.emit_bare(name("server"), "ask").unwrap();
    for _ in 0..2 {
        assert_eq!(*soon("the answer", answers.next()).await.unwrap().0, large);
    }
    assert_eq!(server.counters().unproved, 1);
}

/// Nor does a wrong proof count, nor does it make an end say anything.
#[tokio::test]
async fn strangers_and_wrong_proofs_are_not_answered() {
    let world = MemTransport::new();
    let server = end(&world, "server", Wire::Native).await;
    let mut heard = server.all_events(8).unwrap();
    let mut peer = Bare::mem(&world, "peer").await;
    for kind in [2_u8, 3] {
        for echo in [0, 1, u64::MAX] {
            let mut datagram = native("", "", echo)[..24].to_vec();
            (datagram[4], datagram[5]) = (kind, 0);
            peer.say(server.endpoint(), datagram).await;
        }
    }
    until("all of them", || server.counters().received == 6).await;
    assert_eq!((server.peers().len(), server.counters().malformed), (0, 0));
    peer.say(server.endpoint(), native("m", "x", 12_345)).await;
    let (_, reply) = soon("the event", heard.next()).await.unwrap();
    assert!(!reply.is_proved());
    reply.emit("end", &()).unwrap();
    let end = peer.hear().await;
    assert_eq!(&end[24..27], b"end", "nothing came before it");

    // What it repeats now is right.
    let token: [u8; 8] = end[8..16].try_into().unwrap();
    peer.say(server.endpoint(), native("m", "x", u64::from_le_bytes(token))).await;
    let (_, reply) = soon("the event", heard.next()).await.unwrap();
    assert!(reply.is_proved());
    reply.emit("large", &"x".repeat(1_000)).unwrap();
    assert!(peer.hear().await.len() > 1_000);
}
