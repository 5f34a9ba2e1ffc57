//! Bounded, buffered, loss-free pipelines: a lock-free queue inside a process, a resumable link between processes.

mod blocking;
mod error;
#[cfg(feature = "link")]
pub mod link;
#[cfg(feature = "link")]
pub mod protocol;
mod queue;
mod ring;
mod signal;
mod sync;

pub use error::{CapacityError, Closed, SendError, SendErrorReason, TryRecvError, TrySendError};
pub use queue::{
    FullPolicy, Permit, QueueConfig, QueueCounters, QueueEvent, QueueEvents, QueueSink, Receiver, Sender,
    Sending, SharedReceiver, bounded,
};
