//! Ports that do their best and no more: values in datagrams, the newest win, and the losses are counted.

use std::{
    fmt,
    num::NonZeroUsize,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use futures_core::Stream;
use ipc_pipeline::{
    SendError,
    best_effort::{
        Outgoing, Received, Receiver, ReceiverConfig, ReceiverCounters, RecvError, Sender, SenderConfig,
        SenderCounters, SourceInfo, Unsent,
    },
    link::{AttemptError, LinkNames, Status},
};
use ipc_transport::{DatagramSocket, DatagramTransport, Decoder, Encoder, Endpoint, Error};
use tokio::sync::watch;

use crate::{
    ConnectError, ConnectionRequest, NodeConfig, PortError,
    incoming::Place,
    node::Shared,
    outgoing::{check_names, way_to},
};

/// How a best-effort port behaves; what does not concern its direction is ignored.
#[derive(Clone)]
#[must_use]
pub struct BestEffortConfig {
    transport: Arc<dyn DatagramTransport>,
    at: Endpoint,
    capacity: usize,
    sender: SenderConfig,
    receiver: ReceiverConfig,
}

impl BestEffortConfig {
    /// Datagrams of this transport, through a socket at this place: `udp://127.0.0.1:0` for any free port of this machine.
    ///
    /// There is no default: who takes best effort says so. Both ends need a socket of the same family, and the incoming port's
    /// has to be where its node was dialled: at the same address, or at one that stands for all of its machine.
    pub fn new(transport: impl DatagramTransport, at: Endpoint) -> Self {
        let (sender, receiver) = (SenderConfig::default(), ReceiverConfig::default());
        Self { transport: Arc::new(transport), at, capacity: sender.capacity.get(), sender, receiver }
    }

    /// Values that wait to leave, or of one source to be taken, at most; a newer one takes the place of the oldest. 64.
    pub fn capacity(mut self, values: usize) -> Self {
        self.capacity = values;
        self
    }

    /// Bytes that wait likewise. 1 MiB for an outgoing port, 256 KiB for each source of an incoming one.
    pub fn byte_bound(mut self, bytes: usize) -> Self {
        (self.sender.byte_bound, self.receiver.byte_bound) = (bytes, bytes);
        self
    }

    /// Both: a name for the meaning of the values, compared when both ends set one. None by default.
    pub fn schema(mut self, name: impl Into<String>) -> Self {
        let name = Some(name.into());
        (self.sender.schema, self.receiver.schema) = (name.clone(), name);
        self
    }

    /// Outgoing: opaque bytes for the receiver's hook. None by default.
    pub fn credentials(mut self, credentials: impl Into<Vec<u8>>) -> Self {
        self.sender.credentials = credentials.into();
        self
    }

    /// Incoming: sources at once, at most; more are told to come later. 64.
    pub fn max_sources(mut self, sources: NonZeroUsize) -> Self {
        self.receiver.max_sources = sources;
        self
    }

    /// Incoming: sees each source that wants to come in, at each of its connections, and may refuse it.
    pub fn connection_request(
        mut self,
        hook: impl Fn(&ConnectionRequest) -> bool + Send + Sync + 'static,
    ) -> Self {
        self.receiver.admission =
            Some(Arc::new(move |hello, info| hook(&ConnectionRequest::of(hello, info))));
        self
    }

    pub(crate) async fn outgoing<T: 'static>(
        &self,
        node: &NodeConfig,
        encoder: impl Encoder<T>,
    ) -> Result<Outgoing<T>, BestEffortError> {
        let mut config = self.sender.clone();
        config.capacity = NonZeroUsize::new(self.capacity).ok_or(PortError::ZeroCapacity)?;
        config.backoff.clone_from(&node.backoff);
        config.handshake_timeout = node.limits.handshake_timeout;
        Ok(Outgoing::new(self.bind().await?, config, encoder)?)
    }

    pub(crate) async fn receiver<T: 'static>(
        &self,
        decoder: impl Decoder<T>,
    ) -> Result<Receiver<T>, BestEffortError> {
        let mut config = self.receiver.clone();
        config.capacity = NonZeroUsize::new(self.capacity).ok_or(PortError::ZeroCapacity)?;
        Ok(Receiver::new(self.bind().await?, config, decoder)?)
    }

    async fn bind(&self) -> Result<DatagramSocket, Error> {
        self.transport.bind(&self.at).await
    }
}

