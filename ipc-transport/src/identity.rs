//! Who the peer is and whom to let in.

use std::{fmt, sync::Arc};

/// The identity of a peer, from the kernel or from the transport; never from what the peer says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum PeerIdentity {
    /// A process on this machine. The pid is for display; never authorise by it.
    Process {
        /// Its effective user.
        uid: u32,
        /// Its effective group.
        gid: u32,
        /// Its process id at connect time, where the system tells.
        pid: Option<u32>,
    },
    /// The transport cannot tell (TCP, memory).
    Unknown,
}

/// Whom a listener or dialler accepts as its peer.
#[derive(Clone)]
#[non_exhaustive]
pub enum Access {
    /// Anybody who can reach the address.
    Any,
    /// A rule of your own.
    Custom(Arc<dyn Fn(&PeerIdentity) -> bool + Send + Sync>),
    /// Processes of this group, and of the own user.
    Group(u32),
    /// Processes of the same effective user; the default for `unix:`.
    SameUser,
    /// Processes of these users.
    Uids(Vec<u32>),
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("Any"),
            Self::Custom(_) => f.write_str("Custom(..)"),
            Self::Group(gid) => f.debug_tuple("Group").field(gid).finish(),
            Self::SameUser => f.write_str("SameUser"),
            Self::Uids(uids) => f.debug_tuple("Uids").field(uids).finish(),
        }
    }
}
