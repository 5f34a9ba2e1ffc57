//! Servers and clients of events, as their users see them.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod addresses;
mod basics;
mod calls;
mod forged;
mod lanes;
mod lifecycle;
mod named;
mod node_ipc;
mod relay;
mod roles;
mod shared;
mod support;
mod worlds;
