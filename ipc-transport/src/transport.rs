//! The control plane: how connections come to be, as traits with a numbered contract.

use std::{fmt, future::Future, pin::Pin, time::Duration};

use async_trait::async_trait;

use crate::{Access, Connection, Endpoint, Error};

/// A way to make connections, chosen at run time by the scheme of an [`Endpoint`].
#[async_trait]
pub trait Transport: fmt::Debug + Send + Sync + 'static {
    /// The scheme that this transport serves: `unix`, `tcp`, `mem`, or one of your own.
    fn scheme(&self) -> &str;

    /// Opens a connection.
    async fn connect(&self, to: &Endpoint, options: &ConnectOptions) -> Result<Connection, Error>;

    /// Starts to listen.
    async fn listen(&self, at: &Endpoint, options: &ListenOptions) -> Result<Box<dyn Listener>, Error>;
}

/// A place where connections arrive.
#[async_trait]
pub trait Listener: fmt::Debug + Send + 'static {
    /// Where it listens: the real port after `:0`, never a temporary name used while binding.
    fn local_endpoint(&self) -> &Endpoint;

    /// The next connection that somebody wants; cancel safe.
    async fn accept(&mut self) -> Result<Incoming, Error>;

    /// Stops listening and frees the address.
    async fn close(self: Box<Self>) -> Result<(), Error>;
}

type Establish = Pin<Box<dyn Future<Output = Result<Connection, Error>> + Send + 'static>>;

/// A connection that has arrived and is not yet established; it borrows nothing from its listener.
///
/// Accepting is not handshaking: a transport that has something to negotiate does it in
/// [`Incoming::establish`], on the acceptor's own task, so that a slow peer never stalls the listener.
pub struct Incoming {
    remote: Endpoint,
    establish: Establish,
}

impl Incoming {
    /// A pending connection, with the work that establishes it.
    pub fn new(
        remote: Endpoint,
        establish: impl Future<Output = Result<Connection, Error>> + Send + 'static,
    ) -> Self {
        Self { remote, establish: Box::pin(establish) }
    }

    /// Who knocks, as far as the address tells.
    pub fn remote_endpoint(&self) -> &Endpoint {
        &self.remote
    }

    /// Finishes what the transport has to do before bytes can flow.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the pending connection; the peer sees it closed.
    pub async fn establish(self) -> Result<Connection, Error> {
        self.establish.await
    }

    /// Turns the peer away; it sees its connection closed.
    pub fn refuse(self) {}
}

impl fmt::Debug for Incoming {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Incoming").field("remote", &self.remote).finish_non_exhaustive()
    }
}

/// How to dial.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ConnectOptions {
    /// How long to try, 10 s by default: as long as a handshake may take.
    pub timeout: Duration,
    /// Whom to accept as the other side, where the kernel tells; the same user by default on `unix:`.
    pub access: Access,
}

impl Default for ConnectOptions {
    fn default() -> Self {
        Self { timeout: Duration::from_secs(10), access: Access::SameUser }
    }
}

/// How to listen.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ListenOptions {
    /// Whom to let in, where the kernel tells; the same user by default on `unix:`.
    pub access: Access,
    /// How many connections may wait to be accepted, 1,024 by default; the kernel may cap it.
    pub backlog: u32,
}

impl Default for ListenOptions {
    fn default() -> Self {
        Self { access: Access::SameUser, backlog: 1024 }
    }
}
