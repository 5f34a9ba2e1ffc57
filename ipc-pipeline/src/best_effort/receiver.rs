//! The receiving end: a task that reads the socket, and the handle that takes what it found.

use std::{
    fmt,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use futures_core::Stream;
use ipc_transport::{
    Datagram, DatagramAddress, DatagramReader, DatagramSocket, DecodeError, Decoder, Endpoint, Error,
    PeerIdentity,
};
use tokio::{
    runtime::Handle,
    sync::watch,
    task::{JoinHandle, coop::poll_proceed},
    time::{Instant, sleep},
};

use super::{
    Intake, ReceiverConfig,
    source::{SourceTable, Waiting},
};
use crate::protocol::{SessionId, TallyCounts, codec_tag};

/// Datagrams that are entered under one lock and with one wake.
const BATCH: usize = 64;

/// The pause after an error of the socket, so that a lasting one does not spin.
const FAILURE_PAUSE: Duration = Duration::from_millis(20);

/// The receiving end of any number of best-effort pipelines.
///
/// A task of its own empties the socket all the time, so that of what is not taken the newest stays, not the oldest as in
/// the buffer of the system. Values are decoded in the task that takes them. Sources take turns.
///
/// Dropping it closes the socket; senders that announced themselves notice by their connections.
pub struct Receiver<T> {
    inbox: Arc<Inbox>,
    decoder: Arc<dyn Decoder<T>>,
    reading: JoinHandle<()>,
    local: Endpoint,
}

impl<T: 'static> Receiver<T> {
    /// Receives from a socket, of which only the receiving half is used.
    ///
    /// # Errors
    ///
    /// [`Error::NoRuntime`] outside a tokio runtime.
    pub fn new(
        socket: DatagramSocket,
        config: ReceiverConfig,
        decoder: impl Decoder<T>,
    ) -> Result<Self, Error> {
        let runtime = Handle::try_current().map_err(|_| Error::NoRuntime)?;
        let local = socket.local_endpoint().clone();
        let codec = decoder.id().to_owned();
        let table = SourceTable::new(config.clone(), codec_tag(&codec));
        let state = State { table, consumer: None, ended: false };
        let inbox = Arc::new(Inbox {
            state: Mutex::new(state),
            config,
            codec,
            at: local.to_string(),
            closed: watch::Sender::new(false),
            idle: watch::Sender::new(false),
        });
        let (reader, writer) = socket.into_parts();
        drop(writer);
        let reading = runtime.spawn(read(ReadingTask(inbox.clone()), reader));
        Ok(Self { inbox, decoder: Arc::new(decoder), reading, local })
    }

    /// Takes the next value.
    ///
    /// # Errors
    ///
    /// [`RecvError::Undecodable`] for one datagram that is no value, after which receiving goes on; [`RecvError::Closed`]
    /// when the socket is of no more use.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: a value that was not returned is returned by the next call.
    pub async fn recv(&mut self) -> Result<Received<T>, RecvError> {
        std::future::poll_fn(|cx| self.poll_recv(cx)).await
    }

    /// Takes a value if one is here.
    ///
    /// # Errors
    ///
    /// As [`recv`](Self::recv).
    pub fn try_recv(&mut self) -> Result<Option<Received<T>>, RecvError> {
        let mut state = self.inbox.lock();
        let taken = state.table.take();
        let ended = state.ended;
        drop(state);
        match taken {
            Some(waiting) => self.decode(waiting).map(Some),
            None if ended => Err(RecvError::Closed),
            None => Ok(None),
        }
    }

    /// Polls for the next value; of several tasks that poll, the last one is woken.
    ///
    /// # Errors
    ///
    /// As [`recv`](Self::recv).
    pub fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Result<Received<T>, RecvError>> {
        // A source that is faster than its consumer always has something; others must have their turns all the same.
        let budget = ready!(poll_proceed(cx));
        let mut state = self.inbox.lock();
        let Some(waiting) = state.table.take() else {
            if state.ended {
                return Poll::Ready(Err(RecvError::Closed));
            }
            state.consumer = Some(cx.waker().clone());
            return Poll::Pending;
        };
        drop(state);
        budget.made_progress();
        Poll::Ready(self.decode(waiting))
    }

    /// Lets in the sources that announce themselves over connections.
    pub fn intake(&self) -> Intake {
        Intake::new(self.inbox.clone())
    }

    /// The sources that are remembered, those that have ended included, in no order.
    pub fn sources(&self) -> Vec<SourceInfo> {
        self.inbox.lock().table.infos()
    }

    /// Counts of what belongs to no source.
    pub fn counters(&self) -> ReceiverCounters {
        self.inbox.lock().table.counters()
    }

    /// Where datagrams arrive, the real port included.
    pub fn local_endpoint(&self) -> &Endpoint {
        &self.local
    }

    /// Closes the socket and waits until its address is free, as long as the runtime runs in which it was made.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes all the same.
    pub async fn close(mut self) {
        self.inbox.close();
        let _ = (&mut self.reading).await;
    }

    fn decode(&self, waiting: Waiting) -> Result<Received<T>, RecvError> {
        let Waiting { session, number, gap, late, payload } = waiting;
        match self.decoder.decode_owned(payload) {
            Ok(value) => Ok(Received { value, session, number, gap, late }),
            Err(error) => {
                self.inbox.lock().table.count_undecodable();
                Err(RecvError::Undecodable { session, number, error })
            }
        }
    }
}

