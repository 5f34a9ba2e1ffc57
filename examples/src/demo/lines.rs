//! What travels: the chunk through the ports, and the lines that children write to the launcher's pipes.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// One piece of one file, on one pass of one producer.
///
/// The payload is [`Bytes`], which serde handles as one byte string instead of a sequence of numbers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Chunk {
    /// Which producer, from 0.
    pub(crate) source: u16,
    /// Which repetition of the input, from 1.
    pub(crate) pass: u32,
    /// The file's place in the list of the input, from 0.
    pub(crate) file: u32,
    /// Where the chunk starts in the file, bytes.
    pub(crate) offset: u64,
    /// The bytes themselves; empty for an empty file.
    pub(crate) payload: Bytes,
}

/// A chunk without its bytes, as it stands in the lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Facts {
    /// Which producer, from 0.
    pub(crate) source: u16,
    /// Which repetition of the input, from 1.
    pub(crate) pass: u32,
    /// The file's place in the list of the input, from 0.
    pub(crate) file: u32,
    /// Where the chunk starts in the file, bytes.
    pub(crate) offset: u64,
    /// How many bytes it has.
    pub(crate) length: u32,
    /// SHA-256 of these bytes.
    pub(crate) sha256: Digest,
}

/// A line of a child.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Line {
    /// Producer: `send` returned Ok for this chunk, and so many values are in the pipeline now.
    Accepted { chunk: Facts, pending: u64 },
    /// Producer: it cut its own connection.
    Cut,
    /// Any child: it has said its last word and its counters are these.
    Done { counters: Counters },
    /// Producer: its link is connected again, or for the first time.
    Linked,
    /// Producer: this pass of the input was accepted to its end.
    Passed { pass: u32 },
    /// Consumer: the node listens and its port exists.
    Ready,
    /// Consumer: it was handed this chunk; it acks only after this line is written.
    Report { chunk: Facts, redelivered: bool },
    /// Producer: its link lost the connection.
    Unlinked,
}

/// A port's counters at the end, as far as the summary shows them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Counters {
    /// Values accepted by an outgoing port, or taken from an incoming one.
    pub(crate) values: u64,
    /// Values written to more than one connection.
    pub(crate) resent: u64,
    /// How often the link was connected anew.
    pub(crate) reconnects: u64,
}

/// A SHA-256 digest; hexadecimal in the lines.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Digest([u8; 32]);

impl Digest {
    /// The digest of these bytes.
    pub(crate) fn of(bytes: &[u8]) -> Self {
        use sha2::Digest as _;
        Self(sha2::Sha256::digest(bytes).into())
    }
}

impl std::fmt::Debug for Digest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl Serialize for Digest {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut text = [0; 64];
        for (pair, byte) in text.chunks_exact_mut(2).zip(self.0) {
            pair[0] = DIGITS[usize::from(byte >> 4)];
            pair[1] = DIGITS[usize::from(byte & 15)];
        }
        serializer.serialize_str(std::str::from_utf8(&text).expect("hexadecimal digits are ASCII"))
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use serde::de::Error as _;
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        let digit = |byte: u8| char::from(byte).to_digit(16);
        let mut bytes = [0; 32];
        if text.len() != 64 {
            return Err(D::Error::custom("a SHA-256 digest has 64 hexadecimal digits"));
        }
        for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
            let (Some(high), Some(low)) = (digit(pair[0]), digit(pair[1])) else {
                return Err(D::Error::custom("not a hexadecimal digit"));
            };
            *byte = u8::try_from(high * 16 + low).expect("two digits make one byte");
        }
        Ok(Self(bytes))
    }
}

impl Chunk {
    /// The chunk without its bytes.
    pub(crate) fn facts(&self) -> Facts {
        Facts {
            source: self.source,
            pass: self.pass,
            file: self.file,
            offset: self.offset,
            length: u32::try_from(self.payload.len()).expect("a chunk is at most 512 KiB"),
            sha256: Digest::of(&self.payload),
        }
    }
}

impl Line {
    /// Appends the line with its newline.
    pub(crate) fn write_to(&self, out: &mut Vec<u8>) {
        serde_json::to_writer(&mut *out, self).expect("a line has nothing that JSON cannot express");
        out.push(b'\n');
    }

    /// Reads a line without its newline; `None` when it is not one.
    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice(bytes).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_survive_the_pipe() {
        let chunk = Chunk { source: 1, pass: 2, file: 3, offset: 4, payload: Bytes::from_static(b"abc") };
        let lines = [
            Line::Accepted { chunk: chunk.facts(), pending: 7 },
            Line::Report { chunk: chunk.facts(), redelivered: true },
            Line::Done { counters: Counters { values: 1, resent: 2, reconnects: 3 } },
            Line::Cut,
        ];
        for line in lines {
            let mut bytes = Vec::new();
            line.write_to(&mut bytes);
            assert_eq!(bytes.pop(), Some(b'\n'));
            assert!(!bytes.contains(&b'\n'));
            assert_eq!(Line::parse(&bytes), Some(line));
        }
    }

    #[test]
    fn the_digest_is_sha256() {
        let expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(format!("{:?}", Digest::of(b"abc")), expected);
        assert_eq!(serde_json::to_string(&Digest::of(b"abc")).unwrap(), format!("\"{expected}\""));
    }

    #[test]
    fn half_a_line_is_not_a_line() {
        let mut bytes = Vec::new();
        Line::Ready.write_to(&mut bytes);
        assert_eq!(Line::parse(&bytes[..bytes.len() - 2]), None);
    }
}
