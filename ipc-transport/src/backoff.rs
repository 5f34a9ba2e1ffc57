//! When to try again: a retry schedule without a clock.

use std::time::{Duration, Instant};

use fastrand::Rng;

use crate::Endpoint;

/// The shape of a retry schedule.
///
/// After a failure the next attempt is made at once. The waits after that are drawn from a range whose upper end
/// doubles each time:
///
/// - in the *quick phase* from [`first`](Self::first) to an end that grows up to [`quick_max`](Self::quick_max);
/// - afterwards from half of an end that grows on from there up to [`max`](Self::max), so that a wait is long but
///   diallers that failed together do not come back together.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use ipc_transport::BackoffConfig;
///
/// // A dialler that may be seen less often once its peer has been away for a while.
/// let patient = BackoffConfig::local().with_max(Duration::from_secs(10));
/// assert_eq!(patient.first, BackoffConfig::local().first);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct BackoffConfig {
    /// The shortest wait, apart from the very first, which is none.
    pub first: Duration,
    /// The longest wait of the quick phase.
    pub quick_max: Duration,
    /// How long the quick phase lasts, counted from the first failure.
    pub quick_phase: Duration,
    /// The longest wait of all.
    pub max: Duration,
}

impl BackoffConfig {
    /// The schedule that fits an endpoint: [`BackoffConfig::remote`] for `tcp`, `tls` and `udp` unless the address is
    /// a loopback one, [`BackoffConfig::local`] for the rest.
    pub fn for_endpoint(endpoint: &Endpoint) -> Self {
        match (endpoint.host_port(), endpoint.socket_addr()) {
            (Some(("localhost", _)), _) | (None, _) => Self::local(),
            (Some(_), Some(address)) if address.ip().is_loopback() => Self::local(),
            (Some(_), _) => Self::remote(),
        }
    }

    /// For a peer on this machine: 0.2 to 20 ms for 2 s, then doubling to 1 s.
    ///
    /// A restarting process is back within milliseconds, and an attempt costs microseconds here. One that is away
    /// for longer costs at most two attempts a second, and a directory event cuts the wait short.
    pub fn local() -> Self {
        Self {
            first: Duration::from_micros(200),
            quick_max: Duration::from_millis(20),
            quick_phase: Duration::from_secs(2),
            max: Duration::from_secs(1),
        }
    }

    /// For a peer elsewhere: 100 ms to 5 s, spread over the whole range (full jitter).
    ///
    /// The quick phase never ends, as its wide range is what keeps the diallers of a restarted server apart.
    pub fn remote() -> Self {
        Self {
            first: Duration::from_millis(100),
            quick_max: Duration::from_secs(5),
            quick_phase: Duration::MAX,
            max: Duration::from_secs(5),
        }
    }

    /// Sets [`BackoffConfig::first`].
    #[must_use]
    pub fn with_first(mut self, first: Duration) -> Self {
        self.first = first;
        self
    }

    /// Sets [`BackoffConfig::quick_max`].
    #[must_use]
    pub fn with_quick_max(mut self, quick_max: Duration) -> Self {
        self.quick_max = quick_max;
        self
    }

    /// Sets [`BackoffConfig::quick_phase`].
    #[must_use]
    pub fn with_quick_phase(mut self, quick_phase: Duration) -> Self {
        self.quick_phase = quick_phase;
        self
    }

    /// Sets [`BackoffConfig::max`].
    #[must_use]
    pub fn with_max(mut self, max: Duration) -> Self {
        self.max = max;
        self
    }
}

/// A retry schedule in progress: sans-IO, told when attempts fail and when one succeeded.
///
/// # Examples
///
/// ```
/// use std::time::{Duration, Instant};
/// use ipc_transport::{Backoff, BackoffConfig};
///
/// let mut backoff = Backoff::new(BackoffConfig::local(), 7);
/// let now = Instant::now();
/// assert_eq!(backoff.next_delay(now), Duration::ZERO);
/// assert!(backoff.next_delay(now) >= Duration::from_micros(200));
/// backoff.reset();
/// assert_eq!(backoff.next_delay(now), Duration::ZERO);
/// ```
#[derive(Debug, Clone)]
pub struct Backoff {
    config: BackoffConfig,
    random: Rng,
    /// The time of the first failure since the start or the last reset.
    since: Option<Instant>,
    /// The upper end of the range that the last wait was drawn from.
    end: Duration,
}

impl Backoff {
    /// A fresh schedule; equal seeds and equal times give equal schedules.
    pub fn new(config: BackoffConfig, seed: u64) -> Self {
        Self { config, random: Rng::with_seed(seed), since: None, end: Duration::ZERO }
    }

