//! Events: a server and its clients, with handlers, requests and broadcasts.
//!
//! ```text
//!   emit, call ──▶ Outlet ──▶ links on lanes, or one queue ──▶ connection ──▶ ... ──▶ the peer's tasks ──▶ handlers
//!                                 (wire)                    comes and goes             one for events, in order;
//!                                                                                      one for requests and answers
//! ```
//!
//! A [`Server`] takes clients in and a [`Client`] keeps itself connected; what either knows of the other end is a peer,
//! which lives over any number of connections. What is spoken is a [`Wire`]:
//!
//! | | [`Wire::Native`] | [`Wire::NodeIpc`] | [`Wire::Raw`] |
//! |---|---|---|---|
//! | events, broadcasts, handlers | yes | yes | bytes as they come |
//! | requests, names, relays, discovery | yes | names, if peers may claim them | no |
//! | accepted events survive lost connections | yes | those not yet written | those not yet written |
//! | a slow handler holds back | the sender, by credit | the sender, by its socket | the sender, by its socket |
//!
//! # Order
//!
//! Events from one peer reach their handlers in the order in which they were accepted, private ones and broadcasts each
//! among themselves. The handlers of one event run one after the other, in the order in which they were added. Requests are
//! answered beside all that, each by a task of its own, so that a handler may ask whoever is asking it.
//!
//! # Lost connections
//!
//! On the native wire both sides keep what was not released and go on with it when the client is back, which it
//! tries by its [`RetryPolicy`]. The server keeps a client that was cut off for 5 s, or until another one takes its name;
//! what it had for it then is reported by [`Server::on_undelivered`]. Calls do not wait for that: they fail at once with
//! [`CallError::Disconnected`].
//!
//! The design follows node-ipc and ipcIO; where their documents promise more than their code does, the promise is kept.

mod calls;
mod client;
mod config;
mod core;
mod datagram;
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
mod sync;

pub use client::{Client, ClientCounters, ClientStatus};
pub use config::{ClientConfig, NodeIpc, OnPanic, RetryPolicy, ServerConfig, Wire};
pub use core::Directory;
pub use datagram::{DatagramReply, Datagrams, DatagramsConfig, DatagramsCounters, NODE_IPC_PORT};
pub use error::{CallError, ConnectError, EmitError};
pub use lifecycle::{AttemptFailed, Closing, Departure, DisconnectReason, GaveUp, Undelivered};
pub use message::MAX_NAME;
pub use reply::Reply;
pub use server::{ClientRequest, Server, ServerCounters};
pub use sync::SyncClient;

/// Bits that nobody can guess, where the system has any; unique otherwise.
fn random_bits() -> u128 {
    let mut bits = [0; 16];
    match getrandom::fill(&mut bits) {
        Ok(()) => u128::from_le_bytes(bits),
        Err(_) => u128::from(fastrand::u64(..)) << 64 | u128::from(fastrand::u64(..)),
    }
}
