//! The link: a reliable, ordered, bounded, resumable pipeline between two processes, over any connection.
//!
//! [`OutgoingLink`] owns the sending end and hands out [`Sender`]s; [`Receiver`] owns the receiving end, into which
//! any number of links lead, and its [`Intake`] takes their connections. The machines of
//! [`protocol`](crate::protocol) decide; this room moves bytes, wakes tasks and retries connections.

mod config;
mod connector;
mod cursor;
mod delivery;
pub(crate) mod dial;
mod driver;
mod inbox;
mod intake;
mod outgoing;
mod oversize;
mod permit;
mod receiver;
mod sender;
mod session;
mod shared;
mod shared_receiver;
mod sink;
mod status;
mod ticker;

pub use config::{AckMode, Admission, LinkConfig, LinkNames, ReceiverConfig};
pub use connector::Connector;
pub use delivery::{Delivery, Event, RecvError, SourceId, SourceInfo};
pub use intake::{Greeting, Intake};
pub use outgoing::{Aborted, LinkControl, OutgoingLink, Undelivered};
pub(crate) use outgoing::{fresh_session, secret_session};
pub use permit::Permit;
pub use receiver::{Receiver, ReceiverCounters, Recv};
pub use sender::{SendManyError, Sender, Sending};
pub use shared_receiver::SharedReceiver;
pub use sink::LinkSink;
pub(crate) use status::LastError;
pub use status::{AttemptError, LostReason, Room, Status};
