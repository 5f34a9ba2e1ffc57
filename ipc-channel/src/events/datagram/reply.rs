//! The handle that handlers answer through: the address that a datagram came from.

use std::{fmt, sync::Arc};

use bytes::Bytes;
use ipc_transport::{DatagramAddress, PeerIdentity};
use serde::Serialize;

use super::{outlet::Outlet, peers::Peer};
use crate::events::EmitError;

/// An address that a datagram came from, and the way back.
///
/// It may be kept and used at any time, from any task, for as long as its end is open. It stands for an address and not
/// for a process: whoever receives there gets the answers. On the native wire an answer that is large against what came from
/// an address waits for a proof; see [`EmitError::Unproved`].
#[derive(Clone)]
pub struct DatagramReply {
    outlet: Arc<Outlet>,
    peer: Arc<Peer>,
    claimed: Option<Arc<str>>,
}

impl DatagramReply {
    pub(super) fn new(outlet: Arc<Outlet>, peer: Arc<Peer>, claimed: Option<Arc<str>>) -> Self {
        Self { outlet, peer, claimed }
    }

    /// Where the datagram came from, and where answers go.
    pub fn address(&self) -> &DatagramAddress {
        &self.peer.address
    }

    /// Nobody: a datagram proves nothing about who sent it, [`PeerIdentity::Unknown`].
    pub fn identity(&self) -> PeerIdentity {
        PeerIdentity::Unknown
    }

    /// What the sender calls itself in this very event: the member `id` of its data, on the wire of node-ipc and with
    /// [`NodeIpc::identify_peer`](crate::events::NodeIpc::identify_peer) alone. Anybody can claim any name.
    pub fn claimed_id(&self) -> Option<&str> {
        self.claimed.as_deref()
    }

    /// Whether it has shown that it receives at this address, on the native wire.
    pub fn is_proved(&self) -> bool {
        self.peer.is_proved()
    }

    /// Datagrams from this address that were malformed, since it was heard from.
    pub fn malformed(&self) -> u64 {
        self.peer.malformed()
    }

    /// Sends an event there. It never waits; whether it arrives, nobody tells.
    ///
    /// # Errors
    ///
    /// [`EmitError::TooLarge`], [`EmitError::Unproved`] and the others; nothing of the event was sent then.
    pub fn emit<T>(&self, name: &str, value: &T) -> Result<(), EmitError>
    where
        T: Serialize + ?Sized,
    {
        self.outlet.send_to(&self.peer, &self.outlet.event(name, Some(value))?)
    }

    /// As [`emit`](Self::emit), of an event without data; a handler gets what nothing is of its type: the unit, or `null`.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn emit_bare(&self, name: &str) -> Result<(), EmitError> {
        self.outlet.send_to(&self.peer, &self.outlet.event(name, None::<&()>)?)
    }

    /// Sends bare bytes there, as one datagram, on the raw wire.
    ///
    /// # Errors
    ///
    /// [`EmitError::Unsupported`] on another wire; otherwise as [`emit`](Self::emit).
    pub fn emit_bytes(&self, bytes: impl Into<Bytes>) -> Result<(), EmitError> {
        self.outlet.send_to(&self.peer, &self.outlet.bytes(bytes.into())?)
    }
}

impl fmt::Debug for DatagramReply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DatagramReply")
            .field("address", self.address())
            .field("proved", &self.is_proved())
            .finish_non_exhaustive()
    }
}

/// Two handles are equal when they lead to the same address of the same end.
impl PartialEq for DatagramReply {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.outlet, &other.outlet) && self.address() == other.address()
    }
}

impl Eq for DatagramReply {}
