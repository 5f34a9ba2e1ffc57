//! One session at its receiving end: the machine, the half that answers, and how far the application has come.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll, Waker, ready},
};

use ipc_transport::{PeerIdentity, WriteHalf};
use tokio::{io::AsyncWrite, runtime::Handle, task::AbortHandle};

use super::{SourceId, oversize::OversizeSlot, ticker};
use crate::protocol::{Control, Incoming, SessionId, Taken};

/// A session, shared by the task that reads its connection and the task that takes its values.
pub(super) struct Session {
    pub(super) id: SessionId,
    pub(super) source: SourceId,
    /// Sessions of one source follow one another by it.
    pub(super) order: u64,
    core: Mutex<Core>,
    oversize: Arc<OversizeSlot>,
    ticker: bool,
    // Written by the task that takes, read by whoever acks: plain counts that only grow, so no ordering is needed.
    taken_number: AtomicU64,
    taken_values: AtomicU64,
    taken_bytes: AtomicU64,
    /// The next take has something to see to: a request of the sender, or the first unreported move.
    attention: AtomicBool,
    /// An entry of this session stands with the ticker.
    armed: AtomicBool,
    ack_at_values: AtomicU64,
    ack_at_bytes: AtomicU64,
    /// Grows with each recovery and last word: runs and deliveries from before do not count any more.
    generation: AtomicU64,
}

pub(super) struct Core {
    pub(super) machine: Incoming,
    writer: Option<WriteHalf>,
    /// The writer was written to and not flushed since.
    holds_bytes: bool,
    out: Vec<u8>,
    out_at: usize,
    driver: Option<Waker>,
    /// Who is behind the newest connection.
    peer: PeerIdentity,
    /// Where timers of this session run, and the one that runs.
    runtime: Option<Handle>,
    timer: Option<Timer>,
    /// Grows with each connection; a driver whose connection is not the newest stops.
    epoch: u64,
    tick: bool,
    /// Hang up once everything in `out` is written.
    leaving: bool,
    /// The last word that the driver is to say.
    farewell: Option<Farewell>,
    /// What was released and taken by the last word: what is taken later must not come out.
    told: Option<(u64, u64)>,
    /// A recovery that waits for the sender to come back: until then what is here is all there is.
    recover_at_hello: bool,
    holds_slot: bool,
    /// It stands in the queue for the slot.
    asks_slot: bool,
    /// The driver looks once more whether something moved, after a request that found nothing.
    pub(super) recheck: bool,
}

/// What a receiving end says last on a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Farewell {
    /// The sender gave up.
    Aborted,
    /// This end is closed for good.
    Closed,
    /// This end is gone; another may come.
    Detached,
}

/// What became of a connection that a driver serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// Serve on.
    Current,
    /// A newer connection has taken over, or this end has cut it.
    Replaced,
    /// Everything is said: hang up.
    Left,
}

/// A task that sleeps, ended with its owner.
struct Timer(AbortHandle);

