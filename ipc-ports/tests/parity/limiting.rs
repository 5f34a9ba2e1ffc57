//! What a node's limits and times do, the unusual ones as well.

use std::{
    pin::pin,
    task::{Context, Waker},
    time::Duration,
};

use ipc_pipeline::protocol::Budget;
use ipc_ports::{Node, NodeConfig, PortConfig, PortError, SendErrorReason};
use ipc_testkit::{Faulty, MemTransport};
use ipc_transport::{Limits, StaticNaming};

use crate::support::{LONG, World, once, until};

fn limited(change: impl FnOnce(&mut Limits)) -> Limits {
    let mut limits = Limits::default();
    change(&mut limits);
    limits
}

#[test]
fn the_largest_message_of_a_node_is_that_of_its_ports() {
    once(|world| async move {
        let config = world.config("process1").limits(limited(|limits| limits.max_message = 100));
        let node = Node::start(config).await.unwrap();
        let out = node.outgoing::<Vec<u8>>("OUT").unwrap();
        let error = out.send(vec![0; 101]).await.unwrap_err();
        assert!(matches!(error.reason(), SendErrorReason::TooLarge { max: 100, .. }), "{error:?}");
        let wider = PortConfig::new().max_message(1_000);
        node.outgoing_with::<Vec<u8>>("WIDE", wider).unwrap().send(vec![0; 101]).await.unwrap();

        let config = world.config("process2").limits(limited(|limits| limits.max_message = usize::MAX));
        let node = Node::start(config).await.unwrap();
        let error = node.incoming::<Vec<u8>>("IN").unwrap_err();
        assert!(matches!(error, PortError::MessageCap { asked: usize::MAX, .. }), "{error:?}");
    });
}

/// With nothing beyond the floor of 64 KiB, only so much comes in ahead of its being taken.
#[test]
fn the_receive_budget_of_a_node_is_shared_by_its_ports() {
    once(|world| async move {
        let none = limited(|limits| (limits.receive_budget, limits.foreign_receive_budget) = (0, 0));
        let one = world.node("process1").await;
        let two = Node::start(world.config("process2").limits(none)).await.unwrap();
        let narrow = two.incoming::<Vec<u8>>("NARROW").unwrap();
        let budget = Budget::new(64 << 20);
        let wide = two.incoming_with::<Vec<u8>>("WIDE", PortConfig::new().budget(budget)).unwrap();
        let mut outs = Vec::new();
        for name in ["NARROW", "WIDE"] {
            let out = one.outgoing_with::<Vec<u8>>(name, PortConfig::new().capacity(200)).unwrap();
            out.connect("process2", name).unwrap();
            for _ in 0..200 {
                out.send(vec![0; 2_000]).await.unwrap();
            }
            outs.push(out);
        }
        let here = |port: &ipc_ports::IncomingPort<Vec<u8>>| {
            port.sources().first().and_then(|id| port.source(*id)).map_or(0, |source| source.received_bytes)
        };
        until(|| here(&wide) > 200 * 2_000).await;
        until(|| here(&narrow) > 60 * 1024).await;
        assert!(here(&narrow) <= 64 * 1024, "{}", here(&narrow));
        drop(outs);
    });
}

/// Times and counts at the ends of their types are times and counts like others.
#[test]
fn limits_at_the_ends_of_their_types_work() {
    once(|world| async move {
        let odd = limited(|limits| {
            limits.max_handshakes = 0;
            limits.handshake_eviction_age = Duration::MAX;
            limits.handshake_timeout = Duration::MAX;
        });
        let one = world.node("process1").await;
        let config = world.config("process2").limits(odd).backlog(1).socket_mode(0o600);
        let two = Node::start(config.connect_timeout(Duration::MAX)).await.unwrap();
        let mut inp = two.incoming::<u64>("IN").unwrap();
        for round in 0..5 {
            let out = one.outgoing::<u64>("OUT").unwrap();
            out.connect("process2", "IN").unwrap();
            out.send(round).await.unwrap();
            assert_eq!(*inp.recv().await.unwrap(), round);
            out.close(LONG).await.unwrap();
            assert!(inp.recv().await.is_err());
        }
        one.shutdown(Duration::MAX).await.unwrap();
        two.shutdown(Duration::MAX).await.unwrap();
    });
}

/// A shutdown may be awaited where no runtime is.
#[test]
fn a_shutdown_needs_no_runtime_around_it() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let world = World::unix();
    let node = runtime.block_on(world.node("process1"));
    let _out = node.outgoing::<u64>("OUT").unwrap();
    let _inp = node.incoming::<u64>("IN").unwrap();
    let shutdown = node.shutdown(LONG);
    let mut shutdown = pin!(shutdown);
    let mut context = Context::from_waker(Waker::noop());
    while shutdown.as_mut().poll(&mut context).is_pending() {
        std::thread::yield_now();
    }
}

/// Ports say their last word at the same time: peers that do not listen cost one second, not one each.
#[test]
fn a_shutdown_waits_for_all_deaf_peers_together() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
    runtime.unwrap().block_on(async {
        let world = MemTransport::new();
        let faulty = Faulty::pass_through(world.clone());
        let handle = faulty.handle();
        let config = |name| {
            NodeConfig::new(name).naming(
                StaticNaming::new()
                    .with("process1", "mem:process1".parse().unwrap())
                    .with("process2", "mem:process2".parse().unwrap()),
            )
        };
        let one = Node::start(config("process1").transport(world)).await.unwrap();
        let two = Node::start(config("process2").transport(faulty)).await.unwrap();
        let mut ports = Vec::new();
        for index in 0..10 {
            let name = format!("PORT{index}");
            let (out, inp) = (one.outgoing::<u64>(&name).unwrap(), two.incoming::<u64>(&name).unwrap());
            out.connect("process2", &name).unwrap();
            out.connected().await.unwrap();
            ports.push((out, inp));
        }
        handle.stall();
        tokio::time::timeout(Duration::from_secs(3), two.shutdown(Duration::ZERO)).await.unwrap().unwrap();
    });
}