impl<T: 'static> Stream for Receiver<T> {
    type Item = Result<Received<T>, RecvError>;

    /// Ends when the socket is of no more use.
    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.get_mut().poll_recv(cx).map(|received| match received {
            Err(RecvError::Closed) => None,
            received => Some(received),
        })
    }
}

impl<T> Unpin for Receiver<T> {}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        self.inbox.close();
    }
}

impl<T> fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver").field("local", &self.local).finish_non_exhaustive()
    }
}

/// A value that arrived, and what its number says.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Received<T> {
    /// The value.
    pub value: T,
    /// The session that sent it; see [`Receiver::sources`].
    pub session: SessionId,
    /// Its number in the session, counted from 1 as values leave the sender.
    pub number: u64,
    /// Numbers directly below it that had not arrived when it did.
    pub gap: u64,
    /// Whether a later value of the session arrived before it; those who want only the newest state pass it over.
    pub late: bool,
}

/// Why there is no value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RecvError {
    /// This end was closed, or its runtime is gone, or the socket is of no more use.
    #[error("the receiving end is closed")]
    Closed,
    /// A datagram is no value of this type; the next receive goes on after it.
    #[error("value {number} of a source does not decode")]
    Undecodable {
        /// Who sent it.
        session: SessionId,
        /// Its number.
        number: u64,
        /// What is wrong with it.
        #[source]
        error: DecodeError,
    },
}

/// What is known of a source.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SourceInfo {
    /// The session: one life of a sending end towards this receiving end.
    pub session: SessionId,
    /// The sending process as it names itself; empty for one that was not announced.
    pub process: String,
    /// The sending port, likewise.
    pub port: String,
    /// Who is behind the connection that announced it; unknown for one that was not.
    pub peer: PeerIdentity,
    /// Where its newest datagram came from.
    pub address: Option<DatagramAddress>,
    /// Whether its connection stands, as far as is known; after that what was under way is taken for 3 s. True for a source
    /// that was not announced.
    pub attached: bool,
    /// Values that wait to be taken.
    pub waiting: usize,
    /// Values that arrived and were dropped untaken, as newer ones had come.
    pub overrun: u64,
    /// What arrived and what did not.
    pub tally: TallyCounts,
}

