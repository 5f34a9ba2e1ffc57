//! One thread for the whole process that reports lazily acked values after 5 ms.
//!
//! A runtime timer for each link would make every wait of the runtime a timed one, about 1.5 µs per round trip. This
//! thread starts with the first use, sleeps without a timeout while nothing is unreported, and wakes only drivers
//! whose acks are due.

use std::{
    collections::VecDeque,
    sync::{Arc, Condvar, Mutex, OnceLock, PoisonError, Weak},
    thread,
    time::{Duration, Instant},
};

use super::session::Session;

/// How long a move may stay unreported.
const DELAY: Duration = Duration::from_millis(5);

struct Ticker {
    armed: Mutex<VecDeque<(Instant, Weak<Session>)>>,
    changed: Condvar,
}

/// Has the session's driver report its moves in 5 ms; each session is armed at most once at a time.
pub(super) fn arm(session: &Arc<Session>) {
    static TICKER: OnceLock<Arc<Ticker>> = OnceLock::new();
    let ticker = TICKER.get_or_init(|| {
        let ticker = Arc::new(Ticker { armed: Mutex::new(VecDeque::new()), changed: Condvar::new() });
        let of_thread = ticker.clone();
        // Without a thread acks still go out by half the window and on request.
        let _ = thread::Builder::new().name("ipc-ticker".to_owned()).spawn(move || of_thread.run());
        ticker
    });
    let mut armed = ticker.armed.lock().unwrap_or_else(PoisonError::into_inner);
    armed.push_back((Instant::now() + DELAY, Arc::downgrade(session)));
    if armed.len() == 1 {
        ticker.changed.notify_one();
    }
}

impl Ticker {
    fn run(&self) {
        let mut armed = self.armed.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let Some((due, _)) = armed.front() else {
                armed = self.changed.wait(armed).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let left = due.saturating_duration_since(Instant::now());
            if !left.is_zero() {
                armed = self.changed.wait_timeout(armed, left).unwrap_or_else(PoisonError::into_inner).0;
                continue;
            }
            let Some((_, session)) = armed.pop_front() else { continue };
            drop(armed);
            if let Some(session) = session.upgrade() {
                session.tick();
            }
            armed = self.armed.lock().unwrap_or_else(PoisonError::into_inner);
        }
    }
}
