//! The opening of a connection: eight fixed bytes, then fields; and the answer to them.

use std::fmt;

use super::ProtocolError;

/// The version of the protocol that this crate speaks.
pub const VERSION: u8 = 1;

/// Bytes of the fixed part that opens every connection, in both directions.
pub const PREAMBLE_LEN: usize = 8;

/// The most bytes of fields that are read before the handshake is done: 4 KiB.
pub const MAX_HELLO: usize = 4 * 1024;

/// The longest endpoint in an answer, bytes.
const MAX_PLACE: usize = 1024;

const MAGIC: [u8; 3] = [0xB1, b'P', b'L'];
const FLAG_ANSWER: u8 = 0x01;
const CRITICAL: u16 = 0x8000;

/// One outgoing end's life on a link: 128 random bits, made when the end opens; it survives connections.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionId(u128);

impl SessionId {
    /// A session id with these bits; they must come from a good random source.
    pub const fn from_bits(bits: u128) -> Self {
        Self(bits)
    }

    /// The bits.
    pub const fn bits(self) -> u128 {
        self.0
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The eight fixed bytes: magic, lowest and highest version, flags, length of the fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Preamble {
    /// Lowest version that the writer speaks.
    pub low: u8,
    /// Highest version that the writer speaks.
    pub high: u8,
    /// Whether this is an answer.
    pub answer: bool,
    /// Bytes of fields that follow.
    pub len: u16,
}

impl Preamble {
    /// As it stands on the wire.
    pub fn encode(self) -> [u8; PREAMBLE_LEN] {
        let len = self.len.to_le_bytes();
        let flags = if self.answer { FLAG_ANSWER } else { 0 };
        [MAGIC[0], MAGIC[1], MAGIC[2], self.low, self.high, flags, len[0], len[1]]
    }

    /// Reads and checks it: magic, a version in common, a length within [`MAX_HELLO`]. Unknown flags are ignored.
    pub fn decode(bytes: [u8; PREAMBLE_LEN], answer: bool) -> Result<Self, ProtocolError> {
        if bytes[..3] != MAGIC {
            return Err(ProtocolError::Hello { what: "the connection does not speak the link protocol" });
        }
        let found = Self {
            low: bytes[3],
            high: bytes[4],
            answer: bytes[5] & FLAG_ANSWER != 0,
            len: u16::from_le_bytes([bytes[6], bytes[7]]),
        };
        if !(found.low..=found.high).contains(&VERSION) {
            return Err(ProtocolError::Version { low: found.low, high: found.high, ours: VERSION });
        }
        if found.answer != answer {
            return Err(ProtocolError::Hello { what: "a hello where an answer belongs, or the reverse" });
        }
        if usize::from(found.len) > MAX_HELLO {
            return Err(ProtocolError::HelloTooLarge { len: found.len.into(), max: MAX_HELLO });
        }
        Ok(found)
    }
}

/// What a sending end says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Hello {
    /// The session.
    pub session: SessionId,
    /// Grows with each dial of the session.
    pub attempt: u64,
    /// The process that sends.
    pub from_process: String,
    /// The port that sends.
    pub from_port: String,
    /// The process that is wanted.
    pub to_process: String,
    /// The port that is wanted.
    pub to_port: String,
    /// The codec's id, always compared.
    pub codec: String,
    /// The schema's name, compared when both sides set one.
    pub schema: Option<String>,
    /// The largest value that may come, bytes.
    pub max_message: u64,
    /// How many values the sender keeps at most: the widest window that makes sense.
    pub capacity: u64,
    /// The incarnation that last answered this session, 0 if none.
    pub known: u64,
    /// The oldest number still kept; the next number if none is.
    pub lowest: u64,
    /// Opaque credentials for a hook of the user's.
    pub credentials: Vec<u8>,
    /// How values are to be delivered; both ends must mean the same.
    pub delivery: DeliveryMode,
}

/// How the values of a pipeline are delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum DeliveryMode {
    /// In datagrams beside the connection, which may be lost, doubled and reordered.
    BestEffort,
    /// By links of their own, which share the connection: see [`trunk`](crate::trunk).
    Lanes,
    /// By the link, which loses nothing.
    #[default]
    Reliable,
}

impl fmt::Display for DeliveryMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::BestEffort => "best effort",
            Self::Lanes => "by lanes",
            Self::Reliable => "reliable",
        })
    }
}

