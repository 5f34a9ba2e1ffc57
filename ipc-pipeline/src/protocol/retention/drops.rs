//! What a policy drops: only values of which no byte was ever written; their numbers stay as holes.

use super::{
    super::{HEADER_LEN, Header},
    Log,
    chunk::{Body, Chunk, HOLE, HOLE_RUN, HOLE_RUN_LEN},
};

impl Log {
    /// Uses up a number for a value that was dropped before it was accepted.
    pub(in crate::protocol) fn append_hole(&mut self) {
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
    pub(in crate::protocol) fn drop_oldest(&mut self, connected: bool) -> bool {
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
    pub(super) fn collapse(&mut self, at: usize) {
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

    /// Chunks that everything has passed and of which every value was dropped give their memory back, and those
    /// that adjoin become one.
    pub(super) fn tidy(&mut self) {
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
}
