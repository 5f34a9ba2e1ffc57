//! The ports of the demonstration: all that it knows about `ipc-ports` stands here.

use std::time::Duration;

use ipc_ports::{
    AckMode, Delivery, IncomingPort, Node, NodeConfig, OutgoingPort, Permit, PortConfig, RecvError, Status,
};
use tokio::{
    runtime::{Builder, Runtime},
    sync::watch,
};

use super::{
    cli::Site,
    failure::Failure,
    lines::{Chunk, Counters},
};

/// The runtime of every child: one thread, as the work of a child is one flow.
pub(crate) fn runtime() -> Result<Runtime, Failure> {
    Builder::new_current_thread().enable_all().build().map_err(Failure::system("start a runtime"))
}

/// Starts a node; over TCP only the consumer's address has to be known to others.
async fn node(site: &Site, name: &str) -> Result<Node, Failure> {
    let table = [(CONSUMER, site.tcp_port), (name, 0)];
    let table = if name == CONSUMER { &table[..1] } else { &table[..] };
    let naming = site.transport.naming(&site.directory, table).map_err(Failure::port("set the naming up"))?;
    Node::start(NodeConfig::new(name).shared_naming(naming)).await.map_err(Failure::port("start the node"))
}

/// A producer's end.
#[derive(Debug)]
pub(crate) struct Outlet {
    node: Node,
    port: OutgoingPort<Chunk>,
}

/// Room for one chunk.
#[derive(Debug)]
pub(crate) struct Room<'a>(Permit<'a, Chunk>);

/// Tells whether a producer's link is connected.
#[derive(Debug)]
pub(crate) struct LinkWatch {
    status: watch::Receiver<Status>,
    linked: bool,
}

impl Outlet {
    /// Starts the producer's node and opens its pipeline; the consumer need not be there.
    pub(crate) async fn open(site: &Site, source: u16) -> Result<(Self, LinkWatch), Failure> {
        let node = node(site, &format!("producer{}", source + 1)).await?;
        let config = PortConfig::new().capacity(site.capacity.get());
        let port = node.outgoing_with(OUT, config).map_err(Failure::port("open the outgoing port"))?;
        let watch = LinkWatch { status: port.status(), linked: false };
        port.connect(CONSUMER, IN).map_err(Failure::port("connect the outgoing port"))?;
        Ok((Self { node, port }, watch))
    }

    /// Waits for room for one chunk. Cancel safe: nothing is at risk.
    pub(crate) async fn room(&self) -> Result<Room<'_>, Failure> {
        self.port.reserve().await.map(Room).map_err(Failure::port("get room in the pipeline"))
    }

    /// Values in the pipeline.
    pub(crate) fn pending(&self) -> u64 {
        self.port.pending() as u64
    }

    /// Drops the connection; the link is to notice and go on.
    pub(crate) fn cut(&self) {
        self.port.cut();
    }

    /// Closes the port once everything is acked, and then the node.
    pub(crate) async fn close(self) -> Result<Counters, Failure> {
        self.port.settled().await.map_err(Failure::port("deliver everything"))?;
        let counters = self.port.counters();
        self.port.close(DEADLINE).await.map_err(Failure::port("close the outgoing port"))?;
        self.node.shutdown(DEADLINE).await.map_err(Failure::port("shut the node down"))?;
        Ok(Counters { values: counters.accepted, resent: counters.resent, reconnects: counters.reconnects })
    }
}

impl Room<'_> {
    /// Sends the chunk: once this returns Ok it is accepted.
    pub(crate) fn send(self, chunk: Chunk) -> Result<(), Failure> {
        self.0.send(chunk).map_err(Failure::port("send a chunk"))
    }
}

impl LinkWatch {
    /// Completes when the link was connected or lost its connection, and says which. Cancel safe.
    pub(crate) async fn changed(&mut self) -> bool {
        loop {
            if self.status.changed().await.is_err() {
                // The port is closed, so nothing changes any more.
                std::future::pending::<()>().await;
            }
            let linked = matches!(*self.status.borrow_and_update(), Status::Connected);
            if std::mem::replace(&mut self.linked, linked) != linked {
                return linked;
            }
        }
    }

    /// Whether the link is connected now.
    pub(crate) fn is_linked(&self) -> bool {
        matches!(*self.status.borrow(), Status::Connected)
    }
}

/// The consumer's end.
#[derive(Debug)]
pub(crate) struct Inlet {
    node: Node,
    port: IncomingPort<Chunk>,
}

/// A chunk that was handed over and not yet acked.
#[derive(Debug)]
pub(crate) struct Taken(Delivery<Chunk>);

impl Inlet {
    /// Starts the consumer's node and opens its port, in explicit mode.
    pub(crate) async fn open(site: &Site) -> Result<Self, Failure> {
        let node = node(site, CONSUMER).await?;
        let config = PortConfig::new().ack_mode(AckMode::Explicit);
        let port = node.incoming_with(IN, config).map_err(Failure::port("open the incoming port"))?;
        Ok(Self { node, port })
    }

    /// Waits for chunks and takes some, at most `max`. Cancel safe: what was taken is in `into`.
    pub(crate) async fn take(&mut self, into: &mut Vec<Taken>, max: usize) -> Result<(), Failure> {
        loop {
            let mut deliveries = Vec::with_capacity(max);
            match self.port.recv_deliveries(&mut deliveries, max).await {
                Ok(_) => {
                    into.extend(deliveries.into_iter().map(Taken));
                    return Ok(());
                }
                // Every producer there is has closed; one that this life has not met yet may still come.
                Err(RecvError::EndOfStream) => {}
                Err(error) => return Err(Failure::port("take a chunk")(error)),
            }
        }
    }

    /// Closes the port and the node.
    pub(crate) async fn close(self) -> Result<(), Failure> {
        self.port.close().await;
        self.node.shutdown(DEADLINE).await.map_err(Failure::port("shut the node down"))
    }
}

impl Taken {
    /// The chunk.
    pub(crate) fn chunk(&self) -> &Chunk {
        &self.0
    }

    /// Whether an earlier life of the consumer may have been handed it.
    pub(crate) fn redelivered(&self) -> bool {
        self.0.redelivered()
    }

    /// Lets the producer forget it.
    pub(crate) fn ack(self) {
        self.0.ack();
    }
}

/// The consumer's process name.
const CONSUMER: &str = "consumer";

/// Its incoming port.
const IN: &str = "IN";

/// Each producer's outgoing port.
const OUT: &str = "OUT";

/// How long an end may take, a restart of the consumer included.
const DEADLINE: Duration = Duration::from_secs(30);
