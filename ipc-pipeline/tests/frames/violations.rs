//! What a peer may not do: each violation has its own error, cuts the connection and spares the session.

use std::{io::IoSlice, num::NonZeroU64};

use ipc_pipeline::protocol::{
    Control, Header, Incoming, IncomingConfig, Kind, Outgoing, OutgoingConfig, ProtocolError, SessionId,
    Welcome,
};

use super::support::{Receiving, config, data, frame, hello, raw};

pub(crate) const RESUME: Control = Control::Resume { first: 1, maybe_seen_until: 0 };

pub(crate) fn narrow() -> IncomingConfig {
    let mut config = config();
    config.window = NonZeroU64::new(4).unwrap();
    config.max_message = 10_000;
    config
}

/// What a receiver must not be told, after a RESUME and the values `one` and `two`.
fn violations_of_a_sender() -> Vec<(&'static str, Vec<u8>, ProtocolError)> {
    let unexpected = |kind: Kind| ProtocolError::UnexpectedFrame { kind: kind as u8 };
    let lane = Header { kind: 0, lane: 2, len: 0 }.encode().to_vec();
    vec![
        ("a checkpoint ahead", frame(Control::Checkpoint { next: 4, waiting: 0 }), wrong_sequence(4, 3)),
        ("a checkpoint behind", frame(Control::Checkpoint { next: 2, waiting: 0 }), wrong_sequence(2, 3)),
        (
            "a second RESUME",
            frame(Control::Resume { first: 3, maybe_seen_until: 0 }),
            unexpected(Kind::Resume),
        ),
        ("an ACK", frame(Control::Ack { released: 1, max_values: 1, max_bytes: 1 }), unexpected(Kind::Ack)),
        ("a DETACH", frame(Control::Detach), unexpected(Kind::Detach)),
        ("an ABORTED", frame(Control::Aborted { released: 0, taken: 0 }), unexpected(Kind::Aborted)),
        ("a CLOSED", frame(Control::Closed { released: 0 }), unexpected(Kind::Closed)),
        (
            "a SKIP within a value",
            [raw(Kind::More as u8, b"x"), frame(Control::Skip { count: 1 })].concat(),
            unexpected(Kind::Skip),
        ),
        (
            "a FIN within a value",
            [raw(Kind::More as u8, b"x"), frame(Control::Fin)].concat(),
            unexpected(Kind::Fin),
        ),
        (
            "more numbers than there are",
            frame(Control::Skip { count: u64::MAX }),
            wrong_sequence(u64::MAX, 3),
        ),
        ("an unknown kind", raw(0x7F, b""), ProtocolError::UnknownKind { kind: 0x7F }),
        ("another lane", lane, ProtocolError::UnknownLane { lane: 2 }),
        (
            "a NEED of the wrong length",
            raw(Kind::Need as u8, &[0; 15]),
            ProtocolError::MalformedFrame { kind: 4 },
        ),
        (
            "a control frame that is too long",
            Header::new(Kind::Need, 40_000).encode().to_vec(),
            ProtocolError::FrameTooLarge { len: 40_000, max: 32 * 1024 },
        ),
        ("a value after the end", [frame(Control::Fin), data(b"x")].concat(), expected_resume(Kind::Data)),
    ]
}

fn wrong_sequence(theirs: u64, ours: u64) -> ProtocolError {
    ProtocolError::WrongSequence { theirs, ours }
}

pub(crate) fn expected_resume(kind: Kind) -> ProtocolError {
    ProtocolError::ExpectedResume { kind: kind as u8 }
}

/// P-32: wrong sequences, frames that belong elsewhere and malformed ones are errors of their own, and the session goes
/// on with the next connection, behind what was whole before.
#[test]
fn a_violation_by_the_sender_cuts_the_connection_and_spares_the_session() {
    for (name, bytes, expected) in violations_of_a_sender() {
        for together in [true, false] {
            let mut receiving = Receiving::welcomed(narrow(), &hello());
            let good = [frame(RESUME), data(b"one"), data(b"two")].concat();
            let outcome = if together {
                receiving.feed(&[good, bytes.clone()].concat())
            } else {
                receiving.feed(&good).unwrap();
                receiving.feed(&bytes)
            };
            assert_eq!(outcome, Err(expected.clone()), "{name}, together: {together}");
            assert_eq!(receiving.values.len(), 2, "{name}: the values before it were whole");

            receiving.machine.handle_disconnected();
            let mut again = hello();
            again.attempt = 2;
            let welcome = receiving.machine.handle_hello(&again).unwrap();
            assert!(welcome.received >= 2, "{name}");
            assert_eq!(welcome.released, welcome.received, "{name}");
        }
    }
}

/// P-32: a sender that begins with something else, or elsewhere.
#[test]
fn a_link_begins_with_the_number_that_is_expected() {
    let cases = [
        (frame(Control::Resume { first: 2, maybe_seen_until: 0 }), wrong_sequence(2, 1)),
        (frame(Control::Resume { first: 0, maybe_seen_until: 0 }), wrong_sequence(0, 1)),
        (data(b"x"), expected_resume(Kind::Data)),
        (data(b"x")[..4].to_vec(), expected_resume(Kind::Data)),
        (raw(Kind::More as u8, b"x"), expected_resume(Kind::Data)),
        (frame(Control::Checkpoint { next: 1, waiting: 0 }), expected_resume(Kind::Checkpoint)),
        (frame(Control::Skip { count: 1 }), expected_resume(Kind::Skip)),
        (frame(Control::Fin), expected_resume(Kind::Fin)),
        (frame(Control::Need { waiting: 1, next_size: 1 }), expected_resume(Kind::Need)),
    ];
    for (bytes, expected) in cases {
        let mut receiving = Receiving::welcomed(narrow(), &hello());
        assert_eq!(receiving.feed(&bytes), Err(expected), "{bytes:02x?}");
        assert!(receiving.values.is_empty(), "{bytes:02x?}");
        assert_eq!(receiving.machine.received(), 0);
    }
}

