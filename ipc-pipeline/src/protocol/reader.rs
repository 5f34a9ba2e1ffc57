//! From bytes to runs of whole frames: boundaries and limits are checked here, values are decoded elsewhere.
//!
//! Bytes are read into segments of 64 KiB and handed over as runs of whole frames, in the segment they arrived in.
//! A payload that is large gets a buffer of its own, which grows with what arrives; each read into it may take the
//! next header along, so that a stream of large values costs one read for each.

use super::{Control, HEADER_LEN, Header, Incoming, Kind, MAX_PAYLOAD, ProtocolError};

/// Bytes of a segment: one read, and what small values are encoded into.
pub const SEGMENT_LEN: usize = 64 * 1024;

/// A buffer of [`SEGMENT_LEN`] bytes that runs travel in.
pub type Segment = Box<[u8]>;

/// Payloads from this size on get their own buffer.
const LARGE: usize = 32 * 1024;

/// The first allocation for a payload of unknown size; it doubles from there.
const LARGE_STEP: usize = 256 * 1024;

/// Runs up to this length are copied into a small segment, so that the reader keeps its own: a trickle of small
/// values then holds little memory and moves no segments around.
const SMALL_RUN: usize = 2 * 1024;

/// Bytes of a small segment.
const SMALL_SEGMENT_LEN: usize = 4 * 1024;

/// How many empty segments of each size a reader keeps for the next reads.
const MAX_SPARE: usize = 4;

/// Where the next bytes of a connection go.
#[derive(Debug)]
pub enum Space<'a> {
    /// Into this slice.
    Segment(&'a mut [u8]),
    /// Appended to this vector, at most so many.
    Large {
        /// The payload so far.
        payload: &'a mut Vec<u8>,
        /// Bytes that may be appended.
        limit: usize,
    },
}

/// Whole frames in one segment: values, and the SKIP and FIN frames between them.
#[derive(Debug)]
pub struct Run {
    /// The bytes.
    pub segment: Segment,
    /// Where the first frame begins.
    pub start: usize,
    /// Where the last one ends.
    pub end: usize,
    /// The number of the first value or skipped number in it.
    pub first: u64,
    /// Numbers up to here may have been seen by an earlier incarnation.
    pub maybe_seen_until: u64,
    /// Whether there is anything but values in it.
    pub marks: bool,
}

impl Run {
    /// Drops the frames that the taker passes over and makes one of adjoining SKIPs, so that what needs no credit
    /// holds no memory; says where the last frame begins if it is a SKIP.
    pub(crate) fn condense(&mut self) -> Option<usize> {
        let (mut from, mut to) = (self.start, self.start);
        let mut last_skip = None;
        while from < self.end {
            let header = Header::decode(*self.segment[from..].first_chunk().expect("runs hold whole frames"));
            let frame = from..from + header.frame_len();
            from = frame.end;
            if header.kind == Kind::Skip as u8 && last_skip.is_some_and(|at| self.merge_skip(at, frame.start))
            {
                continue;
            }
            if header.kind == Kind::Skip as u8 || header.kind == Kind::Data as u8 {
                last_skip = (header.kind == Kind::Skip as u8).then_some(to);
                to += frame.len();
                self.segment.copy_within(frame, to - header.frame_len());
            }
        }
        self.end = to;
        last_skip
    }

    fn merge_skip(&mut self, at: usize, other: usize) -> bool {
        let more = self.skip_count(other);
        self.add_to_skip(at, more);
        true
    }

    /// The count of the SKIP that begins here.
    pub(crate) fn skip_count(&self, at: usize) -> u64 {
        u64::from_le_bytes(*self.segment[at + HEADER_LEN..].first_chunk().expect("a SKIP holds its count"))
    }

    /// Adds to the SKIP that begins here.
    pub(crate) fn add_to_skip(&mut self, at: usize, more: u64) {
        let count = self.skip_count(at) + more;
        self.segment[at + HEADER_LEN..at + HEADER_LEN + 8].copy_from_slice(&count.to_le_bytes());
    }