/// Datagrams that belong to no source, and other counts of a receiving end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct ReceiverCounters {
    /// Datagrams that are none of a best-effort pipeline.
    pub malformed: u64,
    /// Datagrams in another codec.
    pub mismatched: u64,
    /// Datagrams of sessions that were not announced, or whose connection has long gone.
    pub unannounced: u64,
    /// Newcomers for whom there was no room: announcements and, from anybody, datagrams.
    pub turned_away: u64,
    /// Sources that were forgotten for the sake of others.
    pub forgotten: u64,
    /// Values that did not decode.
    pub undecodable: u64,
    /// Errors of the socket.
    pub failures: u64,
}

/// What the handle, its intakes and the reading task share.
pub(super) struct Inbox {
    state: Mutex<State>,
    pub(super) config: ReceiverConfig,
    pub(super) codec: String,
    /// The endpoint, as it is told to senders.
    pub(super) at: String,
    pub(super) closed: watch::Sender<bool>,
    /// Whether the task that reads is gone, and the socket with it.
    idle: watch::Sender<bool>,
}

pub(super) struct State {
    pub(super) table: SourceTable,
    consumer: Option<Waker>,
    /// Nothing will arrive any more.
    ended: bool,
}

impl Inbox {
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has the task that reads end, and the connections of sources with it.
    pub(super) fn close(&self) {
        self.closed.send_replace(true);
    }

    /// Completes when the socket is closed.
    pub(super) async fn idle(&self) {
        let _ = self.idle.subscribe().wait_for(|idle| *idle).await;
    }

    fn enter(&self, batch: &mut Vec<Datagram>) {
        let now = Instant::now().into_std();
        let mut state = self.lock();
        let mut more = false;
        for datagram in batch.drain(..) {
            more |= state.table.handle(datagram, now);
        }
        let consumer = if more { state.consumer.take() } else { None };
        drop(state);
        if let Some(waker) = consumer {
            waker.wake();
        }
    }
}

/// However the task ends, with its runtime too: nothing arrives any more, and whoever waits or sends must know.
struct ReadingTask(Arc<Inbox>);

impl Drop for ReadingTask {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.ended = true;
        let consumer = state.consumer.take();
        drop(state);
        if let Some(waker) = consumer {
            waker.wake();
        }
        self.0.close();
        self.0.idle.send_replace(true);
    }
}

async fn read(reading: ReadingTask, reader: DatagramReader) {
    // Declared later, so that it is dropped before the task says that it is gone.
    let mut reader = reader;
    let mut batch = Vec::with_capacity(BATCH);
    let mut closed = reading.0.closed.subscribe();
    loop {
        let outcome = tokio::select! {
            biased;
            _ = closed.wait_for(|closed| *closed) => return,
            outcome = std::future::poll_fn(|cx| poll_fill(&mut reader, &mut batch, cx)) => outcome,
        };
        let is_full = batch.len() == BATCH;
        reading.0.enter(&mut batch);
        match outcome {
            None => return,
            // Others get their turn, whatever the socket is.
            Some(Ok(())) if is_full => tokio::task::yield_now().await,
            Some(Ok(())) => {}
            Some(Err(error)) => {
                tracing::debug!(%error, "receiving datagrams failed");
                reading.0.lock().table.count_failure();
                tokio::select! {
                    _ = closed.wait_for(|closed| *closed) => return,
                    () = sleep(FAILURE_PAUSE) => {}
                }
            }
        }
    }
}

/// Takes what is there, a batch at most; ready when there is something to enter or to handle.
fn poll_fill(
    reader: &mut DatagramReader,
    batch: &mut Vec<Datagram>,
    cx: &mut Context<'_>,
) -> Poll<Option<Result<(), Error>>> {
    while batch.len() < BATCH {
        match Pin::new(&mut *reader).poll_next(cx) {
            Poll::Ready(Some(Ok(datagram))) => batch.push(datagram),
            Poll::Ready(Some(Err(error))) => return Poll::Ready(Some(Err(error))),
            Poll::Ready(None) => return Poll::Ready(None),
            Poll::Pending if batch.is_empty() => return Poll::Pending,
            Poll::Pending => break,
        }
    }
    Poll::Ready(Some(Ok(())))
}
