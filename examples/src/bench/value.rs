//! What is sent: a struct of integers for 64-byte values, a byte buffer for every other size.

use std::{hint::black_box, io};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// The 64-byte value: integers without heap.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Value {
    words: [u64; 8],
}

/// Bytes of a [`Value`], in memory and encoded.
pub(crate) const VALUE_SIZE: usize = 64;

/// Something the loops can number, make and check.
pub(crate) trait Message: Clone + Send + Sync + 'static {
    /// What messages are made from.
    type Stock: Clone + Send + Sync + 'static;

    /// Prepares for messages of this size.
    fn stock(size: usize) -> Self::Stock;

    /// Message number `number`.
    fn make(stock: &Self::Stock, number: u64) -> Self;

    /// Whether this is message number `number`, as far as it tells.
    fn check(&self, stock: &Self::Stock, number: u64) -> io::Result<()>;
}

impl Value {
    /// Value number `number`.
    #[inline]
    pub(crate) fn new(number: u64) -> Self {
        let mut words = [number; 8];
        for (index, word) in words.iter_mut().enumerate() {
            *word += index as u64;
        }
        Self { words }
    }

    /// Appends the encoding: little-endian integers, as the default codec writes them.
    #[inline]
    pub(crate) fn encode(&self) -> [u8; VALUE_SIZE] {
        let mut bytes = [0; VALUE_SIZE];
        for (place, word) in bytes.chunks_exact_mut(8).zip(self.words) {
            place.copy_from_slice(&word.to_le_bytes());
        }
        bytes
    }

    /// Reads the encoding back.
    #[inline]
    pub(crate) fn decode(bytes: &[u8]) -> io::Result<Self> {
        if bytes.len() != VALUE_SIZE {
            return Err(io::Error::other("a value of the wrong size arrived"));
        }
        let mut words = [0; 8];
        for (word, place) in words.iter_mut().zip(bytes.chunks_exact(8)) {
            *word = u64::from_le_bytes(place.try_into().expect("chunks of eight bytes"));
        }
        Ok(Self { words })
    }
}

impl Message for Value {
    type Stock = ();

    fn stock(_: usize) {}

    #[inline]
    fn make((): &(), number: u64) -> Self {
        Self::new(number)
    }

    #[inline]
    fn check(&self, (): &(), number: u64) -> io::Result<()> {
        // The other words are used, as a program would, so that decoding them is not optimised away.
        black_box(self.words);
        if self.words[0] == number { Ok(()) } else { Err(wrong(number)) }
    }
}

impl Message for Bytes {
    type Stock = Self;

    fn stock(size: usize) -> Self {
        Self::from(vec![0x5a; size])
    }

    fn make(stock: &Self, _: u64) -> Self {
        stock.clone()
    }

    fn check(&self, stock: &Self, number: u64) -> io::Result<()> {
        if self.len() == stock.len() { Ok(()) } else { Err(wrong(number)) }
    }
}

#[cold]
fn wrong(number: u64) -> io::Error {
    io::Error::other(format!("where value {number} was due another one arrived"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_survive_their_encoding_and_know_their_number() {
        let value = Value::new(7);
        let decoded = Value::decode(&value.encode()).unwrap();
        assert_eq!(decoded, value);
        assert!(decoded.check(&(), 7).is_ok());
        assert!(decoded.check(&(), 8).is_err());
        assert!(Value::decode(&[0; 63]).is_err());
    }
}
