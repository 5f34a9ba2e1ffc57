//! Nothing waits: when it comes too fast the newest stay, at both ends, and every value that goes is counted.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{Sink, stream};
use ipc_pipeline::{
    SendErrorReason,
    best_effort::{Outgoing, Received, Receiver, ReceiverConfig, RecvError, SenderConfig, Unsent},
    link::{Connector, LinkNames, Status},
};
use ipc_transport::{
    Bincode, Connection, Datagram, DatagramAddress, DatagramSocket, DatagramTransport, Endpoint, Error, Raw,
    UdpTransport,
};

use crate::support::{Caught, LONG, fed, give, is_pending, name, on_both_runtimes, receiver, until};

fn capacity(values: usize) -> SenderConfig {
    let mut config = SenderConfig::default();
    config.capacity = values.try_into().unwrap();
    config
}

#[test]
fn the_newest_leave_when_the_socket_is_slow() {
    on_both_runtimes(|| async {
        let caught = Caught::default();
        caught.block(true);
        let sender = caught.sender::<u64>(capacity(10));
        for value in 1..=100 {
            sender.send(value).unwrap();
        }
        let blocked = sender.sender().counters();
        assert_eq!((blocked.accepted, blocked.dropped, blocked.waiting), (100, 90, 10));
        caught.block(false);
        until(|| caught.count() == 10).await;
        let (feed, mut receiver) = receiver::<u64>(|_| {});
        give(&feed, &receiver, caught.take()).await;
        for expected in 91..=100 {
            let received = receiver.recv().await.unwrap();
            assert_eq!((received.value, received.gap, received.late), (expected, 0, false));
        }
        // Nothing was lost on the way, and the receiver knows what was given up before it.
        let tally = receiver.sources()[0].tally;
        assert_eq!((tally.received, tally.missing, tally.skipped), (10, 0, 90));
        let counters = sender.sender().counters();
        assert_eq!((counters.sent, counters.dropped, counters.failed, counters.waiting), (10, 90, 0, 0));
    });
}

#[test]
fn the_bytes_that_wait_to_leave_are_bounded() {
    on_both_runtimes(|| async {
        let caught = Caught::default();
        let mut config = capacity(1_000);
        config.byte_bound = 10 * (40 + 8 + 100);
        let sender = caught.sender::<Vec<u8>>(config.clone());
        sender.lead_to(None);
        for _ in 0..100 {
            sender.send(vec![7; 100]).unwrap();
        }
        assert_eq!((sender.sender().counters().waiting, sender.sender().counters().dropped), (10, 90));
        config.byte_bound = 0;
        let sender = caught.sender::<Vec<u8>>(config);
        sender.lead_to(None);
        sender.send(vec![7; 100]).unwrap();
        sender.send(vec![8; 1_000]).unwrap();
        assert_eq!(sender.sender().counters().waiting, 1, "one may always wait");
    });
}

#[test]
fn the_newest_stay_when_nobody_takes_them() {
    on_both_runtimes(|| async {
        let caught = Caught::default();
        let sender = caught.sender::<u64>(capacity(100));
        for value in 1..=100 {
            sender.send(value).unwrap();
        }
        until(|| caught.count() == 100).await;
        let datagrams = caught.take();
        let few = |config: &mut ReceiverConfig| config.capacity = 10.try_into().unwrap();
        let (feed, mut by_count) = receiver::<u64>(few);
        give(&feed, &by_count, datagrams.clone()).await;
        let (feed, mut by_bytes) = receiver::<u64>(|config| config.byte_bound = 10 * 8);
        give(&feed, &by_bytes, datagrams).await;
        for receiver in [&mut by_count, &mut by_bytes] {
            for expected in 91..=100 {
                let received = receiver.recv().await.unwrap();
                assert_eq!((received.value, received.number, received.gap), (expected, expected, 0));
            }
            assert!(receiver.try_recv().unwrap().is_none());
            let source = &receiver.sources()[0];
            assert_eq!((source.overrun, source.tally.received, source.tally.missing), (90, 100, 0));
        }
    });
}

