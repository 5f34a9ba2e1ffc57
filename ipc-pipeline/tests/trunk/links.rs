//! Links on the lanes of trunks that come and go.

use std::{
    num::NonZeroUsize,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use ipc_pipeline::{
    TrySendError,
    link::{Greeting, Intake, LinkNames, OutgoingLink, Receiver, ReceiverConfig},
    trunk::{Trunk, TrunkSlot},
};
use ipc_testkit::{
    FaultPlan, Faulty, MemTransport, Rule,
    process::{TempDir, rounds},
};
use ipc_transport::{Endpoint, Raw, Transport, UnixTransport};
use tokio::task::{JoinHandle, JoinSet};

use crate::{
    common::{capacity, on_both_runtimes},
    support::{LONG, Side, connections, greeted, pipe, sides},
};

/// Several chunks and frames.
const MAX_MESSAGE: usize = 4 << 20;

/// One side of some links: a sending end or a receiving end on each lane.
struct Ends {
    slot: TrunkSlot,
    links: Vec<OutgoingLink<Bytes>>,
    receivers: Vec<Receiver<Bytes>>,
    intakes: Vec<(u8, Intake)>,
}

impl Ends {
    /// Sends on some lanes and receives on others.
    fn new(sending: &[u8], receiving: &[u8], most: usize) -> Self {
        let slot = TrunkSlot::new();
        let link = |lane: &u8| {
            let mut config = capacity(most);
            config.max_message = MAX_MESSAGE;
            let link = OutgoingLink::new(config, Raw);
            let connector = Arc::new(slot.connector(*lane));
            link.connect(connector, LinkNames::new(("a", "OUT"), ("b", "IN"))).unwrap();
            link
        };
        let links = sending.iter().map(link).collect();
        let (receivers, intakes) = receiving
            .iter()
            .map(|lane| {
                let mut config = ReceiverConfig::default();
                config.max_message = MAX_MESSAGE;
                let receiver = Receiver::new(config, Raw);
                let intake = receiver.intake();
                (receiver, (*lane, intake))
            })
            .unzip();
        Self { slot, links, receivers, intakes }
    }
}

/// What a trunk needs of one side.
#[derive(Clone)]
struct Place {
    slot: TrunkSlot,
    intakes: Vec<(u8, Intake)>,
}

impl Place {
    fn attach(&self, trunk: &Trunk) {
        for (lane, intake) in self.intakes.clone() {
            let trunk = trunk.clone();
            tokio::spawn(async move {
                let Some(connection) = trunk.lane(lane) else { return };
                match Greeting::read(connection, LONG).await {
                    Ok(greeting) => drop(intake.accept(greeting).await),
                    Err(_) => trunk.cut(),
                }
            });
        }
        self.slot.put(trunk.clone());
    }
}

fn place(ends: &Ends) -> Place {
    Place { slot: ends.slot.clone(), intakes: ends.intakes.clone() }
}

/// Lanes 0 to 2 lead there, lanes 3 to 5 back.
fn both_ways(most: usize) -> [Ends; 2] {
    [Ends::new(&[0, 1, 2], &[3, 4, 5], most), Ends::new(&[3, 4, 5], &[0, 1, 2], most)]
}

/// Brings one trunk after another, until it is told to stop.
fn trunks(
    transport: impl Transport + Clone,
    at: Endpoint,
    places: [Place; 2],
) -> (Arc<AtomicBool>, JoinHandle<u32>) {
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = stop.clone();
    let task = tokio::spawn(async move {
        let mut count = 0;
        while !stopped.load(Ordering::Relaxed) {
            let connections = connections(&transport, &at).await;
            // A connection may be cut before both sides have greeted.
            let Ok(sides) = tokio::time::timeout(LONG, greeted(connections, 6)).await.unwrap() else {
                continue;
            };
            count += 1;
            let mut drivers = JoinSet::new();
            for ((trunk, driver), place) in sides.into_iter().zip(&places) {
                drivers.spawn(driver);
                place.attach(&trunk);
            }
            while let Some(end) = drivers.join_next().await {
                end.unwrap();
            }
        }
        count
    });
    (stop, task)
}

/// What value `index` of a lane looks like.
fn value(seed: u64, lane: usize, index: usize) -> Bytes {
    let mut random = fastrand::Rng::with_seed(seed ^ (lane as u64) << 32 ^ index as u64);
    let size = match random.u8(..40) {
        0 => random.usize(1_000_000..3_000_000),
        1 => random.usize(65_500..65_560),
        2..5 => 0,
        5..12 => random.usize(..40_000),
        _ => random.usize(..100),
    };
    vec![(index * 6 + lane) as u8; size].into()
}

/// Whether receivers hear of the end of a stream.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    /// The word of it may be lost with its trunk: a link that has seen everything released is gone by then.
    Perhaps,
    /// It is, as no connection is lost.
    Told,
}

/// Everything that is sent on each lane arrives there, once and in order; then the links are closed.
async fn exchange(ends: [Ends; 2], seed: u64, values: usize, end: End) {
    let mut tasks = JoinSet::new();
    for (first, Ends { links, receivers, .. }) in [0, 3].into_iter().zip(ends) {
        for (lane, link) in (first..).zip(links) {
            tasks.spawn(async move {
                for index in 0..values {
                    link.sender().send(value(seed, lane, index)).await.unwrap();
                }
                link.close(LONG * 5).await.unwrap();
                None
            });
        }
        for (lane, mut receiver) in (3 - first..).zip(receivers) {
            tasks.spawn(async move {
                for index in 0..values {
                    let delivery = receiver.recv().await.unwrap();
                    assert!(*delivery == value(seed, lane, index), "value {index} of lane {lane}");
                    assert!(!delivery.redelivered());
                }
                if end == End::Told {
                    assert!(receiver.recv().await.is_err(), "the stream ends behind them");
                }
                Some(receiver)
            });
        }
    }
    // A receiver that has everything is there until its link knows.
    let mut receivers = Vec::new();
    while let Some(outcome) = tasks.join_next().await {
        receivers.push(outcome.unwrap());
    }
}

