//! Sources that announce themselves over a connection, and those that do not.

use std::{
    num::NonZeroUsize,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use ipc_pipeline::{
    best_effort::{Intake, Receiver, ReceiverConfig, Sender, SenderConfig, Sources},
    link::{self, Connector, Greeting, LinkConfig, LinkNames, OutgoingLink, Status},
    protocol::{Budget, Refusal},
};
use ipc_testkit::MemTransport;
use ipc_transport::{
    Bincode, ConnectOptions, Connection, DatagramAddress, DatagramTransport, Decoder, Encoder, Endpoint,
    Error, Json, ListenOptions, Transport, UdpTransport,
};
use serde::{Serialize, de::DeserializeOwned};

use crate::support::{LONG, on_both_runtimes, until};

/// A place where receiving ends of both kinds can be found.
#[derive(Debug, Clone)]
struct Site {
    world: MemTransport,
    at: Endpoint,
    intake: Arc<Mutex<Option<Kind>>>,
}

#[derive(Debug, Clone)]
enum Kind {
    BestEffort(Intake),
    Reliable(link::Intake),
}

impl Site {
    async fn new() -> Self {
        let (world, at) = (MemTransport::new(), Endpoint::new("mem", "site").unwrap());
        let mut listener = world.listen(&at, &ListenOptions::default()).await.unwrap();
        let site = Self { world, at, intake: Arc::default() };
        let of_task = site.intake.clone();
        tokio::spawn(async move {
            while let Ok(incoming) = listener.accept().await {
                let Ok(connection) = incoming.establish().await else { continue };
                let Ok(greeting) = Greeting::read(connection, LONG).await else { continue };
                let kind = of_task.lock().unwrap().clone();
                let _ = match kind {
                    Some(Kind::BestEffort(intake)) => intake.accept(greeting).await,
                    Some(Kind::Reliable(intake)) => intake.accept(greeting).await,
                    None => Ok(()),
                };
            }
        });
        site
    }

    async fn receiver<T: DeserializeOwned + 'static>(&self, config: ReceiverConfig) -> Receiver<T> {
        self.receiver_with(config, Bincode::default()).await
    }

    async fn receiver_with<T: 'static>(
        &self,
        config: ReceiverConfig,
        decoder: impl Decoder<T>,
    ) -> Receiver<T> {
        let receiver = Receiver::new(udp().await, config, decoder).unwrap();
        *self.intake.lock().unwrap() = Some(Kind::BestEffort(receiver.intake()));
        receiver
    }

    async fn sender<T: Serialize + 'static>(&self) -> Sender<T> {
        self.sender_with(SenderConfig::default(), Bincode::default()).await
    }

    async fn sender_with<T: 'static>(&self, config: SenderConfig, encoder: impl Encoder<T>) -> Sender<T> {
        let sender = Sender::new(udp().await, config, encoder).unwrap();
        sender.connect(Arc::new(self.clone()), LinkNames::new(("cam", "OUT"), ("screen", "IN"))).unwrap();
        sender
    }
}

#[async_trait]
impl Connector for Site {
    async fn connect(&self) -> Result<Connection, Error> {
        self.world.connect(&self.at, &ConnectOptions::default()).await
    }
}

async fn udp() -> ipc_transport::DatagramSocket {
    UdpTransport::new().bind(&"udp://127.0.0.1:0".parse().unwrap()).await.unwrap()
}

async fn reaches<T>(sender: &Sender<T>, wanted: impl Fn(&Status) -> bool)
where
    T: 'static,
{
    sender.status().wait_for(|status| wanted(status)).await.unwrap();
}

/// A socket that is read without pause drops nothing on loopback that is sent one by one.
async fn passes(sender: &Sender<u64>, receiver: &mut Receiver<u64>, value: u64) {
    loop {
        sender.send(value).unwrap();
        if let Ok(received) = tokio::time::timeout(Duration::from_secs(1), receiver.recv()).await
            && received.unwrap().value == value
        {
            return;
        }
    }
}

#[test]
fn a_source_announces_itself_and_is_told_where_to_send() {
    on_both_runtimes(|| async {
        let site = Site::new().await;
        let sender = site.sender::<u64>().await;
        assert_eq!(*sender.status().borrow(), Status::Waiting);
        // Sent before the receiver exists: the newest of them are not old news yet.
        sender.send(1).unwrap();
        let mut receiver = site.receiver::<u64>(ReceiverConfig::default()).await;
        reaches(&sender, |status| *status == Status::Connected).await;
        passes(&sender, &mut receiver, 2).await;
        let [source] = &receiver.sources()[..] else { panic!("one source") };
        assert_eq!((&*source.process, &*source.port, source.attached), ("cam", "OUT", true));
        assert_eq!(source.address, DatagramAddress::of(sender.local_endpoint()));
        sender.close(LONG).await.unwrap();
        until(|| !receiver.sources()[0].attached).await;
    });
}

#[test]
fn who_does_not_announce_itself_is_not_heard() {
    on_both_runtimes(|| async {
        let site = Site::new().await;
        let mut receiver = site.receiver::<u64>(ReceiverConfig::default()).await;
        let stranger = Sender::<u64>::new(udp().await, SenderConfig::default(), Bincode::default()).unwrap();
        stranger.lead_to(DatagramAddress::of(receiver.local_endpoint()));
        while receiver.counters().unannounced == 0 {
            stranger.send(666).unwrap();
            tokio::task::yield_now().await;
        }
        assert!(receiver.sources().is_empty() && receiver.try_recv().unwrap().is_none());
        let sender = site.sender::<u64>().await;
        passes(&sender, &mut receiver, 1).await;
    });
}

