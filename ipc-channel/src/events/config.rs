//! What can be set on servers and clients, with a reason for each default.

use std::{fmt, num::NonZeroUsize, sync::Arc, time::Duration};

use ipc_pipeline::{
    FullPolicy,
    link::{LinkConfig, ReceiverConfig},
    protocol::Budget,
};
use ipc_transport::{
    Access, BackoffConfig, ConnectOptions, Endpoint, Error, Limits, ListenOptions, Listener, Naming,
    RuntimeDirectory, RuntimeNaming, Transport, Transports,
};

use super::node_ipc::{Catalogue, Delimiter, Profile};
use crate::PayloadCodec;

/// The domain when none is set.
const DOMAIN: &str = "ipc-channel";

/// What is spoken on a connection.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub enum Wire {
    /// Our own: links on lanes, so that what was accepted survives lost connections; with requests, names and relays.
    #[default]
    Native,
    /// That of node-ipc: events as JSON, without acks. What was written to a connection that breaks may be lost.
    NodeIpc(NodeIpc),
    /// None at all: bytes as they come, both ways, without acks.
    Raw,
}

impl Wire {
    /// That of node-ipc with its defaults.
    #[must_use]
    pub fn node_ipc() -> Self {
        Self::NodeIpc(NodeIpc::default())
    }
}

/// How the wire of node-ipc is spoken.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct NodeIpc {
    /// What ends a frame. A form feed, as node-ipc has it; both sides must have the same.
    pub delimiter: Delimiter,
    /// What is let through, in both directions. All that node-ipc 9.2.1 takes, by default.
    pub profile: Profile,
    /// Whether a server takes the member `id` of an event's data for the name of the client, as node-ipc 9.2.1 does. Off:
    /// anybody can claim any name by it. The first name that a connection claims stays, and one that is taken is not given.
    pub identify_peer: bool,
    /// What a server says of its events when it is asked, and to each client first, if `greets` is set. Nothing by default.
    pub catalogue: Option<Arc<Catalogue>>,
    /// Whether a server says its catalogue to each client before anything else, as node-ipc 0.9 does. Off.
    pub greets: bool,
}

impl NodeIpc {
    /// Sets [`NodeIpc::delimiter`].
    #[must_use]
    pub fn with_delimiter(mut self, delimiter: Delimiter) -> Self {
        self.delimiter = delimiter;
        self
    }

    /// Sets [`NodeIpc::profile`].
    #[must_use]
    pub fn with_profile(mut self, profile: Profile) -> Self {
        self.profile = profile;
        self
    }

    /// Sets [`NodeIpc::identify_peer`].
    #[must_use]
    pub fn with_identify_peer(mut self, identify_peer: bool) -> Self {
        self.identify_peer = identify_peer;
        self
    }

    /// Sets [`NodeIpc::catalogue`].
    #[must_use]
    pub fn with_catalogue(mut self, catalogue: Catalogue) -> Self {
        self.catalogue = Some(Arc::new(catalogue));
        self
    }

    /// Sets [`NodeIpc::greets`].
    #[must_use]
    pub fn with_greeting(mut self, greets: bool) -> Self {
        self.greets = greets;
        self
    }
}

/// What becomes of a connection when a handler of one of its events or requests panics.
///
/// The panic is caught and counted either way, that handler ends, and a request that it was to answer fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum OnPanic {
    /// It goes on, and so do the other handlers. The default: one bad value must not cost a peer its connection.
    #[default]
    Continue,
    /// It is cut, as a broken cable would; on the native wire nothing accepted is lost by it.
    HangUp,
}

/// What both kinds of ends have in common.
#[derive(Debug, Clone)]
pub(super) struct Tuning {
    pub(super) wire: Wire,
    pub(super) codec: PayloadCodec,
    pub(super) capacity: NonZeroUsize,
    pub(super) broadcast_capacity: NonZeroUsize,
    pub(super) byte_bound: usize,
    pub(super) policy: FullPolicy,
    pub(super) broadcast_policy: FullPolicy,
    pub(super) max_in_flight: usize,
    pub(super) max_calls: usize,
    pub(super) heartbeat: Option<Duration>,
    pub(super) on_panic: OnPanic,
    pub(super) limits: Limits,
    pub(super) budget: Option<Budget>,
}

