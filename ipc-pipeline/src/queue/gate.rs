//! The gate: where senders wait in order, and what is looked after at each value.

use std::task::{Context, Poll, Waker};

use super::{FullPolicy, Queue, take::Take};
use crate::{
    SendError, SendErrorReason, TrySendError,
    signal::{Key, Removed, WaitList, wake_all},
    sync::lock,
};

/// What the gate's lock guards.
#[derive(Debug)]
pub(crate) struct Gate {
    senders: WaitList,
    /// Whether the ring's flags are up.
    queueing: bool,
    /// Weight of what is in the queue or about to be, by the byte bound's weigher.
    bytes: usize,
    /// Whether the high watermark was passed last.
    above: bool,
    pub(super) transitions: u64,
    pub(super) dropped_newest: u64,
    pub(super) dropped_oldest: u64,
    pub(super) discarded: u64,
    /// Whether the last receiver is gone.
    pub(super) abandoned: bool,
    pub(super) listeners: WaitList,
}

impl Gate {
    pub(super) fn new(gated: bool) -> Self {
        Self {
            senders: WaitList::new(),
            queueing: gated,
            bytes: 0,
            above: false,
            transitions: 0,
            dropped_newest: 0,
            dropped_oldest: 0,
            discarded: 0,
            abandoned: false,
            listeners: WaitList::new(),
        }
    }

    pub(super) fn dropped(&self) -> u64 {
        self.dropped_newest + self.dropped_oldest + self.discarded
    }

    pub(super) fn is_above(&self) -> bool {
        self.above
    }

    pub(super) fn end_all(&mut self, wakers: &mut Vec<Waker>) {
        self.senders.end_all(wakers);
    }

    pub(super) fn occupied(&self) -> usize {
        self.senders.occupied() + self.listeners.occupied()
    }
}

impl<T> Queue<T> {
    /// Sends without waiting, by the policy. The slow road: the caller has tried the ring.
    #[cold]
    pub(super) fn attempt(&self, value: T) -> Result<(), TrySendError<T>> {
        let weight = self.rules.weigh(&value);
        let mut wakers = Vec::new();
        // What the policy drops is dropped after the lock is released: it is the user's code.
        let mut evicted = Vec::new();
        let mut gate = lock(&self.gate);
        let outcome = self.attempt_at(&mut gate, value, weight, &mut evicted, &mut wakers);
        drop(gate);
        let outcome = outcome.map(|pushed| {
            if let Some(pushed) = pushed {
                self.pushed(pushed, 1);
            }
        });
        wake_all(wakers);
        outcome
    }

    fn attempt_at(
        &self,
        gate: &mut Gate,
        mut value: T,
        weight: usize,
        evicted: &mut Vec<T>,
        wakers: &mut Vec<Waker>,
    ) -> Result<Option<crate::ring::Pushed>, TrySendError<T>> {
        loop {
            let may_pass = gate.senders.is_empty() || self.rules.policy == FullPolicy::DropOldest;
            if may_pass && self.fits(gate, weight) {
                match self.ring.push_past_queue(value) {
                    Ok(pushed) => {
                        gate.bytes = gate.bytes.saturating_add(self.counted(weight));
                        if !evicted.is_empty() {
                            gate.listeners.notify_all(wakers);
                        }
                        self.look_around(gate, wakers);
                        return Ok(Some(pushed));
                    }
                    Err(back) => value = back,
                }
            }
            if self.ring.is_closed() {
                return Err(SendError::new(value, SendErrorReason::Closed).into());
            }
            match self.rules.policy {
                FullPolicy::Fail | FullPolicy::Wait => return Err(TrySendError::Full(value)),
                FullPolicy::DropOldest if self.evict(gate, weight, evicted) => {}
                FullPolicy::DropNewest | FullPolicy::DropOldest => {
                    gate.dropped_newest += 1;
                    gate.listeners.notify_all(wakers);
                    evicted.push(value);
                    return Ok(None);
                }
            }
        }
    }

    /// Takes the oldest value out to make room for this weight; tells whether there was one.
    ///
    /// Values are put in and taken with the gate held, which the caller holds. So none is half taken, and the place of
    /// this one is free at once.
    fn evict(&self, gate: &mut Gate, weight: usize, evicted: &mut Vec<T>) -> bool {
        let Some(oldest) = &self.rules.oldest else { return false };
        if !self.would_fit(weight) {
            return false;
        }
        // Whether senders wait for the room needs no look: the caller holds the gate and goes on.
        let Some((value, _)) = oldest.pop() else { return false };
        gate.bytes = gate.bytes.saturating_sub(self.rules.weigh(&value));
        gate.dropped_oldest += 1;
        evicted.push(value);
        true
    }

