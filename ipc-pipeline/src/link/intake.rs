//! Where connections come in: the acceptor's half of the handshake, and the task that reads a link.

use std::{
    fmt,
    future::poll_fn,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use ipc_transport::{Connection, ConnectionInfo, ReadHalf, WriteHalf};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt, ReadBuf},
    time::{Instant, Sleep, sleep_until, timeout},
};

use super::{
    inbox::{Admitted, Inbox},
    session::{Farewell, Session, Standing},
};
use crate::protocol::{
    Answer, Arrival, FrameReader, Hello, PREAMBLE_LEN, Preamble, ProtocolError, Refusal, SessionId, Space,
};

/// Reads of one turn before others get theirs.
const TURNS: usize = 8;

/// How long an end that has said its last word waits for the peer to hang up.
const HANG_UP: Duration = Duration::from_secs(1);

/// A read from this size on is likely to be handed over in its segment: 2 KiB.
const BIG_READ: usize = 2 * 1024;

/// A connection that has said its hello and waits for an answer.
pub struct Greeting {
    hello: Hello,
    reader: ReadHalf,
    writer: Option<WriteHalf>,
    info: ConnectionInfo,
    waiting: bool,
}

impl Greeting {
    /// Reads the hello of a fresh connection, within a time limit.
    ///
    /// A peer that does not speak the protocol is hung up on; one that speaks another version is told so.
    ///
    /// # Errors
    ///
    /// What the peer did wrong, or [`io::ErrorKind::TimedOut`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the connection.
    pub async fn read(connection: Connection, limit: Duration) -> io::Result<Self> {
        let (mut reader, mut writer, info) = connection.into_parts();
        let read = timeout(limit, read_hello(&mut reader)).await.map_err(|_| io::ErrorKind::TimedOut)?;
        match read {
            Ok(hello) => Ok(Self { hello, reader, writer: Some(writer), info, waiting: false }),
            Err(HelloError::Io(error)) => Err(error),
            Err(HelloError::Protocol(error)) => {
                let refusal = Refusal::Unsupported { what: error.to_string() };
                let answer = Answer::Refused(refusal).encode();
                let telling = async {
                    let _ = writer.write_all(&answer).await;
                    let _ = writer.shutdown().await;
                };
                let _ = timeout(HANG_UP, telling).await;
                Err(io::Error::new(io::ErrorKind::InvalidData, error))
            }
        }
    }

    /// What the peer said.
    pub fn hello(&self) -> &Hello {
        &self.hello
    }

    /// What the transport knows of the connection.
    pub fn info(&self) -> &ConnectionInfo {
        &self.info
    }

    /// The halves, for another kind of receiving end that answers by itself.
    pub(crate) fn into_halves(self) -> Option<(ReadHalf, WriteHalf)> {
        Some((self.reader, self.writer?))
    }

    /// Turns the peer away, with the reason; a peer that does not read it within 1 s goes without.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future hangs up without a reason.
    pub async fn refuse(mut self, refusal: Refusal) {
        if let Some(writer) = &mut self.writer {
            let answer = Answer::Refused(refusal).encode();
            let telling = async {
                if writer.write_all(&answer).await.is_ok() {
                    let _ = writer.shutdown().await;
                }
            };
            let _ = timeout(HANG_UP, telling).await;
        }
    }

    /// Tells the peer, once, that the port is not there yet and that the connection is parked until it is.
    ///
    /// # Errors
    ///
    /// The peer hung up.
    ///
    /// # Cancel safety
    ///
    /// After a drop the greeting must not be used again: an answer may be half written.
    pub async fn wait(&mut self) -> io::Result<()> {
        if !self.waiting
            && let Some(writer) = &mut self.writer
        {
            writer.write_all(&Answer::Wait.encode()).await?;
            writer.flush().await?;
            self.waiting = true;
        }
        Ok(())
    }

    /// Completes when a parked peer hangs up or says something, which it must not.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn hung_up(&mut self) {
        let mut byte = [0];
        let _ = self.reader.read(&mut byte).await;
    }
}

impl fmt::Debug for Greeting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Greeting")
            .field("hello", &self.hello)
            .field("info", &self.info)
            .finish_non_exhaustive()
    }
}

enum HelloError {
    Io(io::Error),
    Protocol(ProtocolError),
}

