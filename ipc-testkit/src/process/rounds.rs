//! How often to repeat a scenario, and with which seeds.

use std::env;

/// The rounds of a scenario, as many as `IPC_STRESS` says, each with a seed of its own.
///
/// Without the variable, or with `ci`, there are `ci` rounds; with `full` there are `full`, and with a number that many. The
/// first seed is that of `IPC_SEED`, or random; the next ones count up from it. The first seed is printed, and a round
/// that panics prints its own and how to run it alone.
///
/// # Panics
///
/// When one of the variables is none of these.
///
/// # Examples
///
/// ```
/// for seed in ipc_testkit::process::rounds(3, 1000) {
///     let mut rng = fastrand::Rng::with_seed(seed);
///     assert!(rng.u8(..10) < 10);
/// }
/// ```
pub fn rounds(ci: u64, full: u64) -> Rounds {
    let count = repetitions(ci, full);
    let first = seed_from_environment().unwrap_or_else(|| fastrand::u64(..));
    #[expect(clippy::print_stdout, reason = "the harness shows it when the test fails")]
    {
        println!("{count} rounds from seed {first}");
    }
    Rounds { next: first, left: count, running: None }
}

/// How often to repeat something that has no seed, or how much of it to do: as many times as `IPC_STRESS` says.
///
/// Without the variable, or with `ci`, it is `ci`; with `full` it is `full`, and with a number that number.
///
/// # Panics
///
/// When the variable is none of these.
///
/// # Examples
///
/// ```
/// assert!(ipc_testkit::process::repetitions(100, 1_000) > 0);
/// ```
pub fn repetitions(ci: u64, full: u64) -> u64 {
    match env::var("IPC_STRESS").as_deref() {
        Err(_) | Ok("" | "ci") => ci,
        Ok("full") => full,
        Ok(number) => number.parse().expect("IPC_STRESS is ci, full or a number"),
    }
}

/// What `IPC_SEED` says, if anything.
///
/// # Panics
///
/// When it is not a number.
pub(crate) fn seed_from_environment() -> Option<u64> {
    match env::var("IPC_SEED").as_deref() {
        Err(_) | Ok("") => None,
        Ok(seed) => Some(seed.parse().expect("IPC_SEED is a number")),
    }
}

/// An iterator over the seeds of the rounds; see [`rounds`].
#[derive(Debug)]
pub struct Rounds {
    next: u64,
    left: u64,
    running: Option<u64>,
}

impl Iterator for Rounds {
    type Item = u64;

    fn next(&mut self) -> Option<u64> {
        self.running = None;
        self.left = self.left.checked_sub(1)?;
        let seed = self.next;
        self.next = seed.wrapping_add(1);
        self.running = Some(seed);
        self.running
    }
}

impl Drop for Rounds {
    fn drop(&mut self) {
        if let Some(seed) = self.running.filter(|_| std::thread::panicking()) {
            #[expect(clippy::print_stderr, reason = "the test is failing, and this is how to reproduce it")]
            {
                eprintln!(
                    "the round with seed {seed} failed; run it alone with IPC_STRESS=1 IPC_SEED={seed}"
                );
            }
        }
    }
}
