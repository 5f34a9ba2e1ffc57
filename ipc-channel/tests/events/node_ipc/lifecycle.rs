//! Connections that come and go on this wire.

use std::time::Duration;

use ipc_channel::events::{Client, GaveUp, NodeIpc, RetryPolicy, Server, ServerConfig, Wire};
use tokio::{io::AsyncReadExt as _, net::UnixStream, sync::mpsc};

use super::{away, client, departures, world};
use crate::support::{Place, soon};

/// N-13, N-18: attempts that fail are told as such and never as a disconnect; after one more than may be repeated the
/// client gives up and is destroyed, in this order, and nothing follows.
#[tokio::test]
async fn a_client_without_a_server_tells_its_attempts_and_its_end() {
    let place = Place::new();
    let config =
        away(&place, Wire::node_ipc()).retry(RetryPolicy::Every(Duration::from_millis(1))).max_retries(3);
    let alone = Client::start(config).unwrap();
    let mut heard = life(&alone);
    for attempt in 1..=4 {
        assert_eq!(soon("an attempt", heard.recv()).await.unwrap(), format!("failed {attempt}"));
    }
    assert_eq!(soon("the end", heard.recv()).await.unwrap(), "gave up after 4");
    assert_eq!(soon("the end", heard.recv()).await.unwrap(), "destroyed");
    alone.abort().await;
    assert!(heard.try_recv().is_err());
}

/// N-17, N-20: a server is started and ended 20 times; the client is there each time, its handlers stay, and what it said
/// meanwhile comes first.
#[tokio::test]
async fn a_client_comes_back_to_twenty_servers() {
    let place = Place::new();
    let hello = Client::start(away(&place, Wire::node_ipc())).unwrap();
    let mut echoes = hello.events::<u32>("echo", 8).unwrap();
    for life in 0..20 {
        hello.emit("echo", &life).await.unwrap();
        let world = world(&place, NodeIpc::default()).await;
        world.on("echo", async |number: ipc_channel::Event<u32>, reply: ipc_channel::events::Reply| {
            reply.emit("echo", &*number).await.unwrap();
        });
        let (echo, _) = soon("the echo", echoes.next()).await.unwrap();
        assert_eq!(*echo, life);
        world.close(Duration::from_secs(60)).await.unwrap();
        let mut status = hello.status();
        let away = |status: &_| !matches!(status, ipc_channel::events::ClientStatus::Connected);
        soon("the disconnect", status.wait_for(away)).await.unwrap();
    }
    assert!(hello.counters().connects >= 20);
}

/// N-19, N-21: one that waits to try again stops at once when it is told to, or ended, and nothing follows.
#[tokio::test]
async fn a_client_that_waits_to_try_again_stops_at_once() {
    let place = Place::new();
    let waits = || {
        let config = away(&place, Wire::node_ipc()).retry(RetryPolicy::Every(Duration::from_secs(100_000)));
        let client = Client::start(config).unwrap();
        let heard = life(&client);
        (client, heard)
    };
    let (stops, mut heard) = waits();
    assert_eq!(soon("the attempt", heard.recv()).await.unwrap(), "failed 1");
    stops.stop_retrying();
    assert_eq!(soon("the end", heard.recv()).await.unwrap(), "gave up as told");
    assert_eq!(soon("the end", heard.recv()).await.unwrap(), "destroyed");
    let (ends, mut heard) = waits();
    assert_eq!(soon("the attempt", heard.recv()).await.unwrap(), "failed 1");
    soon("the end", ends.abort()).await;
    assert_eq!(soon("the end", heard.recv()).await.unwrap(), "destroyed");
    assert!(heard.try_recv().is_err());
}

/// N-21: an end that comes while an attempt is under way, or has just succeeded, is an end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_end_at_any_moment_of_a_connect_is_an_end() {
    let place = Place::new();
    let world = world(&place, NodeIpc::default()).await;
    for round in 0..200 {
        let hello = Client::start(away(&place, Wire::node_ipc())).unwrap();
        for _ in 0..round % 20 {
            tokio::task::yield_now().await;
        }
        soon("the end", hello.abort()).await;
    }
    assert_eq!(world.counters().refused, 0);
}