impl Hello {
    /// A hello of a new session.
    pub fn new(session: SessionId, codec: impl Into<String>) -> Self {
        Self {
            session,
            attempt: 1,
            from_process: String::new(),
            from_port: String::new(),
            to_process: String::new(),
            to_port: String::new(),
            codec: codec.into(),
            schema: None,
            max_message: 0,
            capacity: 1,
            known: 0,
            lowest: 1,
            credentials: Vec::new(),
            delivery: DeliveryMode::Reliable,
        }
    }

    /// Preamble and fields.
    ///
    /// # Errors
    ///
    /// [`ProtocolError::HelloTooLarge`] when names or credentials do not fit into [`MAX_HELLO`].
    pub fn encode(&self) -> Result<Vec<u8>, ProtocolError> {
        let mut fields = Fields::default();
        fields.put(1 | CRITICAL, &self.session.0.to_le_bytes());
        fields.put(2 | CRITICAL, &self.attempt.to_le_bytes());
        fields.put(3 | CRITICAL, self.from_process.as_bytes());
        fields.put(4 | CRITICAL, self.from_port.as_bytes());
        fields.put(5 | CRITICAL, self.to_process.as_bytes());
        fields.put(6 | CRITICAL, self.to_port.as_bytes());
        fields.put(7 | CRITICAL, self.codec.as_bytes());
        if let Some(schema) = &self.schema {
            fields.put(8, schema.as_bytes());
        }
        fields.put(9 | CRITICAL, &self.max_message.to_le_bytes());
        fields.put(10, &self.capacity.to_le_bytes());
        fields.put(11 | CRITICAL, &self.known.to_le_bytes());
        fields.put(12 | CRITICAL, &self.lowest.to_le_bytes());
        if !self.credentials.is_empty() {
            fields.put(13, &self.credentials);
        }
        match self.delivery {
            DeliveryMode::Reliable => {}
            DeliveryMode::BestEffort => fields.put(14 | CRITICAL, &[1]),
            DeliveryMode::Lanes => fields.put(14 | CRITICAL, &[2]),
        }
        fields.finish(false)
    }

    /// Reads the fields that follow the preamble.
    ///
    /// # Errors
    ///
    /// [`ProtocolError::Hello`] for a missing or malformed field and for an unknown critical one.
    pub fn decode(fields: &[u8]) -> Result<Self, ProtocolError> {
        let mut hello = Self::new(SessionId(0), String::new());
        let mut seen = 0_u32;
        for field in read_fields(fields) {
            let (tag, value) = field?;
            match tag & !CRITICAL {
                1 => hello.session = SessionId(u128::from_le_bytes(fixed(value)?)),
                2 => hello.attempt = u64::from_le_bytes(fixed(value)?),
                3 => hello.from_process = text(value)?,
                4 => hello.from_port = text(value)?,
                5 => hello.to_process = text(value)?,
                6 => hello.to_port = text(value)?,
                7 => hello.codec = text(value)?,
                8 => hello.schema = Some(text(value)?),
                9 => hello.max_message = u64::from_le_bytes(fixed(value)?),
                10 => hello.capacity = u64::from_le_bytes(fixed(value)?),
                11 => hello.known = u64::from_le_bytes(fixed(value)?),
                12 => hello.lowest = u64::from_le_bytes(fixed(value)?),
                13 => hello.credentials = value.to_vec(),
                14 => {
                    hello.delivery = match fixed::<1>(value)? {
                        [0] => DeliveryMode::Reliable,
                        [1] => DeliveryMode::BestEffort,
                        [2] => DeliveryMode::Lanes,
                        _ => return Err(ProtocolError::Hello { what: "an unknown way of delivery" }),
                    }
                }
                _ if tag & CRITICAL != 0 => {
                    return Err(ProtocolError::Hello { what: "an unknown critical field" });
                }
                _ => continue,
            }
            seen |= 1 << (tag & 0x1F);
        }
        const REQUIRED: u32 = 0b0001_1010_1111_1110;
        if seen & REQUIRED != REQUIRED {
            return Err(ProtocolError::Hello { what: "a required field is missing" });
        }
        if hello.lowest == 0 || hello.attempt == 0 {
            return Err(ProtocolError::Hello { what: "numbers and attempts begin at 1" });
        }
        Ok(hello)
    }
}

/// What the receiving end answers to a hello.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Answer {
    /// Best effort: come in, and send datagrams to this endpoint for as long as the connection stands.
    Datagrams {
        /// Where the receiving end's socket is, as it is bound.
        at: String,
    },
    /// Not this time; the reason says whether it makes sense to try again.
    Refused(Refusal),
    /// The process is there, the port is not yet; another answer follows on the same connection.
    Wait,
    /// Come in.
    Welcome(Welcome),
}

