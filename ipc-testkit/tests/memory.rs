//! What the in-memory transport promises beyond the contract of every transport.

#![allow(clippy::unwrap_used, reason = "a test may unwrap, its helpers too")]

use std::{num::NonZeroUsize, time::Duration};

use ipc_testkit::MemTransport;
use ipc_transport::{
    Access, ConnectOptions, Connection, Endpoint, Error, ListenOptions, PeerIdentity, Transport,
};
use tokio::{
    io::{AsyncReadExt, AsyncWrite, AsyncWriteExt},
    time::Instant,
};

fn mem(name: &str) -> Endpoint {
    Endpoint::new("mem", name).unwrap()
}

async fn pair(world: &MemTransport) -> (Connection, Connection) {
    let mut listener = world.listen(&mem("0"), &ListenOptions::default()).await.unwrap();
    let dialled = world.connect(listener.local_endpoint(), &ConnectOptions::default()).await.unwrap();
    (dialled, listener.accept().await.unwrap().establish().await.unwrap())
}

#[tokio::test(start_paused = true)]
async fn a_full_buffer_holds_the_writer_until_the_reader_takes_a_byte() {
    let world = MemTransport::new().with_buffer(NonZeroUsize::new(4).unwrap());
    let (near, far) = pair(&world).await;
    let (_reader, mut writer, _) = near.into_parts();
    assert_eq!(writer.write(b"abcdef").await.unwrap(), 4);
    tokio::time::timeout(Duration::from_secs(1), writer.write(b"e")).await.unwrap_err();
    let (mut reader, _writer, _) = far.into_parts();
    assert_eq!(reader.read_u8().await.unwrap(), b'a');
    assert_eq!(writer.write(b"ef").await.unwrap(), 1);
    let mut rest = [0; 4];
    reader.read_exact(&mut rest).await.unwrap();
    assert_eq!(&rest, b"bcde");
}

#[tokio::test(start_paused = true)]
async fn a_vectored_write_counts_against_the_buffer_as_a_whole() {
    let world = MemTransport::new().with_buffer(NonZeroUsize::new(5).unwrap());
    let (near, far) = pair(&world).await;
    let (_near_reader, mut writer, _) = near.into_parts();
    assert!(writer.is_write_vectored());
    let parts = [std::io::IoSlice::new(b"abc"), std::io::IoSlice::new(b"defg")];
    assert_eq!(writer.write_vectored(&parts).await.unwrap(), 5);
    drop(writer);
    let (mut reader, _far_writer, _) = far.into_parts();
    let mut all = Vec::new();
    reader.read_to_end(&mut all).await.unwrap();
    assert_eq!(all, b"abcde");
}

#[tokio::test(start_paused = true)]
async fn dropping_the_reading_half_alone_does_not_fail_the_peers_writes() {
    let (near, far) = pair(&MemTransport::new()).await;
    let (reader, mut writer, _) = near.into_parts();
    drop(reader);
    let (mut far_reader, mut far_writer, _) = far.into_parts();
    far_writer.write_all(b"into the void").await.unwrap();
    writer.write_all(b"x").await.unwrap();
    assert_eq!(far_reader.read_u8().await.unwrap(), b'x');
    drop(writer);
    let error = far_writer.write_all(b"nobody").await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::BrokenPipe);
}

#[tokio::test(start_paused = true)]
async fn a_writer_held_by_a_full_buffer_fails_when_its_peer_is_dropped() {
    let world = MemTransport::new().with_buffer(NonZeroUsize::MIN);
    let (near, far) = pair(&world).await;
    let (_reader, mut writer, _) = near.into_parts();
    let writing = tokio::spawn(async move { writer.write_all(b"ab").await });
    tokio::task::yield_now().await;
    drop(far);
    assert_eq!(writing.await.unwrap().unwrap_err().kind(), std::io::ErrorKind::BrokenPipe);
}

