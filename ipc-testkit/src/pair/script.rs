//! What happens to a pair: steps, and strategies for scripts and configurations.

use std::num::{NonZeroU64, NonZeroUsize};

use ipc_pipeline::FullPolicy;
use proptest::prelude::*;

use super::PairConfig;

/// One step of a script.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Step {
    /// The application acks one of the values it holds, in explicit mode.
    Ack(u8),
    /// The connection is cut; of the bytes under way to the receiver so many still arrive.
    Cut(u16),
    /// A new connection is made and both machines greet each other; the receiver need not have noticed the old one's
    /// end.
    Dial,
    /// A new connection is made and breaks before the answer is there.
    DialInVain,
    /// No value follows.
    Finish,
    /// The receiver forgets the session, which it may when nothing of it is untaken or unacked.
    Forget,
    /// So many bytes travel to the receiver.
    Forward(u16),
    /// A hello of an earlier attempt arrives late.
    LateHello,
    /// The receiving process dies and another incarnation takes its place.
    ReceiverDies,
    /// The receiving application takes everything back that it did not ack, in explicit mode.
    Recover,
    /// So many bytes travel back to the sender.
    Return(u16),
    /// The sending application sends a value of this size.
    Send(u32),
    /// The sending process dies; another session takes its place.
    SenderDies,
    /// The receiving application takes so many values.
    Take(u8),
    /// The ticker runs: moves that were not reported are.
    Tick,
    /// The sender's machine writes at most so many bytes.
    Write(u16),
}

/// Scripts of up to `max` steps, for both ack modes.
pub fn scripts(max: usize) -> impl Strategy<Value = Vec<Step>> {
    let size = prop_oneof![
        20 => 0_u32..200,
        5 => 0_u32..5_000,
        2 => 32_700_u32..32_800,
        3 => 65_520_u32..65_550,
        2 => 30_000_u32..70_000,
        1 => 262_100_u32..262_200,
        1 => 250_000_u32..600_000,
    ];
    let step = prop_oneof![
        10 => size.prop_map(Step::Send),
        8 => prop_oneof![(0_u16..300), any::<u16>()].prop_map(Step::Write),
        8 => prop_oneof![(0_u16..300), any::<u16>()].prop_map(Step::Forward),
        5 => prop_oneof![(0_u16..60), any::<u16>()].prop_map(Step::Return),
        6 => (1_u8..8).prop_map(Step::Take),
        5 => any::<u8>().prop_map(Step::Ack),
        4 => Just(Step::Dial),
        2 => any::<u16>().prop_map(Step::Cut),
        1 => Just(Step::DialInVain),
        1 => Just(Step::LateHello),
        1 => Just(Step::Forget),
        1 => Just(Step::Tick),
        1 => Just(Step::ReceiverDies),
        1 => Just(Step::SenderDies),
        1 => Just(Step::Recover),
        1 => Just(Step::Finish),
    ];
    proptest::collection::vec(step, 1..max)
}

/// Configurations in which every bound is met: small capacities, windows, byte bounds and budgets, all policies, first
/// numbers at the edges.
pub fn configs() -> impl Strategy<Value = PairConfig> {
    let policy = prop_oneof![
        3 => Just(FullPolicy::Wait),
        2 => Just(FullPolicy::DropOldest),
        1 => Just(FullPolicy::DropNewest),
        1 => Just(FullPolicy::Fail),
    ];
    let first = prop_oneof![
        4 => Just(1_u64),
        1 => (1_u64 << 32) - 5..(1 << 32) + 5,
        1 => Just(u64::MAX - 1_000_000),
    ];
    let capacity = prop_oneof![Just(1_usize), Just(2), Just(7), Just(20), Just(1_000)];
    let window = prop_oneof![2 => Just(16_384_u64), 1 => 1_u64..5];
    let window_bytes = prop_oneof![3 => Just(8_u64 << 20), 1 => Just(1), 1 => 65_000_u64..200_000];
    let byte_bound = prop_oneof![3 => Just(8_usize << 20), 1 => Just(0), 1 => 1_usize..100_000];
    let budget = prop_oneof![3 => Just(64_usize << 20), 2 => Just(0), 1 => 0_usize..300_000];
    let rest = (window_bytes, byte_bound, budget, any::<bool>(), any::<bool>());
    (policy, first, capacity, window, rest).prop_map(
        |(policy, first, capacity, window, (window_bytes, byte_bound, budget, explicit, ticker))| {
            let mut config = PairConfig { budget, ticker, ..PairConfig::default() };
            config.outgoing.policy = policy;
            config.outgoing.first = first;
            config.outgoing.capacity = NonZeroUsize::new(capacity).expect("none is zero");
            config.outgoing.byte_bound = byte_bound;
            config.incoming.window = NonZeroU64::new(window).expect("none is zero");
            config.incoming.max_window_bytes = window_bytes;
            config.incoming.explicit = explicit;
            config
        },
    )
}
