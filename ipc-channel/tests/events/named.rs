//! Names, ids and handlers: who is who, who is told what, and from where one may speak.

use std::{
    future::ready,
    sync::{Arc, Weak},
    thread,
    time::Duration,
};

use futures_util::future::join_all;
use ipc_channel::{
    Event,
    events::{
        CallError, Client, ClientConfig, ConnectError, EmitError, GaveUp, MAX_NAME, Reply, Server,
        ServerConfig,
    },
};
use ipc_pipeline::protocol::Refusal;
use ipc_testkit::process::{self, Role, TempDir};
use ipc_transport::{Error, PeerIdentity, RuntimeDirectory, RuntimeNaming};
use tokio::sync::mpsc;

use crate::{
    roles::{Life, Sat, sitting_client},
    support::{Place, client, config, named, server, soon},
};

/// I-01: the tutorial of ipcIO: a server with two commands and `example_client`, which uses both of them again and
/// again. Every request is answered, one kind through the server by the client's name, the other through the handle.
#[tokio::test]
async fn the_commands_of_the_tutorial_are_answered_by_name_and_through_the_handle() {
    let place = Place::new();
    let server = Arc::new(server(&place.unix("world")).await);
    let outside: Weak<Server> = Arc::downgrade(&server);
    server.on("example_request_command", move |request: Event<u32>, client: Reply| {
        let server = outside.upgrade().unwrap();
        async move {
            let name = client.name().unwrap();
            server.emit(name, "example_response_command", &(*request, "example")).await.unwrap();
        }
    });
    server.on("other_request_command", move |request: Event<u32>, client: Reply| async move {
        client.emit("other_response_command", &(*request, "other")).await.unwrap();
    });
    let client = named(&server, "example_client").await;
    let mut examples = client.events::<(u32, String)>("example_response_command", 64).unwrap();
    let mut others = client.events::<(u32, String)>("other_response_command", 64).unwrap();
    for number in 0..50_u32 {
        client.emit("example_request_command", &number).await.unwrap();
        client.emit("other_request_command", &number).await.unwrap();
    }
    for number in 0..50_u32 {
        let (example, _) = soon("an answer by name", examples.next()).await.unwrap();
        assert_eq!(*example, (number, "example".to_owned()));
        let (other, _) = soon("an answer through the handle", others.next()).await.unwrap();
        assert_eq!(*other, (number, "other".to_owned()));
    }
}

/// I-02: handlers are added to a client before its server exists, and to both sides while they are connected; a new one
/// works from the next message on, and the earlier ones stay.
#[tokio::test]
async fn handlers_may_be_added_at_any_time() {
    let place = Place::new();
    let at = place.unix("world");
    let (told, mut heard) = mpsc::unbounded_channel();
    let telling = |who: &'static str| {
        let told = told.clone();
        move |event: Event<u32>, _: Reply| {
            told.send((who, *event)).unwrap();
            ready(())
        }
    };
    let client = Client::start(ClientConfig::new("world").endpoint(at.clone())).unwrap();
    client.on("tick", telling("client, before"));
    let server = server(&at).await;
    server.on("tick", telling("server, before"));
    soon("the connection", client.connected()).await.unwrap();

    client.emit("tick", &1_u32).await.unwrap();
    assert_eq!(soon("a tick", heard.recv()).await, Some(("server, before", 1)));
    server.on("tick", telling("server, after"));
    client.emit("tick", &2_u32).await.unwrap();
    assert_eq!(soon("a tick", heard.recv()).await, Some(("server, before", 2)));
    assert_eq!(soon("a tick", heard.recv()).await, Some(("server, after", 2)));

    server.emit(client.id(), "tick", &3_u32).await.unwrap();
    assert_eq!(soon("a tick", heard.recv()).await, Some(("client, before", 3)));
    client.on("tick", telling("client, after"));
    server.emit(client.id(), "tick", &4_u32).await.unwrap();
    assert_eq!(soon("a tick", heard.recv()).await, Some(("client, before", 4)));
    assert_eq!(soon("a tick", heard.recv()).await, Some(("client, after", 4)));
}

