//! Saying hello to a socket: is anybody there?

use std::fmt;

use async_trait::async_trait;
use rustix::io::Errno;
use tokio::net::UnixStream;

use crate::{Endpoint, Error, endpoint::kernel_path};

/// How a claimer finds out whether a socket is served.
///
/// The kernel answers a connect on behalf of a listener, whether its process runs, is stopped, or keeps the
/// listener only as an inheritance; that is all that [`ConnectHello`], the default, looks at. A layer with a
/// handshake can ask for a true answer.
#[async_trait]
pub trait Hello: fmt::Debug + Send + Sync + 'static {
    /// Says hello at an address. It is given up after a second, which counts as [`Answer::Connected`].
    ///
    /// # Errors
    ///
    /// Whatever keeps it from finding out; the claim then fails with it.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: whoever drops it counts the address as connected.
    async fn hello(&self, at: &Endpoint) -> Result<Answer, Error>;
}

/// What came of saying hello.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Answer {
    /// The service answered.
    Answered {
        /// Its process, where it is known.
        pid: Option<u32>,
    },
    /// Somebody listens; whether it serves is not known. A claimer takes the address as occupied.
    Connected {
        /// The process that began to listen, where it is known; a forked child may have inherited the listener.
        pid: Option<u32>,
    },
    /// Nobody listens: the socket is what a process that ended left behind.
    Refused,
}

/// Says hello by connecting, and hangs up.
#[derive(Debug, Clone, Copy, Default)]
pub struct ConnectHello;

#[async_trait]
impl Hello for ConnectHello {
    async fn hello(&self, at: &Endpoint) -> Result<Answer, Error> {
        let Some(path) = kernel_path(at) else {
            return Err(Error::UnknownScheme { scheme: at.scheme().to_owned() });
        };
        match UnixStream::connect(&*path).await {
            Ok(stream) => {
                let pid = stream.peer_cred().ok().and_then(|peer| peer.pid());
                Ok(Answer::Connected {
                    pid: pid.and_then(|pid| u32::try_from(pid).ok()).filter(|pid| *pid > 0),
                })
            }
            Err(error) => match Errno::from_io_error(&error) {
                // A reset says that the listener was closed while this connection waited to be accepted.
                Some(Errno::CONNREFUSED | Errno::CONNRESET | Errno::NOENT) => Ok(Answer::Refused),
                // A full backlog, and a socket of another type, are listeners all the same.
                Some(Errno::AGAIN | Errno::PROTOTYPE) => Ok(Answer::Connected { pid: None }),
                _ => Err(Error::io("say hello", at, error)),
            },
        }
    }
}
