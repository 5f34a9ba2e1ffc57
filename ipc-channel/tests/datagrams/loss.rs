//! A network that loses, doubles and reorders: handlers see what arrives, as often and in the order in which it does.

use std::collections::BTreeSet;

use ipc_channel::events::{Datagrams, DatagramsConfig, Wire};
use ipc_testkit::{FaultPlan, Faulty, MemTransport, Rule};

use crate::support::{PATIENCE, end, mem, name, soon};

#[tokio::test]
async fn handlers_see_exactly_what_arrives() {
    for seed in 0..30 {
        for wire in [Wire::Native, Wire::node_ipc()] {
            let world = MemTransport::new();
            let plan = FaultPlan::new(seed)
                .with(Rule::lose().chance(0.2))
                .with(Rule::duplicate().chance(0.2))
                .with(Rule::reorder().chance(0.2));
            let faulty = Faulty::new(world.clone(), plan);
            let server = end(&world, "server", wire.clone()).await;
            let mut heard = server.events::<u32>("n", 64).unwrap();
            let config = DatagramsConfig::new(mem("client")).transport(faulty.clone()).wire(wire);
            let client = Datagrams::start(config).await.unwrap();
            for number in 0..60_u32 {
                client.emit(name("server"), "n", &number).unwrap();
            }
            client.close(PATIENCE).await.unwrap();
            let faults = faulty.handle().counters().datagrams;
            let mut numbers = Vec::new();
            while (numbers.len() as u64) < faults.sent {
                numbers.push(*soon("an event", heard.next()).await.unwrap().0);
            }
            let different: BTreeSet<_> = numbers.iter().collect();
            assert_eq!(numbers.len() - different.len(), faults.doubled as usize, "seed {seed}");
            // One that was to be overtaken may still wait for the next.
            let arrived = different.len() as u64 + faults.lost;
            assert!(arrived == 60 || arrived == 59, "seed {seed}: {faults:?}");
            let counters = server.counters();
            assert_eq!((counters.received, counters.malformed), (faults.sent, 0), "seed {seed}");
        }
    }
}

/// Damage on the way, which UDP's checksum makes rare, is malformed or another event, and no more.
#[tokio::test]
async fn damaged_datagrams_harm_nobody() {
    for seed in 0..30 {
        for wire in [Wire::Native, Wire::node_ipc()] {
            let world = MemTransport::new();
            let plan =
                FaultPlan::new(seed).with(Rule::corrupt().chance(0.4)).with(Rule::truncate().chance(0.3));
            let faulty = Faulty::new(world.clone(), plan);
            let server = end(&world, "server", wire.clone()).await;
            let config = DatagramsConfig::new(mem("client")).transport(faulty).wire(wire.clone());
            let client = Datagrams::start(config).await.unwrap();
            for number in 0..60_u32 {
                client.emit(name("server"), "n", &number).unwrap();
            }
            client.close(PATIENCE).await.unwrap();
            let mut heard = server.events::<u32>("well", 8).unwrap();
            let other = end(&world, "other", wire).await;
            other.emit(name("server"), "well", &7_u32).unwrap();
            assert_eq!(*soon("the event", heard.next()).await.unwrap().0, 7, "seed {seed}");
        }
    }
}