#[test]
fn data_beyond_the_credit_is_refused_and_not_counted() {
    let mut receiving = Receiving::welcomed(narrow(), &hello());
    let five = [&frame(RESUME)[..], &data(b"x").repeat(5)].concat();
    let outcome = receiving.feed(&five);
    assert!(matches!(outcome, Err(ProtocolError::CreditExceeded { max_values: 4, .. })), "{outcome:?}");
    assert_eq!(receiving.values.len() as u64, receiving.machine.received());

    let mut wide = narrow();
    wide.window = NonZeroU64::new(100).unwrap();
    let mut receiving = Receiving::welcomed(wide, &hello());
    let eight = [&frame(RESUME)[..], &data(&[0; 9_000]).repeat(8)].concat();
    let outcome = receiving.feed(&eight);
    assert!(matches!(outcome, Err(ProtocolError::CreditExceeded { max_bytes: 65_536, .. })), "{outcome:?}");
    assert_eq!(receiving.values.len() as u64, receiving.machine.received());
}

/// A sending end with the values 1 to `sent`, all of them written.
pub(crate) fn sending(sent: usize) -> Outgoing {
    let mut machine = Outgoing::new(SessionId::from_bits(1), OutgoingConfig::default());
    for _ in 0..sent {
        assert!(machine.reserve());
        machine.append(|out| out.write(b"value")).unwrap();
    }
    machine.hello("raw");
    machine.handle_welcome(&welcome()).unwrap();
    write_all(&mut machine);
    machine
}

fn welcome() -> Welcome {
    Welcome {
        incarnation: 5,
        received: 0,
        released: 0,
        max_values: 3,
        max_bytes: 65_536,
        unknown_session: false,
        restated: true,
        ticked: false,
    }
}

pub(crate) fn write_all(machine: &mut Outgoing) -> Vec<u8> {
    let mut written = Vec::new();
    while machine.poll_transmit().pending {
        let mut slices = [IoSlice::new(&[]); 8];
        let count = machine.slices(&mut slices);
        let before = written.len();
        slices[..count].iter().for_each(|slice| written.extend_from_slice(slice));
        machine.handle_written(written.len() - before);
    }
    written
}

/// P-32: what a receiver must not say, and what becomes of the values then: they stay.
#[test]
fn a_violation_by_the_receiver_cuts_the_connection_and_keeps_the_values() {
    let ack = |released, max_values, max_bytes| Control::Ack { released, max_values, max_bytes };
    let unexpected = |kind: Kind| ProtocolError::UnexpectedFrame { kind: kind as u8 };
    let beyond = |released| ProtocolError::AckBeyondSent { released, sent: 4 };
    let cases = [
        (ack(4, 10, 65_536), beyond(4)),
        (ack(u64::MAX, 10, 65_536), beyond(u64::MAX)),
        (ack(0, 2, 65_536), ProtocolError::CreditLowered),
        (ack(0, 3, 65_535), ProtocolError::CreditLowered),
        (Control::Aborted { released: 0, taken: 0 }, unexpected(Kind::Aborted)),
        (Control::Closed { released: 4 }, beyond(4)),
        (Control::Resume { first: 1, maybe_seen_until: 0 }, unexpected(Kind::Resume)),
        (Control::Checkpoint { next: 1, waiting: 0 }, unexpected(Kind::Checkpoint)),
        (Control::Need { waiting: 0, next_size: 0 }, unexpected(Kind::Need)),
        (Control::Skip { count: 1 }, unexpected(Kind::Skip)),
        (Control::Fin, unexpected(Kind::Fin)),
        (Control::Abort, unexpected(Kind::Abort)),
    ];
    for (control, expected) in cases {
        // Five values, of which the credit let three go.
        let mut machine = sending(5);
        assert_eq!(machine.handle_control(control), Err(expected), "{control:?}");
        assert_eq!(machine.pending(), 5, "{control:?}");
        machine.handle_disconnected();
        machine.hello("raw");
        machine.handle_welcome(&Welcome { received: 3, released: 2, restated: false, ..welcome() }).unwrap();
        assert_eq!(machine.pending(), 3, "{control:?}");
        assert!(machine.end().is_none(), "{control:?}");
    }
}

#[test]
fn an_answer_about_values_that_were_never_written_is_refused() {
    for (received, released, restated, incarnation) in [
        (4, 0, false, 5),
        (u64::MAX, 0, false, 5),
        (3, 4, false, 5),
        (3, 2, true, 5),
        // A successor cannot have anything.
        (1, 1, true, 6),
        (3, 0, false, 6),
    ] {
        let mut machine = sending(5);
        machine.handle_disconnected();
        machine.hello("raw");
        let answer = Welcome { incarnation, received, released, restated, ..welcome() };
        let outcome = machine.handle_welcome(&answer);
        assert!(matches!(outcome, Err(ProtocolError::UnknownValue { .. })), "{answer:?}: {outcome:?}");
        assert_eq!(machine.pending(), 5);
    }
}

#[test]
fn an_older_attempt_is_stale() {
    let mut newer = hello();
    newer.attempt = 5;
    let mut machine = Incoming::new(config(), &newer, ipc_pipeline::protocol::Budget::new(0).share());
    machine.handle_hello(&newer).unwrap();
    for attempt in [1, 4, 5] {
        let mut hello = hello();
        hello.attempt = attempt;
        assert_eq!(machine.handle_hello(&hello), Err(ipc_pipeline::protocol::Refusal::Stale), "{attempt}");
    }
}
