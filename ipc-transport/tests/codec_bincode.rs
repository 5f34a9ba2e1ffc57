//! The bincode codec: the reference crate's bytes in both directions, and what hostile bytes cannot do.
#![cfg(feature = "bincode")]
#![allow(clippy::unwrap_used, reason = "a step that fails is a test that fails")]

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use bincode::config::{Configuration, Fixint, LittleEndian, standard};
use ipc_transport::{Bincode, DecodeError, Decoder, EncodeBuffer, EncodeError, Encoder, Value};
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use serde::de::{self, DeserializeOwned, Visitor};
use serde::ser::SerializeSeq;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

// The types: every class that serde knows.

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Numbers {
    a: u8,
    b: u16,
    c: u32,
    d: u64,
    e: u128,
    f: i8,
    g: i16,
    h: i32,
    i: i64,
    j: i128,
    k: usize,
    l: isize,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Texts {
    letter: char,
    text: String,
    bytes: Blob,
    plain: Vec<u8>,
    boxed: Box<str>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Unit;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Newtype(u32);

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Pair(i64, String);

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
enum Kind {
    Nothing,
    One(String),
    Two(u8, i128),
    Named { flag: bool, inner: Option<Box<Self>> },
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Everything {
    numbers: Numbers,
    texts: Texts,
    unit: Unit,
    newtype: Newtype,
    pair: Pair,
    tuple: (bool, (), [u16; 3]),
    option: Option<Option<u32>>,
    kinds: Vec<Kind>,
    nested: Vec<Vec<Option<String>>>,
    map: BTreeMap<String, BTreeMap<i16, Vec<u64>>>,
    floats: (f32, f64),
    result: Result<u8, String>,
    duration: std::time::Duration,
    address: std::net::IpAddr,
}

/// Bytes that serialise as bytes, as the `serde_bytes` crate does it.
#[derive(Debug, Clone, PartialEq)]
struct Blob(Vec<u8>);

impl Serialize for Blob {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Blob {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Bytes;
        impl Visitor<'_> for Bytes {
            type Value = Blob;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("bytes")
            }
            fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<Blob, E> {
                Ok(Blob(bytes.to_vec()))
            }
            fn visit_byte_buf<E: de::Error>(self, bytes: Vec<u8>) -> Result<Blob, E> {
                Ok(Blob(bytes))
            }
        }
        deserializer.deserialize_byte_buf(Bytes)
    }
}

fn numbers() -> impl Strategy<Value = Numbers> {
    let unsigned = (any::<u8>(), any::<u16>(), any::<u32>(), any::<u64>(), any::<u128>(), any::<usize>());
    let signed = (any::<i8>(), any::<i16>(), any::<i32>(), any::<i64>(), any::<i128>(), any::<isize>());
    (unsigned, signed).prop_map(|((a, b, c, d, e, k), (f, g, h, i, j, l))| Numbers {
        a,
        b,
        c,
        d,
        e,
        f,
        g,
        h,
        i,
        j,
        k,
        l,
    })
}

fn text() -> impl Strategy<Value = String> {
    vec(any::<char>(), 0..12).prop_map(String::from_iter)
}

fn texts() -> impl Strategy<Value = Texts> {
    (any::<char>(), text(), vec(any::<u8>(), 0..40), vec(any::<u8>(), 0..40), text()).prop_map(
        |(letter, text, bytes, plain, boxed)| Texts {
            letter,
            text,
            bytes: Blob(bytes),
            plain,
            boxed: boxed.into(),
        },
    )
}

fn kind() -> impl Strategy<Value = Kind> {
    let leaf = prop_oneof![
        Just(Kind::Nothing),
        text().prop_map(Kind::One),
        (any::<u8>(), any::<i128>()).prop_map(|(a, b)| Kind::Two(a, b)),
    ];
    leaf.prop_recursive(4, 8, 1, |inner| {
        (any::<bool>(), proptest::option::of(inner.prop_map(Box::new)))
            .prop_map(|(flag, inner)| Kind::Named { flag, inner })
    })
}

fn everything() -> impl Strategy<Value = Everything> {
    let first = (numbers(), texts(), any::<u32>(), any::<i64>(), text(), any::<(bool, [u16; 3])>());
    let second = (
        any::<Option<Option<u32>>>(),
        vec(kind(), 0..4),
        vec(vec(proptest::option::of(text()), 0..3), 0..3),
        btree_map(text(), btree_map(any::<i16>(), vec(any::<u64>(), 0..3), 0..3), 0..3),
    );
    let third = (
        (-1e30_f32..1e30, -1e300_f64..1e300),
        prop_oneof![any::<u8>().prop_map(Ok), text().prop_map(Err)],
        any::<(u64, u32)>().prop_map(|(s, n)| std::time::Duration::new(s >> 1, n % 1_000_000_000)),
        any::<std::net::IpAddr>(),
    );
    (first, second, third).prop_map(
        |(
            (numbers, texts, newtype, left, right, (flag, array)),
            (option, kinds, nested, map),
            (floats, result, duration, address),
        )| Everything {
            numbers,
            texts,
            unit: Unit,
            newtype: Newtype(newtype),
            pair: Pair(left, right),
            tuple: (flag, (), array),
            option,
            kinds,
            nested,
            map,
            floats,
            result,
            duration,
            address,
        },
    )
}

// The two codecs.

const REFERENCE: Configuration<LittleEndian, Fixint> = standard().with_fixed_int_encoding();

fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, EncodeError> {
    let mut bytes = Vec::new();
    Bincode::default().encode(value, &mut EncodeBuffer::growing(&mut bytes, usize::MAX))?;
    Ok(bytes)
}

fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, DecodeError> {
    Bincode::default().decode(bytes)
}

/// Both encoders give the same bytes, and each decoder reads what the other wrote.
fn same_bytes_both_ways<T>(value: &T)
where
    T: Serialize + DeserializeOwned + PartialEq + fmt::Debug,
{
    let ours = encode(value).unwrap();
    let theirs = bincode::serde::encode_to_vec(value, REFERENCE).unwrap();
    assert_eq!(ours, theirs);

    let mut segment = vec![0xaa; ours.len() + 3];
    let mut out = EncodeBuffer::in_slice(&mut segment);
    Bincode::default().encode(value, &mut out).unwrap();
    assert_eq!(out.len(), ours.len());
    assert_eq!(segment[..ours.len()], ours);
    assert_eq!(segment[ours.len()..], [0xaa; 3]);

    assert_eq!(decode::<T>(&theirs).as_ref(), Ok(value));
    let (back, count) = bincode::serde::decode_from_slice::<T, _>(&ours, REFERENCE).unwrap();
    assert_eq!((&back, count), (value, ours.len()));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_class_of_types_has_the_bytes_of_the_reference(value in everything()) {
        same_bytes_both_ways(&value);
    }

    #[test]
    fn single_values_have_the_bytes_of_the_reference(numbers in numbers(), letter in any::<char>(), text in text()) {
        same_bytes_both_ways(&numbers);
        same_bytes_both_ways(&letter);
        same_bytes_both_ways(&text);
        same_bytes_both_ways(&f64::from_bits(numbers.d).to_bits());
        same_bytes_both_ways(&Some(numbers.a));
        same_bytes_both_ways(&HashMap::from([(numbers.a, text)]));
    }

    /// On any bytes at all the two decoders agree: the same value, or both refuse. X-13
    #[test]
    fn garbage_is_refused_where_the_reference_refuses_it(bytes in vec(garbage_byte(), 0..200)) {
        agree::<Kind>(&bytes);
        agree::<Vec<Kind>>(&bytes);
        agree::<Texts>(&bytes);
        agree::<Option<char>>(&bytes);
        agree::<(bool, Option<bool>, Result<char, String>)>(&bytes);
        agree::<BTreeMap<u8, Vec<u16>>>(&bytes);
    }

    /// Garbage is an error or a value, never a panic. X-13
    #[test]
    fn garbage_never_panics(bytes in vec(garbage_byte(), 0..400)) {
        let _ = decode::<Everything>(&bytes);
        let _ = decode::<Value>(&bytes);
        let _ = decode::<Vec<()>>(&bytes);
        let _ = decode::<BTreeMap<String, Vec<Unit>>>(&bytes);
    }

    /// A changed byte in a valid message is an error or another value, never a panic. X-13
    #[test]
    fn damaged_messages_never_panic(value in everything(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut bytes = encode(&value).unwrap();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        let _ = decode::<Everything>(&bytes);
    }

    #[test]
    fn every_shortened_message_is_refused(value in everything()) {
        let bytes = encode(&value).unwrap();
        for end in 0..bytes.len() {
            let refused = matches!(decode::<Everything>(&bytes[..end]), Err(DecodeError::UnexpectedEnd { .. }));
            prop_assert!(refused, "cut at {end}");
        }
    }

    #[test]
    fn a_slice_too_small_at_any_point_has_no_room(value in everything()) {
        let bytes = encode(&value).unwrap();
        let mut segment = vec![0; bytes.len()];
        for size in 0..bytes.len() {
            let mut out = EncodeBuffer::in_slice(&mut segment[..size]);
            prop_assert_eq!(Bincode::default().encode(&value, &mut out), Err(EncodeError::NoRoom));
            prop_assert_eq!(out.len(), 0);
        }
    }

    #[test]
    fn runs_decode_as_their_values_do(values in vec(kind(), 0..20)) {
        let (mut bytes, mut spans) = (vec![0xff; 3], Vec::new());
        for value in &values {
            let start = bytes.len() as u32;
            Bincode::default().encode(value, &mut EncodeBuffer::growing(&mut bytes, 1 << 20)).unwrap();
            spans.push((start, bytes.len() as u32));
        }
        let mut back: Vec<Kind> = Vec::new();
        Bincode::default().decode_batch(&bytes, &spans, &mut back).unwrap();
        prop_assert_eq!(back, values);
    }
}

/// Small numbers are likelier: they make lengths and tags that lead further into a type.
fn garbage_byte() -> impl Strategy<Value = u8> {
    prop_oneof![3 => Just(0), 3 => 0..5_u8, 1 => any::<u8>()]
}

fn agree<T: DeserializeOwned + PartialEq + fmt::Debug>(bytes: &[u8]) {
    let limited = REFERENCE.with_limit::<65536>();
    let theirs = match bincode::serde::decode_from_slice::<T, _>(bytes, limited) {
        Ok((value, count)) if count == bytes.len() => Some(value),
        _ => None,
    };
    assert_eq!(decode::<T>(bytes).ok(), theirs);
}

#[test]
fn the_names_of_the_formats_agree() {
    assert_eq!(Encoder::<u8>::id(&Bincode::default()), "bincode2-fixed");
    assert_eq!(Decoder::<u8>::id(&Bincode::default()), "bincode2-fixed");
}

#[test]
fn the_default_depth_is_that_of_the_limits() {
    assert_eq!(Bincode::default().max_depth(), ipc_transport::depth::DEFAULT_MAX);
}

#[test]
fn special_floats_survive_bit_by_bit() {
    for bits in [0, 1 << 63, f64::NAN.to_bits(), f64::INFINITY.to_bits(), 1, f64::MAX.to_bits()] {
        let bytes = encode(&f64::from_bits(bits)).unwrap();
        assert_eq!(decode::<f64>(&bytes).unwrap().to_bits(), bits);
    }
}

/// Contents of every size class survive as bytes and as text. P-27
#[test]
fn contents_of_all_sizes_survive() {
    for size in [0, 1, 254, 255, 256, 65_535, 65_536, 16 * 1024 * 1024] {
        let blob = Blob((0..size).map(|i| (i % 251) as u8).collect());
        assert!(decode::<Blob>(&encode(&blob).unwrap()).unwrap() == blob, "{size} bytes");
        let text: String = "aé漢🦀".chars().cycle().take(size / 4).collect();
        assert!(decode::<String>(&encode(&text).unwrap()).unwrap() == text, "text of {size} bytes");
    }
}

#[test]
fn bytes_left_over_are_an_error() {
    let mut bytes = encode(&7_u32).unwrap();
    bytes.extend([1, 2, 3]);
    assert_eq!(decode::<u32>(&bytes), Err(DecodeError::TrailingBytes { count: 3 }));
    assert_eq!(decode::<()>(&[0]), Err(DecodeError::TrailingBytes { count: 1 }));
}

#[test]
fn invalid_bytes_name_what_they_should_have_been() {
    let cases: [(Result<(), DecodeError>, &str); 5] = [
        (decode::<bool>(&[2]).map(drop), "bool"),
        (decode::<Option<u8>>(&[2, 0]).map(drop), "option tag"),
        (decode::<char>(&[0xff]).map(drop), "char"),
        (decode::<char>(&[0xed, 0xa0, 0x80]).map(drop), "char"),
        (decode::<String>(&[1, 0, 0, 0, 0, 0, 0, 0, 0xff]).map(drop), "text"),
    ];
    for (result, what) in cases {
        assert_eq!(result, Err(DecodeError::Invalid { what }));
    }
    let unknown = decode::<Kind>(&9_u32.to_le_bytes());
    assert!(matches!(unknown, Err(DecodeError::Custom { .. })), "{unknown:?}");
}

/// Nine bytes that claim 2⁴⁰ are refused, whatever they claim to be. X-13
#[test]
fn length_bombs_are_refused() {
    let mut bomb = (1_u64 << 40).to_le_bytes().to_vec();
    bomb.push(1);
    let refused = DecodeError::UnexpectedEnd { needed: 1 << 40, remaining: 1 };
    assert_eq!(decode::<Blob>(&bomb), Err(refused.clone()));
    assert_eq!(decode::<String>(&bomb), Err(refused));
    assert!(matches!(decode::<Vec<u8>>(&bomb), Err(DecodeError::UnexpectedEnd { .. })));
    assert!(matches!(decode::<Vec<[u64; 8]>>(&bomb), Err(DecodeError::UnexpectedEnd { .. })));
    assert!(matches!(decode::<HashMap<u8, u8>>(&bomb), Err(DecodeError::UnexpectedEnd { .. })));
}

/// A number of elements without bytes costs the sender nothing, so it is bounded. X-13
#[test]
fn elements_without_bytes_are_counted() {
    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    struct Skipping {
        #[serde(skip, default = "large")]
        scratch: Vec<u8>,
    }
    fn large() -> Vec<u8> {
        Vec::new()
    }

    let many = Bincode::MAX_EMPTY;
    same_bytes_both_ways(&vec![(); many]);
    assert!(matches!(encode(&vec![(); many + 1]), Err(EncodeError::Unsupported { .. })));

    for count in [many as u64 + 1, 1 << 40, u64::MAX] {
        let bomb = count.to_le_bytes();
        assert!(matches!(decode::<Vec<()>>(&bomb), Err(DecodeError::Invalid { .. })), "{count}");
        assert!(matches!(decode::<Vec<Skipping>>(&bomb), Err(DecodeError::Invalid { .. })), "{count}");
    }

    // The count is for the message: many runs within the limit do not escape it.
    let mut nested = 64_u64.to_le_bytes().to_vec();
    nested.extend((0..64).flat_map(|_| (many as u64).to_le_bytes()));
    assert!(matches!(decode::<Vec<Vec<()>>>(&nested), Err(DecodeError::Invalid { .. })));
}

/// A type that nests as deep as the data says.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Nest(Vec<Self>);

/// Sixty thousand levels on a small stack are a typed error. X-13
#[test]
fn depth_bombs_are_refused() {
    on_a_small_stack(|| {
        let levels = 60_000;
        let one = 1_u64.to_le_bytes().repeat(levels);
        assert_eq!(decode::<Nest>(&one), Err(DecodeError::Depth { max: 64 }));
        assert_eq!(decode::<Value>(&bomb_of_lists(levels)), Err(DecodeError::Depth { max: 64 }));
        let options = vec![1; levels];
        assert_eq!(decode::<Chain>(&options), Err(DecodeError::Depth { max: 64 }));
    });
}

fn bomb_of_lists(levels: usize) -> Vec<u8> {
    let mut list = encode(&Value::from_iter([Value::Null])).unwrap();
    list.truncate(12);
    list.repeat(levels)
}

/// The shortest way down: one byte a level.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
struct Chain(Option<Box<Self>>);

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
        assert_eq!(encode(&Endless), Err(EncodeError::Depth { max: 64 }));
        let mut segment = [0; 4096];
        let mut out = EncodeBuffer::in_slice(&mut segment);
        assert_eq!(Bincode::default().encode(&Endless, &mut out), Err(EncodeError::Depth { max: 64 }));
    });
}

