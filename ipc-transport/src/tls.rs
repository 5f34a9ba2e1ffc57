//! The `tls:` transport: TLS 1.3 over TCP, with both sides verified unless one insists otherwise.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use ipc_transport::{
//!     ListenOptions, TlsTransport, Transports,
//!     tls::{ClientConfig, Identity, Roots, ServerConfig},
//! };
//!
//! let roots = Roots::from_pem_file("authority.pem")?;
//! let identity = Identity::from_pem_files("own.pem", "own.key")?;
//! let server = ServerConfig::builder(identity.clone()).verify_clients_against(roots.clone())?.build()?;
//! let client = ClientConfig::builder().verify_against(roots)?.identity(identity).build()?;
//! let transports = Transports::local().with(TlsTransport::new().server(server).client(client));
//! let listener = transports.listen(&"tls://[::1]:0".parse()?, &ListenOptions::default()).await?;
//! # drop(listener);
//! # Ok(())
//! # }
//! ```

use std::{io, time::Duration};

use async_trait::async_trait;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::io::split;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use self::reader::Reader;
pub use self::{
    config::{
        ClientConfig, ClientConfigBuilder, DangerousClientConfigBuilder, DangerousServerConfigBuilder,
        Identity, Roots, ServerConfig, ServerConfigBuilder, Unverified, VerifiedClients, VerifiedServer,
    },
    error::TlsError,
};
use crate::{
    Access, ConnectOptions, Connection, ConnectionInfo, Endpoint, Error, Incoming, Limits, ListenOptions,
    Listener, PeerCertificate, PeerIdentity, TcpTransport, Transport,
    deadline::Deadline,
    tcp::{QuietStream, TcpAcceptor},
};

mod config;
mod error;
mod reader;

pub use rustls::crypto::CryptoProvider;

/// TLS over TCP: `tls://host:port`.
///
/// - TLS 1.3 and nothing older, with the cryptography of *ring* unless another provider is given.
/// - A [`ClientConfig`] is needed to dial and a [`ServerConfig`] to listen; each can be built only once it is settled
///   how the other side is verified. What is weaker than mutual verification is spelled `dangerous()`.
/// - The handshake is part of [`Incoming::establish`] and of [`Transport::connect`], each under its deadline; until then
///   there is no connection. With TLS 1.3 a dialler is done before the listener has looked at its certificate: a
///   dialler that is turned away learns it from its first read, an [`io::Error`] that holds a [`TlsError::Rejected`].
/// - Where TLS itself fails later, reading gives an [`io::Error`] that holds a [`TlsError`]: `error.get_ref()` and
///   `downcast_ref` tell it from what the network reports.
/// - The peer's certificate is its identity, [`PeerIdentity::Certificate`]; [`Access::Names`] admits by its names.
/// - The end of a stream is authentic: a connection that ends without TLS's own farewell is an error and no end.
/// - Of TCP it keeps what [`TcpTransport`] does, with the same settings.
///
/// Sources: RFC 8446 (TLS 1.3), RFC 7301 (ALPN).
#[derive(Debug, Clone)]
pub struct TlsTransport {
    tcp: TcpTransport,
    client: Option<ClientConfig>,
    server: Option<ServerConfig>,
    handshake_timeout: Duration,
}

impl TlsTransport {
    /// A transport that can neither dial nor listen yet.
    pub fn new() -> Self {
        Self {
            tcp: TcpTransport::new(),
            client: None,
            server: None,
            handshake_timeout: Limits::default().handshake_timeout,
        }
    }

    /// Sets how to dial.
    #[must_use]
    pub fn client(mut self, config: ClientConfig) -> Self {
        self.client = Some(config);
        self
    }

    /// Sets how to listen.
    #[must_use]
    pub fn server(mut self, config: ServerConfig) -> Self {
        self.server = Some(config);
        self
    }

    /// Sets how the TCP connections below are watched.
    #[must_use]
    pub fn tcp(mut self, tcp: TcpTransport) -> Self {
        self.tcp = tcp;
        self
    }

    /// Sets how long an accepted connection may take for its handshake; 10 s by default. Diallers have the timeout of
    /// their [`ConnectOptions`].
    #[must_use]
    pub fn handshake_timeout(mut self, timeout: Duration) -> Self {
        self.handshake_timeout = timeout;
        self
    }

    /// Listens at a TCP socket that is open already; several processes may share one.
    ///
    /// # Errors
    ///
    /// [`Error::Tls`] with [`TlsError::NoServerConfig`], [`Error::NoRuntime`], and [`Error::Io`] as
    /// [`TcpTransport::adopt`]. The socket is closed then.
    pub fn adopt(
        &self,
        listener: std::net::TcpListener,
        options: &ListenOptions,
    ) -> Result<Box<dyn Listener>, Error> {
        let acceptor = TcpAcceptor::adopt(&self.tcp, listener)?;
        let server = self.server_config(&tls(acceptor.local_addr()))?;
        Ok(self.serve(acceptor, server, options))
    }

    fn server_config(&self, at: &Endpoint) -> Result<ServerConfig, Error> {
        self.server.clone().ok_or_else(|| tls_error(at, TlsError::NoServerConfig))
    }

    fn serve(
        &self,
        listener: TcpAcceptor,
        server: ServerConfig,
        options: &ListenOptions,
    ) -> Box<dyn Listener> {
        let (local, access) = (tls(listener.local_addr()), options.access.clone());
        Box::new(TlsListener { listener, local, server, access, timeout: self.handshake_timeout })
    }
}

