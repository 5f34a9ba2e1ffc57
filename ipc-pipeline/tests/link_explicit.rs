//! Explicit acks: the application says what is done with, in any order, and takes back what is not.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::{Site, capacity, on_both_runtimes};
use ipc_pipeline::link::{AckMode, ReceiverConfig, RecvError};
use ipc_transport::Raw;

fn explicit() -> ReceiverConfig {
    let mut config = ReceiverConfig::default();
    config.ack_mode = AckMode::Explicit;
    config
}

#[test]
fn acks_in_any_order_release_the_longest_acked_prefix() {
    on_both_runtimes(|| async {
        let site = Site::mem().await;
        let mut receiver = site.receiver::<u64>(explicit());
        let link = site.link::<u64>(capacity(8));
        for value in 0..8 {
            link.sender().send(value).await.unwrap();
        }
        let mut held = Vec::new();
        receiver.recv_deliveries(&mut held, 1).await.unwrap();
        while held.len() < 8 {
            held.push(receiver.recv().await.unwrap());
        }
        let source = held[0].source();
        // Taken and not acked: the capacity is used up.
        assert!(link.sender().try_send(8).unwrap_err().is_full());
        assert_eq!(receiver.source(source).unwrap().oldest_unacked, Some(1));
        let first = held.remove(0);
        for delivery in held.drain(..).rev() {
            delivery.ack();
        }
        assert!(link.sender().try_send(8).unwrap_err().is_full());
        assert_eq!(receiver.source(source).unwrap().oldest_unacked, Some(1));
        assert_eq!(first.ack(), 0);
        assert_eq!(receiver.source(source).unwrap().oldest_unacked, None);
        link.sender().settled().await.unwrap();
        assert_eq!(link.sender().pending(), 0);
    });
}

#[test]
fn a_recovery_brings_back_what_was_not_acked_flagged_and_nothing_else() {
    on_both_runtimes(|| async {
        for ticker in [true, false] {
            let site = Site::mem().await;
            let mut config = explicit();
            config.ticker = ticker;
            let mut receiver = site.receiver::<u64>(config);
            let link = site.link::<u64>(capacity(10));
            for value in 1..=10 {
                link.sender().send(value).await.unwrap();
            }
            let mut stale = Vec::new();
            for value in 1..=6_u64 {
                let delivery = receiver.recv().await.unwrap();
                assert_eq!((*delivery, delivery.redelivered()), (value, false));
                if [1, 2, 4].contains(&value) {
                    delivery.ack();
                } else {
                    stale.push(delivery);
                }
            }
            receiver.recover();
            for delivery in stale {
                // From before the recovery: it says nothing any more.
                delivery.ack();
            }
            for value in [3, 5, 6, 7, 8, 9, 10] {
                let delivery = receiver.recv().await.unwrap();
                assert_eq!((*delivery, delivery.redelivered()), (value, value <= 6), "value {value}");
                delivery.ack();
            }
            link.sender().settled().await.unwrap();
            assert_eq!(receiver.counters().duplicates, 1, "number 4 came again and was passed over");
            assert_eq!(link.sender().counters().released, 10);
        }
    });
}

/// Without a connection what is here may be all there is: it must not be given up for a sender that is gone.
#[test]
fn a_recovery_keeps_what_is_here_of_a_source_that_is_gone() {
    on_both_runtimes(|| async {
        let site = Site::mem().await;
        let mut receiver = site.receiver::<u64>(explicit());
        let link = site.link::<u64>(capacity(10));
        link.sender().send_many(1..=10).await.unwrap();
        let first = receiver.recv().await.unwrap();
        let source = first.source();
        while receiver.source(source).unwrap().received_bytes < 10 * 12 {
            tokio::task::yield_now().await;
        }
        site.vacate();
        link.sender().cut();
        while receiver.source(source).unwrap().connected {
            tokio::task::yield_now().await;
        }
        receiver.recover();
        for value in 2..=10 {
            let delivery = receiver.recv().await.unwrap();
            assert_eq!((*delivery, delivery.redelivered()), (value, false));
            delivery.ack();
        }
    });
}

