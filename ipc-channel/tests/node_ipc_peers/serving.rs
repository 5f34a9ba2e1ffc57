//! Our server, and clients that are Node's.

use std::collections::HashMap;

use ipc_channel::{
    Event,
    events::{NodeIpc, Reply, Server, Wire},
};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::support::{Node, answer_hello, comings_and_goings, places, server, server_config, soon, unix_in};

/// W-02, W-04: 1,000 events of each of two clients arrive in order, and 1,000 to each of them, written as a stream.
#[tokio::test]
async fn node_clients_say_and_hear_a_thousand_events() {
    let (_directory, places) = places();
    for at in places {
        let world = server(&at).await;
        let (told, mut heard) = mpsc::unbounded_channel();
        world.on("count", move |number: Event<u64>, client: Reply| {
            let _ = told.send((client.id().to_owned(), *number));
            async {}
        });
        let mut came = comings_and_goings(&world);
        let mut clients = Vec::new();
        for _ in 0..2 {
            let Some(mut node) = Node::client(world.endpoint(), &[]) else { return };
            soon("a client", came.recv()).await.unwrap();
            node.tell(json!({ "command": "emit", "type": "count", "set": "numbers", "times": 1000 })).await;
            clients.push(node);
        }
        let mut next = HashMap::new();
        for _ in 0..2000 {
            let (client, number) = soon("an event", heard.recv()).await.unwrap();
            let wanted = next.entry(client).or_insert(0);
            assert_eq!(number, *wanted);
            *wanted += 1;
        }
        assert_eq!(next.into_values().collect::<Vec<_>>(), [1000, 1000]);
        for client in world.clients() {
            for number in 0..1000 {
                client.emit("count", &number).await.unwrap();
            }
        }
        for node in &mut clients {
            assert_eq!(node.counted(1000).await, (1000, true));
        }
    }
}

/// W-04: node-ipc 9.2.1 hands events out when a chunk ends with the delimiter. Whatever we write at once does, so that the
/// last event of a burst is not held back until another one follows.
#[tokio::test]
async fn the_last_event_of_each_burst_arrives() {
    let (_directory, places) = places();
    for at in places {
        let world = server(&at).await;
        let mut came = comings_and_goings(&world);
        let Some(mut node) = Node::client(world.endpoint(), &[]) else { return };
        let (_, id) = soon("the client", came.recv()).await.unwrap();
        let (client, mut number) = (world.client(&id).unwrap(), 0);
        for size in [1, 2, 63, 64, 65, 500, 1] {
            for _ in 0..size {
                client.emit("count", &number).await.unwrap();
                number += 1;
            }
            assert_eq!(node.counted(number).await, (number, true));
        }
        // Larger than the socket takes at once.
        let large = "x".repeat(300_000);
        client.emit("large", &large).await.unwrap();
        assert_eq!(node.report("event").await["data"], large.as_str());
    }
}

/// N-09 and N-07 with clients of Node's: a broadcast reaches each of them once, an event for one that one alone.
#[tokio::test]
async fn a_broadcast_reaches_each_node_client_once() {
    let (_directory, [at, _]) = places();
    let world = server(&at).await;
    let mut came = comings_and_goings(&world);
    let mut clients = Vec::new();
    for _ in 0..5 {
        let Some(node) = Node::client(&at, &[]) else { return };
        let (_, id) = soon("a client", came.recv()).await.unwrap();
        clients.push((node, id));
    }
    assert_eq!(world.broadcast("tick", &1).await.unwrap(), 5);
    for (index, (_, id)) in clients.iter().enumerate() {
        world.emit(id, "yours", &index).await.unwrap();
    }
    for (index, (node, _)) in clients.iter_mut().enumerate() {
        assert_eq!(node.report("event").await, json!({ "event": "tick", "data": 1 }));
        assert_eq!(node.report("event").await, json!({ "event": "yours", "data": index }));
    }
}

/// W-02: a client of Node's comes back by itself after our server was closed and started again, three times; what it says
/// then arrives, and what it is told.
#[tokio::test]
async fn a_node_client_comes_back_to_a_server_started_again() {
    let (_directory, places) = places();
    for at in places {
        let mut world = server(&at).await;
        let at = world.endpoint().clone();
        let Some(mut node) = Node::client(&at, &["--retry", "20"]) else { return };
        for life in 0..4 {
            answer_hello(&world);
            node.says_hello().await;
            assert_eq!(world.broadcast("life", &life).await.unwrap(), 1);
            assert_eq!(node.report("event").await, json!({ "event": "life", "data": life }));
            if life == 1 {
                // Without a word, as one that is killed.
                drop(world);
            } else {
                world.close(std::time::Duration::from_secs(60)).await.unwrap();
            }
            node.report("disconnect").await;
            world = started_again(&at).await;
        }
    }
}

/// A server at an address that an earlier one has just left.
async fn started_again(at: &ipc_transport::Endpoint) -> Server {
    loop {
        match Server::start(server_config(at)).await {
            Ok(server) => return server,
            // One that was dropped leaves its address in the background.
            Err(ipc_transport::Error::AddrInUse { .. }) => tokio::task::yield_now().await,
            Err(error) => panic!("{error}"),
        }
    }
}

/// W-02, N-14: a client of Node's that breaks its connection comes back as another one; one that is killed with `kill -9`
/// is a disconnect of the id that its connect had.
#[tokio::test]
async fn a_node_client_that_breaks_off_or_is_killed_is_told() {
    let (_directory, places) = places();
    for at in places {
        let world = server(&at).await;
        let mut came = comings_and_goings(&world);
        let Some(mut node) = Node::client(world.endpoint(), &["--retry", "20"]) else { return };
        let (_, first) = soon("the client", came.recv()).await.unwrap();
        node.report("connect").await;
        node.tell(json!({ "command": "drop" })).await;
        assert_eq!(soon("its end", came.recv()).await.unwrap(), (false, first.clone()));
        let (is_here, second) = soon("the client again", came.recv()).await.unwrap();
        assert!(is_here && second != first);
        node.kill().await;
        assert_eq!(soon("its end", came.recv()).await.unwrap(), (false, second));
        assert!(world.clients().is_empty());
    }
}

/// N-39: with `identify_peer` a server takes the `id` in the data of a client of Node's for its name, and it can be told
/// things by it; without, nothing that a client says gives it a name.
#[tokio::test]
async fn a_node_client_has_the_name_it_claims_only_where_that_is_wanted() {
    for identifies in [true, false] {
        let directory = ipc_testkit::process::TempDir::new().unwrap();
        let at = unix_in(&directory);
        let wire = Wire::NodeIpc(NodeIpc::default().with_identify_peer(identifies));
        let world = Server::start(server_config(&at).wire(wire)).await.unwrap();
        let mut claims = world.events::<Value>("claim", 4).unwrap();
        let Some(mut node) = Node::client(&at, &[]) else { return };
        node.tell(json!({ "command": "emit", "type": "claim", "data": { "id": "ada" } })).await;
        let (claim, client) = soon("the claim", claims.next()).await.unwrap();
        assert_eq!(*claim, json!({ "id": "ada" }));
        assert_eq!(client.name(), identifies.then_some("ada"));
        assert_eq!(world.client("ada").is_some(), identifies);
        if identifies {
            world.emit("ada", "hello", &"ada").await.unwrap();
            assert_eq!(node.report("event").await, json!({ "event": "hello", "data": "ada" }));
        }
    }
}
