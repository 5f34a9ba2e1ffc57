//! The `tcp:` transport.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use async_trait::async_trait;
use socket2::{Domain, Protocol, SockAddr, Socket, TcpKeepalive, Type};
use tokio::net::{TcpListener, TcpStream};

use crate::{
    Access, AddressFamily, ConnectOptions, Connection, ConnectionInfo, Endpoint, Error, Incoming,
    ListenOptions, Listener, PeerIdentity, Transport,
    accept::{AcceptPause, check_listens},
    deadline::{Deadline, runtime},
};

mod dial;
mod quiet;

#[cfg(feature = "tls")]
pub(crate) use quiet::QuietStream;

/// TCP: `tcp://host:port`.
///
/// - Small writes go out at once (`TCP_NODELAY`): the layers above write whole segments.
/// - The kernel watches for dead peers: keep-alive probes on idle connections and a bound on unacknowledged data
///   (`TCP_USER_TIMEOUT` where the system has it). The process itself is not woken for it.
/// - An address keeps its family: `[::]:0` listens for IPv6 alone, whatever the system's default, so that it can
///   stand beside `0.0.0.0:0` everywhere.
/// - Host names are looked up within the deadline of the connect; their addresses are tried one after the other,
///   each with an equal share of the time that is left.
/// - Diallers may be told where to come from: [`local_address`](Self::local_address),
///   [`local_port`](Self::local_port), [`family`](Self::family).
/// - TCP does not tell who the peer is: [`PeerIdentity::Unknown`]. An [`Access`] rule that needs an identity refuses
///   everybody here, see there. Anybody who can reach the port can connect, other users of this machine included.
#[derive(Debug, Clone)]
pub struct TcpTransport {
    keep_alive: Option<KeepAlive>,
    user_timeout: Option<Duration>,
    source: dial::Source,
    family: AddressFamily,
}

/// How the kernel probes an idle connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct KeepAlive {
    /// How long a connection is idle before the first probe. 15 s.
    pub idle: Duration,
    /// The time between probes. 5 s.
    pub interval: Duration,
    /// How many probes may go unanswered before the connection is given up. 3.
    pub probes: u32,
}

impl Default for KeepAlive {
    fn default() -> Self {
        Self { idle: Duration::from_secs(15), interval: Duration::from_secs(5), probes: 3 }
    }
}

impl KeepAlive {
    /// Sets [`KeepAlive::idle`].
    #[must_use]
    pub fn with_idle(mut self, idle: Duration) -> Self {
        self.idle = idle;
        self
    }

    /// Sets [`KeepAlive::interval`].
    #[must_use]
    pub fn with_interval(mut self, interval: Duration) -> Self {
        self.interval = interval;
        self
    }

    /// Sets [`KeepAlive::probes`].
    #[must_use]
    pub fn with_probes(mut self, probes: u32) -> Self {
        self.probes = probes;
        self
    }
}

impl TcpTransport {
    /// The transport with its defaults.
    pub fn new() -> Self {
        Self {
            keep_alive: Some(KeepAlive::default()),
            user_timeout: Some(DEFAULT_USER_TIMEOUT),
            source: dial::Source::default(),
            family: AddressFamily::Any,
        }
    }

    /// Sets the address of this machine that diallers come from, and with it the version of IP; `None`, the default,
    /// leaves it to the routes. Listeners name theirs in the endpoint.
    ///
    /// Dialling then fails with [`Error::AddrNotAvailable`] when the machine does not have the address, and with
    /// [`Error::WrongFamily`] when what is dialled has none of its version. A link-local address of IPv6 needs a zone
    /// and cannot be given.
    #[must_use]
    pub fn local_address(mut self, address: Option<IpAddr>) -> Self {
        self.source.address = address;
        self
    }

    /// Sets the port that diallers come from; 0, the default, lets the system choose.
    ///
    /// For firewalls and peers that insist on it. One port serves connections to several peers, and is used again
    /// while an earlier connection is in TIME_WAIT. Two connections between the same two addresses and ports cannot
    /// exist, so dialling again before the first is gone, and dialling where somebody listens at the port, is
    /// [`Error::AddrInUse`]; after an own close the system may keep a pair of addresses for a minute.
    #[must_use]
    pub fn local_port(mut self, port: u16) -> Self {
        self.source.port = port;
        self
    }

    /// Sets which addresses of a host name are used, for dialling and listening; [`AddressFamily::Any`] by default:
    /// all, in the order of the system's resolver. An endpoint without an address of the family is
    /// [`Error::WrongFamily`].
    #[must_use]
    pub fn family(mut self, family: AddressFamily) -> Self {
        self.family = family;
        self
    }

    /// Sets how idle connections are probed; `None` turns probing off. On by default, so that a peer whose machine
    /// is gone is noticed after about 30 s, at the price of a few packets a minute.
    #[must_use]
    pub fn keep_alive(mut self, keep_alive: Option<KeepAlive>) -> Self {
        self.keep_alive = keep_alive;
        self
    }

