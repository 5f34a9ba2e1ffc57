//! P-16 for the queue: a future that is dropped at any of its await points loses nothing and doubles nothing.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use std::{
    task::{Context, Poll, Waker},
    time::Duration,
};

use ipc_pipeline::{FullPolicy, QueueConfig, bounded};
use tokio::{task::yield_now, time::timeout};

fn poll<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
    std::pin::Pin::new(future).poll(&mut Context::from_waker(Waker::noop()))
}

/// P-16: a send that was polled any number of times and dropped has accepted nothing and holds no place in the order.
#[test]
fn a_dropped_send_leaves_no_trace() {
    for gated in [false, true] {
        for polls in 0..3 {
            for room_comes in [false, true] {
                let mut config = QueueConfig::new(1).unwrap();
                if gated {
                    config = config.byte_bound(1, |_| 1);
                }
                let (sender, mut receiver) = config.build();
                sender.try_send(0).unwrap();
                let mut first = sender.send(1);
                let mut second = sender.send(2);
                for _ in 0..polls {
                    assert!(poll(&mut first).is_pending());
                }
                assert!(poll(&mut second).is_pending());
                if room_comes {
                    assert_eq!(receiver.try_recv(), Ok(0));
                }
                drop(first);
                if !room_comes {
                    assert_eq!(receiver.try_recv(), Ok(0));
                }
                assert!(matches!(poll(&mut second), Poll::Ready(Ok(()))), "the turn went to the next");
                drop(second);
                assert_eq!(receiver.try_recv(), Ok(2));
                assert_eq!((receiver.len(), receiver.waiting_places()), (0, 0));
                sender.try_send(3).unwrap();
            }
        }
    }
}

/// P-16: the same for `reserve` and `send_many`.
#[test]
fn a_dropped_reserve_or_batch_leaves_no_trace() {
    let (sender, mut receiver) = bounded(2).unwrap();
    let mut values = 0..5;
    let mut batch = Box::pin(sender.send_many(&mut values));
    assert!(poll(&mut batch).is_pending());
    let mut reserve = Box::pin(sender.reserve());
    assert!(poll(&mut reserve).is_pending());
    assert_eq!(receiver.try_recv(), Ok(0));
    drop(batch);
    assert!(poll(&mut reserve).is_ready());
    drop(reserve);
    assert_eq!(values.collect::<Vec<_>>(), [2, 3, 4], "what was pulled was accepted");
    assert_eq!(receiver.try_recv(), Ok(1));
    assert_eq!(receiver.waiting_places(), 0);
    assert!(sender.try_send(8).is_ok() && sender.try_send(9).is_ok());
}

