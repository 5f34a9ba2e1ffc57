//! Outgoing ports: one pipeline leaves each.

use std::{
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use ipc_pipeline::{
    SendError, SendErrorReason, TrySendError,
    link::{
        Aborted, AttemptError, LinkNames, OutgoingLink, Permit, Room, SendManyError, Sender, Sending, Status,
        Undelivered,
    },
    protocol::{OutgoingCounters, Refusal},
};
use ipc_transport::{Error, check_name};
use tokio::sync::watch;

use crate::{ConnectError, connector::ToProcess, node::Shared};

/// A port that values leave through; it owns its pipeline, and [`sender`](Self::sender) gives handles to share.
///
/// It buffers from the beginning, before it is connected and before the other process exists. Dropping it announces
/// the end of the stream and goes on delivering for at most 1 s; the drop itself never waits.
pub struct OutgoingPort<T> {
    link: OutgoingLink<T>,
    node: Arc<Shared>,
    name: String,
    target: Mutex<Option<(String, String)>>,
    open: AtomicBool,
}

impl<T: 'static> OutgoingPort<T> {
    pub(crate) fn new(link: OutgoingLink<T>, node: Arc<Shared>, name: String, open: bool) -> Self {
        Self { link, node, name, target: Mutex::new(None), open: AtomicBool::new(open) }
    }

    /// Records where the pipeline leads and starts to connect; returns at once.
    ///
    /// The other process and its port may appear at any time: the connection is made when they are there, and made
    /// again whenever it breaks. A refused port may be connected anew, and so may one whose runtime is gone.
    ///
    /// # Errors
    ///
    /// [`ConnectError::AlreadyConnected`] for the same target, [`ConnectError::OutgoingPortBusy`] for another one, bad
    /// names, and [`ConnectError::NoRuntime`].
    pub fn connect(&self, process: &str, port: &str) -> Result<(), ConnectError> {
        check_names([process, port])?;
        let mut target = self.target.lock().unwrap_or_else(PoisonError::into_inner);
        let free = match &*self.link.sender().status().borrow() {
            Status::Refused(_) => true,
            // The runtime that the port was connected in is gone.
            Status::Closed => !self.link.sender().is_closed(),
            _ => false,
        };
        if let Some((to_process, to_port)) = target.as_ref().filter(|_| !free) {
            let (process_found, port_found) = (to_process.clone(), to_port.clone());
            return Err(match (to_process == process, to_port == port) {
                (true, true) => ConnectError::AlreadyConnected { process: process_found, port: port_found },
                _ => ConnectError::OutgoingPortBusy { process: process_found, port: port_found },
            });
        }
        let connector = way_to(&self.node, process)?;
        let names = LinkNames::new((&self.node.config.name, &self.name), (process, port));
        self.link.connect(Arc::new(connector), names).map_err(|_| ConnectError::NoRuntime)?;
        *target = Some((process.to_owned(), port.to_owned()));
        Ok(())
    }

    /// Waits until connected or refused; with no [`connect`](Self::connect) yet, until there is one.
    ///
    /// # Errors
    ///
    /// The refusal.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future cancels nothing: the port goes on connecting.
    pub async fn connected(&self) -> Result<(), Refusal> {
        self.link.connected().await
    }

    /// Whether frames flow between this port and the given one.
    pub fn is_connected_to(&self, process: &str, port: &str) -> bool {
        let target = self.target.lock().unwrap_or_else(PoisonError::into_inner);
        target.as_ref().is_some_and(|(to_process, to_port)| to_process == process && to_port == port)
            && *self.link.sender().status().borrow() == Status::Connected
    }

    /// Accepts sends again after [`pause`](Self::pause) or a closed start; idempotent.
    pub fn open(&self) {
        self.open.store(true, Ordering::Relaxed);
        self.link.set_paused(false);
    }

    /// Refuses sends with [`SendErrorReason::PortClosed`], the value coming back; idempotent.
    ///
    /// What was accepted goes on being delivered. This is the source system's `close`.
    pub fn pause(&self) {
        self.open.store(false, Ordering::Relaxed);
        self.link.set_paused(true);
    }

    /// Whether sends are accepted.
    pub fn is_open(&self) -> bool {
        self.open.load(Ordering::Relaxed)
    }

    /// The port's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A handle that sends through this port; clones share it.
    pub fn sender(&self) -> Sender<T> {
        self.link.sender().clone()
    }

    /// Sends a value; see [`Sender::send`].
    ///
    /// # Errors
    ///
    /// The value comes back with the reason.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future while it waits drops the value, which was not accepted.
    pub fn send(&self, value: T) -> Sending<'_, T> {
        self.link.sender().send(value)
    }

    /// Sends a value if there is room now; see [`Sender::try_send`].
    ///
    /// # Errors
    ///
    /// The value comes back with the reason.
    pub fn try_send(&self, value: T) -> Result<(), TrySendError<T>> {
        self.link.sender().try_send(value)
    }

    /// Waits for room with no value at risk; see [`Sender::reserve`].
    ///
    /// # Errors
    ///
    /// The reason, when the port accepts no values.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives up the place in the queue; nothing else is at risk.
    pub async fn reserve(&self) -> Result<Permit<'_, T>, SendErrorReason> {
        self.link.sender().reserve().await
    }

    /// Sends many values in order, a lock and a wake-up for each batch; see [`Sender::send_many`].
    ///
    /// # Errors
    ///
    /// Values that were not accepted come back with the reason.
    ///
    /// # Cancel safety
    ///
    /// Values accepted before the drop stay accepted; at most 256 that were taken from the iterator are dropped.
    pub async fn send_many<I>(&self, values: I) -> Result<usize, SendManyError<T>>
    where
        I: IntoIterator<Item = T>,
    {
        self.link.sender().send_many(values).await
    }

    /// Sends a value and lets the thread wait; see [`Sender::blocking_send`].
    ///
    /// # Errors
    ///
    /// The value comes back with the reason.
    pub fn blocking_send(&self, value: T) -> Result<(), SendError<T>> {
        self.link.sender().blocking_send(value)
    }

    /// As [`blocking_send`](Self::blocking_send), and waits this long at most.
    ///
    /// # Errors
    ///
    /// The value comes back with the reason, [`SendErrorReason::TimedOut`] when there was no room in that time.
    pub fn blocking_send_timeout(&self, value: T, timeout: Duration) -> Result<(), SendError<T>> {
        self.link.sender().blocking_send_timeout(value, timeout)
    }

    /// Waits until everything accepted so far is released; see [`Sender::settled`].
    ///
    /// # Errors
    ///
    /// The reason, when the receiving port closed or refused.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future changes nothing.
    pub async fn settled(&self) -> Result<(), SendErrorReason> {
        self.link.sender().settled().await
    }

    /// As [`settled`](Self::settled), and lets the thread wait; see [`Sender::blocking_settled`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn blocking_settled(&self) -> Result<(), SendErrorReason> {
        self.link.sender().blocking_settled()
    }

    /// Values accepted, not released and not dropped.
    pub fn pending(&self) -> usize {
        self.link.sender().pending()
    }

    /// The most that [`pending`](Self::pending) can be.
    pub fn capacity(&self) -> usize {
        self.link.sender().capacity()
    }

    /// Counts since the port was made.
    pub fn counters(&self) -> OutgoingCounters {
        self.link.sender().counters()
    }

    /// The pipeline's status, to look at or to watch.
    pub fn status(&self) -> watch::Receiver<Status> {
        self.link.sender().status()
    }

    /// Why the last attempt to connect came to nothing, to look at or to watch: that nobody is there yet, or what somebody
    /// has to mend, such as a certificate of another authority. See [`Sender::last_error`].
    pub fn last_error(&self) -> watch::Receiver<Option<AttemptError>> {
        self.link.sender().last_error()
    }

    /// Whether the pipeline is full, to look at or to watch: one notification for each change.
    pub fn room(&self) -> watch::Receiver<Room> {
        self.link.sender().room()
    }

    /// Drops the current connection; the pipeline dials again and resumes. For tests and operators.
    pub fn cut(&self) {
        self.link.sender().cut();
    }

    /// Announces the end of the stream and waits until everything is released.
    ///
    /// # Errors
    ///
    /// [`Undelivered`] at the deadline, or at once when the receiving port closed or refused.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future is dropping the port: it lingers.
    pub async fn close(self, deadline: Duration) -> Result<(), Undelivered> {
        self.link.control().close(deadline).await
    }

    /// As [`close`](Self::close), and lets the thread wait, for threads without a runtime.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn blocking_close(self, deadline: Duration) -> Result<(), Undelivered> {
        self.link.control().blocking_close(deadline)
    }

    /// Gives up at once what is not delivered, and says how much that was.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives up all the same, if it was polled; one that never was drops the port.
    pub async fn abort(self) -> Aborted {
        self.link.abort_now().await
    }
}

impl<T> Drop for OutgoingPort<T> {
    fn drop(&mut self) {
        self.node.forget_outgoing(&self.name);
    }
}

impl<T> fmt::Debug for OutgoingPort<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OutgoingPort")
            .field("name", &self.name)
            .field("link", &self.link)
            .finish_non_exhaustive()
    }
}

pub(crate) fn check_names(names: [&str; 2]) -> Result<(), ConnectError> {
    names.into_iter().try_for_each(|name| check_name(name).map_err(|error| invalid_name(name, &error)))
}

/// What dials the process of a name.
pub(crate) fn way_to(node: &Shared, process: &str) -> Result<ToProcess, ConnectError> {
    let config = &node.config;
    ToProcess::new(process, node.naming.clone(), config.transports.clone(), config.connect.clone()).map_err(
        |error| match error {
            Error::NoRuntime => ConnectError::NoRuntime,
            error => invalid_name(process, &error),
        },
    )
}

fn invalid_name(name: &str, error: &Error) -> ConnectError {
    let reason = match error {
        Error::InvalidName { reason, .. } => reason,
        _ => "the naming does not accept it",
    };
    ConnectError::InvalidName { name: name.to_owned(), reason }
}
