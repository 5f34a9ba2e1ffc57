//! The `unix:` transport: Unix-domain stream sockets with the kernel's word on who the peer is.

use std::time::Instant;

use async_trait::async_trait;
use rustix::io::Errno;
use tokio::{net::UnixStream, time::sleep};

use crate::{
    Access, Backoff, BackoffConfig, ConnectOptions, Connection, ConnectionInfo, Endpoint, Error, Lease,
    LeaseOptions, ListenOptions, Listener, PeerIdentity, Transport,
    deadline::{Deadline, runtime},
    endpoint::kernel_path,
    lease::{Site, kind_name},
};

mod listener;
mod publish;
mod socket;

pub(crate) use listener::listen_with;
pub(crate) use socket::SocketReader;

/// Unix-domain stream sockets: `unix:/path` and, on Linux, `unix:@name`.
///
/// **Paths.** A listener holds an exclusive lock on `<path>.lock` (a [`Lease`]), so that of many that start at once
/// one wins, whatever a crashed predecessor left behind. Its socket is bound under a temporary name, closed to others
/// from its first instant, and renamed over the path when it listens: a dialler never meets a half-made one. It is
/// removed when the listener is closed or dropped, and only if it is still the listener's own; the lock file stays.
/// A live listener at the path is never displaced, [`Error::AddrInUse`] names its process, and whatever is no socket
/// is left untouched, [`Error::Obstructed`].
///
/// **Abstract names** have no file and no lock; the kernel gives each to one listener at a time and frees it at once.
/// They are not protected by a directory's mode and are visible to every container that shares the network
/// namespace: the [`Access`] rule alone decides there. Who holds one that is in use is not told, as nobody can find
/// out without disturbing the holder.
///
/// **Identity.** Both sides check the other's user as the kernel tells it against their [`Access`] rule, the same
/// user by default: the acceptor so that strangers stay out, the dialler so that it does not talk to a stranger who
/// took the address.
///
/// **A full backlog** makes a connect try again, with jitter, until its deadline.
#[derive(Debug, Clone, Default)]
pub struct UnixTransport {
    lease: LeaseOptions,
}

impl UnixTransport {
    /// The transport with its defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets how listeners claim their paths.
    #[must_use]
    pub fn lease(mut self, options: LeaseOptions) -> Self {
        self.lease = options;
        self
    }

    /// Listens at a socket that is open already and not ours: its file is never removed, and its mode stays as it is.
    /// Several processes may share one; the kernel gives each connection to one of them.
    ///
    /// # Errors
    ///
    /// [`Error::NoRuntime`], and [`Error::Io`] when the socket has no name, of the kind
    /// [`InvalidInput`](std::io::ErrorKind::InvalidInput) when it does not listen. Apple's systems do not tell; there the
    /// first accept fails. The socket is closed then.
    pub fn adopt(
        &self,
        listener: std::os::unix::net::UnixListener,
        options: &ListenOptions,
    ) -> Result<Box<dyn Listener>, Error> {
        listener::adopt(listener, options)
    }
}

#[async_trait]
impl Transport for UnixTransport {
    fn scheme(&self) -> &str {
        "unix"
    }

    async fn connect(&self, to: &Endpoint, options: &ConnectOptions) -> Result<Connection, Error> {
        let stream = Deadline::after(options.timeout)?.run("connect", to, dial(to)).await?;
        finish(stream, &options.access, Side::Dialler, to)
    }

    async fn listen(&self, at: &Endpoint, options: &ListenOptions) -> Result<Box<dyn Listener>, Error> {
        let runtime = runtime()?;
        let Some(path) = at.unix_path() else {
            return listener::listen_abstract(at, options, runtime);
        };
        Lease::claim_site(Site::of_path(at, path)?, &self.lease).await?.listen(options)
    }
}

/// Which side of a connection this is.
#[derive(Debug, Clone, Copy)]
enum Side {
    Acceptor,
    Dialler,
}

/// Connects, as often as it takes while the listener's backlog is full.
async fn dial(to: &Endpoint) -> Result<UnixStream, Error> {
    let Some(path) = kernel_path(to) else {
        return Err(Error::UnknownScheme { scheme: to.scheme().to_owned() });
    };
    let mut backoff = Backoff::new(BackoffConfig::local(), fastrand::u64(..));
    loop {
        match UnixStream::connect(&*path).await {
            Ok(stream) => return Ok(stream),
            Err(error) => match Errno::from_io_error(&error) {
                Some(Errno::AGAIN) => sleep(backoff.next_delay(Instant::now())).await,
                // A reset says that the listener was closed while this connection waited to be accepted.
                Some(Errno::CONNREFUSED | Errno::CONNRESET) => return Err(explain_refusal(to)),
                _ => return Err(Error::io("connect", to, error)),
            },
        }
    }
}

/// The kernel refuses a connect to a regular file in the same words as one to a socket that nobody serves.
fn explain_refusal(to: &Endpoint) -> Error {
    let found = to.unix_path().and_then(|path| rustix::fs::stat(path).ok());
    match found.map(|stat| rustix::fs::FileType::from_raw_mode(stat.st_mode)) {
        None | Some(rustix::fs::FileType::Socket) => Error::ConnectionRefused { endpoint: to.clone() },
        Some(other) => {
            Error::Obstructed { path: to.address().to_owned(), found: kind_name(other), expected: "a socket" }
        }
    }
}

/// Makes a connection of a connected stream if the peer is admitted.
fn finish(stream: UnixStream, access: &Access, side: Side, place: &Endpoint) -> Result<Connection, Error> {
    let credentials = stream.peer_cred().map_err(|error| Error::io("identify the peer", place, error))?;
    let peer = PeerIdentity::Process {
        uid: credentials.uid(),
        gid: credentials.gid(),
        // Zero stands for a process of another pid namespace.
        pid: credentials.pid().and_then(|pid| u32::try_from(pid).ok()).filter(|pid| *pid > 0),
    };
    if !access.admits(&peer) {
        tracing::debug!(%place, ?side, %peer, "a peer is not admitted");
        return Err(Error::AccessDenied { endpoint: place.clone(), peer: peer.to_string() });
    }
    // The dialler's socket has no name, so the listening address stands for both ends.
    let info = ConnectionInfo::new(place.clone(), place.clone(), peer);
    let (reader, writer) = socket::split(stream).map_err(|error| Error::io("watch", place, error))?;
    Ok(Connection::from_socket(reader, writer, info))
}
