//! The server: takes clients in, tells them events, answers their requests, and carries what they say to each other.

use std::{
    fmt,
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex, PoisonError, atomic::Ordering},
    time::Duration,
};

use bytes::Bytes;
use ipc_pipeline::{
    CapacityError,
    link::Greeting,
    protocol::{DeliveryMode, Hello, Refusal, Welcome},
    trunk::{self, TrunkEnd},
};
use ipc_transport::{
    Acceptor, ConnectionInfo, Endpoint, Error, Handshaking, Incoming, Listener, PeerIdentity,
    check_name as check_id,
};
use serde::{Serialize, de::DeserializeOwned};
use tokio::{
    runtime::Handle,
    sync::{OwnedMutexGuard, watch},
    task::{JoinHandle, JoinSet},
    time::{Instant, timeout, timeout_at},
};

use super::{
    CallError, Closing, Departure, EmitError, Reply, ServerConfig, Undelivered,
    core::{Core, Roster, Unwelcome, is_id, is_name},
    frame::FrameCodec,
    hooks::Hooks,
    lifecycle::{reason_of, reason_of_plain},
    message::{MAX_NAME, Message},
    native::{LANES, Native, Side},
    outlet::Outlet,
    peer::Peer,
    plain::{Cutting, Plain, arrivals},
    random_bits, reply,
};
use crate::{DuplicateResponder, Event, EventStream, HandlerCounters, Payload, Subscription};

/// How long closing the listener may take, a matter of one unlink; and what handlers of disconnects have at least.
const CLOSE_LISTENER: Duration = Duration::from_secs(10);

/// A client that wants to come in.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClientRequest {
    /// Its id, as it says.
    pub id: String,
    /// Its name, as it says.
    pub name: Option<String>,
    /// Opaque bytes that the client was configured with.
    pub credentials: Vec<u8>,
    /// Who is behind the connection, as the transport knows it: the only thing here that the client cannot make up.
    pub peer: PeerIdentity,
}

/// Counts since the server started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct ServerCounters {
    /// Connections that were accepted by the listener.
    pub accepted: u64,
    /// Connections whose handshake failed: no hello in time, or none of this protocol.
    pub failed: u64,
    /// Clients that were refused: name taken, no room, not permitted, or of another kind.
    pub refused: u64,
    /// Requests turned away because as many as may were being answered.
    pub busy: u64,
    /// Requests that an earlier life of the server may have acted on, and that nobody waits for: nothing was done.
    pub stale_requests: u64,
    /// Connections that were cut because a client broke the protocol; on the wire of node-ipc also frames that
    /// were passed over.
    pub malformed: u64,
    /// Handlers of connects and disconnects that panicked.
    pub hooks_panicked: u64,
    /// Events, requests and handlers.
    pub handlers: HandlerCounters,
}

type Admission = Arc<dyn Fn(&ClientRequest) -> bool + Send + Sync>;

/// One server, with its clients.
///
/// Handlers run one at a time for each client, in the order in which they were added; those of requests as tasks of
/// their own. Dropping the server frees its address and hangs up on everybody; [`close`](Self::close) ends in good order.
pub struct Server {
    shared: Arc<Shared>,
    endpoint: Endpoint,
    acceptor: Mutex<Option<JoinHandle<()>>>,
    runtime: Handle,
    stop: watch::Sender<bool>,
    failed: watch::Receiver<Option<Error>>,
}

struct Shared {
    config: ServerConfig,
    core: Arc<Core>,
    acceptor: Acceptor,
    incarnation: u64,
    connected: Arc<Hooks<Reply>>,
    disconnected: Arc<Hooks<Departure>>,
    undelivered: Arc<Hooks<Undelivered>>,
    admission: Mutex<Option<Admission>>,
    runtime: Handle,
}

impl Server {
    /// Claims the server's address, listens, and takes clients from a task of its own.
    ///
    /// # Errors
    ///
    /// [`Error::AddrInUse`] when another process serves there, [`Error::InvalidName`], [`Error::NoRuntime`] outside a tokio
    /// runtime, and what the naming and its transport report.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future releases whatever was claimed.
    pub async fn start(config: ServerConfig) -> Result<Self, Error> {
        Self::start_with(config, |_| ()).await
    }

