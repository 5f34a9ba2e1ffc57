//! Requests and their answers, every way in which there is none, and what is left behind: nothing.

use std::{
    future::{pending, ready},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures_util::{FutureExt as _, future::join_all};
use ipc_channel::{
    Event, PayloadCodec,
    events::{CallError, Client, Reply, Server, ServerConfig},
};
use ipc_testkit::{FaultPlan, Faulty, MemTransport};
use ipc_transport::Endpoint;
use tokio::sync::{Semaphore, mpsc, watch};

use crate::{
    roles::{Life, Sat, sitting_client, sitting_server},
    support::{Place, client, config, named, server, soon},
};

const LONG: Duration = Duration::from_secs(60);

/// I-16: a call brings back what its handler returns, at once or after waiting, from the server, from a client and from one
/// client to another; a handler may return nothing, which is `null` in JSON.
#[tokio::test]
async fn a_call_brings_back_what_its_handler_returns() {
    let place = Place::new();
    let at = place.unix("world");
    let json = ServerConfig::new("world").endpoint(at).codec(PayloadCodec::Json);
    let server = Server::start(json).await.unwrap();
    let start = async |name: &str| {
        let client = Client::start(config(&server).codec(PayloadCodec::Json).name(name)).unwrap();
        soon("the connection", client.connected()).await.unwrap();
        client
    };
    let (a, b) = (start("a").await, start("b").await);
    server.respond("double", |number: Event<i64>, _: Reply| ready(Ok::<_, String>(*number * 2))).unwrap();
    server.respond("nothing", async |_: Event<()>, _: Reply| Ok::<_, String>(())).unwrap();
    b.respond("who", async |question: Event<String>, _: Reply| {
        tokio::task::yield_now().await;
        Ok::<_, String>(format!("{}: b, asked by {:?}", *question, question.from()))
    })
    .unwrap();
    assert_eq!(a.call::<_, i64>("double", &-21_i64, LONG).await, Ok(-42));
    assert_eq!(a.call::<_, serde_json::Value>("nothing", &(), LONG).await, Ok(serde_json::Value::Null));
    assert_eq!(a.call::<_, ()>("nothing", &(), LONG).await, Ok(()));
    let by_server = server.call::<_, String>("b", "who", "who", LONG).await;
    assert_eq!(by_server.as_deref(), Ok("who: b, asked by None"));
    let by_client = a.call_client::<_, String>("b", "who", "who", LONG).await;
    assert_eq!(by_client.as_deref(), Ok("who: b, asked by Some(\"a\")"));
    let by_id = a.call_client::<_, String>(b.id(), "who", "who", LONG).await;
    assert_eq!(by_id, by_client);
}

/// I-17: every way to get no answer is an error of its own, for calls to the server, to a client, and from one client to
/// another.
#[tokio::test]
async fn every_way_to_get_no_answer_is_an_error_of_its_own() {
    let place = Place::new();
    let server = server(&place.unix("world")).await;
    let (a, b) = (named(&server, "a").await, named(&server, "b").await);
    failing(|name, handler| drop(server.respond(name, handler).unwrap()));
    failing(|name, handler| drop(b.respond(name, handler).unwrap()));
    let failed = || CallError::Failed { message: "no such thing".to_owned() };
    let unknown = || CallError::UnknownRequest { name: "unheard".to_owned() };
    for (name, expected) in [("fail", failed()), ("panic", CallError::Panicked), ("unheard", unknown())] {
        assert_eq!(soon(name, a.call::<_, u8>(name, &7_u8, LONG)).await, Err(expected.clone()));
        assert_eq!(soon(name, server.call::<_, u8>("b", name, &7_u8, LONG)).await, Err(expected.clone()));
        assert_eq!(soon(name, a.call_client::<_, u8>("b", name, &7_u8, LONG)).await, Err(expected));
    }
    let short = Duration::from_millis(1);
    assert_eq!(a.call::<_, u8>("wait", &7_u8, short).await, Err(CallError::TimedOut));
    assert_eq!(server.call::<_, u8>("b", "wait", &7_u8, short).await, Err(CallError::TimedOut));
    assert_eq!(a.call_client::<_, u8>("b", "wait", &7_u8, short).await, Err(CallError::TimedOut));
    // A value that the handler does not take, and an answer that the caller does not.
    assert!(matches!(a.call::<_, u8>("wait", "text", LONG).await, Err(CallError::Rejected { .. })));
    assert!(matches!(a.call::<_, String>("good", &7_u8, LONG).await, Err(CallError::Answer(_))));
    assert_eq!(a.call::<_, u8>("good", &7_u8, LONG).await, Ok(7), "it goes on");
    for nobody in ["nobody", ""] {
        let unknown = || CallError::UnknownClient { client: nobody.to_owned() };
        assert_eq!(server.call::<_, u8>(nobody, "good", &7_u8, LONG).await, Err(unknown()));
        assert_eq!(a.call_client::<_, u8>(nobody, "good", &7_u8, LONG).await, Err(unknown()));
    }
    assert_eq!((a.counters().connects, b.counters().connects), (1, 1));
}

/// Adds handlers that fail in their ways.
fn failing(add: impl Fn(&str, fn(Event<u8>, Reply) -> Answer)) {
    add("good", |event, _| async move { Ok(*event) }.boxed());
    add("fail", |_, _| async { Err("no such thing") }.boxed());
    add("panic", |_, _| async { panic!("a handler that panics") }.boxed());
    add("wait", |_, _| pending().boxed());
}

type Answer = futures_util::future::BoxFuture<'static, Result<u8, &'static str>>;

/// I-17, X-21: a call whose callee is killed fails as disconnected, wherever it came from; the caller goes on.
#[tokio::test]
async fn a_call_to_somebody_who_is_killed_fails_as_disconnected() {
    let place = Place::new();
    let server = server(&place.unix("world")).await;
    let a = named(&server, "a").await;
    for from_client in [false, true] {
        let mut callee = sitting_client(&Life::new(server.endpoint(), "callee"));
        assert_eq!(callee.recv::<Sat>().await.unwrap(), Sat::Connected);
        let asking = async {
            match from_client {
                true => a.call_client::<_, ()>("callee", "wait", &(), LONG * 10).await,
                false => server.call::<_, ()>("callee", "wait", &(), LONG * 10).await,
            }
        };
        let killing = async {
            assert_eq!(callee.recv::<Sat>().await.unwrap(), Sat::Asked);
            callee.kill();
        };
        let (asked, ()) = soon("the end of the call", async { tokio::join!(asking, killing) }).await;
        assert_eq!(asked, Err(CallError::Disconnected));
    }
    assert_eq!(a.discover(LONG).await.unwrap().clients, ["a"]);
}

/// all calls to a server that is killed fail as disconnected; those that are made later wait for the next server.
#[tokio::test]
async fn calls_to_a_server_that_is_killed_fail_as_disconnected() {
    let place = Place::new();
    let life = Life::new(&place.unix("world"), "world");
    let mut first = sitting_server(&life);
    assert_eq!(first.recv::<Sat>().await.unwrap(), Sat::Connected);
    let client = Client::start(
        ipc_channel::events::ClientConfig::new("world").endpoint(place.unix("world")).name("a"),
    )
    .unwrap();
    let (lost, mut losses) = mpsc::unbounded_channel();
    client.on_disconnect(move |reason| {
        lost.send(reason).unwrap();
        ready(())
    });
    let asking = join_all((0..20).map(|_| client.call::<_, ()>("wait", &(), LONG * 10)));
    let killing = async {
        for _ in 0..20 {
            assert_eq!(first.recv::<Sat>().await.unwrap(), Sat::Asked);
        }
        first.kill();
    };
    let (asked, ()) = soon("the end of the calls", async { tokio::join!(asking, killing) }).await;
    assert_eq!(asked, vec![Err(CallError::Disconnected); 20]);
    soon("the hang-up", losses.recv()).await.unwrap();
    let later = client.call::<_, u64>("double", &4_u64, LONG);
    let starting = async { sitting_server(&life) };
    let (later, mut second) = soon("the next server", async { tokio::join!(later, starting) }).await;
    assert_eq!(later, Ok(8));
    assert_eq!(second.recv::<Sat>().await.unwrap(), Sat::Connected);
}

/// How many of some handlers are alive.
#[derive(Clone)]
struct Living(watch::Sender<(u64, u64)>);

impl Living {
    fn new() -> Self {
        Self(watch::Sender::new((0, 0)))
    }

    /// One more, until it is dropped.
    fn one(&self) -> Alive {
        self.0.send_modify(|(now, ever)| {
            *now += 1;
            *ever += 1;
        });
        Alive(self.clone())
    }

    async fn reach(&self, count: u64) {
        let mut living = self.0.subscribe();
        soon("handlers to begin or to go", living.wait_for(|(now, _)| *now == count)).await.unwrap();
    }

    fn ever(&self) -> u64 {
        self.0.borrow().1
    }
}

struct Alive(Living);

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.0.send_modify(|(now, _)| *now -= 1);
    }
}