    /// The wait before the next attempt, asked for when one failed at `now`; none after the first failure.
    ///
    /// Times come from the caller's monotonic clock and do not go backwards; one that does counts as no time passed.
    pub fn next_delay(&mut self, now: Instant) -> Duration {
        let Some(since) = self.since else {
            self.since = Some(now);
            self.end = self.config.first;
            return Duration::ZERO;
        };
        let quick = now.saturating_duration_since(since) < self.config.quick_phase;
        let most = if quick { self.config.quick_max } else { self.config.max };
        self.end = self.end.saturating_mul(2).min(most);
        let start = if quick { self.config.first } else { self.end / 2 };
        self.between(start.min(self.end), self.end)
    }

    /// Back to the start, after a success.
    ///
    /// Call it when the connection has proved itself, by an answered handshake for one. A peer that accepts and hangs
    /// up would otherwise be dialled again without any wait.
    pub fn reset(&mut self) {
        self.since = None;
    }

    fn between(&mut self, start: Duration, end: Duration) -> Duration {
        let nanos = |duration: Duration| u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        Duration::from_nanos(self.random.u64(nanos(start)..=nanos(end)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Plays the schedule as a dialler does whose attempts all fail at once; gives (time of failure, wait).
    fn waits(config: BackoffConfig, seed: u64, count: usize) -> Vec<(Duration, Duration)> {
        let start = Instant::now();
        let mut backoff = Backoff::new(config, seed);
        let mut passed = Duration::ZERO;
        (0..count)
            .map(|_| {
                let delay = backoff.next_delay(start + passed);
                passed += delay;
                (passed - delay, delay)
            })
            .collect()
    }

    #[test]
    fn the_first_attempt_after_a_failure_is_made_at_once() {
        for config in [BackoffConfig::local(), BackoffConfig::remote()] {
            assert_eq!(waits(config, 1, 1)[0].1, Duration::ZERO);
        }
    }

    #[test]
    fn local_waits_are_short_for_two_seconds_and_then_double_to_one_second() {
        for seed in 0..50 {
            let waits = waits(BackoffConfig::local(), seed, 400);
            for &(at, wait) in &waits[1..] {
                assert!(wait >= Duration::from_micros(200));
                assert!(wait <= Duration::from_millis(if at < Duration::from_secs(2) { 20 } else { 1000 }));
            }
            let slow: Vec<_> = waits.iter().filter(|(at, _)| *at >= Duration::from_secs(2)).collect();
            for (index, (_, wait)) in slow.iter().enumerate() {
                let end = Duration::from_millis(20 << (index + 1).min(6)).min(Duration::from_secs(1));
                assert!(*wait >= end / 2 && *wait <= end, "{index}: {wait:?} of {end:?}");
            }
        }
    }

    #[test]
    fn remote_waits_spread_from_a_tenth_of_a_second_to_five_seconds() {
        let mut last_waits = Vec::new();
        for seed in 0..100 {
            let waits = waits(BackoffConfig::remote(), seed, 30);
            for (index, (_, wait)) in waits.iter().enumerate().skip(1) {
                let end = Duration::from_millis(100 << index.min(6)).min(Duration::from_secs(5));
                assert!(*wait >= Duration::from_millis(100) && *wait <= end);
            }
            last_waits.push(waits[29].1);
        }
        assert!(last_waits.iter().any(|wait| *wait < Duration::from_secs(1)));
        assert!(last_waits.iter().any(|wait| *wait > Duration::from_secs(4)));
    }

    #[test]
    fn an_endpoint_on_this_machine_is_tried_quickly() {
        for (endpoint, is_local) in [
            ("unix:/a", true),
            ("mem:a", true),
            ("tcp://127.0.0.1:1", true),
            ("tcp://[::1]:1", true),
            ("tcp://localhost:1", true),
            ("tcp://192.0.2.1:1", false),
            ("tls://example.org:1", false),
        ] {
            let config = BackoffConfig::for_endpoint(&endpoint.parse().unwrap());
            assert_eq!(config == BackoffConfig::local(), is_local, "{endpoint}");
        }
    }

    #[test]
    fn equal_seeds_give_equal_schedules() {
        assert_eq!(waits(BackoffConfig::local(), 3, 100), waits(BackoffConfig::local(), 3, 100));
        assert_ne!(waits(BackoffConfig::local(), 3, 100), waits(BackoffConfig::local(), 4, 100));
    }

    /// X-30: a time that runs backwards, as no monotonic clock does, shortens or lengthens nothing.
    #[test]
    fn a_time_that_goes_backwards_counts_as_no_time() {
        let start = Instant::now() + Duration::from_secs(60);
        let mut backoff = Backoff::new(BackoffConfig::local(), 1);
        backoff.next_delay(start);
        let wait = backoff.next_delay(start - Duration::from_secs(30));
        assert!(wait <= Duration::from_millis(20));
    }
}
