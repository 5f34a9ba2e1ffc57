//! A pipeline that does its best and no more, for pictures that are worth nothing when they are late:
//!
//! ```text
//! cargo run --example best_effort
//! ```
//!
//! Both ends choose it, each with a UDP socket. A send never waits: of what cannot leave yet the newest values stay. Every
//! value is a datagram, which may be lost on its way; the receiver keeps account of what is.
#![allow(clippy::print_stdout, reason = "a program that shows what it does")]

use std::{error::Error, time::Duration};

use ipc_ports::{BestEffortConfig, Node, NodeConfig, StaticNaming};
use ipc_transport::UdpTransport;
use tokio::time::timeout;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    // Ports find each other over TCP here; the system picks all numbers.
    let at = || "tcp://127.0.0.1:0".parse();
    let naming = StaticNaming::new().with("camera", at()?).with("screen", at()?);
    let node = |name: &str| Node::start(NodeConfig::new(name).naming(naming.clone()));
    let (camera, screen) = (node("camera").await?, node("screen").await?);
    let udp = BestEffortConfig::new(UdpTransport::new(), "udp://127.0.0.1:0".parse()?);

    let out = camera.outgoing_best_effort::<String>("OUT", udp.clone().capacity(3)).await?;
    for number in 1..=PICTURES {
        // Nobody looks yet: the newest three are held.
        out.send(format!("picture {number}"))?;
    }
    let mut incoming = screen.incoming_best_effort::<String>("PICTURES", udp).await?;
    out.connect("screen", "PICTURES")?;

    let newest = format!("picture {PICTURES}");
    // A lost datagram does not come again, so nobody waits for one for ever.
    while let Ok(picture) = timeout(PATIENCE, incoming.recv()).await {
        let picture = picture?;
        println!("screen: {}, {} missing before it", picture.value, picture.gap);
        if picture.value == newest {
            break;
        }
    }
    let counters = out.counters();
    println!("camera: {} accepted, {} sent, {} given up", counters.accepted, counters.sent, counters.dropped);
    for source in incoming.sources() {
        println!("screen: {} arrived, {} missing", source.tally.received, source.tally.missing);
    }
    out.close(PATIENCE).await?;
    camera.shutdown(PATIENCE).await?;
    Ok(screen.shutdown(PATIENCE).await?)
}

const PICTURES: u32 = 10;

/// Far above what a run takes.
const PATIENCE: Duration = Duration::from_secs(60);
