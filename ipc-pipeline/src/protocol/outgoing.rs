//! The sending end of a link: what was accepted, what may be written, what is released.

use std::{io::IoSlice, num::NonZeroUsize};

use ipc_transport::{EncodeBuffer, EncodeError};

use super::{Control, Hello, ProtocolError, Refusal, SessionId, Welcome, retention::Log};
use crate::FullPolicy;

/// The most of one vectored write, so that control frames and other tasks get their turn: 512 KiB.
const MAX_WRITE: usize = 512 * 1024;

/// How a sending end behaves; names and codec are what its hello says.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct OutgoingConfig {
    /// Values accepted and not released, at most. 20, as the source system has it.
    pub capacity: NonZeroUsize,
    /// Encoded bytes accepted and not released before no more permits are granted. 8 MiB.
    pub byte_bound: usize,
    /// The largest encoded value. 1 MiB.
    pub max_message: usize,
    /// What happens to a value when there is no room. It waits by default.
    pub policy: FullPolicy,
    /// Number of the first value. 1; tests begin elsewhere.
    pub first: u64,
}

impl Default for OutgoingConfig {
    fn default() -> Self {
        Self {
            capacity: NonZeroUsize::new(20).expect("20 is not zero"),
            byte_bound: 8 * 1024 * 1024,
            max_message: 1024 * 1024,
            policy: FullPolicy::Wait,
            first: 1,
        }
    }
}

/// Counts since the session began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct OutgoingCounters {
    /// Values accepted.
    pub accepted: u64,
    /// Values released by the receiver.
    pub released: u64,
    /// Values dropped by the policy.
    pub dropped: u64,
    /// Values written again after a lost connection.
    pub resent: u64,
    /// Values sent to a successor although an earlier incarnation may have seen them.
    pub redelivered: u64,
    /// Times the link became held up.
    pub stalls: u64,
    /// Connections that were welcomed after the first.
    pub reconnects: u64,
    /// Bytes of data and control written to connections.
    pub bytes_written: u64,
}

/// Why a session is over.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum End {
    /// Given up by this side; what the receiver said of it, if it answered.
    Aborted(Option<Delivered>),
    /// Everything was released and the end announced.
    Finished,
    /// The receiving end was closed for good.
    PeerClosed,
    /// Refused for a reason that does not pass by itself.
    Refused(Refusal),
}

/// What the receiver says was delivered when a session is given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Delivered {
    /// The highest released number; discarded ones count as released when the answer is repeated.
    pub released: u64,
    /// The highest number that an application has seen.
    pub taken: u64,
}

/// Why a value was not accepted; the caller still has it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum AppendError {
    /// It does not encode, or not within the limit.
    Encode(EncodeError),
    /// The session takes no more values.
    Ended,
}

/// What a call of [`Outgoing::poll_transmit`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transmit {
    /// Whether [`Outgoing::slices`] has bytes to write.
    pub pending: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// No connection, or one that is not welcomed yet.
    Offline,
    /// Welcomed: frames flow.
    Live,
}

/// The machine of a sending end.
///
/// Inputs: [`append`](Self::append), [`handle_welcome`](Self::handle_welcome),
/// [`handle_control`](Self::handle_control), [`handle_written`](Self::handle_written),
/// [`handle_disconnected`](Self::handle_disconnected). Outputs: [`hello`](Self::hello), and
/// [`poll_transmit`](Self::poll_transmit) followed by [`slices`](Self::slices), until nothing is pending.
///
/// ```text
///            hello ▶            handle_welcome
///  Offline ─────────▶ Offline ────────────────▶ Live ──┐ poll_transmit, slices, handle_written
///     ▲                                          │  ▲──┘ handle_control
///     └────────── handle_disconnected ───────────┘
/// ```
#[derive(Debug)]
pub struct Outgoing {
    config: OutgoingConfig,
    session: SessionId,
    attempt: u64,
    known: u64,
    maybe_seen_until: u64,
    log: Log,
    reserved: usize,
    phase: Phase,
    max_values: u64,
    max_bytes: u64,
    staged: Vec<u8>,
    staged_at: usize,
    checkpointed: u64,
    /// The newest ping that was not answered: state, so that a peer cannot make answers pile up.
    pong: Option<u64>,
    /// A ping to send, and the newest one that was answered on this connection.
    ping: Option<u64>,
    answered: Option<u64>,
    need: bool,
    need_pending: bool,
    /// Somebody waits for room.
    held_up: bool,
    /// The receiver reports moves without being asked.
    ticked: bool,
    /// Values wait for credit.
    out_of_credit: bool,
    /// Somebody waits until everything up to this number is released; 0 if nobody does.
    wanted_release: u64,
    /// The last request was answered: whoever is still held up asks anew.
    ask_again: bool,
    finishing: bool,
    fin_staged: bool,
    /// Where FIN ends in the staged bytes; 0 once it is written.
    fin_end: usize,
    aborting: bool,
    abort_staged: bool,
    /// A receiver may have heard of the abort: what it calls released from then on may be what it discarded.
    abort_told: bool,
    end: Option<End>,
    counters: OutgoingCounters,
    welcomed: bool,
    /// The receiver left in good order and nobody has welcomed the session since.
    detached: bool,
}

