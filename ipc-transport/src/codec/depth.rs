//! The nesting guard: a serde adapter around any serializer or deserializer.
//!
//! A frame of sixty thousand opening brackets is sixty thousand calls deep for a decoder that follows it, and a full
//! stack aborts the process. Formats that count levels themselves (the [`Bincode`](crate::Bincode) codec) need no
//! guard; a codec of your own on top of a serde format crate uses [`serialize_within`] and [`deserialize_within`].
//!
//! One level is a sequence, map, tuple, struct, newtype struct, enum variant with contents or present option: the
//! points through which every recursive type passes, in every codec the same.
//!
//! # Examples
//!
//! ```
//! use ipc_transport::depth::{DepthError, deserialize_within};
//!
//! let mut deserializer = serde_json::Deserializer::from_str("[[[1]]]");
//! let three: Vec<Vec<Vec<u8>>> = deserialize_within(&mut deserializer, 3)?;
//! assert_eq!(three, [[[1]]]);
//!
//! let mut deserializer = serde_json::Deserializer::from_str("[[[1]]]");
//! let two: Result<Vec<Vec<Vec<u8>>>, _> = deserialize_within(&mut deserializer, 2);
//! assert!(matches!(two, Err(DepthError::Depth { max: 2 })));
//! # Ok::<(), DepthError<serde_json::Error>>(())
//! ```

use std::cell::Cell;
use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

mod de;
mod ser;

/// Serialises a value that may nest `max` levels deep.
///
/// # Errors
///
/// [`DepthError::Depth`] when it nests deeper, else what the serializer says.
pub fn serialize_within<T, S>(value: &T, serializer: S, max: usize) -> Result<S::Ok, DepthError<S::Error>>
where
    T: Serialize + ?Sized,
    S: Serializer,
{
    let meter = Meter::new(max);
    let result = value.serialize(meter.guard(serializer));
    meter.explain(result)
}

/// Deserialises a value that may nest `max` levels deep.
///
/// # Errors
///
/// [`DepthError::Depth`] when the data nests deeper, else what the deserializer says.
pub fn deserialize_within<'de, T, D>(deserializer: D, max: usize) -> Result<T, DepthError<D::Error>>
where
    T: Deserialize<'de>,
    D: Deserializer<'de>,
{
    deserialize_bounded(deserializer, max, usize::MAX)
}

/// The same from an input of so many bytes, for formats that believe the lengths they read.
///
/// What is announced beyond the length of the input asks for no memory. There may be [`MAX_EMPTY`] more elements and
/// entries than bytes: some formats write nothing at all for some elements, and a few bytes would otherwise announce
/// more of them than anybody has time for.
///
/// # Errors
///
/// As [`deserialize_within`]; too many elements are a message in the format's own error.
pub fn deserialize_bounded<'de, T, D>(
    deserializer: D,
    max_depth: usize,
    input_len: usize,
) -> Result<T, DepthError<D::Error>>
where
    T: Deserialize<'de>,
    D: Deserializer<'de>,
{
    let items = Cell::new(input_len.saturating_add(MAX_EMPTY));
    let meter = Meter { items, input_len, ..Meter::new(max_depth) };
    let result = T::deserialize(meter.guard(deserializer));
    meter.explain(result)
}

/// Elements without any bytes of their own that one value may have, in the formats that have such: 65,536.
pub const MAX_EMPTY: usize = 65_536;

/// How deep values may nest unless a codec is told otherwise: 64 levels.
///
/// Deep enough for data that people write, shallow enough for any thread's stack, unoptimised builds included.
pub const DEFAULT_MAX: usize = 64;

/// Why a guarded value did not pass.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DepthError<E> {
    /// The value nests deeper than allowed.
    #[error("value nests deeper than {max} levels")]
    Depth {
        /// The limit.
        max: usize,
    },
    /// The format's own error.
    #[error(transparent)]
    Format(#[from] E),
}

/// One passage through the guard: the limit, whether it was met, and how many more items there may be.
struct Meter {
    max: usize,
    exceeded: Cell<bool>,
    items: Cell<usize>,
    /// No announced length is believed beyond it.
    input_len: usize,
}

impl Meter {
    fn new(max: usize) -> Self {
        Self { max, exceeded: Cell::new(false), items: Cell::new(usize::MAX), input_len: usize::MAX }
    }

    fn guard<T>(&self, inner: T) -> Guarded<'_, T> {
        Guarded { inner, meter: self, levels: self.max }
    }

    /// Counts an element or entry.
    fn item<E>(&self, error: impl FnOnce(TooMany) -> E) -> Result<(), E> {
        let left = self.items.get().checked_sub(1).ok_or_else(|| error(TooMany))?;
        self.items.set(left);
        Ok(())
    }

    /// A serde error type cannot carry ours, so it carries a message and the meter remembers.
    fn explain<T, E>(&self, result: Result<T, E>) -> Result<T, DepthError<E>> {
        match result {
            Err(_) if self.exceeded.get() => Err(DepthError::Depth { max: self.max }),
            other => other.map_err(DepthError::Format),
        }
    }
}

/// Any party of a serde conversation (format, visitor, access, seed, value) with the levels that it may still open.
struct Guarded<'m, T> {
    inner: T,
    meter: &'m Meter,
    levels: usize,
}

impl<'m, T> Guarded<'m, T> {
    /// The same level around another party.
    fn with<U>(&self, inner: U) -> Guarded<'m, U> {
        Guarded { inner, meter: self.meter, levels: self.levels }
    }

    /// This party, one level further in.
    fn enter<E>(self, error: impl FnOnce(TooDeep) -> E) -> Result<Self, E> {
        match self.levels.checked_sub(1) {
            Some(levels) => Ok(Self { levels, ..self }),
            None => {
                self.meter.exceeded.set(true);
                Err(error(TooDeep))
            }
        }
    }
}

/// The message in the format's error when there are too many elements.
struct TooMany;

impl fmt::Display for TooMany {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("more elements than the bytes can stand for")
    }
}

/// The message in the format's error; callers see [`DepthError::Depth`] instead.
struct TooDeep;

impl fmt::Display for TooDeep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("value nests too deep")
    }
}