impl fmt::Debug for BestEffortConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BestEffortConfig")
            .field("transport", &self.transport)
            .field("at", &self.at)
            .field("capacity", &self.capacity)
            .finish_non_exhaustive()
    }
}

/// Why a best-effort port could not be made.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum BestEffortError {
    /// What any port may meet.
    #[error(transparent)]
    Port(#[from] PortError),
    /// Its socket could not be had.
    #[error("no socket for the port")]
    Socket(#[from] Error),
}

/// A port that sends datagrams: a send never waits, the newest values win, and nobody tells what arrived.
///
/// It holds its values back while it is not connected, the newest of them. Dropping it refuses further sends through any
/// handle and ends the session, after what waits was handed to the socket, if there is a connection.
pub struct BestEffortOutgoingPort<T> {
    outgoing: Outgoing<T>,
    node: Arc<Shared>,
    name: String,
    target: Mutex<Option<(String, String)>>,
}

impl<T: 'static> BestEffortOutgoingPort<T> {
    pub(crate) fn new(outgoing: Outgoing<T>, node: Arc<Shared>, name: String) -> Self {
        Self { outgoing, node, name, target: Mutex::default() }
    }

    /// Records where the pipeline leads and starts to connect; returns at once.
    ///
    /// The connection finds the port, tells what it is worth, and learns where its socket is; values go beside it. It is
    /// made again whenever it is lost. A refused port may be connected anew.
    ///
    /// # Errors
    ///
    /// As [`OutgoingPort::connect`](crate::OutgoingPort::connect).
    pub fn connect(&self, process: &str, port: &str) -> Result<(), ConnectError> {
        check_names([process, port])?;
        let mut target = self.target.lock().unwrap_or_else(PoisonError::into_inner);
        let sender = self.outgoing.sender();
        let free = match &*sender.status().borrow() {
            Status::Refused(_) => true,
            // The runtime that the port was connected in is gone.
            Status::Closed => !sender.is_closed(),
            _ => false,
        };
        if let Some((to_process, to_port)) = target.as_ref().filter(|_| !free) {
            let (found, to_port) = (to_process.clone(), to_port.clone());
            return Err(if (&*found, &*to_port) == (process, port) {
                ConnectError::AlreadyConnected { process: found, port: to_port }
            } else {
                ConnectError::OutgoingPortBusy { process: found, port: to_port }
            });
        }
        let connector = way_to(&self.node, process)?;
        let names = LinkNames::new((&self.node.config.name, &self.name), (process, port));
        self.outgoing.connect(Arc::new(connector), names).map_err(|_| ConnectError::NoRuntime)?;
        *target = Some((process.to_owned(), port.to_owned()));
        Ok(())
    }

    /// Accepts a value; never waits. See [`Sender::send`].
    ///
    /// # Errors
    ///
    /// The value comes back: too large for a datagram, not encodable, or the port is closed.
    pub fn send(&self, value: T) -> Result<(), SendError<T>> {
        self.outgoing.send(value)
    }

    /// A handle that sends through this port; clones share it.
    pub fn sender(&self) -> Sender<T> {
        self.outgoing.sender().clone()
    }

    /// The port's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The largest encoding that fits into a datagram, bytes.
    pub fn max_value(&self) -> usize {
        self.outgoing.sender().max_value()
    }

    /// What the port is doing, to look at or to watch.
    pub fn status(&self) -> watch::Receiver<Status> {
        self.outgoing.sender().status()
    }

    /// Why the last attempt to connect came to nothing, to look at or to watch: that nobody is there yet, or what somebody
    /// has to mend, such as a certificate of another authority. See [`Sender::last_error`].
    pub fn last_error(&self) -> watch::Receiver<Option<AttemptError>> {
        self.outgoing.sender().last_error()
    }

    /// What became of its values, as far as this end knows.
    pub fn counters(&self) -> SenderCounters {
        self.outgoing.sender().counters()
    }

    /// Where its socket is.
    pub fn local_endpoint(&self) -> &Endpoint {
        self.outgoing.sender().local_endpoint()
    }

    /// Refuses further sends, and waits until the socket has what was accepted; see [`Outgoing::close`].
    ///
    /// # Errors
    ///
    /// [`Unsent`] when values were given up.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future is dropping the port.
    pub async fn close(self, deadline: Duration) -> Result<(), Unsent> {
        self.outgoing.control().close(deadline).await
    }
}

