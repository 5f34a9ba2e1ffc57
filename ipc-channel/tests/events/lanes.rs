//! What is kept, what waits for whom, and what becomes of it when one side is slow, stopped, killed or not there yet.

use std::{future::ready, num::NonZeroUsize, time::Duration};

use ipc_channel::{
    Event,
    events::{CallError, Client, ClientConfig, ConnectError, EmitError, Reply, Server, ServerConfig},
};
use ipc_pipeline::{FullPolicy, protocol::Refusal};
use ipc_testkit::{FaultPlan, Faulty, MemTransport, Rule};
use ipc_transport::{Endpoint, Error, UnixTransport};
use tokio::sync::{mpsc, watch};

use crate::{
    roles::{Life, Sat, sitting_client, sitting_server},
    support::{Place, client, config, named, server, soon},
};

const LONG: Duration = Duration::from_secs(60);

fn count(number: usize) -> NonZeroUsize {
    NonZeroUsize::new(number).unwrap()
}

/// I-09: whatever a client says before its server exists is kept in order and told when it starts, whatever the way of
/// saying it; nothing has to be said again.
#[tokio::test]
async fn what_is_said_before_the_server_exists_arrives_in_order() {
    let place = Place::new();
    let at = place.unix("world");
    let client = Client::start(ClientConfig::new("world").endpoint(at.clone()).name("me")).unwrap();
    let mut notes = client.all_events(64).unwrap();
    for number in 0..1_000_u32 {
        client.emit("number", &number).await.unwrap();
    }
    assert_eq!(client.pending(), 1_000);
    let to_one = client.emit_to("me", "note", &1_u8, LONG);
    let to_all = client.broadcast_including_self("note", &2_u8, LONG);
    let asked = client.call::<_, u32>("double", &21_u32, LONG);
    let found = client.discover(LONG);
    let unknown = client.call::<_, u32>("triple", &21_u32, LONG);
    let starting = async {
        let server = server(&at).await;
        let numbers = server.events::<u32>("number", 2_000).unwrap();
        server.respond("double", |number: Event<u32>, _: Reply| ready(Ok::<_, String>(*number * 2))).unwrap();
        (server, numbers)
    };
    let (to_one, to_all, asked, found, unknown, (_server, mut numbers)) =
        soon("the answers", async { tokio::join!(to_one, to_all, asked, found, unknown, starting) }).await;
    assert_eq!((to_one, to_all, asked), (Ok(()), Ok(1), Ok(42)));
    let found = found.unwrap();
    assert_eq!(
        (found.clients, found.events, found.requests),
        (vec!["me".to_owned()], vec!["number".to_owned()], vec!["double".to_owned()])
    );
    assert_eq!(unknown, Err(CallError::UnknownRequest { name: "triple".to_owned() }));
    for number in 0..1_000 {
        let (event, _) = soon("a number", numbers.next()).await.unwrap();
        assert_eq!((*event, event.redelivered()), (number, false));
    }
    let mut heard = Vec::new();
    for _ in 0..2 {
        let (event, _) = soon("a note", notes.next()).await.unwrap();
        heard.push((event.from().map(ToOwned::to_owned), event.decode::<u8>().unwrap()));
    }
    heard.sort_unstable();
    assert_eq!(heard, [(Some("me".to_owned()), 1), (Some("me".to_owned()), 2)]);
}

