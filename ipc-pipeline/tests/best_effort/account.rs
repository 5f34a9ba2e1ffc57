//! Gaps, duplicates and reorders, compared with an oracle that remembers everything.

use std::collections::BTreeSet;

use ipc_pipeline::{
    best_effort::{Outgoing, Receiver, ReceiverConfig, SenderConfig, Sources},
    protocol::{Standing, Tally},
};
use ipc_testkit::{FaultPlan, Faulty, MemTransport, Rule, process::rounds};
use ipc_transport::{Bincode, DatagramAddress, DatagramTransport, Endpoint};
use proptest::prelude::*;

use crate::support::{Caught, LONG, give, on_both_runtimes, receiver, until};

proptest! {
    /// The tally is exact, whatever is lost, doubled and reordered, within its reach.
    #[test]
    fn the_tally_agrees_with_a_set(
        steps in prop::collection::vec(prop_oneof![8 => 0..4_u64, 2 => 0..300_u64, 1 => 0..20_000_u64], 1..400),
        back in prop::collection::vec(prop_oneof![4 => 1..10_u64, 1 => 1..2_000_u64, 1 => 1..=Tally::REACH], 400),
        choose_back in prop::collection::vec(any::<bool>(), 400),
    ) {
        let mut tally = Tally::new();
        let mut seen = BTreeSet::new();
        let (mut highest, mut duplicates, mut reordered) = (0, 0, 0);
        for ((step, back), choose_back) in steps.into_iter().zip(back).zip(choose_back) {
            let number = if choose_back { highest.max(back + 1) - back } else { highest + 1 + step };
            let expected = if !seen.insert(number) {
                duplicates += 1;
                Standing::Duplicate
            } else if number < highest {
                reordered += 1;
                Standing::Late
            } else {
                Standing::Next { gap: number - highest - 1 }
            };
            highest = highest.max(number);
            prop_assert_eq!(tally.handle(number, 0), expected, "number {}", number);
        }
        let counts = tally.counts();
        prop_assert_eq!(counts.highest, highest);
        prop_assert_eq!(counts.received, seen.len() as u64);
        prop_assert_eq!(counts.missing, highest - seen.len() as u64);
        prop_assert_eq!((counts.duplicates, counts.reordered, counts.stale), (duplicates, reordered, 0));
    }

    /// However far the numbers jump: what is counted is never wrong, only less precise about what is far behind.
    #[test]
    fn the_tally_never_takes_a_number_twice(numbers in prop::collection::vec(1..200_000_u64, 1..600)) {
        let mut tally = Tally::new();
        let mut taken = BTreeSet::new();
        for &number in &numbers {
            match tally.handle(number, 0) {
                Standing::Next { .. } | Standing::Late => prop_assert!(taken.insert(number)),
                Standing::Duplicate => prop_assert!(taken.contains(&number)),
                _ => prop_assert!(number + Tally::REACH <= tally.counts().highest),
            }
        }
        let counts = tally.counts();
        prop_assert_eq!(counts.received, taken.len() as u64);
        prop_assert_eq!(counts.received + counts.duplicates + counts.stale, numbers.len() as u64);
        prop_assert_eq!(counts.missing + counts.received, counts.highest);
    }
}

