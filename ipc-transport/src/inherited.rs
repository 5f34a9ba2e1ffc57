//! Listening sockets that a process was started with: socket activation.

use std::{env, fmt, io};

use listenfd::ListenFd;

use crate::{Error, ListenOptions, Listener};

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
/// # async fn example() -> Result<(), ipc_transport::Error> {
/// use ipc_transport::{Inherited, ListenOptions};
///
/// let mut inherited = Inherited::from_env();
/// if let Some(mut listener) = inherited.listener("control", &ListenOptions::default())? {
///     let connection = listener.accept().await?.establish().await?;
/// # drop(connection);
/// }
/// # Ok(())
/// # }
/// ```
pub struct Inherited {
    sockets: ListenFd,
    names: Vec<String>,
}

impl Inherited {
    /// Takes note of the sockets; none if the variables are not set or meant for another process.
    ///
    /// Call it first thing in `main`, once: the variables are removed, so that children do not take the sockets for their
    /// own, and no other thread may read the environment meanwhile.
    pub fn from_env() -> Self {
        let names = env::var("LISTEN_FDNAMES").unwrap_or_default();
        let names = names.split(':').filter(|name| !name.is_empty()).map(str::to_owned).collect();
        Self { sockets: ListenFd::from_env(), names }
    }

    /// How many sockets were handed over, those that are taken included.
    pub fn len(&self) -> usize {
        self.sockets.len()
    }

    /// Whether there was none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What the sockets are called, in their order; systemd calls one without a name `unknown`.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(String::as_str)
    }

    /// The listener with this name, the first that is left if there are several; `None` if there is none.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] when it is no listening stream socket of a kind that the crate's features serve, and
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
    /// As [`listener`](Self::listener); a socket of another kind stays where it is.
    pub fn listener_at(
        &mut self,
        index: usize,
        options: &ListenOptions,
    ) -> Result<Option<Box<dyn Listener>>, Error> {
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
