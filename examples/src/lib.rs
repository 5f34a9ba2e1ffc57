//! Shared logic of the example programs: the demonstration fleet and the process-level benchmark.

pub mod bench;
#[path = "../custom_transport.rs"]
pub mod custom_transport;
pub mod demo;
mod directory;
mod joint;
pub mod meeting;

/// The examples of the README, compiled and run with the tests of the documentation.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
pub struct Readme;
