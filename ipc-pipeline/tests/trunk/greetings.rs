//! How a trunk begins, and who is turned away.

use std::{io, time::Duration};

use ipc_pipeline::{
    link::{Greeting, Receiver, ReceiverConfig},
    protocol::{Answer, DeliveryMode, Hello, Refusal, SessionId},
    trunk::{self, DialError},
};
use ipc_transport::{Connection, Raw};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::{
    common::on_both_runtimes,
    support::{LONG, greeted, pipe, welcome},
};

fn hello() -> Hello {
    hello_for(DeliveryMode::Reliable)
}

fn hello_for(delivery: DeliveryMode) -> Hello {
    let mut hello = Hello::new(SessionId::from_bits(1), "raw");
    hello.delivery = delivery;
    hello
}

async fn answer(accepted: Connection, answer: Answer) {
    let (mut reader, mut writer, _) = accepted.into_parts();
    let expected = hello_for(DeliveryMode::Lanes).encode().unwrap();
    let mut bytes = vec![0; expected.len()];
    reader.read_exact(&mut bytes).await.unwrap();
    assert_eq!(bytes, expected, "whatever the hello said before, it asks for lanes");
    writer.write_all(&answer.encode()).await.unwrap();
}

#[test]
fn the_receiver_of_a_link_refuses_lanes_as_incompatible() {
    on_both_runtimes(|| async {
        let receiver = Receiver::<bytes::Bytes>::new(ReceiverConfig::default(), Raw);
        let (dialled, accepted) = pipe(1_000);
        let intake = receiver.intake();
        let accepting = async {
            let greeting = Greeting::read(accepted, LONG).await.unwrap();
            let _ = intake.accept(greeting).await;
        };
        let (dialled, ()) = tokio::join!(trunk::dial(dialled, hello(), 2, LONG), accepting);
        let error = dialled.unwrap_err();
        assert!(matches!(&error, DialError::Refused(Refusal::Incompatible { .. })), "{error:?}");
    });
}

#[test]
fn the_hello_of_a_link_makes_no_trunk() {
    on_both_runtimes(|| async {
        for delivery in [DeliveryMode::Reliable, DeliveryMode::BestEffort] {
            let (dialled, accepted) = pipe(1_000);
            let (mut reader, mut writer, _) = dialled.into_parts();
            writer.write_all(&hello_for(delivery).encode().unwrap()).await.unwrap();
            let greeting = Greeting::read(accepted, LONG).await.unwrap();
            let error = trunk::accept(greeting, welcome(), 2, LONG).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
            assert_eq!(reader.read(&mut [0; 8]).await.unwrap(), 0, "the peer is hung up on");
        }
    });
}

#[test]
fn whoever_says_no_is_quoted() {
    on_both_runtimes(|| async {
        for refusal in [Refusal::Busy, Refusal::NotPermitted, Refusal::NameTaken { name: "lisa".into() }] {
            let (dialled, accepted) = pipe(1_000);
            let answering = answer(accepted, Answer::Refused(refusal.clone()));
            let (dialled, ()) = tokio::join!(trunk::dial(dialled, hello(), 2, LONG), answering);
            let error = dialled.unwrap_err();
            assert!(matches!(&error, DialError::Refused(said) if *said == refusal), "{error:?}");
        }
    });
}

#[test]
fn datagrams_are_no_answer_to_a_hello_for_lanes() {
    on_both_runtimes(|| async {
        let (dialled, accepted) = pipe(1_000);
        let answering = answer(accepted, Answer::Datagrams { at: "udp://127.0.0.1:9000".into() });
        let (dialled, ()) = tokio::join!(trunk::dial(dialled, hello(), 2, LONG), answering);
        let error = dialled.unwrap_err();
        assert!(matches!(&error, DialError::Refused(Refusal::Unsupported { .. })), "{error:?}");
    });
}

#[test]
fn whoever_speaks_something_else_is_told_from_whoever_hangs_up() {
    on_both_runtimes(|| async {
        let (dialled, accepted) = pipe(1_000);
        let (_reader, mut writer, _) = accepted.into_parts();
        writer.write_all(b"HTTP/1.1 400 Bad Request\r\n").await.unwrap();
        let error = trunk::dial(dialled, hello(), 2, LONG).await.unwrap_err();
        assert_eq!(kind(&error), io::ErrorKind::InvalidData, "{error:?}");

        let (dialled, accepted) = pipe(1_000);
        drop(accepted);
        let error = trunk::dial(dialled, hello(), 2, LONG).await.unwrap_err();
        assert!(
            matches!(kind(&error), io::ErrorKind::BrokenPipe | io::ErrorKind::UnexpectedEof),
            "{error:?}"
        );

        let (dialled, _accepted) = pipe(1_000);
        let error = trunk::dial(dialled, hello(), 2, Duration::from_millis(1)).await.unwrap_err();
        assert_eq!(kind(&error), io::ErrorKind::TimedOut, "{error:?}");
    });
}

#[test]
fn the_answer_tells_who_answered() {
    on_both_runtimes(|| async {
        let (dialled, accepted) = pipe(1_000);
        let answering = answer(accepted, Answer::Welcome(welcome()));
        let (dialled, ()) = tokio::join!(trunk::dial(dialled, hello(), 2, LONG), answering);
        let (_, _, told) = dialled.unwrap();
        assert_eq!(told.incarnation, welcome().incarnation);
    });
}

/// Sixteen lanes are the most; whoever asks for more has these.
#[test]
fn there_are_at_most_sixteen_lanes() {
    on_both_runtimes(|| async {
        let [(trunk, _driver), _peer] = greeted(pipe(1_000), 200).await.unwrap();
        let lanes = (0..=255).filter(|lane| trunk.lane(*lane).is_some()).count();
        assert_eq!(lanes, usize::from(trunk::MAX_LANES));
    });
}

#[test]
fn a_peer_that_reads_no_answer_is_given_up() {
    on_both_runtimes(|| async {
        let (dialled, accepted) = pipe(16);
        let (_reader, mut writer, _) = dialled.into_parts();
        let hello = hello_for(DeliveryMode::Lanes).encode().unwrap();
        let telling = async { writer.write_all(&hello).await.unwrap() };
        let (greeting, ()) = tokio::join!(Greeting::read(accepted, LONG), telling);
        let short = Duration::from_millis(1);
        let error = trunk::accept(greeting.unwrap(), welcome(), 2, short).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    });
}

/// What went wrong where no answer was read.
fn kind(error: &DialError) -> io::ErrorKind {
    match error {
        DialError::Failed(error) => error.kind(),
        other => panic!("{other:?} is an answer"),
    }
}
