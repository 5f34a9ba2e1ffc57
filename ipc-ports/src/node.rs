//! A node: one process under its name, with its listener and its ports.

use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use ipc_pipeline::link::{OutgoingLink, Receiver, Undelivered};
use ipc_transport::{Acceptor, Bincode, Decoder, Encoder, Endpoint, Error, Naming, check_name};
use serde::{Serialize, de::DeserializeOwned};
use tokio::{
    runtime::Handle,
    sync::watch,
    task::JoinHandle,
    time::{Instant, timeout},
};

use crate::{
    BestEffortConfig, BestEffortError, BestEffortIncomingPort, BestEffortOutgoingPort, IncomingPort,
    NodeConfig, OutgoingPort, PortConfig, PortError, accept,
    ends::{IncomingEnd, OutgoingEnd},
};

/// Closed receivers of one port name whose sessions are still told so.
const MAX_CLOSED: usize = 64;

/// How long closing the listener may take, a matter of one unlink: a transport that hangs in it must not hang us.
const CLOSE_LISTENER: Duration = Duration::from_secs(1);

/// Counts of connections since the node started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct NodeCounters {
    /// Connections that were accepted by the listener.
    pub accepted: u64,
    /// Connections whose handshake failed: no hello in time, or not of this protocol.
    pub failed: u64,
    /// Connections that were refused: another process was meant, or too many wait for ports.
    pub refused: u64,
    /// Connections that wait for a port which does not exist yet.
    pub parked: usize,
}

/// A process under its name: it claims the name, listens, and owns ports.
///
/// Dropping it frees the name and takes no more connections; ports live on with the connections they have.
/// [`shutdown`](Self::shutdown) ends everything in good order.
pub struct Node {
    shared: Arc<Shared>,
    endpoint: Endpoint,
    acceptor: Option<JoinHandle<()>>,
    /// Where it was started: a shutdown may be awaited anywhere.
    runtime: Handle,
    stop: watch::Sender<bool>,
    failed: watch::Receiver<Option<Error>>,
}

/// What the node, its ports and its acceptor share.
pub(crate) struct Shared {
    pub(crate) config: NodeConfig,
    pub(crate) naming: Arc<dyn Naming>,
    registry: Mutex<Registry>,
    /// Changes whenever an incoming port appears, for connections that wait for one.
    pub(crate) appeared: watch::Sender<u64>,
    pub(crate) counters: Counters,
    pub(crate) acceptor: Acceptor,
}

#[derive(Default)]
pub(crate) struct Counters {
    pub(crate) failed: AtomicU64,
    pub(crate) refused: AtomicU64,
    pub(crate) parked: AtomicUsize,
}

#[derive(Default)]
struct Registry {
    incoming: HashMap<String, Incoming>,
    outgoing: HashMap<String, OutgoingEnd>,
    shut_down: bool,
}

#[derive(Default)]
struct Incoming {
    current: Option<IncomingEnd>,
    /// Receivers that were closed: a session attached to one of them hears that, whatever comes after it.
    closed: Vec<IncomingEnd>,
}

impl Node {
    /// Claims the name, listens, and takes connections from a task of its own.
    ///
    /// # Errors
    ///
    /// [`Error::AddrInUse`] when another process holds the name, [`Error::InvalidName`], [`Error::NoRuntime`] outside a
    /// tokio runtime, and what the naming and its transport report.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future releases whatever was claimed.
    pub async fn start(config: NodeConfig) -> Result<Self, Error> {
        check_name(&config.name)?;
        let runtime = Handle::try_current().map_err(|_| Error::NoRuntime)?;
        let config = config.started();
        let naming = config.resolve_naming()?;
        let listener = naming.claim(&config.name, &config.transports, &config.listen).await?;
        let endpoint = listener.local_endpoint().clone();
        let acceptor = Acceptor::new(&config.limits);
        let shared = Arc::new(Shared {
            config,
            naming,
            registry: Mutex::default(),
            appeared: watch::Sender::new(0),
            counters: Counters::default(),
            acceptor,
        });
        let (stop, stopped) = watch::channel(false);
        let (fail, failed) = watch::channel(None);
        let acceptor = Some(runtime.spawn(accept::run(listener, shared.clone(), stopped, fail)));
        Ok(Self { shared, endpoint, acceptor, runtime, stop, failed })
    }

