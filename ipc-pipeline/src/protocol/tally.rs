//! The exact account of what arrived of one session of datagrams: gaps, duplicates, reorders.

use std::collections::VecDeque;

/// Numbers per word of the record.
const WORD: u64 = u64::BITS as u64;

/// What a datagram's number says of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It was here before.
    Duplicate,
    /// The first to arrive with its number, after a higher number had arrived.
    Late,
    /// The highest number so far; `gap` numbers directly below it have not arrived, or not yet.
    Next {
        /// How many.
        gap: u64,
    },
    /// So far behind that it cannot be told whether it was here before.
    Stale,
}

/// Counts of one session; `received + duplicates + stale` is how many datagrams arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct TallyCounts {
    /// The highest number that arrived; 0 before the first.
    pub highest: u64,
    /// Numbers that arrived.
    pub received: u64,
    /// Numbers up to the highest that have not arrived, or not yet: what the way here lost, exactly.
    pub missing: u64,
    /// Datagrams whose number had arrived before.
    pub duplicates: u64,
    /// Numbers that arrived after a higher one.
    pub reordered: u64,
    /// Datagrams too far behind to tell whether they were late or duplicates; a late one stays missing.
    pub stale: u64,
    /// Values that the sender gave up before they left, as far as the highest number tells.
    pub skipped: u64,
}

/// Remembers which numbers of a session arrived.
///
/// It is exact as long as a number arrives within [`REACH`](Self::REACH) of the highest one, and for ever where nothing was
/// missing. It takes one bit for each number from the oldest missing one on, at most 8 KiB. The idea of a window of bits is
/// that of the anti-replay windows of IPsec (RFC 4303, section 3.4.3) and DTLS.
#[derive(Debug, Clone, Default)]
pub struct Tally {
    /// A bit for each number from `base` on; whole words that arrived completely are not kept.
    words: VecDeque<u64>,
    /// The number of the first bit, from 0 on: a multiple of [`WORD`]. Number 0 counts as arrived.
    base: u64,
    /// Below this number something was forgotten before it arrived.
    forgotten: u64,
    counts: TallyCounts,
}

impl Tally {
    /// How far behind the highest number one is told from a duplicate for sure.
    pub const REACH: u64 = 65_536 - WORD;

    const WORDS: u64 = 65_536 / WORD;

    /// Nothing has arrived.
    pub fn new() -> Self {
        Self::default()
    }

    /// Enters a datagram: its number, from 1, and what it says of values given up before it. Number 0, which none has, counts
    /// as a duplicate.
    pub fn handle(&mut self, number: u64, skipped: u64) -> Standing {
        if number == 0 {
            self.counts.duplicates += 1;
            return Standing::Duplicate;
        }
        if number <= self.counts.highest {
            return self.handle_earlier(number);
        }
        let gap = number - self.counts.highest - 1;
        self.reach(number);
        self.enter(number);
        self.counts.highest = number;
        self.counts.skipped = self.counts.skipped.max(skipped);
        self.counts.received += 1;
        self.counts.missing += gap;
        self.trim();
        Standing::Next { gap }
    }

    /// The counts so far.
    pub fn counts(&self) -> TallyCounts {
        self.counts
    }

    fn handle_earlier(&mut self, number: u64) -> Standing {
        if number < self.forgotten {
            self.counts.stale += 1;
            return Standing::Stale;
        }
        if number < self.base || !self.enter(number) {
            self.counts.duplicates += 1;
            return Standing::Duplicate;
        }
        self.counts.received += 1;
        self.counts.missing -= 1;
        self.counts.reordered += 1;
        self.trim();
        Standing::Late
    }

    /// Makes the record reach up to a number that is higher than all before it.
    fn reach(&mut self, number: u64) {
        let word = number / WORD;
        if self.words.is_empty() && self.counts.highest == 0 {
            // As if number 0 had arrived, which no datagram has.
            self.words.push_back(1);
        }
        let last = |tally: &Self| tally.base / WORD + tally.words.len() as u64;
        let lowest = (word + 1).saturating_sub(Self::WORDS);
        while self.base / WORD < lowest {
            match self.words.pop_front() {
                Some(u64::MAX) => {}
                Some(_) => self.forgotten = self.base + WORD,
                None => {
                    self.base = lowest * WORD;
                    self.forgotten = self.base;
                    break;
                }
            }
            self.base += WORD;
        }
        while last(self) <= word {
            self.words.push_back(0);
        }
    }

    /// Sets a number's bit; whether it was not set.
    fn enter(&mut self, number: u64) -> bool {
        let offset = number - self.base;
        let word = &mut self.words[(offset / WORD) as usize];
        let bit = 1 << (offset % WORD);
        let fresh = *word & bit == 0;
        *word |= bit;
        fresh
    }

    /// Forgets what is complete at the front.
    fn trim(&mut self) {
        while self.words.front() == Some(&u64::MAX)
            && let Some(base) = self.base.checked_add(WORD)
        {
            self.words.pop_front();
            self.base = base;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_without_loss_takes_one_word() {
        let mut tally = Tally::new();
        for number in 1..10_000 {
            assert_eq!(tally.handle(number, 0), Standing::Next { gap: 0 });
            assert!(tally.words.len() <= 1);
        }
        for number in 1..10_000 {
            assert_eq!(tally.handle(number, 0), Standing::Duplicate);
        }
        assert_eq!(tally.counts().duplicates, 9_999);
    }

    #[test]
    fn a_tally_begins_with_number_one() {
        let mut tally = Tally::new();
        assert_eq!(tally.handle(0, 0), Standing::Duplicate);
        assert_eq!(tally.handle(1, 0), Standing::Next { gap: 0 });
    }

    #[test]
    fn the_record_is_bounded_whatever_comes() {
        let mut tally = Tally::new();
        for number in [1, 3, u64::from(u32::MAX), u64::MAX - 1, u64::MAX] {
            tally.handle(number, 0);
            assert!(tally.words.len() as u64 <= Tally::WORDS, "{} words", tally.words.len());
        }
        assert_eq!(tally.handle(2, 0), Standing::Stale);
        assert_eq!(tally.handle(u64::MAX, 0), Standing::Duplicate);
        assert_eq!(tally.handle(0, 0), Standing::Duplicate);
        assert_eq!(tally.handle(u64::MAX - Tally::REACH, 0), Standing::Late);
        let counts = tally.counts();
        assert_eq!((counts.received, counts.missing), (6, u64::MAX - 6));
    }

    #[test]
    fn what_is_forgotten_is_never_called_a_duplicate() {
        let mut tally = Tally::new();
        // Number 1 is missing, so its word is given up when the record moves on; the next words are complete.
        for number in 2..200 {
            tally.handle(number, 0);
        }
        tally.handle(128 + 65_536, 0);
        assert_eq!(tally.handle(1, 0), Standing::Stale);
        assert_eq!(tally.handle(63, 0), Standing::Stale);
        assert_eq!(tally.handle(64, 0), Standing::Duplicate);
    }
}