    /// As [`start`](Self::start), and has `set_up` add handlers before the first client comes in.
    ///
    /// A client of an earlier server may have kept events, and sends them as soon as it can: a handler that is added later
    /// misses what comes before.
    ///
    /// # Errors
    ///
    /// As there.
    ///
    /// # Cancel safety
    ///
    /// As there.
    pub async fn start_with<F>(config: ServerConfig, set_up: F) -> Result<Self, Error>
    where
        F: FnOnce(&Self),
    {
        check_id(&config.id)?;
        Handle::try_current().map_err(|_| Error::NoRuntime)?;
        let listener = config.claim().await?;
        Self::start_on(config, listener, set_up)
    }

    /// As [`start_with`](Self::start_with), on a listener that is there already: one that a supervisor opened
    /// (feature `inherited` of `ipc-transport`), which several processes may share, or one of your own making.
    ///
    /// The address in the configuration means nothing then; its id does.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidName`], [`Error::NoRuntime`] outside a tokio runtime.
    pub fn start_on<F>(config: ServerConfig, listener: Box<dyn Listener>, set_up: F) -> Result<Self, Error>
    where
        F: FnOnce(&Self),
    {
        check_id(&config.id)?;
        let runtime = Handle::try_current().map_err(|_| Error::NoRuntime)?;
        let config = config.started();
        let endpoint = listener.local_endpoint().clone();
        let core = Core::new(config.id.as_str(), config.tuning.clone());
        core.serve(config.max_clients);
        let shared = Arc::new(Shared {
            acceptor: Acceptor::new(&config.tuning.limits),
            core,
            config,
            incarnation: random_bits() as u64 | 1,
            connected: Hooks::new(),
            disconnected: Hooks::new(),
            undelivered: Hooks::new(),
            admission: Mutex::new(None),
            runtime: runtime.clone(),
        });
        let (stop, stopped) = watch::channel(false);
        let (fail, failed) = watch::channel(None);
        let serving = shared.clone();
        let server =
            Self { shared, endpoint, acceptor: Mutex::new(None), runtime: runtime.clone(), stop, failed };
        set_up(&server);
        let acceptor = runtime.spawn(async move {
            let serve_one = |incoming, handshaking| serve(serving.clone(), incoming, handshaking);
            if let Err(error) = serving.acceptor.run(listener, stopped, serve_one).await {
                tracing::warn!(%error, "the server takes no more clients");
                fail.send_replace(Some(error));
            }
        });
        *server.acceptor.lock().unwrap_or_else(PoisonError::into_inner) = Some(acceptor);
        Ok(server)
    }

    /// The server's id.
    pub fn id(&self) -> &str {
        &self.shared.config.id
    }

    /// Where it listens.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Why the server takes no more clients, should its address be lost: a value to watch.
    pub fn failed(&self) -> watch::Receiver<Option<Error>> {
        self.failed.clone()
    }

    /// Counts since the server started.
    pub fn counters(&self) -> ServerCounters {
        let counters = &self.shared.core.counters;
        ServerCounters {
            accepted: self.shared.acceptor.accepted(),
            failed: counters.failed.load(Ordering::Relaxed) + self.shared.acceptor.evicted(),
            refused: counters.refused.load(Ordering::Relaxed),
            busy: counters.busy.load(Ordering::Relaxed),
            stale_requests: counters.stale_requests.load(Ordering::Relaxed),
            malformed: counters.malformed.load(Ordering::Relaxed),
            hooks_panicked: counters.hooks_panicked.load(Ordering::Relaxed),
            handlers: self.shared.core.handlers.counters(),
        }
    }

    // Handlers.

