//! Transports that break one promise each.

use std::{
    io,
    num::NonZeroUsize,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
};

use async_trait::async_trait;
use futures_util::FutureExt;
use ipc_testkit::{
    FaultPlan, Faulty, MemTransport, Rule, Verdict,
    conformance::transport::{Subject, broken_promises},
};
use ipc_transport::{
    Access, ConnectOptions, Connection, Endpoint, Error, Incoming, ListenOptions, Listener, ReadHalf,
    Transport, WriteHalf,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::Semaphore,
    task::yield_now,
    time::sleep,
};

use super::{Bite, Kept, assert_all_covered, mem};

/// What a transport does wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum How {
    AcceptForgets,
    AcceptWaitsForTheLast,
    AdmitsAnybody,
    CloseKeepsTheName,
    Corrupts,
    CrossesAnswers,
    DialsAnybody,
    DialsEarly,
    Doubles,
    DropIsNotSeen,
    DropKeepsTheName,
    FlushKeepsBytes,
    LeavesHalfOpen,
    LosesAByte,
    RefusedStaysOpen,
    Reorders,
    SecondListenerElsewhere,
    ShutdownClosesBothWays,
    SwallowsEof,
    Unbounded,
    WaitsForSomebody,
    WrongEndpoint,
    WrongErrorForNobody,
}

const BITES: &[Bite<How>] = &[
    Bite { mutant: How::DialsEarly, about: UNPOLLED, says: "a byte was sent", also: &[] },
    Bite { mutant: How::LeavesHalfOpen, about: HALF_OPEN, says: "did not end", also: &[] },
    Bite { mutant: How::LosesAByte, about: IN_ORDER, says: "differ", also: &[EOF, HALVES, BOUNDED] },
    Bite { mutant: How::Corrupts, about: IN_ORDER, says: "differ", also: &[EOF, HALVES] },
    Bite { mutant: How::Doubles, about: IN_ORDER, says: "differ", also: &[EOF, HALVES, BOUNDED] },
    Bite { mutant: How::Reorders, about: IN_ORDER, says: "differ", also: &[] },
    Bite { mutant: How::FlushKeepsBytes, about: IN_ORDER, says: "did not end", also: SPEAKING },
    Bite { mutant: How::SwallowsEof, about: EOF, says: "did not end", also: &[HALVES] },
    Bite { mutant: How::ShutdownClosesBothWays, about: HALVES, says: "end of the stream", also: &[] },
    Bite { mutant: How::DropIsNotSeen, about: DROPPING, says: "did not end", also: &[HALF_OPEN] },
    Bite { mutant: How::Unbounded, about: BOUNDED, says: "bytes were taken without a reader", also: &[] },
    Bite { mutant: How::WrongErrorForNobody, about: NOBODY, says: "TimedOut", also: &[] },
    Bite { mutant: How::WaitsForSomebody, about: NOBODY, says: "did not end", also: &[] },
    Bite { mutant: How::WrongEndpoint, about: ENDPOINT, says: "somebody listens there", also: DIALLING },
    Bite { mutant: How::SecondListenerElsewhere, about: SECOND, says: "the address is taken", also: &[] },
    Bite { mutant: How::CloseKeepsTheName, about: FREE, says: "the name is free again", also: TAKEN },
    Bite { mutant: How::DropKeepsTheName, about: FREE, says: "the name is free again", also: &[NOBODY] },
    Bite { mutant: How::AcceptForgets, about: ACCEPT, says: "is accepted and answered", also: &[] },
    Bite { mutant: How::AcceptWaitsForTheLast, about: ESTABLISH, says: "did not end", also: &[] },
    Bite {
        mutant: How::CrossesAnswers,
        about: ESTABLISH,
        says: "the answer to another one",
        also: &[ACCEPT],
    },
    Bite { mutant: How::RefusedStaysOpen, about: REFUSED, says: "did not end", also: &[] },
    Bite { mutant: How::AdmitsAnybody, about: ADMITTED, says: "the listener admits nobody", also: &[] },
    Bite { mutant: How::DialsAnybody, about: ADMITTED, says: "the dialler admits nobody", also: &[] },
];

