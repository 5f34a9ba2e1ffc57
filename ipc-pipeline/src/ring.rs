//! The lock-free ring under the queue: many producers, one consumer or several. The only file with `unsafe`.
//!
//! ```text
//!   tail word   | position (38 bits) | permits (23) | receiver waits | senders queue | closed |
//!   head word   | position (38 bits) |                                          senders wait |
//!   slot        | stamp | value |          position p lies in slot p mod 2^k, 2^k >= capacity
//!
//!        head          claim (several consumers only)           tail
//!         |              |                                        |
//!   ------+--------------+----------------------------------------+--------------
//!    free | being read   | published, or claimed and being written | free
//! ```
//!
//! A producer claims a position with one compare-and-swap on the tail word, writes the value, and publishes it with
//! the slot's stamp. Because the same word carries the flag of a waiting receiver, the claim is also the look for a
//! waiter: one read-modify-write serves both. The other direction mirrors it: a consumer reads first and frees with
//! one read-modify-write on the head word, which carries the flag of waiting senders.
//!
//! Room is counted, not inferred from the slots: `tail - head + permits <= capacity` holds at every moment, so
//! capacities are exact and the slots may be more than the capacity. The lap of a stamp is the whole position.
//!
//! A value that is claimed and not yet published is *under way*. The producer is then between two instructions of
//! [`Ring::write`], which runs no code of a user; who meets such a slot at the head comes back a moment later.

#![allow(
    unsafe_code,
    reason = "the one file with unsafe: values move in and out of slots that are not always filled"
)]

use std::{fmt, mem::MaybeUninit};

use crate::sync::{Arc, AtomicU64, Ordering, PUBLISH, UnsafeCell};

mod shared;
mod word;

pub(crate) use shared::SharedConsumer;
use word::{
    CLOSED, PERMIT, POSITION, POSITIONS, RECEIVER_WAITS, SENDERS_QUEUE, SENDERS_WAIT, distance, published,
    taken,
};
pub(crate) use word::{MAX_CAPACITY, Popped, Pushed, TailWord};

/// Makes a ring of exactly this capacity, which must be in `1..=MAX_CAPACITY`, and its one consumer.
pub(crate) fn ring<T>(capacity: usize) -> (Arc<Ring<T>>, Consumer<T>) {
    assert!((1..=MAX_CAPACITY).contains(&capacity), "the caller checks the capacity");
    let slots = (0..capacity.next_power_of_two()).map(|_| Slot::new()).collect();
    let ring = Arc::new(Ring {
        tail: Padded(Tail { word: AtomicU64::new(0), head_seen: AtomicU64::new(0) }),
        head: Padded(Head { word: AtomicU64::new(0), freed: AtomicU64::new(0) }),
        claim: Padded(AtomicU64::new(0)),
        slots,
        capacity: capacity as u64,
    });
    let consumer = Consumer { ring: Arc::clone(&ring), position: 0, freed: 0 };
    (ring, consumer)
}

/// The shared part; producers use it directly, consumers through [`Consumer`] or [`SharedConsumer`].
pub(crate) struct Ring<T> {
    tail: Padded<Tail>,
    head: Padded<Head>,
    /// Where the next of several consumers takes; not used while there is only one.
    claim: Padded<AtomicU64>,
    slots: Box<[Slot<T>]>,
    capacity: u64,
}

struct Tail {
    word: AtomicU64,
    /// A head word that some producer has seen, so that most claims do not touch the consumer's cache line.
    head_seen: AtomicU64,
}

struct Head {
    word: AtomicU64,
    /// How many values were freed in all; wider than a position. Written by whoever moves the head.
    freed: AtomicU64,
}

struct Slot<T> {
    stamp: AtomicU64,
    value: UnsafeCell<MaybeUninit<T>>,
}

/// Two lines, because processors fetch lines in pairs.
#[repr(align(128))]
struct Padded<T>(T);

// SAFETY: a value is moved into a slot by one thread and out of it by another, never shared between two: a position
// is claimed by exactly one producer and read by exactly one consumer. Moving needs `T: Send`, and nothing more.
unsafe impl<T: Send> Send for Ring<T> {}
// SAFETY: as above; all other fields are atomics or never change.
unsafe impl<T: Send> Sync for Ring<T> {}

