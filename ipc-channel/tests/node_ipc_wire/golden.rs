//! Frames against bytes that were written by hand, after what `JSON.stringify` prints.

use std::collections::BTreeMap;

use ipc_channel::events::node_ipc::{decode, decode_within};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::support::{frame, writer};

/// W-01: the frames of the format's description, to the byte.
#[test]
fn the_described_frames_are_written_to_the_byte() {
    let mut wire = Vec::new();
    writer().encode("message", Some("hello"), &mut wire).unwrap();
    let described = [
        0x7b, 0x22, 0x74, 0x79, 0x70, 0x65, 0x22, 0x3a, 0x22, 0x6d, 0x65, 0x73, 0x73, 0x61, 0x67, 0x65, 0x22,
        0x2c, 0x22, 0x64, 0x61, 0x74, 0x61, 0x22, 0x3a, 0x22, 0x68, 0x65, 0x6c, 0x6c, 0x6f, 0x22, 0x7d, 0x0c,
    ];
    assert_eq!(wire, described);
    writer().encode("app.ping", Some(&json!({})), &mut wire).unwrap();
    assert_eq!(wire[described.len()..], *b"{\"type\":\"app.ping\",\"data\":{}}\x0c");
}

/// N-10: each payload has the bytes that Node would print, and is read back as it was.
#[test]
fn payloads_are_written_as_javascript_prints_them_and_read_back() {
    let payloads = [
        (json!({"a": 1, "b": [true, null]}), r#"{"a":1,"b":[true,null]}"#),
        (json!([1, "two", [3]]), r#"[1,"two",[3]]"#),
        (json!({}), "{}"),
        (json!([]), "[]"),
        (json!("text"), r#""text""#),
        (json!(""), r#""""#),
        (json!(42), "42"),
        (json!(0), "0"),
        (json!(-1), "-1"),
        (json!(0.1), "0.1"),
        (json!(true), "true"),
        (json!(false), "false"),
        (json!(null), "null"),
        (json!("å 字 🦀 \u{2028} \u{7f} \u{fffd}"), "\"å 字 🦀 \u{2028} \u{7f} \u{fffd}\""),
        (json!("\u{8}\u{c}\n\r\t\"\\/"), r#""\b\f\n\r\t\"\\/""#),
        (json!("\0\u{1}\u{b}\u{1f}"), r#""\u0000\u0001\u000b\u001f""#),
        (json!("before\u{c}after"), r#""before\fafter""#),
        (json!({"\u{c}é\"": "key"}), r#"{"\fé\"":"key"}"#),
        (json!({"type": "inner", "data": {"type": 1}}), r#"{"data":{"type":1},"type":"inner"}"#),
    ];
    for (payload, text) in payloads {
        let written = frame("message", Some(&payload)).unwrap();
        assert_eq!(written, format!(r#"{{"type":"message","data":{text}}}"#));
        let envelope = decode(written.as_bytes()).unwrap();
        assert_eq!(envelope.name, "message");
        assert_eq!(envelope.data, Some(text.as_bytes()));
        assert_eq!(serde_json::from_slice::<serde_json::Value>(text.as_bytes()).unwrap(), payload);
    }
}

/// N-10: absent data is an absent key, both ways.
#[test]
fn absent_data_is_an_absent_key() {
    let written = frame("app.ping", None::<&()>).unwrap();
    assert_eq!(written, r#"{"type":"app.ping"}"#);
    assert_eq!(decode(written.as_bytes()).unwrap().data, None);
    let null = frame("app.ping", Some(&())).unwrap();
    assert_eq!(null, r#"{"type":"app.ping","data":null}"#);
    assert_eq!(decode(null.as_bytes()).unwrap().data, Some(&b"null"[..]));
}

/// N-10: a hundred arrays within each other arrive where the limit is the format's own, as it is without a guard.
#[test]
fn data_nested_a_hundred_deep_is_written_and_read() {
    let nested = (0..99).fold(json!([]), |inner, _| json!([inner]));
    let written = frame("deep", Some(&nested)).unwrap();
    assert_eq!(written, format!(r#"{{"type":"deep","data":{}{}}}"#, "[".repeat(100), "]".repeat(100)));
    let envelope = decode_within(written.as_bytes(), 100).unwrap();
    assert_eq!(serde_json::from_slice::<serde_json::Value>(envelope.data.unwrap()).unwrap(), nested);
}

/// W-01: names are strings like others.
#[test]
fn names_are_escaped_like_any_string() {
    let names = [
        ("", r#""""#),
        ("connect:<IN>", r#""connect:<IN>""#),
        ("a/b", r#""a/b""#),
        ("\u{c}\"\\\u{1f}", r#""\f\"\\\u001f""#),
        ("événement", r#""événement""#),
    ];
    for (name, text) in names {
        let written = frame(name, Some(&1)).unwrap();
        assert_eq!(written, format!(r#"{{"type":{text},"data":1}}"#));
        assert_eq!(decode(written.as_bytes()).unwrap().name, name);
    }
}

#[test]
fn types_are_written_as_their_shape() {
    #[derive(Serialize, Deserialize, Debug, PartialEq)]
    enum Shape {
        Unit,
        Newtype(u8),
        Tuple(u8, char),
        Struct { last: u8, first: Option<u8> },
    }

    let shapes = [
        (Shape::Unit, r#""Unit""#),
        (Shape::Newtype(1), r#"{"Newtype":1}"#),
        (Shape::Tuple(1, 'ü'), r#"{"Tuple":[1,"ü"]}"#),
        (Shape::Struct { last: 1, first: None }, r#"{"Struct":{"last":1,"first":null}}"#),
    ];
    for (shape, text) in shapes {
        let written = frame("shape", Some(&shape)).unwrap();
        assert_eq!(written, format!(r#"{{"type":"shape","data":{text}}}"#));
        assert_eq!(serde_json::from_str::<Shape>(text).unwrap(), shape);
    }
    let keyed = BTreeMap::from([(1, 'a'), (10, 'b')]);
    assert_eq!(frame("keyed", Some(&keyed)).unwrap(), r#"{"type":"keyed","data":{"1":"a","10":"b"}}"#);
}
