//! The owner of a sending end: where its values go, and when it ends.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use ipc_transport::{DatagramAddress, DatagramSocket, Encoder, Error};
use tokio::{runtime::Handle, task::AbortHandle, time::timeout};

use super::{
    Sender, SenderConfig, connect,
    outbox::{Outbox, SendingTask},
    sender::Shared,
};
use crate::{
    SendError,
    link::{Connector, LinkNames, Status, fresh_session},
    protocol::{DATAGRAM_HEADER_LEN, SessionId, codec_tag},
};

/// The sending end of a best-effort pipeline; [`sender`](Self::sender) gives handles to share.
///
/// Dropping it refuses further sends through any handle and ends the session, after what waits was handed to the socket:
/// within 1 s, and if there is somewhere to send it to. The drop itself never waits.
pub struct Outgoing<T> {
    sender: Sender<T>,
    control: OutgoingControl,
}

impl<T: 'static> Outgoing<T> {
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
        let outbox = Arc::new(Outbox::new(config, codec_tag(encoder.id())));
        let (reader, writer) = socket.into_parts();
        drop(reader);
        runtime.spawn(SendingTask::new(outbox.clone(), writer).run());
        let shared = Arc::new(Shared::new(outbox, max - DATAGRAM_HEADER_LEN, local));
        let control = OutgoingControl { shared: shared.clone(), runtime, seeking: Arc::default() };
        Ok(Self { sender: Sender::new(shared, Arc::new(encoder)), control })
    }

    /// Sends to this address from now on, as a new session, for receivers that take datagrams from
    /// [anybody](super::Sources::Anybody); `None` holds values back, the newest of them. The session, if one began.
    ///
    /// It takes the place of what was ordered before, and does nothing after the end.
    pub fn lead_to(&self, address: Option<DatagramAddress>) -> Option<SessionId> {
        let mut seeking = self.control.seeking();
        let shared = &self.control.shared;
        let order = shared.outbox.begin_order(false)?;
        stop(seeking.take());
        let session = address.map(|address| {
            let session = fresh_session();
            // Told before any value can arrive because of it.
            shared.status.send_replace(Status::Connected);
            shared.outbox.lead_to(order, address, session);
            session
        });
        if session.is_none() {
            shared.status.send_replace(Status::Closed);
        }
        shared.last_error.clear();
        session
    }

    /// Finds the receiver by a connection, whose answer tells where its socket is, and keeps the connection for as long as
    /// it lasts; connects again whenever it is lost, each time as a new session. Returns at once.
    ///
    /// While there is no connection values wait, the newest of them. It takes the place of what was ordered before, and
    /// does nothing after the end.
    ///
    /// # Errors
    ///
    /// [`Error::NoRuntime`] outside a tokio runtime.
    pub fn connect(&self, connector: Arc<dyn Connector>, names: LinkNames) -> Result<(), Error> {
        let runtime = Handle::try_current().map_err(|_| Error::NoRuntime)?;
        let mut seeking = self.control.seeking();
        let shared = &self.control.shared;
        let Some(order) = shared.outbox.begin_order(true) else { return Ok(()) };
        stop(seeking.take());
        shared.status.send_replace(Status::Waiting);
        shared.last_error.clear();
        let codec = self.sender.codec().to_owned();
        let task = connect::Task::new(shared.clone(), order, connector, names, codec);
        *seeking = Some(runtime.spawn(task.run()).abort_handle());
        Ok(())
    }

    /// Accepts a value; never waits. See [`Sender::send`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn send(&self, value: T) -> Result<(), SendError<T>> {
        self.sender.send(value)
    }
}

impl<T> Outgoing<T> {
    /// The handle that sends; clone it to share it.
    pub fn sender(&self) -> &Sender<T> {
        &self.sender
    }

    /// A handle that knows nothing of the values' type, to end it with.
    pub fn control(&self) -> OutgoingControl {
        self.control.clone()
    }

    /// Refuses further sends through any handle, and waits until the socket has what was accepted: while a connection is
    /// looked for, until there is one.
    ///
    /// What has nowhere to go, as no connection is looked for or as it was refused, is given up at once.
    ///
    /// # Errors
    ///
    /// [`Unsent`] when values were given up.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future is dropping this end: what waits has 1 s to leave.
    pub async fn close(self, deadline: Duration) -> Result<(), Unsent> {
        self.control.close(deadline).await
    }
}

impl<T> Drop for Outgoing<T> {
    fn drop(&mut self) {
        self.control.shared.outbox.forsake();
        // A task that looks for the receiver tells the end of it; nobody else would.
        if self.control.seeking().as_ref().is_none_or(AbortHandle::is_finished) {
            self.control.shared.status.send_replace(Status::Closed);
        }
    }
}

impl<T> fmt::Debug for Outgoing<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outgoing").field("sender", &self.sender).finish_non_exhaustive()
    }
}

/// Ends an [`Outgoing`] without knowing the type of its values.
#[derive(Clone)]
pub struct OutgoingControl {
    shared: Arc<Shared>,
    /// Where it was made: a close may be awaited anywhere.
    runtime: Handle,
    /// The task that looks for the receiver; locked while orders change.
    seeking: Arc<Mutex<Option<AbortHandle>>>,
}

impl OutgoingControl {
    /// As [`Outgoing::close`].
    ///
    /// # Errors
    ///
    /// As there.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes all the same, if it was polled.
    pub async fn close(&self, deadline: Duration) -> Result<(), Unsent> {
        let outbox = &self.shared.outbox;
        outbox.close();
        let gone = {
            let _entered = self.runtime.enter();
            timeout(deadline, outbox.gone())
        };
        let count = match gone.await {
            Ok(left) => left,
            Err(_) => outbox.abandon(),
        };
        self.over();
        if count == 0 { Ok(()) } else { Err(Unsent { count }) }
    }

    fn seeking(&self) -> MutexGuard<'_, Option<AbortHandle>> {
        self.seeking.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Nobody looks for the receiver any more, and so it stays.
    fn over(&self) {
        let mut seeking = self.seeking();
        self.shared.outbox.end_orders();
        stop(seeking.take());
        self.shared.status.send_replace(Status::Closed);
    }
}

fn stop(task: Option<AbortHandle>) {
    if let Some(task) = task {
        task.abort();
    }
}

impl fmt::Debug for OutgoingControl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OutgoingControl").field("local", &self.shared.local).finish_non_exhaustive()
    }
}

/// Values that a sending end had accepted and did not hand to its socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{count} accepted values were not sent")]
pub struct Unsent {
    /// How many.
    pub count: usize,
}
