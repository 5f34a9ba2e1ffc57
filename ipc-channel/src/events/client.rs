//! The client: keeps itself connected to a server, tells it events and hears its events, and asks.

use std::{
    fmt,
    pin::pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use ipc_pipeline::{
    CapacityError, Sender,
    protocol::{Hello, SessionId},
    trunk::{self, DialError, TrunkDriver, TrunkEnd},
};
use ipc_transport::{Backoff, BackoffConfig, Connection, Endpoint, Error, NameWatch, check_name as check_id};
use serde::{Serialize, de::DeserializeOwned};
use tokio::{
    runtime::Handle,
    sync::watch,
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};

use super::{
    AttemptFailed, CallError, ClientConfig, Closing, ConnectError, Directory, DisconnectReason, EmitError,
    GaveUp, Reply, RetryPolicy,
    config::Resolved,
    core::Core,
    error::check_name,
    hooks::Hooks,
    lifecycle::{reason_of, reason_of_plain},
    message::Message,
    native::{LANES, Native, Side},
    outlet::Outlet,
    peer::Peer,
    plain::{Arrived, Cutting, Outbox, Plain, arrivals},
    random_bits, reply,
    server::codec_id,
};
use crate::{
    DuplicateResponder, Event, EventStream, HandlerCounters, Payload, Subscription, handlers::Handlers,
};

/// A connection that lasted so long was no refusal.
const OF_USE: Duration = Duration::from_secs(1);

/// How long handlers of the last disconnect and of the end may take.
const LAST_HOOKS: Duration = Duration::from_secs(5);

/// What a client is doing, as a value to watch.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum ClientStatus {
    /// It was closed: nothing more will happen.
    Closed,
    /// Events flow.
    Connected,
    /// Trying to connect, for the first time or again.
    Connecting,
    /// It tries no more; what was accepted is kept until it is closed.
    GaveUp(GaveUp),
}

/// Counts since the client started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct ClientCounters {
    /// Connections that were made.
    pub connects: u64,
    /// Attempts to connect that failed.
    pub failed_attempts: u64,
    /// Events that the server's policies dropped before they were sent.
    pub missed: u64,
    /// Events of ours that a policy dropped.
    pub dropped: u64,
    /// Answers that came when nobody waited for them any more.
    pub late_answers: u64,
    /// Requests turned away because as many as may were being answered.
    pub busy: u64,
    /// Connections that were cut because the server broke the protocol; on the wire of node-ipc also frames that
    /// were passed over.
    pub malformed: u64,
    /// Handlers of connects, disconnects and the like that panicked.
    pub hooks_panicked: u64,
    /// Events, requests and handlers.
    pub handlers: HandlerCounters,
}

/// A client of one server, over any number of connections.
///
/// Each client is a connection of its own, also of several to one server. Everything but its end takes `&self`: tasks that
/// are to share one connection share an `Arc<Client>`, whose handlers are there once.
///
/// It connects in the background and by itself again. What is sent meanwhile is kept in order, within the capacity, and
/// subscriptions stay. Dropping it hangs up after what was accepted is delivered, at most 1 s later; see also
/// [`close`](Self::close) and [`abort`](Self::abort).
pub struct Client {
    shared: Arc<Shared>,
    task: Option<JoinHandle<()>>,
    runtime: Handle,
}

struct Shared {
    config: ClientConfig,
    place: Resolved,
    session: SessionId,
    peer: Arc<Peer>,
    /// The client's own id.
    id: Arc<str>,
    status: watch::Sender<ClientStatus>,
    counts: Mutex<(u64, u64)>,
    order: watch::Sender<Order>,
    connected: Arc<Hooks<Reply>>,
    disconnected: Arc<Hooks<DisconnectReason>>,
    attempt_failed: Arc<Hooks<AttemptFailed>>,
    gave_up: Arc<Hooks<GaveUp>>,
    destroyed: Arc<Hooks<()>>,
    /// Nothing more is accepted: with nothing left to deliver there is no reason to connect again.
    closing: AtomicBool,
}

