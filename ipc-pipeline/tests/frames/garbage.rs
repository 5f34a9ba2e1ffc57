//! Bytes and numbers without meaning: an error at worst, never a panic.

use std::io::IoSlice;

use ipc_pipeline::protocol::{
    Answer, Control, ControlReader, Header, Hello, Outgoing, OutgoingConfig, PREAMBLE_LEN, Preamble,
    SessionId, Welcome,
};
use ipc_testkit::{process::repetitions, proptest::prelude::*};

use super::support::{Receiving, raw};

/// Numbers that overflow something, if anything can.
pub(crate) fn number() -> impl Strategy<Value = u64> {
    prop_oneof![
        4 => 0_u64..20,
        1 => any::<u64>(),
        1 => (0_u64..20).prop_map(|less| u64::MAX - less),
        1 => Just(1 << 63),
        1 => 65_000_u64..70_000,
    ]
}

fn control() -> impl Strategy<Value = Control> {
    prop_oneof![
        2 => (number(), number()).prop_map(|(first, maybe_seen_until)| Control::Resume { first, maybe_seen_until }),
        2 => (number(), number()).prop_map(|(next, waiting)| Control::Checkpoint { next, waiting }),
        2 => (number(), number()).prop_map(|(waiting, next_size)| Control::Need { waiting, next_size }),
        2 => number().prop_map(|count| Control::Skip { count }),
        1 => Just(Control::Fin),
        2 => (number(), number(), number())
            .prop_map(|(released, max_values, max_bytes)| Control::Ack { released, max_values, max_bytes }),
        1 => Just(Control::Detach),
        1 => Just(Control::Abort),
        1 => (number(), number()).prop_map(|(released, taken)| Control::Aborted { released, taken }),
        1 => number().prop_map(|released| Control::Closed { released }),
        1 => number().prop_map(|token| Control::Ping { token }),
        1 => number().prop_map(|token| Control::Pong { token }),
    ]
}

/// Frames whose headers are well formed, with anything in them.
fn frames() -> impl Strategy<Value = Vec<u8>> {
    let frame = prop_oneof![
        6 => control().prop_map(super::support::frame),
        4 => proptest::collection::vec(any::<u8>(), 0..300).prop_map(|payload| raw(0, &payload)),
        1 => proptest::collection::vec(any::<u8>(), 0..300).prop_map(|payload| raw(1, &payload)),
        1 => (any::<u8>(), proptest::collection::vec(any::<u8>(), 0..40))
            .prop_map(|(kind, payload)| raw(kind, &payload)),
        1 => (any::<u8>(), 0_u8..16, 0_u32..1 << 20)
            .prop_map(|(kind, lane, len)| Header { kind, lane, len }.encode().to_vec()),
    ];
    proptest::collection::vec(frame, 0..20).prop_map(|frames| frames.concat())
}

pub(crate) fn bytes() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![proptest::collection::vec(any::<u8>(), 0..600), frames()]
}

/// What a driver does with a receiving end, whatever it was told.
pub(crate) fn exercise(receiving: &mut Receiving, chunks: &[Vec<u8>]) {
    for chunk in chunks {
        let outcome = receiving.feed(chunk);
        let mut out = Vec::new();
        receiving.machine.poll_control(false, &mut out);
        if receiving.machine.wants_oversize() {
            receiving.machine.grant_oversize();
        }
        receiving.machine.poll_control(true, &mut out);
        receiving.machine.take_abort();
        let _ = (receiving.machine.next_number(), receiving.machine.ack_at(), receiving.machine.promised());
        if outcome.is_err() {
            break;
        }
    }
    receiving.machine.handle_disconnected();
}

fn welcome() -> impl Strategy<Value = Welcome> {
    (number(), number(), number(), number(), number(), any::<bool>(), any::<bool>()).prop_map(
        |(incarnation, received, released, max_values, max_bytes, unknown_session, restated)| Welcome {
            incarnation,
            received,
            released,
            max_values,
            max_bytes,
            unknown_session,
            restated,
            ticked: restated,
        },
    )
}

fn write_some(machine: &mut Outgoing, most: usize) {
    for _ in 0..4 {
        if !machine.poll_transmit().pending {
            return;
        }
        let mut slices = [IoSlice::new(&[]); 4];
        let count = machine.slices(&mut slices);
        let offered: usize = slices[..count].iter().map(|slice| slice.len()).sum();
        machine.handle_written(offered.min(most));
    }
}

/// As many cases as `IPC_STRESS` says; `full` runs a hundred times as many.
pub(crate) fn cases() -> ProptestConfig {
    ProptestConfig {
        cases: repetitions(2_000, 200_000).try_into().unwrap(),
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(cases())]

    /// the fixed bytes, hellos and answers.
    #[test]
    fn handshakes_of_garbage_do_not_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = Hello::decode(&bytes);
        let _ = Answer::decode(&bytes);
        if let Some(fixed) = bytes.first_chunk::<PREAMBLE_LEN>() {
            let _ = (Preamble::decode(*fixed, false), Preamble::decode(*fixed, true));
        }
    }

    /// fields that are well formed and mean anything.
    #[test]
    fn handshakes_of_random_fields_do_not_panic(
        fields in proptest::collection::vec((0_u16..16, any::<bool>(), proptest::collection::vec(any::<u8>(), 0..20)), 0..16),
    ) {
        let mut bytes = Vec::new();
        for (tag, critical, value) in fields {
            bytes.extend((tag | u16::from(critical) << 15).to_le_bytes());
            bytes.extend((value.len() as u16).to_le_bytes());
            bytes.extend(value);
        }
        let _ = (Hello::decode(&bytes), Answer::decode(&bytes));
    }

    /// what a sending end reads, and the answers it is given.
    #[test]
    fn frames_of_garbage_do_not_panic_in_the_sender(
        welcomes in proptest::collection::vec(welcome(), 1..4),
        chunks in proptest::collection::vec(bytes(), 0..6),
        sizes in proptest::collection::vec(0_usize..2_000, 0..30),
        most in 1_usize..3_000,
    ) {
        let mut machine = Outgoing::new(SessionId::from_bits(3), OutgoingConfig::default());
        for welcome in welcomes {
            machine.hello("raw");
            if machine.handle_welcome(&welcome).is_err() {
                continue;
            }
            for size in &sizes {
                if machine.reserve() && machine.append(|out| out.write(&vec![1; *size])).is_err() {
                    machine.unreserve();
                }
            }
            let mut reader = ControlReader::new();
            for chunk in &chunks {
                write_some(&mut machine, most);
                if reader.handle_bytes(chunk, |control| machine.handle_control(control)).is_err() {
                    break;
                }
            }
            machine.handle_disconnected();
        }
    }
}
