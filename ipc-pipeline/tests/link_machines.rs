//! The two link machines against the oracle: scripts of sends, takes, acks, cuts and deaths.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use ipc_pipeline::protocol::{
    Budget, Control, Delivered, End, Hello, Incoming, IncomingConfig, Outgoing, OutgoingConfig, SessionId,
    Taken,
};
use ipc_testkit::{
    pair::{Pair, PairConfig, Step, Violation, configs, scripts},
    process::rounds,
    proptest::{
        prelude::*,
        test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
    },
};

/// One script for each seed; a failure is made small before it is shown.
fn run(seed: u64, steps: usize) {
    let mut bits = [0; 32];
    bits[..8].copy_from_slice(&seed.to_le_bytes());
    let config =
        Config { cases: 1, max_shrink_iters: 50_000, failure_persistence: None, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &bits));
    let outcome = runner.run(&(configs(), scripts(steps)), |(config, script)| {
        prop_assert_eq!(Pair::new(config).run(&script), Ok(()));
        Ok(())
    });
    if let Err(failure) = outcome {
        panic!("{failure}");
    }
}

/// P-28. Capacities, windows, budgets, policies, ack modes and first numbers at every edge; the connection is cut,
/// dialled in vain and taken over at any byte, either end dies, recovers, forgets.
#[test]
fn nothing_is_lost_doubled_reordered_or_wrongly_flagged() {
    let ci = if cfg!(debug_assertions) { 4_000 } else { 20_000 };
    for seed in rounds(ci, 1_000_000) {
        run(seed, 80);
    }
}

/// The oracle has teeth: what is released before the application is done with it is seen at once, in both ack modes.
#[test]
fn the_oracle_sees_a_release_without_a_take_or_an_ack() {
    for (explicit, taken, acked) in [(false, 0, 0), (false, 1, 0), (true, 2, 0), (true, 2, 1)] {
        let mut config = PairConfig::default();
        config.incoming.explicit = explicit;
        let mut pair = Pair::new(config);
        for step in [Step::Dial, Step::Send(10), Step::Send(10), Step::Write(100), Step::Forward(100)] {
            pair.step(step).unwrap();
        }
        pair.step(Step::Take(taken)).unwrap();
        for _ in 0..acked {
            pair.step(Step::Ack(0)).unwrap();
        }
        let forged = Control::Ack { released: 2, max_values: u64::MAX, max_bytes: u64::MAX };
        pair.sender().handle_control(forged).unwrap();
        let outcome = pair.step(Step::Tick);
        assert!(matches!(outcome, Err(Violation::ReleasedEarly { .. })), "explicit {explicit}: {outcome:?}");
    }
}

/// Each value in pieces is cut at every byte of interest, and arrives once.
#[test]
fn a_value_in_pieces_survives_a_cut_anywhere() {
    const PIECE: usize = 256 * 1024 + 4;
    for size in [65_532, 65_533, 262_140, 262_144, 262_145, 600_000] {
        let around = |at: usize| at.saturating_sub(6)..at + 7;
        let cuts = (0..60)
            .chain(around(65_536))
            .chain(around(PIECE))
            .chain(around(2 * PIECE))
            .chain(around(size))
            .chain((0..size).step_by(20_011));
        for cut in cuts {
            let mut pair = Pair::new(PairConfig::default());
            pair.step(Step::Dial).unwrap();
            for size in [10, size as u32, 10] {
                pair.step(Step::Send(size)).unwrap();
            }
            for part in [cut / 2, cut - cut / 2] {
                for _ in 0..=part / 65_535 {
                    pair.step(Step::Write(part.min(65_535) as u16)).unwrap();
                    pair.step(Step::Forward(part.min(65_535) as u16)).unwrap();
                    pair.step(Step::Return(u16::MAX)).unwrap();
                }
            }
            pair.step(Step::Cut((cut % 7) as u16)).unwrap();
            assert_eq!(pair.settle(), Ok(()), "{size} bytes, cut near {cut}");
            assert_eq!(pair.handed_out(), 3);
        }
    }
}

/// Sizes around a segment's end and around the threshold of large values, back to back.
#[test]
fn values_of_every_size_around_a_border_arrive() {
    for first in [0, 1, 100, 65_528 - 12] {
        let mut config = PairConfig::default();
        config.outgoing.capacity = std::num::NonZeroUsize::new(1_000).unwrap();
        let mut pair = Pair::new(config);
        pair.step(Step::Send(first)).unwrap();
        let sizes = (65_520..=65_544).chain(32_756..=32_776).chain(262_138..=262_150);
        let count = sizes.clone().count();
        for size in sizes {
            pair.step(Step::Send(size)).unwrap();
        }
        assert_eq!(pair.settle(), Ok(()));
        assert_eq!(pair.handed_out(), count + 1);
    }
}

/// Whatever the budget and the window, a value that its sender may send arrives.
#[test]
fn a_value_larger_than_window_and_budget_makes_progress() {
    for (budget, window_bytes) in [(0, 1), (0, 8 << 20), (100, 100_000), (64 << 20, 1)] {
        for ticker in [true, false] {
            let mut config = PairConfig::default();
            (config.budget, config.ticker) = (budget, ticker);
            config.incoming.max_window_bytes = window_bytes;
            let mut pair = Pair::new(config);
            for size in [70_000, 10, 600_000, 65_532, 1_000_000, 0, 65_533] {
                pair.step(Step::Send(size)).unwrap();
            }
            assert_eq!(pair.settle(), Ok(()), "budget {budget}, window {window_bytes}");
            assert_eq!(pair.handed_out(), 7);
        }
    }
}