/// What a client has where the wire has no links.
struct PlainSide {
    outbox: Outbox,
    arrived: Sender<Arrived>,
    cutting: Cutting,
}

/// What the client's task is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    /// Keep connected.
    Go,
    /// Stay connected, but do not try again.
    Stay,
    /// End.
    End,
}

impl Client {
    /// Starts to connect, and to connect again whenever the connection is lost; returns at once.
    ///
    /// The server need not exist yet.
    ///
    /// # Errors
    ///
    /// [`Error::NoRuntime`] outside a tokio runtime, [`Error::InvalidName`], and what looking up the place reports.
    pub fn start(config: ClientConfig) -> Result<Self, Error> {
        Self::start_with(config, |_| ())
    }

    /// As [`start`](Self::start), and has `set_up` add handlers before the first attempt to connect: one that is added
    /// later may miss what comes before.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn start_with<F>(config: ClientConfig, set_up: F) -> Result<Self, Error>
    where
        F: FnOnce(&Self),
    {
        check_id(&config.server)?;
        if let Some(name) = &config.name {
            check_id(name)?;
        }
        let runtime = Handle::try_current().map_err(|_| Error::NoRuntime)?;
        let config = config.started();
        let place = config.resolve()?;
        let core = Core::new(&config.server, config.tuning.clone());
        let id: Arc<str> = Arc::from(config.server.as_str());
        let (peer, plain) = if let Some(cutting) = core.cutting() {
            let (wire, outbox) = Plain::new(&config.tuning, core.max_pending())?;
            let peer = Peer::new(id, None, core, Outlet::Plain(wire));
            let (arrived, taken) = arrivals();
            peer.start_plain(taken);
            (peer, Some(PlainSide { outbox, arrived, cutting }))
        } else {
            let (wire, inlets) = Native::new(Side::Client, &config.tuning)?;
            let peer = Peer::new(id, None, core, Outlet::Native(wire));
            peer.start(inlets);
            (peer, None)
        };
        let shared = Arc::new(Shared {
            place,
            session: SessionId::from_bits(random_bits()),
            peer,
            id: Arc::from(format!("{:032x}", random_bits())),
            status: watch::Sender::new(ClientStatus::Connecting),
            counts: Mutex::default(),
            order: watch::Sender::new(Order::Go),
            connected: Hooks::new(),
            disconnected: Hooks::new(),
            attempt_failed: Hooks::new(),
            gave_up: Hooks::new(),
            destroyed: Hooks::new(),
            closing: AtomicBool::new(false),
            config,
        });
        let mut client = Self { shared, task: None, runtime };
        set_up(&client);
        client.task = Some(client.runtime.spawn(run(client.shared.clone(), plain)));
        Ok(client)
    }

    /// What identifies this client: 32 hexadecimal digits, made when it started. Servers can address it by them.
    pub fn id(&self) -> &str {
        &self.shared.id
    }

    /// The name that it was given.
    pub fn name(&self) -> Option<&str> {
        self.shared.config.name.as_deref()
    }

    /// The server, as handlers get it.
    pub fn server(&self) -> Reply {
        Reply::new(self.shared.peer.clone())
    }

    /// What the client is doing, to look at or to watch.
    pub fn status(&self) -> watch::Receiver<ClientStatus> {
        self.shared.status.subscribe()
    }

    /// Whether there is a connection now.
    pub fn is_connected(&self) -> bool {
        matches!(*self.shared.status.borrow(), ClientStatus::Connected)
    }

    /// Waits until the client is connected, however late the server starts.
    ///
    /// # Errors
    ///
    /// It gave up, with the reason.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future cancels nothing: the client goes on connecting. So a deadline is a `timeout` around it.
    pub async fn connected(&self) -> Result<(), GaveUp> {
        let mut status = self.shared.status.subscribe();
        let reached = status
            .wait_for(|status| !matches!(status, ClientStatus::Connecting))
            .await
            .map_or(ClientStatus::Closed, |status| status.clone());
        match reached {
            ClientStatus::Connected => Ok(()),
            ClientStatus::GaveUp(why) => Err(why),
            _ => Err(GaveUp::Stopped),
        }
    }

