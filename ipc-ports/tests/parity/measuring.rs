//! What ports cost: memory, descriptors, threads, tasks, and time compared with waiting for each answer.

use std::time::{Duration, Instant};

use bytes::Bytes;
use ipc_ports::{OutgoingPort, PortConfig, RecvError, Status};
use ipc_testkit::process::{self, Role, open_descriptors, repetitions, resident_bytes, threads};
use ipc_transport::Raw;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
    runtime::Handle,
};

use crate::{
    roles::{Do, Policy, Told, ask, consumer, producer},
    support::{LONG, Site, WATCHDOG, World, polled, processes, until},
};

const MIB: u64 = 1024 * 1024;

/// What a process may grow by on account of its allocator, its stacks and the pages of its code that it touches.
const SLACK: u64 = 12 * MIB;

/// How many values to offer: more than any buffer takes, whatever `IPC_STRESS` says.
fn values() -> u64 {
    repetitions(50_000, 1_000_000).max(20_000)
}

/// P-29.
#[test]
fn memory_is_bounded_by_the_capacity_while_the_consumer_sleeps() {
    let count = values();
    processes(|site| async move {
        let mut consumer = consumer(&site, "consumer", 16_384).await;
        let mut producer = producer(&site, "producer", 1_000, Policy::Wait, "consumer").await;
        let ids = [producer.id(), consumer.id()];
        let before = ids.map(|id| resident_bytes(id).unwrap());
        producer.send(&Do::Send { from: 0, to: count, len: 1_024 }).unwrap();
        // Held up: from here on only the consumer could change anything.
        assert_eq!(producer.recv::<Told>().await.unwrap(), Told::Full);
        let bounded = |when| {
            for (before, id) in before.into_iter().zip(ids) {
                let now = resident_bytes(id).unwrap();
                assert!(now < before + 1_000 * 1_024 + SLACK, "{before} bytes became {now} {when}");
            }
        };
        bounded("while the consumer slept");
        assert_eq!(
            ask(&mut consumer, &Do::Take { count }).await,
            Told::Took { first: 0, count, redelivered: 0 }
        );
        bounded("after everything arrived");
        assert_eq!(producer.recv::<Told>().await.unwrap(), Told::Done);
    });
}

///
#[test]
fn the_senders_memory_is_bounded_under_every_policy_while_the_receiver_stands_still() {
    let count = values();
    processes(|site| async move {
        let consumer = consumer(&site, "consumer", 16_384).await;
        consumer.stop();
        for policy in [Policy::Wait, Policy::Fail, Policy::DropOldest, Policy::DropNewest] {
            let name = format!("{policy:?}");
            let mut producer = producer(&site, &name, 1_000, policy, "consumer").await;
            let before = resident_bytes(producer.id()).unwrap();
            let told = ask(&mut producer, &Do::Offer { count, len: 1_024 }).await;
            let Told::Offered { accepted, dropped, full, pending } = told else { panic!("{told:?}") };
            assert_eq!(pending, 1_000);
            match policy {
                Policy::Wait | Policy::Fail => {
                    assert_eq!((accepted, dropped, full), (1_000, 0, count - 1_000))
                }
                // A send that returned Ok was accepted, whatever the policy then did with the value.
                Policy::DropOldest | Policy::DropNewest => {
                    assert_eq!((accepted, dropped, full), (count, count - 1_000, 0))
                }
            }
            let now = resident_bytes(producer.id()).unwrap();
            assert!(now < before + 1_000 * 1_024 + SLACK, "{policy:?}: {before} bytes became {now}");
        }
        consumer.resume();
    });
}

#[test]
fn role_counting() {
    let Some(parent) = process::enter("measuring::role_counting") else { return };
    let site: Site = parent.argument();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.unwrap().block_on(count_cycles(site));
    parent.send(&()).unwrap();
}

/// What this process holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Held {
    descriptors: usize,
    threads: usize,
    tasks: usize,
}

impl Held {
    /// Not more of anything; the other may have been looked at while something was just ending.
    fn is_within(self, other: Self) -> bool {
        self.descriptors <= other.descriptors && self.threads <= other.threads && self.tasks <= other.tasks
    }
}

fn held() -> Held {
    let own = std::process::id();
    Held {
        descriptors: open_descriptors(own).unwrap(),
        threads: threads(own).unwrap(),
        tasks: Handle::current().metrics().num_alive_tasks(),
    }
}

async fn count_cycles(site: Site) {
    let one = site.node("process1").await;
    let two = site.node("process2").await;
    let mut inp = two.incoming::<u64>("IN").unwrap();
    let out = one.outgoing::<u64>("OUT").unwrap();
    out.connect("process2", "IN").unwrap();
    let own = std::process::id();
    // Fewer would be over before everything has its final size.
    let cycles = repetitions(300, 1_000).max(300);
    // The first cycles fill every pool and table to its bound, and start every thread.
    let mut baseline = None;
    for part in 0..5 {
        reconnects(&out, &mut inp, cycles).await;
        short_lives(&one, &mut inp, cycles).await;
        abandoned(&mut inp, 200_000).await;
        let memory = resident_bytes(own).unwrap();
        match baseline {
            None => {
                baseline = Some((held(), memory));
            }
            Some((baseline, before)) => {
                until(|| held().is_within(baseline)).await;
                assert!(
                    memory < before + 8 * MIB,
                    "{before} bytes became {memory} after {part} thousand cycles"
                );
            }
        }
    }
    out.close(LONG).await.unwrap();
}