/// Has `wait` wait for ever, in handlers that are counted.
fn wait_for_ever(server: &Server) -> Living {
    let living = Living::new();
    let born = living.clone();
    server
        .respond("wait", move |_: Event<()>, _: Reply| {
            let alive = born.one();
            async move {
                let _alive = alive;
                pending::<Result<(), String>>().await
            }
        })
        .unwrap();
    server.respond("echo", |value: Event<u64>, _: Reply| ready(Ok::<_, String>(*value))).unwrap();
    living
}

/// A server that answers two requests of one client at once.
async fn pressed(at: &Endpoint) -> Server {
    Server::start(ServerConfig::new("world").endpoint(at.clone()).max_in_flight(2)).await.unwrap()
}

/// a call that is dropped or times out drops its handler. Ten thousand of them leave nothing behind: neither the
/// bound of the caller nor that of the callee is used up.
#[tokio::test]
async fn ten_thousand_calls_that_nobody_waits_for_leave_nothing_behind() {
    let place = Place::new();
    let config = ServerConfig::new("world").endpoint(place.unix("world")).max_in_flight(64);
    let server = Server::start(config).await.unwrap();
    let living = wait_for_ever(&server);
    let client = Client::start(crate::support::config(&server).max_calls(64)).unwrap();
    soon("the connection", client.connected()).await.unwrap();
    let mut made = 0;
    while made < 10_000 {
        for _ in 0..50 {
            // It is sent, and then dropped.
            assert!(client.call::<_, ()>("wait", &(), LONG).now_or_never().is_none());
            made += 1;
        }
        // In order behind all of them.
        assert_eq!(soon("the answer", client.call::<_, u64>("echo", &made, LONG)).await, Ok(made));
    }
    let timed_out = client.call::<_, ()>("wait", &(), Duration::from_millis(1)).await;
    assert_eq!(timed_out, Err(CallError::TimedOut));
    assert_eq!(client.call::<_, u64>("echo", &1_u64, LONG).await, Ok(1));
    living.reach(0).await;
    // As many as may, and one more.
    let mut waiting = join_all((0..64).map(|_| client.call::<_, ()>("wait", &(), LONG * 10))).boxed_local();
    let full = async {
        living.reach(64).await;
        client.call::<_, u64>("echo", &1_u64, LONG).await
    };
    let full = tokio::select! {
        _ = &mut waiting => panic!("nobody answers"),
        full = full => full,
    };
    assert_eq!(full, Err(CallError::TooManyCalls { max: 64 }));
    drop(waiting);
    living.reach(0).await;
    assert_eq!(client.call::<_, u64>("echo", &1_u64, LONG).await, Ok(1));
    assert_eq!((server.counters().busy, client.counters().late_answers), (0, 0));
}

