//! What a listener owes its diallers on every transport: patience with none of them at the cost of the others, a bound
//! of its own that it can keep, and their bytes as they are.

use std::{collections::VecDeque, io};

use ipc_transport::{ConnectOptions, Connection, Endpoint, Error, ListenOptions};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::{
    secure::{places, transports},
    support::{TempDir, echo, watchdog},
};

/// Diallers that say nothing, more than handshakes may be unfinished by default.
const CROWD: usize = 100;

/// however many connect and say nothing, the next one is accepted and served; on TLS, where a handshake is owed, the
/// silent ones are given up at its deadline.
#[tokio::test]
async fn silent_diallers_hold_nobody_up() {
    let (directory, transports, options) = (TempDir::new(), transports(), ConnectOptions::default());
    for at in places(&directory) {
        let mut listener = transports.listen(&at, &ListenOptions::default()).await.unwrap();
        let at = listener.local_endpoint().clone();
        let below: Endpoint = at.to_string().replace("tls:", "tcp:").parse().unwrap();
        let (mut silent, mut establishing) = (Vec::new(), Vec::new());
        for _ in 0..CROWD {
            silent.push(watchdog(transports.connect(&below, &options)).await.unwrap());
            establishing.push(tokio::spawn(watchdog(listener.accept()).await.unwrap().establish()));
        }
        let honest = async { transports.connect(&at, &options).await.unwrap() };
        let accepting = async { listener.accept().await.unwrap().establish().await.unwrap() };
        let (dialled, accepted) = watchdog(async { tokio::join!(honest, accepting) }).await;
        let (mut reader, mut writer, _) = accepted.into_parts();
        let answering = async { tokio::io::copy(&mut reader, &mut writer).await };
        let (_, echoed) = watchdog(async { tokio::join!(answering, echo(dialled, b"served")) }).await;
        echoed.unwrap();

        // Nothing but deadlines is left to happen, so time may jump to them.
        tokio::time::pause();
        for establishing in establishing {
            match establishing.await.unwrap() {
                Ok(_) => assert_ne!(at.scheme(), "tls"),
                Err(Error::TimedOut { operation: "handshake", .. }) => assert_eq!(at.scheme(), "tls"),
                Err(error) => panic!("{error}"),
            }
        }
        tokio::time::resume();
        drop(silent);
    }
}

/// A listener that serves two at a time and refuses the third, which sees its connection at an end and no endless trying;
/// a place that is given up is free for the next.
#[tokio::test]
async fn a_listener_keeps_a_bound_of_its_own() {
    const MOST: usize = 2;
    let (directory, transports, options) = (TempDir::new(), transports(), ConnectOptions::default());
    for at in places(&directory) {
        let mut listener = transports.listen(&at, &ListenOptions::default()).await.unwrap();
        let at = listener.local_endpoint().clone();
        let mut served: VecDeque<(Connection, Connection)> = VecDeque::new();
        for round in 0..6 {
            let dialling = transports.connect(&at, &options);
            let accepting = async {
                let incoming = listener.accept().await.unwrap();
                if served.len() < MOST {
                    Some(incoming.establish().await.unwrap())
                } else {
                    incoming.refuse();
                    None
                }
            };
            let (dialled, accepted) = watchdog(async { tokio::join!(dialling, accepting) }).await;
            match accepted {
                Some(accepted) => served.push_back((dialled.unwrap(), accepted)),
                None => {
                    assert!(ENDED.contains(&how_it_ended(&at, dialled).await), "{at}, round {round}");
                    served.pop_front();
                }
            }
            // Two, a refusal, one again, a refusal, and so on.
            assert_eq!(served.len(), [1, 2, 1, 2, 1, 2][round], "{at}, round {round}");
        }
    }
}

/// How a dialler learns that it was refused: by its first read, and where it is owed a handshake by that.
async fn how_it_ended(at: &Endpoint, dialled: Result<Connection, Error>) -> io::ErrorKind {
    match dialled {
        Ok(dialled) => {
            assert_ne!(at.scheme(), "tls", "there was no handshake");
            let (mut reader, _writer, _) = dialled.into_parts();
            watchdog(reader.read_u8()).await.expect_err("nobody is there to write").kind()
        }
        Err(error @ Error::Io { operation: "handshake", .. }) if at.scheme() == "tls" => error.kind(),
        Err(error) => panic!("{at}: {error:?}"),
    }
}

/// An end, a reset, or the reset as a writer sees it that was told of the end before.
const ENDED: [io::ErrorKind; 3] =
    [io::ErrorKind::UnexpectedEof, io::ErrorKind::ConnectionReset, io::ErrorKind::BrokenPipe];

/// Every byte, form feeds, NUL and what is no UTF-8 among them, comes through unchanged, both ways.
#[tokio::test]
async fn every_byte_comes_through_unchanged_both_ways() {
    let (directory, transports, options) = (TempDir::new(), transports(), ConnectOptions::default());
    // Each byte next to each other one.
    let bytes: Vec<u8> = (0..=255_u8).flat_map(|one| (0..=255).flat_map(move |other| [one, other])).collect();
    for at in places(&directory) {
        let mut listener = transports.listen(&at, &ListenOptions::default()).await.unwrap();
        let at = listener.local_endpoint().clone();
        let accepting = async { listener.accept().await.unwrap().establish().await.unwrap() };
        let (dialled, accepted) =
            watchdog(async { tokio::join!(transports.connect(&at, &options), accepting) }).await;
        let exchange = |connection: Connection| async {
            let (mut reader, mut writer, _) = connection.into_parts();
            let writing = async {
                writer.write_all(&bytes).await.unwrap();
                writer.shutdown().await.unwrap();
            };
            let mut arrived = Vec::new();
            let (_, read) = tokio::join!(writing, reader.read_to_end(&mut arrived));
            read.unwrap();
            assert!(arrived == bytes, "{at}");
        };
        watchdog(async { tokio::join!(exchange(dialled.unwrap()), exchange(accepted)) }).await;
    }
}
