//! What foreign users can make a receiving process buffer.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::{sync::Arc, time::Duration};

use common::{Direct, capacity, paused};
use ipc_pipeline::{
    link::{LinkNames, OutgoingLink, Receiver, ReceiverConfig},
    protocol::{Budget, FLOOR_BYTES},
};
use ipc_transport::{Bincode, PeerIdentity};

const LONG: Duration = Duration::from_secs(20);

fn sender(port: &str, uid: Option<u32>, receiver: &Receiver<Vec<u8>>) -> OutgoingLink<Vec<u8>> {
    let link = OutgoingLink::new(capacity(200), Bincode::default());
    let peer = uid.map_or(PeerIdentity::Unknown, |uid| PeerIdentity::Process { uid, gid: 0, pid: None });
    let direct = Direct { peer, buffered: false, intake: receiver.intake() };
    link.connect(Arc::new(direct), LinkNames::new(("a", port), ("b", "IN"))).unwrap();
    link
}

/// All links of one foreign user together buffer and promise no more than their part beyond the floors, whatever
/// they send; the process's own sender has the rest, and everything arrives in the end.
#[test]
fn a_foreign_user_has_its_part_of_the_budget() {
    paused(async {
        const PART: usize = 400_000;
        const VALUE: usize = 20_000;
        let budget = Budget::new(4_000_000).foreign(PART);
        let mut config = ReceiverConfig::default();
        config.budget = budget.clone();
        let mut receiver = Receiver::<Vec<u8>>::new(config, Bincode::default());
        let own_uid = rustix::process::geteuid().as_raw();
        let strangers =
            [sender("1", Some(own_uid + 1), &receiver), sender("2", Some(own_uid + 1), &receiver)];
        for link in &strangers {
            link.sender().send_many((0..100).map(|_| vec![1; VALUE])).await.unwrap();
        }
        // Virtual time: long enough for everything that can move to have moved.
        tokio::time::sleep(LONG).await;
        let strangers_hold = budget.used();
        assert!((PART - VALUE - FLOOR_BYTES as usize..=PART).contains(&strangers_hold), "{strangers_hold}");
        for (port, uid) in [("3", Some(own_uid)), ("4", None)] {
            let before = budget.used();
            let own = sender(port, uid, &receiver);
            own.sender().send_many((0..100).map(|_| vec![1; VALUE])).await.unwrap();
            tokio::time::sleep(LONG).await;
            assert!(budget.used() - before > PART, "{uid:?}");
            let _ = own.abort().await;
        }
        for _ in 0..200 {
            assert_eq!(receiver.recv().await.unwrap().len(), VALUE);
        }
        for link in strangers {
            link.close(LONG).await.unwrap();
        }
    });
}
