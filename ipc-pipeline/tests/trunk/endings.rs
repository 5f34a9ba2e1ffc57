//! How lanes and trunks end, and who hears of it.

use std::{
    io,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
};

use ipc_pipeline::{
    link::Connector,
    trunk::{TrunkEnd, TrunkSlot},
};
use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::{
    common::on_both_runtimes,
    support::{
        LONG, MAX_CHUNK, Side, Silence, alone, by_hand, chunk, greeted, pattern, pipe, poll_once, read_chunk,
        sides,
    },
};

#[test]
fn the_end_of_a_lane_is_seen_on_that_lane_alone_and_behind_its_bytes() {
    on_both_runtimes(|| async {
        let [ours, theirs] = sides(pipe(1_000), 2).await;
        let ((_, writer), (mut reader, _)) = (ours.lane(0), theirs.lane(0));
        let ((_, mut other_writer), (mut other_reader, _)) = (ours.lane(1), theirs.lane(1));
        let expected = pattern(0, 300_000);
        let bytes = expected.clone();
        let writing = tokio::spawn(async move {
            let mut writer = writer;
            writer.write_all(&bytes).await.unwrap();
            // Dropped without a word: that is an end like any other.
        });
        let mut bytes = Vec::new();
        reader.read_to_end(&mut bytes).await.unwrap();
        writing.await.unwrap();
        assert!(bytes == expected);
        assert_eq!(reader.read(&mut [0; 8]).await.unwrap(), 0);
        other_writer.write_all(b"still here").await.unwrap();
        let mut bytes = [0; 10];
        other_reader.read_exact(&mut bytes).await.unwrap();
        assert_eq!(&bytes, b"still here");
    });
}

#[test]
fn an_end_behind_a_chunk_that_waits_comes_behind_it() {
    on_both_runtimes(|| async {
        let (trunk, driver, mut reader, _writer) = by_hand(2, 100).await;
        let ours = Side::new((trunk, driver));
        let ((_, mut busy), (_, mut ending)) = (ours.lane(0), ours.lane(1));
        busy.write_all(&pattern(0, 5_000)).await.unwrap();
        ending.write_all(&pattern(1, 3_000)).await.unwrap();
        drop(ending);
        assert_eq!(read_chunk(&mut reader).await, (0, pattern(0, 5_000)));
        assert_eq!(read_chunk(&mut reader).await, (1, pattern(1, 3_000)));
        assert_eq!(read_chunk(&mut reader).await, (1, Vec::new()));
    });
}

