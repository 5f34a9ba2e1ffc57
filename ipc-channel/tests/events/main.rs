//! Servers and clients of events, as their users see them.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod basics;
mod node_ipc;
mod support;