    /// Runs `handler` for each event of this name, from any client.
    ///
    /// Handlers may be added and removed at any time. Those of one event run one after the other, in the order in which
    /// they were added, each to its end; a handler that waits holds up the later events of the same client, and nobody
    /// else's. One that is added during an event sees the next one. A value that is no `T` is counted and passed over.
    /// A handler that panics is counted, and the next one runs. The number of handlers is bounded by your calls alone.
    pub fn on<T, F, Fut>(&self, name: &str, handler: F) -> Subscription
    where
        T: DeserializeOwned + Send + 'static,
        F: Fn(Event<T>, Reply) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        self.shared.core.handlers.on(name, handler)
    }

    /// Runs `handler` for the next event of this name and then no more, also when several clients send one at once.
    pub fn once<T, F, Fut>(&self, name: &str, handler: F) -> Subscription
    where
        T: DeserializeOwned + Send + 'static,
        F: Fn(Event<T>, Reply) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        self.shared.core.handlers.once(name, handler)
    }

    /// Runs `handler` for every event, whatever its name is, after the handlers of that name; the value is not decoded.
    pub fn on_any<F, Fut>(&self, handler: F) -> Subscription
    where
        F: Fn(Event<Payload>, Reply) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        self.shared.core.handlers.on_any(handler)
    }

    /// The events of this name as a stream, in the place of a handler; it holds up to `capacity` of them.
    ///
    /// While it is full, each client that sends one waits. Dropping the stream removes it.
    ///
    /// # Errors
    ///
    /// A capacity of zero, or one that is too large.
    pub fn events<T>(&self, name: &str, capacity: usize) -> Result<EventStream<T, Reply>, CapacityError>
    where
        T: DeserializeOwned + Send + 'static,
    {
        self.shared.core.handlers.stream(name, capacity)
    }

    /// Every event as a stream, whatever its name is, undecoded; otherwise as [`events`](Self::events).
    ///
    /// # Errors
    ///
    /// As there.
    pub fn all_events(&self, capacity: usize) -> Result<EventStream<Payload, Reply>, CapacityError> {
        self.shared.core.handlers.stream_any(capacity)
    }

    /// Runs `handler` for whatever bytes arrive, in pieces as they come, on the raw wire.
    pub fn on_bytes<F, Fut>(&self, handler: F) -> Subscription
    where
        F: Fn(Bytes, Reply) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        self.shared.core.bytes.add(move |(bytes, reply)| handler(bytes, reply))
    }

    /// Removes all handlers and streams of the events of this name; how many there were.
    pub fn remove_all(&self, name: &str) -> usize {
        self.shared.core.handlers.remove_all(name)
    }

    /// Answers the requests of this name with what `handler` returns.
    ///
    /// Each request runs as a task of its own, at most `max_in_flight` of one client at once; more are answered as busy. A
    /// handler without a value answers `()`. An error is sent as its text; a panic fails that call alone. The handler is
    /// dropped when the client gives the call up or its connection breaks.
    ///
    /// # Errors
    ///
    /// The name has a handler of requests already.
    pub fn respond<T, R, E, F, Fut>(&self, name: &str, handler: F) -> Result<Subscription, DuplicateResponder>
    where
        T: DeserializeOwned + Send + 'static,
        R: Serialize + 'static,
        E: fmt::Display + 'static,
        F: Fn(Event<T>, Reply) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<R, E>> + Send + 'static,
    {
        self.shared.core.handlers.respond(name, handler)
    }

    /// Runs `handler` when a client has connected, before any of its events.
    ///
    /// Only this process raises it: no event of a peer's, whatever its name, comes here.
    pub fn on_connect<F, Fut>(&self, handler: F) -> Subscription
    where
        F: Fn(Reply) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        self.shared.connected.add(handler)
    }

    /// Runs `handler` when a client's connection is gone, at the hang-up.
    pub fn on_disconnect<F, Fut>(&self, handler: F) -> Subscription
    where
        F: Fn(Departure) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        self.shared.disconnected.add(handler)
    }

    /// Runs `handler` when events that were accepted for a client are given up, because it did not come back.
    pub fn on_undelivered<F, Fut>(&self, handler: F) -> Subscription
    where
        F: Fn(Undelivered) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        self.shared.undelivered.add(handler)
    }

    /// Decides from now on which clients may come in; all that get through the transport, by default.
    pub fn admit<F>(&self, decide: F)
    where
        F: Fn(&ClientRequest) -> bool + Send + Sync + 'static,
    {
        *self.shared.admission.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(decide));
    }

    // Sending.

    /// The client of this id or name, connected or lately cut off.
    pub fn client(&self, client: &str) -> Option<Reply> {
        self.roster().find(client).map(Reply::new)
    }

    /// Everybody who is connected.
    pub fn clients(&self) -> Vec<Reply> {
        let everybody = self.roster().everybody();
        everybody.iter().filter(|peer| peer.is_connected()).cloned().map(Reply::new).collect()
    }

    /// Sends an event to one client, by id or name; see [`Reply::emit`].
    ///
    /// # Errors
    ///
    /// [`EmitError::UnknownClient`]; otherwise as there.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future while it waits sends nothing.
    pub async fn emit<T>(&self, client: &str, name: &str, value: &T) -> Result<(), EmitError>
    where
        T: Serialize + Sync + ?Sized,
    {
        let unknown = || EmitError::UnknownClient { client: client.to_owned() };
        self.client(client).ok_or_else(unknown)?.emit(name, value).await
    }

    /// Sends an event to every client, connected or lately cut off; to how many is returned.
    ///
    /// It is encoded once. Nobody waits for a client without room: its policy decides, and drops are counted. Only with
    /// [`FullPolicy::Wait`](ipc_pipeline::FullPolicy::Wait) this waits, after everybody else was told.
    ///
    /// # Errors
    ///
    /// [`EmitError`]; nobody was told then.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future while it waits leaves some clients told and others not.
    pub async fn broadcast<T>(&self, name: &str, value: &T) -> Result<usize, EmitError>
    where
        T: Serialize + Sync + ?Sized,
    {
        let frame = self.shared.core.encode_event(name, Some(value))?;
        let (mut told, full) = self.roster().spread(&frame, None);
        if self.shared.config.tuning.broadcast_policy == ipc_pipeline::FullPolicy::Wait {
            for peer in full {
                told += usize::from(peer.wire.broadcast(frame.clone()).await.is_ok());
            }
        }
        Ok(told)
    }

    /// Sends bare bytes to every client, on the raw wire; to how many is returned.
    ///
    /// # Errors
    ///
    /// [`EmitError::Unsupported`] on another wire.
    pub fn broadcast_bytes(&self, bytes: impl Into<Bytes>) -> Result<usize, EmitError> {
        let frame = self.shared.core.encode_bytes(bytes.into())?;
        Ok(self.roster().spread(&frame, None).0)
    }

    /// As [`broadcast`](Self::broadcast), without waiting whatever the policy: from outside any task, for one.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn try_broadcast<T>(&self, name: &str, value: &T) -> Result<usize, EmitError>
    where
        T: Serialize + ?Sized,
    {
        let frame = self.shared.core.encode_event(name, Some(value))?;
        Ok(self.roster().spread(&frame, None).0)
    }

    /// Asks one client, by id or name; see [`Reply::call`].
    ///
    /// # Errors
    ///
    /// [`CallError::UnknownClient`]; otherwise as there.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future tells the client that nobody waits any more, and its handler is dropped.
    pub async fn call<T, R>(
        &self,
        client: &str,
        name: &str,
        value: &T,
        deadline: Duration,
    ) -> Result<R, CallError>
    where
        T: Serialize + Sync + ?Sized,
        R: DeserializeOwned,
    {
        let peer = self.shared.core.find(client)?;
        if !peer.is_connected() {
            return Err(CallError::Disconnected);
        }
        reply::call(&peer, "", name, value, deadline).await
    }

    // Endings.

    /// Ends in good order: takes no more clients, delivers what was accepted, hangs up, and frees the address.
    ///
    /// Afterwards another server may start there at once. A server cannot be closed before it has started, nor twice: it
    /// is there once it has started, and closing takes it. Handlers of disconnects have run when this returns, unless
    /// they take longer than the deadline and 10 s.
    ///
    /// A client that is not connected, or hangs up meanwhile, is not waited for. What was handed to handlers counts as
    /// released; a successor of this server gets the rest.
    ///
    /// # Errors
    ///
    /// How many events could not be delivered within the deadline, those for clients that are gone included.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the server: everybody is hung up on.
    pub async fn close(self, deadline: Duration) -> Result<(), Closing> {
        let until = Instant::now() + deadline.min(Duration::from_secs(60 * 60 * 24 * 365));
        let mut closing = JoinSet::new();
        for peer in self.roster().close().iter().cloned() {
            closing.spawn(async move {
                let undelivered = peer.close(Some(Message::GoAway { to: "" }), until).await;
                if let Some(native) = peer.wire.native() {
                    // What was handed to handlers is not repeated to a successor.
                    native.detach().await;
                }
                peer.retire();
                // Until then its handlers of the disconnect run.
                let told = until.max(Instant::now()) + CLOSE_LISTENER;
                let _ = timeout_at(told, peer.turn.lock()).await;
                undelivered
            });
        }
        let mut undelivered = 0;
        while let Some(closed) = closing.join_next().await {
            undelivered += closed.unwrap_or(0);
        }
        self.stop.send_replace(true);
        let acceptor = self.acceptor.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(acceptor) = acceptor {
            let _ = timeout(CLOSE_LISTENER, acceptor).await;
        }
        if undelivered > 0 { Err(Closing { undelivered }) } else { Ok(()) }
    }

    fn roster(&self) -> &Roster {
        self.shared.roster()
    }
}

