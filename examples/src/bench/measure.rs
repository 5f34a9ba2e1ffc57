//! The client process: starts the peer, runs the workload against it, and prints the figures.

use std::{
    env, io,
    process::Stdio,
    time::{Duration, Instant},
};

use ipc_transport::{ReadHalf, WriteHalf};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncRead, BufReader, Join, Lines},
    net::{TcpStream, UnixStream},
    process::{Child, Command},
};

use super::{
    certificates,
    cli::{Face, Pin, Plan, Work},
    crowd, datagram, events,
    feed::Feed,
    figures::{Figures, cpu_time},
    flow::{self, Flow, WARM_UP},
    link,
    peer::{DONE, READY},
    place, port, queue,
    raw::Raw,
    socket::Socket,
    wire::{CLIENT, PEER, Site, Wire},
};
use crate::directory::RunDirectory;

/// Runs the program.
pub(crate) fn run(plan: &Plan) -> io::Result<()> {
    let cores = place::cores(plan)?;
    // Two ends in one process can share a core; a core each is what they have anyway.
    let stays = plan.face.is_in_process() && plan.pin == Pin::Cross;
    place::pin_to(cores.filter(|_| !stays).map(|[client, _]| client))?;
    let run = Run { plan, directory: RunDirectory::create("ipc-bench")?, core: cores.map(|[_, peer]| peer) };
    let figures = place::runtime(plan)?.block_on(async {
        match (plan.face, plan.transport) {
            (Face::AsyncChannel | Face::Kanal | Face::Queue | Face::TokioMpsc, _) => queue::run(plan).await,
            (Face::Events, _) if plan.work == Work::Crowd => crowd::client(&run).await,
            (Face::Events, _) => events::client(&run).await,
            (Face::BestEffort, _) | (_, Wire::Udp) => datagram::client(&run).await,
            (Face::Raw | Face::Feed, Wire::Unix) => bare::<UnixStream>(&run).await,
            (Face::Raw | Face::Feed, Wire::Tcp) => bare::<TcpStream>(&run).await,
            (Face::Raw | Face::Feed, Wire::Stdio | Wire::Tls) => {
                bare::<Join<ReadHalf, WriteHalf>>(&run).await
            }
            (Face::Pipeline, _) => link::client(&run).await,
            (Face::Port, _) => port::client(&run).await,
        }
    })?;
    figures.print()
}

/// One run of the program.
#[derive(Debug)]
pub(crate) struct Run<'a> {
    pub(crate) plan: &'a Plan,
    pub(crate) directory: RunDirectory,
    /// The peer's core.
    core: Option<usize>,
}

async fn bare<S: Socket>(run: &Run<'_>) -> io::Result<Figures> {
    let plan = run.plan;
    let (peer, site) = Peer::start(run).await?;
    let socket = S::connect(&site, &peer.address).await?;
    match plan.face {
        Face::Feed => measure(Feed::new(socket, plan.size()), plan.clone(), peer).await,
        _ => measure(Raw::new(socket, plan.size()), plan.clone(), peer).await,
    }
}

/// Runs the client's side of the workload in a task of its own, as programs do.
pub(crate) async fn measure<F: Flow>(flow: F, plan: Plan, peer: Peer) -> io::Result<Figures> {
    tokio::spawn(time(flow, plan, peer)).await.map_err(io::Error::other)?
}

async fn time<F: Flow>(mut flow: F, plan: Plan, mut peer: Peer) -> io::Result<Figures> {
    if let Some(in_flight) = plan.work.in_flight() {
        flow::round_trips(&mut flow, 0..WARM_UP, in_flight).await?;
    }
    let (start, before) = (Instant::now(), cpu_time());
    let (took, times, peer_cpu);
    if let Some(in_flight) = plan.work.in_flight() {
        let numbers = WARM_UP..WARM_UP + plan.count();
        times = flow::round_trips(&mut flow, numbers, in_flight).await?;
        took = start.elapsed();
        peer_cpu = peer.done().await?;
    } else {
        times = Vec::new();
        flow::stream_out(&mut flow, &plan).await?;
        peer_cpu = peer.done().await?;
        took = start.elapsed();
    }
    let cpu = cpu_time() - before + peer_cpu;
    flow.finish().await?;
    peer.end().await?;
    Ok(Figures::new(&plan, true, took, cpu, times))
}

/// The peer process, as the client sees it.
pub(crate) struct Peer {
    child: Child,
    lines: Lines<BufReader<Box<dyn AsyncRead + Send + Unpin>>>,
    /// Where it listens.
    pub(crate) address: String,
}

impl Peer {
    /// Starts the peer and waits until it listens; also returns the client's view of what joins them.
    pub(crate) async fn start(run: &Run<'_>) -> io::Result<(Self, Site)> {
        let (wire, directory) = (run.plan.transport, run.directory.path());
        let ports = wire.free_ports()?;
        if wire == Wire::Tls {
            certificates::issue(directory, [CLIENT, PEER])?;
        }
        let mut command = Command::new(env::current_exe()?);
        command
            .arg("__peer")
            .args(run.plan.arguments())
            .args(run.core.iter().flat_map(|core| ["--core".to_owned(), core.to_string()]))
            .arg("--directory")
            .arg(directory)
            .args(["--client-port", &ports[0].to_string(), "--peer-port", &ports[1].to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true);
        if wire == Wire::Stdio {
            command.stdin(Stdio::piped()).stderr(Stdio::piped());
        }
        let mut child = command.spawn()?;
        let stdout = child.stdout.take().expect("standard output was asked to be a pipe");
        let (lines, pipes): (Box<dyn AsyncRead + Send + Unpin>, _) =
            match (child.stdin.take(), child.stderr.take()) {
                (Some(stdin), Some(stderr)) => {
                    (Box::new(stderr), Some([stdout.into_owned_fd()?, stdin.into_owned_fd()?]))
                }
                _ => (Box::new(stdout), None),
            };
        let site = Site::of_client(wire, directory, ports, pipes)?;
        let mut peer = Self { child, lines: BufReader::new(lines).lines(), address: String::new() };
        peer.address = peer.line(READY).await?;
        Ok((peer, site))
    }

    /// Waits until the peer has taken everything; returns the processor time it used for that.
    async fn done(&mut self) -> io::Result<Duration> {
        Ok(self.report().await?.0)
    }

    /// The same, and how many values arrived. Cancel safe.
    pub(crate) async fn report(&mut self) -> io::Result<(Duration, u64)> {
        let line = self.line(DONE).await?;
        let (nanos, arrived) = line.split_once(' ').ok_or(io::ErrorKind::InvalidData)?;
        let nanos = nanos.parse().map(Duration::from_nanos).map_err(io::Error::other)?;
        Ok((nanos, arrived.parse().map_err(io::Error::other)?))
    }

    /// Waits until the peer has ended, and well.
    pub(crate) async fn end(mut self) -> io::Result<()> {
        let status = self.child.wait().await?;
        if status.success() { Ok(()) } else { Err(io::Error::other(format!("the peer failed: {status}"))) }
    }

    async fn line(&mut self, start: &str) -> io::Result<String> {
        let line = self.lines.next_line().await?.unwrap_or_default();
        let rest = line.strip_prefix(start).map(str::to_owned);
        rest.ok_or_else(|| io::Error::other(format!("the peer ended before it said {start}: {line}")))
    }
}
