//! What leads to one peer, whichever wire it speaks.

use super::{EmitError, frame::Frame, native::Native, plain::Plain};

/// The sending side of one peer.
pub(super) enum Outlet {
    /// Links on the lanes of a trunk.
    Native(Native),
    /// One queue, in front of whichever connection there is.
    Plain(Plain),
}

impl Outlet {
    pub(super) fn native(&self) -> Option<&Native> {
        match self {
            Self::Native(native) => Some(native),
            Self::Plain(_) => None,
        }
    }

    /// An event to this peer, waiting for room by the policy.
    pub(super) async fn event(&self, frame: Frame) -> Result<(), EmitError> {
        tracing::trace!(bytes = frame.len(), "an event is sent");
        match self {
            Self::Native(native) => native.event(frame).await,
            Self::Plain(plain) => plain.event(frame).await,
        }
    }

    /// An event to this peer, if there is room.
    pub(super) fn try_event(&self, frame: Frame) -> Result<(), EmitError> {
        tracing::trace!(bytes = frame.len(), "an event is sent");
        match self {
            Self::Native(native) => native.try_event(frame),
            Self::Plain(plain) => plain.try_event(frame),
        }
    }

    /// An event that goes to everybody, if there is room.
    pub(super) fn try_broadcast(&self, frame: Frame) -> Result<(), EmitError> {
        tracing::trace!(bytes = frame.len(), "an event is sent to somebody as to everybody");
        match self {
            Self::Native(native) => native.try_broadcast(frame),
            Self::Plain(plain) => plain.try_event(frame),
        }
    }

    /// As [`try_broadcast`](Self::try_broadcast), waiting for room.
    pub(super) async fn broadcast(&self, frame: Frame) -> Result<(), EmitError> {
        tracing::trace!(bytes = frame.len(), "an event is sent to somebody as to everybody");
        match self {
            Self::Native(native) => native.broadcast(frame).await,
            Self::Plain(plain) => plain.event(frame).await,
        }
    }

    /// A request, an answer, or the end of one.
    pub(super) async fn control(&self, frame: Frame) -> Result<(), EmitError> {
        tracing::trace!(bytes = frame.len(), "a request is sent");
        match self {
            Self::Native(native) => native.control(frame).await,
            Self::Plain(_) => Err(EmitError::Unsupported { what: "requests" }),
        }
    }

    /// As [`control`](Self::control), if there is room.
    pub(super) fn try_control(&self, frame: Frame) -> Result<(), EmitError> {
        match self {
            Self::Native(native) => native.try_control(frame),
            Self::Plain(_) => Err(EmitError::Unsupported { what: "requests" }),
        }
    }

    /// As [`control`](Self::control), from where nothing may wait.
    pub(super) fn post(&self, frame: Frame) {
        if let Self::Native(native) = self {
            native.post(frame);
        }
    }

    /// Everything accepted so far has been taken by the peer, or written where the wire has no acks.
    pub(super) async fn settled(&self) -> Result<(), EmitError> {
        match self {
            Self::Native(native) => native.settled().await,
            Self::Plain(plain) => plain.settled().await,
        }
    }

    /// Events kept for the peer.
    pub(super) fn pending(&self) -> usize {
        match self {
            Self::Native(native) => native.pending(),
            Self::Plain(plain) => plain.pending(),
        }
    }

    /// Events that the policies dropped, or that were lost with a connection where the wire has no acks.
    pub(super) fn dropped(&self) -> u64 {
        match self {
            Self::Native(native) => native.dropped(),
            Self::Plain(plain) => plain.dropped(),
        }
    }

    /// Ends the connection that there is, and one that is just being made; nothing more will be sent.
    pub(super) fn end(&self) {
        match self {
            Self::Native(native) => native.slot.clear(),
            Self::Plain(plain) => plain.end(),
        }
    }

    /// Ends the connection that there is.
    pub(super) fn cut(&self) {
        match self {
            Self::Native(native) => native.slot.clear(),
            Self::Plain(plain) => plain.cut(),
        }
    }
}
