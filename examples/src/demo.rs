//! The demonstration fleet: two producers, one consumer that is killed while it works, and a ledger that checks it.
//!
//! The launcher starts every process of the fleet as the same executable with a hidden subcommand. Children write
//! lines to their standard output, which the launcher reads; the end of their standard input means that the
//! launcher is gone or wants them gone.

mod cli;
mod consumer;
mod display;
mod failure;
mod fleet;
mod input;
mod launcher;
mod ledger;
mod lines;
mod pipes;
mod plan;
mod producer;
mod report;
mod verdict;
mod wire;

use std::process::ExitCode;

use clap::Parser;

use cli::{Cli, Role};
use failure::Failure;

/// Runs the program: the launcher, or the child role that a hidden subcommand names.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = match cli.role {
        None => launcher::run(&cli.options),
        Some(Role::Consume(role)) => consumer::run(&role).map(|()| true),
        Some(Role::Produce(role)) => producer::run(&role).map(|()| true),
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(Failure::CHECK),
        Err(failure) => {
            display::complain(&failure);
            ExitCode::from(failure.status())
        }
    }
}
