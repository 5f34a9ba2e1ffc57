//! What can go wrong with an event and with a call, one condition per variant.

use ipc_pipeline::{SendErrorReason, protocol::Refusal};
use ipc_transport::{DecodeError, EncodeError};

use super::{
    message::{MAX_NAME, MAX_TEXT, cut},
    node_ipc::WireError,
};

/// Why an event was not accepted. Nothing of it was sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EmitError {
    /// This end was closed, or the other one for good.
    #[error("the connection is closed")]
    Closed,
    /// The value does not encode.
    #[error("the value does not encode")]
    Encode(#[source] EncodeError),
    /// As much is kept for the peer as may be, and the caller did not want to wait.
    #[error("the peer has no room now")]
    Full,
    /// A name is longer than [`MAX_NAME`](super::MAX_NAME) bytes.
    #[error("a name of {len} bytes exceeds the limit of {max}")]
    NameTooLong {
        /// Bytes of the name.
        len: usize,
        /// The limit.
        max: usize,
    },
    /// The runtime is gone, and with it whoever would send it.
    #[error("not connected, and nobody is connecting")]
    NotConnected,
    /// It is larger than a message may be.
    #[error("message of {len} bytes or more exceeds the limit of {max}")]
    TooLarge {
        /// Bytes when it was noticed.
        len: usize,
        /// The limit.
        max: usize,
    },
    /// No client has this id or name.
    #[error("there is no client {client:?}")]
    UnknownClient {
        /// Who was asked for.
        client: String,
    },
    /// A datagram is large against what came from its address, and nobody has shown yet that he receives there: so nobody
    /// can have others flooded in his name. What may go there is three times what came. The peer was asked for a proof,
    /// which it gives by itself; the same event passes afterwards, when the peer repeats what it wants, say.
    #[error("{len} bytes for an address that is not proved, where {max} may go")]
    Unproved {
        /// Bytes of the datagram.
        len: usize,
        /// How many may go there.
        max: usize,
    },
    /// No datagram can go there from here: another kind of address than the own one, or a host name, which nobody looks up
    /// here.
    #[error("no datagram can go to {to} from here")]
    Unreachable {
        /// The address.
        to: String,
    },
    /// The wire cannot say it.
    #[error("the wire cannot express {what}")]
    Unsupported {
        /// What it cannot.
        what: &'static str,
    },
    /// The wire's own rules forbid it: a name that is reserved or not allowed, a delimiter within the frame, too much
    /// that waits.
    #[error("the wire's rules forbid it")]
    Wire(#[source] WireError),
}

/// Why a call has no answer; each way of failing is a variant of its own, and none of them is a hang.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CallError {
    /// The answer is no value of the wanted type.
    #[error("the answer does not decode")]
    Answer(#[source] DecodeError),
    /// The other side is answering as many requests as it does at once: try again later.
    #[error("the other side answers as many requests as it does at once")]
    Busy,
    /// The connection broke, or the client that was asked is gone. Whether the handler ran is unknown.
    #[error("the other side is gone, and whether it acted is unknown")]
    Disconnected,
    /// The request was not accepted.
    #[error("the request was not sent")]
    Emit(#[source] EmitError),
    /// The handler returned an error.
    #[error("the handler failed: {message}")]
    Failed {
        /// Its text, at most 512 bytes.
        message: String,
    },
    /// The handler panicked.
    #[error("the handler panicked")]
    Panicked,
    /// The value of the request is not what the handler takes, or its answer cannot be sent.
    #[error("the handler and the call do not fit: {what}")]
    Rejected {
        /// What does not fit.
        what: String,
    },
    /// No answer came in the time that the caller gave.
    #[error("no answer came in time")]
    TimedOut,
    /// As many calls wait for their answers as may.
    #[error("{max} calls wait for answers already")]
    TooManyCalls {
        /// The limit.
        max: usize,
    },
    /// No client has this id or name.
    #[error("there is no client {client:?}")]
    UnknownClient {
        /// Who was asked for.
        client: String,
    },
    /// Nobody answers requests of this name.
    #[error("nobody answers requests named {name:?}")]
    UnknownRequest {
        /// The name.
        name: String,
    },
}

impl CallError {
    /// As it stands in a failure; `None` for what only the caller's side can say.
    pub(super) fn to_wire(&self) -> Option<(u8, &str)> {
        Some(match self {
            Self::Busy => (1, ""),
            Self::Disconnected => (2, ""),
            Self::Failed { message } => (3, message),
            Self::Panicked => (4, ""),
            Self::Rejected { what } => (5, what),
            Self::UnknownClient { client } => (6, client),
            Self::UnknownRequest { name } => (7, name),
            Self::Emit(EmitError::Full) => (8, ""),
            _ => return None,
        })
    }

    pub(super) fn of_wire(code: u8, text: &str) -> Self {
        let text = || cut(text, MAX_TEXT).to_owned();
        match code {
            1 => Self::Busy,
            2 => Self::Disconnected,
            3 => Self::Failed { message: text() },
            4 => Self::Panicked,
            6 => Self::UnknownClient { client: text() },
            7 => Self::UnknownRequest { name: text() },
            8 => Self::Emit(EmitError::Full),
            _ => Self::Rejected { what: text() },
        }
    }
}

impl From<SendErrorReason> for EmitError {
    fn from(reason: SendErrorReason) -> Self {
        match reason {
            SendErrorReason::Encode(error) => Self::Encode(error),
            SendErrorReason::Full => Self::Full,
            SendErrorReason::NotConnected => Self::NotConnected,
            SendErrorReason::TooLarge { len, max } => Self::TooLarge { len, max },
            _ => Self::Closed,
        }
    }
}

impl From<EncodeError> for EmitError {
    fn from(error: EncodeError) -> Self {
        match error {
            EncodeError::TooLarge { len, max } => Self::TooLarge { len, max },
            error => Self::Encode(error),
        }
    }
}

impl From<WireError> for EmitError {
    fn from(error: WireError) -> Self {
        match error {
            WireError::Encode(error) => error.into(),
            WireError::TooLarge { len, max } => Self::TooLarge { len, max },
            WireError::NameTooLong { len, max } => Self::NameTooLong { len, max },
            error => Self::Wire(error),
        }
    }
}

impl From<EmitError> for CallError {
    fn from(error: EmitError) -> Self {
        match error {
            EmitError::UnknownClient { client } => Self::UnknownClient { client },
            error => Self::Emit(error),
        }
    }
}

/// Why an attempt to connect failed.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// Whoever answers does not speak this wire, or hung up, or was silent.
    #[error("whoever answers is no such server: {what}")]
    NoServer {
        /// What it did.
        what: String,
    },
    /// The server said no.
    #[error("the server refused the connection")]
    Refused(#[source] Refusal),
    /// The connection could not be made.
    #[error("the server could not be reached")]
    Transport(#[source] ipc_transport::Error),
}

impl ConnectError {
    /// Whether another attempt may fare better without anybody changing anything.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::NoServer { .. } => true,
            Self::Refused(refusal) => refusal.is_transient(),
            Self::Transport(error) => !matches!(
                error,
                ipc_transport::Error::InvalidName { .. } | ipc_transport::Error::UnknownScheme { .. }
            ),
        }
    }
}

/// Checks a name that goes to a peer.
pub(super) fn check_name(name: &str) -> Result<(), EmitError> {
    if name.len() > MAX_NAME {
        return Err(EmitError::NameTooLong { len: name.len(), max: MAX_NAME });
    }
    Ok(())
}
