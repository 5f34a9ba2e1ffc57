//! The retention log: encoded values, at once the write buffer and what is kept until released.
//!
//! ```text
//!   chunks     [ inline 64 KiB ][ large ][ skip ][ inline 64 KiB .... ]
//!                 ▲          ▲         ▲                        ▲
//!               lowest     cursor     gate                    tail: values are encoded here
//!              (released   (written   (credit and             in place
//!               before it)  so far)    policy let it go)
//! ```
//!
//! Values lie as finished frames, so a chunk goes to the socket as it is, and a resumed link goes back to any
//! value by walking headers. Positions count chunks from the beginning of the session and survive releases.

mod chunk;
mod drops;
mod write;

use std::collections::VecDeque;

use bytes::Bytes;
use ipc_transport::{EncodeBuffer, EncodeError};

use self::chunk::{Body, Chunk, Position, end_of, next_chunk, step};
use super::{HEADER_LEN, Header, Kind, MAX_PAYLOAD, SEGMENT_LEN};

/// How many spare segments are kept while values are retained; one when none are.
const MAX_SPARE: usize = 16;

/// The first segment of a link that has nothing retained, as long as that is enough: 4 KiB, so that a process with many
/// links on which little is said holds little.
const SMALL_SEGMENT_LEN: usize = 4 * 1024;

/// Places for so many chunks are kept while nothing is retained.
const IDLE_CHUNKS: usize = 32;

/// What a sending end keeps.
#[derive(Debug)]
pub(super) struct Log {
    chunks: VecDeque<Chunk>,
    popped: u64,
    spare: Vec<Box<[u8]>>,
    /// Since nothing was retained the last time a small segment was not enough.
    busy: bool,
    next: u64,
    live_values: usize,
    live_bytes: usize,
    /// The oldest number still kept.
    head: Position,
    /// The last value boundary at or before the write position.
    mark: Position,
    /// The write position, in bytes: `mark` and this much into the value there.
    cursor_chunk: u64,
    cursor_offset: usize,
    /// How far may be written now.
    gate: Position,
    /// The first number of which no byte was ever written, the gate of this connection aside.
    untouched: u64,
    /// The first number that was never written whole.
    unwritten: u64,
    /// Where the next droppable value may be.
    drop_hint: (u64, usize, u64),
}

/// Where an accepted value would not go.
pub(super) type Encode<'a> = dyn FnMut(&mut EncodeBuffer<'_>) -> Result<(), EncodeError> + 'a;

impl Log {
    pub(super) fn new(first: u64) -> Self {
        let start = Position { number: first, ..Position::default() };
        Self {
            chunks: VecDeque::new(),
            popped: 0,
            spare: Vec::new(),
            busy: false,
            next: first,
            live_values: 0,
            live_bytes: 0,
            head: start,
            mark: start,
            cursor_chunk: 0,
            cursor_offset: 0,
            gate: start,
            untouched: first,
            unwritten: first,
            drop_hint: (0, 0, first),
        }
    }

