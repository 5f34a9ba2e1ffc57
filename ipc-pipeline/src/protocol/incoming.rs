//! The receiving end of one session: what arrived, what was taken and released, what is promised.

use std::{
    collections::{BTreeSet, VecDeque},
    num::NonZeroU64,
};

use ipc_transport::Limits;

use super::{BudgetShare, Control, FLOOR_BYTES, Hello, Kind, ProtocolError, Refusal, Welcome};

/// How a receiving end treats its sessions.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct IncomingConfig {
    /// This life of the receiving endpoint: random, not 0.
    pub incarnation: u64,
    /// Values that one session may have in flight or untaken, at most; the sender's capacity may make it less. 16,384,
    /// at most 2⁴⁰.
    pub window: NonZeroU64,
    /// Bytes that one session may have in flight or untaken beyond which credit does not grow. 8 MiB, at most 2⁴⁸.
    pub max_window_bytes: u64,
    /// The largest encoded value. 1 MiB, at most 64 MiB.
    pub max_message: usize,
    /// Whether the application acks: then a take moves credit only, and an ack releases.
    pub explicit: bool,
    /// Whether somebody reports moves after a while, a ticker for one. Then a request that finds values untaken is
    /// answered with the next move instead of at once, so that a sender at its capacity gets one ack for a batch
    /// instead of one for each value.
    pub ticked: bool,
}

impl Default for IncomingConfig {
    fn default() -> Self {
        Self {
            incarnation: 1,
            window: NonZeroU64::new(16_384).expect("not zero"),
            max_window_bytes: 8 * 1024 * 1024,
            max_message: 1024 * 1024,
            explicit: false,
            ticked: false,
        }
    }
}

impl IncomingConfig {
    /// Keeps every sum of counts and limits far from an overflow.
    fn limited(mut self) -> Self {
        self.window = self.window.min(MAX_WINDOW);
        self.max_window_bytes = self.max_window_bytes.min(MAX_WINDOW_BYTES);
        self.max_message = self.max_message.min(Limits::MAX_MESSAGE_CAP);
        self
    }
}

/// The largest window in values: more than any memory holds.
const MAX_WINDOW: NonZeroU64 = NonZeroU64::new(1 << 40).expect("not zero");

/// The largest window in bytes, likewise.
const MAX_WINDOW_BYTES: u64 = 1 << 48;

/// How far the application has come, in the counts of this incarnation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Taken {
    /// The highest number taken; skipped numbers before the next value included.
    pub number: u64,
    /// Values taken since the counts began.
    pub values: u64,
    /// Bytes of their frames, headers included.
    pub bytes: u64,
}

/// The machine of one session at its receiving end.
///
/// Inputs: [`handle_hello`](Self::handle_hello), then what a [`FrameReader`](super::FrameReader) finds
/// ([`handle_values`](Self::handle_values), [`handle_control`](Self::handle_control)), what the application does
/// ([`handle_taken`](Self::handle_taken), [`handle_acked`](Self::handle_acked)), and
/// [`handle_disconnected`](Self::handle_disconnected). Output: [`poll_control`](Self::poll_control).
#[derive(Debug)]
pub struct Incoming {
    config: IncomingConfig,
    share: BudgetShare,
    attempt: u64,
    window: u64,
    resumed: bool,
    connected: bool,
    received: u64,
    released: u64,
    received_values: u64,
    received_bytes: u64,
    taken: Taken,
    max_values: u64,
    max_bytes: u64,
    /// What the last ack said.
    reported_released: u64,
    reported: Taken,
    received_at_report: u64,
    waiting: u64,
    next_size: u64,
    /// A value larger than the window may come: how many values had arrived when it was let in.
    oversize: Option<u64>,
    /// The sender does not know of it yet.
    oversize_unreported: bool,
    need: bool,
    /// How far the application was when the sender asked.
    asked_at: (u64, u64),
    maybe_seen_until: u64,
    handed_until: u64,
    acked: BTreeSet<u64>,
    skips: VecDeque<(u64, u64)>,
    finished: bool,
    fin_unreported: bool,
    abort: bool,
    pong: Option<u64>,
    restated: bool,
    unknown_session: bool,
    duplicates: u64,
}

