//! Datagrams: the contract of transports that may lose, double and reorder, and never pretend otherwise.

use std::{
    fmt,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use async_trait::async_trait;
use bytes::Bytes;
use futures_core::Stream;
use futures_sink::Sink;

use crate::{Endpoint, Error};

/// A way to exchange datagrams: messages that arrive whole or not at all, in any order, once or more often.
///
/// **No promise of delivery**: each datagram may be lost, doubled, or overtaken by others, and nobody is told. Who cannot
/// live with that takes a [`Transport`](crate::Transport) instead; a datagram socket never becomes a
/// [`Connection`](crate::Connection) by itself.
///
/// # Contract
///
/// Every implementation keeps these promises, and the conformance suite of `ipc-testkit` has a check of the same name
/// for each.
///
/// 1. `nothing_is_bound_before_the_first_poll`: a future of [`DatagramTransport::bind`] that is made and dropped without
///    being polled occupies no address.
/// 2. `datagrams_arrive_whole`: what arrives is what one send sent, never a part, never two together; an empty one too.
/// 3. `the_sender_can_be_answered`: each datagram comes with an address at which its sender receives.
/// 4. `the_largest_datagram_passes`: one of [`DatagramSocket::max_payload`] bytes can be sent and received.
/// 5. `what_is_too_large_is_refused`: a larger one is [`Error::DatagramTooLarge`] before anything is sent, and the socket
///    goes on.
/// 6. `sending_to_nobody_harms_nobody`: a datagram to an address without a socket may be lost without a word; sending and
///    receiving with others goes on.
/// 7. `local_endpoint_is_reachable`: [`DatagramSocket::local_endpoint`] names the address that others in the same place
///    can send to as it is, the real port included.
/// 8. `a_second_bind_is_refused`: while a socket is open, binding its address again gives [`Error::AddrInUse`].
/// 9. `a_dropped_socket_frees_its_address`: when both halves are gone, the address can be bound again.
/// 10. `receiving_is_cancel_safe`: dropping a receive that waits loses no datagram that arrives later.
#[async_trait]
pub trait DatagramTransport: fmt::Debug + Send + Sync + 'static {
    /// The scheme that this transport serves: `udp`, `mem`, or one of your own.
    fn scheme(&self) -> &str;

    /// Opens a socket at an address.
    ///
    /// # Errors
    ///
    /// [`Error::AddrInUse`] when somebody else has it, [`Error::NotLocal`] when it could be reached from elsewhere and
    /// nobody allowed that.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves nothing bound.
    async fn bind(&self, at: &Endpoint) -> Result<DatagramSocket, Error>;
}

/// Where a datagram comes from or goes to; cheap to clone, to compare and to use as a key.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum DatagramAddress {
    /// An IP address with a port.
    Ip(SocketAddr),
    /// What a custom transport understands: the address of its endpoints.
    Name(Arc<str>),
}

impl fmt::Display for DatagramAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(address) => address.fmt(f),
            // A peer may have chosen it: escaped, it cannot forge a line of a log.
            Self::Name(name) => write!(f, "{}", name.escape_debug()),
        }
    }
}

impl From<SocketAddr> for DatagramAddress {
    fn from(address: SocketAddr) -> Self {
        Self::Ip(address)
    }
}

impl DatagramAddress {
    /// The address of an endpoint that names an IP address or belongs to a custom transport; `None` for a host name, which
    /// has to be looked up.
    pub fn of(endpoint: &Endpoint) -> Option<Self> {
        match (endpoint.socket_addr(), endpoint.host_port()) {
            (Some(address), _) => Some(Self::Ip(address)),
            (None, Some(_)) => None,
            (None, None) => Some(Self::Name(endpoint.address().into())),
        }
    }
}

/// A message, and where it comes from or goes to.
#[derive(Clone, PartialEq, Eq)]
pub struct Datagram {
    /// What it carries.
    pub payload: Bytes,
    /// Received: who sent it. To be sent: where to.
    pub peer: DatagramAddress,
}

impl fmt::Debug for Datagram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Datagram").field("len", &self.payload.len()).field("peer", &self.peer).finish()
    }
}

