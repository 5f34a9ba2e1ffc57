//! An in-memory transport, seeded faults, conformance suites, strategies, loom models and a process harness.

pub mod conformance;
mod fault;
mod memory;
#[cfg(ipc_loom)]
pub mod model;
pub mod oracle;
pub mod pair;
pub mod process;
pub mod strategy;

pub use fault::{
    Chunk, Direction, FaultCounters, FaultHandle, FaultPlan, Faulty, Rule, Side, SideCounters, Verdict,
};
pub use memory::MemTransport;
pub use proptest;