impl Incoming {
    /// A record of a session that this incarnation has not met, or has forgotten.
    ///
    /// Limits beyond all measure are cut to the largest ones that sums of counts can hold.
    pub fn new(config: IncomingConfig, hello: &Hello, share: BudgetShare) -> Self {
        let config = config.limited();
        let before = hello.lowest - 1;
        Self {
            window: config.window.get().min(hello.capacity.max(1)),
            share,
            attempt: 0,
            resumed: false,
            connected: false,
            received: before,
            released: before,
            received_values: 0,
            received_bytes: 0,
            taken: Taken { number: before, values: 0, bytes: 0 },
            max_values: 0,
            max_bytes: 0,
            reported_released: before,
            reported: Taken { number: before, values: 0, bytes: 0 },
            received_at_report: 0,
            waiting: 0,
            next_size: 0,
            oversize: None,
            oversize_unreported: false,
            need: false,
            asked_at: (0, 0),
            maybe_seen_until: 0,
            handed_until: 0,
            acked: BTreeSet::new(),
            skips: VecDeque::new(),
            finished: false,
            fin_unreported: false,
            abort: false,
            pong: None,
            restated: true,
            unknown_session: hello.known == config.incarnation,
            duplicates: 0,
            config,
        }
    }

    /// A dial of this session: takes the place of an older connection, whose unread bytes the caller has dropped.
    ///
    /// # Errors
    ///
    /// [`Refusal::Stale`] when the attempt is not newer than the newest seen.
    pub fn handle_hello(&mut self, hello: &Hello) -> Result<Welcome, Refusal> {
        if hello.attempt <= self.attempt {
            return Err(Refusal::Stale);
        }
        self.attempt = hello.attempt;
        self.handle_disconnected();
        self.connected = true;
        self.window = self.config.window.get().min(hello.capacity.max(1));
        self.waiting = 0;
        self.max_values = self.taken.values + self.window;
        self.max_bytes = 0;
        self.promise_bytes();
        self.mark_reported();
        Ok(Welcome {
            incarnation: self.config.incarnation,
            received: self.received,
            released: self.released,
            max_values: self.max_values,
            max_bytes: self.max_bytes,
            unknown_session: self.unknown_session,
            restated: self.restated,
            ticked: self.config.ticked,
        })
    }

    /// The connection is gone: a value that was not whole is as if it had never been sent.
    pub fn handle_disconnected(&mut self) {
        self.connected = false;
        self.resumed = false;
        self.need = false;
        self.pong = None;
        self.next_size = 0;
        self.oversize = None;
        self.oversize_unreported = false;
        // What was promised and not sent is not owed to anybody any more.
        self.keep_buffered();
    }

    fn keep_buffered(&mut self) {
        let buffered = self.received_bytes - self.taken.bytes;
        self.share.resize(buffered.saturating_sub(FLOOR_BYTES));
    }

    /// Values arrived whole, with the bytes of their frames.
    ///
    /// # Errors
    ///
    /// [`ProtocolError::CreditExceeded`] when they were not covered by the promise; they are not counted then.
    #[inline]
    pub fn handle_values(&mut self, values: u64, bytes: u64) -> Result<(), ProtocolError> {
        if values == 0 {
            return Ok(());
        }
        if !self.resumed || self.finished {
            return Err(ProtocolError::ExpectedResume { kind: Kind::Data as u8 });
        }
        if self.received_values + values > self.max_values || self.received_bytes + bytes > self.max_bytes {
            return Err(self.credit_exceeded());
        }
        if self.received >= u64::MAX - values {
            return Err(ProtocolError::WrongSequence { theirs: u64::MAX, ours: self.next_number() });
        }
        self.received += values;
        self.received_values += values;
        self.received_bytes += bytes;
        Ok(())
    }

    /// A value of so many bytes is on its way: may it?
    ///
    /// # Errors
    ///
    /// [`ProtocolError::MessageTooLarge`], [`ProtocolError::CreditExceeded`], before anything is allocated for it.
    pub fn check_message(&self, len: usize) -> Result<(), ProtocolError> {
        if !self.resumed || self.finished {
            return Err(ProtocolError::ExpectedResume { kind: Kind::Data as u8 });
        }
        if len > self.config.max_message {
            return Err(ProtocolError::MessageTooLarge { len, max: self.config.max_message });
        }
        if self.received_bytes + len as u64 > self.max_bytes {
            return Err(self.credit_exceeded());
        }
        Ok(())
    }

