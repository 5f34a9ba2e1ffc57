//! Faults that stay within the contract keep it, and a plan without rules changes nothing.

#![allow(clippy::unwrap_used, reason = "a test may unwrap, its helpers too")]

use std::num::NonZeroUsize;

use ipc_testkit::{
    FaultPlan, Faulty, MemTransport, Rule, conformance::transport::Subject, transport_conformance,
};
use ipc_transport::Endpoint;

fn subject(plan: FaultPlan) -> Subject {
    Subject::new(Faulty::new(MemTransport::new(), plan), Endpoint::new("mem", "a").unwrap())
}

transport_conformance!(without_rules, || subject(FaultPlan::new(0)));
transport_conformance!(splitting, || subject(
    FaultPlan::new(1).with(Rule::split(NonZeroUsize::new(9_000).unwrap()).chance(0.5))
));
transport_conformance!(delaying, || subject(FaultPlan::new(2).with(Rule::delay_up_to_ms(2).chance(0.01))));