impl Outgoing {
    /// A fresh session; the id must be random.
    pub fn new(session: SessionId, mut config: OutgoingConfig) -> Self {
        // Numbers begin at 1, and an empty link admits any one value.
        config.first = config.first.max(1);
        config.byte_bound = config.byte_bound.max(1);
        Self {
            log: Log::new(config.first),
            config,
            session,
            attempt: 0,
            known: 0,
            maybe_seen_until: 0,
            reserved: 0,
            phase: Phase::Offline,
            max_values: 0,
            max_bytes: 0,
            staged: Vec::new(),
            staged_at: 0,
            checkpointed: u64::MAX,
            pong: None,
            ping: None,
            answered: None,
            need: false,
            need_pending: false,
            held_up: false,
            ticked: false,
            out_of_credit: false,
            wanted_release: 0,
            ask_again: false,
            finishing: false,
            fin_staged: false,
            fin_end: 0,
            aborting: false,
            abort_staged: false,
            abort_told: false,
            end: None,
            counters: OutgoingCounters::default(),
            welcomed: false,
            detached: false,
        }
    }

    // Values.

    /// Takes one unit of capacity for a value to come; `false` when there is none.
    ///
    /// Permits are granted while values and permits together are below the capacity and retained bytes below the
    /// byte bound, which is never checked after encoding: the overshoot is at most one value for each permit.
    #[inline]
    pub fn reserve(&mut self) -> bool {
        let granted = self.log.live_values() + self.reserved < self.config.capacity.get()
            && self.log.live_bytes() < self.config.byte_bound;
        self.reserved += usize::from(granted);
        granted
    }

    /// Gives back a unit of capacity that was reserved.
    #[inline]
    pub fn unreserve(&mut self) {
        self.reserved -= 1;
    }