impl Default for Tuning {
    fn default() -> Self {
        let usual = NonZeroUsize::new(1024).expect("1,024 is not zero");
        Self {
            wire: Wire::Native,
            codec: PayloadCodec::Bincode,
            capacity: usual,
            broadcast_capacity: usual,
            byte_bound: 8 * 1024 * 1024,
            policy: FullPolicy::Wait,
            broadcast_policy: FullPolicy::DropOldest,
            max_in_flight: 256,
            max_calls: 1024,
            heartbeat: None,
            on_panic: OnPanic::Continue,
            limits: Limits::default(),
            budget: None,
        }
    }
}

impl Tuning {
    /// The link of events to one peer.
    pub(super) fn private(&self) -> LinkConfig {
        self.link(self.capacity, self.policy)
    }

    /// The link of events to everybody.
    pub(super) fn broadcast(&self) -> LinkConfig {
        self.link(self.broadcast_capacity, self.broadcast_policy)
    }

    /// The link of requests and answers: room for all that may be under way, each with its answer and its end.
    pub(super) fn control(&self) -> LinkConfig {
        let under_way = self.max_calls.saturating_add(self.max_in_flight);
        let capacity = NonZeroUsize::new(under_way.saturating_mul(2).saturating_add(64));
        let mut link = self.link(capacity.expect("it is at least 64"), FullPolicy::Wait);
        link.ping = self.heartbeat;
        link
    }

    fn link(&self, capacity: NonZeroUsize, policy: FullPolicy) -> LinkConfig {
        let mut link = LinkConfig::default();
        link.capacity = capacity;
        link.byte_bound = self.byte_bound;
        link.max_message = self.limits.max_message;
        link.policy = policy;
        link.handshake_timeout = self.limits.handshake_timeout;
        // Lanes come with their trunk and not by dialling.
        link.backoff = Some(BackoffConfig::local());
        link
    }

    pub(super) fn receiver(&self) -> ReceiverConfig {
        let mut receiver = ReceiverConfig::default();
        receiver.max_message = self.limits.max_message;
        receiver.frame_timeout = self.limits.frame_timeout;
        // One life of the other end after another, and no more.
        receiver.max_sources = 8;
        receiver.max_detached = 8;
        if let Some(budget) = &self.budget {
            receiver.budget = budget.clone();
        }
        receiver
    }

    fn started(&mut self) {
        if matches!(self.wire, Wire::NodeIpc(_)) {
            self.codec = PayloadCodec::Json;
        }
        let usual = Limits::default();
        let (whole, foreign) = (self.limits.receive_budget, self.limits.foreign_receive_budget);
        let is_usual = (whole, foreign) == (usual.receive_budget, usual.foreign_receive_budget);
        self.budget = (!is_usual).then(|| Budget::new(whole).foreign(foreign));
    }
}

/// Where a server is found.
#[derive(Debug, Clone)]
enum Place {
    /// By its id, in the runtime directory of this domain.
    Domain(String),
    Endpoint(Endpoint),
    Naming(Arc<dyn Naming>),
}

/// A place that was looked up: where to listen, or to dial.
#[derive(Debug, Clone)]
pub(super) enum Resolved {
    Endpoint(Endpoint),
    Naming(Arc<dyn Naming>),
}

impl Place {
    fn resolve(&self) -> Result<Resolved, Error> {
        Ok(match self {
            Self::Domain(domain) => {
                Resolved::Naming(Arc::new(RuntimeNaming::new(RuntimeDirectory::open(domain)?)))
            }
            Self::Endpoint(endpoint) => Resolved::Endpoint(endpoint.clone()),
            Self::Naming(naming) => Resolved::Naming(naming.clone()),
        })
    }
}

