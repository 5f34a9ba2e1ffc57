//! An in-memory transport, seeded faults, conformance suites, strategies, loom models and a process harness.
//!
//! For people who write their own transport, codec, naming or buffer, and for everybody who wants to know what their
//! program does when the other one dies. This workspace is tested with it and with nothing else.
//!
//! | to | there is |
//! |---|---|
//! | connect or send datagrams without the system | [`MemTransport`]: addressable, bounded, deterministic under paused time |
//! | break connections and lose datagrams on purpose | [`Faulty`] with a [`FaultPlan`], and a [`FaultHandle`] to do it by hand |
//! | show that an implementation keeps its contract | [`conformance`]: one check per numbered promise |
//! | run the protocol machines without any IO | [`pair`]: two machines, a clock and a lossy wire |
//! | make inputs at random | [`strategy`], for [`proptest`], which is re-exported |
//! | know what should have happened | [`oracle`]: a queue that is obviously right, a ledger of deliveries |
//! | kill and stop real processes | [`process`]: roles played by the test executable itself |
//!
//! [`writing_a_transport`] is a guide with a complete transport to begin from.
//!
//! # Examples
//!
//! A connection that is cut after 100 bytes, in virtual time:
//!
//! ```
//! use ipc_testkit::{FaultPlan, Faulty, MemTransport, Rule};
//! use ipc_transport::{ConnectOptions, Endpoint, ListenOptions, Transport};
//! use tokio::io::{AsyncReadExt, AsyncWriteExt};
//!
//! # tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build()?.block_on(async {
//! let world = MemTransport::new();
//! let faulty = Faulty::new(world.clone(), FaultPlan::new(1).with(Rule::cut_after(100).writing()));
//! let at = Endpoint::new("mem", "kitchen")?;
//! let mut listener = world.listen(&at, &ListenOptions::default()).await?;
//! let (_, mut writer, _) = faulty.connect(&at, &ConnectOptions::default()).await?.into_parts();
//! let (mut reader, _, _) = listener.accept().await?.establish().await?.into_parts();
//!
//! assert!(writer.write_all(&[7; 500]).await.is_err());
//! let mut arrived = Vec::new();
//! reader.read_to_end(&mut arrived).await?;
//! assert_eq!(arrived, [7; 100]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What it promises
//!
//! - Whatever is random comes from a seed, and a failure prints it.
//! - Every wait is bounded: by a watchdog of 30 s where virtual time does not end it before.
//! - Processes, directories and sockets are gone when their handles are, even after a panic.
//!
//! # What it is not
//!
//! No mock: the memory transport is subject to the suite that sockets are subject to. No network simulator: faults act on
//! one connection at a time. The process harness needs a Unix system, and its counting of descriptors Linux.

#[cfg(feature = "tls")]
pub mod certificates;
pub mod conformance;
mod fault;
mod memory;
#[cfg(ipc_loom)]
pub mod model;
pub mod oracle;
pub mod pair;
pub mod process;
pub mod strategy;
#[doc = include_str!("../../docs/writing-a-transport.md")]
pub mod writing_a_transport {}

pub use fault::{
    Chunk, DatagramCounters, Direction, FaultCounters, FaultHandle, FaultPlan, Faulty, Rule, Side,
    SideCounters, Verdict,
};
pub use memory::{MemDatagramCounters, MemTransport};
pub use proptest;
