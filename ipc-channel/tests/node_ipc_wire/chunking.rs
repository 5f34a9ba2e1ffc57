//! The stream is cut anywhere and comes out the same.

use ipc_channel::events::node_ipc::{Delimiter, Profile, Reader, WireError, Writer};
use proptest::{collection::vec, prelude::*};
use serde_json::{Value, json};

use super::support::{Event, MAX, read, reader, writer};

/// W-10: several frames, cut once at each byte, and in chunks of 1, 2, 3, 7 and 4,096 bytes.
#[test]
fn every_cut_gives_the_same_events() {
    let payloads = [json!({"a": [1, "ü🦀"]}), json!(""), json!("\u{c}"), json!(null), json!({"type": "x"})];
    let mut wire = Vec::new();
    let mut sent = Vec::new();
    for (index, payload) in payloads.iter().enumerate() {
        let name = format!("event \u{c} é {index}");
        writer().encode(&name, Some(payload), &mut wire).unwrap();
        sent.push(Ok((name, Some(payload.to_string()))));
    }
    assert_eq!(wire.iter().filter(|byte| **byte == 0x0c).count(), payloads.len());
    for cut in 0..=wire.len() {
        assert_eq!(read(reader(), [&wire[..cut], &wire[cut..]]), (sent.clone(), Ok(())), "cut at {cut}");
    }
    for size in [1, 2, 3, 7, 4_096] {
        assert_eq!(read(reader(), wire.chunks(size)), (sent.clone(), Ok(())), "chunks of {size}");
    }
}

