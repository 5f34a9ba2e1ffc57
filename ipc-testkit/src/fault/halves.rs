//! The two halves of a faulty connection: where decisions meet bytes.

use std::{
    collections::VecDeque,
    io,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use ipc_transport::{ReadHalf, WriteHalf};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Sleep, sleep},
};

use super::{
    Direction, Side, Verdict,
    flow::{Flow, Judgement, Next},
    handle::Shared,
};

/// What the two halves of a connection and the handle share: the real halves, so that a cut drops them at once.
pub(super) struct Live {
    shared: Arc<Shared>,
    side: Side,
    cut: AtomicBool,
    reader: Mutex<Half<ReadHalf>>,
    writer: Mutex<Half<WriteHalf>>,
}

impl Live {
    pub(super) fn new(shared: Arc<Shared>, side: Side, reader: ReadHalf, writer: WriteHalf) -> Arc<Self> {
        let live = Arc::new(Self {
            shared,
            side,
            cut: AtomicBool::new(false),
            reader: Mutex::new(Half { inner: Some(reader), waker: None }),
            writer: Mutex::new(Half { inner: Some(writer), waker: None }),
        });
        live.shared.register(&live);
        live
    }

    /// Cuts the connection; false if it was cut before.
    pub(super) fn cut(&self) -> bool {
        if self.cut.swap(true, Ordering::SeqCst) {
            return false;
        }
        let (reader, reader_waker) = lock(&self.reader).take();
        let (writer, writer_waker) = lock(&self.writer).take();
        // Dropped and woken outside the locks, since both run foreign code.
        drop((reader, writer));
        self.shared.count(self.side, |counters| counters.cut += 1);
        for waker in [reader_waker, writer_waker].into_iter().flatten() {
            waker.wake();
        }
        true
    }

    pub(super) fn is_cut(&self) -> bool {
        self.cut.load(Ordering::SeqCst)
    }

    /// Lets both halves look again at what held them.
    pub(super) fn wake(&self) {
        let wakers = [lock(&self.reader).waker.take(), lock(&self.writer).waker.take()];
        for waker in wakers.into_iter().flatten() {
            waker.wake();
        }
    }
}

struct Half<H> {
    inner: Option<H>,
    waker: Option<Waker>,
}

impl<H> Half<H> {
    fn take(&mut self) -> (Option<H>, Option<Waker>) {
        (self.inner.take(), self.waker.take())
    }

    /// The real half, with the waker noted for the handle; without one the connection was cut.
    fn open(&mut self, cx: &Context<'_>) -> io::Result<&mut H> {
        match &mut self.waker {
            Some(waker) => waker.clone_from(cx.waker()),
            None => self.waker = Some(cx.waker().clone()),
        }
        self.inner.as_mut().ok_or_else(|| io::ErrorKind::ConnectionReset.into())
    }
}

fn lock<H>(half: &Mutex<Half<H>>) -> MutexGuard<'_, Half<H>> {
    half.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Why a direction waits, apart from the transport underneath.
pub(super) enum Pause {
    /// Until the handle resumed more often than this.
    Resumed(u64),
    /// Until a time has passed.
    Elapsed(Pin<Box<Sleep>>),
}

impl Pause {
    pub(super) fn stall(lasting: Option<Duration>, shared: &Shared) -> Self {
        lasting.map_or_else(|| Self::Resumed(shared.resumed()), Self::elapsed)
    }

    pub(super) fn elapsed(time: Duration) -> Self {
        Self::Elapsed(Box::pin(sleep(time)))
    }

    /// Ready when nothing holds this direction; the waker is already noted for the handle.
    pub(super) fn poll(pause: &mut Option<Self>, shared: &Shared, cx: &mut Context<'_>) -> Poll<()> {
        if shared.is_stalled() {
            return Poll::Pending;
        }
        match pause {
            Some(Self::Resumed(before)) if shared.resumed() == *before => return Poll::Pending,
            Some(Self::Elapsed(sleep)) => ready!(sleep.as_mut().poll(cx)),
            Some(Self::Resumed(_)) | None => {}
        }
        *pause = None;
        Poll::Ready(())
    }
}

/// The reading half.
pub(super) struct FaultyReader {
    live: Arc<Live>,
    flow: Flow,
    pause: Option<Pause>,
    /// How long the next chunk may be, once it was decided.
    limit: Option<usize>,
    /// Bytes that were read and judged, and go out before any other.
    judged: VecDeque<u8>,
    /// A chunk that lets the next one pass first.
    held: Vec<u8>,
}