    /// Counts since the client started.
    pub fn counters(&self) -> ClientCounters {
        let peer = &self.shared.peer;
        let counters = &peer.core.counters;
        let (connects, failed_attempts) = *self.shared.counts();
        ClientCounters {
            connects,
            failed_attempts,
            missed: counters.missed.load(Ordering::Relaxed),
            dropped: peer.wire.dropped(),
            late_answers: peer.calls.late(),
            busy: counters.busy.load(Ordering::Relaxed),
            malformed: counters.malformed.load(Ordering::Relaxed),
            hooks_panicked: counters.hooks_panicked.load(Ordering::Relaxed),
            handlers: peer.core.handlers.counters(),
        }
    }

    pub(super) fn handlers(&self) -> Arc<Handlers<Reply>> {
        self.shared.peer.core.handlers.clone()
    }

    // Handlers.

    /// Runs `handler` for each event of this name that the server sends, or a client by way of it.
    ///
    /// See [`Server::on`](super::Server::on): the same rules hold. Handlers stay over reconnects.
    pub fn on<T, F, Fut>(&self, name: &str, handler: F) -> Subscription
    where
        T: DeserializeOwned + Send + 'static,
        F: Fn(Event<T>, Reply) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        self.shared.peer.core.handlers.on(name, handler)
    }

    /// Runs `handler` for the next event of this name and then no more.
    pub fn once<T, F, Fut>(&self, name: &str, handler: F) -> Subscription
    where
        T: DeserializeOwned + Send + 'static,
        F: Fn(Event<T>, Reply) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        self.shared.peer.core.handlers.once(name, handler)
    }

    /// Runs `handler` for every event, whatever its name is, after the handlers of that name; the value is not decoded.
    pub fn on_any<F, Fut>(&self, handler: F) -> Subscription
    where
        F: Fn(Event<Payload>, Reply) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        self.shared.peer.core.handlers.on_any(handler)
    }

    /// The events of this name as a stream, in the place of a handler; see [`Server::events`](super::Server::events).
    ///
    /// # Errors
    ///
    /// A capacity of zero, or one that is too large.
    pub fn events<T>(&self, name: &str, capacity: usize) -> Result<EventStream<T, Reply>, CapacityError>
    where
        T: DeserializeOwned + Send + 'static,
    {
        self.shared.peer.core.handlers.stream(name, capacity)
    }

    /// Every event as a stream, whatever its name is, undecoded; otherwise as [`events`](Self::events).
    ///
    /// # Errors
    ///
    /// As there.
    pub fn all_events(&self, capacity: usize) -> Result<EventStream<Payload, Reply>, CapacityError> {
        self.shared.peer.core.handlers.stream_any(capacity)
    }

    /// Runs `handler` for whatever bytes arrive, in pieces as they come, on the raw wire.
    pub fn on_bytes<F, Fut>(&self, handler: F) -> Subscription
    where
        F: Fn(Bytes, Reply) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        self.shared.peer.core.bytes.add(move |(bytes, reply)| handler(bytes, reply))
    }

    /// Removes all handlers and streams of the events of this name; how many there were.
    pub fn remove_all(&self, name: &str) -> usize {
        self.shared.peer.core.handlers.remove_all(name)
    }

    /// Answers the requests of this name, from the server or from other clients; see
    /// [`Server::respond`](super::Server::respond).
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
        self.shared.peer.core.handlers.respond(name, handler)
    }

    /// Runs `handler` whenever the client has connected, before any event of that connection.
    pub fn on_connect<F, Fut>(&self, handler: F) -> Subscription
    where
        F: Fn(Reply) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        self.shared.connected.add(handler)
    }

    /// Runs `handler` whenever a connection is gone; never for an attempt that did not become one.
    pub fn on_disconnect<F, Fut>(&self, handler: F) -> Subscription
    where
        F: Fn(DisconnectReason) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        self.shared.disconnected.add(handler)
    }

    /// Runs `handler` whenever an attempt to connect has failed.
    pub fn on_attempt_failed<F, Fut>(&self, handler: F) -> Subscription
    where
        F: Fn(AttemptFailed) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        self.shared.attempt_failed.add(handler)
    }

    /// Runs `handler` when the client stops trying; [`on_destroy`](Self::on_destroy) follows.
    pub fn on_gave_up<F, Fut>(&self, handler: F) -> Subscription
    where
        F: Fn(GaveUp) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        self.shared.gave_up.add(handler)
    }

    /// Runs `handler` when it is over: after the last disconnect, when the client gave up or was closed. Nothing follows.
    pub fn on_destroy<F, Fut>(&self, handler: F) -> Subscription
    where
        F: Fn(()) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        self.shared.destroyed.add(handler)
    }

    // Sending.

    /// Sends an event to the server; see [`Reply::emit`].
    ///
    /// # Errors
    ///
    /// As there.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future while it waits sends nothing.
    pub async fn emit<T>(&self, name: &str, value: &T) -> Result<(), EmitError>
    where
        T: Serialize + Sync + ?Sized,
    {
        let frame = self.shared.peer.core.encode_event(name, Some(value))?;
        self.shared.peer.wire.event(frame).await
    }

    /// As [`emit`](Self::emit), of an event without data; a handler gets what nothing is of its type: the unit, or `null`.
    ///
    /// # Errors
    ///
    /// As there.
    ///
    /// # Cancel safety
    ///
    /// As there.
    pub async fn emit_bare(&self, name: &str) -> Result<(), EmitError> {
        let frame = self.shared.peer.core.encode_event(name, None::<&()>)?;
        self.shared.peer.wire.event(frame).await
    }

    /// Sends bare bytes to the server, on the raw wire; they go out as they are, and may arrive in other pieces.
    ///
    /// # Errors
    ///
    /// [`EmitError::Unsupported`] on another wire; otherwise as [`emit`](Self::emit).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future while it waits sends nothing.
    pub async fn emit_bytes(&self, bytes: impl Into<Bytes> + Send) -> Result<(), EmitError> {
        let frame = self.shared.peer.core.encode_bytes(bytes.into())?;
        self.shared.peer.wire.event(frame).await
    }

    /// As [`emit`](Self::emit), without waiting.
    ///
    /// # Errors
    ///
    /// [`EmitError::Full`] when there is no room now; otherwise as there.
    pub fn try_emit<T>(&self, name: &str, value: &T) -> Result<(), EmitError>
    where
        T: Serialize + ?Sized,
    {
        self.shared.peer.wire.try_event(self.shared.peer.core.encode_event(name, Some(value))?)
    }

    /// Has the server send an event to another client, by id or name; returns when it is accepted for that client.
    ///
    /// # Errors
    ///
    /// [`CallError::UnknownClient`], [`CallError::Emit`] with [`EmitError::Full`] when that client has no room,
    /// [`CallError::TimedOut`] at the deadline, and the other variants of [`CallError`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves open whether the event was sent.
    pub async fn emit_to<T>(
        &self,
        client: &str,
        name: &str,
        value: &T,
        deadline: Duration,
    ) -> Result<(), CallError>
    where
        T: Serialize + Sync + ?Sized,
    {
        check_name(name)?;
        check_name(client)?;
        let peer = &self.shared.peer;
        let encode = |id| peer.encode(&Message::EmitTo { id, to: client, name, payload: &[] }, value);
        peer.call(encode, deadline).await.map(drop)
    }

    /// Has the server send an event to all other clients; to how many it went.
    ///
    /// # Errors
    ///
    /// [`CallError`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves open whether the event was sent.
    pub async fn broadcast<T>(&self, name: &str, value: &T, deadline: Duration) -> Result<u64, CallError>
    where
        T: Serialize + Sync + ?Sized,
    {
        self.broadcast_by(false, name, value, deadline).await
    }

    /// As [`broadcast`](Self::broadcast), to this client too.
    ///
    /// # Errors
    ///
    /// As there.
    ///
    /// # Cancel safety
    ///
    /// As there.
    pub async fn broadcast_including_self<T>(
        &self,
        name: &str,
        value: &T,
        deadline: Duration,
    ) -> Result<u64, CallError>
    where
        T: Serialize + Sync + ?Sized,
    {
        self.broadcast_by(true, name, value, deadline).await
    }

    async fn broadcast_by<T>(
        &self,
        include_self: bool,
        name: &str,
        value: &T,
        deadline: Duration,
    ) -> Result<u64, CallError>
    where
        T: Serialize + Sync + ?Sized,
    {
        check_name(name)?;
        let peer = &self.shared.peer;
        let encode = |id| peer.encode(&Message::Broadcast { id, include_self, name, payload: &[] }, value);
        let answer = peer.call(encode, deadline).await?;
        let clients = answer.first_chunk().map(|bytes| u64::from_le_bytes(*bytes));
        clients.ok_or_else(|| CallError::Rejected { what: "an answer without a count".to_owned() })
    }

    /// Asks the server and waits for its answer; see [`Reply::call`].
    ///
    /// A call that is made while there is no connection goes out with the next one.
    ///
    /// # Errors
    ///
    /// As there.
    ///
    /// # Cancel safety
    ///
    /// As there.
    pub async fn call<T, R>(&self, name: &str, value: &T, deadline: Duration) -> Result<R, CallError>
    where
        T: Serialize + Sync + ?Sized,
        R: DeserializeOwned,
    {
        reply::call(&self.shared.peer, "", name, value, deadline).await
    }

    /// Asks another client, by id or name, through the server.
    ///
    /// # Errors
    ///
    /// [`CallError::UnknownClient`]; [`CallError::Disconnected`] also when that client is gone; otherwise as
    /// [`call`](Self::call).
    ///
    /// # Cancel safety
    ///
    /// As [`call`](Self::call).
    pub async fn call_client<T, R>(
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
        if client.is_empty() {
            return Err(CallError::UnknownClient { client: String::new() });
        }
        reply::call(&self.shared.peer, client, name, value, deadline).await
    }

    /// Who is connected to the server, and what it listens to and answers.
    ///
    /// # Errors
    ///
    /// [`CallError`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future changes nothing.
    pub async fn discover(&self, deadline: Duration) -> Result<Directory, CallError> {
        let peer = &self.shared.peer;
        let max = peer.core.tuning.limits.max_message;
        let encode = |id| {
            let message = Message::Discover { id };
            Ok(super::frame::Frame::build(max, |out| message.encode(out))?)
        };
        let answer = peer.call(encode, deadline).await?;
        peer.core.tuning.codec.decode(&answer).map_err(CallError::Answer)
    }

    /// Events kept for the server: not sent yet, under way, or not taken.
    pub fn pending(&self) -> usize {
        self.shared.peer.wire.pending()
    }

    /// Waits until everything accepted so far was taken by the server.
    ///
    /// # Errors
    ///
    /// [`EmitError::Closed`] when the server is gone for good; a lost connection is waited out.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future changes nothing.
    pub async fn settled(&self) -> Result<(), EmitError> {
        self.shared.peer.wire.settled().await
    }

    // Endings.

    /// Tries no more from now on; a connection that stands is kept. A client that is waiting to try again gives up.
    pub fn stop_retrying(&self) {
        self.shared.order.send_if_modified(|order| {
            let stays = *order == Order::Go;
            if stays {
                *order = Order::Stay;
            }
            stays
        });
    }

    /// Ends in good order: what was accepted is delivered, then this side hangs up, and nothing happens afterwards. Handlers
    /// of the disconnect and of the end have 5 s beyond the deadline.
    ///
    /// # Errors
    ///
    /// How many events could not be delivered within the deadline: without a server, all of them.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the client.
    pub async fn close(mut self, deadline: Duration) -> Result<(), Closing> {
        let until = Instant::now() + deadline.min(Duration::from_secs(60 * 60 * 24 * 365));
        self.shared.closing.store(true, Ordering::Relaxed);
        let undelivered = self.shared.peer.close(Some(Message::Goodbye), until).await;
        if let Some(native) = self.shared.peer.wire.native() {
            // So that the server knows what it delivered.
            native.detach().await;
        }
        self.end().await;
        if undelivered > 0 { Err(Closing { undelivered }) } else { Ok(()) }
    }

    /// Ends at once; what was not delivered is lost.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends it all the same.
    pub async fn abort(mut self) {
        self.end().await;
    }

    async fn end(&mut self) {
        self.shared.order.send_replace(Order::End);
        self.shared.peer.wire.end();
        // It stays here until it is over: if this is dropped, the drop does the rest.
        if let Some(task) = &mut self.task {
            finish(task).await;
        }
        self.task = None;
        self.shared.peer.retire();
    }
}