/// I-03: requests of one name have one handler; another one is an error until the first is removed.
#[tokio::test]
async fn a_second_handler_of_the_same_requests_is_an_error() {
    let place = Place::new();
    let server = server(&place.unix("world")).await;
    let client = client(&server).await;
    let answer = |value: u32| move |_: Event<()>, _: Reply| ready(Ok::<_, String>(value));
    let first = server.respond("number", answer(1)).unwrap();
    assert_eq!(server.respond("number", answer(2)).unwrap_err().name, "number");
    assert_eq!(client.call::<_, u32>("number", &(), LONG).await, Ok(1));
    first.cancel();
    server.respond("number", answer(3)).unwrap();
    assert_eq!(client.call::<_, u32>("number", &(), LONG).await, Ok(3));
    client.respond("number", answer(4)).unwrap();
    assert_eq!(client.respond("number", answer(5)).unwrap_err().name, "number");
}

/// I-03: no name is restricted, whatever it means elsewhere; one that is longer than names may be is an error with both
/// lengths.
#[tokio::test]
async fn any_name_is_allowed_but_an_overlong_one() {
    let place = Place::new();
    let server = server(&place.unix("world")).await;
    let client = named(&server, "a").await;
    let mut all = client.all_events(64).unwrap();
    let longest = "n".repeat(MAX_NAME);
    for name in ["connect", "disconnect", "error", "destroy", "__proto__", "*", "", "grüße", &longest] {
        server.emit("a", name, &7_u8).await.unwrap();
        let (event, _) = soon("the event", all.next()).await.unwrap();
        assert_eq!((event.name(), event.decode::<u8>().unwrap()), (name, 7));
    }
    let name = "n".repeat(MAX_NAME + 1);
    let too_long = || EmitError::NameTooLong { len: MAX_NAME + 1, max: MAX_NAME };
    assert_eq!(server.emit("a", &name, &7_u8).await, Err(too_long()));
    assert_eq!(server.broadcast(&name, &7_u8).await, Err(too_long()));
    assert_eq!(server.try_broadcast(&name, &7_u8), Err(too_long()));
    assert_eq!(server.call::<_, u8>("a", &name, &7_u8, LONG).await, Err(CallError::Emit(too_long())));
    assert_eq!(client.emit(&name, &7_u8).await, Err(too_long()));
    assert_eq!(client.emit_to("a", &name, &7_u8, LONG).await, Err(CallError::Emit(too_long())));
    assert_eq!(client.emit_to(&name, "n", &7_u8, LONG).await, Err(CallError::Emit(too_long())));
    assert_eq!(client.broadcast(&name, &7_u8, LONG).await, Err(CallError::Emit(too_long())));
    assert_eq!(client.call::<_, u8>(&name, &7_u8, LONG).await, Err(CallError::Emit(too_long())));
    assert_eq!(client.call_client::<_, u8>(&name, "n", &7_u8, LONG).await, Err(CallError::Emit(too_long())));
}

/// I-03: a second server at the same address is an error that names it, and the first one goes on.
#[tokio::test]
async fn a_second_server_at_the_same_address_is_an_error() {
    let place = Place::new();
    let at = place.unix("world");
    let first = server(&at).await;
    let second = Server::start(ServerConfig::new("world").endpoint(at.clone())).await;
    match second {
        Err(Error::AddrInUse { endpoint, holder }) => {
            assert_eq!((endpoint, holder), (at.clone(), Some(std::process::id())));
        }
        other => panic!("{other:?}"),
    }
    let client = client(&first).await;
    assert_eq!(client.discover(LONG).await.unwrap().clients, [client.id()]);
    drop(client);
    first.close(LONG).await.unwrap();
    server(&at).await.close(LONG).await.unwrap();
}

/// I-04: a handler gets the data, the client's id and name, and the handle to answer through, which knows who is there.
#[tokio::test]
async fn a_handler_gets_the_data_and_everything_of_who_sent_it() {
    let place = Place::new();
    let server = server(&place.unix("world")).await;
    let mut heard = server.events::<Vec<u8>>("note", 4).unwrap();
    let client = named(&server, "sam").await;
    client.emit("note", &vec![1_u8, 2, 3]).await.unwrap();
    let (event, reply) = soon("the event", heard.next()).await.unwrap();
    assert_eq!((event.name(), event.value().as_slice()), ("note", &[1, 2, 3][..]));
    assert_eq!((event.from(), event.redelivered()), (None, false));
    assert_eq!((reply.id(), reply.name()), (client.id(), Some("sam")));
    assert!(reply.is_connected() && reply.remote().is_some());
    assert_ne!(reply.identity(), PeerIdentity::Unknown);
    assert_eq!(Some(reply), server.client("sam"));
    assert_eq!(client.server().id(), "world");
}