/// The producers' side; any number of threads.
impl<T> Ring<T> {
    /// Pushes if the ring is open, no sender is queued, and there is room; otherwise gives the value back.
    #[inline]
    pub(crate) fn try_push(&self, value: T) -> Result<Pushed, T> {
        self.push_unless(value, CLOSED | SENDERS_QUEUE)
    }

    /// Pushes if the ring is open and there is room, before any queued sender.
    pub(crate) fn push_past_queue(&self, value: T) -> Result<Pushed, T> {
        self.push_unless(value, CLOSED)
    }

    /// Sets one place aside if the ring is open, no sender is queued, and there is room.
    pub(crate) fn try_reserve(&self) -> bool {
        self.reserve_unless(1, CLOSED | SENDERS_QUEUE) == 1
    }

    /// Sets one place aside if the ring is open and there is room, before any queued sender.
    pub(crate) fn reserve_past_queue(&self) -> bool {
        self.reserve_unless(1, CLOSED) == 1
    }

    /// Sets up to `max` places aside under the same conditions as [`Ring::try_reserve`]; tells how many.
    pub(crate) fn try_reserve_many(&self, max: usize) -> usize {
        self.reserve_unless(max as u64, CLOSED | SENDERS_QUEUE)
    }

    /// Pushes into a place that was set aside; gives the value back, and the place, if the ring is closed.
    pub(crate) fn push_reserved(&self, value: T) -> Result<Pushed, T> {
        match self.claim_reserved(1) {
            Some((start, pushed)) => {
                self.write(start, value);
                Ok(pushed)
            }
            None => {
                let _ = self.unreserve(1);
                Err(value)
            }
        }
    }

    /// Pushes all values, at least one, into places that were set aside; if the ring is closed it takes none.
    pub(crate) fn push_reserved_many(&self, values: &mut Vec<T>) -> Option<Pushed> {
        let (mut position, pushed) = self.claim_reserved(values.len() as u64)?;
        for value in values.drain(..) {
            self.write(position, value);
            position = position.wrapping_add(POSITION);
        }
        Some(pushed)
    }

    /// Gives places back that were set aside.
    pub(crate) fn unreserve(&self, count: usize) -> TailWord {
        let mut tail = self.tail.0.word.load(Ordering::Relaxed);
        loop {
            assert!(TailWord(tail).permits() >= count as u64, "only a permit gives a place back");
            // AcqRel: passes on what was seen of the head, as every change of this word does; see `room`.
            match self.tail.0.word.compare_exchange_weak(
                tail,
                tail - PERMIT * count as u64,
                Ordering::AcqRel,
                Ordering::Relaxed,
            ) {
                Ok(_) => return TailWord(tail),
                Err(seen) => tail = seen,
            }
        }
    }

    #[inline]
    fn push_unless(&self, value: T, barred: u64) -> Result<Pushed, T> {
        let mut tail = self.tail.0.word.load(Ordering::Relaxed);
        loop {
            if tail & barred != 0 {
                return Err(value);
            }
            if self.room(tail) == 0 {
                match self.newer(tail) {
                    Some(newer) => tail = newer,
                    None => return Err(value),
                }
                continue;
            }
            match self.try_claim(tail, tail.wrapping_add(POSITION)) {
                Ok(pushed) => {
                    self.write(tail & POSITIONS, value);
                    return Ok(pushed);
                }
                Err(seen) => tail = seen,
            }
        }
    }

    fn reserve_unless(&self, max: u64, barred: u64) -> usize {
        let mut tail = self.tail.0.word.load(Ordering::Relaxed);
        loop {
            if tail & barred != 0 || max == 0 {
                return 0;
            }
            let count = self.room(tail).min(max);
            if count == 0 {
                match self.newer(tail) {
                    Some(newer) => tail = newer,
                    None => return 0,
                }
                continue;
            }
            // AcqRel: as in `unreserve`.
            match self.tail.0.word.compare_exchange_weak(
                tail,
                tail + PERMIT * count,
                Ordering::AcqRel,
                Ordering::Relaxed,
            ) {
                Ok(_) => return count as usize,
                Err(seen) => tail = seen,
            }
        }
    }