/// An open datagram socket: may lose, double and reorder.
pub struct DatagramSocket {
    reader: DatagramReader,
    writer: DatagramWriter,
    local: Endpoint,
}

impl DatagramSocket {
    /// A socket of a transport of your own.
    ///
    /// The sink is never given a payload of more than `max_payload` bytes. It may drop what it cannot send at once, as
    /// the network would, but must not fail for the sake of one peer.
    pub fn new(
        reader: impl Stream<Item = Result<Datagram, Error>> + Send + Unpin + 'static,
        writer: impl Sink<Datagram, Error = Error> + Send + Unpin + 'static,
        local: Endpoint,
        max_payload: usize,
    ) -> Self {
        Self {
            reader: DatagramReader(Box::new(reader)),
            writer: DatagramWriter { sink: Box::new(writer), max_payload },
            local,
        }
    }

    /// Where it can be reached, the real port included.
    pub fn local_endpoint(&self) -> &Endpoint {
        &self.local
    }

    /// The most bytes that one datagram carries here.
    pub fn max_payload(&self) -> usize {
        self.writer.max_payload
    }

    /// The two halves, each with one owner.
    pub fn into_parts(self) -> (DatagramReader, DatagramWriter) {
        (self.reader, self.writer)
    }
}

impl fmt::Debug for DatagramSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DatagramSocket")
            .field("local", &self.local)
            .field("max_payload", &self.max_payload())
            .finish_non_exhaustive()
    }
}

/// The half that receives; a [`Stream`].
pub struct DatagramReader(Box<dyn Stream<Item = Result<Datagram, Error>> + Send + Unpin>);

impl DatagramReader {
    /// The next datagram; `None` when the socket is of no more use.
    ///
    /// # Errors
    ///
    /// What the system reports of the socket as a whole; the next call goes on.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn recv(&mut self) -> Option<Result<Datagram, Error>> {
        std::future::poll_fn(|cx| Pin::new(&mut *self).poll_next(cx)).await
    }
}

impl Stream for DatagramReader {
    type Item = Result<Datagram, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Pin::new(&mut self.0).poll_next(cx)
    }
}

impl fmt::Debug for DatagramReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DatagramReader")
    }
}

/// The half that sends; a [`Sink`].
pub struct DatagramWriter {
    sink: Box<dyn Sink<Datagram, Error = Error> + Send + Unpin>,
    max_payload: usize,
}

impl DatagramWriter {
    /// The most bytes that one datagram carries here.
    pub fn max_payload(&self) -> usize {
        self.max_payload
    }

    /// Hands a datagram to the system; whether it arrives, nobody tells.
    ///
    /// # Errors
    ///
    /// [`Error::DatagramTooLarge`] before anything is sent, else what the system reports.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future may drop the datagram.
    pub async fn send(&mut self, datagram: Datagram) -> Result<(), Error> {
        self.check(&datagram)?;
        let mut datagram = Some(datagram);
        std::future::poll_fn(|cx| {
            if datagram.is_some() {
                ready!(Pin::new(&mut self.sink).poll_ready(cx))?;
            }
            if let Some(datagram) = datagram.take() {
                Pin::new(&mut self.sink).start_send(datagram)?;
            }
            Pin::new(&mut self.sink).poll_flush(cx)
        })
        .await
    }

    fn check(&self, datagram: &Datagram) -> Result<(), Error> {
        let (len, max) = (datagram.payload.len(), self.max_payload);
        if len > max { Err(Error::DatagramTooLarge { len, max }) } else { Ok(()) }
    }
}

impl Sink<Datagram> for DatagramWriter {
    type Error = Error;

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Pin::new(&mut self.sink).poll_ready(cx)
    }

    fn start_send(mut self: Pin<&mut Self>, datagram: Datagram) -> Result<(), Error> {
        self.check(&datagram)?;
        Pin::new(&mut self.sink).start_send(datagram)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Pin::new(&mut self.sink).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Pin::new(&mut self.sink).poll_close(cx)
    }
}

impl fmt::Debug for DatagramWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DatagramWriter").field("max_payload", &self.max_payload).finish_non_exhaustive()
    }
}
