//! Numbers far from 1: nothing depends on where a session begins to count.

use std::num::NonZeroUsize;

use ipc_testkit::{
    pair::{Pair, PairConfig, Step, scripts},
    proptest::prelude::*,
};

/// Where counters of 32 and of 63 bits would wrap, and near the last number of all.
const BEGINNINGS: [u64; 5] = [(1 << 32) - 3, (1 << 32) - 1, (1 << 53) - 2, (1 << 63) - 3, u64::MAX - 100_000];

fn config(first: u64, capacity: usize, explicit: bool) -> PairConfig {
    let mut config = PairConfig::default();
    config.outgoing.first = first;
    config.outgoing.capacity = NonZeroUsize::new(capacity).unwrap();
    config.incoming.explicit = explicit;
    config
}

/// P-28: 100 values across each boundary, with a cut behind every third.
#[test]
fn numbers_pass_every_boundary_without_loss() {
    for first in BEGINNINGS {
        let mut pair = Pair::new(config(first, 20, false));
        for round in 0..100 {
            pair.step(Step::Send(10)).unwrap();
            if round % 3 == 0 {
                pair.step(Step::Dial).unwrap();
            }
            pair.step(Step::Write(u16::MAX)).unwrap();
            pair.step(if round % 3 == 1 { Step::Cut(7) } else { Step::Forward(u16::MAX) }).unwrap();
            pair.step(Step::Take(20)).unwrap();
            pair.step(Step::Tick).unwrap();
            pair.step(Step::Return(u16::MAX)).unwrap();
        }
        pair.settle().unwrap();
        assert_eq!(pair.handed_out(), 100, "from {first}");
        assert_eq!(pair.sender().last_number(), first + 99);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    /// P-28: any script, from any beginning.
    #[test]
    fn scripts_do_not_depend_on_the_first_number(
        script in scripts(60),
        beginning in 0..BEGINNINGS.len(),
        capacity in prop_oneof![Just(1_usize), Just(20)],
        explicit in any::<bool>(),
    ) {
        let outcome = Pair::new(config(BEGINNINGS[beginning], capacity, explicit)).run(&script);
        prop_assert_eq!(outcome, Ok(()));
    }
}
