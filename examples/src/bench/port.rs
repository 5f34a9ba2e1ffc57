//! The face `port`: two nodes with a pipeline each way, through `ipc-ports`.

use std::{error::Error, io, time::Duration};

use bytes::Bytes;
use ipc_ports::{IncomingPort, Node, OutgoingPort, PortConfig, RecvError};
use ipc_transport::{Bincode, Decoder, Encoder, Raw};

use super::{
    cli::{PeerRole, Plan},
    figures::Figures,
    flow::Flow,
    measure::{self, Peer, Run},
    peer,
    value::{Message, VALUE_SIZE, Value},
    wire::{CLIENT, PEER, Site},
};

/// The client's side.
pub(crate) async fn client(run: &Run<'_>) -> io::Result<Figures> {
    let (process, site) = Peer::start(run).await?;
    if run.plan.size() == VALUE_SIZE {
        let flow = Ports::<Value>::open(run.plan, &site, (CLIENT, PEER), Bincode::default()).await?;
        flow.connected().await?;
        measure::measure(flow, run.plan.clone(), process).await
    } else {
        let flow = Ports::<Bytes>::open(run.plan, &site, (CLIENT, PEER), Raw).await?;
        flow.connected().await?;
        measure::measure(flow, run.plan.clone(), process).await
    }
}

/// The peer's side.
pub(crate) async fn peer(role: &PeerRole) -> io::Result<()> {
    let site = Site::of_peer(role)?;
    if role.plan.size() == VALUE_SIZE {
        let flow = Ports::<Value>::open(&role.plan, &site, (PEER, CLIENT), Bincode::default()).await?;
        peer::ready(&role.plan, PEER)?;
        peer::serve(flow, role.plan.clone()).await
    } else {
        let flow = Ports::<Bytes>::open(&role.plan, &site, (PEER, CLIENT), Raw).await?;
        peer::ready(&role.plan, PEER)?;
        peer::serve(flow, role.plan.clone()).await
    }
}

/// A node with its two ports.
struct Ports<M: Message> {
    node: Node,
    out: OutgoingPort<M>,
    incoming: IncomingPort<M>,
    stock: M::Stock,
    one_by_one: bool,
    taken: Vec<M>,
}

impl<M: Message> Ports<M> {
    async fn open<C>(plan: &Plan, site: &Site, (own, other): (&str, &str), codec: C) -> io::Result<Self>
    where
        C: Encoder<M> + Decoder<M> + Clone,
    {
        let node = Node::start(site.node(own)?).await.map_err(other_error)?;
        let config = PortConfig::new().capacity(plan.capacity.get());
        let incoming = node.incoming_codec(IN, config.clone(), codec.clone()).map_err(other_error)?;
        let out = node.outgoing_codec(OUT, config, codec).map_err(other_error)?;
        // The peer answers round trips and has nothing to say otherwise.
        if own == CLIENT || plan.work.in_flight().is_some() {
            out.connect(other, IN).map_err(other_error)?;
        }
        let one_by_one = plan.batch() == 1;
        let stock = M::stock(plan.size());
        Ok(Self { node, out, incoming, stock, one_by_one, taken: Vec::new() })
    }

    async fn connected(&self) -> io::Result<()> {
        self.out.connected().await.map_err(other_error)
    }
}

impl<M: Message + std::fmt::Debug> Flow for Ports<M> {
    async fn send(&mut self, from: u64, count: u64) -> io::Result<()> {
        if self.one_by_one {
            for number in from..from + count {
                self.out.send(M::make(&self.stock, number)).await.map_err(other_error)?;
            }
            return Ok(());
        }
        let stock = self.stock.clone();
        let values = (from..from + count).map(move |number| M::make(&stock, number));
        self.out.send_many(values).await.map_err(other_error)?;
        Ok(())
    }

    async fn receive(&mut self, next: u64, max: u64) -> io::Result<u64> {
        if self.one_by_one {
            let value = self.incoming.recv().await.map_err(other_error)?;
            value.check(&self.stock, next)?;
            return Ok(1);
        }
        self.taken.clear();
        let max = usize::try_from(max).unwrap_or(usize::MAX);
        self.incoming.recv_many(&mut self.taken, max).await.map_err(other_error)?;
        for (value, number) in self.taken.iter().zip(next..) {
            value.check(&self.stock, number)?;
        }
        Ok(self.taken.len() as u64)
    }

    async fn finish(self) -> io::Result<()> {
        self.out.close(DEADLINE).await.map_err(other_error)?;
        self.node.shutdown(DEADLINE).await.map_err(other_error)
    }

    async fn wait_for_end(mut self) -> io::Result<()> {
        match self.incoming.recv().await {
            Err(RecvError::EndOfStream) => Ok(()),
            Err(error) => Err(io::Error::other(error)),
            Ok(_) => Err(io::Error::other("more arrived than was due")),
        }
    }
}

fn other_error(error: impl Error + Send + Sync + 'static) -> io::Error {
    io::Error::other(error)
}

const IN: &str = "IN";
const OUT: &str = "OUT";

/// How long an end may take.
const DEADLINE: Duration = Duration::from_secs(10);
