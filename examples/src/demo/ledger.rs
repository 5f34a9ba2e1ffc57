//! The ledger: what was accepted against what was reported, across the consumer's lives.
//!
//! *Lost* is accepted and never reported; *duplicated* is reported twice in one life, or again in a later life
//! without the flag; *reordered* is out of order within a source and life. Besides these, a report must speak of a
//! chunk that exists and was accepted, and every finished pass must have been accepted whole.

use std::sync::Arc;

use super::{input::Manifest, lines::Facts, verdict::Verdict};

/// The books of one run.
#[derive(Debug)]
pub(crate) struct Ledger {
    manifest: Arc<Manifest>,
    sources: Vec<Source>,
    counts: Verdict,
    /// The first few violations in words.
    remarks: Vec<String>,
}

/// What one producer sent. Chunks are numbered through all passes, so the order of numbers is the order of sending.
#[derive(Debug, Default)]
struct Source {
    entries: Vec<Entry>,
    /// Everything below is accepted and reported.
    floor: usize,
    /// The life of the latest report, and the highest number reported in it.
    latest: Option<(u32, usize)>,
    passes: u32,
}

#[derive(Debug, Clone, Copy, Default)]
struct Entry {
    accepted: bool,
    /// The life that reported it last; 0 for none.
    life: u32,
}

/// One chunk of one source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ChunkId {
    source: usize,
    number: usize,
}

impl Ledger {
    /// Empty books for so many producers.
    pub(crate) fn new(manifest: Arc<Manifest>, sources: usize) -> Self {
        let sources = (0..sources).map(|_| Source::default()).collect();
        Self { manifest, sources, counts: Verdict::default(), remarks: Vec::new() }
    }

    /// A producer says that this chunk was accepted.
    pub(crate) fn accepted(&mut self, chunk: &Facts) {
        let Some(id) = self.locate(chunk) else { return };
        let entry = self.entry(id);
        if entry.accepted {
            self.counts.miscounted += 1;
            self.remark("accepted twice", chunk);
            return;
        }
        entry.accepted = true;
        self.counts.sent += 1;
        self.sources[id.source].advance();
    }

    /// A producer says that it sent the input once more to its end.
    pub(crate) fn passed(&mut self, source: u16, pass: u32) {
        if let Some(source) = self.sources.get_mut(usize::from(source)) {
            source.passes = source.passes.max(pass);
        }
    }

    /// The consumer, in this life (from 1), says that it was handed this chunk.
    pub(crate) fn reported(&mut self, life: u32, chunk: &Facts, redelivered: bool) {
        self.counts.reports += 1;
        self.counts.redelivered += u64::from(redelivered);
        let Some(id) = self.locate(chunk) else { return };
        let before = std::mem::replace(&mut self.entry(id).life, life);
        if before == 0 {
            self.counts.taken += 1;
            self.counts.bytes += u64::from(chunk.length);
        } else if before == life || !redelivered {
            self.counts.duplicated += 1;
            self.remark("duplicated", chunk);
        }
        let source = &mut self.sources[id.source];
        let highest = source.latest.filter(|&(of, _)| of == life).map(|(_, number)| number);
        source.latest = Some((life, id.number.max(highest.unwrap_or(0))));
        source.advance();
        if before != life && highest.is_some_and(|highest| id.number < highest) {
            self.counts.reordered += 1;
            self.remark("reordered", chunk);
        }
    }

    /// The chunks accepted and not yet reported.
    pub(crate) fn outstanding(&self) -> Vec<ChunkId> {
        let mut open = Vec::new();
        for (index, source) in self.sources.iter().enumerate() {
            let rest = source.entries.iter().enumerate().skip(source.floor);
            let lacking = rest.filter(|(_, entry)| entry.accepted && entry.life == 0);
            open.extend(lacking.map(|(number, _)| ChunkId { source: index, number }));
        }
        open
    }