/// I-10: what is kept is bounded, and the policy says what becomes of the rest: it waits, fails, or is dropped and
/// counted.
#[tokio::test]
async fn beyond_the_capacity_the_policy_applies_and_is_counted() {
    let place = Place::new();
    for (policy, kept, dropped) in [
        (FullPolicy::Wait, vec![0, 1, 2, 3], 0),
        (FullPolicy::Fail, vec![0, 1, 2, 3], 0),
        (FullPolicy::DropOldest, vec![2, 3, 4, 5], 2),
        (FullPolicy::DropNewest, vec![0, 1, 2, 3], 2),
    ] {
        let at = place.unix(&format!("{policy:?}"));
        let config = ClientConfig::new("world").endpoint(at.clone()).capacity(count(4)).policy(policy);
        let client = Client::start(config).unwrap();
        for number in 0..4_u32 {
            client.emit("number", &number).await.unwrap();
        }
        for number in 4..6_u32 {
            let said = tokio::time::timeout(Duration::from_millis(5), client.emit("number", &number)).await;
            match policy {
                FullPolicy::Wait => assert!(said.is_err(), "it waits"),
                FullPolicy::Fail => assert_eq!(said.unwrap(), Err(EmitError::Full)),
                _ => assert_eq!(said.unwrap(), Ok(())),
            }
        }
        if matches!(policy, FullPolicy::Wait | FullPolicy::Fail) {
            assert_eq!(client.try_emit("number", &6_u32), Err(EmitError::Full));
        }
        assert_eq!((client.pending(), client.counters().dropped), (4, dropped), "{policy:?}");
        let server = server(&at).await;
        let mut numbers = server.events::<u32>("number", 8).unwrap();
        for number in kept {
            assert_eq!(*soon("a number", numbers.next()).await.unwrap().0, number, "{policy:?}");
        }
        soon("the last release", client.settled()).await.unwrap();
        assert_eq!(client.pending(), 0);
        client.close(LONG).await.unwrap();
    }
}

/// A server whose broadcasts have room for few, and drop the oldest ones.
async fn narrow(at: &Endpoint) -> Server {
    let config = ServerConfig::new("world").endpoint(at.clone()).broadcast_capacity(count(16));
    Server::start(config).await.unwrap()
}

/// I-07, X-15: a client whose handler does not return holds up nobody: the private messages, the broadcasts and the
/// handshakes of the others go on. Its own queue obeys the policy, and in the end every event was either taken or counted
/// as missed.
#[tokio::test]
async fn a_client_that_hangs_in_a_handler_holds_up_nobody() {
    let place = Place::new();
    let server = narrow(&place.unix("world")).await;
    let stuck = named(&server, "stuck").await;
    let (open, gate) = watch::channel(false);
    stuck.on("tick", move |_: Event<u64>, _: Reply| {
        let mut gate = gate.clone();
        async move { drop(gate.wait_for(|open| *open).await) }
    });
    others_go_on(&server).await;
    let handle = server.client("stuck").unwrap();
    assert!(handle.dropped() > 0, "its queue is full");
    open.send(true).unwrap();
    soon("the rest", handle.settled()).await.unwrap();
    let counters = stuck.counters();
    assert_eq!(counters.missed, handle.dropped());
    assert_eq!(counters.handlers.dispatched + counters.missed, TICKS);
}

/// I-07, X-15: the same for a client whose whole process stands still.
#[tokio::test]
async fn a_client_whose_process_is_stopped_holds_up_nobody() {
    let place = Place::new();
    let server = narrow(&place.unix("world")).await;
    let mut stopped = sitting_client(&Life::new(server.endpoint(), "stopped"));
    assert_eq!(stopped.recv::<Sat>().await.unwrap(), Sat::Connected);
    stopped.stop();
    others_go_on(&server).await;
    let handle = server.client("stopped").unwrap();
    assert!(handle.dropped() > 0, "its queue is full");
    stopped.resume();
    soon("the rest", handle.settled()).await.unwrap();
    server.emit("stopped", "count", &()).await.unwrap();
    match stopped.recv::<Sat>().await.unwrap() {
        Sat::Counts { taken, missed } => {
            assert_eq!(missed, handle.dropped());
            assert_eq!(taken + missed, TICKS);
        }
        other => panic!("{other:?}"),
    }
}

/// Broadcasts that [`others_go_on`] makes.
const TICKS: u64 = 2_000;

/// Somebody is stuck: others come, hear every broadcast, and are told things of their own.
async fn others_go_on(server: &Server) {
    let quick = named(server, "quick").await;
    let mut ticks = quick.events::<u64>("tick", 64).unwrap();
    let mut notes = quick.events::<u64>("note", 64).unwrap();
    quick.respond("double", |number: Event<u64>, _: Reply| ready(Ok::<_, String>(*number * 2))).unwrap();
    for number in 0..TICKS {
        assert_eq!(server.broadcast("tick", &number).await, Ok(2));
        assert_eq!(*soon("a broadcast", ticks.next()).await.unwrap().0, number);
        if number % 100 == 0 {
            server.emit("quick", "note", &number).await.unwrap();
            assert_eq!(*soon("an event", notes.next()).await.unwrap().0, number);
            assert_eq!(server.call("quick", "double", &number, LONG).await, Ok(number * 2));
        }
    }
    // A handshake of somebody new, who leaves again.
    let new = client(server).await;
    assert_eq!(new.discover(LONG).await.unwrap().clients.len(), 3);
    new.close(LONG).await.unwrap();
    quick.close(LONG).await.unwrap();
}

