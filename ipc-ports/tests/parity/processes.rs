//! Scenarios of several processes that all live on.

use std::{collections::HashMap, future::Future, time::Duration};

use bytes::Bytes;
use ipc_ports::{PortConfig, RecvError};
use ipc_testkit::process::{TempDir, rounds};
use ipc_transport::Raw;

use crate::{
    orders::orders,
    roles::{Do, Policy, Told, actor, ask, consumer, number, producer, tell, value},
    support::{LONG, Site, processes, until},
};

/// P-12, P-13: eight producers, each a process; the shares are those of a receiver that finds all of them saturated.
#[test]
fn eight_processes_send_into_one_port_in_order_and_in_fair_turns() {
    const PRODUCERS: usize = 8;
    const EACH: u64 = 10_000;
    const CAPACITY: u64 = 1_000;
    processes(|site| async move {
        let node = site.node("consumer").await;
        let mut inp = node.incoming_codec::<Bytes>("IN", PortConfig::new(), Raw).unwrap();
        let mut producers = Vec::new();
        for number in 0..PRODUCERS {
            let name = format!("producer{number}");
            let mut producer = producer(&site, &name, CAPACITY as usize, Policy::Wait, "consumer").await;
            producer.send(&Do::Send { from: 0, to: EACH, len: 8 }).unwrap();
            assert_eq!(producer.recv::<Told>().await.unwrap(), Told::Full);
            producers.push(producer);
        }
        let arrived = || {
            let sources = inp.sources();
            sources.len() == PRODUCERS
                && sources.iter().all(|source| inp.source(*source).unwrap().received_bytes == CAPACITY * 12)
        };
        until(arrived).await;
        let mut next: HashMap<_, u64> = HashMap::new();
        let mut first = Vec::new();
        for _ in 0..PRODUCERS as u64 * EACH {
            let delivery = inp.recv().await.unwrap();
            let next = next.entry(delivery.source()).or_default();
            assert_eq!(number(&delivery), *next);
            *next += 1;
            if first.len() < PRODUCERS * 800 {
                first.push(delivery.source());
            }
        }
        assert!(next.len() == PRODUCERS && next.values().all(|count| *count == EACH));
        let mut least = usize::MAX;
        for window in first.windows(PRODUCERS * 100) {
            let mut shares: HashMap<_, usize> = HashMap::new();
            window.iter().for_each(|source| *shares.entry(*source).or_default() += 1);
            least = least.min(if shares.len() == PRODUCERS { *shares.values().min().unwrap() } else { 0 });
        }
        assert!(least >= 50, "a producer got {least} of 800 receipts");
        for mut producer in producers {
            assert_eq!(producer.recv::<Told>().await.unwrap(), Told::Done);
            tell(&mut producer, &Do::Close).await;
            producer.hang_up();
            producer.succeeds().await;
        }
        assert_eq!(inp.recv().await.unwrap_err(), RecvError::EndOfStream);
    });
}

/// P-26 with two real processes, in random orders.
#[test]
fn the_value_arrives_once_in_random_orders_of_two_processes() {
    let orders = orders();
    for seed in rounds(60, 300) {
        let order = orders[fastrand::Rng::with_seed(seed).usize(..orders.len())].clone();
        processes_over(seed % 2 == 0, |site| async move {
            let [mut a, mut b] = [(); 2].map(|()| {
                ipc_testkit::process::Role::new("roles::role_node").argument(&site).spawn().unwrap()
            });
            let mut received = false;
            for step in order {
                let (who, order) = match step {
                    1 => (&mut a, Do::Start { name: "a".to_owned() }),
                    2 => (&mut b, Do::Start { name: "b".to_owned() }),
                    3 => (&mut a, Do::Probe { name: "b".to_owned() }),
                    4 => (&mut b, Do::Probe { name: "a".to_owned() }),
                    5 => (&mut a, Do::Incoming { window: 10 }),
                    6 => (&mut b, Do::Outgoing { capacity: 20, policy: Policy::Wait }),
                    7 => (&mut b, Do::Connect { process: "a".to_owned() }),
                    8 => (&mut b, Do::Observe { process: "a".to_owned() }),
                    9 => (&mut b, Do::Send { from: 42, to: 43, len: 8 }),
                    _ => (&mut a, Do::Receive),
                };
                who.send(&order).unwrap();
                loop {
                    match who.recv::<Told>().await.unwrap() {
                        Told::Done => break,
                        Told::Received(value) => received = value == 42,
                        other => panic!("{other:?}"),
                    }
                }
            }
            if !received {
                assert_eq!(a.recv::<Told>().await.unwrap(), Told::Received(42));
            }
            tell(&mut b, &Do::Close).await;
        });
    }
}

