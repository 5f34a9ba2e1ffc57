//! Two processes and one pipeline: `process1` has the outgoing port `OUT`, `process2` the incoming port `IN`.
//!
//! Run each in a terminal of its own, in either order:
//!
//! ```text
//! cargo run --example ports -- process1
//! cargo run --example ports -- process2
//! ```
//!
//! `process1` may start alone: what it sends waits in the pipeline, up to its capacity, until `process2` is there.
//! Only the outgoing port connects; the incoming port connects back by itself.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program that shows what it does")]

use std::{error::Error, process::ExitCode, time::Duration};

use ipc_ports::{Node, NodeConfig, RecvError};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let role = std::env::args().nth(1);
    let result = match role.as_deref() {
        Some("process1") => process1().await,
        Some("process2") => process2().await,
        _ => {
            eprintln!("usage: ports process1|process2");
            return ExitCode::from(2);
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

async fn process1() -> Result<(), Box<dyn Error>> {
    let node = Node::start(NodeConfig::new("process1")).await?;
    let out = node.outgoing::<String>("OUT")?;
    out.connect("process2", "IN")?;
    for number in 1..=VALUES {
        out.send(format!("value {number}")).await?;
        println!(
            "process1: value {number} accepted, {} of {} in the pipeline",
            out.pending(),
            out.capacity()
        );
    }
    println!("process1: waiting until process2 has taken everything");
    out.close(PATIENCE).await?;
    println!("process1: everything was taken");
    Ok(node.shutdown(PATIENCE).await?)
}

async fn process2() -> Result<(), Box<dyn Error>> {
    let node = Node::start(NodeConfig::new("process2")).await?;
    let mut incoming = node.incoming::<String>("IN")?;
    println!("process2: waiting for values");
    loop {
        match incoming.recv().await {
            Ok(value) => println!("process2: took {:?}, number {}", *value, value.number()),
            Err(RecvError::EndOfStream) => break,
            Err(error) => return Err(error.into()),
        }
    }
    println!("process2: process1 closed its port");
    Ok(node.shutdown(PATIENCE).await?)
}

/// More than the default capacity of 20, so that a lonely `process1` shows how a sender is held up.
const VALUES: u32 = 30;

/// Time enough to start the other process by hand.
const PATIENCE: Duration = Duration::from_secs(600);
