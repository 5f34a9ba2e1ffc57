//! What a queue promises to those who use it plainly: capacity, order, policies, errors, the end.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    pin::pin,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use futures_util::{SinkExt, StreamExt};
use ipc_pipeline::{
    CapacityError, Closed, FullPolicy, QueueConfig, QueueCounters, Receiver, SendErrorReason, Sender,
    TryRecvError, TrySendError, bounded,
};

fn queue<T>(capacity: usize) -> (Sender<T>, Receiver<T>) {
    bounded(capacity).expect("a capacity within the limits")
}

fn with_policy<T>(capacity: usize, policy: FullPolicy) -> (Sender<T>, Receiver<T>) {
    QueueConfig::new(capacity).expect("a capacity within the limits").policy(policy).build()
}

fn poll_once<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
    std::pin::Pin::new(future).poll(&mut Context::from_waker(Waker::noop()))
}

/// P-01, P-03: with nobody receiving, as many sends complete as the capacity says, and the next one stays pending.
#[test]
fn exactly_the_capacity_is_accepted_while_nobody_receives() {
    for capacity in [1, 2, 3, 20, 1_000] {
        let (sender, receiver) = queue(capacity);
        for value in 0..capacity {
            assert!(
                matches!(poll_once(&mut sender.send(value)), Poll::Ready(Ok(()))),
                "{value} of {capacity}"
            );
        }
        let mut one_more = sender.send(capacity);
        assert!(poll_once(&mut one_more).is_pending(), "capacity {capacity}");
        assert_eq!((receiver.len(), receiver.capacity()), (capacity, capacity));
        assert!(
            matches!(sender.try_send(0), Err(TrySendError::Full(0))),
            "nobody overtakes the one who waits"
        );
    }
}

/// P-02: one receive lets exactly one pending send complete, and the order of all is kept.
#[test]
fn one_receive_lets_exactly_one_pending_send_complete() {
    for capacity in [1, 2, 20, 1_000] {
        let (sender, mut receiver) = queue(capacity);
        for value in 0..capacity {
            sender.try_send(value).unwrap();
        }
        let mut pending = [sender.send(capacity), sender.send(capacity + 1)];
        assert!(pending.iter_mut().all(|send| poll_once(send).is_pending()));
        assert_eq!(receiver.try_recv(), Ok(0));
        let [first, second] = &mut pending;
        assert!(matches!(poll_once(first), Poll::Ready(Ok(()))));
        assert!(poll_once(second).is_pending());
        assert_eq!(receiver.try_recv(), Ok(1));
        assert!(matches!(poll_once(second), Poll::Ready(Ok(()))));
        drop(pending);
        drop(sender);
        let rest: Vec<_> = std::iter::from_fn(|| receiver.try_recv().ok()).collect();
        assert_eq!(rest, (2..capacity + 2).collect::<Vec<_>>());
    }
}

/// P-03: a capacity of zero is refused, and so is one beyond the limit.
#[test]
fn impossible_capacities_are_refused() {
    assert_eq!(bounded::<u8>(0).err(), Some(CapacityError::Zero));
    let max = QueueConfig::<u8>::MAX_CAPACITY;
    assert_eq!(bounded::<u8>(max + 1).err(), Some(CapacityError::TooLarge { capacity: max + 1, max }));
}

#[test]
fn a_failed_send_gives_the_value_back_and_hides_it() {
    let (sender, receiver) = queue(1);
    sender.try_send(String::from("first")).unwrap();
    let full = sender.try_send(String::from("secret")).unwrap_err();
    assert!(full.is_full());
    assert!(!format!("{full:?} {full}").contains("secret"));
    assert_eq!(full.into_value(), "secret");
    drop(receiver);
    let closed = sender.try_send(String::from("secret")).unwrap_err();
    assert_eq!(closed.reason(), &SendErrorReason::Closed);
    assert!(!format!("{closed:?} {closed}").contains("secret"));
    assert_eq!(closed.into_value(), "secret");
}

#[test]
fn a_close_gives_waiting_sends_their_value_back_and_keeps_what_was_accepted() {
    let (sender, mut receiver) = queue(1);
    sender.try_send(1).unwrap();
    let mut waiting = sender.send(2);
    assert!(poll_once(&mut waiting).is_pending());
    receiver.close();
    let Poll::Ready(Err(error)) = poll_once(&mut waiting) else { panic!("it ends with an error") };
    assert_eq!((error.reason(), *error.value()), (&SendErrorReason::Closed, 2));
    assert!(sender.is_closed());
    assert_eq!(receiver.try_recv(), Ok(1));
    assert_eq!(receiver.try_recv(), Err(TryRecvError::Closed));
}

