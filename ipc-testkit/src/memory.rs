//! A transport within one process: addressable, bounded, refusable and deterministic under paused time.

mod datagram;
mod frames;
mod pipe;

use std::{
    collections::{BTreeMap, btree_map::Entry},
    fmt,
    num::NonZeroUsize,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use ipc_transport::{
    ConnectOptions, Connection, ConnectionInfo, DatagramSocket, DatagramTransport, Endpoint, Error, Incoming,
    ListenOptions, Listener, PeerIdentity, Transport,
};
use tokio::{
    sync::mpsc,
    time::{error::Elapsed, timeout},
};

pub use self::datagram::MemDatagramCounters;
use self::{
    datagram::{Network, Room},
    frames::{FrameSink, FrameStream},
    pipe::{PipeReader, PipeWriter},
};

/// Connections and datagrams within one process, at endpoints such as `mem:name`.
///
/// It is a transport like any other and passes the same conformance suite: listeners have names and bounded
/// backlogs, connections have bounded buffers and end by halves. Nothing in it sleeps, spawns or reads a clock, apart
/// from the deadline of a dialler that meets a full backlog, so that a test under tokio's paused time runs the same way
/// each time.
///
/// Each [`MemTransport::new`] makes a world of its own, in which names mean nothing to other worlds; a clone
/// shares the world of its original. The name `0` stands for a fresh name, as port 0 does with TCP: the
/// listener's [`local_endpoint`](Listener::local_endpoint) tells it.
///
/// It is a [`DatagramTransport`] as well. The names of sockets are a space of their own beside those of listeners. What does
/// not fit into the buffer of a socket is dropped, as a network would do, and counted by
/// [`MemTransport::datagram_counters`]; nothing else is ever lost, doubled or overtaken. Put a
/// [`Faulty`](crate::Faulty) around it for a worse network.
///
/// # Examples
///
/// ```
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use ipc_testkit::MemTransport;
/// use ipc_transport::{ConnectOptions, Endpoint, ListenOptions, Transport};
///
/// let world = MemTransport::new();
/// let at = Endpoint::new("mem", "kitchen")?;
/// let mut listener = world.listen(&at, &ListenOptions::default()).await?;
/// let dialled = world.connect(&at, &ConnectOptions::default()).await?;
/// let accepted = listener.accept().await?.establish().await?;
/// # let _ = (dialled, accepted);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct MemTransport {
    world: Arc<World>,
    buffer: NonZeroUsize,
    framed: bool,
    identity: PeerIdentity,
    max_payload: usize,
    datagram_room: Room,
}

impl MemTransport {
    /// The scheme of its endpoints.
    pub const SCHEME: &'static str = "mem";

    /// The name that makes a listener pick a fresh one.
    pub const FRESH_NAME: &'static str = "0";

    /// A new world, with nothing in it.
    pub fn new() -> Self {
        Self {
            world: Arc::default(),
            buffer: const { NonZeroUsize::new(64 * 1024).expect("64 KiB is not zero") },
            framed: false,
            identity: PeerIdentity::Unknown,
            max_payload: 1_200,
            datagram_room: Room {
                datagrams: const { NonZeroUsize::new(256).expect("256 is not zero") },
                bytes: 208 * 1024,
            },
        }
    }

    /// How many bytes wait in each direction of a connection dialled by this handle before its writer is held.
    ///
    /// 64 KiB by default, near what sockets have. One byte makes a good test: every write and read is split.
    #[must_use]
    pub fn with_buffer(mut self, bytes: NonZeroUsize) -> Self {
        self.buffer = bytes;
        self
    }

    /// Connections dialled by this handle are made of frames, by [`Connection::from_frames`], instead of bytes.
    ///
    /// What runs above must not notice. One frame may exceed the buffer.
    #[must_use]
    pub fn with_frames(mut self) -> Self {
        self.framed = true;
        self
    }

    /// Who the peers of this handle see: acceptors of what it dials, diallers of what it listens at.
    ///
    /// [`PeerIdentity::Unknown`] by default, as for TCP. Clones with different identities in one world play the users
    /// of a machine.
    #[must_use]
    pub fn with_identity(mut self, identity: PeerIdentity) -> Self {
        self.identity = identity;
        self
    }

    /// The most bytes that one datagram carries when it is sent from a socket bound by this handle.
    ///
    /// 1,200 by default, what UDP carries everywhere without being split.
    #[must_use]
    pub fn with_max_payload(mut self, bytes: usize) -> Self {
        self.max_payload = bytes;
        self
    }

    /// How many datagrams, and how many bytes of them together, wait in a socket bound by this handle; what comes when
    /// either is used up is dropped.
    ///
    /// 256 datagrams and 208 KiB by default, near what Linux gives a UDP socket. An empty buffer takes one datagram of any
    /// size.
    #[must_use]
    pub fn with_datagram_buffer(mut self, datagrams: NonZeroUsize, bytes: usize) -> Self {
        self.datagram_room = Room { datagrams, bytes };
        self
    }

    /// What became of all datagrams that were sent in this world.
    pub fn datagram_counters(&self) -> MemDatagramCounters {
        self.world.network.counters()
    }

    /// The names at which somebody listens, sorted.
    pub fn names(&self) -> Vec<String> {
        self.world.listeners().places.keys().cloned().collect()
    }

    fn end(&self, reader: PipeReader, writer: PipeWriter, info: ConnectionInfo) -> Connection {
        if !self.framed {
            return Connection::from_bytes(reader, writer, info);
        }
        let endpoint = info.remote.clone();
        let stream = FrameStream { reader, endpoint: endpoint.clone() };
        Connection::from_frames(stream, FrameSink { writer, endpoint }, info)
    }
}

