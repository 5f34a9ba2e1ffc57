//! What a measurement comes to: the JSON line.

use std::{
    io::{self, Write as _},
    time::Duration,
};

use rustix::time::{ClockId, clock_gettime};
use serde::Serialize;

use super::cli::{Face, Named as _, Plan};

/// One measurement. The field names are the keys of the JSON line.
#[derive(Debug, Serialize)]
pub(crate) struct Figures {
    face: String,
    transport: Option<&'static str>,
    work: String,
    size: usize,
    capacity: usize,
    batch: u64,
    runtime: String,
    pin: String,
    msgs: u64,
    secs: f64,
    rate: f64,
    gib_per_s: f64,
    p50_ns: Option<u64>,
    p99_ns: Option<u64>,
    cpu_s: f64,
    lost: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    wire: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    crowd: Option<Crowd>,
}

/// What a stalled client changes for another one; the figures beside it are those with the stalled one.
#[derive(Debug, Serialize)]
pub(crate) struct Crowd {
    clients: usize,
    calm_p50_ns: Option<u64>,
    calm_p99_ns: Option<u64>,
    p50_ratio: Option<f64>,
    p99_ratio: Option<f64>,
    /// Events for the stalled one that found no room.
    dropped: u64,
}

impl Crowd {
    /// Compares the round trips without a stalled client and with one.
    pub(crate) fn new(clients: usize, mut calm: Vec<u64>, mut stalled: Vec<u64>, dropped: u64) -> Self {
        calm.sort_unstable();
        stalled.sort_unstable();
        let ratio = |percent| {
            let (stalled, calm) = (percentile(&stalled, percent)?, percentile(&calm, percent)?);
            Some(round(stalled as f64 / calm.max(1) as f64, 3))
        };
        Self {
            clients,
            calm_p50_ns: percentile(&calm, 50),
            calm_p99_ns: percentile(&calm, 99),
            p50_ratio: ratio(50),
            p99_ratio: ratio(99),
            dropped,
        }
    }
}

impl Figures {
    /// Works the figures out. `transport` is false where nothing lies between the two ends.
    pub(crate) fn new(
        plan: &Plan,
        transport: bool,
        took: Duration,
        cpu: Duration,
        mut times: Vec<u64>,
    ) -> Self {
        let secs = took.as_secs_f64().max(1e-9);
        let msgs = plan.count();
        times.sort_unstable();
        Self {
            face: plan.face.name(),
            transport: transport.then(|| plan.transport.name()),
            work: plan.work.name(),
            size: plan.size(),
            capacity: plan.capacity.get(),
            batch: plan.batch(),
            runtime: plan.runtime.name(),
            pin: plan.pin.name(),
            msgs,
            secs: round(secs, 6),
            rate: round(msgs as f64 / secs, 1),
            gib_per_s: round((msgs as f64) * (plan.size() as f64) / secs / f64::from(1 << 30), 4),
            p50_ns: percentile(&times, 50),
            p99_ns: percentile(&times, 99),
            cpu_s: round(cpu.as_secs_f64(), 6),
            lost: None,
            wire: (plan.face == Face::Events).then(|| plan.spoken().name()),
            crowd: None,
        }
    }

    /// Adds what a stalled client changed.
    pub(crate) fn with_crowd(mut self, crowd: Crowd) -> Self {
        self.crowd = Some(crowd);
        self
    }

    /// Adds a count of what was lost; a one-way stream is as fast as what arrived of it.
    pub(crate) fn with_lost(mut self, lost: u64) -> Self {
        if self.p50_ns.is_none() {
            let arrived = self.msgs.saturating_sub(lost) as f64 / self.msgs.max(1) as f64;
            self.rate = round(self.rate * arrived, 1);
            self.gib_per_s = round(self.gib_per_s * arrived, 4);
        }
        self.lost = Some(lost);
        self
    }

    /// Prints the line.
    pub(crate) fn print(&self) -> io::Result<()> {
        let line = serde_json::to_string(self).expect("numbers and text are always JSON");
        writeln!(io::stdout(), "{line}")
    }
}

/// The value that `percent` of 100 do not exceed, from sorted values.
fn percentile(sorted: &[u64], percent: usize) -> Option<u64> {
    let rank = (sorted.len() * percent).div_ceil(100);
    sorted.get(rank.checked_sub(1)?).copied()
}

fn round(value: f64, digits: i32) -> f64 {
    let unit = 10_f64.powi(digits);
    (value * unit).round() / unit
}

/// Processor time that this process has used, all threads, user and system.
pub(crate) fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(
        u64::try_from(time.tv_sec).expect("processor time is not negative"),
        u32::try_from(time.tv_nsec).expect("nanoseconds are below a second"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_by_nearest_rank() {
        let sorted: Vec<u64> = (1..=200).collect();
        assert_eq!(percentile(&sorted, 50), Some(100));
        assert_eq!(percentile(&sorted, 99), Some(198));
        assert_eq!(percentile(&[7], 99), Some(7));
        assert_eq!(percentile(&[], 50), None);
    }
}
