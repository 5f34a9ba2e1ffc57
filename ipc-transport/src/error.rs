//! The one error type of this crate: what was attempted, where, and what came of it.

use std::{io, net::SocketAddr, sync::Arc};

use crate::{AddressFamily, Endpoint, ParseEndpointError};

/// What went wrong in a transport, a lease or a name look-up.
///
/// It is `Clone`, because several waiters may have to see the same failure, and it maps to [`io::Error`] by
/// [`Error::kind`].
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The peer's identity is not one that the listener's or dialler's [`Access`](crate::Access) rule admits.
    #[error("access to {endpoint} denied for {peer}")]
    AccessDenied {
        /// Where the connection was made.
        endpoint: Endpoint,
        /// The identity that was refused, as the kernel or the verified certificate tells it.
        peer: String,
    },
    /// Somebody else serves or holds this address.
    #[error("{endpoint} is in use{}", holder_text(*.holder))]
    AddrInUse {
        /// The address that was asked for.
        endpoint: Endpoint,
        /// The process that holds it, when it is known; for display only.
        holder: Option<u32>,
    },
    /// A socket was to be bound to an address that this machine does not have.
    #[error("{address} is no address of this machine")]
    AddrNotAvailable {
        /// The address that was asked for.
        address: SocketAddr,
    },
    /// A datagram has more bytes than one can carry; nothing was sent.
    #[error("datagram of {len} bytes is larger than the {max} that one carries here")]
    DatagramTooLarge {
        /// Its length in bytes.
        len: usize,
        /// The most that one carries.
        max: usize,
    },
    /// Nobody listens there, although the address exists.
    #[error("connection to {endpoint} refused: nobody is listening")]
    ConnectionRefused {
        /// The address that was dialled.
        endpoint: Endpoint,
    },
    /// The operating system reported a failure.
    #[error("{operation} failed for {endpoint}")]
    Io {
        /// The operation, as a verb: `connect`, `bind`, `accept`.
        operation: &'static str,
        /// The place where it was attempted.
        endpoint: String,
        /// The operating system's own report.
        #[source]
        source: Arc<io::Error>,
    },
    /// A text or a path that does not make an endpoint.
    #[error("invalid endpoint")]
    InvalidEndpoint(#[source] ParseEndpointError),
    /// The holder of a lease found that it lost it: the lock file was replaced and the new one is taken.
    #[error("the lease on {name} was lost to another process")]
    LeaseLost {
        /// The name that was held.
        name: String,
    },
    /// The lease is kept alive by a forked child of a holder that is gone.
    #[error(
        "the lease on {name} is kept by a forked child of process {holder}, which is gone; end that child"
    )]
    LeaseHeldByFork {
        /// The name that was asked for.
        name: String,
        /// The recorded process id of the holder that is gone.
        holder: u32,
    },
    /// A name that is empty, too long, or has characters that names may not have.
    #[error("invalid name {name:?}: {reason}")]
    InvalidName {
        /// The name as given.
        name: String,
        /// The rule that it breaks.
        reason: &'static str,
    },
    /// The address could be reached from other machines, which has to be allowed first.
    #[error(
        "{endpoint} could be reached from elsewhere; allow it by UdpTransport::dangerous, or bind loopback"
    )]
    NotLocal {
        /// The address that was asked for.
        endpoint: Endpoint,
    },
    /// There is no such address: no socket file, no entry in the naming table.
    #[error("{endpoint} not found")]
    NotFound {
        /// The address that was looked for.
        endpoint: String,
    },
    /// This function spawns and must be called within a tokio runtime.
    #[error("no tokio runtime is running on this thread; call from within one")]
    NoRuntime,
    /// A file, directory or link stands where a socket or a lease should be; it was left untouched.
    #[error("{path} is {found}, not {expected}; it was left untouched")]
    Obstructed {
        /// The path in question.
        path: String,
        /// What stands there.
        found: &'static str,
        /// What was wanted there.
        expected: &'static str,
    },
    /// A path does not fit into a socket address.
    #[error("socket path of {len} bytes is longer than the {max} that the system allows")]
    PathTooLong {
        /// Its length in bytes.
        len: usize,
        /// The most that fits.
        max: usize,
    },
    /// TLS could not be set up: a certificate, the configuration or the handshake is at fault.
    #[cfg(feature = "tls")]
    #[error("no TLS connection with {endpoint}")]
    Tls {
        /// The place of the connection.
        endpoint: Endpoint,
        /// What is at fault.
        source: Box<crate::tls::TlsError>,
    },
    /// An operation did not finish within its deadline.
    #[error("{operation} with {endpoint} timed out")]
    TimedOut {
        /// The operation, as a verb.
        operation: &'static str,
        /// The place where it was attempted.
        endpoint: String,
    },
    /// The runtime directory is not safe to use: wrong owner, open to others, a link, on a network file system.
    #[error("directory {path} is not safe to use: {reason}")]
    UnsafeDirectory {
        /// The directory.
        path: String,
        /// What is wrong with it and what would be right.
        reason: &'static str,
    },
    /// No transport with this scheme was registered.
    #[error("no transport for scheme {scheme:?}; register one with Transports::with")]
    UnknownScheme {
        /// The scheme of the endpoint.
        scheme: String,
    },
    /// The version of IP that was asked for, or that the own address has, is not that of the other side.
    #[error("{endpoint} has no address of {family}")]
    WrongFamily {
        /// The place without such an address.
        endpoint: Endpoint,
        /// What was asked for.
        family: AddressFamily,
    },
}

