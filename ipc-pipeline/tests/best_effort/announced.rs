//! Sources that announce themselves over a connection, and those that do not.

use std::{
    num::NonZeroUsize,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use ipc_pipeline::{
    best_effort::{Intake, Outgoing, Receiver, ReceiverConfig, SenderConfig, Sources},
    link::{self, Connector, Greeting, LinkConfig, LinkNames, OutgoingLink, Status},
    protocol::{
        Answer, Budget, DatagramHeader, DeliveryMode, Hello, PREAMBLE_LEN, Preamble, Refusal, SessionId,
        codec_tag,
    },
};
use ipc_testkit::MemTransport;
use ipc_transport::{
    BackoffConfig, Bincode, ConnectOptions, Connection, ConnectionInfo, Datagram, DatagramAddress,
    DatagramTransport, Decoder, Encoder, Endpoint, Error, Json, ListenOptions, PeerIdentity, Transport,
    UdpTransport,
};
use serde::{Serialize, de::DeserializeOwned};

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::{LONG, fed, give, guarded, name, on_both_runtimes, until};

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

    async fn sender<T: Serialize + 'static>(&self) -> Outgoing<T> {
        self.sender_with(SenderConfig::default(), Bincode::default()).await
    }

    async fn sender_with<T: 'static>(&self, config: SenderConfig, encoder: impl Encoder<T>) -> Outgoing<T> {
        let sender = Outgoing::new(udp().await, config, encoder).unwrap();
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

async fn reaches<T>(sender: &Outgoing<T>, wanted: impl Fn(&Status) -> bool)
where
    T: 'static,
{
    sender.sender().status().wait_for(|status| wanted(status)).await.unwrap();
}

/// A socket that is read without pause drops nothing on loopback that is sent one by one.
async fn passes(sender: &Outgoing<u64>, receiver: &mut Receiver<u64>, value: u64) {
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
        assert_eq!(*sender.sender().status().borrow(), Status::Waiting);
        // Sent before the receiver exists: the newest of them are not old news yet.
        sender.send(1).unwrap();
        let mut receiver = site.receiver::<u64>(ReceiverConfig::default()).await;
        reaches(&sender, |status| *status == Status::Connected).await;
        passes(&sender, &mut receiver, 2).await;
        let [source] = &receiver.sources()[..] else { panic!("one source") };
        assert_eq!((&*source.process, &*source.port, source.attached), ("cam", "OUT", true));
        assert_eq!(source.address, DatagramAddress::of(sender.sender().local_endpoint()));
        sender.close(LONG).await.unwrap();
        until(|| !receiver.sources()[0].attached).await;
    });
}

