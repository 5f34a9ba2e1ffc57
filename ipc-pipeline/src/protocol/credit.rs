//! The receive budget of a process, and the share of it that one link has promised away.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicUsize, Ordering},
    },
};

/// Bytes that every link may count on whatever the budget says: 64 KiB.
pub const FLOOR_BYTES: u64 = 64 * 1024;

/// What all receiving ends of a process may buffer or promise beyond their floors.
///
/// When it is exhausted promises do not grow; nothing is dropped and nothing is closed. The links of one foreign user
/// have a quarter of it between them, unless [`foreign`](Self::foreign) says otherwise: other users that are let in
/// can slow each other down, and never the process's own.
#[derive(Debug, Clone)]
pub struct Budget {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    all: Pool,
    foreign_limit: usize,
    /// The pools of foreign users that have a link now.
    foreign: Mutex<HashMap<u32, Weak<Pool>>>,
}

impl Budget {
    /// A budget of this many bytes, a quarter of which all links of one foreign user may have together.
    pub fn new(limit: usize) -> Self {
        Self::with_parts(limit, limit / 4)
    }

    /// The same budget, not used yet, with another bound on what one foreign user may have, in bytes.
    #[must_use]
    pub fn foreign(self, limit: usize) -> Self {
        Self::with_parts(self.limit(), limit)
    }

    fn with_parts(limit: usize, foreign_limit: usize) -> Self {
        let inner = Inner { all: Pool::new(limit), foreign_limit, foreign: Mutex::default() };
        Self { inner: Arc::new(inner) }
    }

    /// A share of it, of nothing so far; given back when dropped.
    pub fn share(&self) -> BudgetShare {
        BudgetShare { budget: self.clone(), foreign: None, held: 0 }
    }

    /// A share for a link of a foreign user, by the number that the kernel gives them; given back when dropped.
    pub fn foreign_share(&self, uid: u32) -> BudgetShare {
        let mut users = self.inner.foreign.lock().unwrap_or_else(PoisonError::into_inner);
        // No more entries than there are links of foreign users.
        users.retain(|_, pool| pool.strong_count() > 0);
        let known = users.get(&uid).and_then(Weak::upgrade);
        let pool = known.unwrap_or_else(|| {
            let pool = Arc::new(Pool::new(self.inner.foreign_limit));
            users.insert(uid, Arc::downgrade(&pool));
            pool
        });
        BudgetShare { budget: self.clone(), foreign: Some(pool), held: 0 }
    }

    /// Bytes promised now.
    pub fn used(&self) -> usize {
        self.inner.all.used.load(Ordering::Relaxed)
    }

    /// The limit in bytes.
    pub fn limit(&self) -> usize {
        self.inner.all.limit
    }

    /// What all links of one foreign user may have together, in bytes.
    pub fn foreign_limit(&self) -> usize {
        self.inner.foreign_limit
    }
}

/// So many bytes, and how many of them are promised.
#[derive(Debug)]
struct Pool {
    limit: usize,
    // Only a sum is kept here: no other memory is published by it, so relaxed ordering is enough.
    used: AtomicUsize,
}

impl Pool {
    fn new(limit: usize) -> Self {
        Self { limit, used: AtomicUsize::new(0) }
    }

    fn left(&self) -> usize {
        self.limit.saturating_sub(self.used.load(Ordering::Relaxed))
    }

    /// Takes as much of `wanted` as there is.
    fn take(&self, wanted: usize) -> usize {
        let mut granted = 0;
        let _ = self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |now| {
            granted = wanted.min(self.limit.saturating_sub(now));
            Some(now + granted)
        });
        granted
    }

    fn give_back(&self, bytes: usize) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// What one link holds of a [`Budget`].
#[derive(Debug)]
pub struct BudgetShare {
    budget: Budget,
    foreign: Option<Arc<Pool>>,
    held: usize,
}

impl BudgetShare {
    /// Makes the share `wanted` bytes large, or as large as the budget allows; returns what it is now.
    pub fn resize(&mut self, wanted: u64) -> u64 {
        let wanted = usize::try_from(wanted).unwrap_or(usize::MAX);
        let all = &self.budget.inner.all;
        if wanted <= self.held {
            let back = self.held - wanted;
            all.give_back(back);
            if let Some(foreign) = &self.foreign {
                foreign.give_back(back);
            }
            self.held = wanted;
        } else {
            let more = wanted - self.held;
            let allowed = self.foreign.as_ref().map_or(more, |foreign| foreign.take(more));
            let granted = all.take(allowed);
            if let Some(foreign) = &self.foreign {
                foreign.give_back(allowed - granted);
            }
            self.held += granted;
        }
        self.held as u64
    }

    /// What [`resize`](Self::resize) would make of it now, with as much as the budget has.
    pub fn possible(&self) -> u64 {
        let all = self.budget.inner.all.left();
        let left = self.foreign.as_ref().map_or(all, |foreign| foreign.left().min(all));
        (self.held + left) as u64
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_foreign_user_has_a_part_and_no_more() {
        let budget = Budget::new(1_000);
        let (mut first, mut second) = (budget.foreign_share(7), budget.foreign_share(7));
        assert_eq!((first.possible(), first.resize(200), second.possible()), (250, 200, 50));
        assert_eq!((second.resize(200), budget.used()), (50, 250));
        let mut other = budget.foreign_share(8);
        assert_eq!(other.resize(1_000), 250);
        let mut own = budget.share();
        assert_eq!((own.possible(), own.resize(2_000), budget.used()), (500, 500, 1_000));
        drop((first, other));
        // What the whole budget refuses is not charged to the user either.
        assert_eq!((own.resize(900), second.possible(), second.resize(250)), (900, 100, 100));
        drop(own);
        assert_eq!((second.resize(250), budget.used()), (250, 250));
        drop(second);
        assert_eq!((budget.used(), budget.foreign_share(7).possible()), (0, 250));
    }

    #[test]
    fn users_without_links_are_forgotten() {
        let budget = Budget::new(1_000).foreign(10);
        for uid in 0..100 {
            assert_eq!(budget.foreign_share(uid).resize(20), 10);
        }
        assert!(budget.inner.foreign.lock().unwrap().len() <= 1);
    }
}