    /// Encodes and accepts a value under a reserved unit of capacity, which it uses up; its number is returned.
    ///
    /// # Errors
    ///
    /// Nothing is changed by a failure: the unit is still reserved.
    #[inline]
    pub fn append<F>(&mut self, encode: F) -> Result<u64, AppendError>
    where
        F: FnMut(&mut EncodeBuffer<'_>) -> Result<(), EncodeError>,
    {
        if self.end.is_some() || self.finishing || self.aborting {
            return Err(AppendError::Ended);
        }
        debug_assert!(self.reserved > 0, "a value is appended under a reserved unit");
        let number = self.log.append(self.config.max_message, encode).map_err(AppendError::Encode)?;
        self.reserved -= 1;
        self.counters.accepted += 1;
        Ok(number)
    }

    /// Makes room by dropping the oldest value that was never written; `false` if there is none.
    pub fn drop_oldest(&mut self) -> bool {
        let dropped = self.log.drop_oldest(self.phase == Phase::Live);
        self.counters.dropped += u64::from(dropped);
        dropped
    }

    /// Uses up a number for a new value that is dropped because nothing else could be.
    pub fn drop_newest(&mut self) {
        self.log.append_hole();
        self.counters.accepted += 1;
        self.counters.dropped += 1;
    }

    /// No value follows: the end is announced once everything was written.
    pub fn finish(&mut self) {
        self.finishing = true;
    }

    /// Gives up what is not delivered; nothing more is sent but the announcement.
    pub fn abort(&mut self) {
        self.aborting = true;
    }

    /// Somebody waits for everything accepted so far to be released: ask the receiver when nothing else is to be sent.
    pub fn wait_for_release(&mut self) {
        self.wanted_release = self.log.next() - 1;
    }

    /// Somebody waits for room: ask the receiver when nothing else is to be sent.
    pub fn set_held_up(&mut self, held_up: bool) {
        if held_up && !self.held_up {
            self.counters.stalls += 1;
        }
        self.held_up = held_up;
    }

    /// Makes an end that the application ordered: a refused session is dialled anew.
    pub fn clear_refusal(&mut self) {
        if matches!(self.end, Some(End::Refused(_))) {
            self.end = None;
        }
    }

    /// Turned away for good; what is retained stays retained.
    pub fn handle_refusal(&mut self, refusal: Refusal) {
        if !refusal.is_transient() && self.end.is_none() {
            self.end = Some(match refusal {
                Refusal::PeerClosed => End::PeerClosed,
                other => End::Refused(other),
            });
        }
    }

    // Connections.

    /// The hello of the next attempt, with everything but names and codec filled in.
    pub fn hello(&mut self, codec: &str) -> Hello {
        self.attempt += 1;
        let mut hello = Hello::new(self.session, codec);
        hello.attempt = self.attempt;
        hello.max_message = self.config.max_message as u64;
        hello.capacity = self.config.capacity.get() as u64;
        hello.known = self.known;
        hello.lowest = self.log.lowest();
        hello
    }

    /// The receiver lets us in: forget what it released, go back to what it lacks.
    ///
    /// # Errors
    ///
    /// [`ProtocolError::UnknownValue`] when it claims values that were never sent.
    pub fn handle_welcome(&mut self, welcome: &Welcome) -> Result<(), ProtocolError> {
        let successor = welcome.incarnation != self.known || welcome.unknown_session;
        let before_lowest = self.log.lowest() - 1;
        let most = if successor { before_lowest } else { self.log.unwritten() - 1 };
        let received = welcome.received;
        if received > most.max(before_lowest) || welcome.released > received || received < before_lowest {
            return Err(ProtocolError::UnknownValue { session: self.session, received });
        }
        if welcome.restated && received != welcome.released {
            return Err(ProtocolError::UnknownValue { session: self.session, received });
        }
        let unwritten = self.log.unwritten();
        if successor {
            self.known = welcome.incarnation;
            self.maybe_seen_until = unwritten - 1;
            self.counters.redelivered += unwritten.saturating_sub(self.log.lowest());
        }
        self.handle_released(welcome.released);
        self.log.resume_at(received + 1, welcome.restated || successor);
        self.counters.resent += unwritten.saturating_sub(self.log.mark_number());
        self.counters.reconnects += u64::from(self.welcomed);
        self.welcomed = true;
        self.detached = false;
        (self.max_values, self.max_bytes) = (welcome.max_values, welcome.max_bytes);
        self.ticked = welcome.ticked;
        self.phase = Phase::Live;
        self.staged.clear();
        self.staged_at = 0;
        self.need_pending = false;
        self.need = false;
        self.ask_again = true;
        self.fin_staged = false;
        self.abort_staged = false;
        self.checkpointed = u64::MAX;
        self.pong = None;
        self.ping = None;
        self.answered = None;
        let maybe_seen_until = self.maybe_seen_until;
        Control::Resume { first: self.log.mark_number(), maybe_seen_until }.encode(&mut self.staged);
        Ok(())
    }

    /// A control message of the receiver.
    ///
    /// # Errors
    ///
    /// Any [`ProtocolError`] cuts the connection; the session goes on with the next one.
    pub fn handle_control(&mut self, control: Control) -> Result<(), ProtocolError> {
        match control {
            Control::Ack { released, max_values, max_bytes } => {
                self.check_released(released)?;
                if max_values < self.max_values || max_bytes < self.max_bytes {
                    return Err(ProtocolError::CreditLowered);
                }
                (self.max_values, self.max_bytes) = (max_values, max_bytes);
                self.handle_released(released);
                self.need_pending = false;
                // Whoever is still held up after this answer asks again, once.
                self.need = false;
                self.ask_again = true;
            }
            Control::Aborted { released, taken } => {
                self.check_released(released)?;
                if !self.aborting {
                    return Err(ProtocolError::UnexpectedFrame { kind: super::Kind::Aborted as u8 });
                }
                // A repeated answer calls released what was discarded; what was taken stays what it was.
                self.release(released.min(taken));
                self.end.get_or_insert(End::Aborted(Some(Delivered { released, taken })));
            }
            Control::Closed { released } => {
                self.check_released(released)?;
                self.handle_released(released);
                self.end.get_or_insert(End::PeerClosed);
            }
            Control::Ping { token } => self.pong = Some(token),
            Control::Pong { token } => self.answered = Some(token),
            Control::Detach => self.detached = true,
            other => {
                let mut frame = Vec::new();
                other.encode(&mut frame);
                return Err(ProtocolError::UnexpectedFrame { kind: frame[3] });
            }
        }
        let fin_written = self.fin_staged && self.staged_at >= self.fin_end;
        if fin_written && self.log.lowest() == self.log.next() {
            self.end.get_or_insert(End::Finished);
        }
        Ok(())
    }

    /// The connection is gone; everything that was not released stays.
    pub fn handle_disconnected(&mut self) {
        if self.phase == Phase::Live {
            self.log.disconnect();
            self.phase = Phase::Offline;
        }
        self.staged.clear();
        self.staged_at = 0;
        self.fin_staged = false;
        self.abort_staged = false;
    }

    // Transmission.

    /// Prepares what may be written now: control first, then values within the credit.
    pub fn poll_transmit(&mut self) -> Transmit {
        if self.phase != Phase::Live || self.end.is_some() {
            return Transmit { pending: false };
        }
        if self.aborting {
            if !self.abort_staged && self.staged.is_empty() {
                if self.log.frame_rest() == 0 {
                    Control::Abort.encode(&mut self.staged);
                    self.abort_staged = true;
                    self.abort_told = true;
                } else {
                    return Transmit { pending: true };
                }
            }
            return Transmit { pending: !self.staged.is_empty() };
        }
        let mut max_values = self.max_values;
        if self.config.policy == FullPolicy::DropOldest {
            let in_flight = (self.config.capacity.get() / 2).max(1) as u64;
            max_values = max_values.min(self.log.head_values() + in_flight);
        }
        self.log.open_gate(max_values, self.max_bytes);
        if self.staged_at == 0 {
            self.stage_control(max_values);
        }
        Transmit { pending: !self.staged.is_empty() || !self.log.written_to_gate() }
    }

    /// Fills `slices` with what may be written now and returns how many it filled; at most 512 KiB.
    pub fn slices<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let rest = if self.staged_at > 0 { 0 } else { self.log.frame_rest() };
        let mut count = 0;
        if rest > 0 && (!self.staged.is_empty() || self.aborting) {
            count = self.log.slices(0, rest, slices);
        }
        if !self.staged.is_empty() && count < slices.len() {
            slices[count] = IoSlice::new(&self.staged[self.staged_at..]);
            count += 1;
        }
        if !self.aborting && count < slices.len() {
            let skip = if count > 0 { rest } else { 0 };
            count += self.log.slices(skip, MAX_WRITE, &mut slices[count..]);
        }
        count
    }