async fn run(transport: impl Transport + Clone, at: Endpoint, seed: u64, values: usize, end: End) -> u32 {
    let mut random = fastrand::Rng::with_seed(seed);
    let ends = both_ways(random.usize(1..100));
    let places = [place(&ends[0]), place(&ends[1])];
    let (stop, trunks) = trunks(transport, at, places.clone());
    exchange(ends, seed, values, end).await;
    stop.store(true, Ordering::Relaxed);
    while !trunks.is_finished() {
        places[0].slot.clear();
        tokio::task::yield_now().await;
    }
    trunks.await.unwrap()
}

/// X-10 at the trunk: values of all lanes arrive once and in order, however often the trunk is lost.
#[test]
fn links_on_lanes_survive_one_trunk_after_another() {
    for seed in rounds(12, 500) {
        on_both_runtimes(|| async {
            let mut random = fastrand::Rng::with_seed(seed);
            let mut plan = FaultPlan::new(seed)
                .with(Rule::cut_between(0..=random.u64(2_000..400_000)).connections(0..random.u64(1..20)));
            if random.bool() {
                plan = plan.with(Rule::split(NonZeroUsize::new(random.usize(1..5_000)).unwrap()));
            }
            if random.bool() {
                let after = random.u64(1..5_000);
                plan = plan.with(Rule::stall_after_for(after, Duration::from_millis(2)).chance(0.3));
            }
            let buffer = NonZeroUsize::new(random.usize(200..70_000)).unwrap();
            let world = MemTransport::new().with_buffer(buffer);
            let at = Endpoint::new("mem", "trunk").unwrap();
            run(Faulty::new(world, plan), at, seed, 40, End::Perhaps).await;
        });
    }
}

#[test]
fn links_on_lanes_survive_one_unix_socket_after_another() {
    for seed in rounds(4, 200) {
        on_both_runtimes(|| async {
            let mut random = fastrand::Rng::with_seed(seed);
            let place = TempDir::new().unwrap();
            let plan = FaultPlan::new(seed)
                .with(Rule::cut_between(0..=random.u64(2_000..1_000_000)).connections(0..10));
            let at = Endpoint::new("unix", place.join("trunk").to_str().unwrap()).unwrap();
            run(Faulty::new(UnixTransport::new(), plan), at, seed, 60, End::Perhaps).await;
        });
    }
}

/// Nothing but the links themselves is between six streams on one connection.
#[test]
fn links_on_lanes_share_one_connection_in_peace() {
    on_both_runtimes(|| async {
        let place = TempDir::new().unwrap();
        let at = Endpoint::new("unix", place.join("trunk").to_str().unwrap()).unwrap();
        assert_eq!(run(UnixTransport::new(), at, 1, 300, End::Told).await, 1, "nothing was cut");
        let at = Endpoint::new("mem", "trunk").unwrap();
        assert_eq!(run(MemTransport::new().with_frames(), at, 2, 300, End::Told).await, 1, "nothing was cut");
    });
}

/// One receiving application that takes nothing holds up its own link alone.
#[test]
fn a_link_whose_receiver_does_not_take_holds_up_no_other() {
    on_both_runtimes(|| async {
        let ends = both_ways(50);
        let [here, there] = sides(pipe(10_000), 6).await;
        for (ends, side) in ends.iter().zip([&here, &there]) {
            place(ends).attach(&side.trunk);
        }
        let [mut ours, mut theirs] = ends;
        for way in 0..2 {
            let (from, to) = if way == 0 { (&ours, &mut theirs) } else { (&theirs, &mut ours) };
            let stuck = from.links[0].sender().clone();
            // Large values: as many bytes as its credit lets pass are with the receiver.
            for _ in 0..50 {
                stuck.send(vec![1; 100_000].into()).await.unwrap();
            }
            assert!(matches!(stuck.try_send(Bytes::new()), Err(TrySendError::Full(_))));
            let sender = from.links[1].sender().clone();
            let sending = tokio::spawn(async move {
                for index in 0..500 {
                    sender.send(value(3, 1, index)).await.unwrap();
                }
            });
            for index in 0..500 {
                assert!(*to.receivers[1].recv().await.unwrap() == value(3, 1, index));
            }
            sending.await.unwrap();
            assert!(matches!(stuck.try_send(Bytes::new()), Err(TrySendError::Full(_))));
        }
        assert!(!here.trunk.is_over() && !there.trunk.is_over());
    });
}

/// A trunk whose peer says nothing more is not the links' end: they wait, and go on with the next.
#[test]
fn links_wait_while_there_is_no_trunk() {
    on_both_runtimes(|| async {
        let [ours, mut theirs] = both_ways(10);
        for index in 0..5 {
            ours.links[0].sender().send(value(5, 0, index)).await.unwrap();
        }
        for round in 0..3 {
            let [here, there] = sides(pipe(1_000), 6).await;
            place(&ours).attach(&here.trunk);
            place(&theirs).attach(&there.trunk);
            ours.links[0].sender().send(value(5, 0, 5 + round)).await.unwrap();
            if round == 0 {
                for index in 0..5 {
                    assert!(*theirs.receivers[0].recv().await.unwrap() == value(5, 0, index));
                }
            }
            assert!(*theirs.receivers[0].recv().await.unwrap() == value(5, 0, 5 + round));
            ours.slot.clear();
            let Side { driver, .. } = there;
            driver.await.unwrap();
        }
    });
}
