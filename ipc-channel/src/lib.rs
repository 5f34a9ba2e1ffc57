//! Channels between processes.

mod event;
// The allowance goes when the events use it.
#[allow(dead_code, unused_imports, reason = "used by events as it comes")]
mod handlers;
mod payload;
mod subscription;

pub mod events;

pub use event::Event;
pub use handlers::{DuplicateResponder, EventStream, HandlerCounters};
pub use payload::{Payload, PayloadCodec};
pub use subscription::Subscription;