    /// This many of the bytes in [`slices`](Self::slices) were written.
    pub fn handle_written(&mut self, mut count: usize) {
        self.counters.bytes_written += count as u64;
        if !self.staged.is_empty() {
            let rest = if self.staged_at > 0 { 0 } else { self.log.frame_rest() };
            let finished = count.min(rest);
            self.log.advance(finished);
            count -= finished;
            let control = count.min(self.staged.len() - self.staged_at);
            self.staged_at += control;
            count -= control;
            if self.staged_at == self.staged.len() {
                self.staged.clear();
                self.staged_at = 0;
                // If FIN was among it, it is written, whatever is staged next.
                self.fin_end = 0;
            }
        }
        if count > 0 {
            self.log.advance(count);
        }
    }

    /// Asks the receiver for a sign of life; a newer ping takes the place of one that was not sent yet.
    pub fn ping(&mut self, token: u64) {
        self.ping = Some(token);
    }

    // Facts.

    /// The newest ping of this connection that was answered.
    pub fn answered_ping(&self) -> Option<u64> {
        self.answered
    }

    /// Values accepted, not released and not dropped.
    pub fn pending(&self) -> usize {
        self.log.live_values()
    }

    /// Of these, how many have a number beyond `number`.
    pub fn pending_beyond(&self, number: u64) -> usize {
        self.log.live_values_beyond(number)
    }

    /// Encoded bytes retained.
    pub fn pending_bytes(&self) -> usize {
        self.log.live_bytes()
    }

    /// Bytes of memory that retained values, and the places of dropped ones, hold; spare segments included.
    pub fn retained_memory(&self) -> usize {
        self.log.memory() + self.staged.capacity()
    }

    /// Bytes of values that may be written at once, as of the last [`poll_transmit`](Self::poll_transmit).
    pub fn writable_bytes(&self) -> u64 {
        self.log.writable_bytes()
    }

    /// Bytes accepted and not yet let go to the connection.
    pub fn waiting_bytes(&self) -> u64 {
        self.log.waiting_bytes()
    }

