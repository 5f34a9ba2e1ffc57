//! Nothing waits: when it comes too fast the newest stay, at both ends, and every value that goes is counted.

use std::time::Duration;

use bytes::Bytes;
use ipc_pipeline::{
    SendErrorReason,
    best_effort::{Receiver, ReceiverConfig, RecvError, Sender, SenderConfig, Unsent},
};
use ipc_transport::{
    Bincode, Datagram, DatagramAddress, DatagramTransport, Endpoint, Error, Raw, UdpTransport,
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
        let sender = caught.sender::<u64>(capacity(10));
        sender.send(0).unwrap();
        until(|| caught.count() == 1).await;
        caught.block(true);
        for value in 1..=100 {
            sender.send(value).unwrap();
        }
        let blocked = sender.counters();
        assert_eq!((blocked.accepted, blocked.dropped, blocked.waiting), (101, 90, 10));
        caught.block(false);
        until(|| caught.count() == 11).await;
        let (feed, mut receiver) = receiver::<u64>(|_| {});
        give(&feed, &receiver, caught.take()).await;
        for expected in [0].into_iter().chain(91..=100) {
            let received = receiver.recv().await.unwrap();
            assert_eq!((received.value, received.gap, received.late), (expected, 0, false));
        }
        // Nothing was lost on the way, and the receiver knows what was given up before it.
        let tally = receiver.sources()[0].tally;
        assert_eq!((tally.received, tally.missing, tally.skipped), (11, 0, 90));
        let counters = sender.counters();
        assert_eq!((counters.sent, counters.dropped, counters.failed, counters.waiting), (11, 90, 0, 0));
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
        assert_eq!((sender.counters().waiting, sender.counters().dropped), (10, 90));
        config.byte_bound = 0;
        let sender = caught.sender::<Vec<u8>>(config);
        sender.lead_to(None);
        sender.send(vec![7; 100]).unwrap();
        sender.send(vec![8; 1_000]).unwrap();
        assert_eq!(sender.counters().waiting, 1, "one may always wait");
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
        let sender = Sender::<Vec<u8>>::new(caught.socket(100), capacity(5), Bincode::default()).unwrap();
        sender.lead_to(Some(name("there")));
        assert_eq!(sender.max_value(), 60);
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

        let raw = Sender::<Bytes>::new(caught.socket(100_000), capacity(5), Raw).unwrap();
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

        let error = Sender::<u8>::new(caught.socket(40), capacity(5), Bincode::default()).unwrap_err();
        assert!(matches!(error, Error::DatagramTooLarge { len: 41, max: 40 }), "{error:?}");
    });
}

#[test]
fn a_close_waits_until_all_has_left() {
    on_both_runtimes(|| async {
        let caught = Caught::default();
        let sender = caught.sender::<u64>(capacity(10));
        let other = sender.clone();
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
        let sender = caught.sender::<u64>(capacity(10));
        sender.lead_to(None);
        (0..15).for_each(|value| sender.send(value).unwrap());
        let other = sender.clone();
        assert_eq!(sender.close(Duration::from_millis(1)).await, Err(Unsent { count: 10 }));
        assert_eq!((other.counters().dropped, other.counters().waiting), (15, 0));
        assert_eq!(other.close(LONG).await, Err(Unsent { count: 10 }), "it stays so");
    });
}

#[test]
fn what_waits_leaves_after_the_last_handle_is_dropped() {
    on_both_runtimes(|| async {
        let caught = Caught::default();
        let sender = caught.sender::<u64>(capacity(10));
        caught.block(true);
        (0..5).for_each(|value| sender.send(value).unwrap());
        drop(sender.clone());
        drop(sender);
        caught.block(false);
        until(|| caught.count() == 5).await;
    });
}

#[test]
fn an_error_of_the_socket_costs_one_datagram() {
    on_both_runtimes(|| async {
        let socket = UdpTransport::new().bind(&any_port()).await.unwrap();
        let sender = Sender::<u64>::new(socket, capacity(10), Bincode::default()).unwrap();
        // A name is no place for this socket.
        sender.lead_to(Some(name("nowhere")));
        (0..5).for_each(|value| sender.send(value).unwrap());
        until(|| sender.counters().failed == 5).await;
        let (feed, socket) = fed();
        let mut receiver =
            Receiver::<u64>::new(socket, ReceiverConfig::default(), Bincode::default()).unwrap();
        feed.send(Err(Error::NoRuntime)).unwrap();
        until(|| receiver.counters().failures == 1).await;
        drop(feed);
        assert_eq!(receiver.recv().await.unwrap_err(), RecvError::Closed);
    });
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
    let error = Sender::<u8>::new(caught.socket(100), capacity(1), Bincode::default()).unwrap_err();
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
            let sender = Sender::new(socket, SenderConfig::default(), Bincode::default()).unwrap();
            sender.lead_to(DatagramAddress::of(receiver.local_endpoint()));
            let mut last = 0;
            for value in 1..=300_u64 {
                sender.send((value, "x".repeat(value as usize))).unwrap();
                if value % 30 == 0 {
                    // Loopback drops what finds no room; a value that arrives is whole, and none comes twice.
                    until(|| sender.counters().waiting == 0).await;
                    while let Some(received) = receiver.try_recv().unwrap() {
                        let (number, text) = received.value;
                        assert!(number > last && text.len() as u64 == number);
                        last = number;
                    }
                }
            }
            for value in 301.. {
                if last >= 300 {
                    break;
                }
                sender.send((value, "x".repeat(value as usize))).unwrap();
                if let Ok(received) = tokio::time::timeout(Duration::from_secs(1), receiver.recv()).await {
                    last = received.unwrap().value.0;
                }
            }
            let tally = receiver.sources()[0].tally;
            assert_eq!((tally.duplicates, tally.highest), (0, tally.received + tally.missing));
            sender.close(LONG).await.unwrap();
            let place = receiver.local_endpoint().clone();
            receiver.close().await;
            UdpTransport::new().bind(&place).await.expect("its address is free again");
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
