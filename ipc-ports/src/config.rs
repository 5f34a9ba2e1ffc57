//! What can be set on a node and on a port, with a reason for each default.

use std::{fmt, num::NonZeroUsize, sync::Arc, time::Duration};

use ipc_pipeline::{
    FullPolicy,
    link::{AckMode, Admission, LinkConfig, ReceiverConfig},
    protocol::{Budget, Hello},
};
use ipc_transport::{
    Access, BackoffConfig, ConnectOptions, ConnectionInfo, Error, Limits, ListenOptions, Naming,
    PeerIdentity, RuntimeDirectory, RuntimeNaming, Transport, Transports,
};

use crate::PortError;

/// The runtime directory's name when none is set.
const APP: &str = "ipc-ports";

/// How a node starts.
#[derive(Debug, Clone)]
#[must_use]
pub struct NodeConfig {
    pub(crate) name: String,
    pub(crate) naming: Option<Arc<dyn Naming>>,
    pub(crate) transports: Transports,
    pub(crate) listen: ListenOptions,
    pub(crate) connect: ConnectOptions,
    pub(crate) limits: Limits,
    pub(crate) backoff: Option<BackoffConfig>,
    pub(crate) max_parked: usize,
    /// The node's own, if its limits are not those of the process; made when it starts.
    budget: Option<Budget>,
}

impl NodeConfig {
    /// A node of this name, found through the runtime directory `ipc-ports` of the user.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            naming: None,
            transports: Transports::default(),
            listen: ListenOptions::default(),
            connect: ConnectOptions::default(),
            limits: Limits::default(),
            backoff: None,
            max_parked: 1024,
            budget: None,
        }
    }

    /// How names become endpoints: a [`StaticNaming`](ipc_transport::StaticNaming) for TCP, or one of your own.
    pub fn naming(mut self, naming: impl Naming) -> Self {
        self.naming = Some(Arc::new(naming));
        self
    }

    /// As [`naming`](Self::naming), for one that is shared already.
    pub fn shared_naming(mut self, naming: Arc<dyn Naming>) -> Self {
        self.naming = Some(naming);
        self
    }

    /// Names in this runtime directory: the processes of one application, apart from all others.
    pub fn runtime_directory(self, directory: RuntimeDirectory) -> Self {
        self.naming(RuntimeNaming::new(directory))
    }

    /// Adds a transport, in place of an earlier one of its scheme. Unix and TCP are there by default.
    pub fn transport(mut self, transport: impl Transport) -> Self {
        self.transports = self.transports.with(transport);
        self
    }

    /// Whom to accept as a peer, where the transport can tell. The same user, by default.
    ///
    /// With the default naming a wider rule lets nobody else in: the runtime directory is the user's own and only that
    /// user can enter it (mode 0700), so another user finds neither name nor socket. It has an effect with a
    /// [`naming`](Self::naming) that leads to places which others can reach.
    pub fn access(mut self, access: Access) -> Self {
        self.listen.access = access.clone();
        self.connect.access = access;
        self
    }

    /// Connections that may wait to be accepted, at most. 1,024; the kernel may cap it. A dialler that finds no place
    /// tries again until its time is up, so a small one costs time and no connection.
    pub fn backlog(mut self, connections: u32) -> Self {
        self.listen.backlog = connections;
        self
    }

    /// The permission bits of the Unix socket's file. They follow from [`access`](Self::access) by default: 0600 for
    /// the same user, 0660 for a group, 0666 where the kernel's word on the peer decides.
    pub fn socket_mode(mut self, mode: u32) -> Self {
        self.listen.mode = Some(mode);
        self
    }

    /// How long one attempt to connect may take, name look-up included. 10 s; another attempt follows it.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect.timeout = timeout;
        self
    }

    /// Bounds on what peers may cost; see [`Limits`] for the defaults and their reasons.
    ///
    /// `max_message` is what ports have unless they say otherwise. At least one handshake is let in at a time. With
    /// receive budgets other than the default ones the node's ports share a budget of the node's own, in place of the
    /// one that all nodes of the process share.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// When to dial again. By default as fits the peer's endpoint, by [`BackoffConfig::for_endpoint`]: soon and often
    /// on this machine, loopback included; spread over seconds elsewhere, so that a restarted process is not overrun.
    pub fn backoff(mut self, backoff: BackoffConfig) -> Self {
        self.backoff = Some(backoff);
        self
    }

    /// Connections that wait for a port that does not exist yet, at most. 1,024; more are told to come later.
    pub fn max_parked(mut self, max: usize) -> Self {
        self.max_parked = max;
        self
    }

    /// The node starts: its limits become those of all its ports.
    pub(crate) fn started(mut self) -> Self {
        let usual = Limits::default();
        let (whole, foreign) = (self.limits.receive_budget, self.limits.foreign_receive_budget);
        let is_usual = (whole, foreign) == (usual.receive_budget, usual.foreign_receive_budget);
        self.budget = (!is_usual).then(|| Budget::new(whole).foreign(foreign));
        self
    }

    pub(crate) fn resolve_naming(&self) -> Result<Arc<dyn Naming>, Error> {
        match &self.naming {
            Some(naming) => Ok(naming.clone()),
            None => Ok(Arc::new(RuntimeNaming::new(RuntimeDirectory::open(APP)?))),
        }
    }
}

