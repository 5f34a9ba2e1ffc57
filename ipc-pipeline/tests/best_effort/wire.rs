//! The bytes, and what is no datagram of ours.

use ipc_pipeline::{
    best_effort::{ReceiverConfig, RecvError, SenderConfig},
    protocol::{DATAGRAM_HEADER_LEN, DatagramHeader, SessionId, codec_tag},
};
use ipc_transport::{Bincode, Datagram, DatagramTransport, Endpoint, UdpTransport};
use proptest::prelude::*;

use crate::support::{Caught, give, guarded, name, on_both_runtimes, receiver, until};

#[test]
fn what_leaves_is_a_header_and_the_encoding() {
    on_both_runtimes(|| async {
        let caught = Caught::default();
        let sender = caught.sender::<u32>(SenderConfig::default());
        let session = sender.lead_to(Some(name("elsewhere"))).unwrap();
        sender.send(7).unwrap();
        until(|| caught.count() == 1).await;
        let Datagram { payload, peer } = caught.take().remove(0);
        assert_eq!(peer, name("elsewhere"));
        let codec = codec_tag(Bincode::ID);
        let header = DatagramHeader { session, codec, number: 1, skipped: 0 };
        assert_eq!(payload[..DATAGRAM_HEADER_LEN], header.encode());
        assert_eq!(payload[DATAGRAM_HEADER_LEN..], [7, 0, 0, 0]);
    });
}

fn datagram(codec: &str, number: u64, value: &[u8]) -> Datagram {
    let session = SessionId::from_bits(9);
    let header = DatagramHeader { session, codec: codec_tag(codec), number, skipped: 0 };
    let payload = [&header.encode()[..], value].concat().into();
    Datagram { payload, peer: name("somebody") }
}

#[test]
fn what_is_no_value_is_counted_and_the_next_one_comes() {
    on_both_runtimes(|| async {
        let (feed, mut receiver) = receiver::<u32>(|_| {});
        let stray = Datagram { payload: b"hello?".as_slice().into(), peer: name("somebody") };
        let strays = vec![stray, datagram("json", 1, b"7"), datagram(Bincode::ID, 0, &[7, 0, 0, 0])];
        give(&feed, &receiver, strays).await;
        let values = vec![datagram(Bincode::ID, 1, &[7]), datagram(Bincode::ID, 2, &[7, 0, 0, 0])];
        give(&feed, &receiver, values).await;
        let error = receiver.recv().await.unwrap_err();
        assert!(matches!(error, RecvError::Undecodable { number: 1, .. }), "{error:?}");
        assert_eq!(receiver.recv().await.unwrap().value, 7);
        let counters = receiver.counters();
        assert_eq!((counters.malformed, counters.mismatched, counters.undecodable), (2, 1, 1));
        drop(feed);
        assert_eq!(receiver.recv().await.unwrap_err(), RecvError::Closed);
        assert_eq!(receiver.try_recv().unwrap_err(), RecvError::Closed);
    });
}

proptest! {
    /// Row 15 of the threats: whatever arrives, nothing breaks, and what is kept stays bounded.
    #[test]
    fn garbage_harms_nobody(
        mut datagrams in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..60), 0..60),
        honest in prop::collection::vec((0..4_u64, any::<u64>(), any::<u64>()), 0..60),
    ) {
        for (session, number, skipped) in honest {
            let session = SessionId::from_bits(session.into());
            let header = DatagramHeader { session, codec: codec_tag(Bincode::ID), number, skipped };
            datagrams.push([&header.encode()[..], &[1, 0, 0, 0]].concat());
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(guarded(async {
            let bounds = |config: &mut ReceiverConfig| {
                config.capacity = 5.try_into().unwrap();
                config.max_sources = 2.try_into().unwrap();
            };
            let (feed, mut receiver) = receiver::<u32>(bounds);
            let peer = name("somebody");
            let datagrams = datagrams.into_iter().map(|bytes| Datagram { payload: bytes.into(), peer: peer.clone() });
            give(&feed, &receiver, datagrams.collect()).await;
            assert!(receiver.sources().len() <= 2);
            assert!(receiver.sources().iter().all(|source| source.waiting <= 5));
            while receiver.try_recv().unwrap().is_some() {}
        }));
    }
}

/// Row 15 of the threats: a receiving end says nothing to whoever sends it datagrams, so it cannot be made to flood others.
#[tokio::test]
async fn no_datagram_is_ever_answered() {
    guarded(async {
        let any_port: Endpoint = "udp://127.0.0.1:0".parse().unwrap();
        let socket = UdpTransport::new().bind(&any_port).await.unwrap();
        let mut config = ReceiverConfig::default();
        config.sources = ipc_pipeline::best_effort::Sources::Anybody;
        let mut receiver =
            ipc_pipeline::best_effort::Receiver::<u32>::new(socket, config, Bincode::default()).unwrap();
        let stranger = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let to = receiver.local_endpoint().socket_addr().unwrap();
        for number in 0..20 {
            stranger.send_to(b"what is this?", to).await.unwrap();
            stranger.send_to(&datagram("json", 1, b"").payload, to).await.unwrap();
            stranger.send_to(&datagram(Bincode::ID, number + 1, &[7, 0, 0, 0]).payload, to).await.unwrap();
            // They arrive one by one, and the value is the last of the three.
            assert_eq!(receiver.recv().await.unwrap().value, 7);
        }
        let silence = stranger.try_recv(&mut [0; 100]).unwrap_err();
        assert_eq!(silence.kind(), std::io::ErrorKind::WouldBlock);
    })
    .await;
}
