//! Who is turned away, why, and how they come in after all.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::{sync::Arc, time::Duration};

use common::{Direct, Site, capacity, on_both_runtimes};
use ipc_pipeline::{
    SendErrorReason,
    link::{LinkConfig, LinkNames, OutgoingLink, Receiver, ReceiverConfig, RecvError, Status},
    protocol::Refusal,
};
use ipc_transport::{Bincode, Json, PeerIdentity};

const LONG: Duration = Duration::from_secs(20);

/// What does not fit is refused, the values are kept, sends fail; a new connect to what fits delivers them.
#[test]
fn what_does_not_fit_is_refused_and_kept() {
    on_both_runtimes(|| async {
        let schema = |name: &str| {
            let mut config = LinkConfig::default();
            config.schema = Some(name.to_owned());
            config
        };
        let mut large = LinkConfig::default();
        large.max_message = 1024 * 1024 + 1;
        for (json, config) in [(true, LinkConfig::default()), (false, schema("b/1")), (false, large)] {
            let site = Site::mem().await;
            let mut narrow = ReceiverConfig::default();
            narrow.schema = Some("a/1".to_owned());
            let refusing = site.receiver::<u64>(narrow);
            let link: OutgoingLink<u64> = match json {
                true => OutgoingLink::new(config, Json::default()),
                false => OutgoingLink::new(config, Bincode::default()),
            };
            link.sender().send(7).await.unwrap();
            site.connect(&link);
            let refusal = link.connected().await.unwrap_err();
            assert!(matches!(refusal, Refusal::Incompatible { .. }), "{refusal}");
            assert_eq!(link.sender().send(8).await.unwrap_err().reason(), &SendErrorReason::Refused);
            assert_eq!(link.sender().settled().await, Err(SendErrorReason::Refused));
            assert_eq!(link.sender().pending(), 1);
            drop(refusing);
            let mut wide = ReceiverConfig::default();
            wide.max_message = 2 * 1024 * 1024;
            let mut receiver = match json {
                true => site.receiver_with::<u64>(wide, Json::default()),
                false => site.receiver::<u64>(wide),
            };
            site.connect(&link);
            link.connected().await.unwrap();
            assert_eq!(*receiver.recv().await.unwrap(), 7);
            link.close(LONG).await.unwrap();
        }
    });
}

/// P-11.
#[test]
fn the_application_decides_who_comes_in() {
    on_both_runtimes(|| async {
        let site = Site::mem().await;
        let mut config = ReceiverConfig::default();
        config.admission =
            Some(Arc::new(|hello, _| hello.from_port == "friend" && hello.credentials == b"key"));
        let mut receiver = site.receiver::<u64>(config);
        let stranger = site.link_from::<u64>("stranger", capacity(5), Bincode::default());
        assert_eq!(stranger.connected().await, Err(Refusal::NotPermitted));
        let mut config = capacity(5);
        config.credentials = b"key".to_vec();
        let friend = site.link_from::<u64>("friend", config, Bincode::default());
        friend.connected().await.unwrap();
        friend.sender().send(1).await.unwrap();
        assert_eq!(*receiver.recv().await.unwrap(), 1);
    });
}

/// By what the transport knows of the peer, which the hello cannot make up.
#[test]
fn the_application_decides_by_who_the_peer_is() {
    on_both_runtimes(|| async {
        let peer = |uid| PeerIdentity::Process { uid, gid: 0, pid: None };
        let mut config = ReceiverConfig::default();
        config.admission = Some(Arc::new(move |_, info| info.peer == peer(7)));
        let receiver = Receiver::<u64>::new(config, Bincode::default());
        for uid in [8, 7] {
            let link = OutgoingLink::<u64>::new(capacity(5), Bincode::default());
            let direct = Direct { peer: peer(uid), buffered: false, intake: receiver.intake() };
            link.connect(Arc::new(direct), LinkNames::new(("a", "OUT"), ("b", "IN"))).unwrap();
            let connected = link.connected().await;
            assert_eq!(connected, if uid == 7 { Ok(()) } else { Err(Refusal::NotPermitted) });
            let sources = receiver.sources();
            assert_eq!(sources.len(), usize::from(uid == 7));
            assert!(sources.into_iter().all(|id| receiver.source(id).unwrap().peer == peer(7)));
        }
    });
}

