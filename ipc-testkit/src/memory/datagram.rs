//! Datagrams within one process: named sockets with bounded buffers, and a network that drops what does not fit.

use std::{
    collections::{BTreeMap, VecDeque},
    num::NonZeroUsize,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, Waker, ready},
};

use futures_util::{Sink, Stream};
use ipc_transport::{Datagram, DatagramAddress, DatagramSocket, Endpoint, Error};
use tokio::task::coop;

/// What became of the datagrams of a world; see [`MemTransport::datagram_counters`](crate::MemTransport::datagram_counters).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct MemDatagramCounters {
    /// Put into the buffer of the socket that they were sent to.
    pub delivered: u64,
    /// Dropped because that buffer was full.
    pub overflowed: u64,
    /// Dropped because no socket had the address.
    pub unaddressed: u64,
}

/// The sockets of one world.
#[derive(Debug, Default)]
pub(super) struct Network {
    sockets: Mutex<Sockets>,
    delivered: AtomicU64,
    overflowed: AtomicU64,
    unaddressed: AtomicU64,
}

#[derive(Debug, Default)]
struct Sockets {
    inboxes: BTreeMap<Arc<str>, Arc<Inbox>>,
    /// Sockets ever bound, for fresh names.
    made: u64,
}

impl Network {
    pub(super) fn bind(
        self: &Arc<Self>,
        at: &Endpoint,
        room: Room,
        max_payload: usize,
    ) -> Result<DatagramSocket, Error> {
        let mut sockets = self.sockets();
        sockets.made += 1;
        let local = match at.address() {
            super::MemTransport::FRESH_NAME => {
                super::fresh_endpoint(sockets.made, |name| sockets.inboxes.contains_key(name))
            }
            _ => at.clone(),
        };
        let name: Arc<str> = local.address().into();
        if sockets.inboxes.contains_key(&name) {
            return Err(Error::AddrInUse { endpoint: local, holder: Some(std::process::id()) });
        }
        let inbox = Arc::new(Inbox { room, state: Mutex::default() });
        sockets.inboxes.insert(name.clone(), inbox.clone());
        drop(sockets);
        let bound = Arc::new(Bound { network: self.clone(), name });
        let receiver = Receiver { inbox, _bound: bound.clone() };
        Ok(DatagramSocket::new(receiver, Sender { bound }, local, max_payload))
    }

    pub(super) fn counters(&self) -> MemDatagramCounters {
        MemDatagramCounters {
            delivered: self.delivered.load(Ordering::SeqCst),
            overflowed: self.overflowed.load(Ordering::SeqCst),
            unaddressed: self.unaddressed.load(Ordering::SeqCst),
        }
    }

    fn deliver(&self, from: &Arc<str>, datagram: Datagram) {
        let inbox = match &datagram.peer {
            DatagramAddress::Name(name) => self.sockets().inboxes.get(name).cloned(),
            // An address of another kind of network.
            _ => None,
        };
        let arriving = Datagram { payload: datagram.payload, peer: DatagramAddress::Name(from.clone()) };
        let counter = match inbox.map(|inbox| inbox.put(arriving)) {
            None => &self.unaddressed,
            Some(false) => &self.overflowed,
            Some(true) => &self.delivered,
        };
        counter.fetch_add(1, Ordering::SeqCst);
    }

    /// A panic elsewhere leaves the table whole, as nothing under this lock unwinds half-way.
    fn sockets(&self) -> MutexGuard<'_, Sockets> {
        self.sockets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How much may wait in a socket.
#[derive(Debug, Clone, Copy)]
pub(super) struct Room {
    pub(super) datagrams: NonZeroUsize,
    pub(super) bytes: usize,
}

/// What a socket has not yet received.
#[derive(Debug)]
struct Inbox {
    room: Room,
    state: Mutex<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    datagrams: VecDeque<Datagram>,
    bytes: usize,
    reader: Option<Waker>,
}

impl Inbox {
    /// Whether there was room. An empty buffer takes any datagram, so that the largest one passes.
    fn put(&self, datagram: Datagram) -> bool {
        let mut state = self.state();
        let (count, bytes) = (state.datagrams.len(), state.bytes.saturating_add(datagram.payload.len()));
        if count >= self.room.datagrams.get() || (count > 0 && bytes > self.room.bytes) {
            return false;
        }
        state.bytes = bytes;
        state.datagrams.push_back(datagram);
        let reader = state.reader.take();
        drop(state);
        super::pipe::wake(reader);
        true
    }

    fn state(&self) -> MutexGuard<'_, Waiting> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The name of a socket, free again when both halves are gone.
#[derive(Debug)]
struct Bound {
    network: Arc<Network>,
    name: Arc<str>,
}

impl Drop for Bound {
    fn drop(&mut self) {
        let inbox = self.network.sockets().inboxes.remove(&self.name);
        // Outside the lock: what still waits may be dropped by foreign code.
        drop(inbox);
    }
}

struct Receiver {
    inbox: Arc<Inbox>,
    _bound: Arc<Bound>,
}

impl Stream for Receiver {
    type Item = Result<Datagram, Error>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let progress = ready!(coop::poll_proceed(cx));
        let mut state = self.inbox.state();
        let Some(datagram) = state.datagrams.pop_front() else {
            super::pipe::register(&mut state.reader, cx);
            return Poll::Pending;
        };
        state.bytes -= datagram.payload.len();
        progress.made_progress();
        Poll::Ready(Some(Ok(datagram)))
    }
}

struct Sender {
    bound: Arc<Bound>,
}

impl Sink<Datagram> for Sender {
    type Error = Error;

    /// Never waits for room, as nobody is told; a sender in a loop only lets others have their turn.
    fn poll_ready(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        ready!(coop::poll_proceed(cx)).made_progress();
        Poll::Ready(Ok(()))
    }

    fn start_send(self: Pin<&mut Self>, datagram: Datagram) -> Result<(), Error> {
        self.bound.network.deliver(&self.bound.name, datagram);
        Ok(())
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }
}
