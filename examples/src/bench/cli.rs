//! The command line of the benchmark, and what a workload means in numbers.

use std::{
    ffi::OsString,
    io,
    num::{NonZeroU64, NonZeroUsize},
    path::PathBuf,
};

use clap::{Args, Parser, Subcommand, ValueEnum};

use super::{datagram, value::VALUE_SIZE, wire::Wire};
use crate::meeting::Spoken;

/// The whole command line.
#[derive(Debug, Parser)]
#[command(
    name = "ipc-bench",
    about = "Measures one face on one workload between two processes and prints one JSON line",
    long_about = LONG_ABOUT,
    subcommand_negates_reqs = true,
    args_conflicts_with_subcommands = true,
    disable_help_subcommand = true,
    version
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) plan: Plan,
    #[command(subcommand)]
    pub(crate) role: Option<Role>,
}

/// What to measure.
#[derive(Debug, Clone, Args)]
pub(crate) struct Plan {
    /// What moves the values
    #[arg(long, value_enum, required = true, default_value_t = Face::Port, hide_default_value = true)]
    pub(crate) face: Face,
    /// What joins the processes; nothing does for the queue
    #[arg(long, value_enum, default_value_t = Wire::Unix)]
    pub(crate) transport: Wire,
    /// What events are spoken in [default: native]
    #[arg(long, value_enum)]
    wire: Option<Spoken>,
    /// Clients of a crowd
    #[arg(long, value_name = "N", default_value = "1000", value_parser = clap::value_parser!(u32).range(3..=100_000))]
    clients: u32,
    /// The workload
    #[arg(long, value_enum, ignore_case = true, required = true, default_value_t = Work::W1, hide_default_value = true)]
    pub(crate) work: Work,
    /// Bytes per value [default: 64; W4a 64 KiB, W4b 1 MiB]
    #[arg(long, value_name = "N")]
    size: Option<NonZeroUsize>,
    /// Values or round trips to measure [default: that of the workload]
    #[arg(long, value_name = "N")]
    count: Option<NonZeroU64>,
    /// Capacity of a link, a port or the queue, values
    #[arg(long, value_name = "N", default_value = "1024")]
    pub(crate) capacity: NonZeroUsize,
    /// Values handed over together; 1 is one by one [default: 1024 for raw and feed on streams, else 1]
    #[arg(long, value_name = "N")]
    batch: Option<NonZeroU64>,
    /// Flavour of the tokio runtime in both processes
    #[arg(long, value_enum, default_value_t = Flavour::Current)]
    pub(crate) runtime: Flavour,
    /// Both processes on one core, on a core each, or where the system likes
    #[arg(long, value_enum, default_value_t = Pin::None)]
    pub(crate) pin: Pin,
}

/// What moves the values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Face {
    /// async-channel's bounded queue, a peer of the queue
    AsyncChannel,
    /// The best-effort pipeline of ipc-pipeline, over udp
    BestEffort,
    /// Events of ipc-channel: a client's, which the handlers of a server answer or count
    Events,
    /// tokio-util's Framed with length prefixes: feed, and one flush per batch
    Feed,
    /// kanal's bounded queue, a peer of the queue
    Kanal,
    /// The link of ipc-pipeline, straight over a connection
    Pipeline,
    /// The ports of ipc-ports
    Port,
    /// The queue of ipc-pipeline, inside one process
    Queue,
    /// tokio on the bare socket, batched by hand: the baseline
    Raw,
    /// tokio's bounded mpsc, a peer of the queue
    TokioMpsc,
}

/// The workloads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Work {
    /// Round trips of one of many clients, one in flight, while another one reads and while it is stalled
    Crowd,
    /// One producer and one consumer on the queue, u64 values
    #[value(name = "M1")]
    M1,
    /// Four producers and one consumer on the queue, u64 values
    #[value(name = "M4")]
    M4,
    /// Round trips, one in flight
    #[value(name = "W1")]
    W1,
    /// Round trips, 64 in flight
    #[value(name = "W2")]
    W2,
    /// One-way stream of small values
    #[value(name = "W3")]
    W3,
    /// One-way stream of 64 KiB payloads
    #[value(name = "W4a")]
    W4a,
    /// One-way stream of 1 MiB payloads
    #[value(name = "W4b")]
    W4b,
}

