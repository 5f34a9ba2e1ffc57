//! The sending end: handles that encode, and where their values go.

use std::{
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::BytesMut;
use ipc_transport::{DatagramAddress, DatagramSocket, EncodeBuffer, EncodeError, Encoder, Endpoint, Error};
use tokio::{runtime::Handle, sync::watch, task::AbortHandle, time::timeout};

use super::{
    SenderConfig, connect,
    outlet::{Outlet, SendingTask, run},
};
use crate::{
    SendError, SendErrorReason,
    link::{Connector, LinkNames, Status, fresh_session},
    protocol::{DATAGRAM_HEADER_LEN, SessionId, codec_tag},
};

/// Bytes that are taken from the system at once for encodings; one allocation serves many small values.
const SLAB: usize = 16 * 1024;

/// The sending end of a best-effort pipeline; clones share it.
///
/// A send never waits: when values cannot leave as fast as they come, the newest stay and the oldest go. When the last
/// handle is dropped, what waits is still handed to the socket, unless there is nowhere to send it to.
pub struct Sender<T> {
    owner: Arc<Owner>,
    encoder: Arc<dyn Encoder<T>>,
}

/// The handles of one sending end, all together.
struct Owner {
    outlet: Arc<Outlet>,
    /// Room for encodings to come; whoever encodes takes it along.
    slab: Mutex<BytesMut>,
    max_value: usize,
    local: Endpoint,
    status: Arc<watch::Sender<Status>>,
    /// Which order to connect is the latest: a task that was told to stop says nothing of its state any more.
    order: Arc<AtomicU64>,
    /// The task that keeps a connection to the receiver, if there is one.
    connecting: Mutex<Option<AbortHandle>>,
}

impl<T: 'static> Sender<T> {
    /// Sends through a socket, of which only the sending half is used; to nobody yet.
    ///
    /// # Errors
    ///
    /// [`Error::NoRuntime`] outside a tokio runtime, [`Error::DatagramTooLarge`] when the socket's datagrams have no room
    /// for a header and a byte.
    pub fn new(
        socket: DatagramSocket,
        config: SenderConfig,
        encoder: impl Encoder<T>,
    ) -> Result<Self, Error> {
        let runtime = Handle::try_current().map_err(|_| Error::NoRuntime)?;
        let max = socket.max_payload();
        if max <= DATAGRAM_HEADER_LEN {
            return Err(Error::DatagramTooLarge { len: DATAGRAM_HEADER_LEN + 1, max });
        }
        let local = socket.local_endpoint().clone();
        let outlet = Arc::new(Outlet::new(config, codec_tag(encoder.id())));
        let (reader, writer) = socket.into_parts();
        drop(reader);
        runtime.spawn(run(SendingTask(outlet.clone()), writer));
        let owner = Owner {
            outlet,
            slab: Mutex::default(),
            max_value: max - DATAGRAM_HEADER_LEN,
            local,
            status: Arc::new(watch::Sender::new(Status::Closed)),
            order: Arc::default(),
            connecting: Mutex::default(),
        };
        Ok(Self { owner: Arc::new(owner), encoder: Arc::new(encoder) })
    }

    /// Sends to this address from now on, as a new session, for receivers that take datagrams from
    /// [anybody](super::Sources::Anybody); `None` holds values back, the newest of them.
    ///
    /// It takes the place of what [`connect`](Self::connect) has begun.
    pub fn lead_to(&self, address: Option<DatagramAddress>) -> Option<SessionId> {
        self.owner.stop_connecting();
        let target = address.map(|address| (address, fresh_session()));
        let session = target.as_ref().map(|(_, session)| *session);
        self.owner.outlet.lead_to(target);
        self.owner.status.send_replace(if session.is_some() { Status::Connected } else { Status::Closed });
        session
    }

    /// Finds the receiver by a connection, whose answer tells where its socket is, and keeps the connection for as long as
    /// it lasts; connects again whenever it is lost, each time as a new session. Returns at once.
    ///
    /// While there is no connection values wait, the newest of them. It takes the place of an earlier `connect`.
    ///
    /// # Errors
    ///
    /// [`Error::NoRuntime`] outside a tokio runtime.
    pub fn connect(&self, connector: Arc<dyn Connector>, names: LinkNames) -> Result<(), Error> {
        let runtime = Handle::try_current().map_err(|_| Error::NoRuntime)?;
        let mine = self.owner.stop_connecting();
        self.owner.outlet.lead_to(None);
        self.owner.status.send_replace(Status::Waiting);
        let task = connect::Task {
            outlet: self.owner.outlet.clone(),
            status: self.owner.status.clone(),
            order: self.owner.order.clone(),
            mine,
            connector,
            names,
            codec: self.encoder.id().to_owned(),
            max_message: self.owner.max_value as u64,
            local: self.owner.local.clone(),
        };
        let task = runtime.spawn(task.run());
        *self.owner.connecting.lock().unwrap_or_else(PoisonError::into_inner) = Some(task.abort_handle());
        Ok(())
    }

    /// Accepts a value; it never waits. Whether it arrives, nobody tells.
    ///
    /// When [`SenderConfig::capacity`] or [`SenderConfig::byte_bound`] are reached, the oldest value that waits is dropped and
    /// counted, here and at the receiver.
    ///
    /// # Errors
    ///
    /// The value comes back: [`SendErrorReason::TooLarge`] when it does not fit into one datagram,
    /// [`SendErrorReason::Encode`], [`SendErrorReason::Closed`], [`SendErrorReason::NotConnected`] when the runtime of this
    /// end is gone.
    pub fn send(&self, value: T) -> Result<(), SendError<T>> {
        let outlet = &self.owner.outlet;
        let sent = match outlet.refusal() {
            Some(reason) => Err(reason),
            None => match self.encode(&value) {
                Ok(message) => outlet.push(message),
                Err(EncodeError::TooLarge { len, max }) => Err(SendErrorReason::TooLarge { len, max }),
                Err(error) => Err(SendErrorReason::Encode(error)),
            },
        };
        sent.map_err(|reason| SendError::new(value, reason))
    }

    /// Encodes in place, behind room for the header. No lock is held meanwhile: the value's own code runs.
    fn encode(&self, value: &T) -> Result<BytesMut, EncodeError> {
        let max = self.owner.max_value;
        let mut slab = std::mem::take(&mut *self.owner.slab());
        let mut outcome = Err(EncodeError::NoRoom);
        if slab.len() > DATAGRAM_HEADER_LEN {
            outcome = self.encode_into(&mut slab, value);
        }
        if matches!(outcome, Err(EncodeError::NoRoom)) && slab.len() < DATAGRAM_HEADER_LEN + max {
            slab = BytesMut::zeroed(SLAB.max(DATAGRAM_HEADER_LEN + max));
            outcome = self.encode_into(&mut slab, value);
        }
        *self.owner.slab() = slab;
        match outcome {
            Err(EncodeError::NoRoom) => Err(EncodeError::TooLarge { len: max + 1, max }),
            outcome => outcome,
        }
    }

    fn encode_into(&self, slab: &mut BytesMut, value: &T) -> Result<BytesMut, EncodeError> {
        let max = self.owner.max_value;
        let end = slab.len().min(DATAGRAM_HEADER_LEN + max);
        let mut out = EncodeBuffer::in_slice(&mut slab[DATAGRAM_HEADER_LEN..end]);
        self.encoder.encode(value, &mut out)?;
        let (len, attached) = (out.len(), out.take_attached());
        let Some(attached) = attached else { return Ok(slab.split_to(DATAGRAM_HEADER_LEN + len)) };
        if attached.len() > max {
            return Err(EncodeError::TooLarge { len: attached.len(), max });
        }
        let mut message = BytesMut::zeroed(DATAGRAM_HEADER_LEN);
        message.extend_from_slice(&attached);
        Ok(message)
    }
}

