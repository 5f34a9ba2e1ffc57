//! The sums of the ledger, and whether they are all right.

/// The sums.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Verdict {
    /// Chunks accepted.
    pub(crate) sent: u64,
    /// Chunks reported, each counted once.
    pub(crate) taken: u64,
    /// Bytes in them.
    pub(crate) bytes: u64,
    /// Report lines, repetitions counted.
    pub(crate) reports: u64,
    /// Report lines with the flag.
    pub(crate) redelivered: u64,
    /// Accepted and never reported.
    pub(crate) lost: u64,
    /// Reported twice in one life, or again in a later one without the flag.
    pub(crate) duplicated: u64,
    /// Out of order within a source and life.
    pub(crate) reordered: u64,
    /// Lines whose digest is not that of the file.
    pub(crate) mismatched: u64,
    /// Lines about a chunk that the input does not have.
    pub(crate) unknown: u64,
    /// Chunks reported and never accepted.
    pub(crate) unaccepted: u64,
    /// Chunks of finished passes that were never accepted, or accepted twice.
    pub(crate) miscounted: u64,
}

impl Verdict {
    /// Whether every digest, of accepted and of reported chunks, is that of the file.
    pub(crate) fn sha256_ok(&self) -> bool {
        self.mismatched == 0 && self.unknown == 0
    }

    /// Whether nothing is wrong at all.
    pub(crate) fn is_clean(&self) -> bool {
        let faults = self.lost + self.duplicated + self.reordered + self.unaccepted + self.miscounted;
        self.sha256_ok() && faults == 0
    }
}