/// The flavours of a tokio runtime.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Flavour {
    /// Everything on one thread
    Current,
    /// Two worker threads
    Multi,
}

/// Where the processes may run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Pin {
    /// Each on a core of its own
    Cross,
    /// Anywhere
    None,
    /// Both on the same core
    Same,
}

/// The hidden subcommand.
#[derive(Debug, Subcommand)]
pub(crate) enum Role {
    #[command(name = "__peer", hide = true)]
    Peer(PeerRole),
}

/// What the peer process is told.
#[derive(Debug, Clone, Args)]
pub(crate) struct PeerRole {
    #[command(flatten)]
    pub(crate) plan: Plan,
    /// Directory of this run, for sockets and names.
    #[arg(long)]
    pub(crate) directory: PathBuf,
    /// The core to run on.
    #[arg(long)]
    pub(crate) core: Option<usize>,
    /// Where the client listens on TCP, for the faces whose way back is a connection of its own.
    #[arg(long, default_value_t = 0)]
    pub(crate) client_port: u16,
    /// Where the peer listens on TCP, for the faces that must know it before.
    #[arg(long, default_value_t = 0)]
    pub(crate) peer_port: u16,
}

impl Plan {
    /// The plan, if its parts fit together.
    pub(crate) fn check(&self) -> io::Result<Self> {
        if matches!(self.work, Work::M1 | Work::M4) != self.face.is_in_process() {
            let message = "the queue and its peers are measured with M1 and M4, every other face with W1 to W4b or crowd";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        if self.face.is_in_process() && self.size() != self.work.size() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "queues are measured with values of 8 bytes",
            ));
        }
        if let Some(message) = self.misfit_of_events() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        if let Some(message) = self.misfit().filter(|_| !self.face.is_in_process()) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        Ok(self.clone())
    }

    /// What does not fit events, or fits nothing else.
    fn misfit_of_events(&self) -> Option<&'static str> {
        if self.face != Face::Events {
            let alone = self.wire.is_some() || self.work == Work::Crowd;
            return alone.then_some("--wire and --work crowd are for events");
        }
        if !matches!(self.work, Work::Crowd | Work::W1 | Work::W2 | Work::W3) || self.size() != VALUE_SIZE {
            return Some("events are measured with W1, W2, W3 and crowd, and values of 64 bytes");
        }
        if matches!(self.transport, Wire::Stdio | Wire::Udp) {
            return Some("events are measured over unix, tcp and tls");
        }
        if self.batch() != 1 {
            return Some("events are handed over one by one");
        }
        let in_flight = self.work.in_flight().unwrap_or_default();
        // With less, a handler may wait for a handler on the other side that waits for it.
        (self.capacity.get() < in_flight as usize).then_some("W2 needs a capacity of 64")
    }

    /// Why the transport cannot carry this.
    fn misfit(&self) -> Option<&'static str> {
        let two_way = self.work.in_flight().is_some();
        match (self.transport, self.face) {
            (Wire::Stdio, Face::Pipeline | Face::Port) if two_way => Some(
                "a process has one connection over stdio, and links need one each way: measure W3, W4a or W4b",
            ),
            (Wire::Udp, Face::BestEffort | Face::Raw) if !matches!(self.work, Work::W1 | Work::W3) => {
                Some("udp is measured with W1 and W3")
            }
            (Wire::Udp, Face::BestEffort | Face::Raw) if !datagram::SIZES.contains(&self.size()) => {
                Some("values over udp have 8 to 65,467 bytes: a number, and what a datagram carries")
            }
            (Wire::Udp, Face::BestEffort | Face::Raw) => None,
            (Wire::Udp, _) => Some("udp loses values: only raw and best-effort run over it"),
            (_, Face::BestEffort) => Some("best effort runs over datagrams: --transport udp"),
            _ => None,
        }
    }

    /// What events are spoken in.
    pub(crate) fn spoken(&self) -> Spoken {
        self.wire.unwrap_or(Spoken::Native)
    }

    /// Clients of a crowd: the measured one, the one that stalls, and those that are there.
    pub(crate) fn clients(&self) -> usize {
        self.clients as usize
    }

    /// Bytes per value.
    pub(crate) fn size(&self) -> usize {
        self.size.map_or_else(|| self.work.size(), NonZeroUsize::get)
    }

    /// Values or round trips that are measured.
    pub(crate) fn count(&self) -> u64 {
        self.count.map_or_else(|| self.work.count(), NonZeroU64::get)
    }

    /// Values handed over together.
    pub(crate) fn batch(&self) -> u64 {
        // A datagram is one call to the system, whatever comes after it.
        let batched = matches!(self.face, Face::Raw | Face::Feed) && self.transport != Wire::Udp;
        let default = if batched { 1024 } else { 1 };
        self.batch.map_or(default, NonZeroU64::get)
    }

    /// The same plan as arguments for the peer.
    pub(crate) fn arguments(&self) -> Vec<OsString> {
        let name = |value: &dyn Named| value.name();
        let wire = self.wire.map(|wire| ("--wire", wire.name()));
        let words = [
            ("--clients", self.clients.to_string()),
            ("--face", name(&self.face)),
            ("--transport", self.transport.name().to_owned()),
            ("--work", name(&self.work)),
            ("--size", self.size().to_string()),
            ("--count", self.count().to_string()),
            ("--capacity", self.capacity.to_string()),
            ("--batch", self.batch().to_string()),
            ("--runtime", name(&self.runtime)),
            ("--pin", name(&self.pin)),
        ];
        words.into_iter().chain(wire).flat_map(|(option, value)| [option.into(), value.into()]).collect()
    }
}

