//! Every transport with connections, TLS included where it is built in, under the names of one machine.

use ipc_transport::{Endpoint, Transports};
#[cfg(feature = "tls")]
use {
    ipc_testkit::certificates::Authority,
    ipc_transport::{
        TlsTransport,
        tls::{ClientConfig, Identity, ServerConfig},
    },
    std::time::Duration,
};

use super::support::TempDir;

/// Transports that know each other's certificates, made for this call.
pub(crate) fn transports() -> Transports {
    #[cfg(feature = "tls")]
    return Transports::default().with(patient(Authority::new("everybody's").mutual(["127.0.0.1"])));
    #[cfg(not(feature = "tls"))]
    Transports::default()
}

/// Transports that let anybody in, for two processes that share no authority.
pub(crate) fn open_transports() -> Transports {
    #[cfg(feature = "tls")]
    return Transports::default().with(open());
    #[cfg(not(feature = "tls"))]
    Transports::default()
}

/// A place for each of them.
pub(crate) fn places(directory: &TempDir) -> Vec<Endpoint> {
    let texts = [&directory.endpoint("a.sock").to_string(), "tcp://127.0.0.1:0", "tls://127.0.0.1:0"];
    let texts = texts.into_iter().filter(|text| cfg!(feature = "tls") || !text.starts_with("tls:"));
    texts.map(|text| text.parse().unwrap()).collect()
}

#[cfg(feature = "tls")]
fn open() -> TlsTransport {
    let issued = Authority::new("its own").issue(["127.0.0.1"]);
    let identity = Identity::from_pem(issued.certificate, issued.key).unwrap();
    let server = ServerConfig::builder(identity);
    let server = server.dangerous().without_client_certificates().build().unwrap();
    let client = ClientConfig::builder().dangerous().without_verification().build().unwrap();
    patient(TlsTransport::new().server(server).client(client))
}

/// A crowd that shakes hands all at once takes a slow machine longer than the default allows.
#[cfg(feature = "tls")]
fn patient(transport: TlsTransport) -> TlsTransport {
    transport.handshake_timeout(Duration::from_secs(300))
}
