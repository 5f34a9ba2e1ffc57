//! Other delimiters, and bytes without any.

use ipc_channel::events::{Client, NodeIpc, Server, Wire, node_ipc::Delimiter};
use serde_json::json;
use tokio::sync::mpsc;

use crate::support::{Node, client_config, count_to, places, server_config, soon};

/// N-12: both ends may agree on another delimiter, such as the end of a line.
#[tokio::test]
async fn events_end_with_the_delimiter_that_both_have() {
    let wire = || Wire::NodeIpc(NodeIpc::default().with_delimiter(Delimiter::new("\n").unwrap()));
    let (_directory, places) = places();
    for at in places {
        let world = Server::start(server_config(&at).wire(wire())).await.unwrap();
        let mut numbers = world.events::<u64>("count", 8).unwrap();
        let Some(mut node) = Node::client(world.endpoint(), &["--delimiter", "\n"]) else { return };
        node.tell(json!({ "command": "emit", "type": "count", "set": "numbers", "times": 100 })).await;
        count_to(100, &mut numbers).await;
        world.broadcast("text", &"two\nlines").await.unwrap();
        assert_eq!(node.report("event").await, json!({ "event": "text", "data": "two\nlines" }));
        drop(world);
    }
    let (_directory, [at, _]) = crate::support::places();
    let (mut node, at) = Node::server(&at, &["--delimiter", "\n"]).await.unwrap();
    let hello = Client::start(client_config(&at).wire(wire())).unwrap();
    let mut numbers = hello.events::<u64>("count", 8).unwrap();
    soon("the connection", hello.connected()).await.unwrap();
    hello.emit("count", &0).await.unwrap();
    assert_eq!(node.counted(1).await, (1, true));
    node.tell(json!({ "command": "broadcast", "type": "count", "set": "numbers", "times": 100 })).await;
    count_to(100, &mut numbers).await;
}

/// N-33: every byte comes as it was from a client of Node's in raw mode, and back to it.
#[tokio::test]
async fn bare_bytes_come_from_a_node_client_and_back() {
    let (_directory, places) = places();
    for at in places {
        let world = Server::start(server_config(&at).wire(Wire::Raw)).await.unwrap();
        world.on_bytes(async |bytes, client| client.emit_bytes(bytes).await.unwrap());
        let Some(mut node) = Node::client(world.endpoint(), &["--raw"]) else { return };
        node.tell(json!({ "command": "emit", "hex": hex(&bytes()) })).await;
        assert_eq!(all_hex(&mut node).await, hex(&bytes()));
    }
}

/// N-33: every byte comes as it was to a server of Node's in raw mode, and back from it.
#[tokio::test]
async fn bare_bytes_come_to_a_node_server_and_back() {
    let (_directory, places) = places();
    for at in places {
        let Some((mut node, at)) = Node::server(&at, &["--raw"]).await else { return };
        let hello = Client::start(client_config(&at).wire(Wire::Raw)).unwrap();
        let (told, mut heard) = mpsc::unbounded_channel();
        hello.on_bytes(move |bytes, _| {
            let _ = told.send(bytes);
            async {}
        });
        hello.emit_bytes(bytes()).await.unwrap();
        let mut back = Vec::new();
        while back.len() < bytes().len() {
            back.extend_from_slice(&soon("the bytes", heard.recv()).await.unwrap());
        }
        assert_eq!(back, bytes());
        assert_eq!(all_hex(&mut node).await, hex(&bytes()));
    }
}

/// All that Node says it got, cut anywhere.
async fn all_hex(node: &mut Node) -> String {
    let mut all = String::new();
    while all.len() < 2 * bytes().len() {
        all += node.report("hex").await["hex"].as_str().unwrap();
    }
    all
}

/// Each byte once upwards and once downwards, and what would mean something elsewhere.
fn bytes() -> Vec<u8> {
    (0..=255).chain((0..=255).rev()).chain(*b"\0\x0c\xff\xfe{\"type\":\"disconnect\"}\x0c").collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
