//! Many threads and tasks at once: nothing lost, nothing twice, order kept, nothing left behind.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use std::{
    pin::pin,
    sync::Arc,
    task::{Context, Poll, Waker},
    thread,
    time::Duration,
};

use ipc_pipeline::{FullPolicy, QueueConfig, Receiver, Sender, bounded};
use tokio::time::timeout;

const WATCHDOG: Duration = Duration::from_secs(120);

fn queue<T>(capacity: usize) -> (Sender<T>, Receiver<T>) {
    bounded(capacity).expect("a capacity within the limits")
}

/// eight threads send through one handle; each one's values come out in its order.
#[test]
fn order_is_kept_per_thread_with_one_handle() {
    for capacity in [1, 7, 256] {
        let (sender, mut receiver) = queue(capacity);
        let count = 3_000_u64;
        let mut next = [0_u64; 8];
        thread::scope(|scope| {
            let sender = &sender;
            for producer in 0..8_u64 {
                scope.spawn(move || {
                    for number in 0..count {
                        sender.blocking_send((producer, number)).unwrap();
                    }
                });
            }
            for _ in 0..8 * count {
                let (producer, number) = receiver.blocking_recv().unwrap();
                assert_eq!(number, std::mem::replace(&mut next[producer as usize], number + 1));
            }
        });
        assert_eq!((next, receiver.len()), ([count; 8], 0));
    }
}

#[test]
fn many_producers_and_consumers_lose_and_double_nothing() {
    for capacity in [1, 2, 64] {
        let (sender, receiver) = queue(capacity);
        let receiver = receiver.into_shared();
        let count = 5_000_u64;
        let consumers: Vec<_> = (0..3)
            .map(|_| {
                let receiver = receiver.clone();
                thread::spawn(move || {
                    let mut values = Vec::new();
                    while let Ok(value) = receiver.blocking_recv() {
                        values.push(value);
                    }
                    values
                })
            })
            .collect();
        let producers: Vec<_> = (0..3)
            .map(|producer| {
                let sender = sender.clone();
                thread::spawn(move || {
                    for number in 0..count {
                        sender.blocking_send(Box::new(producer * count + number)).unwrap();
                    }
                })
            })
            .collect();
        drop(sender);
        for producer in producers {
            producer.join().unwrap();
        }
        let mut all = Vec::new();
        for consumer in consumers {
            let values = consumer.join().unwrap();
            for producer in 0..3 {
                let mine: Vec<_> = values.iter().filter(|value| ***value / count == producer).collect();
                assert!(mine.is_sorted(), "each consumer sees each producer's order");
            }
            all.extend(values);
        }
        all.sort_unstable();
        assert!(all.into_iter().map(|value| *value).eq(0..3 * count));
        assert_eq!(receiver.counters().taken, 3 * count);
    }
}

#[test]
fn dropping_the_oldest_from_many_threads_keeps_the_count_exact() {
    let (sender, mut receiver) = QueueConfig::new(4).unwrap().policy(FullPolicy::DropOldest).build();
    let producers: Vec<_> = (0..3)
        .map(|_| {
            let sender = sender.clone();
            thread::spawn(move || {
                for number in 0..5_000 {
                    sender.blocking_send(Arc::new(number)).unwrap();
                }
            })
        })
        .collect();
    drop(sender);
    let mut taken = 0;
    while receiver.blocking_recv().is_ok() {
        taken += 1;
    }
    for producer in producers {
        producer.join().unwrap();
    }
    let counters = receiver.counters();
    assert_eq!((counters.accepted, counters.taken), (15_000, taken));
    assert_eq!(counters.accepted, counters.taken + counters.dropped);
}

