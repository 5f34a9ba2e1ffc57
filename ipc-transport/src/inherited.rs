//! Listening sockets that a process was started with: socket activation.

use std::{env, fmt, io};

use listenfd::ListenFd;

use crate::{Error, ListenOptions, Listener, deadline::runtime};

/// The sockets that a supervisor opened and handed to this process, after systemd's protocol: `LISTEN_FDS` says how many,
/// `LISTEN_PID` for whom, and `LISTEN_FDNAMES` what they are called.
///
/// A supervisor that holds the socket loses no dialler while the service restarts, may start it at the first connection,
/// and may start several processes on one socket: the kernel gives each connection to exactly one of them. The socket is
/// not ours: its file is never removed and its mode never changed. The [`Access`](crate::Access) rule counts as on any
/// other listener.
///
/// Source: `sd_listen_fds(3)`.
///
/// # Examples
///
/// ```no_run
/// use ipc_transport::{Inherited, ListenOptions};
///
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     let mut inherited = Inherited::from_env()?; // first thing, while there is one thread
///     tokio::runtime::Runtime::new()?.block_on(async {
///         if let Some(mut listener) = inherited.listener("control", &ListenOptions::default())? {
///             let connection = listener.accept().await?.establish().await?;
/// #           drop(connection);
///         }
///         Ok(())
///     })
/// }
/// ```
pub struct Inherited {
    sockets: ListenFd,
    /// One for each socket.
    names: Vec<String>,
}

impl Inherited {
    /// Takes note of the sockets; none if the variables are not set or meant for another process. Without `LISTEN_PID`
    /// they are meant for whoever has them.
    ///
    /// Call it first thing in `main`, once, before a runtime is made: `LISTEN_FDS` and `LISTEN_PID` are removed, so that
    /// neither children nor a second call take the sockets for their own, and no other thread may use the environment
    /// meanwhile. `LISTEN_FDNAMES` stays; it means nothing without the others. A socket that nobody takes stays open,
    /// here and in children.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] of the kind [`InvalidInput`](io::ErrorKind::InvalidInput) when `LISTEN_FDNAMES` has another number
    /// of names than there are sockets, or is not UTF-8: which name belongs to which socket would be a guess.
    pub fn from_env() -> Result<Self, Error> {
        let sockets = ListenFd::from_env();
        let text = env::var_os("LISTEN_FDNAMES").unwrap_or_default();
        let names = names_of(sockets.len(), text.to_str()).map_err(|reason| {
            let reason = io::Error::new(io::ErrorKind::InvalidInput, reason);
            Error::io_at("adopt", "the inherited sockets", reason)
        })?;
        Ok(Self { sockets, names })
    }

    /// How many sockets were handed over, those that are taken included.
    pub fn len(&self) -> usize {
        self.sockets.len()
    }

    /// Whether there was none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What the sockets are called, in their order, one name for each; a name may be empty. Where the supervisor names
    /// none, each is called `unknown`, as systemd has it.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(String::as_str)
    }

    /// The listener with this name, the first that is left if there are several; `None` if there is none.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] when it is no stream socket of a kind that the crate's features serve, or does not listen, and
    /// [`Error::NoRuntime`].
    pub fn listener(
        &mut self,
        name: &str,
        options: &ListenOptions,
    ) -> Result<Option<Box<dyn Listener>>, Error> {
        let places: Vec<usize> = (0..self.names.len()).filter(|index| self.names[*index] == name).collect();
        for index in places {
            if let Some(listener) = self.listener_at(index, options)? {
                return Ok(Some(listener));
            }
        }
        Ok(None)
    }

    /// The listener at this place, from 0; `None` if there is none, or if it was taken.
    ///
    /// # Errors
    ///
    /// As [`listener`](Self::listener). A socket of another kind stays where it is, as do all without a runtime; one that
    /// does not listen is taken and closed.
    pub fn listener_at(
        &mut self,
        index: usize,
        options: &ListenOptions,
    ) -> Result<Option<Box<dyn Listener>>, Error> {
        runtime()?;
        #[cfg(feature = "unix")]
        if let Ok(socket) = self.sockets.take_unix_listener(index) {
            return socket.map(|socket| crate::UnixTransport::new().adopt(socket, options)).transpose();
        }
        #[cfg(feature = "tcp")]
        if let Ok(socket) = self.sockets.take_tcp_listener(index) {
            return socket.map(|socket| crate::TcpTransport::new().adopt(socket, options)).transpose();
        }
        let other = io::Error::new(io::ErrorKind::InvalidInput, "it is no stream socket of a known kind");
        Err(Error::io_at("adopt", format_args!("inherited socket {index}"), other))
    }
}

impl fmt::Debug for Inherited {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inherited").field("sockets", &self.len()).field("names", &self.names).finish()
    }
}

/// A name for each of so many sockets. The text is `None` where it is not UTF-8, and empty where no name is given.
fn names_of(sockets: usize, text: Option<&str>) -> Result<Vec<String>, String> {
    match text {
        _ if sockets == 0 => Ok(Vec::new()),
        None => Err("LISTEN_FDNAMES is not UTF-8".to_owned()),
        Some("") => Ok(vec![UNNAMED.to_owned(); sockets]),
        Some(text) => {
            let names: Vec<_> = text.split(':').map(str::to_owned).collect();
            if names.len() == sockets {
                Ok(names)
            } else {
                Err(format!("LISTEN_FDNAMES has {} names for {sockets} sockets", names.len()))
            }
        }
    }
}

/// What systemd calls a socket that nobody named.
const UNNAMED: &str = "unknown";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_socket_has_one_name() {
        for (sockets, text, names) in [
            (0, Some(""), Ok(&[] as &[&str])),
            (0, Some("of:another:process"), Ok(&[])),
            (0, None, Ok(&[])),
            (1, Some(""), Ok(&["unknown"])),
            (1, Some("control"), Ok(&["control"])),
            (2, Some(""), Ok(&["unknown", "unknown"])),
            (2, Some(":control"), Ok(&["", "control"])),
            (2, Some("control:"), Ok(&["control", ""])),
            (3, Some("::"), Ok(&["", "", ""])),
            (1, Some(":control"), Err("LISTEN_FDNAMES has 2 names for 1 sockets")),
            (2, Some("control"), Err("LISTEN_FDNAMES has 1 names for 2 sockets")),
            (1, None, Err("LISTEN_FDNAMES is not UTF-8")),
        ] {
            let expected = names.map(|names| names.iter().map(|&name| name.to_owned()).collect());
            assert_eq!(names_of(sockets, text), expected.map_err(str::to_owned), "{text:?}");
        }
    }
}
