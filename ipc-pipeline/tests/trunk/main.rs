//! Trunks: several byte streams on one connection, which hold each other up as little as connections of their own would.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../common/mod.rs"]
mod common;

mod endings;
mod greetings;
mod hostile;
mod lanes;
mod links;
mod support;
mod turns;