/// What a receiving end reports, in its counts and with each value, is what was done to the datagrams on their way.
#[test]
fn gaps_duplicates_and_reorders_are_reported_exactly() {
    for seed in rounds(20, 500) {
        on_both_runtimes(|| async move {
            let mut random = fastrand::Rng::with_seed(seed);
            let count = random.usize(1..500);
            let caught = Caught::default();
            let mut config = SenderConfig::default();
            config.capacity = 500.try_into().unwrap();
            let sender = caught.sender::<u64>(config);
            for value in 1..=count as u64 {
                sender.send(value).unwrap();
            }
            until(|| caught.count() == count).await;
            let sent = caught.take();
            let mut arriving = Vec::new();
            for (index, datagram) in sent.iter().enumerate() {
                let copies = if random.u8(..4) == 0 { random.usize(0..3) } else { 1 };
                for _ in 0..copies {
                    // A place some way behind its own: others overtake it.
                    let late = if random.u8(..4) == 0 { random.usize(0..40) } else { 0 };
                    arriving.push((index + late, random.u64(..), index as u64 + 1, datagram.clone()));
                }
            }
            arriving.sort_by_key(|(place, tie, ..)| (*place, *tie));

            let (mut seen, mut highest) = (BTreeSet::new(), 0);
            let (mut duplicates, mut reordered, mut expected) = (0, 0, Vec::new());
            for (_, _, number, _) in &arriving {
                if !seen.insert(*number) {
                    duplicates += 1;
                    continue;
                }
                let late = *number < highest;
                let gap = if late { 0 } else { number - highest - 1 };
                reordered += u64::from(late);
                highest = highest.max(*number);
                expected.push((*number, *number, gap, late));
            }

            let (feed, mut receiver) = receiver::<u64>(|config| config.capacity = 500.try_into().unwrap());
            let datagrams = arriving.into_iter().map(|(.., datagram)| datagram).collect();
            give(&feed, &receiver, datagrams).await;
            let mut found = Vec::new();
            while let Some(received) = receiver.try_recv().unwrap() {
                found.push((received.value, received.number, received.gap, received.late));
            }
            assert_eq!(found, expected, "seed {seed}");
            if let [source] = &receiver.sources()[..] {
                let tally = source.tally;
                assert_eq!(
                    (tally.highest, tally.received, tally.missing),
                    (highest, seen.len() as u64, highest - seen.len() as u64),
                    "seed {seed}"
                );
                assert_eq!(
                    (tally.duplicates, tally.reordered, tally.stale),
                    (duplicates, reordered, 0),
                    "seed {seed}"
                );
                assert_eq!(source.overrun, 0);
            } else {
                assert!(expected.is_empty(), "one source, seed {seed}");
            }
        });
    }
}

/// From end to end over a way that loses, doubles and reorders: whatever it does, no value comes twice, and the account of
/// the receiver is that of the sender.
#[test]
fn the_account_holds_over_a_way_that_is_full_of_faults() {
    for seed in rounds(20, 200) {
        on_both_runtimes(|| async move {
            let plan = FaultPlan::new(seed)
                .with(Rule::lose().chance(0.1))
                .with(Rule::duplicate().chance(0.1))
                .with(Rule::reorder().chance(0.1));
            let way = Faulty::new(MemTransport::new(), plan);
            let at = Endpoint::new("mem", MemTransport::FRESH_NAME).unwrap();
            let mut config = ReceiverConfig::default();
            config.sources = Sources::Anybody;
            config.capacity = 2_000.try_into().unwrap();
            let mut receiver =
                Receiver::<u64>::new(way.bind(&at).await.unwrap(), config, Bincode::default()).unwrap();
            let mut config = SenderConfig::default();
            config.capacity = 2_000.try_into().unwrap();
            let outgoing =
                Outgoing::<u64>::new(way.bind(&at).await.unwrap(), config, Bincode::default()).unwrap();
            outgoing.lead_to(DatagramAddress::of(receiver.local_endpoint()));
            let mut found = BTreeSet::new();
            let mut sent = 0;
            // Until two hundred have arrived; the last few show that nothing is stuck.
            while found.len() < 200 {
                sent += 1;
                outgoing.send(sent).unwrap();
                until(|| outgoing.sender().counters().waiting == 0).await;
                while let Some(received) = receiver.try_recv().unwrap() {
                    assert_eq!(received.value, received.number, "seed {seed}");
                    assert_eq!(received.late, found.last().is_some_and(|last| received.value < *last));
                    assert!(found.insert(received.value), "{} twice, seed {seed}", received.value);
                }
            }
            outgoing.close(LONG).await.unwrap();
            receiver.intake().close().await;
            while let Ok(received) = receiver.recv().await {
                assert!(found.insert(received.value), "{} twice, seed {seed}", received.value);
            }
            let tally = receiver.sources()[0].tally;
            assert_eq!(tally.received, found.len() as u64, "seed {seed}");
            assert_eq!(tally.missing, tally.highest - tally.received, "seed {seed}");
            assert!(tally.highest <= sent && tally.skipped == 0 && tally.stale == 0, "seed {seed}");
        });
    }
}
