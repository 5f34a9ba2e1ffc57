//! Incoming ports: any number of pipelines enter each.

use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures_core::Stream;
use ipc_pipeline::link::{
    Delivery, Event, Receiver, ReceiverCounters, Recv, RecvError, SharedReceiver, SourceId, SourceInfo,
};

use crate::node::Shared;

/// A port that values arrive at, from any number of outgoing ports, in fair turns and in each source's order.
///
/// It needs no connect call: accepting a source is the connect-back. Dropping it tells the sources to keep what they
/// have for a successor; only [`close`](Self::close) is final.
pub struct IncomingPort<T> {
    receiver: Receiver<T>,
    // Behind the receiver: the name is free once that is gone.
    place: Arc<Place>,
}

/// A port's name at its node, free again when this is dropped.
pub(crate) struct Place {
    pub(crate) node: Arc<Shared>,
    pub(crate) name: String,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.node.forget_incoming(&self.name);
    }
}

impl<T: 'static> IncomingPort<T> {
    pub(crate) fn new(receiver: Receiver<T>, node: Arc<Shared>, name: String) -> Self {
        Self { receiver, place: Arc::new(Place { node, name }) }
    }

    /// The next value; returning it is *taking* it. See [`Receiver::recv`].
    ///
    /// # Errors
    ///
    /// [`RecvError::EndOfStream`] once, when every source has ended and everything was taken;
    /// [`RecvError::Undecodable`], after which the next call goes on; [`RecvError::Closed`] after a shutdown.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: a value that was not returned stays where it is.
    #[inline]
    pub fn recv(&mut self) -> Recv<'_, T> {
        self.receiver.recv()
    }

    /// The next value or notice: a source's restart, or values that a sender's policy dropped.
    ///
    /// # Errors
    ///
    /// As [`recv`](Self::recv).
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: what was not returned stays where it is.
    pub async fn recv_event(&mut self) -> Result<Event<T>, RecvError> {
        self.receiver.recv_event().await
    }

    /// The next value if one is here; `None` if not.
    ///
    /// # Errors
    ///
    /// As [`recv`](Self::recv).
    pub fn try_recv(&mut self) -> Result<Option<Delivery<T>>, RecvError> {
        self.receiver.try_recv()
    }

    /// The next value; lets the thread wait for it. See [`Receiver::blocking_recv`].
    ///
    /// # Errors
    ///
    /// As [`recv`](Self::recv).
    pub fn blocking_recv(&mut self) -> Result<Delivery<T>, RecvError> {
        self.receiver.blocking_recv()
    }

    /// As [`blocking_recv`](Self::blocking_recv), and waits this long at most; `None` when nothing came in that time.
    ///
    /// # Errors
    ///
    /// As [`recv`](Self::recv).
    pub fn blocking_recv_timeout(&mut self, timeout: Duration) -> Result<Option<Delivery<T>>, RecvError> {
        self.receiver.blocking_recv_timeout(timeout)
    }

    /// Waits for a value, then appends up to `max` that are here to `out`; the fast path.
    ///
    /// # Errors
    ///
    /// As [`recv`](Self::recv); [`RecvError::ExplicitAcks`] when values must be acked.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: values are taken only in the poll that returns them.
    pub async fn recv_many(&mut self, out: &mut Vec<T>, max: usize) -> Result<usize, RecvError> {
        self.receiver.recv_many(out, max).await
    }

    /// As [`recv_many`](Self::recv_many), with each value's origin, in either ack mode.
    ///
    /// # Errors
    ///
    /// As [`recv`](Self::recv).
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: values are taken only in the poll that returns them.
    pub async fn recv_deliveries(
        &mut self,
        out: &mut Vec<Delivery<T>>,
        max: usize,
    ) -> Result<usize, RecvError> {
        self.receiver.recv_deliveries(out, max).await
    }

    /// Takes back what was handed out and not acked, and has it sent again, flagged; see [`Receiver::recover`].
    pub fn recover(&mut self) {
        self.receiver.recover();
    }

    /// Who a source is; `None` for one long gone.
    pub fn source(&self, source: SourceId) -> Option<SourceInfo> {
        self.receiver.source(source)
    }

    /// The sources that this port remembers.
    pub fn sources(&self) -> Vec<SourceId> {
        self.receiver.sources()
    }

    /// Whether a connection from the given outgoing port exists now.
    pub fn is_connected_to(&self, process: &str, port: &str) -> bool {
        self.sources()
            .into_iter()
            .filter_map(|source| self.source(source))
            .any(|source| source.connected && source.process == process && source.port == port)
    }

    /// Counts over all sources.
    pub fn counters(&self) -> ReceiverCounters {
        self.receiver.counters()
    }

    /// The port's name.
    pub fn name(&self) -> &str {
        &self.place.name
    }

    /// Closes the port for good: senders get `PeerClosed`, and what was not taken stays undelivered with them.
    ///
    /// Waits until they were told, at most 1 s. A port made later under the same name is another one: senders
    /// attached to this one are not let in.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes all the same, if it was polled; one that never was drops the port.
    pub async fn close(self) {
        let Self { receiver, place } = self;
        receiver.close().await;
        drop(place);
    }

    /// A receiver that many tasks can share: first come, first served.
    pub fn into_shared(self) -> SharedIncomingPort<T> {
        SharedIncomingPort { receiver: self.receiver.into_shared(), place: self.place }
    }
}

