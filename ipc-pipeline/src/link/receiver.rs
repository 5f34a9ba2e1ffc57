//! The receiving end: takes values in fair turns, decodes them in the taking task, and so grants credit.

use std::{
    fmt,
    future::poll_fn,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures_core::Stream;
use ipc_transport::Decoder;

use super::{
    AckMode, Delivery, Event, Intake, ReceiverConfig, RecvError, SharedReceiver, SourceId, SourceInfo,
    cursor::{Cursor, TURN_VALUES, Took},
    delivery::Ack,
    inbox::{Inbox, Item},
    session::Session,
};
use crate::{
    blocking::block_on,
    protocol::{Control, HEADER_LEN, Header, Kind, MAX_PAYLOAD, Taken},
};

/// Counts over all sources since the receiving end began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct ReceiverCounters {
    /// Values handed out.
    pub taken: u64,
    /// Of these, values that an application may have seen before.
    pub redelivered: u64,
    /// Numbers that senders' policies dropped.
    pub skipped: u64,
    /// Values that arrived again and were passed over, because they had been acked.
    pub duplicates: u64,
    /// Values that did not decode.
    pub undecodable: u64,
    /// Restarts of sources, as they were told: several with nothing between them count once.
    pub restarts: u64,
}

/// The receiving end of any number of links, with values of one type.
///
/// It has one owner; [`intake`](Self::intake) gives the handle through which connections come in. Dropping it tells
/// the senders to keep what they have for a successor; only [`close`](Self::close) is final.
pub struct Receiver<T> {
    inbox: Arc<Inbox>,
    decoder: Arc<dyn Decoder<T>>,
    cursor: Option<Cursor>,
    /// A source whose turn is not over, and the values and bytes that are left of it.
    turn: Option<(SourceId, usize, usize)>,
    /// An error that came up after values of the same batch.
    stashed: Option<RecvError>,
    counters: ReceiverCounters,
    explicit: bool,
    ended: bool,
}