/// A source that wants to come in.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConnectionRequest {
    /// The sending process, as it names itself.
    pub process: String,
    /// The sending port, likewise.
    pub port: String,
    /// Opaque bytes that the sender was configured with.
    pub credentials: Vec<u8>,
    /// Who is behind the connection, as the transport knows it: the only thing here that the source cannot make up.
    pub peer: PeerIdentity,
}

impl ConnectionRequest {
    pub(crate) fn of(hello: &Hello, info: &ConnectionInfo) -> Self {
        Self {
            process: hello.from_process.clone(),
            port: hello.from_port.clone(),
            credentials: hello.credentials.clone(),
            peer: info.peer.clone(),
        }
    }
}

type RequestHook = Arc<dyn Fn(&ConnectionRequest) -> bool + Send + Sync>;

/// How a port behaves; what does not concern its direction is ignored.
#[derive(Clone)]
#[must_use]
pub struct PortConfig {
    capacity: usize,
    window: usize,
    byte_bound: usize,
    max_message: Option<usize>,
    policy: FullPolicy,
    ack_mode: AckMode,
    schema: Option<String>,
    ping: Option<Duration>,
    credentials: Vec<u8>,
    max_sources: usize,
    source_ttl: Option<Duration>,
    expect_sources: usize,
    ticker: bool,
    budget: Option<Budget>,
    request_hook: Option<RequestHook>,
    pub(crate) start_closed: bool,
    pub(crate) strict: bool,
}

impl Default for PortConfig {
    fn default() -> Self {
        Self {
            capacity: 20,
            window: 16_384,
            byte_bound: 8 * 1024 * 1024,
            max_message: None,
            policy: FullPolicy::Wait,
            ack_mode: AckMode::Automatic,
            schema: None,
            ping: None,
            credentials: Vec::new(),
            max_sources: 1024,
            source_ttl: None,
            expect_sources: 0,
            ticker: true,
            budget: None,
            request_hook: None,
            start_closed: false,
            strict: false,
        }
    }
}

impl PortConfig {
    /// The defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// Outgoing: values accepted and not released, at most. 20, as the source system has it.
    pub fn capacity(mut self, values: usize) -> Self {
        self.capacity = values;
        self
    }

    /// Incoming: values of one source in flight or untaken, at most; the source's capacity may make it less. 16,384,
    /// so that the source's capacity decides.
    pub fn window(mut self, values: usize) -> Self {
        self.window = values;
        self
    }

    /// Outgoing: encoded bytes kept before senders are held up. 8 MiB.
    pub fn byte_bound(mut self, bytes: usize) -> Self {
        self.byte_bound = bytes;
        self
    }

    /// Both: the largest encoded value. That of the node's limits by default, 1 MiB; at most 64 MiB. A receiver refuses
    /// senders that allow more.
    pub fn max_message(mut self, bytes: usize) -> Self {
        self.max_message = Some(bytes);
        self
    }

    /// Outgoing: what happens when there is no room. Senders wait by default, so that nothing is lost.
    pub fn policy(mut self, policy: FullPolicy) -> Self {
        self.policy = policy;
        self
    }

    /// Incoming: when values are released. When they are taken, by default.
    pub fn ack_mode(mut self, mode: AckMode) -> Self {
        self.ack_mode = mode;
        self
    }

    /// Both: a name for the meaning of the values, compared when both ends set one. None by default.
    pub fn schema(mut self, name: impl Into<String>) -> Self {
        self.schema = Some(name.into());
        self
    }

    /// Outgoing: how often to ask the receiver for a sign of life; without one until the next time the connection is
    /// given up and dialled anew, and nothing is lost by it. Never, by default, as it wakes both processes; it is
    /// needed to notice a stopped one.
    pub fn ping(mut self, interval: Duration) -> Self {
        self.ping = Some(interval);
        self
    }

