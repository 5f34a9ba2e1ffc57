//! UDP keeps the contract of datagrams, over both versions of IP, and stays at home.

#![cfg(feature = "udp")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    collections::{BTreeSet, HashMap},
    net::{SocketAddr, UdpSocket},
    time::Duration,
};

use bytes::Bytes;
use ipc_testkit::{conformance::datagram::Subject, datagram_conformance};
use ipc_transport::{
    Datagram, DatagramAddress, DatagramReader, DatagramTransport, DatagramWriter, Endpoint, Error,
    UdpTransport,
    framing::{Delimiter, DelimiterDecoder, FrameError},
};

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

async fn bind(at: &str) -> (DatagramReader, DatagramWriter, DatagramAddress) {
    let socket = UdpTransport::new().bind(&at.parse().unwrap()).await.unwrap();
    let address = DatagramAddress::of(socket.local_endpoint()).unwrap();
    let (reader, writer) = socket.into_parts();
    (reader, writer, address)
}

async fn next(reader: &mut DatagramReader) -> Datagram {
    let received = tokio::time::timeout(Duration::from_secs(30), reader.recv());
    received.await.expect("the watchdog barked").unwrap().unwrap()
}

/// A word there and back over both versions of IP; each side is told the address of the other.
#[tokio::test]
async fn a_word_goes_there_and_back_with_the_address_of_its_sender() {
    for at in ["udp://127.0.0.1:0", "udp://[::1]:0"] {
        let (mut asked, mut answer, server) = bind(at).await;
        let (mut answered, mut ask, client) = bind(at).await;
        let every_byte: Bytes = (0..=255).collect();
        ask.send(Datagram { payload: every_byte.clone(), peer: server.clone() }).await.unwrap();
        let question = next(&mut asked).await;
        assert_eq!((&question.payload, &question.peer), (&every_byte, &client));
        answer.send(question).await.unwrap();
        let back = next(&mut answered).await;
        assert_eq!((back.payload, back.peer), (every_byte, server));
    }
}

/// Whoever wrote is known by an address, and a payload that is sent to each of these reaches each peer once: the
/// transport's share in a broadcast.
#[tokio::test]
async fn each_peer_that_wrote_gets_one_copy_of_what_is_sent_to_all() {
    let (mut heard, mut tell, server) = bind("udp://127.0.0.1:0").await;
    let mut peers = Vec::new();
    for _ in 0..3 {
        let (reader, mut writer, address) = bind("udp://127.0.0.1:0").await;
        for word in ["here", "still here"] {
            let payload = Bytes::from_static(word.as_bytes());
            writer.send(Datagram { payload, peer: server.clone() }).await.unwrap();
        }
        peers.push((reader, writer, address));
    }
    let mut known = BTreeSet::new();
    for _ in 0..6 {
        known.insert(next(&mut heard).await.peer);
    }
    for word in ["news", "end"] {
        for peer in &known {
            let payload = Bytes::from_static(word.as_bytes());
            tell.send(Datagram { payload, peer: peer.clone() }).await.unwrap();
        }
    }
    assert_eq!(known, peers.iter().map(|(_, _, address)| address.clone()).collect());
    for (reader, _writer, _) in &mut peers {
        for word in ["news", "end"] {
            let payload = Bytes::from_static(word.as_bytes());
            assert_eq!(next(reader).await, Datagram { payload, peer: server.clone() });
        }
    }
}

/// A socket of one version of IP and an address of the other: an error before anything is sent, and no harm done.
#[tokio::test]
async fn an_address_of_the_other_family_is_refused_and_the_socket_goes_on() {
    for (at, other) in [("udp://127.0.0.1:0", "[::1]:9"), ("udp://[::1]:0", "127.0.0.1:9")] {
        let (mut reader, mut writer, own) = bind(at).await;
        let other: SocketAddr = other.parse().unwrap();
        let payload = Bytes::from_static(b"x");
        let error = writer.send(Datagram { payload: payload.clone(), peer: other.into() }).await.unwrap_err();
        assert!(matches!(&error, Error::WrongFamily { .. }), "{error:?}");
        writer.send(Datagram { payload: payload.clone(), peer: own.clone() }).await.unwrap();
        assert_eq!(next(&mut reader).await, Datagram { payload, peer: own });
    }
}

/// Threat 15: whatever arrives, the transport sends nothing back by itself, so that nobody can be flooded through it.
#[tokio::test]
async fn nothing_is_answered_by_the_transport_itself() {
    for at in ["127.0.0.1:0", "[::1]:0"] {
        let (mut reader, _writer, own) = bind(&format!("udp://{at}")).await;
        let DatagramAddress::Ip(own) = own else { panic!("{own}") };
        let spoofer = UdpSocket::bind(at).unwrap();
        spoofer.set_nonblocking(true).unwrap();
        for len in [0, 1, 1_199, 1_200, 1_201, 9_000] {
            spoofer.send_to(&vec![0xff; len], own).unwrap();
            assert_eq!(next(&mut reader).await.payload.len(), len);
        }
        // On the loopback an answer would be there by the time it was sent.
        let answer = spoofer.recv_from(&mut [0; 10]).unwrap_err();
        assert_eq!(answer.kind(), std::io::ErrorKind::WouldBlock);
    }
}

/// Several frames in a datagram come out in order; garbage, emptiness and size are their sender's trouble alone.
#[tokio::test]
async fn a_malformed_datagram_harms_only_its_sender() {
    let (mut reader, _writer, server) = bind("udp://127.0.0.1:0").await;
    let (_, mut honest, honest_address) = bind("udp://127.0.0.1:0").await;
    let (_, mut broken, broken_address) = bind("udp://127.0.0.1:0").await;
    let datagram =
        |payload: &[u8]| Datagram { payload: Bytes::copy_from_slice(payload), peer: server.clone() };
    for payload in [&b""[..], &[0xff; 200], b"half a frame", &[0; 1_200]] {
        broken.send(datagram(payload)).await.unwrap();
        honest.send(datagram(b"one\x0ctwo\x0c")).await.unwrap();
    }
    let too_large = honest.send(datagram(&[0; 1_201])).await;
    assert!(matches!(too_large, Err(Error::DatagramTooLarge { len: 1_201, max: 1_200 })), "{too_large:?}");
    honest.send(datagram(b"last\x0c")).await.unwrap();

    // A decoder for each peer, as one datagram says nothing about the next.
    let delimiter = Delimiter::new(&b"\x0c"[..]).unwrap();
    let mut decoders: HashMap<DatagramAddress, DelimiterDecoder> = HashMap::new();
    let (mut frames, mut refused) = (Vec::new(), 0);
    while frames.last().is_none_or(|last| last != "last") {
        let Datagram { payload, peer } = next(&mut reader).await;
        let decoder =
            decoders.entry(peer.clone()).or_insert_with(|| DelimiterDecoder::new(delimiter.clone(), 100));
        decoder.push(&payload);
        loop {
            match decoder.poll_frame() {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(error) => {
                    assert_eq!(peer, broken_address);
                    assert!(matches!(error, FrameError::TooLarge { max: 100, .. }));
                    refused += 1;
                    break;
                }
            }
        }
    }
    // Two sockets of this machine may overtake each other, one does not overtake itself.
    assert_eq!(frames, ["one", "two", "one", "two", "one", "two", "one", "two", "last"]);
    assert!(decoders[&honest_address].finish().is_ok());
    assert!(refused > 0);
}