    fn claim_reserved(&self, count: u64) -> Option<(u64, Pushed)> {
        let mut tail = self.tail.0.word.load(Ordering::Relaxed);
        loop {
            if tail & CLOSED != 0 {
                return None;
            }
            assert!(TailWord(tail).permits() >= count, "only a permit fills a place that was set aside");
            match self.try_claim(tail, (tail - PERMIT * count).wrapping_add(POSITION * count)) {
                Ok(pushed) => return Some((tail & POSITIONS, pushed)),
                Err(seen) => tail = seen,
            }
        }
    }

    /// The one step that gives a position to a producer, and the duty to wake the receiver to one of them.
    #[inline]
    fn try_claim(&self, tail: u64, next: u64) -> Result<Pushed, u64> {
        // SYNC with `Ring::receiver_waits`: one word, so either the claim sees the flag or the receiver the claim.
        // AcqRel: a producer that got its place as a permit learns from this word what the producer that granted it
        // had seen of the head.
        self.tail.0.word.compare_exchange_weak(
            tail,
            next & !RECEIVER_WAITS,
            Ordering::AcqRel,
            Ordering::Relaxed,
        )?;
        Ok(Pushed { wake_receiver: tail & RECEIVER_WAITS != 0, end: next & POSITIONS })
    }

    /// How many places are neither filled, nor set aside.
    #[inline]
    fn room(&self, tail: u64) -> u64 {
        // Acquire: partner is the Release store below, of another producer, which had acquired the head itself.
        let seen = self.tail.0.head_seen.load(Ordering::Acquire);
        let taken = distance(seen, tail) + TailWord(tail).permits();
        if taken < self.capacity {
            return self.capacity - taken;
        }
        // Acquire: partner is the Release half of what moves the head, so that the value was read before its slot is
        // written again.
        let head = self.head.0.word.load(Ordering::Acquire);
        self.tail.0.head_seen.store(head, Ordering::Release);
        // A stale `tail` may lie behind the head and seem to leave no room; see `newer`.
        self.capacity.saturating_sub(distance(head, tail) + TailWord(tail).permits())
    }

    /// The tail word if it has changed: what seemed to be a full ring was an old look at it.
    ///
    /// After the Acquire of a head word this load shows a tail that is not behind that head.
    #[cold]
    fn newer(&self, tail: u64) -> Option<u64> {
        let now = self.tail.0.word.load(Ordering::Relaxed);
        (now != tail).then_some(now)
    }

    #[inline]
    fn write(&self, position: u64, value: T) {
        let slot = self.slot(position);
        // SAFETY: 1. `position` was claimed by the caller's change of the tail word, so no other producer writes here.
        // 2. `tail - head + permits <= capacity <= slots` held when it was claimed, so the value that lay in this
        // slot one lap ago has been freed. 3. Its reading happens before this: consumer -> head word (Release) ->
        // the producer that found the room (Acquire) -> tail word (AcqRel, an unbroken chain of changes) -> here.
        // 4. No consumer reads before the stamp below says so.
        slot.value.with_mut(|cell| unsafe { (*cell).write(value) });
        slot.stamp.store(published(position), PUBLISH);
    }
}

/// Flags and counts; any thread.
impl<T> Ring<T> {
    pub(crate) fn capacity(&self) -> usize {
        self.capacity as usize
    }

    /// How many values are in the ring, those under way included.
    pub(crate) fn len(&self) -> usize {
        // The head first: it never overtakes the tail, so the difference is never negative.
        let head = self.head.0.word.load(Ordering::Acquire);
        let tail = self.tail.0.word.load(Ordering::Acquire);
        distance(head, tail).min(self.capacity) as usize
    }

    /// How many places are filled or set aside.
    pub(crate) fn used(&self) -> usize {
        let head = self.head.0.word.load(Ordering::Acquire);
        let tail = self.tail.0.word.load(Ordering::Acquire);
        (distance(head, tail) + TailWord(tail).permits()).min(self.capacity) as usize
    }

    /// How many values were ever freed.
    pub(crate) fn freed(&self) -> u64 {
        self.head.0.freed.load(Ordering::Relaxed)
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.tail_word().is_closed()
    }

