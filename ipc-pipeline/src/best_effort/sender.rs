//! The handles that send: they encode, and never wait.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::BytesMut;
use ipc_transport::{EncodeBuffer, EncodeError, Encoder, Endpoint};
use tokio::sync::watch;

use super::outbox::Outbox;
use crate::{
    SendError,
    link::{AttemptError, LastError, Status},
    protocol::DATAGRAM_HEADER_LEN,
};

/// Bytes that are taken from the system at once for encodings; one allocation serves many small values.
const SLAB: usize = 16 * 1024;

/// A handle that sends through an [`Outgoing`](super::Outgoing); clones share it.
///
/// A send never waits: when values cannot leave as fast as they come, the newest stay and the oldest go.
pub struct Sender<T> {
    pub(super) shared: Arc<Shared>,
    encoder: Arc<dyn Encoder<T>>,
}

/// What all handles of a sending end share.
pub(super) struct Shared {
    pub(super) outbox: Arc<Outbox>,
    /// Room for encodings to come; whoever encodes takes it along.
    slab: Mutex<Option<BytesMut>>,
    max_value: usize,
    pub(super) local: Endpoint,
    pub(super) status: watch::Sender<Status>,
    pub(super) last_error: LastError,
}

impl Shared {
    pub(super) fn new(outbox: Arc<Outbox>, max_value: usize, local: Endpoint) -> Self {
        let (slab, status) = (Mutex::default(), watch::Sender::new(Status::Closed));
        Self { outbox, slab, max_value, local, status, last_error: LastError::new() }
    }

    fn slab(&self) -> MutexGuard<'_, Option<BytesMut>> {
        self.slab.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: 'static> Sender<T> {
    pub(super) fn new(shared: Arc<Shared>, encoder: Arc<dyn Encoder<T>>) -> Self {
        Self { shared, encoder }
    }

    pub(super) fn codec(&self) -> &str {
        self.encoder.id()
    }

    /// Accepts a value; it never waits. Whether it arrives, nobody tells.
    ///
    /// When [`SenderConfig::capacity`](super::SenderConfig::capacity) or
    /// [`SenderConfig::byte_bound`](super::SenderConfig::byte_bound) are reached, the oldest value that waits is dropped and
    /// counted, here and at the receiver.
    ///
    /// # Errors
    ///
    /// The value comes back: [`TooLarge`](crate::SendErrorReason::TooLarge) when it does not fit into one datagram,
    /// [`Encode`](crate::SendErrorReason::Encode), [`Closed`](crate::SendErrorReason::Closed),
    /// [`NotConnected`](crate::SendErrorReason::NotConnected) when the runtime of this end is gone.
    pub fn send(&self, value: T) -> Result<(), SendError<T>> {
        let outbox = &self.shared.outbox;
        let sent = match outbox.refusal() {
            Some(reason) => Err(reason),
            None => match self.encode(&value) {
                Ok(message) => outbox.push(message),
                Err(EncodeError::TooLarge { len, max }) => Err(crate::SendErrorReason::TooLarge { len, max }),
                Err(error) => Err(crate::SendErrorReason::Encode(error)),
            },
        };
        sent.map_err(|reason| SendError::new(value, reason))
    }

    /// Encodes in place, behind room for the header. No lock is held meanwhile: the value's own code runs.
    fn encode(&self, value: &T) -> Result<BytesMut, EncodeError> {
        let max = self.shared.max_value;
        let mut slab = self.shared.slab().take().unwrap_or_default();
        let mut outcome = Err(EncodeError::NoRoom);
        if slab.len() > DATAGRAM_HEADER_LEN {
            outcome = self.encode_into(&mut slab, value);
        }
        if matches!(outcome, Err(EncodeError::NoRoom)) && slab.len() < DATAGRAM_HEADER_LEN + max {
            slab = BytesMut::zeroed(SLAB.max(DATAGRAM_HEADER_LEN + max));
            outcome = self.encode_into(&mut slab, value);
        }
        let mut place = self.shared.slab();
        if place.is_none() {
            *place = Some(slab);
        } else {
            // Another thread had the room meanwhile: what waits is not to keep a whole slab for itself.
            outcome = outcome.map(|message| BytesMut::from(&message[..]));
        }
        drop(place);
        match outcome {
            Err(EncodeError::NoRoom) => Err(EncodeError::TooLarge { len: max + 1, max }),
            outcome => outcome,
        }
    }

    fn encode_into(&self, slab: &mut BytesMut, value: &T) -> Result<BytesMut, EncodeError> {
        let max = self.shared.max_value;
        let end = slab.len().min(DATAGRAM_HEADER_LEN + max);
        let mut out = EncodeBuffer::in_slice(&mut slab[DATAGRAM_HEADER_LEN..end]);
        self.encoder.encode(value, &mut out)?;
        let (len, attached) = (out.len(), out.take_attached());
        let Some(attached) = attached else { return Ok(slab.split_to(DATAGRAM_HEADER_LEN + len)) };
        if attached.len() > max {
            return Err(EncodeError::TooLarge { len: attached.len(), max });
        }
        let mut message = BytesMut::zeroed(DATAGRAM_HEADER_LEN);
        message.extend_from_slice(&attached);
        Ok(message)
    }
}

impl<T> Sender<T> {
    /// The largest encoding that fits into a datagram, bytes.
    pub fn max_value(&self) -> usize {
        self.shared.max_value
    }

    /// What the sending end is doing, to look at or to watch.
    pub fn status(&self) -> watch::Receiver<Status> {
        self.shared.status.subscribe()
    }

    /// Why the last attempt to connect came to nothing, to look at or to watch: one notification for each that did.
    ///
    /// `None` before the first attempt, while the receiving end is reached, be it parked, and after another order to
    /// connect. An attempt is made again by itself, so an error may pass, or may be one that only somebody who reads it
    /// can mend. A final refusal is in the status alone.
    pub fn last_error(&self) -> watch::Receiver<Option<AttemptError>> {
        self.shared.last_error.subscribe()
    }

    /// Counts since the beginning.
    pub fn counters(&self) -> SenderCounters {
        self.shared.outbox.counters()
    }

    /// Whether sends are refused: this end was closed or dropped.
    pub fn is_closed(&self) -> bool {
        self.shared.outbox.is_closed()
    }

    /// Where the socket is, the real port included.
    pub fn local_endpoint(&self) -> &Endpoint {
        &self.shared.local
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        Self { shared: self.shared.clone(), encoder: self.encoder.clone() }
    }
}

impl<T> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender")
            .field("local", &self.shared.local)
            .field("counters", &self.counters())
            .finish_non_exhaustive()
    }
}

/// What became of the values of a sending end: `accepted = sent + dropped + waiting`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct SenderCounters {
    /// Values that were accepted.
    pub accepted: u64,
    /// Values that were numbered and handed to the socket, those that failed there included.
    pub sent: u64,
    /// Values that were given up before they left: newer ones had come, or the end.
    pub dropped: u64,
    /// Datagrams that the socket reported not to have sent; the receiver finds them missing, as it does those that the
    /// system drops without a word.
    pub failed: u64,
    /// Values that wait to leave.
    pub waiting: usize,
}