impl Face {
    /// Whether it joins tasks of one process.
    pub(crate) fn is_in_process(self) -> bool {
        matches!(self, Self::AsyncChannel | Self::Kanal | Self::Queue | Self::TokioMpsc)
    }
}

impl Work {
    /// How many round trips may be under way, or `None` for a one-way stream.
    pub(crate) fn in_flight(self) -> Option<u64> {
        match self {
            Self::Crowd | Self::W1 => Some(1),
            Self::W2 => Some(64),
            Self::M1 | Self::M4 | Self::W3 | Self::W4a | Self::W4b => None,
        }
    }

    fn size(self) -> usize {
        match self {
            Self::M1 | Self::M4 => 8,
            Self::Crowd | Self::W1 | Self::W2 | Self::W3 => VALUE_SIZE,
            Self::W4a => 64 * 1024,
            Self::W4b => 1024 * 1024,
        }
    }

    fn count(self) -> u64 {
        match self {
            Self::M1 | Self::M4 => 10_000_000,
            Self::Crowd => 20_000,
            Self::W1 => 100_000,
            Self::W2 => 1_000_000,
            Self::W3 => 5_000_000,
            Self::W4a => 65_536,
            Self::W4b => 8_192,
        }
    }
}

/// A choice by its name on the command line.
pub(crate) trait Named {
    /// The name.
    fn name(&self) -> String;
}

impl<T: ValueEnum> Named for T {
    fn name(&self) -> String {
        let value = self.to_possible_value().expect("no choice is skipped");
        value.get_name().to_owned()
    }
}

const LONG_ABOUT: &str = "\
Measures one face on one workload between two processes and prints one JSON line.

The program starts itself again as the peer. W1 and W2 are round trips with 1 and 64 in flight; W3, W4a and W4b are \
one-way streams, timed until the peer has taken the last value; M1 and M4 run inside one process. Values of 64 bytes \
are structs of eight integers, with a number that the receiver checks; other sizes are byte buffers.

