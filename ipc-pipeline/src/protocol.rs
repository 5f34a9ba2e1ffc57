//! The link protocol, sans-IO: no clock, no socket, no spawn; for people who bring their own IO.
//!
//! A link is one-way, reliable, ordered, bounded and resumable. Each end is a machine: [`Outgoing`] keeps what was
//! accepted until it is released, [`Incoming`] numbers what arrives and promises credit. A driver moves bytes
//! between a machine and a connection and knows nothing else:
//!
//! ```text
//!            send                                                     recv
//!             │ append                                                 ▲ runs of whole frames
//!       ┌─────▼──────┐  hello ───────────────────────────────▶  ┌──────┴─────┐
//!       │  Outgoing  │  ◀─────────────────────────────── answer │  Incoming  │
//!       │ (retention │  RESUME, DATA, SKIP, CHECKPOINT, NEED,   │ (numbers,  │
//!       │   log)     │  FIN, ABORT ──────────────────────────▶  │  credit)   │
//!       └────────────┘  ◀──── ACK, ABORTED, CLOSED, DETACH ──── └────────────┘
//! ```
//!
//! Best effort has no machine that keeps anything: [`DatagramHeader`] stands before each value, and a [`Tally`] counts what
//! became of them.
//!
//! Every byte is described in `docs/protocol.md`, with golden vectors in the tests.

mod credit;
mod datagram;
mod error;
mod frame;
mod hello;
mod incoming;
mod outgoing;
mod reader;
mod retention;
mod tally;
mod terms;

pub use credit::{Budget, BudgetShare, FLOOR_BYTES};
pub use datagram::{DATAGRAM_HEADER_LEN, DatagramHeader, codec_tag};
pub use error::ProtocolError;
pub use frame::{Control, ControlReader, HEADER_LEN, Header, Kind, MAX_PAYLOAD};
pub use hello::{
    Answer, DeliveryMode, Hello, MAX_HELLO, PREAMBLE_LEN, Preamble, Refusal, SessionId, VERSION, Welcome,
};
pub use incoming::{Incoming, IncomingConfig, Taken};
pub use outgoing::{AppendError, Delivered, End, Outgoing, OutgoingConfig, OutgoingCounters, Transmit};
#[cfg(feature = "link")]
pub(crate) use reader::SKIP_LEN;
pub use reader::{Arrival, FrameReader, Run, SEGMENT_LEN, Segment, Space};
pub use tally::{Standing, Tally, TallyCounts};
pub use terms::Terms;
