//! Limits: one typed error each, in both directions, and what a connection does after it.

use std::collections::BTreeMap;

use ipc_channel::events::node_ipc::{Delimiter, Envelope, Guard, Profile, Reader, WireError, Writer, decode};
use ipc_transport::EncodeError;
use serde_json::json;

use super::support::{MAX, read, reader, writer};

fn guarded(guard: &Guard) -> (Writer, Reader) {
    let profile = || Profile::Guarded(guard.clone());
    let delimiter = Delimiter::default();
    (Writer::new(&delimiter, profile(), MAX), Reader::new(&delimiter, profile(), MAX))
}

/// The only thing that comes out of these frames under this guard.
fn refusal(guard: &Guard, wire: &str) -> WireError {
    let (_, reader) = guarded(guard);
    let (mut results, _) = read(reader, [format!("{wire}\u{c}").as_bytes()]);
    assert_eq!(results.len(), 1);
    results.remove(0).unwrap_err()
}

/// N-35: the size of a frame is limited both ways, and what was begun is taken back.
#[test]
fn a_frame_over_the_size_limit_is_refused_both_ways() {
    let guard = Guard::default().with_max_message(40);
    let (writer, mut reader) = guarded(&guard);
    let mut wire = b"before".to_vec();
    let text = "x".repeat(40 - r#"{"type":"a","data":""}"#.len());
    writer.encode("a", Some(&text), &mut wire).unwrap();
    assert_eq!(wire.len(), 6 + 40 + 1);
    let larger = format!("{text}x");
    let refused = writer.encode("a", Some(&larger), &mut wire);
    assert!(matches!(refused, Err(WireError::Encode(EncodeError::TooLarge { max: 40, .. }))), "{refused:?}");
    assert_eq!(wire.len(), 6 + 40 + 1, "nothing of it is left");

    reader.handle_bytes(&wire[6..]);
    assert!(reader.poll_frame().unwrap().is_some());
    reader.handle_bytes(format!("{{\"type\":\"a\",\"data\":\"{larger}\"}}\u{c}").as_bytes());
    let refused = WireError::TooLarge { len: 41, max: 40 };
    assert_eq!(reader.poll_frame().unwrap_err(), refused);
    reader.handle_bytes(b"{\"type\":\"a\"}\x0c");
    assert_eq!(reader.poll_frame().unwrap_err(), refused, "the stream cannot be followed any further");
    assert_eq!((reader.pending(), reader.handle_end()), (0, Err(refused.clone())));
    assert_eq!(guard.check_out("a", 41), Err(refused));
}

/// N-35: without a guard there is a limit too, the caller's own.
#[test]
fn a_reader_without_a_guard_is_bounded_as_well() {
    let mut reader = Reader::new(&Delimiter::default(), Profile::Compatible, 16);
    for _ in 0..1_000 {
        reader.handle_bytes(&[b'x'; 16]);
        let _ = reader.poll_frame();
        assert!(reader.pending() <= 17);
    }
    assert_eq!(reader.poll_frame().unwrap_err(), WireError::TooLarge { len: 32, max: 16 });
}

/// N-35: names have at most 256 bytes of UTF-8.
#[test]
fn a_name_over_its_limit_is_refused_both_ways() {
    let guard = Guard::default();
    let (writer, _) = guarded(&guard);
    for (fits, exceeds) in [("n".repeat(256), "n".repeat(257)), ("é".repeat(128), "é".repeat(128) + "n")] {
        assert_eq!(writer.encode(&fits, Some(&1), &mut Vec::new()), Ok(()));
        let refused = WireError::NameTooLong { len: 257, max: 256 };
        assert_eq!(writer.encode(&exceeds, Some(&1), &mut Vec::new()), Err(refused.clone()));
        assert_eq!(refusal(&guard, &format!(r#"{{"type":"{exceeds}"}}"#)), refused);
        assert_eq!(guard.check_in(&Envelope { name: fits.into(), data: None }), Ok(()));
    }
}

/// N-35: data nests as deep as the guard says, both ways.
#[test]
fn data_nested_over_the_limit_is_refused_both_ways() {
    let guard = Guard::default().with_max_depth(2);
    let (writer, _) = guarded(&guard);
    assert_eq!(writer.encode("a", Some(&[[1]]), &mut Vec::new()), Ok(()));
    let refused = writer.encode("a", Some(&[[[1]]]), &mut Vec::new());
    assert_eq!(refused, Err(WireError::Encode(EncodeError::Depth { max: 2 })));
    assert_eq!(refusal(&guard, r#"{"type":"a","data":[[[1]]]}"#), WireError::Depth { max: 2 });
}

/// N-36: what is not listed is refused both ways, and the error does not say what it was.
#[test]
fn an_unlisted_event_is_refused_both_ways_without_its_name() {
    let guard = Guard::default().with_allowed(["message", "good bye"]);
    let (writer, reader) = guarded(&guard);
    let mut wire = Vec::new();
    writer.encode("message", Some(&1), &mut wire).unwrap();
    writer.encode("good bye", None::<&()>, &mut wire).unwrap();
    let (events, _) = read(reader, [&wire[..]]);
    assert!(events.iter().all(Result::is_ok) && events.len() == 2);

    let sent = writer.encode("launch", Some(&1), &mut wire).unwrap_err();
    let received = refusal(&guard, r#"{"type":"launch","data":"launch"}"#);
    for error in [sent, received] {
        assert_eq!(error, WireError::NotAllowed);
        assert!(!format!("{error} {error:?}").contains("launch"));
    }
}

/// N-36: names that mean something to JavaScript or to node-ipc are refused both ways, also when they are listed.
#[test]
fn reserved_names_are_refused_both_ways() {
    let reserved = [
        "__proto__",
        "constructor",
        "prototype",
        "toString",
        "hasOwnProperty",
        "valueOf",
        "connect",
        "disconnect",
        "destroy",
        "error",
        "data",
        "close",
        "start",
        "*",
        "socket.disconnected",
        "get.events.listening",
        "get.events.broadcasting",
        "events.listening",
        "events.broadcasting",
    ];
    let guard = Guard::default().with_allowed(reserved);
    let (writer, _) = guarded(&guard);
    for name in reserved {
        assert_eq!(writer.encode(name, Some(&1), &mut Vec::new()), Err(WireError::Reserved { name }));
        assert_eq!(refusal(&guard, &format!(r#"{{"type":"{name}"}}"#)), WireError::Reserved { name });
        let escaped = format!(r#"{{"type":"\u{:04x}{}"}}"#, name.as_bytes()[0], &name[1..]);
        assert_eq!(refusal(&guard, &escaped), WireError::Reserved { name }, "an escape hides nothing");
    }
    let guard = Guard::default();
    for name in ["Constructor", "connected", "my.error", "__proto", "data:1"] {
        assert_eq!(guard.check_out(name, 0), Ok(()));
    }
}

/// Names of JavaScript objects are never sent to a Node peer, as they may end its process; here they are names.
#[test]
fn without_a_guard_names_of_objects_are_taken_and_not_sent() {
    for name in ["__proto__", "constructor", "toString"] {
        let sent = writer().encode(name, Some(&1), &mut Vec::new());
        assert_eq!(sent, Err(WireError::Reserved { name }));
        let (events, _) = read(reader(), [format!("{{\"type\":\"{name}\"}}\u{c}").as_bytes()]);
        assert_eq!(events, [Ok((name.to_owned(), None))]);
    }
    for name in ["error", "data", "connect", "disconnect", "prototype"] {
        assert_eq!(writer().encode(name, Some(&1), &mut Vec::new()), Ok(()));
    }
}

/// As node-ipc 9.2.1, which raises an error for such a frame and reads the next one.
#[test]
fn without_a_guard_a_bad_frame_does_not_end_the_stream() {
    let wire = b"hello\x0c{\"type\":\"a\"}\x0c{}\x0c{\"type\":5}\x0c{\"type\":\"b\"}\x0c";
    for size in [1, 5, 1_000] {
        let (results, end) = read(reader(), wire.chunks(size));
        let expected = [
            Err(WireError::NotJson { at: 0 }),
            Ok(("a".to_owned(), None)),
            Err(WireError::TypeMissing),
            Err(WireError::TypeNotAString),
            Ok(("b".to_owned(), None)),
        ];
        assert_eq!((&results[..], end), (&expected[..], Ok(())));
        for error in results.into_iter().filter_map(Result::err) {
            assert!(!Profile::Compatible.closes_after(&error));
            assert!(Profile::Guarded(Guard::default()).closes_after(&error));
        }
    }
    assert!(Profile::Compatible.closes_after(&WireError::TooLarge { len: 2, max: 1 }));
}

#[test]
fn a_value_that_fails_to_serialize_leaves_nothing() {
    let mut wire = b"before".to_vec();
    let keyed = BTreeMap::from([(vec![1], 1)]);
    let failed = writer().encode("a", Some(&json!([1, 2])), &mut wire).and_then(|()| {
        wire.truncate(6);
        writer().encode("a", Some(&(1, keyed)), &mut wire)
    });
    assert!(matches!(failed, Err(WireError::Encode(EncodeError::Custom { .. }))), "{failed:?}");
    assert_eq!(wire, b"before");
}

/// The limit counts from where the frame begins, so that many may be written into one buffer.
#[test]
fn the_size_limit_is_of_each_frame_and_not_of_the_buffer() {
    let writer = Writer::new(&Delimiter::default(), Profile::Compatible, 21);
    let mut wire = Vec::new();
    for number in 0..1_000 {
        writer.encode("a", Some(&(number % 10)), &mut wire).unwrap();
    }
    assert_eq!(wire.len(), 1_000 * 22);
    assert!(decode(&wire[..21]).is_ok());
    assert_eq!((writer.max_message(), writer.profile()), (21, &Profile::Compatible));
}
