//! TLS: the contract of transports, who is let in, and every way in which a handshake can fail.
//!
//! A crowd at the listener, silent diallers and a shortage of descriptors are in `local`, for TLS as
//! for the other transports. Names that are too long, files at the address and modes of directories do not
//! apply: a TLS endpoint is a host and a port, and has no file.

#![cfg(feature = "tls")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{io, time::Duration};

use async_trait::async_trait;
use ipc_testkit::{
    certificates::{Authority, Validity},
    conformance::transport::Subject,
    transport_conformance,
};
use ipc_transport::{
    Access, ConnectOptions, Connection, Endpoint, Error, ListenOptions, Listener, PeerIdentity, TcpTransport,
    TlsTransport, Transport,
    tls::{ClientConfig, Identity, Roots, ServerConfig, TlsError},
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

const NAMES: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

fn identity(authority: &Authority, names: &[&str], validity: Validity) -> Identity {
    let issued = authority.issue_valid(names.iter().copied(), validity);
    Identity::from_pem(issued.certificate, issued.key).unwrap()
}

fn roots(authority: &Authority) -> Roots {
    Roots::from_pem(authority.pem()).unwrap()
}

fn server(authority: &Authority, clients: &Authority, names: &[&str], validity: Validity) -> ServerConfig {
    let builder = ServerConfig::builder(identity(authority, names, validity));
    builder.verify_clients_against(roots(clients)).unwrap().build().unwrap()
}

fn client(servers: &Authority, identity: Option<Identity>) -> ClientConfig {
    let mut builder = ClientConfig::builder().verify_against(roots(servers)).unwrap();
    if let Some(identity) = identity {
        builder = builder.identity(identity);
    }
    builder.build().unwrap()
}

/// Both sides of one authority, verified mutually.
fn mutual() -> TlsTransport {
    let authority = Authority::new("everybody's");
    TlsTransport::new()
        .server(server(&authority, &authority, &NAMES, Validity::Now))
        .client(client(&authority, Some(identity(&authority, &["client.test"], Validity::Now))))
}

fn subject(at: &str) -> Subject {
    Subject::new(mutual(), at.parse().unwrap())
}

transport_conformance!(tls_over_ip_version_4, || subject("tls://127.0.0.1:0"));
transport_conformance!(tls_over_ip_version_6, || subject("tls://[::1]:0"));

/// Listens at sockets that somebody else opened, as a supervisor's heir does.
#[derive(Debug)]
struct Inheriting(TlsTransport);

#[async_trait]
impl Transport for Inheriting {
    fn scheme(&self) -> &str {
        self.0.scheme()
    }

    async fn connect(&self, to: &Endpoint, options: &ConnectOptions) -> Result<Connection, Error> {
        self.0.connect(to, options).await
    }

    async fn listen(&self, at: &Endpoint, options: &ListenOptions) -> Result<Box<dyn Listener>, Error> {
        let socket = std::net::TcpListener::bind(at.socket_addr().unwrap());
        self.0.adopt(socket.map_err(|error| Error::io("bind", at, error))?, options)
    }
}

transport_conformance!(inherited_tls, || {
    Subject::new(Inheriting(mutual()), "tls://127.0.0.1:0".parse().unwrap())
});

async fn listen(transport: &TlsTransport) -> (Box<dyn Listener>, Endpoint) {
    let listener = transport.listen(&"tls://127.0.0.1:0".parse().unwrap(), &ListenOptions::default()).await;
    let listener = listener.unwrap();
    let at = listener.local_endpoint().clone();
    (listener, at)
}

/// What each side makes of one connection.
async fn meet(
    server: &TlsTransport,
    client: &TlsTransport,
) -> (Result<Connection, Error>, Result<Connection, Error>) {
    let (mut listener, at) = listen(server).await;
    let accepting = async { listener.accept().await.unwrap().establish().await };
    let options = ConnectOptions::default();
    let both = async { tokio::join!(accepting, client.connect(&at, &options)) };
    tokio::time::timeout(Duration::from_secs(20), both).await.expect("the watchdog barked")
}

fn tls_error(result: Result<Connection, Error>) -> TlsError {
    match result {
        Err(Error::Tls { source, .. }) => *source,
        other => panic!("not an error of TLS: {other:?}"),
    }
}

/// N-32: each side is told by name what is wrong with the other's certificate.
#[tokio::test]
async fn a_server_that_cannot_be_trusted_is_told_apart() {
    let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
    let client_identity = || Some(identity(&ours, &["client.test"], Validity::Now));
    for (server, expected) in [
        (server(&theirs, &ours, &NAMES, Validity::Now), TlsError::UnknownIssuer),
        (server(&ours, &ours, &NAMES, Validity::Expired), TlsError::Expired),
        (server(&ours, &ours, &NAMES, Validity::NotYet), TlsError::NotYetValid),
    ] {
        let client = TlsTransport::new().client(client(&ours, client_identity()));
        let (accepted, connected) = meet(&TlsTransport::new().server(server), &client).await;
        assert_eq!(tls_error(connected), expected);
        assert!(matches!(tls_error(accepted), TlsError::Rejected { .. }), "{expected:?}");
    }
    let elsewhere = server(&ours, &ours, &["elsewhere.test"], Validity::Now);
    let client = TlsTransport::new().client(client(&ours, client_identity()));
    let (_, connected) = meet(&TlsTransport::new().server(elsewhere), &client).await;
    match tls_error(connected) {
        TlsError::WrongName { expected, presented } => {
            assert_eq!(expected, "127.0.0.1");
            assert!(presented.iter().any(|name| name.contains("elsewhere.test")), "{presented:?}");
        }
        other => panic!("{other:?}"),
    }
}

/// N-32: a client without a certificate, or with one of a stranger, is refused; it learns so from its first read.
#[tokio::test]
async fn a_client_that_cannot_be_trusted_is_refused() {
    let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
    let strict = TlsTransport::new().server(server(&ours, &ours, &NAMES, Validity::Now));
    let own = |validity| Some(identity(&ours, &["client.test"], validity));
    for (shown, expected, alert) in [
        (None, TlsError::NoClientCertificate, "CertificateRequired"),
        (Some(identity(&theirs, &["client.test"], Validity::Now)), TlsError::UnknownIssuer, "UnknownCA"),
        (own(Validity::Expired), TlsError::Expired, "CertificateExpired"),
        (own(Validity::NotYet), TlsError::NotYetValid, "CertificateExpired"),
    ] {
        let client = TlsTransport::new().client(client(&ours, shown));
        let (accepted, connected) = meet(&strict, &client).await;
        assert_eq!(tls_error(accepted), expected);
        let (mut reader, _writer, _) = connected.unwrap().into_parts();
        let error = reader.read(&mut [0]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
        let told = error.get_ref().and_then(|inner| inner.downcast_ref::<TlsError>());
        assert_eq!(told, Some(&TlsError::Rejected { alert: alert.to_owned() }));
    }
}

/// N-32: a server without certificate and key refuses to start, as does a dialler that knows no roots.
#[tokio::test]
async fn what_is_not_configured_is_refused_at_once() {
    let bare = TlsTransport::new();
    let at: Endpoint = "tls://127.0.0.1:0".parse().unwrap();
    let listening = bare.listen(&at, &ListenOptions::default()).await.map(|_| panic!("it listens"));
    assert_eq!(tls_error(listening), TlsError::NoServerConfig);
    let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let adopting = bare.adopt(socket, &ListenOptions::default()).map(|_| panic!("it listens"));
    assert_eq!(tls_error(adopting), TlsError::NoServerConfig);
    assert_eq!(tls_error(bare.connect(&at, &ConnectOptions::default()).await), TlsError::NoClientConfig);
    let key_of_another = {
        let authority = Authority::new("ours");
        let (one, other) = (authority.issue(NAMES), authority.issue(NAMES));
        Identity::from_pem(one.certificate, other.key).unwrap()
    };
    let built = ServerConfig::builder(key_of_another).dangerous().without_client_certificates().build();
    assert!(matches!(built, Err(TlsError::Config { .. })), "{built:?}");
    for (chain, key) in [("", ""), ("no certificate", "no key")] {
        assert!(matches!(Identity::from_pem(chain, key), Err(TlsError::Pem { .. })));
    }
}

/// X-12, N-32: plain text, half a handshake and silence end within their deadline, each with its own error, and while they
/// last the listener serves others.
#[tokio::test]
async fn clients_that_do_not_shake_hands_hold_nobody_up() {
    let transport = mutual();
    let (mut listener, at) = listen(&transport).await;
    let plain: Endpoint = at.to_string().replace("tls:", "tcp:").parse().unwrap();
    let options = ConnectOptions::default();
    let mut strangers = Vec::new();
    let mut establishing = Vec::new();
    for words in [&b"GET / HTTP/1.1\r\n\r\n"[..], b"\x16\x03\x01\x02\x00\x01\x00", b""] {
        let (reader, mut writer, _) =
            TcpTransport::new().connect(&plain, &options).await.unwrap().into_parts();
        writer.write_all(words).await.unwrap();
        strangers.push((reader, writer));
        establishing.push(tokio::spawn(listener.accept().await.unwrap().establish()));
    }
    let honest = async { transport.connect(&at, &options).await };
    let accepting = async { listener.accept().await.unwrap().establish().await };
    let (connected, accepted) = tokio::join!(honest, accepting);
    let (_, mut writer, _) = connected.unwrap().into_parts();
    let (mut reader, _, _) = accepted.unwrap().into_parts();
    writer.write_all(b"x").await.unwrap();
    writer.flush().await.unwrap();
    assert_eq!(reader.read_u8().await.unwrap(), b'x');
    let stalled = establishing.split_off(1);
    assert!(matches!(tls_error(establishing.remove(0).await.unwrap()), TlsError::NotTls { .. }));
    // Nothing but deadlines is left to happen, so time may jump to them.
    tokio::time::pause();
    for stalled in stalled {
        let stalled = stalled.await.unwrap();
        assert!(matches!(stalled, Err(Error::TimedOut { operation: "handshake", .. })), "{stalled:?}");
    }
    // They were hung up on.
    for (mut reader, _writer) in strangers {
        let mut rest = Vec::new();
        let _ = reader.read_to_end(&mut rest).await;
    }
}

/// a byte now and then does not move the deadline of a handshake.
#[tokio::test]
async fn a_handshake_that_trickles_in_ends_at_its_deadline() {
    let timeout = Duration::from_secs(10);
    let (mut listener, at) = listen(&mutual().handshake_timeout(timeout)).await;
    let plain: Endpoint = at.to_string().replace("tls:", "tcp:").parse().unwrap();
    let trickle = TcpTransport::new().connect(&plain, &ConnectOptions::default()).await.unwrap();
    let (_reader, mut writer, _) = trickle.into_parts();
    let incoming = listener.accept().await.unwrap();
    tokio::time::pause();
    let begun = tokio::time::Instant::now();
    let trickling = async {
        // The beginning of a record of 512 bytes, which goes on with zeros.
        for byte in b"\x16\x03\x01\x02\x00".iter().chain(std::iter::repeat(&0)) {
            writer.write_all(&[*byte]).await.unwrap();
            // Sleeps under paused time.
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    };
    tokio::select! {
        () = trickling => unreachable!("it has no end"),
        outcome = incoming.establish() => {
            assert!(matches!(outcome, Err(Error::TimedOut { operation: "handshake", .. })), "{outcome:?}");
        }
    }
    assert!(begun.elapsed() >= timeout);
}

/// N-32: whatever is wrong with a client, the same listener serves the next one.
#[tokio::test]
async fn no_client_ends_the_accept_loop() {
    let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
    let own = |validity| Some(identity(&ours, &["client.test"], validity));
    let strict = TlsTransport::new().server(server(&ours, &ours, &NAMES, Validity::Now));
    let (mut listener, at) = listen(&strict).await;
    let options = ConnectOptions::default();
    let honest = TlsTransport::new().client(client(&ours, own(Validity::Now)));
    let elsewhere = ClientConfig::builder().verify_against(roots(&ours)).unwrap();
    let elsewhere = elsewhere.identity(identity(&ours, &["client.test"], Validity::Now));
    let elsewhere = elsewhere.server_name("elsewhere.test").unwrap().build().unwrap();
    for (bad, expected) in [
        (client(&ours, None), "NoClientCertificate"),
        (client(&ours, Some(identity(&theirs, &["client.test"], Validity::Now))), "UnknownIssuer"),
        (client(&ours, own(Validity::Expired)), "Expired"),
        (client(&ours, own(Validity::NotYet)), "NotYetValid"),
        (client(&theirs, own(Validity::Now)), "Rejected"),
        (elsewhere, "Rejected"),
    ] {
        let bad = TlsTransport::new().client(bad);
        let accepting = async { listener.accept().await.unwrap().establish().await };
        let (accepted, _) = tokio::join!(accepting, bad.connect(&at, &options));
        let error = format!("{:?}", tls_error(accepted));
        assert!(error.starts_with(expected), "{error}");

        let accepting = async { listener.accept().await.unwrap().establish().await };
        let (accepted, connected) = tokio::join!(accepting, honest.connect(&at, &options));
        accepted.unwrap();
        connected.unwrap();
    }
}

/// N-32: a server that answers in plain text is told apart from one that is not trusted.
#[tokio::test]
async fn a_server_that_does_not_speak_tls_is_told_apart() {
    let tcp = TcpTransport::new();
    let mut plain =
        tcp.listen(&"tcp://127.0.0.1:0".parse().unwrap(), &ListenOptions::default()).await.unwrap();
    let at = plain.local_endpoint().to_string().replace("tcp:", "tls:").parse().unwrap();
    let answering = async {
        let (mut reader, mut writer, _) =
            plain.accept().await.unwrap().establish().await.unwrap().into_parts();
        reader.read_u8().await.unwrap();
        writer.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
        (reader, writer)
    };
    let (transport, options) = (mutual(), ConnectOptions::default());
    let (_open, connected) = tokio::join!(answering, transport.connect(&at, &options));
    let error = tls_error(connected);
    assert!(matches!(error, TlsError::NotTls { .. }), "{error:?}");
}

/// N-32: there is no connection before the handshake is done, so a server that takes it and never answers is given up at
/// the dialler's deadline.
#[tokio::test]
async fn a_dialler_gives_a_silent_server_up() {
    let tcp = TcpTransport::new();
    let silent = tcp.listen(&"tcp://127.0.0.1:0".parse().unwrap(), &ListenOptions::default()).await.unwrap();
    let at = silent.local_endpoint().to_string().replace("tcp:", "tls:").parse().unwrap();
    let options = ConnectOptions::default().with_timeout(Duration::from_millis(50));
    let error = mutual().connect(&at, &options).await.unwrap_err();
    assert!(matches!(error, Error::TimedOut { operation: "connect", .. }), "{error:?}");
}

/// N-32: once a connection stands, each side knows the other by the names in its certificate, and may choose by them.
#[tokio::test]
async fn certificates_are_identities() {
    let transport = mutual();
    let (accepted, connected) = meet(&transport, &transport).await;
    let (accepted, connected) = (accepted.unwrap(), connected.unwrap());
    let PeerIdentity::Certificate(of_client) = &accepted.info().peer else { panic!("{accepted:?}") };
    let PeerIdentity::Certificate(of_server) = &connected.info().peer else { panic!("{connected:?}") };
    assert_eq!(
        (of_client.names(), of_server.names()),
        (&["client.test".to_owned()][..], &["localhost".to_owned()][..])
    );
    assert_ne!(of_client.sha256(), of_server.sha256());
    assert_eq!(accepted.info().local.scheme(), "tls");

    for (name, admitted) in [("client.test", true), ("Client.test", false), ("other.test", false)] {
        let access = Access::Names(vec![name.to_owned()]);
        let options = ListenOptions::default().with_access(access);
        let mut listener = transport.listen(&"tls://127.0.0.1:0".parse().unwrap(), &options).await.unwrap();
        let at = listener.local_endpoint().clone();
        let accepting = async { listener.accept().await.unwrap().establish().await };
        let options = ConnectOptions::default();
        let (accepted, _connected) = tokio::join!(accepting, transport.connect(&at, &options));
        assert_eq!(accepted.is_ok(), admitted, "{name}");
        if !admitted {
            assert!(matches!(accepted, Err(Error::AccessDenied { .. })));
        }
    }
}

/// What is weaker has to be asked for by name: a listener that lets anybody in, a dialler that believes anybody.
#[tokio::test]
async fn the_dangerous_ways_have_to_be_asked_for() {
    let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
    let open = ServerConfig::builder(identity(&theirs, &["elsewhere.test"], Validity::Expired))
        .dangerous()
        .without_client_certificates()
        .build()
        .unwrap();
    let open = TlsTransport::new().server(open);
    let careful = TlsTransport::new().client(client(&ours, None));
    assert!(meet(&open, &careful).await.1.is_err());
    let gullible = ClientConfig::builder().dangerous().without_verification().build().unwrap();
    let (accepted, connected) = meet(&open, &TlsTransport::new().client(gullible)).await;
    assert_eq!(accepted.unwrap().info().peer, PeerIdentity::Unknown);
    assert!(connected.is_ok());
}

/// The name to be certified may differ from the host that is dialled; the protocols of both sides must meet.
#[tokio::test]
async fn names_and_protocols_can_be_chosen() {
    let authority = Authority::new("ours");
    let service = || server(&authority, &authority, &["service.test"], Validity::Now);
    let own = || identity(&authority, &["client.test"], Validity::Now);
    let build = |protocol: &str| {
        let builder = ClientConfig::builder().verify_against(roots(&authority)).unwrap().identity(own());
        builder.server_name("service.test").unwrap().protocols([protocol]).build().unwrap()
    };
    let listening = TlsTransport::new().server(service());
    let (accepted, connected) = meet(&listening, &TlsTransport::new().client(build("ipc-transport/1"))).await;
    assert!(accepted.is_ok() && connected.is_ok());
    let (accepted, connected) = meet(&listening, &TlsTransport::new().client(build("h2"))).await;
    assert_eq!(tls_error(accepted), TlsError::NoCommonProtocol);
    assert!(matches!(tls_error(connected), TlsError::Rejected { .. }));
    let unnamed = ClientConfig::builder().server_name("not a name!");
    assert!(matches!(unnamed, Err(TlsError::InvalidName { .. })));
}

/// N-34: TLS comes from where its TCP is told to come from.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_dialler_comes_from_the_address_that_its_tcp_is_told() {
    let address = "127.0.0.2".parse().unwrap();
    let transport = mutual().tcp(TcpTransport::new().local_address(Some(address)));
    let (accepted, connected) = meet(&transport, &transport).await;
    let (accepted, connected) = (accepted.unwrap(), connected.unwrap());
    assert_eq!(connected.info().local.socket_addr().unwrap().ip(), address);
    assert_eq!(accepted.info().remote, connected.info().local);
}
