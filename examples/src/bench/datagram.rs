//! The face `raw` over datagrams: numbered values, of which some may be lost, and none is waited for for ever.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};
use ipc_transport::{
    Datagram, DatagramAddress, DatagramReader, DatagramTransport as _, DatagramWriter, Endpoint, UdpTransport,
};
use tokio::time::timeout;

use super::{
    cli::{PeerRole, Plan},
    figures::{Figures, cpu_time},
    flow::WARM_UP,
    measure::{Peer, Run},
    peer,
};

/// The sizes that a value may have: its number must fit, and it must fit into a datagram.
pub(crate) const SIZES: std::ops::RangeInclusive<usize> = 8..=UdpTransport::MAX_PAYLOAD_CAP;

/// The client's side.
pub(crate) async fn client(run: &Run<'_>) -> io::Result<Figures> {
    let plan = run.plan.clone();
    let (peer, _) = Peer::start(run).await?;
    let address: SocketAddr = peer.address.parse().map_err(io::Error::other)?;
    let socket = Socket::open(address.into(), plan.size()).await?;
    tokio::spawn(time(socket, plan, peer)).await.map_err(io::Error::other)?
}

async fn time(mut socket: Socket, plan: Plan, mut peer: Peer) -> io::Result<Figures> {
    let round_trips = plan.work.in_flight().is_some();
    if round_trips {
        socket.round_trips(0..WARM_UP).await?;
    }
    let (start, before) = (Instant::now(), cpu_time());
    let (mut times, mut lost) = (Vec::new(), 0);
    if round_trips {
        (times, lost) = socket.round_trips(WARM_UP..WARM_UP + plan.count()).await?;
    } else {
        for number in 0..plan.count() {
            socket.send(number).await?;
        }
    }
    let took = start.elapsed();
    // Also the last word may be lost, so it is said until there is an answer to it.
    let (cpu, arrived) = loop {
        socket.send(END).await?;
        if let Ok(report) = timeout(LAST_WORD, peer.report()).await {
            break report?;
        }
    };
    let took = if round_trips { took } else { start.elapsed() };
    let cpu = cpu_time() - before + cpu;
    peer.end().await?;
    if !round_trips {
        lost = plan.count().saturating_sub(arrived);
    }
    Ok(Figures::new(&plan, true, took, cpu, times).with_lost(lost))
}

/// The peer's side: sends back what arrives, or counts it, until it is told that this was all.
pub(crate) async fn peer(role: &PeerRole) -> io::Result<()> {
    let plan = role.plan.clone();
    let mut socket = Socket::open(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into(), plan.size()).await?;
    peer::ready(&plan, &socket.local)?;
    let task = tokio::spawn(async move {
        let (before, mut arrived) = (cpu_time(), 0);
        loop {
            let (number, datagram) = socket.receive().await?;
            if number == END {
                return peer::done(&plan, cpu_time() - before, arrived);
            }
            arrived += 1;
            if plan.work.in_flight().is_some() {
                socket.writer.send(datagram).await.map_err(io::Error::other)?;
            }
        }
    });
    task.await.map_err(io::Error::other)?
}

/// A socket with somebody on the other side.
struct Socket {
    reader: DatagramReader,
    writer: DatagramWriter,
    local: String,
    other: DatagramAddress,
    space: BytesMut,
    size: usize,
}

impl Socket {
    async fn open(other: DatagramAddress, size: usize) -> io::Result<Self> {
        let udp = UdpTransport::new().max_payload(*SIZES.end());
        let at = Endpoint::new("udp", "127.0.0.1:0").expect("it is an address and a port");
        let socket = udp.bind(&at).await.map_err(io::Error::other)?;
        let local = socket.local_endpoint().address().to_owned();
        let (reader, writer) = socket.into_parts();
        Ok(Self { reader, writer, local, other, space: BytesMut::new(), size })
    }

    async fn send(&mut self, number: u64) -> io::Result<()> {
        let payload = self.payload(number);
        let datagram = Datagram { payload, peer: self.other.clone() };
        self.writer.send(datagram).await.map_err(io::Error::other)
    }

    fn payload(&mut self, number: u64) -> Bytes {
        self.space.extend_from_slice(&number.to_le_bytes());
        self.space.resize(self.size, 0);
        self.space.split().freeze()
    }

    /// The next datagram with a number.
    async fn receive(&mut self) -> io::Result<(u64, Datagram)> {
        loop {
            let datagram = self.reader.recv().await.ok_or(io::ErrorKind::UnexpectedEof)?;
            let datagram = datagram.map_err(io::Error::other)?;
            if let Some(&number) = datagram.payload.first_chunk() {
                return Ok((u64::from_le_bytes(number), datagram));
            }
        }
    }

    /// The time of each round trip, and how many datagrams were sent again because no answer came in time.
    async fn round_trips(&mut self, numbers: std::ops::Range<u64>) -> io::Result<(Vec<u64>, u64)> {
        let (mut times, mut lost) = (Vec::new(), 0);
        for number in numbers {
            let start = Instant::now();
            while !self.round_trip(number).await? {
                lost += 1;
            }
            times.push(u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX));
        }
        Ok((times, lost))
    }

    /// Whether the answer came before the deadline.
    async fn round_trip(&mut self, number: u64) -> io::Result<bool> {
        self.send(number).await?;
        let answer = async {
            // A late answer to something earlier is passed over.
            while self.receive().await?.0 != number {}
            Ok(true)
        };
        timeout(DEADLINE, answer).await.unwrap_or(Ok(false))
    }
}

/// How long to wait for an answer: far more than one takes on this machine, so that hardly any is repeated in vain.
const DEADLINE: Duration = Duration::from_millis(200);

/// How long to wait before the end is said again: short, as the clock of a one-way stream still runs.
const LAST_WORD: Duration = Duration::from_millis(1);

/// The number that stands for "this was all".
const END: u64 = u64::MAX;
