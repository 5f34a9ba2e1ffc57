//! What a side of a TLS connection trusts and who it is, built so that verification has to be chosen.

use std::{fmt, path::Path, sync::Arc};

use rustls::{
    DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::CryptoProvider,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject},
    server::{WebPkiClientVerifier, danger::ClientCertVerifier},
    version::TLS13,
};

use super::TlsError;

/// The protocol that both sides name during the handshake (ALPN, RFC 7301).
const PROTOCOL: &[u8] = b"ipc-transport/1";

/// A certificate chain and its private key: who this side is. `Debug` hides the key.
pub struct Identity {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl Identity {
    /// From PEM texts: the certificate first, then those that lead to the root; and the key in PKCS 8, PKCS 1 or SEC 1.
    ///
    /// # Errors
    ///
    /// [`TlsError::Pem`] when a text does not read, or holds no certificate.
    pub fn from_pem(chain: impl AsRef<[u8]>, key: impl AsRef<[u8]>) -> Result<Self, TlsError> {
        let chain = certificates(chain.as_ref())?;
        let key = PrivateKeyDer::from_pem_slice(key.as_ref())
            .map_err(|error| TlsError::Pem { what: "private key", reason: error.to_string() })?;
        Ok(Self { chain, key })
    }

    /// From two PEM files, as [`from_pem`](Self::from_pem).
    ///
    /// # Errors
    ///
    /// [`TlsError::Pem`] when a file cannot be read or does not read as PEM.
    pub fn from_pem_files(chain: impl AsRef<Path>, key: impl AsRef<Path>) -> Result<Self, TlsError> {
        Self::from_pem(read(chain.as_ref())?, read(key.as_ref())?)
    }
}

impl Clone for Identity {
    fn clone(&self) -> Self {
        Self { chain: self.chain.clone(), key: self.key.clone_key() }
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("certificates", &self.chain.len()).finish_non_exhaustive()
    }
}

/// The certificate authorities that the other side's certificate must lead to.
///
/// There is no default and no way to take the system's: processes that know each other have an authority of their own.
#[derive(Debug, Clone)]
pub struct Roots(Arc<RootCertStore>);

impl Roots {
    /// From a PEM text with one or more certificates.
    ///
    /// # Errors
    ///
    /// [`TlsError::Pem`] when the text does not read, or holds no certificate that can be an authority.
    pub fn from_pem(pem: impl AsRef<[u8]>) -> Result<Self, TlsError> {
        let mut store = RootCertStore::empty();
        for certificate in certificates(pem.as_ref())? {
            store
                .add(certificate)
                .map_err(|error| TlsError::Pem { what: "root certificate", reason: error.to_string() })?;
        }
        Ok(Self(Arc::new(store)))
    }

    /// From a PEM file, as [`from_pem`](Self::from_pem).
    ///
    /// # Errors
    ///
    /// [`TlsError::Pem`] when the file cannot be read or does not read as PEM.
    pub fn from_pem_file(path: impl AsRef<Path>) -> Result<Self, TlsError> {
        Self::from_pem(read(path.as_ref())?)
    }
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let failed = |reason: String| TlsError::Pem { what: "certificate", reason };
    let all: Vec<_> = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .map_err(|error| failed(error.to_string()))?;
    if all.is_empty() { Err(failed("there is none in the text".to_owned())) } else { Ok(all) }
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    std::fs::read(path)
        .map_err(|error| TlsError::Pem { what: "file", reason: format!("{}: {error}", path.display()) })
}

/// State of a builder: how to verify the other side has not been chosen yet, so that there is nothing to build.
#[derive(Debug)]
pub struct Unverified(());

/// State of a builder: it is settled how the other side of the dialler is verified.
#[derive(Debug)]
pub struct VerifiedServer(Arc<dyn ServerCertVerifier>);

/// State of a builder: it is settled how the other side of the listener is verified.
#[derive(Debug)]
pub struct VerifiedClients(Arc<dyn ClientCertVerifier>);

/// What both builders know.
#[derive(Debug, Clone)]
struct Common {
    provider: Arc<CryptoProvider>,
    protocols: Vec<Vec<u8>>,
}

impl Default for Common {
    fn default() -> Self {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        Self { provider, protocols: vec![PROTOCOL.to_vec()] }
    }
}

/// How to dial: whom to trust, and who to say that one is.
#[derive(Debug, Clone)]
pub struct ClientConfig {
    pub(super) rustls: Arc<rustls::ClientConfig>,
    pub(super) server_name: Option<ServerName<'static>>,
}

impl ClientConfig {
    /// Begins; [`verify_against`](ClientConfigBuilder::verify_against) comes next.
    pub fn builder() -> ClientConfigBuilder<Unverified> {
        ClientConfigBuilder {
            common: Common::default(),
            identity: None,
            server_name: None,
            state: Unverified(()),
        }
    }
}

/// Builds a [`ClientConfig`]; only one whose verification is chosen has a `build`.
///
/// ```compile_fail,E0599
/// use ipc_transport::tls::ClientConfig;
///
/// let config = ClientConfig::builder().build(); // whom does it believe?
/// ```
#[derive(Debug)]
pub struct ClientConfigBuilder<S> {
    common: Common,
    identity: Option<Identity>,
    server_name: Option<ServerName<'static>>,
    state: S,
}

impl ClientConfigBuilder<Unverified> {
    /// Sets where the cryptography comes from; *ring* by default. The steps after this one use it, so it comes
    /// before the choice of how to verify.
    #[must_use]
    pub fn provider(mut self, provider: Arc<CryptoProvider>) -> Self {
        self.common.provider = provider;
        self
    }

