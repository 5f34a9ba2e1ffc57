//! Frames: a header of four bytes, then data or one of the control messages.

use super::ProtocolError;

/// Bytes of a frame header.
pub const HEADER_LEN: usize = 4;

/// The most payload of one frame, 256 KiB; larger values are split, so that control is never stuck behind one.
pub const MAX_PAYLOAD: usize = 256 * 1024;

const LEN_BITS: u32 = 20;
const LEN_MASK: u32 = (1 << LEN_BITS) - 1;
const LANE_MASK: u32 = 0xF;

/// What a frame is. Kinds from 0x80 on may be ignored by readers that do not know them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
#[repr(u8)]
pub enum Kind {
    /// A whole value, or the last piece of one.
    Data = 0x00,
    /// A piece of a value that goes on in the next data frame.
    More = 0x01,
    /// Opens the data of a connection: where it starts.
    Resume = 0x02,
    /// Says which number comes next, to detect a mismatch, and how much waits behind.
    Checkpoint = 0x03,
    /// Asks for an ack.
    Need = 0x04,
    /// Numbers that were dropped by a policy.
    Skip = 0x05,
    /// No more values will come.
    Fin = 0x06,
    /// Released values and credit.
    Ack = 0x07,
    /// The receiving end is gone without a word on the values; keep them for a successor.
    Detach = 0x08,
    /// The sender gives up what was not delivered.
    Abort = 0x09,
    /// The answer to an abort.
    Aborted = 0x0A,
    /// The receiving end was closed for good.
    Closed = 0x0B,
    /// Asks for a pong.
    Ping = 0x0C,
    /// Answers a ping.
    Pong = 0x0D,
}

impl Kind {
    fn of(byte: u8) -> Option<Self> {
        Some(match byte {
            0x00 => Self::Data,
            0x01 => Self::More,
            0x02 => Self::Resume,
            0x03 => Self::Checkpoint,
            0x04 => Self::Need,
            0x05 => Self::Skip,
            0x06 => Self::Fin,
            0x07 => Self::Ack,
            0x08 => Self::Detach,
            0x09 => Self::Abort,
            0x0A => Self::Aborted,
            0x0B => Self::Closed,
            0x0C => Self::Ping,
            0x0D => Self::Pong,
            _ => return None,
        })
    }
}

/// A frame header: 20 bits of length, 4 bits of lane, 8 bits of kind, as one little-endian word.
///
/// A whole value on lane 0 is therefore a word below 2²⁰: one comparison on the hot path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// The kind as it came; see [`Header::kind`].
    pub kind: u8,
    /// The lane, 0 for ports and peers.
    pub lane: u8,
    /// Bytes of payload that follow.
    pub len: u32,
}

impl Header {
    /// The header of a frame of this kind on lane 0.
    pub const fn new(kind: Kind, len: usize) -> Self {
        Self { kind: kind as u8, lane: 0, len: len as u32 }
    }

    /// The header as it stands on the wire.
    #[inline]
    pub const fn encode(self) -> [u8; HEADER_LEN] {
        ((self.len & LEN_MASK) | ((self.lane as u32) << LEN_BITS) | ((self.kind as u32) << 24)).to_le_bytes()
    }

    /// Reads a header; whether kind, lane and length make sense is for the caller to judge.
    #[inline]
    pub const fn decode(bytes: [u8; HEADER_LEN]) -> Self {
        let word = u32::from_le_bytes(bytes);
        Self { kind: (word >> 24) as u8, lane: ((word >> LEN_BITS) & LANE_MASK) as u8, len: word & LEN_MASK }
    }

    /// The kind, `None` for an ignorable one, an error for one that must be understood.
    pub fn kind(self) -> Result<Option<Kind>, ProtocolError> {
        match Kind::of(self.kind) {
            Some(kind) => Ok(Some(kind)),
            None if self.kind >= 0x80 => Ok(None),
            None => Err(ProtocolError::UnknownKind { kind: self.kind }),
        }
    }

    /// The whole frame, header included.
    #[inline]
    pub const fn frame_len(self) -> usize {
        HEADER_LEN + self.len as usize
    }
}

/// A control message: state, not a queue, so each kind is pending at most once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Control {
    /// Sender: the data of this connection starts at `first`; an earlier incarnation may have seen numbers up to
    /// `maybe_seen_until`.
    Resume {
        /// Number of the first value that follows.
        first: u64,
        /// Highest number that an earlier incarnation may have handed out; 0 if none.
        maybe_seen_until: u64,
    },
    /// Sender: the next value has this number, and this many bytes wait behind.
    Checkpoint {
        /// The next number.
        next: u64,
        /// Bytes that wait to be sent.
        waiting: u64,
    },
    /// Sender: held up; answer as soon as anything moves.
    Need {
        /// Bytes that wait to be sent.
        waiting: u64,
        /// Size of the next value, header included; 0 if none waits.
        next_size: u64,
    },
    /// Sender: this many numbers were dropped by a policy.
    Skip {
        /// How many.
        count: u64,
    },
    /// Sender: no value follows.
    Fin,
    /// Receiver: everything up to `released` may be forgotten; credit in cumulative counts.
    Ack {
        /// Highest released number.
        released: u64,
        /// Values that may be sent in all since the counts began.
        max_values: u64,
        /// Bytes that may be sent in all since the counts began.
        max_bytes: u64,
    },
    /// Receiver: gone; keep what was not released.
    Detach,
    /// Sender: drop what was not handed out.
    Abort,
    /// Receiver: everything up to `released` had been delivered, nothing after it will be.
    Aborted {
        /// Highest released number.
        released: u64,
        /// Highest number that an application has seen.
        taken: u64,
    },
    /// Receiver: closed for good; everything up to `released` was delivered.
    Closed {
        /// Highest released number.
        released: u64,
    },
    /// Either: answer with the same token.
    Ping {
        /// Any number.
        token: u64,
    },
    /// Either: the answer.
    Pong {
        /// The number of the ping.
        token: u64,
    },
}

