//! The contract of [`DatagramTransport`], one check per numbered promise.
//!
//! Datagrams may be lost, so the checks send again until something arrives; a transport that loses some of them passes as
//! well as one that loses none, and what arrives must be right in both.

use std::{any::Any, fmt, future::poll_fn, iter, pin::pin, sync::Arc, task::Poll, time::Duration};

use bytes::Bytes;
use ipc_transport::{
    Datagram, DatagramAddress, DatagramReader, DatagramSocket, DatagramTransport, DatagramWriter, Endpoint,
    Error,
};
use tokio::time::timeout;

use super::{BrokenPromise, Examined, default_seed};

/// What is checked: a transport, and an endpoint that stands for a fresh place each time, such as port 0.
pub struct Subject {
    transport: Arc<dyn DatagramTransport>,
    at: Endpoint,
    seed: u64,
    kept: Vec<Box<dyn Any + Send + Sync>>,
}

impl Subject {
    /// A transport, and an endpoint at which each bind finds a fresh place.
    ///
    /// Its datagrams have to carry 8 bytes at least.
    pub fn new(transport: impl DatagramTransport, at: Endpoint) -> Self {
        Self { transport: Arc::new(transport), at, seed: default_seed(), kept: Vec::new() }
    }

    /// Makes all random choices from this seed instead of `IPC_SEED`, or 0 where that is not set.
    #[must_use]
    pub fn with_seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Keeps something alive as long as the subject.
    #[must_use]
    pub fn keeping(mut self, guard: impl Any + Send + Sync) -> Self {
        self.kept.push(Box::new(guard));
        self
    }

    async fn bind(&self) -> Ends {
        Ends::new(self.transport.bind(&self.at).await.expect("the place is fresh"))
    }
}

impl Examined for Subject {
    const CONTRACT: &'static str = "DatagramTransport";
    const CHECKS: &'static [&'static str] = crate::__each_datagram_check! { __names_of_checks };

    fn seed(&self) -> Option<u64> {
        Some(self.seed)
    }
}

impl fmt::Debug for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subject")
            .field("transport", &self.transport)
            .field("at", &self.at)
            .finish_non_exhaustive()
    }
}

/// A socket, taken apart.
struct Ends {
    reader: DatagramReader,
    writer: DatagramWriter,
    local: Endpoint,
    address: DatagramAddress,
}

impl Ends {
    fn new(socket: DatagramSocket) -> Self {
        let local = socket.local_endpoint().clone();
        let address = DatagramAddress::of(&local).expect("a bound socket has an address");
        let (reader, writer) = socket.into_parts();
        Self { reader, writer, local, address }
    }

    /// The most bytes that one datagram carries, which has to be a number that something can have.
    fn max_payload(&self) -> usize {
        let max = self.writer.max_payload();
        assert!(max <= MOST, "a payload of at most {max} bytes is no limit");
        max
    }

    /// Sends until one of them arrives as it was sent; earlier ones may come late and again.
    async fn deliver(&mut self, to: &mut Self, payload: &Bytes) -> Datagram {
        let mut others = 0;
        for _ in 0..ATTEMPTS {
            let datagram = Datagram { payload: payload.clone(), peer: to.address.clone() };
            self.writer.send(datagram).await.expect("the socket is whole");
            let Ok(received) = timeout(PATIENCE, to.reader.recv()).await else { continue };
            let received = received.expect("the socket is open").expect("the socket is whole");
            if received.payload == payload {
                return received;
            }
            others += 1;
        }
        let len = payload.len();
        panic!("none of {ATTEMPTS} datagrams of {len} bytes arrived as it was sent, and {others} others did");
    }
}

/// Promise 1: a bind that was never polled occupies no address.
///
/// # Panics
///
/// When the promise is broken.
///
/// # Cancel safety
///
/// Dropping the future ends the check.
pub async fn nothing_is_bound_before_the_first_poll(subject: Subject) {
    let place = subject.bind().await.local;
    drop(subject.transport.bind(&place));
    subject.transport.bind(&place).await.expect("nobody has bound it");
}