impl FaultyReader {
    pub(super) fn new(live: Arc<Live>, flow: Flow) -> Self {
        Self { live, flow, pause: None, limit: None, judged: VecDeque::new(), held: Vec::new() }
    }

    /// Hands over what was judged before; whether there was anything.
    fn serve(&mut self, buf: &mut ReadBuf<'_>) -> bool {
        let (front, _) = self.judged.as_slices();
        let count = front.len().min(buf.remaining());
        buf.put_slice(&front[..count]);
        self.judged.drain(..count);
        self.delivered(count);
        count > 0
    }

    fn delivered(&self, count: usize) {
        self.live.shared.count_bytes(self.live.side, Direction::Reading, count);
        if self.flow.is_cut() && self.judged.is_empty() && self.held.is_empty() {
            self.live.cut();
        }
    }

    /// Carries out a judgement on a chunk that lies in `slot`; tells how many bytes of it are handed over now.
    fn carry_out(&mut self, judgement: Judgement, slot: &mut [u8]) -> usize {
        self.flow.advance(slot.len());
        if judgement.verdict == Verdict::Corrupt {
            self.flow.flip(slot);
        }
        let overtaken = std::mem::take(&mut self.held);
        let mut now = 0;
        match judgement.verdict {
            Verdict::Lose => {}
            Verdict::Reorder => self.held.extend_from_slice(slot),
            _ if judgement.delay.is_zero() => now = slot.len(),
            _ => self.judged.extend(&*slot),
        }
        if judgement.verdict == Verdict::Duplicate {
            self.judged.extend(&*slot);
        }
        self.judged.extend(overtaken);
        if !judgement.delay.is_zero() {
            self.pause = Some(Pause::elapsed(judgement.delay));
        }
        now
    }
}