#[test]
fn both_directions_count_the_same_levels() {
    fn nest(levels: usize) -> Nest {
        (1..levels / 2).fold(Nest(Vec::new()), |inner, _| Nest(vec![inner]))
    }
    for max in [2, 10, 64] {
        let codec = Bincode::new().with_max_depth(max);
        let mut bytes = Vec::new();
        // A newtype struct and a sequence: two levels for each step.
        codec.encode(&nest(max), &mut EncodeBuffer::growing(&mut bytes, 4096)).unwrap();
        assert_eq!(codec.decode(&bytes), Ok(nest(max)));

        let deeper = encode_unlimited(&nest(max + 2));
        assert_eq!(Decoder::<Nest>::decode(&codec, &deeper), Err(DecodeError::Depth { max }));
        let mut out = EncodeBuffer::growing(&mut bytes, 4096);
        assert_eq!(codec.encode(&nest(max + 2), &mut out), Err(EncodeError::Depth { max }));
    }
}

fn encode_unlimited<T: Serialize>(value: &T) -> Vec<u8> {
    let mut bytes = Vec::new();
    let codec = Bincode::new().with_max_depth(10_000);
    codec.encode(value, &mut EncodeBuffer::growing(&mut bytes, usize::MAX)).unwrap();
    bytes
}

