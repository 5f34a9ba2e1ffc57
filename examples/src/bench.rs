//! The process-level benchmark: two real processes, one workload, one JSON line.
//!
//! The program starts itself again as the peer. The client (this process) sends and measures; the peer echoes or
//! receives. Every face runs the very same loops over `flow::Flow`, so that faces differ only in what moves the
//! values.

mod certificates;
mod cli;
mod crowd;
mod datagram;
mod events;
mod feed;
mod figures;
mod flow;
mod link;
mod measure;
mod peer;
mod place;
mod port;
mod queue;
mod raw;
mod socket;
mod value;
mod wire;

use std::{io::Write as _, process::ExitCode};

use clap::Parser;

use cli::{Cli, Role};

/// Runs the program: the client, or the peer that a hidden subcommand names.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = match &cli.role {
        None => cli.plan.check().and_then(|plan| measure::run(&plan)),
        Some(Role::Peer(role)) => peer::run(role),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nobody is left to tell when standard error is closed.
            drop(writeln!(std::io::stderr(), "ipc-bench: {error}"));
            ExitCode::from(if error.kind() == std::io::ErrorKind::InvalidInput { 2 } else { 1 })
        }
    }
}
