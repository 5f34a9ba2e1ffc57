//! Ends in a world of their own or on loopback, sockets that say anything, and a bound on every wait.

use std::time::Duration;

use ipc_channel::{
    Event, EventStream,
    events::{DatagramReply, Datagrams, DatagramsConfig, Wire},
};
use ipc_testkit::MemTransport;
use ipc_transport::{
    Datagram, DatagramAddress, DatagramReader, DatagramTransport, DatagramWriter, Endpoint, UdpTransport,
};

/// How long anything may take before the test fails: a watchdog, no figure.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// After which a datagram counts as lost, and is said again.
const AGAIN: Duration = Duration::from_millis(500);

/// Waits for something that must come.
pub(crate) async fn soon<F: Future>(what: &str, future: F) -> F::Output {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(output) => output,
        Err(_) => panic!("{what} did not come"),
    }
}

/// Lets the tasks of the ends run until this is so.
pub(crate) async fn until(what: &str, is_so: impl Fn() -> bool) {
    soon(what, async {
        while !is_so() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

/// Says something again and again until something is heard, as nothing else can be relied upon.
pub(crate) async fn ask<T>(
    say: impl Fn(),
    heard: &mut EventStream<T, DatagramReply>,
) -> (Event<T>, DatagramReply) {
    soon("an answer", async {
        loop {
            say();
            if let Ok(answer) = tokio::time::timeout(AGAIN, heard.next()).await {
                return answer.unwrap();
            }
        }
    })
    .await
}

pub(crate) fn mem(name: &str) -> Endpoint {
    Endpoint::new("mem", name).unwrap()
}

pub(crate) fn name(name: &str) -> DatagramAddress {
    DatagramAddress::Name(name.into())
}

pub(crate) fn config(world: &MemTransport, name: &str) -> DatagramsConfig {
    DatagramsConfig::new(mem(name)).transport(world.clone())
}

/// An end in this world, where nothing is lost that has room.
pub(crate) async fn end(world: &MemTransport, name: &str, wire: Wire) -> Datagrams {
    Datagrams::start(config(world, name).wire(wire)).await.unwrap()
}

/// An end on loopback, at a port of the system's choice.
pub(crate) async fn udp(at: &str, wire: Wire) -> Datagrams {
    Datagrams::start(DatagramsConfig::new(at.parse().unwrap()).wire(wire)).await.unwrap()
}

/// A socket without an end of ours behind it.
pub(crate) struct Bare {
    reader: DatagramReader,
    writer: DatagramWriter,
}

impl Bare {
    pub(crate) async fn mem(world: &MemTransport, name: &str) -> Self {
        Self::of(world, &mem(name)).await
    }

    pub(crate) async fn udp(at: &str) -> Self {
        let transport = UdpTransport::new().max_payload(UdpTransport::MAX_PAYLOAD_CAP);
        Self::of(&transport, &at.parse().unwrap()).await
    }

    async fn of(transport: &dyn DatagramTransport, at: &Endpoint) -> Self {
        let socket = transport.bind(at).await.unwrap();
        let (reader, writer) = socket.into_parts();
        Self { reader, writer }
    }

    pub(crate) async fn say(&mut self, to: &Endpoint, payload: impl Into<Vec<u8>>) {
        let peer = DatagramAddress::of(to).unwrap();
        let payload = payload.into().into();
        self.writer.send(Datagram { payload, peer }).await.unwrap();
    }

    pub(crate) async fn hear(&mut self) -> Vec<u8> {
        soon("a datagram", self.reader.recv()).await.unwrap().unwrap().payload.to_vec()
    }

    /// The next one if it has arrived already.
    pub(crate) fn heard(&mut self) -> Option<Vec<u8>> {
        use futures_util::FutureExt as _;
        self.reader.recv().now_or_never().map(|datagram| datagram.unwrap().unwrap().payload.to_vec())
    }
}

/// A native datagram with an event of this name, whose value is a text in JSON.
pub(crate) fn native(name: &str, text: &str, echo: u64) -> Vec<u8> {
    let mut bytes = vec![0xB1, b'E', b'D', 1, 1, 2];
    bytes.extend(u16::try_from(name.len()).unwrap().to_le_bytes());
    bytes.extend(7_u64.to_le_bytes());
    bytes.extend(echo.to_le_bytes());
    bytes.extend(name.as_bytes());
    bytes.extend(format!("\"{text}\"").as_bytes());
    bytes
}
