//! Certificates for one run: an authority that nobody keeps, and one certificate for each process.

use std::{fs, io, path::Path};

use ipc_transport::{
    TlsTransport,
    tls::{ClientConfig, Identity, Roots, ServerConfig},
};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose,
};

/// Makes an authority and certificates of these names, all for the loopback address, and writes them to a directory
/// that must be private. The authority's key is forgotten.
pub(crate) fn issue(directory: &Path, names: [&str; 2]) -> io::Result<()> {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let authority = CertifiedIssuer::self_signed(params, key()?).map_err(io::Error::other)?;
    fs::write(directory.join(ROOT), authority.pem())?;
    for name in names {
        let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).map_err(io::Error::other)?;
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let key = key()?;
        let certificate = params.signed_by(&key, &authority).map_err(io::Error::other)?;
        fs::write(directory.join(format!("{name}.pem")), certificate.pem())?;
        fs::write(directory.join(format!("{name}.key")), key.serialize_pem())?;
    }
    Ok(())
}

/// The transport of the process with this name: it shows its certificate and wants to see one of the same authority.
pub(crate) fn transport(directory: &Path, name: &str) -> io::Result<TlsTransport> {
    let file = |kind: &str| directory.join(format!("{name}.{kind}"));
    let identity = Identity::from_pem_files(file("pem"), file("key")).map_err(io::Error::other)?;
    let roots = Roots::from_pem_file(directory.join(ROOT)).map_err(io::Error::other)?;
    let server = ServerConfig::builder(identity.clone()).verify_clients_against(roots.clone());
    let server = server.and_then(|server| server.build()).map_err(io::Error::other)?;
    let client = ClientConfig::builder().verify_against(roots).map_err(io::Error::other)?.identity(identity);
    let client = client.build().map_err(io::Error::other)?;
    Ok(TlsTransport::new().server(server).client(client))
}

fn key() -> io::Result<KeyPair> {
    KeyPair::generate().map_err(io::Error::other)
}

/// The file of the authority's certificate.
const ROOT: &str = "root.pem";
