//! The contract of [`Transport`] and [`Listener`], one check per numbered promise.

mod listening;
mod streaming;

use std::{any::Any, fmt, sync::Arc};

use ipc_transport::{
    ConnectOptions, Connection, Endpoint, ListenOptions, Listener, ReadHalf, Transport, WriteHalf,
};
use tokio::io::AsyncReadExt;

use super::{BrokenPromise, Examined, default_seed, write_out};

pub use self::{
    listening::{
        a_closed_listener_frees_its_name, a_second_listener_is_refused, accept_is_cancel_safe,
        connecting_to_nobody_is_refused, dropping_leaves_no_half_open_peer, establish_runs_off_the_listener,
        local_endpoint_is_dialable, nothing_happens_before_the_first_poll, refused_incoming_closes_the_peer,
        who_is_not_admitted_is_refused,
    },
    streaming::{
        an_unread_connection_holds_its_writer, bytes_arrive_in_order, closing_the_writer_is_seen_as_eof,
        dropping_a_connection_is_seen_as_eof, reading_works_after_closing_the_writer,
    },
};

/// What is checked: a transport to dial with, one to listen with, and a place where nobody listens yet.
///
/// # Examples
///
/// ```
/// use ipc_testkit::{Faulty, MemTransport, conformance::transport::Subject};
/// use ipc_transport::Endpoint;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let world = MemTransport::new();
/// let subject =
///     Subject::new(world.clone(), Endpoint::new("mem", "a")?).with_dialler(Faulty::pass_through(world));
/// # let _ = subject;
/// # Ok(())
/// # }
/// ```
pub struct Subject {
    dialler: Arc<dyn Transport>,
    acceptor: Arc<dyn Transport>,
    at: Endpoint,
    connect: ConnectOptions,
    listen: ListenOptions,
    seed: u64,
    kept: Vec<Box<dyn Any + Send + Sync>>,
}

impl Subject {
    /// A transport that both dials and listens, and an endpoint of its own to listen at.
    ///
    /// The endpoint may be one that stands for a fresh place, such as port 0.
    pub fn new(transport: impl Transport, at: Endpoint) -> Self {
        let transport = Arc::new(transport);
        Self {
            dialler: transport.clone(),
            acceptor: transport,
            at,
            connect: ConnectOptions::default(),
            listen: ListenOptions::default(),
            seed: default_seed(),
            kept: Vec::new(),
        }
    }

    /// Dials with another transport than it listens with.
    #[must_use]
    pub fn with_dialler(mut self, transport: impl Transport) -> Self {
        self.dialler = Arc::new(transport);
        self
    }

    /// Dials and listens with these options instead of the defaults.
    #[must_use]
    pub fn with_options(mut self, connect: ConnectOptions, listen: ListenOptions) -> Self {
        self.connect = connect;
        self.listen = listen;
        self
    }

    /// Makes all random choices from this seed instead of `IPC_SEED`, or 0 where that is not set.
    #[must_use]
    pub fn with_seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Keeps something alive as long as the subject: the directory of the endpoint, for one.
    #[must_use]
    pub fn keeping(mut self, guard: impl Any + Send + Sync) -> Self {
        self.kept.push(Box::new(guard));
        self
    }

    async fn listener(&self) -> Box<dyn Listener> {
        self.acceptor.listen(&self.at, &self.listen).await.expect("nobody listens there yet")
    }

    async fn dial(&self, to: &Endpoint) -> Connection {
        self.dialler.connect(to, &self.connect).await.expect("somebody listens there")
    }

    /// A connection with both of its ends, made while the given listener listens.
    async fn ends(&self, listener: &mut dyn Listener) -> Ends {
        let to = listener.local_endpoint().clone();
        let accepting = async {
            let incoming = listener.accept().await.expect("a dialler is coming");
            incoming.establish().await.expect("the dialler is honest")
        };
        let (dialled, accepted) = tokio::join!(self.dial(&to), accepting);
        Ends { dialled, accepted }
    }
}

impl Examined for Subject {
    const CONTRACT: &'static str = "Transport";
    const CHECKS: &'static [&'static str] = crate::__each_transport_check! { __names_of_checks };

    fn seed(&self) -> Option<u64> {
        Some(self.seed)
    }
}