/// The state of the receiving end that a sender resumes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Welcome {
    /// One life of the receiving port or peer endpoint, random, not 0.
    pub incarnation: u64,
    /// The highest number that is whole in the receiver's buffer or beyond.
    pub received: u64,
    /// The highest number that the sender may forget.
    pub released: u64,
    /// Credit in values, cumulative since the counts began.
    pub max_values: u64,
    /// Credit in bytes, cumulative since the counts began.
    pub max_bytes: u64,
    /// The session names this incarnation, which has no record of it any more.
    pub unknown_session: bool,
    /// The credit counts begin anew at `received`: a new session here, or a recovered one.
    pub restated: bool,
    /// Moves are reported after a while without being asked for: a sender at its capacity need not ask.
    pub ticked: bool,
}

/// Why a receiving end turned a session away.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// As many sessions as are allowed, none of which can be forgotten; tried again with back-off.
    #[error("the receiving end has no room for another session")]
    Busy,
    /// Delivery, codec, schema or message size do not fit; see [`Terms`](super::Terms).
    #[error("incompatible: {what}")]
    Incompatible {
        /// What does not fit, and both sides' values.
        what: String,
    },
    /// Somebody else who is here has this name.
    #[error("the name {name} is taken")]
    NameTaken {
        /// The name.
        name: String,
    },
    /// A hook of the receiving application said no.
    #[error("not permitted by the receiving application")]
    NotPermitted,
    /// The receiving end was closed for good.
    #[error("the receiving end was closed")]
    PeerClosed,
    /// A newer connection of the same session is known; tried again with a newer attempt.
    #[error("a newer connection of this session exists")]
    Stale,
    /// The hello has something that this end does not understand.
    #[error("unsupported: {what}")]
    Unsupported {
        /// What it is.
        what: String,
    },
    /// The process at this address has another name.
    #[error("the process that answers is not {wanted}")]
    WrongProcess {
        /// The name that was asked for.
        wanted: String,
    },
}

impl Refusal {
    /// Whether a later attempt may fare better without anybody changing anything.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Busy | Self::Stale)
    }

    fn code(&self) -> u16 {
        match self {
            Self::Busy => 1,
            Self::Incompatible { .. } => 2,
            Self::NotPermitted => 3,
            Self::PeerClosed => 4,
            Self::Stale => 5,
            Self::Unsupported { .. } => 6,
            Self::WrongProcess { .. } => 7,
            Self::NameTaken { .. } => 8,
        }
    }

    fn detail(&self) -> &str {
        match self {
            Self::Incompatible { what } | Self::Unsupported { what } => what,
            Self::WrongProcess { wanted } => wanted,
            Self::NameTaken { name } => name,
            _ => "",
        }
    }

    fn of(code: u16, detail: String) -> Self {
        match code {
            1 => Self::Busy,
            2 => Self::Incompatible { what: detail },
            3 => Self::NotPermitted,
            4 => Self::PeerClosed,
            5 => Self::Stale,
            7 => Self::WrongProcess { wanted: detail },
            8 => Self::NameTaken { name: detail },
            // A reason of a later version is final, as far as this one can tell.
            _ => Self::Unsupported { what: detail },
        }
    }
}

impl Answer {
    /// Preamble and fields.
    pub fn encode(&self) -> Vec<u8> {
        let mut fields = Fields::default();
        match self {
            Self::Welcome(welcome) => {
                fields.put(1 | CRITICAL, &[0]);
                fields.put(2 | CRITICAL, &welcome.incarnation.to_le_bytes());
                fields.put(3 | CRITICAL, &welcome.received.to_le_bytes());
                fields.put(4 | CRITICAL, &welcome.released.to_le_bytes());
                fields.put(5 | CRITICAL, &welcome.max_values.to_le_bytes());
                fields.put(6 | CRITICAL, &welcome.max_bytes.to_le_bytes());
                let flags = u8::from(welcome.unknown_session)
                    | u8::from(welcome.restated) << 1
                    | u8::from(welcome.ticked) << 2;
                fields.put(7 | CRITICAL, &[flags]);
            }
            Self::Wait => fields.put(1 | CRITICAL, &[1]),
            Self::Datagrams { at } if at.len() > MAX_PLACE => {
                let what = "the endpoint of the receiving socket is too long".to_owned();
                return Self::Refused(Refusal::Unsupported { what }).encode();
            }
            Self::Datagrams { at } => {
                fields.put(1 | CRITICAL, &[3]);
                fields.put(10 | CRITICAL, at.as_bytes());
            }
            Self::Refused(refusal) => {
                fields.put(1 | CRITICAL, &[2]);
                fields.put(8 | CRITICAL, &refusal.code().to_le_bytes());
                let detail = refusal.detail();
                let end = (0..=detail.len().min(512)).rev().find(|&end| detail.is_char_boundary(end));
                fields.put(9, &detail.as_bytes()[..end.unwrap_or(0)]);
            }
        }
        fields.finish(true).expect("the fields of an answer are far below the limit")
    }