    /// The tail word as it is now.
    pub(crate) fn tail_word(&self) -> TailWord {
        TailWord(self.tail.0.word.load(Ordering::Acquire))
    }

    /// Closes the ring: no position is claimed any more. Tells whether it was open.
    pub(crate) fn close(&self) -> bool {
        self.tail.0.word.fetch_or(CLOSED, Ordering::AcqRel) & CLOSED == 0
    }

    /// Asks the next push to wake a receiver. What it returns may show values that came before.
    pub(crate) fn receiver_waits(&self) -> TailWord {
        // SYNC with `try_claim`.
        TailWord(self.tail.0.word.fetch_or(RECEIVER_WAITS, Ordering::AcqRel))
    }

    /// How many values were pushed after `pushed` and before this moment of the tail word.
    pub(crate) fn pushed_since(pushed: &mut Pushed, tail: TailWord) -> u64 {
        let count = distance(pushed.end, tail.0);
        pushed.end = tail.0 & POSITIONS;
        count
    }

    /// Sends every sender through the queue, and asks consumers to look for them.
    ///
    /// After it, room that was made before can be seen, and room that is made later will be reported.
    pub(crate) fn senders_queue(&self) {
        self.tail.0.word.fetch_or(SENDERS_QUEUE, Ordering::AcqRel);
        // SYNC with `Consumer::free` and `SharedConsumer::advance`: one word, so either the consumer sees the flag or
        // the sender, who looks for room after this, the room.
        let head = self.head.0.word.fetch_or(SENDERS_WAIT, Ordering::AcqRel);
        self.tail.0.head_seen.store(head, Ordering::Release);
    }

    /// Ends what [`Ring::senders_queue`] began.
    pub(crate) fn senders_do_not_queue(&self) {
        self.head.0.word.fetch_and(!SENDERS_WAIT, Ordering::AcqRel);
        self.tail.0.word.fetch_and(!SENDERS_QUEUE, Ordering::AcqRel);
    }

    #[inline]
    fn slot(&self, position: u64) -> &Slot<T> {
        // The number of slots is a power of two, so that this needs no division and the wrap of positions is smooth.
        &self.slots[(position / POSITION) as usize & (self.slots.len() - 1)]
    }

    #[inline]
    fn is_published(&self, position: u64) -> bool {
        // Acquire: partner is PUBLISH in `write`.
        self.slot(position).stamp.load(Ordering::Acquire) == published(position)
    }

    /// Moves the value out of a slot.
    ///
    /// # Safety
    /// The value at `position` is published, and the caller is the only one that reads it, once.
    #[inline]
    unsafe fn read(&self, position: u64) -> T {
        // SAFETY: the slot is filled, by the caller's word, and no producer writes before the position is freed.
        self.slot(position).value.with(|cell| unsafe { (*cell).assume_init_read() })
    }
}

impl<T> Drop for Ring<T> {
    fn drop(&mut self) {
        let tail = self.tail.0.word.load(Ordering::Relaxed) & POSITIONS;
        let mut position = self.head.0.word.load(Ordering::Relaxed) & POSITIONS;
        while position != tail {
            if self.is_published(position) {
                // SAFETY: nobody else has this ring any more, and between head and tail nothing was read.
                drop(unsafe { self.read(position) });
            }
            position = position.wrapping_add(POSITION);
        }
    }
}

impl<T> fmt::Debug for Ring<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ring")
            .field("len", &self.len())
            .field("capacity", &self.capacity)
            .finish_non_exhaustive()
    }
}

/// The one consumer of a ring. It reads without claiming; one change of the head word frees a value or a run.
#[derive(Debug)]
pub(crate) struct Consumer<T> {
    ring: Arc<Ring<T>>,
    /// The position of the head: only this consumer moves it.
    position: u64,
    freed: u64,
}

impl<T> Consumer<T> {
    /// Takes the oldest value, if it is published.
    #[inline]
    pub(crate) fn pop(&mut self) -> Option<(T, Popped)> {
        if !self.ring.is_published(self.position) {
            return None;
        }
        // SAFETY: it is published, and there is one `Consumer`, borrowed mutably, which moves on right after.
        let value = unsafe { self.ring.read(self.position) };
        self.position = self.position.wrapping_add(POSITION);
        Some((value, self.free(1)))
    }