#[test]
fn a_successor_is_found_and_hears_a_new_session() {
    on_both_runtimes(|| async {
        let site = Site::new().await;
        let mut receiver = site.receiver::<u64>(ReceiverConfig::default()).await;
        let sender = site.sender::<u64>().await;
        passes(&sender, &mut receiver, 1).await;
        let first = receiver.sources()[0].session;
        *site.intake.lock().unwrap() = None;
        receiver.close().await;
        reaches(&sender, |status| *status != Status::Connected).await;
        let mut receiver = site.receiver::<u64>(ReceiverConfig::default()).await;
        passes(&sender, &mut receiver, 2).await;
        let [source] = &receiver.sources()[..] else { panic!("one source") };
        assert_ne!(source.session, first);
        assert_eq!((source.tally.missing, source.tally.skipped), (0, 0), "it was not there for more");
    });
}

#[test]
fn what_does_not_fit_together_is_refused_for_good() {
    on_both_runtimes(|| async {
        let site = Site::new().await;
        let refused = |status: &Status| matches!(status, Status::Refused(_));
        let text = |sender: &Sender<u64>| match &*sender.status().borrow() {
            Status::Refused(refusal) => refusal.to_string(),
            status => panic!("{status:?}"),
        };

        let receiver = site.receiver_with::<u64>(ReceiverConfig::default(), Json::default()).await;
        let sender = site.sender::<u64>().await;
        reaches(&sender, refused).await;
        assert!(text(&sender).contains("codec"), "{}", text(&sender));
        drop(receiver);

        let mut config = ReceiverConfig::default();
        config.schema = Some("frames".to_owned());
        config.admission = Some(Arc::new(|hello, _| hello.credentials != b"bad"));
        let _receiver = site.receiver::<u64>(config).await;
        let mut config = SenderConfig::default();
        config.schema = Some("samples".to_owned());
        let sender = site.sender_with::<u64>(config.clone(), Bincode::default()).await;
        reaches(&sender, refused).await;
        assert!(text(&sender).contains("schema"), "{}", text(&sender));
        config.schema = None;
        config.credentials = b"bad".to_vec();
        let sender = site.sender_with::<u64>(config, Bincode::default()).await;
        reaches(&sender, |status| *status == Status::Refused(Refusal::NotPermitted)).await;
        assert!(sender.send(1).is_ok(), "the newest wait for another order to connect");
        let sender = site.sender::<u64>().await;
        reaches(&sender, |status| *status == Status::Connected).await;
    });
}

/// Never silently: a reliable sender is not content with best effort, and nobody gets it who asked for less.
#[test]
fn both_ends_must_choose_best_effort() {
    on_both_runtimes(|| async {
        let site = Site::new().await;
        let _receiver = site.receiver::<u64>(ReceiverConfig::default()).await;
        let reliable = OutgoingLink::<u64>::new(LinkConfig::default(), Bincode::default());
        reliable.connect(Arc::new(site.clone()), LinkNames::new(("a", "OUT"), ("b", "IN"))).unwrap();
        let refusal = reliable.connected().await.unwrap_err();
        assert!(
            matches!(&refusal, Refusal::Incompatible { what } if what.contains("best effort")),
            "{refusal:?}"
        );

        let mut config = link::ReceiverConfig::default();
        config.budget = Budget::new(1 << 20);
        let receiver = link::Receiver::<u64>::new(config, Bincode::default());
        *site.intake.lock().unwrap() = Some(Kind::Reliable(receiver.intake()));
        let sender = site.sender::<u64>().await;
        reaches(&sender, |status| {
            matches!(status, Status::Refused(Refusal::Incompatible { what }) if what.contains("reliable"))
        })
        .await;
    });
}

#[test]
fn there_are_never_more_sources_than_allowed() {
    on_both_runtimes(|| async {
        let site = Site::new().await;
        let mut config = ReceiverConfig::default();
        config.max_sources = NonZeroUsize::new(2).unwrap();
        let mut receiver = site.receiver::<u64>(config.clone()).await;
        let senders = [site.sender::<u64>().await, site.sender::<u64>().await];
        for sender in &senders {
            reaches(sender, |status| *status == Status::Connected).await;
        }
        let third = site.sender::<u64>().await;
        let [one, two] = senders;
        passes(&one, &mut receiver, 1).await;
        one.close(LONG).await.unwrap();
        // One that has ended makes room.
        reaches(&third, |status| *status == Status::Connected).await;
        passes(&two, &mut receiver, 2).await;
        assert_eq!((receiver.sources().len(), receiver.counters().forgotten), (2, 1));

        config.sources = Sources::Anybody;
        let receiver = site.receiver::<u64>(config).await;
        let stranger = Sender::<u64>::new(udp().await, SenderConfig::default(), Bincode::default()).unwrap();
        while receiver.counters().turned_away == 0 {
            stranger.lead_to(DatagramAddress::of(receiver.local_endpoint()));
            stranger.send(1).unwrap();
            tokio::task::yield_now().await;
        }
        assert_eq!(receiver.sources().len(), 2);
    });
}
