//! Events over TLS, both sides verified:
//!
//! ```text
//! cargo run --example tls_mutual
//! ```
//!
//! A server and two clients: one has papers of the server's authority, the other of somebody else's, and is told why it
//! does not get in. All are in this program, and all certificates are made as it starts. In real life each process reads
//! its own from files.
#![allow(clippy::print_stdout, reason = "a program that shows what it does")]

use std::{error::Error, time::Duration};

use ipc_channel::{
    Event,
    events::{Client, ClientConfig, Reply, Server, ServerConfig},
};
use ipc_transport::{
    TlsTransport,
    tls::{self, Identity, Roots},
};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let (ours, theirs) = (authority("ours")?, authority("theirs")?);
    // The system picks the port.
    let config = ServerConfig::new("vault").endpoint("tls://127.0.0.1:0".parse()?);
    let server = Server::start(config.transport(transport(&ours, &ours)?)).await?;
    server.on("message", |message: Event<String>, client: Reply| async move {
        if let Err(error) = client.emit("message", &format!("{} world!", *message)).await {
            println!("vault: {error}");
        }
    });
    let config = |tls| ClientConfig::new("vault").endpoint(server.endpoint().clone()).transport(tls);

    let friend = Client::start(config(transport(&ours, &ours)?))?;
    let mut answers = friend.events::<String>("message", 1)?;
    friend.emit("message", "hello").await?;
    let (answer, _) = answers.next().await.ok_or("the client has ended")?;
    println!("friend: {}", *answer);
    friend.close(PATIENCE).await?;

    // One attempt each: nothing would be different at the next.
    let cases = [
        ("stranger", transport(&theirs, &ours)?, "trusts the server, which does not trust it"),
        ("doubter", transport(&theirs, &theirs)?, "does not trust the server"),
    ];
    for (name, tls, what) in cases {
        println!("{name}: {what}");
        let client = Client::start(config(tls).max_retries(0))?;
        let why = client.connected().await.err();
        let mut error = why.as_ref().map(|error| error as &dyn Error);
        while let Some(cause) = error {
            println!("{name}: {cause}");
            error = cause.source();
        }
        client.abort().await;
    }
    Ok(server.close(PATIENCE).await?)
}

/// Who issues the certificates that are trusted.
type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority(name: &str) -> Result<Authority, rcgen::Error> {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate()?)
}

/// Shows a fresh certificate of the one authority, and wants to see one of the other.
fn transport(shows: &Authority, trusts: &Authority) -> Result<TlsTransport, Box<dyn Error>> {
    let key = KeyPair::generate()?;
    let certificate = CertificateParams::new(vec!["127.0.0.1".to_owned()])?.signed_by(&key, shows)?;
    let identity = Identity::from_pem(certificate.pem(), key.serialize_pem())?;
    let roots = Roots::from_pem(trusts.pem())?;
    let server =
        tls::ServerConfig::builder(identity.clone()).verify_clients_against(roots.clone())?.build()?;
    let client = tls::ClientConfig::builder().verify_against(roots)?.identity(identity).build()?;
    Ok(TlsTransport::new().server(server).client(client))
}

/// Far above what a run takes.
const PATIENCE: Duration = Duration::from_secs(60);
