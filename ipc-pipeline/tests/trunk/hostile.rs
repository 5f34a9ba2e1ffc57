//! Peers by hand, which break the protocol of lanes or do not read what they ask for.

use std::time::Duration;

use ipc_pipeline::trunk::TrunkEnd;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::{
    common::{on_both_runtimes, paused},
    support::{MAX_CHUNK, Side, by_hand, chunk, header},
};

/// Bytes that a lane may hold unread.
const MAX_UNREAD: usize = 256 * 1024;

#[test]
fn a_peer_that_breaks_the_protocol_is_cut_off_and_told_apart() {
    on_both_runtimes(|| async {
        let ends = [
            ("a lane that there is not", header(3, 1).to_vec()),
            ("a lane that there is not", header(255, 0).to_vec()),
            ("a chunk of more than 64 KiB", header(0, MAX_CHUNK + 1).to_vec()),
            ("a chunk of more than 64 KiB", header(2, 0x00FF_FFFF).to_vec()),
            ("bytes behind the end of a lane", [chunk(1, b""), chunk(1, b"more")].concat()),
            ("bytes behind the end of a lane", [chunk(1, b""), chunk(1, b"")].concat()),
        ];
        for (what, bytes) in ends {
            let (trunk, driver, mut reader, mut writer) = by_hand(3, 1_000).await;
            let ours = Side::new((trunk, driver));
            let (mut lane, _keep) = ours.lane(0);
            writer.write_all(&chunk(0, b"before")).await.unwrap();
            writer.write_all(&bytes).await.unwrap();
            assert_eq!(ours.driver.await.unwrap(), TrunkEnd::Protocol { what });
            let mut rest = Vec::new();
            lane.read_to_end(&mut rest).await.unwrap();
            assert_eq!(rest, b"before", "{what}");
            assert_eq!(reader.read(&mut [0; 8]).await.unwrap(), 0, "the peer is hung up on");
        }
    });
}

#[test]
fn the_largest_chunk_of_the_last_lane_is_none_too_large() {
    on_both_runtimes(|| async {
        let (trunk, driver, reader, mut writer) = by_hand(16, 1_000).await;
        let ours = Side::new((trunk, driver));
        let (mut lane, _keep) = ours.lane(15);
        let writing = tokio::spawn(async move {
            writer.write_all(&chunk(15, &[7; MAX_CHUNK])).await.unwrap();
            writer
        });
        let mut bytes = vec![0; MAX_CHUNK];
        lane.read_exact(&mut bytes).await.unwrap();
        drop((reader, writing.await.unwrap()));
        assert_eq!(ours.driver.await.unwrap(), TrunkEnd::HangUp);
    });
}

/// Row 2 of the threats at the trunk: what nobody reads does not pile up. It is the peer's loss that its lanes wait.
#[test]
fn a_lane_that_nobody_reads_holds_a_bounded_amount() {
    paused(async {
        const PIPE: usize = 10_000;
        let (trunk, driver, _reader, mut writer) = by_hand(2, PIPE).await;
        let ours = Side::new((trunk, driver));
        let (mut lane, _keep) = ours.lane(0);
        let flood = chunk(0, &[7; 1_000]);
        let mut written = 0;
        // Under paused time the limit comes when nothing moves any more.
        while let Ok(count) =
            tokio::time::timeout(Duration::from_secs(1), writer.write(&flood[written % 1_004..])).await
        {
            written += count.unwrap();
        }
        let most = (MAX_UNREAD + MAX_CHUNK) * 1_004 / 1_000 + PIPE + 2_000;
        assert!((MAX_UNREAD..most).contains(&written), "{written} bytes were taken");

        // Once it is read, the rest comes.
        let mut read = vec![0; 100_000];
        lane.read_exact(&mut read).await.unwrap();
        assert!(
            tokio::time::timeout(Duration::from_secs(1), writer.write(&flood[written % 1_004..]))
                .await
                .is_ok()
        );

        // A trunk that waits for a reader can be cut all the same.
        ours.trunk.cut();
        assert_eq!(ours.driver.await.unwrap(), TrunkEnd::Cut);
    });
}

/// Lanes that nobody has asked for yet hold what comes for them, and no more.
#[test]
fn a_lane_that_nobody_has_opened_keeps_its_bytes() {
    on_both_runtimes(|| async {
        let (trunk, driver, _reader, mut writer) = by_hand(2, 1_000).await;
        let ours = Side::new((trunk, driver));
        writer.write_all(&chunk(1, b"early")).await.unwrap();
        writer.write_all(&chunk(1, b"")).await.unwrap();
        writer.write_all(&chunk(0, b"x")).await.unwrap();
        ours.lane(0).0.read_exact(&mut [0]).await.unwrap();
        let mut bytes = Vec::new();
        ours.lane(1).0.read_to_end(&mut bytes).await.unwrap();
        assert_eq!(bytes, b"early");
    });
}