macro_rules! common_setters {
    () => {
        /// The domain: servers of one id in different domains do not see each other. `ipc-channel`, unless set.
        ///
        /// It is the name of a runtime directory (see [`RuntimeDirectory`](ipc_transport::RuntimeDirectory)).
        pub fn domain(mut self, domain: impl Into<String>) -> Self {
            self.place = Place::Domain(domain.into());
            self
        }

        /// An address instead of a domain, for any transport that is known here.
        pub fn endpoint(mut self, endpoint: Endpoint) -> Self {
            self.place = Place::Endpoint(endpoint);
            self
        }

        /// Another way from ids to addresses, such as a [`StaticNaming`](ipc_transport::StaticNaming).
        pub fn naming(mut self, naming: impl Naming) -> Self {
            self.place = Place::Naming(Arc::new(naming));
            self
        }

        /// Adds a transport, in place of an earlier one of its scheme. Unix and TCP are there by default.
        pub fn transport(mut self, transport: impl Transport) -> Self {
            self.transports = self.transports.with(transport);
            self
        }

        /// What is spoken. [`Wire::Native`] by default; both sides must speak the same.
        pub fn wire(mut self, wire: Wire) -> Self {
            self.tuning.wire = wire;
            self
        }

        /// How values are encoded on the native wire. [`PayloadCodec::Bincode`] by default; both sides must have the same.
        /// The wire of node-ipc has [`PayloadCodec::Json`] always.
        pub fn codec(mut self, codec: PayloadCodec) -> Self {
            self.tuning.codec = codec;
            self
        }

        /// Events kept for one peer until it has released them, at most; connected or not. 1,024, so that a burst does
        /// not wait; each costs its encoding.
        pub fn capacity(mut self, events: NonZeroUsize) -> Self {
            self.tuning.capacity = events;
            self
        }

        /// Bytes kept for one peer on each lane before senders are held up. 8 MiB.
        pub fn byte_bound(mut self, bytes: usize) -> Self {
            self.tuning.byte_bound = bytes;
            self
        }

        /// What happens to an event for a peer that has no room. Senders wait by default, so that nothing is lost.
        pub fn policy(mut self, policy: FullPolicy) -> Self {
            self.tuning.policy = policy;
            self
        }

        /// Requests of one peer that are answered at once, at most; more are turned away as busy. 256.
        pub fn max_in_flight(mut self, requests: usize) -> Self {
            self.tuning.max_in_flight = requests;
            self
        }

        /// Calls to one peer that wait for answers, at most. 1,024.
        pub fn max_calls(mut self, calls: usize) -> Self {
            self.tuning.max_calls = calls;
            self
        }

        /// How often to ask the other side for a sign of life; without one until the next time the connection is given
        /// up. Never, by default, as it wakes both processes; it is needed to notice a stopped peer. Take at least
        /// twice what the other process may be held up.
        pub fn heartbeat(mut self, interval: Duration) -> Self {
            self.tuning.heartbeat = Some(interval);
            self
        }

        /// What becomes of a connection when a handler panics. It goes on, by default.
        pub fn on_panic(mut self, on_panic: OnPanic) -> Self {
            self.tuning.on_panic = on_panic;
            self
        }

        /// Bounds on what peers may cost; see [`Limits`] for the defaults and their reasons.
        pub fn limits(mut self, limits: Limits) -> Self {
            self.tuning.limits = limits;
            self
        }
    };
}

/// How a [`Server`](super::Server) starts.
#[derive(Debug, Clone)]
#[must_use]
pub struct ServerConfig {
    pub(super) id: String,
    place: Place,
    pub(super) transports: Transports,
    pub(super) listen: ListenOptions,
    pub(super) tuning: Tuning,
    pub(super) max_clients: usize,
    pub(super) keep_cut: Duration,
}

impl ServerConfig {
    /// A server of this id, found by it in the domain `ipc-channel` of the user.
    pub fn new(id: impl Into<String>) -> Self {
        Self {
            id: id.into(),
            place: Place::Domain(DOMAIN.to_owned()),
            transports: Transports::default(),
            listen: ListenOptions::default(),
            tuning: Tuning::default(),
            max_clients: 4096,
            keep_cut: Duration::from_secs(5),
        }
    }

    common_setters!();

    /// Whom to accept as a client, where the transport can tell. The same user, by default.
    pub fn access(mut self, access: Access) -> Self {
        self.listen.access = access;
        self
    }

    /// The permission bits of the Unix socket's file. They follow from [`access`](Self::access) by default.
    pub fn socket_mode(mut self, mode: u32) -> Self {
        self.listen.mode = Some(mode);
        self
    }

    /// Connections that may wait to be accepted, at most. 1,024; the kernel may cap it.
    pub fn backlog(mut self, connections: u32) -> Self {
        self.listen.backlog = connections;
        self
    }

    /// Clients at once, those that were cut off and may come back included. 4,096; more are refused as busy, and a place
    /// that becomes free is usable at once.
    pub fn max_clients(mut self, clients: usize) -> Self {
        self.max_clients = clients;
        self
    }