async fn read_hello(reader: &mut ReadHalf) -> Result<Hello, HelloError> {
    let mut preamble = [0; PREAMBLE_LEN];
    reader.read_exact(&mut preamble).await.map_err(HelloError::Io)?;
    let preamble = Preamble::decode(preamble, false).map_err(HelloError::Protocol)?;
    let mut fields = vec![0; preamble.len.into()];
    reader.read_exact(&mut fields).await.map_err(HelloError::Io)?;
    Hello::decode(&fields).map_err(HelloError::Protocol)
}

/// Takes connections into a [`Receiver`](super::Receiver); clones take them into the same one.
#[derive(Clone)]
pub struct Intake {
    inbox: Arc<Inbox>,
}

impl Intake {
    pub(super) fn new(inbox: Arc<Inbox>) -> Self {
        Self { inbox }
    }

    /// Answers a greeting and, if it is let in, serves its link from a task of its own.
    ///
    /// Must be called within a tokio runtime.
    ///
    /// # Errors
    ///
    /// The greeting comes back unanswered when the receiver is gone and does not know the session.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future hangs up; the peer dials again.
    pub async fn accept(&self, mut greeting: Greeting) -> Result<(), Greeting> {
        match self.inbox.admit(&greeting.hello, &greeting.info, &mut greeting.writer) {
            Admitted::Attached { session, epoch, wakers } => {
                wakers.into_iter().flatten().for_each(Waker::wake);
                let driver = Driver {
                    inbox: self.inbox.clone(),
                    session,
                    epoch,
                    reader: greeting.reader,
                    frames: FrameReader::new(),
                    arrivals: Vec::new(),
                    progress: None,
                };
                tokio::spawn(driver.run());
                Ok(())
            }
            Admitted::Refused(refusal) => {
                greeting.refuse(refusal).await;
                Ok(())
            }
            Admitted::Gone => Err(greeting),
        }
    }

    /// Has the receiver go away in good order, as [`Receiver::detach`](super::Receiver::detach) does.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future detaches all the same.
    pub async fn detach(&self) {
        self.inbox.leave(false);
        self.inbox.idle().await;
    }

    /// Closes the receiver for good, as [`Receiver::close`](super::Receiver::close) does, while somebody waits in it.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes all the same, if it was polled.
    pub async fn close(&self) {
        self.inbox.leave(true);
        self.inbox.idle().await;
    }

    /// Whether the receiver was closed for good.
    pub fn is_closed(&self) -> bool {
        self.inbox.is_closed()
    }

    /// Whether the receiver is gone: closed or dropped.
    pub fn is_gone(&self) -> bool {
        self.inbox.is_left()
    }

    /// Whether this session has attached to the receiver.
    pub fn knows(&self, session: SessionId) -> bool {
        self.inbox.knows(session)
    }
}

impl fmt::Debug for Intake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Intake")
    }
}

/// Reads one connection of a session until it is gone.
struct Driver {
    inbox: Arc<Inbox>,
    session: Arc<Session>,
    epoch: u64,
    reader: ReadHalf,
    frames: FrameReader,
    arrivals: Vec<Arrival>,
    /// When a frame that has begun must have moved on.
    progress: Option<Pin<Box<Sleep>>>,
}

impl Driver {
    async fn run(mut self) {
        let outcome = poll_fn(|cx| self.poll(cx)).await;
        if let Err(error) = &outcome {
            tracing::debug!(%error, session = %self.session.id, "connection lost");
        }
        self.hang_up().await;
    }

    /// After the last word: closes the writing half and reads on until the peer has hung up, at most 1 s.
    ///
    /// Closing with unread input would reset the connection, and the last word might be lost with it.
    async fn hang_up(&mut self) {
        let writer = {
            let mut core = self.session.lock();
            match core.standing(self.epoch) {
                Standing::Left => core.take_writer(),
                Standing::Current | Standing::Replaced => None,
            }
        };
        let Some(mut writer) = writer else { return };
        let mut sink = [0; 4096];
        let drained = async {
            let _ = writer.shutdown().await;
            while self.reader.read(&mut sink).await.is_ok_and(|count| count > 0) {}
        };
        let _ = timeout(HANG_UP, drained).await;
    }

