//! The compact codecs, postcard and MessagePack: their bytes, their limits, and errors that keep their type.
#![cfg(all(feature = "postcard", feature = "messagepack"))]
#![allow(clippy::unwrap_used, reason = "a step that fails is a test that fails")]

use std::collections::BTreeMap;

use ipc_transport::{DecodeError, Decoder, EncodeBuffer, EncodeError, Encoder, MessagePack, Postcard, Value};
use proptest::prelude::*;
use serde::{Deserialize, Serialize, Serializer, de::DeserializeOwned, ser::SerializeSeq};

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
    Lost { because: String },
    Open,
    Paid(u32),
    Sent(u8, char),
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Nest(Vec<Self>);

fn encode<T: Serialize>(codec: impl Encoder<T>, value: &T) -> Result<Vec<u8>, EncodeError> {
    let mut bytes = Vec::new();
    codec.encode(value, &mut EncodeBuffer::growing(&mut bytes, 1 << 20))?;
    Ok(bytes)
}

fn postcard<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, DecodeError> {
    Postcard::default().decode(bytes)
}

fn messagepack<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, DecodeError> {
    MessagePack::default().decode(bytes)
}

fn order() -> impl Strategy<Value = Order> {
    let state = prop_oneof![
        Just(State::Open),
        any::<u32>().prop_map(State::Paid),
        any::<(u8, char)>().prop_map(|(a, b)| State::Sent(a, b)),
        ".*".prop_map(|because| State::Lost { because }),
    ];
    let extra = proptest::collection::btree_map(".*", any::<i32>(), 0..4);
    let price = proptest::option::of(any::<f64>().prop_filter("NaN is not equal to itself", |f| !f.is_nan()));
    (any::<u64>(), ".*", price, proptest::collection::vec(".*", 0..4), state, extra)
        .prop_map(|(id, item, price, tags, state, extra)| Order { id, item, price, tags, state, extra })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn values_survive_in_the_bytes_of_the_format(order in order()) {
        let bytes = encode(Postcard::default(), &order).unwrap();
        prop_assert_eq!(&bytes, &::postcard::to_allocvec(&order).unwrap());
        prop_assert_eq!(postcard::<Order>(&bytes), Ok(order.clone()));
        let bytes = encode(MessagePack::default(), &order).unwrap();
        prop_assert_eq!(&bytes, &rmp_serde::to_vec_named(&order).unwrap());
        prop_assert_eq!(messagepack::<Order>(&bytes), Ok(order));
    }

    /// Garbage is an error or a value, never a panic. X-13
    #[test]
    fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
        let _ = (postcard::<Value>(&bytes), messagepack::<Value>(&bytes));
        let _ = (postcard::<Order>(&bytes), messagepack::<Order>(&bytes));
        let _ = (postcard::<Vec<()>>(&bytes), messagepack::<Vec<()>>(&bytes));
        let _ = messagepack::<serde_json::Value>(&bytes);
    }
}

/// A few bytes that announce elements without bytes end soon, not after 2⁶⁰ of them. X-13
#[test]
fn elements_without_bytes_are_counted() {
    let mut bomb = vec![0xff; 8];
    bomb.push(0x0f);
    assert!(matches!(postcard::<Vec<()>>(&bomb), Err(DecodeError::Custom { .. })));
    let many = vec![(); 60_000];
    assert_eq!(postcard::<Vec<()>>(&encode(Postcard::default(), &many).unwrap()), Ok(many));
}

/// Sixty thousand levels on a small stack are a typed error. X-13
#[test]
fn depth_bombs_are_refused() {
    on_a_small_stack(|| {
        let (levels, refused) = (60_000, DecodeError::Depth { max: 64 });
        assert_eq!(postcard::<Nest>(&[1].repeat(levels)), Err(refused.clone()));
        assert_eq!(messagepack::<Nest>(&[0x91].repeat(levels)), Err(refused.clone()));
        assert_eq!(messagepack::<serde_json::Value>(&[0x91].repeat(levels)), Err(refused.clone()));
        assert_eq!(messagepack::<serde_json::Value>(&[0x81, 0xa1, b'a'].repeat(levels)), Err(refused));
    });
}

/// What is unknown is passed over within the limit of nesting, too.
#[test]
fn unknown_fields_cannot_nest_without_limit() {
    #[derive(Debug, PartialEq, Deserialize)]
    struct Known {
        id: u8,
    }
    let named = |contents: &[u8]| [&[0x82, 0xa1, b'x'], contents, &[0xa2, b'i', b'd', 7]].concat();
    assert_eq!(messagepack(&named(&[0x91, 0x91, 0x01])), Ok(Known { id: 7 }));
    on_a_small_stack(move || {
        let refused = messagepack::<Known>(&named(&[0x91].repeat(60_000)));
        assert_eq!(refused, Err(DecodeError::Depth { max: 64 }));
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
    on_a_small_stack(|| {
        assert_eq!(encode(Postcard::default(), &Endless), Err(EncodeError::Depth { max: 64 }));
        assert_eq!(encode(MessagePack::default(), &Endless), Err(EncodeError::Depth { max: 64 }));
    });
}

#[test]
fn errors_name_what_is_wrong() {
    assert_eq!(postcard::<u32>(&[0x80]), Err(DecodeError::UnexpectedEnd { needed: 1, remaining: 0 }));
    assert_eq!(postcard::<u8>(&[7, 8, 9]), Err(DecodeError::TrailingBytes { count: 2 }));
    assert_eq!(postcard::<bool>(&[7]), Err(DecodeError::Invalid { what: "bool" }));
    assert_eq!(postcard::<String>(&[1, 0xff]), Err(DecodeError::Invalid { what: "text" }));
    let describing = postcard::<serde_json::Value>(&[1]);
    assert_eq!(describing, Err(DecodeError::Unsupported { what: "a type that describes itself" }));
    assert_eq!(messagepack::<u32>(&[0xce, 1]), Err(DecodeError::UnexpectedEnd { needed: 1, remaining: 0 }));
    assert_eq!(messagepack::<u8>(&[7, 8, 9]), Err(DecodeError::TrailingBytes { count: 2 }));
    assert!(messagepack::<bool>(&[7]).is_err());
    struct Unsized;
    impl Serialize for Unsized {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            serializer.serialize_seq(None)?.end()
        }
    }
    let unsupported = EncodeError::Unsupported { what: "a sequence or map of unknown length" };
    assert_eq!(encode(Postcard::default(), &Unsized), Err(unsupported));
}

#[test]
fn what_exceeds_its_buffer_is_told_apart() {
    let text = "too long".to_owned();
    for codec in [&Postcard::default() as &dyn Encoder<String>, &MessagePack::default()] {
        let mut bytes = Vec::new();
        let refused = codec.encode(&text, &mut EncodeBuffer::growing(&mut bytes, 4));
        assert!(matches!(refused, Err(EncodeError::TooLarge { max: 4, .. })), "{refused:?}");
        assert_eq!(codec.encode(&text, &mut EncodeBuffer::in_slice(&mut [0; 5])), Err(EncodeError::NoRoom));
    }
}

/// Runs a check with the 2 MiB of stack that threads have by default, whatever the test runner gives.
fn on_a_small_stack(check: impl FnOnce() + Send + 'static) {
    std::thread::Builder::new().stack_size(2 * 1024 * 1024).spawn(check).unwrap().join().unwrap();
}