#[test]
fn what_exceeds_a_growing_buffer_is_too_large_and_leaves_no_trace() {
    let mut bytes = vec![1, 2, 3];
    let mut out = EncodeBuffer::growing(&mut bytes, 20);
    let codec = Bincode::default();
    codec.encode(&5_u32, &mut out).unwrap();
    assert_eq!(codec.encode(&"a text".to_owned(), &mut out), Ok(()));
    let refused = codec.encode(&(1_u8, 2_u16), &mut out);
    assert_eq!(refused, Err(EncodeError::TooLarge { len: 21, max: 20 }));
    assert_eq!(bytes.len(), 3 + 18);
}

#[test]
fn several_values_follow_each_other_in_one_slice() {
    let mut segment = [0; 20];
    let mut out = EncodeBuffer::in_slice(&mut segment);
    let codec = Bincode::default();
    codec.encode(&1_u64, &mut out).unwrap();
    codec.encode(&2_u64, &mut out).unwrap();
    assert_eq!(codec.encode(&3_u64, &mut out), Err(EncodeError::NoRoom));
    codec.encode(&4_u32, &mut out).unwrap();
    assert_eq!(out.len(), 20);
    assert_eq!(segment, [1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0]);
}

#[test]
fn sequences_of_unknown_length_are_unsupported() {
    struct Unknown;
    impl Serialize for Unknown {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            serializer.serialize_seq(None)?.end()
        }
    }
    assert!(matches!(encode(&Unknown), Err(EncodeError::Unsupported { .. })));
}

