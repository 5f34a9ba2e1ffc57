//! From the log to the socket: what may go, what was written, how much waits.

use std::io::IoSlice;

use super::{
    super::{HEADER_LEN, MAX_PAYLOAD},
    Log,
    chunk::{Body, end_of, next_chunk, push_pieces, step},
};

impl Log {
    /// Lets values go as far as the credit allows; dropped ones stop it.
    pub(in crate::protocol) fn open_gate(&mut self, max_values: u64, max_bytes: u64) {
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

    /// If everything before it is written, passes over dropped values at the gate and says how many numbers.
    pub(in crate::protocol) fn take_skip(&mut self) -> Option<u64> {
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
    pub(in crate::protocol) fn frame_rest(&self) -> usize {
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
    pub(in crate::protocol) fn slices<'a>(
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
    pub(in crate::protocol) fn advance(&mut self, mut count: usize) {
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
    pub(in crate::protocol) fn written_to_gate(&self) -> bool {
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
    pub(in crate::protocol) fn gated_size(&self) -> Option<usize> {
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
    pub(in crate::protocol) fn all_gated(&self) -> bool {
        self.gate.number == self.next
    }

    /// Bytes that the gate has not let go yet.
    pub(in crate::protocol) fn waiting_bytes(&self) -> u64 {
        (self.live_bytes as u64).saturating_sub(self.gate.bytes - self.head.bytes)
    }

    /// Bytes that may be written now.
    pub(in crate::protocol) fn writable_bytes(&self) -> u64 {
        self.gate.bytes - self.mark.bytes
    }

    /// Values let go and not released.
    pub(in crate::protocol) fn in_flight_values(&self) -> u64 {
        self.gate.values - self.head.values
    }
}