/// I-11: a server that is killed in the middle and started again gets everything that it had not released, in order:
/// what it had released is not repeated, what it may have seen is flagged, and what was sent meanwhile is not.
#[tokio::test]
async fn a_server_that_was_killed_gets_what_it_had_not_released() {
    let place = Place::new();
    let at = place.unix("world");
    let life = Life::new(&at, "world");
    let mut first = sitting_server(&life);
    assert_eq!(first.recv::<Sat>().await.unwrap(), Sat::Connected);
    let client = Client::start(ClientConfig::new("world").endpoint(at)).unwrap();
    let (lost, mut losses) = mpsc::unbounded_channel();
    client.on_disconnect(move |reason| {
        lost.send(reason).unwrap();
        ready(())
    });
    for number in 0..400_u64 {
        client.emit("number", &number).await.unwrap();
    }
    let mut seen = Vec::new();
    while seen.len() < 50 {
        seen.push(event(first.recv::<Sat>().await.unwrap()));
    }
    first.kill();
    soon("the hang-up", losses.recv()).await.unwrap();
    // What it had said before it died.
    while let Ok(said) = first.recv::<Sat>().await {
        seen.push(event(said));
    }
    assert!(seen.iter().copied().eq((0..seen.len() as u64).map(|number| (number, false))), "{seen:?}");
    let released = 400 - client.pending() as u64;
    for number in 400..500_u64 {
        client.emit("number", &number).await.unwrap();
    }
    let mut second = sitting_server(&life);
    assert_eq!(second.recv::<Sat>().await.unwrap(), Sat::Connected);
    let asked = soon("the answer", client.call::<_, u64>("double", &21_u64, LONG)).await;
    assert_eq!(asked, Ok(42), "calls go on as well");
    for expected in released..500 {
        let (number, redelivered) = event(second.recv::<Sat>().await.unwrap());
        assert_eq!(number, expected);
        if number < seen.len() as u64 {
            assert!(redelivered, "{number} was seen before");
        }
        assert!(number < 400 || !redelivered, "{number} was sent to nobody before");
    }
    soon("the last release", client.settled()).await.unwrap();
    assert_eq!(client.counters().connects, 2);
}

fn event(said: Sat) -> (u64, bool) {
    match said {
        Sat::Event { number, redelivered } => (number, redelivered),
        other => panic!("{other:?}"),
    }
}

/// I-11: a client outlives any number of servers, and hears each of them.
#[tokio::test]
async fn a_client_outlives_many_servers() {
    let place = Place::new();
    let at = place.unix("world");
    let client = Client::start(ClientConfig::new("world").endpoint(at.clone()).name("sam")).unwrap();
    let mut ticks = client.events::<u32>("tick", 64).unwrap();
    for life in 0..30_u32 {
        let server = soon("the address", next_server(&at)).await;
        let mut told = server.events::<u32>("life", 64).unwrap();
        client.emit("life", &life).await.unwrap();
        let (mut event, mut sam) = soon("the client", told.next()).await.unwrap();
        if life > 0 && *event == life - 1 {
            assert!(
                event.redelivered() && life % 2 == 0,
                "a server that closes releases what it has handled"
            );
            (event, sam) = soon("the client", told.next()).await.unwrap();
        }
        assert_eq!((*event, event.redelivered()), (life, false));
        sam.emit("tick", &life).await.unwrap();
        assert_eq!(*soon("the server", ticks.next()).await.unwrap().0, life);
        assert_eq!(server.broadcast("tick", &life).await, Ok(1), "life {life}");
        assert_eq!(*soon("the broadcast", ticks.next()).await.unwrap().0, life);
        // Every other one goes without a word.
        if life % 2 == 0 {
            soon("the end", server.close(LONG)).await.unwrap();
        }
    }
}