    /// Sets how long written data may stay undelivered to the peer's kernel before the connection is given up, where
    /// the system can do that (Linux); `None` leaves it to the system, which takes about 15 minutes.
    ///
    /// 60 s by default. Linux counts the time in which the peer's window is closed as well, so a peer that is alive
    /// and reads nothing for that long, one in a debugger for example, loses its connection too. Raise it, or turn it
    /// off, where readers may pause for longer.
    #[must_use]
    pub fn user_timeout(mut self, user_timeout: Option<Duration>) -> Self {
        self.user_timeout = user_timeout;
        self
    }

    /// Listens at a socket that is open already; several processes may share one.
    ///
    /// # Errors
    ///
    /// [`Error::NoRuntime`], and [`Error::Io`] of the kind [`InvalidInput`](io::ErrorKind::InvalidInput) when the socket
    /// does not listen. Apple's systems do not tell; there the first accept fails. The socket is closed then.
    pub fn adopt(
        &self,
        listener: std::net::TcpListener,
        options: &ListenOptions,
    ) -> Result<Box<dyn Listener>, Error> {
        let acceptor = TcpAcceptor::adopt(self, listener)?;
        let local = Endpoint::tcp(acceptor.address);
        Ok(Box::new(TcpPlace { acceptor, local, access: options.access.clone() }))
    }

    fn prepare(&self, stream: &TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let socket = socket2::SockRef::from(stream);
        if let Some(KeepAlive { idle, interval, probes }) = self.keep_alive {
            let parameters = TcpKeepalive::new().with_time(idle).with_interval(interval).with_retries(probes);
            socket.set_tcp_keepalive(&parameters)?;
        }
        #[cfg(target_os = "linux")]
        if self.user_timeout.is_some() {
            socket.set_tcp_user_timeout(self.user_timeout)?;
        }
        Ok(())
    }

    /// Sets an established stream up; its two addresses.
    pub(crate) fn set_up(
        &self,
        stream: &TcpStream,
        operation: &'static str,
        place: &Endpoint,
    ) -> Result<(SocketAddr, SocketAddr), Error> {
        let failed = |error| Error::io(operation, place, error);
        self.prepare(stream).map_err(failed)?;
        let (local, remote) = (stream.local_addr().map_err(failed)?, stream.peer_addr().map_err(failed)?);
        if local == remote {
            // Dialling a free port of the own machine can meet itself; nobody is listening there.
            return Err(Error::ConnectionRefused { endpoint: place.clone() });
        }
        Ok((local, remote))
    }

    /// A stream to an endpoint, set up, with its two addresses.
    #[cfg(feature = "tls")]
    pub(crate) async fn dial(
        &self,
        to: &Endpoint,
        deadline: Deadline,
    ) -> Result<(TcpStream, SocketAddr, SocketAddr), Error> {
        let stream = dial::dial(to, self.source, self.family, deadline).await?;
        let (local, remote) = self.set_up(&stream, "connect", to)?;
        Ok((stream, local, remote))
    }

    /// Makes a connection of an established stream, after the access rule.
    fn finish(
        &self,
        stream: TcpStream,
        access: &Access,
        operation: &'static str,
        place: &Endpoint,
    ) -> Result<Connection, Error> {
        let (local, remote) = self.set_up(&stream, operation, place)?;
        let peer = PeerIdentity::Unknown;
        if !access.admits(&peer) {
            return Err(Error::AccessDenied { endpoint: place.clone(), peer: peer.to_string() });
        }
        let info = ConnectionInfo::new(Endpoint::tcp(local), Endpoint::tcp(remote), peer);
        let (reader, writer) = stream.into_split();
        Ok(Connection::from_bytes(reader, quiet::QuietWriter(writer), info))
    }
}

impl Default for TcpTransport {
    fn default() -> Self {
        Self::new()
    }
}

#[async_trait]
impl Transport for TcpTransport {
    fn scheme(&self) -> &str {
        "tcp"
    }

    async fn connect(&self, to: &Endpoint, options: &ConnectOptions) -> Result<Connection, Error> {
        let deadline = Deadline::after(options.timeout)?;
        let stream = deadline.run("connect", to, dial::dial(to, self.source, self.family, deadline)).await?;
        self.finish(stream, &options.access, "connect", to)
    }

    async fn listen(&self, at: &Endpoint, options: &ListenOptions) -> Result<Box<dyn Listener>, Error> {
        let acceptor = TcpAcceptor::bind(self, at, options).await?;
        let local = Endpoint::tcp(acceptor.address);
        Ok(Box::new(TcpPlace { acceptor, local, access: options.access.clone() }))
    }
}

/// A listening TCP socket that gives streams.
#[derive(Debug)]
pub(crate) struct TcpAcceptor {
    listener: TcpListener,
    address: SocketAddr,
    transport: TcpTransport,
    pause: AcceptPause,
}

