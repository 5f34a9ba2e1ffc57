//! What can go wrong when ports are made and connected.

/// Why a port could not be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PortError {
    /// A capacity or window of zero.
    #[error("a port needs a capacity of at least 1")]
    ZeroCapacity,
    /// The node already has a port of this direction and name.
    #[error("the node already has a port {name:?} in this direction")]
    NameTaken {
        /// The name.
        name: String,
    },
    /// The name breaks a rule.
    #[error("invalid port name {name:?}: {reason}")]
    InvalidName {
        /// The name as given.
        name: String,
        /// The rule that it breaks.
        reason: &'static str,
    },
    /// The largest message is beyond what is allowed at all.
    #[error("a largest message of {asked} bytes exceeds the hard cap of {max}")]
    MessageCap {
        /// What was asked for.
        asked: usize,
        /// The cap.
        max: usize,
    },
    /// The node was shut down.
    #[error("the node was shut down")]
    ShutDown,
}

/// Why an outgoing port could not be connected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// It is connected, or connecting, to this very port.
    #[error("the port is already connected to {process}/{port}")]
    AlreadyConnected {
        /// The process.
        process: String,
        /// The port.
        port: String,
    },
    /// A name breaks a rule.
    #[error("invalid name {name:?}: {reason}")]
    InvalidName {
        /// The name as given.
        name: String,
        /// The rule that it breaks.
        reason: &'static str,
    },
    /// Connecting spawns a task and must be called within a tokio runtime.
    #[error("no tokio runtime is running on this thread; call from within one")]
    NoRuntime,
    /// Exactly one pipeline leaves an outgoing port, and it leads elsewhere.
    #[error("the port is busy: its pipeline leads to {process}/{port}")]
    OutgoingPortBusy {
        /// The process that it leads to.
        process: String,
        /// The port that it leads to.
        port: String,
    },
}