    /// Whether the first frame is a SKIP.
    pub(crate) fn begins_with_skip(&self) -> bool {
        let header = self.segment[self.start..self.end].first_chunk().map(|header| Header::decode(*header));
        header.is_some_and(|header| header.kind == Kind::Skip as u8)
    }
}

/// Bytes of a SKIP frame.
pub(crate) const SKIP_LEN: usize = HEADER_LEN + 8;

/// What a reader hands over.
#[derive(Debug)]
pub enum Arrival {
    /// A value in a buffer of its own.
    Large {
        /// Its number.
        number: u64,
        /// Its encoding.
        payload: Vec<u8>,
        /// Numbers up to here may have been seen by an earlier incarnation.
        maybe_seen_until: u64,
    },
    /// Values in the segment they arrived in.
    Run(Run),
}

#[derive(Debug)]
struct Large {
    payload: Vec<u8>,
    /// Length of the payload at which the current piece ends.
    piece_end: usize,
    /// Whether another piece follows.
    more: bool,
}

/// Cuts the bytes of one connection into frames.
#[derive(Debug, Default)]
pub struct FrameReader {
    segment: Option<Segment>,
    filled: usize,
    parsed: usize,
    run: Option<(usize, u64)>,
    /// Whether something other than a value has come since the run began.
    marks: bool,
    large: Option<Large>,
    /// Whether the last space given out was the large payload's.
    into_large: bool,
    spare: Vec<Segment>,
    small: Vec<Segment>,
}

impl FrameReader {
    /// A reader at the start of a connection.
    pub fn new() -> Self {
        Self::default()
    }

