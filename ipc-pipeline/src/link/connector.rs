//! Where a link's connections come from.

use std::fmt;

use async_trait::async_trait;
use ipc_transport::{BackoffConfig, Connection, Error};

/// Opens the connections of one link: resolves the name anew at each attempt and dials.
#[async_trait]
pub trait Connector: fmt::Debug + Send + Sync + 'static {
    /// One attempt; the link decides when to try again.
    ///
    /// # Errors
    ///
    /// Whatever the naming and the transport report; the link dials again after its back-off.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives the attempt up and leaves nothing behind.
    async fn connect(&self) -> Result<Connection, Error>;

    /// Completes when something changed that makes an attempt worth while, which cuts a back-off short.
    ///
    /// Never, unless the implementation has something to watch.
    ///
    /// # Cancel safety
    ///
    /// A change that was not returned must be returned by the next call.
    async fn changed(&self) {
        std::future::pending().await
    }

    /// The schedule of attempts that fits the peer, unless the link's own configuration has one.
    ///
    /// Asked after each attempt. For a peer on this machine, unless the implementation knows better: see
    /// [`BackoffConfig::for_endpoint`].
    fn backoff(&self) -> BackoffConfig {
        BackoffConfig::local()
    }
}
