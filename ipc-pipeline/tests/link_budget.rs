//! What foreign users can make a receiving process buffer.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(dead_code, reason = "the helpers serve other tests as well")]

mod common;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use common::{capacity, paused};
use ipc_pipeline::{
    link::{Connector, Greeting, Intake, LinkNames, OutgoingLink, Receiver, ReceiverConfig},
    protocol::{Budget, FLOOR_BYTES},
};
use ipc_transport::{Bincode, Connection, ConnectionInfo, Endpoint, Error, PeerIdentity};
use tokio::io::{duplex, split};

const LONG: Duration = Duration::from_secs(20);

/// Comes in as a process of this user, as the kernel would tell.
#[derive(Debug)]
struct User {
    uid: Option<u32>,
    intake: Intake,
}

#[async_trait]
impl Connector for User {
    async fn connect(&self) -> Result<Connection, Error> {
        let at: Endpoint = "mem:a".parse().unwrap();
        let peer =
            self.uid.map_or(PeerIdentity::Unknown, |uid| PeerIdentity::Process { uid, gid: 0, pid: None });
        let (ours, theirs) = duplex(64 * 1024);
        let connection = |stream, peer| {
            let (reader, writer) = split(stream);
            Connection::from_bytes(reader, writer, ConnectionInfo::new(at.clone(), at.clone(), peer))
        };
        let accepted = connection(theirs, peer);
        let intake = self.intake.clone();
        tokio::spawn(async move {
            let greeting = Greeting::read(accepted, LONG).await.unwrap();
            let _ = intake.accept(greeting).await;
        });
        Ok(connection(ours, PeerIdentity::Unknown))
    }
}

fn sender(port: &str, uid: Option<u32>, receiver: &Receiver<Vec<u8>>) -> OutgoingLink<Vec<u8>> {
    let link = OutgoingLink::new(capacity(200), Bincode::default());
    let user = User { uid, intake: receiver.intake() };
    link.connect(Arc::new(user), LinkNames::new(("a", port), ("b", "IN"))).unwrap();
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