/// I-05: events are sent from plain threads, outside any runtime, by everybody who has a handle.
#[tokio::test]
async fn events_are_sent_from_plain_threads() {
    let place = Place::new();
    let server = Arc::new(server(&place.unix("world")).await);
    let client = Arc::new(named(&server, "a").await);
    let mut here = server.events::<u32>("tick", 1024).unwrap();
    let mut there = client.all_events(1024).unwrap();
    let (to_client, to_server) = (server.clone(), client.clone());
    let from_outside = thread::spawn(move || {
        let handle = to_client.client("a").unwrap();
        for number in 0..100_u32 {
            to_server.try_emit("tick", &number).unwrap();
            handle.try_emit("private", &number).unwrap();
            assert_eq!(to_client.try_broadcast("public", &number), Ok(1));
        }
    });
    let (mut private, mut public) = (Vec::new(), Vec::new());
    for number in 0..100 {
        assert_eq!(*soon("a tick", here.next()).await.unwrap().0, number);
        for _ in 0..2 {
            let (event, _) = soon("an event", there.next()).await.unwrap();
            let list = if event.name() == "public" { &mut public } else { &mut private };
            list.push(event.decode::<u32>().unwrap());
        }
    }
    let all: Vec<u32> = (0..100).collect();
    assert_eq!((private, public), (all.clone(), all));
    tokio::task::spawn_blocking(move || from_outside.join()).await.unwrap().unwrap();
}

/// I-06: servers of one id in two directories do not know of each other, nor do their clients.
#[tokio::test]
async fn directories_keep_servers_of_one_id_apart() {
    let place = TempDir::new().unwrap();
    let naming = |name: &str| RuntimeNaming::new(RuntimeDirectory::at(place.join(name)).unwrap());
    for_two_worlds(
        |name| ServerConfig::new("world").naming(naming(name)),
        |name| ClientConfig::new("world").naming(naming(name)),
    )
    .await;
}

/// I-06: the same by the names of domains, in a process whose runtime directory is its own.
#[tokio::test]
async fn domains_keep_servers_of_one_id_apart() {
    let place = TempDir::new().unwrap();
    let mut process = Role::new("named::role_domains")
        .env("XDG_RUNTIME_DIR", place.path().to_str().unwrap())
        .spawn()
        .unwrap();
    assert_eq!(process.recv::<String>().await.unwrap(), "apart");
    process.succeeds().await;
}

#[test]
fn role_domains() {
    let Some(parent) = process::enter("named::role_domains") else { return };
    tokio::runtime::Runtime::new().unwrap().block_on(for_two_worlds(
        |name| ServerConfig::new("world").domain(name),
        |name| ClientConfig::new("world").domain(name),
    ));
    parent.send(&"apart").unwrap();
}

async fn for_two_worlds(at: impl Fn(&str) -> ServerConfig, to: impl Fn(&str) -> ClientConfig) {
    let start = async |name: &str| {
        let server = Server::start(at(name)).await.unwrap();
        let client = Client::start(to(name).name("sam")).unwrap();
        soon("the connection", client.connected()).await.unwrap();
        let events = client.all_events(64).unwrap();
        (server, client, events)
    };
    let (one, a, mut of_a) = start("one").await;
    let (two, b, mut of_b) = start("two").await;
    assert!(matches!(Server::start(at("one")).await, Err(Error::AddrInUse { .. })));
    assert_eq!(one.broadcast("from", "one").await, Ok(1));
    assert_eq!(two.emit("sam", "from", "two").await, Ok(()));
    for (events, name) in [(&mut of_a, "one"), (&mut of_b, "two")] {
        let (event, _) = soon("the event", events.next()).await.unwrap();
        assert_eq!(event.decode::<String>().unwrap(), name);
    }
    assert_eq!(
        one.emit(b.id(), "from", "one").await,
        Err(EmitError::UnknownClient { client: b.id().to_owned() })
    );
    for (client, server) in [(a, one), (b, two)] {
        assert_eq!(client.discover(LONG).await.unwrap().clients, ["sam"]);
        client.close(LONG).await.unwrap();
        server.close(LONG).await.unwrap();
    }
}

