//! The file names that stand for names.

use crate::{Error, check_name};

/// The file name, without its ending, that stands for a name.
///
/// Short names stand for themselves. The others would not fit into a socket address, so their beginning is followed
/// by a hash of the whole: `a-rather-lon~3f0c…`. Every process must come to the same result, so the rule looks at
/// the name alone, not at the directory, and the hash is fixed here. No name contains the `~` that marks it.
pub(crate) fn file_stem(name: &str) -> Result<String, Error> {
    check_name(name)?;
    if name.len() <= MAX_PLAIN {
        return Ok(name.to_owned());
    }
    let start = &name[..name.floor_char_boundary_at(KEPT)];
    // 80 bits: two names of one application meet with a probability that nobody lives to see.
    Ok(format!("{start}~{:020x}", fnv1a(name.as_bytes()) >> 48))
}

trait FloorCharBoundary {
    /// The largest boundary between characters that is not beyond `index`.
    fn floor_char_boundary_at(&self, index: usize) -> usize;
}

impl FloorCharBoundary for str {
    fn floor_char_boundary_at(&self, index: usize) -> usize {
        (0..=index.min(self.len())).rev().find(|&at| self.is_char_boundary(at)).unwrap_or(0)
    }
}

/// The 128-bit FNV-1a hash: nobody has to be kept from making collisions, as all who may claim are one user.
fn fnv1a(bytes: &[u8]) -> u128 {
    bytes.iter().fold(0x6c62_272e_07bb_0142_62b8_2175_6295_c58d, |hash, byte| {
        (hash ^ u128::from(*byte)).wrapping_mul(0x0000_0000_0100_0000_0000_0000_0000_013b)
    })
}

/// The longest name that stands for itself. With the hashed form it makes file names of 37 bytes at most, which
/// leaves 65 and more bytes for the directory.
const MAX_PLAIN: usize = 32;
const KEPT: usize = 11;

#[cfg(test)]
mod tests {
    use super::*;

    /// the hash is a fixed function of the name, whatever process computes it.
    #[test]
    fn long_names_are_hashed_to_known_values() {
        assert_eq!(file_stem(&"x".repeat(32)).unwrap(), "x".repeat(32));
        assert_eq!(fnv1a(b""), 0x6c62272e07bb014262b821756295c58d);
        assert_eq!(fnv1a(b"foobar"), 0x343e1662793c64bf6f0d3597ba446f18);
        let one = file_stem(&format!("{}1", "x".repeat(200))).unwrap();
        let two = file_stem(&format!("{}2", "x".repeat(200))).unwrap();
        assert_ne!(one, two);
        for stem in [one, two, file_stem(&"ä".repeat(100)).unwrap()] {
            assert!(stem.len() <= MAX_PLAIN && stem.contains('~'), "{stem}");
        }
    }
}
