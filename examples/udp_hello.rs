//! The other of two ends over UDP: says `Hello` to `udp_world` until an answer comes, and prints it.
//!
//! ```text
//! cargo run --example udp_hello
//! cargo run --example udp_hello -- --wire node-ipc
//! ```
//!
//! A datagram may get lost, and so may its answer; nobody tells. Whoever wants an answer says it again.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program that shows what it does")]

use std::{
    error::Error,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    process::ExitCode,
    time::Duration,
};

use clap::{Parser, ValueEnum};
use ipc_channel::events::{Datagrams, DatagramsConfig, NODE_IPC_PORT, Wire};
use ipc_transport::AddressFamily;
use serde::{Deserialize, Serialize};
use tokio::time::{interval, timeout};

/// Says Hello over UDP and prints the answer
#[derive(Debug, Parser)]
#[command(name = "udp_hello")]
struct Cli {
    /// The own port on 127.0.0.1; 0 lets the system choose
    #[arg(long, default_value_t = 8001)]
    port: u16,
    /// The port of the other end
    #[arg(long, default_value_t = NODE_IPC_PORT)]
    to: u16,
    /// What is spoken; both ends must speak the same
    #[arg(long, value_enum, default_value = "native")]
    wire: Spoken,
    /// Seconds until it stops waiting for the answer
    #[arg(long, default_value_t = 30)]
    timeout: u64,
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
            eprintln!("udp_hello: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(cli: Cli) -> Result<(), Box<dyn Error>> {
    let config = DatagramsConfig::node_ipc(AddressFamily::V4, Ipv6Addr::LOCALHOST.into(), cli.port);
    let hello = Datagrams::start(match cli.wire {
        Spoken::Native => config.wire(Wire::Native),
        Spoken::NodeIpc => config,
    })
    .await?;
    let mut answers = hello.events::<Message>("message", 8)?;
    let world = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), cli.to);
    let message = Message { from: "hello".to_owned(), message: "Hello".to_owned() };
    let mut again = interval(AGAIN);
    let asking = async {
        loop {
            tokio::select! {
                _ = again.tick() => hello.emit(world, "message", &message)?,
                answer = answers.next() => {
                    let (answer, _) = answer.ok_or("the end was closed")?;
                    return Ok::<_, Box<dyn Error>>(answer.into_value());
                }
            }
        }
    };
    let answer = timeout(Duration::from_secs(cli.timeout), asking).await;
    let answer = answer.map_err(|_| format!("no answer within {} s", cli.timeout))??;
    println!("got a message from {}: {}", answer.from, answer.message);
    Ok(())
}

/// How long an answer may be under way before it counts as lost.
const AGAIN: Duration = Duration::from_millis(250);
