//! The byte string behind each frame, checked so that frames can exist.

use bytes::Bytes;
use ipc_transport::framing;

/// The byte string that ends a frame: a form feed unless both ends agree on another.
///
/// Characters below U+0020 never stand in JSON that this room or Node writes, so a delimiter with one is always safe; line
/// feed, carriage return and tab may stand between the tokens of other writers, and frames end there. With any other
/// delimiter a frame whose JSON holds it is refused, see [`Writer::encode`](super::Writer::encode).
///
/// Node's delimiter is a string, so one for Node peers has to be UTF-8. A peer of node-ipc 9.2.1 writes frames with any
/// delimiter, and reads none whose delimiter has more than one character: it waits for the last character that arrived
/// to be the delimiter.
///
/// # Examples
///
/// ```
/// use ipc_channel::events::node_ipc::{Delimiter, DelimiterError};
///
/// assert_eq!(Delimiter::default().as_bytes(), b"\x0c");
/// assert_eq!(Delimiter::new("##")?.as_bytes(), b"##");
/// assert_eq!(Delimiter::new(""), Err(DelimiterError::Empty));
/// assert!(matches!(Delimiter::new("{"), Err(DelimiterError::InEveryFrame { .. })));
/// # Ok::<(), DelimiterError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delimiter(framing::Delimiter);

impl Delimiter {
    /// The byte string as a delimiter.
    ///
    /// # Errors
    ///
    /// [`DelimiterError`]: a delimiter that stands in every frame, or begins in every frame's last byte, ends none.
    pub fn new(bytes: impl Into<Bytes>) -> Result<Self, DelimiterError> {
        let bytes = bytes.into();
        let part =
            ALWAYS.into_iter().find(|part| part.windows(bytes.len().max(1)).any(|window| window == bytes));
        if let Some(part) = part {
            return Err(DelimiterError::InEveryFrame { part: std::str::from_utf8(part).unwrap_or_default() });
        }
        let delimiter = framing::Delimiter::new(bytes).map_err(|_| DelimiterError::Empty)?;
        if delimiter.as_bytes().iter().all(|&byte| byte == b'}') {
            return Err(DelimiterError::InEveryFrame { part: "}" });
        }
        Ok(Self(delimiter))
    }

    /// Its bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }

    pub(super) fn framing(&self) -> framing::Delimiter {
        self.0.clone()
    }
}

impl Default for Delimiter {
    fn default() -> Self {
        Self(framing::Delimiter::new(FORM_FEED).expect("a form feed is one byte"))
    }
}

/// Why a byte string cannot end frames.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DelimiterError {
    /// A delimiter of no bytes ends nothing.
    #[error("empty delimiter")]
    Empty,
    /// It stands in what every frame has, so each would be cut there.
    #[error("delimiter stands in {part}, which is in every frame")]
    InEveryFrame {
        /// What every frame has.
        part: &'static str,
    },
}

/// What stands in each envelope, whatever its name and data.
const ALWAYS: [&[u8]; 2] = [b"{\"type\":\"", b"\",\"data\":"];

const FORM_FEED: &[u8] = b"\x0c";
