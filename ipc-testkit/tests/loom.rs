//! Every interleaving of a few threads; see `ipc_testkit::model`. Empty without `--cfg ipc_loom`.
#![cfg(ipc_loom)]

use ipc_testkit::model::{
    buffer,
    queue::{self, SharedQueue},
};

macro_rules! models {
    ($($(#[$doc:meta])* $name:ident => $model:expr;)*) => {
        $($(#[$doc])* #[test] fn $name() { $model; })*
    };
}

models! {
    /// Must fail under `--cfg ipc_loom_weak`, by loom's own verdict on a cell.
    a_value_is_seen_whole => buffer::a_value_is_seen_whole::<SharedQueue>();
    a_full_buffer_gives_the_value_back => buffer::a_full_buffer_gives_the_value_back::<SharedQueue>();
    two_producers_lose_nothing_at_capacity_one => buffer::two_producers_lose_nothing::<SharedQueue>(1);
    two_producers_lose_nothing => buffer::two_producers_lose_nothing::<SharedQueue>(2);
    two_consumers_double_nothing => buffer::two_consumers_double_nothing::<SharedQueue>();
    what_was_pushed_before_the_close_can_be_popped =>
        buffer::what_was_pushed_before_the_close_can_be_popped::<SharedQueue>();
    a_sleeping_receiver_is_woken => queue::a_sleeping_receiver_is_woken();
    a_sleeping_receiver_is_woken_by_two => queue::a_sleeping_receiver_is_woken_by_two();
    a_sleeping_sender_is_woken => queue::a_sleeping_sender_is_woken();
    capacity_one => queue::capacity_one();
    a_dropped_permit_is_handed_on => queue::a_dropped_permit_is_handed_on();
    a_permit_holds_its_room => queue::a_permit_holds_its_room();
    a_cancelled_send_hands_its_turn_on => queue::a_cancelled_send_hands_its_turn_on();
    a_run_is_claimed_once => queue::a_run_is_claimed_once();
    a_batch_wakes_every_receiver_it_serves => queue::a_batch_wakes_every_receiver_it_serves();
    a_close_wakes_all => queue::a_close_wakes_all();
    the_newest_value_survives_at_capacity_one => queue::the_newest_value_survives(1);
    the_newest_value_survives => queue::the_newest_value_survives(2);
    the_newest_value_survives_a_run_at_capacity_one => queue::the_newest_value_survives_a_run(1);
    the_newest_value_survives_a_run => queue::the_newest_value_survives_a_run(2);
    the_last_sender_wakes_the_receiver => queue::the_last_sender_wakes_the_receiver();
}
