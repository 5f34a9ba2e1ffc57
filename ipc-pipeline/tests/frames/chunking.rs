//! However the bytes are cut and joined on their way, the frames are the same.

use ipc_pipeline::protocol::{Control, ControlReader, HEADER_LEN, Kind, MAX_PAYLOAD, ProtocolError};
use ipc_testkit::proptest::prelude::*;

use super::support::{Numbers, Receiving, Value, config, data, frame, hello, raw};

/// Everything that can be seen of a receiving end afterwards.
pub(crate) type Outcome = (Result<(), ProtocolError>, Vec<Value>, [u64; 4], bool, Vec<u8>);

pub(crate) fn outcome_of<'a>(mut receiving: Receiving, chunks: impl Iterator<Item = &'a [u8]>) -> Outcome {
    let mut result = Ok(());
    for chunk in chunks {
        result = receiving.feed(chunk);
        if result.is_err() {
            break;
        }
    }
    let machine = &mut receiving.machine;
    let counts = [machine.received(), machine.released(), machine.received_bytes(), machine.next_number()];
    let ending = machine.is_ending();
    let mut answer = Vec::new();
    machine.poll_control(false, &mut answer);
    // What is promised follows the flow between two acks, so it depends on when they are sent; a pong does not.
    answer.truncate(if answer.first() == Some(&8) { HEADER_LEN + 8 } else { 0 });
    (result, receiving.values, counts, ending, answer)
}

/// One frame of every kind that a receiver may get, in an order in which it may get them.
fn one_of_each() -> Vec<u8> {
    [
        frame(Control::Resume { first: 1, maybe_seen_until: 2 }),
        frame(Control::Checkpoint { next: 1, waiting: 500 }),
        data(b""),
        data(b"whole"),
        frame(Control::Need { waiting: 500, next_size: 24 }),
        data(b"after a request"),
        frame(Control::Skip { count: 3 }),
        raw(0x80, b"of a later version"),
        data(b"after a run of dropped ones"),
        raw(Kind::More as u8, b"a value in two pieces, "),
        frame(Control::Ping { token: 99 }),
        raw(0xFF, b""),
        data(b"with others between them"),
        frame(Control::Checkpoint { next: 9, waiting: 0 }),
        frame(Control::Pong { token: 1 }),
        data(b"the last"),
        frame(Control::Fin),
    ]
    .concat()
}

/// every frame kind that goes to a receiver, split at every byte.
#[test]
fn a_stream_to_the_receiver_may_be_split_at_every_byte() {
    let stream = one_of_each();
    let receiving = || Receiving::welcomed(config(), &hello());
    let whole = outcome_of(receiving(), [&stream[..]].into_iter());
    assert_eq!(whole.0, Ok(()));
    assert_eq!(whole.1.iter().map(|value| value.number).collect::<Vec<_>>(), [1, 2, 3, 7, 8, 9]);
    assert_eq!(whole.1[4].payload, b"a value in two pieces, with others between them");
    assert!(whole.3, "the end was announced");
    for at in 0..=stream.len() {
        let (before, after) = stream.split_at(at);
        assert_eq!(outcome_of(receiving(), [before, after].into_iter()), whole, "split at byte {at}");
    }
    assert_eq!(outcome_of(receiving(), stream.chunks(1)), whole, "byte by byte");
}

/// the same with ABORT, after which nothing else comes.
#[test]
fn an_abort_may_be_split_at_every_byte() {
    let stream =
        [frame(Control::Resume { first: 1, maybe_seen_until: 0 }), data(b"x"), frame(Control::Abort)];
    let stream = stream.concat();
    for at in 0..=stream.len() {
        let mut receiving = Receiving::welcomed(config(), &hello());
        for chunk in [&stream[..at], &stream[at..]] {
            receiving.feed(chunk).unwrap();
        }
        assert!(receiving.machine.take_abort(), "split at byte {at}");
        assert_eq!(receiving.values.len(), 1);
    }
}

/// values in buffers of their own, cut near everything that begins or ends in them.
#[test]
fn large_values_may_be_split_near_every_boundary() {
    let pattern = |len: usize| (0..len).map(|index| (index * 7 % 251) as u8).collect::<Vec<u8>>();
    let large = pattern(MAX_PAYLOAD + 70_000);
    let stream = [
        data(b"before"),
        data(&pattern(40_000)),
        raw(Kind::More as u8, &large[..MAX_PAYLOAD]),
        frame(Control::Checkpoint { next: 3, waiting: 9 }),
        data(&large[MAX_PAYLOAD..]),
        data(b"after"),
        data(&pattern(32 * 1024 - HEADER_LEN)),
        data(&pattern(32 * 1024 - HEADER_LEN + 1)),
        data(b"last"),
    ];
    let mut boundaries = vec![0];
    for part in &stream {
        boundaries.push(boundaries.last().unwrap() + part.len());
    }
    let stream = stream.concat();
    let receiving = || Receiving::resumed(config(), &hello());
    let whole = outcome_of(receiving(), [&stream[..]].into_iter());
    assert_eq!(whole.1.len(), 7);
    assert_eq!(whole.1[2].payload, large);
    for boundary in boundaries {
        for at in boundary.saturating_sub(6)..=(boundary + 6).min(stream.len()) {
            let (before, after) = stream.split_at(at);
            assert_eq!(outcome_of(receiving(), [before, after].into_iter()), whole, "split at byte {at}");
        }
    }
    for size in [1_000, 4_096, 65_535, 65_536, 65_537, 262_148] {
        assert_eq!(outcome_of(receiving(), stream.chunks(size)), whole, "chunks of {size}");
    }
}

