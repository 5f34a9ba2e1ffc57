//! Faces over datagrams, `raw` and `best-effort`: numbered values, of which some may be lost, and none is waited for for ever.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    ops::{Range, RangeInclusive},
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};
use futures_util::{SinkExt as _, sink::drain, stream::pending};
use ipc_pipeline::{
    best_effort::{Outgoing, Receiver, ReceiverConfig, SenderConfig, Sources},
    protocol::DATAGRAM_HEADER_LEN,
};
use ipc_transport::{
    Datagram, DatagramAddress, DatagramReader, DatagramSocket, DatagramTransport as _, DatagramWriter,
    Endpoint, Raw, UdpTransport,
};
use tokio::time::timeout;

use super::{
    cli::{Face, PeerRole, Plan},
    figures::{Figures, cpu_time},
    flow::WARM_UP,
    measure::{Peer, Run},
    peer,
};

/// The sizes that a value may have: its number must fit, and it must fit into a datagram.
pub(crate) const SIZES: RangeInclusive<usize> = 8..=UdpTransport::MAX_PAYLOAD_CAP - DATAGRAM_HEADER_LEN;

/// The client's side.
pub(crate) async fn client(run: &Run<'_>) -> io::Result<Figures> {
    let plan = run.plan.clone();
    let (peer, _) = Peer::start(run).await?;
    let address: SocketAddr = peer.address.parse().map_err(io::Error::other)?;
    let task = match plan.face {
        Face::BestEffort => tokio::spawn(time(Pipelines::open(Some(address), &plan).await?, plan, peer)),
        _ => tokio::spawn(time(Socket::open(address, &plan).await?, plan, peer)),
    };
    task.await.map_err(io::Error::other)?
}

/// The peer's side: answers what arrives, or counts it, until it is told that this was all.
pub(crate) async fn peer(role: &PeerRole) -> io::Result<()> {
    let plan = role.plan.clone();
    let task = match plan.face {
        Face::BestEffort => {
            let way = Pipelines::open(None, &plan).await?;
            peer::ready(&plan, way.receiver.local_endpoint().address())?;
            tokio::spawn(serve(way, plan))
        }
        _ => {
            let way = Socket::open(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), &plan).await?;
            peer::ready(&plan, &way.local)?;
            tokio::spawn(serve(way, plan))
        }
    };
    task.await.map_err(io::Error::other)?
}

/// Numbers, each way; some get lost.
trait Way: Send + 'static {
    /// Sends to the other side; the peer, to whoever spoke to it last.
    fn send(&mut self, number: u64) -> impl Future<Output = io::Result<()>> + Send;

    /// The next number.
    fn receive(&mut self) -> impl Future<Output = io::Result<u64>> + Send;
}

async fn time(mut way: impl Way, plan: Plan, mut peer: Peer) -> io::Result<Figures> {
    let is_two_way = plan.work.in_flight().is_some();
    if is_two_way {
        round_trips(&mut way, 0..WARM_UP).await?;
    }
    let (start, before) = (Instant::now(), cpu_time());
    let (mut times, mut lost) = (Vec::new(), 0);
    if is_two_way {
        (times, lost) = round_trips(&mut way, WARM_UP..WARM_UP + plan.count()).await?;
    } else {
        for number in 0..plan.count() {
            way.send(number).await?;
        }
    }
    let took = start.elapsed();
    // Also the last word may be lost, so it is said until there is an answer to it.
    let (cpu, arrived) = loop {
        way.send(END).await?;
        if let Ok(report) = timeout(LAST_WORD, peer.report()).await {
            break report?;
        }
    };
    let took = if is_two_way { took } else { start.elapsed() };
    let cpu = cpu_time() - before + cpu;
    peer.end().await?;
    if !is_two_way {
        lost = plan.count().saturating_sub(arrived);
    }
    Ok(Figures::new(&plan, true, took, cpu, times).with_lost(lost))
}

async fn serve(mut way: impl Way, plan: Plan) -> io::Result<()> {
    let (before, mut arrived) = (cpu_time(), 0);
    loop {
        let number = way.receive().await?;
        if number == END {
            return peer::done(&plan, cpu_time() - before, arrived);
        }
        arrived += 1;
        if plan.work.in_flight().is_some() {
            way.send(number).await?;
        }
    }
}

/// The time of each round trip, and how many values were sent again because no answer came in time.
async fn round_trips(way: &mut impl Way, numbers: Range<u64>) -> io::Result<(Vec<u64>, u64)> {
    let (mut times, mut lost) = (Vec::new(), 0);
    for number in numbers {
        let start = Instant::now();
        while !round_trip(way, number).await? {
            lost += 1;
        }
        times.push(u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX));
    }
    Ok((times, lost))
}

/// Whether the answer came before the deadline.
async fn round_trip(way: &mut impl Way, number: u64) -> io::Result<bool> {
    way.send(number).await?;
    let answer = async {
        // A late answer to something earlier is passed over.
        while way.receive().await? != number {}
        Ok(true)
    };
    timeout(DEADLINE, answer).await.unwrap_or(Ok(false))
}

