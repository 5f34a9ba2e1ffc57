//! Wires without acks: what node-ipc speaks, and bytes as they come.
//!
//! What was accepted waits here until it is written. What was written to a connection that breaks may be lost; what was
//! not yet written goes to the next connection. There is no credit either: the reader stops while its handlers are behind,
//! and the socket's back-pressure holds the sender.

use std::{
    collections::VecDeque,
    io::{self, IoSlice},
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use ipc_pipeline::{QueueConfig, Receiver, Sender, TrySendError};
use ipc_transport::{Connection, Error, Limits, ReadHalf, WriteHalf};
use tokio::{
    io::{AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    sync::watch,
    time::{Instant, timeout, timeout_at},
};

use super::{
    EmitError,
    config::Tuning,
    frame::Frame,
    node_ipc::{self, Reader, WireError},
};

/// Frames of one vectored write.
const BATCH: usize = 64;

/// Events that were read and wait for their handlers, at most, before reading stops.
const READ_AHEAD: usize = 256;

/// Bytes of events that were read and wait, beyond which reading stops. 4 MiB.
const READ_AHEAD_BYTES: usize = 4 * 1024 * 1024;

/// What is read at once.
const READ: usize = 64 * 1024;

/// How long one that has said everything waits for the peer to hang up as well.
const HANG_UP: Duration = Duration::from_secs(1);

/// What arrived.
#[derive(Debug)]
pub(super) enum Arrived {
    Bytes(Bytes),
    Event(node_ipc::Frame),
}

impl Arrived {
    fn len(&self) -> usize {
        match self {
            Self::Bytes(bytes) => bytes.len(),
            Self::Event(frame) => frame.len(),
        }
    }
}

/// How what arrives is cut into events.
#[derive(Debug, Clone)]
pub(super) enum Cutting {
    /// Not at all.
    Raw,
    /// Into frames of node-ipc.
    Frames(node_ipc::Delimiter, node_ipc::Profile),
}

/// Why a connection is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum PlainEnd {
    /// This side ended it.
    Cut,
    /// The peer hung up, or the connection broke.
    HangUp,
    /// The peer broke a rule of the wire.
    Wire(WireError),
}

/// The sending end to one peer.
pub(super) struct Plain {
    queue: Sender<Waiting>,
    cut: Arc<Cut>,
    progress: Arc<Progress>,
    /// Where a guard bounds what waits: the bytes that do, and how many may before the peer is given up.
    guarded: Option<(Arc<AtomicUsize>, usize)>,
}

/// A frame until it is written, lost or dropped, by a policy or with its peer; counted meanwhile where a guard wants it.
struct Waiting {
    frame: Frame,
    counted: Option<Arc<AtomicUsize>>,
}

impl Waiting {
    fn len(&self) -> usize {
        self.frame.len()
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if let Some(bytes) = &self.counted {
            bytes.fetch_sub(self.frame.len(), Ordering::Relaxed);
        }
    }
}

/// Ends the connection that there is now, for a reason if the peer gave one.
struct Cut {
    orders: watch::Sender<u64>,
    reason: Mutex<Option<WireError>>,
    /// There is a connection.
    driving: AtomicBool,
}

/// What became of the frames.
struct Progress {
    done: watch::Sender<Done>,
    lost: AtomicU64,
}

#[derive(Clone, Copy, Default)]
struct Done {
    /// Written, or lost with a connection.
    frames: u64,
    /// Nothing more will be written.
    over: bool,
}

/// What the task of a connection has of its peer: all that is left when the connection is gone.
pub(super) struct Outbox {
    queue: Receiver<Waiting>,
    /// Taken and not written, the first perhaps in part.
    batch: VecDeque<Waiting>,
    scratch: Vec<Waiting>,
    written_of_first: usize,
    /// Frames written since that was last made known.
    written: u64,
    cut: Arc<Cut>,
    /// Also those that came before there was a connection: an end is an end.
    orders: watch::Receiver<u64>,
    progress: Arc<Progress>,
}

impl Plain {
    pub(super) fn new(tuning: &Tuning, max_pending: Option<usize>) -> Result<(Self, Outbox), Error> {
        let capacity = tuning.capacity.get().min(QueueConfig::<Frame>::MAX_CAPACITY);
        let config = QueueConfig::new(capacity).expect("the capacity is neither 0 nor too large");
        let (queue, outbox) =
            config.policy(tuning.policy).byte_bound(tuning.byte_bound, Waiting::len).build();
        let cut = Arc::new(Cut {
            orders: watch::Sender::new(0),
            reason: Mutex::new(None),
            driving: AtomicBool::new(false),
        });
        let progress = Arc::new(Progress { done: watch::Sender::default(), lost: AtomicU64::new(0) });
        let outbox = Outbox {
            queue: outbox,
            batch: VecDeque::new(),
            scratch: Vec::new(),
            written_of_first: 0,
            written: 0,
            orders: cut.orders.subscribe(),
            cut: cut.clone(),
            progress: progress.clone(),
        };
        let guarded = max_pending.map(|max| (Arc::new(AtomicUsize::new(0)), max));
        Ok((Self { queue, cut, progress, guarded }, outbox))
    }

    pub(super) async fn event(&self, frame: Frame) -> Result<(), EmitError> {
        let waiting = self.weigh(frame)?;
        self.queue.send(waiting).await.map_err(|error| error.into_parts().1.into())
    }

    pub(super) fn try_event(&self, frame: Frame) -> Result<(), EmitError> {
        let waiting = self.weigh(frame)?;
        self.queue.try_send(waiting).map_err(|error| match error {
            TrySendError::Failed(error) => error.into_parts().1.into(),
            _ => EmitError::Full,
        })
    }

    /// Counts what waits. A guarded peer that does not read is given up rather than waited for.
    fn weigh(&self, frame: Frame) -> Result<Waiting, EmitError> {
        let Some((bytes, max)) = &self.guarded else { return Ok(Waiting { frame, counted: None }) };
        let len = bytes.fetch_add(frame.len(), Ordering::Relaxed).saturating_add(frame.len());
        let waiting = Waiting { frame, counted: Some(bytes.clone()) };
        if len > *max {
            let error = WireError::Pending { len, max: *max };
            self.cut_for(error.clone());
            return Err(EmitError::Wire(error));
        }
        Ok(waiting)
    }

    /// Accepted and not written.
    pub(super) fn pending(&self) -> usize {
        let counters = self.queue.counters();
        let done = self.progress.done.borrow().frames;
        usize::try_from(counters.accepted.saturating_sub(counters.dropped + done)).unwrap_or(usize::MAX)
    }

    /// Dropped by the policy, or lost with a connection.
    pub(super) fn dropped(&self) -> u64 {
        self.queue.counters().dropped + self.progress.lost.load(Ordering::Relaxed)
    }

    /// Everything accepted so far was handed to a connection, or lost with one.
    pub(super) async fn settled(&self) -> Result<(), EmitError> {
        let wanted = self.queue.counters().accepted;
        let reached = |done: &Done| done.frames + self.queue.counters().dropped >= wanted;
        let mut done = self.progress.done.subscribe();
        match done.wait_for(|done| done.over || reached(done)).await {
            Ok(done) if reached(&done) => Ok(()),
            _ => Err(EmitError::Closed),
        }
    }

    /// Nothing more is accepted.
    pub(super) fn finish(&self) {
        self.queue.close();
    }

    /// Ends the connection that there is. Without one the next one is not to blame.
    pub(super) fn cut(&self) {
        if self.cut.driving.load(Ordering::Relaxed) {
            self.end();
        }
    }

    /// As [`cut`](Self::cut), also of a connection that is just being made: there is to be none.
    pub(super) fn end(&self) {
        self.cut.orders.send_modify(|orders| *orders += 1);
    }

    fn cut_for(&self, error: WireError) {
        if self.cut.driving.load(Ordering::Relaxed) {
            *self.cut.reason.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
            self.end();
        }
    }
}

impl Outbox {
    /// Moves bytes both ways until the connection is over.
    pub(super) async fn drive(
        &mut self,
        connection: Connection,
        cutting: &Cutting,
        limits: &Limits,
        arrivals: &Sender<Arrived>,
        malformed: &AtomicU64,
    ) -> PlainEnd {
        let (mut reader, mut writer, _) = connection.into_parts();
        let cut = self.cut.clone();
        cut.driving.store(true, Ordering::Relaxed);
        let mut orders = self.orders.clone();
        let end = tokio::select! {
            // One that has said everything is not cut: see below.
            biased;
            end = self.write(&mut writer) => match end {
                // Everything is said: let the peer read it before it sees a reset.
                Ok(()) => {
                    let _ = timeout(HANG_UP, async {
                        let _ = writer.shutdown().await;
                        let mut rest = [0; 4096];
                        while reader.read(&mut rest).await.is_ok_and(|count| count > 0) {}
                    }).await;
                    PlainEnd::Cut
                }
                // What the peer said last may still be there to be read.
                Err(_) => read(&mut reader, cutting, limits, arrivals, malformed).await,
            },
            _ = orders.changed() => {
                let reason = cut.reason.lock().unwrap_or_else(PoisonError::into_inner).take();
                reason.map_or(PlainEnd::Cut, PlainEnd::Wire)
            }
            end = read(&mut reader, cutting, limits, arrivals, malformed) => end,
        };
        cut.driving.store(false, Ordering::Relaxed);
        // The orders so far were for this connection.
        self.orders.borrow_and_update();
        if matches!(end, PlainEnd::Wire(_)) {
            malformed.fetch_add(1, Ordering::Relaxed);
        }
        self.let_go_of_the_part();
        end
    }

    /// A frame that was written in part is lost with its connection.
    fn let_go_of_the_part(&mut self) {
        if std::mem::take(&mut self.written_of_first) > 0 && self.batch.pop_front().is_some() {
            self.progress.lost.fetch_add(1, Ordering::Relaxed);
            self.written += 1;
        }
        self.report();
    }

    /// Makes known how much is done with, to those who wait for it.
    fn report(&mut self) {
        let written = std::mem::take(&mut self.written);
        if written > 0 {
            self.progress.done.send_modify(|done| done.frames += written);
        }
    }

    /// Gives up what is left; how many frames.
    pub(super) fn give_up(mut self) -> usize {
        self.let_go_of_the_part();
        self.let_go_of_the_rest()
    }

    /// Takes nothing more; what was not written stays among what is [pending](Plain::pending).
    fn let_go_of_the_rest(&mut self) -> usize {
        self.queue.close();
        let mut left = self.batch.len();
        self.batch.clear();
        while self.queue.try_recv().is_ok() {
            left += 1;
        }
        left
    }

    /// Writes whatever comes; `Ok` when nothing more will.
    async fn write(&mut self, writer: &mut WriteHalf) -> io::Result<()> {
        loop {
            if self.batch.is_empty() {
                if self.queue.recv_many(&mut self.scratch, BATCH).await.is_err() {
                    return Ok(());
                }
                self.batch.extend(self.scratch.drain(..));
            }
            std::future::poll_fn(|cx| self.poll_batch(writer, cx)).await?;
            writer.flush().await?;
            self.report();
            if !self.queue.is_empty() {
                // Whoever reads the same connection gets a turn, also when there is always something to write.
                tokio::task::yield_now().await;
            }
        }
    }

    /// Writes the batch; what of it is written stays known when the future is dropped.
    fn poll_batch(&mut self, writer: &mut WriteHalf, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.batch.is_empty() {
            let mut slices = [IoSlice::new(&[]); BATCH];
            let mut skip = self.written_of_first;
            for (slice, frame) in slices.iter_mut().zip(&self.batch) {
                *slice = IoSlice::new(&frame.frame.as_slice()[skip..]);
                skip = 0;
            }
            let count = self.batch.len().min(BATCH);
            let mut written = match Pin::new(&mut *writer).poll_write_vectored(cx, &slices[..count]) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(written)) => written,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => return Poll::Pending,
            };
            while let Some(first) = self.batch.front() {
                let left = first.len() - self.written_of_first;
                if written < left {
                    self.written_of_first += written;
                    break;
                }
                written -= left;
                self.written_of_first = 0;
                self.batch.pop_front();
                self.written += 1;
            }
        }
        Poll::Ready(Ok(()))
    }
}

