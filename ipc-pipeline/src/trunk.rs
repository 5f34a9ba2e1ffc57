//! A trunk: one connection that carries several byte streams, its lanes, each of which can carry a link of its own.
//!
//! Links that belong together, as those between a server and one of its clients, share a connection: one socket, one
//! admission, one hang-up for all of them. Each link still has its own numbers, credit and resumption, because a lane is a
//! [`Connection`](ipc_transport::Connection) like any other and the link does not know the difference.
//!
//! ```text
//!   link ── lane 0 ──┐                              ┌── lane 0 ── receiver
//!   link ── lane 1 ──┼──▶ chunks on one connection ─┼── lane 1 ── receiver
//!   receiver lane 2 ─┘                              └── lane 2 ── link
//! ```
//!
//! Bytes travel in chunks of at most 64 KiB, and lanes that have something to write take turns at their boundaries: while
//! the socket is full, one chunk of each lane waits in a queue, so a trunk keeps at most 64 KiB per lane for it. A
//! trunk has no credit of its own: what a lane holds back is bounded by its link's credit, and the readers of links never
//! stop reading. `docs/protocol.md` has the bytes.

mod connector;
mod driver;
mod greeting;
mod lane;
mod shared;

pub use connector::{LaneConnector, TrunkSlot};
pub use driver::{TrunkDriver, TrunkEnd};
pub use greeting::{DialError, accept, dial};
pub use shared::{MAX_LANES, Trunk};

/// Bytes of one chunk's header: the length in three bytes, and the lane.
const HEADER_LEN: usize = 4;

/// The most that one chunk carries. 64 KiB, so that a lane waits no longer than one read of the other side.
const MAX_CHUNK: usize = 64 * 1024;

/// Bytes that one lane may hold unread before the trunk stops reading. 256 KiB: readers of links never stop reading, so
/// it is reached by a peer that breaks its credit, or for a moment.
const MAX_UNREAD: usize = 256 * 1024;
