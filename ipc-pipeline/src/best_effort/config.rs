//! What can be set on the two ends, with a reason for each default.

use std::{fmt, num::NonZeroUsize, time::Duration};

use ipc_transport::BackoffConfig;

use crate::link::Admission;

/// How a sending end behaves.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct SenderConfig {
    /// Values that wait to leave, at most; a newer one takes the place of the oldest. 64: what waits longer than a few
    /// dozen values is old news for those who choose best effort.
    pub capacity: NonZeroUsize,
    /// Bytes that wait to leave, headers included, at most; 1 MiB. One value may always wait.
    pub byte_bound: usize,
    /// A name for the meaning of the values, compared when both ends set one. None by default.
    pub schema: Option<String>,
    /// Opaque bytes for the receiver's hook. None by default.
    pub credentials: Vec<u8>,
    /// When to dial again; by default as fits the peer's place. See [`LinkConfig`](crate::link::LinkConfig).
    pub backoff: Option<BackoffConfig>,
    /// How long an answer to the hello may take; 10 s.
    pub handshake_timeout: Duration,
}

impl Default for SenderConfig {
    fn default() -> Self {
        Self {
            capacity: CAPACITY,
            byte_bound: 1024 * 1024,
            schema: None,
            credentials: Vec::new(),
            backoff: None,
            handshake_timeout: Duration::from_secs(10),
        }
    }
}

/// How a receiving end behaves.
#[derive(Clone)]
#[non_exhaustive]
pub struct ReceiverConfig {
    /// Values of one source that wait to be taken, at most; a newer one takes the place of the source's oldest. 64.
    pub capacity: NonZeroUsize,
    /// Bytes of one source that wait to be taken, at most; 256 KiB, so that all sources together have at most 16 MiB, and
    /// forty bytes for each value. One value may always wait. The receive budget of links has no part in it.
    pub byte_bound: usize,
    /// Sources that are remembered, at most; 64. One whose connection has been gone for 3 s makes room for another when all
    /// that arrived of it was taken; while there is none such, newcomers are turned away and counted.
    pub max_sources: NonZeroUsize,
    /// After how long a silent source that was not announced may be forgotten for the sake of another; 10 s. If it comes
    /// back, its account begins anew.
    pub source_ttl: Duration,
    /// From whom datagrams are taken; [`Sources::Announced`] by default.
    pub sources: Sources,
    /// As at the sending end.
    pub schema: Option<String>,
    /// Sees each source that announces itself, and may refuse it. None by default.
    pub admission: Option<Admission>,
}

/// From whom datagrams are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Sources {
    /// From sessions that were let in over a connection, by an [`Intake`](super::Intake). A session's id is 128 random bits
    /// that only its connection tells, so datagrams with a forged sender are not taken, short of an eavesdropper.
    #[default]
    Announced,
    /// From anybody who can reach the socket. The account of such a source begins with its session, so it misses whatever
    /// was sent before this end was there.
    Anybody,
}

impl Default for ReceiverConfig {
    fn default() -> Self {
        Self {
            capacity: CAPACITY,
            byte_bound: 256 * 1024,
            max_sources: NonZeroUsize::MIN.saturating_add(63),
            source_ttl: Duration::from_secs(10),
            sources: Sources::Announced,
            schema: None,
            admission: None,
        }
    }
}

impl fmt::Debug for ReceiverConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReceiverConfig")
            .field("capacity", &self.capacity)
            .field("byte_bound", &self.byte_bound)
            .field("max_sources", &self.max_sources)
            .field("source_ttl", &self.source_ttl)
            .field("sources", &self.sources)
            .field("schema", &self.schema)
            .finish_non_exhaustive()
    }
}

const CAPACITY: NonZeroUsize = NonZeroUsize::MIN.saturating_add(63);