    /// Broadcasts kept for one client, at most. 1,024.
    pub fn broadcast_capacity(mut self, events: NonZeroUsize) -> Self {
        self.tuning.broadcast_capacity = events;
        self
    }

    /// What happens to a broadcast for a client that has no room. The oldest that was not sent yet makes room, by
    /// default, and is counted on both sides: one stalled client must not hold up the others, nor whoever broadcasts.
    /// With [`FullPolicy::Wait`] it does.
    pub fn broadcast_policy(mut self, policy: FullPolicy) -> Self {
        self.tuning.broadcast_policy = policy;
        self
    }

    /// How long a client that was cut off may come back to what is kept for it. 5 s, or until another client takes its
    /// name; afterwards what was kept is reported as undelivered.
    pub fn keep_cut(mut self, time: Duration) -> Self {
        self.keep_cut = time;
        self
    }

    pub(super) fn started(mut self) -> Self {
        self.tuning.started();
        self
    }

    pub(super) async fn claim(&self) -> Result<Box<dyn Listener>, Error> {
        match self.place.resolve()? {
            Resolved::Endpoint(endpoint) => self.transports.listen(&endpoint, &self.listen).await,
            Resolved::Naming(naming) => naming.claim(&self.id, &self.transports, &self.listen).await,
        }
    }
}

/// When a client tries again.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub enum RetryPolicy {
    /// By a schedule of our choice, or yours: soon and often on this machine, spread out elsewhere, and always with
    /// jitter, so that the clients of a restarted server do not come all at once.
    Backoff(BackoffConfig),
    /// By the schedule that fits the server's address, [`BackoffConfig::for_endpoint`]. The default.
    #[default]
    ByPlace,
    /// After the same time again and again, as node-ipc does it.
    Every(Duration),
}

/// How a [`Client`](super::Client) starts.
#[derive(Clone)]
#[must_use]
pub struct ClientConfig {
    pub(super) server: String,
    place: Place,
    pub(super) transports: Transports,
    pub(super) connect: ConnectOptions,
    pub(super) tuning: Tuning,
    pub(super) name: Option<String>,
    pub(super) retry: RetryPolicy,
    pub(super) max_retries: Option<u64>,
    pub(super) credentials: Vec<u8>,
}

impl ClientConfig {
    /// A client of the server with this id, found in the domain `ipc-channel` of the user.
    pub fn new(server: impl Into<String>) -> Self {
        Self {
            server: server.into(),
            place: Place::Domain(DOMAIN.to_owned()),
            transports: Transports::default(),
            connect: ConnectOptions::default(),
            tuning: Tuning::default(),
            name: None,
            retry: RetryPolicy::default(),
            max_retries: None,
            credentials: Vec::new(),
        }
    }

    common_setters!();

    /// The name by which the server and other clients address this one. None by default: its id, 32 hexadecimal
    /// digits, serves as well.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Who the server may be, where the transport can tell. The same user, by default.
    pub fn access(mut self, access: Access) -> Self {
        self.connect.access = access;
        self
    }

    /// How long one attempt to connect may take. 10 s; another attempt follows it.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect.timeout = timeout;
        self
    }

    /// When to try again. See [`RetryPolicy`].
    pub fn retry(mut self, retry: RetryPolicy) -> Self {
        self.retry = retry;
        self
    }

    /// How many attempts follow one that failed, before the client gives up; each connection begins the count anew.
    /// No limit by default; 0 never tries again.
    pub fn max_retries(mut self, retries: u64) -> Self {
        self.max_retries = Some(retries);
        self
    }

    /// Opaque bytes for a hook of the server's. None by default.
    pub fn credentials(mut self, credentials: impl Into<Vec<u8>>) -> Self {
        self.credentials = credentials.into();
        self
    }

    pub(super) fn started(mut self) -> Self {
        self.tuning.started();
        self
    }

    pub(super) fn resolve(&self) -> Result<Resolved, Error> {
        self.place.resolve()
    }
}

impl fmt::Debug for ClientConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the credentials.
        f.debug_struct("ClientConfig")
            .field("server", &self.server)
            .field("place", &self.place)
            .field("name", &self.name)
            .field("retry", &self.retry)
            .finish_non_exhaustive()
    }
}
