//! What comes out of a receiving end: values with their origin, events, and the reasons why none comes.

use std::{fmt, ops::Deref, sync::Arc};

use ipc_transport::{DecodeError, PeerIdentity};

use super::session::Session;

/// A source of a receiving end: one (process, port), whatever its sessions; unique within the receiving end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SourceId(pub(super) u64);

/// Who a source is.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SourceInfo {
    /// The sending process, as it names itself.
    pub process: String,
    /// The sending port.
    pub port: String,
    /// Who is behind its last connection, as the transport knows it; never from what the source says of itself.
    pub peer: PeerIdentity,
    /// Whether a connection serves it now.
    pub connected: bool,
    /// Bytes of values that arrived from it, headers included, in this incarnation.
    pub received_bytes: u64,
    /// Values taken from it and not acked, in explicit mode: the oldest one's number.
    pub oldest_unacked: Option<u64>,
}

/// A value with its origin; it dereferences to the value.
///
/// In [`AckMode::Explicit`](super::AckMode::Explicit) the sender keeps it until [`ack`](Self::ack). One dropped
/// without an ack comes again to the next incarnation, or after
/// [`Receiver::recover`](super::Receiver::recover).
#[must_use = "in explicit mode a delivery that is not acked comes again"]
pub struct Delivery<T> {
    pub(super) value: T,
    pub(super) source: SourceId,
    pub(super) number: u64,
    pub(super) redelivered: bool,
    pub(super) ack: Option<Ack>,
}

pub(super) struct Ack {
    pub(super) session: Arc<Session>,
    pub(super) generation: u64,
}

impl<T> Delivery<T> {
    /// Acks the value, in any order with others, and gives it out; in automatic mode it was acked by being taken.
    pub fn ack(self) -> T {
        if let Some(ack) = self.ack {
            ack.session.ack(self.number, ack.generation);
        }
        self.value
    }

    /// The value, without an ack.
    pub fn into_value(self) -> T {
        self.value
    }

    /// Where it came from; [`Receiver::source`](super::Receiver::source) tells who that is.
    pub fn source(&self) -> SourceId {
        self.source
    }

    /// Its number in its session, from 1.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Whether an application may have seen it before: `false` means certainly not.
    pub fn redelivered(&self) -> bool {
        self.redelivered
    }
}

impl<T> Deref for Delivery<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T> fmt::Debug for Delivery<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Delivery")
            .field("source", &self.source)
            .field("number", &self.number)
            .field("redelivered", &self.redelivered)
            .finish_non_exhaustive()
    }
}

/// What a receiving end has to tell, in order.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event<T> {
    /// Numbers that the sender's policy dropped.
    Skipped {
        /// The source.
        source: SourceId,
        /// The first of them.
        first: u64,
        /// How many.
        count: u64,
    },
    /// The source's process or port began anew: values from here on belong to another session.
    ///
    /// Several restarts with nothing between them may be told as one.
    SourceRestarted {
        /// The source.
        source: SourceId,
    },
    /// A value.
    Value(Delivery<T>),
}

/// Why no value comes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RecvError {
    /// This end was closed.
    #[error("the receiving end is closed")]
    Closed,
    /// Every source has ended and everything was taken; reported once, and again after another source came and went.
    #[error("every source has ended")]
    EndOfStream,
    /// Plain values cannot be acked, which this end's ack mode asks for.
    #[error("values must be acked here; use recv or recv_deliveries")]
    ExplicitAcks,
    /// A value does not decode; it counts as taken and released, and the next receive goes on after it.
    #[error("value {number} of a source does not decode")]
    Undecodable {
        /// The source.
        source_id: SourceId,
        /// The value's number.
        number: u64,
        /// What is wrong with it.
        #[source]
        error: DecodeError,
    },
}
