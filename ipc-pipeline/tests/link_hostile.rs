//! Peers that say what no sender of ours would, and limits that are set to nonsense.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::{num::NonZeroUsize, time::Duration};

use common::on_both_runtimes;
use ipc_pipeline::{
    link::{Greeting, Intake, Receiver, ReceiverConfig},
    protocol::{Control, HEADER_LEN, Header, Hello, Kind, SessionId},
};
use ipc_transport::{Bincode, Connection, ConnectionInfo, Endpoint, PeerIdentity, ReadHalf, WriteHalf};
use tokio::io::{AsyncWriteExt, duplex, split};

fn hello(session: u128) -> Hello {
    let mut hello = Hello::new(SessionId::from_bits(session), Bincode::ID);
    hello.from_process = "a".to_owned();
    hello.from_port = "OUT".to_owned();
    hello.max_message = 1024;
    hello.capacity = 20;
    hello
}

/// A connection that has said its hello and was let in.
async fn dial(intake: &Intake, hello: &Hello) -> (ReadHalf, WriteHalf) {
    let (ours, theirs) = duplex(64 * 1024);
    let at = Endpoint::new("mem", "here").unwrap();
    let info = ConnectionInfo::new(at.clone(), at, PeerIdentity::Unknown);
    let (reader, writer) = split(ours);
    let (mut writer, reader) = {
        let (reader, writer, _) = Connection::from_bytes(reader, writer, info.clone()).into_parts();
        (writer, reader)
    };
    writer.write_all(&hello.encode().unwrap()).await.unwrap();
    let (their_reader, their_writer) = split(theirs);
    let accepted = Connection::from_bytes(their_reader, their_writer, info);
    let greeting = Greeting::read(accepted, Duration::from_secs(5)).await.unwrap();
    assert!(intake.accept(greeting).await.is_ok());
    (reader, writer)
}

fn resume(maybe_seen_until: u64) -> Vec<u8> {
    let mut frames = Vec::new();
    Control::Resume { first: 1, maybe_seen_until }.encode(&mut frames);
    frames
}

fn value(number: u64) -> Vec<u8> {
    let mut frame = Header::new(Kind::Data, 8).encode().to_vec();
    frame.extend_from_slice(&number.to_le_bytes());
    assert_eq!(frame.len(), HEADER_LEN + 8);
    frame
}

#[test]
fn a_peer_that_flags_every_number_does_no_harm() {
    on_both_runtimes(|| async {
        let mut receiver = Receiver::<u64>::new(ReceiverConfig::default(), Bincode::default());
        let (_reader, mut writer) = dial(&receiver.intake(), &hello(1)).await;
        writer.write_all(&[resume(u64::MAX), value(1), value(2), value(3)].concat()).await.unwrap();
        let mut out = Vec::new();
        while out.len() < 3 {
            receiver.recv_many(&mut out, 10).await.unwrap();
        }
        assert_eq!((out, receiver.counters().redelivered), (vec![1, 2, 3], 3));
    });
}

#[test]
fn limits_beyond_all_measure_are_no_limits_and_overflow_nothing() {
    on_both_runtimes(|| async {
        let mut config = ReceiverConfig::default();
        config.window = NonZeroUsize::MAX;
        config.max_window_bytes = usize::MAX;
        config.max_message = usize::MAX;
        config.frame_timeout = Duration::MAX;
        config.source_ttl = Some(Duration::MAX);
        config.budget = ipc_pipeline::protocol::Budget::new(usize::MAX);
        let mut receiver = Receiver::<u64>::new(config, Bincode::default());
        let mut hello = hello(1);
        hello.capacity = u64::MAX;
        let (_reader, mut writer) = dial(&receiver.intake(), &hello).await;
        let mut need = Vec::new();
        Control::Need { waiting: u64::MAX, next_size: u64::MAX }.encode(&mut need);
        // A value that comes in two pieces, so that the frame's deadline is set and moved.
        let (first, second) = ([resume(0), need, value(1)].concat(), value(2));
        writer.write_all(&first).await.unwrap();
        writer.write_all(&second[..5]).await.unwrap();
        assert_eq!(*receiver.recv().await.unwrap(), 1);
        tokio::task::yield_now().await;
        writer.write_all(&second[5..7]).await.unwrap();
        tokio::task::yield_now().await;
        writer.write_all(&second[7..]).await.unwrap();
        assert_eq!(*receiver.recv().await.unwrap(), 2);
    });
}

#[test]
fn no_larger_message_is_agreed_to_than_any_may_be() {
    on_both_runtimes(|| async {
        let mut config = ReceiverConfig::default();
        config.max_message = usize::MAX;
        let receiver = Receiver::<u64>::new(config, Bincode::default());
        let mut hello = hello(1);
        hello.max_message = ipc_transport::Limits::MAX_MESSAGE_CAP as u64 + 1;
        let _dialled = dial(&receiver.intake(), &hello).await;
        assert!(receiver.sources().is_empty());
    });
}