/// One frame of every kind that a sender may get.
fn one_of_each_back() -> (Vec<u8>, Vec<Control>) {
    let controls = vec![
        Control::Ack { released: 1, max_values: 2, max_bytes: 3 },
        Control::Ping { token: 4 },
        Control::Pong { token: 5 },
        Control::Aborted { released: 6, taken: 7 },
        Control::Closed { released: 8 },
        Control::Detach,
    ];
    let mut stream = raw(0x90, b"of a later version");
    for control in &controls {
        control.encode(&mut stream);
        stream.extend(raw(0xFE, b""));
    }
    (stream, controls)
}

fn controls_of<'a>(chunks: impl Iterator<Item = &'a [u8]>) -> Vec<Control> {
    let mut reader = ControlReader::new();
    let mut found = Vec::new();
    for chunk in chunks {
        let handled = reader.handle_bytes(chunk, |control| {
            found.push(control);
            Ok(())
        });
        handled.expect("every frame is well formed");
    }
    found
}

/// every frame kind that goes to a sender, split at every byte.
#[test]
fn a_stream_to_the_sender_may_be_split_at_every_byte() {
    let (stream, controls) = one_of_each_back();
    for at in 0..=stream.len() {
        let (before, after) = stream.split_at(at);
        assert_eq!(controls_of([before, after].into_iter()), controls, "split at byte {at}");
    }
    assert_eq!(controls_of(stream.chunks(1)), controls, "byte by byte");
}

/// So many random frames to a receiver, values of every size among them.
fn random_frames(count: usize, numbers: &mut Numbers) -> Vec<u8> {
    let mut stream = Vec::new();
    let mut next = 1;
    for _ in 0..count {
        let byte = numbers.next() as u8;
        match numbers.below(100) {
            0..70 => {
                let len = match numbers.below(400) {
                    0 => numbers.below(300_000),
                    1..5 => 32_000 + numbers.below(2_000),
                    5..40 => numbers.below(3_000),
                    _ => numbers.below(100),
                };
                let payload = vec![byte; len as usize];
                let (pieces, rest) = payload.as_chunks::<MAX_PAYLOAD>();
                let whole =
                    if rest.is_empty() && !pieces.is_empty() { pieces.len() - 1 } else { pieces.len() };
                for piece in &pieces[..whole] {
                    stream.extend(raw(Kind::More as u8, piece));
                }
                stream.extend(data(&payload[whole * MAX_PAYLOAD..]));
                next += 1;
            }
            70..80 => stream.extend(frame(Control::Checkpoint { next, waiting: numbers.below(1 << 20) })),
            80..88 => {
                let count = 1 + numbers.below(9);
                stream.extend(frame(Control::Skip { count }));
                next += count;
            }
            88..94 => stream.extend(raw(0x80 | byte, &vec![byte; numbers.below(2_000) as usize])),
            94..97 => stream.extend(frame(Control::Pong { token: numbers.next() })),
            _ => stream.extend(frame(Control::Ping { token: numbers.next() })),
        }
    }
    stream
}

/// Pieces of random sizes: mostly tiny ones, or as large as a read, by turns of the seed.
fn random_chunks<'a>(stream: &'a [u8], numbers: &mut Numbers) -> Vec<&'a [u8]> {
    let bound = [16, 300, 5_000, 70_000, 400_000][numbers.below(5) as usize];
    let mut chunks = Vec::new();
    let mut rest = stream;
    while !rest.is_empty() {
        let (chunk, after) = rest.split_at((1 + numbers.below(bound) as usize).min(rest.len()));
        chunks.push(chunk);
        rest = after;
    }
    chunks
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    /// 10,000 frames, joined and cut at random.
    #[test]
    fn ten_thousand_frames_may_be_coalesced_at_random(seed in any::<u64>()) {
        let mut numbers = Numbers::new(seed);
        let stream = random_frames(10_000, &mut numbers);
        let receiving = || Receiving::resumed(config(), &hello());
        let whole = outcome_of(receiving(), [&stream[..]].into_iter());
        prop_assert_eq!(&whole.0, &Ok(()));
        let cut = outcome_of(receiving(), random_chunks(&stream, &mut numbers).into_iter());
        prop_assert!(cut == whole, "the outcome differs");
    }

    /// the same towards a sender.
    #[test]
    fn ten_thousand_answers_may_be_coalesced_at_random(seed in any::<u64>()) {
        let mut numbers = Numbers::new(seed);
        let mut stream = Vec::new();
        let mut expected = Vec::new();
        for _ in 0..10_000 {
            let (a, b, c) = (numbers.next(), numbers.next(), numbers.next());
            let control = match numbers.below(7) {
                0 => Control::Detach,
                1 => Control::Aborted { released: a, taken: b },
                2 => Control::Closed { released: a },
                3 => Control::Ping { token: a },
                4 => Control::Pong { token: a },
                5 => {
                    stream.extend(raw(0x80 | a as u8, &vec![b as u8; numbers.below(1_000) as usize]));
                    continue;
                }
                _ => Control::Ack { released: a, max_values: b, max_bytes: c },
            };
            control.encode(&mut stream);
            expected.push(control);
        }
        prop_assert_eq!(controls_of(random_chunks(&stream, &mut numbers).into_iter()), expected);
    }
}