/// A payload that begins with its number.
#[derive(Default)]
struct Payloads {
    space: BytesMut,
    size: usize,
}

impl Payloads {
    fn make(&mut self, number: u64) -> Bytes {
        self.space.extend_from_slice(&number.to_le_bytes());
        self.space.resize(self.size, 0);
        self.space.split().freeze()
    }

    fn number(payload: &[u8]) -> Option<u64> {
        payload.first_chunk().map(|number| u64::from_le_bytes(*number))
    }
}

async fn bind(max_payload: usize) -> io::Result<DatagramSocket> {
    let at = Endpoint::new("udp", "127.0.0.1:0").expect("it is an address and a port");
    UdpTransport::new().max_payload(max_payload).bind(&at).await.map_err(io::Error::other)
}

/// A bare socket with somebody on the other side.
struct Socket {
    reader: DatagramReader,
    writer: DatagramWriter,
    local: String,
    other: DatagramAddress,
    payloads: Payloads,
}

impl Socket {
    async fn open(other: SocketAddr, plan: &Plan) -> io::Result<Self> {
        let socket = bind(plan.size()).await?;
        let local = socket.local_endpoint().address().to_owned();
        let (reader, writer) = socket.into_parts();
        let payloads = Payloads { size: plan.size(), ..Payloads::default() };
        Ok(Self { reader, writer, local, other: other.into(), payloads })
    }
}

impl Way for Socket {
    async fn send(&mut self, number: u64) -> io::Result<()> {
        let datagram = Datagram { payload: self.payloads.make(number), peer: self.other.clone() };
        self.writer.send(datagram).await.map_err(io::Error::other)
    }

    async fn receive(&mut self) -> io::Result<u64> {
        loop {
            let datagram = self.reader.recv().await.ok_or(io::ErrorKind::UnexpectedEof)?;
            let datagram = datagram.map_err(io::Error::other)?;
            self.other = datagram.peer;
            if let Some(number) = Payloads::number(&datagram.payload) {
                return Ok(number);
            }
        }
    }
}

/// A best-effort pipeline each way, through the two halves of one socket.
struct Pipelines {
    outgoing: Outgoing<Bytes>,
    receiver: Receiver<Bytes>,
    payloads: Payloads,
    /// Whether it is known where to send to.
    leads: bool,
    sent: u64,
}

impl Pipelines {
    async fn open(other: Option<SocketAddr>, plan: &Plan) -> io::Result<Self> {
        let socket = bind(plan.size() + DATAGRAM_HEADER_LEN).await?;
        let (local, max) = (socket.local_endpoint().clone(), socket.max_payload());
        let (reader, writer) = socket.into_parts();
        let reading =
            DatagramSocket::new(reader, drain().sink_map_err(|error| match error {}), local.clone(), max);
        let writing = DatagramSocket::new(pending(), writer, local, max);
        let (mut sender, mut receiver) = (SenderConfig::default(), ReceiverConfig::default());
        (sender.capacity, receiver.capacity) = (plan.capacity, plan.capacity);
        receiver.sources = Sources::Anybody;
        let outgoing = Outgoing::new(writing, sender, Raw).map_err(io::Error::other)?;
        let receiver = Receiver::new(reading, receiver, Raw).map_err(io::Error::other)?;
        outgoing.lead_to(other.map(Into::into));
        let payloads = Payloads { size: plan.size(), ..Payloads::default() };
        Ok(Self { outgoing, receiver, payloads, leads: other.is_some(), sent: 0 })
    }
}

impl Way for Pipelines {
    async fn send(&mut self, number: u64) -> io::Result<()> {
        if !self.leads {
            let address = self.receiver.sources().into_iter().find_map(|source| source.address);
            self.leads = self.outgoing.lead_to(address).is_some();
        }
        self.outgoing.send(self.payloads.make(number)).map_err(io::Error::other)?;
        self.sent += 1;
        // A sender that never yields leaves no time to the task that sends.
        if self.sent.is_multiple_of(YIELD_EVERY) {
            tokio::task::yield_now().await;
        }
        Ok(())
    }

    async fn receive(&mut self) -> io::Result<u64> {
        loop {
            let received = self.receiver.recv().await.map_err(io::Error::other)?;
            if let Some(number) = Payloads::number(&received.value) {
                return Ok(number);
            }
        }
    }
}

/// Values between two chances for the task that sends.
const YIELD_EVERY: u64 = 32;

/// How long to wait for an answer: far more than one takes on this machine, so that hardly any is repeated in vain.
const DEADLINE: Duration = Duration::from_millis(200);

/// How long to wait before the end is said again: short, as the clock of a one-way stream still runs.
const LAST_WORD: Duration = Duration::from_millis(1);

/// The number that stands for "this was all".
const END: u64 = u64::MAX;
