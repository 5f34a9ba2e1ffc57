//! Dials the process that a name stands for, as the naming tells it at each attempt.

use std::sync::{Arc, Mutex as StdMutex, PoisonError};

use async_trait::async_trait;
use ipc_pipeline::link::Connector;
use ipc_transport::{BackoffConfig, ConnectOptions, Connection, Error, NameWatch, Naming, Transports};
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
    /// What fits the place that the name stood for at last.
    backoff: StdMutex<BackoffConfig>,
}

impl ToProcess {
    pub(crate) fn new(
        process: &str,
        naming: Arc<dyn Naming>,
        transports: Transports,
        options: ConnectOptions,
    ) -> Result<Self, Error> {
        let watch = Mutex::new(naming.watch(process)?);
        Ok(Self {
            process: process.to_owned(),
            naming,
            transports,
            options,
            watch,
            backoff: StdMutex::new(BackoffConfig::local()),
        })
    }
}

#[async_trait]
impl Connector for ToProcess {
    async fn connect(&self) -> Result<Connection, Error> {
        let endpoint = self.naming.resolve(&self.process).await?;
        *self.backoff.lock().unwrap_or_else(PoisonError::into_inner) = BackoffConfig::for_endpoint(&endpoint);
        self.transports.connect(&endpoint, &self.options).await
    }

    async fn changed(&self) {
        self.watch.lock().await.changed().await;
    }

    fn backoff(&self) -> BackoffConfig {
        self.backoff.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[cfg(test)]
mod tests {
    use ipc_transport::StaticNaming;

    use super::*;

    /// a restarted process elsewhere is not overrun by the schedule that fits this machine.
    #[tokio::test]
    async fn the_schedule_follows_the_place_of_the_name() {
        let naming = StaticNaming::new();
        let connector =
            ToProcess::new("p", Arc::new(naming.clone()), Transports::none(), ConnectOptions::default())
                .unwrap();
        assert_eq!(connector.backoff(), BackoffConfig::local());
        for (place, schedule) in [
            ("tcp://192.0.2.1:9", BackoffConfig::remote()),
            ("tcp://127.0.0.1:9", BackoffConfig::local()),
            ("tcp://example.org:9", BackoffConfig::remote()),
            ("unix:/nowhere", BackoffConfig::local()),
        ] {
            naming.set("p", place.parse().unwrap());
            // There is no transport to dial with; it is the place that matters.
            assert!(connector.connect().await.is_err());
            assert_eq!(connector.backoff(), schedule, "{place}");
        }
    }
}
