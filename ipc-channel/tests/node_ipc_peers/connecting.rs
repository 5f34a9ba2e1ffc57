//! Node's server, and clients that are ours.

use std::time::Duration;

use serde_json::json;

use crate::support::{Node, client, count_to, places, soon, ups_and_downs};

/// W-02, W-04: 1,000 events of ours, written as a stream, are all counted by a server of Node's and in order; 1,000 of its
/// broadcasts arrive.
#[tokio::test]
async fn a_node_server_hears_and_says_a_thousand_events() {
    let (_directory, places) = places();
    for at in places {
        let Some((mut node, at)) = Node::server(&at, &[]).await else { return };
        let hello = client(&at);
        let mut numbers = hello.events::<u64>("count", 8).unwrap();
        soon("the connection", hello.connected()).await.unwrap();
        for number in 0..1000 {
            hello.emit("count", &number).await.unwrap();
        }
        assert_eq!(node.counted(1000).await, (1000, true));
        node.tell(json!({ "command": "broadcast", "type": "count", "set": "numbers", "times": 1000 })).await;
        count_to(1000, &mut numbers).await;
    }
}

/// N-22, N-23: what is said before there is a server comes first when there is one, and what is said right before a
/// close arrives too.
#[tokio::test]
async fn what_is_said_before_the_connection_and_right_before_the_close_arrives() {
    let (_directory, [at, _]) = places();
    let hello = client(&at);
    for number in 0..500 {
        hello.emit("count", &number).await.unwrap();
    }
    let Some((mut node, _)) = Node::server(&at, &[]).await else { return };
    soon("the connection", hello.connected()).await.unwrap();
    for number in 500..1000 {
        hello.emit("count", &number).await.unwrap();
    }
    hello.close(Duration::from_secs(60)).await.unwrap();
    assert_eq!(node.counted(1000).await, (1000, true));
}

/// W-02, N-20: our client comes back after a server of Node's has broken its connections, has stopped and started, and was
/// killed with `kill -9` and started anew; its handlers stay, and what it says meanwhile is kept.
#[tokio::test]
async fn our_client_comes_back_to_a_node_server() {
    let (_directory, places) = places();
    for at in places {
        let Some((mut node, at)) = Node::server(&at, &[]).await else { return };
        let hello = client(&at);
        let mut changes = ups_and_downs(&hello);
        let mut echoes = hello.events::<usize>("echo", 8).unwrap();
        for (round, end) in ["none", "drop", "stop", "kill"].into_iter().enumerate() {
            match end {
                "drop" => {
                    node.tell(json!({ "command": "drop" })).await;
                    node.report("dropped").await;
                }
                "stop" => {
                    node.tell(json!({ "command": "stop" })).await;
                    node.report("stopped").await;
                }
                "kill" => {
                    node.kill().await;
                    // As where it was killed a socket file is left behind, which node-ipc removes.
                    node = Node::server(&at, &[]).await.unwrap().0;
                }
                _ => {}
            }
            if end != "none" {
                assert!(!soon("the end", changes.recv()).await.unwrap(), "{end}");
            }
            if end == "stop" {
                // Said while there is no server.
                hello.emit("echo", &round).await.unwrap();
                node.tell(json!({ "command": "start" })).await;
                node.report("ready").await;
            }
            loop {
                // A connection that still came to the backlog of a server that dies ends again.
                let connected = soon("the connection", changes.recv()).await.unwrap();
                if connected && end != "stop" {
                    hello.emit("echo", &round).await.unwrap();
                }
                let echo = tokio::select! {
                    echo = soon("the echo", echoes.next()), if connected => echo.unwrap().0,
                    _ = changes.recv() => continue,
                };
                assert_eq!(*echo, round, "{end}");
                break;
            }
        }
        assert!(hello.counters().connects >= 4);
    }
}

/// N-39: a server of Node's identifies our client by the `id` in what it says.
#[tokio::test]
async fn a_node_server_knows_our_client_by_the_id_in_its_data() {
    let (_directory, [at, _]) = places();
    let Some((mut node, at)) = Node::server(&at, &[]).await else { return };
    let hello = client(&at);
    hello.emit("claim", &json!({ "id": "ada", "more": 1 })).await.unwrap();
    node.report("event").await;
    hello.close(Duration::from_secs(60)).await.unwrap();
    assert_eq!(node.report("disconnect").await["id"], "ada");
}
