//! What happens to connections, as handlers hear of it.

use std::sync::Arc;

use ipc_pipeline::trunk::TrunkEnd;

use super::{ConnectError, node_ipc::WireError, peer::Peer, plain::PlainEnd};

/// Why a connection is gone.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum DisconnectReason {
    /// The peer was closed in good order and will not come back by itself.
    Closed,
    /// This side cut it, or a newer connection of the same peer took its place.
    Cut,
    /// The peer hung up, died, or the way to it broke.
    Lost,
    /// The peer broke the protocol.
    Protocol,
    /// A rule of the wire was broken, which ends a connection: a limit, or the format itself.
    Wire(WireError),
}

/// A client whose connection is gone.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Departure {
    /// The client's id, as its connect told it.
    pub id: Arc<str>,
    /// Its name, if it has one.
    pub name: Option<Arc<str>>,
    /// Why.
    pub reason: DisconnectReason,
}

/// Events that were accepted for a client and given up.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Undelivered {
    /// The client's id.
    pub id: Arc<str>,
    /// Its name, if it has one.
    pub name: Option<Arc<str>>,
    /// How many: an upper bound, as the client may have taken some without our knowing.
    pub count: usize,
}

/// An attempt to connect that failed.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct AttemptFailed {
    /// Which attempt it was, from 1, since the client started or was last connected.
    pub attempt: u64,
    /// Why.
    pub error: Arc<ConnectError>,
}

/// Why a client stopped for good to try.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum GaveUp {
    /// The server said no, and would say it again.
    #[error("the server would refuse another attempt as well")]
    Refused(#[source] Arc<ConnectError>),
    /// As many attempts failed as may.
    #[error("not connected after {attempts} attempts")]
    Retries {
        /// How many.
        attempts: u64,
        /// Why the last one failed.
        #[source]
        error: Arc<ConnectError>,
    },
    /// It was told to stop trying.
    #[error("the client was told to stop trying")]
    Stopped,
}

/// Events that could not be delivered before the deadline of a close.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{undelivered} accepted events were not delivered")]
#[non_exhaustive]
pub struct Closing {
    /// How many: an upper bound, as peers may have taken some without our knowing.
    pub undelivered: usize,
}

impl Departure {
    pub(super) fn of(peer: &Peer, reason: DisconnectReason) -> Self {
        tracing::trace!(id = %peer.id, ?reason, "a client is gone");
        Self { id: peer.id.clone(), name: peer.name().cloned(), reason }
    }
}

pub(super) fn reason_of_plain(end: &PlainEnd) -> DisconnectReason {
    match end {
        PlainEnd::Cut => DisconnectReason::Cut,
        PlainEnd::HangUp => DisconnectReason::Lost,
        PlainEnd::Wire(error) => DisconnectReason::Wire(error.clone()),
    }
}

pub(super) fn reason_of(peer: &Peer, end: &TrunkEnd) -> DisconnectReason {
    // The last thing that it said may be in somebody's hands.
    peer.finish_handling();
    let slot = peer.wire.native().and_then(|native| native.slot.get());
    match end {
        _ if peer.has_left() => DisconnectReason::Closed,
        _ if peer.is_malformed() => DisconnectReason::Protocol,
        // One that nobody took out of its place was cut because a lane of it had ended: the peer was faster.
        TrunkEnd::Cut if slot.is_none_or(|trunk| !trunk.is_over()) => DisconnectReason::Cut,
        TrunkEnd::Cut | TrunkEnd::HangUp => DisconnectReason::Lost,
        _ => DisconnectReason::Protocol,
    }
}
