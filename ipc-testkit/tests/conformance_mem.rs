//! The in-memory transport keeps the contract, with buffers of every size.

#![allow(clippy::unwrap_used, reason = "a test may unwrap, its helpers too")]

use std::num::NonZeroUsize;

use ipc_testkit::{MemTransport, conformance::transport::Subject, transport_conformance};
use ipc_transport::Endpoint;

fn subject(world: MemTransport, name: &str) -> Subject {
    Subject::new(world, Endpoint::new("mem", name).unwrap())
}

transport_conformance!(named, || subject(MemTransport::new(), "a"));
transport_conformance!(fresh_name, || subject(MemTransport::new(), "0"));
transport_conformance!(tiny_buffer, || subject(
    MemTransport::new().with_buffer(NonZeroUsize::new(100).unwrap()),
    "a"
));
transport_conformance!(framed, || subject(MemTransport::new().with_frames(), "a"));