impl Default for TlsTransport {
    fn default() -> Self {
        Self::new()
    }
}

#[async_trait]
impl Transport for TlsTransport {
    fn scheme(&self) -> &str {
        "tls"
    }

    async fn connect(&self, to: &Endpoint, options: &ConnectOptions) -> Result<Connection, Error> {
        let deadline = Deadline::after(options.timeout)?;
        let client = self.client.as_ref().ok_or_else(|| tls_error(to, TlsError::NoClientConfig))?;
        let name = match (&client.server_name, to.host_port()) {
            (Some(name), _) => name.clone(),
            (None, Some((host, _))) => server_name(host).map_err(|error| tls_error(to, error))?,
            (None, None) => return Err(Error::UnknownScheme { scheme: to.scheme().to_owned() }),
        };
        let connecting = async {
            let (stream, local, remote) = self.tcp.dial(to, deadline).await?;
            let stream = TlsConnector::from(client.rustls.clone())
                .connect(name, QuietStream(stream))
                .await
                .map_err(|error| handshake_error(to, error))?;
            let (_, session) = stream.get_ref();
            let peer = identity(session.peer_certificates(), &client.rustls.crypto_provider().clone());
            Ok((stream, local, remote, peer))
        };
        let (stream, local, remote, peer) = deadline.run("connect", to, connecting).await?;
        admit(&options.access, &peer, to)?;
        let (reader, writer) = split(stream);
        let info = ConnectionInfo::new(tls(local), tls(remote), peer);
        Ok(Connection::from_bytes(Reader(reader), writer, info))
    }

    async fn listen(&self, at: &Endpoint, options: &ListenOptions) -> Result<Box<dyn Listener>, Error> {
        let server = self.server_config(at)?;
        Ok(self.serve(TcpAcceptor::bind(&self.tcp, at, options).await?, server, options))
    }
}

/// A listening TCP socket whose connections have a handshake before them.
#[derive(Debug)]
struct TlsListener {
    listener: TcpAcceptor,
    local: Endpoint,
    server: ServerConfig,
    access: Access,
    timeout: Duration,
}

#[async_trait]
impl Listener for TlsListener {
    fn local_endpoint(&self) -> &Endpoint {
        &self.local
    }

    async fn accept(&mut self) -> Result<Incoming, Error> {
        let (stream, remote) = self.listener.accept_stream().await?;
        let (tcp, server, access) =
            (self.listener.transport().clone(), self.server.clone(), self.access.clone());
        let (timeout, place) = (self.timeout, tls(remote));
        Ok(Incoming::new(place.clone(), async move {
            let deadline = Deadline::after(timeout)?;
            let (local, remote) = tcp.set_up(&stream, "accept", &place)?;
            let accepting = async {
                TlsAcceptor::from(server.rustls.clone())
                    .accept(QuietStream(stream))
                    .await
                    .map_err(|error| handshake_error(&place, error))
            };
            let stream = deadline.run("handshake", &place, accepting).await?;
            let (_, session) = stream.get_ref();
            let peer = identity(session.peer_certificates(), server.rustls.crypto_provider());
            admit(&access, &peer, &place)?;
            let (reader, writer) = split(stream);
            let info = ConnectionInfo::new(tls(local), tls(remote), peer);
            Ok(Connection::from_bytes(Reader(reader), writer, info))
        }))
    }

    async fn close(self: Box<Self>) -> Result<(), Error> {
        Ok(())
    }
}

fn admit(access: &Access, peer: &PeerIdentity, place: &Endpoint) -> Result<(), Error> {
    if access.admits(peer) {
        return Ok(());
    }
    tracing::debug!(%place, %peer, "a peer is not admitted");
    Err(Error::AccessDenied { endpoint: place.clone(), peer: peer.to_string() })
}

/// What the peer's certificate says of it, once it is verified.
fn identity(chain: Option<&[CertificateDer<'_>]>, provider: &CryptoProvider) -> PeerIdentity {
    let Some(certificate) = chain.and_then(<[_]>::first) else { return PeerIdentity::Unknown };
    let names = webpki::EndEntityCert::try_from(certificate).map_or_else(
        |_| Vec::new(),
        |parsed| parsed.valid_dns_names().chain(parsed.valid_uri_names()).map(str::to_owned).collect(),
    );
    let sha256 =
        provider.cipher_suites.iter().filter_map(rustls::SupportedCipherSuite::tls13).find_map(|suite| {
            let hash = suite.common.hash_provider.hash(certificate);
            <[u8; 32]>::try_from(hash.as_ref()).ok()
        });
    PeerIdentity::Certificate(PeerCertificate::new(names, sha256.unwrap_or_default()))
}

fn server_name(host: &str) -> Result<ServerName<'static>, TlsError> {
    ServerName::try_from(host.to_owned()).map_err(|_| TlsError::InvalidName { name: host.to_owned() })
}

fn tls(address: std::net::SocketAddr) -> Endpoint {
    Endpoint::of_socket("tls", address)
}

fn tls_error(endpoint: &Endpoint, error: TlsError) -> Error {
    Error::Tls { endpoint: endpoint.clone(), source: Box::new(error) }
}

fn handshake_error(endpoint: &Endpoint, error: io::Error) -> Error {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(inner) => tls_error(endpoint, TlsError::of_rustls(inner)),
        None => Error::io("handshake", endpoint, error),
    }
}
