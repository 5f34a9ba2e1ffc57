//! An in-memory transport, seeded faults, conformance suites, strategies, loom models and a process harness.

mod memory;

pub use memory::MemTransport;
