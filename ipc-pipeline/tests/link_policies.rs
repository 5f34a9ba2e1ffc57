//! What happens when a link is full: policies, and what the receiver hears of them.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::time::Duration;

use common::{Site, capacity, on_both_runtimes};
use ipc_pipeline::{
    FullPolicy, SendErrorReason,
    link::{Event, LinkConfig, ReceiverConfig},
};

fn policy(values: usize, policy: FullPolicy) -> LinkConfig {
    let mut config = capacity(values);
    config.policy = policy;
    config
}

#[test]
fn fail_gives_the_value_back_at_once() {
    on_both_runtimes(|| async {
        let site = Site::mem().await;
        let mut receiver = site.receiver::<u64>(ReceiverConfig::default());
        let link = site.link::<u64>(policy(3, FullPolicy::Fail));
        for value in 0..3 {
            link.sender().send(value).await.unwrap();
        }
        let error = link.sender().send(3).await.unwrap_err();
        assert_eq!(error.into_parts(), (3, SendErrorReason::Full));
        let error = link.sender().send_many(10..15).await.unwrap_err();
        assert_eq!(
            (error.accepted, error.values, error.reason),
            (0, (10..15).collect(), SendErrorReason::Full)
        );
        assert_eq!(*receiver.recv().await.unwrap(), 0);
        let mut room = link.sender().room();
        room.wait_for(|room| !room.full).await.unwrap();
        link.sender().send(3).await.unwrap();
    });
}

/// What is kept arrives in order, what is dropped is reported with its exact numbers, before and after cuts.
#[test]
fn every_number_is_either_received_or_reported_as_dropped() {
    on_both_runtimes(|| async {
        for kind in [FullPolicy::DropOldest, FullPolicy::DropNewest] {
            for values in [1, 2, 16] {
                let site = Site::mem().await;
                let mut receiver = site.receiver::<u64>(ReceiverConfig::default());
                let link = site.link::<u64>(policy(values, kind));
                let sender = link.sender().clone();
                let sending = tokio::spawn(async move {
                    for value in 1..=5_000_u64 {
                        sender.send(value).await.unwrap();
                        if value % 61 == 0 {
                            tokio::task::yield_now().await;
                        }
                        if value % 1_003 == 0 {
                            sender.cut();
                        }
                    }
                    sender
                });
                let closing = tokio::spawn(async move {
                    let sender = sending.await.unwrap();
                    link.close(Duration::from_secs(25)).await.unwrap();
                    sender.counters()
                });
                let (mut next, mut skipped, mut taken) = (1, 0, 0);
                while let Ok(event) = receiver.recv_event().await {
                    match event {
                        Event::Value(delivery) => {
                            assert_eq!((*delivery, delivery.number()), (next, next));
                            (next, taken) = (next + 1, taken + 1);
                        }
                        Event::Skipped { first, count, .. } => {
                            assert_eq!(first, next);
                            (next, skipped) = (next + count, skipped + count);
                        }
                        other => panic!("{other:?}"),
                    }
                }
                let counters = closing.await.unwrap();
                assert_eq!((next, counters.accepted), (5_001, 5_000), "{kind:?} {values}");
                assert_eq!((skipped, taken), (counters.dropped, counters.released), "{kind:?} {values}");
                assert_eq!(receiver.counters().skipped, skipped);
            }
        }
    });
}

/// A receiver that takes nothing holds neither its sender's memory nor, with reports of drops, its own.
#[test]
fn reports_of_drops_do_not_pile_up_untaken() {
    on_both_runtimes(|| async {
        let site = Site::mem().await;
        let mut receiver = site.receiver::<u64>(ReceiverConfig::default());
        let link = site.link::<u64>(policy(4, FullPolicy::DropOldest));
        link.connected().await.unwrap();
        for value in 0..20_000 {
            link.sender().send(value).await.unwrap();
            if value % 4 == 0 {
                tokio::task::yield_now().await;
            }
        }
        let (mut values, mut reports, mut skipped) = (0, 0, 0);
        while values + skipped < 20_000 {
            match receiver.recv_event().await.unwrap() {
                Event::Value(_) => values += 1,
                Event::Skipped { count, .. } => (reports, skipped) = (reports + 1, skipped + count),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(skipped, link.sender().counters().dropped);
        assert!(reports <= 6, "{reports} reports between {values} values");
    });
}

/// A value that crosses the byte bound makes the oldest ones go, as many as it takes, or is dropped itself.
#[test]
fn drop_oldest_makes_room_in_bytes() {
    on_both_runtimes(|| async {
        let site = Site::mem().await;
        let mut config = policy(100, FullPolicy::DropOldest);
        config.byte_bound = 10_000;
        let link =
            ipc_pipeline::link::OutgoingLink::<Vec<u8>>::new(config, ipc_transport::Bincode::default());
        let mut receiver = site.receiver::<Vec<u8>>(ReceiverConfig::default());
        for value in 0..100_u8 {
            link.sender().send(vec![value; if value % 10 == 9 { 20_000 } else { 10 }]).await.unwrap();
        }
        let counters = link.sender().counters();
        assert_eq!(counters.accepted - counters.dropped, link.sender().pending() as u64);
        site.connect(&link);
        let last = tokio::spawn(link.close(Duration::from_secs(20)));
        let mut newest = 0;
        while let Ok(delivery) = receiver.recv().await {
            newest = delivery[0];
        }
        assert_eq!(newest, 99, "the newest value is the last to go");
        last.await.unwrap().unwrap();
    });
}

#[test]
fn a_zero_byte_bound_still_admits_one_value_at_a_time() {
    on_both_runtimes(|| async {
        let site = Site::mem().await;
        let mut config = capacity(100);
        config.byte_bound = 0;
        let mut receiver = site.receiver::<Vec<u8>>(ReceiverConfig::default());
        let link = site.link::<Vec<u8>>(config);
        let sender = link.sender().clone();
        let sending = tokio::spawn(async move {
            for value in 0..50_u8 {
                sender.send(vec![value; 5_000]).await.unwrap();
                assert!(sender.pending() <= 1);
            }
        });
        for value in 0..50 {
            assert_eq!(receiver.recv().await.unwrap()[0], value);
        }
        sending.await.unwrap();
    });
}