/// an answer that comes when nobody waits any more is counted and thrown away, and later calls get their own.
#[tokio::test]
async fn an_answer_that_comes_too_late_is_counted() {
    let wire = Faulty::new(MemTransport::new(), FaultPlan::new(22));
    let handle = wire.handle();
    let at: Endpoint = "mem:world".parse().unwrap();
    let server_config = ServerConfig::new("world").endpoint(at).transport(wire.clone());
    let server = Server::start(server_config).await.unwrap();
    let go = Arc::new(Semaphore::new(0));
    let living = Living::new();
    let (gate, born) = (go.clone(), living.clone());
    server
        .respond("answer", move |value: Event<u64>, _: Reply| {
            let (gate, alive) = (gate.clone(), born.one());
            async move {
                gate.acquire().await.unwrap().forget();
                drop(alive);
                Ok::<_, String>(*value)
            }
        })
        .unwrap();
    let client = Client::start(config(&server).transport(wire)).unwrap();
    soon("the connection", client.connected()).await.unwrap();
    let mut first = client.call::<_, u64>("answer", &1_u64, LONG * 10).boxed();
    tokio::select! {
        _ = &mut first => panic!("it waits"),
        () = living.reach(1) => {}
    }
    handle.stall();
    go.add_permits(1);
    living.reach(0).await;
    // The answer is on its way, and does not come through.
    drop(first);
    handle.resume();
    go.add_permits(1);
    assert_eq!(soon("the answer", client.call::<_, u64>("answer", &2_u64, LONG)).await, Ok(2));
    assert_eq!(client.counters().late_answers, 1);
}