/// N-12: delimiters of several bytes, each stream with its own, cut anywhere.
#[test]
fn a_delimiter_of_several_bytes_may_be_cut_too() {
    for delimiter in [&b"\n"[..], b"##", b"\r\n", b"<<end>>", b"##-##", "→".as_bytes(), b"}\n", b"\xff\xfe"]
    {
        let delimiter = Delimiter::new(delimiter).unwrap();
        let mut wire = Vec::new();
        let writer = Writer::new(&delimiter, Profile::Compatible, MAX);
        for number in 0..3 {
            writer.encode("n", Some(&json!({"#": number})), &mut wire).unwrap();
        }
        let sent: Vec<_> = (0..3).map(|n| Ok(("n".to_owned(), Some(format!(r##"{{"#":{n}}}"##))))).collect();
        for cut in 0..=wire.len() {
            let reader = Reader::new(&delimiter, Profile::Compatible, MAX);
            assert_eq!(read(reader, [&wire[..cut], &wire[cut..]]), (sent.clone(), Ok(())));
        }
        for size in [1, 2, 3, 7] {
            let reader = Reader::new(&delimiter, Profile::Compatible, MAX);
            assert_eq!(read(reader, wire.chunks(size)), (sent.clone(), Ok(())));
        }
    }
}

#[test]
fn a_frame_that_holds_its_delimiter_is_refused_and_leaves_nothing() {
    let refused = [
        (&b"##"[..], "a", json!("## heading")),
        (b"##", "a##b", json!(1)),
        (b"\"}", "a", json!("text")),
        (b"}}", "a", json!({"b": 1})),
        (b"}]", "a", json!([{}])),
        (b"7", "a", json!(17)),
        ("é".as_bytes(), "a", json!("café")),
        (b"\xa9", "a", json!("café")),
    ];
    for (bytes, name, payload) in refused {
        let Ok(delimiter) = Delimiter::new(bytes) else {
            assert_eq!(bytes, b"}}", "it ends every frame too early");
            continue;
        };
        let mut wire = b"before".to_vec();
        let writer = Writer::new(&delimiter, Profile::Compatible, MAX);
        let result = writer.encode(name, Some(&payload), &mut wire);
        assert!(matches!(result, Err(WireError::ContainsDelimiter { .. })), "{result:?} for {bytes:?}");
        assert_eq!(wire, b"before");
    }
}

#[test]
fn delimiters_that_every_frame_holds_are_refused() {
    for bytes in ["", "{", "}", "}}", "\"", "\":\"", "type", "t", ":", ",", ",\"data\":", "{\"type\":\""] {
        assert!(Delimiter::new(bytes).is_err(), "{bytes:?}");
    }
    for bytes in ["\u{c}", "\n", "\0", "#", "}\n", "} ", "types", "7", "[", "{}", "->", "}{"] {
        assert!(Delimiter::new(bytes).is_ok(), "{bytes:?}");
    }
}

#[test]
fn empty_frames_are_skipped_and_counted() {
    let mut reader = reader();
    reader.handle_bytes(b"\x0c\x0c{\"type\":\"a\"}\x0c\x0c{\"type\":\"b\"}\x0c\x0c");
    let mut names = Vec::new();
    while let Some(frame) = reader.poll_frame().unwrap() {
        names.push(frame.name().to_owned());
    }
    assert_eq!(
        (names, reader.empty_frames(), reader.pending()),
        (vec!["a".to_owned(), "b".to_owned()], 4, 0)
    );
}

#[test]
fn a_stream_that_ends_within_a_frame_says_how_much_is_missing_its_end() {
    let mut reader = reader();
    reader.handle_bytes(b"{\"type\":\"a\"}\x0c{\"type\"");
    assert!(reader.poll_frame().unwrap().is_some());
    assert!(reader.poll_frame().unwrap().is_none());
    assert_eq!(reader.pending(), 7);
    assert_eq!(reader.handle_end(), Err(WireError::Truncated { have: 7 }));
}

#[test]
fn a_frame_keeps_what_it_was_while_the_stream_goes_on() {
    let mut reader = reader();
    reader.handle_bytes(b"{\"type\":\"a\",\"data\":[1]}\x0c");
    let frame = reader.poll_frame().unwrap().unwrap();
    let copy = frame.clone();
    reader.handle_bytes(&[b'x'; 10_000]);
    assert_eq!((copy.name(), copy.data().as_deref(), copy.len()), ("a", Some(&b"[1]"[..]), 23));
    assert_eq!(frame.envelope(), copy.envelope());
    assert_eq!(format!("{frame:?}"), r#"Envelope { name: "a", data_len: Some(3), .. }"#, "no data in logs");
}

/// Bytes may come into the reader's own buffer instead.
#[test]
fn the_buffer_that_is_lent_is_read_like_chunks() {
    let mut reader = reader();
    for chunk in b"{\"type\":\"a\"}\x0c{\"type\":\"b\"}\x0c".chunks(5) {
        reader.buffer_mut().extend_from_slice(chunk);
    }
    assert_eq!(reader.poll_frame().unwrap().unwrap().name(), "a");
    assert_eq!(reader.poll_frame().unwrap().unwrap().name(), "b");
    assert!(reader.poll_frame().unwrap().is_none());
}

fn payloads() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
        "[\\x00-\\x20\"\\\\{}]{0,8}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 6, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..6).prop_map(Value::from),
            vec((any::<String>(), inner), 0..6)
                .prop_map(|entries| Value::Object(entries.into_iter().collect())),
        ]
    })
}

proptest! {
    /// W-10, W-01: what is written comes out again, however it is cut, and the data is the value.
    #[test]
    fn events_survive_any_chunking(
        events in vec((any::<String>(), proptest::option::of(payloads())), 0..6),
        size in 1..64_usize,
    ) {
        let mut wire = Vec::new();
        let mut kept = Vec::new();
        for (name, data) in &events {
            if writer().encode(name, data.as_ref(), &mut wire).is_ok() {
                kept.push((name, data));
            }
        }
        prop_assert_eq!(kept.len(), events.len());
        let (got, end) = read(reader(), wire.chunks(size));
        prop_assert_eq!(end, Ok(()));
        prop_assert_eq!(got.len(), kept.len());
        for (event, (name, data)) in got.into_iter().zip(kept) {
            let (got_name, got_data): Event = event.unwrap();
            prop_assert_eq!(&got_name, name);
            prop_assert_eq!(got_data.is_some(), data.is_some());
            if let (Some(text), Some(data)) = (got_data, data) {
                let read: Value = serde_json::from_str(&text).unwrap();
                prop_assert!(alike(&read, data), "{} is not {}", read, data);
            }
        }
    }
}

/// Equal, but for how a number is held: JavaScript has one kind, which prints `5.0` as `5`.
fn alike(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Number(one), Value::Number(other)) if one != other => one.as_f64() == other.as_f64(),
        (Value::Array(one), Value::Array(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(one, other)| alike(one, other))
        }
        (Value::Object(one), Value::Object(other)) => {
            let same = |(key, value)| other.get(key).is_some_and(|other| alike(value, other));
            one.len() == other.len() && one.iter().all(same)
        }
        _ => one == other,
    }
}