Fields: rate is values or round trips per second, gib_per_s counts payload bytes one way, cpu_s is the processor time \
of both processes while the clock ran, p50_ns and p99_ns are there for W1. Over udp lost counts the values that did not \
arrive, which rate leaves out, and with W1 the datagrams that were sent again. Batch 1 hands values over one by one; more \
uses send_many and recv_many, or one write per batch.

Events: --wire chooses the library's own wire or JSON as node-ipc speaks it. With crowd one client of --clients is \
measured twice, as all read and as one is stalled: the first is calm_p50_ns and calm_p99_ns, the second p50_ns and p99_ns, \
p50_ratio and p99_ratio compare them, and dropped counts the events for the stalled one that found no room; cpu_s is of \
both.";

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(std::iter::once("ipc-bench").chain(line.split_whitespace()))
    }

    #[test]
    fn the_definition_is_consistent() {
        <Cli as clap::CommandFactory>::command().debug_assert();
    }

    #[test]
    fn face_and_work_must_be_named() {
        for line in ["", "--face raw", "--work W1"] {
            assert_eq!(parse(line).unwrap_err().exit_code(), 2, "{line:?}");
        }
    }

    #[test]
    fn workloads_have_the_numbers_of_their_definition() {
        for (work, size, count) in [
            ("W1", 64, 100_000),
            ("W2", 64, 1_000_000),
            ("W3", 64, 5_000_000),
            ("W4a", 65_536, 65_536),
            ("W4b", 1_048_576, 8_192),
        ] {
            let plan = parse(&format!("--face port --work {work}")).unwrap().plan;
            assert_eq!((plan.size(), plan.count()), (size, count), "{work}");
        }
    }

    #[test]
    fn the_peer_is_told_the_same_plan() {
        let line = "--face feed --transport tcp --work w4A --count 7 --batch 3 --runtime multi --pin cross --capacity 9";
        let plan = parse(line).unwrap().plan;
        let mut words = vec![OsString::from("ipc-bench"), "__peer".into()];
        words.extend(plan.arguments());
        words.extend(["--directory".into(), "/x".into()]);
        let Some(Role::Peer(role)) = Cli::try_parse_from(words).unwrap().role else { panic!("not the peer") };
        assert_eq!(role.plan.arguments(), plan.arguments());
        assert_eq!(plan.arguments().len(), 20);
    }

    #[test]
    fn queues_processes_and_transports_have_workloads_of_their_own() {
        for (line, fits) in [
            ("--face queue --work M4", true),
            ("--face queue --work W1", false),
            ("--face raw --work M1", false),
            ("--face raw --work W2", true),
            ("--face raw --work W1 --transport udp", true),
            ("--face raw --work W2 --transport udp", false),
            ("--face raw --work W3 --transport udp --size 7", false),
            ("--face raw --work W3 --transport udp --size 65468", false),
            ("--face port --work W3 --transport udp", false),
            ("--face best-effort --work W3 --transport udp", true),
            ("--face best-effort --work W4a --transport udp", false),
            ("--face best-effort --work W3", false),
            ("--face raw --work W1 --transport stdio", true),
            ("--face port --work W3 --transport stdio", true),
            ("--face port --work W1 --transport stdio", false),
            ("--face pipeline --work W2 --transport stdio", false),
            ("--face pipeline --work W2 --transport tls", true),
            ("--face pipeline --work W2 --wire native", false),
            ("--face pipeline --work crowd", false),
            ("--face events --work W2 --transport tls", true),
            ("--face events --work crowd --clients 3", true),
            ("--face events --work W3 --wire node-ipc", true),
            ("--face events --work W2 --capacity 63", false),
            ("--face events --work W3 --capacity 1", true),
            ("--face events --work W3 --batch 2", false),
            ("--face events --work W3 --size 65", false),
            ("--face events --work W4a", false),
            ("--face events --work M1", false),
            ("--face events --work W1 --transport udp", false),
            ("--face events --work W1 --transport stdio", false),
        ] {
            assert_eq!(parse(line).unwrap().plan.check().is_ok(), fits, "{line}");
        }
    }
}