    /// Where the next bytes are to be read into.
    pub fn space(&mut self) -> Space<'_> {
        if let Some(Large { payload, piece_end, .. }) =
            self.large.as_mut().filter(|large| large.payload.len() < large.piece_end)
        {
            let limit = *piece_end + HEADER_LEN - payload.len();
            if payload.len() == payload.capacity() {
                payload.reserve_exact(limit.min(payload.len().max(LARGE_STEP + HEADER_LEN)));
            }
            self.into_large = true;
            return Space::Large { payload, limit };
        }
        self.into_large = false;
        let spare = &mut self.spare;
        let segment = self
            .segment
            .get_or_insert_with(|| spare.pop().unwrap_or_else(|| vec![0; SEGMENT_LEN].into_boxed_slice()));
        Space::Segment(&mut segment[self.filled..])
    }

    /// So many bytes were put where [`space`](Self::space) said; what they complete goes to `arrivals`.
    ///
    /// # Errors
    ///
    /// Any error is final for the connection; values that were whole before it are in `arrivals`.
    pub fn handle_filled(
        &mut self,
        count: usize,
        session: &mut Incoming,
        arrivals: &mut Vec<Arrival>,
    ) -> Result<(), ProtocolError> {
        if std::mem::take(&mut self.into_large) {
            let Some(large) = self.large.as_mut() else { return Ok(()) };
            if large.payload.len() < large.piece_end {
                return Ok(());
            }
            let segment = self.segment.get_or_insert_with(|| vec![0; SEGMENT_LEN].into_boxed_slice());
            let tail = &large.payload[large.piece_end..];
            segment[..tail.len()].copy_from_slice(tail);
            (self.parsed, self.filled) = (0, tail.len());
            large.payload.truncate(large.piece_end);
            self.finish_piece(session, arrivals)?;
        } else {
            self.filled += count;
        }
        let outcome = self.parse(session, arrivals);
        self.hand_over(arrivals, session);
        outcome
    }

    /// Copies bytes in, as a driver's reads would: for tests and for people whose IO gives them slices.
    ///
    /// # Errors
    ///
    /// As [`handle_filled`](Self::handle_filled).
    pub fn handle_bytes(
        &mut self,
        mut bytes: &[u8],
        session: &mut Incoming,
        arrivals: &mut Vec<Arrival>,
    ) -> Result<(), ProtocolError> {
        while !bytes.is_empty() {
            let count = match self.space() {
                Space::Segment(slice) => {
                    let count = slice.len().min(bytes.len());
                    slice[..count].copy_from_slice(&bytes[..count]);
                    count
                }
                Space::Large { payload, limit } => {
                    let count = limit.min(bytes.len());
                    payload.extend_from_slice(&bytes[..count]);
                    count
                }
            };
            bytes = &bytes[count..];
            self.handle_filled(count, session, arrivals)?;
        }
        Ok(())
    }

    /// Gives back a segment that was handed over.
    pub fn recycle(&mut self, segment: Segment) {
        let spare = if segment.len() == SEGMENT_LEN { &mut self.spare } else { &mut self.small };
        if spare.len() < MAX_SPARE {
            spare.push(segment);
        }
    }

    /// Whether it could use an empty segment of this one's size.
    pub fn wants(&self, segment: &Segment) -> bool {
        let spare = if segment.len() == SEGMENT_LEN { &self.spare } else { &self.small };
        spare.is_empty()
    }

    /// Whether a frame has begun and not ended: what the progress deadline watches.
    pub fn is_mid_frame(&self) -> bool {
        self.filled > self.parsed || self.large.is_some()
    }

    /// Nothing is expected soon: gives back the memory that only speed needs.
    pub fn shrink(&mut self) {
        self.spare.clear();
        self.small.truncate(1);
    }

    fn parse(&mut self, session: &mut Incoming, arrivals: &mut Vec<Arrival>) -> Result<(), ProtocolError> {
        let (mut values, mut bytes) = (0_u64, 0_u64);
        let mut counted = self.parsed;
        // A value that is too large takes the way of those with a buffer of their own, where it is refused.
        let most = LARGE.min(session.max_message().saturating_add(HEADER_LEN));
        loop {
            let Some(segment) = &self.segment else { return Ok(()) };
            let rest = &segment[self.parsed..self.filled];
            let Some(header) = rest.first_chunk::<HEADER_LEN>() else { break };
            let header = Header::decode(*header);
            let frame_len = header.frame_len();
            let small = header.kind == Kind::Data as u8 && header.lane == 0 && frame_len <= most;
            if small && self.large.is_none() {
                if rest.len() < frame_len {
                    // What is handed over must be counted, whatever becomes of the value behind it.
                    self.count_values(session, values, bytes, counted)?;
                    return session.check_message(header.len as usize);
                }
                values += 1;
                bytes += frame_len as u64;
                if self.run.is_none() {
                    self.run = Some((self.parsed, session.next_number() + (values - 1)));
                }
                self.parsed += frame_len;
                continue;
            }
            self.count_values(session, values, bytes, counted)?;
            (values, bytes, counted) = (0, 0, self.parsed);
            if header.lane != 0 {
                return Err(ProtocolError::UnknownLane { lane: header.lane });
            }
            match header.kind()? {
                Some(Kind::Data | Kind::More) => {
                    if !self.begin_piece(header, session, arrivals)? {
                        return Ok(());
                    }
                    counted = self.parsed;
                }
                kind => {
                    if frame_len > LARGE {
                        return Err(ProtocolError::FrameTooLarge { len: header.len as usize, max: LARGE });
                    }
                    let segment = self.segment.as_ref().expect("a header was just read from it");
                    let Some(payload) = segment[self.parsed..self.filled].get(HEADER_LEN..frame_len) else {
                        break;
                    };
                    if let Some(kind) = kind {
                        let control = Control::decode(kind, payload)?;
                        let marks = matches!(control, Control::Skip { .. } | Control::Fin);
                        if marks && self.large.is_some() {
                            return Err(ProtocolError::UnexpectedFrame { kind: kind as u8 });
                        }
                        let number = session.next_number();
                        session.handle_control(control)?;
                        if marks && self.run.is_none() {
                            self.run = Some((self.parsed, number));
                        }
                    }
                    self.marks |= self.run.is_some();
                    self.parsed += frame_len;
                    counted = self.parsed;
                }
            }
        }
        self.count_values(session, values, bytes, counted)
    }

    /// Reports values; those beyond the credit are taken out of the run again.
    fn count_values(
        &mut self,
        session: &mut Incoming,
        values: u64,
        bytes: u64,
        counted: usize,
    ) -> Result<(), ProtocolError> {
        session.handle_values(values, bytes).inspect_err(|_| {
            self.parsed = counted;
            self.run.take_if(|(start, _)| *start >= counted);
        })
    }

    /// Begins or continues a value in its own buffer; `false` when more must be read for it.
    fn begin_piece(
        &mut self,
        header: Header,
        session: &mut Incoming,
        arrivals: &mut Vec<Arrival>,
    ) -> Result<bool, ProtocolError> {
        let len = header.len as usize;
        let so_far = self.large.as_ref().map_or(0, |large| large.payload.len());
        session.check_message(so_far + len)?;
        if len > MAX_PAYLOAD {
            return Err(ProtocolError::FrameTooLarge { len, max: MAX_PAYLOAD });
        }
        if self.large.is_none() {
            // The run before it must not wait for a value that may take long.
            self.hand_over_run(arrivals, session);
            let first = if header.kind == Kind::More as u8 { LARGE_STEP } else { len } + HEADER_LEN;
            self.large = Some(Large { payload: Vec::with_capacity(first), piece_end: 0, more: true });
        }
        self.parsed += HEADER_LEN;
        let large = self.large.as_mut().expect("it was just made");
        large.more = header.kind == Kind::More as u8;
        large.piece_end = so_far + len;
        let segment = self.segment.as_ref().expect("a header was just read from it");
        let count = len.min(self.filled - self.parsed);
        large.payload.extend_from_slice(&segment[self.parsed..self.parsed + count]);
        self.parsed += count;
        if count < len {
            (self.parsed, self.filled) = (0, 0);
            return Ok(false);
        }
        self.finish_piece(session, arrivals)?;
        Ok(true)
    }

    fn finish_piece(
        &mut self,
        session: &mut Incoming,
        arrivals: &mut Vec<Arrival>,
    ) -> Result<(), ProtocolError> {
        if let Some(large) = self.large.take_if(|large| !large.more) {
            let number = session.next_number();
            let len = large.payload.len();
            let pieces = len.div_ceil(MAX_PAYLOAD).max(1);
            session.handle_values(1, (len + pieces * HEADER_LEN) as u64)?;
            let maybe_seen_until = session.maybe_seen_until();
            arrivals.push(Arrival::Large { number, payload: large.payload, maybe_seen_until });
        }
        Ok(())
    }

    fn hand_over_run(&mut self, arrivals: &mut Vec<Arrival>, session: &Incoming) {
        let Some((start, first)) = self.run.take() else { return };
        let maybe_seen_until = session.maybe_seen_until();
        let marks = std::mem::take(&mut self.marks);
        let len = self.parsed - start;
        if len <= SMALL_RUN
            && let Some(from) = &self.segment
        {
            let mut segment =
                self.small.pop().unwrap_or_else(|| vec![0; SMALL_SEGMENT_LEN].into_boxed_slice());
            segment[..len].copy_from_slice(&from[start..self.parsed]);
            arrivals.push(Arrival::Run(Run { segment, start: 0, end: len, first, maybe_seen_until, marks }));
            return;
        }
        let mut fresh = self.spare.pop().unwrap_or_else(|| vec![0; SEGMENT_LEN].into_boxed_slice());
        let segment = self.segment.take().expect("the run lies in it");
        let tail = self.filled - self.parsed;
        fresh[..tail].copy_from_slice(&segment[self.parsed..self.filled]);
        let end = self.parsed;
        (self.segment, self.parsed, self.filled) = (Some(fresh), 0, tail);
        arrivals.push(Arrival::Run(Run { segment, start, end, first, maybe_seen_until, marks }));
    }

    fn hand_over(&mut self, arrivals: &mut Vec<Arrival>, session: &Incoming) {
        self.hand_over_run(arrivals, session);
        if self.parsed > 0 {
            if let Some(segment) = &mut self.segment {
                segment.copy_within(self.parsed..self.filled, 0);
            }
            self.filled -= self.parsed;
            self.parsed = 0;
        }
    }
}