/// Cuts and resumes one pipeline.
async fn reconnects(out: &OutgoingPort<u64>, inp: &mut ipc_ports::IncomingPort<u64>, cycles: u64) {
    let mut status = out.status();
    for cycle in 0..cycles {
        let reconnects = out.counters().reconnects;
        status.wait_for(|status| *status == Status::Connected).await.unwrap();
        out.cut();
        out.send(cycle).await.unwrap();
        assert_eq!(*inp.recv().await.unwrap(), cycle);
        while out.counters().reconnects == reconnects {
            status.changed().await.unwrap();
        }
    }
    out.settled().await.unwrap();
}

/// Makes, connects, uses and closes ports.
async fn short_lives(node: &ipc_ports::Node, inp: &mut ipc_ports::IncomingPort<u64>, cycles: u64) {
    for cycle in 0..cycles {
        let out = node.outgoing::<u64>("SHORT").unwrap();
        out.connect("process2", "IN").unwrap();
        out.send(cycle).await.unwrap();
        let (closed, taken) = tokio::join!(out.close(LONG), inp.recv());
        closed.unwrap();
        assert_eq!(*taken.unwrap(), cycle);
    }
}

/// P-15: a receive that is given up leaves nothing behind.
async fn abandoned(inp: &mut ipc_ports::IncomingPort<u64>, cycles: u64) {
    for _ in 0..cycles {
        assert!(polled(1, inp.recv()).await.is_none());
    }
}

/// ten thousand connections in a process of its own, and P-15: a million receives.
#[test]
fn descriptors_threads_tasks_and_memory_return_to_where_they_were() {
    processes(|site| async move {
        let mut counting = Role::new("measuring::role_counting").argument(&site).spawn().unwrap();
        counting.recv::<()>().await.unwrap();
        counting.succeeds().await;
    });
}

/// P-30: the author's benchmark, and the same through a protocol that waits for each answer. Only reported.
#[test]
fn sequential_sends_against_a_stop_and_wait_protocol() {
    let count = repetitions(if cfg!(debug_assertions) { 2_000 } else { 200_000 }, 1_000_000);
    crate::support::once(|world| async move {
        let waiting = stop_and_wait(&world, count).await;
        let ours = through_ports(&world, count).await;
        println!(
            "{count} sequential sends: {:.0}/s through ports, {:.0}/s stop-and-wait, {:.1} times as many",
            rate(count, ours),
            rate(count, waiting),
            waiting.as_secs_f64() / ours.as_secs_f64(),
        );
    });
}

fn rate(count: u64, took: Duration) -> f64 {
    count as f64 / took.as_secs_f64()
}

async fn through_ports(world: &World, count: u64) -> Duration {
    let (one, two) = world.pair().await;
    let mut inp = two.incoming_codec::<Bytes>("IN", PortConfig::new(), Raw).unwrap();
    let out = one.outgoing_codec("OUT", PortConfig::new().capacity(1_000), Raw).unwrap();
    out.connect("process2", "IN").unwrap();
    out.connected().await.unwrap();
    let begun = Instant::now();
    let sending = tokio::spawn(async move {
        for number in 0..count {
            out.send(Bytes::from(format!("{{\"i\":{number}}}"))).await.unwrap();
        }
        out.close(WATCHDOG).await.unwrap();
    });
    let mut taken = 0;
    loop {
        match inp.recv().await {
            Ok(_) => taken += 1,
            Err(error) => break assert_eq!(error, RecvError::EndOfStream),
        }
    }
    assert_eq!(taken, count);
    sending.await.unwrap();
    begun.elapsed()
}

/// The shape of the source system's wire: the producer announces a value, the consumer asks for it, the producer
/// answers with it; then the next.
async fn stop_and_wait(world: &World, count: u64) -> Duration {
    let at = world.path().join("waiting");
    let listener = tokio::net::UnixListener::bind(&at).unwrap();
    let begun = Instant::now();
    let consuming = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut taken = 0;
        while let Ok(number) = stream.read_u64_le().await {
            stream.write_u64_le(number).await.unwrap();
            let len = stream.read_u32_le().await.unwrap();
            let mut value = vec![0; len as usize];
            stream.read_exact(&mut value).await.unwrap();
            taken += 1;
        }
        taken
    });
    let mut stream = UnixStream::connect(&at).await.unwrap();
    for number in 0..count {
        stream.write_u64_le(number).await.unwrap();
        assert_eq!(stream.read_u64_le().await.unwrap(), number);
        let value = format!("{{\"i\":{number}}}");
        let mut answer = (value.len() as u32).to_le_bytes().to_vec();
        answer.extend_from_slice(value.as_bytes());
        stream.write_all(&answer).await.unwrap();
    }
    drop(stream);
    assert_eq!(consuming.await.unwrap(), count);
    begun.elapsed()
}