/// Delivers what was accepted, for 1 s at most, and hangs up.
impl Drop for Client {
    fn drop(&mut self) {
        let Some(mut task) = self.task.take() else { return self.shared.peer.retire() };
        let shared = self.shared.clone();
        self.runtime.spawn(async move {
            let is_ending = *shared.order.borrow() == Order::End;
            if !is_ending {
                shared.closing.store(true, Ordering::Relaxed);
                let until = Instant::now() + Duration::from_secs(1);
                let _ = shared.peer.close(Some(Message::Goodbye), until).await;
            }
            shared.order.send_replace(Order::End);
            shared.peer.wire.end();
            finish(&mut task).await;
            shared.peer.retire();
        });
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("id", &self.shared.id)
            .field("name", &self.shared.config.name)
            .field("server", &self.shared.config.server)
            .finish_non_exhaustive()
    }
}

impl Shared {
    fn counts(&self) -> std::sync::MutexGuard<'_, (u64, u64)> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ran(&self, panicked: u64) {
        self.peer.core.counters.hooks_panicked.fetch_add(panicked, Ordering::Relaxed);
    }

    async fn ordered(&self, until: impl Fn(Order) -> bool) {
        let mut order = self.order.subscribe();
        // The sender lives as long as this.
        let _ = order.wait_for(|order| until(*order)).await;
    }

    /// One attempt, from the name to the answer.
    async fn attempt(&self, number: u64) -> Result<Connected, ConnectError> {
        let config = &self.config;
        let options = &config.connect;
        let dialled = timeout(options.timeout, async {
            match &self.place {
                Resolved::Endpoint(endpoint) => config.transports.connect(endpoint, options).await,
                Resolved::Naming(naming) => {
                    let endpoint = naming.resolve(&config.server).await?;
                    config.transports.connect(&endpoint, options).await
                }
            }
        });
        let connection: Connection = match dialled.await {
            Ok(connection) => connection.map_err(ConnectError::Transport)?,
            Err(_) => return Err(ConnectError::NoServer { what: "no connection in time".to_owned() }),
        };
        let info = connection.info().clone();
        let remote = info.remote.clone();
        if self.peer.wire.native().is_none() {
            let epoch = self.peer.connected(number, info).expect("attempts are numbered upwards");
            return Ok(Connected { driver: Driver::Plain(connection), remote, epoch });
        }
        let mut hello = Hello::new(self.session, codec_id(config.tuning.codec));
        hello.attempt = number;
        hello.from_process = config.name.clone().unwrap_or_default();
        hello.from_port = self.id.as_ref().to_owned();
        hello.to_process.clone_from(&config.server);
        "events".clone_into(&mut hello.to_port);
        hello.max_message = config.tuning.limits.max_message as u64;
        hello.credentials.clone_from(&config.credentials);
        let limit = config.tuning.limits.handshake_timeout;
        match trunk::dial(connection, hello, LANES, limit).await {
            Ok((trunk, driver, _)) => {
                let epoch = self.peer.connected(number, info).expect("attempts are numbered upwards");
                if let Some(native) = self.peer.wire.native() {
                    native.attach(&trunk);
                }
                Ok(Connected { driver: Driver::Trunk(driver), remote, epoch })
            }
            Err(DialError::Refused(refusal)) => Err(ConnectError::Refused(refusal)),
            // The cause says more than that it failed: the alert of a server that does not trust us, for one.
            Err(DialError::Failed(cause)) => Err(ConnectError::NoServer { what: cause.to_string() }),
            Err(error) => Err(ConnectError::NoServer { what: error.to_string() }),
        }
    }
}

