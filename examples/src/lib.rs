//! Shared logic of the example programs: the demonstration fleet and the process-level benchmark.

pub mod bench;
pub mod demo;
mod directory;
mod joint;
