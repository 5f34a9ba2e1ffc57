//! Channels between processes: servers with clients that tell each other events, ask, and are told by broadcast.
//!
//! This is the crate for programs that think in named events and handlers. Where one-way pipelines fit better, use
//! `ipc-ports`; both stand on the links of `ipc-pipeline`, and neither needs the other.
//!
//! **This crate is not the `ipc-channel` of the public registry**, which is another project. Until it is published under a
//! name of its own, depend on it by path or by git, and give it another name if both are needed:
//!
//! ```toml
//! [dependencies]
//! channels = { package = "ipc-channel", path = "../ipc/ipc-channel" }
//! ```
//!
//! # Example
//!
//! ```
//! use std::time::Duration;
//! use ipc_channel::{Event, events::{Client, ClientConfig, Reply, Server, ServerConfig}};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! # let at: ipc_transport::Endpoint = "tcp://127.0.0.1:0".parse()?;
//! // One process. Without an endpoint it would be found by its id, in the runtime directory of the user.
//! let world = Server::start(ServerConfig::new("world").endpoint(at)).await?;
//! world.on("message", async |data: Event<String>, reply: Reply| {
//!     let answer = format!("{} world!", *data);
//!     if let Err(error) = reply.emit("message", &answer).await {
//!         eprintln!("not answered: {error}");
//!     }
//! });
//! world.respond("add", async |numbers: Event<Vec<i64>>, _| Ok::<i64, String>(numbers.iter().sum()))?;
//!
//! // Another process, which need not be the second to start.
//! let config = ClientConfig::new("world").endpoint(world.endpoint().clone());
//! let hello = Client::start(config)?;
//! let mut answers = hello.events::<String>("message", 16)?;
//! hello.emit("message", "hello").await?;
//! let (answer, _) = answers.next().await.ok_or("no answer")?;
//! assert_eq!(*answer, "hello world!");
//!
//! let sum: i64 = hello.call("add", &vec![1_i64, 2, 3], Duration::from_secs(5)).await?;
//! assert_eq!(sum, 6);
//! hello.close(Duration::from_secs(5)).await?;
//! # Ok(())
//! # }
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! #     tokio::runtime::Runtime::new()?.block_on(example())
//! # }
//! ```
//!
//! # Guarantees
//!
//! - On the native wire, while both processes live, an accepted event is handed to its handlers once and in order, over any
//!   number of lost connections. A restarted server gets what the dead one had not released, flagged if it may have been seen.
//! - What happens to connections (connect, disconnect, failed attempts) is told by methods and never by event names, so no
//!   peer can forge it.
//! - No client holds up another: each has queues of its own, with a bound and a policy; broadcasts do not wait for the slow.
//! - Every call ends: with an answer, with one of the reasons of [`events::CallError`], or at its deadline.
//! - Everything is bounded: clients, events kept for each, calls under way, requests answered at once, sizes.
//!
//! # Non-goals
//!
//! Nothing is kept on disk. Broadcasts have no total order, and events of different clients none among each other. The
//! wire of node-ipc has no acks, so what was written to a connection that breaks may be lost there.

mod event;
mod handlers;
mod payload;
mod subscription;

pub mod events;

pub use event::Event;
pub use handlers::{DuplicateResponder, EventStream, HandlerCounters};
pub use payload::{Payload, PayloadCodec};
pub use subscription::Subscription;
