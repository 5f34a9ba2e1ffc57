//! Dials the process that a name stands for, as the naming tells it at each attempt.

use std::sync::Arc;

use async_trait::async_trait;
use ipc_pipeline::link::Connector;
use ipc_transport::{ConnectOptions, Connection, Error, NameWatch, Naming, Transports};
use tokio::sync::Mutex;

/// The way to one named process.
#[derive(Debug)]
pub(crate) struct ToProcess {
    process: String,
    naming: Arc<dyn Naming>,
    transports: Transports,
    options: ConnectOptions,
    /// Made before the first attempt, so that nothing is missed between a failure and the wait.
    watch: Mutex<Box<dyn NameWatch>>,
}

impl ToProcess {
    pub(crate) fn new(
        process: &str,
        naming: Arc<dyn Naming>,
        transports: Transports,
        options: ConnectOptions,
    ) -> Result<Self, Error> {
        let watch = Mutex::new(naming.watch(process)?);
        Ok(Self { process: process.to_owned(), naming, transports, options, watch })
    }
}

#[async_trait]
impl Connector for ToProcess {
    async fn connect(&self) -> Result<Connection, Error> {
        let endpoint = self.naming.resolve(&self.process).await?;
        self.transports.connect(&endpoint, &self.options).await
    }

    async fn changed(&self) {
        self.watch.lock().await.changed().await;
    }
}
