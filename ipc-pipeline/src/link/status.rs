//! What a link's sending end is doing, as a value to watch.

use std::{io, sync::Arc};

use ipc_transport::{Endpoint, Error};
use tokio::sync::watch;

use crate::protocol::{ProtocolError, Refusal};

/// The state of a sending end, of a link or of best effort; there datagrams flow instead of frames, and sends do not fail
/// while it is refused, as the newest values wait for another order.
///
/// ```text
/// Closed ──connect──▶ Waiting ──▶ Connected ⇄ Lost(reason)
///                        │            │
///                        └──────▶ Refused(reason) ──connect──▶ Waiting
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Status {
    /// Not asked to connect yet, ended, or without the runtime that it was connected in.
    Closed,
    /// Frames flow.
    Connected,
    /// A connection existed and is gone; the link keeps what it has and dials again.
    Lost(LostReason),
    /// The receiving end said no; values are kept, sends fail, until connected anew or closed.
    Refused(Refusal),
    /// Dialling, or parked until the receiving end exists. What keeps it from being connected is told beside the status, as
    /// an [`AttemptError`].
    Waiting,
}

/// Why an attempt to connect came to nothing; another follows by itself.
///
/// A receiver that is not there yet is one reason among others: it is a [`Dial`](Self::Dial) whose [`Error`] is
/// [`NotFound`](Error::NotFound) or [`ConnectionRefused`](Error::ConnectionRefused).
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum AttemptError {
    /// There was no connection: nobody is there, or cannot be reached, or is not whom this side trusts.
    #[error("the peer could not be dialled")]
    Dial(#[source] Error),
    /// There was a connection and no answer to the hello: the peer hung up, took too long, or speaks something else. Over
    /// TLS a peer that does not trust this side hangs up here, and mostly says why.
    #[error("the handshake with {endpoint} failed")]
    Handshake {
        /// Who was dialled.
        endpoint: Endpoint,
        /// What came instead of an answer.
        #[source]
        source: Arc<io::Error>,
    },
    /// The receiving end asks to be dialled again later.
    #[error("the receiving end asks to come later")]
    Refused(#[source] Refusal),
}

impl AttemptError {
    pub(crate) fn handshake(endpoint: Endpoint, source: io::Error) -> Self {
        Self::Handshake { endpoint, source: Arc::new(source) }
    }
}

/// Why the last attempt to connect came to nothing, for whoever looks or watches.
pub(crate) struct LastError(watch::Sender<Option<AttemptError>>);

impl LastError {
    pub(crate) fn new() -> Self {
        Self(watch::Sender::new(None))
    }

    /// Tells an error, or that nothing is in the way any more, which is told only if something was; and neither of it if
    /// the order that it came of counts no more.
    pub(crate) fn tell(&self, error: Option<AttemptError>, counts: impl FnOnce() -> bool) {
        self.0.send_if_modified(|current| {
            let is_news = (error.is_some() || current.is_some()) && counts();
            if is_news {
                *current = error;
            }
            is_news
        });
    }

    /// A new order begins.
    pub(crate) fn clear(&self) {
        self.tell(None, || true);
    }

    pub(crate) fn subscribe(&self) -> watch::Receiver<Option<AttemptError>> {
        self.0.subscribe()
    }
}

/// Why a connection is gone.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum LostReason {
    /// This side cut it.
    Cut,
    /// The receiving end went away in good order; a successor may come.
    Detached,
    /// The peer hung up, or the connection broke.
    HangUp,
    /// The peer broke the protocol.
    Protocol(ProtocolError),
    /// The peer did not answer a ping in time: it is stopped, or cut off without a word.
    Unresponsive,
}

/// Whether there is room to send, with a count of the changes; one notification per change, not per value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Room {
    /// A send has met a full link, and no room has come since.
    pub full: bool,
    /// How often room has come after the link was full.
    pub drained: u64,
}
