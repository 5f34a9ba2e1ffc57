//! Values of every shape between Node's processes and ours.

use ipc_channel::{Event, events::Reply};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::support::{Node, client, comings_and_goings, places, server, soon};

/// W-02, N-10: what a client of Node's says arrives as it was; for `""`, `null` and no data at all node-ipc itself
/// writes `{}`.
#[tokio::test]
async fn every_shape_comes_from_a_node_client() {
    let (_directory, places) = places();
    for at in places {
        let world = server(&at).await;
        let mut payloads = world.events::<Value>("payload", 64).unwrap();
        let Some(mut node) = Node::client(world.endpoint(), &[]) else { return };
        let wanted = edge();
        let times = wanted.len();
        node.tell(json!({ "command": "emit", "type": "payload", "set": "edge", "times": times })).await;
        for wanted in wanted {
            let (payload, _) = soon("a payload", payloads.next()).await.unwrap();
            let replaced = wanted.is_null() || wanted == "";
            assert_eq!(*payload, if replaced { json!({}) } else { wanted });
        }
        node.tell(json!({ "command": "emit", "type": "payload", "set": "unicode", "times": 1000 })).await;
        for index in 0..1000 {
            let (payload, _) = soon("a text", payloads.next()).await.unwrap();
            assert_eq!(*payload, unicode(index));
        }
    }
}

/// W-02, N-10: what our server says arrives at a client of Node's as it was, null and nothing included.
#[tokio::test]
async fn every_shape_comes_to_a_node_client() {
    let (_directory, places) = places();
    for at in places {
        let world = server(&at).await;
        let mut came = comings_and_goings(&world);
        let Some(mut node) = Node::client(world.endpoint(), &[]) else { return };
        let (_, id) = soon("the client", came.recv()).await.unwrap();
        for value in edge() {
            world.emit(&id, "payload", &value).await.unwrap();
            assert_eq!(node.report("event").await, json!({ "event": "payload", "data": value }));
        }
        world.client(&id).unwrap().emit_bare("nothing").await.unwrap();
        assert_eq!(node.report("event").await, json!({ "event": "nothing" }));
        for index in 0..200 {
            world.emit(&id, "text", &unicode(index)).await.unwrap();
            assert_eq!(node.report("event").await["data"], unicode(index));
        }
    }
}

/// W-02, N-10: what our client says comes back from a server of Node's as it was, but for what its `emit` replaces.
#[tokio::test]
async fn every_shape_comes_back_from_a_node_server() {
    let (_directory, places) = places();
    for at in places {
        let Some((_node, at)) = Node::server(&at, &[]).await else { return };
        let hello = client(&at);
        let (told, mut heard) = mpsc::unbounded_channel();
        hello.on("echo", move |value: Event<Value>, _: Reply| {
            let _ = told.send(value.into_value());
            async {}
        });
        let shapes: Vec<_> = edge().into_iter().chain((0..1000).map(unicode)).collect();
        for value in &shapes {
            hello.emit("echo", value).await.unwrap();
        }
        for value in shapes {
            let replaced = value.is_null() || value == "";
            let echo = soon("an echo", heard.recv()).await.unwrap();
            assert_eq!(echo, if replaced { json!({}) } else { value });
        }
    }
}

/// As Node's programs have them, in their order; no data reads as `null`.
fn edge() -> Vec<Value> {
    let nested = (0..100).fold(json!("bottom"), |value, level| {
        if level % 2 == 0 { json!([value]) } else { json!({ "deeper": value }) }
    });
    vec![
        json!({ "number": 1, "text": "two", "list": [3], "nothing": null, "yes": true, "": "empty key" }),
        json!([1, "two", [3], null, true, {}]),
        json!("text"),
        json!(""),
        json!(42),
        json!(0),
        json!(-1),
        json!(1.5),
        // As JavaScript writes it, which serde reads as a floating-point number.
        json!(1e21),
        json!(9_007_199_254_740_991_u64),
        json!(true),
        json!(false),
        json!(null),
        json!(null),
        json!({}),
        json!([]),
        nested,
        json!("é ß 漢字 ✓ 👩‍👩‍👧 \u{10FFFF}"),
        json!("\0\u{1}\u{8}\t\n\u{b}\r\u{1f}\u{7f}\u{80}\u{2028}\u{2029}"),
        json!("form\u{c}feed, \"quote\", \\backslash, /slash"),
        json!({ "key\u{c}\"é": "\u{c}" }),
    ]
}

fn unicode(index: usize) -> Value {
    let crabs = "\u{1F980}".repeat(50);
    let texts = [
        "plain",
        "Grüße aus Zürich",
        "Ελληνικά и кириллица",
        "漢字かな交じり文",
        "עברית and العربية",
        "🦀 ↔ 🐢 👩‍👩‍👧‍👦 🏳️‍🌈",
        "e\u{301} beside \u{e9}",
        &crabs,
    ];
    json!({ "number": index, "text": texts[index % texts.len()] })
}