fn processes_over<F: Future<Output = ()>>(tcp: bool, scenario: impl FnOnce(Site) -> F) {
    let directory = TempDir::new().unwrap();
    crate::support::run(2, scenario(Site::new(&directory, tcp)));
}

/// the other process stands still, and the deadline holds all the same.
#[test]
fn close_returns_at_the_deadline_when_the_peer_does_not_respond() {
    processes(|site| async move {
        let mut consumer = consumer(&site, "consumer", 16_384).await;
        let node = site.node("producer").await;
        let out = node.outgoing_codec("OUT", PortConfig::new().capacity(10_000), Raw).unwrap();
        out.connect("consumer", "IN").unwrap();
        out.send(value(0, 8)).await.unwrap();
        assert_eq!(
            ask(&mut consumer, &Do::Take { count: 1 }).await,
            Told::Took { first: 0, count: 1, redelivered: 0 }
        );
        out.settled().await.unwrap();
        consumer.stop();
        out.send_many((1..=10_000).map(|number| value(number, 100))).await.unwrap();
        let undelivered = out.close(Duration::from_millis(100)).await.unwrap_err();
        assert_eq!(undelivered.count, 10_000);
        consumer.resume();
    });
}

/// and a peer that responds gets everything before `close` returns.
#[test]
fn close_flushes_ten_thousand_values_to_another_process() {
    processes(|site| async move {
        let mut consumer = consumer(&site, "consumer", 16_384).await;
        let node = site.node("producer").await;
        let out = node.outgoing_codec("OUT", PortConfig::new().capacity(10_000), Raw).unwrap();
        out.send_many((0..10_000).map(|number| value(number, 100))).await.unwrap();
        out.connect("consumer", "IN").unwrap();
        consumer.send(&Do::Take { count: 10_000 }).unwrap();
        out.close(LONG).await.unwrap();
        assert_eq!(
            consumer.recv::<Told>().await.unwrap(),
            Told::Took { first: 0, count: 10_000, redelivered: 0 }
        );
    });
}

///
#[test]
fn a_process_may_exit_right_after_its_value_was_acknowledged() {
    for seed in rounds(8, 200) {
        processes_over(seed % 2 == 0, |site| async move {
            let node = site.node("consumer").await;
            let mut inp = node.incoming_codec::<Bytes>("IN", PortConfig::new(), Raw).unwrap();
            let mut producer = producer(&site, "producer", 20, Policy::Wait, "consumer").await;
            tell(&mut producer, &Do::Send { from: 0, to: 20, len: 8 }).await;
            producer.send(&Do::SendSettleExit { value: 20 }).unwrap();
            let mut taken = 0;
            while taken < 21 {
                assert_eq!(number(&inp.recv().await.unwrap()), taken);
                taken += 1;
            }
            assert_eq!(producer.exit().await.unwrap().code(), Some(0));
        });
    }
}

/// A process that merely exits leaves nothing behind that the next of its name would stumble over.
#[test]
fn a_name_is_free_when_its_process_has_ended() {
    processes(|site| async move {
        for _ in 0..5 {
            let mut process = actor(&site, "process").await;
            process.hang_up();
            process.succeeds().await;
        }
    });
}
