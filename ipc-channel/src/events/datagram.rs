//! Events in datagrams: an end that is server and client at once, and answers by the address that an event came from.
//!
//! ```text
//!              ┌─ intake ── wires, peers heard from ──▶ inbox ──▶ handlers, one at a time ─┐
//!   socket ────┤                                                                            │ emit
//!              └─ sender ◀────────────── outbox ◀── proofs of addresses ◀─ emit, broadcast ─┘
//! ```

mod config;
mod format;
mod native;
mod outlet;
mod peers;
mod reply;
mod tasks;

use std::{
    fmt,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use bytes::Bytes;
use ipc_pipeline::CapacityError;
use ipc_transport::{DatagramAddress, Endpoint, Error};
use serde::{Serialize, de::DeserializeOwned};
use tokio::{
    runtime::Handle,
    task::JoinHandle,
    time::{Instant, timeout_at},
};

pub use config::{DatagramsConfig, NODE_IPC_PORT};
pub use reply::DatagramReply;

use super::{Closing, EmitError, hooks::Hooks};
use crate::{Event, EventStream, HandlerCounters, Payload, Subscription, handlers::Handlers};
use outlet::Outlet;
use tasks::Intake;

/// Counts since the end was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct DatagramsCounters {
    /// Datagrams that arrived.
    pub received: u64,
    /// Datagrams of which something was no event of this wire.
    pub malformed: u64,
    /// Events, or bare bytes, that were dropped on arrival because too many waited for handlers.
    pub overrun: u64,
    /// Datagrams that were handed to the system.
    pub sent: u64,
    /// Datagrams that were dropped before they left, because newer ones came.
    pub dropped: u64,
    /// Datagrams that the system did not take.
    pub refused: u64,
    /// Events that were refused because nobody has shown to receive at their address.
    pub unproved: u64,
    /// Peers that were forgotten because others were heard from.
    pub forgotten: u64,
    /// Times that the system reported a failure of the socket.
    pub failed: u64,
    /// Handlers of bare bytes that panicked.
    pub hooks_panicked: u64,
    /// Events and their handlers.
    pub handlers: HandlerCounters,
}

/// One end of datagrams: it tells events to any address, and its handlers hear those of everybody.
///
/// **No promise of delivery**: each event may be lost, doubled or overtaken, and nobody is told; nor is anything encrypted,
/// or anybody identified.
///
/// Handlers run one at a time for the whole end, in the order in which events arrived. While one waits, others do; what
/// finds no room meanwhile is dropped and counted, a quarter of the room being the most that one peer has. Sending never
/// waits: when datagrams come faster than they leave, the oldest go and are counted.
///
/// Dropping it closes the socket and drops what has not left; [`close`](Self::close) sends that first.
///
/// # Wires
///
/// | wire | a datagram is | at most, as sent |
/// |---|---|---|
/// | [`Wire::Native`](super::Wire) | one event behind a header of our own | 1,200 bytes |
/// | [`Wire::NodeIpc`](super::Wire) | one frame as node-ipc has it, several when reading; a fragment is malformed | 65,507 bytes |
/// | [`Wire::Raw`](super::Wire) | bytes as they come | 65,507 bytes |
///
/// # Who can be flooded
///
/// A datagram can claim to be from anywhere, so an answer may go to somebody who never asked. On the native wire an address
/// gets at most three times the bytes that came from it, broadcasts included, until a round trip has shown that somebody
/// receives there. Each datagram has a token for its receiver, who repeats it in the next one, so a conversation proves
/// itself; and in place of what would be too much goes a challenge of 24 bytes, which the other end answers by itself. An
/// address that was never heard from is the caller's own choice and has no limit. An end says nothing unasked: not to
/// strangers, not to what is malformed, and to a challenge only when it repeats a token of ours.
///
/// The wires of node-ipc and of bare bytes have no room for such proofs. They stay on this machine unless a transport of
/// [`UdpTransport::dangerous`](ipc_transport::UdpTransport::dangerous) is set; and there every handler that answers more than it was
/// asked, and every broadcast, can be turned against others.
///
/// # Examples
///
/// ```
/// use ipc_channel::{Event, events::{DatagramReply, Datagrams, DatagramsConfig}};
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let any_port = "udp://127.0.0.1:0".parse::<ipc_transport::Endpoint>()?;
/// let world = Datagrams::start(DatagramsConfig::new(any_port.clone())).await?;
/// world.on("message", async |text: Event<String>, reply: DatagramReply| {
///     let _ = reply.emit("message", &format!("{} world!", *text));
/// });
///
/// let hello = Datagrams::start(DatagramsConfig::new(any_port)).await?;
/// let mut answers = hello.events::<String>("message", 8)?;
/// // A datagram may get lost: whoever wants an answer asks again.
/// let answer = loop {
///     hello.emit_at(world.endpoint(), "message", "hello")?;
///     let answer = tokio::time::timeout(std::time::Duration::from_millis(200), answers.next());
///     if let Ok(Some((answer, _))) = answer.await {
///         break answer;
///     }
/// };
/// assert_eq!(*answer, "hello world!");
/// # Ok(())
/// # }
/// # tokio::runtime::Runtime::new().unwrap().block_on(example()).unwrap();
/// ```
pub struct Datagrams {
    outlet: Arc<Outlet>,
    handlers: Arc<Handlers<DatagramReply>>,
    bare: Arc<Hooks<(Bytes, DatagramReply)>>,
    endpoint: Endpoint,
    intake: JoinHandle<()>,
    handling: JoinHandle<()>,
    sending: JoinHandle<()>,
}

