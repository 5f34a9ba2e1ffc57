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

use std::{collections::VecDeque, io::IoSlice};

use bytes::Bytes;
use ipc_transport::{EncodeBuffer, EncodeError};

use super::{HEADER_LEN, Header, Kind, MAX_PAYLOAD, SEGMENT_LEN};

/// Kinds that exist in the log only: places of values that a policy dropped.
const HOLE: u8 = 0x70;
const HOLE_RUN: u8 = 0x71;
const HOLE_RUN_LEN: usize = HEADER_LEN + 8;

/// How many spare segments are kept while values are retained; one when none are.
const MAX_SPARE: usize = 16;

/// Places for so many chunks are kept while nothing is retained.
const IDLE_CHUNKS: usize = 32;

/// A place in the log, always between two values.
#[derive(Debug, Clone, Copy, Default)]
struct Position {
    /// Chunks since the session began.
    chunk: u64,
    /// Bytes into that chunk's stream.
    offset: usize,
    /// The number of the value that begins here.
    number: u64,
    /// Values and bytes before this place, as the receiver counts them.
    values: u64,
    bytes: u64,
    /// The same at the beginning of the chunk; they wrap below zero, as the count may have begun inside it.
    chunk_values: u64,
    chunk_bytes: u64,
}

#[derive(Debug)]
struct Chunk {
    /// Number of its first value.
    first: u64,
    /// How many numbers it covers, dropped ones included.
    numbers: u64,
    /// Values that were not dropped, and the bytes of their frames.
    values: u64,
    bytes: u64,
    holes: bool,
    body: Body,
}

#[derive(Debug)]
enum Body {
    Inline { segment: Box<[u8]>, end: usize },
    Large { headers: Vec<[u8; HEADER_LEN]>, payload: Bytes },
    Skip,
}

impl Chunk {
    fn stream_len(&self) -> usize {
        match &self.body {
            Body::Inline { end, .. } => *end,
            Body::Large { headers, payload } => headers.len() * HEADER_LEN + payload.len(),
            Body::Skip => 0,
        }
    }

    fn next_number(&self) -> u64 {
        self.first + self.numbers
    }