/// Promise 2: what arrives is what one send sent, whole and by itself, an empty datagram too.
///
/// # Panics
///
/// When the promise is broken.
///
/// # Cancel safety
///
/// Dropping the future ends the check.
pub async fn datagrams_arrive_whole(subject: Subject) {
    let (mut one, mut two) = (subject.bind().await, subject.bind().await);
    let mut rng = fastrand::Rng::with_seed(subject.seed);
    let max = one.max_payload();
    let sizes = [0, 1, 2, 100, 1_000, rng.usize(..=max), rng.usize(..=max)];
    let payloads: Vec<Bytes> = sizes
        .into_iter()
        .filter(|len| *len <= max)
        .map(|len| iter::repeat_with(|| rng.u8(..)).take(len).collect())
        .collect();
    for payload in &payloads {
        one.deliver(&mut two, payload).await;
    }
    for payload in &payloads {
        let datagram = Datagram { payload: payload.clone(), peer: two.address.clone() };
        one.writer.send(datagram).await.expect("the socket is whole");
    }
    while let Ok(received) = timeout(PATIENCE, two.reader.recv()).await {
        let received = received.expect("the socket is open").expect("the socket is whole");
        assert!(payloads.contains(&received.payload), "{} bytes that nobody sent", received.payload.len());
    }
}

/// Promise 3: the address of a datagram's sender is where the sender receives.
///
/// # Panics
///
/// When the promise is broken.
///
/// # Cancel safety
///
/// Dropping the future ends the check.
pub async fn the_sender_can_be_answered(subject: Subject) {
    let (mut one, mut two) = (subject.bind().await, subject.bind().await);
    let question = one.deliver(&mut two, &Bytes::from_static(b"who?")).await;
    assert_eq!(question.peer, one.address, "the address of a datagram is where its sender receives");
    let answer = two.deliver(&mut one, &Bytes::from_static(b"me")).await;
    assert_eq!(answer.peer, two.address, "the address of a datagram is where its sender receives");
}

/// Promise 4: a datagram of the full size passes.
///
/// # Panics
///
/// When the promise is broken.
///
/// # Cancel safety
///
/// Dropping the future ends the check.
pub async fn the_largest_datagram_passes(subject: Subject) {
    let (mut one, mut two) = (subject.bind().await, subject.bind().await);
    let largest = Bytes::from(vec![7; one.max_payload()]);
    one.deliver(&mut two, &largest).await;
}

/// Promise 5: a datagram that is too large is refused before anything is sent, and the socket goes on.
///
/// # Panics
///
/// When the promise is broken.
///
/// # Cancel safety
///
/// Dropping the future ends the check.
pub async fn what_is_too_large_is_refused(subject: Subject) {
    let (mut one, mut two) = (subject.bind().await, subject.bind().await);
    let max = one.max_payload();
    let datagram = Datagram { payload: vec![7; max + 1].into(), peer: two.address.clone() };
    let refused = one.writer.send(datagram).await.expect_err("it is too large");
    assert!(matches!(refused, Error::DatagramTooLarge { len, max: limit } if len == max + 1 && limit == max));
    let small = Bytes::from_static(b"small");
    one.deliver(&mut two, &small).await;
}

/// Promise 6: a datagram to nobody may be lost, and everything else goes on.
///
/// # Panics
///
/// When the promise is broken.
///
/// # Cancel safety
///
/// Dropping the future ends the check.
pub async fn sending_to_nobody_harms_nobody(subject: Subject) {
    let (mut one, mut two) = (subject.bind().await, subject.bind().await);
    let nobody = subject.bind().await.address;
    for round in 0..10_u8 {
        let datagram = Datagram { payload: vec![round].into(), peer: nobody.clone() };
        one.writer.send(datagram).await.expect("nobody is told");
        let payload = Bytes::from(vec![100 + round]);
        one.deliver(&mut two, &payload).await;
    }
    let payload = Bytes::from_static(b"back");
    two.deliver(&mut one, &payload).await;
}

