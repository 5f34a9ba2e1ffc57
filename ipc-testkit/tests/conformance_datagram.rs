//! The in-memory datagrams keep the contract, with buffers and payloads of every size, and on a bad network too.

#![allow(clippy::unwrap_used, reason = "a test may unwrap, its helpers too")]

use std::num::NonZeroUsize;

use ipc_testkit::{
    FaultPlan, Faulty, MemTransport, Rule, conformance::datagram::Subject, datagram_conformance,
};
use ipc_transport::{DatagramTransport, Endpoint};

fn subject(world: impl DatagramTransport) -> Subject {
    Subject::new(world, Endpoint::new("mem", MemTransport::FRESH_NAME).unwrap())
}

datagram_conformance!(defaults, || subject(MemTransport::new()));
datagram_conformance!(one_at_a_time, || subject(
    MemTransport::new().with_datagram_buffer(NonZeroUsize::MIN, 0)
));
datagram_conformance!(small_payloads, || subject(MemTransport::new().with_max_payload(9)));
datagram_conformance!(large_payloads, || subject(MemTransport::new().with_max_payload(65_507)));
datagram_conformance!(passed_through, || subject(Faulty::pass_through(MemTransport::new())));
datagram_conformance!(a_bad_network, || subject(Faulty::new(
    MemTransport::new(),
    FaultPlan::new(3)
        .with(Rule::lose().chance(0.2))
        .with(Rule::duplicate().chance(0.2))
        .with(Rule::reorder().chance(0.2))
        .with(Rule::delay_up_to_ms(1).chance(0.2))
)));
datagram_conformance!(rules_for_connections_do_nothing, || subject(Faulty::new(
    MemTransport::new(),
    FaultPlan::new(4)
        .with(Rule::cut_after(0))
        .with(Rule::split_at_every_byte())
        .with(Rule::lose().dialled())
        .with(Rule::refuse().accepted())
)));
