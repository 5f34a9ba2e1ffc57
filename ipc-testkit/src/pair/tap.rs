//! A look at the bytes that the sender writes: which values were begun, and which were written whole.

use std::collections::BTreeSet;

use ipc_pipeline::protocol::{Control, HEADER_LEN, Header, Kind};

/// Reads one connection's bytes as they are written.
#[derive(Debug, Default)]
pub(super) struct Tap {
    partial: Vec<u8>,
    next: u64,
}

/// What was written of one session, to any connection.
#[derive(Debug, Default)]
pub(super) struct Written {
    /// Values of which at least one byte was written.
    pub(super) begun: BTreeSet<u64>,
    /// The highest number of a value that was written whole; 0 if none was.
    pub(super) whole: u64,
}

impl Tap {
    /// Takes bytes in; a frame is understood as far as it has come.
    pub(super) fn write(&mut self, bytes: &[u8], written: &mut Written) {
        self.partial.extend_from_slice(bytes);
        let mut at = 0;
        while let Some(rest) = self.partial.get(at..).filter(|rest| !rest.is_empty()) {
            let whole = rest.first_chunk::<HEADER_LEN>().map(|header| Header::decode(*header));
            let Some(header) = whole else {
                // The last byte of a header says what it is: until it comes, it may be a value's.
                break;
            };
            let Ok(Some(kind)) = header.kind() else { break };
            if matches!(kind, Kind::Data | Kind::More) {
                written.begun.insert(self.next);
            }
            let Some(payload) = rest.get(HEADER_LEN..header.frame_len()) else { break };
            match kind {
                Kind::Data => {
                    written.whole = written.whole.max(self.next);
                    self.next += 1;
                }
                Kind::More => {}
                _ => match Control::decode(kind, payload) {
                    Ok(Control::Resume { first, .. }) => self.next = first,
                    Ok(Control::Skip { count }) => self.next += count,
                    _ => {}
                },
            }
            at += header.frame_len();
        }
        self.partial.drain(..at);
    }
}