    /// A control message of the sender.
    ///
    /// # Errors
    ///
    /// Any [`ProtocolError`] cuts the connection; the session goes on with the next one.
    pub fn handle_control(&mut self, control: Control) -> Result<(), ProtocolError> {
        if !self.resumed && !matches!(control, Control::Resume { .. } | Control::Abort | Control::Ping { .. })
        {
            let mut frame = Vec::new();
            control.encode(&mut frame);
            return Err(ProtocolError::ExpectedResume { kind: frame[3] });
        }
        match control {
            Control::Resume { first, maybe_seen_until } => {
                if self.resumed {
                    return Err(ProtocolError::UnexpectedFrame { kind: Kind::Resume as u8 });
                }
                self.check_next(first)?;
                self.resumed = true;
                self.restated = false;
                self.unknown_session = false;
                // Numbers end before the last one, so that the one behind any number exists.
                self.maybe_seen_until = maybe_seen_until.min(u64::MAX - 1);
            }
            Control::Checkpoint { next, waiting } => {
                self.check_next(next)?;
                self.waiting = waiting;
            }
            Control::Need { waiting, next_size } => {
                self.waiting = waiting;
                self.next_size = next_size;
                self.need = true;
                self.asked_at = (self.taken.values, self.released);
                let wanted = self.received_bytes.saturating_add(next_size.min(self.largest_frame()));
                if self.oversize == Some(self.received_values) && wanted > self.max_bytes {
                    // A policy has dropped the value that was let in, and a larger one stands in its place.
                    self.max_bytes = wanted;
                    self.oversize_unreported = true;
                }
            }
            Control::Skip { count } => {
                let first = self.received + 1;
                self.received = self
                    .received
                    .checked_add(count)
                    // The last number is never used, so that the one behind the newest always exists.
                    .filter(|received| *received < u64::MAX)
                    .ok_or(ProtocolError::WrongSequence { theirs: count, ours: first })?;
                if self.taken.number + 1 == first {
                    self.taken.number = self.received;
                }
                self.skips.push_back((first, self.received));
                if let [.., (_, before), _] = self.skips.make_contiguous()
                    && *before + 1 == first
                {
                    *before = self.received;
                    self.skips.pop_back();
                }
                self.move_released();
            }
            Control::Fin => {
                self.finished = true;
                self.fin_unreported = true;
            }
            Control::Abort => {
                self.abort = true;
                self.finished = true;
            }
            Control::Ping { token } => self.pong = Some(token),
            Control::Pong { .. } => {}
            other => {
                let mut frame = Vec::new();
                other.encode(&mut frame);
                return Err(ProtocolError::UnexpectedFrame { kind: frame[3] });
            }
        }
        Ok(())
    }

    /// How far the application has come; reports may arrive late or twice, and none counts beyond what arrived.
    pub fn handle_taken(&mut self, taken: Taken) {
        self.taken.number = self.taken.number.max(taken.number.min(self.received));
        self.taken.values = self.taken.values.max(taken.values.min(self.received_values));
        self.taken.bytes = self.taken.bytes.max(taken.bytes.min(self.received_bytes));
        if self.taken.values == self.received_values && self.oversize.is_some_and(|at| at < self.taken.values)
        {
            self.oversize = None;
        }
        if !self.connected {
            // Nothing new is promised meanwhile, so what was taken is all that can be given back.
            self.keep_buffered();
        }
        self.move_released();
    }

    /// The application acked a value, in any order; an ack of something released already does nothing.
    pub fn handle_acked(&mut self, number: u64) {
        if number > self.released && number <= self.received {
            self.acked.insert(number);
            self.move_released();
        }
    }

    /// Whether the application has acked this number already: it is not handed out again.
    pub fn is_acked(&self, number: u64) -> bool {
        number <= self.released || self.acked.contains(&number)
    }

    /// A value that arrived again after [`recover`](Self::recover) was passed over.
    pub fn count_duplicate(&mut self) {
        self.duplicates += 1;
    }

    /// Takes everything unreleased back: the sender is to send it again from there on.
    ///
    /// The caller has cut the connection and dropped the untaken values.
    pub fn recover(&mut self) {
        self.handed_until = self.handed_until.max(self.taken.number);
        self.restart_counts();
    }

    /// Untaken values are dropped for good: the sender gave them up, or the receiver closed.
    pub fn discard(&mut self) {
        self.handle_taken(Taken {
            number: self.received,
            values: self.received_values,
            bytes: self.received_bytes,
        });
    }

