//! The link over connections that are cut, split, stalled and slow, and under whatever keeps a task waiting.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::{
    num::NonZeroUsize,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use common::{Direct, Site, capacity, on_both_runtimes, paused};
use ipc_pipeline::{
    link::{
        AckMode, Connector, Greeting, LinkNames, LostReason, OutgoingLink, Receiver, ReceiverConfig, Status,
    },
    protocol::{Control, Hello, Refusal, SessionId},
};
use ipc_testkit::{FaultPlan, Faulty, MemTransport, Rule, process::rounds};
use ipc_transport::{
    BackoffConfig, Bincode, ConnectOptions, Connection, Endpoint, Error, ListenOptions, PeerIdentity, Raw,
    Transport,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const LONG: Duration = Duration::from_secs(20);

fn at(name: &str) -> Endpoint {
    Endpoint::new("mem", name).unwrap()
}

fn plan(seed: u64) -> FaultPlan {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut plan = FaultPlan::new(seed);
    if random.bool() {
        plan = plan.with(Rule::split(NonZeroUsize::new(random.usize(1..5_000)).unwrap()));
    }
    if random.u8(..4) > 0 {
        plan = plan.with(Rule::cut_between(0..=random.u64(200..60_000)).connections(0..random.u64(1..30)));
    }
    if random.bool() {
        plan = plan.with(Rule::stall_after_for(random.u64(1..5_000), Duration::from_millis(2)).chance(0.3));
    }
    plan
}

/// X-10 at the link. Every value once and in order, whatever happens to the connections.
#[test]
fn values_arrive_once_and_in_order_over_faulty_connections() {
    for seed in rounds(12, 500) {
        on_both_runtimes(|| async {
            let mut random = fastrand::Rng::with_seed(seed);
            let buffer = NonZeroUsize::new(random.usize(1..70_000)).unwrap();
            let transport = Faulty::new(MemTransport::new().with_buffer(buffer), plan(seed));
            let site = Site::on(transport, at("receiver")).await;
            let mut config = ReceiverConfig::default();
            config.ticker = random.bool();
            config.window = NonZeroUsize::new(random.usize(1..2_000)).unwrap();
            config.max_window_bytes = random.usize(1..300_000);
            config.budget = ipc_pipeline::protocol::Budget::new(random.usize(..300_000));
            let explicit = random.bool();
            config.ack_mode = if explicit { AckMode::Explicit } else { AckMode::Automatic };
            let mut receiver = site.receiver_with::<bytes::Bytes>(config, Raw);
            let link = site.link_from::<bytes::Bytes>("OUT", capacity(random.usize(1..200)), Raw);
            let sender = link.sender().clone();
            let sizes: Vec<usize> = (0..150)
                .map(|_| match random.u8(..20) {
                    0 => random.usize(65_500..65_560),
                    1 => random.usize(200_000..300_000),
                    2..5 => random.usize(..40_000),
                    _ => random.usize(..100),
                })
                .collect();
            let to_send = sizes.clone();
            let sending = tokio::spawn(async move {
                for (index, size) in to_send.into_iter().enumerate() {
                    sender.send(vec![index as u8; size].into()).await.unwrap();
                }
            });
            for (index, size) in sizes.into_iter().enumerate() {
                let delivery = receiver.recv().await.unwrap();
                assert!(delivery.len() == size && delivery.iter().all(|byte| *byte == index as u8));
                assert_eq!((delivery.number(), delivery.redelivered()), (index as u64 + 1, false));
                delivery.ack();
            }
            sending.await.unwrap();
            link.close(LONG).await.unwrap();
        });
    }
}

/// No wake-up gets lost between two threads: one value at a time, there and back.
#[test]
fn ping_pong_never_stops() {
    on_both_runtimes(|| async {
        let (there, back) = (Site::mem().await, Site::mem().await);
        let mut config = ReceiverConfig::default();
        config.ticker = false;
        let mut at_b = there.receiver::<u64>(config.clone());
        let mut at_a = back.receiver::<u64>(config);
        let (to_b, to_a) = (there.link::<u64>(capacity(1)), back.link::<u64>(capacity(1)));
        let echo = tokio::spawn(async move {
            for _ in 0..4_000 {
                let value = *at_b.recv().await.unwrap();
                to_a.sender().send(value).await.unwrap();
            }
            to_a.close(LONG).await.unwrap();
        });
        for value in 0..4_000 {
            to_b.sender().send(value).await.unwrap();
            assert_eq!(*at_a.recv().await.unwrap(), value);
        }
        assert!(at_a.recv().await.is_err());
        echo.await.unwrap();
    });
}

/// Without the ticker half the window and requests are enough, whatever the capacity and the window.
#[test]
fn streams_progress_without_the_ticker() {
    on_both_runtimes(|| async {
        for (values, window, explicit) in
            [(1, 1, false), (1, 16_384, true), (2, 1, true), (3, 2, false), (64, 7, true)]
        {
            let site = Site::mem().await;
            let mut config = ReceiverConfig::default();
            config.ticker = false;
            config.window = NonZeroUsize::new(window).unwrap();
            config.ack_mode = if explicit { AckMode::Explicit } else { AckMode::Automatic };
            let mut receiver = site.receiver::<u64>(config);
            let link = site.link::<u64>(capacity(values));
            let sender = link.sender().clone();
            let sending = tokio::spawn(async move {
                for value in 0..5_000 {
                    sender.send(value).await.unwrap();
                    if value % 500 == 0 {
                        sender.settled().await.unwrap();
                    }
                }
            });
            for value in 0..5_000 {
                assert_eq!(receiver.recv().await.unwrap().ack(), value);
            }
            sending.await.unwrap();
            link.close(LONG).await.unwrap();
        }
    });
}

/// P-13. While all are saturated, no source gets more than a turn ahead of its share.
#[test]
fn sources_take_turns() {
    on_both_runtimes(|| async {
        for (size, batch) in [(8, 1), (8, 1_000), (2_000, 1), (2_000, 1_000), (60_000, 1)] {
            let site = Site::mem().await;
            let mut receiver = site.receiver::<(u8, Vec<u8>)>(ReceiverConfig::default());
            let links: Vec<_> = (0..4)
                .map(|index| {
                    site.link_from::<(u8, Vec<u8>)>(&index.to_string(), capacity(400), Bincode::default())
                })
                .collect();
            let count = if size > 10_000 { 40 } else { 400 };
            for (index, link) in links.iter().enumerate() {
                link.connected().await.unwrap();
                for _ in 0..count {
                    link.sender().send((index as u8, vec![0; size])).await.unwrap();
                }
            }
            // Of each source there is what every link may count on, or all that is left of it.
            let on_wire = (size + 13) as u64;
            let saturated = |receiver: &Receiver<_>, found: &[usize; 4]| {
                let sources = receiver.sources();
                sources.len() == 4
                    && sources.into_iter().all(|id| {
                        let info = receiver.source(id).unwrap();
                        let found = found[info.port.parse::<usize>().unwrap()] as u64;
                        let left = (count as u64 - found) * on_wire;
                        info.received_bytes - found * on_wire >= left.min(48 * 1024)
                    })
            };
            let mut found = [0_usize; 4];
            let mut values = Vec::new();
            while found.iter().sum::<usize>() < 2 * count {
                while !saturated(&receiver, &found) {
                    tokio::task::yield_now().await;
                }
                match batch {
                    1 => values.push(receiver.recv().await.unwrap().into_value()),
                    _ => drop(receiver.recv_many(&mut values, batch).await.unwrap()),
                }
                for (source, _) in values.drain(..) {
                    found[usize::from(source)] += 1;
                }
                let spread = found.iter().max().unwrap() - found.iter().min().unwrap();
                assert!(batch > 1 || spread <= 33, "{found:?} of {size} bytes, {batch} at a time");
            }
            assert!(
                found.iter().all(|found| *found >= count / 4),
                "{found:?} of {size} bytes, {batch} at a time"
            );
        }
    });
}

async fn pair(world: &MemTransport) -> (Connection, Connection) {
    let at = at(MemTransport::FRESH_NAME);
    let mut listener = world.listen(&at, &ListenOptions::default()).await.unwrap();
    let options = ConnectOptions::default();
    let place = listener.local_endpoint().clone();
    let dialled = world.connect(&place, &options);
    let accepted = async { listener.accept().await.unwrap().establish().await.unwrap() };
    let (dialled, accepted) = tokio::join!(dialled, accepted);
    (dialled.unwrap(), accepted)
}

fn hello() -> Vec<u8> {
    let mut hello = Hello::new(SessionId::from_bits(7), "bincode2-fixed");
    hello.from_port = "OUT".to_owned();
    hello.max_message = 1_000;
    hello.encode().unwrap()
}

/// A hello that does not come, or comes a byte a minute, ends at its deadline.
#[test]
fn a_slow_hello_ends_at_its_deadline() {
    paused(async {
        for send in [0, 1, 5, 8, 20] {
            let (dialled, accepted) = pair(&MemTransport::new()).await;
            let (mut reader, mut writer, _) = dialled.into_parts();
            let reading = tokio::spawn(Greeting::read(accepted, Duration::from_secs(10)));
            for byte in hello().into_iter().take(send) {
                let _ = writer.write_all(&[byte]).await;
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            let error = reading.await.unwrap().unwrap_err();
            assert_eq!(error.kind(), std::io::ErrorKind::TimedOut);
            assert_eq!(reader.read(&mut [0; 10]).await.unwrap_or(0), 0);
        }
    });
}

/// A frame that has begun and does not go on ends the connection; a silent connection may be silent.
#[test]
fn a_stalled_frame_ends_the_connection_and_silence_does_not() {
    paused(async {
        let mut config = ReceiverConfig::default();
        config.frame_timeout = Duration::from_secs(30);
        let receiver = ipc_pipeline::link::Receiver::<u64>::new(config, Bincode::default());
        let (dialled, accepted) = pair(&MemTransport::new()).await;
        let (mut reader, mut writer, _) = dialled.into_parts();
        writer.write_all(&hello()).await.unwrap();
        let greeting = Greeting::read(accepted, Duration::from_secs(10)).await.unwrap();
        assert!(receiver.intake().accept(greeting).await.is_ok());
        let mut resume = Vec::new();
        Control::Resume { first: 1, maybe_seen_until: 0 }.encode(&mut resume);
        writer.write_all(&resume).await.unwrap();
        tokio::time::sleep(Duration::from_secs(3_600)).await;
        let source = receiver.sources()[0];
        assert!(receiver.source(source).unwrap().connected, "silence is no fault");
        // A byte every 20 s is progress; then nothing.
        for byte in [8, 0, 0, 0, 1] {
            writer.write_all(&[byte]).await.unwrap();
            tokio::time::sleep(Duration::from_secs(20)).await;
            assert!(receiver.source(source).unwrap().connected);
        }
        tokio::time::sleep(Duration::from_secs(11)).await;
        assert!(!receiver.source(source).unwrap().connected);
        let mut rest = Vec::new();
        let _ = reader.read_to_end(&mut rest).await;
    });
}

/// A peer that accepts and never answers is given up on, and another attempt is made.
#[test]
fn an_unanswered_hello_is_tried_again() {
    paused(async {
        let world = MemTransport::new();
        let mut listener = world.listen(&at("silent"), &ListenOptions::default()).await.unwrap();
        let silent = tokio::spawn(async move {
            let mut kept = Vec::new();
            for _ in 0..3 {
                kept.push(listener.accept().await.unwrap().establish().await.unwrap());
            }
        });
        let site = Site::beside(world, at("silent"));
        let link = site.link::<u64>(capacity(5));
        silent.await.unwrap();
        assert_ne!(*link.sender().status().borrow(), Status::Connected);
    });
}

/// Greetings read, told to wait, refused or accepted, and dropped after any number of polls: the peer dials again.
#[test]
fn a_dropped_greeting_is_dialled_again() {
    on_both_runtimes(|| async {
        for polls in 0..8 {
            for which in 0..4 {
                let world = MemTransport::new().with_buffer(NonZeroUsize::new(16).unwrap());
                let mut listener = world.listen(&at("door"), &ListenOptions::default()).await.unwrap();
                let site = Site::beside(world, at("door"));
                let mut receiver = site.receiver::<u64>(ReceiverConfig::default());
                let intake = receiver.intake();
                let link = site.link::<u64>(capacity(5));
                link.sender().send(1).await.unwrap();
                let first = listener.accept().await.unwrap().establish().await.unwrap();
                let handled = async {
                    let mut greeting = Greeting::read(first, LONG).await.unwrap();
                    match which {
                        0 => std::future::pending().await,
                        1 => {
                            greeting.wait().await.unwrap();
                            drop(greeting);
                        }
                        2 => greeting.refuse(Refusal::Busy).await,
                        _ => assert!(intake.accept(greeting).await.is_ok()),
                    }
                };
                let mut handled = Box::pin(handled);
                for _ in 0..polls {
                    let done = std::future::poll_fn(|cx| {
                        std::task::Poll::Ready(handled.as_mut().poll(cx).is_ready())
                    });
                    if done.await {
                        break;
                    }
                    tokio::task::yield_now().await;
                }
                drop(handled);
                let serving = tokio::spawn(async move {
                    while let Ok(incoming) = listener.accept().await {
                        let connection = incoming.establish().await.unwrap();
                        let Ok(greeting) = Greeting::read(connection, LONG).await else { continue };
                        let _ = intake.accept(greeting).await;
                    }
                });
                assert_eq!(*receiver.recv().await.unwrap(), 1);
                link.close(LONG).await.unwrap();
                serving.abort();
            }
        }
    });
}

/// A connection may keep bytes back until it is flushed; the link has everything sent before it rests.
#[test]
fn connections_that_buffer_are_flushed() {
    on_both_runtimes(|| async {
        for ticker in [false, true] {
            let mut config = ReceiverConfig::default();
            config.ticker = ticker;
            let mut receiver = Receiver::<Vec<u8>>::new(config, Bincode::default());
            let direct = Direct { peer: PeerIdentity::Unknown, buffered: true, intake: receiver.intake() };
            let link = OutgoingLink::<Vec<u8>>::new(capacity(4), Bincode::default());
            link.connect(Arc::new(direct), LinkNames::new(("a", "OUT"), ("b", "IN"))).unwrap();
            for len in (0..40).map(|index| index * index * 100) {
                link.sender().send(vec![1; len]).await.unwrap();
                assert_eq!(receiver.recv().await.unwrap().len(), len);
                link.sender().settled().await.unwrap();
            }
            link.close(LONG).await.unwrap();
        }
    });
}

/// One oversize value at a time for each port, in order of asking; everybody gets theirs, also when one leaves.
#[test]
fn oversize_values_of_many_sources_all_arrive() {
    on_both_runtimes(|| async {
        let site = Site::mem().await;
        let mut config = ReceiverConfig::default();
        config.budget = ipc_pipeline::protocol::Budget::new(0);
        config.ticker = false;
        let mut receiver = site.receiver::<Vec<u8>>(config);
        let links: Vec<_> = (0..6)
            .map(|index| site.link_from::<Vec<u8>>(&index.to_string(), capacity(5), Bincode::default()))
            .collect();
        for link in &links {
            link.sender().send(vec![1; 300_000]).await.unwrap();
            link.sender().send(vec![2; 10]).await.unwrap();
            link.sender().send(vec![3; 500_000]).await.unwrap();
        }
        for round in 0..18 {
            let _ = receiver.recv().await.unwrap();
            links[round % 6].sender().cut();
        }
        for link in links {
            link.close(LONG).await.unwrap();
        }
    });
}

/// A peer that is there and says nothing is noticed by pings alone; the connection is given up, never a value.
#[test]
fn a_silent_peer_is_dialled_anew_and_nothing_is_lost() {
    paused(async {
        let faulty = Faulty::pass_through(MemTransport::new());
        let handle = faulty.handle();
        let site = Site::on(faulty, at("receiver")).await;
        let mut receiver = site.receiver::<u64>(ReceiverConfig::default());
        let mut config = capacity(20);
        config.ping = Some(Duration::from_millis(100));
        let link = site.link::<u64>(config);
        let mut status = link.sender().status();
        for round in 0..5 {
            link.connected().await.unwrap();
            link.sender().send(2 * round).await.unwrap();
            handle.stall();
            link.sender().send(2 * round + 1).await.unwrap();
            status.wait_for(|status| *status == Status::Lost(LostReason::Unresponsive)).await.unwrap();
            handle.resume();
            assert_eq!(*receiver.recv().await.unwrap(), 2 * round);
            assert_eq!(*receiver.recv().await.unwrap(), 2 * round + 1);
        }
        assert!(link.sender().counters().reconnects >= 5);
    });
}

/// A peer that answers is left alone, however long nothing else is said.
#[test]
fn an_idle_peer_that_answers_pings_is_kept() {
    paused(async {
        let site = Site::mem().await;
        let mut receiver = site.receiver::<u64>(ReceiverConfig::default());
        let mut config = capacity(20);
        config.ping = Some(Duration::from_millis(100));
        let link = site.link::<u64>(config);
        link.connected().await.unwrap();
        tokio::time::sleep(Duration::from_secs(3_600)).await;
        assert_eq!(link.sender().counters().reconnects, 0);
        assert!(link.sender().counters().bytes_written > 30_000 * 12, "the pings went out");
        link.sender().send(1).await.unwrap();
        assert_eq!(*receiver.recv().await.unwrap(), 1);
    });
}

/// Nobody answers there; counts how often that was found out.
#[derive(Debug)]
struct Deserted {
    schedule: BackoffConfig,
    attempts: AtomicUsize,
}

#[async_trait]
impl Connector for Deserted {
    async fn connect(&self) -> Result<Connection, Error> {
        self.attempts.fetch_add(1, Ordering::Relaxed);
        Err(Error::NotFound { endpoint: "deserted".to_owned() })
    }

    fn backoff(&self) -> BackoffConfig {
        self.schedule.clone()
    }
}

/// X-31 at the link. How far away the peer is decides how often it is dialled, unless the link says otherwise.
#[test]
fn the_connector_says_how_often_to_dial() {
    // Waits of a remote schedule are 100 ms and longer, after one attempt at once.
    const MOST: usize = 2 + 100;
    for (schedule, own, often) in [
        (BackoffConfig::local(), None, true),
        (BackoffConfig::remote(), None, false),
        (BackoffConfig::remote(), Some(BackoffConfig::local()), true),
        (BackoffConfig::local(), Some(BackoffConfig::remote()), false),
    ] {
        paused(async {
            let deserted = Arc::new(Deserted { schedule, attempts: AtomicUsize::new(0) });
            let mut config = capacity(5);
            config.backoff = own;
            let link = OutgoingLink::<u64>::new(config, Bincode::default());
            link.connect(deserted.clone(), LinkNames::default()).unwrap();
            tokio::time::sleep(Duration::from_secs(10)).await;
            let attempts = deserted.attempts.load(Ordering::Relaxed);
            assert_eq!(attempts > MOST, often, "{attempts} attempts");
        });
    }
}