#[test]
fn a_fast_source_does_not_push_out_a_slow_one() {
    on_both_runtimes(|| async {
        let (fast, slow) = (Caught::default(), Caught::default());
        let (fast_sender, slow_sender) =
            (fast.sender::<u64>(capacity(200)), slow.sender::<u64>(capacity(10)));
        (0..200).for_each(|value| fast_sender.send(value).unwrap());
        (1_000..1_005).for_each(|value| slow_sender.send(value).unwrap());
        until(|| fast.count() == 200 && slow.count() == 5).await;
        let (feed, mut receiver) = receiver::<u64>(|config| config.capacity = 20.try_into().unwrap());
        give(&feed, &receiver, slow.take()).await;
        give(&feed, &receiver, fast.take()).await;
        for turn in 0..5 {
            assert_eq!(receiver.recv().await.unwrap().value, 1_000 + turn);
            assert_eq!(receiver.recv().await.unwrap().value, 180 + turn);
        }
    });
}

#[test]
fn what_does_not_fit_into_a_datagram_comes_back() {
    on_both_runtimes(|| async {
        let caught = Caught::default();
        let sender = Outgoing::<Vec<u8>>::new(caught.socket(100), capacity(5), Bincode::default()).unwrap();
        sender.lead_to(Some(name("there")));
        assert_eq!(sender.sender().max_value(), 60);
        for len in [53, 54, 1_000_000] {
            let error = sender.send(vec![7; len]).unwrap_err();
            assert!(
                matches!(error.reason(), SendErrorReason::TooLarge { max: 60, len } if *len > 60),
                "{error:?}"
            );
            assert_eq!(error.into_value().len(), len);
        }
        sender.send(vec![7; 52]).unwrap();
        until(|| caught.count() == 1).await;
        assert_eq!(caught.take()[0].payload.len(), 100);

        let raw = Outgoing::<Bytes>::new(caught.socket(100_000), capacity(5), Raw).unwrap();
        raw.lead_to(Some(name("there")));
        let error = raw.send(Bytes::from(vec![7; 99_961])).unwrap_err();
        assert_eq!(error.reason(), &SendErrorReason::TooLarge { len: 99_961, max: 99_960 });
        raw.send(Bytes::from(vec![7; 99_960])).unwrap();
        raw.send(Bytes::from(vec![8; 10])).unwrap();
        until(|| caught.count() == 2).await;
        assert_eq!(
            caught.take().iter().map(|datagram| datagram.payload.len()).collect::<Vec<_>>(),
            [100_000, 50]
        );

        let error = Outgoing::<u8>::new(caught.socket(40), capacity(5), Bincode::default()).unwrap_err();
        assert!(matches!(error, Error::DatagramTooLarge { len: 41, max: 40 }), "{error:?}");
    });
}

#[test]
fn the_lowest_numbers_go_whatever_their_order_of_arrival() {
    on_both_runtimes(|| async {
        let caught = Caught::default();
        let sender = caught.sender::<u64>(capacity(20));
        (1..=10).for_each(|value| sender.send(value).unwrap());
        until(|| caught.count() == 10).await;
        let sent = caught.take();
        let (feed, mut receiver) = receiver::<u64>(|config| config.capacity = 3.try_into().unwrap());
        let arriving = [9, 3, 10, 8, 1, 7].map(|number: usize| sent[number - 1].clone());
        give(&feed, &receiver, arriving.to_vec()).await;
        let mut found = Vec::new();
        while let Some(received) = receiver.try_recv().unwrap() {
            found.push((received.value, received.late));
        }
        assert_eq!(found, [(9, false), (10, false), (8, true)]);
        let source = &receiver.sources()[0];
        assert_eq!((source.overrun, source.tally.received, source.tally.reordered), (3, 6, 4));
    });
}

#[test]
fn a_close_waits_until_all_has_left() {
    on_both_runtimes(|| async {
        let caught = Caught::default();
        let sender = caught.sender::<u64>(capacity(10));
        let other = sender.sender().clone();
        caught.block(true);
        (0..5).for_each(|value| sender.send(value).unwrap());
        let mut closing = Box::pin(sender.close(LONG));
        assert!(is_pending(&mut closing).await);
        assert_eq!(other.send(9).unwrap_err().reason(), &SendErrorReason::Closed);
        assert!(other.is_closed());
        caught.block(false);
        closing.await.unwrap();
        assert_eq!(caught.count(), 5);
    });
}

