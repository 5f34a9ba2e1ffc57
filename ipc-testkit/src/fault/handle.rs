//! Control over a faulty transport while it runs, and what went through it.

use std::{
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use tokio::sync::watch;

use super::{Direction, FaultPlan, Side, halves::Live, socket::Bell};

/// Cuts, stalls and refuses by hand, and counts.
///
/// Clones control the same transport.
#[derive(Clone)]
pub struct FaultHandle {
    shared: Arc<Shared>,
}

impl FaultHandle {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// Cuts every live connection now and tells how many there were; sockets of datagrams are left alone.
    ///
    /// Both halves of each fail with `ConnectionReset`, and what they held is dropped at once, even when nobody polls
    /// them: the peer sees the end of the connection.
    pub fn cut_all(&self) -> usize {
        let live = self.shared.live();
        live.iter().filter(|live| live.cut()).count()
    }

    /// Holds all bytes in both directions of every connection, present and future, until [`FaultHandle::resume`].
    ///
    /// Sockets of datagrams are held as well: sending waits, and what arrives stays with the transport underneath, which
    /// drops what it has no room for.
    pub fn stall(&self) {
        self.shared.stalled.store(true, Ordering::SeqCst);
    }

    /// Lets the bytes move again, those held by a rule such as [`Rule::stall_after`](crate::Rule::stall_after) included.
    pub fn resume(&self) {
        self.shared.stalled.store(false, Ordering::SeqCst);
        self.shared.resumed.fetch_add(1, Ordering::SeqCst);
        for live in self.shared.live() {
            live.wake();
        }
        self.shared.ring();
    }

    /// Turns every new connection away, and every bind, until [`FaultHandle::admit`].
    pub fn refuse(&self) {
        self.shared.refusing.store(true, Ordering::SeqCst);
    }

    /// Lets new connections in again, and sockets be bound.
    pub fn admit(&self) {
        self.shared.refusing.store(false, Ordering::SeqCst);
    }

    /// How many connections are live: made, not cut, and not yet dropped by their owner.
    pub fn live(&self) -> usize {
        self.shared.live().len()
    }

    /// What went through so far.
    pub fn counters(&self) -> FaultCounters {
        *self.shared.counters.borrow()
    }

    /// Waits until the counters satisfy a condition, at once if they do.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost when the future is dropped.
    pub async fn wait_until(
        &self,
        mut condition: impl FnMut(&FaultCounters) -> bool + Send,
    ) -> FaultCounters {
        let mut counters = self.shared.counters.subscribe();
        *counters.wait_for(|now| condition(now)).await.expect("this handle keeps the counters alive")
    }

    /// The plan that is carried out.
    pub fn plan(&self) -> &FaultPlan {
        &self.shared.plan
    }
}

impl fmt::Debug for FaultHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FaultHandle")
            .field("plan", &format_args!("{}", self.plan()))
            .field("counters", &self.counters())
            .finish_non_exhaustive()
    }
}

/// What went through a faulty transport, cut connections included.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct FaultCounters {
    /// Connections that it dialled.
    pub dialled: SideCounters,
    /// Connections that it accepted.
    pub accepted: SideCounters,
    /// Sockets that it bound; each counts as a connection.
    pub bound: SideCounters,
    /// What became of the datagrams of those sockets.
    pub datagrams: DatagramCounters,
}

impl FaultCounters {
    /// The counters of one side.
    pub fn side(&self, side: Side) -> &SideCounters {
        match side {
            Side::Accepted => &self.accepted,
            Side::Bound => &self.bound,
            Side::Dialled => &self.dialled,
        }
    }

    fn side_mut(&mut self, side: Side) -> &mut SideCounters {
        match side {
            Side::Accepted => &mut self.accepted,
            Side::Bound => &mut self.bound,
            Side::Dialled => &mut self.dialled,
        }
    }
}

