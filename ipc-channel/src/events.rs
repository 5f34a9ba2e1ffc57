//! Events: a server and its clients, with handlers, requests and broadcasts.

mod calls;
mod client;
mod config;
mod core;
mod error;
mod frame;
mod hooks;
mod lifecycle;
mod message;
mod native;
pub mod node_ipc;
mod outlet;
mod peer;
mod plain;
mod reply;
mod server;

pub use client::{Client, ClientCounters, ClientStatus};
pub use config::{ClientConfig, NodeIpc, OnPanic, RetryPolicy, ServerConfig, Wire};
pub use core::Directory;
pub use error::{CallError, ConnectError, EmitError};
pub use lifecycle::{AttemptFailed, Closing, Departure, DisconnectReason, GaveUp, Undelivered};
pub use message::MAX_NAME;
pub use reply::Reply;
pub use server::{ClientRequest, Server, ServerCounters};

/// Bits that nobody can guess, where the system has any; unique otherwise.
fn random_bits() -> u128 {
    let mut bits = [0; 16];
    match getrandom::fill(&mut bits) {
        Ok(()) => u128::from_le_bytes(bits),
        Err(_) => u128::from(fastrand::u64(..)) << 64 | u128::from(fastrand::u64(..)),
    }
}
