//! Best effort between the machines: datagrams go beside a connection, and the weather takes its part of them.

use std::{collections::HashSet, time::Duration};

use ipc_ports::{BestEffortConfig, BestEffortIncomingPort, Node, NodeConfig, StaticNaming};
use ipc_testkit::{
    FaultPlan, Faulty, Rule,
    process::{self, Role, RoleProcess},
};
use ipc_transport::UdpTransport;
use serde::{Deserialize, Serialize};
use tokio::{
    runtime::Builder,
    time::{interval, timeout},
};

use crate::network::{Machine, Machines};

/// How long the whole story may take before it counts as hung.
const WATCHDOG: Duration = Duration::from_secs(120);

/// A deadline that nothing is meant to reach.
const LONG: Duration = Duration::from_secs(100);

/// Where nodes listen; on machines of our own every port is free.
const PORT: u16 = 7000;

/// Values that count as a stream.
const SOME: u64 = 500;

/// Datagrams are doubled and overtake each other as they leave, and then three of ten are lost.
#[test]
fn a_best_effort_stream_goes_on_through_loss_and_its_account_is_exact() {
    let Some(machines) = Machines::new() else { return };
    let seed = fastrand::u64(..);
    println!("the talker's seed is {seed}");
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let story = async {
        let mut listener = start("listener", &machines, &machines.right, seed).await;
        let mut talker = start("talker", &machines, &machines.left, seed).await;
        let dry = take(&mut listener, SOME).await;
        let Some(()) = machines.right.rain(30) else { return };
        take(&mut listener, SOME).await;
        talker.send(&Enough).unwrap();
        let sent: u64 = talker.recv().await.unwrap();
        let account = take(&mut listener, 0).await;

        assert_eq!(account.received, account.taken + account.waiting + account.overrun, "{account:?}");
        assert_eq!(account.received + account.missing, account.highest, "{account:?}");
        assert!(account.highest <= sent, "{sent} were sent: {account:?}");
        // No datagram is sure to be lost, but hundreds are not all spared.
        assert!(account.missing > dry.missing, "{dry:?}, then {account:?}");
        assert!(account.duplicates > 0 && account.reordered > 0, "{account:?}");
        for process in [&mut talker, &mut listener] {
            process.hang_up();
            process.succeeds().await;
        }
    };
    runtime.block_on(async {
        timeout(WATCHDOG, story).await.expect("the watchdog barked: the story hangs");
    });
}

async fn start(role: &str, machines: &Machines, on: &Machine, seed: u64) -> RoleProcess {
    let Machines { left, right } = machines;
    let places = [("talker", left), ("listener", right)]
        .map(|(name, machine)| (name.to_owned(), format!("tcp://{}:{PORT}", machine.address())));
    let post = Post { name: role.to_owned(), address: on.address().to_owned(), places, seed };
    let role = Role::new(format!("datagrams::role_{role}")).argument(&post).through(on.launcher());
    let mut process = role.spawn().unwrap();
    process.recv::<()>().await.unwrap();
    process
}

/// Waits until the listener has taken so many more values; its account.
async fn take(listener: &mut RoleProcess, more: u64) -> Account {
    listener.send(&Take { more }).unwrap();
    listener.recv().await.unwrap()
}

/// What a process is set up with.
#[derive(Debug, Serialize, Deserialize)]
struct Post {
    name: String,
    /// The address of its machine.
    address: String,
    /// The table of names.
    places: [(String, String); 2],
    /// For what becomes of the datagrams of the talker.
    seed: u64,
}

impl Post {
    async fn node(&self) -> Node {
        let naming = self
            .places
            .iter()
            .fold(StaticNaming::new(), |naming, (name, place)| naming.with(name, place.parse().unwrap()));
        Node::start(NodeConfig::new(&self.name).naming(naming)).await.unwrap()
    }

    /// Datagrams through a socket at the address of the machine, and what becomes of them.
    fn datagrams(&self, plan: FaultPlan) -> BestEffortConfig {
        let udp = UdpTransport::new().dangerous().reachable_from_elsewhere();
        let at = format!("udp://{}:0", self.address);
        BestEffortConfig::new(Faulty::new(udp, plan), at.parse().unwrap())
    }
}

/// Asks the talker to end; answered by how many datagrams it sent.
#[derive(Debug, Serialize, Deserialize)]
struct Enough;

/// Asks the listener to take so many more values; answered by its [`Account`].
#[derive(Debug, Serialize, Deserialize)]
struct Take {
    more: u64,
}

/// What a listener has taken, and what its port tells of the same time, over all sessions.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Account {
    taken: u64,
    waiting: u64,
    overrun: u64,
    received: u64,
    missing: u64,
    duplicates: u64,
    reordered: u64,
    highest: u64,
}

impl Account {
    fn of(inp: &BestEffortIncomingPort<u64>, taken: u64) -> Self {
        assert_eq!(inp.counters().forgotten, 0, "of these the account would be lacking");
        inp.sources().iter().fold(Self { taken, ..Self::default() }, |sum, source| Self {
            taken,
            waiting: sum.waiting + source.waiting as u64,
            overrun: sum.overrun + source.overrun,
            received: sum.received + source.tally.received,
            missing: sum.missing + source.tally.missing,
            duplicates: sum.duplicates + source.tally.duplicates,
            reordered: sum.reordered + source.tally.reordered,
            highest: sum.highest + source.tally.highest,
        })
    }
}

/// Sends one number after the other until it is asked to end.
#[test]
fn role_talker() {
    let Some(mut parent) = process::enter("datagrams::role_talker") else { return };
    let post: Post = parent.argument();
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let node = post.node().await;
        let plan =
            FaultPlan::new(post.seed).with(Rule::duplicate().chance(0.1)).with(Rule::reorder().chance(0.1));
        let out = node.outgoing_best_effort::<u64>("OUT", post.datagrams(plan)).await.unwrap();
        out.connect("listener", "IN").unwrap();
        parent.send(&()).unwrap();
        // Nothing holds up a sender of best effort: it keeps a pace of its own.
        let mut pace = interval(Duration::from_millis(1));
        let mut number = 0;
        loop {
            tokio::select! {
                order = parent.recv::<Enough>() => match order.unwrap() {
                    Some(Enough) => break,
                    None => return,
                },
                _ = pace.tick() => out.send(number).unwrap(),
            }
            number += 1;
        }
        let sender = out.sender();
        // Values that it had to give up are no concern of this story.
        let _ = out.close(LONG).await;
        parent.send(&sender.counters().sent).unwrap();
    });
}

/// Takes values when it is asked to; the newest wait meanwhile, and no value may come twice.
#[test]
fn role_listener() {
    let Some(mut parent) = process::enter("datagrams::role_listener") else { return };
    let post: Post = parent.argument();
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let node = post.node().await;
        let config = post.datagrams(FaultPlan::new(post.seed));
        let mut inp = node.incoming_best_effort::<u64>("IN", config).await.unwrap();
        parent.send(&()).unwrap();
        let mut taken = HashSet::new();
        while let Some(Take { more }) = parent.recv().await.unwrap() {
            for _ in 0..more {
                let value = inp.recv().await.unwrap().value;
                assert!(taken.insert(value), "{value} came twice");
            }
            parent.send(&Account::of(&inp, taken.len() as u64)).unwrap();
        }
    });
}