/// N-30: one more than may come in is hung up on and counted, as this wire has no word for it; a place that is free again
/// is usable.
#[tokio::test]
async fn one_client_too_many_is_hung_up_on_and_a_free_place_is_usable() {
    let place = Place::new();
    let config = ServerConfig::new("world").endpoint(place.unix("world")).wire(Wire::node_ipc());
    let world = Server::start(config.max_clients(2)).await.unwrap();
    let mut departures = departures(&world);
    let one = client(&world, NodeIpc::default()).await;
    let two = client(&world, NodeIpc::default()).await;
    // Both are in before the third comes.
    for known in [&one, &two] {
        known.emit("here", &1).await.unwrap();
        soon("the word", known.settled()).await.unwrap();
    }
    while world.clients().len() < 2 {
        tokio::task::yield_now().await;
    }
    let mut third = UnixStream::connect(place.file("world")).await.unwrap();
    let mut rest = Vec::new();
    soon("the hang-up", third.read_to_end(&mut rest)).await.unwrap();
    assert_eq!((rest.len(), world.counters().refused, world.clients().len()), (0, 1, 2));
    one.close(Duration::from_secs(60)).await.unwrap();
    soon("its end", departures.recv()).await.unwrap();
    let mut messages = world.events::<u32>("message", 4).unwrap();
    let fourth = client(&world, NodeIpc::default()).await;
    fourth.emit("message", &4).await.unwrap();
    assert_eq!(*soon("the message", messages.next()).await.unwrap().0, 4);
    assert_eq!(world.counters().refused, 1);
}

/// N-30: a client of ours does not come back again and again without a pause to a server that has no place for it: its
/// schedule goes on, as nothing ever came over its connections.
#[tokio::test]
async fn a_client_that_is_only_hung_up_on_keeps_to_its_schedule() {
    let place = Place::new();
    let config = ServerConfig::new("world").endpoint(place.unix("world")).wire(Wire::node_ipc());
    let world = Server::start(config.max_clients(1)).await.unwrap();
    let _holds = client(&world, NodeIpc::default()).await;
    while world.clients().is_empty() {
        tokio::task::yield_now().await;
    }
    let mut schedule = ipc_transport::BackoffConfig::local();
    // The very first wait is none, and the second has no end here.
    (schedule.first, schedule.quick_max) = (Duration::from_secs(100_000), Duration::from_secs(100_000));
    schedule.max = Duration::from_secs(100_000);
    let turned_away =
        Client::start(away(&place, Wire::node_ipc()).retry(RetryPolicy::Backoff(schedule))).unwrap();
    let mut heard = life(&turned_away);
    for _ in 0..2 {
        let began = std::time::Instant::now();
        assert_eq!(soon("the connection", heard.recv()).await.unwrap(), "connected");
        assert_eq!(soon("its end", heard.recv()).await.unwrap(), "disconnected: Lost");
        if began.elapsed() >= Duration::from_millis(900) {
            // The machine stood still: a connection that lasts a second counts as one, and this shows nothing.
            return turned_away.abort().await;
        }
    }
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    turned_away.abort().await;
    assert_eq!(soon("the end", heard.recv()).await.unwrap(), "destroyed");
    assert_eq!(world.counters().refused, 2);
}

/// What happens to a client, as text.
fn life(client: &Client) -> mpsc::UnboundedReceiver<String> {
    let (told, heard) = mpsc::unbounded_channel();
    let tell = |told: &mpsc::UnboundedSender<String>| {
        let told = told.clone();
        move |what: String| {
            let _ = told.send(what);
            async {}
        }
    };
    let (up, down, failed, gave_up, destroyed) =
        (tell(&told), tell(&told), tell(&told), tell(&told), tell(&told));
    client.on_connect(move |_| up("connected".to_owned()));
    client.on_disconnect(move |reason| down(format!("disconnected: {reason:?}")));
    client.on_attempt_failed(move |event| failed(format!("failed {}", event.attempt)));
    client.on_gave_up(move |why| {
        gave_up(match why {
            GaveUp::Retries { attempts, .. } => format!("gave up after {attempts}"),
            GaveUp::Stopped => "gave up as told".to_owned(),
            why => format!("{why:?}"),
        })
    });
    client.on_destroy(move |()| destroyed("destroyed".to_owned()));
    heard
}
