//! Values as the JSON text that `JSON.stringify` prints, within limits.

use std::io;

use ipc_transport::depth::{DepthError, serialize_within};
use ipc_transport::{EncodeBuffer, EncodeError};
use serde::Serialize;
use serde_json::ser::{Formatter, Serializer};

use super::number::{write_f32, write_f64};

/// Appends the JSON text of a value that nests at most `max_depth` levels.
///
/// After an error what was written for it means nothing.
pub(super) fn write_json<T>(
    value: &T,
    out: &mut EncodeBuffer<'_>,
    max_depth: usize,
) -> Result<(), EncodeError>
where
    T: Serialize + ?Sized,
{
    let mut sink = Sink { out, failed: None };
    let mut serializer = Serializer::with_formatter(&mut sink, JavaScript);
    match serialize_within(value, &mut serializer, max_depth) {
        Ok(()) => Ok(()),
        Err(DepthError::Depth { max }) => Err(EncodeError::Depth { max }),
        Err(DepthError::Format(error)) => {
            Err(sink.failed.unwrap_or_else(|| EncodeError::Custom { message: message(&error) }))
        }
    }
}

/// What serde_json prints is what JavaScript prints, apart from floating-point numbers.
struct JavaScript;

impl Formatter for JavaScript {
    fn write_f32<W>(&mut self, writer: &mut W, value: f32) -> io::Result<()>
    where
        W: io::Write + ?Sized,
    {
        write_f32(writer, value)
    }

    fn write_f64<W>(&mut self, writer: &mut W, value: f64) -> io::Result<()>
    where
        W: io::Write + ?Sized,
    {
        write_f64(writer, value)
    }
}

/// Keeps the buffer's own error, which an `io::Error` would lose.
struct Sink<'s, 'b> {
    out: &'s mut EncodeBuffer<'b>,
    failed: Option<EncodeError>,
}

impl io::Write for Sink<'_, '_> {
    #[inline]
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_all(bytes)?;
        Ok(bytes.len())
    }

    #[inline]
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.out.write(bytes).map_err(|error| {
            self.failed = Some(error);
            io::ErrorKind::WriteZero.into()
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The beginning of a message that others wrote.
fn message(error: &serde_json::Error) -> Box<str> {
    let mut message = error.to_string();
    let end = (0..=message.len().min(MAX_MESSAGE)).rev().find(|&end| message.is_char_boundary(end));
    message.truncate(end.unwrap_or_default());
    message.into_boxed_str()
}

/// The most that an error keeps of a message that others wrote, in bytes, as the codecs do.
const MAX_MESSAGE: usize = 256;