#[test]
fn who_does_not_announce_itself_is_not_heard() {
    on_both_runtimes(|| async {
        let site = Site::new().await;
        let mut receiver = site.receiver::<u64>(ReceiverConfig::default()).await;
        let stranger =
            Outgoing::<u64>::new(udp().await, SenderConfig::default(), Bincode::default()).unwrap();
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
        let text = |sender: &Outgoing<u64>| match &*sender.sender().status().borrow() {
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

#[tokio::test]
async fn there_are_never_more_sources_than_allowed() {
    guarded(async {
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
        // One that has ended makes room when all of it was taken.
        while *third.sender().status().borrow() != Status::Connected {
            while receiver.try_recv().unwrap().is_some() {}
            // Sleeps between two looks: the one that has ended is heard for 3 s more.
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        passes(&two, &mut receiver, 2).await;
        assert_eq!((receiver.sources().len(), receiver.counters().forgotten), (2, 1));

        config.sources = Sources::Anybody;
        let receiver = site.receiver::<u64>(config).await;
        let stranger =
            Outgoing::<u64>::new(udp().await, SenderConfig::default(), Bincode::default()).unwrap();
        while receiver.counters().turned_away == 0 {
            stranger.lead_to(DatagramAddress::of(receiver.local_endpoint()));
            stranger.send(1).unwrap();
            tokio::task::yield_now().await;
        }
        assert_eq!(receiver.sources().len(), 2);
    })
    .await;
}

/// A source that makes itself heard only by a session that somebody else has is turned away, whoever it is.
#[test]
fn a_session_is_announced_once() {
    on_both_runtimes(|| async {
        let site = Site::new().await;
        let receiver = site.receiver::<u64>(ReceiverConfig::default()).await;
        let mut hello = Hello::new(SessionId::from_bits(7), Bincode::ID);
        hello.delivery = DeliveryMode::BestEffort;
        let first = answer(&site, &hello).await;
        assert!(matches!(first.0, Answer::Datagrams { .. }), "{first:?}");
        let second = answer(&site, &hello).await;
        assert!(matches!(second.0, Answer::Refused(Refusal::Stale)), "{second:?}");
        drop(second);
        assert!(receiver.sources()[0].attached, "the first one still is");
        drop(first);
        until(|| !receiver.sources()[0].attached).await;
    });
}

async fn answer(site: &Site, hello: &Hello) -> (Answer, Connection) {
    let connection = site.connect().await.unwrap();
    let info = connection.info().clone();
    let (mut reader, mut writer, _) = connection.into_parts();
    writer.write_all(&hello.encode().unwrap()).await.unwrap();
    writer.flush().await.unwrap();
    let mut preamble = [0; PREAMBLE_LEN];
    reader.read_exact(&mut preamble).await.unwrap();
    let mut fields = vec![0; Preamble::decode(preamble, true).unwrap().len.into()];
    reader.read_exact(&mut fields).await.unwrap();
    (Answer::decode(&fields).unwrap(), Connection::from_bytes(reader, writer, info))
}

/// What was under way when a source hung up is taken for a while, and nothing after that.
#[tokio::test(start_paused = true)]
async fn a_source_that_has_hung_up_is_heard_for_three_more_seconds() {
    let site = Site::new().await;
    let (feed, socket) = fed();
    let mut receiver = Receiver::<u64>::new(socket, ReceiverConfig::default(), Bincode::default()).unwrap();
    *site.intake.lock().unwrap() = Some(Kind::BestEffort(receiver.intake()));
    let mut hello = Hello::new(SessionId::from_bits(7), Bincode::ID);
    hello.delivery = DeliveryMode::BestEffort;
    let datagram = |number| {
        let (session, codec) = (hello.session, codec_tag(Bincode::ID));
        let header = DatagramHeader { session, codec, number, skipped: 0 };
        let payload = [&header.encode()[..], &number.to_le_bytes()].concat().into();
        Datagram { payload, peer: name("somebody") }
    };
    let announced = answer(&site, &hello).await;
    give(&feed, &receiver, vec![datagram(1)]).await;
    drop(announced);
    until(|| !receiver.sources()[0].attached).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    give(&feed, &receiver, vec![datagram(2)]).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    give(&feed, &receiver, vec![datagram(3)]).await;
    assert_eq!([receiver.recv().await.unwrap().value, receiver.recv().await.unwrap().value], [1, 2]);
    assert_eq!((receiver.try_recv().unwrap(), receiver.counters().unannounced), (None, 1));
}

/// A receiving end without a socket lets nobody in, and those who were in hear of it.
#[test]
fn the_end_of_the_socket_is_the_end_of_its_sources() {
    on_both_runtimes(|| async {
        let site = Site::new().await;
        let (feed, socket) = fed();
        let receiver = Receiver::<u64>::new(socket, ReceiverConfig::default(), Bincode::default()).unwrap();
        let intake = receiver.intake();
        *site.intake.lock().unwrap() = Some(Kind::BestEffort(intake.clone()));
        let mut hello = Hello::new(SessionId::from_bits(7), Bincode::ID);
        hello.delivery = DeliveryMode::BestEffort;
        let (_, connection) = answer(&site, &hello).await;
        drop(feed);
        let (mut reader, _writer, _) = connection.into_parts();
        assert_eq!(reader.read(&mut [0]).await.unwrap_or(0), 0);
        assert!(intake.is_gone());
    });
}

/// A peer that answers and hangs up at once is dialled with growing pauses, not in a busy loop.
#[tokio::test(start_paused = true)]
async fn a_receiver_that_hangs_up_at_once_is_not_dialled_without_pause() {
    #[derive(Debug)]
    struct Fickle(AtomicUsize);

    #[async_trait]
    impl Connector for Fickle {
        async fn connect(&self) -> Result<Connection, Error> {
            self.0.fetch_add(1, Ordering::SeqCst);
            let (ours, theirs) = tokio::io::duplex(10_000);
            tokio::spawn(async move {
                let (mut reader, mut writer) = tokio::io::split(theirs);
                let _ = reader.read_u8().await;
                let answer = Answer::Datagrams { at: "udp://127.0.0.1:9".to_owned() };
                let _ = writer.write_all(&answer.encode()).await;
            });
            let (reader, writer) = tokio::io::split(ours);
            let place = || Endpoint::new("mem", "fickle").unwrap();
            let info = ConnectionInfo::new(place(), place(), PeerIdentity::Unknown);
            Ok(Connection::from_bytes(reader, writer, info))
        }
    }

    let fickle = Arc::new(Fickle(AtomicUsize::new(0)));
    let mut config = SenderConfig::default();
    config.backoff = Some(BackoffConfig::remote());
    let sender = Outgoing::<u64>::new(udp().await, config, Bincode::default()).unwrap();
    sender.connect(fickle.clone(), LinkNames::new(("a", "OUT"), ("b", "IN"))).unwrap();
    tokio::time::sleep(Duration::from_secs(60)).await;
    let dialled = fickle.0.load(Ordering::SeqCst);
    assert!((2..200).contains(&dialled), "dialled {dialled} times in a minute");
    // Another order takes its place, and it is heard of no more.
    sender.lead_to(None);
    let dialled = fickle.0.load(Ordering::SeqCst);
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(fickle.0.load(Ordering::SeqCst) <= dialled + 1);
    assert_eq!(*sender.sender().status().borrow(), Status::Closed);
}

/// The latest order counts, however fast they come.
#[test]
fn the_last_of_many_orders_counts() {
    on_both_runtimes(|| async {
        let (one, two) = (Site::new().await, Site::new().await);
        let _one = one.receiver::<u64>(ReceiverConfig::default()).await;
        let mut receiver = two.receiver::<u64>(ReceiverConfig::default()).await;
        let sender = one.sender::<u64>().await;
        let names = || LinkNames::new(("cam", "OUT"), ("screen", "IN"));
        for _ in 0..50 {
            sender.connect(Arc::new(one.clone()), names()).unwrap();
            sender.lead_to(Some(name("nowhere")));
            tokio::task::yield_now().await;
            sender.connect(Arc::new(two.clone()), names()).unwrap();
            tokio::task::yield_now().await;
        }
        passes(&sender, &mut receiver, 1).await;
        reaches(&sender, |status| *status == Status::Connected).await;
    });
}