    /// Whether a chunk has been reported.
    pub(crate) fn is_reported(&self, id: ChunkId) -> bool {
        self.sources[id.source].entries[id.number].life != 0
    }

    /// The first violations in words.
    pub(crate) fn remarks(&self) -> &[String] {
        &self.remarks
    }

    /// How many passes every producer has finished at least.
    pub(crate) fn passes(&self) -> u32 {
        self.sources.iter().map(|source| source.passes).min().unwrap_or(0)
    }

    /// Closes the books: everything that is ever to arrive has arrived.
    pub(crate) fn close(&mut self) -> Verdict {
        let mut counts = self.counts;
        for source in &self.sources {
            let entries = || source.entries.iter();
            counts.lost += entries().filter(|entry| entry.accepted && entry.life == 0).count() as u64;
            counts.unaccepted += entries().filter(|entry| !entry.accepted && entry.life != 0).count() as u64;
            let accepted = entries().filter(|entry| entry.accepted).count() as u64;
            counts.miscounted += accepted.abs_diff(u64::from(source.passes) * self.manifest.chunks());
        }
        counts
    }

    /// The chunk's entry, after checking that the input has it, with this digest.
    fn locate(&mut self, chunk: &Facts) -> Option<ChunkId> {
        let Some(id) = self.number(chunk) else {
            self.counts.unknown += 1;
            self.remark("not in the input", chunk);
            return None;
        };
        if !self.manifest.matches(chunk) {
            self.counts.mismatched += 1;
            self.remark("digest differs from the file", chunk);
        }
        Some(id)
    }

    fn number(&self, chunk: &Facts) -> Option<ChunkId> {
        let index = usize::from(chunk.source);
        let source = self.sources.get(index)?;
        let position = self.manifest.position(chunk)?;
        let earlier = u64::from(chunk.pass).checked_sub(1)? * self.manifest.chunks();
        let number = usize::try_from(earlier + position).ok()?;
        (number < source.entries.len() + MAX_AHEAD).then_some(ChunkId { source: index, number })
    }

    fn entry(&mut self, id: ChunkId) -> &mut Entry {
        let entries = &mut self.sources[id.source].entries;
        if entries.len() <= id.number {
            entries.resize(id.number + 1, Entry::default());
        }
        &mut entries[id.number]
    }

    fn remark(&mut self, what: &str, chunk: &Facts) {
        if self.remarks.len() < MAX_REMARKS {
            let Facts { source, pass, file, offset, length, .. } = chunk;
            self.remarks.push(format!(
                "{what}: producer {}, pass {pass}, file {file}, offset {offset}, {length} bytes",
                u32::from(*source) + 1
            ));
        }
    }
}

impl Source {
    fn advance(&mut self) {
        let done = |entry: &Entry| entry.accepted && entry.life != 0;
        while self.entries.get(self.floor).is_some_and(done) {
            self.floor += 1;
        }
    }
}

/// How far a line may run ahead of everything known, chunks: a nonsensical number must not claim memory.
const MAX_AHEAD: usize = 1 << 22;