/// Hangs up on everybody; what was not delivered is lost.
impl Drop for Server {
    fn drop(&mut self) {
        self.stop.send_replace(true);
        let _entered = self.runtime.enter();
        for peer in self.roster().clear() {
            peer.retire();
        }
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("id", &self.id())
            .field("endpoint", &self.endpoint)
            .finish_non_exhaustive()
    }
}

impl Shared {
    fn roster(&self) -> &Roster {
        self.core.roster().expect("a server's core has a roster from the start")
    }

    fn refused(&self) {
        tracing::debug!("a client was refused");
        self.core.counters.refused.fetch_add(1, Ordering::Relaxed);
    }

    /// What of a hello does not fit this server.
    fn check(&self, hello: &Hello, info: &ConnectionInfo) -> Result<(), Refusal> {
        let tuning = &self.config.tuning;
        let codec = codec_id(tuning.codec);
        if hello.delivery != DeliveryMode::Lanes || hello.from_port.len() > MAX_NAME {
            let what = "this is a server of events, and the peer no client of one".to_owned();
            return Err(Refusal::Incompatible { what });
        }
        if hello.to_process != self.config.id {
            return Err(Refusal::WrongProcess { wanted: hello.to_process.clone() });
        }
        let (theirs, ours) = (hello.max_message, tuning.limits.max_message as u64);
        if theirs != ours {
            // Each side sends what the other one must be able to take.
            let what = format!("the client's messages may have {theirs} bytes, the server's {ours}");
            return Err(Refusal::Incompatible { what });
        }
        if hello.codec != codec {
            let what = format!("the client's codec is {}, the server's {codec}", hello.codec);
            return Err(Refusal::Incompatible { what });
        }
        if name_of(hello).is_some_and(|name| !is_name(name)) || !is_id(&hello.from_port) {
            return Err(Refusal::Unsupported { what: "a client's name or id".to_owned() });
        }
        let request = ClientRequest {
            id: hello.from_port.clone(),
            name: name_of(hello).map(ToOwned::to_owned),
            credentials: hello.credentials.clone(),
            peer: info.peer.clone(),
        };
        if self.admits(&request) { Ok(()) } else { Err(Refusal::NotPermitted) }
    }