    /// The server's certificate must lead to one of these roots, be valid now, and bear the name that is dialled.
    ///
    /// # Errors
    ///
    /// [`TlsError::Config`] when the roots are of no use to the cryptography in use.
    pub fn verify_against(self, roots: Roots) -> Result<ClientConfigBuilder<VerifiedServer>, TlsError> {
        let verifier = WebPkiServerVerifier::builder_with_provider(roots.0, self.common.provider.clone())
            .build()
            .map_err(|error| TlsError::Config { reason: error.to_string() })?;
        Ok(self.with_verifier(verifier))
    }

    /// The weaker ways.
    pub fn dangerous(self) -> DangerousClientConfigBuilder {
        DangerousClientConfigBuilder(self)
    }

    fn with_verifier(self, verifier: Arc<dyn ServerCertVerifier>) -> ClientConfigBuilder<VerifiedServer> {
        let Self { common, identity, server_name, .. } = self;
        ClientConfigBuilder { common, identity, server_name, state: VerifiedServer(verifier) }
    }
}

impl<S> ClientConfigBuilder<S> {
    /// Shows this certificate to servers that ask for one, as listeners of this crate do by default.
    #[must_use]
    pub fn identity(mut self, identity: Identity) -> Self {
        self.identity = Some(identity);
        self
    }

    /// The name that the server's certificate must bear, instead of the host that is dialled: for certificates that
    /// name a service, dialled by address.
    ///
    /// # Errors
    ///
    /// [`TlsError::InvalidName`] when it is neither a DNS name nor an IP address.
    pub fn server_name(mut self, name: &str) -> Result<Self, TlsError> {
        self.server_name = Some(super::server_name(name)?);
        Ok(self)
    }

    /// Sets the protocols to offer (ALPN); `ipc-transport/1` by default, none when empty.
    #[must_use]
    pub fn protocols(mut self, protocols: impl IntoIterator<Item = impl Into<Vec<u8>>>) -> Self {
        self.common.protocols = protocols.into_iter().map(Into::into).collect();
        self
    }
}

impl ClientConfigBuilder<VerifiedServer> {
    /// The configuration: TLS 1.3, nothing older.
    ///
    /// # Errors
    ///
    /// [`TlsError::Config`] when the key does not fit the certificate, or the provider lacks what TLS 1.3 needs.
    pub fn build(self) -> Result<ClientConfig, TlsError> {
        let config = |error: rustls::Error| TlsError::Config { reason: error.to_string() };
        let builder = rustls::ClientConfig::builder_with_provider(self.common.provider)
            .with_protocol_versions(&[&TLS13])
            .map_err(config)?
            .dangerous()
            .with_custom_certificate_verifier(self.state.0);
        let mut rustls = match self.identity {
            Some(Identity { chain, key }) => builder.with_client_auth_cert(chain, key).map_err(config)?,
            None => builder.with_no_client_auth(),
        };
        rustls.alpn_protocols = self.common.protocols;
        Ok(ClientConfig { rustls: Arc::new(rustls), server_name: self.server_name })
    }
}

/// The weaker ways to dial.
#[derive(Debug)]
pub struct DangerousClientConfigBuilder(ClientConfigBuilder<Unverified>);

impl DangerousClientConfigBuilder {
    /// Believes any certificate: whoever sits between the two sides reads and writes everything.
    pub fn without_verification(self) -> ClientConfigBuilder<VerifiedServer> {
        let provider = self.0.common.provider.clone();
        self.0.with_verifier(Arc::new(Gullible(provider)))
    }
}

/// How to listen: who one is, and which clients to let in.
#[derive(Debug, Clone)]
pub struct ServerConfig {
    pub(super) rustls: Arc<rustls::ServerConfig>,
}

impl ServerConfig {
    /// Begins with the certificate that every dialler is shown;
    /// [`verify_clients_against`](ServerConfigBuilder::verify_clients_against) comes next.
    pub fn builder(identity: Identity) -> ServerConfigBuilder<Unverified> {
        ServerConfigBuilder { common: Common::default(), identity, state: Unverified(()) }
    }
}

/// Builds a [`ServerConfig`]; only one whose verification is chosen has a `build`.
///
/// ```compile_fail,E0599
/// use ipc_transport::tls::{Identity, ServerConfig, TlsError};
///
/// fn listening(identity: Identity) -> Result<ServerConfig, TlsError> {
///     ServerConfig::builder(identity).build() // whom does it let in?
/// }
/// ```
#[derive(Debug)]
pub struct ServerConfigBuilder<S> {
    common: Common,
    identity: Identity,
    state: S,
}

impl ServerConfigBuilder<Unverified> {
    /// Sets where the cryptography comes from; *ring* by default. The steps after this one use it, so it comes
    /// before the choice of how to verify.
    #[must_use]
    pub fn provider(mut self, provider: Arc<CryptoProvider>) -> Self {
        self.common.provider = provider;
        self
    }