impl Datagrams {
    /// Opens the socket, and takes datagrams in by tasks of its own.
    ///
    /// Handlers that are added before the next await miss nothing on a runtime of one thread; on others what arrives
    /// before them counts as unhandled.
    ///
    /// # Errors
    ///
    /// [`Error::AddrInUse`] when somebody else has the address, [`Error::NotLocal`] when it could be reached from
    /// elsewhere, [`Error::WrongFamily`], [`Error::NoRuntime`] outside a tokio runtime, and what the transport reports.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves nothing bound.
    pub async fn start(config: DatagramsConfig) -> Result<Self, Error> {
        let runtime = Handle::try_current().map_err(|_| Error::NoRuntime)?;
        let (socket, max_datagram) = config.bind().await?;
        let endpoint = socket.local_endpoint().clone();
        let (reader, writer) = socket.into_parts();
        let (outlet, outbox) = Outlet::new(&config, endpoint.clone(), max_datagram);
        let outlet = Arc::new(outlet);
        let (handlers, bare) = (Handlers::new(), Hooks::new());
        let (intake, arrivals) = Intake::new(&config, outlet.clone());
        let handling = tasks::run_handlers(outlet.clone(), handlers.dispatcher(), bare.clone(), arrivals);
        Ok(Self {
            intake: runtime.spawn(intake.run(reader)),
            handling: runtime.spawn(handling),
            sending: runtime.spawn(tasks::send(outlet.clone(), writer, outbox)),
            outlet,
            handlers,
            bare,
            endpoint,
        })
    }

    /// Where it can be reached, the real port included.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// The most bytes of a datagram that it sends; see [`DatagramsConfig::max_datagram`].
    pub fn max_datagram(&self) -> usize {
        self.outlet.max_datagram()
    }

    /// Counts since it was opened.
    pub fn counters(&self) -> DatagramsCounters {
        let counts = &self.outlet.counts;
        DatagramsCounters {
            received: counts.received.load(Ordering::Relaxed),
            malformed: counts.malformed.load(Ordering::Relaxed),
            overrun: counts.overrun.load(Ordering::Relaxed),
            sent: counts.sent.load(Ordering::Relaxed),
            dropped: self.outlet.dropped(),
            refused: counts.refused.load(Ordering::Relaxed),
            unproved: counts.unproved.load(Ordering::Relaxed),
            forgotten: self.outlet.peers.forgotten(),
            failed: counts.failed.load(Ordering::Relaxed),
            hooks_panicked: counts.panicked.load(Ordering::Relaxed),
            handlers: self.handlers.counters(),
        }
    }