impl Control {
    /// Appends the frame, on lane 0.
    pub fn encode(self, out: &mut Vec<u8>) {
        let (kind, words): (Kind, &[u64]) = match &self {
            Self::Resume { first, maybe_seen_until } => (Kind::Resume, &[*first, *maybe_seen_until]),
            Self::Checkpoint { next, waiting } => (Kind::Checkpoint, &[*next, *waiting]),
            Self::Need { waiting, next_size } => (Kind::Need, &[*waiting, *next_size]),
            Self::Skip { count } => (Kind::Skip, &[*count]),
            Self::Fin => (Kind::Fin, &[]),
            Self::Ack { released, max_values, max_bytes } => {
                (Kind::Ack, &[*released, *max_values, *max_bytes])
            }
            Self::Detach => (Kind::Detach, &[]),
            Self::Abort => (Kind::Abort, &[]),
            Self::Aborted { released, taken } => (Kind::Aborted, &[*released, *taken]),
            Self::Closed { released } => (Kind::Closed, &[*released]),
            Self::Ping { token } => (Kind::Ping, &[*token]),
            Self::Pong { token } => (Kind::Pong, &[*token]),
        };
        out.extend_from_slice(&Header::new(kind, words.len() * 8).encode());
        for word in words {
            out.extend_from_slice(&word.to_le_bytes());
        }
    }

    /// Reads the payload of a control frame.
    pub fn decode(kind: Kind, payload: &[u8]) -> Result<Self, ProtocolError> {
        let malformed = ProtocolError::MalformedFrame { kind: kind as u8 };
        let (words, rest) = payload.as_chunks::<8>();
        if !rest.is_empty() {
            return Err(malformed);
        }
        let word = |index: usize| u64::from_le_bytes(words[index]);
        Ok(match (kind, words.len()) {
            (Kind::Resume, 2) => Self::Resume { first: word(0), maybe_seen_until: word(1) },
            (Kind::Checkpoint, 2) => Self::Checkpoint { next: word(0), waiting: word(1) },
            (Kind::Need, 2) => Self::Need { waiting: word(0), next_size: word(1) },
            (Kind::Skip, 1) => Self::Skip { count: word(0) },
            (Kind::Fin, 0) => Self::Fin,
            (Kind::Ack, 3) => Self::Ack { released: word(0), max_values: word(1), max_bytes: word(2) },
            (Kind::Detach, 0) => Self::Detach,
            (Kind::Abort, 0) => Self::Abort,
            (Kind::Aborted, 2) => Self::Aborted { released: word(0), taken: word(1) },
            (Kind::Closed, 1) => Self::Closed { released: word(0) },
            (Kind::Ping, 1) => Self::Ping { token: word(0) },
            (Kind::Pong, 1) => Self::Pong { token: word(0) },
            _ => return Err(malformed),
        })
    }
}

/// The longest control frame, and the longest ignorable one that a sending end skips over.
const MAX_CONTROL: usize = 1024;

/// Reads the control frames that come back to a sending end; it buffers at most one frame.
#[derive(Debug, Default)]
pub struct ControlReader {
    partial: Vec<u8>,
}

impl ControlReader {
    /// A reader at the start of a connection.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes bytes as they come and hands each whole control message to `handle`.
    pub fn handle_bytes(
        &mut self,
        mut bytes: &[u8],
        mut handle: impl FnMut(Control) -> Result<(), ProtocolError>,
    ) -> Result<(), ProtocolError> {
        while !bytes.is_empty() {
            let wanted = match self.partial.first_chunk::<HEADER_LEN>() {
                Some(header) => checked(Header::decode(*header))?.frame_len(),
                None => HEADER_LEN,
            };
            let count = (wanted - self.partial.len()).min(bytes.len());
            self.partial.extend_from_slice(&bytes[..count]);
            bytes = &bytes[count..];
            let Some(header) = self.partial.first_chunk::<HEADER_LEN>() else { return Ok(()) };
            let header = checked(Header::decode(*header))?;
            if self.partial.len() < header.frame_len() {
                continue;
            }
            if let Some(kind) = header.kind()? {
                let control = Control::decode(kind, &self.partial[HEADER_LEN..])?;
                self.partial.clear();
                handle(control)?;
            } else {
                self.partial.clear();
            }
        }
        Ok(())
    }
}

fn checked(header: Header) -> Result<Header, ProtocolError> {
    if header.frame_len() > MAX_CONTROL {
        return Err(ProtocolError::FrameTooLarge { len: header.len as usize, max: MAX_CONTROL });
    }
    if header.lane != 0 {
        return Err(ProtocolError::UnknownLane { lane: header.lane });
    }
    Ok(header)
}
