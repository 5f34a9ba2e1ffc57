//! What a peer can do wrong: each of these cuts the connection, never the session.

use super::SessionId;

/// A violation of the link protocol by the peer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProtocolError {
    /// An ack names a value that was not sent.
    #[error("ack of value {released} where only values before {sent} were sent")]
    AckBeyondSent {
        /// The number that was acked.
        released: u64,
        /// The first number not sent.
        sent: u64,
    },
    /// Data beyond the credit that was promised.
    #[error("the peer sent beyond its credit of {max_values} values and {max_bytes} bytes")]
    CreditExceeded {
        /// The promise in values, cumulative.
        max_values: u64,
        /// The promise in bytes, cumulative.
        max_bytes: u64,
    },
    /// Credit or a release went backwards within a connection.
    #[error("the peer took back credit or a release")]
    CreditLowered,
    /// The first frame was not the one that must open a resumed link.
    #[error("frame kind {kind:#04x} where the link must first be resumed")]
    ExpectedResume {
        /// The kind that came.
        kind: u8,
    },
    /// A frame announces more than a frame may hold.
    #[error("frame of {len} bytes exceeds the limit of {max}")]
    FrameTooLarge {
        /// The announced length.
        len: usize,
        /// The limit.
        max: usize,
    },
    /// The hello or its answer is not of this protocol.
    #[error("malformed hello: {what}")]
    Hello {
        /// What is wrong with it.
        what: &'static str,
    },
    /// A hello whose length exceeds what is read before the handshake.
    #[error("hello of {len} bytes exceeds the limit of {max}")]
    HelloTooLarge {
        /// The announced length.
        len: usize,
        /// The limit.
        max: usize,
    },
    /// A control frame of the wrong length.
    #[error("malformed frame of kind {kind:#04x}")]
    MalformedFrame {
        /// Its kind.
        kind: u8,
    },
    /// A value larger than the limit both sides agreed on.
    #[error("value of {len} bytes or more exceeds the limit of {max}")]
    MessageTooLarge {
        /// Bytes when it was noticed.
        len: usize,
        /// The limit.
        max: usize,
    },
    /// A frame that may not come in this state or from this side.
    #[error("unexpected frame of kind {kind:#04x}")]
    UnexpectedFrame {
        /// Its kind.
        kind: u8,
    },
    /// The answer is about another session's numbers: it claims values that never were sent.
    #[error("the peer claims value {received} of session {session}, which was never sent")]
    UnknownValue {
        /// The session.
        session: SessionId,
        /// What it claims to have received.
        received: u64,
    },
    /// A frame kind below 0x80 that this version does not know.
    #[error("unknown frame kind {kind:#04x}")]
    UnknownKind {
        /// The kind.
        kind: u8,
    },
    /// A lane that this link does not have.
    #[error("frame for unknown lane {lane}")]
    UnknownLane {
        /// The lane.
        lane: u8,
    },
    /// No version in common.
    #[error("the peer speaks versions {low} to {high}, this end {ours}")]
    Version {
        /// Its lowest.
        low: u8,
        /// Its highest.
        high: u8,
        /// Ours.
        ours: u8,
    },
    /// The numbering of the two ends does not agree.
    #[error("wrong sequence: the peer is at value {theirs}, this end at {ours}")]
    WrongSequence {
        /// Where the peer says it is.
        theirs: u64,
        /// Where this end is.
        ours: u64,
    },
}
