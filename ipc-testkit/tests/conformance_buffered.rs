//! A transport whose writers keep bytes until they are flushed keeps the contract, as promise 3 allows.

#![allow(clippy::unwrap_used, reason = "a test may unwrap, its helpers too")]

use async_trait::async_trait;
use ipc_testkit::{MemTransport, conformance::transport::Subject, transport_conformance};
use ipc_transport::{
    ConnectOptions, Connection, Endpoint, Error, Incoming, ListenOptions, Listener, Transport,
};
use tokio::io::BufWriter;

transport_conformance!(few_bytes, || subject(7));
transport_conformance!(a_usual_buffer, || subject(8 * 1024));
transport_conformance!(more_than_a_pipe_holds, || subject(1 << 20));

fn subject(capacity: usize) -> Subject {
    Subject::new(Buffered { world: MemTransport::new(), capacity }, Endpoint::new("mem", "a").unwrap())
}

/// Connections in memory whose writers keep up to so many bytes.
#[derive(Debug)]
struct Buffered {
    world: MemTransport,
    capacity: usize,
}

#[async_trait]
impl Transport for Buffered {
    fn scheme(&self) -> &str {
        MemTransport::SCHEME
    }

    async fn connect(&self, to: &Endpoint, options: &ConnectOptions) -> Result<Connection, Error> {
        Ok(buffered(self.world.connect(to, options).await?, self.capacity))
    }

    async fn listen(&self, at: &Endpoint, options: &ListenOptions) -> Result<Box<dyn Listener>, Error> {
        let inner = self.world.listen(at, options).await?;
        Ok(Box::new(BufferedListener { inner, capacity: self.capacity }))
    }
}

#[derive(Debug)]
struct BufferedListener {
    inner: Box<dyn Listener>,
    capacity: usize,
}

#[async_trait]
impl Listener for BufferedListener {
    fn local_endpoint(&self) -> &Endpoint {
        self.inner.local_endpoint()
    }

    async fn accept(&mut self) -> Result<Incoming, Error> {
        let (incoming, capacity) = (self.inner.accept().await?, self.capacity);
        Ok(Incoming::new(incoming.remote_endpoint().clone(), async move {
            Ok(buffered(incoming.establish().await?, capacity))
        }))
    }

    async fn close(self: Box<Self>) -> Result<(), Error> {
        self.inner.close().await
    }
}

fn buffered(connection: Connection, capacity: usize) -> Connection {
    let (reader, writer, info) = connection.into_parts();
    Connection::from_bytes(reader, BufWriter::with_capacity(capacity, writer), info)
}