    /// Outgoing: opaque bytes for the receiver's hook. None by default.
    pub fn credentials(mut self, credentials: impl Into<Vec<u8>>) -> Self {
        self.credentials = credentials.into();
        self
    }

    /// Incoming: sources attached at once; more are told to come later. 1,024.
    pub fn max_sources(mut self, sources: usize) -> Self {
        self.max_sources = sources;
        self
    }

    /// Incoming: after how long a lost source no longer holds the end of the stream. Never, by default.
    pub fn source_ttl(mut self, ttl: Duration) -> Self {
        self.source_ttl = Some(ttl);
        self
    }

    /// Incoming: how many sources must have attached before the stream may end. 0.
    pub fn expect_sources(mut self, sources: usize) -> Self {
        self.expect_sources = sources;
        self
    }

    /// Incoming: whether takes are reported after 5 ms by the process-wide ticker. On; off saves its thread and leaves
    /// half the window and the sender's requests.
    pub fn ticker(mut self, on: bool) -> Self {
        self.ticker = on;
        self
    }

    /// Incoming: what this and other ports may buffer together. That of the node's limits by default: one budget of
    /// 64 MiB for the process, of which all links of one foreign user may have 16 MiB.
    pub fn budget(mut self, budget: Budget) -> Self {
        self.budget = Some(budget);
        self
    }

    /// Incoming: sees each source that wants to come in, at each of its connections, and may refuse it.
    pub fn connection_request(
        mut self,
        hook: impl Fn(&ConnectionRequest) -> bool + Send + Sync + 'static,
    ) -> Self {
        self.request_hook = Some(Arc::new(hook));
        self
    }

    /// Outgoing: refuse sends until [`OutgoingPort::open`](crate::OutgoingPort::open).
    pub fn start_closed(mut self) -> Self {
        self.start_closed = true;
        self
    }

    /// Outgoing: refuse sends while not connected, instead of buffering them.
    pub fn strict(mut self) -> Self {
        self.strict = true;
        self
    }

    pub(crate) fn link(&self, node: &NodeConfig) -> Result<LinkConfig, PortError> {
        let max_message = self.largest(node)?;
        let mut link = LinkConfig::default();
        link.capacity = NonZeroUsize::new(self.capacity).ok_or(PortError::ZeroCapacity)?;
        link.byte_bound = self.byte_bound;
        link.max_message = max_message;
        link.policy = self.policy;
        link.schema.clone_from(&self.schema);
        link.credentials.clone_from(&self.credentials);
        link.ping = self.ping;
        link.backoff = node.backoff.clone();
        link.handshake_timeout = node.limits.handshake_timeout;
        Ok(link)
    }

    pub(crate) fn receiver(&self, node: &NodeConfig) -> Result<ReceiverConfig, PortError> {
        let max_message = self.largest(node)?;
        let mut receiver = ReceiverConfig::default();
        receiver.ack_mode = self.ack_mode;
        receiver.window = NonZeroUsize::new(self.window).ok_or(PortError::ZeroCapacity)?;
        receiver.max_message = max_message;
        receiver.schema.clone_from(&self.schema);
        receiver.max_sources = self.max_sources;
        receiver.source_ttl = self.source_ttl;
        receiver.expect_sources = self.expect_sources;
        receiver.ticker = self.ticker;
        receiver.frame_timeout = node.limits.frame_timeout;
        if let Some(budget) = self.budget.as_ref().or(node.budget.as_ref()) {
            receiver.budget = budget.clone();
        }
        receiver.admission = self.request_hook.clone().map(|hook| -> Admission {
            Arc::new(move |hello, info| hook(&ConnectionRequest::of(hello, info)))
        });
        Ok(receiver)
    }

    fn largest(&self, node: &NodeConfig) -> Result<usize, PortError> {
        let asked = self.max_message.unwrap_or(node.limits.max_message);
        if asked > Limits::MAX_MESSAGE_CAP {
            return Err(PortError::MessageCap { asked, max: Limits::MAX_MESSAGE_CAP });
        }
        Ok(asked)
    }
}

impl fmt::Debug for PortConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PortConfig")
            .field("capacity", &self.capacity)
            .field("window", &self.window)
            .field("policy", &self.policy)
            .field("ack_mode", &self.ack_mode)
            .field("schema", &self.schema)
            .finish_non_exhaustive()
    }
}
