//! Messages of the native wire: what travels on the lanes between a server and a client.
//!
//! Events go on the private and the broadcast lane; everything that somebody waits for an answer to goes on the control
//! lane, with the answers. `docs/events.md` has the bytes.

use ipc_transport::{EncodeBuffer, EncodeError};

/// The longest name of an event, a request or a client. 256 bytes.
pub const MAX_NAME: usize = 256;

/// The longest text that a failure carries. 512 bytes.
pub(crate) const MAX_TEXT: usize = 512;

/// One message, as it lies in a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Message<'a> {
    /// The answer to a request: its value.
    Answer { id: u64, payload: &'a [u8] },
    /// A client has the server tell this event to all other clients.
    Broadcast { id: u64, include_self: bool, name: &'a str, payload: &'a [u8] },
    /// Nobody waits for the answer to a request any more.
    Cancel { id: u64 },
    /// Who is here, and what can be asked.
    Discover { id: u64 },
    /// A client has the server tell this event to another client.
    EmitTo { id: u64, to: &'a str, name: &'a str, payload: &'a [u8] },
    /// An event; `from` is the client that had the server tell it.
    Event { name: &'a str, from: &'a str, payload: &'a [u8] },
    /// The answer to a request: why there is no value.
    Failure { id: u64, code: u8, text: &'a str },
    /// The server goes away in good order. Where it names a place, that is for later versions: clients dial as ever.
    GoAway { to: &'a str },
    /// This end is closed for good and will not dial again.
    Goodbye,
    /// A question, to be answered; `from` is the client that asks by way of the server, `to` the one that it asks.
    Request { id: u64, to: &'a str, from: &'a str, name: &'a str, payload: &'a [u8] },
}

const ANSWER: u8 = 1;
const BROADCAST: u8 = 2;
const CANCEL: u8 = 3;
const DISCOVER: u8 = 4;
const EMIT_TO: u8 = 5;
const EVENT: u8 = 6;
const FAILURE: u8 = 7;
const GO_AWAY: u8 = 8;
const GOODBYE: u8 = 9;
const REQUEST: u8 = 10;
const BROADCAST_ALL: u8 = 11;

/// Bytes that are no message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a message is malformed: {what}")]
pub(crate) struct Malformed {
    pub(crate) what: &'static str,
}

impl<'a> Message<'a> {
    /// The message without its payload: what stands before it.
    pub(crate) fn encode_head(&self, out: &mut EncodeBuffer<'_>) -> Result<(), EncodeError> {
        let numbered = |out: &mut EncodeBuffer<'_>, kind: u8, id: u64| {
            out.write(&[kind])?;
            out.write(&id.to_le_bytes())
        };
        match *self {
            Self::Event { name, from, .. } => {
                out.write(&[EVENT])?;
                put(out, name)?;
                put(out, from)
            }
            Self::Answer { id, .. } => numbered(out, ANSWER, id),
            Self::Broadcast { id, include_self, name, .. } => {
                numbered(out, if include_self { BROADCAST_ALL } else { BROADCAST }, id)?;
                put(out, name)
            }
            Self::Cancel { id } => numbered(out, CANCEL, id),
            Self::Discover { id } => numbered(out, DISCOVER, id),
            Self::EmitTo { id, to, name, .. } => {
                numbered(out, EMIT_TO, id)?;
                put(out, to)?;
                put(out, name)
            }
            Self::Failure { id, code, text } => {
                numbered(out, FAILURE, id)?;
                out.write(&[code])?;
                put(out, cut(text, MAX_TEXT))
            }
            Self::GoAway { to } => {
                out.write(&[GO_AWAY])?;
                put(out, to)
            }
            Self::Goodbye => out.write(&[GOODBYE]),
            Self::Request { id, to, from, name, .. } => {
                numbered(out, REQUEST, id)?;
                put(out, to)?;
                put(out, from)?;
                put(out, name)
            }
        }
    }

    /// The whole message.
    pub(crate) fn encode(&self, out: &mut EncodeBuffer<'_>) -> Result<(), EncodeError> {
        self.encode_head(out)?;
        match self {
            Self::Answer { payload, .. }
            | Self::Broadcast { payload, .. }
            | Self::EmitTo { payload, .. }
            | Self::Event { payload, .. }
            | Self::Request { payload, .. } => out.write(payload),
            _ => Ok(()),
        }
    }

    /// What it is, in a word or two.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Answer { .. } => "answer",
            Self::Broadcast { .. } => "broadcast",
            Self::Cancel { .. } => "cancel",
            Self::Discover { .. } => "discover",
            Self::EmitTo { .. } => "emit to",
            Self::Event { .. } => "event",
            Self::Failure { .. } => "failure",
            Self::GoAway { .. } => "go away",
            Self::Goodbye => "goodbye",
            Self::Request { .. } => "request",
        }
    }

    /// Reads one message; what follows its head is its payload.
    pub(crate) fn decode(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let (&kind, rest) = bytes.split_first().ok_or(Malformed { what: "it is empty" })?;
        let mut rest = Rest(rest);
        let message = match kind {
            EVENT => {
                let (name, from) = (rest.text(MAX_NAME)?, rest.text(MAX_NAME)?);
                return Ok(Self::Event { name, from, payload: rest.0 });
            }
            ANSWER => return Ok(Self::Answer { id: rest.id()?, payload: rest.0 }),
            BROADCAST | BROADCAST_ALL => {
                let (id, name) = (rest.id()?, rest.text(MAX_NAME)?);
                let include_self = kind == BROADCAST_ALL;
                return Ok(Self::Broadcast { id, include_self, name, payload: rest.0 });
            }
            EMIT_TO => {
                let (id, to, name) = (rest.id()?, rest.text(MAX_NAME)?, rest.text(MAX_NAME)?);
                return Ok(Self::EmitTo { id, to, name, payload: rest.0 });
            }
            REQUEST => {
                let (id, to) = (rest.id()?, rest.text(MAX_NAME)?);
                let (from, name) = (rest.text(MAX_NAME)?, rest.text(MAX_NAME)?);
                return Ok(Self::Request { id, to, from, name, payload: rest.0 });
            }
            CANCEL => Self::Cancel { id: rest.id()? },
            DISCOVER => Self::Discover { id: rest.id()? },
            FAILURE => {
                let id = rest.id()?;
                let [code] = rest.take::<1>()?;
                Self::Failure { id, code, text: rest.text(MAX_TEXT)? }
            }
            GO_AWAY => Self::GoAway { to: rest.text(1024)? },
            GOODBYE => Self::Goodbye,
            _ => return Err(Malformed { what: "its kind is unknown" }),
        };
        if rest.0.is_empty() { Ok(message) } else { Err(Malformed { what: "bytes are left over" }) }
    }
}

/// What is left to read of a message.
struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (head, rest) = self.0.split_first_chunk::<N>().ok_or(Malformed { what: "it is cut short" })?;
        self.0 = rest;
        Ok(*head)
    }

    fn id(&mut self) -> Result<u64, Malformed> {
        self.take().map(u64::from_le_bytes)
    }

    fn text(&mut self, max: usize) -> Result<&'a str, Malformed> {
        let len = usize::from(u16::from_le_bytes(self.take()?));
        if len > max {
            return Err(Malformed { what: "a name is too long" });
        }
        let (text, rest) = self.0.split_at_checked(len).ok_or(Malformed { what: "it is cut short" })?;
        self.0 = rest;
        std::str::from_utf8(text).map_err(|_| Malformed { what: "a name is not UTF-8" })
    }
}

