//! What clients and servers hear of their connections, when clients try again, and when they stop.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use ipc_channel::{
    Event,
    events::{
        Client, ClientConfig, ClientStatus, ConnectError, Departure, DisconnectReason, GaveUp, Reply,
        RetryPolicy, Server, ServerConfig,
    },
};
use ipc_testkit::MemTransport;
use ipc_transport::{Endpoint, Error, ListenOptions, Listener, NameWatch, Naming, Transports};
use tokio::net::UnixListener;

use crate::worlds::{Journal, LONG, Pen, World, at_known_places, connected, everywhere, once, run, until};

/// Writes down what happens to a client.
fn watch(client: &Client, pen: &Pen<String>) {
    let connects = pen.clone();
    client.on_connect(move |server: Reply| {
        connects.write(format!("connect {}", server.id()));
        async {}
    });
    let disconnects = pen.clone();
    client.on_disconnect(move |reason| {
        disconnects.write(format!("disconnect {reason:?}"));
        async {}
    });
    let failures = pen.clone();
    client.on_attempt_failed(move |failed| {
        failures.write(format!("failed {}", failed.attempt));
        async {}
    });
    let ends = pen.clone();
    client.on_gave_up(move |_| {
        ends.write("gave up".to_owned());
        async {}
    });
    let last = pen.clone();
    client.on_destroy(move |()| {
        last.write("destroy".to_owned());
        async {}
    });
}

fn watched(config: ClientConfig, journal: &Journal<String>) -> Client {
    Client::start_with(config, |client| watch(client, &journal.pen())).unwrap()
}

/// N-13: connect, disconnect with its reason and destroy each come once, in this order, at the documented moment.
#[test]
fn connect_disconnect_and_destroy_come_once_and_in_order() {
    everywhere(|world| async move {
        let mut journal = Journal::new();
        let server = world.server().await;
        let config = world.config_at(server.endpoint()).retry(RetryPolicy::Every(Duration::from_millis(1)));
        let client = watched(config, &journal);
        client.connected().await.unwrap();
        assert_eq!(journal.next().await, "connect world");
        server.close(LONG).await.unwrap();
        assert_eq!(journal.next().await, "disconnect Closed");
        // The server is gone, and nothing waits for it: the client ends at once.
        assert!(journal.next().await.starts_with("failed"));
        client.close(LONG).await.unwrap();
        let mut rest = journal.rest();
        assert_eq!(rest.pop().as_deref(), Some("destroy"));
        assert!(rest.iter().all(|entry| entry.starts_with("failed")), "{rest:?}");
    });
}

/// N-13, N-18: attempts that never became a connection are no disconnects; exactly 1 + n of them reach the address, then
/// the client gives up and is destroyed.
#[test]
fn one_attempt_and_as_many_as_may_follow_it_then_the_client_gives_up() {
    for retries in [0, 1, 4] {
        once(|world| async move {
            let listener = UnixListener::bind(world.directory.join("world.sock")).unwrap();
            let mut journal = Journal::new();
            let config = world.client_config().max_retries(retries);
            let client = watched(config.retry(RetryPolicy::Every(Duration::from_millis(1))), &journal);
            for attempt in 1..=retries + 1 {
                // Accepted, and hung up on.
                drop(listener.accept().await.unwrap());
                assert_eq!(journal.next().await, format!("failed {attempt}"));
            }
            match client.connected().await.unwrap_err() {
                GaveUp::Retries { attempts, error } => {
                    assert_eq!(attempts, retries + 1);
                    assert!(matches!(*error, ConnectError::NoServer { .. }), "{error:?}");
                }
                other => panic!("{other:?}"),
            }
            assert_eq!(journal.take(2).await, ["gave up", "destroy"]);
            assert_eq!(client.counters().failed_attempts, retries + 1);
            client.abort().await;
            assert!(journal.rest().is_empty());
            listener.into_std().unwrap().accept().unwrap_err();
        });
    }
}

/// Resolves by a script: where to go, or that there is nobody.
#[derive(Debug)]
struct Script {
    steps: Mutex<VecDeque<Option<Endpoint>>>,
    asked: AtomicUsize,
}