    /// The frame or value at an offset: bytes of stream, numbers, and whether it is a value.
    ///
    /// A place may lie within a run of dropped numbers: then the item is what is left of it.
    fn item(&self, offset: usize, number: u64) -> Item {
        match &self.body {
            Body::Inline { segment, .. } => {
                let header = Header::decode(*segment[offset..].first_chunk().expect("a whole header"));
                let len = header.frame_len();
                match header.kind {
                    HOLE => Item { len, numbers: 1, live: false },
                    HOLE_RUN => {
                        let count = segment[offset + HEADER_LEN..].first_chunk().expect("a whole count");
                        Item { len, numbers: u64::from_le_bytes(*count), live: false }
                    }
                    _ => Item { len, numbers: 1, live: true },
                }
            }
            Body::Large { .. } => Item { len: self.stream_len(), numbers: 1, live: true },
            Body::Skip => Item { len: 0, numbers: self.next_number() - number, live: false },
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct Item {
    len: usize,
    numbers: u64,
    live: bool,
}

/// What a sending end keeps.
#[derive(Debug)]
pub(super) struct Log {
    chunks: VecDeque<Chunk>,
    popped: u64,
    spare: Vec<Box<[u8]>>,
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
        let mut segment = self.spare.pop().unwrap_or_else(|| vec![0; SEGMENT_LEN].into_boxed_slice());
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

    fn recycle(&mut self, segment: Box<[u8]>) {
        if self.spare.len() < MAX_SPARE {
            self.spare.push(segment);
        }
    }

    /// Uses up a number for a value that was dropped before it was accepted.
    pub(super) fn append_hole(&mut self) {
        match self.chunks.back_mut() {
            Some(Chunk { body: Body::Skip, numbers, .. }) => *numbers += 1,
            Some(Chunk { body: Body::Inline { segment, end }, numbers, holes, .. })
                if *end + HOLE_RUN_LEN <= segment.len() =>
            {
                let header = Header { kind: HOLE_RUN, lane: 0, len: 8 }.encode();
                segment[*end..*end + HEADER_LEN].copy_from_slice(&header);
                segment[*end + HEADER_LEN..*end + HOLE_RUN_LEN].copy_from_slice(&1_u64.to_le_bytes());
                *end += HOLE_RUN_LEN;
                *numbers += 1;
                *holes = true;
            }
            _ => {
                self.push_chunk(Body::Skip);
                let chunk = self.chunks.back_mut().expect("a chunk was just pushed");
                chunk.numbers = 1;
                chunk.holes = true;
            }
        }
        self.next += 1;
    }

    /// Drops the oldest value of which no byte was written; `false` if there is none.
    pub(super) fn drop_oldest(&mut self, connected: bool) -> bool {
        let from = if connected { self.untouched.max(self.gate.number) } else { self.untouched };
        let (mut index, mut offset, mut number) = self.drop_hint;
        if index < self.popped {
            (index, offset, number) = (self.popped, 0, self.chunks.front().map_or(self.next, |c| c.first));
        }
        while let Some(chunk) = self.chunks.get((index - self.popped) as usize) {
            if chunk.next_number() <= from || chunk.values == 0 || offset >= chunk.stream_len() {
                (index, offset, number) = (index + 1, 0, chunk.next_number());
                continue;
            }
            // The hint never passes the open chunk, where values may still come.
            self.drop_hint = (index, offset, number);
            let item = chunk.item(offset, number);
            if number < from || !item.live {
                offset += item.len;
                number += item.numbers;
                continue;
            }
            self.make_hole(index, offset, item.len);
            return true;
        }
        false
    }

    fn make_hole(&mut self, index: u64, offset: usize, len: usize) {
        let at = (index - self.popped) as usize;
        let chunk = &mut self.chunks[at];
        chunk.holes = true;
        chunk.values -= 1;
        chunk.bytes -= len as u64;
        self.live_values -= 1;
        self.live_bytes -= len;
        if let Body::Inline { segment, .. } = &mut chunk.body {
            segment[offset + HEADER_LEN - 1] = HOLE;
        }
        let large = matches!(chunk.body, Body::Large { .. });
        if large || at + 1 < self.chunks.len() {
            self.collapse(at);
        }
    }

    /// A chunk of which every value was dropped gives its memory back, unless something of it was written, and
    /// joins the skipped chunk before it.
    fn collapse(&mut self, at: usize) {
        let index = self.popped + at as u64;
        let begun = self.gate.chunk > index
            || [self.gate, self.head].iter().any(|place| place.chunk == index && place.offset > 0);
        let chunk = &mut self.chunks[at];
        if chunk.values > 0 || begun {
            return;
        }
        let numbers = chunk.numbers;
        if let Body::Inline { segment, .. } = std::mem::replace(&mut chunk.body, Body::Skip) {
            self.recycle(segment);
        }
        let joins = at > 0 && self.gate.chunk < index && matches!(self.chunks[at - 1].body, Body::Skip);
        if joins {
            self.chunks[at - 1].numbers += numbers;
            self.chunks.remove(at);
        }
        if self.drop_hint.0 >= index {
            let first = self.chunks.get(at).map_or(self.next, |chunk| chunk.first);
            self.drop_hint = (index, 0, first);
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
                if let Some(Chunk { body: Body::Inline { segment, .. }, .. }) = self.chunks.pop_front() {
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

    /// Lets values go as far as the credit allows; dropped ones stop it.
    pub(super) fn open_gate(&mut self, max_values: u64, max_bytes: u64) {
        let mut gate = self.gate;
        loop {
            if let Some(rolled) = self.roll(gate) {
                gate = rolled;
                continue;
            }
            let Some(chunk) = self.chunk_at(gate) else { break };
            let end = end_of(chunk, gate);
            if !chunk.holes && end.values <= max_values && end.bytes <= max_bytes {
                gate = end;
                continue;
            }
            let item = chunk.item(gate.offset, gate.number);
            if !item.live || gate.values >= max_values || gate.bytes + item.len as u64 > max_bytes {
                break;
            }
            gate = step(gate, item);
        }
        let rolled = gate.chunk != self.gate.chunk;
        self.gate = gate;
        if rolled {
            self.tidy();
        }
    }

    /// Chunks that everything has passed and of which every value was dropped give their memory back, and those
    /// that adjoin become one.
    fn tidy(&mut self) {
        let index = self.gate.chunk;
        let at = (index - self.popped) as usize;
        let passed = self.mark.chunk == index && self.cursor_chunk == index;
        let begun = self.head.chunk + 1 == index && self.head.offset > 0;
        if at == 0 || !passed || begun || self.chunks[at - 1].values > 0 {
            return;
        }
        if let Body::Inline { segment, .. } = std::mem::replace(&mut self.chunks[at - 1].body, Body::Skip) {
            self.recycle(segment);
        }
        if at < 2 || !matches!(self.chunks[at - 2].body, Body::Skip) {
            return;
        }
        self.chunks[at - 2].numbers += self.chunks[at - 1].numbers;
        self.chunks.remove(at - 1);
        self.gate.chunk -= 1;
        self.mark.chunk -= 1;
        self.cursor_chunk -= 1;
        if self.drop_hint.0 >= index {
            self.drop_hint.0 -= 1;
        } else {
            self.drop_hint = (self.gate.chunk, self.gate.offset, self.gate.number);
        }
    }

    /// If everything before it is written, passes over dropped values at the gate and says how many numbers.
    pub(super) fn take_skip(&mut self) -> Option<u64> {
        if !self.written_to_gate() {
            return None;
        }
        let mut count = 0;
        let mut gate = self.gate;
        loop {
            if let Some(rolled) = self.roll(gate) {
                gate = rolled;
                continue;
            }
            let Some(chunk) = self.chunk_at(gate) else { break };
            let item = chunk.item(gate.offset, gate.number);
            if item.live {
                break;
            }
            count += item.numbers;
            gate = step(gate, item);
        }
        if count == 0 {
            return None;
        }
        (self.gate, self.mark) = (gate, gate);
        (self.cursor_chunk, self.cursor_offset) = (gate.chunk, gate.offset);
        self.tidy();
        Some(count)
    }

    /// Bytes that must be written before the next frame begins.
    pub(super) fn frame_rest(&self) -> usize {
        if (self.cursor_chunk, self.cursor_offset) == (self.mark.chunk, self.mark.offset)
            || self.written_to_gate()
        {
            return 0;
        }
        let chunk = &self.chunks[(self.cursor_chunk - self.popped) as usize];
        match &chunk.body {
            Body::Inline { .. } => {
                self.mark.offset + chunk.item(self.mark.offset, self.mark.number).len - self.cursor_offset
            }
            Body::Large { .. } => {
                let whole = HEADER_LEN + MAX_PAYLOAD;
                let into = self.cursor_offset % whole;
                if into == 0 { 0 } else { (whole - into).min(chunk.stream_len() - self.cursor_offset) }
            }
            Body::Skip => 0,
        }
    }

    /// Appends slices of what may be written now, from `skip` bytes after the write position, to at most
    /// `max_bytes`.
    pub(super) fn slices<'a>(
        &'a self,
        mut skip: usize,
        mut max_bytes: usize,
        out: &mut [IoSlice<'a>],
    ) -> usize {
        let (mut index, mut offset) = (self.cursor_chunk, self.cursor_offset);
        let mut count = 0;
        let mut push = |slice: &'a [u8]| {
            let skipped = skip.min(slice.len());
            skip -= skipped;
            let slice = &slice[skipped..];
            let slice = &slice[..slice.len().min(max_bytes)];
            max_bytes -= slice.len();
            if !slice.is_empty() && count < out.len() {
                out[count] = IoSlice::new(slice);
                count += 1;
            }
            max_bytes > 0 && count < out.len()
        };
        while index <= self.gate.chunk {
            let Some(chunk) = self.chunks.get((index - self.popped) as usize) else { break };
            let end = if index == self.gate.chunk { self.gate.offset } else { chunk.stream_len() };
            match &chunk.body {
                Body::Inline { segment, .. } => {
                    if offset < end && !push(&segment[offset..end]) {
                        break;
                    }
                }
                Body::Large { headers, payload } => {
                    if offset < end && !push_pieces(headers, payload, offset, &mut push) {
                        break;
                    }
                }
                Body::Skip => {}
            }
            (index, offset) = (index + 1, 0);
        }
        count
    }

    /// The write position moves on.
    pub(super) fn advance(&mut self, mut count: usize) {
        while count > 0 {
            let chunk = &self.chunks[(self.cursor_chunk - self.popped) as usize];
            let rest = chunk.stream_len() - self.cursor_offset;
            if count < rest || self.cursor_chunk == self.gate.chunk {
                self.cursor_offset += count;
                break;
            }
            count -= rest;
            (self.cursor_chunk, self.cursor_offset) = (self.cursor_chunk + 1, 0);
        }
        if self.written_to_gate() {
            self.mark = self.gate;
            (self.cursor_chunk, self.cursor_offset) = (self.gate.chunk, self.gate.offset);
            return;
        }
        // The socket took a part: find the last value that it took whole.
        while let Some(chunk) = self.chunks.get((self.mark.chunk - self.popped) as usize) {
            if self.mark.chunk < self.cursor_chunk {
                self.mark = next_chunk(end_of(chunk, self.mark));
                continue;
            }
            if self.mark.number >= chunk.next_number() {
                break;
            }
            let after = step(self.mark, chunk.item(self.mark.offset, self.mark.number));
            if after.offset > self.cursor_offset {
                break;
            }
            self.mark = after;
        }
    }

    /// Whether everything up to the gate was written.
    pub(super) fn written_to_gate(&self) -> bool {
        if self.cursor_chunk == self.gate.chunk {
            return self.cursor_offset == self.gate.offset;
        }
        // The write position may stand at the end of the chunk before.
        self.gate.offset == 0
            && self.cursor_chunk + 1 == self.gate.chunk
            && self
                .chunks
                .get((self.cursor_chunk.wrapping_sub(self.popped)) as usize)
                .is_some_and(|chunk| self.cursor_offset == chunk.stream_len())
    }

    /// The size of the value at the gate, if there is one.
    pub(super) fn gated_size(&self) -> Option<usize> {
        let mut gate = self.gate;
        loop {
            if let Some(rolled) = self.roll(gate) {
                gate = rolled;
                continue;
            }
            let item = self.chunk_at(gate)?.item(gate.offset, gate.number);
            if item.live {
                return Some(item.len);
            }
            gate = step(gate, item);
        }
    }

    /// Whether the gate has passed every number.
    pub(super) fn all_gated(&self) -> bool {
        self.gate.number == self.next
    }

    /// Bytes that the gate has not let go yet.
    pub(super) fn waiting_bytes(&self) -> u64 {
        (self.live_bytes as u64).saturating_sub(self.gate.bytes - self.head.bytes)
    }

    /// Bytes that may be written now.
    pub(super) fn writable_bytes(&self) -> u64 {
        self.gate.bytes - self.mark.bytes
    }

    /// Values let go and not released.
    pub(super) fn in_flight_values(&self) -> u64 {
        self.gate.values - self.head.values
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
        let spare = self.spare.len() * SEGMENT_LEN;
        bodies.sum::<usize>() + spare + self.chunks.capacity() * size_of::<Chunk>()
    }

    pub(super) fn live_values(&self) -> usize {
        self.live_values
    }

    pub(super) fn live_bytes(&self) -> usize {
        self.live_bytes
    }
}

/// The position at the end of the chunk that `position` is in.
fn end_of(chunk: &Chunk, position: Position) -> Position {
    Position {
        offset: chunk.stream_len(),
        number: chunk.next_number(),
        values: position.chunk_values.wrapping_add(chunk.values),
        bytes: position.chunk_bytes.wrapping_add(chunk.bytes),
        ..position
    }
}

fn push_pieces<'a>(
    headers: &'a [[u8; HEADER_LEN]],
    payload: &'a Bytes,
    offset: usize,
    push: &mut impl FnMut(&'a [u8]) -> bool,
) -> bool {
    let whole = HEADER_LEN + MAX_PAYLOAD;
    let mut into = offset % whole;
    for (piece, header) in headers.iter().enumerate().skip(offset / whole) {
        let end = payload.len().min((piece + 1) * MAX_PAYLOAD);
        let body = &payload[piece * MAX_PAYLOAD..end];
        if into < HEADER_LEN && !push(&header[into..]) {
            return false;
        }
        let body = &body[into.saturating_sub(HEADER_LEN).min(body.len())..];
        if !body.is_empty() && !push(body) {
            return false;
        }
        into = 0;
    }
    true
}

fn next_chunk(end: Position) -> Position {
    Position { chunk: end.chunk + 1, offset: 0, chunk_values: end.values, chunk_bytes: end.bytes, ..end }
}

fn step(position: Position, item: Item) -> Position {
    Position {
        offset: position.offset + item.len,
        number: position.number + item.numbers,
        values: position.values + u64::from(item.live),
        bytes: position.bytes + if item.live { item.len as u64 } else { 0 },
        ..position
    }
}