    /// Appends up to `max` values to `out`.
    pub(crate) fn pop_many(&mut self, out: &mut Vec<T>, max: usize) -> Popped {
        let mut all = Popped::NOTHING;
        while all.count < max {
            let run = self.pop_run(out, FREED_AT_ONCE.min(max - all.count));
            all.count += run.count;
            all.senders_wait |= run.senders_wait;
            if run.count == 0 {
                break;
            }
        }
        all
    }

    /// Whether nothing is left before this moment of the tail word, not even under way.
    pub(crate) fn is_drained(&self, tail: TailWord) -> bool {
        tail.0 & POSITIONS == self.position
    }

    /// From now on several may consume.
    pub(crate) fn into_shared(self) -> SharedConsumer<T> {
        // Relaxed: other consumers are made from the result, which hands the write on.
        self.ring.claim.0.store(self.position, Ordering::Relaxed);
        SharedConsumer { ring: self.ring }
    }

    #[inline]
    fn pop_run(&mut self, out: &mut Vec<T>, max: usize) -> Popped {
        // With the room made before, nothing can fail between a reading and its being counted.
        out.reserve(max);
        let mut count = 0;
        while count < max && self.ring.is_published(self.position) {
            // SAFETY: as in `pop`.
            out.push(unsafe { self.ring.read(self.position) });
            self.position = self.position.wrapping_add(POSITION);
            count += 1;
        }
        if count == 0 { Popped::NOTHING } else { self.free(count) }
    }

    #[inline]
    fn free(&mut self, count: usize) -> Popped {
        self.freed += count as u64;
        self.ring.head.0.freed.store(self.freed, Ordering::Relaxed);
        // Release: partner is the Acquire of the head word in `room`. SYNC with `Ring::senders_queue`.
        let head = self.ring.head.0.word.fetch_add(POSITION * count as u64, Ordering::AcqRel);
        Popped { count, senders_wait: head & SENDERS_WAIT != 0 }
    }
}

/// For several consumers; see `ring/shared.rs`. Called by [`SharedConsumer`] alone, of which there is none while there
/// is a [`Consumer`].
impl<T> Ring<T> {
    /// Claims up to `max` published values for the caller.
    fn claim_run(&self, max: usize) -> Option<Run> {
        let mut start = self.claim.0.load(Ordering::Acquire);
        loop {
            let mut end = start;
            let mut left = 0;
            while left < max && self.is_published(end) {
                end = end.wrapping_add(POSITION);
                left += 1;
            }
            if left == 0 {
                // Nothing there, or others were faster.
                let now = self.claim.0.load(Ordering::Acquire);
                if now == start || max == 0 {
                    return None;
                }
                start = now;
                continue;
            }
            // A published stamp names its whole position, so a stale `start` cannot match a later lap.
            match self.claim.0.compare_exchange_weak(start, end, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return Some(Run { position: start, left }),
                Err(seen) => start = seen,
            }
        }
    }

    /// Moves the next value of a run out, and marks its slot as taken.
    fn take_next(&self, run: &mut Run) -> Option<T> {
        run.left = run.left.checked_sub(1)?;
        let position = run.position;
        run.position = position.wrapping_add(POSITION);
        // SAFETY: the claim found it published and gave it to the one owner of this run, which has moved on.
        let value = unsafe { self.read(position) };
        // Release: partner is the Acquire in `SharedConsumer::advance`, of whoever moves the head past this slot.
        self.slot(position).stamp.store(taken(position), Ordering::Release);
        Some(value)
    }
}

/// Published values that one of several consumers has claimed and is about to read.
struct Run {
    position: u64,
    left: usize,
}

impl<T> Slot<T> {
    fn new() -> Self {
        Self { stamp: AtomicU64::new(0), value: UnsafeCell::new(MaybeUninit::uninit()) }
    }
}

/// How many values are freed at once when many are taken: often enough to keep producers going meanwhile.
const FREED_AT_ONCE: usize = 128;