    /// Takes the oldest value of a queue that looks after each.
    #[cold]
    pub(super) fn take_gated(&self, consumer: &mut impl Take<T>) -> Option<T> {
        let mut wakers = Vec::new();
        // Declared before the gate is locked: if the weigher panics the value is dropped after the lock is released.
        let mut taken = None;
        let mut gate = lock(&self.gate);
        let weight = self.rules.weigh(taken.insert(consumer.pop()?.0));
        gate.bytes = gate.bytes.saturating_sub(weight);
        self.look_around(&mut gate, &mut wakers);
        drop(gate);
        wake_all(wakers);
        taken
    }

    /// As `take_gated`, up to `max` values, in runs so that the lock stays short.
    #[cold]
    pub(super) fn take_many_gated(&self, consumer: &mut impl Take<T>, out: &mut Vec<T>, max: usize) -> usize {
        let mut count = 0;
        while count < max {
            let mut wakers = Vec::new();
            let run = RUN.min(max - count);
            out.reserve(run.min(self.ring.capacity()));
            let mut gate = lock(&self.gate);
            let popped = consumer.pop_many(out, run).count;
            let weight = self.rules.weigh_all(&out[out.len() - popped..]);
            gate.bytes = gate.bytes.saturating_sub(weight);
            self.look_around(&mut gate, &mut wakers);
            drop(gate);
            wake_all(wakers);
            count += popped;
            if popped < run {
                break;
            }
        }
        count
    }

    /// One step towards a place that is set aside for the caller.
    ///
    /// Ready with `Ok` exactly once: the caller then owns the place, and `weight` is counted.
    pub(super) fn poll_acquire(
        &self,
        context: &mut Context<'_>,
        key: &mut Option<Key>,
        weight: usize,
    ) -> Poll<Result<(), SendErrorReason>> {
        let waker = context.waker().clone();
        let mut wakers = Vec::new();
        let mut evicted = Vec::new();
        let mut old = None;
        let mut gate = lock(&self.gate);
        let outcome = match *key {
            Some(place) => {
                old = gate.senders.update(place, waker);
                if old.is_some() { Poll::Pending } else { Poll::Ready(Self::turn(&mut gate, key, place)) }
            }
            None => self.enter(&mut gate, waker, key, weight, &mut evicted, &mut wakers),
        };
        drop(gate);
        drop(old);
        wake_all(wakers);
        outcome
    }

    fn enter(
        &self,
        gate: &mut Gate,
        waker: Waker,
        key: &mut Option<Key>,
        weight: usize,
        evicted: &mut Vec<T>,
        wakers: &mut Vec<Waker>,
    ) -> Poll<Result<(), SendErrorReason>> {
        loop {
            if self.ring.is_closed() {
                return Poll::Ready(Err(SendErrorReason::Closed));
            }
            if gate.senders.is_empty() && self.fits(gate, weight) && self.ring.reserve_past_queue() {
                gate.bytes = gate.bytes.saturating_add(self.counted(weight));
                if !evicted.is_empty() {
                    gate.listeners.notify_all(wakers);
                }
                return Poll::Ready(Ok(()));
            }
            if self.rules.policy == FullPolicy::Fail {
                return Poll::Ready(Err(SendErrorReason::Full));
            }
            if !(gate.senders.is_empty() && self.evict(gate, weight, evicted)) {
                break;
            }
        }
        let place = gate.senders.insert(waker, weight);
        if !gate.queueing {
            gate.queueing = true;
            self.ring.senders_queue();
        }
        // Register, then look again: what was freed before the flag went up is granted here.
        self.grant(gate, wakers);
        if gate.senders.is_waiting(place) {
            *key = Some(place);
            return Poll::Pending;
        }
        Poll::Ready(Self::turn(gate, key, place))
    }

    fn turn(gate: &mut Gate, key: &mut Option<Key>, place: Key) -> Result<(), SendErrorReason> {
        *key = None;
        match gate.senders.remove(place) {
            Removed::Notified => Ok(()),
            Removed::Ended | Removed::Waiting { .. } => Err(SendErrorReason::Closed),
        }
    }