/// Recovering again and again, with takes and acks in between, loses and doubles nothing that was acked.
#[test]
fn repeated_recoveries_hand_every_value_to_an_ack_once() {
    on_both_runtimes(|| async {
        let site = Site::mem().await;
        let mut receiver = site.receiver::<u64>(explicit());
        let link = site.link::<u64>(capacity(16));
        let sender = link.sender().clone();
        let sending = tokio::spawn(async move {
            for value in 0..2_000 {
                sender.send(value).await.unwrap();
            }
            sender.settled().await.unwrap();
        });
        let mut random = fastrand::Rng::with_seed(5);
        let mut acked = vec![0_u8; 2_000];
        let mut held = Vec::new();
        loop {
            let left = acked.iter().filter(|times| **times == 0).count();
            if left == 0 {
                break;
            }
            // What is held may be all that the capacity lets come.
            match receiver.try_recv().unwrap() {
                Some(delivery) if held.len() < 8 => held.push(delivery),
                Some(delivery) => drop(delivery),
                None => tokio::task::yield_now().await,
            }
            if random.u8(..) < 100 && !held.is_empty() {
                let delivery: ipc_pipeline::link::Delivery<u64> =
                    held.swap_remove(random.usize(..held.len()));
                acked[*delivery as usize] += 1;
                delivery.ack();
            } else if held.len() == left.min(8) || random.u8(..) < 2 {
                held.clear();
                receiver.recover();
            }
        }
        assert!(acked.iter().all(|times| *times == 1));
        sending.await.unwrap();
    });
}

#[test]
fn a_successor_gets_what_was_not_acked() {
    on_both_runtimes(|| async {
        let site = Site::mem().await;
        let mut receiver = site.receiver::<u64>(explicit());
        let link = site.link::<u64>(capacity(10));
        for value in 1..=10 {
            link.sender().send(value).await.unwrap();
        }
        for value in 1..=5_u64 {
            let delivery = receiver.recv().await.unwrap();
            if value != 3 {
                delivery.ack();
            }
        }
        receiver.detach().await;
        let mut successor = site.receiver::<u64>(explicit());
        for value in 3..=10_u64 {
            let delivery = successor.recv().await.unwrap();
            assert_eq!(*delivery, value);
            // Everything had been written, so any may have been seen.
            assert!(delivery.redelivered());
            delivery.ack();
        }
        link.sender().settled().await.unwrap();
    });
}

/// P-19, P-32.
#[test]
fn an_undecodable_value_is_reported_and_released() {
    on_both_runtimes(|| async {
        for explicitly in [false, true] {
            let site = Site::mem().await;
            let config = if explicitly { explicit() } else { ReceiverConfig::default() };
            let mut receiver = site.receiver_with::<u64>(config, common::BigEndian);
            let link = site.link_from::<bytes::Bytes>("OUT", capacity(20), Raw);
            for value in 0..10_u64 {
                let mut bytes = value.to_be_bytes().to_vec();
                if value % 3 == 2 {
                    bytes.pop();
                }
                link.sender().send(bytes.into()).await.unwrap();
            }
            for value in 0..10_u64 {
                match receiver.recv().await {
                    Ok(delivery) => assert_eq!(delivery.ack(), value),
                    Err(RecvError::Undecodable { number, source_id, .. }) => {
                        assert_eq!((number, value % 3), (value + 1, 2));
                        assert_eq!(receiver.source(source_id).unwrap().port, "OUT");
                    }
                    Err(other) => panic!("{other}"),
                }
            }
            link.sender().settled().await.unwrap();
            assert_eq!(receiver.counters().undecodable, 3);
        }
    });
}

#[test]
fn an_undecodable_value_in_a_batch_comes_after_the_ones_before_it() {
    on_both_runtimes(|| async {
        let site = Site::mem().await;
        let mut receiver = site.receiver_with::<u64>(ReceiverConfig::default(), common::BigEndian);
        let link = site.link_from::<bytes::Bytes>("OUT", capacity(200), Raw);
        for value in 0..100_u64 {
            let len = if value % 7 == 3 { 5 } else { 8 };
            link.sender().send(value.to_be_bytes()[..len].to_vec().into()).await.unwrap();
        }
        let (mut values, mut bad) = (Vec::new(), Vec::new());
        while values.len() + bad.len() < 100 {
            match receiver.recv_many(&mut values, 9).await {
                Ok(_) => {}
                Err(RecvError::Undecodable { number, .. }) => {
                    assert_eq!(number as usize, values.len() + bad.len() + 1, "in order");
                    bad.push(number - 1);
                }
                Err(other) => panic!("{other}"),
            }
        }
        assert!(bad.iter().copied().eq((0..100).filter(|value| value % 7 == 3)));
        assert!(values.iter().copied().eq((0..100).filter(|value| value % 7 != 3)));
        link.sender().settled().await.unwrap();
    });
}