/// Whoever waits for what will not be written hears of it.
impl Drop for Outbox {
    fn drop(&mut self) {
        self.let_go_of_the_rest();
        self.progress.done.send_modify(|done| done.over = true);
    }
}

/// The place where what arrives waits for its handlers.
pub(super) fn arrivals() -> (Sender<Arrived>, Receiver<Arrived>) {
    let config = QueueConfig::new(READ_AHEAD).expect("the capacity is neither 0 nor too large");
    config.byte_bound(READ_AHEAD_BYTES, Arrived::len).build()
}

/// Reads until the connection is over, or its arrivals are of no interest any more.
async fn read(
    reader: &mut ReadHalf,
    cutting: &Cutting,
    limits: &Limits,
    arrivals: &Sender<Arrived>,
    malformed: &AtomicU64,
) -> PlainEnd {
    match cutting {
        Cutting::Raw => read_raw(reader, arrivals).await,
        Cutting::Frames(delimiter, profile) => {
            let mut frames = Reader::new(delimiter, profile.clone(), limits.max_message);
            let limit = profile.guard().map_or(limits.frame_timeout, |guard| guard.frame_timeout);
            read_frames(reader, &mut frames, limit, arrivals, malformed).await
        }
    }
}

async fn read_raw(reader: &mut ReadHalf, arrivals: &Sender<Arrived>) -> PlainEnd {
    let mut buffer = BytesMut::new();
    loop {
        buffer.reserve(READ);
        match reader.read_buf(&mut buffer).await {
            Ok(0) | Err(_) => return PlainEnd::HangUp,
            Ok(_) => {
                let bytes = buffer.split().freeze();
                if arrivals.send(Arrived::Bytes(bytes)).await.is_err() {
                    return PlainEnd::Cut;
                }
            }
        }
    }
}