const UNPOLLED: &str = "nothing_happens_before_the_first_poll";
const HALF_OPEN: &str = "dropping_leaves_no_half_open_peer";
const IN_ORDER: &str = "bytes_arrive_in_order";
const EOF: &str = "closing_the_writer_is_seen_as_eof";
const HALVES: &str = "reading_works_after_closing_the_writer";
const DROPPING: &str = "dropping_a_connection_is_seen_as_eof";
const BOUNDED: &str = "an_unread_connection_holds_its_writer";
const NOBODY: &str = "connecting_to_nobody_is_refused";
const ENDPOINT: &str = "local_endpoint_is_dialable";
const SECOND: &str = "a_second_listener_is_refused";
const FREE: &str = "a_closed_listener_frees_its_name";
const ACCEPT: &str = "accept_is_cancel_safe";
const ESTABLISH: &str = "establish_runs_off_the_listener";
const REFUSED: &str = "refused_incoming_closes_the_peer";
const ADMITTED: &str = "who_is_not_admitted_is_refused";

/// The checks in which somebody writes, flushes, and waits for the last byte to arrive.
const SPEAKING: &[&str] = &[UNPOLLED, HALF_OPEN, BOUNDED, ENDPOINT, SECOND, FREE, ACCEPT, ESTABLISH, REFUSED];

/// The checks in which somebody dials where a listener says that it is.
const DIALLING: &[&str] = &[
    UNPOLLED, HALF_OPEN, IN_ORDER, EOF, HALVES, DROPPING, BOUNDED, SECOND, FREE, ACCEPT, ESTABLISH, REFUSED,
    ADMITTED,
];

/// The other checks in which a listener is closed, and nobody or another one is to be there afterwards.
const TAKEN: &[&str] = &[NOBODY, ADMITTED];

#[tokio::test(start_paused = true)]
async fn broken_transports_fail_at_the_promises_that_they_break() {
    let mut complaints = Vec::new();
    for bite in BITES {
        complaints.extend(bite.complaint(&broken_promises(|| subject(bite.mutant)).await));
    }
    assert!(complaints.is_empty(), "{complaints:#?}");
}

#[test]
fn every_promise_of_a_transport_is_broken_by_some_mutant() {
    assert_all_covered::<Subject, _>(BITES);
}

fn subject(how: How) -> Subject {
    // Streams suffer, single bytes do not: what else breaks would say little.
    let damaged = |verdict| {
        let rule =
            Rule::custom(
                move |chunk| {
                    if chunk.offset > 0 && chunk.bytes.len() > 1 { verdict } else { Verdict::Pass }
                },
            );
        Subject::new(Faulty::new(MemTransport::new(), FaultPlan::new(1).with(rule)), mem("a"))
    };
    match how {
        How::Corrupts => damaged(Verdict::Corrupt),
        How::Doubles => damaged(Verdict::Duplicate),
        How::Reorders => damaged(Verdict::Reorder),
        How::Unbounded => Subject::new(MemTransport::new().with_buffer(NonZeroUsize::MAX), mem("a")),
        how => Subject::new(Mutant::new(how), mem("a")),
    }
}

/// The transport in memory, but for one thing.
#[derive(Debug)]
pub(crate) struct Mutant {
    how: How,
    world: MemTransport,
    kept: Kept,
}

impl Mutant {
    pub(crate) fn new(how: How) -> Self {
        Self { how, world: MemTransport::new(), kept: Kept::default() }
    }

    async fn after_dialling(
        &self,
        outcome: Result<Connection, Error>,
        options: &ConnectOptions,
    ) -> Result<Connection, Error> {
        match (self.how, outcome) {
            (How::LeavesHalfOpen, Ok(connection)) => {
                let lent = self.kept.lend(connection);
                yield_now().await;
                Ok(lent.lock().unwrap().take().unwrap())
            }
            (How::WaitsForSomebody, Err(error)) => {
                // Sleeps under paused time: the deadline of the dialler is what it waits for.
                sleep(options.timeout).await;
                Err(error)
            }
            (How::WrongErrorForNobody, Err(Error::ConnectionRefused { endpoint })) => {
                Err(Error::TimedOut { operation: "connect", endpoint: endpoint.to_string() })
            }
            (how, Ok(connection)) => Ok(damage(how, &self.kept, connection)),
            (_, Err(error)) => Err(error),
        }
    }
}