    /// A value larger than the window may come: nothing of this link is untaken and the port's slot is its.
    pub fn grant_oversize(&mut self) {
        self.oversize = Some(self.received_values);
        self.oversize_unreported = true;
        self.max_bytes = self.max_bytes.max(self.received_bytes + self.next_size.min(self.largest_frame()));
    }

    /// Whether the sender is stuck on a value larger than its credit can grow.
    pub fn wants_oversize(&self) -> bool {
        self.is_stuck() && self.taken.values == self.received_values
    }

    /// Whether the value that the sender asked for is larger than its credit, and than all it could be.
    pub fn is_stuck(&self) -> bool {
        self.need
            && self.oversize.is_none()
            && self.next_size > 0
            && self.next_size <= self.largest_frame()
            && self.received_bytes.saturating_add(self.next_size) > self.max_bytes.max(self.possible_bytes())
    }

    /// Whether a granted oversize value has not been taken yet.
    pub fn holds_oversize(&self) -> bool {
        self.oversize.is_some()
    }

    /// The number of a value's answer to an abort, once; the caller discards and announces it.
    pub fn take_abort(&mut self) -> bool {
        std::mem::take(&mut self.abort)
    }

    /// Whether an ack is due now: half the window moved, or the sender asked and something moved.
    pub fn ack_is_due(&self) -> bool {
        if !self.resumed {
            return false;
        }
        self.need && self.can_answer()
            || self.fin_unreported && self.released == self.received
            || self.released - self.reported_released.min(self.released) >= self.window.div_ceil(2)
            || self.taken.values - self.reported.values >= self.window.div_ceil(2)
            || self.taken.bytes - self.reported.bytes >= self.window_bytes_at_report().div_ceil(2)
    }

    /// Whether the sender waits for an answer that nothing has made possible yet.
    pub fn is_asked(&self) -> bool {
        self.need
    }

    /// Whether anything moved since the last ack.
    pub fn has_moved(&self) -> bool {
        self.released != self.reported_released || self.taken.values != self.reported.values
    }

    /// Appends the control frames that are due: an ack if one is due or `tick` and anything moved, and a pong.
    pub fn poll_control(&mut self, tick: bool, out: &mut Vec<u8>) {
        if let Some(token) = self.pong.take() {
            Control::Pong { token }.encode(out);
        }
        if self.ack_is_due() || tick && self.resumed && self.has_moved() {
            let ack = self.ack();
            ack.encode(out);
        }
    }

    /// Counts of values and bytes at which the next ack is due by half the window.
    pub fn ack_at(&self) -> (u64, u64) {
        (
            self.reported.values + self.window.div_ceil(2),
            self.reported.bytes + self.window_bytes_at_report().div_ceil(2),
        )
    }

    /// Whether number was handed out before, here or possibly by an earlier incarnation.
    pub fn is_redelivered(&self, number: u64) -> bool {
        number <= self.maybe_seen_until || number <= self.handed_until
    }

    /// Numbers up to here may have been seen by an earlier incarnation, or were handed out before a recovery.
    pub fn maybe_seen_until(&self) -> u64 {
        self.maybe_seen_until.max(self.handed_until)
    }

    /// The number of the next value.
    #[inline]
    pub fn next_number(&self) -> u64 {
        self.received + 1
    }

    /// The largest encoded value that is let in.
    pub fn max_message(&self) -> usize {
        self.config.max_message
    }

    /// The highest number whole in the buffer or beyond.
    pub fn received(&self) -> u64 {
        self.received
    }

    /// The highest number that the sender may forget.
    pub fn released(&self) -> u64 {
        self.released
    }

    /// How far the application has come.
    pub fn taken(&self) -> Taken {
        self.taken
    }

    /// The oldest value handed out and not acked, in explicit mode.
    pub fn oldest_unacked(&self) -> Option<u64> {
        (self.released < self.taken.number).then_some(self.released + 1)
    }

    /// Whether the sender announced its end, and nothing is untaken or unacked.
    pub fn is_finished(&self) -> bool {
        self.finished && self.released == self.received
    }

    /// Whether the sender announced its end.
    pub fn is_ending(&self) -> bool {
        self.finished
    }

    /// Whether a connection serves the session.
    pub fn is_connected(&self) -> bool {
        self.connected
    }

    /// Values passed over because they had been acked before a recovery.
    pub fn duplicates(&self) -> u64 {
        self.duplicates
    }

