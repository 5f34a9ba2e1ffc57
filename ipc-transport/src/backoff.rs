//! When to try again: a retry schedule without a clock.

use std::time::Duration;

/// The shape of a retry schedule.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct BackoffConfig {
    /// The shortest wait.
    pub first: Duration,
    /// The longest wait of the quick phase.
    pub quick_max: Duration,
    /// How long the quick phase lasts.
    pub quick_phase: Duration,
    /// The longest wait of all.
    pub max: Duration,
}

impl BackoffConfig {
    /// For a peer on this machine: 0.2 to 20 ms for 2 s, then doubling to 1 s.
    pub fn local() -> Self {
        Self {
            first: Duration::from_micros(200),
            quick_max: Duration::from_millis(20),
            quick_phase: Duration::from_secs(2),
            max: Duration::from_secs(1),
        }
    }
    /// For a peer elsewhere: 100 ms to 5 s.
    pub fn remote() -> Self {
        Self {
            first: Duration::from_millis(100),
            quick_max: Duration::from_secs(5),
            quick_phase: Duration::ZERO,
            max: Duration::from_secs(5),
        }
    }
}

/// A retry schedule in progress: sans-IO, told when attempts fail and when one succeeded.
#[derive(Debug, Clone)]
pub struct Backoff {
    config: BackoffConfig,
}

impl Backoff {
    /// A fresh schedule; equal seeds give equal schedules.
    pub fn new(config: BackoffConfig, seed: u64) -> Self {
        let _ = seed;
        Self { config }
    }
    /// The wait before the next attempt; the first one after a success is zero.
    pub fn next_delay(&mut self) -> Duration {
        self.config.first
    }
    /// Back to the start, after a success.
    pub fn reset(&mut self) {}
}