    /// An outgoing port with the defaults; see [`outgoing_with`](Self::outgoing_with).
    ///
    /// # Errors
    ///
    /// As there.
    pub fn outgoing<T: Serialize + Send + 'static>(&self, name: &str) -> Result<OutgoingPort<T>, PortError> {
        self.outgoing_with(name, PortConfig::new())
    }

    /// An outgoing port for values that serde serializes, in the default codec.
    ///
    /// # Errors
    ///
    /// [`PortError::NameTaken`] while another outgoing port of the node has the name, [`PortError::ZeroCapacity`], and
    /// the other variants of [`PortError`].
    pub fn outgoing_with<T: Serialize + Send + 'static>(
        &self,
        name: &str,
        config: PortConfig,
    ) -> Result<OutgoingPort<T>, PortError> {
        self.outgoing_codec(name, config, Bincode::default())
    }

    /// As [`outgoing_with`](Self::outgoing_with), in a codec of your choice.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn outgoing_codec<T: 'static>(
        &self,
        name: &str,
        config: PortConfig,
        encoder: impl Encoder<T>,
    ) -> Result<OutgoingPort<T>, PortError> {
        check_port_name(name)?;
        let link = OutgoingLink::new(config.link(&self.shared.config)?, encoder);
        self.shared.add_outgoing(name, OutgoingEnd::Link(link.control()))?;
        if config.start_closed {
            link.set_paused(true);
        }
        link.set_strict(config.strict);
        Ok(OutgoingPort::new(link, self.shared.clone(), name.to_owned(), !config.start_closed))
    }

    /// An incoming port with the defaults; see [`incoming_with`](Self::incoming_with).
    ///
    /// # Errors
    ///
    /// As there.
    pub fn incoming<T: DeserializeOwned + Send + 'static>(
        &self,
        name: &str,
    ) -> Result<IncomingPort<T>, PortError> {
        self.incoming_with(name, PortConfig::new())
    }

    /// An incoming port for values that serde deserializes, in the default codec.
    ///
    /// Connections that waited for it come in now.
    ///
    /// # Errors
    ///
    /// [`PortError::NameTaken`] while another incoming port of the node has the name, [`PortError::ZeroCapacity`], and
    /// the other variants of [`PortError`].
    pub fn incoming_with<T: DeserializeOwned + Send + 'static>(
        &self,
        name: &str,
        config: PortConfig,
    ) -> Result<IncomingPort<T>, PortError> {
        self.incoming_codec(name, config, Bincode::default())
    }

    /// As [`incoming_with`](Self::incoming_with), in a codec of your choice.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn incoming_codec<T: 'static>(
        &self,
        name: &str,
        config: PortConfig,
        decoder: impl Decoder<T>,
    ) -> Result<IncomingPort<T>, PortError> {
        check_port_name(name)?;
        let receiver = Receiver::new(config.receiver(&self.shared.config)?, decoder);
        self.shared.add_incoming(name, IncomingEnd::Link(receiver.intake()))?;
        Ok(IncomingPort::new(receiver, self.shared.clone(), name.to_owned()))
    }

    /// An outgoing port that does its best and no more: values travel in datagrams, the newest win, and nothing waits. In
    /// the default codec; see [`outgoing_best_effort_codec`](Self::outgoing_best_effort_codec).
    ///
    /// # Errors
    ///
    /// As there.
    ///
    /// # Cancel safety
    ///
    /// As there.
    pub async fn outgoing_best_effort<T: Serialize + Send + 'static>(
        &self,
        name: &str,
        config: BestEffortConfig,
    ) -> Result<BestEffortOutgoingPort<T>, BestEffortError> {
        self.outgoing_best_effort_codec(name, config, Bincode::default()).await
    }

    /// As [`outgoing_best_effort`](Self::outgoing_best_effort), in a codec of your choice.
    ///
    /// # Errors
    ///
    /// [`BestEffortError::Port`] as for [`outgoing_with`](Self::outgoing_with), with which it shares its names;
    /// [`BestEffortError::Socket`] when its socket cannot be bound.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves no port and no socket.
    pub async fn outgoing_best_effort_codec<T: 'static>(
        &self,
        name: &str,
        config: BestEffortConfig,
        encoder: impl Encoder<T>,
    ) -> Result<BestEffortOutgoingPort<T>, BestEffortError> {
        check_port_name(name)?;
        self.shared.check_outgoing(name)?;
        let outgoing = config.outgoing(&self.shared.config, encoder).await?;
        self.shared.add_outgoing(name, OutgoingEnd::BestEffort(outgoing.control()))?;
        Ok(BestEffortOutgoingPort::new(outgoing, self.shared.clone(), name.to_owned()))
    }

    /// An incoming port for best effort: it takes sources that chose best effort as well, and refuses all others, as
    /// reliable ports refuse those. In the default codec; see
    /// [`incoming_best_effort_codec`](Self::incoming_best_effort_codec).
    ///
    /// # Errors
    ///
    /// As there.
    ///
    /// # Cancel safety
    ///
    /// As there.
    pub async fn incoming_best_effort<T: DeserializeOwned + Send + 'static>(
        &self,
        name: &str,
        config: BestEffortConfig,
    ) -> Result<BestEffortIncomingPort<T>, BestEffortError> {
        self.incoming_best_effort_codec(name, config, Bincode::default()).await
    }

    /// As [`incoming_best_effort`](Self::incoming_best_effort), in a codec of your choice.
    ///
    /// # Errors
    ///
    /// [`BestEffortError::Port`] as for [`incoming_with`](Self::incoming_with), with which it shares its names;
    /// [`BestEffortError::Socket`] when its socket cannot be bound.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves no port and no socket.
    pub async fn incoming_best_effort_codec<T: 'static>(
        &self,
        name: &str,
        config: BestEffortConfig,
        decoder: impl Decoder<T>,
    ) -> Result<BestEffortIncomingPort<T>, BestEffortError> {
        check_port_name(name)?;
        self.shared.check_incoming(name)?;
        let receiver = config.receiver(decoder).await?;
        self.shared.add_incoming(name, IncomingEnd::BestEffort(receiver.intake()))?;
        Ok(BestEffortIncomingPort::new(receiver, self.shared.clone(), name.to_owned()))
    }

    /// The process's name.
    pub fn name(&self) -> &str {
        &self.shared.config.name
    }

    /// Where the node listens: the real port after `:0`.
    pub fn local_endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Why the node stopped taking connections, if it did: [`Error::LeaseLost`], for one. To look at or to watch.
    pub fn failure(&self) -> watch::Receiver<Option<Error>> {
        self.failed.clone()
    }

    /// Counts of connections.
    pub fn counters(&self) -> NodeCounters {
        let counters = &self.shared.counters;
        NodeCounters {
            accepted: self.shared.acceptor.accepted(),
            failed: counters.failed.load(Ordering::Relaxed) + self.shared.acceptor.evicted(),
            refused: counters.refused.load(Ordering::Relaxed),
            parked: counters.parked.load(Ordering::Relaxed),
        }
    }

    /// Ends everything in good order: outgoing ports close as by [`OutgoingPort::close`], within one deadline; then
    /// incoming ports detach, so that senders keep what was not released; then the name is free. Best-effort ports take part:
    /// they hand what waits to their sockets, and what they cannot send is no error.
    ///
    /// Beyond the deadline the peers of incoming ports have 1 s, all together, to hear the last word, and the listener
    /// another one to close.
    ///
    /// # Errors
    ///
    /// [`Undelivered`] with the sum over all outgoing ports; everything else is done all the same.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future is dropping the node.
    pub async fn shutdown(mut self, deadline: Duration) -> Result<(), Undelivered> {
        // A deadline beyond what the clock can tell is none.
        let until = Instant::now().checked_add(deadline);
        let (links, intakes) = self.shared.shut_down();
        let closing: Vec<_> = links
            .into_iter()
            .map(|link| {
                self.runtime.spawn(async move {
                    let left = until.map_or(Duration::MAX, |until| until.duration_since(Instant::now()));
                    link.close(left).await
                })
            })
            .collect();
        let mut undelivered: Option<Undelivered> = None;
        for task in closing {
            if let Ok(Err(more)) = task.await {
                match &mut undelivered {
                    Some(sum) => sum.count += more.count,
                    None => undelivered = Some(more),
                }
            }
        }
        let leaving: Vec<_> = intakes
            .into_iter()
            .map(|intake| self.runtime.spawn(async move { intake.detach().await }))
            .collect();
        for task in leaving {
            let _ = task.await;
        }
        self.stop.send_replace(true);
        if let Some(acceptor) = self.acceptor.take() {
            let closed = async move { timeout(CLOSE_LISTENER, acceptor).await.is_ok() };
            let _ = self.runtime.spawn(closed).await;
        }
        undelivered.map_or(Ok(()), Err)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // The acceptor sees the watch close and lets the listener go.
        self.stop.send_replace(true);
    }
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Node")
            .field("name", &self.name())
            .field("endpoint", &self.endpoint)
            .finish_non_exhaustive()
    }
}