fn holder_text(holder: Option<u32>) -> String {
    holder.map_or_else(String::new, |pid| format!(" by process {pid}"))
}

impl Error {
    /// Wraps a failure of the operating system or of a third-party transport.
    ///
    /// The common kinds become the variants that callers branch on: refused, not found, in use and timed out.
    pub fn io(operation: &'static str, endpoint: &Endpoint, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::ConnectionRefused => Self::ConnectionRefused { endpoint: endpoint.clone() },
            io::ErrorKind::NotFound => Self::NotFound { endpoint: endpoint.to_string() },
            io::ErrorKind::AddrInUse => Self::AddrInUse { endpoint: endpoint.clone(), holder: None },
            io::ErrorKind::TimedOut => Self::TimedOut { operation, endpoint: endpoint.to_string() },
            _ => Self::io_at(operation, endpoint, source),
        }
    }

    /// As [`Error::io`] for a place that is not an endpoint, a path for one; the kind is kept as it is.
    pub fn io_at(operation: &'static str, place: impl std::fmt::Display, source: io::Error) -> Self {
        Self::Io { operation, endpoint: place.to_string(), source: Arc::new(source) }
    }

    /// The nearest [`io::ErrorKind`].
    pub fn kind(&self) -> io::ErrorKind {
        match self {
            Self::AccessDenied { .. } | Self::UnsafeDirectory { .. } => io::ErrorKind::PermissionDenied,
            Self::AddrInUse { .. } | Self::LeaseHeldByFork { .. } => io::ErrorKind::AddrInUse,
            Self::ConnectionRefused { .. } => io::ErrorKind::ConnectionRefused,
            Self::Io { source, .. } => source.kind(),
            Self::InvalidEndpoint(_)
            | Self::InvalidName { .. }
            | Self::PathTooLong { .. }
            | Self::WrongFamily { .. } => io::ErrorKind::InvalidInput,
            Self::AddrNotAvailable { .. } | Self::LeaseLost { .. } => io::ErrorKind::AddrNotAvailable,
            Self::DatagramTooLarge { .. } => io::ErrorKind::InvalidInput,
            Self::NotLocal { .. } => io::ErrorKind::PermissionDenied,
            Self::NotFound { .. } => io::ErrorKind::NotFound,
            Self::NoRuntime => io::ErrorKind::Other,
            Self::Obstructed { .. } => io::ErrorKind::AlreadyExists,
            Self::TimedOut { .. } => io::ErrorKind::TimedOut,
            #[cfg(feature = "tls")]
            Self::Tls { source, .. } => source.kind(),
            Self::UnknownScheme { .. } => io::ErrorKind::Unsupported,
        }
    }
}

impl From<ParseEndpointError> for Error {
    fn from(error: ParseEndpointError) -> Self {
        match error {
            ParseEndpointError::PathTooLong { len, max } => Self::PathTooLong { len, max },
            other => Self::InvalidEndpoint(other),
        }
    }
}

impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        Self::new(error.kind(), error)
    }
}