    /// Bytes that arrived since the counts began, headers included.
    pub fn received_bytes(&self) -> u64 {
        self.received_bytes
    }

    /// Credit now: cumulative values and bytes.
    pub fn promised(&self) -> (u64, u64) {
        (self.max_values, self.max_bytes)
    }

    fn ack(&mut self) -> Control {
        self.max_values = self.max_values.max(self.taken.values + self.window);
        self.promise_bytes();
        self.oversize_unreported = false;
        // An oversize value that was not granted keeps the question open.
        self.need = self.is_stuck();
        if self.released == self.received {
            self.fin_unreported = false;
        }
        self.mark_reported();
        Control::Ack { released: self.released, max_values: self.max_values, max_bytes: self.max_bytes }
    }

    fn mark_reported(&mut self) {
        self.reported_released = self.released;
        self.reported = self.taken;
        self.received_at_report = self.received_bytes;
    }

    /// Bytes that would be promised now: demand and recent flow, between the floor and the window.
    fn wanted_bytes(&self) -> u64 {
        let recent = self.received_bytes - self.received_at_report;
        let buffered = self.received_bytes - self.taken.bytes;
        let demand = buffered.saturating_add(self.waiting.max(2 * recent));
        demand.max(FLOOR_BYTES).min(self.config.max_window_bytes.max(FLOOR_BYTES))
    }

    fn promise_bytes(&mut self) {
        let wanted = self.wanted_bytes();
        let outstanding = self.max_bytes.saturating_sub(self.taken.bytes);
        let granted = self.share.resize(wanted.max(outstanding) - FLOOR_BYTES.min(wanted.max(outstanding)));
        self.max_bytes =
            self.max_bytes.max(self.taken.bytes + FLOOR_BYTES + granted.min(wanted - FLOOR_BYTES));
    }

    fn can_answer(&self) -> bool {
        let (values, released) = self.asked_at;
        let soon = self.config.ticked && self.taken.values < self.received_values;
        let moved_since = self.taken.values > values || self.released > released;
        self.has_moved() && (moved_since || !soon) || self.oversize_unreported || self.can_promise_more()
    }

    /// Whether an ack would grow the credit: what the budget cannot give now is not worth one.
    fn can_promise_more(&self) -> bool {
        self.possible_bytes() > self.max_bytes
    }

    fn possible_bytes(&self) -> u64 {
        let wanted = self.wanted_bytes() - FLOOR_BYTES;
        self.taken.bytes + FLOOR_BYTES + wanted.min(self.share.possible())
    }

    fn window_bytes_at_report(&self) -> u64 {
        self.max_bytes.saturating_sub(self.reported.bytes).max(FLOOR_BYTES)
    }

    fn largest_frame(&self) -> u64 {
        let pieces = self.config.max_message.div_ceil(super::MAX_PAYLOAD).max(1);
        (self.config.max_message + pieces * super::HEADER_LEN) as u64
    }

    fn restart_counts(&mut self) {
        self.received = self.released;
        (self.received_values, self.received_bytes) = (0, 0);
        self.taken = Taken { number: self.released, values: 0, bytes: 0 };
        self.skips.clear();
        self.finished = false;
        self.fin_unreported = false;
        self.restated = true;
        self.mark_reported();
    }

    fn move_released(&mut self) {
        if !self.config.explicit {
            self.released = self.released.max(self.taken.number.min(self.received));
            while self.release_skipped() {}
            return;
        }
        loop {
            // After a recovery a value may have been acked that has not come again yet.
            if self.released < self.received && self.acked.remove(&(self.released + 1)) {
                self.released += 1;
            } else if !self.release_skipped() {
                break;
            }
        }
    }

    /// Skipped numbers count as taken and released once every earlier number is.
    fn release_skipped(&mut self) -> bool {
        let Some(&(first, last)) = self.skips.front() else { return false };
        if first > self.released + 1 {
            return false;
        }
        self.skips.pop_front();
        self.released = self.released.max(last);
        self.taken.number = self.taken.number.max(last);
        true
    }

    fn check_next(&self, theirs: u64) -> Result<(), ProtocolError> {
        let ours = self.next_number();
        if theirs != ours {
            return Err(ProtocolError::WrongSequence { theirs, ours });
        }
        Ok(())
    }

    fn credit_exceeded(&self) -> ProtocolError {
        ProtocolError::CreditExceeded { max_values: self.max_values, max_bytes: self.max_bytes }
    }
}