/// An exhausted budget holds the sender up; the two ends do not keep asking each other.
#[test]
fn an_exhausted_budget_does_not_make_the_ends_restless() {
    let mut config = PairConfig::default();
    config.budget = 0;
    config.outgoing.capacity = std::num::NonZeroUsize::new(1_000).unwrap();
    let mut pair = Pair::new(config);
    for _ in 0..500 {
        pair.step(Step::Send(1_000)).unwrap();
    }
    pair.step(Step::Dial).unwrap();
    assert_eq!(pair.calm(), Ok(()));
    assert!(pair.sender().counters().stalls <= 2, "{:?}", pair.sender().counters());
    assert_eq!(pair.settle(), Ok(()));
}

/// FIN and the request behind it are written in two parts, and everything is released in between.
#[test]
fn an_end_is_confirmed_however_its_announcement_is_cut() {
    for part in 0..100 {
        let mut config = PairConfig::default();
        config.ticker = false;
        let mut pair = Pair::new(config);
        pair.step(Step::Dial).unwrap();
        pair.step(Step::Send(10)).unwrap();
        pair.step(Step::Finish).unwrap();
        pair.step(Step::Write(part)).unwrap();
        pair.step(Step::Forward(u16::MAX)).unwrap();
        pair.step(Step::Take(1)).unwrap();
        pair.step(Step::Return(u16::MAX)).unwrap();
        assert_eq!(pair.settle(), Ok(()), "cut after {part} bytes");
        assert_eq!(pair.end(), Some(&End::Finished));
    }
}

/// A grant holds the port's slot until the value that it was for was taken, or the connection ends.
#[test]
fn a_granted_value_holds_the_slot_until_it_is_taken() {
    let mut hello = Hello::new(SessionId::from_bits(1), "test");
    hello.capacity = 20;
    let mut machine = Incoming::new(IncomingConfig::default(), &hello, Budget::new(0).share());
    let mut out = Vec::new();
    machine.handle_hello(&hello).unwrap();
    machine.handle_control(Control::Resume { first: 1, maybe_seen_until: 0 }).unwrap();
    machine.handle_control(Control::Need { waiting: 100_004, next_size: 100_004 }).unwrap();
    assert!(machine.wants_oversize() && !machine.holds_oversize());
    machine.grant_oversize();
    for _ in 0..3 {
        machine.handle_taken(machine.taken());
        machine.poll_control(true, &mut out);
        assert!(machine.holds_oversize(), "it has not come yet");
    }
    machine.handle_values(1, 100_004).unwrap();
    machine.handle_taken(machine.taken());
    assert!(machine.holds_oversize(), "it is here and not taken");
    machine.handle_taken(Taken { number: 1, values: 1, bytes: 100_004 });
    assert!(!machine.holds_oversize());
}

/// What was acked before a recovery is released only when it has come again, never ahead of what is here.
#[test]
fn an_ack_from_before_a_recovery_releases_nothing_that_is_not_here() {
    let mut config = PairConfig::default();
    config.incoming.explicit = true;
    let mut pair = Pair::new(config);
    // The second of three values is acked; then only the first comes again and is acked, too.
    let script = [
        Step::Dial,
        Step::Send(0),
        Step::Send(178),
        Step::Send(0),
        Step::Write(230),
        Step::Forward(230),
        Step::Take(3),
        Step::Ack(1),
        Step::Recover,
        Step::Dial,
        Step::Write(44),
        Step::Forward(44),
        Step::Take(1),
        Step::Ack(0),
        Step::Dial,
    ];
    assert_eq!(pair.run(&script), Ok(()));
}

/// The answer to an abort may be lost with its connection: the next one says what was taken, not what was discarded.
#[test]
fn a_repeated_abort_counts_what_was_discarded_as_undelivered() {
    let mut sender = Outgoing::new(SessionId::from_bits(1), OutgoingConfig::default());
    let mut receiver: Option<Incoming> = None;
    let dial = |sender: &mut Outgoing, receiver: &mut Option<Incoming>| {
        let hello = sender.hello("test");
        let machine = receiver.get_or_insert_with(|| {
            Incoming::new(IncomingConfig::default(), &hello, Budget::new(1 << 20).share())
        });
        sender.handle_welcome(&machine.handle_hello(&hello).unwrap()).unwrap();
        while sender.poll_transmit().pending {
            let mut slices = [std::io::IoSlice::new(&[]); 8];
            let count = sender.slices(&mut slices);
            sender.handle_written(slices[..count].iter().map(|slice| slice.len()).sum());
        }
    };
    for _ in 0..3 {
        assert!(sender.reserve());
        sender.append(|out| out.write(&[1])).unwrap();
    }
    dial(&mut sender, &mut receiver);
    let machine = receiver.as_mut().unwrap();
    machine.handle_control(Control::Resume { first: 1, maybe_seen_until: 0 }).unwrap();
    machine.handle_values(3, 15).unwrap();
    let taken = Taken { number: 1, values: 1, bytes: 5 };
    machine.handle_taken(taken);
    sender.abort();
    assert!(sender.poll_transmit().pending, "the abort");
    machine.handle_control(Control::Abort).unwrap();
    assert!(machine.take_abort());
    machine.discard();
    sender.handle_disconnected();
    dial(&mut sender, &mut receiver);
    let machine = receiver.as_mut().unwrap();
    machine.handle_control(Control::Resume { first: 4, maybe_seen_until: 0 }).unwrap();
    machine.handle_control(Control::Abort).unwrap();
    assert!(machine.take_abort());
    let released = machine.released();
    sender.handle_control(Control::Aborted { released, taken: taken.number }).unwrap();
    assert_eq!(sender.end(), Some(&End::Aborted(Some(Delivered { released, taken: 1 }))));
    assert_eq!(sender.pending_beyond(1), 2);
}