#[async_trait]
impl Transport for Mutant {
    fn scheme(&self) -> &str {
        MemTransport::SCHEME
    }

    // Written out, since the body of an async function does nothing before the first poll.
    fn connect<'transport, 'to, 'options, 'all>(
        &'transport self,
        to: &'to Endpoint,
        options: &'options ConnectOptions,
    ) -> Pin<Box<dyn Future<Output = Result<Connection, Error>> + Send + 'all>>
    where
        'transport: 'all,
        'to: 'all,
        'options: 'all,
    {
        let early = match self.how {
            How::DialsEarly => self.world.connect(to, options).now_or_never(),
            _ => None,
        };
        Box::pin(async move {
            let outcome = match (early, self.how) {
                (Some(outcome), _) => outcome,
                (None, How::DialsAnybody) => {
                    self.world.connect(to, &options.clone().with_access(Access::Any)).await
                }
                (None, _) => self.world.connect(to, options).await,
            };
            self.after_dialling(outcome, options).await
        })
    }

    async fn listen(&self, at: &Endpoint, options: &ListenOptions) -> Result<Box<dyn Listener>, Error> {
        let options = &match self.how {
            How::AdmitsAnybody => options.clone().with_access(Access::Any),
            _ => options.clone(),
        };
        let inner = match self.world.listen(at, options).await {
            Err(Error::AddrInUse { .. }) if self.how == How::SecondListenerElsewhere => {
                self.world.listen(&mem(MemTransport::FRESH_NAME), options).await?
            }
            outcome => outcome?,
        };
        let local = match self.how {
            How::WrongEndpoint => mem(MemTransport::FRESH_NAME),
            _ => inner.local_endpoint().clone(),
        };
        let one_at_a_time = Arc::new(Semaphore::new(1));
        Ok(Box::new(MutantListener {
            how: self.how,
            inner: Some(inner),
            local,
            kept: self.kept.clone(),
            one_at_a_time,
            crossed: None,
        }))
    }
}

#[derive(Debug)]
struct MutantListener {
    how: How,
    /// Gone once it was closed.
    inner: Option<Box<dyn Listener>>,
    local: Endpoint,
    kept: Kept,
    one_at_a_time: Arc<Semaphore>,
    /// A connection whose writer is that of the one before.
    crossed: Option<Incoming>,
}

#[async_trait]
impl Listener for MutantListener {
    fn local_endpoint(&self) -> &Endpoint {
        &self.local
    }

    async fn accept(&mut self) -> Result<Incoming, Error> {
        let inner = self.inner.as_mut().unwrap();
        match self.how {
            How::AcceptForgets => {
                let incoming = inner.accept().await?;
                yield_now().await;
                Ok(incoming)
            }
            How::CrossesAnswers => {
                if let Some(crossed) = self.crossed.take() {
                    return Ok(crossed);
                }
                let first = inner.accept().await?;
                let Some(second) = inner.accept().now_or_never() else { return Ok(first) };
                let (first, second) = cross(first, second?).await?;
                self.crossed = Some(second);
                Ok(first)
            }
            How::AcceptWaitsForTheLast => {
                let permit = self.one_at_a_time.clone().acquire_owned().await.unwrap();
                let incoming = inner.accept().await?;
                Ok(Incoming::new(incoming.remote_endpoint().clone(), async move {
                    let outcome = incoming.establish().await;
                    drop(permit);
                    outcome
                }))
            }
            How::RefusedStaysOpen => {
                let incoming = inner.accept().await?;
                let remote = incoming.remote_endpoint().clone();
                let lent = self.kept.lend(incoming);
                Ok(Incoming::new(remote, async move {
                    let incoming = lent.lock().unwrap().take().unwrap();
                    incoming.establish().await
                }))
            }
            _ => inner.accept().await,
        }
    }

