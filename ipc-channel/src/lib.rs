//! Channels between processes.

mod event;
mod handlers;
mod payload;
mod subscription;

pub mod events;

pub use event::Event;
pub use handlers::{DuplicateResponder, EventStream, HandlerCounters};
pub use payload::{Payload, PayloadCodec};
pub use subscription::Subscription;
