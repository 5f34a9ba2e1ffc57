//! Faults on purpose: any transport with rules that refuse, cut, split, stall, delay and corrupt it.

mod flow;
mod halves;
mod handle;
mod plan;
mod socket;

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use async_trait::async_trait;
use ipc_transport::{
    ConnectOptions, Connection, DatagramSocket, DatagramTransport, Endpoint, Error, Incoming, ListenOptions,
    Listener, Transport,
};
use tokio::io::AsyncWrite;

use self::{
    flow::Flow,
    halves::{FaultyReader, FaultyWriter, Live},
    handle::Shared,
};
pub use self::{
    handle::{DatagramCounters, FaultCounters, FaultHandle, SideCounters},
    plan::{Chunk, Direction, FaultPlan, Rule, Side, Verdict},
};

/// A transport whose connections suffer what a [`FaultPlan`] says.
///
/// It wraps both what it dials and what it accepts; wrap one side only to give the two sides different plans. With a
/// plan without rules it passes everything through unchanged and only counts, and a [`FaultHandle`] cuts,
/// stalls and refuses by hand.
///
/// Refusing, cutting, splitting, stalling and delaying stay within the contract of [`Transport`]: bytes arrive in
/// order or the connection fails. Corrupting, losing, duplicating and reordering break it on purpose: they act on the
/// chunks that single reads and writes move, which is damage to the byte stream, as no real transport of ours would do
/// it. They are there to show that the layer above notices.
///
/// A [`DatagramTransport`] is wrapped in the same way, and there losing, duplicating and reordering are what the contract
/// allows. [`Rule`] has a table of what each rule does to datagrams.
///
/// # Examples
///
/// ```
/// use ipc_testkit::{FaultPlan, Faulty, MemTransport, Rule};
///
/// let plan = FaultPlan::new(42).with(Rule::split_at_every_byte()).with(Rule::cut_between(0..=500).connections(0..9));
/// let transport = Faulty::new(MemTransport::new(), plan);
/// let handle = transport.handle();
/// assert_eq!(handle.cut_all(), 0);
/// ```
pub struct Faulty<T> {
    inner: T,
    control: Arc<Control>,
}

impl<T> Faulty<T> {
    /// Wraps a transport.
    pub fn new(inner: T, plan: FaultPlan) -> Self {
        let control = Control {
            shared: Arc::new(Shared::new(plan)),
            dialled: AtomicU64::new(0),
            accepted: AtomicU64::new(0),
            bound: AtomicU64::new(0),
            reported: AtomicBool::new(false),
        };
        Self { inner, control: Arc::new(control) }
    }

    /// Wraps a transport without any rule, for its counters and its handle.
    pub fn pass_through(inner: T) -> Self {
        Self::new(inner, FaultPlan::new(0))
    }

    /// Control over all connections of this transport.
    pub fn handle(&self) -> FaultHandle {
        FaultHandle::new(self.control.shared.clone())
    }

    /// The transport underneath.
    pub fn inner(&self) -> &T {
        &self.inner
    }
}

impl<T: Clone> Clone for Faulty<T> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), control: self.control.clone() }
    }
}

impl<T: fmt::Debug> fmt::Debug for Faulty<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Faulty")
            .field("inner", &self.inner)
            .field("plan", &format_args!("{}", self.control.shared.plan))
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl<T: Transport> Transport for Faulty<T> {
    fn scheme(&self) -> &str {
        self.inner.scheme()
    }

    async fn connect(&self, to: &Endpoint, options: &ConnectOptions) -> Result<Connection, Error> {
        let number = self.control.next(Side::Dialled);
        self.control.admit(Side::Dialled, number, to)?;
        let connection = self.inner.connect(to, options).await?;
        Ok(self.control.wrap(Side::Dialled, number, connection))
    }

    async fn listen(&self, at: &Endpoint, options: &ListenOptions) -> Result<Box<dyn Listener>, Error> {
        let inner = self.inner.listen(at, options).await?;
        Ok(Box::new(FaultyListener { inner, control: self.control.clone() }))
    }
}