/// A server at the address of one that is about to be gone.
async fn next_server(at: &Endpoint) -> Server {
    loop {
        match Server::start(ServerConfig::new("world").endpoint(at.clone())).await {
            Err(Error::AddrInUse { .. }) => tokio::task::yield_now().await,
            started => return started.unwrap(),
        }
    }
}

/// I-19: values of every shape arrive as they were, whatever is in them, also when every byte comes by itself.
#[tokio::test]
async fn values_of_every_shape_arrive_intact_byte_by_byte() {
    let place = Place::new();
    for codec in [ipc_channel::PayloadCodec::Json, ipc_channel::PayloadCodec::Bincode] {
        let byte_by_byte = FaultPlan::new(19).with(Rule::split_at_every_byte());
        let wire = Faulty::new(UnixTransport::new(), byte_by_byte);
        let (server, client) = pair(&place.unix(codec.id()), wire, codec).await;
        echo(&server);
        for text in ["", "}{", "{\"a\":1}{\"b\":2}", "\u{c}", "\0", "grüße 🦀", "line\r\nline", "\"", "\\"]
        {
            assert_eq!(client.call::<_, String>("text", text, LONG).await.as_deref(), Ok(text));
        }
        let numbers: Vec<i64> = vec![0, -1, i64::MIN, i64::MAX];
        assert_eq!(client.call::<_, Vec<i64>>("numbers", &numbers, LONG).await, Ok(numbers));
        assert_eq!(
            client.call::<_, (bool, Option<u8>, ())>("shapes", &(false, None::<u8>, ()), LONG).await,
            Ok((false, None, ()))
        );
    }
}

/// I-19: a text of 1 MiB, the limit being a little above, arrives whole from small and large pieces.
#[tokio::test]
async fn a_text_of_a_mebibyte_arrives_whole() {
    let place = Place::new();
    for most in [1_000, 65_537] {
        let pieces = FaultPlan::new(19).with(Rule::split(count(most)));
        let wire = Faulty::new(UnixTransport::new(), pieces);
        let at = place.unix(&format!("w{most}"));
        let (server, client) = pair(&at, wire, ipc_channel::PayloadCodec::Bincode).await;
        echo(&server);
        let text: String = "}{ü".chars().cycle().take(1024 * 1024 * 3 / 4).collect();
        assert_eq!(text.len(), 1024 * 1024);
        assert_eq!(client.call::<_, String>("text", &text, LONG).await.unwrap(), text);
        let mut heard = client.events::<String>("text", 1).unwrap();
        server.broadcast("text", &text).await.unwrap();
        assert_eq!(*soon("the text", heard.next()).await.unwrap().0, text);
        let larger = "x".repeat(3 * 1024 * 1024);
        assert!(matches!(client.emit("text", &larger).await, Err(EmitError::TooLarge { .. })));
        assert!(matches!(server.broadcast("text", &larger).await, Err(EmitError::TooLarge { .. })));
    }
}

/// A server and a client over this transport.
async fn pair<T>(at: &Endpoint, wire: Faulty<T>, codec: ipc_channel::PayloadCodec) -> (Server, Client)
where
    Faulty<T>: ipc_transport::Transport + Clone,
{
    let limits = ipc_transport::Limits::default().with_max_message(2 * 1024 * 1024);
    let server_config = ServerConfig::new("world")
        .endpoint(at.clone())
        .transport(wire.clone())
        .limits(limits.clone())
        .codec(codec);
    let server = Server::start(server_config).await.unwrap();
    let client = Client::start(config(&server).transport(wire).limits(limits).codec(codec)).unwrap();
    soon("the connection", client.connected()).await.unwrap();
    (server, client)
}

/// Answers with what it was asked.
fn echo(server: &Server) {
    server
        .respond("text", |text: Event<String>, _: Reply| ready(Ok::<_, String>(text.into_value())))
        .unwrap();
    server
        .respond("numbers", |numbers: Event<Vec<i64>>, _: Reply| ready(Ok::<_, String>(numbers.into_value())))
        .unwrap();
    server
        .respond("shapes", |shapes: Event<(bool, Option<u8>, ())>, _: Reply| {
            ready(Ok::<_, String>(shapes.into_value()))
        })
        .unwrap();
}

