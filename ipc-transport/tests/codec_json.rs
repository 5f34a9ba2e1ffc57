//! The JSON codec: limits, errors that keep their type, and dynamic data.
#![cfg(feature = "json")]
#![allow(clippy::unwrap_used, reason = "a step that fails is a test that fails")]

use std::collections::BTreeMap;

use ipc_transport::{DecodeError, Decoder, EncodeBuffer, EncodeError, Encoder, Json, Value};
use proptest::prelude::*;
use serde::de::DeserializeOwned;
use serde::ser::SerializeSeq;
use serde::{Deserialize, Serialize, Serializer};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Order {
    id: u64,
    item: String,
    price: Option<f64>,
    tags: Vec<String>,
    state: State,
    extra: BTreeMap<String, i32>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
enum State {
    Open,
    Paid(u32),
    Sent(u8, char),
    Lost { because: String },
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
enum Untagged {
    Number(i64),
    List(Vec<Self>),
    Other(Order),
}

fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, EncodeError> {
    let mut bytes = Vec::new();
    Json::default().encode(value, &mut EncodeBuffer::growing(&mut bytes, usize::MAX))?;
    Ok(bytes)
}

fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, DecodeError> {
    Json::default().decode(bytes)
}

fn order() -> impl Strategy<Value = Order> {
    let state = prop_oneof![
        Just(State::Open),
        any::<u32>().prop_map(State::Paid),
        any::<(u8, char)>().prop_map(|(a, b)| State::Sent(a, b)),
        ".*".prop_map(|because| State::Lost { because }),
    ];
    let price = proptest::option::of(any::<f64>().prop_filter("JSON has no such number", |f| f.is_finite()));
    let extra = proptest::collection::btree_map(".*", any::<i32>(), 0..4);
    (any::<u64>(), ".*", price, proptest::collection::vec(".*", 0..4), state, extra)
        .prop_map(|(id, item, price, tags, state, extra)| Order { id, item, price, tags, state, extra })
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i128>().prop_map(Value::from),
        any::<f64>().prop_filter("NaN is not equal to itself", |f| !f.is_nan()).prop_map(Value::from),
        Just(Value::from(f64::INFINITY)),
        Just(Value::from(f64::NEG_INFINITY)),
        ".*".prop_map(Value::from),
        proptest::collection::vec(any::<u8>(), 0..20).prop_map(Value::from),
    ];
    leaf.prop_recursive(8, 40, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::btree_map(".*", inner, 0..4).prop_map(Value::from),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn values_survive_in_the_text_of_serde_json(order in order()) {
        let bytes = encode(&order).unwrap();
        prop_assert_eq!(&bytes, &serde_json::to_vec(&order).unwrap());
        prop_assert_eq!(decode::<Order>(&bytes), Ok(order));
    }

    /// Dynamic data of every kind survives. V2-20
    #[test]
    fn dynamic_values_survive(value in value()) {
        prop_assert_eq!(decode::<Value>(&encode(&value).unwrap()), Ok(value));
    }

    /// Garbage is an error or a value, never a panic. X-13
    #[test]
    fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..100), text in "[\\[\\]{}\":,0-9a-z\\\\]*") {
        let _ = decode::<Value>(&bytes);
        let _ = decode::<Untagged>(&bytes);
        let _ = decode::<Value>(text.as_bytes());
        let _ = decode::<Untagged>(text.as_bytes());
        let _ = decode::<serde_json::Value>(text.as_bytes());
    }

    #[test]
    fn a_slice_too_small_at_any_point_has_no_room(order in order()) {
        let bytes = encode(&order).unwrap();
        let mut segment = vec![0; bytes.len()];
        for size in 0..bytes.len() {
            let mut out = EncodeBuffer::in_slice(&mut segment[..size]);
            prop_assert_eq!(Json::default().encode(&order, &mut out), Err(EncodeError::NoRoom));
        }
        let mut out = EncodeBuffer::in_slice(&mut segment);
        prop_assert_eq!(Json::default().encode(&order, &mut out), Ok(()));
        prop_assert_eq!(&segment, &bytes);
    }
}

