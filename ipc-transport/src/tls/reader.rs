//! The reading half: what TLS has to say about the peer comes as an error with a type.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, ReadBuf};

use super::TlsError;

/// Gives a [`TlsError`] inside of the [`io::Error`] where TLS itself failed; what the socket reports stays as it is.
#[derive(Debug)]
pub(super) struct Reader<R>(pub(super) R);

impl<R: AsyncRead + Unpin> AsyncRead for Reader<R> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf).map_err(typed)
    }
}

fn typed(error: io::Error) -> io::Error {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(inner) => TlsError::of_rustls(inner).into(),
        None => error,
    }
}
