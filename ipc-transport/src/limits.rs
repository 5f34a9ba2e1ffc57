//! The limits that keep a peer's mistakes from becoming ours, in one struct.

use std::time::Duration;

/// Bounds on what a peer may make this process hold or wait for.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Largest message, bytes. 1 MiB; at most [`Limits::MAX_MESSAGE_CAP`].
    pub max_message: usize,
    /// How long a handshake may take. 10 s.
    pub handshake_timeout: Duration,
    /// How long a started frame may go without progress. 30 s.
    pub frame_timeout: Duration,
    /// How many unfinished handshakes a listener holds before it stops accepting. 64.
    pub max_handshakes: usize,
    /// The age that makes an unfinished handshake without a complete hello evictable. 250 ms.
    pub handshake_eviction_age: Duration,
    /// Bytes that all receivers of a process may hold or promise beyond their floors. 64 MiB.
    pub receive_budget: usize,
    /// What of it all connections of one foreign user may have together. 16 MiB.
    pub foreign_receive_budget: usize,
}

impl Limits {
    /// The hard cap on [`Limits::max_message`]: 64 MiB.
    pub const MAX_MESSAGE_CAP: usize = 64 * 1024 * 1024;
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_message: 1024 * 1024,
            handshake_timeout: Duration::from_secs(10),
            frame_timeout: Duration::from_secs(30),
            max_handshakes: 64,
            handshake_eviction_age: Duration::from_millis(250),
            receive_budget: 64 * 1024 * 1024,
            foreign_receive_budget: 16 * 1024 * 1024,
        }
    }
}
