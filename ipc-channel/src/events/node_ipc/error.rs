//! What is wrong with a frame, or with what should become one.

use std::time::Duration;

use ipc_transport::EncodeError;

/// Why a frame is refused, in either direction.
///
/// The text of an error holds facts only: neither data nor a name that a peer chose. What a connection does after one
/// is the profile's word: [`Profile::closes_after`](super::Profile::closes_after).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WireError {
    /// The JSON holds the delimiter, so the receiver would cut the frame there. Only with delimiters that can stand in
    /// JSON text.
    #[error("frame holds the delimiter at byte {at}")]
    ContainsDelimiter {
        /// Where in the frame.
        at: usize,
    },
    /// Arrays and objects nest deeper than allowed.
    #[error("data nests deeper than {max} levels")]
    Depth {
        /// The limit.
        max: usize,
    },
    /// The value did not become JSON: too large, too deep, or its own `Serialize` failed.
    #[error("value does not become a frame")]
    Encode(#[from] EncodeError),
    /// A frame was begun and not ended in time. The connection measures it.
    #[error("frame not complete after {limit:?}")]
    IncompleteFrame {
        /// The limit.
        limit: Duration,
    },
    /// The name holds a surrogate without its partner, which no Rust string can.
    #[error("event name holds a lone surrogate")]
    LoneSurrogate,
    /// The name of the event has too many bytes.
    #[error("event name of {len} bytes exceeds the limit of {max}")]
    NameTooLong {
        /// Its length in bytes of UTF-8.
        len: usize,
        /// The limit.
        max: usize,
    },
    /// JSON, but not an object.
    #[error("frame is no JSON object")]
    NotAnObject,
    /// The name is not on the list of those that are allowed; the name itself is not told.
    #[error("event name is not on the list of allowed names")]
    NotAllowed,
    /// The frame is no JSON text.
    #[error("frame is no JSON from byte {at} on")]
    NotJson {
        /// Where it stops being JSON, from the beginning of the frame.
        at: usize,
    },
    /// The frame is not UTF-8.
    #[error("frame is no UTF-8 from byte {at} on")]
    NotUtf8 {
        /// Where it stops being UTF-8, from the beginning of the frame.
        at: usize,
    },
    /// Too many bytes wait to be written to one peer. The connection counts them.
    #[error("{len} bytes waiting for the peer exceed the limit of {max}")]
    Pending {
        /// How many would wait.
        len: usize,
        /// The limit.
        max: usize,
    },
    /// The name means something to Node or to node-ipc itself.
    #[error("event name {name:?} is reserved")]
    Reserved {
        /// Which name it is, from the list of them.
        name: &'static str,
    },
    /// The frame is larger than allowed. The stream cannot be followed beyond it.
    #[error("frame of {len} bytes or more exceeds the limit of {max}")]
    TooLarge {
        /// Its length, as far as it was seen.
        len: usize,
        /// The limit.
        max: usize,
    },
    /// The stream ended within a frame.
    #[error("stream ended within a frame, after {have} bytes of it")]
    Truncated {
        /// Bytes of the unfinished frame.
        have: usize,
    },
    /// The object has no `type`.
    #[error("frame has no type")]
    TypeMissing,
    /// The `type` of the object is not a string.
    #[error("type of the frame is no string")]
    TypeNotAString,
}
