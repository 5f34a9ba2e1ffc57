//! What can be set on a link: plain structs, with a reason for each default.

use std::{num::NonZeroUsize, sync::Arc, time::Duration};

use ipc_transport::{BackoffConfig, ConnectionInfo, Limits};

use crate::{
    FullPolicy,
    protocol::{Budget, Hello, OutgoingConfig},
};

/// When a value is released, so that its sender may forget it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum AckMode {
    /// When it is handed to the application. The default: nothing to forget, and the fastest.
    #[default]
    Automatic,
    /// When the application acks it: what a crash interrupts comes again, flagged.
    Explicit,
}

/// The names that a link's hello carries.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct LinkNames {
    /// The sending process.
    pub from_process: String,
    /// The sending port.
    pub from_port: String,
    /// The receiving process.
    pub to_process: String,
    /// The receiving port.
    pub to_port: String,
}

impl LinkNames {
    /// Who sends and who is to receive.
    pub fn new(from: (&str, &str), to: (&str, &str)) -> Self {
        Self {
            from_process: from.0.to_owned(),
            from_port: from.1.to_owned(),
            to_process: to.0.to_owned(),
            to_port: to.1.to_owned(),
        }
    }
}

/// How a sending end behaves.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct LinkConfig {
    /// Values accepted and not released, at most. 20, as the source system has it; thousands make a stream fast.
    pub capacity: NonZeroUsize,
    /// Encoded bytes accepted and not released before senders are held up. 8 MiB.
    pub byte_bound: usize,
    /// The largest encoded value. 1 MiB; more than [`Limits::MAX_MESSAGE_CAP`], 64 MiB, counts as that.
    pub max_message: usize,
    /// What happens when there is no room. Senders wait by default, so that nothing is lost.
    pub policy: FullPolicy,
    /// A name for the meaning of the values, compared when both ends set one. None by default.
    pub schema: Option<String>,
    /// Opaque bytes for a hook of the receiving application. None by default.
    pub credentials: Vec<u8>,
    /// When to dial again. `None`, the default, leaves it to [`Connector::backoff`](super::Connector::backoff), which
    /// knows how far away the peer is.
    pub backoff: Option<BackoffConfig>,
    /// How long the handshake may take. 10 s; a parked link waits without a limit.
    pub handshake_timeout: Duration,
    /// How often to ask the receiver for a sign of life; without one until the next time the connection is given up
    /// and dialled anew. Never, by default, as it wakes both processes; it is needed to notice a stopped peer.
    pub ping: Option<Duration>,
    /// How long a dropped end goes on delivering. 1 s.
    pub linger: Duration,
    /// The number of the first value. 1; tests begin elsewhere.
    pub first_number: u64,
}

impl Default for LinkConfig {
    fn default() -> Self {
        let machine = OutgoingConfig::default();
        Self {
            capacity: machine.capacity,
            byte_bound: machine.byte_bound,
            max_message: machine.max_message,
            policy: machine.policy,
            schema: None,
            credentials: Vec::new(),
            backoff: None,
            handshake_timeout: Duration::from_secs(10),
            ping: None,
            linger: Duration::from_secs(1),
            first_number: 1,
        }
    }
}

impl LinkConfig {
    pub(super) fn machine(&self) -> OutgoingConfig {
        OutgoingConfig {
            capacity: self.capacity,
            byte_bound: self.byte_bound,
            max_message: self.max_message.min(Limits::MAX_MESSAGE_CAP),
            policy: self.policy,
            first: self.first_number,
        }
    }
}

/// Decides whether a source may come in; it gets what the source says of itself, and what the transport knows of the
/// connection.
///
/// Names and credentials in the hello are claims; [`ConnectionInfo::peer`] is from the kernel or the transport.
pub type Admission = Arc<dyn Fn(&Hello, &ConnectionInfo) -> bool + Send + Sync>;

/// How a receiving end behaves.
#[derive(Clone)]
#[non_exhaustive]
pub struct ReceiverConfig {
    /// When values are released. When they are taken, by default.
    pub ack_mode: AckMode,
    /// Values of one source in flight or untaken, at most; the source's own capacity may make it less. 16,384, at most
    /// 2⁴⁰.
    pub window: NonZeroUsize,
    /// Bytes of one source in flight or untaken beyond which credit does not grow. 8 MiB.
    pub max_window_bytes: usize,
    /// The largest encoded value. 1 MiB, at most 64 MiB.
    pub max_message: usize,
    /// A name for the meaning of the values, compared when both ends set one. None by default.
    pub schema: Option<String>,
    /// Sources attached at once; more are told to come later. 1,024.
    pub max_sources: usize,
    /// Sessions remembered after they went away. 1,024.
    pub max_detached: usize,
    /// After how long a lost source no longer holds the end of the stream. Never, by default.
    pub source_ttl: Option<Duration>,
    /// How many sources must have attached before the stream may end. 0.
    pub expect_sources: usize,
    /// A frame that has begun must make progress within this time. 30 s; one beyond what the clock can tell is none.
    pub frame_timeout: Duration,
    /// Whether moves are reported after 5 ms by the process-wide ticker. On; off leaves half the window and requests.
    pub ticker: bool,
    /// What all receiving ends together may buffer. 64 MiB, shared by the process; 16 MiB of it for all links of one
    /// foreign user.
    pub budget: Budget,
    /// Who may come in. Everybody who got through the transport, by default.
    pub admission: Option<Admission>,
}

impl Default for ReceiverConfig {
    fn default() -> Self {
        Self {
            ack_mode: AckMode::Automatic,
            window: NonZeroUsize::new(16_384).expect("not zero"),
            max_window_bytes: 8 * 1024 * 1024,
            max_message: 1024 * 1024,
            schema: None,
            max_sources: 1024,
            max_detached: 1024,
            source_ttl: None,
            expect_sources: 0,
            frame_timeout: Duration::from_secs(30),
            ticker: true,
            budget: process_budget(),
            admission: None,
        }
    }
}

impl std::fmt::Debug for ReceiverConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ReceiverConfig")
            .field("ack_mode", &self.ack_mode)
            .field("window", &self.window)
            .field("max_message", &self.max_message)
            .field("schema", &self.schema)
            .finish_non_exhaustive()
    }
}

/// The receive budget of this process: one for all receiving ends that are not given another.
fn process_budget() -> Budget {
    static BUDGET: std::sync::OnceLock<Budget> = std::sync::OnceLock::new();
    let limits = Limits::default();
    BUDGET.get_or_init(|| Budget::new(limits.receive_budget).foreign(limits.foreign_receive_budget)).clone()
}