/// How many violations are kept in words; the rest are only counted.
const MAX_REMARKS: usize = 10;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        demo::{input::Tree, lines::Digest},
        directory::RunDirectory,
    };

    const CONTENT: &[u8] = b"aaaabbbbccccdd";

    /// Books over one file of four chunks.
    fn ledger(sources: usize) -> Ledger {
        let directory = RunDirectory::create("ipc-demo").unwrap();
        std::fs::write(directory.path().join("file"), CONTENT).unwrap();
        let tree = Tree::find(Some(directory.path())).unwrap();
        Ledger::new(Arc::new(Manifest::read(&tree, 4).unwrap()), sources)
    }

    /// Chunk `number` (from 0, through all passes) of source 0.
    fn chunk(number: u32) -> Facts {
        let offset = (number % 4) as usize * 4;
        let bytes = &CONTENT[offset..CONTENT.len().min(offset + 4)];
        let length = u32::try_from(bytes.len()).unwrap();
        let sha256 = Digest::of(bytes);
        Facts { source: 0, pass: number / 4 + 1, file: 0, offset: offset as u64, length, sha256 }
    }

    /// A ledger in which one whole pass was accepted.
    fn one_pass() -> Ledger {
        let mut ledger = ledger(1);
        (0..4).for_each(|number| ledger.accepted(&chunk(number)));
        ledger.passed(0, 1);
        ledger
    }

    fn report(ledger: &mut Ledger, life: u32, numbers: &[u32], redelivered: bool) {
        numbers.iter().for_each(|&number| ledger.reported(life, &chunk(number), redelivered));
    }

    #[test]
    fn everything_reported_once_in_order_is_clean() {
        let mut ledger = one_pass();
        report(&mut ledger, 1, &[0, 1, 2, 3], false);
        let verdict = ledger.close();
        assert!(verdict.is_clean(), "{verdict:?}");
        assert_eq!((verdict.sent, verdict.taken, verdict.bytes, verdict.redelivered), (4, 4, 14, 0));
        assert!(ledger.remarks().is_empty());
    }

    #[test]
    fn a_report_may_be_read_before_its_acceptance() {
        let mut ledger = ledger(1);
        report(&mut ledger, 1, &[0, 1, 2, 3], false);
        assert_eq!(ledger.close().unaccepted, 4);
        (0..4).for_each(|number| ledger.accepted(&chunk(number)));
        ledger.passed(0, 1);
        assert!(ledger.close().is_clean());
    }

    #[test]
    fn accepted_and_never_reported_is_lost() {
        let mut ledger = one_pass();
        report(&mut ledger, 1, &[0, 1, 3], false);
        let verdict = ledger.close();
        assert_eq!((verdict.lost, verdict.duplicated, verdict.reordered), (1, 0, 0));
        assert!(!verdict.is_clean());
    }

    #[test]
    fn reported_twice_in_one_life_is_duplicated_whatever_the_flag() {
        for flag in [false, true] {
            let mut ledger = one_pass();
            report(&mut ledger, 1, &[0, 1], false);
            report(&mut ledger, 1, &[1], flag);
            report(&mut ledger, 1, &[2, 3], false);
            let verdict = ledger.close();
            assert_eq!((verdict.lost, verdict.duplicated, verdict.reordered), (0, 1, 0));
            assert!(!verdict.is_clean());
            assert_eq!(ledger.remarks().len(), 1);
        }
    }

    #[test]
    fn reported_again_in_a_later_life_without_the_flag_is_duplicated() {
        let mut ledger = one_pass();
        report(&mut ledger, 1, &[0, 1], false);
        report(&mut ledger, 2, &[1, 2, 3], false);
        let verdict = ledger.close();
        assert_eq!((verdict.duplicated, verdict.taken, verdict.reports), (1, 4, 5));
        assert!(!verdict.is_clean());
    }

    #[test]
    fn reported_again_in_a_later_life_with_the_flag_is_redelivered() {
        let mut ledger = one_pass();
        report(&mut ledger, 1, &[0, 1], false);
        report(&mut ledger, 2, &[1], true);
        report(&mut ledger, 3, &[1, 2, 3], true);
        let verdict = ledger.close();
        assert!(verdict.is_clean(), "{verdict:?}");
        assert_eq!((verdict.redelivered, verdict.taken, verdict.reports), (4, 4, 6));
    }

    #[test]
    fn out_of_order_within_a_life_is_reordered() {
        let mut ledger = one_pass();
        report(&mut ledger, 1, &[0, 2, 1, 3], false);
        let verdict = ledger.close();
        assert_eq!((verdict.lost, verdict.duplicated, verdict.reordered), (0, 0, 1));
        assert!(!verdict.is_clean());
    }

    #[test]
    fn a_later_life_starts_its_order_anew() {
        let mut ledger = one_pass();
        report(&mut ledger, 1, &[0, 1, 2, 3], false);
        report(&mut ledger, 2, &[0, 1, 2, 3], true);
        assert!(ledger.close().is_clean());
    }

    #[test]
    fn order_is_kept_across_passes() {
        let mut ledger = one_pass();
        (4..8).for_each(|number| ledger.accepted(&chunk(number)));
        ledger.passed(0, 2);
        report(&mut ledger, 1, &[0, 1, 2, 4, 3, 5, 6, 7], false);
        assert_eq!(ledger.close().reordered, 1);
    }

    #[test]
    fn sources_have_their_own_order() {
        let mut ledger = ledger(2);
        for number in 0..4 {
            for source in 0..2 {
                ledger.accepted(&Facts { source, ..chunk(number) });
            }
        }
        ledger.passed(0, 1);
        ledger.passed(1, 1);
        for (source, number) in [(0, 0), (0, 1), (1, 0), (0, 2), (1, 1), (1, 2), (1, 3), (0, 3)] {
            ledger.reported(1, &Facts { source, ..chunk(number) }, false);
        }
        assert!(ledger.close().is_clean());
    }

    #[test]
    fn a_wrong_digest_is_found_on_either_side() {
        let wrong = Facts { sha256: Digest::of(b"other"), ..chunk(1) };
        let mut reported = one_pass();
        report(&mut reported, 1, &[0], false);
        reported.reported(1, &wrong, false);
        report(&mut reported, 1, &[2, 3], false);
        let mut sent = ledger(1);
        sent.accepted(&wrong);
        for mut ledger in [reported, sent] {
            let verdict = ledger.close();
            assert_eq!(verdict.mismatched, 1);
            assert!(!verdict.sha256_ok() && !verdict.is_clean());
        }
    }

    #[test]
    fn chunks_that_do_not_exist_are_found() {
        let strangers = [
            Facts { source: 7, ..chunk(0) },
            Facts { pass: 0, ..chunk(0) },
            Facts { file: 1, ..chunk(0) },
            Facts { offset: 2, ..chunk(0) },
            Facts { length: 3, ..chunk(0) },
            Facts { pass: u32::MAX, ..chunk(0) },
        ];
        for stranger in strangers {
            let mut ledger = one_pass();
            report(&mut ledger, 1, &[0, 1, 2, 3], false);
            ledger.reported(1, &stranger, false);
            let verdict = ledger.close();
            assert_eq!(verdict.unknown, 1, "{stranger:?}");
            assert!(!verdict.is_clean());
        }
    }

    #[test]
    fn a_report_without_an_acceptance_is_found() {
        let mut ledger = one_pass();
        report(&mut ledger, 1, &[0, 1, 2, 3, 4], false);
        let verdict = ledger.close();
        assert_eq!(verdict.unaccepted, 1);
        assert!(!verdict.is_clean());
    }

    #[test]
    fn a_pass_that_skips_a_chunk_is_found() {
        let mut ledger = ledger(1);
        [0, 1, 3].iter().for_each(|&number| ledger.accepted(&chunk(number)));
        ledger.passed(0, 1);
        report(&mut ledger, 1, &[0, 1, 3], false);
        let verdict = ledger.close();
        assert_eq!(verdict.miscounted, 1);
        assert!(!verdict.is_clean());
    }

    #[test]
    fn outstanding_is_what_a_kill_may_hit() {
        let mut ledger = one_pass();
        report(&mut ledger, 1, &[0, 2], false);
        let open = ledger.outstanding();
        assert_eq!(open.iter().map(|id| id.number).collect::<Vec<_>>(), [1, 3]);
        assert!(!ledger.is_reported(open[0]));
        report(&mut ledger, 2, &[1, 3], false);
        assert!(ledger.is_reported(open[0]) && ledger.outstanding().is_empty());
    }
}
