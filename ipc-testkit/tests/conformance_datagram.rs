//! The in-memory datagrams keep the contract, with buffers and payloads of every size.

#![allow(clippy::unwrap_used, reason = "a test may unwrap, its helpers too")]

use std::num::NonZeroUsize;

use ipc_testkit::{MemTransport, conformance::datagram::Subject, datagram_conformance};
use ipc_transport::Endpoint;

fn subject(world: MemTransport) -> Subject {
    Subject::new(world, Endpoint::new("mem", MemTransport::FRESH_NAME).unwrap())
}

datagram_conformance!(defaults, || subject(MemTransport::new()));
datagram_conformance!(one_at_a_time, || subject(
    MemTransport::new().with_datagram_buffer(NonZeroUsize::MIN, 0)
));
datagram_conformance!(small_payloads, || subject(MemTransport::new().with_max_payload(9)));
datagram_conformance!(large_payloads, || subject(MemTransport::new().with_max_payload(65_507)));
