//! What a faulty transport does to datagrams, and what its handle and counters tell of them.

#![allow(clippy::unwrap_used, reason = "a test may unwrap, its helpers too")]

use std::time::Duration;

use ipc_testkit::{FaultPlan, Faulty, MemTransport, Rule, Side, Verdict};
use ipc_transport::{
    Datagram, DatagramAddress, DatagramReader, DatagramTransport, DatagramWriter, Endpoint, Error,
};
use tokio::time::{Instant, timeout};

/// A faulty socket and an honest one in one world.
struct Pair {
    faulty: Faulty<MemTransport>,
    reader: DatagramReader,
    writer: DatagramWriter,
    far_reader: DatagramReader,
    far_writer: DatagramWriter,
}

async fn pair(plan: FaultPlan) -> Pair {
    let world = MemTransport::new();
    let faulty = Faulty::new(world.clone(), plan);
    let (reader, writer) = faulty.bind(&mem("near")).await.unwrap().into_parts();
    let (far_reader, far_writer) = world.bind(&mem("far")).await.unwrap().into_parts();
    Pair { faulty, reader, writer, far_reader, far_writer }
}

fn mem(name: &str) -> Endpoint {
    Endpoint::new("mem", name).unwrap()
}

fn to(name: &str, payload: &[u8]) -> Datagram {
    Datagram { payload: payload.to_vec().into(), peer: DatagramAddress::Name(name.into()) }
}

async fn arrived(reader: &mut DatagramReader) -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    while let Ok(datagram) = timeout(Duration::from_secs(1), reader.recv()).await {
        all.push(datagram.unwrap().unwrap().payload.to_vec());
    }
    all
}

/// What arrives of these payloads when they are sent through the plan, and when they are received through it.
async fn through(plan: &FaultPlan, payloads: &[&[u8]]) -> [Vec<Vec<u8>>; 2] {
    let mut pair = pair(plan.clone()).await;
    for payload in payloads {
        pair.writer.send(to("far", payload)).await.unwrap();
        pair.far_writer.send(to("near", payload)).await.unwrap();
    }
    [arrived(&mut pair.far_reader).await, arrived(&mut pair.reader).await]
}