impl AsyncRead for FaultyReader {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let live = this.live.clone();
        loop {
            let mut half = lock(&live.reader);
            let inner = half.open(cx)?;
            ready!(Pause::poll(&mut this.pause, &live.shared, cx));
            if this.flow.is_clear() && this.judged.is_empty() {
                let before = buf.filled().len();
                ready!(Pin::new(inner).poll_read(cx, buf))?;
                this.delivered(buf.filled().len() - before);
                return Poll::Ready(Ok(()));
            }
            if !this.judged.is_empty() {
                drop(half);
                this.serve(buf);
                return Poll::Ready(Ok(()));
            }
            let Some(limit) = this.limit else {
                match this.flow.next(usize::MAX) {
                    Next::Cut => {
                        drop(half);
                        live.cut();
                    }
                    Next::Stall(lasting) => this.pause = Some(Pause::stall(lasting, &live.shared)),
                    Next::Move(limit) => this.limit = Some(limit),
                }
                continue;
            };
            let slot = buf.initialize_unfilled_to(limit.min(buf.remaining()));
            let mut chunk = ReadBuf::new(slot);
            let outcome = Pin::new(inner).poll_read(cx, &mut chunk)?;
            let count = chunk.filled().len();
            drop(half);
            if outcome.is_pending() || count == 0 {
                if this.held.is_empty() {
                    return outcome.map(Ok);
                }
                // Nothing came that could overtake the chunk.
                this.judged.extend(std::mem::take(&mut this.held));
                continue;
            }
            this.limit = None;
            let slot = &mut slot[..count];
            let judgement = this.flow.judge(slot);
            if judgement.verdict == Verdict::Cut {
                live.cut();
                continue;
            }
            let now = this.carry_out(judgement, slot);
            if now > 0 {
                buf.advance(now);
                this.delivered(now);
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl Drop for FaultyReader {
    fn drop(&mut self) {
        let taken = lock(&self.live.reader).take();
        drop(taken);
    }
}

/// The writing half.
pub(super) struct FaultyWriter {
    live: Arc<Live>,
    flow: Flow,
    pause: Option<Pause>,
    vectored: bool,
    /// What becomes of the chunk that is being offered, once it was decided.
    decided: Option<(usize, Verdict)>,
    /// Bytes that were accepted and go out before any other.
    owed: VecDeque<u8>,
    /// A chunk that lets the next one pass first.
    held: Vec<u8>,
}

impl FaultyWriter {
    pub(super) fn new(live: Arc<Live>, flow: Flow, vectored: bool) -> Self {
        Self { live, flow, pause: None, vectored, decided: None, owed: VecDeque::new(), held: Vec::new() }
    }

    fn written(&self, count: usize) {
        self.live.shared.count_bytes(self.live.side, Direction::Writing, count);
    }

    /// Ready when nothing holds this direction and nothing is owed to the peer from before.
    fn poll_free(&mut self, inner: &mut WriteHalf, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pause::poll(&mut self.pause, &self.live.shared, cx));
        while !self.owed.is_empty() {
            let count = ready!(Pin::new(&mut *inner).poll_write(cx, self.owed.as_slices().0))?;
            self.owed.drain(..count);
            self.written(count);
        }
        Poll::Ready(Ok(()))
    }

    /// Carries out a verdict on the front of what is offered; tells how many bytes of it are accepted.
    fn poll_carry_out(
        &mut self,
        inner: &mut WriteHalf,
        verdict: Verdict,
        chunk: &[u8],
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        let count = match verdict {
            Verdict::Corrupt => {
                let mut copy = chunk.to_vec();
                self.flow.flip(&mut copy);
                ready!(Pin::new(&mut *inner).poll_write(cx, &copy))?
            }
            Verdict::Lose => chunk.len(),
            Verdict::Reorder if self.held.is_empty() => {
                self.held.extend_from_slice(chunk);
                return Poll::Ready(Ok(chunk.len()));
            }
            _ => ready!(Pin::new(&mut *inner).poll_write(cx, chunk))?,
        };
        if verdict != Verdict::Lose {
            self.written(count);
        }
        if verdict == Verdict::Duplicate {
            self.owed.extend(&chunk[..count]);
        }
        self.owed.extend(std::mem::take(&mut self.held));
        // What is owed goes out now if it can; otherwise the next call finds it.
        let _ = self.poll_free(inner, cx)?;
        Poll::Ready(Ok(count))
    }
}

impl AsyncWrite for FaultyWriter {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let live = this.live.clone();
        loop {
            let mut half = lock(&live.writer);
            let inner = half.open(cx)?;
            ready!(this.poll_free(inner, cx))?;
            if this.flow.is_clear() || buf.is_empty() {
                let count = ready!(Pin::new(inner).poll_write(cx, buf))?;
                this.written(count);
                return Poll::Ready(Ok(count));
            }
            let Some((limit, verdict)) = this.decided else {
                match this.flow.next(buf.len()) {
                    Next::Cut => this.decided = Some((0, Verdict::Cut)),
                    Next::Stall(lasting) => this.pause = Some(Pause::stall(lasting, &live.shared)),
                    Next::Move(limit) => {
                        let judgement = this.flow.judge(&buf[..limit]);
                        this.decided = Some((limit, judgement.verdict));
                        if !judgement.delay.is_zero() {
                            this.pause = Some(Pause::elapsed(judgement.delay));
                        }
                    }
                }
                continue;
            };
            if verdict == Verdict::Cut {
                drop(half);
                live.cut();
                continue;
            }
            let chunk = &buf[..limit.min(buf.len())];
            let count = ready!(this.poll_carry_out(inner, verdict, chunk, cx))?;
            drop(half);
            this.decided = None;
            this.flow.advance(count);
            if this.flow.is_cut() {
                live.cut();
            }
            return Poll::Ready(Ok(count));
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if !self.flow.is_clear() {
            let first = bufs.iter().find(|buf| !buf.is_empty()).map_or(&[][..], |buf| buf);
            return self.poll_write(cx, first);
        }
        let this = self.get_mut();
        let live = this.live.clone();
        let mut half = lock(&live.writer);
        let inner = half.open(cx)?;
        ready!(this.poll_free(inner, cx))?;
        let count = ready!(Pin::new(inner).poll_write_vectored(cx, bufs))?;
        this.written(count);
        Poll::Ready(Ok(count))
    }

    fn is_write_vectored(&self) -> bool {
        self.vectored
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let live = this.live.clone();
        let mut half = lock(&live.writer);
        let inner = half.open(cx)?;
        this.owed.extend(std::mem::take(&mut this.held));
        ready!(this.poll_free(inner, cx))?;
        Pin::new(inner).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let live = this.live.clone();
        let mut half = lock(&live.writer);
        let inner = half.open(cx)?;
        this.owed.extend(std::mem::take(&mut this.held));
        ready!(this.poll_free(inner, cx))?;
        Pin::new(inner).poll_shutdown(cx)
    }
}

impl Drop for FaultyWriter {
    fn drop(&mut self) {
        let taken = lock(&self.live.writer).take();
        drop(taken);
    }
}
