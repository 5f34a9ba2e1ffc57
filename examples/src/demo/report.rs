//! The end of a run: its figures as text for a person and as JSON for a program.

use std::time::Duration;

use serde::Serialize;

use super::{cli::Options, verdict::Verdict};

/// Everything worth telling about a run. The field names are the keys of the JSON line.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Report {
    /// Whether nothing is wrong: the exit status is 0.
    pub(crate) ok: bool,
    /// Chunks accepted by the outgoing ports.
    pub(crate) sent: u64,
    /// Chunks handed to the consumer, each counted once.
    pub(crate) taken: u64,
    /// Accepted and never reported.
    pub(crate) lost: u64,
    /// Reported twice in one life, or again in a later life without the flag.
    pub(crate) duplicated: u64,
    /// Out of order within a source and life.
    pub(crate) reordered: u64,
    /// Reports with the flag.
    pub(crate) redelivered: u64,
    /// How often the producers' links were connected anew.
    pub(crate) reconnects: u64,
    /// SIGKILLs that hit the consumer while accepted chunks were unacked.
    pub(crate) kills: u32,
    /// Payload bytes taken, each chunk counted once.
    pub(crate) bytes: u64,
    /// Files in the input.
    pub(crate) files: u64,
    /// Whether every digest is that of the file on disk.
    pub(crate) sha256_ok: bool,
    /// From the start of the fleet to the end of its last process.
    pub(crate) seconds: f64,
    /// Reports, repetitions counted.
    pub(crate) reports: u64,
    /// Report lines that a kill left unfinished; they do not count as reports.
    pub(crate) torn: u64,
    /// Connections cut on purpose.
    pub(crate) cuts: u64,
    /// Values written to more than one connection.
    pub(crate) resent: u64,
    /// Times that every producer sent the input.
    pub(crate) passes: u32,
    /// Producer processes.
    pub(crate) producers: u16,
    /// Values that each pipeline holds.
    pub(crate) capacity: usize,
    /// `unix` or `tcp`.
    pub(crate) transport: &'static str,
    /// What chose the instants of kills and cuts.
    pub(crate) seed: u64,
}

/// What the launcher counted beside the ledger.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Tally {
    pub(crate) reconnects: u64,
    pub(crate) resent: u64,
    pub(crate) cuts: u64,
    pub(crate) kills: u32,
    pub(crate) torn: u64,
}

impl Report {
    /// Puts the figures together.
    pub(crate) fn new(
        options: &Options,
        seed: u64,
        files: u64,
        passes: u32,
        verdict: &Verdict,
        tally: &Tally,
        took: Duration,
    ) -> Self {
        Self {
            ok: verdict.is_clean(),
            sent: verdict.sent,
            taken: verdict.taken,
            lost: verdict.lost,
            duplicated: verdict.duplicated,
            reordered: verdict.reordered,
            redelivered: verdict.redelivered,
            reconnects: tally.reconnects,
            kills: tally.kills,
            bytes: verdict.bytes,
            files,
            sha256_ok: verdict.sha256_ok(),
            seconds: (took.as_secs_f64() * 1e6).round() / 1e6,
            reports: verdict.reports,
            torn: tally.torn,
            cuts: tally.cuts,
            resent: tally.resent,
            passes,
            producers: options.producers,
            capacity: options.capacity.get(),
            transport: options.transport.name(),
            seed,
        }
    }

    /// The JSON object, on one line.
    pub(crate) fn json(&self) -> String {
        serde_json::to_string(self).expect("numbers, booleans and text are always JSON")
    }

    /// The summary for a person.
    pub(crate) fn text(&self) -> String {
        let Self { sent, taken, files, passes, producers, kills, cuts, reconnects, .. } = self;
        let Self { lost, duplicated, reordered, redelivered, .. } = self;
        let digests = if self.sha256_ok { "every digest matches its file" } else { "DIGESTS DIFFER" };
        let verdict = if self.ok { "OK: nothing was lost" } else { "FAILED" };
        format!(
            "\n  sent         {sent} chunks by {}, {} × {}\n  \
               taken        {taken} chunks, {} in {:.2} s ({}/s)\n  \
               disturbed    {}, {} on purpose, {}\n  \
               redelivered  {redelivered} (flagged)\n  \
               lost {lost} · duplicated {duplicated} · reordered {reordered} · {digests}\n\n{verdict}",
            count(u64::from(*producers), "producer"),
            count(*files, "file"),
            count(u64::from(*passes), "pass"),
            size(self.bytes as f64),
            self.seconds,
            size(self.bytes as f64 / self.seconds.max(1e-6)),
            count(u64::from(*kills), "kill"),
            count(*cuts, "cut"),
            count(*reconnects, "reconnect"),
        )
    }
}

/// `1 file`, `2 files`, `2 passes`.
pub(crate) fn count(number: u64, noun: &str) -> String {
    let ending = match (number, noun.ends_with('s')) {
        (1, _) => "",
        (_, true) => "es",
        (_, false) => "s",
    };
    format!("{number} {noun}{ending}")
}

/// Bytes with a unit that suits their size.
pub(crate) fn size(bytes: f64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = bytes;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < units.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{value:.0} B") } else { format!("{value:.1} {}", units[unit]) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_agree_with_their_numbers() {
        let cases =
            [(0, "kill", "0 kills"), (1, "kill", "1 kill"), (1, "pass", "1 pass"), (2, "pass", "2 passes")];
        for (number, noun, expected) in cases {
            assert_eq!(count(number, noun), expected);
        }
    }

    #[test]
    fn sizes_have_units() {
        for (bytes, expected) in
            [(0.0, "0 B"), (1023.0, "1023 B"), (1536.0, "1.5 KiB"), (1048576.0, "1.0 MiB")]
        {
            assert_eq!(size(bytes), expected);
        }
    }
}
