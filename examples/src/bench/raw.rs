//! The baseline: tokio on the bare socket, batched by hand.

use std::io;

use bytes::Bytes;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::{
    flow::Flow,
    socket::Socket,
    value::{Message, VALUE_SIZE, Value},
};

/// Values back to back on a socket, without headers: both ends know the size.
#[derive(Debug)]
pub(crate) struct Raw<S> {
    socket: S,
    size: usize,
    payload: Bytes,
    output: Vec<u8>,
    input: Box<[u8]>,
    /// Bytes at the start of `input` that belong to a value not yet whole.
    partial: usize,
    /// The same for values too large to be kept.
    skipped: usize,
}

impl<S: Socket> Raw<S> {
    /// Wraps a connected socket.
    pub(crate) fn new(socket: S, size: usize) -> Self {
        let input = vec![0; READ].into_boxed_slice();
        let payload = Bytes::stock(size);
        Self { socket, size, payload, output: Vec::new(), input, partial: 0, skipped: 0 }
    }

    /// Values of 64 bytes: decoded and checked, every one.
    async fn receive_values(&mut self, next: u64) -> io::Result<u64> {
        loop {
            let read = self.socket.read(&mut self.input[self.partial..]).await?;
            if read == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let end = self.partial + read;
            let whole = end / VALUE_SIZE;
            for (bytes, number) in self.input[..end].chunks_exact(VALUE_SIZE).zip(next..) {
                Value::decode(bytes)?.check(&(), number)?;
            }
            self.input.copy_within(whole * VALUE_SIZE..end, 0);
            self.partial = end - whole * VALUE_SIZE;
            if whole > 0 {
                return Ok(whole as u64);
            }
        }
    }

    /// Buffers of bytes: counted.
    async fn receive_payloads(&mut self) -> io::Result<u64> {
        loop {
            let read = self.socket.read(&mut self.input).await?;
            if read == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let total = self.skipped + read;
            self.skipped = total % self.size;
            if total >= self.size {
                return Ok((total / self.size) as u64);
            }
        }
    }
}

impl<S: Socket> Flow for Raw<S> {
    async fn send(&mut self, from: u64, count: u64) -> io::Result<()> {
        if self.size >= LARGE {
            for _ in 0..count {
                self.socket.write_all(&self.payload).await?;
            }
            return self.socket.flush().await;
        }
        self.output.clear();
        for number in from..from + count {
            if self.size == VALUE_SIZE {
                self.output.extend_from_slice(&Value::new(number).encode());
            } else {
                self.output.extend_from_slice(&self.payload);
            }
        }
        self.socket.write_all(&self.output).await?;
        // Nothing to do for a socket, but TLS may keep what it was given.
        self.socket.flush().await
    }

    async fn receive(&mut self, next: u64, _: u64) -> io::Result<u64> {
        if self.size == VALUE_SIZE { self.receive_values(next).await } else { self.receive_payloads().await }
    }

    async fn finish(mut self) -> io::Result<()> {
        self.socket.shutdown().await
    }

    async fn wait_for_end(mut self) -> io::Result<()> {
        match self.socket.read(&mut self.input).await? {
            0 => Ok(()),
            _ => Err(io::Error::other("more arrived than was due")),
        }
    }
}

/// A read takes what is there, up to this: an exact-size read pays for one call more, which finds nothing.
const READ: usize = 64 * 1024;

/// Payloads from this size on are written from where they are.
const LARGE: usize = 16 * 1024;
