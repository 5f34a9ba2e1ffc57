//! The JSON object around each event: its name, and its data as the text that it is.

use std::{borrow::Cow, fmt};

use super::scan::Scanner;
use super::{DEFAULT_MAX_DEPTH, MAX_DEPTH, WireError};

/// The name of an event and the JSON text of its data, in place.
///
/// The data is checked to be JSON and not read: whoever handles the event decodes it once, as the type it expects.
#[derive(Clone, PartialEq, Eq)]
pub struct Envelope<'a> {
    /// The `type`.
    pub name: Cow<'a, str>,
    /// The JSON text of `data`, without white space around it; `None` when there is no such key.
    pub data: Option<&'a [u8]>,
}

impl<'a> Envelope<'a> {
    /// What a server of node-ipc 9.2.1 takes for the name of the peer: the `id` of the data.
    ///
    /// It is the peer's own word. Only a string that is not empty counts here, where Node takes any value that is not
    /// falsy; of an `id` that is given twice the last counts.
    #[must_use]
    pub fn claimed_id(&self) -> Option<Cow<'a, str>> {
        let mut scanner = Scanner::new(std::str::from_utf8(self.data?).ok()?, MAX_DEPTH);
        let mut id = None;
        if !scanner.take(b'{') || scanner.take(b'}') {
            return None;
        }
        loop {
            let is_id = scanner.key().ok()?.is("id");
            let is_string = scanner.peek() == Some(b'"');
            if is_id {
                id = None;
            }
            if is_id && is_string {
                id = scanner.string().ok()?.unescape();
            } else {
                scanner.value().ok()?;
            }
            if !scanner.take(b',') {
                return id.filter(|id| !id.is_empty());
            }
        }
    }
}

impl fmt::Debug for Envelope<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Never the data: payloads are not for logs.
        let len = self.data.map(<[u8]>::len);
        f.debug_struct("Envelope").field("name", &self.name).field("data_len", &len).finish_non_exhaustive()
    }
}

/// Reads one frame, its delimiter not included, whose data nests at most [`DEFAULT_MAX_DEPTH`] levels.
///
/// # Errors
///
/// As [`decode_within`].
pub fn decode(frame: &[u8]) -> Result<Envelope<'_>, WireError> {
    decode_within(frame, DEFAULT_MAX_DEPTH)
}

/// Reads one frame, its delimiter not included. No limits but that of nesting.
///
/// One level is an array or object in the data or behind another key. More than [`MAX_DEPTH`](super::MAX_DEPTH) is
/// taken as that.
///
/// # Errors
///
/// [`WireError::NotUtf8`], [`WireError::NotJson`], [`WireError::NotAnObject`], [`WireError::Depth`],
/// [`WireError::TypeMissing`], [`WireError::TypeNotAString`], [`WireError::LoneSurrogate`].
pub fn decode_within(frame: &[u8], max_depth: usize) -> Result<Envelope<'_>, WireError> {
    let text = std::str::from_utf8(frame).map_err(|error| WireError::NotUtf8 { at: error.valid_up_to() })?;
    let mut scanner = Scanner::new(text, max_depth);
    if !scanner.take(b'{') {
        scanner.value()?;
        scanner.end()?;
        return Err(WireError::NotAnObject);
    }
    let (mut name, mut data) = (Err(WireError::TypeMissing), None);
    if !scanner.take(b'}') {
        loop {
            // Of a key that is given twice the last counts.
            let key = scanner.key()?;
            if key.is("type") {
                name = match scanner.peek() {
                    Some(b'"') => Ok(scanner.string()?),
                    _ => scanner.value().and(Err(WireError::TypeNotAString)),
                };
                if let Err(error @ (WireError::NotJson { .. } | WireError::Depth { .. })) = name {
                    return Err(error);
                }
            } else if key.is("data") {
                data = Some(scanner.value()?.as_bytes());
            } else {
                scanner.value()?;
            }
            if !scanner.take(b',') {
                break;
            }
        }
        scanner.expect(b'}')?;
    }
    scanner.end()?;
    let name = name?.unescape().ok_or(WireError::LoneSurrogate)?;
    Ok(Envelope { name, data })
}