#[async_trait]
impl<T: DatagramTransport> DatagramTransport for Faulty<T> {
    fn scheme(&self) -> &str {
        self.inner.scheme()
    }

    async fn bind(&self, at: &Endpoint) -> Result<DatagramSocket, Error> {
        let number = self.control.next(Side::Bound);
        self.control.admit(Side::Bound, number, at)?;
        let socket = self.inner.bind(at).await?;
        Ok(socket::wrap(&self.control.shared, number, socket))
    }
}

#[derive(Debug)]
struct FaultyListener {
    inner: Box<dyn Listener>,
    control: Arc<Control>,
}

#[async_trait]
impl Listener for FaultyListener {
    fn local_endpoint(&self) -> &Endpoint {
        self.inner.local_endpoint()
    }

    async fn accept(&mut self) -> Result<Incoming, Error> {
        let incoming = self.inner.accept().await?;
        let number = self.control.next(Side::Accepted);
        let (control, local) = (self.control.clone(), self.local_endpoint().clone());
        Ok(Incoming::new(incoming.remote_endpoint().clone(), async move {
            control.admit(Side::Accepted, number, &local)?;
            let connection = incoming.establish().await?;
            Ok(control.wrap(Side::Accepted, number, connection))
        }))
    }

    async fn close(self: Box<Self>) -> Result<(), Error> {
        self.inner.close().await
    }
}

/// What the transport and its listeners share.
struct Control {
    shared: Arc<Shared>,
    dialled: AtomicU64,
    accepted: AtomicU64,
    bound: AtomicU64,
    reported: AtomicBool,
}

impl Control {
    /// The number of a new connection or socket on its side.
    fn next(&self, side: Side) -> u64 {
        let counter = match side {
            Side::Accepted => &self.accepted,
            Side::Bound => &self.bound,
            Side::Dialled => &self.dialled,
        };
        counter.fetch_add(1, Ordering::Relaxed)
    }

    fn admit(&self, side: Side, number: u64, endpoint: &Endpoint) -> Result<(), Error> {
        if !self.shared.is_refusing() && !flow::refuses(&self.shared.plan, side, number) {
            return Ok(());
        }
        self.shared.count(side, |counters| counters.refused += 1);
        let endpoint = endpoint.clone();
        Err(match side {
            Side::Accepted | Side::Dialled => Error::ConnectionRefused { endpoint },
            Side::Bound => Error::AddrInUse { endpoint, holder: None },
        })
    }

    fn wrap(&self, side: Side, number: u64, connection: Connection) -> Connection {
        let (reader, writer, info) = connection.into_parts();
        let vectored = writer.is_write_vectored();
        let flow = |direction| Flow::new(&self.shared.plan, side, direction, number);
        let (reading, writing) = (flow(Direction::Reading), flow(Direction::Writing));
        self.shared.count(side, |counters| counters.connections += 1);
        let live = Live::new(self.shared.clone(), side, reader, writer);
        if reading.is_cut() || writing.is_cut() {
            live.cut();
        }
        let reader = FaultyReader::new(live.clone(), reading);
        Connection::from_bytes(reader, FaultyWriter::new(live, writing, vectored), info)
    }
}

impl fmt::Debug for Control {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Control").field("plan", &self.shared.plan).finish_non_exhaustive()
    }
}

impl<T> Drop for Faulty<T> {
    /// A failing test says under which plan it failed, once.
    fn drop(&mut self) {
        if std::thread::panicking()
            && !self.control.shared.plan.rules().is_empty()
            && !self.control.reported.swap(true, Ordering::Relaxed)
        {
            #[expect(clippy::print_stderr, reason = "the test is failing, and this is how to reproduce it")]
            {
                eprintln!("faults were injected with {}", self.control.shared.plan);
            }
        }
    }
}
