//! The rules of the link, each as what its breach is called.

use ipc_pipeline::protocol::SessionId;

/// A rule of the link that a script has broken.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Violation {
    /// A value was accepted and can never arrive.
    Lost {
        /// The session and the value's number.
        value: (SessionId, u64),
    },
    /// A value was handed out twice by one incarnation, or again by a later one without the flag.
    Doubled {
        /// The session and the value's number.
        value: (SessionId, u64),
    },
    /// A value came before one that was accepted earlier.
    Reordered {
        /// The session and the value's number.
        value: (SessionId, u64),
    },
    /// A value arrived with other bytes than it was sent with.
    Corrupt {
        /// The session and the value's number.
        value: (SessionId, u64),
    },
    /// The flag is set although no earlier incarnation can have seen the value.
    WronglyFlagged {
        /// The session and the value's number.
        value: (SessionId, u64),
    },
    /// The policy dropped a value of which something had been written.
    DroppedWritten {
        /// The session and the value's number.
        value: (SessionId, u64),
    },
    /// The receiver was told that a number was dropped, and it was not; or a drop was not reported.
    WronglySkipped {
        /// How many drops the sender counted.
        dropped: u64,
        /// How many numbers the receiver was told of.
        skipped: u64,
    },
    /// The flag is not set although an earlier incarnation may have seen the value.
    NotFlagged {
        /// The session and the value's number.
        value: (SessionId, u64),
    },
    /// The two ends go on talking although nobody does anything.
    Restless,
    /// An end that announced itself was not confirmed.
    Unfinished,
    /// A value was released, here or by the receiver's word, before its application took it, or acked it in explicit
    /// mode; or a dropped number before everything ahead of it was.
    ReleasedEarly {
        /// The session and the value's number.
        value: (SessionId, u64),
    },
    /// The sender's counts do not add up.
    Miscounted {
        /// What is pending.
        pending: usize,
        /// What was accepted and neither released nor dropped.
        counted: u64,
    },
    /// More values than the capacity are kept, or more bytes held or promised than allowed.
    Unbounded,
    /// One of the machines called the other's bytes a violation of the protocol.
    Protocol(String),
}

pub(super) fn protocol(error: impl std::fmt::Display) -> Violation {
    Violation::Protocol(error.to_string())
}
