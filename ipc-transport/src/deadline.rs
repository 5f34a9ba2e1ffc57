//! Deadlines on the monotonic clock, and whether there is a runtime to keep them.

#![cfg_attr(
    not(any(feature = "tcp", feature = "unix")),
    allow(dead_code, reason = "datagrams have no deadlines")
)]

use std::{future::Future, time::Duration};

use tokio::{
    runtime::Handle,
    time::{Instant, timeout_at},
};

use crate::{Endpoint, Error};

/// Until when an operation may go on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Deadline(Instant);

impl Deadline {
    /// `timeout` from now, on the monotonic clock; [`Error::NoRuntime`] outside a tokio runtime.
    pub(crate) fn after(timeout: Duration) -> Result<Self, Error> {
        runtime()?;
        Ok(Self(after(Instant::now(), timeout)))
    }

    /// Runs a future until the deadline.
    pub(crate) async fn run<T>(
        self,
        operation: &'static str,
        endpoint: &Endpoint,
        future: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        match timeout_at(self.0, future).await {
            Ok(result) => result,
            Err(_) => Err(Error::TimedOut { operation, endpoint: endpoint.to_string() }),
        }
    }

    /// The time that is left.
    #[cfg(feature = "tcp")]
    pub(crate) fn remaining(self) -> Duration {
        self.0.saturating_duration_since(Instant::now())
    }
}

/// The time so long after another; one beyond what the clock can express is as good as thirty years.
pub(crate) fn after(time: Instant, duration: Duration) -> Instant {
    time.checked_add(duration).unwrap_or(time + THIRTY_YEARS)
}

/// The runtime that is running; [`Error::NoRuntime`] outside of one, where tokio's own types would panic.
pub(crate) fn runtime() -> Result<Handle, Error> {
    Handle::try_current().map_err(|_| Error::NoRuntime)
}

const THIRTY_YEARS: Duration = Duration::from_secs(30 * 365 * 24 * 60 * 60);