/// numbers of requests are of one connection: taking back a client's request does not touch that of another with
/// the same number.
#[tokio::test]
async fn taking_a_request_back_does_not_touch_that_of_another_client() {
    let place = Place::new();
    let server = server(&place.unix("world")).await;
    let go = Arc::new(Semaphore::new(0));
    let living = Living::new();
    let (gate, born) = (go.clone(), living.clone());
    server
        .respond("answer", move |value: Event<u64>, _: Reply| {
            let (gate, alive) = (gate.clone(), born.one());
            async move {
                let _alive = alive;
                gate.acquire().await.unwrap().forget();
                Ok::<_, String>(*value)
            }
        })
        .unwrap();
    let (a, b) = (client(&server).await, client(&server).await);
    // Each is the first request of its client.
    let mut of_a = a.call::<_, u64>("answer", &1_u64, LONG * 10).boxed();
    let mut of_b = b.call::<_, u64>("answer", &2_u64, LONG * 10).boxed();
    tokio::select! {
        _ = &mut of_a => panic!("it waits"),
        _ = &mut of_b => panic!("it waits"),
        () = living.reach(2) => {}
    }
    drop(of_a);
    living.reach(1).await;
    go.add_permits(1);
    assert_eq!(soon("the answer", of_b).await, Ok(2));
}

/// Beyond as many requests of one client as are answered at once, a request is turned away at once, and counted.
#[tokio::test]
async fn requests_beyond_the_bound_are_turned_away_at_once() {
    let place = Place::new();
    let server = pressed(&place.unix("world")).await;
    let living = wait_for_ever(&server);
    let (a, b) = (client(&server).await, client(&server).await);
    let mut waiting = join_all((0..2).map(|_| a.call::<_, ()>("wait", &(), LONG * 10))).boxed_local();
    let more = async {
        living.reach(2).await;
        (a.call::<_, u64>("echo", &1_u64, LONG).await, b.call::<_, u64>("echo", &1_u64, LONG).await)
    };
    let more = tokio::select! {
        _ = &mut waiting => panic!("nobody answers"),
        more = more => more,
    };
    assert_eq!(more, (Err(CallError::Busy), Ok(1)), "the bound is of one client");
    assert_eq!(server.counters().busy, 1);
    drop(waiting);
    living.reach(0).await;
    assert_eq!(a.call::<_, u64>("echo", &1_u64, LONG).await, Ok(1));
    assert_eq!(living.ever(), 2);
}