/// Waits for the client's task, but not for handlers of its hooks that do not end.
async fn finish(task: &mut JoinHandle<()>) {
    if timeout(LAST_HOOKS, &mut *task).await.is_err() {
        task.abort();
    }
}

/// A connection that was made.
struct Connected {
    driver: Driver,
    remote: Endpoint,
    epoch: u64,
}

enum Driver {
    Plain(Connection),
    Trunk(TrunkDriver),
}

/// Keeps the client connected until it is told to end, or gives up.
async fn run(shared: Arc<Shared>, mut plain: Option<PlainSide>) {
    let mut watch = match &shared.place {
        Resolved::Naming(naming) => naming.watch(&shared.config.server).ok(),
        Resolved::Endpoint(_) => None,
    };
    let mut retries = Retries::new(&shared.config.retry, &shared.place);
    let mut attempts = 0_u64;
    let mut failed = 0_u64;
    let gave_up = loop {
        attempts += 1;
        let attempt = tokio::select! {
            attempt = shared.attempt(attempts) => attempt,
            () = shared.ordered(|order| order == Order::End) => break None,
        };
        let error = match attempt {
            Ok(connected) => {
                failed = 0;
                let remote = connected.remote.clone();
                // Where the wire has no word for a refusal, the hang-up is one.
                if serve(&shared, connected, plain.as_mut()).await {
                    retries.connected(&remote);
                }
                None
            }
            Err(error) => {
                failed += 1;
                shared.counts().1 += 1;
                let error = Arc::new(error);
                tracing::debug!(attempt = failed, %error, "an attempt to connect failed");
                let event = AttemptFailed { attempt: failed, error: error.clone() };
                shared.ran(shared.attempt_failed.run(event).await);
                Some(error)
            }
        };
        let order = *shared.order.borrow();
        let closing = shared.closing.load(Ordering::Relaxed);
        if order == Order::End || closing && shared.peer.wire.pending() == 0 {
            break None;
        }
        match error {
            Some(error) if !error.is_transient() => break Some(GaveUp::Refused(error)),
            Some(error) if shared.config.max_retries.is_some_and(|max| failed > max) => {
                break Some(GaveUp::Retries { attempts: failed, error });
            }
            _ => {}
        }
        if order == Order::Stay {
            break Some(GaveUp::Stopped);
        }
        shared.status.send_if_modified(|status| {
            let was = matches!(status, ClientStatus::Connecting);
            *status = ClientStatus::Connecting;
            !was
        });
        tokio::select! {
            () = sleep(retries.next_delay()) => {}
            () = appeared(&mut watch) => {}
            () = shared.ordered(|order| order != Order::Go) => {
                if *shared.order.borrow() == Order::Stay {
                    break Some(GaveUp::Stopped);
                }
                break None;
            }
        }
    };
    if let Some(why) = gave_up {
        shared.status.send_replace(ClientStatus::GaveUp(why.clone()));
        shared.ran(shared.gave_up.run(why).await);
    }
    if *shared.order.borrow() == Order::End || shared.closing.load(Ordering::Relaxed) {
        // No event follows the last word.
        shared.peer.stop().await;
    }
    shared.status.send_if_modified(|status| {
        let closes = !matches!(status, ClientStatus::GaveUp(_));
        if closes {
            *status = ClientStatus::Closed;
        }
        closes
    });
    shared.ran(shared.destroyed.run(()).await);
}

