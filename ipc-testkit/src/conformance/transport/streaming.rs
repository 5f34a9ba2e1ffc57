//! How bytes move: order, ends, back-pressure.

use std::{io::IoSlice, pin::pin, time::Duration};

use ipc_transport::{ReadHalf, WriteHalf};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::{sleep, timeout},
};

use super::{BOTH, Subject, halves, read_to_any_end};
use crate::conformance::{TURN, write_out};

/// Promise 3: bytes arrive once, unaltered and in order, however reads and writes are split, both ways at once.
///
/// # Panics
///
/// When the promise is broken.
///
/// # Cancel safety
///
/// Dropping the future ends the check.
pub async fn bytes_arrive_in_order(subject: Subject) {
    let mut listener = subject.listener().await;
    let mut seeds = fastrand::Rng::with_seed(subject.seed);
    for largest in [3, 100, 5_000, 200_000] {
        let (there, back) = (seeds.u64(..), seeds.u64(..));
        let total = (largest * 100).min(2 << 20);
        let ends = subject.ends(listener.as_mut()).await;
        let (mut near, mut far) = (halves(ends.dialled), halves(ends.accepted));
        tokio::join!(
            write_pattern(&mut near.1, there, largest, total),
            read_pattern(&mut far.0, there, largest, total),
            write_pattern(&mut far.1, back, largest, total),
            read_pattern(&mut near.0, back, largest, total),
        );
    }
}

/// Writes a pattern in pieces of every size up to the largest, by plain and by vectored writes.
async fn write_pattern(writer: &mut WriteHalf, seed: u64, largest: usize, total: usize) {
    let mut rng = fastrand::Rng::with_seed(seed);
    let bytes = pattern(seed, total);
    let mut rest = &bytes[..];
    while !rest.is_empty() {
        let piece = &rest[..rng.usize(1..=largest).min(rest.len())];
        let count = if rng.bool() {
            writer.write(piece).await
        } else {
            let (front, back) = piece.split_at(rng.usize(0..=piece.len()));
            writer.write_vectored(&[IoSlice::new(front), IoSlice::new(&[]), IoSlice::new(back)]).await
        };
        let count = count.expect("the peer reads");
        assert!(0 < count && count <= piece.len(), "a write of {} bytes took {count}", piece.len());
        rest = &rest[count..];
    }
    writer.flush().await.expect("the peer reads");
}

async fn read_pattern(reader: &mut ReadHalf, seed: u64, largest: usize, total: usize) {
    let mut rng = fastrand::Rng::with_seed(!seed);
    let expected = pattern(seed, total);
    let (mut buffer, mut offset) = (vec![0; largest], 0);
    while offset < total {
        let room = rng.usize(1..=largest);
        let count = reader.read(&mut buffer[..room]).await.expect("the peer writes");
        assert!(count > 0, "the stream ended at byte {offset} of {total}");
        let arrived = expected.get(offset..offset + count);
        assert!(arrived == Some(&buffer[..count]), "bytes {offset}..{} differ", offset + count);
        offset += count;
    }
}

/// Bytes that repeat nowhere near, so that a swapped, lost or doubled piece shows.
fn pattern(seed: u64, len: usize) -> Vec<u8> {
    let mut rng = fastrand::Rng::with_seed(seed.wrapping_add(1).wrapping_mul(0x5851_f42d_4c95_7f2d));
    let mut bytes = vec![0; len];
    rng.fill(&mut bytes);
    bytes
}

/// Promise 4: after the writer was closed the peer reads every earlier byte, and then the end of the stream.
///
/// # Panics
///
/// When the promise is broken.
///
/// # Cancel safety
///
/// Dropping the future ends the check.
pub async fn closing_the_writer_is_seen_as_eof(subject: Subject) {
    let mut listener = subject.listener().await;
    for role in BOTH {
        for len in [0, 1, 70_000, 1 << 20] {
            let (acting, answering) = subject.ends(listener.as_mut()).await.cast(role);
            let ((_acting_reader, mut writer), (mut reader, _answering_writer)) =
                (halves(acting), halves(answering));
            let sent = pattern(subject.seed, len);
            let writing = async {
                writer.write_all(&sent).await.expect("the peer reads");
                writer.shutdown().await.expect("the connection lives");
            };
            tokio::join!(writing, read_to_the_end(&mut reader, &sent));
            let more = reader.read(&mut [0]).await.expect("a closed writer is no error");
            assert_eq!(more, 0, "the end of the stream stays");
        }
    }
}