/// I-08: a client without a name has an id of 32 hexadecimal digits of its own, by which the server reaches it.
#[tokio::test]
async fn clients_without_names_are_reached_by_their_ids() {
    let place = Place::new();
    let server = server(&place.unix("world")).await;
    let clients = [client(&server).await, client(&server).await];
    let ids = clients.each_ref().map(|client| client.id().to_owned());
    assert_ne!(ids[0], ids[1]);
    for (client, id) in clients.iter().zip(&ids) {
        assert!(id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit()), "{id}");
        assert_eq!(client.name(), None);
        let mut heard = client.events::<String>("your id", 4).unwrap();
        server.emit(id, "your id", id).await.unwrap();
        assert_eq!(soon("the event", heard.next()).await.unwrap().0.value(), id);
    }
}

/// I-12: connecting may begin long before the server does; a deadline is the caller's, and passing it cancels nothing.
#[tokio::test]
async fn connecting_completes_whenever_the_server_starts() {
    let place = Place::new();
    let at = place.unix("world");
    let client = Client::start(ClientConfig::new("world").endpoint(at.clone())).unwrap();
    let in_time = tokio::time::timeout(Duration::from_millis(20), client.connected());
    assert!(in_time.await.is_err(), "there is no server");
    assert!(!client.is_connected());
    let waiting = async { client.connected().await.unwrap() };
    let starting = async { server(&at).await };
    let ((), server) = soon("the connection", async { tokio::join!(waiting, starting) }).await;
    assert_eq!(server.clients().len(), 1);
}

/// I-18: a name that somebody has is refused at once and for good, and its holder does not notice; it is free when the
/// holder has left.
#[tokio::test]
async fn a_taken_name_is_refused_until_its_holder_leaves() {
    let place = Place::new();
    let server = server(&place.unix("world")).await;
    let (left, mut leavings) = mpsc::unbounded_channel();
    server.on_disconnect(move |departure| {
        left.send(departure.name.unwrap().to_string()).unwrap();
        ready(())
    });
    let first = named(&server, "sam").await;
    let others = (0..8).map(|_| Client::start(config(&server).name("sam")).unwrap()).collect::<Vec<_>>();
    for refused in soon("the refusals", join_all(others.iter().map(Client::connected))).await {
        assert_name_taken(refused);
    }
    // Nor can somebody have another one's id as a name.
    let thief = Client::start(config(&server).name(first.id())).unwrap();
    assert!(soon("the refusal", thief.connected()).await.is_err());
    assert_eq!(first.counters().connects, 1);
    assert_eq!(first.discover(LONG).await.unwrap().clients, ["sam"]);
    first.close(LONG).await.unwrap();
    assert_eq!(soon("the leaving", leavings.recv()).await.as_deref(), Some("sam"));
    let next = named(&server, "sam").await;
    assert_eq!(server.client("sam").unwrap().id(), next.id());
}

/// I-18: a name is free after its holder was killed.
#[tokio::test]
async fn the_name_of_a_killed_client_is_free() {
    let place = Place::new();
    let server = server(&place.unix("world")).await;
    let (left, mut leavings) = mpsc::unbounded_channel();
    server.on_disconnect(move |departure| {
        left.send(departure.name.unwrap().to_string()).unwrap();
        ready(())
    });
    let mut holder = sitting_client(&Life::new(server.endpoint(), "sam"));
    assert_eq!(holder.recv::<Sat>().await.unwrap(), Sat::Connected);
    let refused = Client::start(config(&server).name("sam")).unwrap();
    assert_name_taken(soon("the refusal", refused.connected()).await);
    holder.kill();
    assert_eq!(soon("the leaving", leavings.recv()).await.as_deref(), Some("sam"));
    let next = named(&server, "sam").await;
    assert_eq!(server.client("sam").unwrap().id(), next.id());
}

fn assert_name_taken(connected: Result<(), GaveUp>) {
    match connected {
        Err(GaveUp::Refused(why)) => match &*why {
            ConnectError::Refused(Refusal::NameTaken { name }) => assert_eq!(name, "sam"),
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    }
}

const LONG: Duration = Duration::from_secs(60);
