//! Where a link's connections come from.

use std::fmt;

use async_trait::async_trait;
use ipc_transport::{Connection, Error};

/// Opens the connections of one link: resolves the name anew at each attempt and dials.
#[async_trait]
pub trait Connector: fmt::Debug + Send + Sync + 'static {
    /// One attempt; the link decides when to try again.
    ///
    /// Dropping the future gives the attempt up.
    async fn connect(&self) -> Result<Connection, Error>;

    /// Completes when something changed that makes an attempt worth while, which cuts a back-off short.
    ///
    /// Never, unless the implementation has something to watch.
    async fn changed(&self) {
        std::future::pending().await
    }
}