#[test]
fn a_permit_that_outlives_the_close_gives_the_value_back() {
    let (sender, mut receiver) = queue(1);
    let Poll::Ready(Ok(permit)) = pin!(sender.reserve()).poll(&mut Context::from_waker(Waker::noop())) else {
        panic!("there is room")
    };
    receiver.close();
    assert_eq!(permit.send(7).unwrap_err().into_value(), 7);
    assert_eq!(receiver.try_recv(), Err(TryRecvError::Closed));
}

#[test]
fn a_permit_reserves_capacity_and_not_a_position() {
    let (sender, mut receiver) = queue(2);
    let Poll::Ready(Ok(permit)) = pin!(sender.reserve()).poll(&mut Context::from_waker(Waker::noop())) else {
        panic!("there is room")
    };
    sender.try_send(1).unwrap();
    assert!(sender.try_send(9).unwrap_err().is_full());
    permit.send(2).unwrap();
    assert_eq!((receiver.try_recv(), receiver.try_recv()), (Ok(1), Ok(2)));
}

#[test]
fn the_last_sender_ends_the_queue_after_its_last_value() {
    let (sender, mut receiver) = queue(4);
    let other = sender.clone();
    sender.try_send(1).unwrap();
    drop(sender);
    assert_eq!(receiver.try_recv(), Ok(1));
    assert_eq!(receiver.try_recv(), Err(TryRecvError::Empty));
    other.try_send(2).unwrap();
    drop(other);
    assert_eq!(receiver.try_recv(), Ok(2));
    assert_eq!(receiver.try_recv(), Err(TryRecvError::Closed));
}

#[test]
fn what_the_last_receiver_leaves_behind_is_dropped_and_counted() {
    let value = Arc::new(());
    let (sender, receiver) = queue(4);
    for _ in 0..3 {
        sender.try_send(Arc::clone(&value)).unwrap();
    }
    drop(receiver);
    assert_eq!(Arc::strong_count(&value), 1);
    assert_eq!(counters(sender.counters()), (3, 0, 3));
}

#[test]
fn what_is_left_when_both_ends_go_is_dropped() {
    let value = Arc::new(());
    let (sender, receiver) = queue(4);
    sender.try_send(Arc::clone(&value)).unwrap();
    drop(sender);
    drop(receiver);
    assert_eq!(Arc::strong_count(&value), 1);
}

#[test]
fn the_policy_fail_refuses_at_once() {
    let (sender, receiver) = with_policy(1, FullPolicy::Fail);
    sender.try_send(1).unwrap();
    let Poll::Ready(Err(error)) = poll_once(&mut sender.send(2)) else { panic!("it does not wait") };
    assert_eq!((error.reason(), *error.value()), (&SendErrorReason::Full, 2));
    assert_eq!(sender.blocking_send(3).unwrap_err().into_value(), 3);
    assert_eq!(counters(receiver.counters()), (1, 0, 0));
}

/// under every policy that does not wait, a receiver that stands still costs no more than the capacity.
#[test]
fn the_policies_that_drop_keep_the_newest_or_the_oldest() {
    for (policy, kept) in [(FullPolicy::DropOldest, [8, 9]), (FullPolicy::DropNewest, [0, 1])] {
        let (sender, mut receiver) = with_policy(2, policy);
        for value in 0..10 {
            assert!(matches!(poll_once(&mut sender.send(value)), Poll::Ready(Ok(()))));
            assert!(sender.len() <= 2);
        }
        assert_eq!(counters(sender.counters()), (10, 0, 8));
        assert_eq!([receiver.try_recv(), receiver.try_recv()], kept.map(Ok), "{policy:?}");
        assert_eq!(receiver.try_recv(), Err(TryRecvError::Empty));
        assert_eq!(counters(sender.counters()), (10, 2, 8));
    }
}

#[test]
fn a_policy_that_finds_only_permits_drops_the_new_value() {
    let (sender, mut receiver) = with_policy(1, FullPolicy::DropOldest);
    let Poll::Ready(Ok(permit)) = pin!(sender.reserve()).poll(&mut Context::from_waker(Waker::noop())) else {
        panic!("there is room")
    };
    sender.try_send(1).unwrap();
    permit.send(2).unwrap();
    assert_eq!(receiver.try_recv(), Ok(2));
    assert_eq!(counters(sender.counters()), (2, 1, 1));
}

