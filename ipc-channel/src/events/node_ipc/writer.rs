//! Events to frames: the envelope around a value, and the delimiter behind it.

use ipc_transport::framing::{DelimiterEncoder, FrameError};
use ipc_transport::{EncodeBuffer, EncodeError};
use serde::Serialize;

use super::text::write_json;
use super::{Delimiter, Profile, WireError};

/// Turns events into frames, as far as the profile lets them through.
///
/// It has no state of its own: one serves any number of connections and tasks.
///
/// # Examples
///
/// ```
/// use ipc_channel::events::node_ipc::{Delimiter, Profile, WireError, Writer};
///
/// let writer = Writer::new(&Delimiter::new("##")?, Profile::Compatible, 1024);
/// let mut wire = Vec::new();
/// writer.encode("app.ping", None::<&()>, &mut wire)?;
/// assert_eq!(wire, b"{\"type\":\"app.ping\"}##");
/// let cut = writer.encode("heading", Some("## Two"), &mut wire);
/// assert!(matches!(cut, Err(WireError::ContainsDelimiter { .. })));
/// assert_eq!(wire, b"{\"type\":\"app.ping\"}##", "nothing of it was written");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Writer {
    framing: DelimiterEncoder,
    profile: Profile,
    max_message: usize,
}

impl Writer {
    /// A writer of frames of at most `max_message` bytes without the delimiter, or as many as the profile allows where
    /// that is less.
    #[must_use]
    pub fn new(delimiter: &Delimiter, profile: Profile, max_message: usize) -> Self {
        let max_message = max_message.min(profile.max_message());
        Self { framing: DelimiterEncoder::new(delimiter.framing(), max_message), profile, max_message }
    }

    /// Appends one frame to `out`; `out` is as before on error.
    ///
    /// Without data the key is absent. Node's own `emit` writes `{}` then, and handlers there get `undefined` otherwise.
    /// Each level of `data` in the sense of [`ipc_transport::depth`] counts against the depth of the profile; a
    /// [`serde_json::value::RawValue`] is one, however deep its text nests.
    ///
    /// # Errors
    ///
    /// [`WireError::Encode`] with [`EncodeError::TooLarge`], [`EncodeError::Depth`] or [`EncodeError::Custom`];
    /// [`WireError::ContainsDelimiter`], which the default delimiter rules out; what [`Profile::check_out`] says of the
    /// name.
    pub fn encode<T>(&self, name: &str, data: Option<&T>, out: &mut Vec<u8>) -> Result<(), WireError>
    where
        T: Serialize + ?Sized,
    {
        self.profile.check_out(name, 0)?;
        let start = out.len();
        let written = self.envelope(name, data, &mut EncodeBuffer::growing(out, self.max_message));
        if let Err(error) = written {
            out.truncate(start);
            return Err(error.into());
        }
        self.framing.end(out, start).map_err(|error| match error {
            FrameError::ContainsDelimiter { at } => WireError::ContainsDelimiter { at },
            // Nothing else is left: the length was limited while the frame was written.
            _ => WireError::TooLarge { len: self.max_message.saturating_add(1), max: self.max_message },
        })
    }

    /// Largest frame, bytes without the delimiter.
    #[must_use]
    pub fn max_message(&self) -> usize {
        self.max_message
    }

    /// What it lets through.
    #[must_use]
    pub fn profile(&self) -> &Profile {
        &self.profile
    }

    fn envelope<T>(&self, name: &str, data: Option<&T>, out: &mut EncodeBuffer<'_>) -> Result<(), EncodeError>
    where
        T: Serialize + ?Sized,
    {
        out.write(b"{\"type\":")?;
        write_json(name, out, 0)?;
        if let Some(data) = data {
            out.write(b",\"data\":")?;
            write_json(data, out, self.profile.max_depth())?;
        }
        out.write(b"}")
    }
}