/// The values that a receiver has begun to take are not in the way of those who drop.
#[test]
fn a_send_drops_one_value_at_most_while_a_receiver_takes() {
    for capacity in [1, 2, 64] {
        let (sender, mut receiver) =
            QueueConfig::<[u64; 128]>::new(capacity).unwrap().policy(FullPolicy::DropOldest).build();
        let count = 10_000_u64;
        let receiving = thread::spawn(move || {
            let mut values = Vec::new();
            let mut context = Context::from_waker(Waker::noop());
            loop {
                // Large values, so that taking some takes a moment.
                let outcome = pin!(receiver.recv_many(&mut values, capacity)).poll(&mut context);
                match outcome {
                    Poll::Pending => thread::yield_now(),
                    Poll::Ready(Ok(_)) => {}
                    Poll::Ready(Err(_)) => {
                        return values.into_iter().map(|value| value[0]).collect::<Vec<_>>();
                    }
                }
            }
        });
        let mut dropped = 0;
        for value in 0..count {
            sender.try_send([value; 128]).unwrap();
            let counters = sender.counters();
            assert!(counters.dropped <= dropped + 1, "{} at once", counters.dropped - dropped);
            assert!(counters.taken + counters.dropped <= counters.accepted, "{counters:?}");
            dropped = counters.dropped;
        }
        drop(sender);
        let values = receiving.join().unwrap();
        assert_eq!(values.last(), Some(&(count - 1)), "the newest value survives");
        assert!(values.is_sorted());
        assert_eq!(values.len() as u64 + dropped, count);
    }
}

/// P-15: a hundred receives wait at once for a hundred values; each gets exactly one, and nothing is left behind.
async fn a_hundred_receives() {
    let (sender, receiver) = queue(10);
    let receiver = receiver.into_shared();
    let waiting: Vec<_> = (0..100)
        .map(|_| {
            let receiver = receiver.clone();
            tokio::spawn(async move { receiver.recv().await.unwrap() })
        })
        .collect();
    for value in 0..100 {
        sender.send(value).await.unwrap();
    }
    let mut all = Vec::new();
    for receive in waiting {
        all.push(timeout(WATCHDOG, receive).await.expect("a receive was forgotten").unwrap());
    }
    all.sort_unstable();
    assert_eq!(all, (0..100).collect::<Vec<_>>());
    assert_eq!((receiver.waiting_places(), receiver.len()), (0, 0));
}

/// P-15 on one thread.
#[tokio::test]
async fn a_hundred_receives_get_one_value_each_on_one_thread() {
    a_hundred_receives().await;
}

/// P-15 on two threads.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_receives_get_one_value_each_on_two_threads() {
    for _ in 0..20 {
        a_hundred_receives().await;
    }
}

/// P-15: a million receives, of which many wait, leave no place in a list behind.
#[tokio::test]
async fn a_million_receives_leave_nothing_behind() {
    let (sender, receiver) = queue(16);
    let receiver = receiver.into_shared();
    let sending = tokio::spawn(async move {
        for value in 0..1_000_000_u32 {
            sender.send(value).await.unwrap();
        }
    });
    for value in 0..1_000_000 {
        assert_eq!(receiver.recv().await, Ok(value));
        assert!(receiver.waiting_places() <= 1);
    }
    timeout(WATCHDOG, sending).await.expect("it hangs").unwrap();
    assert_eq!(receiver.waiting_places(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tasks_on_two_threads_hand_over_every_value() {
    for capacity in [1, 3, 1_024] {
        let (sender, mut receiver) = queue(capacity);
        let producers: Vec<_> = (0..4_u64)
            .map(|producer| {
                let sender = sender.clone();
                tokio::spawn(async move {
                    for number in 0..5_000 {
                        sender.send((producer, number)).await.unwrap();
                    }
                    sender.send_many((5_000..10_000).map(|number| (producer, number))).await.unwrap();
                })
            })
            .collect();
        drop(sender);
        let mut next = [0_u64; 4];
        let mut values = Vec::new();
        while timeout(WATCHDOG, receiver.recv_many(&mut values, 50)).await.expect("it hangs").is_ok() {
            for (producer, number) in values.drain(..) {
                assert_eq!(number, std::mem::replace(&mut next[producer as usize], number + 1));
            }
        }
        assert_eq!(next, [10_000; 4]);
        for producer in producers {
            producer.await.unwrap();
        }
    }
}
