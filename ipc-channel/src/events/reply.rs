//! The handle that handlers answer through: whoever is at the other end of the connection that the event came over.

use std::{fmt, sync::Arc, time::Duration};

use bytes::Bytes;
use ipc_transport::{Endpoint, PeerIdentity};
use serde::{Serialize, de::DeserializeOwned};

use super::{CallError, EmitError, error::check_name, message::Message, peer::Peer};

/// The other end: a client for its server, the server for a client.
///
/// It may be kept and used at any time, from any task; it survives reconnects of the same peer, and fails once the peer
/// is gone for good.
#[derive(Clone)]
pub struct Reply {
    peer: Arc<Peer>,
}

impl Reply {
    pub(super) fn new(peer: Arc<Peer>) -> Self {
        Self { peer }
    }

    /// What identifies it: of a client 32 hexadecimal digits, made by the client when it starts; of a server its id.
    pub fn id(&self) -> &str {
        &self.peer.id
    }

    /// The name of a client, if it has one.
    pub fn name(&self) -> Option<&str> {
        self.peer.name().map(|name| &**name)
    }

    /// Who is behind its last connection, as the transport knows it; never from what the peer says of itself.
    pub fn identity(&self) -> PeerIdentity {
        self.peer.identity()
    }

    /// Where its last connection led.
    pub fn remote(&self) -> Option<Endpoint> {
        self.peer.info().map(|info| info.remote)
    }

    /// Whether there is a connection now.
    pub fn is_connected(&self) -> bool {
        self.peer.is_connected()
    }

    /// Sends an event to this peer: waits for room, and returns when it is *accepted*.
    ///
    /// An accepted event is kept until the peer has released it, over any number of connections. Events to one peer
    /// arrive in the order in which they were accepted.
    ///
    /// # Errors
    ///
    /// [`EmitError`]; nothing was sent then.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future while it waits sends nothing.
    pub async fn emit<T>(&self, name: &str, value: &T) -> Result<(), EmitError>
    where
        T: Serialize + Sync + ?Sized,
    {
        let frame = self.peer.core.encode_event(name, Some(value))?;
        self.peer.wire.event(frame).await
    }

    /// As [`emit`](Self::emit), of an event without data; a handler gets what nothing is of its type: the unit, or `null`.
    ///
    /// # Errors
    ///
    /// As there.
    ///
    /// # Cancel safety
    ///
    /// As there.
    pub async fn emit_bare(&self, name: &str) -> Result<(), EmitError> {
        let frame = self.peer.core.encode_event(name, None::<&()>)?;
        self.peer.wire.event(frame).await
    }

    /// Sends bare bytes to this peer, on the raw wire; they go out as they are, and may arrive in other pieces.
    ///
    /// # Errors
    ///
    /// [`EmitError::Unsupported`] on another wire; otherwise as [`emit`](Self::emit).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future while it waits sends nothing.
    pub async fn emit_bytes(&self, bytes: impl Into<Bytes> + Send) -> Result<(), EmitError> {
        let frame = self.peer.core.encode_bytes(bytes.into())?;
        self.peer.wire.event(frame).await
    }

    /// As [`emit`](Self::emit), without waiting.
    ///
    /// # Errors
    ///
    /// [`EmitError::Full`] when there is no room now; otherwise as there.
    pub fn try_emit<T>(&self, name: &str, value: &T) -> Result<(), EmitError>
    where
        T: Serialize + ?Sized,
    {
        self.peer.wire.try_event(self.peer.core.encode_event(name, Some(value))?)
    }

    /// Asks this peer and waits for its answer, until the deadline.
    ///
    /// A request is not repeated over another connection: when the connection breaks, the call fails, and the handler may
    /// have run or not.
    ///
    /// # Errors
    ///
    /// [`CallError`]; each way of failing is a variant of its own.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future tells the other side that nobody waits any more, and its handler is dropped.
    pub async fn call<T, R>(&self, name: &str, value: &T, deadline: Duration) -> Result<R, CallError>
    where
        T: Serialize + Sync + ?Sized,
        R: DeserializeOwned,
    {
        call(&self.peer, "", name, value, deadline).await
    }

    /// Events kept for this peer: not sent yet, under way, or not taken.
    pub fn pending(&self) -> usize {
        self.peer.wire.pending()
    }

    /// Events to this peer that a policy dropped so far.
    pub fn dropped(&self) -> u64 {
        self.peer.wire.dropped()
    }

    /// Waits until everything accepted so far was taken by the peer.
    ///
    /// # Errors
    ///
    /// [`EmitError::Closed`] when it is gone for good; a lost connection is waited out.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future changes nothing.
    pub async fn settled(&self) -> Result<(), EmitError> {
        self.peer.wire.settled().await
    }

    /// Cuts the connection, as a broken cable would: what was accepted is kept, and the client comes back to it.
    pub fn cut(&self) {
        self.peer.wire.cut();
    }
}

impl fmt::Debug for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reply")
            .field("id", &self.peer.id)
            .field("name", &self.peer.name())
            .field("connected", &self.is_connected())
            .finish_non_exhaustive()
    }
}

/// Two handles are equal when they lead to the same peer.
impl PartialEq for Reply {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.peer, &other.peer)
    }
}

impl Eq for Reply {}

/// Asks a peer, or by way of it the client `to`.
pub(super) async fn call<T, R>(
    peer: &Arc<Peer>,
    to: &str,
    name: &str,
    value: &T,
    deadline: Duration,
) -> Result<R, CallError>
where
    T: Serialize + Sync + ?Sized,
    R: DeserializeOwned,
{
    check_name(name)?;
    check_name(to)?;
    let codec = peer.core.tuning.codec;
    let encode = |id| peer.encode(&Message::Request { id, to, from: "", name, payload: &[] }, value);
    let answer = peer.call(encode, deadline).await?;
    codec.decode(&answer).map_err(CallError::Answer)
}
