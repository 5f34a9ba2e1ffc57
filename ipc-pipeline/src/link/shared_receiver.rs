//! A receiving end that many tasks may ask: first come, first served.

use std::{
    fmt,
    ops::{Deref, DerefMut},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::sync::{MutexGuard, watch};

use super::{
    Delivery, Event, Intake, Receiver, ReceiverCounters, RecvError, SourceId, SourceInfo, inbox::Inbox,
};

/// A [`Receiver`] that tasks share; each value goes to exactly one of them, in the order in which they asked.
///
/// It comes from [`Receiver::into_shared`]. Each handle is told the end of the stream once: all that wait when it
/// comes, and the others at their next receive, so that every task of a pool sees it; give each task its own clone.
///
/// A receive that was polled once holds its place: whoever keeps one without polling or dropping it holds up everybody
/// behind.
pub struct SharedReceiver<T> {
    inner: Arc<Inner<T>>,
    /// Ends of the stream that this handle was told.
    told: AtomicU64,
}

struct Inner<T> {
    receiver: tokio::sync::Mutex<Receiver<T>>,
    /// Beside the receiver, for what must not wait for a task that waits in it.
    inbox: Arc<Inbox>,
    /// The receiver's counts when a task last had it.
    counters: Mutex<ReceiverCounters>,
    /// Ends of the stream so far.
    ends: watch::Sender<u64>,
}

impl<T: 'static> SharedReceiver<T> {
    pub(super) fn new(receiver: Receiver<T>) -> Self {
        let inner = Inner {
            inbox: receiver.inbox().clone(),
            counters: Mutex::new(receiver.own_counters()),
            receiver: tokio::sync::Mutex::new(receiver),
            ends: watch::Sender::new(0),
        };
        Self { inner: Arc::new(inner), told: AtomicU64::new(0) }
    }

    /// The next value for this task; see [`Receiver::recv`].
    ///
    /// # Errors
    ///
    /// As there.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives up the place in the queue; no value is lost by it.
    pub async fn recv(&self) -> Result<Delivery<T>, RecvError> {
        let mut turn = self.turn().await?;
        let outcome = turn.recv().await;
        self.finish(turn, outcome)
    }

    /// The next value or notice for this task.
    ///
    /// # Errors
    ///
    /// As [`recv`](Self::recv).
    ///
    /// # Cancel safety
    ///
    /// As [`recv`](Self::recv).
    pub async fn recv_event(&self) -> Result<Event<T>, RecvError> {
        let mut turn = self.turn().await?;
        let outcome = turn.recv_event().await;
        self.finish(turn, outcome)
    }

    /// Waits for a value, then appends up to `max` that are here to `out`; see [`Receiver::recv_many`].
    ///
    /// # Errors
    ///
    /// As there.
    ///
    /// # Cancel safety
    ///
    /// As [`recv`](Self::recv).
    pub async fn recv_many(&self, out: &mut Vec<T>, max: usize) -> Result<usize, RecvError> {
        let mut turn = self.turn().await?;
        let outcome = turn.recv_many(out, max).await;
        self.finish(turn, outcome)
    }

    /// The next value if one is here and nobody asked for it before; `None` if not.
    ///
    /// # Errors
    ///
    /// As [`recv`](Self::recv).
    pub fn try_recv(&self) -> Result<Option<Delivery<T>>, RecvError> {
        self.missed_end()?;
        match self.inner.receiver.try_lock() {
            Ok(receiver) => {
                let mut turn = Turn { receiver, inner: &self.inner };
                let outcome = turn.try_recv();
                self.finish(turn, outcome)
            }
            Err(_) => Ok(None),
        }
    }

    /// Who a source is; `None` for one long gone.
    pub fn source(&self, source: SourceId) -> Option<SourceInfo> {
        self.inner.inbox.source(source)
    }

    /// The sources that this end remembers.
    pub fn sources(&self) -> Vec<SourceId> {
        self.inner.inbox.sources()
    }

    /// Counts over all sources.
    pub fn counters(&self) -> ReceiverCounters {
        // Whoever waits in the receiver has taken nothing since it was noted.
        let counters = *self.inner.counters.lock().unwrap_or_else(PoisonError::into_inner);
        ReceiverCounters { duplicates: self.inner.inbox.duplicates(), ..counters }
    }

    /// The handle that takes connections in.
    pub fn intake(&self) -> Intake {
        Intake::new(self.inner.inbox.clone())
    }

    /// Closes this end for good, as [`Receiver::close`] does; receives that wait end with [`RecvError::Closed`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes all the same, if it was polled.
    pub async fn close(&self) {
        self.intake().close().await;
    }

    /// The receiver back, if this was the last handle.
    pub fn into_inner(self) -> Option<Receiver<T>> {
        Some(Arc::into_inner(self.inner)?.receiver.into_inner())
    }

    /// Waits for the receiver, unless the stream ends meanwhile.
    async fn turn(&self) -> Result<Turn<'_, T>, RecvError> {
        let mut ends = self.inner.ends.subscribe();
        // One that comes from here on ends this receive, even if another one of the same handle was told.
        let known = *ends.borrow_and_update();
        self.missed_end()?;
        let receiver = tokio::select! {
            biased;
            _ = ends.changed() => return Err(self.end(*ends.borrow())),
            receiver = self.inner.receiver.lock() => receiver,
        };
        let turn = Turn { receiver, inner: &self.inner };
        let now = *ends.borrow();
        if now == known { Ok(turn) } else { Err(self.end(now)) }
    }

    /// An end of the stream that came while this handle did something else.
    fn missed_end(&self) -> Result<(), RecvError> {
        let now = *self.inner.ends.borrow();
        if self.told.load(Ordering::Relaxed) < now { Err(self.end(now)) } else { Ok(()) }
    }

    fn end(&self, now: u64) -> RecvError {
        self.told.fetch_max(now, Ordering::Relaxed);
        RecvError::EndOfStream
    }

    /// Tells the others of an end of the stream, while none of them has the receiver.
    fn finish<O>(&self, turn: Turn<'_, T>, outcome: Result<O, RecvError>) -> Result<O, RecvError> {
        if matches!(outcome, Err(RecvError::EndOfStream)) {
            let mut now = 0;
            self.inner.ends.send_modify(|ends| {
                *ends += 1;
                now = *ends;
            });
            self.end(now);
        }
        drop(turn);
        outcome
    }
}

impl<T> Clone for SharedReceiver<T> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), told: AtomicU64::new(self.told.load(Ordering::Relaxed)) }
    }
}

impl<T> fmt::Debug for SharedReceiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SharedReceiver")
    }
}

/// The receiver, for as long as one task has it; its counts are noted when the next one gets it.
struct Turn<'a, T> {
    receiver: MutexGuard<'a, Receiver<T>>,
    inner: &'a Inner<T>,
}

impl<T> Drop for Turn<'_, T> {
    fn drop(&mut self) {
        let mut counters = self.inner.counters.lock().unwrap_or_else(PoisonError::into_inner);
        *counters = self.receiver.own_counters();
    }
}

impl<T> Deref for Turn<'_, T> {
    type Target = Receiver<T>;

    fn deref(&self) -> &Receiver<T> {
        &self.receiver
    }
}

impl<T> DerefMut for Turn<'_, T> {
    fn deref_mut(&mut self) -> &mut Receiver<T> {
        &mut self.receiver
    }
}
