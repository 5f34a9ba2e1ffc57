//! What a link's sending end is doing, as a value to watch.

use crate::protocol::{ProtocolError, Refusal};

/// The state of a sending end, of a link or of best effort; there datagrams flow instead of frames, and sends do not fail
/// while it is refused, as the newest values wait for another order.
///
/// ```text
/// Closed ──connect──▶ Waiting ──▶ Connected ⇄ Lost(reason)
///                        │            │
///                        └──────▶ Refused(reason) ──connect──▶ Waiting
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Status {
    /// Not asked to connect yet, ended, or without the runtime that it was connected in.
    Closed,
    /// Frames flow.
    Connected,
    /// A connection existed and is gone; the link keeps what it has and dials again.
    Lost(LostReason),
    /// The receiving end said no; values are kept, sends fail, until connected anew or closed.
    Refused(Refusal),
    /// Dialling, or parked until the receiving end exists.
    Waiting,
}

/// Why a connection is gone.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum LostReason {
    /// This side cut it.
    Cut,
    /// The receiving end went away in good order; a successor may come.
    Detached,
    /// The peer hung up, or the connection broke.
    HangUp,
    /// The peer broke the protocol.
    Protocol(ProtocolError),
    /// The peer did not answer a ping in time: it is stopped, or cut off without a word.
    Unresponsive,
}

/// Whether there is room to send, with a count of the changes; one notification per change, not per value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Room {
    /// A send has met a full link, and no room has come since.
    pub full: bool,
    /// How often room has come after the link was full.
    pub drained: u64,
}