    fn admits(&self, request: &ClientRequest) -> bool {
        // The hook is the user's: it runs without the lock.
        let admission = self.admission.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let Some(admit) = admission else { return true };
        std::panic::catch_unwind(AssertUnwindSafe(|| admit(request))).unwrap_or_else(|_| {
            self.ran(1);
            false
        })
    }

    fn ran(&self, panicked: u64) {
        self.core.counters.hooks_panicked.fetch_add(panicked, Ordering::Relaxed);
    }

    async fn tell_undelivered(&self, peer: &Peer, count: usize) {
        if count > 0 {
            let (id, name) = (peer.id.clone(), peer.name().cloned());
            self.ran(self.undelivered.run(Undelivered { id, name, count }).await);
        }
    }

    /// The peer that this hello is of: one that comes back, or a new one.
    fn enter(self: &Arc<Self>, hello: &Hello, info: &ConnectionInfo) -> Result<Entered, Refusal> {
        let session = hello.session.bits();
        if let Some(known) = self.roster().known(session) {
            // It was let in as whom it was then.
            let is_same = *known.id == *hello.from_port && known.name().map(|name| &**name) == name_of(hello);
            return if is_same { Ok((known, None)) } else { Err(Refusal::NotPermitted) };
        }
        let id: Arc<str> = Arc::from(hello.from_port.as_str());
        let name: Option<Arc<str>> = name_of(hello).map(Arc::from);
        let labels: Vec<&str> = [Some(&*id), name.as_deref()].into_iter().flatten().collect();
        let mut entered = None;
        let make = || {
            let (wire, inlets) = Native::new(Side::Server, &self.config.tuning)?;
            let peer = Peer::new(id.clone(), name.clone(), self.core.clone(), Outlet::Native(wire));
            // Before anybody can find it: so its name is taken from here on.
            let turn = peer.turn.clone().try_lock_owned().expect("nobody else knows it");
            entered = peer.connected(hello.attempt, info.clone()).map(|epoch| (epoch, turn));
            peer.start(inlets);
            Ok(peer)
        };
        match self.roster().enter(session, &labels, make) {
            Ok((peer, replaced)) => {
                for gone in replaced {
                    self.runtime.spawn(give_up(self.clone(), gone));
                }
                Ok((peer, entered))
            }
            Err(Unwelcome::Full) => Err(Refusal::Busy),
            Err(Unwelcome::Taken(name)) => Err(Refusal::NameTaken { name }),
        }
    }
}

