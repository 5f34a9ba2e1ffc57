//! What stands before each value of a best-effort pipeline: forty bytes in front of its encoding, one datagram each.

use super::SessionId;

/// Bytes in front of every value in a datagram.
pub const DATAGRAM_HEADER_LEN: usize = 40;

const MAGIC: [u8; 3] = [0xB1, b'D', b'G'];
const VERSION: u8 = 1;

/// The header of a datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DatagramHeader {
    /// The session that it belongs to.
    pub session: SessionId,
    /// Stands for the codec; see [`codec_tag`].
    pub codec: u32,
    /// Which datagram of the session it is, counted from 1 as they leave: a number that does not arrive was lost on the way.
    pub number: u64,
    /// Values of this session that the sender gave up before they left, so far: newer ones had come.
    pub skipped: u64,
}

impl DatagramHeader {
    /// As it stands on the wire.
    pub fn encode(&self) -> [u8; DATAGRAM_HEADER_LEN] {
        let mut bytes = [0; DATAGRAM_HEADER_LEN];
        bytes[..3].copy_from_slice(&MAGIC);
        bytes[3] = VERSION;
        bytes[4..8].copy_from_slice(&self.codec.to_le_bytes());
        bytes[8..24].copy_from_slice(&self.session.bits().to_le_bytes());
        bytes[24..32].copy_from_slice(&self.number.to_le_bytes());
        bytes[32..].copy_from_slice(&self.skipped.to_le_bytes());
        bytes
    }

    /// Reads the header of a datagram; what follows its [`DATAGRAM_HEADER_LEN`] bytes is the encoding of one value.
    ///
    /// `None` when it is none: too short, another magic or version, or numbered 0. Anybody may send datagrams, so this is
    /// nothing to complain of; it is counted.
    pub fn decode(datagram: &[u8]) -> Option<Self> {
        let (header, _) = datagram.split_first_chunk::<DATAGRAM_HEADER_LEN>()?;
        let header = Self {
            codec: u32::from_le_bytes(part(header, 4)),
            session: SessionId::from_bits(u128::from_le_bytes(part(header, 8))),
            number: u64::from_le_bytes(part(header, 24)),
            skipped: u64::from_le_bytes(part(header, 32)),
        };
        (datagram[..3] == MAGIC && datagram[3] == VERSION && header.number > 0).then_some(header)
    }
}

/// A number for a codec, by which datagrams in another one are told apart: FNV-1a, 32 bits, of the codec's id.
///
/// It guards against mistakes, not against malice.
pub fn codec_tag(codec: &str) -> u32 {
    codec.bytes().fold(0x811C_9DC5, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

fn part<const N: usize>(header: &[u8; DATAGRAM_HEADER_LEN], at: usize) -> [u8; N] {
    std::array::from_fn(|index| header[at + index])
}
