//! What clients say to each other by way of their server, and who is there.

use std::{collections::BTreeSet, time::Duration};

use futures_util::future::join_all;
use ipc_channel::{
    Event, EventStream, Payload,
    events::{CallError, Client, Directory, Reply},
};

use crate::support::{Place, client, named, server, soon};

const LONG: Duration = Duration::from_secs(60);

type All = EventStream<Payload, Reply>;

fn listen(client: &Client) -> All {
    client.all_events(64).unwrap()
}

/// The next event: its name, its value, and who sent it.
async fn next(events: &mut All) -> (String, u32, Option<String>) {
    let (event, _) = soon("an event", events.next()).await.unwrap();
    (event.name().to_owned(), event.decode().unwrap(), event.from().map(ToOwned::to_owned))
}

fn note(value: u32, from: &str) -> (String, u32, Option<String>) {
    ("note".to_owned(), value, Some(from.to_owned()))
}

fn end() -> (String, u32, Option<String>) {
    ("end".to_owned(), 0, None)
}

/// I-13: an event from one client to another reaches that one alone, by name and by id, in order and with the sender's
/// name as the server knows it; for a name that nobody has there is an error.
#[tokio::test]
async fn an_event_between_clients_reaches_the_named_one_alone() {
    let place = Place::new();
    let server = server(&place.unix("world")).await;
    let (a, b, c) = (named(&server, "a").await, named(&server, "b").await, client(&server).await);
    let mut heard = [listen(&a), listen(&b), listen(&c)];
    for number in 0..20 {
        a.emit_to("b", "note", &number, LONG).await.unwrap();
    }
    c.emit_to(a.id(), "note", &7_u32, LONG).await.unwrap();
    a.emit_to(c.id(), "note", &8_u32, LONG).await.unwrap();
    let unknown = CallError::UnknownClient { client: "nobody".to_owned() };
    assert_eq!(a.emit_to("nobody", "note", &9_u32, LONG).await, Err(unknown));
    for client in [&a, &b, &c] {
        server.emit(client.id(), "end", &0_u32).await.unwrap();
    }
    assert_eq!(next(&mut heard[0]).await, note(7, c.id()));
    assert_eq!(next(&mut heard[0]).await, end());
    for number in 0..20 {
        assert_eq!(next(&mut heard[1]).await, note(number, "a"));
    }
    assert_eq!(next(&mut heard[1]).await, end());
    assert_eq!(next(&mut heard[2]).await, note(8, "a"));
    assert_eq!(next(&mut heard[2]).await, end());
}

/// I-14: a client's broadcast reaches all others, and itself too if it says so; a server's reaches everybody.
#[tokio::test]
async fn a_broadcast_reaches_all_others_and_the_sender_only_if_wanted() {
    let place = Place::new();
    let server = server(&place.unix("world")).await;
    let clients = [named(&server, "a").await, named(&server, "b").await, client(&server).await];
    let mut heard = clients.each_ref().map(listen);
    assert_eq!(clients[0].broadcast("note", &1_u32, LONG).await, Ok(2));
    assert_eq!(clients[0].broadcast_including_self("note", &2_u32, LONG).await, Ok(3));
    assert_eq!(server.broadcast("end", &0_u32).await, Ok(3));
    for (index, events) in heard.iter_mut().enumerate() {
        if index != 0 {
            assert_eq!(next(events).await, note(1, "a"));
        }
        assert_eq!(next(events).await, note(2, "a"));
        assert_eq!(next(events).await, end());
    }
}

/// I-15: who is there and what can be said is told to everybody who asks, however many ask at once.
#[tokio::test]
async fn everybody_who_asks_at_once_is_told_who_is_there() {
    let place = Place::new();
    let server = server(&place.unix("world")).await;
    let clients = [named(&server, "b").await, named(&server, "a").await, client(&server).await];
    let silent = async |_: Event<()>, _: Reply| {};
    server.on("tock", silent);
    server.on("tick", silent);
    server.on("tick", silent);
    server.on_any(async |_: Event<Payload>, _: Reply| {});
    server.respond("add", async |_: Event<()>, _: Reply| Ok::<_, String>(())).unwrap();
    let asked = clients.iter().cycle().take(90).map(|client| client.discover(LONG));
    let found: Vec<Directory> =
        soon("all answers", join_all(asked)).await.into_iter().map(Result::unwrap).collect();
    let mut names = vec!["a", "b", clients[2].id()];
    names.sort_unstable();
    for found in found {
        assert_eq!(found.clients, names);
        assert_eq!(found.events, ["tick", "tock"]);
        assert_eq!(found.requests, ["add"]);
    }
    // Whoever leaves is not there any more.
    let [_, a, _] = clients;
    let gone = server.client("a").unwrap();
    a.close(LONG).await.unwrap();
    let (left, mut departures) = tokio::sync::mpsc::unbounded_channel();
    if gone.is_connected() {
        server.on_disconnect(move |departure| {
            let _ = left.send(departure);
            async {}
        });
    }
    while gone.is_connected() {
        soon("the leaving", departures.recv()).await;
    }
    let here: BTreeSet<_> =
        server.clients().iter().map(|client| client.name().map(ToOwned::to_owned)).collect();
    assert_eq!(here, BTreeSet::from([None, Some("b".to_owned())]));
}
