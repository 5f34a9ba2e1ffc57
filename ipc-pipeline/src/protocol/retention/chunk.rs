//! Chunks of the log, and places in it.

use bytes::Bytes;

use super::super::{HEADER_LEN, Header, MAX_PAYLOAD};

/// Kinds that exist in the log only: places of values that a policy dropped.
pub(super) const HOLE: u8 = 0x70;
pub(super) const HOLE_RUN: u8 = 0x71;
pub(super) const HOLE_RUN_LEN: usize = HEADER_LEN + 8;

/// A place in the log, always between two values.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Position {
    /// Chunks since the session began.
    pub(super) chunk: u64,
    /// Bytes into that chunk's stream.
    pub(super) offset: usize,
    /// The number of the value that begins here.
    pub(super) number: u64,
    /// Values and bytes before this place, as the receiver counts them.
    pub(super) values: u64,
    pub(super) bytes: u64,
    /// The same at the beginning of the chunk; they wrap below zero, as the count may have begun inside it.
    pub(super) chunk_values: u64,
    pub(super) chunk_bytes: u64,
}

#[derive(Debug)]
pub(super) struct Chunk {
    /// Number of its first value.
    pub(super) first: u64,
    /// How many numbers it covers, dropped ones included.
    pub(super) numbers: u64,
    /// Values that were not dropped, and the bytes of their frames.
    pub(super) values: u64,
    pub(super) bytes: u64,
    pub(super) holes: bool,
    pub(super) body: Body,
}

#[derive(Debug)]
pub(super) enum Body {
    Inline { segment: Box<[u8]>, end: usize },
    Large { headers: Vec<[u8; HEADER_LEN]>, payload: Bytes },
    Skip,
}

impl Chunk {
    pub(super) fn stream_len(&self) -> usize {
        match &self.body {
            Body::Inline { end, .. } => *end,
            Body::Large { headers, payload } => headers.len() * HEADER_LEN + payload.len(),
            Body::Skip => 0,
        }
    }

    pub(super) fn next_number(&self) -> u64 {
        self.first + self.numbers
    }

    /// The frame or value at an offset: bytes of stream, numbers, and whether it is a value.
    ///
    /// A place may lie within a run of dropped numbers: then the item is what is left of it.
    pub(super) fn item(&self, offset: usize, number: u64) -> Item {
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
pub(super) struct Item {
    pub(super) len: usize,
    pub(super) numbers: u64,
    pub(super) live: bool,
}

/// The position at the end of the chunk that `position` is in.
pub(super) fn end_of(chunk: &Chunk, position: Position) -> Position {
    Position {
        offset: chunk.stream_len(),
        number: chunk.next_number(),
        values: position.chunk_values.wrapping_add(chunk.values),
        bytes: position.chunk_bytes.wrapping_add(chunk.bytes),
        ..position
    }
}

pub(super) fn push_pieces<'a>(
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

pub(super) fn next_chunk(end: Position) -> Position {
    Position { chunk: end.chunk + 1, offset: 0, chunk_values: end.values, chunk_bytes: end.bytes, ..end }
}

pub(super) fn step(position: Position, item: Item) -> Position {
    Position {
        offset: position.offset + item.len,
        number: position.number + item.numbers,
        values: position.values + u64::from(item.live),
        bytes: position.bytes + if item.live { item.len as u64 } else { 0 },
        ..position
    }
}