impl Script {
    fn new(steps: impl IntoIterator<Item = Option<Endpoint>>) -> Arc<Self> {
        Arc::new(Self { steps: Mutex::new(steps.into_iter().collect()), asked: AtomicUsize::new(0) })
    }
}

#[derive(Debug)]
struct Scripted(Arc<Script>);

#[async_trait]
impl Naming for Scripted {
    async fn claim(&self, _: &str, _: &Transports, _: &ListenOptions) -> Result<Box<dyn Listener>, Error> {
        Err(Error::NotFound { endpoint: "nowhere".to_owned() })
    }

    async fn resolve(&self, name: &str) -> Result<Endpoint, Error> {
        self.0.asked.fetch_add(1, Ordering::Relaxed);
        let step = self.0.steps.lock().unwrap().pop_front().flatten();
        step.ok_or_else(|| Error::NotFound { endpoint: name.to_owned() })
    }

    fn watch(&self, _: &str) -> Result<Box<dyn NameWatch>, Error> {
        Ok(Box::new(Blind))
    }
}

/// Cannot tell when a name appears.
#[derive(Debug)]
struct Blind;

#[async_trait]
impl NameWatch for Blind {
    async fn changed(&mut self) {
        std::future::pending().await
    }
}

/// N-18: each connection begins the count of attempts anew.
#[test]
fn a_connection_begins_the_count_of_attempts_anew() {
    once(|world| async move {
        let server = world.server().await;
        let here = Some(server.endpoint().clone());
        let script = Script::new([None, here.clone(), None, here.clone(), None, here]);
        let mut journal = Journal::new();
        let config = ClientConfig::new("world").naming(Scripted(script.clone())).max_retries(1);
        let client = watched(config.retry(RetryPolicy::Every(Duration::from_millis(1))), &journal);
        for _ in 0..3 {
            assert_eq!(journal.take(2).await, ["failed 1", "connect world"]);
            client.connected().await.unwrap();
            client.server().cut();
            assert_eq!(journal.next().await, "disconnect Cut");
        }
        assert_eq!(journal.take(4).await, ["failed 1", "failed 2", "gave up", "destroy"]);
        assert_eq!(script.asked.load(Ordering::Relaxed), 8);
        drop((client, server));
    });
}

/// N-19: told to stop while it waits for the next attempt, a client gives up at once, and not in an hour.
#[test]
fn a_client_that_waits_to_try_again_can_be_told_to_stop() {
    at_known_places(|world| async move {
        let mut journal = Journal::new();
        let config = world.client_config().retry(RetryPolicy::Every(Duration::from_secs(3600)));
        let client = watched(config, &journal);
        assert_eq!(journal.next().await, "failed 1");
        client.stop_retrying();
        assert!(matches!(client.connected().await, Err(GaveUp::Stopped)));
        assert_eq!(journal.take(2).await, ["gave up", "destroy"]);
        assert!(matches!(*client.status().borrow(), ClientStatus::GaveUp(GaveUp::Stopped)));
    });
}

/// N-19: told to stop while it is connected, a client keeps the connection and does not look for another.
#[test]
fn a_connection_that_stands_is_kept_when_retrying_stops() {
    everywhere(|world| async move {
        let server = world.server().await;
        let mut notes = server.events::<u32>("note", 8).unwrap();
        let client = world.client(&server).await;
        client.stop_retrying();
        client.emit("note", &1_u32).await.unwrap();
        assert_eq!(*notes.next().await.unwrap().0, 1);
        client.server().cut();
        until(|| matches!(*client.status().borrow(), ClientStatus::GaveUp(GaveUp::Stopped))).await;
        assert_eq!(client.counters().connects, 1);
        assert_eq!(client.counters().failed_attempts, 0);
    });
}

/// N-19: by default a client tries for ever, here an hour of virtual time.
#[tokio::test(start_paused = true)]
async fn by_default_a_client_tries_for_ever() {
    let mem = MemTransport::new();
    let at: Endpoint = "mem:world".parse().unwrap();
    let client =
        Client::start(ClientConfig::new("world").endpoint(at.clone()).transport(mem.clone())).unwrap();
    // Sleeps under paused time.
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert!(client.counters().failed_attempts > 100, "{:?}", client.counters());
    let server = Server::start(ServerConfig::new("world").endpoint(at).transport(mem)).await.unwrap();
    client.connected().await.unwrap();
    drop(server);
}

