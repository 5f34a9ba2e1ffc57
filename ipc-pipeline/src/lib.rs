//! Bounded, buffered, loss-free pipelines: a lock-free queue inside a process, a resumable link between processes.
//!
//! Both are one-way and bounded, and share their names and their meaning: `send` waits for room, `reserve` waits with
//! nothing at risk, `try_send` never waits, a [`FullPolicy`] says what happens instead of waiting, and a send that
//! fails gives the value back.
//!
//! # The queue
//!
//! [`bounded`] makes a queue for any number of senders. It performs no IO and needs no runtime: its futures work under
//! any, and threads block without one.
//!
//! ```
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let (sender, mut receiver) = ipc_pipeline::bounded::<String>(2)?;
//! sender.try_send("one".to_owned())?;
//! sender.try_send("two".to_owned())?;
//! let full = sender.try_send("three".to_owned()).unwrap_err();
//! assert_eq!(full.into_value(), "three");
//!
//! let producer = std::thread::spawn(move || sender.blocking_send("waits for room".to_owned()));
//! for expected in ["one", "two", "waits for room"] {
//!     assert_eq!(receiver.blocking_recv()?, expected);
//! }
//! producer.join().expect("it does not panic")?;
//! assert!(receiver.blocking_recv().is_err(), "the last sender is gone");
//! # Ok(())
//! # }
//! ```
//!
//! # The link
//!
//! With the feature `link`, which is on by default, an `OutgoingLink` in one process leads to a `Receiver` in another,
//! over connections that a `Connector` opens again whenever they are lost. `ipc-ports` puts names, listeners and
//! naming on top; this is the layer below, for those who bring their own:
//!
//! ```
//! # #[cfg(feature = "link")]
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use std::{sync::Arc, time::Duration};
//! use async_trait::async_trait;
//! use ipc_pipeline::link::{
//!     Connector, Greeting, LinkConfig, LinkNames, OutgoingLink, Receiver, ReceiverConfig,
//! };
//! use ipc_transport::{
//!     Bincode, ConnectOptions, Connection, Endpoint, Error, ListenOptions, TcpTransport, Transport,
//! };
//!
//! #[derive(Debug)]
//! struct Dial(Endpoint);
//!
//! #[async_trait]
//! impl Connector for Dial {
//!     async fn connect(&self) -> Result<Connection, Error> {
//!         TcpTransport::new().connect(&self.0, &ConnectOptions::default()).await
//!     }
//! }
//!
//! // The receiving process.
//! let mut receiver = Receiver::<String>::new(ReceiverConfig::default(), Bincode::default());
//! let intake = receiver.intake();
//! let any_port = "tcp://127.0.0.1:0".parse()?;
//! let mut listener = TcpTransport::new().listen(&any_port, &ListenOptions::default()).await?;
//! let at = listener.local_endpoint().clone();
//! tokio::spawn(async move {
//!     while let Ok(incoming) = listener.accept().await {
//!         let Ok(connection) = incoming.establish().await else { continue };
//!         if let Ok(greeting) = Greeting::read(connection, Duration::from_secs(10)).await {
//!             let _ = intake.accept(greeting).await;
//!         }
//!     }
//! });
//!
//! // The sending process, which need not be the second to start.
//! let link = OutgoingLink::new(LinkConfig::default(), Bincode::default());
//! link.connect(Arc::new(Dial(at)), LinkNames::new(("sensors", "OUT"), ("store", "IN")))?;
//! link.sender().send("accepted, whatever becomes of the connection".to_owned()).await?;
//!
//! assert_eq!(*receiver.recv().await?, "accepted, whatever becomes of the connection");
//! link.close(Duration::from_secs(5)).await?;
//! # Ok(())
//! # }
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! #     #[cfg(feature = "link")]
//! #     tokio::runtime::Runtime::new()?.block_on(example())?;
//! #     Ok(())
//! # }
//! ```
//!
//! # Guarantees
//!
//! - Capacity is exact. On a link it counts from the send to the release: unsent, under way and untaken values.
//! - While both processes live, what a link has accepted is taken once and in order, over any number of lost
//!   connections. What a dead receiver had not released goes to its successor, flagged if it may have been seen.
//! - Only a policy drops, only what was never written, and every drop is counted and reported.
//! - Every future can be dropped at every await point without losing or doubling a value.
//! - The link's machines, `protocol`, are sans-IO and public; `docs/protocol.md` has every byte.
//!
//! # Non-goals
//!
//! Nothing is kept on disk: what a sender had accepted and not transferred dies with it. There is no order between
//! several links into one receiver, no broadcast, and no name resolution.

#[cfg(feature = "link")]
pub mod best_effort;
mod blocking;
mod error;
#[cfg(feature = "link")]
pub mod link;
#[cfg(feature = "link")]
pub mod protocol;
mod queue;
mod ring;
mod signal;
mod sync;
#[cfg(feature = "link")]
pub mod trunk;

pub use error::{CapacityError, Closed, SendError, SendErrorReason, TryRecvError, TrySendError};
pub use queue::{
    FullPolicy, Permit, QueueConfig, QueueCounters, QueueEvent, QueueEvents, QueueSink, Receiver, Sender,
    Sending, SharedReceiver, bounded,
};