/// A client, and the epoch and the turn of its connection if it is new.
type Entered = (Arc<Peer>, Option<(u64, OwnedMutexGuard<()>)>);

/// The codec's name in the hello: that of the values, within messages of this layout.
pub(super) fn codec_id(codec: crate::PayloadCodec) -> String {
    format!("{}+{}", FrameCodec::ID, codec.id())
}

fn name_of(hello: &Hello) -> Option<&str> {
    Some(hello.from_process.as_str()).filter(|name| !name.is_empty())
}

/// One connection, from its first byte to its last.
async fn serve(shared: Arc<Shared>, incoming: Incoming, handshaking: Handshaking) {
    let limit = shared.config.tuning.limits.handshake_timeout;
    if let Some(cutting) = shared.core.cutting() {
        return serve_plain(shared, incoming, handshaking, cutting).await;
    }
    let greeted = timeout(limit, async {
        let connection = incoming.establish().await.map_err(std::io::Error::from)?;
        Greeting::read(connection, limit).await
    });
    let Ok(Ok(greeting)) = greeted.await else {
        shared.core.counters.failed.fetch_add(1, Ordering::Relaxed);
        return;
    };
    drop(handshaking);
    let checked = shared.check(greeting.hello(), greeting.info());
    let (peer, entered) = match checked.and_then(|()| shared.enter(greeting.hello(), greeting.info())) {
        Ok(entered) => entered,
        Err(refusal) => {
            shared.refused();
            return greeting.refuse(refusal).await;
        }
    };
    let attempt = greeting.hello().attempt;
    let (epoch, turn) = match entered {
        Some(entered) => entered,
        None if !peer.is_newer(attempt) => return greeting.refuse(Refusal::Stale).await,
        None => {
            // The client dials anew, so the connection before is over, known or not; its end is told first.
            peer.wire.cut();
            let Ok(turn) = timeout(limit, peer.turn.clone().lock_owned()).await else {
                return greeting.refuse(Refusal::Busy).await;
            };
            let info = greeting.info().clone();
            let Some(epoch) = peer.connected(attempt, info) else {
                return greeting.refuse(Refusal::Stale).await;
            };
            (epoch, turn)
        }
    };
    let mut here = Here { shared: &shared, peer: &peer, epoch, left: false };
    let welcome = Welcome {
        incarnation: shared.incarnation,
        received: 0,
        released: 0,
        max_values: 0,
        max_bytes: 0,
        unknown_session: false,
        restated: false,
        ticked: false,
    };
    let end = match trunk::accept(greeting, welcome, LANES, limit).await {
        Ok((trunk, driver)) => {
            if let Some(native) = peer.wire.native() {
                native.attach(&trunk);
            }
            if peer.is_retired() {
                trunk.cut();
            }
            // The lanes move while the handlers of the connect run; the connection ends with this task.
            let mut driving = JoinSet::new();
            driving.spawn(driver);
            shared.ran(shared.connected.run(Reply::new(peer.clone())).await);
            peer.open(epoch);
            let end = driving.join_next().await.and_then(Result::ok);
            Some(end.unwrap_or(TrunkEnd::Cut))
        }
        Err(_) => None,
    };
    peer.disconnected(epoch);
    if let Some(end) = end {
        if matches!(end, TrunkEnd::Protocol { .. }) {
            shared.core.counters.malformed.fetch_add(1, Ordering::Relaxed);
        }
        let departure = Departure::of(&peer, reason_of(&peer, &end));
        shared.ran(shared.disconnected.run(departure).await);
    }
    drop(turn);
    if !peer.has_left() && timeout(shared.config.keep_cut, peer.back()).await.is_ok() {
        here.left = true;
    }
}

