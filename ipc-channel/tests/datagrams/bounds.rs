//! Bounds: what waits, who is remembered, and what happens beyond.

use std::{num::NonZeroUsize, sync::Arc};

use ipc_channel::{
    Event,
    events::{DatagramReply, Datagrams, Wire},
};
use ipc_testkit::MemTransport;
use tokio::sync::{Notify, mpsc};

use crate::support::{config, end, name, soon, until};

fn count(number: usize) -> NonZeroUsize {
    NonZeroUsize::new(number).unwrap()
}

#[tokio::test]
async fn behind_a_slow_handler_a_loud_peer_has_a_quarter_of_the_room_and_the_rest_is_dropped() {
    let world = MemTransport::new();
    let server = Datagrams::start(config(&world, "server").inbox(count(8))).await.unwrap();
    let (go, (began, mut begun)) = (Arc::new(Notify::new()), mpsc::unbounded_channel());
    let wait = go.clone();
    server.on("n", move |number: Event<u32>, reply: DatagramReply| {
        let (began, wait) = (began.clone(), wait.clone());
        async move {
            began.send((*number, reply.address().to_string())).unwrap();
            wait.notified().await;
        }
    });
    let (loud, quiet) = (end(&world, "loud", Wire::Native).await, end(&world, "quiet", Wire::Native).await);
    loud.emit(name("server"), "n", &0_u32).unwrap();
    let mut heard = vec![soon("the first", begun.recv()).await.unwrap()];
    for number in 1..50_u32 {
        loud.emit(name("server"), "n", &number).unwrap();
    }
    until("the flood", || server.counters().received == 50).await;
    quiet.emit(name("server"), "n", &99_u32).unwrap();
    until("the quiet one", || server.counters().received == 51).await;
    assert_eq!(server.counters().overrun, 47);
    while heard.len() < 4 {
        go.notify_one();
        heard.push(soon("the next", begun.recv()).await.unwrap());
    }
    let heard: Vec<_> = heard.iter().map(|(number, from)| (*number, &**from)).collect();
    assert_eq!(heard, [(0, "loud"), (1, "loud"), (2, "loud"), (99, "quiet")]);
}

#[tokio::test]
async fn what_comes_faster_than_it_leaves_is_dropped_from_its_oldest_end() {
    let world = MemTransport::new();
    let server = end(&world, "server", Wire::node_ipc()).await;
    let mut heard = server.events::<u32>("n", 8).unwrap();
    let client = Datagrams::start(config(&world, "client").wire(Wire::node_ipc()).outbox(count(2)));
    let client = client.await.unwrap();
    // Nothing is awaited, so nothing leaves.
    for number in 0..10_u32 {
        client.emit(name("server"), "n", &number).unwrap();
    }
    assert_eq!(client.counters().dropped, 8);
    for number in [8, 9] {
        assert_eq!(*soon("the newest", heard.next()).await.unwrap().0, number);
    }
    until("both", || client.counters().sent == 2).await;
}

#[tokio::test]
async fn no_more_peers_are_remembered_than_may_be() {
    let world = MemTransport::new();
    let server = Datagrams::start(config(&world, "server").wire(Wire::node_ipc()).max_peers(count(2)));
    let server = server.await.unwrap();
    let mut heard = server.events::<()>("hi", 8).unwrap();
    let mut replies = Vec::new();
    for label in ["a", "b", "c"] {
        let peer = end(&world, label, Wire::node_ipc()).await;
        peer.emit_bare(name("server"), "hi").unwrap();
        let (_, reply) = soon("the greeting", heard.next()).await.unwrap();
        replies.push((peer, reply));
    }
    let known: Vec<_> = server.peers().iter().map(|peer| peer.address().to_string()).collect();
    assert_eq!((known, server.counters().forgotten), (vec!["b".to_owned(), "c".to_owned()], 1));
    assert_eq!(server.broadcast("news", &1_u32), Ok(2));
    // Whoever is forgotten can be answered all the same.
    let (peer, reply) = &replies[0];
    let mut news = peer.events::<u32>("news", 8).unwrap();
    reply.emit("news", &2_u32).unwrap();
    assert_eq!(*soon("the answer", news.next()).await.unwrap().0, 2);
}
