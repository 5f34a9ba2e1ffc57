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
    /// Whoever has the key of this certificate, which leads to a trusted root (TLS).
    Certificate(PeerCertificate),
    /// The transport cannot tell (TCP, memory, TLS without a client certificate).
    Unknown,
}

impl PeerIdentity {
    /// The process id for display, where it is known.
    pub fn pid(&self) -> Option<u32> {
        match self {
            Self::Process { pid, .. } => *pid,
            Self::Certificate(_) | Self::Unknown => None,
        }
    }

    /// The user, if it is known and not the one of this process.
    pub fn foreign_user(&self) -> Option<u32> {
        match self {
            Self::Process { uid, .. } => Some(*uid).filter(|uid| *uid != own_uid()),
            Self::Certificate(_) | Self::Unknown => None,
        }
    }
}

fn own_uid() -> u32 {
    rustix::process::geteuid().as_raw()
}

impl fmt::Display for PeerIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Process { uid, gid, pid: Some(pid) } => {
                write!(f, "process {pid} of user {uid}, group {gid}")
            }
            Self::Process { uid, gid, pid: None } => write!(f, "a process of user {uid}, group {gid}"),
            Self::Certificate(certificate) => certificate.fmt(f),
            Self::Unknown => f.write_str("a peer of unknown identity"),
        }
    }
}

/// What is known of a peer by its certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerCertificate {
    names: Vec<String>,
    sha256: [u8; 32],
}

impl PeerCertificate {
    /// A certificate with these names (DNS names and URIs) and the SHA-256 of its DER encoding, for transports of your
    /// own; they vouch that it was verified.
    pub fn new(names: Vec<String>, sha256: [u8; 32]) -> Self {
        Self { names, sha256 }
    }

    /// The DNS names and URIs that it bears.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// The SHA-256 of its DER encoding: the same for every connection of one certificate, and for no other.
    pub fn sha256(&self) -> &[u8; 32] {
        &self.sha256
    }
}

impl fmt::Display for PeerCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the holder of certificate ")?;
        for byte in &self.sha256[..8] {
            write!(f, "{byte:02x}")?;
        }
        // A peer chose its names: escaped, they cannot forge a line of a log.
        for (index, name) in self.names.iter().enumerate() {
            write!(f, "{}{}", if index == 0 { " for " } else { ", " }, name.escape_debug())?;
        }
        Ok(())
    }
}

/// Whom a listener or dialler accepts as its peer.
///
/// A rule that needs an identity admits nobody whose identity is unknown: `SameUser`, `Group` and `Uids` on TCP
/// refuse everybody instead of being ignored. The default, [`Access::WhereKnown`], is the same user where the
/// transport can tell and anybody where it cannot, so that TCP listeners work and Unix listeners are closed to
/// other users.
#[derive(Clone, Default)]
#[non_exhaustive]
pub enum Access {
    /// Anybody who can reach the address.
    Any,
    /// A rule of your own; it is called once per connection and must not block.
    Custom(Arc<dyn Fn(&PeerIdentity) -> bool + Send + Sync>),
    /// Processes of this group, and of the own user.
    Group(u32),
    /// Peers whose certificate bears one of these names, letter for letter.
    Names(Vec<String>),
    /// Processes of the same effective user.
    SameUser,
    /// Processes of these users.
    Uids(Vec<u32>),
    /// The default: [`Access::SameUser`] on transports that know the peer's user (`unix:`), [`Access::Any`] on those
    /// that do not (`tcp:`), and on `tls:`, where the roots decide.
    #[default]
    WhereKnown,
}

impl Access {
    /// A rule of your own.
    pub fn custom(rule: impl Fn(&PeerIdentity) -> bool + Send + Sync + 'static) -> Self {
        Self::Custom(Arc::new(rule))
    }

    /// Whether a peer with this identity may stay.
    pub fn admits(&self, peer: &PeerIdentity) -> bool {
        match (self, peer) {
            (Self::Any, _) | (Self::WhereKnown, PeerIdentity::Certificate(_) | PeerIdentity::Unknown) => true,
            (Self::Custom(rule), peer) => rule(peer),
            (Self::Group(group), PeerIdentity::Process { uid, gid, .. }) => group == gid || *uid == own_uid(),
            (Self::SameUser | Self::WhereKnown, PeerIdentity::Process { uid, .. }) => *uid == own_uid(),
            (Self::Uids(uids), PeerIdentity::Process { uid, .. }) => uids.contains(uid),
            (Self::Names(names), PeerIdentity::Certificate(certificate)) => {
                certificate.names.iter().any(|name| names.contains(name))
            }
            (Self::Group(_) | Self::Names(_) | Self::SameUser | Self::Uids(_), _) => false,
        }
    }
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("Any"),
            Self::Custom(_) => f.write_str("Custom(..)"),
            Self::Group(gid) => f.debug_tuple("Group").field(gid).finish(),
            Self::Names(names) => f.debug_tuple("Names").field(names).finish(),
            Self::SameUser => f.write_str("SameUser"),
            Self::Uids(uids) => f.debug_tuple("Uids").field(uids).finish(),
            Self::WhereKnown => f.write_str("WhereKnown"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_rule_admits_whom_it_names_and_nobody_else() {
        let own = rustix::process::geteuid().as_raw();
        let me = PeerIdentity::Process { uid: own, gid: 4_000_001, pid: Some(1) };
        let colleague = PeerIdentity::Process { uid: own + 1, gid: 4_000_000, pid: None };
        let stranger = PeerIdentity::Process { uid: own + 2, gid: 4_000_002, pid: None };
        let unknown = PeerIdentity::Unknown;
        let of_pid_one = Access::custom(|peer| peer.pid() == Some(1));
        for (rule, expected) in [
            (Access::Any, [true, true, true, true]),
            (Access::SameUser, [true, false, false, false]),
            (Access::WhereKnown, [true, false, false, true]),
            (Access::Group(4_000_000), [true, true, false, false]),
            (Access::Uids(vec![own + 1]), [false, true, false, false]),
            (of_pid_one, [true, false, false, false]),
        ] {
            let admitted = [&me, &colleague, &stranger, &unknown].map(|peer| rule.admits(peer));
            assert_eq!(admitted, expected, "{rule:?}");
        }
    }
}