impl Drop for Timer {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Session {
    pub(super) fn new(
        id: SessionId,
        source: SourceId,
        order: u64,
        machine: Incoming,
        oversize: Arc<OversizeSlot>,
        ticker: bool,
    ) -> Arc<Self> {
        let taken = machine.taken();
        Arc::new(Self {
            id,
            source,
            order,
            oversize,
            ticker,
            taken_number: AtomicU64::new(taken.number),
            taken_values: AtomicU64::new(0),
            taken_bytes: AtomicU64::new(0),
            attention: AtomicBool::new(true),
            armed: AtomicBool::new(false),
            ack_at_values: AtomicU64::new(u64::MAX),
            ack_at_bytes: AtomicU64::new(u64::MAX),
            generation: AtomicU64::new(0),
            core: Mutex::new(Core {
                machine,
                writer: None,
                holds_bytes: false,
                out: Vec::new(),
                out_at: 0,
                driver: None,
                peer: PeerIdentity::Unknown,
                runtime: None,
                timer: None,
                epoch: 0,
                tick: false,
                leaving: false,
                farewell: None,
                told: None,
                recover_at_hello: false,
                holds_slot: false,
                asks_slot: false,
                recheck: false,
            }),
        })
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Core> {
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether nothing of it is untaken or unacked; `false` also when its lock is held elsewhere now.
    pub(super) fn is_settled(&self) -> bool {
        self.core.try_lock().is_ok_and(|mut core| {
            core.machine.handle_taken(self.taken());
            core.machine.released() == core.machine.received()
        })
    }

    /// How far the application has come.
    pub(super) fn taken(&self) -> Taken {
        Taken {
            number: self.taken_number.load(Ordering::Relaxed),
            values: self.taken_values.load(Ordering::Relaxed),
            bytes: self.taken_bytes.load(Ordering::Relaxed),
        }
    }

    /// Reports a take, or a batch of them; three plain stores.
    #[inline]
    pub(super) fn publish(&self, taken: Taken) {
        self.taken_number.store(taken.number, Ordering::Relaxed);
        self.taken_values.store(taken.values, Ordering::Relaxed);
        self.taken_bytes.store(taken.bytes, Ordering::Relaxed);
    }

    /// Whether the take that was just published has something to see to.
    #[inline]
    pub(super) fn wants_attention(&self, taken: Taken) -> bool {
        self.attention.load(Ordering::Relaxed)
            || taken.values >= self.ack_at_values.load(Ordering::Relaxed)
            || taken.bytes >= self.ack_at_bytes.load(Ordering::Relaxed)
    }

    /// Sees to it: writes the half-window ack in this task, wakes the driver for a request, or arms the ticker.
    ///
    /// `false` when the take up to this number, of this generation, came after the last word and does not count.
    #[cold]
    pub(super) fn attend(self: &Arc<Self>, generation: u64, number: u64) -> bool {
        let first = self.attention.swap(false, Ordering::Relaxed);
        let mut core = self.lock();
        if self.generation() != generation {
            // What there is to see to concerns the takes of the new generation.
            self.attention.fetch_or(first, Ordering::Relaxed);
            return core.told.is_none_or(|(_, taken)| number <= taken);
        }
        core.machine.handle_taken(self.taken());
        if core.machine.is_asked() {
            // The driver runs when this task yields, so that one answer serves the whole batch.
            let driver = core.driver.take();
            drop(core);
            if let Some(waker) = driver {
                waker.wake();
            }
            return true;
        }
        if core.machine.ack_is_due() {
            let blocked = core.respond_now(self);
            let driver = if blocked { core.driver.take() } else { None };
            drop(core);
            if let Some(waker) = driver {
                waker.wake();
            }
            return true;
        }
        drop(core);
        if first && self.ticker {
            self.arm();
        }
        true
    }

    /// An explicit ack.
    pub(super) fn ack(self: &Arc<Self>, number: u64, generation: u64) {
        let mut core = self.lock();
        if generation != self.generation() {
            return;
        }
        core.machine.handle_taken(self.taken());
        let moved = core.machine.has_moved();
        core.machine.handle_acked(number);
        if core.machine.is_asked() || core.machine.ack_is_due() {
            let driver = core.driver.take();
            drop(core);
            if let Some(waker) = driver {
                waker.wake();
            }
            return;
        }
        let arm = !moved && core.machine.has_moved() && self.ticker;
        drop(core);
        if arm {
            self.arm();
        }
    }

    /// Has the ticker look at this session in 5 ms; at most one entry of it stands there.
    pub(super) fn arm(self: &Arc<Self>) {
        if !self.armed.swap(true, Ordering::Relaxed) {
            ticker::arm(self);
        }
    }

    /// The ticker: have the driver report what moved, if anything did.
    pub(super) fn tick(&self) {
        self.armed.store(false, Ordering::Relaxed);
        let mut core = self.lock();
        core.machine.handle_taken(self.taken());
        if !core.machine.has_moved() && !core.machine.wants_oversize() {
            // Nothing to report: the next take is the first unreported one again.
            self.attention.store(true, Ordering::Relaxed);
            return;
        }
        core.tick = true;
        let driver = core.driver.take();
        drop(core);
        if let Some(waker) = driver {
            waker.wake();
        }
    }

    pub(super) fn generation(&self) -> u64 {
        // Pairs with the release in `start_generation`.
        self.generation.load(Ordering::Acquire)
    }

    /// Gives the session a new connection, whose answer is in `answer`; an older one is not read any more.
    pub(super) fn attach(
        &self,
        core: &mut Core,
        writer: WriteHalf,
        peer: &PeerIdentity,
        answer: &[u8],
    ) -> (u64, Option<Waker>) {
        core.epoch += 1;
        core.peer = peer.clone();
        core.runtime = Handle::try_current().ok();
        core.timer = None;
        core.writer = Some(writer);
        core.holds_bytes = false;
        core.out.clear();
        core.out.extend_from_slice(answer);
        core.out_at = 0;
        core.leaving = false;
        self.set_ack_at(&core.machine);
        self.attention.store(true, Ordering::Relaxed);
        (core.epoch, core.driver.take())
    }

    /// Cuts the connection and takes everything unreleased back; the caller drops the untaken values, if this says so.
    ///
    /// Without a connection it is put off: the sender may be gone for good, and what it sent is here.
    pub(super) fn recover(&self, core: &mut Core) -> bool {
        core.recover_at_hello = !core.machine.is_connected();
        if core.recover_at_hello {
            return false;
        }
        self.rewind(core);
        true
    }

    /// The sender is back: the recovery that was put off; as [`recover`](Self::recover).
    pub(super) fn recover_at_hello(&self, core: &mut Core) -> bool {
        let due = std::mem::take(&mut core.recover_at_hello);
        if due {
            self.rewind(core);
        }
        due
    }

    fn rewind(&self, core: &mut Core) {
        self.say_farewell(core);
        core.machine.handle_taken(self.taken());
        core.machine.recover();
        core.detach(self);
        core.epoch += 1;
        self.start_generation();
        self.publish(core.machine.taken());
    }

    /// What was read before does not count any more.
    fn start_generation(&self) {
        // Released to the task that takes, so that it sees the counts that belong to the new generation.
        self.generation.fetch_add(1, Ordering::Release);
        // A take that is under way asks, once it is reported, whether it still counts.
        self.attention.store(true, Ordering::Relaxed);
    }

    /// From here on nothing of this session is taken; the driver, whose waker this gives, says the last word.
    ///
    /// It does so in a later poll: a take that was reported without seeing this is then in the counts.
    pub(super) fn begin_farewell(&self, core: &mut Core, farewell: Farewell) -> Option<Waker> {
        self.start_generation();
        if core.farewell != Some(Farewell::Aborted) {
            core.farewell = Some(farewell);
        }
        core.timer = None;
        core.driver.take()
    }

    /// Says the last word that is due, if one is: how far the application came, and no further.
    pub(super) fn say_farewell(&self, core: &mut Core) {
        let Some(farewell) = core.farewell.take() else { return };
        let taken = self.taken();
        core.machine.handle_taken(taken);
        let released = core.machine.released();
        // The first time counts: a sender that did not hear it may ask again.
        let told = *core.told.get_or_insert((released, taken.number));
        if farewell != Farewell::Aborted {
            // What was released and not yet reported must not come again to a successor, nor hold up a close.
            core.report(self);
        }
        core.leave(match farewell {
            Farewell::Aborted => Control::Aborted { released: told.0, taken: told.1 },
            Farewell::Closed => Control::Closed { released },
            Farewell::Detached => Control::Detach,
        });
        if farewell != Farewell::Detached {
            // Nobody takes the rest any more: it gives its share of the budget back.
            core.machine.discard();
        }
    }

    /// Passes skipped numbers over, under the lock; `false` when the generation is over.
    pub(super) fn pass(&self, generation: u64, taken: Taken) -> bool {
        let _core = self.lock();
        let current = self.generation() == generation;
        if current {
            self.publish(taken);
        }
        current
    }

    /// Takes one value under the lock, as explicit mode does; `None` when the generation is over.
    ///
    /// Says whether the application has acked the value already.
    pub(super) fn take_one(&self, generation: u64, taken: Taken) -> Option<bool> {
        let mut core = self.lock();
        if self.generation() != generation {
            return None;
        }
        self.publish(taken);
        let acked = core.machine.is_acked(taken.number);
        if acked {
            core.machine.count_duplicate();
        }
        Some(acked)
    }

    fn set_ack_at(&self, machine: &Incoming) {
        let (values, bytes) = machine.ack_at();
        self.ack_at_values.store(values, Ordering::Relaxed);
        self.ack_at_bytes.store(bytes, Ordering::Relaxed);
    }
}

impl Core {
    /// Whether the connection of this epoch is still the session's.
    pub(super) fn standing(&self, epoch: u64) -> Standing {
        if self.epoch != epoch || self.writer.is_none() {
            Standing::Replaced
        } else if self.leaving && self.out.is_empty() {
            Standing::Left
        } else {
            Standing::Current
        }
    }

    pub(super) fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Who is behind the newest connection.
    pub(super) fn peer(&self) -> &PeerIdentity {
        &self.peer
    }

    /// Starts this session's timer, in place of one that runs; it stops when the session is forgotten.
    pub(super) fn set_timer(&mut self, timer: impl Future<Output = ()> + Send + 'static) {
        self.timer = self.runtime.as_ref().map(|runtime| Timer(runtime.spawn(timer).abort_handle()));
    }

    /// Whether no newer connection has taken over.
    pub(super) fn is_newest(&self, epoch: u64) -> bool {
        self.epoch == epoch
    }

    /// Puts what is due into the outgoing bytes.
    pub(super) fn respond(&mut self, session: &Arc<Session>) {
        self.machine.handle_taken(session.taken());
        let tick = std::mem::take(&mut self.tick);
        if self.writer.is_none() || self.leaving {
            return;
        }
        if self.holds_slot && !self.machine.holds_oversize() {
            self.holds_slot = false;
            session.oversize.release();
        }
        let before = self.out.len();
        self.machine.poll_control(tick, &mut self.out);
        if self.machine.wants_oversize() && !self.holds_slot {
            if session.oversize.acquire(session) {
                self.holds_slot = true;
                self.machine.grant_oversize();
                self.machine.poll_control(tick, &mut self.out);
            }
            self.asks_slot = !self.holds_slot;
        } else if self.asks_slot && !self.machine.is_stuck() {
            self.asks_slot = false;
            session.oversize.forget(session);
        }
        if self.out.len() > before {
            session.set_ack_at(&self.machine);
        }
        // From here on the next take is the first unreported one, or the answer to a request.
        if self.out.len() > before || self.machine.is_asked() {
            session.attention.store(true, Ordering::Relaxed);
        }
    }

    /// Responds and writes from a task that is not the driver; `true` if the driver has to finish it.
    fn respond_now(&mut self, session: &Arc<Session>) -> bool {
        self.respond(session);
        !matches!(self.flush(&mut Context::from_waker(Waker::noop())), Poll::Ready(Ok(())))
    }

    /// Writes what is due.
    pub(super) fn flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.out_at < self.out.len() {
            let Some(writer) = &mut self.writer else { break };
            match Pin::new(writer).poll_write(cx, &self.out[self.out_at..]) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(count)) => {
                    self.out_at += count;
                    self.holds_bytes = true;
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => return Poll::Pending,
            }
        }
        self.out.clear();
        self.out_at = 0;
        if self.holds_bytes
            && let Some(writer) = &mut self.writer
        {
            // A connection that encrypts may have taken more than its socket did.
            ready!(Pin::new(writer).poll_flush(cx))?;
            self.holds_bytes = false;
        }
        Poll::Ready(Ok(()))
    }