/// with a heartbeat a client notices that its server's process stands still, and is back when it goes on.
#[tokio::test]
async fn a_heartbeat_notices_a_stopped_server() {
    let place = Place::new();
    let at = place.unix("world");
    let mut stopped = sitting_server(&Life::new(&at, "world"));
    assert_eq!(stopped.recv::<Sat>().await.unwrap(), Sat::Connected);
    let config = ClientConfig::new("world").endpoint(at).heartbeat(Duration::from_secs(5));
    let client = Client::start(config).unwrap();
    let (lost, mut losses) = mpsc::unbounded_channel();
    client.on_disconnect(move |reason| {
        lost.send(reason).unwrap();
        ready(())
    });
    // Once there was an answer, the heartbeat has begun.
    assert_eq!(soon("the answer", client.call::<_, u64>("double", &3_u64, LONG)).await, Ok(6));
    stopped.stop();
    soon("the missing sign of life", losses.recv()).await.unwrap();
    stopped.resume();
    assert_eq!(soon("the answer", client.call::<_, u64>("double", &4_u64, LONG)).await, Ok(8));
}

/// a connection that nobody uses moves no byte in an hour; with a heartbeat it does, and it stays.
#[tokio::test(start_paused = true)]
async fn nothing_flows_when_idle_unless_there_is_a_heartbeat() {
    for heartbeat in [None, Some(Duration::from_secs(60))] {
        let wire = Faulty::new(MemTransport::new(), FaultPlan::new(25));
        let handle = wire.handle();
        let at: Endpoint = "mem:world".parse().unwrap();
        let server_config = ServerConfig::new("world").endpoint(at).transport(wire.clone());
        let server = Server::start(server_config).await.unwrap();
        let mut client_config = config(&server).transport(wire);
        if let Some(interval) = heartbeat {
            client_config = client_config.heartbeat(interval);
        }
        let client = Client::start(client_config).unwrap();
        client.connected().await.unwrap();
        tokio::time::sleep(Duration::from_secs(30)).await;
        let before = handle.counters();
        tokio::time::sleep(Duration::from_secs(3600)).await;
        assert_eq!(handle.counters() != before, heartbeat.is_some());
        assert_eq!(client.counters().connects, 1);
        assert!(client.is_connected());
    }
}

/// A server that ends waits for nobody who has left, and counts no events where there were none.
#[tokio::test]
async fn a_server_that_closes_does_not_wait_for_those_who_are_gone() {
    let place = Place::new();
    let server = server(&place.unix("world")).await;
    let leaving = named(&server, "leaving").await;
    let staying = named(&server, "staying").await;
    drop(leaving);
    let dead = Client::start(config(&server)).unwrap();
    soon("the connection", dead.connected()).await.unwrap();
    dead.abort().await;
    assert_eq!(server.close(Duration::from_secs(600)).await, Ok(()));
    assert_eq!(staying.close(Duration::from_secs(600)).await, Ok(()));
}

/// A client that comes while a server ends is turned away and tries elsewhere or later; it is not left with a connection
/// that nobody serves.
#[tokio::test]
async fn nobody_comes_in_while_a_server_closes() {
    let place = Place::new();
    let server = server(&place.unix("world")).await;
    let late = config(&server);
    let stuck = named(&server, "stuck").await;
    let (open, gate) = watch::channel(false);
    stuck.on("tick", move |_: Event<u64>, _: Reply| {
        let mut gate = gate.clone();
        async move { drop(gate.wait_for(|open| *open).await) }
    });
    for number in 0..100_u64 {
        server.emit("stuck", "tick", &number).await.unwrap();
    }
    let closing = tokio::spawn(server.close(LONG * 10));
    // It begins with the first poll.
    tokio::task::yield_now().await;
    let late = Client::start(late).unwrap();
    let (failed, mut failures) = mpsc::unbounded_channel();
    late.on_attempt_failed(move |failure| {
        let _ = failed.send(failure.error);
        ready(())
    });
    let failure = soon("the refusal", failures.recv()).await.unwrap();
    assert!(matches!(&*failure, ConnectError::Refused(Refusal::Busy)), "{failure:?}");
    open.send(true).unwrap();
    assert_eq!(soon("the end", closing).await.unwrap(), Ok(()));
    assert_eq!(late.counters().connects, 0);
}
