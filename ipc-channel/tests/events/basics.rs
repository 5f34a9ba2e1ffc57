//! The examples of the sources, and what each of their sentences promises.

use std::time::Duration;

use tokio::sync::mpsc;

use crate::support::{Place, client, endpoints, named, server, soon};

/// N-01, N-02, N-06: the examples of node-ipc's README over a Unix socket and over TCP; the handler answers through the
/// handle that it was given.
#[tokio::test]
async fn hello_hears_hello_world() {
    let place = Place::new();
    for at in endpoints(&place) {
        let world = server(&at).await;
        world.on("message", async |data: ipc_channel::Event<String>, reply| {
            let reply: ipc_channel::events::Reply = reply;
            reply.emit("message", &format!("{} world!", *data)).await.unwrap();
        });
        let hello = client(&world).await;
        let mut answers = hello.events::<String>("message", 8).unwrap();
        hello.emit("message", "hello").await.unwrap();
        let (answer, _) = soon("the answer", answers.next()).await.unwrap();
        assert_eq!(*answer, "hello world!");
    }
}

/// N-07: an event for one client reaches that one alone, by its id and by its name.
#[tokio::test]
async fn an_event_for_one_client_reaches_that_one_alone() {
    let place = Place::new();
    let world = server(&place.unix("world")).await;
    let (a, b, c) = (named(&world, "a").await, named(&world, "b").await, client(&world).await);
    let (told, mut heard) = mpsc::unbounded_channel();
    for (label, client) in [("a", &a), ("b", &b), ("c", &c)] {
        let told = told.clone();
        client.on("note", move |event: ipc_channel::Event<u32>, _| {
            let told = told.clone();
            async move { told.send((label, *event)).unwrap() }
        });
    }
    world.emit("b", "note", &1_u32).await.unwrap();
    world.emit(c.id(), "note", &2_u32).await.unwrap();
    let mut both =
        [soon("the first", heard.recv()).await.unwrap(), soon("the second", heard.recv()).await.unwrap()];
    both.sort_unstable();
    assert_eq!(both, [("b", 1), ("c", 2)]);
    for client in [a, b, c] {
        client.close(Duration::from_secs(30)).await.unwrap();
    }
    assert!(heard.try_recv().is_err(), "nobody else heard anything");
}