impl<T: 'static> Receiver<T> {
    /// A receiving end of a new incarnation.
    pub fn new(config: ReceiverConfig, decoder: impl Decoder<T>) -> Self {
        let explicit = config.ack_mode == AckMode::Explicit;
        let mut bits = [0; 8];
        let incarnation = match getrandom::fill(&mut bits) {
            Ok(()) => u64::from_le_bytes(bits),
            Err(_) => fastrand::u64(..),
        };
        let inbox = Inbox::new(config, decoder.id().to_owned(), incarnation.max(1));
        Self {
            inbox,
            decoder: Arc::new(decoder),
            cursor: None,
            turn: None,
            stashed: None,
            counters: ReceiverCounters::default(),
            explicit,
            ended: false,
        }
    }

    /// The handle that takes connections in.
    pub fn intake(&self) -> Intake {
        Intake::new(self.inbox.clone())
    }

    /// The next value, from any source, in fair turns; in each source's order.
    ///
    /// Returning it is *taking* it. Notices between values ([`Event`]) are passed over.
    ///
    /// # Errors
    ///
    /// [`RecvError::EndOfStream`], [`RecvError::Closed`], or [`RecvError::Undecodable`], after which the next call
    /// goes on.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: a value that was not returned stays where it is.
    #[inline]
    pub fn recv(&mut self) -> Recv<'_, T> {
        Recv { receiver: self }
    }

    /// As [`recv`](Self::recv), for use in hand-written futures.
    #[inline]
    pub fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Result<Delivery<T>, RecvError>> {
        if let Some(cursor) = &mut self.cursor
            && !self.explicit
            && cursor.turn_values > 0
            && cursor.is_current()
            && self.stashed.is_none()
            && let Some((start, end)) = cursor.next_value()
        {
            // The usual case, apart, so that the value is written once, where the caller wants it.
            let (source, number) = (cursor.source, cursor.number);
            let decoded = self.decoder.decode(&cursor.run.segment[start..end]);
            cursor.run.start = end;
            if !cursor.take(1, end - start + HEADER_LEN) {
                return self.poll_recv_slow(cx);
            }
            let redelivered = number <= cursor.run.maybe_seen_until;
            return Poll::Ready(match decoded {
                Ok(value) => {
                    self.counters.taken += 1;
                    self.counters.redelivered += u64::from(redelivered);
                    Ok(Delivery { value, source, number, redelivered, ack: None })
                }
                Err(error) => Err(self.undecodable(source, number, None, error)),
            });
        }
        self.poll_recv_slow(cx)
    }

    fn poll_recv_slow(&mut self, cx: &mut Context<'_>) -> Poll<Result<Delivery<T>, RecvError>> {
        loop {
            match self.poll_event(&mut Some(cx)) {
                Poll::Ready(Ok(Event::Value(delivery))) => return Poll::Ready(Ok(delivery)),
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    /// The next value or notice.
    ///
    /// # Errors
    ///
    /// As [`recv`](Self::recv).
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: what was not returned stays where it is.
    pub async fn recv_event(&mut self) -> Result<Event<T>, RecvError> {
        poll_fn(|cx| self.poll_event(&mut Some(cx))).await
    }

    /// The next value if one is here; `None` if not.
    ///
    /// # Errors
    ///
    /// As [`recv`](Self::recv).
    pub fn try_recv(&mut self) -> Result<Option<Delivery<T>>, RecvError> {
        loop {
            match self.poll_event(&mut None) {
                Poll::Ready(Ok(Event::Value(delivery))) => return Ok(Some(delivery)),
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(error)) => return Err(error),
                Poll::Pending => return Ok(None),
            }
        }
    }

    /// The next value; lets the thread wait for it, for threads without a runtime.
    ///
    /// Not to be called where async tasks run: the thread may be the one that would read the value.
    ///
    /// # Errors
    ///
    /// As [`recv`](Self::recv).
    pub fn blocking_recv(&mut self) -> Result<Delivery<T>, RecvError> {
        match block_on(self.recv(), None) {
            Some(outcome) => outcome,
            None => unreachable!("without a deadline it ends with an outcome"),
        }
    }

    /// As [`blocking_recv`](Self::blocking_recv), and waits this long at most; `None` when nothing came in that time.
    ///
    /// # Errors
    ///
    /// As [`recv`](Self::recv).
    pub fn blocking_recv_timeout(&mut self, timeout: Duration) -> Result<Option<Delivery<T>>, RecvError> {
        // A deadline beyond what the clock can tell is none.
        block_on(self.recv(), Instant::now().checked_add(timeout)).transpose()
    }

    /// Waits for a value, then appends up to `max` values that are here to `out`; how many is returned.
    ///
    /// The fast path: one report and one dynamic call for each run of values.
    ///
    /// # Errors
    ///
    /// As [`recv`](Self::recv), when nothing was appended; [`RecvError::ExplicitAcks`] in explicit mode.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: values are taken only in the poll that returns them.
    pub async fn recv_many(&mut self, out: &mut Vec<T>, max: usize) -> Result<usize, RecvError> {
        if self.explicit {
            return Err(RecvError::ExplicitAcks);
        }
        poll_fn(|cx| self.poll_many(cx, out, max)).await
    }

    /// As [`recv_many`](Self::recv_many), with each value's origin, in either ack mode.
    ///
    /// # Errors
    ///
    /// As [`recv`](Self::recv), when nothing was appended.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: values are taken only in the poll that returns them.
    pub async fn recv_deliveries(
        &mut self,
        out: &mut Vec<Delivery<T>>,
        max: usize,
    ) -> Result<usize, RecvError> {
        if max == 0 {
            return Ok(0);
        }
        out.push(self.recv().await?);
        let mut count = 1;
        while count < max {
            match self.try_recv() {
                Ok(Some(delivery)) => out.push(delivery),
                Ok(None) => break,
                Err(error) => {
                    self.stashed = Some(error);
                    break;
                }
            }
            count += 1;
        }
        Ok(count)
    }

    /// Takes everything back that was handed out and not acked, and has it sent again, flagged.
    ///
    /// Connections are cut, untaken values of these links are dropped here and come again as well; deliveries from
    /// before can no longer be acked. Values that were acked are not handed out again. In automatic mode there is
    /// nothing to take back.
    pub fn recover(&mut self) {
        if self.explicit {
            // With the others that are here: what is not taken back now is all there is of its source.
            self.end_turn();
            self.inbox.recover();
        }
    }

    /// Who a source is; `None` for one long gone.
    pub fn source(&self, source: SourceId) -> Option<SourceInfo> {
        self.inbox.source(source)
    }

    /// The sources that this end remembers.
    pub fn sources(&self) -> Vec<SourceId> {
        self.inbox.sources()
    }

    /// Counts over all sources.
    pub fn counters(&self) -> ReceiverCounters {
        ReceiverCounters { duplicates: self.inbox.duplicates(), ..self.counters }
    }

    /// A receiver that many tasks may ask: first come, first served.
    pub fn into_shared(self) -> SharedReceiver<T> {
        SharedReceiver::new(self)
    }

    /// Closes this end for good: senders get `PeerClosed`, and what was not taken stays undelivered with them.
    ///
    /// Waits until the senders were told, at most 1 s.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes all the same.
    pub async fn close(self) {
        self.inbox.leave(true);
        self.inbox.idle().await;
    }

    /// Goes away in good order: senders keep what was not released for a successor under the same name.
    ///
    /// Waits until the senders were told, at most 1 s.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future detaches all the same.
    pub async fn detach(self) {
        self.inbox.leave(false);
        self.inbox.idle().await;
    }

    #[inline]
    fn poll_event(&mut self, cx: &mut Option<&mut Context<'_>>) -> Poll<Result<Event<T>, RecvError>> {
        if let Some(error) = self.stashed.take() {
            return Poll::Ready(Err(error));
        }
        loop {
            let Some(cursor) = &mut self.cursor else {
                match self.poll_refill(cx) {
                    Poll::Ready(Ok(None)) => continue,
                    Poll::Ready(Ok(Some(event))) => return Poll::Ready(Ok(event)),
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                    Poll::Pending => return Poll::Pending,
                }
            };
            if !cursor.is_current() {
                self.finish_run();
                continue;
            }
            if cursor.turn_values == 0 {
                if self.inbox.others_wait() {
                    self.end_turn();
                    continue;
                }
                cursor.begin_turn();
            }
            let rest = &cursor.run.segment[cursor.run.start..cursor.run.end];
            let Some(header) = rest.first_chunk::<HEADER_LEN>() else {
                self.finish_run();
                continue;
            };
            let header = Header::decode(*header);
            let frame_len = header.frame_len();
            cursor.run.start += frame_len;
            if header.kind != Kind::Data as u8 {
                if let Some(event) = self.pass_control(header) {
                    return Poll::Ready(Ok(event));
                }
                continue;
            }
            let number = cursor.number;
            let (source, redelivered) = (cursor.source, number <= cursor.run.maybe_seen_until);
            let ack = match cursor.take_acked(self.explicit, frame_len) {
                Took::Again => continue,
                Took::Gone => {
                    self.finish_run();
                    continue;
                }
                Took::Value(ack) => ack,
            };
            let end = cursor.run.start;
            match self.decoder.decode(&cursor.run.segment[end - header.len as usize..end]) {
                Ok(value) => {
                    self.counters.taken += 1;
                    self.counters.redelivered += u64::from(redelivered);
                    let delivery = Delivery { value, source, number, redelivered, ack };
                    return Poll::Ready(Ok(Event::Value(delivery)));
                }
                Err(error) => return Poll::Ready(Err(self.undecodable(source, number, ack, error))),
            }
        }
    }

    fn poll_many(
        &mut self,
        cx: &mut Context<'_>,
        out: &mut Vec<T>,
        max: usize,
    ) -> Poll<Result<usize, RecvError>> {
        let before = out.len();
        if let Some(error) = self.stashed.take() {
            return Poll::Ready(Err(error));
        }
        while out.len() - before < max {
            let Some(cursor) = &mut self.cursor else {
                let mut cx = if out.len() > before { None } else { Some(&mut *cx) };
                match self.poll_refill(&mut cx) {
                    Poll::Ready(Ok(Some(Event::Value(delivery)))) => out.push(delivery.value),
                    Poll::Ready(Ok(_)) => {}
                    Poll::Ready(Err(error)) if out.len() > before => {
                        self.stashed = Some(error);
                        break;
                    }
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                    Poll::Pending if out.len() > before => break,
                    Poll::Pending => return Poll::Pending,
                }
                continue;
            };
            if cursor.run.start == cursor.run.end {
                self.finish_run();
                continue;
            }
            if !cursor.is_current() {
                self.finish_run();
                continue;
            }
            if cursor.turn_values == 0 {
                if self.inbox.others_wait() {
                    self.end_turn();
                    continue;
                }
                cursor.begin_turn();
            }
            let mut spans = [(0, 0); TURN_VALUES];
            let (count, end, bytes) = cursor.spans(&mut spans, max - (out.len() - before));
            if count == 0 {
                let header = cursor.run.header();
                cursor.run.start += header.frame_len();
                let _ = self.pass_control(header);
                continue;
            }
            let had = out.len();
            let outcome = self.decoder.decode_batch(&cursor.run.segment, &spans[..count], out);
            let (source, first) = (cursor.source, cursor.number);
            let redelivered =
                cursor.run.maybe_seen_until.saturating_add(1).saturating_sub(first).min(count as u64);
            match outcome {
                Ok(()) => {
                    cursor.run.start = end;
                    if !cursor.take(count, bytes) {
                        out.truncate(had);
                        continue;
                    }
                    self.counters.taken += count as u64;
                    self.counters.redelivered += redelivered;
                }
                Err(batch) => {
                    let bad = batch.index.min(count - 1);
                    out.truncate(had + bad);
                    let end = spans[bad].1 as usize;
                    let bytes = end - cursor.run.start;
                    cursor.run.start = end;
                    if !cursor.take(bad + 1, bytes) {
                        out.truncate(had);
                        continue;
                    }
                    self.counters.taken += bad as u64;
                    let error = self.undecodable(source, first + bad as u64, None, batch.error);
                    if out.len() == before {
                        return Poll::Ready(Err(error));
                    }
                    self.stashed = Some(error);
                    break;
                }
            }
        }
        Poll::Ready(Ok(out.len() - before))
    }

    /// Gets the next item: a cursor to take from, or an event that stands for itself.
    #[cold]
    fn poll_refill(
        &mut self,
        cx: &mut Option<&mut Context<'_>>,
    ) -> Poll<Result<Option<Event<T>>, RecvError>> {
        let turn = self.turn.take();
        let turn_of = turn.as_ref().map(|(source, ..)| *source);
        let (source, item) = match self.inbox.poll_item(cx.as_deref_mut(), turn_of) {
            Poll::Ready(Ok(item)) => item,
            Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
            Poll::Pending => return Poll::Pending,
        };
        Poll::Ready(match item {
            Item::Run { session, generation, run, .. } => {
                let mut cursor = Cursor::new(session, source, run, generation);
                if let Some((_, values, bytes)) = turn.filter(|(of, ..)| *of == source) {
                    (cursor.turn_values, cursor.turn_bytes) = (values, bytes);
                }
                self.cursor = Some(cursor);
                Ok(None)
            }
            Item::Restarted { .. } => {
                self.counters.restarts += 1;
                Ok(Some(Event::SourceRestarted { source }))
            }
            Item::Large { session, generation, number, payload, maybe_seen_until } => {
                self.take_large(source, (&session, generation), number, payload, maybe_seen_until)
            }
        })
    }

    fn take_large(
        &mut self,
        source: SourceId,
        (session, generation): (&Arc<Session>, u64),
        number: u64,
        payload: Vec<u8>,
        maybe_seen_until: u64,
    ) -> Result<Option<Event<T>>, RecvError> {
        let pieces = payload.len().div_ceil(MAX_PAYLOAD).max(1);
        let bytes = payload.len() + pieces * HEADER_LEN;
        if session.generation() != generation {
            return Ok(None);
        }
        let mut taken = session.taken();
        taken.count(number, 1, bytes);
        let ack = if self.explicit {
            match session.take_one(generation, taken) {
                None => return Ok(None),
                Some(true) => {
                    // It is passed over, and the credit that it held moves all the same.
                    if session.wants_attention(taken) {
                        let _ = session.attend(generation, number);
                    }
                    return Ok(None);
                }
                Some(false) => Some(Ack { session: session.clone(), generation }),
            }
        } else {
            session.publish(taken);
            None
        };
        // In explicit mode it was counted under the lock, whatever has become of the generation since.
        if session.wants_attention(taken) && !session.attend(generation, number) && !self.explicit {
            return Ok(None);
        }
        let redelivered = number <= maybe_seen_until;
        match self.decoder.decode_owned(Bytes::from(payload)) {
            Ok(value) => {
                self.counters.taken += 1;
                self.counters.redelivered += u64::from(redelivered);
                Ok(Some(Event::Value(Delivery { value, source, number, redelivered, ack })))
            }
            Err(error) => Err(self.undecodable(source, number, ack, error)),
        }
    }

    #[cold]
    fn finish_run(&mut self) {
        if let Some(cursor) = self.cursor.take() {
            // A turn goes on over runs, so that a source whose values come in small ones gets as much as the others.
            self.turn =
                (cursor.turn_values > 0).then_some((cursor.source, cursor.turn_values, cursor.turn_bytes));
            self.inbox.recycle(cursor.run.segment);
        }
    }

    /// The turn is over: the rest of this run goes back to the front of its lane.
    #[cold]
    fn end_turn(&mut self) {
        let Some(mut cursor) = self.cursor.take() else { return };
        if cursor.run.start == cursor.run.end {
            self.inbox.recycle(cursor.run.segment);
            return;
        }
        cursor.run.first = cursor.number;
        let Cursor { session, generation, run, .. } = cursor;
        self.inbox.put_back(cursor.source, Item::Run { session, generation, run, skip_at: None });
    }

    /// A frame between values; a SKIP is a notice.
    #[cold]
    fn pass_control(&mut self, header: Header) -> Option<Event<T>> {
        let cursor = self.cursor.as_mut()?;
        if header.kind != Kind::Skip as u8 {
            return None;
        }
        let start = cursor.run.start - header.len as usize;
        let payload = &cursor.run.segment[start..cursor.run.start];
        let Ok(Control::Skip { count }) = Control::decode(Kind::Skip, payload) else { return None };
        let first = cursor.number;
        let taken = Taken { number: first + count - 1, ..cursor.taken };
        if !cursor.session.pass(cursor.generation, taken) {
            return None;
        }
        (cursor.number, cursor.taken) = (first + count, taken);
        self.counters.skipped += count;
        Some(Event::Skipped { source: cursor.source, first, count })
    }

    #[cold]
    fn undecodable(
        &mut self,
        source_id: SourceId,
        number: u64,
        ack: Option<Ack>,
        error: ipc_transport::DecodeError,
    ) -> RecvError {
        self.counters.undecodable += 1;
        // It would never decode: in explicit mode it is acked here, so that it is not sent again.
        if let Some(ack) = ack {
            ack.session.ack(number, ack.generation);
        }
        RecvError::Undecodable { source_id, number, error }
    }
}

/// The future of [`Receiver::recv`], written by hand so that a value is written once, where its taker wants it.
#[must_use = "futures do nothing unless polled"]
pub struct Recv<'a, T> {
    receiver: &'a mut Receiver<T>,
}

impl<T: 'static> Future for Recv<'_, T> {
    type Output = Result<Delivery<T>, RecvError>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.get_mut().receiver.poll_recv(cx)
    }
}

impl<T> fmt::Debug for Recv<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Recv")
    }
}

/// Values as a stream, which ends at the first end of stream or when this end is closed.
impl<T: 'static> Stream for Receiver<T> {
    type Item = Result<Delivery<T>, RecvError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        if this.ended {
            return Poll::Ready(None);
        }
        match this.poll_recv(cx) {
            Poll::Ready(Err(RecvError::EndOfStream | RecvError::Closed)) => {
                this.ended = true;
                Poll::Ready(None)
            }
            other => other.map(Some),
        }
    }
}

impl<T> Receiver<T> {
    pub(super) fn inbox(&self) -> &Arc<Inbox> {
        &self.inbox
    }

    /// The counts that this end keeps itself, which are all but the duplicates.
    pub(super) fn own_counters(&self) -> ReceiverCounters {
        self.counters
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        self.inbox.leave(false);
    }
}

impl<T> fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver").field("counters", &self.counters).finish_non_exhaustive()
    }
}
