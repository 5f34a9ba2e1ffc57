//! The second baseline: tokio-util's `Framed` with length prefixes; `feed` per value and one flush per batch.

use std::io;

use bytes::{Bytes, BytesMut};
use futures_util::{SinkExt, StreamExt as _};
use tokio_util::codec::{Framed, LengthDelimitedCodec};

use super::{
    flow::Flow,
    socket::Socket,
    value::{Message, VALUE_SIZE, Value},
};

/// Framed values on a socket. They are encoded and decoded by hand, which is the least that any codec costs.
#[derive(Debug)]
pub(crate) struct Feed<S> {
    framed: Framed<S, LengthDelimitedCodec>,
    size: usize,
    payload: Bytes,
    scratch: BytesMut,
}

impl<S: Socket> Feed<S> {
    /// Wraps a connected socket.
    pub(crate) fn new(socket: S, size: usize) -> Self {
        let framed = Framed::new(socket, LengthDelimitedCodec::new());
        Self { framed, size, payload: Bytes::stock(size), scratch: BytesMut::new() }
    }

    fn encode(&mut self, number: u64) -> Bytes {
        if self.size != VALUE_SIZE {
            return self.payload.clone();
        }
        self.scratch.extend_from_slice(&Value::new(number).encode());
        self.scratch.split().freeze()
    }

    fn check(&self, frame: &[u8], number: u64) -> io::Result<()> {
        if self.size == VALUE_SIZE {
            return Value::decode(frame)?.check(&(), number);
        }
        if frame.len() == self.size {
            Ok(())
        } else {
            Err(io::Error::other("a frame of the wrong size arrived"))
        }
    }
}

impl<S: Socket> Flow for Feed<S> {
    async fn send(&mut self, from: u64, count: u64) -> io::Result<()> {
        for number in from..from + count {
            let frame = self.encode(number);
            self.framed.feed(frame).await?;
        }
        SinkExt::<Bytes>::flush(&mut self.framed).await
    }

    async fn receive(&mut self, next: u64, max: u64) -> io::Result<u64> {
        let mut count = 0;
        // As long as the buffer holds a whole frame, taking it costs no call to the system.
        while count == 0 || (count < max && self.framed.read_buffer().len() >= HEADER + self.size) {
            let frame = self.framed.next().await.ok_or(io::ErrorKind::UnexpectedEof)??;
            self.check(&frame, next + count)?;
            count += 1;
        }
        Ok(count)
    }

    async fn finish(mut self) -> io::Result<()> {
        SinkExt::<Bytes>::close(&mut self.framed).await
    }

    async fn wait_for_end(mut self) -> io::Result<()> {
        match self.framed.next().await {
            None => Ok(()),
            Some(_) => Err(io::Error::other("more arrived than was due")),
        }
    }
}

/// Bytes of the length prefix.
const HEADER: usize = 4;