#[test]
fn a_close_gives_up_at_its_deadline_and_says_how_much() {
    on_both_runtimes(|| async {
        let caught = Caught::default();
        caught.block(true);
        let sender = caught.sender::<u64>(capacity(10));
        (0..15).for_each(|value| sender.send(value).unwrap());
        let (other, control) = (sender.sender().clone(), sender.control());
        assert_eq!(sender.close(Duration::from_millis(1)).await, Err(Unsent { count: 10 }));
        assert_eq!((other.counters().dropped, other.counters().waiting), (15, 0));
        assert_eq!(control.close(LONG).await, Err(Unsent { count: 10 }), "it stays so");
    });
}

/// Nobody waits for a place that nobody looks for; nor, without a runtime, for a clock.
#[test]
fn what_has_nowhere_to_go_does_not_hold_up_the_end() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let caught = Caught::default();
    let sender = runtime.block_on(async {
        let sender = caught.sender::<u64>(capacity(10));
        sender.lead_to(None);
        sender
    });
    (0..3).for_each(|value| sender.send(value).unwrap());
    let status = sender.sender().status();
    assert_eq!(futures_executor(sender.close(Duration::MAX)), Err(Unsent { count: 3 }));
    assert_eq!(*status.borrow(), Status::Closed);
}

/// Runs a future outside of any runtime.
fn futures_executor<F: Future>(future: F) -> F::Output {
    struct Unpark(std::thread::Thread);
    impl std::task::Wake for Unpark {
        fn wake(self: std::sync::Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = std::sync::Arc::new(Unpark(std::thread::current())).into();
    let mut cx = std::task::Context::from_waker(&waker);
    let mut future = std::pin::pin!(future);
    loop {
        match future.as_mut().poll(&mut cx) {
            std::task::Poll::Ready(output) => return output,
            std::task::Poll::Pending => std::thread::park(),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_waits_leaves_after_the_owner_is_dropped() {
    let caught = Caught::default();
    let sender = caught.sender::<u64>(capacity(10));
    let (handle, status) = (sender.sender().clone(), sender.sender().status());
    caught.block(true);
    (0..5).for_each(|value| sender.send(value).unwrap());
    drop(sender);
    assert_eq!(handle.send(9).unwrap_err().reason(), &SendErrorReason::Closed);
    assert_eq!(*status.borrow(), Status::Closed);
    caught.block(false);
    until(|| caught.count() == 5).await;
}

/// A socket that takes nothing any more keeps no task alive for more than the linger, nor beyond the deadline of a close.
#[tokio::test(start_paused = true)]
async fn a_socket_that_takes_nothing_is_given_up() {
    let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    for by_drop in [true, false] {
        let caught = Caught::default();
        caught.block(true);
        let sender = caught.sender::<u64>(capacity(10));
        (0..5).for_each(|value| sender.send(value).unwrap());
        let counts = sender.sender().clone();
        if by_drop {
            drop(sender);
        } else {
            assert_eq!(sender.close(Duration::from_secs(5)).await, Err(Unsent { count: 5 }));
        }
        while tasks() > 0 {
            // Sleeps under paused time: whatever has to wait does.
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert_eq!((counts.counters().sent, counts.counters().dropped), (0, 5));
    }
}

/// Not even while what was accepted is still on its way out.
#[test]
fn orders_after_the_end_do_nothing() {
    on_both_runtimes(|| async {
        let caught = Caught::default();
        caught.block(true);
        let sender = caught.sender::<u64>(capacity(10));
        (0..3).for_each(|value| sender.send(value).unwrap());
        let control = sender.control();
        let mut closing = Box::pin(control.close(LONG));
        assert!(is_pending(&mut closing).await);
        assert_eq!(sender.lead_to(Some(name("elsewhere"))), None);
        assert_eq!(sender.lead_to(None), None);
        sender.connect(Arc::new(Nobody), LinkNames::new(("a", "OUT"), ("b", "IN"))).unwrap();
        caught.block(false);
        closing.await.unwrap();
        assert!(caught.take().iter().all(|datagram| datagram.peer == name("there")));
        assert_eq!(sender.send(1).unwrap_err().reason(), &SendErrorReason::Closed);
        assert_eq!(*sender.sender().status().borrow(), Status::Closed);
    });
}

#[derive(Debug)]
struct Nobody;

#[async_trait]
impl Connector for Nobody {
    async fn connect(&self) -> Result<Connection, Error> {
        Err(Error::NoRuntime)
    }
}

/// A value whose own code panics takes nothing away from the others.
#[test]
fn a_panic_while_encoding_harms_nobody() {
    struct Moody(bool);

    impl serde::Serialize for Moody {
        fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            assert!(!self.0, "a value with a mood");
            serializer.serialize_u64(7)
        }
    }

    on_both_runtimes(|| async {
        let caught = Caught::default();
        let sender = caught.sender::<Moody>(capacity(10));
        let panicked =
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| sender.send(Moody(true)).is_ok()));
        assert!(panicked.is_err());
        (0..5).for_each(|_| assert!(sender.send(Moody(false)).is_ok()));
        until(|| caught.count() == 5).await;
    });
}

/// A consumer that is slower than its source does not keep a task from being stopped.
#[tokio::test]
async fn taking_gives_others_their_turns() {
    let caught = Caught::default();
    let sender = caught.sender::<u64>(capacity(5_000));
    (0..5_000).for_each(|value| sender.send(value).unwrap());
    until(|| caught.count() == 5_000).await;
    let (feed, mut receiver) = receiver::<u64>(|config| config.capacity = 5_000.try_into().unwrap());
    give(&feed, &receiver, caught.take()).await;
    let mut taking = Box::pin(async { while receiver.recv().await.is_ok() {} });
    assert!(is_pending(&mut taking).await);
    drop(taking);
    assert!(receiver.try_recv().unwrap().is_some(), "it was not drained in one go");
}

#[test]
fn many_threads_send_at_once() {
    on_both_runtimes(|| async {
        let caught = Caught::default();
        let sender = caught.sender::<u64>(capacity(10_000));
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let sender = sender.sender();
                scope
                    .spawn(move || (0..1_000).for_each(|value| sender.send(thread * 1_000 + value).unwrap()));
            }
        });
        until(|| caught.count() == 4_000).await;
        let (feed, mut receiver) = receiver::<u64>(|config| config.capacity = 10_000.try_into().unwrap());
        give(&feed, &receiver, caught.take()).await;
        let mut found = std::collections::BTreeSet::new();
        while let Some(received) = receiver.try_recv().unwrap() {
            assert!(found.insert(received.value) && received.gap == 0);
        }
        assert!(found.into_iter().eq(0..4_000));
    });
}

