//! A receiving end that tasks share.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::{pin::pin, time::Duration};

use common::{Site, capacity, is_pending, on_both_runtimes};
use ipc_pipeline::link::{ReceiverConfig, RecvError};

const LONG: Duration = Duration::from_secs(20);

/// Every worker that loops on a clone of its own ends, also one that does something else when the end comes.
#[test]
fn each_handle_is_told_each_end_once() {
    on_both_runtimes(|| async {
        let site = Site::mem().await;
        let shared = site.receiver::<u64>(ReceiverConfig::default()).into_shared();
        let away = shared.clone();
        for round in 1..=3 {
            let link = site.link_from::<u64>(
                &format!("OUT{round}"),
                capacity(50),
                ipc_transport::Bincode::default(),
            );
            let workers: Vec<_> = (0..5)
                .map(|_| {
                    let shared = shared.clone();
                    tokio::spawn(async move {
                        let mut taken = 0;
                        loop {
                            match shared.recv().await {
                                Ok(_) => taken += 1,
                                Err(RecvError::EndOfStream) => return taken,
                                Err(other) => panic!("{other}"),
                            }
                        }
                    })
                })
                .collect();
            link.sender().send_many(0..200).await.unwrap();
            link.close(LONG).await.unwrap();
            let mut taken = 0;
            for worker in workers {
                taken += worker.await.unwrap();
            }
            assert_eq!(taken, 200);
            assert_eq!(shared.counters().taken, 200 * round);
            // This one is told as well, and once.
            assert_eq!(shared.try_recv().unwrap_err(), RecvError::EndOfStream);
            assert!(shared.try_recv().unwrap().is_none());
            assert!(is_pending(pin!(shared.recv())).await);
        }
        assert_eq!(away.recv().await.unwrap_err(), RecvError::EndOfStream, "several, told as one");
        assert!(is_pending(pin!(away.recv())).await);
    });
}

/// Two receives of one handle that wait both end; neither keeps what does not need the receiver from the others.
#[test]
fn whoever_waits_is_told_and_keeps_nobody_from_looking() {
    on_both_runtimes(|| async {
        let site = Site::mem().await;
        let shared = site.receiver::<u64>(ReceiverConfig::default()).into_shared();
        let link = site.link::<u64>(capacity(5));
        link.sender().send(7).await.unwrap();
        let source = shared.recv().await.unwrap().source();
        let (mut first, mut second) = (pin!(shared.recv()), pin!(shared.recv()));
        assert!(is_pending(first.as_mut()).await && is_pending(second.as_mut()).await);
        assert_eq!((shared.counters().taken, shared.source(source).unwrap().connected), (1, true));
        assert!(shared.try_recv().unwrap().is_none());
        link.close(LONG).await.unwrap();
        let (first, second) = tokio::join!(first, second);
        assert_eq!(
            (first.unwrap_err(), second.unwrap_err()),
            (RecvError::EndOfStream, RecvError::EndOfStream)
        );
    });
}

#[test]
fn values_come_one_by_one_in_batches_and_from_the_receiver_again() {
    on_both_runtimes(|| async {
        let site = Site::mem().await;
        let shared = site.receiver::<u64>(ReceiverConfig::default()).into_shared();
        let link = site.link::<u64>(capacity(100));
        link.sender().send_many(0..100).await.unwrap();
        let mut out = Vec::new();
        while out.len() < 50 {
            shared.recv_many(&mut out, 50).await.unwrap();
        }
        let other = shared.clone();
        assert!(shared.into_inner().is_none());
        let mut receiver = other.into_inner().unwrap();
        while out.len() < 100 {
            out.push(receiver.recv().await.unwrap().into_value());
        }
        assert!(out.into_iter().eq(0..100));
        let shared = receiver.into_shared();
        let waiting = tokio::spawn({
            let shared = shared.clone();
            async move { shared.recv().await }
        });
        shared.close().await;
        assert_eq!(waiting.await.unwrap().unwrap_err(), RecvError::Closed);
    });
}
