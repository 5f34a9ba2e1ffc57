//! One suite for both kinds of pipeline: what the queue promises inside a process, the link promises between two.
//!
//! The checks are written once and compiled against each kind, so the names and the meanings cannot drift apart.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::{
    pin::Pin,
    task::{Context, Poll, Waker},
};

fn poll_once<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
    Pin::new(future).poll(&mut Context::from_waker(Waker::noop()))
}

/// What differs between the kinds: how a pair of ends comes into being, and what is around a value.
mod queue {
    use ipc_pipeline::{Closed, FullPolicy, QueueConfig, Receiver, Sender};

    pub(crate) struct Ends {
        pub(crate) sender: Sender<u64>,
        pub(crate) receiver: Receiver<u64>,
    }

    impl Ends {
        pub(crate) async fn new(capacity: usize, policy: FullPolicy) -> Self {
            let (sender, receiver) = QueueConfig::new(capacity).unwrap().policy(policy).build();
            Self { sender, receiver }
        }

        /// Values can move from here on; a queue's always can.
        pub(crate) async fn open(&self) {}

        pub(crate) fn held(&self) -> usize {
            self.sender.len()
        }

        /// The receiving end closes the pipeline; what is left lives on with the result.
        pub(crate) async fn close(mut self) -> Sender<u64> {
            self.receiver.close();
            self.sender
        }
    }

    pub(crate) fn plain(received: Result<u64, Closed>) -> u64 {
        received.unwrap()
    }

    pub(crate) fn streamed(item: u64) -> u64 {
        item
    }
}

mod link {
    use ipc_pipeline::{
        FullPolicy,
        link::{Delivery, OutgoingLink, Receiver, ReceiverConfig, RecvError, Sender},
    };

    use super::common::{Site, capacity};

    pub(crate) struct Ends {
        pub(crate) sender: Sender<u64>,
        pub(crate) receiver: Receiver<u64>,
        link: OutgoingLink<u64>,
        site: Site,
    }

    impl Ends {
        pub(crate) async fn new(size: usize, policy: FullPolicy) -> Self {
            let site = Site::mem().await;
            let receiver = site.receiver(ReceiverConfig::default());
            let mut config = capacity(size);
            config.policy = policy;
            let link = OutgoingLink::new(config, ipc_transport::Bincode::default());
            Self { sender: link.sender().clone(), receiver, link, site }
        }

        pub(crate) async fn open(&self) {
            self.site.connect(&self.link);
        }

        pub(crate) fn held(&self) -> usize {
            self.sender.pending()
        }

        pub(crate) async fn close(self) -> OutgoingLink<u64> {
            self.link.connected().await.unwrap();
            self.receiver.close().await;
            self.link
        }
    }

    pub(crate) fn plain(received: Result<Delivery<u64>, RecvError>) -> u64 {
        received.unwrap().into_value()
    }

    pub(crate) use plain as streamed;
}