#[tokio::test(start_paused = true)]
async fn datagrams_are_lost_doubled_and_overtaken_as_told() {
    let on = |number: &'static [u8], verdict| {
        Rule::custom(move |chunk| if chunk.bytes == number { verdict } else { Verdict::Pass })
    };
    let table: [(Vec<Rule>, &[&str]); 7] = [
        (vec![Rule::lose()], &[]),
        (vec![Rule::duplicate()], &["1", "1", "2", "2", "3", "3", "4", "4"]),
        (vec![on(b"1", Verdict::Lose)], &["2", "3", "4"]),
        (vec![on(b"1", Verdict::Reorder)], &["2", "1", "3", "4"]),
        (vec![Rule::reorder()], &["2", "1", "4", "3"]),
        (vec![on(b"1", Verdict::Reorder), on(b"2", Verdict::Lose)], &["3", "1", "4"]),
        (
            vec![on(b"2", Verdict::Cut), Rule::cut_after(2), Rule::split_at_every_byte()],
            &["1", "2", "3", "4"],
        ),
    ];
    for (rules, expected) in table {
        let plan = rules.into_iter().fold(FaultPlan::new(5), FaultPlan::with);
        for outcome in through(&plan, &[b"1", b"2", b"3", b"4"]).await {
            assert_eq!(outcome, expected.iter().map(|text| text.as_bytes()).collect::<Vec<_>>(), "{plan}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_held_datagram_waits_for_the_next_one_however_long() {
    let mut pair = pair(FaultPlan::new(5).with(Rule::reorder())).await;
    pair.writer.send(to("far", b"1")).await.unwrap();
    assert!(arrived(&mut pair.far_reader).await.is_empty());
    pair.writer.send(to("far", b"2")).await.unwrap();
    assert_eq!(arrived(&mut pair.far_reader).await, [b"2", b"1"]);
}

#[tokio::test(start_paused = true)]
async fn corruption_flips_one_bit_and_truncation_takes_the_end() {
    let payload: Vec<u8> = (0..32).collect();
    for seed in 0..50 {
        for arrived in through(&FaultPlan::new(seed).with(Rule::corrupt()), &[&[0; 16], b""]).await {
            assert_eq!(arrived[0].iter().map(|byte| byte.count_ones()).sum::<u32>(), 1);
            assert_eq!(arrived[1], b"", "there is no bit to flip");
        }
        for arrived in through(&FaultPlan::new(seed).with(Rule::truncate()), &[&payload, b""]).await {
            assert!(arrived[0].len() < payload.len() && payload.starts_with(&arrived[0]));
            assert_eq!(arrived[1], b"");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn delays_hold_datagrams_back_and_keep_their_order() {
    let second = Duration::from_secs(1);
    let mut pair = pair(FaultPlan::new(9).with(Rule::delay(second..=2 * second))).await;
    let began = Instant::now();
    for number in *b"123" {
        pair.writer.send(to("far", &[number])).await.unwrap();
        pair.far_writer.send(to("near", &[number])).await.unwrap();
    }
    assert!(began.elapsed() >= 3 * second);
    assert_eq!(arrived(&mut pair.far_reader).await, [b"1", b"2", b"3"]);
    let began = Instant::now();
    for number in *b"123" {
        assert_eq!(pair.reader.recv().await.unwrap().unwrap().payload[..], [number]);
    }
    assert!(began.elapsed() >= 3 * second);
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_receive_loses_no_delayed_datagram() {
    let second = Duration::from_secs(1);
    let mut pair = pair(FaultPlan::new(9).with(Rule::delay(second..=second).reading())).await;
    pair.far_writer.send(to("near", b"late")).await.unwrap();
    timeout(second / 2, pair.reader.recv()).await.unwrap_err();
    assert_eq!(arrived(&mut pair.reader).await, [b"late"]);
}

#[tokio::test(start_paused = true)]
async fn a_stalled_socket_goes_on_when_it_is_resumed() {
    for by_hand in [false, true] {
        let rules = if by_hand { FaultPlan::new(1) } else { FaultPlan::new(1).with(Rule::stall_after(0)) };
        let mut pair = pair(rules).await;
        let handle = pair.faulty.handle();
        if by_hand {
            handle.stall();
        }
        pair.far_writer.send(to("near", b"in")).await.unwrap();
        let receiving = tokio::spawn(async move { pair.reader.recv().await.unwrap().unwrap() });
        let sending = tokio::spawn(async move { pair.writer.send(to("far", b"out")).await.unwrap() });
        assert!(arrived(&mut pair.far_reader).await.is_empty());
        assert!(!receiving.is_finished() && !sending.is_finished());
        handle.resume();
        assert_eq!(receiving.await.unwrap().payload[..], *b"in");
        sending.await.unwrap();
        assert_eq!(arrived(&mut pair.far_reader).await, [b"out"]);
    }
}

#[tokio::test(start_paused = true)]
async fn binds_are_refused_by_rule_and_by_hand() {
    let world = MemTransport::new();
    let faulty = Faulty::new(world, FaultPlan::new(4).with(Rule::refuse().connections(0..2)));
    for _ in 0..2 {
        let refused = faulty.bind(&mem("a")).await.unwrap_err();
        assert!(matches!(refused, Error::AddrInUse { .. }), "{refused:?}");
    }
    drop(faulty.bind(&mem("a")).await.unwrap());
    faulty.handle().refuse();
    faulty.bind(&mem("a")).await.unwrap_err();
    faulty.handle().admit();
    faulty.bind(&mem("a")).await.unwrap();
    let counters = *faulty.handle().counters().side(Side::Bound);
    assert_eq!((counters.connections, counters.refused), (2, 3));
}

#[tokio::test(start_paused = true)]
async fn the_counters_tell_exactly_what_became_of_datagrams() {
    let plan = FaultPlan::new(21)
        .with(Rule::lose().chance(0.2))
        .with(Rule::duplicate().chance(0.2))
        .with(Rule::reorder().chance(0.2))
        .with(Rule::corrupt().chance(0.1))
        .with(Rule::truncate().chance(0.1));
    let mut pair = pair(plan).await;
    for number in 0..200_u8 {
        pair.writer.send(to("far", &[number, 0, 0, 0])).await.unwrap();
    }
    let counters = pair.faulty.handle().counters();
    let arrived = arrived(&mut pair.far_reader).await;
    let told = counters.datagrams;
    assert_eq!(told.sent, arrived.len() as u64);
    assert_eq!(counters.bound.written, arrived.iter().map(Vec::len).sum::<usize>() as u64);
    let held = 200 + told.doubled - told.lost - told.sent;
    assert!(held <= 1, "{held} are held to be overtaken");
    assert_eq!(told.truncated, arrived.iter().filter(|payload| payload.len() < 4).count() as u64);
    assert!(told.lost > 10 && told.doubled > 10 && told.overtaken > 10 && told.corrupted > 5);
    assert_eq!(told.received, 0);
}

#[tokio::test(start_paused = true)]
async fn equal_seeds_make_equal_faults() {
    async fn trace(seed: u64) -> [Vec<Vec<u8>>; 2] {
        let plan = FaultPlan::new(seed)
            .with(Rule::lose().chance(0.3))
            .with(Rule::reorder().chance(0.3))
            .with(Rule::corrupt().chance(0.3));
        let payloads: Vec<[u8; 2]> = (0..100).map(|number| [number, 0x55]).collect();
        through(&plan, &payloads.iter().map(|payload| &payload[..]).collect::<Vec<_>>()).await
    }
    let once = trace(17).await;
    assert_eq!(once, trace(17).await);
    assert_ne!(once, trace(18).await);
    assert_ne!(once[0], once[1], "each direction has a sequence of its own");
}