    /// Encodes a value in place and gives it its number; nothing is changed by a failure.
    #[inline]
    pub(super) fn append<F>(&mut self, max_message: usize, mut encode: F) -> Result<u64, EncodeError>
    where
        F: FnMut(&mut EncodeBuffer<'_>) -> Result<(), EncodeError>,
    {
        if let Some(Chunk { body: Body::Inline { segment, end }, .. }) = self.chunks.back_mut()
            && let Some(room) = segment.get_mut(*end + HEADER_LEN..)
        {
            let mut out = EncodeBuffer::in_slice(room);
            match encode(&mut out) {
                Ok(()) => {
                    if let Some(payload) = out.take_attached() {
                        return self.append_large(max_message, payload);
                    }
                    let len = out.len();
                    if len > max_message {
                        return Err(EncodeError::TooLarge { len, max: max_message });
                    }
                    return Ok(self.finish_inline(len));
                }
                Err(EncodeError::NoRoom) => {}
                Err(error) => return Err(error),
            }
        }
        self.append_slow(max_message, &mut encode)
    }

    #[inline(always)]
    fn finish_inline(&mut self, len: usize) -> u64 {
        let chunk = self.chunks.back_mut().expect("a chunk was just written to");
        let Body::Inline { segment, end } = &mut chunk.body else { unreachable!("the open chunk is inline") };
        segment[*end..*end + HEADER_LEN].copy_from_slice(&Header::new(Kind::Data, len).encode());
        *end += HEADER_LEN + len;
        chunk.numbers += 1;
        chunk.values += 1;
        chunk.bytes += (HEADER_LEN + len) as u64;
        self.live_values += 1;
        self.live_bytes += HEADER_LEN + len;
        let number = self.next;
        self.next += 1;
        number
    }

    #[cold]
    fn append_slow(&mut self, max_message: usize, encode: &mut Encode<'_>) -> Result<u64, EncodeError> {
        let mut segment = self.fresh_segment(self.chunks.is_empty());
        let mut out = EncodeBuffer::in_slice(&mut segment[HEADER_LEN..]);
        let outcome = encode(&mut out);
        let (len, attached) = (out.len(), out.take_attached());
        match (outcome, attached) {
            (Ok(()), Some(payload)) => {
                self.recycle(segment);
                self.append_large(max_message, payload)
            }
            (Ok(()), None) if len > max_message => {
                self.recycle(segment);
                Err(EncodeError::TooLarge { len, max: max_message })
            }
            (Ok(()), None) => {
                self.push_chunk(Body::Inline { segment, end: 0 });
                Ok(self.finish_inline(len))
            }
            (Err(EncodeError::NoRoom), _) if segment.len() < SEGMENT_LEN => {
                self.recycle(segment);
                self.busy = true;
                self.append_slow(max_message, encode)
            }
            (Err(EncodeError::NoRoom), _) => {
                self.recycle(segment);
                let mut bytes = Vec::new();
                let mut out = EncodeBuffer::growing(&mut bytes, max_message);
                encode(&mut out)?;
                let payload = out.take_attached().unwrap_or_else(|| Bytes::from(bytes));
                self.append_large(max_message, payload)
            }
            (Err(error), _) => {
                self.recycle(segment);
                Err(error)
            }
        }
    }

    #[cold]
    fn append_large(&mut self, max_message: usize, payload: Bytes) -> Result<u64, EncodeError> {
        let len = payload.len();
        if len > max_message {
            return Err(EncodeError::TooLarge { len, max: max_message });
        }
        let pieces = len.div_ceil(MAX_PAYLOAD).max(1);
        let headers: Vec<_> = (1..=pieces)
            .map(|piece| match piece == pieces {
                true => Header::new(Kind::Data, len - (pieces - 1) * MAX_PAYLOAD).encode(),
                false => Header::new(Kind::More, MAX_PAYLOAD).encode(),
            })
            .collect();
        self.push_chunk(Body::Large { headers, payload });
        let chunk = self.chunks.back_mut().expect("a chunk was just pushed");
        let total = chunk.stream_len();
        chunk.numbers = 1;
        chunk.values = 1;
        chunk.bytes = total as u64;
        self.live_values += 1;
        self.live_bytes += total;
        self.next += 1;
        Ok(self.next - 1)
    }

    fn push_chunk(&mut self, body: Body) {
        if !self.chunks.is_empty() {
            self.collapse(self.chunks.len() - 1);
        }
        self.chunks.push_back(Chunk {
            first: self.next,
            numbers: 0,
            values: 0,
            bytes: 0,
            holes: false,
            body,
        });
    }

    fn fresh_segment(&mut self, first: bool) -> Box<[u8]> {
        let small = first && !self.busy;
        let fits = self.spare.iter().rposition(|spare| small || spare.len() == SEGMENT_LEN);
        let len = if small { SMALL_SEGMENT_LEN } else { SEGMENT_LEN };
        fits.map_or_else(|| vec![0; len].into_boxed_slice(), |at| self.spare.swap_remove(at))
    }

    fn recycle(&mut self, segment: Box<[u8]>) {
        if self.spare.len() < MAX_SPARE {
            self.spare.push(segment);
        }
    }

    /// The position at the beginning of the next chunk, if this one ends a chunk to which nothing will be added.
    fn roll(&self, position: Position) -> Option<Position> {
        let at = (position.chunk - self.popped) as usize;
        let chunk = self.chunks.get(at)?;
        let ended = position.number >= chunk.next_number();
        let closed = at + 1 < self.chunks.len();
        (ended && closed).then(|| next_chunk(position))
    }

    fn chunk_at(&self, position: Position) -> Option<&Chunk> {
        let chunk = self.chunks.get((position.chunk - self.popped) as usize)?;
        (position.number < chunk.next_number()).then_some(chunk)
    }

    /// Forgets everything up to `upto`; the caller has checked that it was sent.
    pub(super) fn release(&mut self, upto: u64) {
        while self.head.number <= upto {
            let Some(chunk) = self.chunks.front() else { break };
            if chunk.next_number() <= upto + 1 {
                let end = end_of(chunk, self.head);
                self.live_values -= (end.values - self.head.values) as usize;
                self.live_bytes -= (end.bytes - self.head.bytes) as usize;
                self.head = end;
                if let Some(Chunk { body: Body::Inline { segment, end }, .. }) = self.chunks.pop_front() {
                    self.busy |= end > SMALL_SEGMENT_LEN;
                    self.recycle(segment);
                }
                self.popped += 1;
                self.head = next_chunk(self.head);
            } else {
                if matches!(chunk.body, Body::Skip) {
                    self.head.number = upto + 1;
                    break;
                }
                let item = chunk.item(self.head.offset, self.head.number);
                if item.live {
                    self.live_values -= 1;
                    self.live_bytes -= item.len;
                }
                self.head = step(self.head, item);
            }
        }
        if self.live_values == 0 {
            // What is kept for the next values is what the last ones needed.
            let busy = std::mem::take(&mut self.busy);
            self.spare.retain(|spare| (spare.len() == SEGMENT_LEN) == busy);
            self.spare.truncate(1);
            if self.chunks.capacity() > IDLE_CHUNKS {
                self.chunks.shrink_to(IDLE_CHUNKS);
            }
        }
        for position in [&mut self.mark, &mut self.gate] {
            if position.chunk < self.popped {
                *position = next_chunk(*position);
            }
        }
        if self.cursor_chunk < self.popped {
            (self.cursor_chunk, self.cursor_offset) = (self.popped, 0);
        }
    }

    /// Goes back, or forth, to the value with this number; `restated` begins the receiver's counts at the oldest.
    pub(super) fn resume_at(&mut self, number: u64, restated: bool) {
        if restated {
            self.head.chunk_values = self.head.chunk_values.wrapping_sub(self.head.values);
            self.head.chunk_bytes = self.head.chunk_bytes.wrapping_sub(self.head.bytes);
            (self.head.values, self.head.bytes) = (0, 0);
        }
        let mut position = self.head;
        loop {
            if let Some(rolled) = self.roll(position) {
                position = rolled;
                continue;
            }
            let Some(chunk) = self.chunk_at(position).filter(|_| position.number < number) else { break };
            position = if chunk.next_number() <= number {
                end_of(chunk, position)
            } else if matches!(chunk.body, Body::Skip) {
                // The receiver knows of a part of these numbers.
                Position { number, ..position }
            } else {
                step(position, chunk.item(position.offset, position.number))
            };
        }
        (self.mark, self.gate) = (position, position);
        (self.cursor_chunk, self.cursor_offset) = (position.chunk, position.offset);
    }

    /// Remembers what this connection has written, as nothing more will be.
    pub(super) fn disconnect(&mut self) {
        let begun = (self.cursor_chunk, self.cursor_offset) != (self.mark.chunk, self.mark.offset);
        self.unwritten = self.unwritten.max(self.mark.number);
        self.untouched = self.untouched.max(self.mark.number + u64::from(begun));
        self.gate = self.mark;
        // What credit had let go and nobody wrote may be dropped again.
        self.drop_hint = (self.popped, 0, self.chunks.front().map_or(self.next, |chunk| chunk.first));
    }

    /// Values released since the receiver's counts began.
    pub(super) fn head_values(&self) -> u64 {
        self.head.values
    }

    pub(super) fn next(&self) -> u64 {
        self.next
    }

    pub(super) fn lowest(&self) -> u64 {
        self.head.number
    }

    /// The chunk that the write position is in, to send one checkpoint for each.
    pub(super) fn cursor_chunk(&self) -> u64 {
        self.cursor_chunk
    }

    /// The number of the first value not written whole to this connection.
    pub(super) fn mark_number(&self) -> u64 {
        self.mark.number
    }

    /// The first number never written whole to any connection.
    pub(super) fn unwritten(&self) -> u64 {
        self.unwritten.max(self.mark.number)
    }

    /// Values retained with a number beyond `number`.
    pub(super) fn live_values_beyond(&self, number: u64) -> usize {
        let mut place = self.head;
        let mut count = 0;
        while let Some(chunk) = self.chunks.get((place.chunk - self.popped) as usize) {
            if place.number >= chunk.next_number() {
                place = next_chunk(place);
                continue;
            }
            let item = chunk.item(place.offset, place.number);
            count += usize::from(item.live && place.number > number);
            place = step(place, item);
        }
        count
    }

    /// Bytes of memory held, bookkeeping included.
    pub(super) fn memory(&self) -> usize {
        let bodies = self.chunks.iter().map(|chunk| match &chunk.body {
            Body::Inline { segment, .. } => segment.len(),
            Body::Large { headers, payload } => headers.capacity() * HEADER_LEN + payload.len(),
            Body::Skip => 0,
        });
        let spare: usize = self.spare.iter().map(|spare| spare.len()).sum();
        bodies.sum::<usize>() + spare + self.chunks.capacity() * size_of::<Chunk>()
    }

    pub(super) fn live_values(&self) -> usize {
        self.live_values
    }

    pub(super) fn live_bytes(&self) -> usize {
        self.live_bytes
    }
}