fn put(out: &mut EncodeBuffer<'_>, text: &str) -> Result<(), EncodeError> {
    let Ok(len) = u16::try_from(text.len()) else {
        return Err(EncodeError::TooLarge { len: text.len(), max: u16::MAX.into() });
    };
    out.write(&len.to_le_bytes())?;
    out.write(text.as_bytes())
}

/// At most `max` bytes of a text, whole characters.
pub(crate) fn cut(text: &str, max: usize) -> &str {
    let end = (0..=text.len().min(max)).rev().find(|&end| text.is_char_boundary(end));
    &text[..end.unwrap_or(0)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round_trip(message: Message<'_>) {
        let mut bytes = Vec::new();
        message.encode(&mut EncodeBuffer::growing(&mut bytes, 4096)).unwrap();
        assert_eq!(Message::decode(&bytes), Ok(message));
        // Whatever is cut off: an error, or a shorter payload.
        for end in 0..bytes.len() {
            assert_ne!(Message::decode(&bytes[..end]), Ok(message));
        }
    }

    #[test]
    fn every_message_comes_back_as_it_was() {
        let payload = b"payload".as_slice();
        round_trip(Message::Answer { id: 7, payload });
        round_trip(Message::Broadcast { id: 7, include_self: true, name: "tick", payload });
        round_trip(Message::Broadcast { id: 7, include_self: false, name: "tick", payload });
        round_trip(Message::Cancel { id: u64::MAX });
        round_trip(Message::Discover { id: 0 });
        round_trip(Message::EmitTo { id: 1, to: "other", name: "", payload });
        round_trip(Message::Event { name: "grüße", from: "", payload });
        round_trip(Message::Failure { id: 1, code: 3, text: "why" });
        round_trip(Message::GoAway { to: "unix:/run/b.sock" });
        round_trip(Message::Goodbye);
        round_trip(Message::Request { id: 1, to: "", from: "a", name: "add", payload });
    }

    #[test]
    fn what_is_no_message_is_an_error() {
        for bytes in [&[][..], &[0], &[99], &[EVENT, 255, 255], &[EVENT, 1, 0, 0xFF, 0, 0], &[GOODBYE, 0]] {
            assert!(Message::decode(bytes).is_err(), "{bytes:?}");
        }
        let mut long = vec![EVENT, 1, 1];
        long.extend([b'a'; 257]);
        long.extend([0, 0]);
        assert_eq!(Message::decode(&long), Err(Malformed { what: "a name is too long" }));
    }

    #[test]
    fn a_text_is_cut_between_characters() {
        assert_eq!(cut("grüße", 3), "gr");
        assert_eq!(cut("grüße", 4), "grü");
        assert_eq!(cut("ab", 512), "ab");
    }

    /// The vectors of the page: each is what its message becomes, and what becomes its message.
    #[test]
    fn the_page_has_the_bytes() {
        let payload = b"*".as_slice();
        let messages = [
            ("answer", Message::Answer { id: 7, payload }),
            ("broadcast", Message::Broadcast { id: 7, include_self: false, name: "tick", payload }),
            ("broadcast-all", Message::Broadcast { id: 7, include_self: true, name: "tick", payload }),
            ("cancel", Message::Cancel { id: 7 }),
            ("discover", Message::Discover { id: 7 }),
            ("emit-to", Message::EmitTo { id: 7, to: "b", name: "tick", payload }),
            ("event", Message::Event { name: "tick", from: "", payload }),
            ("event-from", Message::Event { name: "tick", from: "a", payload }),
            ("failure", Message::Failure { id: 7, code: 3, text: "why" }),
            ("go-away", Message::GoAway { to: "" }),
            ("goodbye", Message::Goodbye),
            ("request", Message::Request { id: 7, to: "", from: "", name: "add", payload }),
            ("request-by-way", Message::Request { id: 7, to: "b", from: "", name: "add", payload }),
        ];
        let page = include_str!("../../../docs/events.md");
        let (_, block) = page.split_once("```vectors\n").unwrap();
        let (block, _) = block.split_once("```").unwrap();
        let vectors: Vec<(&str, Vec<u8>)> = block
            .lines()
            .map(|line| {
                let (name, bytes) = line.split_once(' ').unwrap();
                (name, bytes.split_whitespace().map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect())
            })
            .collect();
        assert_eq!(vectors.len(), messages.len());
        for ((name, bytes), (expected, message)) in vectors.iter().zip(messages) {
            assert_eq!(*name, expected);
            let mut encoded = Vec::new();
            message.encode(&mut EncodeBuffer::growing(&mut encoded, 4096)).unwrap();
            assert_eq!(encoded, *bytes, "{name}");
            assert_eq!(Message::decode(bytes), Ok(message), "{name}");
        }
    }
}