impl Shared {
    fn registry(&self) -> MutexGuard<'_, Registry> {
        self.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Who takes a session's connections to a port: a closed receiver that knows it, else the current one.
    pub(crate) fn intake(
        &self,
        port: &str,
        session: ipc_pipeline::protocol::SessionId,
    ) -> Option<IncomingEnd> {
        let registry = self.registry();
        let slot = registry.incoming.get(port)?;
        slot.closed.iter().find(|intake| intake.knows(session)).or(slot.current.as_ref()).cloned()
    }

    /// Whether a port could be made now; asked before what can fail for other reasons.
    fn check_outgoing(&self, name: &str) -> Result<(), PortError> {
        self.registry().check_outgoing(name)
    }

    fn check_incoming(&self, name: &str) -> Result<(), PortError> {
        self.registry().check_incoming(name)
    }

    fn add_outgoing(&self, name: &str, port: OutgoingEnd) -> Result<(), PortError> {
        let mut registry = self.registry();
        registry.check_outgoing(name)?;
        registry.outgoing.insert(name.to_owned(), port);
        Ok(())
    }

    fn add_incoming(&self, name: &str, port: IncomingEnd) -> Result<(), PortError> {
        let mut registry = self.registry();
        registry.check_incoming(name)?;
        registry.incoming.entry(name.to_owned()).or_default().current = Some(port);
        drop(registry);
        self.appeared.send_modify(|changes| *changes += 1);
        Ok(())
    }

