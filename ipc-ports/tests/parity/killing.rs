//! Processes that are killed at any instant, and their successors.

use bytes::Bytes;
use ipc_pipeline::link::LostReason;
use ipc_ports::{PortConfig, Status};
use ipc_testkit::{oracle::Ledger, process::rounds};
use ipc_transport::Raw;

use crate::{
    roles::{Do, Policy, Told, ask, consumer, number, producer, tell, value},
    support::{LONG, processes},
};

/// P-08: what was not sent when the consumer was killed arrives at its successor, once; what may have been seen before
/// says so.
#[test]
fn a_killed_and_restarted_consumer_gets_what_was_buffered() {
    processes(|site| async move {
        let node = site.node("producer").await;
        let out = node.outgoing_codec("OUT", PortConfig::new().capacity(20), Raw).unwrap();
        out.connect("consumer", "IN").unwrap();
        let mut ledger = Ledger::new();
        let mut sent = 0;
        for seed in rounds(6, 200) {
            let mut rng = fastrand::Rng::with_seed(seed);
            // A narrow window, so that most values have not left when the consumer dies.
            let mut consumer = consumer(&site, "consumer", 4).await;
            while out.try_send(value(sent, 8)).is_ok() {
                ledger.accept("producer", sent);
                sent += 1;
            }
            assert_eq!(out.pending(), 20);
            let count = rng.u64(0..20);
            let told = ask(&mut consumer, &Do::Take { count }).await;
            let Told::Took { first, count, redelivered } = told else { panic!("{told:?}") };
            for number in first..first + count {
                ledger.deliver("producer", number, number < first + redelivered).unwrap();
            }
            let mut status = out.status();
            consumer.kill();
            status.wait_for(|status| *status != Status::Connected).await.unwrap();
            ledger.receiver_restarted();
        }
        let mut consumer = consumer(&site, "consumer", 4).await;
        let told = ask(&mut consumer, &Do::Take { count: out.pending() as u64 }).await;
        let Told::Took { first, count, redelivered } = told else { panic!("{told:?}") };
        assert!(redelivered <= 4, "no more can have left than the window lets");
        for number in first..first + count {
            ledger.deliver("producer", number, number < first + redelivered).unwrap();
        }
        ledger.finish().unwrap();
        out.close(LONG).await.unwrap();
    });
}

/// P-31: the socket of a killed consumer is still there, and the next one starts all the same.
#[test]
fn a_stale_socket_does_not_prevent_a_restart() {
    processes(|site| async move {
        let node = site.node("producer").await;
        let out = node.outgoing_codec("OUT", PortConfig::new(), Raw).unwrap();
        out.connect("consumer", "IN").unwrap();
        for round in 0..5 {
            let mut consumer = consumer(&site, "consumer", 20).await;
            out.send(value(round, 8)).await.unwrap();
            let took = ask(&mut consumer, &Do::Take { count: 1 }).await;
            assert!(matches!(took, Told::Took { first, .. } if first == round), "{took:?}");
            out.settled().await.unwrap();
            let mut status = out.status();
            consumer.kill();
            assert!(site.is_tcp() || site.socket("consumer").exists(), "a killed process removes nothing");
            status.wait_for(|status| *status != Status::Connected).await.unwrap();
        }
        drop(out.abort());
    });
}

/// no signal, and one loss for one death, however much is written.
#[test]
fn writing_to_a_dying_process_gives_one_disconnect() {
    processes(|site| async move {
        let node = site.node("producer").await;
        let out = node.outgoing_codec("OUT", PortConfig::new().capacity(10_000), Raw).unwrap();
        out.connect("consumer", "IN").unwrap();
        for round in 0..5 {
            let mut consumer = consumer(&site, "consumer", 16_384).await;
            out.connected().await.unwrap();
            let sender = out.sender();
            let writing = tokio::spawn(async move {
                while sender.try_send(value(round, 1_000)).is_ok() {
                    tokio::task::yield_now().await;
                }
            });
            let mut status = out.status();
            assert_eq!(*status.borrow_and_update(), Status::Connected);
            consumer.kill();
            status.changed().await.unwrap();
            assert_eq!(*status.borrow_and_update(), Status::Lost(LostReason::HangUp));
            writing.await.unwrap();
            assert!(
                !status.has_changed().unwrap(),
                "more writes and failed dials are no further disconnects"
            );
            assert_eq!(out.counters().reconnects, round);
        }
        drop(out.abort());
    });
}

/// P-08 from the other side: a producer that dies takes along what it had not transferred, and its successor's values
/// come after what had arrived.
#[test]
fn a_killed_producer_is_followed_by_its_successor() {
    processes(|site| async move {
        let node = site.node("consumer").await;
        let mut inp = node.incoming_codec::<Bytes>("IN", PortConfig::new(), Raw).unwrap();
        for round in 0..5 {
            let mut producer = producer(&site, "producer", 20, Policy::Wait, "consumer").await;
            tell(&mut producer, &Do::Send { from: 0, to: 5, len: 8 }).await;
            for expected in 0..5 {
                let delivery = inp.recv().await.unwrap();
                assert_eq!((number(&delivery), delivery.redelivered()), (expected, false));
            }
            producer.kill();
            assert_eq!(inp.sources().len(), 1);
            assert_eq!(inp.counters().restarts, round);
        }
    });
}