#[tokio::test(start_paused = true)]
async fn worlds_do_not_see_each_other_and_clones_do() {
    let world = MemTransport::new();
    let _listener = world.listen(&mem("a"), &ListenOptions::default()).await.unwrap();
    let elsewhere = MemTransport::new().connect(&mem("a"), &ConnectOptions::default()).await;
    assert!(matches!(elsewhere.unwrap_err(), Error::ConnectionRefused { .. }));
    world.clone().connect(&mem("a"), &ConnectOptions::default()).await.unwrap();
    assert_eq!(world.names(), ["a"]);
}

#[tokio::test(start_paused = true)]
async fn a_dialler_waits_for_a_place_in_a_full_backlog_until_its_deadline() {
    let world = MemTransport::new();
    let mut options = ListenOptions::default();
    options.backlog = 1;
    let mut listener = world.listen(&mem("a"), &options).await.unwrap();
    let _first = world.connect(&mem("a"), &ConnectOptions::default()).await.unwrap();
    let began = Instant::now();
    let late = world.connect(&mem("a"), &ConnectOptions::default()).await.unwrap_err();
    assert!(matches!(late, Error::TimedOut { operation: "connect", .. }), "{late:?}");
    assert_eq!(began.elapsed(), ConnectOptions::default().timeout);
    let dialler = world.clone();
    let waiting = tokio::spawn(async move { dialler.connect(&mem("a"), &ConnectOptions::default()).await });
    tokio::task::yield_now().await;
    listener.accept().await.unwrap().refuse();
    waiting.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_dialler_waiting_in_a_full_backlog_is_refused_when_the_listener_goes() {
    let world = MemTransport::new();
    let mut options = ListenOptions::default();
    options.backlog = 1;
    let listener = world.listen(&mem("a"), &options).await.unwrap();
    let queued = world.connect(&mem("a"), &ConnectOptions::default()).await.unwrap();
    let dialler = world.clone();
    let waiting = tokio::spawn(async move { dialler.connect(&mem("a"), &ConnectOptions::default()).await });
    tokio::task::yield_now().await;
    listener.close().await.unwrap();
    assert!(matches!(waiting.await.unwrap().unwrap_err(), Error::ConnectionRefused { .. }));
    let (mut reader, _writer, _) = queued.into_parts();
    assert_eq!(reader.read(&mut [0]).await.unwrap(), 0, "the queued connection ends");
}

#[tokio::test(start_paused = true)]
async fn fresh_names_are_told_and_differ() {
    let world = MemTransport::new();
    let first = world.listen(&mem("0"), &ListenOptions::default()).await.unwrap();
    let second = world.listen(&mem("0"), &ListenOptions::default()).await.unwrap();
    assert_ne!(first.local_endpoint(), second.local_endpoint());
    assert_ne!(first.local_endpoint().address(), "0");
    world.connect(second.local_endpoint(), &ConnectOptions::default()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn both_sides_see_the_configured_identity_and_may_deny_it() {
    let stranger = PeerIdentity::Process { uid: 4_000_000, gid: 4_000_000, pid: Some(1) };
    let world = MemTransport::new();
    let abroad = world.clone().with_identity(stranger.clone());
    let mut open = ListenOptions::default();
    open.access = Access::Any;
    let mut listener = world.listen(&mem("open"), &open).await.unwrap();
    let _dialled = abroad.connect(&mem("open"), &ConnectOptions::default()).await.unwrap();
    let accepted = listener.accept().await.unwrap().establish().await.unwrap();
    assert_eq!(accepted.info().peer, stranger);

    let mut listener = world.listen(&mem("closed"), &ListenOptions::default()).await.unwrap();
    let denied = abroad.connect(&mem("closed"), &ConnectOptions::default()).await.unwrap();
    let error = listener.accept().await.unwrap().establish().await.unwrap_err();
    assert!(matches!(error, Error::AccessDenied { .. }), "{error:?}");
    let (mut reader, _writer, _) = denied.into_parts();
    assert_eq!(reader.read(&mut [0]).await.unwrap(), 0);

    let _foreign = abroad.listen(&mem("foreign"), &ListenOptions::default()).await.unwrap();
    let error = world.connect(&mem("foreign"), &ConnectOptions::default()).await.unwrap_err();
    assert!(matches!(error, Error::AccessDenied { .. }), "{error:?}");
}
