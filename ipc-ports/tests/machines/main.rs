//! Ports between two machines, over TCP and TLS with names in a table: what becomes of a stream when cables, packets, routes
//! and processes fail.
//!
//! The machines are network namespaces of this one. Where the system does not let us make any, these tests say so and
//! show nothing, unless `IPC_REQUIRE_NETWORKS=1` asks them to fail.

#![allow(clippy::unwrap_used, reason = "a test may unwrap, its helpers too")]

mod network;
mod roles;
mod story;

mod datagrams;
mod detours;
mod outages;
mod restarts;