#[test]
fn no_more_sources_than_allowed_come_in_until_one_leaves() {
    on_both_runtimes(|| async {
        let site = Site::mem().await;
        let mut config = ReceiverConfig::default();
        config.max_sources = 2;
        let receiver = site.receiver::<u64>(config);
        let links: Vec<_> =
            ["a", "b", "c"].map(|port| site.link_from::<u64>(port, capacity(5), Bincode::default())).into();
        let connected =
            || links.iter().filter(|link| *link.sender().status().borrow() == Status::Connected).count();
        while connected() < 2 {
            tokio::task::yield_now().await;
        }
        for _ in 0..1_000 {
            tokio::task::yield_now().await;
        }
        assert_eq!((connected(), receiver.sources().len()), (2, 2));
        let mut links = links;
        let at = links.iter().position(|link| *link.sender().status().borrow() == Status::Connected).unwrap();
        links.swap_remove(at).close(LONG).await.unwrap();
        for link in &links {
            link.connected().await.unwrap();
        }
    });
}

/// Sessions that went away are forgotten, oldest first, unless something of them is untaken.
#[test]
fn only_settled_sessions_are_forgotten() {
    on_both_runtimes(|| async {
        for max_detached in [0, 1, 3] {
            let site = Site::mem().await;
            let mut config = ReceiverConfig::default();
            config.max_detached = max_detached;
            let mut receiver = site.receiver::<u64>(config);
            for round in 0..10 {
                let link = site.link_from::<u64>(&format!("{round}"), capacity(5), Bincode::default());
                link.sender().send(round).await.unwrap();
                let delivery = loop {
                    match receiver.recv().await {
                        Ok(delivery) => break delivery,
                        // Of the one before.
                        Err(error) => assert_eq!(error, RecvError::EndOfStream),
                    }
                };
                assert_eq!(*delivery, round);
                link.close(LONG).await.unwrap();
            }
            assert!(receiver.sources().len() <= max_detached + 2, "{:?}", receiver.sources());
            // One whose value is untaken cannot be forgotten: newcomers wait until it can.
            for round in 10..10 + max_detached.max(1) as u64 {
                let link = site.link_from::<u64>(&format!("{round}"), capacity(5), Bincode::default());
                link.sender().send(round).await.unwrap();
                link.connected().await.unwrap();
                while link.sender().counters().bytes_written < 32 {
                    tokio::task::yield_now().await;
                }
                let mut status = link.sender().status();
                site.hide();
                link.sender().cut();
                status.wait_for(|status| *status != Status::Connected).await.unwrap();
                let _ = link.abort().await;
                site.show();
            }
            let late = site.link_from::<u64>("late", capacity(5), Bincode::default());
            late.sender().send(99).await.unwrap();
            let mut found = Vec::new();
            while found.last() != Some(&99) {
                // The others have ended: the stream ends before the late one is let in, and begins again.
                match receiver.recv().await {
                    Ok(delivery) => found.push(*delivery),
                    Err(error) => assert_eq!(error, RecvError::EndOfStream),
                }
            }
            late.close(LONG).await.unwrap();
        }
    });
}

/// Two orders to connect leave one driver: the connection is not taken back and forth.
#[test]
fn a_second_connect_takes_the_place_of_the_first() {
    on_both_runtimes(|| async {
        let site = Site::mem().await;
        let mut receiver = site.receiver::<u64>(ReceiverConfig::default());
        let link = site.link::<u64>(capacity(100));
        for _ in 0..5 {
            link.connected().await.unwrap();
            site.connect(&link);
        }
        let mut status = link.sender().status();
        status.wait_for(|status| *status == Status::Connected).await.unwrap();
        link.sender().send(0).await.unwrap();
        assert_eq!(*receiver.recv().await.unwrap(), 0);
        let before = link.sender().counters().reconnects;
        for value in 1..200 {
            link.sender().send(value).await.unwrap();
            assert_eq!(*receiver.recv().await.unwrap(), value);
            tokio::task::yield_now().await;
        }
        assert_eq!(link.sender().counters().reconnects, before);
        link.close(LONG).await.unwrap();
    });
}

/// The hook runs without a lock: it may ask the receiver.
#[test]
fn an_admission_hook_may_look_at_the_receiver() {
    on_both_runtimes(|| async {
        let site = Site::mem().await;
        let slot: Arc<std::sync::OnceLock<ipc_pipeline::link::Intake>> = Arc::default();
        let of_hook = slot.clone();
        let mut config = ReceiverConfig::default();
        config.admission =
            Some(Arc::new(move |hello, _| of_hook.get().is_some_and(|intake| !intake.knows(hello.session))));
        let receiver = site.receiver::<u64>(config);
        slot.set(receiver.intake()).unwrap();
        let link = site.link::<u64>(capacity(5));
        link.connected().await.unwrap();
    });
}
