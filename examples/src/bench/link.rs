//! The face `pipeline`: a link each way, straight over connections, without nodes or names.

use std::{io, sync::Arc, time::Duration};

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
    wire::Site,
};

/// The client's side.
pub(crate) async fn client(run: &Run<'_>) -> io::Result<Figures> {
    let (process, site) = Peer::start(run).await?;
    let [own, other] = site.endpoints()?;
    let ends = Ends { transports: site.transports(), own, other, dials: true };
    if run.plan.size() == VALUE_SIZE {
        let flow = Links::<Value>::open(run.plan, ends, Bincode::default()).await?;
        measure::measure(flow.connected().await?, run.plan.clone(), process).await
    } else {
        let flow = Links::<Bytes>::open(run.plan, ends, Raw).await?;
        measure::measure(flow.connected().await?, run.plan.clone(), process).await
    }
}

/// The peer's side.
pub(crate) async fn peer(role: &PeerRole) -> io::Result<()> {
    let site = Site::of_peer(role)?;
    let [other, own] = site.endpoints()?;
    let address = own.to_string();
    let ends =
        Ends { transports: site.transports(), own, other, dials: role.plan.work.in_flight().is_some() };
    if role.plan.size() == VALUE_SIZE {
        let flow = Links::<Value>::open(&role.plan, ends, Bincode::default()).await?;
        peer::ready(&role.plan, &address)?;
        peer::serve(flow, role.plan.clone()).await
    } else {
        let flow = Links::<Bytes>::open(&role.plan, ends, Raw).await?;
        peer::ready(&role.plan, &address)?;
        peer::serve(flow, role.plan.clone()).await
    }
}

/// Where one process listens, and where it dials, if it has something to say.
struct Ends {
    transports: Transports,
    own: Endpoint,
    other: Endpoint,
    dials: bool,
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
    async fn open<C>(plan: &Plan, ends: Ends, codec: C) -> io::Result<Self>
    where
        C: Encoder<M> + Decoder<M> + Clone,
    {
        let Ends { transports, own, other, dials } = ends;
        let listener = transports.listen(&own, &ListenOptions::default()).await.map_err(io::Error::other)?;
        let incoming = Receiver::new(ReceiverConfig::default(), codec.clone());
        tokio::spawn(accept(listener, incoming.intake()));
        let mut config = LinkConfig::default();
        config.capacity = plan.capacity;
        let out = OutgoingLink::new(config, codec);
        let names = LinkNames::new(("bench", own.address()), ("bench", other.address()));
        if dials {
            out.connect(Arc::new(Dial { transports, to: other }), names).map_err(io::Error::other)?;
        }
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
