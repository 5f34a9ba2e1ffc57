//! Best effort: the newest wins, nothing waits, and the account of what is missing is exact.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod account;
mod announced;
mod newest;
mod support;
mod wire;
