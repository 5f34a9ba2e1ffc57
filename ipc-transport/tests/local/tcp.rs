//! TCP: real ports, families, host names, refusals.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use ipc_transport::{
    Access, AddressFamily, ConnectOptions, Connection, Endpoint, Error, ListenOptions, PeerIdentity,
    TcpTransport, Transport as _,
};
use tokio::io::AsyncReadExt as _;

use super::support::{echo, run_outside, serve_echo, watchdog};

async fn listen(at: &str) -> Result<Box<dyn ipc_transport::Listener>, Error> {
    TcpTransport::new().listen(&at.parse().unwrap(), &ListenOptions::default()).await
}

async fn connect(to: &Endpoint) -> Result<ipc_transport::Connection, Error> {
    TcpTransport::new().connect(to, &ConnectOptions::default()).await
}

#[tokio::test]
async fn port_zero_becomes_a_real_port() {
    let listener = listen("tcp://127.0.0.1:0").await.unwrap();
    let at = listener.local_endpoint().clone();
    assert_ne!(at.socket_addr().unwrap().port(), 0);
    let serving = tokio::spawn(serve_echo(listener));
    let connection = watchdog(connect(&at)).await.unwrap();
    assert_eq!(connection.info().remote, at);
    assert_eq!(connection.info().peer, PeerIdentity::Unknown);
    watchdog(echo(connection, b"tcp")).await.unwrap();
    serving.abort();
}

#[test]
fn accepting_and_establishing_go_on_outside_of_the_runtime() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let mut listener = runtime.block_on(listen("tcp://127.0.0.1:0")).unwrap();
    let to = listener.local_endpoint().clone();
    let dialled = runtime.spawn(watchdog(async move { connect(&to).await.unwrap() }));
    run_outside(async { listener.accept().await.unwrap().establish().await.unwrap() });
    runtime.block_on(dialled).unwrap();
}

#[tokio::test]
async fn a_host_name_is_looked_up() {
    let listener = listen("tcp://127.0.0.1:0").await.unwrap();
    let port = listener.local_endpoint().socket_addr().unwrap().port();
    let serving = tokio::spawn(serve_echo(listener));
    // `localhost` may stand for IPv6 first, where nobody listens; the other address is tried next.
    let at = Endpoint::new("tcp", format!("localhost:{port}")).unwrap();
    watchdog(async { echo(connect(&at).await.unwrap(), b"by name").await.unwrap() }).await;
    serving.abort();
    let error = watchdog(connect(&"tcp://no-such-host.invalid:1".parse().unwrap())).await.unwrap_err();
    assert!(matches!(&error, Error::Io { operation: "look up", .. } | Error::TimedOut { .. }), "{error:?}");
}

#[tokio::test]
async fn an_address_keeps_its_family() {
    let Ok(six) = listen("tcp://[::]:0").await else {
        // A machine without IPv6.
        return;
    };
    let port = six.local_endpoint().socket_addr().unwrap().port();
    assert!(six.local_endpoint().socket_addr().unwrap().is_ipv6());
    let error =
        watchdog(connect(&Endpoint::new("tcp", format!("127.0.0.1:{port}")).unwrap())).await.unwrap_err();
    assert!(matches!(&error, Error::ConnectionRefused { .. }), "{error}");
    let serving = tokio::spawn(serve_echo(six));
    let at = Endpoint::new("tcp", format!("[::1]:{port}")).unwrap();
    watchdog(async { echo(connect(&at).await.unwrap(), b"six").await.unwrap() }).await;
    serving.abort();
}