#[test]
fn nothing_is_written_behind_the_end_of_a_lane() {
    on_both_runtimes(|| async {
        let (trunk, driver, mut reader, _writer) = by_hand(2, 1_000).await;
        let ours = Side::new((trunk, driver));
        let (_, mut writer) = ours.lane(1);
        for _ in 0..2 {
            writer.shutdown().await.unwrap();
        }
        assert_eq!(writer.write(b"more").await.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
        drop(writer);
        ours.lane(0).1.write_all(b"other").await.unwrap();
        assert_eq!(read_chunk(&mut reader).await, (1, Vec::new()));
        assert_eq!(read_chunk(&mut reader).await, (0, b"other".to_vec()));
    });
}

#[test]
fn a_flush_and_a_shutdown_wait_until_everything_has_gone() {
    on_both_runtimes(|| async {
        for shut in [false, true] {
            let (trunk, driver, mut reader, _writer) = by_hand(1, 100).await;
            let ours = Side::new((trunk, driver));
            let (_, mut writer) = ours.lane(0);
            writer.write_all(&pattern(0, 5_000)).await.unwrap();
            let mut going = pin!(async { if shut { writer.shutdown().await } else { writer.flush().await } });
            assert!(poll_once(going.as_mut()).await.is_none());
            let reading = async { assert_eq!(read_chunk(&mut reader).await, (0, pattern(0, 5_000))) };
            let (gone, ()) = tokio::join!(going, reading);
            gone.unwrap();
        }
    });
}

#[test]
fn a_dropped_reader_discards_what_comes_and_stalls_nobody() {
    on_both_runtimes(|| async {
        let [ours, theirs] = sides(pipe(1_000), 2).await;
        let ((_, mut writer), (reader, _keep)) = (ours.lane(0), theirs.lane(0));
        let ((_, mut other_writer), (mut other_reader, _)) = (ours.lane(1), theirs.lane(1));
        // Once while it holds the trunk up, and then for good.
        let mut flood = Box::pin(async move {
            for _ in 0..50 {
                writer.write_all(&[7; MAX_CHUNK]).await.unwrap();
            }
            writer
        });
        let mut filling = pin!(async {
            while poll_once(flood.as_mut()).await.is_none() {
                tokio::task::yield_now().await;
            }
        });
        for _ in 0..10_000 {
            if poll_once(filling.as_mut()).await.is_some() {
                panic!("nobody reads 3 MiB, and somewhere they must be");
            }
            tokio::task::yield_now().await;
        }
        drop(reader);
        filling.await;
        other_writer.write_all(b"still here").await.unwrap();
        let mut bytes = [0; 10];
        other_reader.read_exact(&mut bytes).await.unwrap();
        assert_eq!(&bytes, b"still here");
    });
}

#[test]
fn dropping_the_driver_ends_every_lane() {
    on_both_runtimes(|| async {
        let (trunk, driver, _reader, _writer) = by_hand(4, 100).await;
        let [(mut reader, _), (_, mut writer), (_, mut flusher), (mut late_reader, mut late_writer)] =
            [0, 1, 2, 3].map(|lane| {
                let (reader, writer, _) = trunk.lane(lane).unwrap().into_parts();
                (reader, writer)
            });
        flusher.write_all(&[7; 500]).await.unwrap();
        writer.write_all(&[7; 500]).await.unwrap();
        let reading = tokio::spawn(async move { reader.read(&mut [0; 8]).await });
        let writing = tokio::spawn(async move { writer.write_all(&[7; 500]).await });
        let flushing = tokio::spawn(async move { flusher.flush().await });
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        drop(driver);
        assert_eq!(reading.await.unwrap().unwrap(), 0);
        for outcome in [writing.await.unwrap(), flushing.await.unwrap()] {
            assert_eq!(outcome.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
        }
        assert_eq!(late_reader.read(&mut [0; 8]).await.unwrap(), 0);
        assert_eq!(late_writer.write(b"x").await.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
        assert!(trunk.is_over() && trunk.lane(4).is_none());
    });
}

/// Its owner may keep a driver that is done, as a future that was polled by reference.
#[test]
fn a_driver_that_is_done_has_ended_every_lane() {
    on_both_runtimes(|| async {
        let (trunk, mut driver, reader, writer) = by_hand(1, 100).await;
        let (mut lane, _, _) = trunk.lane(0).unwrap().into_parts();
        let reading = tokio::spawn(async move { lane.read(&mut [0; 8]).await });
        drop((reader, writer));
        assert_eq!((&mut driver).await, TrunkEnd::HangUp);
        assert_eq!(reading.await.unwrap().unwrap(), 0);
        drop(driver);
    });
}

#[test]
fn bytes_that_came_before_the_hang_up_are_read() {
    on_both_runtimes(|| async {
        let (trunk, driver, reader, mut writer) = by_hand(1, 1_000).await;
        let ours = Side::new((trunk, driver));
        let (mut lane, _writer) = ours.lane(0);
        writer.write_all(&chunk(0, b"last words")).await.unwrap();
        drop((reader, writer));
        assert_eq!(ours.driver.await.unwrap(), TrunkEnd::HangUp);
        let mut bytes = Vec::new();
        lane.read_to_end(&mut bytes).await.unwrap();
        assert_eq!(bytes, b"last words");
    });
}

/// A peer that has hung up takes nothing more, but may have said something before.
#[test]
fn a_write_that_fails_loses_nothing_that_has_arrived() {
    on_both_runtimes(|| async {
        let (trunk, driver) = alone(&LAST_WORDS[..], Refusing { left: 1_000 }, 2).await;
        let ((mut reader, _writer), (_, mut writer, _)) = {
            let (reader, keep, _) = trunk.lane(0).unwrap().into_parts();
            ((reader, keep), trunk.lane(1).unwrap().into_parts())
        };
        let mut outcome = Ok(());
        for _ in 0..20 {
            outcome = outcome.and(writer.write_all(&[7; 100]).await);
        }
        assert_eq!(outcome.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
        assert!(trunk.is_over(), "nobody gets a lane of it any more");
        assert_eq!(driver.await, TrunkEnd::HangUp);
        let mut bytes = Vec::new();
        reader.read_to_end(&mut bytes).await.unwrap();
        assert_eq!(bytes, b"last words");
    });
}

/// The driver need not find out by itself: nothing is there to be read, and nothing to be written.
#[test]
fn a_write_that_fails_ends_the_trunk() {
    on_both_runtimes(|| async {
        let (trunk, driver) = alone(Silence, Refusing { left: 1_000 }, 1).await;
        let ours = Side::new((trunk, driver));
        let (_, mut writer) = ours.lane(0);
        while writer.write_all(&[7; 100]).await.is_ok() {
            tokio::task::yield_now().await;
        }
        assert_eq!(ours.driver.await.unwrap(), TrunkEnd::HangUp);
    });
}

#[test]
fn a_lane_is_given_out_once() {
    on_both_runtimes(|| async {
        let [ours, _theirs] = sides(pipe(1_000), 2).await;
        for lane in 0..2 {
            assert!(ours.trunk.lane(lane).is_some());
            assert!(ours.trunk.lane(lane).is_none());
        }
        assert!(ours.trunk.lane(2).is_none(), "there is no such lane");
        assert!(!ours.trunk.is_over());
    });
}

#[test]
fn a_lane_that_is_dialled_a_second_time_cuts_its_trunk() {
    on_both_runtimes(|| async {
        let [ours, theirs] = sides(pipe(1_000), 2).await;
        let slot = TrunkSlot::new();
        let connector = slot.connector(1);
        let mut waiting = pin!(connector.connect());
        assert!(poll_once(waiting.as_mut()).await.is_none(), "there is no trunk yet");
        slot.put(ours.trunk.clone());
        let lane = waiting.await.unwrap();
        let mut again = pin!(connector.connect());
        assert!(poll_once(again.as_mut()).await.is_none());
        assert_eq!(ours.driver.await.unwrap(), TrunkEnd::Cut);
        assert_eq!(theirs.driver.await.unwrap(), TrunkEnd::HangUp);
        drop(lane);

        let [ours, _theirs] = sides(pipe(1_000), 2).await;
        slot.put(ours.trunk.clone());
        again.await.unwrap();
        connector.changed().await;
        slot.clear();
        assert_eq!(ours.driver.await.unwrap(), TrunkEnd::Cut);
        assert!(slot.get().is_none());
    });
}

#[test]
fn a_trunk_that_takes_the_place_of_another_cuts_it() {
    on_both_runtimes(|| async {
        let [first, _peer] = sides(pipe(1_000), 1).await;
        let [second, _other_peer] = sides(pipe(1_000), 1).await;
        let slot = Arc::new(TrunkSlot::default());
        slot.put(first.trunk.clone());
        slot.put(first.trunk.clone());
        assert!(!first.trunk.is_over(), "it takes its own place");
        slot.put(second.trunk.clone());
        assert_eq!(first.driver.await.unwrap(), TrunkEnd::Cut);
        assert!(!second.trunk.is_over());
    });
}

#[test]
fn a_trunk_may_be_cut_before_anybody_drives_it() {
    on_both_runtimes(|| async {
        let [(trunk, driver), (_, peer)] = greeted(pipe(1_000), 1).await.unwrap();
        let lane = trunk.lane(0).unwrap();
        trunk.cut();
        let (mut reader, mut writer, _) = lane.into_parts();
        assert_eq!(reader.read(&mut [0; 8]).await.unwrap(), 0);
        assert!(writer.write(b"x").await.is_err());
        assert_eq!(driver.await, TrunkEnd::Cut);
        assert_eq!(tokio::time::timeout(LONG, peer).await.unwrap(), TrunkEnd::HangUp);
    });
}

/// A chunk of lane 0.
const LAST_WORDS: [u8; 14] = *b"\x0a\0\0\0last words";

/// Takes so many bytes, and refuses from then on.
struct Refusing {
    left: usize,
}

impl AsyncWrite for Refusing {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let count = buf.len().min(self.left);
        self.left -= count;
        Poll::Ready(if count > 0 { Ok(count) } else { Err(io::ErrorKind::BrokenPipe.into()) })
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
