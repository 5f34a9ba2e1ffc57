//! Ports over TLS, both sides verified:
//!
//! ```text
//! cargo run --example tls_ports
//! ```
//!
//! Two nodes of one authority talk; a third has papers of another one, so its port stays unconnected and says why. All are
//! in this program, and all certificates are made as it starts. In real life each process reads its own from files.
#![allow(clippy::print_stdout, reason = "a program that shows what it does")]

use std::{error::Error, time::Duration};

use ipc_ports::{Node, NodeConfig, StaticNaming};
use ipc_transport::{
    TlsTransport,
    tls::{ClientConfig, Identity, Roots, ServerConfig},
};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let (ours, theirs) = (authority("ours")?, authority("theirs")?);
    let mut naming = StaticNaming::new();
    for name in ["sensor", "store", "stranger"] {
        // The system picks the port, which a node notes in the table as it starts.
        naming = naming.with(name, "tls://127.0.0.1:0".parse()?);
    }
    let config = |name: &str, tls| NodeConfig::new(name).naming(naming.clone()).transport(tls);
    let store = Node::start(config("store", transport(&ours)?)).await?;
    let sensor = Node::start(config("sensor", transport(&ours)?)).await?;
    let stranger = Node::start(config("stranger", transport(&theirs)?)).await?;

    let mut incoming = store.incoming::<f64>("READINGS")?;
    let out = sensor.outgoing::<f64>("OUT")?;
    out.connect("store", "READINGS")?;
    for reading in [20.5, 21.0, 21.5] {
        out.send(reading).await?;
        println!("store: {} degrees", *incoming.recv().await?);
    }
    out.close(PATIENCE).await?;

    let distrusted = stranger.outgoing::<f64>("OUT")?;
    distrusted.connect("store", "READINGS")?;
    let mut errors = distrusted.last_error();
    // It goes on trying: somebody may mend the certificates.
    let told = errors.wait_for(Option::is_some).await?.clone();
    let mut error = told.as_ref().map(|error| error as &dyn Error);
    while let Some(cause) = error {
        println!("stranger: {cause}");
        error = cause.source();
    }
    drop(distrusted);
    for node in [sensor, stranger, store] {
        node.shutdown(PATIENCE).await?;
    }
    Ok(())
}

/// Who issues the certificates that its nodes trust.
type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority(name: &str) -> Result<Authority, rcgen::Error> {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate()?)
}

/// Shows a fresh certificate of this authority to both those who dial and those who are dialled, and wants to see one.
fn transport(authority: &Authority) -> Result<TlsTransport, Box<dyn Error>> {
    let key = KeyPair::generate()?;
    let certificate = CertificateParams::new(vec!["127.0.0.1".to_owned()])?.signed_by(&key, authority)?;
    let identity = Identity::from_pem(certificate.pem(), key.serialize_pem())?;
    let roots = Roots::from_pem(authority.pem())?;
    let server = ServerConfig::builder(identity.clone()).verify_clients_against(roots.clone())?.build()?;
    let client = ClientConfig::builder().verify_against(roots)?.identity(identity).build()?;
    Ok(TlsTransport::new().server(server).client(client))
}

/// Far above what a run takes.
const PATIENCE: Duration = Duration::from_secs(60);
