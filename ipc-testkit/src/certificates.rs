//! Certificates for tests and examples, made at run time: none of them is worth keeping, or stealing.

use ipc_transport::{
    TlsTransport,
    tls::{ClientConfig, Identity, Roots, ServerConfig},
};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};

/// A certificate authority of one test.
///
/// # Examples
///
/// What [`mutual`](Self::mutual) makes, by hand:
///
/// ```
/// use ipc_testkit::certificates::Authority;
/// use ipc_transport::tls::{ClientConfig, Identity, Roots, ServerConfig};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let authority = Authority::new("a test");
/// let issued = authority.issue(["localhost", "127.0.0.1"]);
/// let identity = Identity::from_pem(issued.certificate, issued.key)?;
/// let roots = Roots::from_pem(authority.pem())?;
/// let server = ServerConfig::builder(identity.clone()).verify_clients_against(roots.clone())?.build()?;
/// let client = ClientConfig::builder().verify_against(roots)?.identity(identity).build()?;
/// # let _ = (server, client);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// A certificate and its key, in PEM.
#[derive(Clone)]
pub struct Issued {
    /// The certificate.
    pub certificate: String,
    /// The private key.
    pub key: String,
}

impl std::fmt::Debug for Issued {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Issued")
    }
}

/// When a certificate is valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Validity {
    /// It has expired long ago.
    Expired,
    /// It will be valid in a far future.
    NotYet,
    /// Now, and for as long as tests may run.
    Now,
}

impl Authority {
    /// An authority with this name and a fresh key.
    pub fn new(name: &str) -> Self {
        let mut params = params(Vec::new(), Validity::Now);
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        let issuer = CertifiedIssuer::self_signed(params, new_key()).expect("the parameters hold together");
        Self { issuer }
    }

    /// Its own certificate, in PEM: the root for those who trust it.
    pub fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// A certificate for these DNS names and IP addresses, for servers and clients alike.
    pub fn issue<N: Into<String>>(&self, names: impl IntoIterator<Item = N>) -> Issued {
        self.issue_valid(names, Validity::Now)
    }

    /// The same with a validity of its own.
    pub fn issue_valid<N: Into<String>>(
        &self,
        names: impl IntoIterator<Item = N>,
        validity: Validity,
    ) -> Issued {
        let mut params = params(names.into_iter().map(Into::into).collect(), validity);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let key = new_key();
        let certificate = params.signed_by(&key, &self.issuer).expect("the parameters hold together");
        Issued { certificate: certificate.pem(), key: key.serialize_pem() }
    }

    /// A transport with a fresh certificate for these names, which it shows both where it listens and where it dials, and
    /// which trusts this authority alone: those of one authority verify each other.
    pub fn mutual<N: Into<String>>(&self, names: impl IntoIterator<Item = N>) -> TlsTransport {
        let issued = self.issue(names);
        let identity = Identity::from_pem(issued.certificate, issued.key).expect("it was just issued");
        let roots = Roots::from_pem(self.pem()).expect("it is a certificate");
        let server = ServerConfig::builder(identity.clone()).verify_clients_against(roots.clone());
        let client = ClientConfig::builder().verify_against(roots);
        let (server, client) = (server.expect("there is a root"), client.expect("there is a root"));
        TlsTransport::new()
            .server(server.build().expect("the key fits"))
            .client(client.identity(identity).build().expect("the key fits"))
    }
}

fn params(names: Vec<String>, validity: Validity) -> CertificateParams {
    let mut params = CertificateParams::new(names).expect("the names are DNS names or addresses");
    let years = match validity {
        Validity::Expired => (2000, 2001),
        Validity::NotYet => (4000, 4001),
        Validity::Now => (2000, 4000),
    };
    (params.not_before, params.not_after) = (date_time_ymd(years.0, 1, 1), date_time_ymd(years.1, 1, 1));
    params
}

fn new_key() -> KeyPair {
    KeyPair::generate().expect("the system has randomness")
}
