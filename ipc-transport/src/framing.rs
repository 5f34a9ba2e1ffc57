//! Framing without IO: where one message ends and the next begins in a stream of bytes.
//!
//! For people who bring a transport that carries bytes and want messages on it. A decoder is fed chunks as they come,
//! cut anywhere, and yields whole frames; an encoder appends frames to a buffer. Neither touches a socket, a clock or
//! a task. Limits are checked as soon as they can be known and before any allocation; buffers grow by what arrived,
//! never by what was announced.
//!
//! | framing | for | a payload may hold |
//! |---|---|---|
//! | [`LengthEncoder`], [`LengthDecoder`] | messages, unless a peer wants otherwise | every byte |
//! | [`DelimiterEncoder`], [`DelimiterDecoder`] | peers with a line feed, a form feed or any other ending | all but the delimiter |
//! | [`RawDecoder`] | bytes without messages | every byte |
//!
//! # Examples
//!
//! ```
//! use ipc_transport::framing::{LengthDecoder, LengthEncoder};
//!
//! let mut wire = Vec::new();
//! let encoder = LengthEncoder::new(1024);
//! encoder.encode(b"one", &mut wire)?;
//! encoder.encode(b"two", &mut wire)?;
//!
//! let mut decoder = LengthDecoder::new(1024);
//! let mut frames = Vec::new();
//! for chunk in wire.chunks(4) {
//!     decoder.push(chunk);
//!     while let Some(frame) = decoder.poll_frame()? {
//!         frames.push(frame);
//!     }
//! }
//! decoder.finish()?;
//! assert_eq!(frames, ["one", "two"]);
//! # Ok::<(), ipc_transport::framing::FrameError>(())
//! ```

mod delimiter;
mod length;
mod raw;

pub use delimiter::{Delimiter, DelimiterDecoder, DelimiterEncoder};
pub use length::{LengthDecoder, LengthEncoder};
pub use raw::RawDecoder;

/// Why bytes are not frames, or a payload cannot become one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// The payload holds the delimiter, so the receiver would cut it there.
    #[error("payload holds the delimiter at byte {at}")]
    ContainsDelimiter {
        /// Where in the payload the receiver would see it begin.
        at: usize,
    },
    /// A delimiter of no bytes ends nothing.
    #[error("empty delimiter")]
    EmptyDelimiter,
    /// The frame is larger than allowed. The stream cannot be followed beyond it.
    #[error("frame of {len} bytes or more exceeds the limit of {max}")]
    TooLarge {
        /// Its length: announced, or as far as it was seen.
        len: usize,
        /// The limit.
        max: usize,
    },
    /// The stream ended within a frame.
    #[error("stream ended within a frame, after {have} bytes of it")]
    Truncated {
        /// Bytes of the unfinished frame, its length prefix included.
        have: usize,
    },
}