    /// Reads the fields that follow the preamble.
    ///
    /// # Errors
    ///
    /// [`ProtocolError::Hello`] for a missing or malformed field and for an unknown critical one.
    pub fn decode(fields: &[u8]) -> Result<Self, ProtocolError> {
        let mut outcome = None;
        let mut words = [None::<u64>; 7];
        let mut flags = 0;
        let (mut code, mut detail) = (0, String::new());
        let mut at = None;
        for field in read_fields(fields) {
            let (tag, value) = field?;
            match tag & !CRITICAL {
                1 => outcome = Some(fixed::<1>(value)?[0]),
                tag @ 2..=6 => words[usize::from(tag)] = Some(u64::from_le_bytes(fixed(value)?)),
                7 => flags = fixed::<1>(value)?[0],
                8 => code = u16::from_le_bytes(fixed(value)?),
                9 => detail = text(value)?,
                10 => at = Some(text(value)?),
                _ if tag & CRITICAL != 0 => {
                    return Err(ProtocolError::Hello { what: "an unknown critical field" });
                }
                _ => {}
            }
        }
        let word =
            |tag: usize| words[tag].ok_or(ProtocolError::Hello { what: "a required field is missing" });
        match outcome {
            Some(0) => Ok(Self::Welcome(Welcome {
                incarnation: word(2)?,
                received: word(3)?,
                released: word(4)?,
                max_values: word(5)?,
                max_bytes: word(6)?,
                unknown_session: flags & 1 != 0,
                restated: flags & 2 != 0,
                ticked: flags & 4 != 0,
            })),
            Some(1) => Ok(Self::Wait),
            Some(2) => Ok(Self::Refused(Refusal::of(code, detail))),
            Some(3) => match at {
                Some(at) => Ok(Self::Datagrams { at }),
                None => Err(ProtocolError::Hello { what: "a required field is missing" }),
            },
            _ => Err(ProtocolError::Hello { what: "an answer without a known outcome" }),
        }
    }
}

#[derive(Default)]
struct Fields {
    bytes: Vec<u8>,
    /// Whether a field was longer than its length can say.
    overlong: bool,
}

impl Fields {
    fn put(&mut self, tag: u16, value: &[u8]) {
        let Ok(len) = u16::try_from(value.len()) else {
            self.overlong = true;
            return;
        };
        self.bytes.extend_from_slice(&tag.to_le_bytes());
        self.bytes.extend_from_slice(&len.to_le_bytes());
        self.bytes.extend_from_slice(value);
    }

    fn finish(self, answer: bool) -> Result<Vec<u8>, ProtocolError> {
        let len = self.bytes.len();
        if self.overlong || len > MAX_HELLO {
            return Err(ProtocolError::HelloTooLarge { len, max: MAX_HELLO });
        }
        let preamble = Preamble { low: VERSION, high: VERSION, answer, len: len as u16 };
        let mut out = preamble.encode().to_vec();
        out.extend_from_slice(&self.bytes);
        Ok(out)
    }
}

fn read_fields(mut bytes: &[u8]) -> impl Iterator<Item = Result<(u16, &[u8]), ProtocolError>> {
    std::iter::from_fn(move || {
        if bytes.is_empty() {
            return None;
        }
        let field = split_field(bytes);
        bytes = field.map_or(&[], |(_, _, rest)| rest);
        Some(
            field
                .map(|(tag, value, _)| (tag, value))
                .ok_or(ProtocolError::Hello { what: "a field is cut short" }),
        )
    })
}

fn split_field(bytes: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let (tag, rest) = bytes.split_first_chunk::<2>()?;
    let (len, rest) = rest.split_first_chunk::<2>()?;
    let (value, rest) = rest.split_at_checked(u16::from_le_bytes(*len).into())?;
    Some((u16::from_le_bytes(*tag), value, rest))
}

fn fixed<const N: usize>(value: &[u8]) -> Result<[u8; N], ProtocolError> {
    value.try_into().map_err(|_| ProtocolError::Hello { what: "a field of the wrong length" })
}

fn text(value: &[u8]) -> Result<String, ProtocolError> {
    String::from_utf8(value.to_vec()).map_err(|_| ProtocolError::Hello { what: "a name that is not UTF-8" })
}