/// Promise 7: the local endpoint can be sent to as it is.
///
/// # Panics
///
/// When the promise is broken.
///
/// # Cancel safety
///
/// Dropping the future ends the check.
pub async fn local_endpoint_is_reachable(subject: Subject) {
    let (mut one, mut two) = (subject.bind().await, subject.bind().await);
    assert_ne!(one.local, two.local, "two sockets in one place");
    let parsed: Endpoint = two.local.to_string().parse().expect("an endpoint prints as one");
    two.address = DatagramAddress::of(&parsed).expect("a bound socket has an address");
    let payload = Bytes::from_static(b"found");
    one.deliver(&mut two, &payload).await;
}

/// Promise 8: an address that is bound cannot be bound again.
///
/// # Panics
///
/// When the promise is broken.
///
/// # Cancel safety
///
/// Dropping the future ends the check.
pub async fn a_second_bind_is_refused(subject: Subject) {
    let (mut one, mut two) = (subject.bind().await, subject.bind().await);
    let refused = subject.transport.bind(&two.local).await.expect_err("somebody has it");
    assert!(matches!(refused, Error::AddrInUse { .. }), "{refused:?}");
    let payload = Bytes::from_static(b"still");
    one.deliver(&mut two, &payload).await;
}

/// Promise 9: once both halves are gone, the address is free.
///
/// # Panics
///
/// When the promise is broken.
///
/// # Cancel safety
///
/// Dropping the future ends the check.
pub async fn a_dropped_socket_frees_its_address(subject: Subject) {
    let Ends { reader, writer, local, .. } = subject.bind().await;
    drop(reader);
    drop(writer);
    subject.transport.bind(&local).await.expect("it is free again");
}

/// Promise 10: receives that are dropped while they wait lose nothing that arrives later.
///
/// # Panics
///
/// When the promise is broken.
///
/// # Cancel safety
///
/// Dropping the future ends the check.
pub async fn receiving_is_cancel_safe(subject: Subject) {
    let (mut one, mut two) = (subject.bind().await, subject.bind().await);
    let mut rng = fastrand::Rng::with_seed(subject.seed);
    for round in 0..20_u8 {
        for _ in 0..rng.u8(1..5) {
            let mut waiting = pin!(two.reader.recv());
            // What still arrives of an earlier round is taken here.
            poll_fn(|cx| Poll::Ready(waiting.as_mut().poll(cx).is_ready())).await;
        }
        let payload = Bytes::from(vec![round]);
        one.deliver(&mut two, &payload).await;
    }
}

/// Hands the name of each check to a macro, so that the list stands in one place.
#[doc(hidden)]
#[macro_export]
macro_rules! __each_datagram_check {
    ($then:ident $($with:tt)*) => {
        $crate::$then! {
            [$($with)*]
            nothing_is_bound_before_the_first_poll
            datagrams_arrive_whole
            the_sender_can_be_answered
            the_largest_datagram_passes
            what_is_too_large_is_refused
            sending_to_nobody_harms_nobody
            local_endpoint_is_reachable
            a_second_bind_is_refused
            a_dropped_socket_frees_its_address
            receiving_is_cancel_safe
        }
    };
}

/// Makes a test of each promise of [`DatagramTransport`], in a module of the given name.
///
/// The factory is called for each test and gives a [`Subject`]; what it names must be in scope where the macro stands.
///
/// # Examples
///
/// ```
/// use ipc_testkit::{conformance::datagram::Subject, datagram_conformance};
/// use ipc_transport::UdpTransport;
///
/// datagram_conformance!(udp, || Subject::new(UdpTransport::new(), "udp://127.0.0.1:0".parse().unwrap()));
/// ```
#[macro_export]
macro_rules! datagram_conformance {
    ($name:ident, $factory:expr) => {
        $crate::__each_datagram_check! { __test_checks datagram $name, $factory }
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
    crate::__each_datagram_check! { __run_checks factory }
}

/// Runs all checks, as [`run_all`] does, and gives every promise that is broken.
///
/// # Cancel safety
///
/// Dropping the future ends the check that is running.
pub async fn broken_promises(factory: impl Fn() -> Subject) -> Vec<BrokenPromise> {
    crate::__each_datagram_check! { __collect_broken factory }
}

/// How long to wait for a datagram before it is sent again.
const PATIENCE: Duration = Duration::from_millis(100);
/// How often one is sent before it counts as impossible.
const ATTEMPTS: usize = 100;
/// More than any network carries at once.
const MOST: usize = 64 << 20;
