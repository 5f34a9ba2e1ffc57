//! Limits that hold whatever the peer sends, and however it is cut.

use ipc_pipeline::protocol::{Control, End, HEADER_LEN, Header, Kind, ProtocolError, Space};
use ipc_testkit::proptest::prelude::*;

use super::{
    chunking::outcome_of,
    garbage::{bytes, cases, exercise, number},
    support::{Receiving, config, data, frame, hello},
    violations::{RESUME, expected_resume, narrow, sending, write_all},
};

/// Values that come before the link is resumed are not handed out, whatever comes behind them.
#[test]
fn nothing_is_handed_out_before_the_link_is_resumed() {
    let bytes = [data(b"early"), data(b"cut short")[..6].to_vec()].concat();
    let mut receiving = Receiving::welcomed(narrow(), &hello());
    assert_eq!(receiving.feed(&bytes), Err(expected_resume(Kind::Data)));
    assert!(receiving.values.is_empty(), "{:?}", receiving.values);
}

/// What was handed out counts as received, also when the next value is not acceptable and incomplete.
#[test]
fn values_before_an_incomplete_violation_are_counted() {
    let mut receiving = Receiving::welcomed(narrow(), &hello());
    receiving.feed(&frame(RESUME)).unwrap();
    let bytes = [data(b"one"), data(b"two"), data(&[0; 10_001])[..100].to_vec()].concat();
    let outcome = receiving.feed(&bytes);
    assert_eq!(outcome, Err(ProtocolError::MessageTooLarge { len: 10_001, max: 10_000 }));
    assert_eq!(receiving.values.len() as u64, receiving.machine.received());
    receiving.machine.handle_disconnected();
}

/// A peer that pings and never reads does not make this end hold an answer for each.
#[test]
fn pongs_do_not_pile_up() {
    let mut machine = sending(1);
    let mut receiving = Receiving::welcomed(narrow(), &hello());
    for token in 0..10_000 {
        machine.handle_control(Control::Ping { token }).unwrap();
        receiving.feed(&frame(Control::Ping { token })).unwrap();
    }
    let mut answer = Vec::new();
    receiving.machine.poll_control(false, &mut answer);
    assert_eq!(answer, frame(Control::Pong { token: 9_999 }), "the receiver answers the newest");
    let written = write_all(&mut machine);
    let pong = frame(Control::Pong { token: 9_999 });
    assert!(written.len() <= 100, "{} bytes wait to be written", written.len());
    assert!(written.windows(pong.len()).any(|window| window == pong), "the sender answers the newest");
}

/// Before a payload has arrived no more memory is taken for it than one frame may need.
#[test]
fn an_announced_length_is_not_allocated() {
    for kind in [Kind::Data, Kind::More] {
        let mut receiving = Receiving::resumed(config(), &hello());
        receiving.feed(&Header::new(kind, (1 << 20) - 1).encode()).unwrap_or_default();
        let capacity = match receiving.reader.space() {
            Space::Large { payload, .. } => payload.capacity(),
            _ => 0,
        };
        assert!(capacity <= 256 * 1024 + HEADER_LEN, "{kind:?}: {capacity} bytes for an announcement");
    }
}

/// The limit of a value holds whether its bytes come together or one by one.
#[test]
fn the_limit_of_a_value_does_not_depend_on_how_it_is_cut() {
    let mut small = config();
    small.max_message = 1_000;
    for len in [1_000, 1_001, 20_000, 40_000] {
        let stream = [data(b"first"), data(&vec![1; len])].concat();
        let split = 9 + HEADER_LEN;
        let receiving = || Receiving::resumed(small.clone(), &hello());
        let whole = outcome_of(receiving(), [&stream[..]].into_iter());
        let cut = outcome_of(receiving(), [&stream[..split], &stream[split..]].into_iter());
        assert_eq!(whole, cut, "a value of {len} bytes");
        assert_eq!(whole.0.is_err(), len > 1_000, "a value of {len} bytes");
        assert_eq!(Header::decode(*stream[9..].first_chunk().unwrap()).len as usize, len);
    }
}

/// The same, whole and in pieces, for a value whose receiver takes less than its sender may send.
#[test]
fn a_value_that_is_too_large_is_refused_whole_or_in_pieces() {
    for len in [10_001, 20_000, 32_000, 33_000] {
        for chunk in [usize::MAX, 5_000, 1] {
            let mut receiving = Receiving::resumed(narrow(), &hello());
            let bytes = [data(b"one"), data(&vec![0; len])].concat();
            let outcome = bytes.chunks(chunk.min(bytes.len())).try_for_each(|chunk| receiving.feed(chunk));
            assert_eq!(
                outcome,
                Err(ProtocolError::MessageTooLarge { len, max: 10_000 }),
                "chunks of {chunk}"
            );
            assert_eq!(receiving.values.len(), 1);
        }
    }
}

proptest! {
    #![proptest_config(cases())]

    /// what a receiving end reads, resumed or not, and again on a second connection.
    #[test]
    fn frames_of_garbage_do_not_panic_in_the_receiver(
        first in proptest::collection::vec(bytes(), 0..4),
        second in proptest::collection::vec(bytes(), 0..4),
        resumed in any::<bool>(),
        explicit in any::<bool>(),
        lowest in number().prop_map(|number| number.max(1)),
        capacity in number(),
    ) {
        let mut config = config();
        config.explicit = explicit;
        let mut hello = hello();
        (hello.lowest, hello.capacity) = (lowest, capacity);
        let mut receiving = match resumed {
            true => Receiving::resumed(config, &hello),
            false => Receiving::welcomed(config, &hello),
        };
        exercise(&mut receiving, &first);
        hello.attempt = 2;
        receiving.reader = ipc_pipeline::protocol::FrameReader::new();
        receiving.machine.handle_hello(&hello).unwrap();
        exercise(&mut receiving, &second);
    }
}

/// The ack of the end may come while a request of the sender, which is staged behind FIN, has not been written: the session
/// is over all the same, and nobody waits for an answer that has nothing to tell.
#[test]
fn the_ack_of_the_end_counts_while_a_request_behind_it_waits() {
    let mut machine = sending(1);
    machine.finish();
    machine.wait_for_release();
    let fin = frame(Control::Fin);
    let mut written = Vec::new();
    while !written.ends_with(&fin) {
        assert!(machine.poll_transmit().pending, "{written:?}");
        let mut slices = [std::io::IoSlice::new(&[])];
        assert_eq!(machine.slices(&mut slices), 1);
        written.push(slices[0][0]);
        machine.handle_written(1);
    }
    // A request may be staged here, and nothing of it is written.
    machine.poll_transmit();
    machine.handle_control(Control::Ack { released: 1, max_values: 100, max_bytes: 1 << 20 }).unwrap();
    assert_eq!(machine.end(), Some(&End::Finished));
}