macro_rules! suite {
    ($kind:ident, $checks:ident) => {
        mod $checks {
            use std::{future::poll_fn, task::Poll, thread, time::Duration};

            use futures_util::{SinkExt, StreamExt};
            use ipc_pipeline::{FullPolicy, SendErrorReason, TrySendError};

            use super::{
                common::on_both_runtimes,
                poll_once,
                $kind::{Ends, plain, streamed},
            };

            const SIZES: [usize; 5] = [1, 2, 3, 20, 1_000];

            /// P-01, P-03.
            #[test]
            fn exactly_the_capacity_is_accepted_while_nobody_receives() {
                on_both_runtimes(|| async {
                    for capacity in SIZES {
                        let mut ends = Ends::new(capacity, FullPolicy::Wait).await;
                        assert_eq!(ends.sender.capacity(), capacity);
                        for value in 0..capacity as u64 {
                            assert!(matches!(poll_once(&mut ends.sender.send(value)), Poll::Ready(Ok(()))));
                        }
                        assert!(poll_once(&mut ends.sender.send(7)).is_pending());
                        assert!(matches!(ends.sender.try_send(7), Err(TrySendError::Full(7))));
                        assert_eq!(ends.held(), capacity);
                        ends.open().await;
                        for value in 0..capacity as u64 {
                            assert_eq!(plain(ends.receiver.recv().await), value);
                        }
                    }
                });
            }

            /// P-02.
            #[test]
            fn one_receive_lets_exactly_one_pending_send_complete() {
                on_both_runtimes(|| async {
                    for capacity in SIZES {
                        let mut ends = Ends::new(capacity, FullPolicy::Wait).await;
                        let sender = ends.sender.clone();
                        for value in 0..capacity as u64 {
                            sender.try_send(value).unwrap();
                        }
                        let (mut next, mut later) =
                            (sender.send(capacity as u64), sender.send(capacity as u64 + 1));
                        assert!(poll_once(&mut next).is_pending() && poll_once(&mut later).is_pending());
                        ends.open().await;
                        assert_eq!(plain(ends.receiver.recv().await), 0);
                        next.await.unwrap();
                        assert!(poll_once(&mut later).is_pending());
                        assert_eq!(plain(ends.receiver.recv().await), 1);
                        later.await.unwrap();
                        for value in 2..capacity as u64 + 2 {
                            assert_eq!(plain(ends.receiver.recv().await), value);
                        }
                    }
                });
            }

            #[test]
            fn every_way_of_sending_keeps_one_order() {
                on_both_runtimes(|| async {
                    let mut ends = Ends::new(20, FullPolicy::Wait).await;
                    ends.open().await;
                    let sender = ends.sender.clone();
                    let sending = tokio::spawn(async move {
                        for round in 0..100 {
                            let first = round * 50;
                            sender.send(first).await.unwrap();
                            sender.reserve().await.unwrap().send(first + 1).unwrap();
                            assert_eq!(sender.send_many(first + 2..first + 49).await.unwrap(), 47);
                            while sender.try_send(first + 49).is_err() {
                                tokio::task::yield_now().await;
                            }
                        }
                    });
                    let (mut next, mut batch) = (0, Vec::new());
                    while next < 5_000 {
                        assert_eq!(plain(ends.receiver.recv().await), next);
                        next += 1;
                        if next < 5_000 {
                            batch.clear();
                            let count = ends.receiver.recv_many(&mut batch, 7).await.unwrap();
                            assert!(count == batch.len() && (1..=7).contains(&count));
                            assert!(batch.iter().copied().eq(next..next + count as u64));
                            next += count as u64;
                        }
                    }
                    sending.await.unwrap();
                });
            }

            #[test]
            fn a_permit_is_room_and_not_a_place_in_the_order() {
                on_both_runtimes(|| async {
                    let mut ends = Ends::new(2, FullPolicy::Wait).await;
                    let sender = ends.sender.clone();
                    let first = sender.reserve().await.unwrap();
                    sender.try_send(1).unwrap();
                    assert!(sender.try_send(9).unwrap_err().is_full());
                    first.send(2).unwrap();
                    ends.open().await;
                    assert_eq!(plain(ends.receiver.recv().await), 1);
                    assert_eq!(plain(ends.receiver.recv().await), 2);
                    drop((sender.reserve().await.unwrap(), sender.reserve().await.unwrap()));
                    assert_eq!(sender.send_many([3, 4]).await.unwrap(), 2);
                    assert_eq!(plain(ends.receiver.recv().await), 3);
                    assert_eq!(plain(ends.receiver.recv().await), 4);
                });
            }

            #[test]
            fn futures_that_are_dropped_while_they_wait_change_nothing() {
                on_both_runtimes(|| async {
                    let mut ends = Ends::new(1, FullPolicy::Wait).await;
                    ends.open().await;
                    for value in 0..100 {
                        assert!(poll_once(&mut ends.receiver.recv()).is_pending());
                        ends.sender.send(value).await.unwrap();
                        assert!(poll_once(&mut ends.sender.send(999)).is_pending());
                        assert!(poll_once(&mut Box::pin(ends.sender.reserve())).is_pending());
                        assert_eq!(plain(ends.receiver.recv().await), value);
                    }
                });
            }

            /// P-28: the policies that lose nothing they accepted, and those that say what they lost.
            #[test]
            fn a_full_pipeline_does_what_its_policy_says() {
                on_both_runtimes(|| async {
                    for (policy, kept, dropped) in [
                        (FullPolicy::Fail, [1, 2], 0),
                        (FullPolicy::DropNewest, [1, 2], 1),
                        (FullPolicy::DropOldest, [2, 3], 1),
                    ] {
                        let mut ends = Ends::new(2, policy).await;
                        ends.sender.send(1).await.unwrap();
                        ends.sender.send(2).await.unwrap();
                        match ends.sender.send(3).await {
                            Ok(()) => assert_ne!(policy, FullPolicy::Fail),
                            Err(error) => {
                                assert_eq!(policy, FullPolicy::Fail);
                                assert!(
                                    !format!("{error:?}").contains('3'),
                                    "the value is hidden: {error:?}"
                                );
                                assert_eq!(error.into_parts(), (3, SendErrorReason::Full));
                            }
                        }
                        assert_eq!((ends.held(), ends.sender.counters().dropped), (2, dropped));
                        ends.open().await;
                        for value in kept {
                            assert_eq!(plain(ends.receiver.recv().await), value);
                        }
                    }
                });
            }

            #[test]
            fn closing_the_receiving_end_gives_waiting_values_back() {
                on_both_runtimes(|| async {
                    let ends = Ends::new(1, FullPolicy::Wait).await;
                    ends.open().await;
                    let sender = ends.sender.clone();
                    sender.send(1).await.unwrap();
                    assert!(!sender.is_closed());
                    let mut waiting = sender.send(2);
                    assert!(poll_once(&mut waiting).is_pending());
                    let _rest = ends.close().await;
                    let (value, reason) = waiting.await.unwrap_err().into_parts();
                    assert_eq!(value, 2);
                    assert!(matches!(reason, SendErrorReason::Closed | SendErrorReason::PeerClosed));
                    assert!(sender.is_closed());
                    assert_eq!(sender.send(3).await.unwrap_err().into_value(), 3);
                    assert!(sender.reserve().await.is_err());
                });
            }

            #[test]
            fn streams_and_sinks_work_on_either_end() {
                on_both_runtimes(|| async {
                    let mut ends = Ends::new(3, FullPolicy::Wait).await;
                    ends.open().await;
                    let mut sink = ends.sender.clone().into_sink();
                    let sending = tokio::spawn(async move {
                        for value in 0..50 {
                            sink.feed(value).await.unwrap();
                        }
                        sink.flush().await.unwrap();
                    });
                    for value in 0..50 {
                        assert_eq!(streamed(ends.receiver.next().await.unwrap()), value);
                    }
                    sending.await.unwrap();
                });
            }

            /// A stream that is forwarded goes on as `send` would, and nothing is left in front of the pipeline.
            #[test]
            fn a_sink_drops_by_the_policy_and_waits_for_nothing() {
                on_both_runtimes(|| async {
                    for (policy, kept) in [(FullPolicy::DropNewest, [0, 1]), (FullPolicy::DropOldest, [3, 4])]
                    {
                        let mut ends = Ends::new(2, policy).await;
                        let mut sink = ends.sender.clone().into_sink();
                        for value in 0..5 {
                            assert!(matches!(poll_once(&mut sink.feed(value)), Poll::Ready(Ok(()))));
                        }
                        assert_eq!((ends.held(), ends.sender.counters().dropped), (2, 3));
                        ends.open().await;
                        for value in kept {
                            assert_eq!(plain(ends.receiver.recv().await), value);
                        }
                    }
                });
            }

            #[test]
            fn a_sink_that_cannot_drop_drops_the_new_value() {
                on_both_runtimes(|| async {
                    let ends = Ends::new(2, FullPolicy::DropOldest).await;
                    let permits =
                        (ends.sender.reserve().await.unwrap(), ends.sender.reserve().await.unwrap());
                    let mut sink = ends.sender.clone().into_sink();
                    assert!(matches!(poll_once(&mut sink.feed(1)), Poll::Ready(Ok(()))));
                    assert_eq!((ends.held(), ends.sender.counters().dropped), (0, 1));
                    drop(permits);
                });
            }

            #[test]
            fn a_sink_gives_back_what_it_could_not_send() {
                on_both_runtimes(|| async {
                    for policy in [FullPolicy::Fail, FullPolicy::Wait] {
                        let ends = Ends::new(1, policy).await;
                        ends.open().await;
                        let sender = ends.sender.clone();
                        let mut sink = sender.clone().into_sink();
                        // Without a place there is nothing to be ready for, and the value comes back.
                        sink.start_send_unpin(1).unwrap();
                        let full = sink.start_send_unpin(2).unwrap_err();
                        assert_eq!(full.into_parts(), (Some(2), SendErrorReason::Full));
                        let mut ready = poll_fn(|context| sink.poll_ready_unpin(context));
                        match poll_once(&mut ready) {
                            Poll::Ready(outcome) => {
                                assert_eq!(policy, FullPolicy::Fail);
                                let none = outcome.unwrap_err().into_parts();
                                assert_eq!(none, (None, SendErrorReason::Full));
                            }
                            Poll::Pending => assert_eq!(policy, FullPolicy::Wait),
                        }
                        let _rest = ends.close().await;
                        let closed = sink.start_send_unpin(3).unwrap_err();
                        assert!(!format!("{closed:?}").contains('3'), "the value is hidden: {closed:?}");
                        assert_eq!(closed.into_value(), Some(3));
                    }
                });
            }

            /// The place that was granted goes with the value that the end met.
            #[test]
            fn a_ready_sink_gives_back_the_value_that_the_end_met() {
                on_both_runtimes(|| async {
                    let ends = Ends::new(1, FullPolicy::Wait).await;
                    ends.open().await;
                    let mut sink = ends.sender.clone().into_sink();
                    poll_fn(|context| sink.poll_ready_unpin(context)).await.unwrap();
                    let _rest = ends.close().await;
                    let (value, reason) = sink.start_send_unpin(7).unwrap_err().into_parts();
                    assert_eq!(value, Some(7));
                    assert!(matches!(reason, SendErrorReason::Closed | SendErrorReason::PeerClosed));
                });
            }

            #[test]
            fn a_sink_gives_its_sender_and_its_place_back() {
                on_both_runtimes(|| async {
                    let ends = Ends::new(1, FullPolicy::Wait).await;
                    let mut sink = ends.sender.clone().into_sink();
                    assert!(poll_once(&mut poll_fn(|context| sink.poll_ready_unpin(context))).is_ready());
                    assert!(ends.sender.try_send(1).unwrap_err().is_full());
                    let sender = sink.into_inner();
                    sender.try_send(1).unwrap();
                    assert_eq!(ends.held(), 1);
                });
            }

            #[test]
            fn sending_many_counts_what_a_policy_dropped_as_accepted() {
                on_both_runtimes(|| async {
                    for policy in [FullPolicy::DropNewest, FullPolicy::DropOldest] {
                        let ends = Ends::new(2, policy).await;
                        assert_eq!(ends.sender.send_many(0..5).await.unwrap(), 5);
                        let counters = ends.sender.counters();
                        assert_eq!((counters.accepted, counters.dropped, ends.held()), (5, 3, 2));
                    }
                });
            }

            /// Threads without a runtime wait by parking; a timeout gives the value back, or says that none came.
            #[test]
            fn threads_send_and_receive_without_a_runtime() {
                on_both_runtimes(|| async {
                    let ends = Ends::new(5, FullPolicy::Wait).await;
                    ends.open().await;
                    let Ends { sender, mut receiver, .. } = ends;
                    let moved = tokio::task::spawn_blocking(move || {
                        let none = receiver.blocking_recv_timeout(Duration::from_millis(1)).unwrap();
                        assert!(none.is_none());
                        let sending = thread::spawn({
                            let sender = sender.clone();
                            move || (0..1_000).for_each(|value| sender.blocking_send(value).unwrap())
                        });
                        for value in 0..1_000 {
                            assert_eq!(plain(receiver.blocking_recv()), value);
                        }
                        sending.join().unwrap();
                        for value in 0..5 {
                            sender.blocking_send_timeout(value, Duration::MAX).unwrap();
                        }
                        let late = sender.blocking_send_timeout(5, Duration::from_millis(1)).unwrap_err();
                        assert_eq!(late.into_parts(), (5, SendErrorReason::TimedOut));
                        for value in 0..5 {
                            let received = receiver.blocking_recv_timeout(Duration::MAX).unwrap();
                            assert_eq!(plain(Ok(received.unwrap())), value);
                        }
                    });
                    moved.await.unwrap();
                });
            }
        }
    };
}

suite!(queue, queues);
suite!(link, links);
