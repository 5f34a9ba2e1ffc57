//! Channels between processes.

mod payload;

pub mod events;

pub use payload::{Payload, PayloadCodec};
