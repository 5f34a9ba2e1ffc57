//! The strategies make what they promise, and the oracles tell right from wrong.

#![allow(clippy::unwrap_used, reason = "a test may unwrap, its helpers too")]

use std::num::NonZeroUsize;

use ipc_testkit::{
    oracle::{Ledger, Violation},
    strategy::{self, Chunking},
};
use ipc_transport::Endpoint;
use proptest::prelude::*;

proptest! {
    #[test]
    fn endpoints_parse_and_print_round_trip(endpoint in strategy::endpoints()) {
        prop_assert_eq!(endpoint.to_string().parse::<Endpoint>().unwrap(), endpoint);
    }

    #[test]
    fn pieces_of_a_chunking_join_to_the_bytes(
        bytes in strategy::payloads(3000),
        chunking in strategy::chunkings(NonZeroUsize::new(700).unwrap()),
    ) {
        prop_assert!(chunking.pieces(&bytes).all(|piece| !piece.is_empty() && piece.len() <= 700));
        prop_assert_eq!(chunking.pieces(&bytes).flatten().copied().collect::<Vec<_>>(), bytes);
    }

    #[test]
    fn plans_are_on_the_side_of_the_contract_that_they_promise(
        good in strategy::fault_plans(),
        bad in strategy::damaging_fault_plans(),
    ) {
        prop_assert!(good.keeps_the_contract(), "{}", good);
        prop_assert!(!bad.keeps_the_contract(), "{}", bad);
    }

    #[test]
    fn sizes_stay_within_their_limit(size in strategy::message_sizes(300)) {
        prop_assert!(size <= 300);
    }

    #[test]
    fn scripts_name_the_actors_there_are(
        script in strategy::scripts(NonZeroUsize::new(3).unwrap(), 0..10_u8, 40),
    ) {
        prop_assert!(script.len() <= 40 && script.iter().all(|step| step.actor < 3 && step.operation < 10));
    }
}

#[test]
fn fixed_chunkings_cut_where_they_say() {
    let pieces = |chunking: Chunking| chunking.pieces(b"abcd").map(<[u8]>::len).collect::<Vec<_>>();
    assert_eq!(pieces(Chunking::every_byte()), [1, 1, 1, 1]);
    assert_eq!(pieces(Chunking::split_at(NonZeroUsize::new(3).unwrap())), [3, 1]);
}

fn accepted(numbers: impl IntoIterator<Item = u64>) -> Ledger<&'static str> {
    let mut ledger = Ledger::new();
    for number in numbers {
        ledger.accept("a", number);
    }
    ledger
}

#[test]
fn the_ledger_tells_duplicates_reorders_and_losses_within_an_incarnation() {
    let mut ledger = accepted(1..=4);
    assert_eq!(ledger.deliver("a", 1, false), Ok(()));
    assert_eq!(ledger.deliver("a", 1, true), Err(Violation::Duplicated { source: "a", number: 1 }));
    assert_eq!(ledger.deliver("a", 3, false), Ok(()));
    assert_eq!(ledger.deliver("a", 2, false), Err(Violation::Reordered { source: "a", number: 2, after: 3 }));
    assert_eq!(ledger.deliver("a", 1, false), Err(Violation::Duplicated { source: "a", number: 1 }));
    assert_eq!(ledger.outstanding(&"a"), 1);
    assert_eq!(ledger.finish(), Err(vec![Violation::Lost { source: "a", number: 4 }]));
}

#[test]
fn the_ledger_lets_a_successor_get_values_again_only_with_the_flag() {
    let mut ledger = accepted(1..=3);
    for number in 1..=2 {
        ledger.deliver("a", number, false).unwrap();
    }
    ledger.released("a", 1);
    ledger.receiver_restarted();
    assert_eq!(
        ledger.deliver("a", 1, true),
        Err(Violation::DeliveredAfterRelease { source: "a", number: 1 })
    );
    assert_eq!(ledger.deliver("a", 2, false), Err(Violation::NotFlagged { source: "a", number: 2 }));
    assert_eq!(ledger.deliver("a", 3, true), Ok(()), "the flag says maybe");
    assert_eq!(ledger.finish(), Ok(()));
}

#[test]
fn the_ledger_lets_a_receiver_that_recovers_get_values_again() {
    let mut ledger = accepted(1..=2);
    ledger.deliver("a", 1, false).unwrap();
    ledger.recovered("a");
    assert_eq!(ledger.deliver("a", 1, true), Ok(()));
    assert_eq!(ledger.deliver("a", 2, false), Ok(()));
    assert_eq!(ledger.finish(), Ok(()));
}

#[test]
fn the_ledger_keeps_sources_apart_and_tells_what_nobody_sent() {
    let mut ledger = accepted([1]);
    ledger.accept("b", 1);
    ledger.deliver("b", 1, false).unwrap();
    ledger.deliver("a", 1, false).unwrap();
    ledger.deliver("b", 9, false).unwrap();
    assert_eq!(ledger.finish(), Err(vec![Violation::Invented { source: "b", number: 9 }]));
}

#[test]
fn the_ledger_excuses_what_was_reported_as_dropped_and_holds_to_it() {
    let mut ledger = accepted(1..=2);
    ledger.report_dropped("a", 1);
    ledger.deliver("a", 2, false).unwrap();
    assert_eq!(ledger.finish(), Ok(()));
    ledger.receiver_restarted();
    ledger.deliver("a", 1, false).unwrap();
    assert_eq!(ledger.finish(), Err(vec![Violation::DeliveredAfterDrop { source: "a", number: 1 }]));
}