#[test]
fn nan_survives_as_a_dynamic_value() {
    let bytes = encode(&Value::from(f64::NAN)).unwrap();
    assert_eq!(bytes, br#"{"Float":"NaN"}"#);
    assert!(matches!(decode(&bytes), Ok(Value::Float(number)) if number.is_nan()));
}

#[test]
fn what_exceeds_a_growing_buffer_is_too_large() {
    let mut bytes = Vec::new();
    let mut out = EncodeBuffer::growing(&mut bytes, 4);
    let refused = Json::default().encode(&"too long".to_owned(), &mut out);
    assert!(matches!(refused, Err(EncodeError::TooLarge { max: 4, .. })), "{refused:?}");
}

#[test]
fn only_white_space_may_follow_the_value() {
    assert_eq!(decode::<u8>(b" 7 \n"), Ok(7));
    assert_eq!(decode::<u8>(b"7 \n8]"), Err(DecodeError::TrailingBytes { count: 2 }));
    assert_eq!(decode::<Vec<u8>>(b"[7][8]"), Err(DecodeError::TrailingBytes { count: 3 }));
    assert_eq!(decode::<u8>(b"7\0"), Err(DecodeError::TrailingBytes { count: 1 }));
}

#[test]
fn errors_name_what_is_wrong() {
    assert_eq!(decode::<Vec<u8>>(b"[1,"), Err(DecodeError::UnexpectedEnd { needed: 1, remaining: 0 }));
    assert_eq!(decode::<Vec<u8>>(b"[1;"), Err(DecodeError::Invalid { what: "JSON" }));
    assert_eq!(decode::<String>(b"\"\xff\""), Err(DecodeError::Invalid { what: "text" }));
    assert!(matches!(decode::<u8>(b"\"text\""), Err(DecodeError::Custom { .. })));
}

#[test]
fn messages_of_errors_are_bounded() {
    let text = format!("\"{}\"", "x".repeat(100_000));
    let Err(DecodeError::Custom { message }) = decode::<u8>(text.as_bytes()) else { panic!("a refusal") };
    assert!(message.len() <= 256);
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Nest(Vec<Self>);

/// Sixty thousand levels on a small stack are a typed error. X-13
#[test]
fn depth_bombs_are_refused() {
    on_a_small_stack(|| {
        let levels = 60_000;
        let refused = DecodeError::Depth { max: 64 };
        assert_eq!(decode::<Nest>(&b"[".repeat(levels)), Err(refused.clone()));
        assert_eq!(decode::<Value>(&br#"{"List":["#.repeat(levels)), Err(refused.clone()));
        assert_eq!(decode::<serde_json::Value>(&b"[".repeat(levels)), Err(refused.clone()));
        assert_eq!(decode::<serde_json::Value>(&b"{\"a\":".repeat(levels)), Err(refused.clone()));
        assert_eq!(decode::<Untagged>(&b"[".repeat(levels)), Err(refused));
        let patient = Json::new().with_max_depth(1_000_000);
        let refused: Result<serde_json::Value, _> = patient.decode(&b"[".repeat(levels));
        assert_eq!(refused, Err(DecodeError::Depth { max: 127 }));
    });
}

#[test]
fn values_too_deep_are_refused_when_encoded() {
    struct Endless;
    impl Serialize for Endless {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            let mut list = serializer.serialize_seq(Some(1))?;
            list.serialize_element(self)?;
            list.end()
        }
    }
    on_a_small_stack(|| assert_eq!(encode(&Endless), Err(EncodeError::Depth { max: 64 })));
}

#[test]
fn both_directions_count_the_same_levels() {
    fn nest(levels: usize) -> Nest {
        (1..levels / 2).fold(Nest(Vec::new()), |inner, _| Nest(vec![inner]))
    }
    for max in [2, 10, 64] {
        let codec = Json::new().with_max_depth(max);
        let mut bytes = Vec::new();
        codec.encode(&nest(max), &mut EncodeBuffer::growing(&mut bytes, 4096)).unwrap();
        assert_eq!(codec.decode(&bytes), Ok(nest(max)));

        let deeper = serde_json::to_vec(&nest(max + 2)).unwrap();
        assert_eq!(Decoder::<Nest>::decode(&codec, &deeper), Err(DecodeError::Depth { max }));
        let mut out = EncodeBuffer::growing(&mut bytes, 4096);
        assert_eq!(codec.encode(&nest(max + 2), &mut out), Err(EncodeError::Depth { max }));
    }
}

#[test]
fn an_unknown_field_is_skipped_without_following_it_down() {
    on_a_small_stack(|| {
        #[derive(Debug, PartialEq, Deserialize)]
        struct Known {
            id: u8,
        }
        let (open, close) = ("[".repeat(60_000), "]".repeat(60_000));
        let text = format!("{{\"other\":{open}{close},\"id\":7}}");
        assert_eq!(decode::<Known>(text.as_bytes()), Ok(Known { id: 7 }));
    });
}

/// Runs a check with the 2 MiB of stack that threads have by default, whatever the test runner gives.
fn on_a_small_stack(check: impl FnOnce() + Send + 'static) {
    std::thread::Builder::new().stack_size(2 * 1024 * 1024).spawn(check).unwrap().join().unwrap();
}
