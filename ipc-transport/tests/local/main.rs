//! The transports, leases and names of one machine, with real processes where they matter.

#![cfg(all(feature = "unix", feature = "tcp"))]
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "all of this runs in tests only")]

mod descriptors;
mod directory;
#[cfg(feature = "inherited")]
mod inherited;
mod interleavings;
mod leases;
mod modes;
mod naming;
mod roles;
mod secure;
mod serving;
mod sockets;
mod support;
mod tcp;
mod unix;
mod users;
