//! Names in a table.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use tokio::sync::watch;

use super::{NameWatch, Naming};
use crate::{Endpoint, Error, ListenOptions, Listener, Transports, check_name};

/// Names in a table that the application keeps, for TCP, TLS and several machines.
///
/// A claim listens at the table's endpoint, so the transport's own exclusion makes it one holder per name: one
/// listener per port. An entry with port 0 gets the real port when it is claimed, which the clones of this table see
/// and other processes do not.
///
/// Clones share one table. A watch completes when an entry is set anew; it cannot tell when a process elsewhere
/// starts, so a dialler's own schedule decides there.
///
/// # Examples
///
/// ```
/// use ipc_transport::{Naming, StaticNaming};
///
/// let naming = StaticNaming::new()
///     .with("process1", "tcp://127.0.0.1:9001".parse()?)
///     .with("process2", "tcp://127.0.0.1:9002".parse()?);
/// # let runtime = tokio::runtime::Builder::new_current_thread().build()?;
/// # runtime.block_on(async {
/// assert_eq!(naming.resolve("process2").await?.to_string(), "tcp://127.0.0.1:9002");
/// # Ok::<(), ipc_transport::Error>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct StaticNaming {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    table: Mutex<BTreeMap<String, Endpoint>>,
    /// Counts changes of the table.
    version: watch::Sender<u64>,
}

impl StaticNaming {
    /// An empty table.
    pub fn new() -> Self {
        let shared = Shared { table: Mutex::new(BTreeMap::new()), version: watch::Sender::new(0) };
        Self { shared: Arc::new(shared) }
    }

    /// Adds or replaces an entry.
    #[must_use]
    pub fn with(self, name: impl Into<String>, endpoint: Endpoint) -> Self {
        self.set(name, endpoint);
        self
    }

    /// Adds or replaces an entry and completes the watches over its name.
    pub fn set(&self, name: impl Into<String>, endpoint: Endpoint) {
        self.shared.table().insert(name.into(), endpoint);
        self.shared.version.send_modify(|version| *version += 1);
    }

    fn find(&self, name: &str) -> Result<Endpoint, Error> {
        check_name(name)?;
        self.shared.table().get(name).cloned().ok_or_else(|| Error::NotFound { endpoint: name.to_owned() })
    }
}

impl Default for StaticNaming {
    fn default() -> Self {
        Self::new()
    }
}

impl Shared {
    fn table(&self) -> MutexGuard<'_, BTreeMap<String, Endpoint>> {
        // No operation on the table can leave it half-done.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Naming for StaticNaming {
    async fn claim(
        &self,
        name: &str,
        transports: &Transports,
        options: &ListenOptions,
    ) -> Result<Box<dyn Listener>, Error> {
        let at = self.find(name)?;
        let listener = transports.listen(&at, options).await?;
        if *listener.local_endpoint() != at && at.host_port().is_some_and(|(_, port)| port == 0) {
            self.set(name, listener.local_endpoint().clone());
        }
        Ok(listener)
    }

    async fn resolve(&self, name: &str) -> Result<Endpoint, Error> {
        self.find(name)
    }

    fn watch(&self, name: &str) -> Result<Box<dyn NameWatch>, Error> {
        check_name(name)?;
        let version = self.shared.version.subscribe();
        let seen = self.find(name).ok();
        Ok(Box::new(TableWatch { naming: self.clone(), name: name.to_owned(), version, seen }))
    }
}

#[derive(Debug)]
struct TableWatch {
    naming: StaticNaming,
    name: String,
    version: watch::Receiver<u64>,
    seen: Option<Endpoint>,
}

#[async_trait]
impl NameWatch for TableWatch {
    async fn changed(&mut self) {
        loop {
            self.version.mark_unchanged();
            let found = self.naming.find(&self.name).ok();
            if found != self.seen {
                self.seen = found;
                return;
            }
            // The watch itself keeps the table and thereby the sender.
            let _ = self.version.changed().await;
        }
    }
}