#[tokio::test]
async fn many_are_sent_and_received_at_once() {
    let (sender, mut receiver) = queue(100);
    let sending = tokio::spawn(async move {
        assert_eq!(sender.send_many(0..1_000).await.unwrap(), 1_000);
    });
    let mut all = Vec::new();
    while let Ok(count) = receiver.recv_many(&mut all, 64).await {
        assert!((1..=64).contains(&count));
    }
    assert_eq!(all, (0..1_000).collect::<Vec<_>>());
    assert_eq!(receiver.recv_many(&mut all, 0).await, Ok(0));
    sending.await.unwrap();
}

#[tokio::test]
async fn an_exact_batch_does_not_wait_for_more_room() {
    let (sender, receiver) = queue(20);
    assert_eq!(sender.send_many(vec![0; 20]).await.unwrap(), 20);
    assert_eq!(receiver.len(), 20);
}

#[tokio::test]
async fn a_failed_batch_gives_back_what_it_pulled_and_leaves_the_rest() {
    let (sender, mut receiver) = queue(4);
    receiver.close();
    let mut values = 0..10;
    let error = sender.send_many(&mut values).await.unwrap_err();
    let pulled = error.into_value();
    assert_eq!(pulled.into_iter().chain(values).collect::<Vec<_>>(), (0..10).collect::<Vec<_>>());
}

#[test]
fn a_panicking_iterator_gives_its_places_back() {
    let (sender, receiver) = queue(8);
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let values = (0..4).map(|value| if value == 2 { panic!("as planned") } else { value });
        let _ = pin!(sender.send_many(values)).poll(&mut Context::from_waker(Waker::noop()));
    }));
    assert!(panicked.is_err());
    let accepted = (0..9).filter(|&value| sender.try_send(value).is_ok()).count();
    assert_eq!((accepted, receiver.len()), (8, 8));
}

#[tokio::test]
async fn the_receiver_is_a_stream_and_the_sender_a_sink() {
    let (sender, receiver) = queue(2);
    let sending = tokio::spawn(async move {
        let mut sink = sender.into_sink();
        for value in 0..10 {
            sink.send(value).await.unwrap();
        }
        sink.close().await.unwrap();
    });
    assert_eq!(receiver.collect::<Vec<_>>().await, (0..10).collect::<Vec<_>>());
    sending.await.unwrap();
}

#[test]
fn a_sink_gives_its_place_back() {
    let (sender, _receiver) = queue(1);
    let mut sink = sender.clone().into_sink();
    assert!(sink.poll_ready_unpin(&mut Context::from_waker(Waker::noop())).is_ready());
    assert!(sender.try_send(1).unwrap_err().is_full());
    drop(sink);
    sender.try_send(1).unwrap();
}

#[test]
fn threads_wait_for_each_other() {
    let (sender, mut receiver) = queue(1);
    let sending = std::thread::spawn(move || {
        for value in 0..1_000 {
            sender.blocking_send(value).unwrap();
        }
    });
    for value in 0..1_000 {
        assert_eq!(receiver.blocking_recv(), Ok(value));
    }
    assert_eq!(receiver.blocking_recv(), Err(Closed));
    sending.join().unwrap();
}

#[test]
fn a_blocking_send_gives_up_after_its_time() {
    let (sender, mut receiver) = queue(1);
    sender.blocking_send_timeout(1, Duration::from_secs(30)).unwrap();
    let error = sender.blocking_send_timeout(2, Duration::from_millis(5)).unwrap_err();
    assert_eq!((error.reason(), *error.value()), (&SendErrorReason::TimedOut, 2));
    assert_eq!(receiver.waiting_places(), 0);
    assert_eq!(receiver.try_recv(), Ok(1));
    sender.blocking_send_timeout(3, Duration::MAX).unwrap();
}

#[test]
fn handles_go_where_their_values_go() {
    fn is_send<T: Send>() {}
    fn is_sync<T: Sync>() {}
    is_send::<Sender<std::cell::Cell<u8>>>();
    is_sync::<Sender<std::cell::Cell<u8>>>();
    is_send::<Receiver<std::cell::Cell<u8>>>();
    is_send::<ipc_pipeline::SharedReceiver<std::cell::Cell<u8>>>();
    is_sync::<ipc_pipeline::SharedReceiver<std::cell::Cell<u8>>>();
    fn future_is_send<F: Future + Send>(_: F) {}
    let (sender, mut receiver) = queue::<u8>(1);
    future_is_send(sender.send(1));
    future_is_send(sender.reserve());
    future_is_send(sender.send_many([1]));
    future_is_send(receiver.recv());
    future_is_send(receiver.recv_many(&mut Vec::new(), 1));
    future_is_send(receiver.into_shared().recv());
}

fn counters(counters: QueueCounters) -> (u64, u64, u64) {
    (counters.accepted, counters.taken, counters.dropped)
}
