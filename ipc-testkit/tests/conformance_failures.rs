//! What a failing check says: the promise by its contract, number and name, the reason, and the seed.

#![allow(clippy::unwrap_used, reason = "a test may unwrap, its helpers too")]

use std::{collections::BTreeSet, env, io, pin::Pin, process::Command, task};

use async_trait::async_trait;
use ipc_testkit::{
    FaultPlan, Faulty, MemTransport, Rule, Verdict,
    conformance::{BrokenPromise, codec, datagram, naming, transport},
};
use ipc_transport::{
    Bincode, ConnectOptions, Connection, Endpoint, Error, ListenOptions, Listener, StaticNaming, Transport,
    Transports,
};
use tokio::io::{AsyncRead, ReadBuf};

fn mem(name: &str) -> Endpoint {
    Endpoint::new("mem", name).unwrap()
}

fn corrupting() -> transport::Subject {
    let plan = FaultPlan::new(1).with(Rule::corrupt().chance(0.01));
    transport::Subject::new(Faulty::new(MemTransport::new(), plan), mem("a"))
}

/// The promise of this name among the broken ones.
fn find<'a>(broken: &'a [BrokenPromise], name: &str) -> &'a BrokenPromise {
    broken.iter().find(|broken| broken.promise.name == name).expect("the check notices")
}

#[tokio::test(start_paused = true)]
#[should_panic(
    expected = "promise 3 of the contract of Transport, `bytes_arrive_in_order`, is broken: bytes "
)]
async fn a_run_of_a_suite_panics_with_the_first_broken_promise() {
    transport::run_all(corrupting).await;
}

#[tokio::test(start_paused = true)]
async fn a_seed_gives_the_same_failure_again_and_other_seeds_give_others() {
    // Strikes by what the bytes are, which the seed decides.
    let rule = || Rule::custom(|chunk| if chunk.bytes[0] == 7 { Verdict::Corrupt } else { Verdict::Pass });
    let subject = || Faulty::new(MemTransport::new(), FaultPlan::new(1).with(rule()));
    let mut reasons = BTreeSet::new();
    for seed in 0..5 {
        let make = || transport::Subject::new(subject(), mem("a")).with_seed(seed);
        let [once, again] = [transport::broken_promises(make).await, transport::broken_promises(make).await];
        assert_eq!(once, again);
        let broken = find(&once, "bytes_arrive_in_order");
        assert_eq!(broken.seed, Some(seed));
        assert!(broken.to_string().ends_with(&format!("IPC_SEED={seed}")), "{broken}");
        reasons.insert(broken.reason.clone());
    }
    assert!(reasons.len() > 1, "{reasons:?}");
}

#[tokio::test(start_paused = true)]
async fn the_environment_decides_the_seed() {
    let seed = env::var("IPC_SEED").map_or(0, |seed| seed.parse().unwrap());
    let broken = transport::broken_promises(corrupting).await;
    assert_eq!(find(&broken, "bytes_arrive_in_order").seed, Some(seed));
    if env::var_os(CHILD).is_some() {
        return assert_eq!(seed, 99);
    }
    let mut again = Command::new(env::current_exe().unwrap());
    again.args(["--exact", "the_environment_decides_the_seed"]).env(CHILD, "1").env("IPC_SEED", "99");
    let output = again.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}

/// Tells a child of this test what it is.
const CHILD: &str = "IPC_TESTKIT_SEED_CHILD";

#[tokio::test(start_paused = true)]
async fn a_panic_in_a_task_of_the_check_is_told_like_any_other() {
    let subject = || transport::Subject::new(Panicking(MemTransport::new()), mem("a"));
    let broken = transport::broken_promises(subject).await;
    let broken = find(&broken, "dropping_a_connection_is_seen_as_eof");
    assert_eq!((broken.promise.contract, broken.promise.number), ("Transport", 6));
    assert!(broken.reason.contains("reading was a mistake"), "{}", broken.reason);
}

#[tokio::test(start_paused = true)]
async fn a_check_that_hangs_is_told_by_its_promise() {
    let plan = FaultPlan::new(0).with(Rule::stall_after(0));
    let subject = || transport::Subject::new(Faulty::new(MemTransport::new(), plan.clone()), mem("a"));
    let broken = transport::broken_promises(subject).await;
    let broken = find(&broken, "bytes_arrive_in_order");
    assert_eq!(broken.reason, "the check did not end within 30s");
}

#[tokio::test(start_paused = true)]
async fn sound_implementations_break_no_promise() {
    let transport = || transport::Subject::new(MemTransport::new(), mem("a"));
    assert_eq!(transport::broken_promises(transport).await, []);
    let datagram = || datagram::Subject::new(MemTransport::new(), mem(MemTransport::FRESH_NAME));
    assert_eq!(datagram::broken_promises(datagram).await, []);
    let naming = || {
        let table = StaticNaming::new().with("a", mem("a"));
        naming::Subject::new(table, Transports::none().with(MemTransport::new()), "a").without_watch()
    };
    assert_eq!(naming::broken_promises(naming).await, []);
    let codec = || codec::Subject::new(Bincode::default(), [1_u32, 2]);
    assert_eq!(codec::broken_promises(codec), []);
}

#[test]
#[should_panic(expected = "promise 1 of the contract of codecs, `values_round_trip`, is broken: ")]
fn a_failure_of_a_codec_names_its_promise() {
    // Not a number is not equal to itself.
    codec::run_all(|| codec::Subject::new(Bincode::default(), [f64::NAN]));
}

#[tokio::test(start_paused = true)]
async fn a_failure_without_random_choices_names_no_seed() {
    let naming = || {
        let table = StaticNaming::new().with("nobody-ever-claims-this", mem("b")).with("a", mem("a"));
        naming::Subject::new(table, Transports::none().with(MemTransport::new()), "a").without_watch()
    };
    let broken = naming::broken_promises(naming).await;
    let broken = find(&broken, "an_unknown_name_is_not_found");
    assert_eq!((broken.promise.contract, broken.promise.number, broken.seed), ("Naming", 4, None));
    assert!(!broken.to_string().contains("IPC_SEED"), "{broken}");
}

/// A transport whose dialled connections panic when they are read.
#[derive(Debug)]
struct Panicking(MemTransport);

#[async_trait]
impl Transport for Panicking {
    fn scheme(&self) -> &str {
        MemTransport::SCHEME
    }

    async fn connect(&self, to: &Endpoint, options: &ConnectOptions) -> Result<Connection, Error> {
        let (_reader, writer, info) = self.0.connect(to, options).await?.into_parts();
        Ok(Connection::from_bytes(Mistaken, writer, info))
    }

    async fn listen(&self, at: &Endpoint, options: &ListenOptions) -> Result<Box<dyn Listener>, Error> {
        self.0.listen(at, options).await
    }
}

struct Mistaken;

impl AsyncRead for Mistaken {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut task::Context<'_>,
        _: &mut ReadBuf<'_>,
    ) -> task::Poll<io::Result<()>> {
        panic!("reading was a mistake");
    }
}
