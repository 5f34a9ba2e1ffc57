//! The halves of a Unix connection: reading into vectors, and writing when there is no room.

use std::{
    fs::File,
    future::{Future, poll_fn},
    pin::pin,
    sync::Arc,
    sync::atomic::{AtomicBool, Ordering},
    task::{Context, Poll, Waker},
    thread,
};

use ipc_transport::{ReadHalf, WriteHalf};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::{
    descriptors::limit_descriptors,
    support::{Role, TempDir, connect, listen, run_outside, say, watchdog},
};

/// More than any socket holds.
const PLENTY: usize = 4 * 1024 * 1024;

async fn pair(directory: &TempDir) -> ((ReadHalf, WriteHalf), (ReadHalf, WriteHalf)) {
    let at = directory.endpoint("a.sock");
    let mut listener = listen(&at).await.unwrap();
    let (dialled, accepted) =
        tokio::join!(connect(&at), async { listener.accept().await.unwrap().establish().await.unwrap() });
    let (reader, writer, _) = dialled.unwrap().into_parts();
    let (other_reader, other_writer, _) = accepted.into_parts();
    ((reader, writer), (other_reader, other_writer))
}

/// Writes until there is no room; how much that was.
fn fill(writer: &mut WriteHalf) -> usize {
    let mut filled = 0;
    loop {
        let block = [7; 64 * 1024];
        let mut context = Context::from_waker(Waker::noop());
        match pin!(writer.write(&block)).poll(&mut context) {
            Poll::Ready(count) => filled += count.unwrap(),
            Poll::Pending => return filled,
        }
    }
}

/// A vector is filled up to the limit and up to its capacity, whichever is less, and never grown.
#[tokio::test]
async fn vectors_are_filled_within_their_limit_and_capacity() {
    let directory = TempDir::new();
    let ((_, mut writer), (mut reader, _writer)) = pair(&directory).await;
    writer.write_all(b"0123456789").await.unwrap();
    let mut buf = Vec::with_capacity(8);
    buf.push(b'>');
    let capacity = buf.capacity();
    for (limit, count, so_far) in
        [(0, 0, ">"), (3, 3, ">012"), (100, capacity - 4, ">0123456"), (100, 0, ">0123456")]
    {
        let read = watchdog(poll_fn(|cx| reader.poll_read_vec(cx, &mut buf, limit))).await.unwrap();
        assert_eq!((read, buf.as_slice()), (count, so_far.as_bytes()));
        assert_eq!(buf.capacity(), capacity);
    }
    buf.clear();
    let read = watchdog(poll_fn(|cx| reader.poll_read_vec(cx, &mut buf, 100))).await.unwrap();
    assert_eq!((read, buf.as_slice()), (3, &b"789"[..]));
    let waiting = poll_fn(|cx| Poll::Ready(reader.poll_read_vec(cx, &mut buf, 2))).await;
    assert!(waiting.is_pending());
    assert_eq!(buf, b"789");
    drop(writer);
    assert_eq!(watchdog(poll_fn(|cx| reader.poll_read_vec(cx, &mut buf, 2))).await.unwrap(), 0);
}

/// A writer that has to wait may be polled by any executor; the runtime of its connection wakes it.
#[test]
fn a_full_socket_is_waited_for_outside_of_its_runtime() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let directory = TempDir::new();
    let ((_, mut writer), (mut reader, _writer)) = runtime.block_on(pair(&directory));
    let outside = thread::spawn(move || {
        fill(&mut writer);
        run_outside(async {
            writer.write_all(&vec![8; PLENTY]).await.unwrap();
            drop(writer);
        });
    });
    let eights = runtime.block_on(watchdog(async {
        let (mut block, mut eights) = (vec![0; 64 * 1024], 0);
        loop {
            match reader.read(&mut block).await.unwrap() {
                0 => break eights,
                count => eights += block[..count].iter().filter(|byte| **byte == 8).count(),
            }
        }
    }));
    assert_eq!(eights, PLENTY);
    outside.join().unwrap();
}

/// Nobody will ever tell it about room.
#[test]
fn a_full_socket_whose_runtime_is_gone_is_an_error() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let directory = TempDir::new();
    let ((_reader, mut writer), _other) = runtime.block_on(pair(&directory));
    drop(runtime);
    let mut context = Context::from_waker(Waker::noop());
    let error = loop {
        match pin!(writer.write(&[7; 64 * 1024])).poll(&mut context) {
            Poll::Ready(Ok(_)) => {}
            Poll::Ready(Err(error)) => break error,
            Poll::Pending => panic!("the writer waits for a runtime that is gone"),
        }
    };
    assert!(!error.to_string().is_empty());
}

/// Writes that always go through at once leave room for the other tasks of the thread. So few are buffered in any case.
#[tokio::test]
async fn a_busy_writer_lets_other_tasks_run() {
    let directory = TempDir::new();
    let ((_reader, mut writer), _other) = pair(&directory).await;
    let has_run = Arc::new(AtomicBool::new(false));
    let other = tokio::spawn({
        let has_run = has_run.clone();
        async move { has_run.store(true, Ordering::Relaxed) }
    });
    for _ in 0..200 {
        writer.write_all(b"x").await.unwrap();
    }
    assert!(has_run.load(Ordering::Relaxed));
    other.await.unwrap();
}

/// With no descriptor left, a writer without room waits as well, only less exactly.
#[test]
fn a_full_socket_is_waited_for_without_a_descriptor_to_spare() {
    let role = Role::start("full_and_starved", &[]);
    assert_eq!(role.hear(), "all written");
    assert!(role.finish());
}

pub(crate) async fn full_and_starved() {
    let directory = TempDir::new();
    let ((_reader, mut writer), (mut reader, _writer)) = pair(&directory).await;
    limit_descriptors(64);
    let mut hoard = Vec::new();
    while let Ok(file) = File::open("/dev/null") {
        hoard.push(file);
    }
    let filled = fill(&mut writer);
    let writing = async {
        writer.write_all(&vec![8; PLENTY]).await.unwrap();
        drop(writer);
    };
    let reading = async {
        let mut all = Vec::new();
        reader.read_to_end(&mut all).await.unwrap();
        all.len()
    };
    let ((), arrived) = watchdog(async { tokio::join!(writing, reading) }).await;
    assert_eq!(arrived, filled + PLENTY);
    say("all written");
}
