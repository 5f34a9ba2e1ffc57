//! What the users of ports rely on, each claim under the id that the parity list gives it.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test may unwrap and print, its helpers too")]

mod raw;
mod support;

mod buffering;
mod cancelling;
mod connecting;
mod datagrams;
mod ending;
mod hindered;
mod killing;
mod limiting;
mod measuring;
mod orders;
mod processes;
mod receiving;
mod roles;
mod sharing;
