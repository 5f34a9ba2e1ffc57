//! Values of every shape and size, many at once, and delimiters.

use std::time::Duration;

use ipc_channel::events::{
    Client, ClientConfig, EmitError, NodeIpc, Reply, Server, ServerConfig, Wire, node_ipc::Delimiter,
};
use ipc_transport::Limits;
use serde_json::{Value, json};

use super::{away, client, world};
use crate::support::{Place, endpoints, soon};

/// N-10: every shape is equal on arrival, 100 levels deep and with the delimiter within, and so is no data at all.
#[tokio::test]
async fn every_shape_is_equal_on_arrival() {
    let place = Place::new();
    for at in endpoints(&place) {
        let config = ServerConfig::new("world").endpoint(at).wire(Wire::node_ipc());
        let world = Server::start(config).await.unwrap();
        world.on("echo", async |value: ipc_channel::Event<Value>, reply: Reply| {
            reply.emit("echo", &*value).await.unwrap();
        });
        world.on("bare", async |_: ipc_channel::Event<()>, reply: Reply| {
            reply.emit_bare("echo").await.unwrap()
        });
        let hello = client(&world, NodeIpc::default()).await;
        let mut echoes = hello.events::<Value>("echo", 8).unwrap();
        for value in shapes() {
            hello.emit("echo", &value).await.unwrap();
            assert_eq!(*soon("the echo", echoes.next()).await.unwrap().0, value);
        }
        hello.emit_bare("bare").await.unwrap();
        assert_eq!(*soon("the echo", echoes.next()).await.unwrap().0, Value::Null);
    }
}

/// N-11: the largest event there may be at all arrives, and one byte more is refused before anything is sent.
#[tokio::test]
async fn an_event_of_the_largest_size_arrives_and_one_byte_more_is_refused() {
    let place = Place::new();
    let limits = Limits::default().with_max_message(Limits::MAX_MESSAGE_CAP);
    let config = ServerConfig::new("world").endpoint(place.unix("large")).wire(Wire::node_ipc());
    let world = Server::start(config.limits(limits.clone())).await.unwrap();
    let mut texts = world.events::<String>("text", 1).unwrap();
    let config = ClientConfig::new("world").endpoint(world.endpoint().clone()).wire(Wire::node_ipc());
    let hello = Client::start(config.limits(limits)).unwrap();
    let room = Limits::MAX_MESSAGE_CAP - r#"{"type":"text","data":""}"#.len();
    let text = "x".repeat(room);
    hello.emit("text", &text).await.unwrap();
    let (arrived, _) = soon("the text", texts.next()).await.unwrap();
    assert!(*arrived == text);
    let error = hello.emit("text", &(text + "x")).await.unwrap_err();
    assert!(matches!(error, EmitError::TooLarge { max: Limits::MAX_MESSAGE_CAP, .. }), "{error:?}");
    assert_eq!(hello.counters().connects, 1);
}

/// N-11: 100,000 small events in one burst arrive in order.
#[tokio::test]
async fn a_hundred_thousand_events_in_a_burst_arrive_in_order() {
    let place = Place::new();
    let world = world(&place, NodeIpc::default()).await;
    let mut numbers = world.events::<u32>("count", 1000).unwrap();
    let hello = client(&world, NodeIpc::default()).await;
    let sending = tokio::spawn(async move {
        for number in 0..100_000 {
            hello.emit("count", &number).await.unwrap();
        }
        hello
    });
    for wanted in 0..100_000 {
        assert_eq!(*soon("a number", numbers.next()).await.unwrap().0, wanted);
    }
    sending.await.unwrap();
}

