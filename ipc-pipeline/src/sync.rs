//! The only place that names atomics, cells, locks and threads: std, or loom under `--cfg ipc_loom`.
//!
//! With `--cfg ipc_loom_weak` as well, [`PUBLISH`] is weakened on purpose, to show that the models would notice.

#[cfg(ipc_loom)]
pub(crate) use loom::{
    cell::UnsafeCell,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU64, AtomicUsize, Ordering, fence},
    },
    thread,
};
#[cfg(not(ipc_loom))]
pub(crate) use std::{
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU64, AtomicUsize, Ordering, fence},
    },
    thread,
};

use std::{sync::PoisonError, time::Duration};

/// Publishes a slot's value; partner: the Acquire load of the stamp in `Ring::is_published`.
#[cfg(not(ipc_loom_weak))]
pub(crate) const PUBLISH: Ordering = Ordering::Release;
/// The deliberate mistake: a value may be read before it is written.
#[cfg(ipc_loom_weak)]
pub(crate) const PUBLISH: Ordering = Ordering::Relaxed;

/// The cell of std with the interface of loom's, so that one source serves both.
#[cfg(not(ipc_loom))]
#[derive(Debug)]
pub(crate) struct UnsafeCell<T>(std::cell::UnsafeCell<T>);

#[cfg(not(ipc_loom))]
impl<T> UnsafeCell<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(std::cell::UnsafeCell::new(value))
    }

    #[inline(always)]
    pub(crate) fn with<R>(&self, read: impl FnOnce(*const T) -> R) -> R {
        read(self.0.get())
    }

    #[inline(always)]
    pub(crate) fn with_mut<R>(&self, write: impl FnOnce(*mut T) -> R) -> R {
        write(self.0.get())
    }
}

/// Locks, taking no notice of poison: no code of a user runs under a lock of this crate, and what the locks guard
/// is valid after each statement.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Lets others run while a neighbour finishes a step that it has begun.
///
/// Some rounds of spinning, then the rest of the time slice: the neighbour may not be running at all.
pub(crate) fn relax(round: &mut u32) {
    *round += 1;
    if cfg!(ipc_loom) || *round > SPIN_ROUNDS {
        thread::yield_now();
    } else {
        std::hint::spin_loop();
    }
}

/// Parks this thread until it is unparked or, if given, for this time at most.
pub(crate) fn park(at_most: Option<Duration>) {
    #[cfg(not(ipc_loom))]
    if let Some(time) = at_most {
        return thread::park_timeout(time);
    }
    // A model has no time: there a deadline never comes.
    let _ = at_most;
    thread::park();
}

/// Rounds of spinning before a time slice is given away. The step waited for takes some nanoseconds if its thread
/// is running, and much longer if it is not.
const SPIN_ROUNDS: u32 = 64;