/// A client whose connection is served. When that ends, by itself or with its task, the client is gone unless it is back.
struct Here<'a> {
    shared: &'a Arc<Shared>,
    peer: &'a Arc<Peer>,
    epoch: u64,
    /// Somebody else sees to it.
    left: bool,
}

impl Drop for Here<'_> {
    fn drop(&mut self) {
        self.peer.disconnected(self.epoch);
        if !self.left && self.shared.roster().leave(self.peer, self.epoch) {
            // It is in nobody's list any more: this must come to its end, also when the server closes meanwhile.
            self.shared.runtime.spawn(give_up(self.shared.clone(), self.peer.clone()));
        }
    }
}

/// One connection of a wire without links: it is its client's whole life.
async fn serve_plain(shared: Arc<Shared>, incoming: Incoming, handshaking: Handshaking, cutting: Cutting) {
    let limits = shared.config.tuning.limits.clone();
    let Ok(Ok(connection)) = timeout(limits.handshake_timeout, incoming.establish()).await else {
        shared.core.counters.failed.fetch_add(1, Ordering::Relaxed);
        return;
    };
    drop(handshaking);
    let id: Arc<str> = Arc::from(format!("{:032x}", random_bits()));
    let info = connection.info().clone();
    if !shared.admits(&ClientRequest {
        id: id.as_ref().to_owned(),
        name: None,
        credentials: Vec::new(),
        peer: info.peer.clone(),
    }) {
        return shared.refused();
    }
    let (arrived, taken) = arrivals();
    let mut made = None;
    let make = || {
        let (plain, outbox) = Plain::new(&shared.config.tuning, shared.core.max_pending())?;
        let peer = Peer::new(id.clone(), None, shared.core.clone(), Outlet::Plain(plain));
        // Before anybody can find it, so that nothing goes out before the greeting.
        if let Some(greeting) = shared.core.greeting() {
            let _ = peer.wire.try_event(greeting);
        }
        made = peer.connected(1, info.clone()).map(|epoch| (outbox, epoch));
        peer.start_plain(taken);
        Ok(peer)
    };
    let (Ok((peer, _)), Some((mut outbox, epoch))) =
        (shared.roster().enter(random_bits(), &[&*id], make), made)
    else {
        // This wire has no word for it.
        return shared.refused();
    };
    let opening = async {
        shared.ran(shared.connected.run(Reply::new(peer.clone())).await);
        peer.open(epoch);
    };
    let malformed = &shared.core.counters.malformed;
    let driving = outbox.drive(connection, &cutting, &limits, &arrived, malformed);
    let ((), end) = tokio::join!(opening, driving);
    // What has arrived is still handed out.
    drop(arrived);
    peer.disconnected(epoch);
    shared.roster().leave(&peer, epoch);
    shared.ran(shared.disconnected.run(Departure::of(&peer, reason_of_plain(&end))).await);
    let left = outbox.give_up();
    shared.tell_undelivered(&peer, left).await;
}

/// A client does not come back: what was kept for it is counted and let go.
async fn give_up(shared: Arc<Shared>, peer: Arc<Peer>) {
    let count = timeout(Duration::from_secs(1), peer.close(None, Instant::now())).await;
    peer.retire();
    let count = count.unwrap_or(0);
    if count > 0 {
        shared.tell_undelivered(&peer, count).await;
    }
}