async fn read_frames(
    reader: &mut ReadHalf,
    frames: &mut Reader,
    limit: Duration,
    arrivals: &Sender<Arrived>,
    malformed: &AtomicU64,
) -> PlainEnd {
    // Since when the frame that is incomplete is so.
    let mut began: Option<Instant> = None;
    let mut batch = Vec::new();
    loop {
        let buffer = frames.buffer_mut();
        buffer.reserve(READ);
        let reading = reader.read_buf(buffer);
        let until = began.and_then(|began| began.checked_add(limit));
        let outcome = match until {
            None => reading.await,
            Some(until) => match timeout_at(until, reading).await {
                Ok(outcome) => outcome,
                Err(_) => return PlainEnd::Wire(WireError::IncompleteFrame { limit }),
            },
        };
        if !matches!(outcome, Ok(count) if count > 0) {
            return PlainEnd::HangUp;
        }
        let mut found = 0;
        loop {
            match frames.poll_frame() {
                Ok(Some(frame)) => {
                    found += 1;
                    batch.push(Arrived::Event(frame));
                }
                Ok(None) => break,
                Err(error) if frames.profile().closes_after(&error) => {
                    let _ = arrivals.send_many(batch).await;
                    return PlainEnd::Wire(error);
                }
                Err(_) => {
                    found += 1;
                    malformed.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
        if !batch.is_empty() && arrivals.send_many(batch.drain(..)).await.is_err() {
            return PlainEnd::Cut;
        }
        began = match (frames.pending(), began) {
            (0, _) => None,
            (_, Some(before)) if found == 0 => Some(before),
            _ => Some(Instant::now()),
        };
    }
}
