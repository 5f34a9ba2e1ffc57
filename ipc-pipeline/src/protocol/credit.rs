//! The receive budget of a process, and the share of it that one link has promised away.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

/// Bytes that every link may count on whatever the budget says: 64 KiB.
pub const FLOOR_BYTES: u64 = 64 * 1024;

/// What all receiving ends of a process may buffer or promise beyond their floors.
///
/// When it is exhausted promises do not grow; nothing is dropped and nothing is closed.
#[derive(Debug, Clone)]
pub struct Budget {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    limit: usize,
    used: AtomicUsize,
}

impl Budget {
    /// A budget of this many bytes.
    pub fn new(limit: usize) -> Self {
        Self { inner: Arc::new(Inner { limit, used: AtomicUsize::new(0) }) }
    }

    /// A share of it, of nothing so far; given back when dropped.
    pub fn share(&self) -> BudgetShare {
        BudgetShare { budget: self.clone(), held: 0 }
    }

    /// Bytes promised now.
    pub fn used(&self) -> usize {
        self.inner.used.load(Ordering::Relaxed)
    }

    /// The limit in bytes.
    pub fn limit(&self) -> usize {
        self.inner.limit
    }
}

/// What one link holds of a [`Budget`].
#[derive(Debug)]
pub struct BudgetShare {
    budget: Budget,
    held: usize,
}

impl BudgetShare {
    /// Makes the share `wanted` bytes large, or as large as the budget allows; returns what it is now.
    pub fn resize(&mut self, wanted: u64) -> u64 {
        let wanted = usize::try_from(wanted).unwrap_or(usize::MAX);
        // Only a sum is kept here: no other memory is published by it, so relaxed ordering is enough.
        let used = &self.budget.inner.used;
        if wanted <= self.held {
            used.fetch_sub(self.held - wanted, Ordering::Relaxed);
            self.held = wanted;
        } else {
            let mut granted = 0;
            let _ = used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |now| {
                granted = (wanted - self.held).min(self.budget.inner.limit.saturating_sub(now));
                Some(now + granted)
            });
            self.held += granted;
        }
        self.held as u64
    }

    /// What [`resize`](Self::resize) would make of it now, with as much as the budget has.
    pub fn possible(&self) -> u64 {
        (self.held + self.budget.inner.limit.saturating_sub(self.budget.used())) as u64
    }

    /// Bytes held now.
    pub fn held(&self) -> u64 {
        self.held as u64
    }
}

impl Drop for BudgetShare {
    fn drop(&mut self) {
        self.resize(0);
    }
}
