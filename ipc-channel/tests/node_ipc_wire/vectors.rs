//! What real peers wrote, recorded: read in any chunking, and written again to the byte.

use std::{fmt, fs, path::Path};

use ipc_channel::events::node_ipc::{Delimiter, Profile, Reader, WireError, Writer};
use serde::de::{Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize, Serializer};
use serde_json::{Number, Value, value::RawValue};

use super::support::{Event, MAX, read};

/// One recorded stream: what was written, and what it holds.
struct Recorded {
    name: String,
    delimiter: Delimiter,
    bytes: Vec<u8>,
    events: Vec<(Option<Value>, Option<String>)>,
}

/// The description beside the bytes.
#[derive(Deserialize)]
struct Description {
    delimiter: String,
    #[serde(default)]
    events: Vec<Described>,
    numbers: Option<Numbers>,
}

#[derive(Deserialize)]
struct Described {
    /// Twice an option: a type that is `null` is not an absent one.
    #[serde(rename = "type", default, deserialize_with = "given")]
    name: Option<Value>,
    data: Option<String>,
}

/// So many events of one type, with 0, 1, 2 and so on as their data.
#[derive(Deserialize)]
struct Numbers {
    #[serde(rename = "type")]
    name: String,
    count: u32,
}

fn given<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}

fn recordings() -> Vec<Recorded> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/node-ipc");
    let mut paths: Vec<_> = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
    paths.sort();
    paths.iter().map(|path| recording(path)).collect()
}

fn recording(path: &Path) -> Recorded {
    let description: Description = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    let mut events: Vec<_> = description.events.into_iter().map(|event| (event.name, event.data)).collect();
    if let Some(Numbers { name, count }) = description.numbers {
        events.extend((0..count).map(|number| (Some(name.clone().into()), Some(number.to_string()))));
    }
    Recorded {
        name: path.file_stem().unwrap().to_str().unwrap().to_owned(),
        delimiter: Delimiter::new(description.delimiter).unwrap(),
        bytes: fs::read(path.with_extension("bin")).unwrap(),
        events,
    }
}

impl Recorded {
    /// What a reader makes of it.
    fn expected(&self) -> Vec<Result<Event, WireError>> {
        let event = |(name, data): &(Option<Value>, Option<String>)| match name {
            None => Err(WireError::TypeMissing),
            Some(Value::String(name)) => Ok((name.clone(), data.clone())),
            Some(_) => Err(WireError::TypeNotAString),
        };
        self.events.iter().map(event).collect()
    }
}

/// W-10: recorded streams of real peers give the same events however they are cut.
#[test]
fn recorded_streams_give_their_events_in_any_chunking() {
    let recordings = recordings();
    assert!(recordings.iter().map(|recorded| recorded.events.len()).sum::<usize>() > 1_000, "they are there");
    for recorded in recordings {
        for size in [1, 2, 3, 7, 4_096] {
            let reader = Reader::new(&recorded.delimiter, Profile::Compatible, MAX);
            let (events, end) = read(reader, recorded.bytes.chunks(size));
            assert_eq!(end, Ok(()), "{} in chunks of {size}", recorded.name);
            assert_eq!(events, recorded.expected(), "{} in chunks of {size}", recorded.name);
        }
    }
}

/// W-01: the same events have the same bytes when they are written here. Those with names that are never sent to Node
/// peers, and with text that Rust cannot hold, are left out, with their frames.
#[test]
fn recorded_events_are_written_as_they_were() {
    for recorded in recordings() {
        let writer = Writer::new(&recorded.delimiter, Profile::Compatible, MAX);
        let (mut left_out, mut again) = (0, Vec::new());
        let frames = frames_of(&recorded);
        assert_eq!(frames.len(), recorded.events.len(), "{}", recorded.name);
        for (frame, (name, data)) in frames.into_iter().zip(&recorded.events) {
            let Some(Value::String(name)) = name else {
                left_out += 1;
                continue;
            };
            let raw = data.as_deref().map(|text| serde_json::from_str::<&RawValue>(text).unwrap());
            again.clear();
            match writer.encode(name, raw, &mut again) {
                Err(WireError::Reserved { .. }) => left_out += 1,
                result => assert_eq!((result, &again[..]), (Ok(()), frame), "{}: {name}", recorded.name),
            }
            // The same of the value itself, and not of its text.
            let Ok(value) = serde_json::from_str::<Option<Ordered>>(data.as_deref().unwrap_or("null")) else {
                assert_eq!(recorded.name, "surrogates");
                continue;
            };
            again.clear();
            let value = data.as_ref().map(|_| value);
            if writer.encode(name, value.as_ref(), &mut again).is_ok() {
                assert_eq!(&again[..], frame, "{}: {name}", recorded.name);
            }
        }
        assert!(left_out <= 4, "{left_out} of {} were left out", recorded.name);
    }
}

/// The frames with their delimiters; no recorded frame holds its delimiter.
fn frames_of(recorded: &Recorded) -> Vec<&[u8]> {
    let delimiter = recorded.delimiter.as_bytes();
    let mut rest = &recorded.bytes[..];
    let mut frames = Vec::new();
    while let Some(at) = rest.windows(delimiter.len()).position(|window| window == delimiter) {
        let (frame, after) = rest.split_at(at + delimiter.len());
        frames.push(frame);
        rest = after;
    }
    frames
}

/// A JSON value whose objects keep their order, as JavaScript's do.
enum Ordered {
    Leaf(Value),
    List(Vec<Option<Self>>),
    Object(Vec<(String, Option<Self>)>),
}

impl Serialize for Ordered {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Leaf(value) => value.serialize(serializer),
            Self::List(values) => serializer.collect_seq(values),
            Self::Object(entries) => serializer.collect_map(entries.iter().map(|(key, value)| (key, value))),
        }
    }
}

impl<'de> Deserialize<'de> for Ordered {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Values;

        impl<'de> Visitor<'de> for Values {
            type Value = Ordered;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value")
            }

            fn visit_bool<E: Error>(self, value: bool) -> Result<Ordered, E> {
                Ok(Ordered::Leaf(value.into()))
            }

            fn visit_i64<E: Error>(self, value: i64) -> Result<Ordered, E> {
                Ok(Ordered::Leaf(value.into()))
            }

            fn visit_u64<E: Error>(self, value: u64) -> Result<Ordered, E> {
                Ok(Ordered::Leaf(value.into()))
            }

            fn visit_f64<E: Error>(self, value: f64) -> Result<Ordered, E> {
                Ok(Ordered::Leaf(Number::from_f64(value).into()))
            }

            fn visit_str<E: Error>(self, value: &str) -> Result<Ordered, E> {
                Ok(Ordered::Leaf(value.into()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Ordered, A::Error> {
                let mut values = Vec::new();
                while let Some(value) = items.next_element()? {
                    values.push(value);
                }
                Ok(Ordered::List(values))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Ordered, A::Error> {
                let mut values = Vec::new();
                while let Some(entry) = entries.next_entry()? {
                    values.push(entry);
                }
                Ok(Ordered::Object(values))
            }
        }

        deserializer.deserialize_any(Values)
    }
}
