//! TCP: real ports, families, host names, refusals.

use ipc_transport::{
    Access, ConnectOptions, Endpoint, Error, ListenOptions, PeerIdentity, TcpTransport, Transport as _,
};

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