impl<T> Drop for BestEffortOutgoingPort<T> {
    fn drop(&mut self) {
        self.node.forget_outgoing(&self.name);
    }
}

impl<T> fmt::Debug for BestEffortOutgoingPort<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BestEffortOutgoingPort")
            .field("name", &self.name)
            .field("outgoing", &self.outgoing)
            .finish_non_exhaustive()
    }
}

/// A port that datagrams arrive at, from any number of sources, in turns; of each source the newest values stay.
///
/// It is a [`Stream`] as well. Dropping it closes its socket; sources look for a successor.
pub struct BestEffortIncomingPort<T> {
    receiver: Receiver<T>,
    // Behind the receiver: the name is free once that is gone.
    place: Place,
}

impl<T: 'static> BestEffortIncomingPort<T> {
    pub(crate) fn new(receiver: Receiver<T>, node: Arc<Shared>, name: String) -> Self {
        Self { receiver, place: Place { node, name } }
    }

    /// The next value, with what its number says of those before it.
    ///
    /// # Errors
    ///
    /// [`RecvError::Undecodable`], after which the next call goes on; [`RecvError::Closed`] after a shutdown.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: a value that was not returned is returned by the next call.
    pub async fn recv(&mut self) -> Result<Received<T>, RecvError> {
        self.receiver.recv().await
    }

    /// The next value if one is here; `None` if not.
    ///
    /// # Errors
    ///
    /// As [`recv`](Self::recv).
    pub fn try_recv(&mut self) -> Result<Option<Received<T>>, RecvError> {
        self.receiver.try_recv()
    }

    /// The sources that this port remembers, with the account of each: missing, doubled, late, given up.
    pub fn sources(&self) -> Vec<SourceInfo> {
        self.receiver.sources()
    }

    /// Counts of what belongs to no source.
    pub fn counters(&self) -> ReceiverCounters {
        self.receiver.counters()
    }

    /// The port's name.
    pub fn name(&self) -> &str {
        &self.place.name
    }

    /// Where datagrams arrive, the real port included.
    pub fn local_endpoint(&self) -> &Endpoint {
        self.receiver.local_endpoint()
    }

    /// Closes the socket and waits until its address is free; then the name is free as well. Sources look for a successor.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes all the same.
    pub async fn close(self) {
        let Self { receiver, place } = self;
        receiver.close().await;
        drop(place);
    }
}

impl<T: 'static> Stream for BestEffortIncomingPort<T> {
    type Item = Result<Received<T>, RecvError>;

    /// Ends after a shutdown.
    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Pin::new(&mut self.receiver).poll_next(cx)
    }
}

impl<T: 'static> fmt::Debug for BestEffortIncomingPort<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BestEffortIncomingPort")
            .field("name", &self.name())
            .field("receiver", &self.receiver)
            .finish_non_exhaustive()
    }
}
