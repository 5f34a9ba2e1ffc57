//! The bounded queue inside a process: a ring, those who wait at its two ends, and a policy for when it is full.
//!
//! The ring is never locked. The gate is: by senders that wait, by whoever makes room while some wait, and by every
//! operation of a queue that has something to look after at each value (a byte bound, watermarks, a policy that
//! drops). Such a queue keeps the ring's two flags up for good, which sends every push to the gate, and it pops with
//! the gate held: who drops the oldest value to make room finds none half taken, behind which none would come free.
//!
//! ```text
//!   Sender --try_push--> ring --pop--> Receiver
//!      |  full, or others wait           |  senders wait         |  empty
//!      v                                 v                       v
//!     gate: waits in order <--grants-- made_room            Receivers: waits in order
//!                                                                ^
//!   a push that finds the receiver's flag up --notify------------+
//! ```

mod config;
mod events;
mod gate;
mod permit;
mod policy;
mod receiver;
mod sender;
mod shared;
mod sink;
mod take;

pub use config::{QueueConfig, bounded};
pub use events::{QueueEvent, QueueEvents};
pub use permit::Permit;
pub use policy::FullPolicy;
pub use receiver::Receiver;
pub use sender::{Sender, Sending};
pub use shared::SharedReceiver;
pub use sink::QueueSink;

use gate::Gate;
use take::Take;

use crate::{
    ring::{Popped, Pushed, Ring, SharedConsumer},
    signal::Receivers,
    sync::{Arc, AtomicUsize, Mutex, Ordering, lock},
};

/// What has passed through a queue so far.
///
/// Each number is exact at rest; while others send and receive, the numbers may be some operations apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct QueueCounters {
    /// Values whose send succeeded, those that a policy dropped included.
    pub accepted: u64,
    /// Values handed to a receiver.
    pub taken: u64,
    /// Values dropped by the policy, or left in the queue when the last receiver went.
    pub dropped: u64,
}

/// What the handles of one queue share.
pub(crate) struct Queue<T> {
    ring: Arc<Ring<T>>,
    receivers: Receivers,
    gate: Mutex<Gate>,
    rules: Rules<T>,
    sender_handles: AtomicUsize,
    receiver_handles: AtomicUsize,
}

/// What a queue was made to do; it never changes.
pub(crate) struct Rules<T> {
    policy: FullPolicy,
    bytes: Option<ByteBound<T>>,
    watermarks: Option<(usize, usize)>,
    /// The senders' own way to the oldest value, under `DropOldest`.
    oldest: Option<SharedConsumer<T>>,
    /// Whether every operation changes the ring with the gate held.
    gated: bool,
}

/// The byte bound and how a value is weighed.
pub(crate) struct ByteBound<T> {
    max: usize,
    weigh: Box<dyn Fn(&T) -> usize + Send + Sync>,
}

impl<T> Queue<T> {
    /// Does what a push has left to be done.
    #[inline]
    fn pushed(&self, pushed: Pushed, count: usize) {
        if pushed.wake_receiver {
            self.receivers.notify(&self.ring, pushed, count);
        }
    }

    /// Does what a pop past the gate has left to be done.
    #[inline]
    fn popped(&self, popped: Popped) {
        if popped.senders_wait {
            self.made_room();
        }
    }

    /// Closes the queue for all senders; what is in it can still be taken.
    fn close(&self) {
        if !self.ring.close() {
            return;
        }
        let mut wakers = Vec::new();
        {
            let mut gate = lock(&self.gate);
            gate.end_all(&mut wakers);
        }
        crate::signal::wake_all(wakers);
        self.receivers.end_all();
    }

    fn counters(&self) -> QueueCounters {
        let gate = lock(&self.gate);
        // At least the sum of what was dropped out of the ring: that is freed before it is counted, see `evict` and
        // `receiver_gone`.
        let freed = self.ring.freed();
        QueueCounters {
            accepted: freed + self.ring.len() as u64 + gate.dropped_newest,
            taken: freed - gate.dropped_oldest - gate.discarded,
            dropped: gate.dropped(),
        }
    }

    fn sender_added(&self) {
        // Relaxed: a new handle is made from one that exists.
        self.sender_handles.fetch_add(1, Ordering::Relaxed);
    }

    fn sender_gone(&self) {
        // AcqRel: what other senders did before they went happens before the close.
        if self.sender_handles.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.close();
        }
    }

    fn receiver_added(&self) {
        // Relaxed: as in `sender_added`.
        self.receiver_handles.fetch_add(1, Ordering::Relaxed);
    }

    /// The last one closes the queue and drops what is left in it.
    fn receiver_gone(&self, consumer: &mut impl Take<T>) {
        // AcqRel: as in `sender_gone`.
        if self.receiver_handles.fetch_sub(1, Ordering::AcqRel) > 1 {
            return;
        }
        self.close();
        // Who is dropping the oldest value has done so after this, and nobody begins to once it is closed.
        drop(lock(&self.gate));
        let mut count = 0;
        // What is still under way is dropped with the ring.
        while let Some((value, _)) = consumer.pop() {
            drop(value);
            count += 1;
        }
        self.abandoned(count);
    }
}

impl<T> Rules<T> {
    fn weigh(&self, value: &T) -> usize {
        self.bytes.as_ref().map_or(0, |bound| (bound.weigh)(value))
    }

    fn weigh_all(&self, values: &[T]) -> usize {
        let Some(bound) = &self.bytes else { return 0 };
        values.iter().map(|value| (bound.weigh)(value)).fold(0, usize::saturating_add)
    }
}
