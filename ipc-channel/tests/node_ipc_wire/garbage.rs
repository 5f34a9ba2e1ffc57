//! Bytes of no peer at all: an error or an event, never a panic, and never more memory than the limits grant.

use ipc_channel::events::node_ipc::{Delimiter, Guard, Profile, Reader, WireError, decode, decode_within};
use proptest::{collection::vec, prelude::*};

/// The most bytes of a frame in these tests.
const MAX: usize = 64;

/// The pieces that JSON is made of, so that chance gets somewhere.
const PIECES: &[&str] = &[
    "{",
    "}",
    "[",
    "]",
    "\"",
    ":",
    ",",
    "\\",
    "\\u",
    "\\ud83e",
    "\\udd80",
    "d800",
    "\x0c",
    " ",
    "\n",
    "-",
    "0",
    "1",
    ".",
    "e",
    "+",
    "true",
    "false",
    "null",
    "\"type\":",
    "\"data\":",
    "\"a\"",
    "{\"type\":\"a\"",
    "é",
    "🦀",
    "\0",
];

fn almost_json() -> impl Strategy<Value = Vec<u8>> {
    let piece = proptest::sample::select(PIECES).prop_map(|piece| piece.as_bytes().to_vec());
    let piece = prop_oneof![8 => piece, 1 => vec(any::<u8>(), 0..4)];
    vec(piece, 0..48).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in vec(any::<u8>(), 0..256), max_depth in 0..200_usize) {
        let _ = decode(&bytes);
        let _ = decode_within(&bytes, max_depth);
    }

    /// W-09: whatever is taken for an event is JSON in the eyes of another parser, and the other way round.
    #[test]
    fn this_scanner_and_another_parser_agree(bytes in almost_json()) {
        let other = serde_json::from_slice::<serde::de::IgnoredAny>(&bytes);
        match decode(&bytes) {
            Ok(envelope) => {
                prop_assert!(other.is_ok(), "{:?}", other);
                if let Some(data) = envelope.data {
                    prop_assert!(serde_json::from_slice::<serde::de::IgnoredAny>(data).is_ok());
                }
            }
            Err(WireError::NotJson { at }) => {
                prop_assert!(at <= bytes.len());
                prop_assert!(other.is_err(), "{}", String::from_utf8_lossy(&bytes));
            }
            Err(_) => {}
        }
    }

    /// N-35: between two chunks the reader holds no more than a frame of the largest size and its delimiter.
    #[test]
    fn a_reader_holds_a_frame_and_its_delimiter_at_most(
        bytes in prop_oneof![almost_json(), vec(any::<u8>(), 0..512), Just(vec![b'x'; 4_096])],
        size in 1..64_usize,
        is_guarded in any::<bool>(),
    ) {
        let delimiter = Delimiter::new("\x0c\x0c").unwrap();
        let profile = match is_guarded {
            true => Profile::Guarded(Guard::default().with_max_message(MAX)),
            false => Profile::Compatible,
        };
        let mut reader = Reader::new(&delimiter, profile, MAX);
        for chunk in bytes.chunks(size) {
            reader.handle_bytes(chunk);
            loop {
                match reader.poll_frame() {
                    Ok(Some(frame)) => prop_assert!(frame.len() <= MAX),
                    Ok(None) => break,
                    Err(WireError::TooLarge { max, .. }) => {
                        prop_assert_eq!((max, reader.pending()), (MAX, 0));
                        break;
                    }
                    Err(_) => {}
                }
            }
            prop_assert!(reader.pending() <= MAX + delimiter.as_bytes().len());
        }
    }
}
