//! The command line: what a person may choose, and the hidden subcommands of the child processes.

use std::{num::NonZeroUsize, path::PathBuf};

use clap::{Args, Parser, Subcommand};

use crate::joint::Joint;

/// The whole command line.
#[derive(Debug, Parser)]
#[command(
    name = "ipc-demo",
    about = "Streams real files through ports between real processes, kills the consumer, and proves that nothing was lost",
    long_about = LONG_ABOUT,
    args_conflicts_with_subcommands = true,
    disable_help_subcommand = true,
    version
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) options: Options,
    #[command(subcommand)]
    pub(crate) role: Option<Role>,
}

/// What the launcher is asked to do.
#[derive(Debug, Clone, Args)]
pub(crate) struct Options {
    /// File or directory to send; without it the tracked sources of this repository
    #[arg(long, value_name = "PATH")]
    pub(crate) input: Option<PathBuf>,
    /// How often to SIGKILL and restart the consumer while unacked chunks exist
    #[arg(long, value_name = "N", default_value_t = 2)]
    pub(crate) kills: u32,
    /// How many producer processes send the whole input, each through its own port
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub(crate) producers: u16,
    /// Values that one pipeline holds: accepted and not yet acked
    #[arg(long, value_name = "N", default_value = "64")]
    pub(crate) capacity: NonZeroUsize,
    /// Bytes of a file per chunk
    #[arg(long, value_name = "BYTES", default_value_t = 16 * 1024, value_parser = clap::value_parser!(u32).range(1..=MAX_CHUNK))]
    pub(crate) chunk: u32,
    /// What the processes are joined by
    #[arg(long, value_enum, default_value_t = Joint::Unix)]
    pub(crate) transport: Joint,
    /// Chooses the instants of kills and cuts; a run prints its seed
    #[arg(long, value_name = "N")]
    pub(crate) seed: Option<u64>,
    /// Longest time between something the consumer does (start, readiness, first report) and the next kill
    #[arg(long, value_name = "MS", default_value_t = 800)]
    pub(crate) kill_within: u64,
    /// End with one line that holds a JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

/// What a child process is.
#[derive(Debug, Subcommand)]
pub(crate) enum Role {
    #[command(name = "__consume", hide = true)]
    Consume(ConsumeRole),
    #[command(name = "__produce", hide = true)]
    Produce(ProduceRole),
}

/// What every child is told.
#[derive(Debug, Clone, Args)]
pub(crate) struct Site {
    /// Directory of this run: names, sockets, the list of files.
    #[arg(long)]
    pub(crate) directory: PathBuf,
    #[arg(long, value_enum)]
    pub(crate) transport: Joint,
    /// Port number of the consumer's listener; 0 where names are leased.
    #[arg(long, default_value_t = 0)]
    pub(crate) tcp_port: u16,
    #[arg(long)]
    pub(crate) capacity: NonZeroUsize,
}

/// What the consumer is told.
#[derive(Debug, Clone, Args)]
pub(crate) struct ConsumeRole {
    #[command(flatten)]
    pub(crate) site: Site,
}

/// What a producer is told.
#[derive(Debug, Clone, Args)]
pub(crate) struct ProduceRole {
    #[command(flatten)]
    pub(crate) site: Site,
    /// Which producer this is, from 0.
    #[arg(long)]
    pub(crate) source: u16,
    #[arg(long)]
    pub(crate) chunk: u32,
    #[arg(long)]
    pub(crate) seed: u64,
    /// The first cut comes within so many chunks.
    #[arg(long)]
    pub(crate) first_cut: u64,
    /// The list of files that the launcher wrote.
    #[arg(long)]
    pub(crate) list: PathBuf,
    /// Go on with further passes until the launcher says `finish`.
    #[arg(long)]
    pub(crate) repeat: bool,
}

/// The largest chunk: with its head it stays below the default message limit of 1 MiB.
const MAX_CHUNK: i64 = 512 * 1024;

const LONG_ABOUT: &str = "\
Streams real files through ports between real processes, kills the consumer, and proves that nothing was lost.

Producer processes read the input and send it in chunks, each through its own outgoing port, into one incoming port of \
a consumer process. The consumer writes a report line for every chunk (source, pass, file, offset, length, SHA-256, \
redelivered) to the launcher's pipe and only then acks it. While that runs, connections are cut and the consumer is \
killed with SIGKILL and started again; the input is repeated in numbered passes until the kills have happened. The \
launcher keeps the ledger: every accepted chunk must be reported, with the digest of the file on disk, in order, and \
never twice unless flagged as redelivered. A file that changes while it is sent fails the check.

Exit status: 0 when nothing was lost, duplicated or reordered and every digest matches; 1 when a check failed; \
2 for a missing input or bad usage.";

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: &[&str]) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(std::iter::once("ipc-demo").chain(arguments.iter().copied()))
    }

    #[test]
    fn the_definition_is_consistent() {
        <Cli as clap::CommandFactory>::command().debug_assert();
    }

    #[test]
    fn without_arguments_it_is_the_launcher_with_two_kills() {
        let cli = parse(&[]).unwrap();
        assert!(cli.role.is_none());
        assert!(cli.options.input.is_none());
        assert_eq!(cli.options.kills, 2);
        assert_eq!(cli.options.producers, 2);
        assert_eq!(cli.options.transport, Joint::Unix);
        assert!(!cli.options.json);
    }

    #[test]
    fn zeros_that_make_no_sense_are_refused() {
        for arguments in [["--capacity", "0"], ["--producers", "0"], ["--chunk", "0"], ["--chunk", "524289"]]
        {
            let error = parse(&arguments).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{arguments:?}");
        }
    }

    #[test]
    fn roles_do_not_show_in_the_help() {
        let help = <Cli as clap::CommandFactory>::command().render_long_help().to_string();
        assert!(!help.contains("__"), "{help}");
        assert!(!help.contains("[COMMAND]"), "{help}");
        for option in ["--input", "--kills", "--json", "--capacity", "--transport", "--seed", "Exit status"] {
            assert!(help.contains(option), "{option} is missing in\n{help}");
        }
    }

    #[test]
    fn a_role_takes_its_own_arguments() {
        let cli = parse(&[
            "__consume",
            "--directory",
            "/x",
            "--transport",
            "tcp",
            "--tcp-port",
            "9",
            "--capacity",
            "3",
        ]);
        let Some(Role::Consume(role)) = cli.unwrap().role else { panic!("not the consumer") };
        assert_eq!((role.site.tcp_port, role.site.capacity.get()), (9, 3));
    }
}
