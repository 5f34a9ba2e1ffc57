//! One of two ends over UDP: answers each `message` at the address that it came from, until it is interrupted.
//!
//! ```text
//! cargo run --example udp_world
//! cargo run --example udp_world -- --wire node-ipc
//! ```
//!
//! `udp_hello` is the other one; with `--wire node-ipc` any process may be it that uses `serveNet` of node-ipc. There is no
//! server and no client: each end has a port, and datagrams go from port to port, if they arrive.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program that shows what it does")]

use std::{error::Error, net::Ipv6Addr, process::ExitCode, time::Duration};

use clap::{Parser, ValueEnum};
use ipc_channel::{
    Event,
    events::{DatagramReply, Datagrams, DatagramsConfig, NODE_IPC_PORT, Wire},
};
use ipc_transport::AddressFamily;
use serde::{Deserialize, Serialize};
use tokio::signal::unix::{SignalKind, signal};

/// Answers messages over UDP until SIGINT or SIGTERM
#[derive(Debug, Parser)]
#[command(name = "udp_world")]
struct Cli {
    /// The own port on 127.0.0.1; 0 lets the system choose
    #[arg(long, default_value_t = NODE_IPC_PORT)]
    port: u16,
    /// What is spoken; both ends must speak the same
    #[arg(long, value_enum, default_value = "native")]
    wire: Spoken,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Spoken {
    Native,
    NodeIpc,
}

#[derive(Debug, Serialize, Deserialize)]
struct Message {
    from: String,
    message: String,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run(Cli::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("udp_world: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(cli: Cli) -> Result<(), Box<dyn Error>> {
    let (mut interrupted, mut ended) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    // As `serveNet('udp4')` has it: its default host is ::1, and 127.0.0.1 where that is none.
    let config = DatagramsConfig::node_ipc(AddressFamily::V4, Ipv6Addr::LOCALHOST.into(), cli.port);
    let world = Datagrams::start(match cli.wire {
        Spoken::Native => config.wire(Wire::Native),
        Spoken::NodeIpc => config,
    })
    .await?;
    world.on("message", async |said: Event<Message>, from: DatagramReply| {
        println!("got a message from {} at {}: {}", said.from, from.address(), said.message);
        let answer = Message { from: "world".to_owned(), message: format!("{} world!", said.message) };
        if let Err(error) = from.emit("message", &answer) {
            println!("no answer was sent: {error}");
        }
    });
    println!("world hears at {}", world.endpoint());
    tokio::select! {
        _ = interrupted.recv() => {}
        _ = ended.recv() => {}
    }
    Ok(world.close(PATIENCE).await?)
}

/// How long it may take until what was answered has left.
const PATIENCE: Duration = Duration::from_secs(2);
