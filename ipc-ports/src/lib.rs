//! Named ports, joined by buffered, loss-free pipelines between processes.
//!
//! A process is a [`Node`] with a name. An [`OutgoingPort`] of one node connects to an [`IncomingPort`] of another; the
//! pipeline between them buffers up to its capacity, connected or not, and loses nothing when connections break or
//! the receiving process dies. Pipelines go one way. One leaves an outgoing port; any number enter an incoming one.
//!
//! ```
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! # let directory = std::env::temp_dir().join(format!("ports-doc-{}", std::process::id()));
//! # let naming = ipc_ports::RuntimeNaming::new(ipc_ports::RuntimeDirectory::at(&directory)?);
//! use std::time::Duration;
//! use ipc_ports::{Node, NodeConfig};
//!
//! # let (one, two) = (NodeConfig::new("process1").naming(naming.clone()), NodeConfig::new("process2").naming(naming));
//! # /*
//! let (one, two) = (NodeConfig::new("process1"), NodeConfig::new("process2"));
//! # */
//! let process1 = Node::start(one).await?;
//! let out = process1.outgoing::<String>("OUT")?;
//! out.connect("process2", "IN")?;
//! out.send("sent before anybody listens".to_owned()).await?;
//!
//! let process2 = Node::start(two).await?;
//! let mut inp = process2.incoming::<String>("IN")?;
//! assert_eq!(*inp.recv().await?, "sent before anybody listens");
//! out.close(Duration::from_secs(5)).await?;
//! # process1.shutdown(Duration::from_secs(5)).await?;
//! # drop(inp);
//! # process2.shutdown(Duration::from_secs(5)).await?;
//! # std::fs::remove_dir_all(directory)?;
//! # Ok(())
//! # }
//! # tokio::runtime::Runtime::new().unwrap().block_on(example()).unwrap();
//! ```
//!
//! # Guarantees
//!
//! A value is *accepted* when its send returned `Ok`. While both processes live every accepted value is handed to the
//! receiving application exactly once and in order, over any number of broken connections. When the receiving process
//! dies, everything it had not released goes to its successor under the same name; a value that an application may
//! have seen before is flagged `redelivered`. What a process had accepted and not yet transferred dies with it.
//!
//! # Ownership
//!
//! A send takes the value, and a send that fails gives it back with the reason; nothing has to be cloned to be safe:
//!
//! ```
//! # async fn example(out: ipc_ports::OutgoingPort<String>) {
//! match out.send("mine until it is sent".to_owned()).await {
//!     Ok(()) => {}
//!     Err(error) => println!("still mine: {}", error.into_value()),
//! }
//! # }
//! ```
//!
//! The compiler sees to it that a value is not used after it was sent (P-17):
//!
//! ```compile_fail,E0382
//! # async fn example(out: ipc_ports::OutgoingPort<String>) {
//! let value = "not mine any more".to_owned();
//! out.send(value).await.unwrap();
//! println!("{value}");
//! # }
//! ```
//!
//! # Best effort
//!
//! For sound, video and games there are ports that promise the opposite: [`Node::outgoing_best_effort`] sends datagrams, of
//! which the newest win and some get lost, and [`Node::incoming_best_effort`] counts exactly which. Both ends have to choose
//! it; a port of one kind refuses one of the other.
//!
//! # Several machines
//!
//! With names in a [`StaticNaming`] ports reach other machines over TCP and TLS; see [`across_machines`] for who may come
//! in, what an outage looks like, and which settings matter.
//!
//! # Non-goals
//!
//! No persistence on disk, no order between sources, no topics.

pub mod across_machines;

mod accept;
mod config;
mod connector;
mod datagrams;
mod ends;
mod error;
mod incoming;
mod node;
mod outgoing;

pub use config::{ConnectionRequest, NodeConfig, PortConfig};
pub use datagrams::{BestEffortConfig, BestEffortError, BestEffortIncomingPort, BestEffortOutgoingPort};
pub use error::{ConnectError, PortError};
pub use incoming::{IncomingPort, SharedIncomingPort};
pub use ipc_pipeline::{
    FullPolicy, SendError, SendErrorReason, TrySendError, best_effort,
    link::{
        Aborted, AckMode, AttemptError, Delivery, Event, LostReason, Permit, ReceiverCounters, Recv,
        RecvError, Room, SendManyError, Sender as PortSender, Sending, SourceId, SourceInfo, Status,
        Undelivered,
    },
    protocol::{Budget, OutgoingCounters, Refusal},
};
pub use ipc_transport::{
    Access, BackoffConfig, Bincode, Decoder, Encoder, Endpoint, Error, KeepAlive, Limits, Naming, Raw,
    RuntimeDirectory, RuntimeNaming, StaticNaming, TcpTransport, Transport,
};
pub use node::{Node, NodeCounters};
pub use outgoing::OutgoingPort;
