//! The wire format of node-ipc: JSON envelopes, each before a delimiter.
//!
//! The format of node-ipc 9.2.1 and 14, and of 0.9 with its greeting, without IO: no clock, no socket, no task. A
//! [`Writer`] appends frames to a buffer, a [`Reader`] is fed chunks that are cut anywhere and yields [`Frame`]s. What
//! the kinds of peers differ in stands in the [`Profile`].
//!
//! ```text
//! {"type":"message","data":"hello"} 0x0C
//! ```
//!
//! # What is written
//!
//! The bytes that `JSON.stringify` prints: keys in the order of the fields, no spaces, `/` and non-ASCII raw, control
//! characters escaped. Integers are printed in full, those beyond 2⁵³ too, which JavaScript rounds as it reads them.
//! Floating-point numbers are printed as JavaScript prints them; `-0.0` is `0`, and NaN and the infinities are `null`. An
//! `f32` has the digits that give the same `f32` back. Byte slices are arrays of numbers. Maps and structs keep the order
//! that `Serialize` gives them, where JavaScript moves keys that look like array indices to the front.
//!
//! Node's own `emit` replaces `""`, `null`, `NaN` and absent data by `{}` before it writes; the format itself carries them,
//! and so does this room in both directions.
//!
//! # Where servers are
//!
//! Node's rules for the place of a service are plain functions: [`default_path_v9`], [`default_path_v14`] and those for
//! named pipes on Windows. Paths that are too long for a socket are the transport's business.
//!
//! # What is read
//!
//! Any JSON object with a `type` that is a string, in any order of keys; further keys are skipped.
//!
//! | input | result |
//! |---|---|
//! | a key given twice | the last one counts, as in Node |
//! | a `type` with a lone surrogate | [`WireError::LoneSurrogate`]: Rust strings are Unicode |
//! | data with a lone surrogate | the frame is good; decoding it as a string fails |
//! | a number beyond 2⁵³ | the text is kept: exact as `u64` or `i64`, rounded as `f64` |
//! | `-0` | the text is kept: `-0.0` as `f64`, an error as an integer |
//! | `1e400` | the frame is good; decoding it as `f64` fails, where JavaScript has `Infinity` |
//! | nesting deeper than the limit | [`WireError::Depth`], found without recursion |
//! | two delimiters in a row | skipped and counted: [`Reader::empty_frames`] |
//! | bytes that are not UTF-8 | [`WireError::NotUtf8`], where Node puts U+FFFD in their place |
//!
//! # Examples
//!
//! ```
//! use ipc_channel::events::node_ipc::{Delimiter, Profile, Reader, Writer};
//!
//! let writer = Writer::new(&Delimiter::default(), Profile::Compatible, 1024);
//! let mut wire = Vec::new();
//! writer.encode("message", Some("hello"), &mut wire)?;
//! assert_eq!(wire, b"{\"type\":\"message\",\"data\":\"hello\"}\x0c");
//!
//! let mut reader = Reader::new(&Delimiter::default(), Profile::Compatible, 1024);
//! for chunk in wire.chunks(7) {
//!     reader.handle_bytes(chunk);
//! }
//! let frame = reader.poll_frame()?.ok_or("no frame")?;
//! assert_eq!((frame.name(), frame.data().as_deref()), ("message", Some(&b"\"hello\""[..])));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod delimiter;
mod envelope;
mod error;
mod introspection;
mod names;
mod number;
mod path;
mod profile;
mod reader;
mod scan;
mod text;
mod writer;

pub use delimiter::{Delimiter, DelimiterError};
pub use envelope::{Envelope, decode, decode_within};
pub use error::WireError;
pub use introspection::{Announcement, Catalogue, Introspection};
pub use path::{
    PathError, default_path_v9, default_path_v14, default_path_v14_here, default_pipe_v14, pipe_of_client,
    pipe_of_server,
};
pub use profile::{Guard, Profile};
pub use reader::{Frame, Reader};
pub use writer::Writer;

/// How deep data may nest unless a profile says otherwise: 64 arrays and objects, the envelope not counted.
pub const DEFAULT_MAX_DEPTH: usize = ipc_transport::depth::DEFAULT_MAX;

/// The most that any setting grants: 127, where the JSON decoder that reads data later stops as well.
pub const MAX_DEPTH: usize = 127;