/// One connection, until it is gone; whether it was of any use.
async fn serve(shared: &Arc<Shared>, connected: Connected, plain: Option<&mut PlainSide>) -> bool {
    let Connected { driver, epoch, .. } = connected;
    let began = Instant::now();
    shared.counts().0 += 1;
    let peer = &shared.peer;
    let opening = async {
        shared.ran(shared.connected.run(Reply::new(peer.clone())).await);
        shared.status.send_replace(ClientStatus::Connected);
        peer.open(epoch);
    };
    // The order may have come before the connection was where it is cut.
    let ended = shared.ordered(|order| order == Order::End);
    // Bytes move while the handlers of the connect run.
    let (reason, was_of_use) = match (driver, plain) {
        (Driver::Trunk(driver), _) => {
            let mut driver = tokio::spawn(driver);
            opening.await;
            let end = tokio::select! {
                biased;
                end = &mut driver => end,
                () = ended => {
                    peer.wire.end();
                    driver.await
                }
            };
            (reason_of(peer, &end.unwrap_or(TrunkEnd::Cut)), true)
        }
        (Driver::Plain(connection), Some(PlainSide { outbox, arrived, cutting })) => {
            let limits = &shared.config.tuning.limits;
            let malformed = &peer.core.counters.malformed;
            let before = arrived.counters().accepted;
            let driving = outbox.drive(connection, cutting, limits, arrived, malformed);
            let end = {
                let mut both = pin!(async { tokio::join!(opening, driving).1 });
                tokio::select! {
                    biased;
                    end = &mut both => end,
                    () = ended => {
                        peer.wire.end();
                        both.await
                    }
                }
            };
            let was_of_use = arrived.counters().accepted > before || began.elapsed() >= OF_USE;
            (reason_of_plain(&end), was_of_use)
        }
        (Driver::Plain(_), None) => unreachable!("a client of such a wire has what it needs"),
    };
    peer.disconnected(epoch);
    shared.status.send_replace(ClientStatus::Connecting);
    tracing::trace!(?reason, "the server is gone");
    shared.ran(shared.disconnected.run(reason).await);
    was_of_use
}