    /// The driver's waker, to wake it outside the lock.
    pub(super) fn take_driver(&mut self) -> Option<Waker> {
        self.driver.take()
    }

    /// Puts whatever has moved into the outgoing bytes, due or not, if there is a connection to report it on.
    fn report(&mut self, session: &Session) {
        if self.writer.is_some() && !self.leaving {
            self.machine.handle_taken(session.taken());
            self.machine.poll_control(true, &mut self.out);
        }
    }

    /// The last word on this connection.
    fn leave(&mut self, control: Control) {
        if self.writer.is_some() {
            control.encode(&mut self.out);
            self.leaving = true;
        }
    }

    /// The half to hang up with, once everything is said.
    pub(super) fn take_writer(&mut self) -> Option<WriteHalf> {
        self.writer.take()
    }

    /// The driver's connection is gone.
    pub(super) fn detach(&mut self, session: &Session) {
        self.machine.handle_taken(session.taken());
        self.machine.handle_disconnected();
        if std::mem::take(&mut self.holds_slot) {
            session.oversize.release();
        }
        if std::mem::take(&mut self.asks_slot) {
            session.oversize.forget(session);
        }
        // Each take gives its share of the budget back, as long as nothing new is promised.
        session.ack_at_values.store(0, Ordering::Relaxed);
        self.writer = None;
        self.out.clear();
        self.out_at = 0;
    }

    pub(super) fn register(&mut self, waker: &Waker) {
        if !self.driver.as_ref().is_some_and(|known| known.will_wake(waker)) {
            self.driver = Some(waker.clone());
        }
    }
}
