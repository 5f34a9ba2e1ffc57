//! Lets format crates that write to an `io::Write` write into an [`EncodeBuffer`].

use std::io;

use super::{EncodeBuffer, EncodeError};

/// Keeps the buffer's own error, which an `io::Error` would lose.
pub(super) struct Writer<'w, 'b> {
    out: &'w mut EncodeBuffer<'b>,
    failed: Option<EncodeError>,
}

impl<'w, 'b> Writer<'w, 'b> {
    pub(super) fn new(out: &'w mut EncodeBuffer<'b>) -> Self {
        Self { out, failed: None }
    }

    /// Why it took no more, if that is what went wrong.
    pub(super) fn into_failure(self) -> Option<EncodeError> {
        self.failed
    }
}

impl io::Write for Writer<'_, '_> {
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