    // Handlers.

    /// Runs `handler` for each event of this name, from anybody.
    ///
    /// Handlers may be added and removed at any time. Those of one event run one after the other, in the order in which
    /// they were added, each to its end. A value that is no `T` is counted and passed over. A handler that panics is
    /// counted, and the next one runs. The number of handlers is bounded by your calls alone. No name has a meaning of
    /// its own: an event called `connect` or `error` is one like others.
    pub fn on<T, F, Fut>(&self, name: &str, handler: F) -> Subscription
    where
        T: DeserializeOwned + Send + 'static,
        F: Fn(Event<T>, DatagramReply) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        self.handlers.on(name, handler)
    }

    /// Runs `handler` for the next event of this name and then no more.
    pub fn once<T, F, Fut>(&self, name: &str, handler: F) -> Subscription
    where
        T: DeserializeOwned + Send + 'static,
        F: Fn(Event<T>, DatagramReply) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        self.handlers.once(name, handler)
    }

    /// Runs `handler` for every event, whatever its name is, after the handlers of that name; the value is not decoded.
    pub fn on_any<F, Fut>(&self, handler: F) -> Subscription
    where
        F: Fn(Event<Payload>, DatagramReply) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        self.handlers.on_any(handler)
    }

    /// The events of this name as a stream, in the place of a handler; it holds up to `capacity` of them.
    ///
    /// While it is full, all handlers of the end wait. Dropping the stream removes it.
    ///
    /// # Errors
    ///
    /// A capacity of zero, or one that is too large.
    pub fn events<T>(
        &self,
        name: &str,
        capacity: usize,
    ) -> Result<EventStream<T, DatagramReply>, CapacityError>
    where
        T: DeserializeOwned + Send + 'static,
    {
        self.handlers.stream(name, capacity)
    }

    /// Every event as a stream, whatever its name is, undecoded; otherwise as [`events`](Self::events).
    ///
    /// # Errors
    ///
    /// As there.
    pub fn all_events(&self, capacity: usize) -> Result<EventStream<Payload, DatagramReply>, CapacityError> {
        self.handlers.stream_any(capacity)
    }

    /// Runs `handler` for each datagram, as it comes, on the raw wire; an empty one too.
    pub fn on_bytes<F, Fut>(&self, handler: F) -> Subscription
    where
        F: Fn(Bytes, DatagramReply) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        self.bare.add(move |(bytes, reply)| handler(bytes, reply))
    }

    /// Removes all handlers and streams of the events of this name; how many there were.
    pub fn remove_all(&self, name: &str) -> usize {
        self.handlers.remove_all(name)
    }

    // Sending.

    /// Sends an event to an address. It never waits; whether it arrives, nobody tells.
    ///
    /// # Errors
    ///
    /// [`EmitError::TooLarge`] for what does not fit into a datagram, before anything is sent; [`EmitError::Unproved`] to a
    /// peer that was heard from; [`EmitError::Unreachable`] for an address that no datagram from here can have;
    /// and the others. Nothing of the event was sent then.
    pub fn emit<T>(&self, to: impl Into<DatagramAddress>, name: &str, value: &T) -> Result<(), EmitError>
    where
        T: Serialize + ?Sized,
    {
        self.outlet.send(&to.into(), self.outlet.event(name, Some(value))?)
    }

    /// As [`emit`](Self::emit), to an endpoint such as `udp://127.0.0.1:8000`. Host names are not looked up, except for
    /// `localhost`, which is the loopback address of the own version of IP.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn emit_at<T>(&self, to: &Endpoint, name: &str, value: &T) -> Result<(), EmitError>
    where
        T: Serialize + ?Sized,
    {
        self.emit(self.outlet.resolve(to)?, name, value)
    }

    /// As [`emit`](Self::emit), of an event without data; a handler gets what nothing is of its type: the unit, or `null`.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn emit_bare(&self, to: impl Into<DatagramAddress>, name: &str) -> Result<(), EmitError> {
        self.outlet.send(&to.into(), self.outlet.event(name, None::<&()>)?)
    }

    /// Sends bare bytes to an address, as one datagram, on the raw wire.
    ///
    /// # Errors
    ///
    /// [`EmitError::Unsupported`] on another wire; otherwise as [`emit`](Self::emit).
    pub fn emit_bytes(
        &self,
        to: impl Into<DatagramAddress>,
        bytes: impl Into<Bytes>,
    ) -> Result<(), EmitError> {
        self.outlet.send(&to.into(), self.outlet.bytes(bytes.into())?)
    }

    /// Sends an event to every peer heard from, once; to how many is returned.
    ///
    /// It is encoded once. On the native wire peers whose address is not proved are passed over where it would be too much
    /// for them, are asked for a proof, and hear the next broadcast.
    ///
    /// # Errors
    ///
    /// [`EmitError`]; nobody was told then, unless it was closed meanwhile.
    pub fn broadcast<T>(&self, name: &str, value: &T) -> Result<usize, EmitError>
    where
        T: Serialize + ?Sized,
    {
        self.outlet.broadcast(&self.outlet.event(name, Some(value))?)
    }

    /// Sends bare bytes to every peer heard from, once, on the raw wire; to how many is returned.
    ///
    /// # Errors
    ///
    /// [`EmitError::Unsupported`] on another wire; otherwise as [`broadcast`](Self::broadcast).
    pub fn broadcast_bytes(&self, bytes: impl Into<Bytes>) -> Result<usize, EmitError> {
        self.outlet.broadcast(&self.outlet.bytes(bytes.into())?)
    }

    /// The peers heard from, the longest silent first; at most [`DatagramsConfig::max_peers`].
    pub fn peers(&self) -> Vec<DatagramReply> {
        let all = self.outlet.peers.all().into_iter();
        all.map(|peer| DatagramReply::new(self.outlet.clone(), peer, None)).collect()
    }

    /// Forgets a peer, which then hears no broadcast until it is heard from again; `false` when it was not known.
    pub fn forget(&self, address: &DatagramAddress) -> bool {
        self.outlet.peers.forget(address)
    }

    // Endings.

    /// Ends in good order: hears nothing more, hands what was accepted to the system, and frees the address.
    ///
    /// A handler that runs is dropped at its next await, and what waits for handlers is dropped.
    ///
    /// # Errors
    ///
    /// How many datagrams could not be handed over within the deadline.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the end, and what has not left.
    pub async fn close(mut self, deadline: Duration) -> Result<(), Closing> {
        let until = Instant::now() + deadline.min(Duration::from_secs(60 * 60 * 24 * 365));
        self.intake.abort();
        self.handling.abort();
        self.outlet.close();
        let sent = timeout_at(until, &mut self.sending).await.is_ok();
        let undelivered = if sent { 0 } else { self.outlet.pending() };
        self.sending.abort();
        // The address is free when all that holds the socket is gone; a handler may never end where it does not await.
        let tasks = [&mut self.intake, &mut self.sending];
        let _ = timeout_at(until + LETTING_GO, async {
            for task in tasks {
                if !task.is_finished() {
                    let _ = task.await;
                }
            }
        })
        .await;
        if undelivered > 0 { Err(Closing { undelivered }) } else { Ok(()) }
    }
}

/// Closes the socket; what has not left is lost.
impl Drop for Datagrams {
    fn drop(&mut self) {
        self.outlet.close();
        for task in [&self.intake, &self.handling, &self.sending] {
            task.abort();
        }
    }
}

impl fmt::Debug for Datagrams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Datagrams").field("endpoint", &self.endpoint).finish_non_exhaustive()
    }
}

/// How long tasks that were told to end are waited for, a matter of one turn.
const LETTING_GO: Duration = Duration::from_secs(1);
