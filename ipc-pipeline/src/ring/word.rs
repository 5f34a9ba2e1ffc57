//! The two words of a ring and the stamps of its slots: what their bits mean.

/// The most slots that a ring can have: 4,194,304. The permits of a full ring must fit into their bits.
pub(crate) const MAX_CAPACITY: usize = 1 << 22;

/// The tail word at some moment.
#[derive(Clone, Copy)]
pub(crate) struct TailWord(pub(super) u64);

impl TailWord {
    pub(crate) fn is_closed(self) -> bool {
        self.0 & CLOSED != 0
    }

    pub(crate) fn senders_queue(self) -> bool {
        self.0 & SENDERS_QUEUE != 0
    }

    pub(crate) fn permits(self) -> u64 {
        (self.0 & PERMITS) / PERMIT
    }
}

/// What a successful push leaves to be done.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pushed {
    /// A receiver was waiting, and this push has taken over the duty to wake one.
    pub(crate) wake_receiver: bool,
    /// The position after the pushed values, to tell how many others were pushed since.
    pub(super) end: u64,
}

/// What a successful pop leaves to be done.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Popped {
    /// How many values came out.
    pub(crate) count: usize,
    /// Senders are waiting for the room that this pop has made.
    pub(crate) senders_wait: bool,
}

impl Popped {
    /// Nothing was there.
    pub(crate) const NOTHING: Self = Self { count: 0, senders_wait: false };
}

/// The stamp of a filled slot. Positions are multiples of [`POSITION`], so the low bits are free, and 0 is no stamp.
#[inline]
pub(super) fn published(position: u64) -> u64 {
    position | 1
}

/// The stamp of a slot that one of several consumers has read.
#[inline]
pub(super) fn taken(position: u64) -> u64 {
    position | 2
}

/// Values between two words, of which the first is not later.
#[inline]
pub(super) fn distance(head: u64, tail: u64) -> u64 {
    (tail & POSITIONS).wrapping_sub(head & POSITIONS) / POSITION
}

/// Tail word: no position is claimed any more.
pub(super) const CLOSED: u64 = 1;
/// Tail word: senders wait in order, or every send has something to look after; none may pass by.
pub(super) const SENDERS_QUEUE: u64 = 1 << 1;
/// Tail word: the next push wakes a receiver.
pub(super) const RECEIVER_WAITS: u64 = 1 << 2;
/// Tail word: one place that is set aside.
pub(super) const PERMIT: u64 = 1 << 3;
/// Tail word: all of them.
pub(super) const PERMITS: u64 = POSITION - PERMIT;
/// Both words: one position. The rest of the word counts them; the wrap is smooth.
pub(super) const POSITION: u64 = 1 << 26;
/// Both words: the position.
pub(super) const POSITIONS: u64 = !(POSITION - 1);
/// Head word: who makes room looks for senders.
pub(super) const SENDERS_WAIT: u64 = 1;