    /// Mutual TLS, as it should be: only clients whose certificate leads to one of these roots come in.
    ///
    /// # Errors
    ///
    /// [`TlsError::Config`] when the roots are of no use to the cryptography in use.
    pub fn verify_clients_against(
        self,
        roots: Roots,
    ) -> Result<ServerConfigBuilder<VerifiedClients>, TlsError> {
        let verifier = WebPkiClientVerifier::builder_with_provider(roots.0, self.common.provider.clone())
            .build()
            .map_err(|error| TlsError::Config { reason: error.to_string() })?;
        Ok(self.with_verifier(verifier))
    }

    /// The weaker ways.
    pub fn dangerous(self) -> DangerousServerConfigBuilder {
        DangerousServerConfigBuilder(self)
    }

    fn with_verifier(self, verifier: Arc<dyn ClientCertVerifier>) -> ServerConfigBuilder<VerifiedClients> {
        ServerConfigBuilder { common: self.common, identity: self.identity, state: VerifiedClients(verifier) }
    }
}

impl<S> ServerConfigBuilder<S> {
    /// Sets the protocols to speak (ALPN); `ipc-transport/1` by default, none when empty. A client that offers
    /// protocols and none of these is refused; one that offers none comes in.
    #[must_use]
    pub fn protocols(mut self, protocols: impl IntoIterator<Item = impl Into<Vec<u8>>>) -> Self {
        self.common.protocols = protocols.into_iter().map(Into::into).collect();
        self
    }
}

impl ServerConfigBuilder<VerifiedClients> {
    /// The configuration: TLS 1.3, nothing older.
    ///
    /// # Errors
    ///
    /// [`TlsError::Config`] when the key does not fit the certificate, or the provider lacks what TLS 1.3 needs.
    pub fn build(self) -> Result<ServerConfig, TlsError> {
        let config = |error: rustls::Error| TlsError::Config { reason: error.to_string() };
        let mut rustls = rustls::ServerConfig::builder_with_provider(self.common.provider)
            .with_protocol_versions(&[&TLS13])
            .map_err(config)?
            .with_client_cert_verifier(self.state.0)
            .with_single_cert(self.identity.chain, self.identity.key)
            .map_err(config)?;
        rustls.alpn_protocols = self.common.protocols;
        Ok(ServerConfig { rustls: Arc::new(rustls) })
    }
}

/// The weaker ways to listen.
#[derive(Debug)]
pub struct DangerousServerConfigBuilder(ServerConfigBuilder<Unverified>);

impl DangerousServerConfigBuilder {
    /// Lets anybody in who can reach the port; the bytes are still encrypted, and clients still know the server.
    pub fn without_client_certificates(self) -> ServerConfigBuilder<VerifiedClients> {
        self.0.with_verifier(WebPkiClientVerifier::no_client_auth())
    }
}

/// Believes any certificate, and checks only that the peer has its key.
#[derive(Debug)]
struct Gullible(Arc<CryptoProvider>);

impl ServerCertVerifier for Gullible {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
