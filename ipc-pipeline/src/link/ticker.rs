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
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    armed: VecDeque<(Instant, Weak<Session>)>,
    /// The thread sleeps without a timeout: it must be woken for a new entry.
    parked: bool,
}

/// Has the session's driver report its moves in 5 ms; each session is armed at most once at a time.
pub(super) fn arm(session: &Arc<Session>) {
    static TICKER: OnceLock<Arc<Ticker>> = OnceLock::new();
    let ticker = TICKER.get_or_init(|| {
        let ticker = Arc::new(Ticker { state: Mutex::default(), changed: Condvar::new() });
        let of_thread = ticker.clone();
        // Without a thread acks still go out by half the window and on request.
        let _ = thread::Builder::new().name("ipc-ticker".to_owned()).spawn(move || of_thread.run());
        ticker
    });
    let mut state = ticker.state.lock().unwrap_or_else(PoisonError::into_inner);
    state.armed.push_back((Instant::now() + DELAY, Arc::downgrade(session)));
    if state.parked {
        state.parked = false;
        drop(state);
        ticker.changed.notify_one();
    }
}

impl Ticker {
    fn run(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        // After the last entry it stays on for one more delay, so that a busy link need not wake it each time.
        let mut lingered = false;
        loop {
            let left = match state.armed.front() {
                Some((due, _)) => due.saturating_duration_since(Instant::now()),
                None if lingered => {
                    state.parked = true;
                    while state.parked {
                        state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                    }
                    lingered = false;
                    continue;
                }
                None => {
                    lingered = true;
                    DELAY
                }
            };
            if !left.is_zero() {
                state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
                continue;
            }
            lingered = false;
            let Some((_, session)) = state.armed.pop_front() else { continue };
            drop(state);
            if let Some(session) = session.upgrade() {
                session.tick();
            }
            state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        }
    }
}