#[test]
fn an_error_of_the_socket_costs_one_datagram() {
    on_both_runtimes(|| async {
        let socket = UdpTransport::new().bind(&any_port()).await.unwrap();
        let sender = Outgoing::<u64>::new(socket, capacity(10), Bincode::default()).unwrap();
        // A name is no place for this socket.
        sender.lead_to(Some(name("nowhere")));
        (0..5).for_each(|value| sender.send(value).unwrap());
        until(|| sender.sender().counters().failed == 5).await;
        assert_eq!(sender.sender().counters().sent, 5);
        let socket = DatagramSocket::new(stream::pending(), Broken, any_port(), 1_200);
        let broken = Outgoing::<u64>::new(socket, capacity(10), Bincode::default()).unwrap();
        broken.lead_to(Some(name("there")));
        (0..5).for_each(|value| broken.send(value).unwrap());
        until(|| broken.sender().counters().failed == 5).await;
        assert_eq!((broken.sender().counters().sent, broken.sender().counters().waiting), (5, 0));
        let (feed, socket) = fed();
        let mut receiver =
            Receiver::<u64>::new(socket, ReceiverConfig::default(), Bincode::default()).unwrap();
        feed.send(Err(Error::NoRuntime)).unwrap();
        until(|| receiver.counters().failures == 1).await;
        drop(feed);
        assert_eq!(receiver.recv().await.unwrap_err(), RecvError::Closed);
    });
}

/// Fails at whatever it is asked.
struct Broken;

impl Sink<Datagram> for Broken {
    type Error = Error;

    fn poll_ready(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Err(Error::NoRuntime))
    }

    fn start_send(self: Pin<&mut Self>, _: Datagram) -> Result<(), Error> {
        Err(Error::NoRuntime)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Err(Error::NoRuntime))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Err(Error::NoRuntime))
    }
}

fn any_port() -> Endpoint {
    "udp://127.0.0.1:0".parse().unwrap()
}