impl<T: 'static> Stream for IncomingPort<T> {
    type Item = Result<Delivery<T>, RecvError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Pin::new(&mut self.get_mut().receiver).poll_next(cx)
    }
}

impl<T> fmt::Debug for IncomingPort<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IncomingPort").field("name", &self.place.name).finish_non_exhaustive()
    }
}

/// An incoming port that tasks share; each value goes to exactly one of them, in the order in which they asked.
///
/// Each handle is told the end of the stream once: all that wait when it comes, and the others at their next receive,
/// so that every task of a pool sees it; give each task its own clone.
///
/// A receive that was polled once holds its place: whoever keeps one without polling or dropping it holds up everybody
/// behind.
pub struct SharedIncomingPort<T> {
    receiver: SharedReceiver<T>,
    // Behind the receiver: the name is free once that is gone.
    place: Arc<Place>,
}

impl<T> Clone for SharedIncomingPort<T> {
    fn clone(&self) -> Self {
        Self { receiver: self.receiver.clone(), place: self.place.clone() }
    }
}

impl<T: 'static> SharedIncomingPort<T> {
    /// The next value for this task; see [`IncomingPort::recv`].
    ///
    /// # Errors
    ///
    /// As there.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives up the place in the queue; no value is lost by it.
    pub async fn recv(&self) -> Result<Delivery<T>, RecvError> {
        self.receiver.recv().await
    }

    /// The next value or notice for this task; see [`IncomingPort::recv_event`].
    ///
    /// # Errors
    ///
    /// As there.
    ///
    /// # Cancel safety
    ///
    /// As [`recv`](Self::recv).
    pub async fn recv_event(&self) -> Result<Event<T>, RecvError> {
        self.receiver.recv_event().await
    }

    /// Waits for a value, then appends up to `max` that are here to `out`; see [`IncomingPort::recv_many`].
    ///
    /// # Errors
    ///
    /// As there.
    ///
    /// # Cancel safety
    ///
    /// As [`recv`](Self::recv).
    pub async fn recv_many(&self, out: &mut Vec<T>, max: usize) -> Result<usize, RecvError> {
        self.receiver.recv_many(out, max).await
    }

    /// The next value if one is here and nobody asked for it before; `None` if not.
    ///
    /// # Errors
    ///
    /// As [`recv`](Self::recv).
    pub fn try_recv(&self) -> Result<Option<Delivery<T>>, RecvError> {
        self.receiver.try_recv()
    }

    /// Who a source is; `None` for one long gone.
    pub fn source(&self, source: SourceId) -> Option<SourceInfo> {
        self.receiver.source(source)
    }

    /// The sources that this port remembers.
    pub fn sources(&self) -> Vec<SourceId> {
        self.receiver.sources()
    }

    /// Counts over all sources.
    pub fn counters(&self) -> ReceiverCounters {
        self.receiver.counters()
    }

    /// The port's name.
    pub fn name(&self) -> &str {
        &self.place.name
    }

    /// Closes the port for good, as [`IncomingPort::close`] does; receives that wait end with [`RecvError::Closed`].
    ///
    /// Its name is free once the last handle is dropped.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes all the same, if it was polled.
    pub async fn close(&self) {
        self.receiver.close().await;
    }

    /// The port back, if this was the last handle.
    pub fn into_inner(self) -> Option<IncomingPort<T>> {
        Some(IncomingPort { receiver: self.receiver.into_inner()?, place: self.place })
    }
}

impl<T> fmt::Debug for SharedIncomingPort<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SharedIncomingPort")
    }
}
