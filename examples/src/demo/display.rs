//! What a person sees: progress lines on a terminal, plain lines elsewhere, events as they happen.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "this room is the program's voice; everything else speaks through it"
)]

use std::{
    error::Error as _,
    io::{IsTerminal as _, Write as _},
    time::{Duration, Instant},
};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::{
    failure::Failure,
    report::{Report, size},
};

/// Where events and progress go.
#[derive(Debug)]
pub(crate) struct Display {
    started: Instant,
    bars: Option<Bars>,
}

#[derive(Debug)]
struct Bars {
    all: MultiProgress,
    producers: Vec<ProgressBar>,
    consumer: ProgressBar,
}

/// A producer, as its progress line shows it.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct ProducerView {
    /// Which repetition of the input is being sent.
    pub(crate) pass: u32,
    /// Chunks of this pass that were accepted.
    pub(crate) chunks: u64,
    /// Bytes accepted per second, over the last moments.
    pub(crate) rate: f64,
    /// Values in the pipeline.
    pub(crate) pending: u64,
    /// Whether the link is connected.
    pub(crate) linked: bool,
}

/// The consumer, as its line shows it.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct ConsumerView {
    /// Which life it is in.
    pub(crate) life: u32,
    /// Its process.
    pub(crate) pid: u32,
    /// Whether it has been killed and is not back yet.
    pub(crate) dead: bool,
    /// Reports of all lives.
    pub(crate) reports: u64,
    /// Reports with the flag.
    pub(crate) redelivered: u64,
}

impl Display {
    /// Progress lines if standard output is a terminal, else plain lines.
    pub(crate) fn new(producers: u16, chunks: u64) -> Self {
        let bars = std::io::stdout().is_terminal().then(|| Bars::new(producers, chunks));
        Self { started: Instant::now(), bars }
    }

    /// Something worth a line of its own happened.
    pub(crate) fn event(&self, text: &str) {
        let line = format!("[{:8.3} s] {text}", self.started.elapsed().as_secs_f64());
        match &self.bars {
            // A terminal that went away does not stop the run.
            Some(bars) => drop(bars.all.println(line)),
            None => say(&line),
        }
    }

    /// Whether [`Display::refresh`] shows anything.
    pub(crate) fn is_live(&self) -> bool {
        self.bars.is_some()
    }

    /// Draws the progress lines anew.
    pub(crate) fn refresh(&self, producers: &[ProducerView], consumer: &ConsumerView, capacity: usize) {
        let Some(bars) = &self.bars else { return };
        for (bar, view) in bars.producers.iter().zip(producers) {
            bar.set_position(view.chunks);
            bar.set_message(format!(
                "pass {:<3} {:>10}/s  buffer {} {:>3}/{capacity} {}",
                view.pass,
                size(view.rate),
                gauge(view.pending, capacity as u64),
                view.pending,
                if view.linked { "" } else { " no connection" },
            ));
        }
        let ConsumerView { life, pid, dead, reports, redelivered } = consumer;
        let state = if *dead { "killed, starting again".to_owned() } else { format!("process {pid}") };
        bars.consumer.set_message(format!(
            "life {life}, {state}, {reports} reports, {redelivered} of them redelivered"
        ));
    }

    /// Takes the progress lines away and shows the end.
    pub(crate) fn finish(&self, report: &Report, remarks: &[String], json: bool) {
        if let Some(bars) = &self.bars {
            bars.clear();
        }
        for remark in remarks {
            say(&format!("! {remark}"));
        }
        say(&report.text());
        if json {
            say(&report.json());
        }
    }
}

impl Bars {
    fn new(producers: u16, chunks: u64) -> Self {
        let all = MultiProgress::with_draw_target(ProgressDrawTarget::stdout());
        let style = ProgressStyle::with_template("{prefix:<11} {bar:24.cyan/blue} {wide_msg}")
            .expect("the template is well-formed")
            .progress_chars("█▉▊▋▌▍▎▏ ");
        let producers = (1..=producers)
            .map(|number| {
                let bar = ProgressBar::new(chunks).with_style(style.clone());
                all.add(bar).with_prefix(format!("producer {number}"))
            })
            .collect();
        let style =
            ProgressStyle::with_template("{prefix:<11} {wide_msg}").expect("the template is well-formed");
        let consumer = all.add(ProgressBar::new_spinner().with_style(style)).with_prefix("consumer");
        Self { all, producers, consumer }
    }

    fn clear(&self) {
        self.producers.iter().chain([&self.consumer]).for_each(ProgressBar::finish_and_clear);
    }
}

impl Drop for Bars {
    fn drop(&mut self) {
        self.clear();
    }
}

/// How full a buffer is, in eight steps.
fn gauge(pending: u64, capacity: u64) -> char {
    const STEPS: [char; 9] = ['·', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let step = (pending * 8).div_ceil(capacity.max(1)).min(8);
    STEPS[usize::try_from(step).expect("at most 8")]
}

/// Tells why the program ends without a verdict, with every cause.
pub(crate) fn complain(failure: &Failure) {
    let mut text = format!("ipc-demo: {failure}");
    let mut cause = failure.source();
    while let Some(error) = cause {
        text += &format!(": {error}");
        cause = error.source();
    }
    // Nobody is left to tell when standard error is closed.
    drop(writeln!(std::io::stderr(), "{text}"));
}

/// Prints a line; a closed standard output is not a reason to panic, the exit status still tells.
fn say(line: &str) {
    drop(writeln!(std::io::stdout(), "{line}"));
}

/// Bytes per second over the last moments.
#[derive(Debug)]
pub(crate) struct Rate {
    since: Instant,
    bytes: u64,
    rate: f64,
}

impl Rate {
    /// Nothing yet.
    pub(crate) fn new() -> Self {
        Self { since: Instant::now(), bytes: 0, rate: 0.0 }
    }

    /// So much more.
    pub(crate) fn add(&mut self, bytes: u64) {
        self.bytes += bytes;
    }

    /// The rate now; a new window begins when the old one is long enough.
    pub(crate) fn now(&mut self) -> f64 {
        let window = self.since.elapsed();
        if window >= WINDOW {
            self.rate = self.bytes as f64 / window.as_secs_f64();
            *self = Self { since: Instant::now(), bytes: 0, rate: self.rate };
        }
        self.rate
    }
}

/// Long enough to be steady, short enough to show a kill.
const WINDOW: Duration = Duration::from_millis(200);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gauge_is_empty_only_when_nothing_is_pending() {
        assert_eq!(gauge(0, 64), '·');
        assert_eq!(gauge(1, 64), '▁');
        assert_eq!(gauge(64, 64), '█');
        assert_eq!(gauge(9, 1), '█');
    }
}
