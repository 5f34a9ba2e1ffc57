//! Several consumers of one ring.

use super::{
    Ring,
    word::{POSITION, POSITIONS, Popped, SENDERS_WAIT, TailWord, taken},
};
use crate::sync::{Arc, Ordering, fence};

/// One of several consumers: a run is claimed with one compare-and-swap, read, marked as taken, and freed in order.
#[derive(Debug)]
pub(crate) struct SharedConsumer<T> {
    pub(super) ring: Arc<Ring<T>>,
}

impl<T> SharedConsumer<T> {
    /// Takes the oldest value, if it is published.
    pub(crate) fn pop(&self) -> Option<(T, Popped)> {
        let mut run = self.ring.claim_run(1)?;
        let value = self.ring.take_next(&mut run)?;
        Some((value, Popped { count: 1, senders_wait: self.advance() }))
    }

    /// Appends up to `max` values to `out`.
    pub(crate) fn pop_many(&self, out: &mut Vec<T>, max: usize) -> Popped {
        // With the room made before, nothing can fail between the claim and the last reading.
        out.reserve(max.min(self.ring.len()));
        let room = out.capacity() - out.len();
        let Some(mut run) = self.ring.claim_run(max.min(room)) else {
            return Popped::NOTHING;
        };
        let start = out.len();
        out.extend(std::iter::from_fn(|| self.ring.take_next(&mut run)));
        Popped { count: out.len() - start, senders_wait: self.advance() }
    }

    /// Whether nothing is left before this moment of the tail word, not even under way.
    pub(crate) fn is_drained(&self, tail: TailWord) -> bool {
        tail.0 & POSITIONS == self.ring.claim.0.load(Ordering::Acquire)
    }

    /// Moves the head over every value at its front that was read; tells whether senders wait for the room.
    fn advance(&self) -> bool {
        let ring = &self.ring;
        // SeqCst: of two consumers that both have marked and now look for each other's mark, one sees both, because
        // both pass this fence in between. So the last one to come moves the head for all.
        fence(Ordering::SeqCst);
        let mut senders_wait = false;
        let mut head = ring.head.0.word.load(Ordering::Acquire);
        loop {
            let mut next = head;
            let mut count = 0;
            // Acquire: partner is `mark_taken`.
            while count < ring.slots.len()
                && ring.slot(next & POSITIONS).stamp.load(Ordering::Acquire) == taken(next & POSITIONS)
            {
                next = next.wrapping_add(POSITION);
                count += 1;
            }
            if count == 0 {
                return senders_wait;
            }
            // Release: partner is the Acquire of the head word in `room`. SYNC with `Ring::senders_queue`.
            match ring.head.0.word.compare_exchange_weak(head, next, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => {
                    ring.head.0.freed.fetch_add(count as u64, Ordering::Relaxed);
                    senders_wait |= head & SENDERS_WAIT != 0;
                    head = next;
                }
                Err(seen) => head = seen,
            }
        }
    }
}

impl<T> Clone for SharedConsumer<T> {
    fn clone(&self) -> Self {
        Self { ring: Arc::clone(&self.ring) }
    }
}