impl<T> Sender<T> {
    /// The largest encoding that fits into a datagram, bytes.
    pub fn max_value(&self) -> usize {
        self.owner.max_value
    }

    /// What the sending end is doing, to look at or to watch.
    pub fn status(&self) -> watch::Receiver<Status> {
        self.owner.status.subscribe()
    }

    /// Counts since the beginning.
    pub fn counters(&self) -> SenderCounters {
        self.owner.outlet.counters()
    }

    /// Whether sends are refused: this end was closed, by this handle or another one.
    pub fn is_closed(&self) -> bool {
        self.owner.outlet.is_closed()
    }

    /// Where the socket is, the real port included.
    pub fn local_endpoint(&self) -> &Endpoint {
        &self.owner.local
    }

    /// A handle that knows nothing of the values' type, to end it with.
    pub fn control(&self) -> SenderControl {
        SenderControl { owner: self.owner.clone() }
    }

    /// Refuses further sends through any handle, and waits until the socket has what was accepted: without a connection,
    /// until there is one.
    ///
    /// # Errors
    ///
    /// [`Unsent`] when values were given up at the deadline.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes all the same, if it was polled.
    pub async fn close(self, deadline: Duration) -> Result<(), Unsent> {
        self.control().close(deadline).await
    }
}

/// Ends a [`Sender`] without knowing its type; it keeps it open like any other handle.
#[derive(Clone)]
pub struct SenderControl {
    owner: Arc<Owner>,
}

impl SenderControl {
    /// As [`Sender::close`].
    ///
    /// # Errors
    ///
    /// As there.
    ///
    /// # Cancel safety
    ///
    /// As there.
    pub async fn close(&self, deadline: Duration) -> Result<(), Unsent> {
        let outlet = &self.owner.outlet;
        outlet.close();
        let gone = std::future::poll_fn(|cx| outlet.poll_gone(cx));
        let count = match timeout(deadline, gone).await {
            Ok(left) => left,
            Err(_) => outlet.abandon(),
        };
        self.owner.stop_connecting();
        self.owner.status.send_replace(Status::Closed);
        if count == 0 { Ok(()) } else { Err(Unsent { count }) }
    }
}

impl fmt::Debug for SenderControl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SenderControl").field("local", &self.owner.local).finish_non_exhaustive()
    }
}

impl Owner {
    fn slab(&self) -> std::sync::MutexGuard<'_, BytesMut> {
        self.slab.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Stops the task, and gives the number of the order that may follow.
    fn stop_connecting(&self) -> u64 {
        let next = self.order.fetch_add(1, Ordering::SeqCst) + 1;
        if let Some(task) = self.connecting.lock().unwrap_or_else(PoisonError::into_inner).take() {
            task.abort();
        }
        next
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.outlet.forsake();
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        Self { owner: self.owner.clone(), encoder: self.encoder.clone() }
    }
}

impl<T> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender")
            .field("local", &self.owner.local)
            .field("counters", &self.counters())
            .finish_non_exhaustive()
    }
}

/// What became of the values of a sending end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct SenderCounters {
    /// Values that were accepted.
    pub accepted: u64,
    /// Values that were handed to the socket, those that failed there included.
    pub sent: u64,
    /// Values that were given up before they left: newer ones had come, or the end.
    pub dropped: u64,
    /// Datagrams that the socket did not take; the receiver finds them missing.
    pub failed: u64,
    /// Values that wait to leave.
    pub waiting: usize,
}

/// Values that a sending end had accepted and did not hand to its socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{count} accepted values were not sent")]
pub struct Unsent {
    /// How many.
    pub count: usize,
}
