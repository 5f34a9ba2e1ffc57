//! The wire format of node-ipc: golden bytes, every way to cut a stream, limits, and what others really write.

#![allow(clippy::unwrap_used, reason = "a test may unwrap, its helpers too")]

mod chunking;
mod garbage;
mod golden;
mod identity;
mod introspection;
mod limits;
mod numbers;
mod oddities;
mod paths;
mod support;
mod vectors;
