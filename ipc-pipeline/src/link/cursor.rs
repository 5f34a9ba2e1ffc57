//! The item that a receiving task takes from: where the next value lies, whose turn it is, what to report.

use std::sync::Arc;

use super::{SourceId, delivery::Ack, session::Session};
use crate::protocol::{HEADER_LEN, Header, Kind, Run, Taken};

/// A source's turn: at most so many values or bytes, at least one value.
pub(super) const TURN_VALUES: usize = 32;
const TURN_BYTES: usize = 32 * 1024;

/// The item that is being taken from.
pub(super) struct Cursor {
    pub(super) session: Arc<Session>,
    pub(super) source: SourceId,
    pub(super) run: Run,
    pub(super) number: u64,
    pub(super) taken: Taken,
    /// The session's generation when the run arrived; in a later one its values do not count.
    pub(super) generation: u64,
    pub(super) turn_values: usize,
    pub(super) turn_bytes: usize,
}

/// What a take under the session's lock came to.
pub(super) enum Took {
    /// It had been acked before a recovery: the next one.
    Again,
    /// The run does not count any more.
    Gone,
    /// A value, with what acks it in explicit mode.
    Value(Option<Ack>),
}

impl Cursor {
    pub(super) fn new(session: Arc<Session>, source: SourceId, run: Run, generation: u64) -> Self {
        Self {
            // Of this generation or of a later one, in which nothing is taken from this run.
            taken: session.taken(),
            number: run.first,
            generation,
            session,
            source,
            run,
            turn_values: TURN_VALUES,
            turn_bytes: TURN_BYTES,
        }
    }

    /// Whether the run still counts: it was not taken back or given up meanwhile.
    #[inline]
    pub(super) fn is_current(&self) -> bool {
        self.session.generation() == self.generation
    }

    /// Takes one value; in explicit mode under the lock, so that no recovery comes between.
    pub(super) fn take_acked(&mut self, explicit: bool, bytes: usize) -> Took {
        if !explicit {
            return if self.take(1, bytes) { Took::Value(None) } else { Took::Gone };
        }
        let mut taken = self.taken;
        taken.count(self.number, 1, bytes);
        let Some(acked) = self.session.take_one(self.generation, taken) else { return Took::Gone };
        self.note(1, bytes);
        // It was counted under the lock, whatever has become of the generation since.
        let _ = self.attend();
        if acked {
            return Took::Again;
        }
        Took::Value(Some(Ack { session: self.session.clone(), generation: self.generation }))
    }

    /// Counts values as taken, reports it, and sees to what that makes due; `false` when they came too late.
    ///
    /// Values that came too late must not be handed out: the sender was told that they were not.
    #[inline]
    #[must_use]
    pub(super) fn take(&mut self, values: usize, bytes: usize) -> bool {
        self.note(values, bytes);
        self.session.publish(self.taken);
        self.attend()
    }

    #[inline]
    pub(super) fn note(&mut self, values: usize, bytes: usize) {
        self.number += values as u64;
        self.taken.count(self.number - 1, values, bytes);
        self.turn_bytes = self.turn_bytes.saturating_sub(bytes);
        self.turn_values = if self.turn_bytes == 0 { 0 } else { self.turn_values.saturating_sub(values) };
    }

    #[inline]
    #[must_use]
    pub(super) fn attend(&self) -> bool {
        !self.session.wants_attention(self.taken) || self.session.attend(self.generation, self.taken.number)
    }

    /// Nobody else waits: the same source goes on.
    #[inline]
    pub(super) fn begin_turn(&mut self) {
        (self.turn_values, self.turn_bytes) = (TURN_VALUES, TURN_BYTES);
    }

    /// The place of the next value, if the next frame is one.
    #[inline]
    pub(super) fn next_value(&self) -> Option<(usize, usize)> {
        let rest = &self.run.segment[self.run.start..self.run.end];
        let header = Header::decode(*rest.first_chunk::<HEADER_LEN>()?);
        if header.kind != Kind::Data as u8 {
            return None;
        }
        Some((self.run.start + HEADER_LEN, self.run.start + header.frame_len()))
    }

    /// The places of the next values, as many as one turn and the run have; where they end and their frames' bytes.
    #[inline]
    pub(super) fn spans(&self, spans: &mut [(u32, u32); TURN_VALUES], max: usize) -> (usize, usize, usize) {
        let mut at = self.run.start;
        let mut count = 0;
        while count < max.min(self.turn_values) {
            let rest = &self.run.segment[at..self.run.end];
            let Some(header) = rest.first_chunk::<HEADER_LEN>() else { break };
            let header = Header::decode(*header);
            if header.kind != Kind::Data as u8 {
                break;
            }
            let end = at + header.frame_len();
            spans[count] = ((at + HEADER_LEN) as u32, end as u32);
            at = end;
            count += 1;
            if at - self.run.start >= self.turn_bytes {
                break;
            }
        }
        (count, at, at - self.run.start)
    }
}

impl Taken {
    #[inline]
    pub(super) fn count(&mut self, number: u64, values: usize, bytes: usize) {
        self.number = number;
        self.values += values as u64;
        self.bytes += bytes as u64;
    }
}

impl Run {
    pub(super) fn header(&self) -> Header {
        Header::decode(*self.segment[self.start..self.end].first_chunk().expect("runs hold whole frames"))
    }
}