#[tokio::test]
async fn a_second_listener_at_a_live_port_is_refused() {
    let listener = listen("tcp://127.0.0.1:0").await.unwrap();
    let at = listener.local_endpoint().to_string();
    let error = listen(&at).await.unwrap_err();
    assert!(matches!(&error, Error::AddrInUse { .. }), "{error}");
    let serving = tokio::spawn(serve_echo(listener));
    watchdog(async { echo(connect(&at.parse().unwrap()).await.unwrap(), b"first").await.unwrap() }).await;
    serving.abort();
    let _ = serving.await;
    // Connections of the old one may linger in TIME_WAIT; the port is free all the same, as soon as no child that is
    // about to start a program has a copy of the old listener.
    watchdog(async {
        while listen(&at).await.is_err() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_rule_that_needs_an_identity_admits_nobody() {
    let at = listen("tcp://127.0.0.1:0").await.unwrap();
    for access in [Access::SameUser, Access::Uids(vec![0]), Access::Group(0)] {
        let options = ConnectOptions::default().with_access(access);
        let error = TcpTransport::new().connect(at.local_endpoint(), &options).await.unwrap_err();
        assert!(matches!(&error, Error::AccessDenied { .. }), "{error}");
    }
}

/// A dialler of a free port in the system's own range can meet itself; that is nobody.
#[tokio::test]
async fn a_dialler_never_talks_to_itself() {
    let port = listen("tcp://127.0.0.1:0").await.unwrap().local_endpoint().socket_addr().unwrap().port();
    let at = Endpoint::new("tcp", format!("127.0.0.1:{port}")).unwrap();
    for _ in 0..200 {
        match watchdog(connect(&at)).await {
            Err(Error::ConnectionRefused { .. }) => {}
            // Another test may have been given the port meanwhile.
            Ok(connection) => assert_ne!(connection.info().local, connection.info().remote),
            Err(other) => panic!("{other}"),
        }
    }
}

#[tokio::test]
async fn a_dialler_gives_up_at_its_deadline() {
    let options = ConnectOptions::default().with_timeout(std::time::Duration::ZERO);
    let listener = listen("tcp://127.0.0.1:0").await.unwrap();
    let error = TcpTransport::new().connect(listener.local_endpoint(), &options).await;
    // With no time at all a loopback connect may still be quick enough.
    assert!(matches!(&error, Ok(_) | Err(Error::TimedOut { .. })), "{error:?}");
}

/// Dials from a port that nobody else has, found by trying; an address of its own keeps most others out of the way.
async fn connect_from_some_port(to: &Endpoint, from: IpAddr) -> (Connection, TcpTransport, u16) {
    loop {
        // Below the ports that the system hands out.
        let port = fastrand::u16(10_000..32_000);
        let transport = TcpTransport::new().local_address(Some(from)).local_port(port);
        match transport.connect(to, &ConnectOptions::default()).await {
            Ok(connection) => return (connection, transport, port),
            Err(Error::AddrInUse { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }
}

/// An address of this machine that other tests hardly use, where the whole network 127 is ours.
fn own_address() -> IpAddr {
    if cfg!(target_os = "linux") {
        Ipv4Addr::new(127, fastrand::u8(1..255), fastrand::u8(..), fastrand::u8(1..255)).into()
    } else {
        Ipv4Addr::LOCALHOST.into()
    }
}

/// N-34: the listener sees the dialler come from the address and the port that it was told to come from.
#[tokio::test]
async fn a_dialler_comes_from_the_address_and_port_that_it_is_told() {
    for (at, from) in [("127.0.0.1", own_address()), ("[::1]", Ipv6Addr::LOCALHOST.into())] {
        let Ok(mut listener) = listen(&format!("tcp://{at}:0")).await else {
            assert_ne!(at, "127.0.0.1");
            continue;
        };
        let to = listener.local_endpoint().clone();
        let (dialled, _, port) = watchdog(connect_from_some_port(&to, from)).await;
        let told = Endpoint::tcp(SocketAddr::new(from, port));
        assert_eq!(dialled.info().local, told);
        let incoming = watchdog(listener.accept()).await.unwrap();
        assert_eq!(incoming.remote_endpoint(), &told);
        assert_eq!(incoming.establish().await.unwrap().info().remote, told);

        let address_alone = TcpTransport::new().local_address(Some(from));
        let dialled = watchdog(address_alone.connect(&to, &ConnectOptions::default())).await.unwrap();
        assert_eq!(dialled.info().local.socket_addr().unwrap().ip(), from);
    }
}

/// N-34: one port dials several peers, but the same one only once at a time; when that connection was ended by the
/// peer, the same two addresses meet again.
#[tokio::test]
async fn a_fixed_port_is_dialled_from_again() {
    let mut listener = listen("tcp://127.0.0.1:0").await.unwrap();
    let to = listener.local_endpoint().clone();
    let (dialled, transport, port) = watchdog(connect_from_some_port(&to, own_address())).await;
    let from = dialled.info().local.clone();
    let accepted = watchdog(listener.accept()).await.unwrap().establish().await.unwrap();

    let options = ConnectOptions::default();
    let error = watchdog(transport.connect(&to, &options)).await.unwrap_err();
    assert!(matches!(&error, Error::AddrInUse { endpoint, .. } if *endpoint == from), "{error}");
    let other = listen("tcp://127.0.0.1:0").await.unwrap();
    let elsewhere = watchdog(transport.connect(other.local_endpoint(), &options)).await.unwrap();
    assert_eq!(elsewhere.info().local.socket_addr().unwrap().port(), port);

    drop(accepted);
    let (mut reader, writer, _) = dialled.into_parts();
    assert!(watchdog(reader.read_u8()).await.is_err());
    drop((reader, writer));
    let again = watchdog(async {
        loop {
            match transport.connect(&to, &options).await {
                Ok(again) => break again,
                // The last word of the first connection is still under way.
                Err(Error::AddrInUse { .. }) => tokio::task::yield_now().await,
                Err(error) => panic!("{error}"),
            }
        }
    });
    assert_eq!(again.await.info().local, from);
}

/// N-34: an address of another machine, and a port where somebody listens, are told by name.
#[tokio::test]
async fn places_that_cannot_be_dialled_from_are_told_apart() {
    let foreign: SocketAddr = "192.0.2.1:0".parse().unwrap();
    let listener = listen("tcp://127.0.0.1:0").await.unwrap();
    let (to, options) = (listener.local_endpoint(), ConnectOptions::default());
    let from_elsewhere = TcpTransport::new().local_address(Some(foreign.ip()));
    let error = watchdog(from_elsewhere.connect(to, &options)).await.unwrap_err();
    assert!(matches!(error, Error::AddrNotAvailable { address } if address == foreign), "{error}");
    assert_eq!(error.to_string(), "192.0.2.1:0 is no address of this machine");
    let error = listen("tcp://192.0.2.1:0").await.unwrap_err();
    assert!(matches!(error, Error::AddrNotAvailable { address } if address == foreign), "{error}");

    let taken = listen("tcp://127.0.0.1:0").await.unwrap();
    let taken = taken.local_endpoint();
    let address = taken.socket_addr().unwrap();
    let transport = TcpTransport::new().local_address(Some(address.ip())).local_port(address.port());
    let error = watchdog(transport.connect(to, &options)).await.unwrap_err();
    assert!(matches!(&error, Error::AddrInUse { endpoint, .. } if endpoint == taken), "{error}");
}

/// N-34: a family that is asked for is kept: names give its addresses alone, and what has none is refused undialled.
#[tokio::test]
async fn only_addresses_of_the_family_are_used() {
    let (four, six) = (AddressFamily::V4, AddressFamily::V6);
    let by_name = |family| TcpTransport::new().family(family);
    let at: Endpoint = "tcp://localhost:0".parse().unwrap();
    let listener = by_name(four).listen(&at, &ListenOptions::default()).await.unwrap();
    let address = listener.local_endpoint().socket_addr().unwrap();
    assert!(address.is_ipv4());
    let options = ConnectOptions::default();
    let name = Endpoint::new("tcp", format!("localhost:{}", address.port())).unwrap();
    let dialled = watchdog(by_name(four).connect(&name, &options)).await.unwrap();
    assert_eq!(dialled.info().remote.socket_addr(), Some(address));
    match watchdog(by_name(six).connect(&name, &options)).await {
        // Somebody else may have this port of IPv6; where the name has no such address, it says so.
        Ok(other) => assert!(other.info().remote.socket_addr().unwrap().is_ipv6()),
        Err(Error::ConnectionRefused { .. } | Error::WrongFamily { .. }) => {}
        Err(error) => panic!("{error}"),
    }

    let from_six = TcpTransport::new().local_address(Some(Ipv6Addr::LOCALHOST.into()));
    for (transport, wanted) in [(by_name(six), six), (from_six.clone(), six), (from_six.family(four), four)] {
        let error = watchdog(transport.connect(listener.local_endpoint(), &options)).await.unwrap_err();
        assert!(matches!(error, Error::WrongFamily { family, .. } if family == wanted), "{error}");
    }
    let error = by_name(four).listen(&"tcp://[::1]:0".parse().unwrap(), &ListenOptions::default()).await;
    assert!(matches!(error, Err(Error::WrongFamily { .. })), "{error:?}");
}