/// the handlers of both sides call each other, sixteen deep on one connection, several at once and also from inside
/// a handler of events.
#[tokio::test]
async fn nested_calls_do_not_hold_each_other_up() {
    let place = Place::new();
    let server = Arc::new(server(&place.unix("world")).await);
    let client = Arc::new(named(&server, "a").await);
    let descend = async |depth: Event<u32>, other: Reply| match *depth {
        0 => Ok(0),
        depth => other.call::<_, u32>("descend", &(depth - 1), LONG).await.map(|below| below + 1),
    };
    server.respond("descend", descend).unwrap();
    client.respond("descend", descend).unwrap();
    let depths = join_all((0..8).map(|_| client.call::<_, u32>("descend", &16_u32, LONG)));
    assert_eq!(soon("the answers", depths).await, vec![Ok(16); 8]);
    let (told, mut tells) = mpsc::unbounded_channel();
    client.on("go", move |depth: Event<u32>, server: Reply| {
        let told = told.clone();
        async move { told.send(server.call::<_, u32>("descend", &*depth, LONG).await).unwrap() }
    });
    server.emit("a", "go", &16_u32).await.unwrap();
    assert_eq!(soon("the answer", tells.recv()).await, Some(Ok(16)));
}

/// handlers that panic are counted; the later ones run, the connection stays, and calls go on.
#[tokio::test]
async fn handlers_that_panic_take_nothing_with_them() {
    let place = Place::new();
    let server = server(&place.unix("world")).await;
    let client = named(&server, "a").await;
    server.on("tick", async |number: Event<u32>, _: Reply| {
        assert!(number.is_multiple_of(2), "a handler that panics")
    });
    server.on("tick", |_: Event<u32>, _: Reply| -> std::future::Ready<()> {
        panic!("one that panics at once")
    });
    let mut ticks = server.events::<u32>("tick", 16).unwrap();
    server
        .respond("even", async |number: Event<u32>, _: Reply| {
            assert!(number.is_multiple_of(2), "a handler that panics");
            Ok::<_, String>(())
        })
        .unwrap();
    for number in 0..10_u32 {
        client.emit("tick", &number).await.unwrap();
        assert_eq!(*soon("a tick", ticks.next()).await.unwrap().0, number);
        let expected = if number % 2 == 0 { Ok(()) } else { Err(CallError::Panicked) };
        assert_eq!(client.call::<_, ()>("even", &number, LONG).await, expected);
    }
    let counters = server.counters().handlers;
    assert_eq!((counters.panicked, counters.requests), (20, 10));
    assert_eq!(client.counters().connects, 1);
}

/// A call to a client that drops its connection and dials anew fails, even when the server sees the new connection first:
/// whoever was to answer gave up with the old one.
#[tokio::test]
async fn a_call_over_a_connection_that_was_replaced_fails_as_disconnected() {
    let place = Place::new();
    let server = server(&place.unix("world")).await;
    let client = named(&server, "a").await;
    let asked = Arc::new(AtomicU64::new(0));
    let count = asked.clone();
    client
        .respond("cut", move |_: Event<()>, server: Reply| {
            count.fetch_add(1, Ordering::Relaxed);
            server.cut();
            pending::<Result<(), String>>()
        })
        .unwrap();
    for times in 1..=20 {
        let cut = soon("the end of the call", server.call::<_, ()>("a", "cut", &(), LONG * 10)).await;
        assert_eq!(cut, Err(CallError::Disconnected));
        assert_eq!(asked.load(Ordering::Relaxed), times);
        soon("the connection", async {
            while !server.client("a").is_some_and(|client| client.is_connected()) {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }
}
