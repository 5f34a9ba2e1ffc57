//! The in-process benchmark: our queue beside tokio's, async-channel's and kanal's, in one run.
//!
//! Workloads M1 and M4: one or four producer tasks, one consumer task, `u64` values through a bounded queue. Rates are
//! reported together with processor time per value: on a shared machine the latter is the steadier of the two.

use std::{
    fmt, fs,
    time::{Duration, Instant},
};

use ipc_pipeline::bounded;
use tokio::runtime::{Builder, Runtime};

/// How many producers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// One producer, one consumer.
    M1,
    /// Four producers, one consumer.
    M4,
}

impl Work {
    fn producers(self) -> u64 {
        match self {
            Self::M1 => 1,
            Self::M4 => 4,
        }
    }
}

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject {
    /// `async-channel`, one by one.
    AsyncChannel,
    /// `kanal`, one by one.
    Kanal,
    /// Our queue, `send` and `recv`.
    Queue,
    /// Our queue, `send` and `recv_many`.
    QueueRecvMany,
    /// Our queue, `send_many` and `recv_many`.
    QueueSendMany,
    /// tokio's `mpsc`, one by one.
    Tokio,
    /// tokio's `mpsc`, `send` and `recv_many`.
    TokioRecvMany,
}

impl Subject {
    /// All of them, ours first.
    pub const ALL: [Self; 7] = [
        Self::Queue,
        Self::QueueRecvMany,
        Self::QueueSendMany,
        Self::Kanal,
        Self::Tokio,
        Self::TokioRecvMany,
        Self::AsyncChannel,
    ];

    /// Its name in a table.
    pub fn name(self) -> &'static str {
        match self {
            Self::AsyncChannel => "async-channel",
            Self::Kanal => "kanal",
            Self::Queue => "queue",
            Self::QueueRecvMany => "queue, recv_many",
            Self::QueueSendMany => "queue, send_many + recv_many",
            Self::Tokio => "tokio mpsc",
            Self::TokioRecvMany => "tokio mpsc, recv_many",
        }
    }
}

/// Which kind of tokio runtime.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flavour {
    /// `current_thread`.
    CurrentThread,
    /// `multi_thread` with two workers.
    MultiThread,
}

impl Flavour {
    /// Both of them.
    pub const ALL: [Self; 2] = [Self::CurrentThread, Self::MultiThread];

    fn runtime(self) -> std::io::Result<Runtime> {
        match self {
            Self::CurrentThread => Builder::new_current_thread().build(),
            Self::MultiThread => Builder::new_multi_thread().worker_threads(2).build(),
        }
    }
}

/// One measurement.
#[derive(Debug, Clone, Copy)]
pub struct QueueRun {
    /// What was measured.
    pub subject: Subject,
    /// On which runtime.
    pub flavour: Flavour,
    /// Values that went through.
    pub count: u64,
    /// Seconds from the first send to the last value taken.
    pub secs: f64,
    /// Values per second.
    pub rate: f64,
    /// Nanoseconds of processor time per value, over all threads of the runtime; `None` where the system does not tell.
    pub cpu_nanos: Option<f64>,
}

impl fmt::Display for QueueRun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let flavour = match self.flavour {
            Flavour::CurrentThread => "ct",
            Flavour::MultiThread => "mt",
        };
        write!(f, "{:<30} {flavour}  {:>8.1} M/s", self.subject.name(), self.rate / 1e6)?;
        match self.cpu_nanos {
            Some(nanos) => write!(f, "  {nanos:>6.1} ns cpu/value"),
            None => Ok(()),
        }
    }
}

/// Runs every subject on both runtimes, `runs` times each in turn, and returns the median run of each.
///
/// # Errors
/// When a runtime cannot be built, or a task of a run panicked.
pub fn run(work: Work, capacity: usize, count: u64, runs: usize) -> std::io::Result<Vec<QueueRun>> {
    let mut medians = Vec::new();
    for flavour in Flavour::ALL {
        // Turn by turn, so that a change of the machine's mood meets all of them.
        let mut all: Vec<Vec<QueueRun>> = Subject::ALL.map(|_| Vec::new()).into();
        for _ in 0..runs.max(1) {
            for (subject, results) in Subject::ALL.into_iter().zip(&mut all) {
                results.push(run_one(subject, flavour, work, capacity, count)?);
            }
        }
        for mut results in all {
            results.sort_by(|a, b| a.secs.total_cmp(&b.secs));
            medians.push(results[results.len() / 2]);
        }
    }
    Ok(medians)
}

