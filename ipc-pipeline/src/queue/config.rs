//! How a queue is made.

use super::{ByteBound, FullPolicy, Gate, Queue, Receiver, Rules, Sender};
use crate::{
    CapacityError,
    ring::{MAX_CAPACITY, ring},
    signal::Receivers,
    sync::{Arc, AtomicUsize, Mutex},
};

/// Makes a queue of exactly `capacity` values that waits when it is full: [`QueueConfig::new`] with its defaults.
///
/// # Errors
/// A capacity of zero, or one above [`QueueConfig::MAX_CAPACITY`].
///
/// # Examples
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let (sender, mut receiver) = ipc_pipeline::bounded(20)?;
/// sender.try_send("hello")?;
/// assert_eq!(receiver.try_recv()?, "hello");
/// # Ok(())
/// # }
/// ```
pub fn bounded<T>(capacity: usize) -> Result<(Sender<T>, Receiver<T>), CapacityError> {
    Ok(QueueConfig::new(capacity)?.build())
}

/// What a queue shall do. Only the capacity has no default.
pub struct QueueConfig<T> {
    capacity: usize,
    policy: FullPolicy,
    bytes: Option<ByteBound<T>>,
    watermarks: Option<(usize, usize)>,
}

impl<T> QueueConfig<T> {
    /// The largest capacity: 4,194,304 values. All slots are allocated when the queue is made.
    pub const MAX_CAPACITY: usize = MAX_CAPACITY;

    /// A queue of exactly this many values.
    ///
    /// # Errors
    /// A capacity of zero, or one above [`QueueConfig::MAX_CAPACITY`].
    pub fn new(capacity: usize) -> Result<Self, CapacityError> {
        match capacity {
            0 => Err(CapacityError::Zero),
            1..=MAX_CAPACITY => {
                Ok(Self { capacity, policy: FullPolicy::Wait, bytes: None, watermarks: None })
            }
            _ => Err(CapacityError::TooLarge { capacity, max: MAX_CAPACITY }),
        }
    }

    /// What a send does when the queue is full. Default: [`FullPolicy::Wait`], which loses nothing.
    ///
    /// The two policies that drop cost a short lock per operation.
    #[must_use]
    pub fn policy(mut self, policy: FullPolicy) -> Self {
        self.policy = policy;
        self
    }

    /// Bounds the sum of what `weigh` says of the values in the queue, in bytes. Default: no such bound.
    ///
    /// A single value above the bound is admitted when the queue is empty. A permit does not know its value yet: it
    /// is granted while the sum is below the bound, so the overshoot is at most one value per outstanding permit.
    ///
    /// `weigh` is called once on the way in and once on the way out and must say the same of the same value. It must
    /// not use the queue: it may be called under a lock. The bound costs a short lock per operation.
    #[must_use]
    pub fn byte_bound(mut self, max: usize, weigh: impl Fn(&T) -> usize + Send + Sync + 'static) -> Self {
        self.bytes = Some(ByteBound { max, weigh: Box::new(weigh) });
        self
    }

    /// Reports when the queue fills up to `high` values and when it empties down to `low` again, once per transition.
    ///
    /// Default: off. `(capacity - 1, capacity)` reports exactly full, and room again. The marks cost a short lock per
    /// operation. The reports come out of [`Sender::events`].
    ///
    /// # Errors
    /// Marks that are not `low < high <= capacity`.
    pub fn watermarks(mut self, low: usize, high: usize) -> Result<Self, CapacityError> {
        if low >= high || high > self.capacity {
            return Err(CapacityError::Watermarks { low, high, capacity: self.capacity });
        }
        self.watermarks = Some((low, high));
        Ok(self)
    }

    /// Makes the queue.
    pub fn build(self) -> (Sender<T>, Receiver<T>) {
        let Self { capacity, policy, bytes, watermarks } = self;
        let (ring, consumer) = ring(capacity);
        let dropping = matches!(policy, FullPolicy::DropNewest | FullPolicy::DropOldest);
        let gated = dropping || bytes.is_some() || watermarks.is_some();
        if gated {
            ring.senders_queue();
        }
        let (head, oldest) = super::receiver::head_for(policy, consumer);
        let queue = Arc::new(Queue {
            ring,
            receivers: Receivers::new(),
            gate: Mutex::new(Gate::new(gated)),
            rules: Rules { policy, bytes, watermarks, oldest, gated },
            sender_handles: AtomicUsize::new(1),
            receiver_handles: AtomicUsize::new(1),
        });
        (Sender::new(Arc::clone(&queue)), Receiver::new(queue, head))
    }
}

impl<T> std::fmt::Debug for QueueConfig<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("QueueConfig")
            .field("capacity", &self.capacity)
            .field("policy", &self.policy)
            .field("max_bytes", &self.bytes.as_ref().map(|bound| bound.max))
            .field("watermarks", &self.watermarks)
            .finish()
    }
}