/// N-17: a client that was started first connects when its server appears.
#[test]
fn a_client_connects_when_its_server_appears() {
    at_known_places(|world| async move {
        let mut journal = Journal::new();
        let client = watched(world.client_config(), &journal);
        assert!(journal.next().await.starts_with("failed"));
        let server = world.server().await;
        client.connected().await.unwrap();
        assert_eq!(server.clients().len(), 1);
        client.close(LONG).await.unwrap();
        server.close(LONG).await.unwrap();
    });
}

/// What a server hears of a client: its id, its name, and why it went.
type Entry = (&'static str, String, Option<String>, Option<DisconnectReason>);

async fn booked(world: &World, book: &Journal<Entry>) -> Server {
    Server::start_with(world.server_config(), |server| keep_book(server, &book.pen())).await.unwrap()
}

fn keep_book(server: &Server, pen: &Pen<Entry>) {
    let connects = pen.clone();
    server.on_connect(move |client: Reply| {
        let name = client.name().map(ToOwned::to_owned);
        connects.write(("connect", client.id().to_owned(), name, None));
        async {}
    });
    let disconnects = pen.clone();
    server.on_disconnect(move |departure: Departure| {
        let Departure { id, name, reason, .. } = departure;
        let name = name.map(|name| name.as_ref().to_owned());
        disconnects.write(("disconnect", id.as_ref().to_owned(), name, Some(reason)));
        async {}
    });
}

/// N-14: connect and disconnect tell the same id and the same name, and why: here for each way in which a client goes.
#[test]
fn a_server_hears_who_goes_and_why() {
    everywhere(|world| async move {
        let mut book = Journal::new();
        let server = booked(&world, &book).await;
        for reason in [DisconnectReason::Closed, DisconnectReason::Lost, DisconnectReason::Cut] {
            let client = world.named(&server, "kitchen").await;
            let (id, name) = (client.id().to_owned(), Some("kitchen".to_owned()));
            assert_eq!(book.next().await, ("connect", id.clone(), name.clone(), None));
            match reason {
                DisconnectReason::Closed => client.close(LONG).await.unwrap(),
                DisconnectReason::Lost => client.abort().await,
                _ => {
                    client.stop_retrying();
                    server.client("kitchen").unwrap().cut();
                }
            }
            assert_eq!(book.next().await, ("disconnect", id, name, Some(reason)));
        }
        server.close(LONG).await.unwrap();
        assert!(book.rest().is_empty());
    });
}

/// N-14: a client that is cut and comes back is told as gone before it is told as here again, each time.
#[test]
fn connects_and_disconnects_of_one_client_alternate() {
    everywhere(|world| async move {
        let mut book = Journal::new();
        let server = booked(&world, &book).await;
        let config = world.config_at(server.endpoint()).retry(RetryPolicy::Every(Duration::ZERO));
        let client = connected(config).await;
        for round in 0..30 {
            let entry = book.next().await;
            assert_eq!((entry.0, entry.1.as_str()), ("connect", client.id()), "round {round}");
            client.connected().await.unwrap();
            client.server().cut();
            let entry = book.next().await;
            assert_eq!((entry.0, entry.1.as_str()), ("disconnect", client.id()), "round {round}");
        }
    });
}

/// N-15: two servers and two clients in one process, each set up differently, do not influence each other.
#[test]
fn instances_of_one_process_do_not_influence_each_other() {
    run(2, async {
        let (one, two) = (World::unix(), World::unix());
        let small = ipc_transport::Limits::default().with_max_message(512);
        let json = ipc_channel::PayloadCodec::Json;
        let first = one.server().await;
        let second = Server::start(two.server_config().codec(json).limits(small.clone())).await.unwrap();
        let mut at_first = first.events::<String>("note", 8).unwrap();
        let mut at_second = second.events::<String>("note", 8).unwrap();
        let a = one.client(&first).await;
        let b = connected(two.client_config().codec(json).limits(small)).await;
        let long = "x".repeat(600);
        a.emit("note", &long).await.unwrap();
        assert!(b.emit("note", &long).await.is_err());
        b.emit("note", "short").await.unwrap();
        assert_eq!(*at_first.next().await.unwrap().0, long);
        assert_eq!(*at_second.next().await.unwrap().0, "short");
        first.close(LONG).await.unwrap();
        until(|| !a.is_connected()).await;
        assert!(b.is_connected());
        b.emit("note", "still here").await.unwrap();
        assert_eq!(*at_second.next().await.unwrap().0, "still here");
        drop((a, b, second));
    });
}

/// N-16: one client is one connection, however many tasks share it, and its handlers are there once; two clients are two.
#[test]
fn a_shared_client_is_one_connection_with_one_set_of_handlers() {
    everywhere(|world| async move {
        let server = world.server().await;
        let client = Arc::new(world.client(&server).await);
        let mut journal = Journal::new();
        let pen = journal.pen();
        client.on("note", move |event: Event<u32>, _| {
            pen.write(*event);
            async {}
        });
        let mut notes = server.events::<u32>("note", 64).unwrap();
        let mut tasks = tokio::task::JoinSet::new();
        for number in 0..10_u32 {
            let client = client.clone();
            tasks.spawn(async move { client.emit("note", &number).await.unwrap() });
        }
        tasks.join_all().await;
        for _ in 0..10 {
            let (note, from) = notes.next().await.unwrap();
            assert_eq!(from.id(), client.id());
            from.emit("note", &*note).await.unwrap();
        }
        let mut heard = journal.take(10).await;
        heard.sort_unstable();
        assert_eq!(heard, (0..10).collect::<Vec<_>>());
        assert_eq!(server.clients().len(), 1);
        let other = world.client(&server).await;
        until(|| server.clients().len() == 2).await;
        assert_ne!(other.id(), client.id());
        assert!(journal.rest().is_empty());
    });
}

/// N-20: a server that is restarted twenty times under load, half of the times without a word. The client comes back each
/// time; what it was told to send arrives in order and without a gap, what comes twice says so; and its handlers stay.
#[test]
fn twenty_restarts_under_load_lose_nothing_and_keep_order() {
    const RESTARTS: u64 = 20;
    at_known_places(|world| async move {
        let told = Journal::new();
        let pen = told.pen();
        let starting = Client::start_with(world.client_config(), |client| {
            client.on("life", move |event: Event<(u64, u64)>, _| {
                pen.write(*event);
                async {}
            });
        });
        let client = Arc::new(starting.unwrap());
        let sending = tokio::spawn({
            let client = client.clone();
            async move {
                for value in 0_u64.. {
                    client.emit("value", &value).await.unwrap();
                    if value % 32 == 0 {
                        tokio::task::yield_now().await;
                    }
                }
            }
        });
        let mut next = 0;
        for life in 0..RESTARTS {
            let mut taken = Journal::new();
            let pen = taken.pen();
            let starting = Server::start_with(world.server_config(), |server| {
                server.on("value", move |event: Event<u64>, _| {
                    pen.write((*event, event.redelivered()));
                    async {}
                });
            });
            let server = starting.await.unwrap();
            let mut count = 0;
            while count < 200 {
                let (value, redelivered) = taken.next().await;
                check(&mut next, value, redelivered);
                count += 1;
            }
            for number in 0..50_u64 {
                server.emit(client.id(), "life", &(life, number)).await.unwrap();
            }
            match life % 2 {
                0 => server.close(LONG).await.unwrap(),
                _ => drop(server),
            }
            for (value, redelivered) in taken.finish().await {
                check(&mut next, value, redelivered);
            }
        }
        assert!(client.counters().connects >= RESTARTS);
        sending.abort();
        let _ = sending.await;
        Arc::into_inner(client).unwrap().abort().await;
        // A server that closes delivers everything first; of one that just goes, a beginning arrives.
        let mut told = told.finish().await.into_iter().peekable();
        for life in 0..RESTARTS {
            let mut numbers = 0;
            while told.next_if_eq(&(life, numbers)).is_some() {
                numbers += 1;
            }
            assert!(numbers == 50 || life % 2 == 1, "life {life} told {numbers}");
        }
        assert_eq!(told.next(), None);
    });
}

fn check(next: &mut u64, value: u64, redelivered: bool) {
    if value == *next {
        *next += 1;
    } else {
        assert!(value < *next, "{value} came and {next} did not");
        assert!(redelivered, "{value} came twice and does not say so");
    }
}

/// N-21: a client that is closed while it waits to try again makes no further attempt, raises nothing after its destroy,
/// and leaves no task.
#[test]
fn closing_during_a_pending_retry_ends_everything() {
    for aborts in [false, true] {
        once(|world| async move {
            let listener = UnixListener::bind(world.directory.join("world.sock")).unwrap();
            let mut journal = Journal::new();
            let config = world.client_config().retry(RetryPolicy::Every(Duration::from_secs(3600)));
            let client = watched(config, &journal);
            drop(listener.accept().await.unwrap());
            assert_eq!(journal.next().await, "failed 1");
            match aborts {
                true => client.abort().await,
                false => client.close(LONG).await.unwrap(),
            }
            assert_eq!(journal.rest(), ["destroy"]);
            listener.into_std().unwrap().accept().unwrap_err();
            // Whoever runs it looks for tasks that are left.
        });
    }
}

/// N-28: closing a server hangs up, raises the disconnect of each client before it returns, frees the address and removes
/// its socket; another one starts there at once.
#[test]
fn a_closed_server_leaves_its_address_to_the_next() {
    at_known_places(|world| async move {
        let client = Client::start(world.client_config()).unwrap();
        for _ in 0..10 {
            let mut book = Journal::new();
            let server = booked(&world, &book).await;
            client.connected().await.unwrap();
            server.close(LONG).await.unwrap();
            let book: Vec<_> = book.rest().into_iter().map(|entry| entry.0).collect();
            assert_eq!(book, ["connect", "disconnect"]);
            if world.at.scheme() == "unix" {
                assert!(!world.directory.join("world.sock").exists());
            }
            until(|| !client.is_connected()).await;
        }
    });
}

/// N-30: a server that is full refuses a further client with a reason that is told, not by hanging up on it again and
/// again, and a place that becomes free is usable.
#[test]
fn a_full_server_says_so_and_has_room_again_when_one_leaves() {
    everywhere(|world| async move {
        let server = Server::start(world.server_config().max_clients(2)).await.unwrap();
        let (one, two) = (world.client(&server).await, world.client(&server).await);
        let config = world.config_at(server.endpoint());
        let third = Client::start(config.clone().max_retries(0)).unwrap();
        match third.connected().await.unwrap_err() {
            GaveUp::Retries { attempts: 1, error } => {
                let busy = matches!(&*error, ConnectError::Refused(ipc_pipeline::protocol::Refusal::Busy));
                assert!(busy, "{error:?}");
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(server.counters().refused, 1);
        let fourth = Client::start(config).unwrap();
        one.close(LONG).await.unwrap();
        fourth.connected().await.unwrap();
        assert_eq!(server.clients().len(), 2);
        drop((two, third, fourth));
    });
}

/// two hundred clients of a server that is restarted all come back. Their attempts are spread by jitter; the spread
/// is printed, as it depends on the machine.
#[test]
fn two_hundred_clients_come_back_to_a_restarted_server() {
    const CLIENTS: usize = 200;
    run(2, async {
        let world = World::unix();
        let server = world.server().await;
        let mut clients = Vec::new();
        for _ in 0..CLIENTS {
            clients.push(Client::start(world.client_config()).unwrap());
        }
        for client in &clients {
            client.connected().await.unwrap();
        }
        server.close(LONG).await.unwrap();
        let mut arrivals = Journal::new();
        let pen = arrivals.pen();
        let restarted = std::time::Instant::now();
        let starting = Server::start_with(world.server_config(), |server| {
            server.on_connect(move |_| {
                pen.write(restarted.elapsed());
                async {}
            });
        });
        let server = starting.await.unwrap();
        for client in &clients {
            until(|| client.counters().connects >= 2 && client.is_connected()).await;
        }
        assert_eq!(server.clients().len(), CLIENTS);
        let mut arrivals = arrivals.rest();
        arrivals.sort_unstable();
        println!("back after {:?} to {:?}", arrivals.first(), arrivals.last());
        drop((clients, server));
    });
}