impl fmt::Debug for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subject")
            .field("dialler", &self.dialler)
            .field("acceptor", &self.acceptor)
            .field("at", &self.at)
            .finish_non_exhaustive()
    }
}

/// The two ends of one connection.
struct Ends {
    dialled: Connection,
    accepted: Connection,
}

impl Ends {
    /// The end that acts first and the one that answers; `Role` says who is which.
    fn cast(self, role: Role) -> (Connection, Connection) {
        match role {
            Role::AcceptorActs => (self.accepted, self.dialled),
            Role::DiallerActs => (self.dialled, self.accepted),
        }
    }
}

/// Who does what the promise is about; each check is made in both orders.
#[derive(Debug, Clone, Copy)]
enum Role {
    AcceptorActs,
    DiallerActs,
}

const BOTH: [Role; 2] = [Role::AcceptorActs, Role::DiallerActs];

/// The promises are about the two halves; whoever keeps one must keep the other.
fn halves(connection: Connection) -> (ReadHalf, WriteHalf) {
    let (reader, writer, _) = connection.into_parts();
    (reader, writer)
}

/// Sends one byte each way and sees it arrive.
async fn assert_alive(ends: Ends) {
    let ((mut near_reader, mut near_writer), (mut far_reader, mut far_writer)) =
        (halves(ends.dialled), halves(ends.accepted));
    write_out(&mut near_writer, b"?").await.expect("the peer is alive");
    assert_eq!(far_reader.read_u8().await.expect("a byte was sent"), b'?');
    write_out(&mut far_writer, b"!").await.expect("the peer is alive");
    assert_eq!(near_reader.read_u8().await.expect("a byte was sent"), b'!');
}

/// Reads until nothing more comes, by end of stream or by a reset, which mean the same.
async fn read_to_any_end(reader: &mut ReadHalf) -> Vec<u8> {
    let mut all = Vec::new();
    // A reset after the bytes is an end like any other, and before them it has taken them away.
    let _ = reader.read_to_end(&mut all).await;
    all
}

/// Hands the name of each check to a macro, so that the list stands in one place.
#[doc(hidden)]
#[macro_export]
macro_rules! __each_transport_check {
    ($then:ident $($with:tt)*) => {
        $crate::$then! {
            [$($with)*]
            nothing_happens_before_the_first_poll
            dropping_leaves_no_half_open_peer
            bytes_arrive_in_order
            closing_the_writer_is_seen_as_eof
            reading_works_after_closing_the_writer
            dropping_a_connection_is_seen_as_eof
            an_unread_connection_holds_its_writer
            connecting_to_nobody_is_refused
            local_endpoint_is_dialable
            a_second_listener_is_refused
            a_closed_listener_frees_its_name
            accept_is_cancel_safe
            establish_runs_off_the_listener
            refused_incoming_closes_the_peer
            who_is_not_admitted_is_refused
        }
    };
}

/// Makes a test of each promise of [`Transport`] and [`Listener`], in a module of the given name.
///
/// The factory is called for each test and gives a [`Subject`]; what it names must be in scope where the macro stands.
///
/// # Examples
///
/// ```
/// use ipc_testkit::{MemTransport, conformance::transport::Subject, transport_conformance};
/// use ipc_transport::Endpoint;
///
/// transport_conformance!(memory, || Subject::new(MemTransport::new(), Endpoint::new("mem", "a").unwrap()));
/// ```
#[macro_export]
macro_rules! transport_conformance {
    ($name:ident, $factory:expr) => {
        $crate::__each_transport_check! { __test_checks transport $name, $factory }
    };
}

/// Runs all checks, one after the other, each on a subject of its own.
///
/// # Panics
///
/// At the first broken promise.
///
/// # Cancel safety
///
/// Dropping the future ends the check that is running.
pub async fn run_all(factory: impl Fn() -> Subject) {
    crate::__each_transport_check! { __run_checks factory }
}

/// Runs all checks, as [`run_all`] does, and gives every promise that is broken.
///
/// # Cancel safety
///
/// Dropping the future ends the check that is running.
pub async fn broken_promises(factory: impl Fn() -> Subject) -> Vec<BrokenPromise> {
    crate::__each_transport_check! { __collect_broken factory }
}