    /// Number of the last value, 0 if there was none.
    pub fn last_number(&self) -> u64 {
        self.log.next() - 1
    }

    /// Whether every value up to this number is released or was dropped.
    pub fn is_released(&self, number: u64) -> bool {
        self.log.lowest() > number || self.log.live_values() == 0
    }

    /// The oldest number still kept.
    pub fn lowest(&self) -> u64 {
        self.log.lowest()
    }

    /// Whether frames flow.
    pub fn is_live(&self) -> bool {
        self.phase == Phase::Live
    }

    /// Whether there is nothing to deliver, not even the announcement of the end.
    pub fn is_idle(&self) -> bool {
        self.log.live_values() == 0 && !self.is_known()
    }

    /// Whether a receiver has met the session and has not left in good order: it waits to hear of the end.
    pub fn is_known(&self) -> bool {
        self.welcomed && !self.detached
    }

    /// Numbers up to here may have been seen by an incarnation before the current one.
    pub fn maybe_seen_until(&self) -> u64 {
        self.maybe_seen_until
    }

    /// How the session ended, if it did.
    pub fn end(&self) -> Option<&End> {
        self.end.as_ref()
    }

    /// The highest number written whole to any connection: the most that a receiver can have.
    pub fn written_until(&self) -> u64 {
        self.log.unwritten() - 1
    }

    /// Counts since the session began.
    pub fn counters(&self) -> OutgoingCounters {
        self.counters
    }

    /// The session.
    pub fn session(&self) -> SessionId {
        self.session
    }

    /// The configuration.
    pub fn config(&self) -> &OutgoingConfig {
        &self.config
    }

    fn stage_control(&mut self, max_values: u64) {
        if self.staged.is_empty()
            && let Some(token) = self.pong.take()
        {
            Control::Pong { token }.encode(&mut self.staged);
        }
        if self.staged.is_empty()
            && let Some(token) = self.ping.take()
        {
            Control::Ping { token }.encode(&mut self.staged);
        }
        // One at a time: what is dropped while it waits to be written goes into the next.
        if self.staged.is_empty()
            && let Some(count) = self.log.take_skip()
        {
            Control::Skip { count }.encode(&mut self.staged);
            self.log.open_gate(max_values, self.max_bytes);
        }
        let waiting = self.log.waiting_bytes();
        if self.checkpointed != self.log.cursor_chunk() && self.log.frame_rest() == 0 {
            self.checkpointed = self.log.cursor_chunk();
            if !self.log.written_to_gate() {
                Control::Checkpoint { next: self.log.mark_number(), waiting }.encode(&mut self.staged);
            }
        }
        if self.finishing && !self.fin_staged && self.log.all_gated() && self.log.written_to_gate() {
            Control::Fin.encode(&mut self.staged);
            self.fin_staged = true;
            self.fin_end = self.staged.len();
            self.need = true;
        }
        let out_of_credit = waiting > 0;
        if out_of_credit && !self.out_of_credit {
            self.counters.stalls += 1;
            self.need = true;
        }
        self.out_of_credit = out_of_credit;
        if std::mem::take(&mut self.ask_again) {
            self.need |= out_of_credit;
        }
        if self.wanted_release >= self.log.lowest() {
            self.need = true;
        }
        // Half a window under way is reported in time by a receiver that looks after that itself: asking would only
        // make it ack in smaller steps.
        let lazily = self.ticked && 2 * self.log.in_flight_values() >= self.config.capacity.get() as u64;
        let asks = self.need || self.held_up && !lazily;
        if asks && !self.need_pending && self.log.lowest() < self.log.next() {
            let next_size = self.log.gated_size().unwrap_or(0) as u64;
            Control::Need { waiting, next_size }.encode(&mut self.staged);
            self.need_pending = true;
            self.need = false;
        }
    }

    fn check_released(&self, released: u64) -> Result<(), ProtocolError> {
        let sent = self.log.mark_number();
        if released >= sent {
            return Err(ProtocolError::AckBeyondSent { released, sent });
        }
        Ok(())
    }

    fn handle_released(&mut self, upto: u64) {
        if !self.abort_told {
            self.release(upto);
        }
    }

    fn release(&mut self, upto: u64) {
        let before = self.log.live_values();
        self.log.release(upto);
        self.counters.released += (before - self.log.live_values()) as u64;
        if self.log.lowest() > self.wanted_release {
            self.wanted_release = 0;
        }
    }
}