/// Reads up to the end of the stream, which is a failure at once if it comes early: the writer may be waiting by then.
async fn read_to_the_end(reader: &mut ReadHalf, sent: &[u8]) {
    let mut received = Vec::new();
    let count = reader.read_to_end(&mut received).await.expect("a closed writer is no error");
    assert_eq!(count, sent.len(), "bytes up to the end of the stream");
    assert!(received == sent, "the bytes differ");
}

/// Promise 5: who closed the writer still reads what the peer sends.
///
/// # Panics
///
/// When the promise is broken.
///
/// # Cancel safety
///
/// Dropping the future ends the check.
pub async fn reading_works_after_closing_the_writer(subject: Subject) {
    let mut listener = subject.listener().await;
    for role in BOTH {
        let (acting, answering) = subject.ends(listener.as_mut()).await.cast(role);
        let ((mut reader, mut closed), (mut answering_reader, mut writer)) =
            (halves(acting), halves(answering));
        closed.shutdown().await.expect("the connection lives");
        assert_eq!(answering_reader.read(&mut [0]).await.expect("a closed writer is no error"), 0);
        let sent = pattern(subject.seed, 300_000);
        let writing = async {
            writer.write_all(&sent).await.expect("the peer reads on");
            writer.shutdown().await.expect("the connection lives");
        };
        tokio::join!(writing, read_to_the_end(&mut reader, &sent));
    }
}

/// Promise 6: a dropped connection ends the peer's reads, a read that is already waiting included, and its writes.
///
/// # Panics
///
/// When the promise is broken.
///
/// # Cancel safety
///
/// Dropping the future ends the check.
pub async fn dropping_a_connection_is_seen_as_eof(subject: Subject) {
    let mut listener = subject.listener().await;
    for role in BOTH {
        for unread in [false, true] {
            let (acting, answering) = subject.ends(listener.as_mut()).await.cast(role);
            let (mut reader, mut writer) = halves(answering);
            if unread {
                write_out(&mut writer, b"never read").await.expect("the peer lives");
            }
            let waiting = tokio::spawn(async move { read_to_any_end(&mut reader).await });
            tokio::task::yield_now().await;
            drop(acting);
            assert_eq!(waiting.await.expect("reading does not panic"), b"");
        }
        let (acting, answering) = subject.ends(listener.as_mut()).await.cast(role);
        let (_reader, mut writer) = halves(answering);
        drop(acting);
        // The first writes into a dead connection may be taken; the failure comes with the answer to them.
        while writer.write(&[0; 4096]).await.is_ok() {
            sleep(TURN).await;
        }
    }
}

/// Promise 7: writing to a peer that does not read comes to wait, and goes on when it reads.
///
/// # Panics
///
/// When the promise is broken.
///
/// # Cancel safety
///
/// Dropping the future ends the check.
pub async fn an_unread_connection_holds_its_writer(subject: Subject) {
    // Several times what the largest socket buffers of today's systems take.
    const MUCH: usize = 32 << 20;
    // A slow machine makes this check weaker, never wrong: only finishing within it is a failure.
    const PATIENCE: Duration = Duration::from_millis(200);
    let mut listener = subject.listener().await;
    for role in BOTH {
        let (acting, answering) = subject.ends(listener.as_mut()).await.cast(role);
        let ((_acting_reader, mut writer), (mut reader, _answering_writer)) =
            (halves(acting), halves(answering));
        let mut writing = pin!(async move {
            let piece = vec![7; 1 << 20];
            for _ in 0..MUCH / piece.len() {
                write_out(&mut writer, &piece).await.expect("the peer will read");
            }
        });
        let early = timeout(PATIENCE, &mut writing).await;
        assert!(early.is_err(), "{MUCH} bytes were taken without a reader");
        let reading = async {
            let (mut buffer, mut total) = (vec![0; 1 << 20], 0);
            while total < MUCH {
                let count = reader.read(&mut buffer).await.expect("the peer writes");
                assert!(count > 0, "the stream ended at byte {total} of {MUCH}");
                total += count;
            }
        };
        tokio::join!(writing, reading);
    }
}
