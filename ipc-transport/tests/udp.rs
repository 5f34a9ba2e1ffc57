//! UDP keeps the contract of datagrams, over both versions of IP, and stays at home.

#![cfg(feature = "udp")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use bytes::Bytes;
use ipc_testkit::{conformance::datagram::Subject, datagram_conformance};
use ipc_transport::{Datagram, DatagramAddress, DatagramTransport, Endpoint, Error, UdpTransport};

fn subject(at: &str) -> Subject {
    Subject::new(UdpTransport::new(), at.parse().unwrap())
}

datagram_conformance!(udp4, || subject("udp://127.0.0.1:0"));
datagram_conformance!(udp6, || subject("udp://[::1]:0"));
datagram_conformance!(udp4_large, || {
    Subject::new(UdpTransport::new().max_payload(usize::MAX), "udp://127.0.0.1:0".parse().unwrap())
});

/// Threat 15: nothing but loopback is bound unless that is asked for by name.
#[tokio::test]
async fn only_loopback_is_bound_unless_more_is_allowed() {
    for at in ["udp://0.0.0.0:0", "udp://[::]:0", "udp://192.0.2.1:0"] {
        let at: Endpoint = at.parse().unwrap();
        let refused = UdpTransport::new().bind(&at).await.unwrap_err();
        assert!(matches!(&refused, Error::NotLocal { endpoint } if *endpoint == at), "{refused:?}");
    }
    let open = UdpTransport::new().dangerous().reachable_from_elsewhere();
    let socket = open.bind(&"udp://0.0.0.0:0".parse().unwrap()).await.unwrap();
    assert_eq!(socket.max_payload(), 1_200);
    for at in ["tcp://127.0.0.1:0", "udp://localhost:0"] {
        assert!(UdpTransport::new().bind(&at.parse().unwrap()).await.is_err());
    }
}

/// An address of another kind of transport is an error and no panic.
#[tokio::test]
async fn an_address_of_another_kind_is_refused() {
    let socket = UdpTransport::new().bind(&"udp://127.0.0.1:0".parse().unwrap()).await.unwrap();
    let (_, mut writer) = socket.into_parts();
    let peer = DatagramAddress::of(&"mem:name".parse().unwrap()).unwrap();
    let refused = writer.send(Datagram { payload: Bytes::new(), peer }).await.unwrap_err();
    assert!(matches!(refused, Error::NotFound { .. }), "{refused:?}");
}

/// What a test prints of a datagram never shows what it carries.
#[test]
fn debug_hides_the_payload() {
    let peer = "127.0.0.1:9".parse::<std::net::SocketAddr>().unwrap().into();
    let datagram = Datagram { payload: Bytes::from_static(b"secret"), peer };
    assert_eq!(format!("{datagram:?}"), "Datagram { len: 6, peer: Ip(127.0.0.1:9) }");
}

#[test]
fn outside_a_runtime_there_is_an_error_and_no_panic() {
    let at: Endpoint = "udp://127.0.0.1:0".parse().unwrap();
    let transport = UdpTransport::new();
    let mut bind = transport.bind(&at);
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    match bind.as_mut().poll(&mut context) {
        std::task::Poll::Ready(Err(Error::NoRuntime)) => {}
        other => panic!("{other:?}"),
    }
}
