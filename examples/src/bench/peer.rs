//! The peer process: says where it is, echoes or receives, and says what that cost.

use std::{
    io::{self, Write as _},
    time::Duration,
};

use tokio::net::{TcpStream, UnixStream};

use super::{
    cli::{Face, PeerRole, Plan},
    feed::Feed,
    figures::cpu_time,
    flow::{self, Flow},
    link, place, port,
    raw::Raw,
    socket::Socket,
};
use crate::joint::Joint;

/// The start of the line that says where the peer listens.
pub(crate) const READY: &str = "ready ";

/// The start of the line that says that everything was taken, and the processor time in nanoseconds.
pub(crate) const DONE: &str = "done ";

/// Runs the process.
pub(crate) fn run(role: &PeerRole) -> io::Result<()> {
    // The client never waits for the peer longer than it lives, and nor must the peer.
    #[cfg(target_os = "linux")]
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
    place::pin_to(role.core)?;
    place::runtime(&role.plan)?.block_on(async {
        match (role.plan.face, role.plan.transport) {
            (Face::Raw | Face::Feed, Joint::Unix) => bare::<UnixStream>(role).await,
            (Face::Raw | Face::Feed, Joint::Tcp) => bare::<TcpStream>(role).await,
            (Face::Pipeline, _) => link::peer(role).await,
            (Face::Port, _) => port::peer(role).await,
            (Face::AsyncChannel | Face::Kanal | Face::Queue | Face::TokioMpsc, _) => {
                Err(io::Error::new(io::ErrorKind::InvalidInput, "a queue has no peer process"))
            }
        }
    })
}

async fn bare<S: Socket>(role: &PeerRole) -> io::Result<()> {
    let (listener, address) = S::listen(&role.directory).await?;
    ready(&address)?;
    let socket = S::accept(listener).await?;
    let size = role.plan.size();
    match role.plan.face {
        Face::Feed => serve(Feed::new(socket, size), role.plan.clone()).await,
        _ => serve(Raw::new(socket, size), role.plan.clone()).await,
    }
}

/// Tells the client where this peer listens.
pub(crate) fn ready(address: &str) -> io::Result<()> {
    let mut stdout = io::stdout();
    writeln!(stdout, "{READY}{address}")?;
    stdout.flush()
}

/// Runs the peer's side of the workload in a task of its own, as programs do, and reports.
pub(crate) async fn serve<F: Flow>(mut flow: F, plan: Plan) -> io::Result<()> {
    let task = tokio::spawn(async move {
        let before = cpu_time();
        match plan.work.in_flight() {
            Some(in_flight) => flow::echo(&mut flow, &plan, in_flight).await?,
            None => flow::stream_in(&mut flow, &plan).await?,
        }
        done(cpu_time() - before)?;
        flow.wait_for_end().await
    });
    task.await.map_err(io::Error::other)?
}

fn done(cpu: Duration) -> io::Result<()> {
    let mut stdout = io::stdout();
    writeln!(stdout, "{DONE}{}", cpu.as_nanos())?;
    stdout.flush()
}
