//! The byte bound, the watermarks and the reports.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use std::task::{Context, Poll, Waker};

use ipc_pipeline::{CapacityError, Closed, FullPolicy, QueueConfig, QueueEvent, Receiver, Sender};

fn by_bytes(capacity: usize, max: usize, policy: FullPolicy) -> (Sender<Vec<u8>>, Receiver<Vec<u8>>) {
    QueueConfig::new(capacity).expect("a small capacity").policy(policy).byte_bound(max, Vec::len).build()
}

fn poll<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
    std::pin::Pin::new(future).poll(&mut Context::from_waker(Waker::noop()))
}

/// a value larger than the whole byte bound is admitted when the queue is empty, and only then.
#[test]
fn a_value_beyond_the_byte_bound_is_admitted_alone() {
    let (sender, mut receiver) = by_bytes(10, 100, FullPolicy::Wait);
    sender.try_send(vec![0; 1_000]).unwrap();
    assert!(sender.try_send(vec![0; 1]).unwrap_err().is_full());
    let mut large = sender.send(vec![1; 1_000]);
    assert!(poll(&mut large).is_pending());
    assert_eq!(receiver.try_recv().unwrap().len(), 1_000);
    assert!(matches!(poll(&mut large), Poll::Ready(Ok(()))));
    assert_eq!(receiver.try_recv().unwrap(), vec![1; 1_000]);
    assert_eq!(receiver.len(), 0);
}

/// with a receiver that stands still the bytes in the queue stay within the bound, under every policy.
#[test]
fn the_byte_bound_holds_under_every_policy() {
    for policy in [FullPolicy::DropNewest, FullPolicy::DropOldest, FullPolicy::Fail, FullPolicy::Wait] {
        let (sender, mut receiver) = by_bytes(100, 64, policy);
        for size in (1..=20).cycle().take(500) {
            let _ = poll(&mut sender.send(vec![0; size]));
        }
        let mut bytes = 0;
        let mut out = Vec::new();
        while let Ok(value) = receiver.try_recv() {
            bytes += value.len();
            out.push(value);
        }
        assert!((44..=64).contains(&bytes), "{policy:?}: {bytes}");
        let counters = receiver.counters();
        assert_eq!(counters.accepted, counters.taken + counters.dropped, "{policy:?}");
        assert_eq!(counters.taken, out.len() as u64);
    }
}

/// What a permit holds cannot be dropped, so for a value beyond the bound no dropping would make room.
#[test]
fn nothing_is_dropped_for_a_value_that_would_not_fit_either_way() {
    let (sender, mut receiver) = by_bytes(10, 10, FullPolicy::DropOldest);
    let Poll::Ready(Ok(permit)) = poll(&mut Box::pin(sender.reserve())) else { panic!("it is empty") };
    for value in 0..3 {
        sender.try_send(vec![value; 3]).unwrap();
    }
    sender.try_send(vec![9; 11]).unwrap();
    assert_eq!((sender.len(), sender.counters().dropped), (3, 1));
    drop(permit);
    sender.try_send(vec![9; 11]).unwrap();
    assert_eq!(receiver.try_recv().unwrap(), vec![9; 11]);
    assert_eq!((receiver.len(), receiver.counters().dropped), (0, 4));
}

#[test]
fn bytes_are_given_back_by_every_way_out() {
    let (sender, mut receiver) = by_bytes(10, 10, FullPolicy::Wait);
    for round in 0..50 {
        sender.try_send(vec![0; 10]).unwrap();
        let mut waiting = sender.send(vec![0; 10]);
        assert!(poll(&mut waiting).is_pending());
        let mut out = Vec::new();
        assert!(
            matches!(poll(&mut Box::pin(receiver.recv_many(&mut out, 5))), Poll::Ready(Ok(1))),
            "{round}"
        );
        // Its turn has come, and it is given up.
        drop(waiting);
        let Poll::Ready(Ok(permit)) = poll(&mut Box::pin(sender.reserve())) else { panic!("{round}") };
        permit.send(vec![0; 10]).unwrap();
        assert_eq!(receiver.try_recv().unwrap().len(), 10);
    }
}

