//! Processes that die on their machine, and their successors.

use ipc_testkit::process::rounds;

use crate::{
    roles::Do,
    story::{LEFT, RIGHT, over_both},
};

/// P-08, between machines: what was not acked comes again to the successor, flagged if it may have been seen before.
#[test]
fn nothing_accepted_is_lost_when_the_receiver_is_killed_and_restarted() {
    for seed in rounds(1, 20) {
        over_both(|place| async move {
            let mut rng = fastrand::Rng::with_seed(seed);
            let mut story = place.explicit().begin().await;
            story.order(LEFT, &Do::Send { count: None, len: 500 });
            for _ in 0..3 {
                story.taken(RIGHT, rng.u64(1..300)).await;
                story.restart(RIGHT).await;
            }
            story.taken(RIGHT, 500).await;
            story.order(LEFT, &Do::Enough);
            let [reconnects] = story.end([LEFT]).await;
            assert!(reconnects >= 3);
        });
    }
}
