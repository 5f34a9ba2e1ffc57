//! What can go wrong when a value is put into a pipeline or taken out of it; shared by the queue and the link.

use std::{error::Error, fmt};

/// A value that was not accepted, and why; the value comes back with it.
///
/// `Debug` hides the value: it may be a secret, and it need not implement `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct SendError<T> {
    value: T,
    reason: SendErrorReason,
}

impl<T> SendError<T> {
    /// Puts a value and the reason for its refusal together.
    pub fn new(value: T, reason: SendErrorReason) -> Self {
        Self { value, reason }
    }

    /// Gives the value back.
    pub fn into_value(self) -> T {
        self.value
    }

    /// Gives both parts back.
    pub fn into_parts(self) -> (T, SendErrorReason) {
        (self.value, self.reason)
    }

    /// Why the value was not accepted.
    pub fn reason(&self) -> &SendErrorReason {
        &self.reason
    }

    /// The value, without taking it out.
    pub fn value(&self) -> &T {
        &self.value
    }

    /// The same refusal for another form of the value: what was boxed or wrapped to be sent.
    pub fn map<U>(self, convert: impl FnOnce(T) -> U) -> SendError<U> {
        SendError { value: convert(self.value), reason: self.reason }
    }
}

impl<T> fmt::Debug for SendError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SendError").field("reason", &self.reason).finish_non_exhaustive()
    }
}

impl<T> fmt::Display for SendError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.reason, f)
    }
}

// The reason is shown as this error's own text, so the chain goes on with the reason's cause.
impl<T> Error for SendError<T> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.reason.source()
    }
}

/// Why a value was not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SendErrorReason {
    /// This end was closed, or every receiver of the queue is gone.
    #[error("the pipeline is closed")]
    Closed,
    /// The value could not be encoded.
    #[cfg(feature = "link")]
    #[error("the value could not be encoded")]
    Encode(#[source] ipc_transport::EncodeError),
    /// The pipeline is full and its policy is [`FullPolicy::Fail`](crate::FullPolicy::Fail).
    #[error("the pipeline is full")]
    Full,
    /// The port is strict and not connected, or the runtime that it was connected in is gone.
    #[error("the port is not connected")]
    NotConnected,
    /// The receiving end was closed for good.
    #[error("the receiving end closed the pipeline")]
    PeerClosed,
    /// The port is not open: it was started closed, or it was paused.
    #[error("the port is not open")]
    PortClosed,
    /// `send` was called from inside the encoding of another value of the same link.
    #[error("a value cannot be sent from inside the encoding of another")]
    Reentrant,
    /// The receiving end refused the pipeline.
    #[error("the receiving end refused the pipeline")]
    Refused,
    /// It did not happen within the given time.
    #[error("the pipeline stayed full for the given time")]
    TimedOut,
    /// The encoding is larger than a message may be.
    #[error("encoding of {len} bytes or more exceeds the limit of {max}")]
    TooLarge {
        /// Bytes when it was noticed.
        len: usize,
        /// The limit.
        max: usize,
    },
}

/// A value that could not be sent at once; the value comes back with it.
///
/// `Debug` hides the value.
#[derive(Clone, PartialEq, Eq)]
pub enum TrySendError<T> {
    /// It would fail later as well.
    Failed(SendError<T>),
    /// There is no room now, or others wait for it already; later there may be.
    Full(T),
}

impl<T> TrySendError<T> {
    /// Gives the value back.
    pub fn into_value(self) -> T {
        match self {
            Self::Full(value) => value,
            Self::Failed(error) => error.into_value(),
        }
    }

    /// Whether waiting may help.
    pub fn is_full(&self) -> bool {
        matches!(self, Self::Full(_))
    }

    /// Why the value was not accepted.
    pub fn reason(&self) -> &SendErrorReason {
        match self {
            Self::Full(_) => &SendErrorReason::Full,
            Self::Failed(error) => error.reason(),
        }
    }

    /// The same refusal for another form of the value.
    pub fn map<U>(self, convert: impl FnOnce(T) -> U) -> TrySendError<U> {
        match self {
            Self::Full(value) => TrySendError::Full(convert(value)),
            Self::Failed(error) => TrySendError::Failed(error.map(convert)),
        }
    }
}

impl<T> fmt::Debug for TrySendError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full(_) => f.write_str("Full(..)"),
            Self::Failed(error) => f.debug_tuple("Failed").field(error).finish(),
        }
    }
}

impl<T> fmt::Display for TrySendError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self.reason(), f)
    }
}

impl<T> Error for TrySendError<T> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.reason().source()
    }
}

impl<T> From<SendError<T>> for TrySendError<T> {
    fn from(error: SendError<T>) -> Self {
        Self::Failed(error)
    }
}

impl<T> From<TrySendError<T>> for SendError<T> {
    fn from(error: TrySendError<T>) -> Self {
        match error {
            TrySendError::Full(value) => Self::new(value, SendErrorReason::Full),
            TrySendError::Failed(error) => error,
        }
    }
}

/// The pipeline is closed: nothing can be sent any more, or nothing is left to be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the pipeline is closed")]
pub struct Closed;

/// Why nothing could be taken at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TryRecvError {
    /// Nothing is there and nothing will come.
    #[error("the pipeline is closed and empty")]
    Closed,
    /// Nothing is there now.
    #[error("the pipeline is empty")]
    Empty,
}

/// A capacity or bound that no queue can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CapacityError {
    /// More slots than a queue can count.
    #[error("a capacity of {capacity} exceeds the limit of {max}")]
    TooLarge {
        /// What was asked for.
        capacity: usize,
        /// The most that is possible.
        max: usize,
    },
    /// Watermarks must be `low < high <= capacity`.
    #[error("watermarks of {low} and {high} do not fit a capacity of {capacity}")]
    Watermarks {
        /// The lower mark.
        low: usize,
        /// The higher mark.
        high: usize,
        /// The capacity.
        capacity: usize,
    },
    /// Nothing could ever be sent.
    #[error("a capacity of zero can hold nothing")]
    Zero,
}
