//! The `udp:` transport.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use async_trait::async_trait;
use bytes::Bytes;
use futures_core::Stream;
use futures_sink::Sink;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use tokio::{io::ReadBuf, net::UdpSocket};

use crate::{
    AddressFamily, Datagram, DatagramAddress, DatagramSocket, DatagramTransport, Endpoint, Error,
    deadline::runtime,
};

/// UDP: `udp://host:port`. May lose, double and reorder; neither encrypted nor authenticated.
///
/// - It binds loopback addresses alone, unless [`dangerous`](Self::dangerous) allows others: whoever can reach the port can
///   send, and can claim any address as its own.
/// - A datagram has at most 1,200 bytes by default, what passes on every path of IPv6 without being cut into pieces
///   (RFC 8085, RFC 9000 section 14).
/// - An address keeps its family: `[::1]:0` is IPv6 alone. A datagram to an address of the other is
///   [`Error::WrongFamily`], and the socket goes on.
/// - The system's word that a peer is not there (ICMP) is not passed on: it would tell of one peer and fail all.
#[derive(Debug, Clone)]
pub struct UdpTransport {
    max_payload: usize,
    anywhere: bool,
}

impl UdpTransport {
    /// The largest payload that IPv4 and IPv6 can carry alike, in bytes.
    pub const MAX_PAYLOAD_CAP: usize = 65_507;

    /// The transport with its defaults.
    pub fn new() -> Self {
        Self { max_payload: DEFAULT_MAX_PAYLOAD, anywhere: false }
    }

    /// Sets the most bytes of a datagram; 1,200 by default, at most [`MAX_PAYLOAD_CAP`](Self::MAX_PAYLOAD_CAP). More is fine
    /// on loopback; elsewhere the network cuts it into pieces, and one lost piece loses all.
    #[must_use]
    pub fn max_payload(mut self, max: usize) -> Self {
        self.max_payload = max.min(Self::MAX_PAYLOAD_CAP);
        self
    }

    /// The weaker ways.
    pub fn dangerous(self) -> DangerousUdpTransport {
        DangerousUdpTransport(self)
    }
}

impl Default for UdpTransport {
    fn default() -> Self {
        Self::new()
    }
}

/// The weaker ways to use UDP.
#[derive(Debug)]
pub struct DangerousUdpTransport(UdpTransport);

impl DangerousUdpTransport {
    /// Binds any address, so that other machines can send; what arrives is from anybody.
    pub fn reachable_from_elsewhere(self) -> UdpTransport {
        UdpTransport { anywhere: true, ..self.0 }
    }
}

#[async_trait]
impl DatagramTransport for UdpTransport {
    fn scheme(&self) -> &str {
        "udp"
    }

    async fn bind(&self, at: &Endpoint) -> Result<DatagramSocket, Error> {
        runtime()?;
        let address = at
            .socket_addr()
            .filter(|_| at.scheme() == "udp")
            .ok_or_else(|| Error::NotFound { endpoint: at.to_string() })?;
        if !self.anywhere && !address.ip().is_loopback() {
            return Err(Error::NotLocal { endpoint: at.clone() });
        }
        let failed = |error| Error::io("bind", at, error);
        let socket = bind(address).map_err(|error| match error.kind() {
            io::ErrorKind::AddrNotAvailable => Error::AddrNotAvailable { address },
            _ => failed(error),
        })?;
        let local = Endpoint::of_socket("udp", socket.local_addr().map_err(failed)?);
        let socket = Arc::new(socket);
        let reader = Reader {
            socket: socket.clone(),
            space: vec![0; LARGEST].into_boxed_slice(),
            local: local.clone(),
        };
        let family = AddressFamily::of(address.ip());
        let writer = Writer { socket, waiting: None, local: local.clone(), family };
        Ok(DatagramSocket::new(reader, writer, local, self.max_payload))
    }
}

fn bind(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&SockAddr::from(address))?;
    UdpSocket::from_std(socket.into())
}

#[derive(Debug)]
struct Reader {
    socket: Arc<UdpSocket>,
    space: Box<[u8]>,
    local: Endpoint,
}

impl Stream for Reader {
    type Item = Result<Datagram, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        loop {
            let mut space = ReadBuf::new(&mut this.space);
            match ready!(this.socket.poll_recv_from(cx, &mut space)) {
                Ok(sender) => {
                    // A copy is cheaper than to keep the whole space alive for a small datagram.
                    let payload = Bytes::copy_from_slice(space.filled());
                    let peer = DatagramAddress::Ip(sender);
                    return Poll::Ready(Some(Ok(Datagram { payload, peer })));
                }
                Err(error) if is_about_a_peer(&error) => {}
                Err(error) => return Poll::Ready(Some(Err(Error::io("receive", &this.local, error)))),
            }
        }
    }
}

#[derive(Debug)]
struct Writer {
    socket: Arc<UdpSocket>,
    /// A datagram that the system had no room for yet.
    waiting: Option<(Bytes, SocketAddr)>,
    local: Endpoint,
    family: AddressFamily,
}

impl Sink<Datagram> for Writer {
    type Error = Error;

    fn poll_ready(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.poll_flush(cx)
    }

    fn start_send(mut self: Pin<&mut Self>, datagram: Datagram) -> Result<(), Error> {
        let DatagramAddress::Ip(to) = datagram.peer else {
            return Err(Error::NotFound { endpoint: datagram.peer.to_string() });
        };
        if !self.family.admits(to.ip()) {
            // The system would report it for one version of IP and drop the datagram silently for the other.
            return Err(Error::WrongFamily { endpoint: Endpoint::of_socket("udp", to), family: self.family });
        }
        self.waiting = Some((datagram.payload, to));
        Ok(())
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let this = &mut *self;
        let Some((payload, to)) = &this.waiting else { return Poll::Ready(Ok(())) };
        let sent = ready!(this.socket.poll_send_to(cx, payload, *to));
        this.waiting = None;
        match sent {
            Err(error) if !is_about_a_peer(&error) => Poll::Ready(Err(Error::io("send", &this.local, error))),
            _ => Poll::Ready(Ok(())),
        }
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.poll_flush(cx)
    }
}

/// What the network says of one peer comes up in whatever is done next, for whomever.
fn is_about_a_peer(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionRefused
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::HostUnreachable
            | io::ErrorKind::NetworkUnreachable
    )
}

/// What the minimum of IPv6's path leaves after the headers, with something to spare for tunnels.
const DEFAULT_MAX_PAYLOAD: usize = 1_200;
/// The largest datagram that can arrive.
const LARGEST: usize = 65_536;