#[test]
fn a_heavy_value_first_in_line_is_not_overtaken() {
    let (sender, mut receiver) = by_bytes(10, 10, FullPolicy::Wait);
    sender.try_send(vec![0; 6]).unwrap();
    let mut heavy = sender.send(vec![1; 8]);
    assert!(poll(&mut heavy).is_pending());
    let mut light = sender.send(vec![2; 1]);
    assert!(poll(&mut light).is_pending(), "although it would fit");
    assert!(sender.try_send(vec![3; 1]).unwrap_err().is_full());
    receiver.try_recv().unwrap();
    assert!(poll(&mut heavy).is_ready() && poll(&mut light).is_ready());
    assert_eq!((receiver.try_recv().unwrap()[0], receiver.try_recv().unwrap()[0]), (1, 2));
}

/// P-25: the notification comes once per transition from full to room, never per value, never before there is room.
#[tokio::test]
async fn room_is_reported_once_per_transition() {
    let (sender, mut receiver) = QueueConfig::new(4).unwrap().watermarks(3, 4).unwrap().build();
    let mut events = sender.events();
    for round in 0..10 {
        for value in 0..4 {
            assert_eq!(events.try_next(), None);
            sender.try_send(value).unwrap();
        }
        assert_eq!(events.next().await, Ok(QueueEvent::High { transition: 2 * round + 1 }));
        assert_eq!(events.try_next(), None, "there is no room yet");
        receiver.try_recv().unwrap();
        assert!(sender.len() < 4);
        assert_eq!(events.next().await, Ok(QueueEvent::Low { transition: 2 * round + 2 }));
        for _ in 0..3 {
            receiver.try_recv().unwrap();
            assert_eq!(events.try_next(), None, "not per value");
        }
    }
}

/// P-25: who waits for the report is woken by it; a sender that waits for room does not keep the queue above the mark.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_listener_is_woken_at_each_transition() {
    let (sender, mut receiver) = QueueConfig::new(8).unwrap().watermarks(0, 8).unwrap().build();
    let mut events = receiver.events();
    let listening = tokio::spawn(async move {
        let mut last = 0;
        while let Ok(event) = events.next().await {
            let (QueueEvent::High { transition } | QueueEvent::Low { transition }) = event else { continue };
            assert!(transition > last);
            last = transition;
        }
        last
    });
    let sending = tokio::spawn(async move {
        for value in 0..800 {
            sender.send(value).await.unwrap();
        }
    });
    let mut count = 0;
    while receiver.recv().await.is_ok() {
        count += 1;
    }
    sending.await.unwrap();
    drop(receiver);
    let last = tokio::time::timeout(std::time::Duration::from_secs(120), listening)
        .await
        .expect("it hangs")
        .unwrap();
    assert_eq!(count, 800);
    assert!(last > 0 && last % 2 == 0, "it ends empty: {last}");
}

#[tokio::test]
async fn drops_are_reported_with_their_number() {
    let (sender, receiver) = QueueConfig::new(2).unwrap().policy(FullPolicy::DropOldest).build();
    let mut events = sender.events();
    for value in 0..5 {
        sender.try_send(value).unwrap();
    }
    assert_eq!(events.next().await, Ok(QueueEvent::Dropped { count: 3 }));
    sender.try_send(5).unwrap();
    assert_eq!(events.next().await, Ok(QueueEvent::Dropped { count: 1 }));
    drop(receiver);
    assert_eq!(events.next().await, Ok(QueueEvent::Dropped { count: 2 }));
    assert_eq!(events.next().await, Err(Closed));
}

#[test]
fn impossible_watermarks_are_refused() {
    for (low, high) in [(1, 1), (2, 1), (0, 5)] {
        let refused = QueueConfig::<u8>::new(4).unwrap().watermarks(low, high).err();
        assert_eq!(refused, Some(CapacityError::Watermarks { low, high, capacity: 4 }));
    }
}
