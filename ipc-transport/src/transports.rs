//! The set of transports that a process knows, by scheme.

use std::{collections::BTreeMap, sync::Arc};

use crate::{ConnectOptions, Connection, Endpoint, Error, ListenOptions, Listener, Transport};

/// Transports by scheme; users add theirs with [`Transports::with`].
///
/// [`Transports::default`] holds `unix:` and `tcp:`, as far as the crate's features bring them along, in their default
/// settings. `tls:` has no default: it has to be told whom to trust, and is added.
#[derive(Debug, Clone)]
pub struct Transports {
    by_scheme: BTreeMap<String, Arc<dyn Transport>>,
}

impl Transports {
    /// No transport at all.
    pub fn none() -> Self {
        Self { by_scheme: BTreeMap::new() }
    }

    /// The transports that stay on this machine: `unix:`, as far as the features bring it along.
    pub fn local() -> Self {
        let transports = Self::none();
        #[cfg(feature = "unix")]
        let transports = transports.with(crate::UnixTransport::new());
        transports
    }

    /// Adds a transport, in place of an earlier one with the same scheme.
    #[must_use]
    pub fn with(mut self, transport: impl Transport) -> Self {
        self.by_scheme.insert(transport.scheme().to_owned(), Arc::new(transport));
        self
    }

    /// The schemes that are served, sorted.
    pub fn schemes(&self) -> impl Iterator<Item = &str> {
        self.by_scheme.keys().map(String::as_str)
    }

    /// The transport that serves an endpoint, or [`Error::UnknownScheme`].
    pub fn of(&self, endpoint: &Endpoint) -> Result<&Arc<dyn Transport>, Error> {
        self.by_scheme
            .get(endpoint.scheme())
            .ok_or_else(|| Error::UnknownScheme { scheme: endpoint.scheme().to_owned() })
    }

    /// Dials an endpoint with its transport.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves no half-open peer (contract of [`Transport`]).
    pub async fn connect(&self, to: &Endpoint, options: &ConnectOptions) -> Result<Connection, Error> {
        self.of(to)?.connect(to, options).await
    }

    /// Listens at an endpoint with its transport.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves nothing listening.
    pub async fn listen(&self, at: &Endpoint, options: &ListenOptions) -> Result<Box<dyn Listener>, Error> {
        self.of(at)?.listen(at, options).await
    }
}

impl Default for Transports {
    fn default() -> Self {
        let transports = Self::local();
        #[cfg(feature = "tcp")]
        let transports = transports.with(crate::TcpTransport::new());
        transports
    }
}