    pub(crate) fn forget_outgoing(&self, name: &str) {
        self.registry().outgoing.remove(name);
    }

    pub(crate) fn forget_incoming(&self, name: &str) {
        let mut registry = self.registry();
        let Some(slot) = registry.incoming.get_mut(name) else { return };
        if let Some(intake) = slot.current.take()
            && intake.is_closed()
        {
            if slot.closed.len() == MAX_CLOSED {
                slot.closed.remove(0);
            }
            slot.closed.push(intake);
        }
        if slot.closed.is_empty() {
            registry.incoming.remove(name);
        }
    }

    fn shut_down(&self) -> (Vec<OutgoingEnd>, Vec<IncomingEnd>) {
        let mut registry = self.registry();
        registry.shut_down = true;
        let links = registry.outgoing.values().cloned().collect();
        let intakes = registry.incoming.values().filter_map(|slot| slot.current.clone()).collect();
        (links, intakes)
    }
}

impl Registry {
    fn check_outgoing(&self, name: &str) -> Result<(), PortError> {
        self.check()?;
        free(name, !self.outgoing.contains_key(name))
    }

    fn check_incoming(&self, name: &str) -> Result<(), PortError> {
        self.check()?;
        free(name, self.incoming.get(name).is_none_or(|slot| slot.current.is_none()))
    }

    fn check(&self) -> Result<(), PortError> {
        if self.shut_down { Err(PortError::ShutDown) } else { Ok(()) }
    }
}

fn free(name: &str, is_free: bool) -> Result<(), PortError> {
    if is_free { Ok(()) } else { Err(PortError::NameTaken { name: name.to_owned() }) }
}

fn check_port_name(name: &str) -> Result<(), PortError> {
    check_name(name).map_err(|error| {
        let reason = match error {
            Error::InvalidName { reason, .. } => reason,
            _ => "it breaks a rule for names",
        };
        PortError::InvalidName { name: name.to_owned(), reason }
    })
}