    async fn close(mut self: Box<Self>) -> Result<(), Error> {
        let inner = self.inner.take().unwrap();
        if self.how == How::CloseKeepsTheName {
            self.kept.keep(inner);
            return Ok(());
        }
        inner.close().await
    }
}

impl Drop for MutantListener {
    fn drop(&mut self) {
        if let Some(inner) = self.inner.take().filter(|_| self.how == How::DropKeepsTheName) {
            self.kept.keep(inner);
        }
    }
}

/// Gives each of two connections the writer of the other; those in memory are established at once.
async fn cross(first: Incoming, second: Incoming) -> Result<(Incoming, Incoming), Error> {
    let (reader, writer, info) = first.establish().await?.into_parts();
    let (other_reader, other_writer, other_info) = second.establish().await?.into_parts();
    let ready = |connection: Connection| {
        Incoming::new(connection.info().remote.clone(), async move { Ok(connection) })
    };
    let first = ready(Connection::from_bytes(reader, other_writer, info));
    Ok((first, ready(Connection::from_bytes(other_reader, writer, other_info))))
}

/// Puts what a mutant does to bytes around a connection.
fn damage(how: How, kept: &Kept, connection: Connection) -> Connection {
    let (reader, writer, info) = connection.into_parts();
    let shut = Arc::new(AtomicBool::new(false));
    let reader = MutantReader { how, inner: Some(reader), shut: shut.clone(), kept: kept.clone() };
    let writer = MutantWriter { how, inner: Some(writer), shut, kept: kept.clone(), written: 0, held: None };
    Connection::from_bytes(reader, writer, info)
}

struct MutantReader {
    how: How,
    inner: Option<ReadHalf>,
    shut: Arc<AtomicBool>,
    kept: Kept,
}

impl AsyncRead for MutantReader {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.shut.load(Ordering::SeqCst) {
            return Poll::Ready(Ok(()));
        }
        Pin::new(self.inner.as_mut().unwrap()).poll_read(cx, buf)
    }
}

impl Drop for MutantReader {
    fn drop(&mut self) {
        if let Some(inner) = self.inner.take().filter(|_| self.how == How::DropIsNotSeen) {
            self.kept.keep(inner);
        }
    }
}

struct MutantWriter {
    how: How,
    inner: Option<WriteHalf>,
    shut: Arc<AtomicBool>,
    kept: Kept,
    written: usize,
    /// A byte that should have been written.
    held: Option<u8>,
}

impl MutantWriter {
    fn inner(&mut self) -> Pin<&mut WriteHalf> {
        Pin::new(self.inner.as_mut().unwrap())
    }

    fn poll_held(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Some(byte) = self.held {
            ready!(self.inner().poll_write(cx, &[byte]))?;
            self.held = None;
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for MutantWriter {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.poll_held(cx))?;
        let count = match (self.how, buf) {
            (How::FlushKeepsBytes, [byte]) => {
                self.held = Some(*byte);
                1
            }
            (How::FlushKeepsBytes, [front @ .., _]) => ready!(self.inner().poll_write(cx, front))?,
            (How::LosesAByte, [_, ..]) if self.written == LOST => 1,
            (How::LosesAByte, _) if self.written < LOST => {
                let most = buf.len().min(LOST - self.written);
                ready!(self.inner().poll_write(cx, &buf[..most]))?
            }
            _ => ready!(self.inner().poll_write(cx, buf))?,
        };
        self.written += count;
        Poll::Ready(Ok(count))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.inner().poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.how {
            How::SwallowsEof => {
                // It lives on, as whoever closed it is about to let go of it.
                if let Some(inner) = self.inner.take() {
                    self.kept.keep(inner);
                }
                return Poll::Ready(Ok(()));
            }
            How::ShutdownClosesBothWays => self.shut.store(true, Ordering::SeqCst),
            _ => {}
        }
        ready!(self.poll_held(cx))?;
        self.inner().poll_shutdown(cx)
    }
}

impl Drop for MutantWriter {
    fn drop(&mut self) {
        if let Some(inner) = self.inner.take().filter(|_| self.how == How::DropIsNotSeen) {
            self.kept.keep(inner);
        }
    }
}

/// The place of the byte that is lost.
const LOST: usize = 99;
