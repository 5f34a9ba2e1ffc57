//! What a service listens to and what it broadcasts: the queries of node-ipc 0.9, their answers and its greeting.

use std::borrow::Cow;
use std::fmt;

use ipc_transport::DecodeError;
use serde::de::{Deserializer, Error, MapAccess, Visitor};
use serde::ser::{SerializeMap, Serializer};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{Envelope, WireError, Writer};

/// The four events by which peers ask for each other's events.
///
/// A peer asks with [`Introspection::GetBroadcasting`] or [`Introspection::GetListening`], whose data means nothing (Node
/// writes `{}`), and is answered with [`Introspection::Broadcasting`] or [`Introspection::Listening`], whose data is an
/// [`Announcement`]. A server of 0.9 says both to each client before anything else: the greeting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Introspection {
    /// The answer: these are the events that the service sends.
    Broadcasting,
    /// The query for the events that the service sends.
    GetBroadcasting,
    /// The query for the events that the service handles.
    GetListening,
    /// The answer: these are the events that the service handles.
    Listening,
}

impl Introspection {
    /// The name of the event.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Broadcasting => "events.broadcasting",
            Self::GetBroadcasting => "get.events.broadcasting",
            Self::GetListening => "get.events.listening",
            Self::Listening => "events.listening",
        }
    }

    /// The one of this name.
    #[must_use]
    pub fn of(name: &str) -> Option<Self> {
        let all = [Self::Broadcasting, Self::GetBroadcasting, Self::GetListening, Self::Listening];
        all.into_iter().find(|introspection| introspection.name() == name)
    }

    /// Whether this frame may be part of a greeting, which a client skips.
    #[must_use]
    pub fn is_greeting(envelope: &Envelope<'_>) -> bool {
        matches!(Self::of(&envelope.name), Some(Self::Broadcasting | Self::Listening))
    }
}

/// The events of a service and what each is for, in the order in which they were told.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Catalogue {
    broadcasting: Vec<(String, String)>,
    listening: Vec<(String, String)>,
}

impl Catalogue {
    /// Nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// What each service of node-ipc 0.9 has: its own four events, in its own words.
    #[must_use]
    pub fn of_v09(id: &str, path: &str) -> Self {
        let text = "data.events is a JSON object of event definitions by type";
        Self::new()
            .with_broadcasting(
                Introspection::Broadcasting.name(),
                format!("{text} {id} will broadcast on {path}"),
            )
            .with_broadcasting(
                Introspection::Listening.name(),
                format!("{text} {id} is listening for on {path}"),
            )
            .with_listening(Introspection::GetBroadcasting.name(), NO_PARAMETERS)
            .with_listening(Introspection::GetListening.name(), NO_PARAMETERS)
    }

    /// Adds an event that the service sends; one of the same name gets this description.
    #[must_use]
    pub fn with_broadcasting(mut self, name: impl Into<String>, description: impl Into<String>) -> Self {
        set(&mut self.broadcasting, name.into(), description.into());
        self
    }

    /// Adds an event that the service handles; one of the same name gets this description.
    #[must_use]
    pub fn with_listening(mut self, name: impl Into<String>, description: impl Into<String>) -> Self {
        set(&mut self.listening, name.into(), description.into());
        self
    }

    /// The events that the service sends, with their descriptions.
    #[must_use]
    pub fn broadcasting(&self) -> &[(String, String)] {
        &self.broadcasting
    }

    /// The events that the service handles, with their descriptions.
    #[must_use]
    pub fn listening(&self) -> &[(String, String)] {
        &self.listening
    }

    /// Appends the greeting of a server of 0.9 with this id: two frames. `out` is as before on error.
    ///
    /// # Errors
    ///
    /// As [`Writer::encode`]; a guard needs [`Guard::introspection`](super::Guard::introspection).
    pub fn greet(&self, id: &str, writer: &Writer, out: &mut Vec<u8>) -> Result<(), WireError> {
        let start = out.len();
        let written = self
            .answer(Introspection::GetBroadcasting, id, writer, out)
            .and_then(|()| self.answer(Introspection::GetListening, id, writer, out));
        if written.is_err() {
            out.truncate(start);
        }
        written
    }

    /// Appends the frame that answers a query to the service with this id; for an answer, the frame of that answer. `out`
    /// is as before on error.
    ///
    /// # Errors
    ///
    /// As [`Catalogue::greet`].
    pub fn answer(
        &self,
        query: Introspection,
        id: &str,
        writer: &Writer,
        out: &mut Vec<u8>,
    ) -> Result<(), WireError> {
        let (answer, events) = match query {
            Introspection::Broadcasting | Introspection::GetBroadcasting => {
                (Introspection::Broadcasting, &self.broadcasting)
            }
            Introspection::GetListening | Introspection::Listening => {
                (Introspection::Listening, &self.listening)
            }
        };
        writer.encode(answer.name(), Some(&Said { id, events: Events(events) }), out)
    }
}

/// The data of an answer: which service it is, and its events with their descriptions.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Announcement {
    /// The id of the service, as it calls itself.
    pub id: String,
    /// Names and descriptions in the order of the text. A description that is no string is kept as its JSON text.
    pub events: Vec<(String, String)>,
}

impl Announcement {
    /// Reads the data of [`Introspection::Broadcasting`] or [`Introspection::Listening`].
    ///
    /// A name that is told twice stands there twice. There are no more events than the data has bytes.
    ///
    /// # Errors
    ///
    /// [`DecodeError::Invalid`] when it has another shape.
    pub fn decode(data: &[u8]) -> Result<Self, DecodeError> {
        let heard: Heard =
            serde_json::from_slice(data).map_err(|_| DecodeError::Invalid { what: "announcement" })?;
        Ok(Self { id: heard.id, events: heard.events.0 })
    }
}

fn set(events: &mut Vec<(String, String)>, name: String, description: String) {
    match events.iter_mut().find(|(known, _)| *known == name) {
        Some((_, known)) => *known = description,
        None => events.push((name, description)),
    }
}

/// The data of an answer as it is written.
#[derive(Serialize)]
struct Said<'a> {
    id: &'a str,
    events: Events<'a>,
}

struct Events<'a>(&'a [(String, String)]);

impl Serialize for Events<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, description) in self.0 {
            map.serialize_entry(name, description)?;
        }
        map.end()
    }
}

/// The data of an answer as it is read.
#[derive(Deserialize)]
struct Heard {
    id: String,
    events: HeardEvents,
}

struct HeardEvents(Vec<(String, String)>);

impl<'de> Deserialize<'de> for HeardEvents {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;

        impl<'de> Visitor<'de> for Entries {
            type Value = HeardEvents;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("names of events and their descriptions")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<HeardEvents, A::Error> {
                let mut events = Vec::new();
                while let Some((name, description)) = entries.next_entry::<String, &RawValue>()? {
                    let description = match description.get() {
                        text if text.starts_with('"') => {
                            serde_json::from_str::<Cow<'_, str>>(text).map_err(A::Error::custom)?.into_owned()
                        }
                        text => text.to_owned(),
                    };
                    events.push((name, description));
                }
                Ok(HeardEvents(events))
            }
        }

        deserializer.deserialize_map(Entries)
    }
}

/// Spelled as node-ipc 0.9 spells it.
const NO_PARAMETERS: &str = "does not require any special paramaters";
