//! Both sides of a trunk, and one side with a peer by hand.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use ipc_pipeline::{
    link::Greeting,
    protocol::{DeliveryMode, Hello, PREAMBLE_LEN, SessionId, Welcome},
    trunk::{self, Trunk, TrunkDriver, TrunkEnd},
};
use ipc_transport::{
    ConnectOptions, Connection, ConnectionInfo, Endpoint, ListenOptions, PeerIdentity, ReadHalf, Transport,
    WriteHalf,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, duplex, split},
    task::JoinHandle,
};

pub(crate) const LONG: Duration = Duration::from_secs(20);

/// The most that one chunk carries.
pub(crate) const MAX_CHUNK: usize = 64 * 1024;

/// A trunk whose driver is a task.
pub(crate) struct Side {
    pub(crate) trunk: Trunk,
    pub(crate) driver: JoinHandle<TrunkEnd>,
}

impl Side {
    pub(crate) fn new((trunk, driver): (Trunk, TrunkDriver)) -> Self {
        Self { trunk, driver: tokio::spawn(driver) }
    }

    /// The halves of one lane.
    pub(crate) fn lane(&self, lane: u8) -> (ReadHalf, WriteHalf) {
        let (reader, writer, _) = self.trunk.lane(lane).expect("nobody had it").into_parts();
        (reader, writer)
    }
}

pub(crate) fn info() -> ConnectionInfo {
    let at = Endpoint::new("direct", "here").unwrap();
    ConnectionInfo::new(at.clone(), at, PeerIdentity::Unknown)
}

pub(crate) fn welcome() -> Welcome {
    Welcome {
        incarnation: 7,
        received: 0,
        released: 0,
        max_values: 0,
        max_bytes: 0,
        unknown_session: false,
        restated: false,
        ticked: false,
    }
}

/// The two ends of a fresh connection, the dialler's first.
pub(crate) async fn connections(transport: &impl Transport, at: &Endpoint) -> (Connection, Connection) {
    let mut listener = transport.listen(at, &ListenOptions::default()).await.unwrap();
    let to = listener.local_endpoint().clone();
    let options = ConnectOptions::default();
    let accepting = async { listener.accept().await.unwrap().establish().await.unwrap() };
    let (dialled, accepted) = tokio::join!(transport.connect(&to, &options), accepting);
    (dialled.unwrap(), accepted)
}

/// A connection in memory that holds so many bytes each way.
pub(crate) fn pipe(bytes: usize) -> (Connection, Connection) {
    let connection = |stream| {
        let (reader, writer) = split(stream);
        Connection::from_bytes(reader, writer, info())
    };
    let (ours, theirs) = duplex(bytes);
    (connection(ours), connection(theirs))
}

/// Greets over these connections; nobody drives the trunk as yet.
pub(crate) async fn greeted(
    (dialled, accepted): (Connection, Connection),
    lanes: u8,
) -> io::Result<[(Trunk, TrunkDriver); 2]> {
    let hello = Hello::new(SessionId::from_bits(1), "raw");
    let accepting = async {
        let greeting = Greeting::read(accepted, LONG).await?;
        trunk::accept(greeting, welcome(), lanes, LONG).await
    };
    let (dialled, accepted) = tokio::join!(trunk::dial(dialled, hello, lanes, LONG), accepting);
    let (trunk, driver, _) = dialled.map_err(|_| io::ErrorKind::NotConnected)?;
    Ok([(trunk, driver), accepted?])
}

/// Both sides of a trunk over these connections, driven.
pub(crate) async fn sides(connections: (Connection, Connection), lanes: u8) -> [Side; 2] {
    greeted(connections, lanes).await.unwrap().map(Side::new)
}

/// One side of a trunk over a connection of the test's, and nobody at the other end of it.
pub(crate) async fn alone(
    reader: impl AsyncRead + Send + Unpin + 'static,
    writer: impl AsyncWrite + Send + Unpin + 'static,
    lanes: u8,
) -> (Trunk, TrunkDriver) {
    let mut hello = Hello::new(SessionId::from_bits(1), "raw");
    hello.delivery = DeliveryMode::Lanes;
    let reader = io::Cursor::new(hello.encode().unwrap()).chain(reader);
    let greeting = Greeting::read(Connection::from_bytes(reader, writer, info()), LONG).await.unwrap();
    trunk::accept(greeting, welcome(), lanes, LONG).await.unwrap()
}

/// One side of a trunk, and the bytes at the other end of a pipe of so many.
pub(crate) async fn by_hand(lanes: u8, bytes: usize) -> (Trunk, TrunkDriver, ReadHalf, WriteHalf) {
    let (ours, theirs) = pipe(bytes);
    let (mut reader, mut writer, _) = theirs.into_parts();
    let mut hello = Hello::new(SessionId::from_bits(1), "raw");
    hello.delivery = DeliveryMode::Lanes;
    let hello = hello.encode().unwrap();
    let telling = async {
        writer.write_all(&hello).await.unwrap();
        let mut preamble = [0; PREAMBLE_LEN];
        reader.read_exact(&mut preamble).await.unwrap();
        let fields = u16::from_le_bytes([preamble[6], preamble[7]]);
        reader.read_exact(&mut vec![0; fields.into()]).await.unwrap();
    };
    let accepting = async {
        let greeting = Greeting::read(ours, LONG).await.unwrap();
        trunk::accept(greeting, welcome(), lanes, LONG).await.unwrap()
    };
    let ((trunk, driver), ()) = tokio::join!(accepting, telling);
    (trunk, driver, reader, writer)
}

/// A chunk of a lane.
pub(crate) fn chunk(lane: u8, bytes: &[u8]) -> Vec<u8> {
    [&header(lane, bytes.len())[..], bytes].concat()
}

pub(crate) fn header(lane: u8, len: usize) -> [u8; 4] {
    let [a, b, c, _] = (len as u32).to_le_bytes();
    [a, b, c, lane]
}

/// The next chunk that a trunk wrote.
pub(crate) async fn read_chunk(reader: &mut ReadHalf) -> (u8, Vec<u8>) {
    let mut header = [0; 4];
    reader.read_exact(&mut header).await.unwrap();
    let [a, b, c, lane] = header;
    let mut bytes = vec![0; u32::from_le_bytes([a, b, c, 0]) as usize];
    reader.read_exact(&mut bytes).await.unwrap();
    (lane, bytes)
}

/// Bytes that tell their lane and place.
pub(crate) fn pattern(lane: u8, len: usize) -> Vec<u8> {
    (0..len).map(|index| (index / 7 + index / 65_536) as u8 ^ lane.wrapping_mul(37)).collect()
}

/// Polls once: what came of it, if anything did.
pub(crate) async fn poll_once<F: Future>(mut future: Pin<&mut F>) -> Option<F::Output> {
    std::future::poll_fn(|cx| match future.as_mut().poll(cx) {
        Poll::Ready(outcome) => Poll::Ready(Some(outcome)),
        Poll::Pending => Poll::Ready(None),
    })
    .await
}

/// A reading half on which nothing ever comes.
pub(crate) struct Silence;

impl AsyncRead for Silence {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        _: &mut tokio::io::ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Poll::Pending
    }
}