impl Default for MemTransport {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for MemTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemTransport")
            .field("names", &self.names())
            .field("buffer", &self.buffer)
            .field("framed", &self.framed)
            .field("identity", &self.identity)
            .field("max_payload", &self.max_payload)
            .field("datagram_room", &self.datagram_room)
            .finish()
    }
}

#[async_trait]
impl Transport for MemTransport {
    fn scheme(&self) -> &str {
        Self::SCHEME
    }

    async fn connect(&self, to: &Endpoint, options: &ConnectOptions) -> Result<Connection, Error> {
        own(to)?;
        let refused = || Error::ConnectionRefused { endpoint: to.clone() };
        let place = self.world.listeners().places.get(to.address()).cloned().ok_or_else(refused)?;
        let permit = match timeout(options.timeout, place.backlog.reserve_owned()).await {
            Ok(permit) => permit.map_err(|_| refused())?,
            Err(Elapsed { .. }) => {
                return Err(Error::TimedOut { operation: "connect", endpoint: to.to_string() });
            }
        };
        if !options.access.admits(&place.identity) {
            return Err(Error::AccessDenied { endpoint: to.clone(), peer: format!("{:?}", place.identity) });
        }
        let [(reader, writer), (far_reader, far_writer)] = pipe::duplex(self.buffer.get());
        // The dialler has no name of its own, as with Unix sockets: both ends show the listener's.
        let info = |peer: &PeerIdentity| ConnectionInfo::new(to.clone(), to.clone(), peer.clone());
        permit.send(self.end(far_reader, far_writer, info(&self.identity)));
        Ok(self.end(reader, writer, info(&place.identity)))
    }

    async fn listen(&self, at: &Endpoint, options: &ListenOptions) -> Result<Box<dyn Listener>, Error> {
        own(at)?;
        let mut listeners = self.world.listeners();
        listeners.made += 1;
        let id = listeners.made;
        let local = match at.address() {
            Self::FRESH_NAME => fresh_endpoint(id, |name| listeners.places.contains_key(name)),
            _ => at.clone(),
        };
        let (backlog, waiting) = mpsc::channel(options.backlog.max(1) as usize);
        match listeners.places.entry(local.address().to_owned()) {
            Entry::Occupied(_) => {
                return Err(Error::AddrInUse { endpoint: local, holder: Some(std::process::id()) });
            }
            Entry::Vacant(vacant) => {
                vacant.insert(Place { id, backlog, identity: self.identity.clone() });
            }
        }
        drop(listeners);
        Ok(Box::new(MemListener { world: self.world.clone(), id, local, waiting, options: options.clone() }))
    }
}

#[async_trait]
impl DatagramTransport for MemTransport {
    fn scheme(&self) -> &str {
        Self::SCHEME
    }

    async fn bind(&self, at: &Endpoint) -> Result<DatagramSocket, Error> {
        own(at)?;
        self.world.network.bind(at, self.datagram_room, self.max_payload)
    }
}

struct MemListener {
    world: Arc<World>,
    id: u64,
    local: Endpoint,
    waiting: mpsc::Receiver<Connection>,
    options: ListenOptions,
}

#[async_trait]
impl Listener for MemListener {
    fn local_endpoint(&self) -> &Endpoint {
        &self.local
    }

    async fn accept(&mut self) -> Result<Incoming, Error> {
        let connection =
            self.waiting.recv().await.expect("the world keeps a sender while the listener lives");
        let access = self.options.access.clone();
        Ok(Incoming::new(connection.info().remote.clone(), async move {
            let info = connection.info();
            if !access.admits(&info.peer) {
                return Err(Error::AccessDenied {
                    endpoint: info.local.clone(),
                    peer: format!("{:?}", info.peer),
                });
            }
            Ok(connection)
        }))
    }

    async fn close(self: Box<Self>) -> Result<(), Error> {
        Ok(())
    }
}

impl Drop for MemListener {
    fn drop(&mut self) {
        let mut listeners = self.world.listeners();
        if listeners.places.get(self.local.address()).is_some_and(|place| place.id == self.id) {
            listeners.places.remove(self.local.address());
        }
    }
}

impl fmt::Debug for MemListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemListener")
            .field("local", &self.local)
            .field("waiting", &self.waiting.len())
            .finish_non_exhaustive()
    }
}

#[derive(Default)]
struct World {
    listeners: Mutex<Listeners>,
    network: Arc<Network>,
}

#[derive(Default)]
struct Listeners {
    places: BTreeMap<String, Place>,
    /// Listeners ever made, for identities and fresh names.
    made: u64,
}

#[derive(Clone)]
struct Place {
    id: u64,
    backlog: mpsc::Sender<Connection>,
    identity: PeerIdentity,
}

impl World {
    /// A panic elsewhere leaves the table whole, as nothing under this lock unwinds half-way.
    fn listeners(&self) -> MutexGuard<'_, Listeners> {
        self.listeners.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn own(endpoint: &Endpoint) -> Result<(), Error> {
    match endpoint.scheme() {
        MemTransport::SCHEME => Ok(()),
        scheme => Err(Error::UnknownScheme { scheme: scheme.to_owned() }),
    }
}

/// The first fresh name from this number on that nobody has.
fn fresh_endpoint(from: u64, is_taken: impl Fn(&str) -> bool) -> Endpoint {
    (from..)
        .map(|number| format!("fresh-{number}"))
        .find(|name| !is_taken(name))
        .map(|name| {
            Endpoint::new(MemTransport::SCHEME, name).expect("letters, a dash and digits are an address")
        })
        .expect("there are more numbers than names")
}
