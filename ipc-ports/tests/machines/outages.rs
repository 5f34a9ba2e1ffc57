//! Cables, packets, routes and processes that fail for a while.

use std::time::Duration;

use crate::{
    roles::{CAPACITY, Do},
    story::{LEFT, Place, RIGHT, Story, over_both},
};

/// Values of a stream that count as a stream.
const SOME: u64 = 500;

/// The kernel doubles its wait with each loss of the same packet; after this time a new connection is quicker.
const STALLED: Duration = Duration::from_secs(2);

#[test]
fn values_cross_between_machines_both_ways() {
    over_both(|place| async move {
        let mut story = place.begin().await;
        for side in [LEFT, RIGHT] {
            story.order(side, &Do::Send { count: Some(2_000), len: 500 });
        }
        story.end([LEFT, RIGHT]).await;
    });
}

/// A cable that is out for so short a time that the connection outlives it, or for so long that it does not, at either
/// end.
#[test]
fn a_stream_goes_on_after_its_cable_was_out() {
    over_both(|place| async move {
        let mut story = streaming(place.user_timeout(Duration::from_secs(1))).await;
        for (side, long) in [(LEFT, false), (RIGHT, true), (LEFT, true)] {
            story.machine(side).unplug();
            if long {
                lost(&mut story).await;
            } else {
                assert_eq!(story.full(LEFT).await, CAPACITY);
            }
            story.machine(side).plug_in();
            goes_on(&mut story).await;
        }
        let [reconnects] = finished(story).await;
        assert!(reconnects >= 2);
    });
}

#[test]
fn a_stream_goes_on_after_its_route_was_lost() {
    over_both(|place| async move {
        let mut story = streaming(place.user_timeout(Duration::from_secs(1))).await;
        story.machine(LEFT).lose_the_way();
        lost(&mut story).await;
        story.machine(LEFT).find_the_way();
        goes_on(&mut story).await;
        let [reconnects] = finished(story).await;
        assert!(reconnects >= 1);
    });
}

/// The kernel answers for a process that stands still; only a ping tells.
#[test]
fn senders_wait_for_a_process_that_stands_still_and_it_gets_everything() {
    over_both(|place| async move {
        let mut story = streaming(place.ping(Duration::from_millis(500))).await;
        story.process(RIGHT).stop();
        lost(&mut story).await;
        story.process(RIGHT).resume();
        goes_on(&mut story).await;
        let [reconnects] = finished(story).await;
        assert!(reconnects >= 1);
    });
}

/// Dialling, handshakes and values meet the same weather.
#[test]
fn nothing_is_lost_when_every_twentieth_packet_is() {
    over_both(|place| async move {
        let Some(()) = place.machines.left.rain(5).and_then(|()| place.machines.right.rain(5)) else {
            return;
        };
        let mut story = place.user_timeout(STALLED).begin().await;
        for side in [LEFT, RIGHT] {
            story.order(side, &Do::Send { count: Some(2_000), len: 1_000 });
        }
        story.end([LEFT, RIGHT]).await;
    });
}

/// Where values arrive: answers get through, so that what remains is repeating, again and again.
#[test]
fn nothing_is_lost_when_three_packets_of_ten_are() {
    over_both(|place| async move {
        let Some(()) = place.machines.right.rain(30) else { return };
        let mut story = place.user_timeout(STALLED).begin().await;
        story.order(LEFT, &Do::Send { count: Some(200), len: 1_000 });
        story.end([LEFT]).await;
    });
}

/// A stream from left to right that has begun to flow and does not end by itself.
async fn streaming(place: Place) -> Story {
    let mut story = place.begin().await;
    story.order(LEFT, &Do::Send { count: None, len: 500 });
    story.taken(RIGHT, SOME).await;
    story
}

/// Waits until the sender knows that its connection is gone: it keeps as much as it may, and its senders wait.
async fn lost(story: &mut Story) {
    let before = story.known(LEFT).lost;
    story.until(LEFT, |known| known.lost > before).await;
    assert_eq!(story.full(LEFT).await, CAPACITY);
}

/// Waits until the values that were kept and many more have arrived.
async fn goes_on(story: &mut Story) {
    story.taken(RIGHT, CAPACITY as u64 + SOME).await;
}

async fn finished(mut story: Story) -> [u64; 1] {
    story.order(LEFT, &Do::Enough);
    story.end([LEFT]).await
}