/// P-16: a receive that was polled and dropped has taken nothing, and a shared one passes its turn on.
#[test]
fn a_dropped_receive_has_taken_nothing() {
    let (sender, mut receiver) = bounded(2).unwrap();
    assert!(poll(&mut Box::pin(receiver.recv())).is_pending());
    sender.try_send(1).unwrap();
    drop(receiver.recv());
    assert_eq!(receiver.try_recv(), Ok(1));

    let receiver = receiver.into_shared();
    let mut first = Box::pin(receiver.recv());
    let woken = std::sync::Arc::new(CountWakes::default());
    let waker = Waker::from(std::sync::Arc::clone(&woken));
    let mut second = Box::pin(receiver.recv());
    assert!(poll(&mut first).is_pending());
    assert!(second.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    sender.try_send(2).unwrap();
    assert_eq!(woken.count(), 0, "it is the first one's turn");
    drop(first);
    assert_eq!(woken.count(), 1, "the turn was passed on");
    assert!(matches!(poll(&mut second), Poll::Ready(Ok(2))));
    drop(second);
    assert_eq!(receiver.waiting_places(), 0);
}

#[derive(Default)]
struct CountWakes(std::sync::atomic::AtomicUsize);

impl CountWakes {
    fn count(&self) -> usize {
        self.0.load(std::sync::atomic::Ordering::SeqCst)
    }
}

impl std::task::Wake for CountWakes {
    fn wake(self: std::sync::Arc<Self>) {
        self.0.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
    }
}

/// Polls a future up to `polls` times with yields in between, then gives it back undone.
async fn poll_some<F: Future + Unpin>(future: &mut F, polls: u32) -> Option<F::Output> {
    for _ in 0..polls {
        if let Poll::Ready(output) = poll(future) {
            return Some(output);
        }
        yield_now().await;
    }
    None
}

/// P-16: ten thousand random cancellations on both sides.
async fn random_cancellations(shared: bool, capacity: usize) {
    let (sender, receiver) = bounded::<u32>(capacity).unwrap();
    let producers: Vec<_> = (0..4_u32)
        .map(|producer| {
            let sender = sender.clone();
            tokio::spawn(async move {
                let mut random = 0x9E37_79B9_u32.wrapping_mul(producer + 1);
                let mut accepted = Vec::new();
                for value in 0..2_500 {
                    random = step(random);
                    let value = producer << 16 | value;
                    match random % 3 {
                        0 => {
                            if let Some(outcome) = poll_some(&mut sender.send(value), random >> 8 & 3).await {
                                outcome.unwrap();
                                accepted.push(value);
                            }
                        }
                        1 => {
                            let mut reserve = Box::pin(sender.reserve());
                            if let Some(permit) = poll_some(&mut reserve, random >> 8 & 3).await {
                                let permit = permit.unwrap();
                                if random & 1 << 20 == 0 {
                                    permit.send(value).unwrap();
                                    accepted.push(value);
                                }
                            }
                        }
                        _ => {
                            sender.send(value).await.unwrap();
                            accepted.push(value);
                        }
                    }
                }
                accepted
            })
        })
        .collect();
    drop(sender);
    let mut taken = Vec::new();
    let mut random = 7_u32;
    if shared {
        let receiver = receiver.into_shared();
        let other = receiver.clone();
        let others = tokio::spawn(async move {
            let mut taken = Vec::new();
            while let Ok(value) = other.recv().await {
                taken.push(value);
                yield_now().await;
            }
            taken
        });
        loop {
            random = step(random);
            match poll_some(&mut Box::pin(receiver.recv()), random & 3).await {
                Some(Ok(value)) => taken.push(value),
                Some(Err(_)) => break,
                None => {}
            }
            yield_now().await;
        }
        taken.extend(others.await.unwrap());
        assert_eq!(receiver.waiting_places(), 0);
    } else {
        let mut receiver = receiver;
        loop {
            random = step(random);
            let outcome = if random & 16 == 0 {
                poll_some(&mut Box::pin(receiver.recv_many(&mut taken, 3)), random & 3)
                    .await
                    .map(|r| r.map(drop))
            } else {
                poll_some(&mut Box::pin(receiver.recv()), random & 3).await.map(|r| r.map(|v| taken.push(v)))
            };
            if matches!(outcome, Some(Err(_))) {
                break;
            }
            yield_now().await;
        }
    }
    let mut accepted = Vec::new();
    for producer in producers {
        accepted.extend(producer.await.unwrap());
    }
    if !shared {
        for producer in 0..4 {
            let mine =
                |values: &[u32]| values.iter().copied().filter(|v| v >> 16 == producer).collect::<Vec<_>>();
            assert_eq!(mine(&taken), mine(&accepted), "in order");
        }
    }
    accepted.sort_unstable();
    taken.sort_unstable();
    assert_eq!(taken, accepted);
}

fn step(random: u32) -> u32 {
    let random = random ^ random << 13;
    let random = random ^ random >> 17;
    random ^ random << 5
}

/// P-16 on one thread.
#[tokio::test]
async fn random_cancellations_lose_nothing_on_one_thread() {
    for (shared, capacity) in [(false, 1), (false, 5), (true, 1), (true, 5)] {
        timeout(WATCHDOG, random_cancellations(shared, capacity)).await.expect("it hangs");
    }
}

/// P-16 on two threads.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_cancellations_lose_nothing_on_two_threads() {
    for (shared, capacity) in [(false, 1), (false, 5), (true, 1), (true, 5)] {
        timeout(WATCHDOG, random_cancellations(shared, capacity)).await.expect("it hangs");
    }
}

/// P-16: a reserve that is given up under a policy that drops gives its place back.
#[test]
fn a_dropped_permit_makes_room_under_every_policy() {
    for policy in [FullPolicy::DropNewest, FullPolicy::DropOldest, FullPolicy::Fail, FullPolicy::Wait] {
        let (sender, receiver) = QueueConfig::new(1).unwrap().policy(policy).build();
        let Poll::Ready(Ok(permit)) = poll(&mut Box::pin(sender.reserve())) else { panic!("there is room") };
        drop(permit);
        sender.try_send(1).unwrap();
        assert_eq!(receiver.counters().dropped, 0, "{policy:?}");
    }
}

const WATCHDOG: Duration = Duration::from_secs(120);
