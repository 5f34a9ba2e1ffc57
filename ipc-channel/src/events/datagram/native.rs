//! Datagrams of the native wire: a header that proves addresses, and one event. `docs/protocol.md` has the bytes.

use ipc_transport::{EncodeBuffer, EncodeError};

use crate::{
    PayloadCodec,
    events::message::{MAX_NAME, Malformed},
};

/// Bytes before the name of an event, and all of a challenge or an answer.
pub(super) const HEADER: usize = 24;

/// One datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Packet<'a> {
    /// What the receiver is to repeat, to show that it is where it seems to be.
    pub(super) token: u64,
    /// The last token that the sender had from the receiver; 0 without one.
    pub(super) echo: u64,
    pub(super) body: Body<'a>,
}

/// What a datagram is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Body<'a> {
    /// Repeats the token of a challenge.
    Answer,
    /// Asks for an answer, as its token alone does not make the receiver say anything.
    Challenge,
    /// Exactly one event.
    Event { codec: PayloadCodec, name: &'a str, payload: &'a [u8] },
}

const MAGIC: [u8; 4] = [0xB1, b'E', b'D', 1];

const EVENT: u8 = 1;
const CHALLENGE: u8 = 2;
const ANSWER: u8 = 3;

const BINCODE: u8 = 1;
const JSON: u8 = 2;

/// Where the tokens stand.
const TOKEN: usize = 8;
const ECHO: usize = 16;

/// Writes all that stands before the payload of an event; the tokens come later, by [`address`].
pub(super) fn begin_event(
    codec: PayloadCodec,
    name: &str,
    out: &mut EncodeBuffer<'_>,
) -> Result<(), EncodeError> {
    let codec = match codec {
        PayloadCodec::Bincode => BINCODE,
        PayloadCodec::Json => JSON,
    };
    let Ok(len) = u16::try_from(name.len()) else {
        return Err(EncodeError::TooLarge { len: name.len(), max: MAX_NAME });
    };
    out.write(&header(EVENT, codec, len))?;
    out.write(name.as_bytes())
}

/// A challenge, or its answer.
pub(super) fn bare(body: Body<'_>) -> Vec<u8> {
    let kind = if body == Body::Challenge { CHALLENGE } else { ANSWER };
    header(kind, 0, 0).to_vec()
}

/// Puts the tokens for one receiver into a datagram.
pub(super) fn address(datagram: &mut [u8], token: u64, echo: u64) {
    datagram[TOKEN..ECHO].copy_from_slice(&token.to_le_bytes());
    datagram[ECHO..HEADER].copy_from_slice(&echo.to_le_bytes());
}

fn header(kind: u8, codec: u8, name_len: u16) -> [u8; HEADER] {
    let mut header = [0; HEADER];
    header[..4].copy_from_slice(&MAGIC);
    header[4] = kind;
    header[5] = codec;
    header[6..TOKEN].copy_from_slice(&name_len.to_le_bytes());
    header
}

impl<'a> Packet<'a> {
    /// Reads one datagram.
    pub(super) fn decode(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let (header, rest) = bytes.split_first_chunk::<HEADER>().ok_or(malformed("it is cut short"))?;
        let [m, a, g, v, kind, codec, low, high, tokens @ ..] = *header;
        if [m, a, g, v] != MAGIC {
            return Err(malformed("it is none of this wire and version"));
        }
        let [token, echo] = [0, 8].map(|at| {
            let mut number = [0; 8];
            number.copy_from_slice(&tokens[at..at + 8]);
            u64::from_le_bytes(number)
        });
        let len = usize::from(u16::from_le_bytes([low, high]));
        let body = match (kind, codec) {
            (EVENT, BINCODE | JSON) => {
                if len > MAX_NAME {
                    return Err(malformed("a name is too long"));
                }
                let (name, payload) = rest.split_at_checked(len).ok_or(malformed("it is cut short"))?;
                let name = std::str::from_utf8(name).map_err(|_| malformed("a name is not UTF-8"))?;
                let codec = if codec == JSON { PayloadCodec::Json } else { PayloadCodec::Bincode };
                Body::Event { codec, name, payload }
            }
            (EVENT, _) => return Err(malformed("its codec is unknown")),
            (CHALLENGE | ANSWER, 0) if len == 0 && rest.is_empty() => {
                if kind == CHALLENGE {
                    Body::Challenge
                } else {
                    Body::Answer
                }
            }
            (CHALLENGE | ANSWER, _) => return Err(malformed("bytes are left over")),
            _ => return Err(malformed("its kind is unknown")),
        };
        Ok(Self { token, echo, body })
    }
}

