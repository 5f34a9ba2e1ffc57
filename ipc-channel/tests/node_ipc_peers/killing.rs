//! Processes of ours that are killed, with Node's at the other end.

use ipc_testkit::process::{self, Role};
use ipc_transport::Endpoint;
use serde_json::json;

use crate::support::{Node, answer_hello, client, places, server};

/// Serves at the place that it is given, says where that is, and answers `message`.
#[tokio::test]
async fn role_world() {
    let Some(mut parent) = process::enter("killing::role_world") else { return };
    let at: Endpoint = parent.argument::<String>().parse().unwrap();
    let world = server(&at).await;
    answer_hello(&world);
    parent.send(&world.endpoint().to_string()).unwrap();
    parent.hung_up().await;
}

/// Tells the server at the place that it is given who it is, again and again by itself after reconnects.
#[tokio::test]
async fn role_hello() {
    let Some(mut parent) = process::enter("killing::role_hello") else { return };
    let hello = client(&parent.argument::<String>().parse().unwrap());
    hello.emit("claim", &json!({ "id": "ada" })).await.unwrap();
    parent.hung_up().await;
}

/// W-02: a client of Node's comes back to our server after it was killed with `kill -9` and started anew, twice.
#[tokio::test]
async fn a_node_client_comes_back_after_our_server_was_killed() {
    let (_directory, places) = places();
    for at in places {
        let (mut at, mut node) = (at.to_string(), None::<Node>);
        for _ in 0..3 {
            let mut world = Role::new("killing::role_world").argument(&at).spawn().unwrap();
            at = world.recv().await.unwrap();
            if node.is_none() {
                node = Node::client(&at.parse().unwrap(), &["--retry", "20"]);
            }
            let Some(node) = &mut node else { return };
            node.says_hello().await;
            world.kill();
            node.report("disconnect").await;
        }
    }
}

/// W-02: a server of Node's is told of our client that was killed with `kill -9`, and takes the next one.
#[tokio::test]
async fn a_node_server_goes_on_after_our_client_was_killed() {
    let (_directory, places) = places();
    for at in places {
        let Some((mut node, at)) = Node::server(&at, &[]).await else { return };
        for life in 1..4 {
            let mut hello = Role::new("killing::role_hello").argument(&at.to_string()).spawn().unwrap();
            assert_eq!(node.report("event").await["from"], life);
            hello.kill();
            assert_eq!(node.report("disconnect").await, json!({ "disconnect": life, "id": "ada" }));
        }
    }
}
