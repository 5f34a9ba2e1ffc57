//! The peer process: says where it is, echoes or receives, and says what that cost.

use std::{
    io::{self, Write as _},
    time::Duration,
};

use ipc_transport::{ReadHalf, WriteHalf};
use tokio::{
    io::Join,
    net::{TcpStream, UnixStream},
};

use super::{
    cli::{Face, PeerRole, Plan, Work},
    crowd, datagram, events,
    feed::Feed,
    figures::cpu_time,
    flow::{self, Flow},
    link, place, port,
    raw::Raw,
    socket::Socket,
    wire::{Site, Wire},
};

/// The start of the line that says where the peer listens.
pub(crate) const READY: &str = "ready ";

/// The start of the line that says that everything was taken, the processor time in nanoseconds, and the number of
/// values.
pub(crate) const DONE: &str = "done ";

/// Runs the process.
pub(crate) fn run(role: &PeerRole) -> io::Result<()> {
    // The client never waits for the peer longer than it lives, and nor must the peer.
    #[cfg(target_os = "linux")]
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
    place::pin_to(role.core)?;
    place::runtime(&role.plan)?.block_on(async {
        match (role.plan.face, role.plan.transport) {
            (Face::Events, _) if role.plan.work == Work::Crowd => crowd::peer(role).await,
            (Face::Events, _) => events::peer(role).await,
            (Face::BestEffort, _) | (_, Wire::Udp) => datagram::peer(role).await,
            (Face::Raw | Face::Feed, Wire::Unix) => bare::<UnixStream>(role).await,
            (Face::Raw | Face::Feed, Wire::Tcp) => bare::<TcpStream>(role).await,
            (Face::Raw | Face::Feed, Wire::Stdio | Wire::Tls) => {
                bare::<Join<ReadHalf, WriteHalf>>(role).await
            }
            (Face::Pipeline, _) => link::peer(role).await,
            (Face::Port, _) => port::peer(role).await,
            (Face::AsyncChannel | Face::Kanal | Face::Queue | Face::TokioMpsc, _) => {
                Err(io::Error::new(io::ErrorKind::InvalidInput, "a queue has no peer process"))
            }
        }
    })
}

async fn bare<S: Socket>(role: &PeerRole) -> io::Result<()> {
    let (listener, address) = S::listen(&Site::of_peer(role)?).await?;
    ready(&role.plan, &address)?;
    let socket = S::accept(listener).await?;
    let size = role.plan.size();
    match role.plan.face {
        Face::Feed => serve(Feed::new(socket, size), role.plan.clone()).await,
        _ => serve(Raw::new(socket, size), role.plan.clone()).await,
    }
}

/// Tells the client where this peer listens.
pub(crate) fn ready(plan: &Plan, address: &str) -> io::Result<()> {
    tell(plan, &format!("{READY}{address}"))
}

/// Runs the peer's side of the workload in a task of its own, as programs do, and reports.
pub(crate) async fn serve<F: Flow>(mut flow: F, plan: Plan) -> io::Result<()> {
    let task = tokio::spawn(async move {
        let before = cpu_time();
        match plan.work.in_flight() {
            Some(in_flight) => flow::echo(&mut flow, &plan, in_flight).await?,
            None => flow::stream_in(&mut flow, &plan).await?,
        }
        done(&plan, cpu_time() - before, plan.count())?;
        flow.wait_for_end().await
    });
    task.await.map_err(io::Error::other)?
}

/// Tells the client what this cost, and how many values arrived.
pub(crate) fn done(plan: &Plan, cpu: Duration, arrived: u64) -> io::Result<()> {
    tell(plan, &format!("{DONE}{} {arrived}", cpu.as_nanos()))
}

/// Says a line to the client: where standard output is the wire, on standard error.
fn tell(plan: &Plan, line: &str) -> io::Result<()> {
    if plan.transport == Wire::Stdio {
        return writeln!(io::stderr(), "{line}");
    }
    let mut stdout = io::stdout();
    writeln!(stdout, "{line}")?;
    stdout.flush()
}