fn malformed(what: &'static str) -> Malformed {
    Malformed { what }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn event(codec: PayloadCodec, name: &str, payload: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut out = EncodeBuffer::growing(&mut bytes, 70_000);
        begin_event(codec, name, &mut out).unwrap();
        out.write(payload).unwrap();
        bytes
    }

    /// The bytes that stand in `docs/protocol.md`.
    #[test]
    fn an_event_has_the_bytes_that_are_written_down() {
        let mut bytes = event(PayloadCodec::Json, "message", b"\"hello\"");
        address(&mut bytes, 0x0807_0605_0403_0201, 0x1817_1615_1413_1211);
        let mut expected = vec![0xB1, 0x45, 0x44, 1, 1, 2, 7, 0];
        expected.extend([1, 2, 3, 4, 5, 6, 7, 8, 0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x17, 0x18]);
        expected.extend(b"message\"hello\"");
        assert_eq!(bytes, expected);
    }

    #[test]
    fn challenges_and_answers_come_back_as_they_were() {
        for body in [Body::Challenge, Body::Answer] {
            let mut bytes = bare(body);
            address(&mut bytes, 7, 8);
            assert_eq!(Packet::decode(&bytes), Ok(Packet { token: 7, echo: 8, body }));
            bytes.push(0);
            assert_eq!(Packet::decode(&bytes), Err(malformed("bytes are left over")));
        }
    }

    #[test]
    fn what_is_no_datagram_of_ours_says_why() {
        let good = event(PayloadCodec::Bincode, "ab", b"x");
        let changed = |at: usize, byte: u8| {
            let mut bytes = good.clone();
            bytes[at] = byte;
            bytes
        };
        let mut long = event(PayloadCodec::Bincode, &"n".repeat(257), b"");
        for (bytes, why) in [
            (good[..23].to_vec(), "it is cut short"),
            (good[..25].to_vec(), "it is cut short"),
            (changed(0, 0), "it is none of this wire and version"),
            (changed(3, 2), "it is none of this wire and version"),
            (changed(4, 9), "its kind is unknown"),
            (changed(5, 3), "its codec is unknown"),
            (changed(24, 0xFF), "a name is not UTF-8"),
            (std::mem::take(&mut long), "a name is too long"),
        ] {
            assert_eq!(Packet::decode(&bytes), Err(malformed(why)));
        }
    }

    proptest! {
        #[test]
        fn every_event_comes_back_as_it_was(
            name in "\\PC{0,60}", payload in prop::collection::vec(any::<u8>(), 0..200), token: u64, echo: u64,
        ) {
            for codec in [PayloadCodec::Bincode, PayloadCodec::Json] {
                let mut bytes = event(codec, &name, &payload);
                address(&mut bytes, token, echo);
                let body = Body::Event { codec, name: &name, payload: &payload };
                prop_assert_eq!(Packet::decode(&bytes), Ok(Packet { token, echo, body }));
            }
        }

        #[test]
        fn arbitrary_bytes_are_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            let _ = Packet::decode(&bytes);
        }

        #[test]
        fn arbitrary_bytes_behind_a_header_are_read_without_a_panic(
            kind in 0..5_u8, codec in 0..4_u8, len in 0..400_u16,
            rest in prop::collection::vec(any::<u8>(), 0..400),
        ) {
            let mut bytes = header(kind, codec, len).to_vec();
            bytes.extend(rest);
            if let Ok(Packet { body: Body::Event { name, payload, .. }, .. }) = Packet::decode(&bytes) {
                prop_assert_eq!(HEADER + name.len() + payload.len(), bytes.len());
            }
        }
    }
}
