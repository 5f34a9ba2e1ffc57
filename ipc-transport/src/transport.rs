//! The control plane: how connections come to be, as traits with a numbered contract.

use std::{fmt, future::Future, pin::Pin, time::Duration};

use async_trait::async_trait;

use crate::{Access, Connection, Endpoint, Error};

/// A way to make connections, chosen at run time by the scheme of an [`Endpoint`].
///
/// It is the control plane: called once per connection, so dynamic calls and boxed futures do not count. The
/// bytes themselves move through the halves of a [`Connection`].
///
/// # Contract
///
/// Every implementation keeps these promises, and the conformance suite of `ipc-testkit` has a check of the same
/// name for each. The numbers go on at [`Listener`].
///
/// 1. `nothing_happens_before_the_first_poll`: a future of [`Transport::connect`] or [`Transport::listen`] that is
///    made and dropped without being polled dials nobody and occupies no address.
/// 2. `dropping_leaves_no_half_open_peer`: when a `connect` future is dropped at any await point, the listener's
///    side either never hears of it or gets a connection that is at its end.
/// 3. `bytes_arrive_in_order`: what is written arrives once, unaltered and in the order of writing, however reads
///    and writes are split, or the connection reports an error; nothing is skipped silently. A writer may keep what it
///    was given until it is flushed or closed; what a `flush` has let pass needs nothing more to arrive.
/// 4. `closing_the_writer_is_seen_as_eof`: after `shutdown` of the writing half the peer reads every byte that was
///    written before it, and then the end of the stream.
/// 5. `reading_works_after_closing_the_writer`: each direction ends by itself, so a side that closed its writing
///    half still reads what the peer sends.
/// 6. `dropping_a_connection_is_seen_as_eof`: when both halves are dropped the peer's reads end, by end of stream
///    or by a reset; both mean the same, and no read waits for ever.
/// 7. `an_unread_connection_holds_its_writer`: buffers between the two sides are bounded, so writing to a peer that
///    does not read comes to wait, and goes on when the peer reads.
/// 8. `connecting_to_nobody_is_refused`: dialling an address where nobody listens gives
///    [`Error::ConnectionRefused`] or [`Error::NotFound`] without waiting for the deadline.
///
/// A connection counts only after the handshake of the layer above was answered: a connect and a write into a
/// listener that is about to die may both succeed.
#[async_trait]
pub trait Transport: fmt::Debug + Send + Sync + 'static {
    /// The scheme that this transport serves: `unix`, `tcp`, `tls`, `mem`, or one of your own.
    fn scheme(&self) -> &str;

    /// Opens a connection.
    ///
    /// # Errors
    ///
    /// [`Error::ConnectionRefused`] and [`Error::NotFound`] when nobody listens there, [`Error::TimedOut`] when
    /// [`ConnectOptions::timeout`] passes first, [`Error::AccessDenied`] when the peer's identity is not admitted.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives the attempt up and leaves nothing behind (promise 2).
    async fn connect(&self, to: &Endpoint, options: &ConnectOptions) -> Result<Connection, Error>;

    /// Starts to listen.
    ///
    /// # Errors
    ///
    /// [`Error::AddrInUse`] when somebody else listens there, [`Error::Obstructed`] when something that is no
    /// socket stands at the address.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves nothing listening.
    async fn listen(&self, at: &Endpoint, options: &ListenOptions) -> Result<Box<dyn Listener>, Error>;
}

/// A place where connections arrive.
///
/// # Contract
///
/// The list of [`Transport`] goes on:
///
/// 9. `local_endpoint_is_dialable`: [`Listener::local_endpoint`] names the address that a dialler in the same place
///    can use as it is, the real port included.
/// 10. `a_second_listener_is_refused`: while a listener is open, listening at its address again gives
///     [`Error::AddrInUse`], and the first one goes on serving.
/// 11. `a_closed_listener_frees_its_name`: after [`Listener::close`] returned, nobody is there to be dialled and the
///     same address can be listened at again; a listener that is dropped does the same.
/// 12. `accept_is_cancel_safe`: dropping an [`Listener::accept`] future loses no connection; the next call yields it.
/// 13. `establish_runs_off_the_listener`: an [`Incoming`] borrows nothing from its listener, so that one that is
///     slow to establish, or never does, holds up no other; and what one dialler says and hears is never another's.
/// 14. `refused_incoming_closes_the_peer`: after [`Incoming::refuse`], or when an `Incoming` is dropped, the dialler
///     sees its connection refused or at its end.
/// 15. `who_is_not_admitted_is_refused`: where [`ListenOptions::access`] does not admit the peer, establishing is
///     [`Error::AccessDenied`] and the dialler sees its connection refused or at its end; where
///     [`ConnectOptions::access`] does not, connecting is [`Error::AccessDenied`].
#[async_trait]
pub trait Listener: fmt::Debug + Send + 'static {
    /// Where it listens: the real port after `:0`, never a temporary name used while binding.
    fn local_endpoint(&self) -> &Endpoint;

    /// The next connection that somebody wants.
    ///
    /// A shortage of descriptors or memory is waited out with growing pauses, not reported and not spun on. An error
    /// means that this listener is of no more use.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: a connection is either returned or still waiting (promise 12).
    async fn accept(&mut self) -> Result<Incoming, Error>;

    /// Stops listening and frees the address (promise 11).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the listener, which frees the address too, without reporting an error.
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
    /// How long to try, name look-up included; 10 s by default, as long as a handshake may take.
    pub timeout: Duration,
    /// Whom to accept as the other side; [`Access::WhereKnown`] by default, the same user on `unix:`.
    pub access: Access,
}

impl ConnectOptions {
    /// Sets [`ConnectOptions::timeout`].
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Sets [`ConnectOptions::access`].
    #[must_use]
    pub fn with_access(mut self, access: Access) -> Self {
        self.access = access;
        self
    }
}

impl Default for ConnectOptions {
    fn default() -> Self {
        Self { timeout: Duration::from_secs(10), access: Access::default() }
    }
}

/// How to listen.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ListenOptions {
    /// Whom to let in; [`Access::WhereKnown`] by default, the same user on `unix:`.
    pub access: Access,
    /// How many connections may wait to be accepted, 1,024 by default; the kernel may cap it.
    ///
    /// A dialler that finds it full tries again until its deadline, so a small one costs time and no connection.
    pub backlog: u32,
    /// The permission bits of a Unix socket file. `None`, the default, derives them from [`ListenOptions::access`]:
    /// 0600, for `Group` 0660 with that group as the owner, for `Any` and `Uids` 0666, where the kernel's word on
    /// the peer decides. `Custom` gives 0600.
    ///
    /// Connecting takes the right to write. The socket is never more open than this, not even while it is made, and a
    /// mode that is more open than the rule lets nobody else in. What node-ipc calls `readableAll` is 0644, its
    /// `writableAll` 0622, both together 0666.
    pub mode: Option<u32>,
}

impl ListenOptions {
    /// Sets [`ListenOptions::access`].
    #[must_use]
    pub fn with_access(mut self, access: Access) -> Self {
        self.access = access;
        self
    }

    /// Sets [`ListenOptions::backlog`].
    #[must_use]
    pub fn with_backlog(mut self, backlog: u32) -> Self {
        self.backlog = backlog;
        self
    }

    /// Sets [`ListenOptions::mode`].
    #[must_use]
    pub fn with_mode(mut self, mode: u32) -> Self {
        self.mode = Some(mode);
        self
    }
}

impl Default for ListenOptions {
    fn default() -> Self {
        Self { access: Access::default(), backlog: 1024, mode: None }
    }
}
