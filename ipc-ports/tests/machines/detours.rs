//! Connections that come late, break anywhere, or overtake each other: a process between the machines sees to that.

use std::time::Duration;

use crate::{
    roles::{Do, Passed, Trouble},
    story::{LEFT, RIGHT, go_on, over_both},
};

/// Connections that break.
const BROKEN: u64 = 6;

#[test]
fn nothing_is_lost_when_connections_are_slow_and_break_anywhere() {
    over_both(|mut place| async move {
        let seed = fastrand::u64(..);
        println!("the detour's seed is {seed}");
        let mut detour = place.detour(seed, Trouble::Cuts { connections: BROKEN }).await;
        let mut story = place.begin().await;
        // More than fits through all that break.
        story.order(LEFT, &Do::Send { count: Some(1_000), len: 1_000 });
        let [reconnects] = story.end([LEFT]).await;
        let Passed { connections, cut } = go_on(&mut detour).await;
        assert!(cut >= 1 && connections > cut, "{cut} of {connections} were cut, {reconnects} reconnects");
    });
}

/// The first connection is given up in the middle of its handshake or of its stream, and its bytes arrive when the second
/// one is at work.
#[test]
fn connections_that_overtake_each_other_neither_repeat_nor_reorder_values() {
    for after in [0, 20_000] {
        over_both(|place| async move {
            let mut place = place.ping(Duration::from_millis(500)).patience(Duration::from_secs(2));
            let mut detour = place.detour(0, Trouble::Standstill { after }).await;
            let mut story = place.begin().await;
            story.order(LEFT, &Do::Send { count: None, len: 500 });
            // More than goes through the first one.
            story.taken(RIGHT, 500).await;
            let Passed { connections, .. } = go_on(&mut detour).await;
            assert!(connections >= 2);
            story.taken(RIGHT, 500).await;
            story.order(LEFT, &Do::Enough);
            story.end([LEFT]).await;
        });
    }
}