/// What went through the connections of one side.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SideCounters {
    /// Connections made.
    pub connections: u64,
    /// Connections turned away by a rule or by hand.
    pub refused: u64,
    /// Connections cut by a rule or by hand.
    pub cut: u64,
    /// Bytes that this side read from its connections.
    pub read: u64,
    /// Bytes that this side wrote and the transport underneath took.
    pub written: u64,
}

/// What became of the datagrams of all sockets that a faulty transport bound.
///
/// Every datagram that was sent by a user or that came in from the transport underneath is judged once; what these
/// counters say of it is exact.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct DatagramCounters {
    /// Handed to the transport underneath, doubles included.
    pub sent: u64,
    /// Handed to the receiver, doubles included.
    pub received: u64,
    /// Lost by a rule; those that the transport underneath loses are not seen.
    pub lost: u64,
    /// Passed on twice.
    pub doubled: u64,
    /// Passed on after the one that came behind them.
    pub overtaken: u64,
    /// Passed on with a bit flipped.
    pub corrupted: u64,
    /// Passed on without their last bytes.
    pub truncated: u64,
}

/// What the transport, its listeners, its connections and its handles share.
pub(super) struct Shared {
    pub(super) plan: FaultPlan,
    stalled: AtomicBool,
    resumed: AtomicU64,
    refusing: AtomicBool,
    connections: Mutex<Vec<Weak<Live>>>,
    bells: Mutex<Vec<Weak<Bell>>>,
    counters: watch::Sender<FaultCounters>,
}

impl Shared {
    pub(super) fn new(plan: FaultPlan) -> Self {
        Self {
            plan,
            stalled: AtomicBool::new(false),
            resumed: AtomicU64::new(0),
            refusing: AtomicBool::new(false),
            connections: Mutex::default(),
            bells: Mutex::default(),
            counters: watch::Sender::new(FaultCounters::default()),
        }
    }

    pub(super) fn is_stalled(&self) -> bool {
        self.stalled.load(Ordering::SeqCst)
    }

    /// How often the handle resumed the flow.
    pub(super) fn resumed(&self) -> u64 {
        self.resumed.load(Ordering::SeqCst)
    }

    pub(super) fn is_refusing(&self) -> bool {
        self.refusing.load(Ordering::SeqCst)
    }

    pub(super) fn register(&self, live: &Arc<Live>) {
        let mut connections = self.connections();
        connections.retain(|live| live.strong_count() > 0);
        connections.push(Arc::downgrade(live));
    }

    /// Notes one direction of a socket, to be woken when the flow resumes.
    pub(super) fn register_bell(&self, bell: &Arc<Bell>) {
        let mut bells = self.bells();
        bells.retain(|bell| bell.strong_count() > 0);
        bells.push(Arc::downgrade(bell));
    }

    /// Lets all directions of all sockets look again at what held them.
    fn ring(&self) {
        let bells: Vec<Arc<Bell>> = self.bells().iter().filter_map(Weak::upgrade).collect();
        for bell in bells {
            let waker = bell.lock().unwrap_or_else(PoisonError::into_inner).take();
            if let Some(waker) = waker {
                waker.wake();
            }
        }
    }

    fn bells(&self) -> MutexGuard<'_, Vec<Weak<Bell>>> {
        self.bells.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn count_datagrams(&self, change: impl FnOnce(&mut DatagramCounters)) {
        self.counters.send_modify(|counters| change(&mut counters.datagrams));
    }

    pub(super) fn count(&self, side: Side, change: impl FnOnce(&mut SideCounters)) {
        self.counters.send_modify(|counters| change(counters.side_mut(side)));
    }

    pub(super) fn count_bytes(&self, side: Side, direction: Direction, bytes: usize) {
        self.count(side, |counters| match direction {
            Direction::Reading => counters.read += bytes as u64,
            Direction::Writing => counters.written += bytes as u64,
        });
    }

    fn live(&self) -> Vec<Arc<Live>> {
        self.connections().iter().filter_map(Weak::upgrade).filter(|live| !live.is_cut()).collect()
    }

    fn connections(&self) -> MutexGuard<'_, Vec<Weak<Live>>> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
