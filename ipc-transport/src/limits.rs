//! The limits that keep a peer's mistakes from becoming ours, in one struct.

use std::time::Duration;

/// Bounds on what a peer may make this process hold or wait for.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use ipc_transport::Limits;
///
/// let limits = Limits::default().with_max_message(64 * 1024).with_handshake_timeout(Duration::from_secs(3));
/// assert_eq!(limits.max_message, 64 * 1024);
/// assert_eq!(limits.max_handshakes, 64);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Largest message, bytes. 1 MiB; at most [`Limits::MAX_MESSAGE_CAP`].
    pub max_message: usize,
    /// How long a handshake may take. 10 s.
    pub handshake_timeout: Duration,
    /// How long a started frame may go without progress. 30 s.
    pub frame_timeout: Duration,
    /// How many unfinished handshakes a listener of a node holds. 64; 0 counts as 1.
    ///
    /// A handshake is unfinished until a complete hello is there. With so many of them the node stops accepting, and the
    /// system's backlog holds whoever else dials. It goes on when one of them finishes or fails, or when the oldest reaches
    /// [`handshake_eviction_age`](Self::handshake_eviction_age): that one is hung up on, and the next is accepted. So a crowd
    /// that says nothing slows others down, and never keeps them out for good.
    ///
    /// Nodes keep to it (`ipc-ports`). A [`Listener`](crate::Listener) alone counts nothing: who accepts from one has to
    /// bound what is accepted and not established.
    pub max_handshakes: usize,
    /// The age at which an unfinished handshake may be hung up on to make room, see
    /// [`max_handshakes`](Self::max_handshakes). 250 ms: many round trips of a network.
    pub handshake_eviction_age: Duration,
    /// Bytes that all receivers of a process may hold or promise beyond their floors. 64 MiB.
    pub receive_budget: usize,
    /// What of it all connections of one foreign user may have together. 16 MiB.
    pub foreign_receive_budget: usize,
}

impl Limits {
    /// The hard cap on [`Limits::max_message`]: 64 MiB.
    pub const MAX_MESSAGE_CAP: usize = 64 * 1024 * 1024;

    /// Sets [`Limits::max_message`].
    #[must_use]
    pub fn with_max_message(mut self, max_message: usize) -> Self {
        self.max_message = max_message;
        self
    }

    /// Sets [`Limits::handshake_timeout`].
    #[must_use]
    pub fn with_handshake_timeout(mut self, handshake_timeout: Duration) -> Self {
        self.handshake_timeout = handshake_timeout;
        self
    }

    /// Sets [`Limits::frame_timeout`].
    #[must_use]
    pub fn with_frame_timeout(mut self, frame_timeout: Duration) -> Self {
        self.frame_timeout = frame_timeout;
        self
    }

    /// Sets [`Limits::max_handshakes`].
    #[must_use]
    pub fn with_max_handshakes(mut self, max_handshakes: usize) -> Self {
        self.max_handshakes = max_handshakes;
        self
    }

    /// Sets [`Limits::handshake_eviction_age`].
    #[must_use]
    pub fn with_handshake_eviction_age(mut self, handshake_eviction_age: Duration) -> Self {
        self.handshake_eviction_age = handshake_eviction_age;
        self
    }

    /// Sets [`Limits::receive_budget`].
    #[must_use]
    pub fn with_receive_budget(mut self, receive_budget: usize) -> Self {
        self.receive_budget = receive_budget;
        self
    }

    /// Sets [`Limits::foreign_receive_budget`].
    #[must_use]
    pub fn with_foreign_receive_budget(mut self, foreign_receive_budget: usize) -> Self {
        self.foreign_receive_budget = foreign_receive_budget;
        self
    }
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
