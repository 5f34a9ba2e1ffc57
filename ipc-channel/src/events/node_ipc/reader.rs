//! Chunks to events: frames found in a stream, checked and taken apart.

use std::{borrow::Cow, fmt, ops::Range};

use bytes::{Bytes, BytesMut};
use ipc_transport::framing::{DelimiterDecoder, FrameError};

use super::{Delimiter, Envelope, Profile, WireError, decode_within};

/// Turns chunks of a stream, cut anywhere, into events, as far as the profile lets them through.
///
/// A caller that takes all frames before it feeds the next chunk holds it to one frame of the largest size, its delimiter
/// and one chunk. Once the stream cannot be followed, all of it is let go.
#[derive(Debug)]
pub struct Reader {
    decoder: DelimiterDecoder,
    profile: Profile,
    empty_frames: u64,
    /// Why the stream cannot be followed any further.
    failed: Option<WireError>,
}

impl Reader {
    /// A reader of frames of at most `max_message` bytes without the delimiter, or as many as the profile allows where
    /// that is less.
    #[must_use]
    pub fn new(delimiter: &Delimiter, profile: Profile, max_message: usize) -> Self {
        let max_message = max_message.min(profile.max_message());
        let decoder = DelimiterDecoder::new(delimiter.framing(), max_message);
        Self { decoder, profile, empty_frames: 0, failed: None }
    }

    /// Takes the next bytes of the stream.
    pub fn handle_bytes(&mut self, chunk: &[u8]) {
        if self.failed.is_none() {
            self.decoder.push(chunk);
        }
    }

    /// Takes the end of the stream, after the last frame was taken out.
    ///
    /// Node drops an unfinished frame silently.
    ///
    /// # Errors
    ///
    /// [`WireError::Truncated`] when it ended within a frame, or why the stream could not be followed.
    pub fn handle_end(&self) -> Result<(), WireError> {
        match (&self.failed, self.pending()) {
            (Some(error), _) => Err(error.clone()),
            (None, 0) => Ok(()),
            (None, have) => Err(WireError::Truncated { have }),
        }
    }

    /// The next event, or `None` until more bytes are fed.
    ///
    /// Empty frames, which delimiters in a row make, are skipped and counted.
    ///
    /// # Errors
    ///
    /// [`WireError::TooLarge`] once more bytes than allowed came without a delimiter, and again at every later call.
    /// What [`decode_within`] and [`Profile::check_in`] say of one frame; the next call goes on behind that frame, if
    /// the caller does not end the connection, see [`Profile::closes_after`].
    pub fn poll_frame(&mut self) -> Result<Option<Frame>, WireError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        loop {
            match self.decoder.poll_frame() {
                Ok(Some(bytes)) if bytes.is_empty() => self.empty_frames += 1,
                Ok(Some(bytes)) => return self.open(bytes).map(Some),
                Ok(None) => return Ok(None),
                Err(error) => return Err(self.fail(&error)),
            }
        }
    }

    /// The buffer behind the reader, to append to it without a copy (`read_buf`). What is in it may not be changed.
    pub fn buffer_mut(&mut self) -> &mut BytesMut {
        self.decoder.buffer_mut()
    }

    /// Bytes that are held: of an incomplete frame, once all frames were taken out.
    #[must_use]
    pub fn pending(&self) -> usize {
        match self.decoder.finish() {
            Err(FrameError::Truncated { have }) => have,
            _ => 0,
        }
    }

    /// How many empty frames were skipped.
    #[must_use]
    pub fn empty_frames(&self) -> u64 {
        self.empty_frames
    }

    /// What it lets through.
    #[must_use]
    pub fn profile(&self) -> &Profile {
        &self.profile
    }

    fn open(&self, bytes: Bytes) -> Result<Frame, WireError> {
        let envelope = decode_within(&bytes, self.profile.max_depth())?;
        self.profile.check_in(&envelope)?;
        let name = match envelope.name {
            Cow::Borrowed(name) => Name::Within(place_of(name.as_bytes(), &bytes)),
            Cow::Owned(name) => Name::Own(name.into_boxed_str()),
        };
        let data = envelope.data.map(|data| place_of(data, &bytes));
        Ok(Frame { name, data, bytes })
    }

    fn fail(&mut self, error: &FrameError) -> WireError {
        let error = match *error {
            FrameError::TooLarge { len, max } => WireError::TooLarge { len, max },
            // Decoding meets no other.
            _ => WireError::Truncated { have: self.pending() },
        };
        self.failed = Some(error.clone());
        *self.decoder.buffer_mut() = BytesMut::new();
        error
    }
}

/// One event as it arrived, with its name and the JSON text of its data in place.
///
/// Frames share the buffer they arrived in; one that is kept for long keeps its neighbours' memory too, unless it is
/// copied.
#[derive(Clone)]
pub struct Frame {
    bytes: Bytes,
    name: Name,
    data: Option<Range<usize>>,
}

#[derive(Clone)]
enum Name {
    Own(Box<str>),
    Within(Range<usize>),
}

impl Frame {
    /// The name of the event.
    #[must_use]
    pub fn name(&self) -> &str {
        match &self.name {
            Name::Own(name) => name,
            Name::Within(place) => {
                std::str::from_utf8(&self.bytes[place.clone()]).expect("the frame was found to be UTF-8")
            }
        }
    }

    /// The JSON text of the data, shared with the frame; `None` when there is none.
    #[must_use]
    pub fn data(&self) -> Option<Bytes> {
        self.data.clone().map(|place| self.bytes.slice(place))
    }

    /// The same in place.
    #[must_use]
    pub fn envelope(&self) -> Envelope<'_> {
        let data = self.data.clone().map(|place| &self.bytes[place]);
        Envelope { name: Cow::Borrowed(self.name()), data }
    }

    /// Bytes of the frame without its delimiter.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Always `false`: frames without bytes are skipped.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }
}

impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Never the data: payloads are not for logs.
        self.envelope().fmt(f)
    }
}

/// Where a part of these bytes stands in them.
fn place_of(part: &[u8], bytes: &[u8]) -> Range<usize> {
    let start = part.as_ptr().addr() - bytes.as_ptr().addr();
    start..start + part.len()
}