/// Runs one subject once.
///
/// # Errors
/// As [`run`].
pub fn run_one(
    subject: Subject,
    flavour: Flavour,
    work: Work,
    capacity: usize,
    count: u64,
) -> std::io::Result<QueueRun> {
    let each = count / work.producers();
    let count = each * work.producers();
    let before = cpu_time();
    let runtime = flavour.runtime()?;
    let start = Instant::now();
    let taken = runtime.block_on(measure(subject, work.producers(), capacity, each))?;
    let secs = start.elapsed().as_secs_f64();
    // Before the runtime goes: the times of threads that have ended are not to be had.
    let cpu = cpu_time().zip(before).map(|(after, before)| after.saturating_sub(before));
    if taken != count {
        return Err(std::io::Error::other(format!("{}: {taken} of {count} values came", subject.name())));
    }
    let rate = count as f64 / secs;
    let cpu_nanos = cpu.map(|time| time.as_nanos() as f64 / count as f64);
    Ok(QueueRun { subject, flavour, count, secs, rate, cpu_nanos })
}

async fn measure(subject: Subject, producers: u64, capacity: usize, each: u64) -> std::io::Result<u64> {
    macro_rules! one_by_one {
        ($sender:expr, $receiver:expr, $ok:ident) => {{
            let (sender, mut receiver) = ($sender, $receiver);
            for _ in 0..producers {
                let sender = sender.clone();
                tokio::spawn(async move {
                    for value in 0..each {
                        if sender.send(value).await.is_err() {
                            break;
                        }
                    }
                });
            }
            drop(sender);
            tokio::spawn(async move {
                // Some of them need it to be mutable, some do not.
                let receiver = &mut receiver;
                let mut count = 0_u64;
                while receiver.recv().await.$ok() {
                    count += 1;
                }
                count
            })
        }};
    }
    macro_rules! in_runs {
        ($sender:expr, $receiver:expr, $send:expr, $count:expr) => {{
            let (sender, mut receiver) = ($sender, $receiver);
            for _ in 0..producers {
                let sender = sender.clone();
                tokio::spawn(async move { $send(sender).await });
            }
            drop(sender);
            tokio::spawn(async move {
                let mut values: Vec<u64> = Vec::with_capacity(capacity);
                let mut count = 0;
                while let Some(taken) = $count(receiver.recv_many(&mut values, capacity).await) {
                    count += taken as u64;
                    values.clear();
                }
                count
            })
        }};
    }
    let consumer = match subject {
        Subject::AsyncChannel => {
            let (sender, receiver) = async_channel::bounded::<u64>(capacity);
            one_by_one!(sender, receiver, is_ok)
        }
        Subject::Kanal => {
            let (sender, receiver) = kanal::bounded_async::<u64>(capacity);
            one_by_one!(sender, receiver, is_ok)
        }
        Subject::Queue => {
            let (sender, receiver) = bounded::<u64>(capacity).map_err(std::io::Error::other)?;
            one_by_one!(sender, receiver, is_ok)
        }
        Subject::Tokio => {
            let (sender, receiver) = tokio::sync::mpsc::channel::<u64>(capacity);
            one_by_one!(sender, receiver, is_some)
        }
        Subject::QueueRecvMany => {
            let (sender, receiver) = bounded::<u64>(capacity).map_err(std::io::Error::other)?;
            in_runs!(
                sender,
                receiver,
                async |sender: ipc_pipeline::Sender<u64>| {
                    for value in 0..each {
                        if sender.send(value).await.is_err() {
                            break;
                        }
                    }
                },
                Result::ok
            )
        }
        Subject::QueueSendMany => {
            let (sender, receiver) = bounded::<u64>(capacity).map_err(std::io::Error::other)?;
            in_runs!(
                sender,
                receiver,
                async |sender: ipc_pipeline::Sender<u64>| {
                    // A failure shows in the count.
                    sender.send_many(0..each).await.ok();
                },
                Result::ok
            )
        }
        Subject::TokioRecvMany => {
            let (sender, receiver) = tokio::sync::mpsc::channel::<u64>(capacity);
            in_runs!(
                sender,
                receiver,
                async |sender: tokio::sync::mpsc::Sender<u64>| {
                    for value in 0..each {
                        if sender.send(value).await.is_err() {
                            break;
                        }
                    }
                },
                |count| (count > 0).then_some(count)
            )
        }
    };
    consumer.await.map_err(std::io::Error::other)
}

/// Processor time of all threads of this process that are still there.
fn cpu_time() -> Option<Duration> {
    let mut nanos = 0;
    for thread in fs::read_dir("/proc/self/task").ok()? {
        let text = fs::read_to_string(thread.ok()?.path().join("schedstat")).ok()?;
        nanos += text.split_whitespace().next()?.parse::<u64>().ok()?;
    }
    Some(Duration::from_nanos(nanos))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_subject_carries_every_value() {
        for work in [Work::M1, Work::M4] {
            let runs = run(work, 16, 4_000, 1).unwrap();
            assert_eq!(runs.len(), Subject::ALL.len() * Flavour::ALL.len());
            assert!(runs.iter().all(|run| run.count == 4_000 && run.rate > 0.0));
        }
    }
}