#[test]
fn without_a_runtime_there_is_an_error_and_no_panic() {
    let (_feed, socket) = fed();
    let error = Receiver::<u8>::new(socket, ReceiverConfig::default(), Bincode::default()).unwrap_err();
    assert!(matches!(error, Error::NoRuntime));
    let caught = Caught::default();
    let error = Outgoing::<u8>::new(caught.socket(100), capacity(1), Bincode::default()).unwrap_err();
    assert!(matches!(error, Error::NoRuntime));

    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (sender, mut receiver) = runtime.block_on(async {
        let (feed, socket) = fed();
        let receiver = Receiver::<u8>::new(socket, ReceiverConfig::default(), Bincode::default()).unwrap();
        (caught.sender::<u8>(capacity(1)), (receiver, feed))
    });
    drop(runtime);
    assert_eq!(sender.send(1).unwrap_err().reason(), &SendErrorReason::NotConnected);
    assert_eq!(receiver.0.try_recv().unwrap_err(), RecvError::Closed);
}

#[test]
fn a_receive_that_is_dropped_loses_nothing() {
    on_both_runtimes(|| async {
        let caught = Caught::default();
        let sender = caught.sender::<u64>(capacity(100));
        (0..50).for_each(|value| sender.send(value).unwrap());
        until(|| caught.count() == 50).await;
        let (feed, mut receiver) = receiver::<u64>(|_| {});
        for (expected, datagram) in caught.take().into_iter().enumerate() {
            for _ in 0..3 {
                assert!(is_pending(receiver.recv()).await);
            }
            give(&feed, &receiver, vec![datagram]).await;
            assert_eq!(receiver.recv().await.unwrap().value, expected as u64);
        }
    });
}

/// From end to end over the real thing: what the tally says is missing is what was not received.
#[test]
fn values_travel_over_udp() {
    on_both_runtimes(|| async {
        for any_port in ["udp://127.0.0.1:0", "udp://[::1]:0"] {
            let any_port: Endpoint = any_port.parse().unwrap();
            let mut config = ReceiverConfig::default();
            config.sources = ipc_pipeline::best_effort::Sources::Anybody;
            let socket = UdpTransport::new().bind(&any_port).await.unwrap();
            let mut receiver = Receiver::<(u64, String)>::new(socket, config, Bincode::default()).unwrap();
            let socket = UdpTransport::new().bind(&any_port).await.unwrap();
            let sender = Outgoing::new(socket, SenderConfig::default(), Bincode::default()).unwrap();
            sender.lead_to(DatagramAddress::of(receiver.local_endpoint()));
            let mut found = std::collections::BTreeSet::new();
            let mut take = |received: Received<(u64, String)>| {
                let (number, text) = received.value;
                assert!(text.len() as u64 == number && found.insert(number), "whole, and once");
                number
            };
            for value in 1_u64.. {
                sender.send((value, "x".repeat(value as usize))).unwrap();
                if value % 30 == 0 {
                    // Loopback drops what finds no room, so it goes on until a late one has arrived.
                    if let Ok(received) = tokio::time::timeout(Duration::from_secs(1), receiver.recv()).await
                        && take(received.unwrap()) >= 300
                    {
                        break;
                    }
                    while let Some(received) = receiver.try_recv().unwrap() {
                        take(received);
                    }
                }
            }
            sender.close(LONG).await.unwrap();
            assert_eq!(receiver.sources()[0].tally.duplicates, 0);
            let place = receiver.local_endpoint().clone();
            receiver.close().await;
            // Unless somebody else was quicker; sooner or later nobody is.
            while UdpTransport::new().bind(&place).await.is_err() {
                tokio::task::yield_now().await;
            }
        }
    });
}

#[test]
fn a_session_towards_another_place_begins_anew() {
    on_both_runtimes(|| async {
        let caught = Caught::default();
        let sender = caught.sender::<u64>(capacity(10));
        for place in ["one", "two"] {
            sender.lead_to(Some(name(place)));
            sender.send(1).unwrap();
            sender.send(2).unwrap();
            until(|| caught.count() == 2).await;
            let (feed, mut receiver) = receiver::<u64>(|_| {});
            let datagrams: Vec<Datagram> = caught.take();
            assert!(datagrams.iter().all(|datagram| datagram.peer == name(place)));
            give(&feed, &receiver, datagrams).await;
            assert_eq!(
                [receiver.recv().await.unwrap().number, receiver.recv().await.unwrap().number],
                [1, 2]
            );
        }
    });
}
