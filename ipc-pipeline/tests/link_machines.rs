//! The two link machines against the oracle: scripts of sends, takes, acks, cuts and deaths.

use std::num::NonZeroUsize;

use ipc_pipeline::FullPolicy;
use ipc_testkit::pair::{Pair, PairConfig, scripts};
use ipc_testkit::proptest::prelude::*;

fn config(capacity: usize, policy: FullPolicy, explicit: bool) -> PairConfig {
    let mut config = PairConfig::default();
    config.outgoing.capacity = NonZeroUsize::new(capacity).expect("capacities are not zero");
    config.outgoing.policy = policy;
    config.incoming.explicit = explicit;
    config
}

fn cases(count: u32) -> ProptestConfig {
    ProptestConfig {
        cases: count,
        max_shrink_iters: 100_000,
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(cases(std::env::var("LINK_SCRIPTS").ok().and_then(|n| n.parse().ok()).unwrap_or(3_000)))]

    #[test]
    fn nothing_is_lost_doubled_or_reordered(
        script in scripts(80),
        capacity in prop_oneof![Just(1_usize), Just(2), Just(7), Just(20), Just(1_000)],
        explicit in any::<bool>(),
        policy in prop_oneof![Just(FullPolicy::Wait), Just(FullPolicy::DropOldest), Just(FullPolicy::DropNewest)],
    ) {
        let outcome = Pair::new(config(capacity, policy, explicit)).run(&script);
        prop_assert_eq!(outcome, Ok(()));
    }
}
