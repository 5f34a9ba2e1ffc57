//! Endings: closing, dropping, and beginning where nothing can.

use std::time::Duration;

use futures_util::FutureExt as _;
use ipc_channel::events::{Datagrams, DatagramsConfig, EmitError, Wire};
use ipc_testkit::{FaultPlan, Faulty, MemTransport};
use ipc_transport::Error;

use crate::support::{PATIENCE, config, end, mem, name, soon};

#[tokio::test]
async fn closing_sends_what_was_accepted_and_frees_the_address() {
    let world = MemTransport::new();
    let server = end(&world, "server", Wire::Native).await;
    let mut heard = server.events::<u32>("n", 16).unwrap();
    for _ in 0..20 {
        let client = end(&world, "client", Wire::Native).await;
        for number in 0..3_u32 {
            client.emit(name("server"), "n", &number).unwrap();
        }
        client.close(PATIENCE).await.unwrap();
        for number in 0..3 {
            assert_eq!(*soon("the number", heard.next()).await.unwrap().0, number);
        }
    }
}

#[tokio::test]
async fn closing_over_udp_frees_the_port() {
    let first = Datagrams::start(DatagramsConfig::new("udp://127.0.0.1:0".parse().unwrap())).await.unwrap();
    let at = first.endpoint().clone();
    let taken = Datagrams::start(DatagramsConfig::new(at.clone())).await;
    assert!(matches!(taken, Err(Error::AddrInUse { .. })), "{taken:?}");
    first.close(PATIENCE).await.unwrap();
    Datagrams::start(DatagramsConfig::new(at)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn closing_says_how_much_did_not_leave_in_time() {
    let faulty = Faulty::new(MemTransport::new(), FaultPlan::new(1));
    let client =
        Datagrams::start(DatagramsConfig::new(mem("client")).transport(faulty.clone())).await.unwrap();
    faulty.handle().stall();
    for number in 0..3_u32 {
        client.emit(name("server"), "n", &number).unwrap();
    }
    let closing = client.close(Duration::from_secs(5)).await.unwrap_err();
    assert_eq!(closing.undelivered, 3);
}

#[tokio::test]
async fn a_dropped_end_frees_its_address_and_its_handles_send_no_more() {
    let world = MemTransport::new();
    let (server, client) =
        (end(&world, "server", Wire::Native).await, end(&world, "client", Wire::Native).await);
    let mut heard = server.events::<()>("n", 8).unwrap();
    client.emit_bare(name("server"), "n").unwrap();
    let (_, reply) = soon("the event", heard.next()).await.unwrap();
    drop(server);
    assert_eq!(reply.emit("n", &()), Err(EmitError::Closed));
    assert!(soon("the end", heard.next()).await.is_none());
    soon("the address", async {
        while let Err(error) = Datagrams::start(config(&world, "server")).await {
            assert!(matches!(error, Error::AddrInUse { .. }), "{error:?}");
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[test]
fn starting_outside_a_runtime_is_an_error() {
    let config = DatagramsConfig::new("udp://127.0.0.1:0".parse().unwrap());
    let outcome = Datagrams::start(config).now_or_never().unwrap();
    assert!(matches!(outcome, Err(Error::NoRuntime)), "{outcome:?}");
}

#[tokio::test]
async fn an_address_that_could_be_reached_from_elsewhere_has_to_be_allowed() {
    for wire in [Wire::Native, Wire::node_ipc(), Wire::Raw] {
        let config = DatagramsConfig::new("udp://0.0.0.0:0".parse().unwrap()).wire(wire);
        let outcome = Datagrams::start(config.clone()).await;
        assert!(matches!(outcome, Err(Error::NotLocal { .. })), "{outcome:?}");
        let anywhere = ipc_transport::UdpTransport::new().dangerous().reachable_from_elsewhere();
        Datagrams::start(config.transport(anywhere)).await.unwrap();
    }
}

/// Both kinds of runtime: sending from any thread, with the runtime that the end was started in.
#[test]
fn an_end_outlives_its_runtime_without_a_panic() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let world = MemTransport::new();
    let client = runtime.block_on(end(&world, "client", Wire::Native));
    client.emit(name("server"), "n", &1_u32).unwrap();
    drop(runtime);
    assert_eq!(client.emit(name("server"), "n", &2_u32), Err(EmitError::Closed));
    assert!(client.peers().is_empty());
    drop(client);
}
