//! Policies at the machines: what is dropped, what is kept for it, and what the receiver is told.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::num::NonZeroUsize;

use ipc_pipeline::FullPolicy;
use ipc_testkit::pair::{Pair, PairConfig, Step};

fn pair(capacity: usize, policy: FullPolicy) -> Pair {
    let mut config = PairConfig::default();
    config.outgoing.capacity = NonZeroUsize::new(capacity).unwrap();
    config.outgoing.policy = policy;
    Pair::new(config)
}

/// A receiver that takes nothing does not make its sender's memory grow, connected or not.
#[test]
fn dropped_values_hold_no_memory() {
    for policy in [FullPolicy::DropOldest, FullPolicy::DropNewest] {
        for connected in [true, false] {
            for size in [0, 8, 1_000, 40_000, 100_000] {
                let mut pair = pair(20, policy);
                if connected {
                    pair.step(Step::Dial).unwrap();
                }
                let mut most = 0;
                for round in 0..20_000_usize {
                    pair.step(Step::Send(size)).unwrap();
                    if round % 3 == 0 {
                        pair.calm().unwrap();
                    }
                    most = most.max(pair.sender().retained_memory());
                }
                let values = 20 * (size as usize + 64 * 1024);
                assert!(most <= values + 512 * 1024, "{policy:?} {connected} {size}: {most} bytes");
                assert_eq!(pair.settle(), Ok(()), "{policy:?} {connected} {size}");
            }
        }
    }
}

/// What the receiver was told is what the sender counted, also when a connection is cut within a run of drops.
#[test]
fn drops_are_reported_once_each_over_lost_connections() {
    for (policy, size) in [FullPolicy::DropOldest, FullPolicy::DropNewest]
        .into_iter()
        .flat_map(|policy| [(policy, 100), (policy, 70_000)])
    {
        let mut pair = pair(4, policy);
        for round in 0..200_u16 {
            pair.step(Step::Dial).unwrap();
            for _ in 0..round % 9 {
                pair.step(Step::Send(size)).unwrap();
                pair.step(Step::Write((u32::from(round) * size / 50).min(65_535) as u16)).unwrap();
                pair.step(Step::Forward((u32::from(round) * size / 99).min(65_535) as u16)).unwrap();
            }
            pair.step(Step::Take((round % 3) as u8)).unwrap();
            pair.step(Step::Cut(round * 7)).unwrap();
            for _ in 0..round % 5 {
                pair.step(Step::Send(size / 10)).unwrap();
            }
        }
        assert_eq!(pair.settle(), Ok(()));
        assert_eq!(pair.sender().counters().dropped, pair.skipped() as u64);
        assert!(pair.skipped() > 100);
    }
}

/// A part of a run of drops is known to the receiver when the connection is lost; the rest of it comes with the next.
#[test]
fn a_run_of_drops_is_resumed_in_its_middle() {
    for policy in [FullPolicy::DropOldest, FullPolicy::DropNewest] {
        let mut pair = pair(1, policy);
        pair.step(Step::Send(100_000)).unwrap();
        pair.step(Step::Dial).unwrap();
        pair.calm().unwrap();
        for round in 0..10_usize {
            pair.step(Step::Send(100_000)).unwrap();
            pair.calm().unwrap();
            assert_eq!(pair.skipped(), 2 * round + 1);
            // Its report is lost with the connection.
            pair.step(Step::Send(100_000)).unwrap();
            pair.step(Step::Write(u16::MAX)).unwrap();
            pair.step(Step::Cut(0)).unwrap();
            pair.step(Step::Dial).unwrap();
            pair.calm().unwrap();
            assert_eq!(pair.skipped(), 2 * round + 2);
        }
        assert_eq!(pair.settle(), Ok(()));
        assert_eq!(pair.handed_numbers(), [1]);
    }
}

/// What credit had let go and no connection had written is the oldest again once the connection is lost.
#[test]
fn the_oldest_unwritten_value_is_dropped_after_a_lost_connection() {
    let mut pair = pair(8, FullPolicy::DropOldest);
    pair.step(Step::Dial).unwrap();
    for _ in 0..8 {
        pair.step(Step::Send(10)).unwrap();
    }
    // RESUME alone is written; four values were let go, so the fifth is dropped first.
    pair.step(Step::Write(20)).unwrap();
    pair.step(Step::Send(10)).unwrap();
    pair.step(Step::Cut(0)).unwrap();
    for _ in 0..7 {
        pair.step(Step::Send(10)).unwrap();
    }
    assert_eq!(pair.sender().counters().dropped, 8);
    pair.settle().unwrap();
    assert_eq!(pair.handed_numbers(), (9..=16).collect::<Vec<_>>(), "the newest eight were kept");
    assert_eq!(pair.skipped(), 8);
}

/// An idle sending end keeps one segment for the next value and little else.
#[test]
fn an_idle_sending_end_keeps_one_segment() {
    for policy in [FullPolicy::Wait, FullPolicy::DropOldest] {
        let mut pair = pair(2_000, policy);
        pair.step(Step::Dial).unwrap();
        for size in [10, 1_000, 70_000, 300_000].repeat(25) {
            pair.step(Step::Send(size)).unwrap();
        }
        pair.settle().unwrap();
        let kept = pair.sender().retained_memory();
        assert!(kept <= 72 * 1024, "{kept} bytes");
    }
}

/// A link on which little is said holds little, also once a burst is over: one segment of 4 KiB.
#[test]
fn a_link_on_which_little_is_said_holds_little() {
    let mut pair = pair(2_000, FullPolicy::Wait);
    pair.step(Step::Dial).unwrap();
    for burst in [1, 100, 1] {
        for _ in 0..burst {
            pair.step(Step::Send(1_000)).unwrap();
        }
        pair.settle().unwrap();
    }
    let kept = pair.sender().retained_memory();
    assert!(kept <= 16 * 1024, "{kept} bytes");
}