/// N-12, N-15: delimiters of several characters, two clients with different ones in one process, and neither is disturbed
/// by the other's in its data.
#[tokio::test]
async fn two_clients_of_one_process_have_delimiters_of_their_own() {
    let place = Place::new();
    let mut ends = Vec::new();
    for (name, delimiter) in [("one", "\r\n\r\n"), ("two", "\u{a7}\u{a7}")] {
        let wire = NodeIpc::default().with_delimiter(Delimiter::new(delimiter).unwrap());
        let config = ServerConfig::new("world").endpoint(place.unix(name)).wire(Wire::NodeIpc(wire.clone()));
        let world = Server::start(config).await.unwrap();
        world.on("echo", async |text: ipc_channel::Event<String>, reply: Reply| {
            reply.emit("echo", &*text).await.unwrap();
        });
        let hello = client(&world, wire).await;
        let echoes = hello.events::<String>("echo", 8).unwrap();
        ends.push((world, hello, echoes));
    }
    for text in ["plain", "\r\n\r\n", "\u{c}", "a\u{a7}b", "\r\n \r\n"] {
        for (_, hello, echoes) in &mut ends {
            hello.emit("echo", text).await.unwrap();
            assert_eq!(*soon("the echo", echoes.next()).await.unwrap().0, text);
        }
    }
}

/// N-22, N-23: what is said before there is a server is kept and comes first, in order; what is said right before a close
/// arrives, also when the server says something all the time.
#[tokio::test]
async fn what_is_said_before_the_server_and_before_the_close_arrives() {
    let place = Place::new();
    let early = Client::start(away(&place, Wire::node_ipc())).unwrap();
    for number in 0..500 {
        early.emit("count", &number).await.unwrap();
    }
    assert_eq!(early.pending(), 500);
    let world = world(&place, NodeIpc::default()).await;
    let mut numbers = world.events::<u32>("count", 2000).unwrap();
    let noise = tokio::spawn({
        let text = "x".repeat(10_000);
        let world = std::sync::Arc::new(world);
        let loud = world.clone();
        let noise = async move {
            loop {
                let _ = loud.try_broadcast("noise", &text);
                tokio::task::yield_now().await;
            }
        };
        async move { (tokio::time::timeout(crate::support::PATIENCE, noise).await, world) }
    });
    soon("the connection", early.connected()).await.unwrap();
    for number in 500..1000 {
        early.emit("count", &number).await.unwrap();
    }
    early.close(Duration::from_secs(60)).await.unwrap();
    for wanted in 0..1000 {
        assert_eq!(*soon("a number", numbers.next()).await.unwrap().0, wanted);
    }
    noise.abort();
}

/// N-23: a close without a server tells how much was not delivered, and so it does after the client gave up.
#[tokio::test]
async fn a_close_without_a_server_tells_what_was_not_delivered() {
    let place = Place::new();
    let gave_up = Client::start(away(&place, Wire::node_ipc()).max_retries(0)).unwrap();
    for number in 0..10 {
        gave_up.emit("count", &number).await.unwrap();
    }
    assert!(soon("the end of the attempts", gave_up.connected()).await.is_err());
    let closing = soon("the close", gave_up.close(Duration::from_secs(600))).await.unwrap_err();
    assert_eq!(closing.undelivered, 10);
    let waits = Client::start(away(&place, Wire::node_ipc())).unwrap();
    waits.emit("count", &1).await.unwrap();
    assert_eq!(waits.close(Duration::from_millis(1)).await.unwrap_err().undelivered, 1);
}

fn shapes() -> Vec<Value> {
    let nested = (0..100).fold(json!("bottom"), |value, level| {
        if level % 2 == 0 { json!([value]) } else { json!({ "deeper": value }) }
    });
    vec![
        json!({ "number": 1, "list": [3], "nothing": null, "": "empty key", "key\u{c}\"é": "\u{c}" }),
        json!([1, "two", [3], null, true, {}]),
        json!("text"),
        json!(""),
        json!(0),
        json!(-1),
        json!(1.5),
        json!(u64::MAX),
        json!(i64::MIN),
        json!(true),
        json!(false),
        json!(null),
        json!({}),
        json!([]),
        nested,
        json!("é ß 漢字 ✓ 👩‍👩‍👧 \u{10FFFF}"),
        json!((0..=0x9f).filter_map(char::from_u32).collect::<String>()),
        json!("form\u{c}feed, \"quote\", \\backslash, /slash, }{ and \u{2028}\u{2029}"),
    ]
}