    /// Gives up waiting; if the turn had come, the place goes to the next.
    pub(super) fn cancel_acquire(&self, key: Key, weight: usize) {
        let mut wakers = Vec::new();
        let mut gate = lock(&self.gate);
        let removed = gate.senders.remove(key);
        if matches!(removed, Removed::Notified) {
            let _ = self.ring.unreserve(1);
            gate.bytes = gate.bytes.saturating_sub(self.counted(weight));
        }
        self.look_around(&mut gate, &mut wakers);
        drop(gate);
        drop(removed);
        wake_all(wakers);
    }

    /// Fills a place that was set aside for `weight`.
    #[inline]
    pub(super) fn fill(&self, value: T, weight: usize) -> Result<(), SendError<T>> {
        if self.rules.gated {
            return self.fill_gated(value, weight);
        }
        match self.ring.push_reserved(value) {
            Ok(pushed) => {
                self.pushed(pushed, 1);
                Ok(())
            }
            Err(value) => Err(SendError::new(value, SendErrorReason::Closed)),
        }
    }

    #[cold]
    fn fill_gated(&self, value: T, counted: usize) -> Result<(), SendError<T>> {
        let weight = self.rules.weigh(&value);
        let mut wakers = Vec::new();
        let mut gate = lock(&self.gate);
        // Counted before the value can be taken and counted off.
        gate.bytes = gate.bytes.saturating_sub(self.counted(counted)).saturating_add(weight);
        let outcome = self.ring.push_reserved(value);
        if outcome.is_err() {
            gate.bytes = gate.bytes.saturating_sub(weight);
        }
        self.look_around(&mut gate, &mut wakers);
        drop(gate);
        let outcome = match outcome {
            Ok(pushed) => {
                self.pushed(pushed, 1);
                Ok(())
            }
            Err(value) => Err(SendError::new(value, SendErrorReason::Closed)),
        };
        wake_all(wakers);
        outcome
    }

    /// Gives places back that were set aside by `reserve`.
    pub(super) fn give_back(&self, count: usize) {
        if count > 0 && self.ring.unreserve(count).senders_queue() {
            self.made_room();
        }
    }

    /// Hands room that was made to those who wait for it.
    #[cold]
    pub(super) fn made_room(&self) {
        let mut wakers = Vec::new();
        let mut gate = lock(&self.gate);
        self.look_around(&mut gate, &mut wakers);
        drop(gate);
        wake_all(wakers);
    }

    /// The last receiver is gone, and left so many values behind: the last thing there is to report.
    pub(super) fn abandoned(&self, count: u64) {
        let mut wakers = Vec::new();
        let mut gate = lock(&self.gate);
        gate.discarded += count;
        gate.abandoned = true;
        gate.listeners.notify_all(&mut wakers);
        drop(gate);
        wake_all(wakers);
    }

    fn look_around(&self, gate: &mut Gate, wakers: &mut Vec<Waker>) {
        self.grant(gate, wakers);
        if let Some((low, high)) = self.rules.watermarks {
            let len = self.ring.len();
            if if gate.above { len <= low } else { len >= high } {
                gate.above = !gate.above;
                gate.transitions += 1;
                gate.listeners.notify_all(wakers);
            }
        }
    }

    /// Gives room to those who wait, in order, as long as there is some.
    fn grant(&self, gate: &mut Gate, wakers: &mut Vec<Waker>) {
        while let Some(weight) = gate.senders.first_weight() {
            if !self.fits(gate, weight) || !self.ring.reserve_past_queue() {
                return;
            }
            gate.bytes = gate.bytes.saturating_add(self.counted(weight));
            wakers.extend(gate.senders.notify_first());
        }
        if gate.queueing && !self.rules.gated {
            gate.queueing = false;
            self.ring.senders_do_not_queue();
        }
    }

    /// Whether the byte bound admits this weight now. What is too large for it is admitted alone.
    fn fits(&self, gate: &Gate, weight: usize) -> bool {
        let Some(bound) = &self.rules.bytes else { return true };
        let below = gate.bytes < bound.max && gate.bytes.saturating_add(weight) <= bound.max;
        below || self.ring.used() == 0
    }

    /// Whether the byte bound would admit this weight if every value were dropped; places set aside would remain.
    fn would_fit(&self, weight: usize) -> bool {
        let Some(bound) = &self.rules.bytes else { return true };
        (bound.max > 0 && weight <= bound.max) || self.ring.tail_word().permits() == 0
    }

    /// The part of a weight that the gate counts: none without a byte bound.
    fn counted(&self, weight: usize) -> usize {
        if self.rules.bytes.is_some() { weight } else { 0 }
    }
}

/// Values taken under one lock of the gate, at most.
const RUN: usize = 128;
