//! Where the links of lanes get their connections: whichever trunk there is now.

use std::sync::Arc;

use async_trait::async_trait;
use ipc_transport::{BackoffConfig, Connection, Error};
use tokio::sync::{Mutex, watch};

use super::Trunk;
use crate::link::Connector;

/// The place of the trunk that there is now, which comes and goes while the links that use its lanes live on.
#[derive(Debug, Clone)]
pub struct TrunkSlot {
    current: watch::Sender<Option<Trunk>>,
}

impl TrunkSlot {
    /// An empty place.
    #[must_use]
    pub fn new() -> Self {
        Self { current: watch::Sender::new(None) }
    }

    /// Puts a trunk in its place; another one that was there before is cut.
    pub fn put(&self, trunk: Trunk) {
        let shared = trunk.shared.clone();
        let before = self.current.send_replace(Some(trunk));
        if let Some(before) = before.filter(|before| !Arc::ptr_eq(&before.shared, &shared)) {
            before.cut();
        }
    }

    /// The trunk that is here now, over or not.
    #[must_use]
    pub fn get(&self) -> Option<Trunk> {
        self.current.borrow().clone()
    }

    /// Cuts the trunk that is here, if there is one, and leaves the place empty.
    pub fn clear(&self) {
        if let Some(before) = self.current.send_replace(None) {
            before.cut();
        }
    }

    /// What a link dials to get this lane of whichever trunk there is.
    #[must_use]
    pub fn connector(&self, lane: u8) -> LaneConnector {
        let current = self.current.subscribe();
        LaneConnector { changes: Mutex::new(current.clone()), current, lane }
    }
}

impl Default for TrunkSlot {
    fn default() -> Self {
        Self::new()
    }
}

/// Gives a link the same lane of one trunk after another.
///
/// A lane that its link dials a second time has failed, and with it its trunk: it is cut, so that both sides begin anew.
#[derive(Debug)]
pub struct LaneConnector {
    current: watch::Receiver<Option<Trunk>>,
    changes: Mutex<watch::Receiver<Option<Trunk>>>,
    lane: u8,
}

#[async_trait]
impl Connector for LaneConnector {
    /// Waits for a trunk whose lane nobody has.
    async fn connect(&self) -> Result<Connection, Error> {
        let mut current = self.current.clone();
        loop {
            let trunk = current.borrow_and_update().clone();
            if let Some(trunk) = trunk {
                match trunk.lane(self.lane) {
                    Some(connection) => return Ok(connection),
                    None => trunk.cut(),
                }
            }
            if current.changed().await.is_err() {
                return std::future::pending().await;
            }
        }
    }

    async fn changed(&self) {
        if self.changes.lock().await.changed().await.is_err() {
            std::future::pending().await
        }
    }

    fn backoff(&self) -> BackoffConfig {
        BackoffConfig::local()
    }
}
