//! Our servers and clients against processes of node-ipc 9.2.1, where `IPC_NODE_IPC` names a directory with them.
//!
//! It holds `server.js`, `client.js`, `peer.js` of `.ci/node-ipc` and their `node_modules`. Without it nothing is shown,
//! and each test says so.
#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test that cannot go on fails, or says why it did nothing"
)]

mod connecting;
mod killing;
mod payloads;
mod places;
mod raw;
mod serving;
mod support;
