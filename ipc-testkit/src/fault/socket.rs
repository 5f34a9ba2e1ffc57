//! The two halves of a faulty datagram socket: where decisions meet datagrams.

use std::{
    collections::VecDeque,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, Waker, ready},
};

use futures_util::{Sink, Stream};
use ipc_transport::{Datagram, DatagramReader, DatagramSocket, DatagramWriter, Error};

use super::{
    Direction, Side, Verdict,
    flow::{Flow, Next},
    halves::Pause,
    handle::Shared,
};

/// Puts the faults of two directions around a socket.
pub(super) fn wrap(shared: &Arc<Shared>, number: u64, socket: DatagramSocket) -> DatagramSocket {
    let (local, max_payload) = (socket.local_endpoint().clone(), socket.max_payload());
    let (reader, writer) = socket.into_parts();
    let lane = |direction| Lane::new(shared, Flow::new(&shared.plan, Side::Bound, direction, number));
    shared.count(Side::Bound, |counters| counters.connections += 1);
    let receiving = FaultyReceiver { inner: reader, lane: lane(Direction::Reading) };
    let sending = FaultySender { inner: writer, lane: lane(Direction::Writing) };
    DatagramSocket::new(receiving, sending, local, max_payload)
}

/// Where the handle finds somebody to wake.
pub(super) type Bell = Mutex<Option<Waker>>;

/// One direction of one socket: what strikes it, and which datagrams are between the two sides of it.
struct Lane {
    shared: Arc<Shared>,
    flow: Flow,
    pause: Option<Pause>,
    /// Datagrams that were judged and go on before any other: at most one with its double, and one that was overtaken.
    judged: VecDeque<Datagram>,
    /// A datagram that lets the next one pass first.
    held: Option<Datagram>,
    bell: Arc<Bell>,
}

impl Lane {
    fn new(shared: &Arc<Shared>, flow: Flow) -> Self {
        let bell = Arc::default();
        shared.register_bell(&bell);
        Self { shared: shared.clone(), flow, pause: None, judged: VecDeque::new(), held: None, bell }
    }

    /// Ready when nothing holds this direction.
    fn poll_free(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut bell = self.bell.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *bell {
            Some(waker) => waker.clone_from(cx.waker()),
            None => *bell = Some(cx.waker().clone()),
        }
        drop(bell);
        loop {
            ready!(Pause::poll(&mut self.pause, &self.shared, cx));
            // What was judged is on its way already; a stall begins with the next datagram.
            if !self.judged.is_empty() {
                return Poll::Ready(());
            }
            match self.flow.next(usize::MAX) {
                Next::Stall(lasting) => self.pause = Some(Pause::stall(lasting, &self.shared)),
                Next::Cut | Next::Move(_) => return Poll::Ready(()),
            }
        }
    }

    /// Decides what becomes of a datagram.
    fn judge(&mut self, mut datagram: Datagram) {
        let judgement = self.flow.judge(&datagram.payload);
        self.flow.advance(datagram.payload.len());
        if !judgement.delay.is_zero() {
            self.pause = Some(Pause::elapsed(judgement.delay));
        }
        let overtaken = self.held.take();
        match judgement.verdict {
            // An empty datagram has nothing to be changed or cut off.
            _ if datagram.payload.is_empty() && judgement.verdict != Verdict::Duplicate => {}
            Verdict::Corrupt => {
                let mut copy = datagram.payload.to_vec();
                self.flow.flip(&mut copy);
                datagram.payload = copy.into();
                self.shared.count_datagrams(|counters| counters.corrupted += 1);
            }
            Verdict::Truncate => {
                let len = self.flow.shorter(datagram.payload.len());
                datagram.payload.truncate(len);
                self.shared.count_datagrams(|counters| counters.truncated += 1);
            }
            Verdict::Duplicate => {
                self.shared.count_datagrams(|counters| counters.doubled += 1);
                self.judged.push_back(datagram.clone());
            }
            _ => {}
        }
        match judgement.verdict {
            Verdict::Lose => self.shared.count_datagrams(|counters| counters.lost += 1),
            Verdict::Reorder if overtaken.is_none() => {
                self.held = Some(datagram);
                return;
            }
            _ => self.judged.push_back(datagram),
        }
        match overtaken {
            // Nothing passes by a datagram that is lost: the held one waits on.
            Some(held) if judgement.verdict == Verdict::Lose => self.held = Some(held),
            Some(held) => {
                self.shared.count_datagrams(|counters| counters.overtaken += 1);
                self.judged.push_back(held);
            }
            None => {}
        }
    }

    fn passed(&self, direction: Direction, len: usize) {
        self.shared.count_bytes(Side::Bound, direction, len);
        self.shared.count_datagrams(|counters| match direction {
            Direction::Reading => counters.received += 1,
            Direction::Writing => counters.sent += 1,
        });
    }
}

/// The receiving half.
struct FaultyReceiver {
    inner: DatagramReader,
    lane: Lane,
}

impl Stream for FaultyReceiver {
    type Item = Result<Datagram, Error>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        loop {
            ready!(this.lane.poll_free(cx));
            if let Some(datagram) = this.lane.judged.pop_front() {
                this.lane.passed(Direction::Reading, datagram.payload.len());
                return Poll::Ready(Some(Ok(datagram)));
            }
            match ready!(Pin::new(&mut this.inner).poll_next(cx)) {
                Some(Ok(datagram)) => this.lane.judge(datagram),
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => match this.lane.held.take() {
                    Some(held) => this.lane.judged.push_back(held),
                    None => return Poll::Ready(None),
                },
            }
        }
    }
}

/// The sending half.
struct FaultySender {
    inner: DatagramWriter,
    lane: Lane,
}

impl FaultySender {
    /// Ready when nothing holds this direction and what was judged is with the transport underneath.
    fn poll_pass_on(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        ready!(self.lane.poll_free(cx));
        while !self.lane.judged.is_empty() {
            ready!(Pin::new(&mut self.inner).poll_ready(cx))?;
            if let Some(datagram) = self.lane.judged.pop_front() {
                let len = datagram.payload.len();
                Pin::new(&mut self.inner).start_send(datagram)?;
                self.lane.passed(Direction::Writing, len);
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl Sink<Datagram> for FaultySender {
    type Error = Error;

    fn poll_ready(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let this = self.get_mut();
        ready!(this.poll_pass_on(cx))?;
        Pin::new(&mut this.inner).poll_ready(cx)
    }

    fn start_send(self: Pin<&mut Self>, datagram: Datagram) -> Result<(), Error> {
        self.get_mut().lane.judge(datagram);
        Ok(())
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let this = self.get_mut();
        // A stall that a rule begins concerns the next datagram: there is nothing to hold up once all was passed on.
        if this.lane.pause.is_some() || !this.lane.judged.is_empty() {
            ready!(this.poll_pass_on(cx))?;
        }
        Pin::new(&mut this.inner).poll_flush(cx)
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let this = self.get_mut();
        let held = this.lane.held.take();
        this.lane.judged.extend(held);
        ready!(this.poll_pass_on(cx))?;
        Pin::new(&mut this.inner).poll_close(cx)
    }
}