    /// `Ok` when the connection was replaced or left in good order.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        for _ in 0..TURNS {
            match self.poll_fill(cx) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
                Poll::Ready(Ok(count)) => {
                    let pauses = match self.handle(count, cx) {
                        Ok(Some(pauses)) => pauses,
                        Ok(None) => return Poll::Ready(Ok(())),
                        Err(error) => return Poll::Ready(Err(error)),
                    };
                    if pauses {
                        break;
                    }
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => return self.poll_idle(cx),
            }
        }
        cx.waker().wake_by_ref();
        // A later turn registers with the socket; until then the session must be able to wake this task as well.
        let mut core = self.session.lock();
        core.register(cx.waker());
        Poll::Pending
    }

    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        match self.frames.space() {
            Space::Segment(slice) => {
                let mut space = ReadBuf::new(slice);
                Pin::new(&mut self.reader).poll_read(cx, &mut space).map_ok(|()| space.filled().len())
            }
            Space::Large { payload, limit } => self.reader.poll_read_vec(cx, payload, limit),
        }
    }

    /// Handles what was read; whether others go first now, `None` when this connection is to stop.
    fn handle(&mut self, count: usize, cx: &mut Context<'_>) -> io::Result<Option<bool>> {
        if self.progress.is_some()
            && let (Some(until), Some(progress)) = (self.frame_deadline(), &mut self.progress)
        {
            progress.as_mut().reset(until);
        }
        if count > BIG_READ {
            self.inbox.lend(&mut self.frames);
        }
        let mut core = self.session.lock();
        if core.standing(self.epoch) != Standing::Current {
            return Ok(None);
        }
        self.session.say_farewell(&mut core);
        core.machine.handle_taken(self.session.taken());
        let ending = core.machine.is_ending();
        let outcome = self.frames.handle_filled(count, &mut core.machine, &mut self.arrivals);
        // The task that takes a large value frees its memory before the next one needs some.
        let mut pauses = self.arrivals.iter().any(|arrival| matches!(arrival, Arrival::Large { .. }));
        let mut consumer = None;
        if !self.arrivals.is_empty() {
            consumer = self.inbox.push(&self.session, &mut self.arrivals, &mut self.frames);
        }
        if core.machine.take_abort() {
            // What was not handed out is dropped, and the sender is told how far that was.
            let _ = self.session.begin_farewell(&mut core, Farewell::Aborted);
            self.inbox.discard(&self.session);
            pauses = true;
        }
        if !ending && core.machine.is_ending() {
            consumer = self.inbox.ended(self.session.id).or(consumer);
        }
        core.respond(&self.session);
        core.recheck = core.machine.is_asked();
        let flushed = core.flush(cx);
        drop(core);
        if let Some(waker) = consumer {
            waker.wake();
        }
        outcome.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        if let Poll::Ready(outcome) = flushed {
            outcome?;
        }
        Ok(Some(pauses))
    }

    /// Nothing to read: answer what is due, and wait for the socket, the application or the ticker.
    fn poll_idle(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut core = self.session.lock();
        self.session.say_farewell(&mut core);
        core.respond(&self.session);
        if std::mem::take(&mut core.recheck) {
            // The task that takes may have moved just before it could see the request: look once more, later.
            cx.waker().wake_by_ref();
        }
        if let Poll::Ready(Err(error)) = core.flush(cx) {
            return Poll::Ready(Err(error));
        }
        match core.standing(self.epoch) {
            Standing::Current => {}
            Standing::Left | Standing::Replaced => return Poll::Ready(Ok(())),
        }
        core.register(cx.waker());
        drop(core);
        if !self.frames.is_mid_frame() {
            self.progress = None;
            self.frames.shrink();
            return Poll::Pending;
        }
        let Some(until) = self.frame_deadline() else { return Poll::Pending };
        let progress = self.progress.get_or_insert_with(|| Box::pin(sleep_until(until)));
        progress.as_mut().poll(cx).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }

    /// When a frame that has just moved on must have done so again; a time that the clock cannot tell is none.
    fn frame_deadline(&self) -> Option<Instant> {
        Instant::now().checked_add(self.inbox.config.frame_timeout)
    }
}

/// However the task ends, with its runtime or by a panic too: the connection is gone, and whoever waits must know.
impl Drop for Driver {
    fn drop(&mut self) {
        let mut core = self.session.lock();
        let current = core.is_newest(self.epoch);
        if current {
            self.session.say_farewell(&mut core);
            core.detach(&self.session);
        }
        let wakers = self.inbox.driver_stopped(&self.session, &mut core, current);
        drop(core);
        wakers.into_iter().for_each(Waker::wake);
    }
}
