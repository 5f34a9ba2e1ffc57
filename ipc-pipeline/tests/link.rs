//! The link over the in-memory transport: what its user relies on.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::{future::poll_fn, pin::pin, sync::Arc, task::Poll, time::Duration};

use common::{Site, capacity, on_both_runtimes};
use ipc_pipeline::{
    SendErrorReason,
    link::{LinkNames, OutgoingLink, ReceiverConfig, RecvError, Status},
};
use ipc_testkit::MemTransport;
use ipc_transport::{Bincode, Endpoint, Error};

#[test]
fn values_arrive_in_order_and_are_settled() {
    on_both_runtimes(|| async {
        let site = Site::mem().await;
        let mut receiver = site.receiver::<u64>(ReceiverConfig::default());
        let link = site.link::<u64>(capacity(20));
        let sender = link.sender().clone();
        let sending = tokio::spawn(async move {
            for value in 0..1_000 {
                sender.send(value).await.unwrap();
            }
            sender.settled().await.unwrap();
            sender.pending()
        });
        for value in 0..1_000 {
            let delivery = receiver.recv().await.unwrap();
            assert_eq!((*delivery, delivery.number(), delivery.redelivered()), (value, value + 1, false));
        }
        assert_eq!(sending.await.unwrap(), 0);
        let closing = tokio::spawn(link.close(Duration::from_secs(20)));
        assert_eq!(receiver.recv().await.unwrap_err(), RecvError::EndOfStream);
        closing.await.unwrap().unwrap();
    });
}

#[test]
fn batches_arrive_in_order() {
    on_both_runtimes(|| async {
        let site = Site::mem().await;
        let mut receiver = site.receiver::<u64>(ReceiverConfig::default());
        let link = site.link::<u64>(capacity(1_000));
        let sender = link.sender().clone();
        tokio::spawn(async move { sender.send_many(0..100_000).await.unwrap() });
        let mut values = Vec::new();
        while values.len() < 100_000 {
            receiver.recv_many(&mut values, 777).await.unwrap();
        }
        assert!(values.iter().copied().eq(0..100_000));
        drop(link);
    });
}

/// P-01, P-02 at the level of the link.
#[test]
fn the_capacity_is_counted_from_end_to_end() {
    on_both_runtimes(|| async {
        for ticker in [true, false] {
            let site = Site::mem().await;
            let mut config = ReceiverConfig::default();
            config.ticker = ticker;
            let mut receiver = site.receiver::<u64>(config);
            let link = site.link::<u64>(capacity(20));
            link.connected().await.unwrap();
            for value in 0..20 {
                link.sender().send(value).await.unwrap();
            }
            let mut held_up = pin!(link.sender().send(20));
            let waits = poll_fn(|cx| Poll::Ready(held_up.as_mut().poll(cx).is_pending())).await;
            assert!(waits, "the 21st value is held up");
            assert_eq!(link.sender().pending(), 20);
            assert_eq!(*receiver.recv().await.unwrap(), 0);
            held_up.await.unwrap();
            assert!(link.sender().try_send(21).unwrap_err().is_full());
            for value in 1..21 {
                assert_eq!(*receiver.recv().await.unwrap(), value);
            }
        }
    });
}

#[test]
fn values_survive_a_hundred_cut_connections() {
    on_both_runtimes(|| async {
        let site = Site::mem().await;
        let mut receiver = site.receiver::<u64>(ReceiverConfig::default());
        let link = site.link::<u64>(capacity(64));
        let sender = link.sender().clone();
        tokio::spawn(async move {
            for value in 0..10_000 {
                sender.send(value).await.unwrap();
            }
        });
        for value in 0..10_000 {
            assert_eq!(*receiver.recv().await.unwrap(), value);
            if value % 100 == 0 {
                link.sender().cut();
            }
        }
        assert!(link.sender().counters().reconnects > 0);
    });
}

#[test]
fn a_successor_gets_what_was_not_released() {
    on_both_runtimes(|| async {
        let site = Site::mem().await;
        let mut receiver = site.receiver::<u64>(ReceiverConfig::default());
        let link = site.link::<u64>(capacity(20));
        for value in 0..20 {
            link.sender().send(value).await.unwrap();
        }
        for value in 0..5 {
            assert_eq!(*receiver.recv().await.unwrap(), value);
        }
        drop(receiver);
        let mut successor = site.receiver::<u64>(ReceiverConfig::default());
        let first = successor.recv().await.unwrap();
        assert!(*first <= 5, "everything from the first unreleased value on comes again");
        let mut next = *first + 1;
        while next < 20 {
            let delivery = successor.recv().await.unwrap();
            assert_eq!(*delivery, next);
            assert!(delivery.redelivered() || *delivery >= 5);
            next += 1;
        }
    });
}

#[test]
fn closing_the_receiver_gives_blocked_values_back() {
    on_both_runtimes(|| async {
        let site = Site::mem().await;
        let receiver = site.receiver::<u64>(ReceiverConfig::default());
        let link = site.link::<u64>(capacity(1));
        link.connected().await.unwrap();
        link.sender().send(1).await.unwrap();
        let sender = link.sender().clone();
        let blocked = tokio::spawn(async move { sender.send(2).await });
        tokio::task::yield_now().await;
        receiver.close().await;
        let error = blocked.await.unwrap().unwrap_err();
        assert_eq!((error.reason(), *error.value()), (&SendErrorReason::PeerClosed, 2));
        let mut status = link.sender().status();
        status.wait_for(|status| matches!(status, Status::Refused(_))).await.unwrap();
    });
}

/// Connecting spawns: outside a runtime it is an error and no panic, and what was sent stays.
#[test]
fn connecting_outside_a_runtime_is_an_error() {
    let site = Site::beside(MemTransport::new(), Endpoint::new("mem", "nowhere").unwrap());
    let link = OutgoingLink::<u64>::new(capacity(2), Bincode::default());
    link.sender().try_send(1).unwrap();
    let outcome = link.connect(Arc::new(site), LinkNames::default());
    assert!(matches!(outcome, Err(Error::NoRuntime)), "{outcome:?}");
    assert_eq!(link.sender().pending(), 1);
}