#[test]
fn types_that_the_data_must_describe_are_unsupported() {
    assert!(matches!(decode::<serde_json::Value>(&[0; 16]), Err(DecodeError::Unsupported { .. })));
    assert!(matches!(decode::<de::IgnoredAny>(&[0; 16]), Err(DecodeError::Unsupported { .. })));
}

#[test]
fn a_run_stops_at_the_undecodable_value_and_keeps_those_before() {
    let mut out: Vec<bool> = Vec::new();
    let codec = Bincode::default();
    let error = codec.decode_batch(&[1, 0, 7, 1], &[(0, 1), (1, 2), (2, 3), (3, 4)], &mut out).unwrap_err();
    assert_eq!((error.index, error.error), (2, DecodeError::Invalid { what: "bool" }));
    assert_eq!(out, [true, false]);
}

#[test]
fn messages_of_errors_are_bounded() {
    #[derive(Debug)]
    struct Talkative;
    impl<'de> Deserialize<'de> for Talkative {
        fn deserialize<D: Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
            Err(de::Error::custom("é".repeat(1_000_000)))
        }
    }
    let Err(DecodeError::Custom { message }) = decode::<Talkative>(&[]) else {
        panic!("a refusal");
    };
    assert_eq!(message.len(), 256);
}

/// Dynamic data of every kind survives. V2-20
#[test]
fn values_of_every_kind_survive() {
    let value = Value::from_iter([
        ("null", Value::Null),
        ("truth", Value::from(true)),
        ("small", Value::from(-1)),
        ("big", Value::from(i128::MAX)),
        ("float", Value::from(0.1)),
        ("infinite", Value::from(f64::NEG_INFINITY)),
        ("text", Value::from("aé漢🦀")),
        ("bytes", Value::from(vec![0, 255])),
        ("list", Value::from_iter([Value::from(1), Value::Null, Value::from_iter([Value::from("x")])])),
    ]);
    same_bytes_both_ways(&value);
}

/// Runs a check with the 2 MiB of stack that threads have by default, whatever the test runner gives.
fn on_a_small_stack(check: impl FnOnce() + Send + 'static) {
    std::thread::Builder::new().stack_size(2 * 1024 * 1024).spawn(check).unwrap().join().unwrap();
}
