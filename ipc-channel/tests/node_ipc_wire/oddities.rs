//! What is unusual and has a documented result, as the table of the room says.

use ipc_channel::events::node_ipc::{DEFAULT_MAX_DEPTH, MAX_DEPTH, WireError, decode, decode_within};

/// W-09: any order of keys, further keys, white space and escapes in keys.
#[test]
fn envelopes_of_any_order_and_with_further_keys_are_read() {
    let frames = [
        r#"{"data":1,"type":"n"}"#,
        r#"{"id":{"type":"inner","data":2},"type":"n","x":[[],{}],"data":1,"y":"}"}"#,
        " { \"type\" :\t\"n\" ,\r\n \"data\" : 1 } ",
        r#"{"\u0074ype":"n","d\u0061ta":1}"#,
        r#"{"type":"\u006e","data":1}"#,
        r#"{"__proto__":{"type":"x"},"constructor":0,"type":"n","data":1}"#,
    ];
    for frame in frames {
        let envelope = decode(frame.as_bytes()).unwrap();
        assert_eq!((&*envelope.name, envelope.data), ("n", Some(&b"1"[..])), "{frame}");
    }
}

/// W-09: of a key that is given twice the last counts, as in Node.
#[test]
fn the_last_of_duplicate_keys_counts() {
    let frame = br#"{"type":"a","data":1,"type":5,"data":{"x":1,"x":2},"type":"b","data":[3]}"#;
    let envelope = decode(frame).unwrap();
    assert_eq!((&*envelope.name, envelope.data), ("b", Some(&b"[3]"[..])));
    assert_eq!(decode(br#"{"type":"a","type":5}"#), Err(WireError::TypeNotAString));
}

/// W-09: a lone surrogate is an error in a name, and nothing that data could not hold as text.
#[test]
fn lone_surrogates_are_refused_in_names_and_kept_in_data() {
    for lone in [r"\ud800", r"\udc00", r"\ud800x", r"\ud800\n", r"\ud800\ud800", r"\ud800\u0041", r"a\udfff"]
    {
        let frame = format!(r#"{{"type":"{lone}"}}"#);
        assert_eq!(decode(frame.as_bytes()), Err(WireError::LoneSurrogate), "{lone}");
        let frame = format!(r#"{{"type":"a","data":"{lone}","{lone}":1}}"#);
        let data = decode(frame.as_bytes()).unwrap().data.unwrap();
        assert_eq!(data, format!(r#""{lone}""#).as_bytes());
        assert!(serde_json::from_slice::<String>(data).is_err(), "no Rust string holds it");
    }
    assert_eq!(decode(br#"{"type":"\ud83e\udd80\uD83E\uDD80"}"#).unwrap().name, "🦀🦀");
}

/// W-09: numbers are text until somebody reads them.
#[test]
fn numbers_that_javascript_would_change_are_kept_as_they_stand() {
    let envelope = decode(br#"{"type":"n","data":[12345678901234567890,-0,1e400,1E+2]}"#).unwrap();
    assert_eq!(envelope.data, Some(&b"[12345678901234567890,-0,1e400,1E+2]"[..]));
    assert_eq!(serde_json::from_str::<u64>("12345678901234567890").unwrap(), 12_345_678_901_234_567_890);
    assert!(serde_json::from_str::<f64>("-0").unwrap().is_sign_negative());
    assert!(serde_json::from_str::<i64>("-0").is_err());
    assert!(serde_json::from_str::<f64>("1e400").is_err());
}

/// W-09: nesting is counted, not followed, wherever it stands in the frame.
#[test]
fn ten_thousand_levels_are_an_error_and_no_crash() {
    let arrays = "[".repeat(10_000) + &"]".repeat(10_000);
    let objects = r#"{"a":"#.repeat(10_000) + "1" + &"}".repeat(10_000);
    for nested in [&arrays[..], &objects[..], &arrays[..10_000]] {
        for frame in
            [format!(r#"{{"type":"a","data":{nested}}}"#), format!(r#"{{"x":{nested}}}"#), nested.to_owned()]
        {
            let max = DEFAULT_MAX_DEPTH;
            assert!(matches!(
                decode(frame.as_bytes()),
                Err(WireError::Depth { max: at }) if at == max
            ));
            assert_eq!(decode_within(frame.as_bytes(), usize::MAX), Err(WireError::Depth { max: MAX_DEPTH }));
        }
    }
}

#[test]
fn nesting_up_to_the_limit_is_read() {
    for max in [0, 1, 64, 127] {
        let within =
            |depth: usize| format!(r#"{{"type":"a","data":{}{}}}"#, "[".repeat(depth), "]".repeat(depth));
        let data = within(max.max(1));
        assert_eq!(decode_within(data.as_bytes(), max).is_ok(), max > 0);
        assert_eq!(decode_within(within(max + 1).as_bytes(), max), Err(WireError::Depth { max }));
        assert!(decode_within(br#"{"type":"a","data":1}"#, max).is_ok());
    }
}

#[test]
fn what_is_no_event_is_told_apart() {
    let errors = [
        (&b""[..], WireError::NotJson { at: 0 }),
        (b" ", WireError::NotJson { at: 1 }),
        (b"hello", WireError::NotJson { at: 0 }),
        (b"GET / HTTP/1.1\r\n", WireError::NotJson { at: 0 }),
        (b"{", WireError::NotJson { at: 1 }),
        (br#"{"type":"a""#, WireError::NotJson { at: 11 }),
        (br#"{"type":"a",}"#, WireError::NotJson { at: 12 }),
        (br#"{"type":"a"} x"#, WireError::NotJson { at: 13 }),
        (br#"{"type":"a"}{"type":"b"}"#, WireError::NotJson { at: 12 }),
        (br#"{type:"a"}"#, WireError::NotJson { at: 1 }),
        (br#"{'type':'a'}"#, WireError::NotJson { at: 1 }),
        (br#"{"type" "a"}"#, WireError::NotJson { at: 8 }),
        (b"{\"type\":\"a\nb\"}", WireError::NotJson { at: 10 }),
        (b"{\"type\":\"a\0\"}", WireError::NotJson { at: 10 }),
        (br#"{"type":"\x"}"#, WireError::NotJson { at: 10 }),
        (br#"{"type":"\u12g4"}"#, WireError::NotJson { at: 13 }),
        (br#"{"type":"a","data":01}"#, WireError::NotJson { at: 20 }),
        (br#"{"type":"a","data":1.}"#, WireError::NotJson { at: 21 }),
        (br#"{"type":"a","data":.5}"#, WireError::NotJson { at: 19 }),
        (br#"{"type":"a","data":+1}"#, WireError::NotJson { at: 19 }),
        (br#"{"type":"a","data":-}"#, WireError::NotJson { at: 20 }),
        (br#"{"type":"a","data":1e}"#, WireError::NotJson { at: 21 }),
        (br#"{"type":"a","data":nul}"#, WireError::NotJson { at: 19 }),
        (br#"{"type":"a","data":NaN}"#, WireError::NotJson { at: 19 }),
        (br#"{"type":"a","data":undefined}"#, WireError::NotJson { at: 19 }),
        (br#"{"type":"a","data":[1,]}"#, WireError::NotJson { at: 22 }),
        (br#"{"type":"a","data":[1}}"#, WireError::NotJson { at: 21 }),
        (br#"{"type":"a","data":{"b"]}"#, WireError::NotJson { at: 23 }),
        (br#"{"type":"a","data":{1:2}}"#, WireError::NotJson { at: 20 }),
        (br#"{"type":"a","data":}"#, WireError::NotJson { at: 19 }),
        (br#"{"type":"a","data":[][]}"#, WireError::NotJson { at: 21 }),
        ("\u{feff}{\"type\":\"a\"}".as_bytes(), WireError::NotJson { at: 0 }),
        (b"{\"type\":\"\xff\"}", WireError::NotUtf8 { at: 9 }),
        (b"{\"type\":\"a\",\"data\":\"\xed\xa0\x80\"}", WireError::NotUtf8 { at: 20 }),
        (b"null", WireError::NotAnObject),
        (b"5", WireError::NotAnObject),
        (br#""text""#, WireError::NotAnObject),
        (br#"[{"type":"a"}]"#, WireError::NotAnObject),
        (b"{}", WireError::TypeMissing),
        (br#"{"data":{"type":"a"}}"#, WireError::TypeMissing),
        (br#"{"Type":"a"}"#, WireError::TypeMissing),
        (br#"{"type":null}"#, WireError::TypeNotAString),
        (br#"{"type":{"a":[1]},"data":2}"#, WireError::TypeNotAString),
    ];
    for (frame, error) in errors {
        assert_eq!(decode(frame), Err(error), "{}", String::from_utf8_lossy(frame));
    }
}
