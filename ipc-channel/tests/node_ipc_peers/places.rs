//! Where servers are when nobody says where.

use ipc_channel::events::node_ipc::default_path_v9;
use ipc_testkit::process::TempDir;
use serde_json::json;

use crate::support::{Node, client, root_of, server, soon};

/// N-04: `default_path_v9` leads our client to a server of Node's that was only told its root, its application space and
/// its id.
#[tokio::test]
async fn our_client_finds_a_node_server_at_its_default_path() {
    let directory = TempDir::new().unwrap();
    for (appspace, id) in [("app.", "world"), ("other-", "w.1")] {
        let root = root_of(&directory);
        let arguments = ["--root", root.as_str(), "--appspace", appspace, "--id", id];
        let Some(mut node) = Node::start("server.js", arguments) else { return };
        node.report("ready").await;
        let path = default_path_v9(&root, appspace, id).unwrap();
        let hello = client(&format!("unix:{path}").parse().unwrap());
        hello.emit("message", "hello").await.unwrap();
        assert_eq!(node.report("event").await, json!({ "event": "message", "data": "hello", "from": 1 }));
    }
}

/// N-04: and a client of Node's finds our server there.
#[tokio::test]
async fn a_node_client_finds_our_server_at_its_default_path() {
    let directory = TempDir::new().unwrap();
    for (appspace, id) in [("app.", "world"), ("other-", "w.1")] {
        let root = root_of(&directory);
        let path = default_path_v9(&root, appspace, id).unwrap();
        let world = server(&format!("unix:{path}").parse().unwrap()).await;
        let mut messages = world.events::<String>("message", 4).unwrap();
        let arguments = ["--root", root.as_str(), "--appspace", appspace, "--server", id];
        let Some(mut node) = Node::start("client.js", arguments) else { return };
        node.tell(json!({ "command": "emit", "type": "message", "data": "hello" })).await;
        let (message, client) = soon("the message", messages.next()).await.unwrap();
        client.emit("message", &format!("{} world!", *message)).await.unwrap();
        assert_eq!(node.report("event").await, json!({ "event": "message", "data": "hello world!" }));
    }
}