/// Completes when the server's name has appeared, where the naming can tell.
async fn appeared(watch: &mut Option<Box<dyn NameWatch>>) {
    match watch {
        Some(watch) => watch.changed().await,
        None => std::future::pending().await,
    }
}

/// When to try again.
enum Retries {
    Every(Duration),
    Schedule { backoff: Backoff, by_place: Option<BackoffConfig> },
}

impl Retries {
    fn new(policy: &RetryPolicy, place: &Resolved) -> Self {
        let by_place = match place {
            Resolved::Endpoint(endpoint) => BackoffConfig::for_endpoint(endpoint),
            Resolved::Naming(_) => BackoffConfig::local(),
        };
        match policy {
            RetryPolicy::Every(interval) => Self::Every(*interval),
            RetryPolicy::Backoff(shape) => {
                Self::Schedule { backoff: Backoff::new(shape.clone(), fastrand::u64(..)), by_place: None }
            }
            RetryPolicy::ByPlace => Self::Schedule {
                backoff: Backoff::new(by_place.clone(), fastrand::u64(..)),
                by_place: Some(by_place),
            },
        }
    }

    /// A connection was made: the schedule begins anew, and with a naming its place is known now.
    fn connected(&mut self, remote: &Endpoint) {
        let Self::Schedule { backoff, by_place } = self else { return };
        let fits = BackoffConfig::for_endpoint(remote);
        match by_place {
            Some(shape) if *shape != fits => {
                *backoff = Backoff::new(fits.clone(), fastrand::u64(..));
                *shape = fits;
            }
            _ => backoff.reset(),
        }
    }

    fn next_delay(&mut self) -> Duration {
        match self {
            Self::Every(interval) => *interval,
            Self::Schedule { backoff, .. } => backoff.next_delay(std::time::Instant::now()),
        }
    }
}
