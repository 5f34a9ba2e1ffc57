//! What in-memory datagrams promise beyond the contract of every datagram transport.

#![allow(clippy::unwrap_used, reason = "a test may unwrap, its helpers too")]

use std::{num::NonZeroUsize, time::Duration};

use bytes::Bytes;
use ipc_testkit::MemTransport;
use ipc_transport::{
    Datagram, DatagramAddress, DatagramReader, DatagramTransport, DatagramWriter, Endpoint, Error,
    ListenOptions, Transport,
};
use tokio::time::timeout;

fn mem(name: &str) -> Endpoint {
    Endpoint::new("mem", name).unwrap()
}

async fn bind(world: &MemTransport, name: &str) -> (DatagramReader, DatagramWriter) {
    world.bind(&mem(name)).await.unwrap().into_parts()
}

fn to(name: &str, payload: impl Into<Bytes>) -> Datagram {
    Datagram { payload: payload.into(), peer: DatagramAddress::Name(name.into()) }
}

/// Everything that has arrived, in order.
async fn arrived(reader: &mut DatagramReader) -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    while let Ok(datagram) = timeout(Duration::from_secs(1), reader.recv()).await {
        all.push(datagram.unwrap().unwrap().payload.to_vec());
    }
    all
}

#[tokio::test(start_paused = true)]
async fn more_datagrams_than_fit_are_dropped_and_counted() {
    let world = MemTransport::new().with_datagram_buffer(NonZeroUsize::new(2).unwrap(), 100);
    let (mut reader, _writer) = bind(&world, "a").await;
    let (_reader, mut writer) = bind(&world, "b").await;
    for number in 0..5 {
        writer.send(to("a", vec![number])).await.unwrap();
    }
    assert_eq!(arrived(&mut reader).await, [[0], [1]]);
    writer.send(to("a", vec![5])).await.unwrap();
    assert_eq!(arrived(&mut reader).await, [[5]], "there is room again");
    let counters = world.datagram_counters();
    assert_eq!((counters.delivered, counters.overflowed, counters.unaddressed), (3, 3, 0));
}

#[tokio::test(start_paused = true)]
async fn more_bytes_than_fit_are_dropped_and_counted() {
    let world = MemTransport::new().with_datagram_buffer(NonZeroUsize::new(100).unwrap(), 10);
    let (mut reader, _writer) = bind(&world, "a").await;
    let (_reader, mut writer) = bind(&world, "b").await;
    for len in [6, 5, 4, 0, 1] {
        writer.send(to("a", vec![7; len])).await.unwrap();
    }
    let lengths: Vec<usize> = arrived(&mut reader).await.iter().map(Vec::len).collect();
    assert_eq!(lengths, [6, 4, 0], "five bytes had no room after six, and one had none after ten");
    writer.send(to("a", vec![7; 1_000])).await.unwrap();
    assert_eq!(arrived(&mut reader).await, [[7; 1_000]], "an empty buffer takes any size");
    assert_eq!(world.datagram_counters().overflowed, 2);
}

#[tokio::test(start_paused = true)]
async fn what_is_sent_to_nobody_is_counted() {
    let world = MemTransport::new();
    let (_reader, mut writer) = bind(&world, "a").await;
    writer.send(to("nobody", "lost")).await.unwrap();
    let elsewhere = DatagramAddress::Ip("127.0.0.1:9".parse().unwrap());
    writer.send(Datagram { payload: Bytes::new(), peer: elsewhere }).await.unwrap();
    assert_eq!(world.datagram_counters().unaddressed, 2);
}

#[tokio::test(start_paused = true)]
async fn a_waiting_receiver_is_woken() {
    let world = MemTransport::new();
    let (mut reader, _writer) = bind(&world, "a").await;
    let (_reader, mut writer) = bind(&world, "b").await;
    let waiting = tokio::spawn(async move { reader.recv().await.unwrap().unwrap() });
    tokio::task::yield_now().await;
    writer.send(to("a", "wake up")).await.unwrap();
    let datagram = waiting.await.unwrap();
    assert_eq!((&datagram.payload[..], datagram.peer), (&b"wake up"[..], DatagramAddress::Name("b".into())));
}

#[tokio::test(start_paused = true)]
async fn a_name_is_taken_until_both_halves_are_gone() {
    let world = MemTransport::new();
    let (reader, writer) = bind(&world, "a").await;
    for half in [Box::new(reader) as Box<dyn std::any::Any>, Box::new(writer)] {
        let taken = world.bind(&mem("a")).await.unwrap_err();
        assert!(matches!(taken, Error::AddrInUse { .. }), "{taken:?}");
        drop(half);
    }
    world.bind(&mem("a")).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn sockets_and_listeners_do_not_share_their_names() {
    let world = MemTransport::new();
    let _listener = world.listen(&mem("a"), &ListenOptions::default()).await.unwrap();
    let _socket = world.bind(&mem("a")).await.unwrap();
    let elsewhere = MemTransport::new();
    elsewhere.bind(&mem("a")).await.unwrap();
    assert_eq!(world.names(), ["a"]);
}

#[tokio::test(start_paused = true)]
async fn fresh_names_of_sockets_are_told_and_differ() {
    let world = MemTransport::new();
    let one = world.bind(&mem(MemTransport::FRESH_NAME)).await.unwrap();
    let two = world.bind(&mem(MemTransport::FRESH_NAME)).await.unwrap();
    assert_ne!(one.local_endpoint(), two.local_endpoint());
    assert_ne!(one.local_endpoint().address(), MemTransport::FRESH_NAME);
}

#[tokio::test(start_paused = true)]
async fn the_limit_of_a_payload_is_that_of_the_handle_that_bound_the_sender() {
    let world = MemTransport::new();
    let small = world.clone().with_max_payload(3);
    let (mut reader, mut writer) = bind(&small, "small").await;
    let (_reader, mut large) = bind(&world, "large").await;
    assert_eq!((writer.max_payload(), large.max_payload()), (3, 1_200));
    let refused = writer.send(to("large", vec![0; 4])).await.unwrap_err();
    assert!(matches!(refused, Error::DatagramTooLarge { len: 4, max: 3 }), "{refused:?}");
    large.send(to("small", vec![9; 4])).await.unwrap();
    assert_eq!(arrived(&mut reader).await, [[9; 4]]);
}

#[tokio::test(start_paused = true)]
async fn other_schemes_are_not_bound() {
    let other = Endpoint::new("other", "a").unwrap();
    let error = MemTransport::new().bind(&other).await.unwrap_err();
    assert!(matches!(error, Error::UnknownScheme { .. }), "{error:?}");
}

/// A sender that never waits still gives the receiver its turn, so that a loop of sends is no flood by itself.
#[tokio::test(start_paused = true)]
async fn a_loop_of_sends_lets_the_receiver_run() {
    let world = MemTransport::new();
    let (mut reader, _writer) = bind(&world, "a").await;
    let (_reader, mut writer) = bind(&world, "b").await;
    let receiving = tokio::spawn(async move {
        for expected in 0..10_000_u32 {
            assert_eq!(reader.recv().await.unwrap().unwrap().payload[..], expected.to_le_bytes());
        }
    });
    for number in 0..10_000_u32 {
        writer.send(to("a", number.to_le_bytes().to_vec())).await.unwrap();
    }
    receiving.await.unwrap();
}
