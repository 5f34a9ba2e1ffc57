//! Peers by hand, which say what no sender of ours would, and limits that are set to nonsense.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::{num::NonZeroUsize, pin::pin, time::Duration};

use common::{is_pending, on_both_runtimes};
use ipc_pipeline::{
    link::{Event, Greeting, Intake, Receiver, ReceiverConfig, RecvError},
    protocol::{Control, HEADER_LEN, Header, Hello, Kind, SessionId},
};
use ipc_transport::{Bincode, Connection, ConnectionInfo, Endpoint, PeerIdentity, ReadHalf, WriteHalf};
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex, split};

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

fn frames(controls: &[Control]) -> Vec<u8> {
    let mut frames = resume(0);
    controls.iter().for_each(|control| control.encode(&mut frames));
    frames
}

async fn settle() {
    for _ in 0..200 {
        tokio::task::yield_now().await;
    }
}

/// A session of the same source that lingers, admitted before or after its successor, does not end the stream for it.
#[test]
fn the_stream_does_not_end_while_any_session_is_attached() {
    on_both_runtimes(|| async {
        for lingering_first in [true, false] {
            let mut receiver = Receiver::<u64>::new(ReceiverConfig::default(), Bincode::default());
            let (first, mut ending) = dial(&receiver.intake(), &hello(1)).await;
            let (second, mut staying) = dial(&receiver.intake(), &hello(2)).await;
            if lingering_first {
                std::mem::swap(&mut ending, &mut staying);
            }
            ending.write_all(&frames(&[Control::Fin])).await.unwrap();
            staying.write_all(&resume(0)).await.unwrap();
            {
                let mut receiving = pin!(receiver.recv());
                for _ in 0..20 {
                    settle().await;
                    assert!(is_pending(receiving.as_mut()).await, "lingering first: {lingering_first}");
                }
                staying.write_all(&value(7)).await.unwrap();
                assert_eq!(*receiving.await.unwrap(), 7);
            }
            let mut fin = Vec::new();
            Control::Fin.encode(&mut fin);
            staying.write_all(&fin).await.unwrap();
            assert_eq!(receiver.recv().await.unwrap_err(), RecvError::EndOfStream);
            drop((first, second));
        }
    });
}

/// Sessions that come and go leave nothing behind once they are forgotten, whether anybody takes or not.
#[test]
fn sessions_without_values_leave_no_notices_behind() {
    on_both_runtimes(|| async {
        let mut config = ReceiverConfig::default();
        config.max_detached = 4;
        let mut receiver = Receiver::<u64>::new(config, Bincode::default());
        for session in 1..=100 {
            // Two sessions of each of ten sources, again and again.
            let mut hello = hello(session);
            hello.from_port = format!("OUT{}", session / 2 % 10);
            let (reader, mut writer) = dial(&receiver.intake(), &hello).await;
            writer.write_all(&frames(&[Control::Skip { count: 3 }])).await.unwrap();
            drop((reader, writer));
            let connected = |id| receiver.source(id).is_some_and(|source| source.connected);
            while receiver.sources().into_iter().any(connected) {
                tokio::task::yield_now().await;
            }
        }
        let mut notices = 0;
        while let Some(event) = {
            let mut next = pin!(receiver.recv_event());
            std::future::poll_fn(|cx| match next.as_mut().poll(cx) {
                std::task::Poll::Ready(event) => std::task::Poll::Ready(Some(event.unwrap())),
                std::task::Poll::Pending => std::task::Poll::Ready(None),
            })
            .await
        } {
            assert!(!matches!(event, Event::Value(_)));
            notices += 1;
        }
        assert!(notices <= 20, "{notices} notices");
        assert!(receiver.sources().len() <= 5, "{} sources", receiver.sources().len());
    });
}

/// A connection that is lost again and again has one timer, and none once it is back.
#[test]
fn a_session_has_one_timer() {
    on_both_runtimes(|| async {
        let mut config = ReceiverConfig::default();
        config.source_ttl = Some(Duration::from_secs(3_600));
        let receiver = Receiver::<u64>::new(config, Bincode::default());
        let metrics = tokio::runtime::Handle::current().metrics();
        let before = metrics.num_alive_tasks();
        for attempt in 1..=50 {
            let mut hello = hello(1);
            hello.attempt = attempt;
            let dialled = dial(&receiver.intake(), &hello).await;
            let source = receiver.sources()[0];
            drop(dialled);
            while receiver.source(source).unwrap().connected {
                tokio::task::yield_now().await;
            }
        }
        while metrics.num_alive_tasks() > before + 1 {
            tokio::task::yield_now().await;
        }
        drop(receiver);
        while metrics.num_alive_tasks() > before {
            tokio::task::yield_now().await;
        }
    });
}

/// A runtime that goes away takes the drivers with it; what they served is not thought to be connected for ever.
#[test]
fn connections_end_with_their_runtime() {
    let receiver = Receiver::<u64>::new(ReceiverConfig::default(), Bincode::default());
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (mut reader, _writer) = runtime.block_on(dial(&receiver.intake(), &hello(1)));
    let source = receiver.sources()[0];
    assert!(receiver.source(source).unwrap().connected);
    drop(runtime);
    assert!(!receiver.source(source).unwrap().connected);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut rest = Vec::new();
    let ended = runtime.block_on(async {
        tokio::time::timeout(Duration::from_secs(20), reader.read_to_end(&mut rest)).await.is_ok()
    });
    assert!(ended, "the peer sees the hang-up");
}