impl TcpAcceptor {
    /// Listens at the first address of an endpoint where that is possible.
    pub(crate) async fn bind(
        transport: &TcpTransport,
        at: &Endpoint,
        options: &ListenOptions,
    ) -> Result<Self, Error> {
        let runtime = runtime()?;
        let mut last = Error::NotFound { endpoint: at.to_string() };
        for address in dial::resolve(at, transport.family).await? {
            match bind(address, options.backlog).and_then(|listener| {
                let local = listener.local_addr()?;
                Ok((listener, local))
            }) {
                Ok((listener, address)) => {
                    let (transport, pause) = (transport.clone(), AcceptPause::new(runtime));
                    return Ok(Self { listener, address, transport, pause });
                }
                Err(error) if error.kind() == io::ErrorKind::AddrNotAvailable => {
                    last = Error::AddrNotAvailable { address };
                }
                Err(error) => last = Error::io("listen", at, error),
            }
        }
        Err(last)
    }

    /// Listens at a socket that is open already.
    pub(crate) fn adopt(transport: &TcpTransport, listener: std::net::TcpListener) -> Result<Self, Error> {
        let runtime = runtime()?;
        let adopt = || {
            check_listens(&listener)?;
            listener.set_nonblocking(true)?;
            let address = listener.local_addr()?;
            Ok((TcpListener::from_std(listener)?, address))
        };
        let (listener, address) = adopt().map_err(|error| Error::io_at("adopt", "a TCP socket", error))?;
        Ok(Self { listener, address, transport: transport.clone(), pause: AcceptPause::new(runtime) })
    }

    #[cfg(feature = "tls")]
    pub(crate) fn local_addr(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn transport(&self) -> &TcpTransport {
        &self.transport
    }

    /// The next stream, not set up yet; shortages are waited out. Cancel safe.
    pub(crate) async fn accept_stream(&mut self) -> Result<(TcpStream, SocketAddr), Error> {
        loop {
            self.pause.over().await;
            match self.pause.inside(self.listener.accept()).await {
                Ok(accepted) => {
                    self.pause.succeeded();
                    return Ok(accepted);
                }
                Err(error) => {
                    if let Some(error) = self.pause.failed(error) {
                        return Err(Error::io("accept", &Endpoint::tcp(self.address), error));
                    }
                }
            }
        }
    }
}

/// A listening TCP socket that gives connections.
#[derive(Debug)]
struct TcpPlace {
    acceptor: TcpAcceptor,
    local: Endpoint,
    access: Access,
}

#[async_trait]
impl Listener for TcpPlace {
    fn local_endpoint(&self) -> &Endpoint {
        &self.local
    }

    async fn accept(&mut self) -> Result<Incoming, Error> {
        let (stream, remote) = self.acceptor.accept_stream().await?;
        let (transport, access) = (self.acceptor.transport().clone(), self.access.clone());
        let remote = Endpoint::tcp(remote);
        let place = remote.clone();
        Ok(Incoming::new(remote, async move { transport.finish(stream, &access, "accept", &place) }))
    }

    async fn close(self: Box<Self>) -> Result<(), Error> {
        Ok(())
    }
}

fn bind(address: SocketAddr, backlog: u32) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    // A restarted process listens again although connections of its predecessor are still in TIME_WAIT. A live
    // listener at the address is refused all the same.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&SockAddr::from(address))?;
    socket.listen(i32::try_from(backlog).unwrap_or(i32::MAX))?;
    TcpListener::from_std(socket.into())
}

const DEFAULT_USER_TIMEOUT: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    /// Both ends of a connection, prepared.
    async fn pair(transport: &TcpTransport) -> [TcpStream; 2] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let dialled = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (accepted, _) = listener.accept().await.unwrap();
        for stream in [&dialled, &accepted] {
            transport.prepare(stream).unwrap();
        }
        [dialled, accepted]
    }

    #[tokio::test]
    async fn the_kernel_is_told_to_watch_for_dead_peers_and_not_to_wait_for_more_bytes() {
        for stream in pair(&TcpTransport::new()).await {
            let socket = socket2::SockRef::from(&stream);
            assert!(stream.nodelay().unwrap());
            assert!(socket.keepalive().unwrap());
            assert_eq!(socket.tcp_keepalive_time().unwrap(), Duration::from_secs(15));
            #[cfg(target_os = "linux")]
            assert_eq!(socket.tcp_user_timeout().unwrap(), Some(DEFAULT_USER_TIMEOUT));
        }
    }

    #[tokio::test]
    async fn watching_for_dead_peers_can_be_turned_off() {
        for stream in pair(&TcpTransport::new().keep_alive(None).user_timeout(None)).await {
            let socket = socket2::SockRef::from(&stream);
            assert!(!socket.keepalive().unwrap());
            #[cfg(target_os = "linux")]
            assert_eq!(socket.tcp_user_timeout().unwrap(), None);
        }
    }
}
