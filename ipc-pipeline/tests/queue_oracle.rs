//! The queue against a `VecDeque`, by scripts of operations, under every policy.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    collections::VecDeque,
    task::{Context, Poll, Waker},
};

use ipc_pipeline::{FullPolicy, Permit, QueueConfig, TryRecvError};
use proptest::prelude::*;

#[derive(Debug, Clone, Copy)]
enum Operation {
    Close,
    DropPermit,
    FillPermit,
    Recv,
    RecvMany(usize),
    Reserve,
    Send,
    SendMany(usize),
}

fn operation() -> impl Strategy<Value = Operation> {
    prop_oneof![
        1 => Just(Operation::Close),
        5 => Just(Operation::DropPermit),
        10 => Just(Operation::FillPermit),
        30 => Just(Operation::Recv),
        10 => (0..8_usize).prop_map(Operation::RecvMany),
        15 => Just(Operation::Reserve),
        40 => Just(Operation::Send),
        10 => (0..8_usize).prop_map(Operation::SendMany),
    ]
}

/// What a queue is, in a few lines.
struct Oracle {
    values: VecDeque<u32>,
    permits: usize,
    capacity: usize,
    policy: FullPolicy,
    closed: bool,
    dropped: u64,
    accepted: u64,
}

impl Oracle {
    fn has_room(&self) -> bool {
        self.values.len() + self.permits < self.capacity
    }

    /// Whether the send succeeds.
    fn send(&mut self, value: u32) -> bool {
        if self.closed {
            return false;
        }
        if !self.has_room() {
            match self.policy {
                FullPolicy::DropOldest if !self.values.is_empty() => {
                    self.values.pop_front();
                    self.dropped += 1;
                }
                FullPolicy::DropOldest | FullPolicy::DropNewest => {
                    self.dropped += 1;
                    self.accepted += 1;
                    return true;
                }
                _ => return false,
            }
        }
        self.values.push_back(value);
        self.accepted += 1;
        true
    }

    /// Whether a place is set aside at once.
    fn reserve(&mut self) -> bool {
        if self.closed {
            return false;
        }
        if !self.has_room() && self.policy == FullPolicy::DropOldest && self.values.pop_front().is_some() {
            self.dropped += 1;
        }
        let room = self.has_room();
        self.permits += usize::from(room);
        room
    }
}

fn now<F: Future>(future: F) -> Option<F::Output> {
    match std::pin::pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => Some(output),
        Poll::Pending => None,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn every_script_agrees_with_the_oracle(
        capacity in 1..6_usize,
        policy in prop::sample::select(vec![
            FullPolicy::DropNewest, FullPolicy::DropOldest, FullPolicy::Fail, FullPolicy::Wait,
        ]),
        shared: bool,
        gated: bool,
        script in prop::collection::vec(operation(), 0..200),
    ) {
        let mut config = QueueConfig::new(capacity).unwrap().policy(policy);
        if gated {
            config = config.byte_bound(usize::MAX, |_: &u32| 1);
        }
        let (sender, receiver) = config.build();
        let (mut one, mut many) = if shared { (None, Some(receiver.into_shared())) } else { (Some(receiver), None) };
        let mut permits: Vec<Permit<'_, u32>> = Vec::new();
        let mut oracle = Oracle {
            values: VecDeque::new(), permits: 0, capacity, policy, closed: false, dropped: 0, accepted: 0,
        };
        let mut taken = 0;
        for (value, operation) in script.into_iter().enumerate() {
            let value = value as u32 * 10;
            match operation {
                Operation::Close => {
                    sender.close();
                    oracle.closed = true;
                }
                Operation::DropPermit => {
                    oracle.permits -= usize::from(permits.pop().is_some());
                }
                Operation::FillPermit => if let Some(permit) = permits.pop() {
                    oracle.permits -= 1;
                    prop_assert_eq!(permit.send(value).is_ok(), !oracle.closed);
                    if !oracle.closed {
                        oracle.values.push_back(value);
                        oracle.accepted += 1;
                    }
                }
                Operation::Recv => {
                    let got = match (&mut one, &mut many) {
                        (Some(one), _) => one.try_recv(),
                        (_, Some(many)) => many.try_recv(),
                        _ => unreachable!(),
                    };
                    let empty = if oracle.closed { TryRecvError::Closed } else { TryRecvError::Empty };
                    taken += u64::from(got.is_ok());
                    prop_assert_eq!(got, oracle.values.pop_front().ok_or(empty));
                }
                Operation::RecvMany(max) => {
                    let mut out = Vec::new();
                    let got = match (&mut one, &mut many) {
                        (Some(one), _) => now(one.recv_many(&mut out, max)),
                        (_, Some(many)) => now(many.recv_many(&mut out, max)),
                        _ => unreachable!(),
                    };
                    let count = max.min(oracle.values.len());
                    let expected: Vec<_> = oracle.values.drain(..count).collect();
                    taken += count as u64;
                    prop_assert_eq!(out, expected);
                    match got {
                        Some(Ok(got)) => prop_assert_eq!(got, count),
                        Some(Err(_)) => prop_assert!(oracle.closed && count == 0),
                        None => prop_assert!(!oracle.closed && count == 0 && max > 0),
                    }
                }
                Operation::Reserve => {
                    let got = now(sender.reserve()).and_then(Result::ok);
                    prop_assert_eq!(got.is_some(), oracle.reserve());
                    permits.extend(got);
                }
                Operation::Send => {
                    let sent = now(sender.send(value)).is_some_and(|outcome| outcome.is_ok());
                    prop_assert_eq!(sent, oracle.send(value));
                }
                Operation::SendMany(count) => {
                    let mut values = (value..).take(count);
                    let outcome = now(sender.send_many(&mut values));
                    let given_back = match outcome {
                        Some(Err(error)) => error.into_value().len(),
                        _ => 0,
                    };
                    let sent = count - values.size_hint().0 - given_back;
                    for offset in 0..sent {
                        prop_assert!(oracle.send(value + offset as u32));
                    }
                    if sent < count {
                        prop_assert!(!oracle.send(0));
                    }
                }
            }
            prop_assert_eq!(sender.len(), oracle.values.len());
            let counters = sender.counters();
            prop_assert_eq!(
                (counters.accepted, counters.taken, counters.dropped),
                (oracle.accepted, taken, oracle.dropped)
            );
        }
    }
}
