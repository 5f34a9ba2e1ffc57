//! The face `pipeline`: a link each way, straight over connections, without nodes or names.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use ipc_pipeline::link::{
    Connector, Greeting, Intake, LinkConfig, LinkNames, OutgoingLink, Receiver, ReceiverConfig, RecvError,
};
use ipc_transport::{
    Bincode, ConnectOptions, Connection, Decoder, Encoder, Endpoint, Error, ListenOptions, Listener, Raw,
    Transports,
};

use super::{
    cli::{PeerRole, Plan},
    figures::Figures,
    flow::Flow,
    measure::{self, Peer, Run},
    peer,
    value::{Message, VALUE_SIZE, Value},
};
use crate::joint::Joint;

/// The client's side.
pub(crate) async fn client(run: &Run<'_>) -> io::Result<Figures> {
    let joint = run.plan.transport;
    let tcp_ports = [joint.free_port()?, joint.free_port()?];
    let process = Peer::start(run, tcp_ports).await?;
    let [own, other] = endpoints(joint, run.directory.path(), tcp_ports)?;
    if run.plan.size() == VALUE_SIZE {
        let flow = Links::<Value>::open(run.plan, own, other, Bincode::default()).await?;
        measure::measure(flow.connected().await?, run.plan.clone(), process).await
    } else {
        let flow = Links::<Bytes>::open(run.plan, own, other, Raw).await?;
        measure::measure(flow.connected().await?, run.plan.clone(), process).await
    }
}

/// The peer's side.
pub(crate) async fn peer(role: &PeerRole) -> io::Result<()> {
    let tcp_ports = [role.client_port, role.peer_port];
    let [other, own] = endpoints(role.plan.transport, &role.directory, tcp_ports)?;
    let address = own.to_string();
    if role.plan.size() == VALUE_SIZE {
        let flow = Links::<Value>::open(&role.plan, own, other, Bincode::default()).await?;
        peer::ready(&address)?;
        peer::serve(flow, role.plan.clone()).await
    } else {
        let flow = Links::<Bytes>::open(&role.plan, own, other, Raw).await?;
        peer::ready(&address)?;
        peer::serve(flow, role.plan.clone()).await
    }
}

/// Where client and peer listen.
fn endpoints(joint: Joint, directory: &Path, tcp_ports: [u16; 2]) -> io::Result<[Endpoint; 2]> {
    let tcp = |port| Endpoint::tcp(SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    Ok(match joint {
        Joint::Tcp => tcp_ports.map(tcp),
        Joint::Unix => [
            Endpoint::unix(directory.join("client.sock")).map_err(io::Error::other)?,
            Endpoint::unix(directory.join("peer.sock")).map_err(io::Error::other)?,
        ],
    })
}

/// One process's ends: a link out and a link in.
struct Links<M: Message> {
    out: OutgoingLink<M>,
    incoming: Receiver<M>,
    stock: M::Stock,
    one_by_one: bool,
    taken: Vec<M>,
}

impl<M: Message> Links<M> {
    async fn open<C>(plan: &Plan, own: Endpoint, other: Endpoint, codec: C) -> io::Result<Self>
    where
        C: Encoder<M> + Decoder<M> + Clone,
    {
        let transports = Transports::default();
        let listener = transports.listen(&own, &ListenOptions::default()).await.map_err(io::Error::other)?;
        let incoming = Receiver::new(ReceiverConfig::default(), codec.clone());
        tokio::spawn(accept(listener, incoming.intake()));
        let mut config = LinkConfig::default();
        config.capacity = plan.capacity;
        let out = OutgoingLink::new(config, codec);
        let names = LinkNames::new(("bench", own.address()), ("bench", other.address()));
        out.connect(Arc::new(Dial { transports, to: other }), names).map_err(io::Error::other)?;
        let one_by_one = plan.batch() == 1;
        Ok(Self { out, incoming, stock: M::stock(plan.size()), one_by_one, taken: Vec::new() })
    }

    async fn connected(self) -> io::Result<Self> {
        self.out.connected().await.map_err(io::Error::other)?;
        Ok(self)
    }
}

/// Takes connections in until the receiver is gone.
async fn accept(mut listener: Box<dyn Listener>, intake: Intake) {
    while !intake.is_gone() {
        let Ok(incoming) = listener.accept().await else { return };
        let intake = intake.clone();
        tokio::spawn(async move {
            let Ok(connection) = incoming.establish().await else { return };
            if let Ok(greeting) = Greeting::read(connection, DEADLINE).await {
                // A greeting that comes back is dropped, which hangs up.
                drop(intake.accept(greeting).await);
            }
        });
    }
}

/// Dials one endpoint.
#[derive(Debug)]
struct Dial {
    transports: Transports,
    to: Endpoint,
}

#[async_trait]
impl Connector for Dial {
    async fn connect(&self) -> Result<Connection, Error> {
        self.transports.connect(&self.to, &ConnectOptions::default()).await
    }
}

impl<M: Message> Flow for Links<M> {
    async fn send(&mut self, from: u64, count: u64) -> io::Result<()> {
        let sender = self.out.sender();
        if self.one_by_one {
            for number in from..from + count {
                sender.send(M::make(&self.stock, number)).await.map_err(io::Error::other)?;
            }
            return Ok(());
        }
        let stock = self.stock.clone();
        let values = (from..from + count).map(move |number| M::make(&stock, number));
        sender.send_many(values).await.map_err(io::Error::other)?;
        Ok(())
    }

    async fn receive(&mut self, next: u64, max: u64) -> io::Result<u64> {
        if self.one_by_one {
            let value = self.incoming.recv().await.map_err(io::Error::other)?;
            value.check(&self.stock, next)?;
            return Ok(1);
        }
        self.taken.clear();
        let max = usize::try_from(max).unwrap_or(usize::MAX);
        self.incoming.recv_many(&mut self.taken, max).await.map_err(io::Error::other)?;
        for (value, number) in self.taken.iter().zip(next..) {
            value.check(&self.stock, number)?;
        }
        Ok(self.taken.len() as u64)
    }

    async fn finish(self) -> io::Result<()> {
        self.out.close(DEADLINE).await.map_err(io::Error::other)
    }

    async fn wait_for_end(mut self) -> io::Result<()> {
        match self.incoming.recv().await {
            Err(RecvError::EndOfStream) => Ok(()),
            Err(error) => Err(io::Error::other(error)),
            Ok(_) => Err(io::Error::other("more arrived than was due")),
        }
    }
}

/// How long a handshake or an end may take.
const DEADLINE: Duration = Duration::from_secs(10);
