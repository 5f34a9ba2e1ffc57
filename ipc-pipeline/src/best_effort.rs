//! Best effort: values in datagrams, for sound, video and games, where the newest counts and the late is worthless.
//!
//! It is an honest opposite of the [link](crate::link). Nothing is acknowledged, nothing is kept, nothing waits: a send never
//! holds up its caller, and when values come faster than they can leave or be taken, **the newest stay and the oldest go**,
//! at the sending end and again at the receiving end. Each value must fit into one datagram. What is promised instead is
//! an exact account: the [`Receiver`] tells for each source how many values are missing, came twice, came late, or were
//! dropped at either end.
//!
//! ```
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use ipc_pipeline::best_effort::{Outgoing, Receiver, ReceiverConfig, SenderConfig, Sources};
//! use ipc_transport::{Bincode, DatagramAddress, DatagramTransport, UdpTransport};
//!
//! let any_port = "udp://127.0.0.1:0".parse()?;
//! let mut config = ReceiverConfig::default();
//! config.sources = Sources::Anybody;
//! let socket = UdpTransport::new().bind(&any_port).await?;
//! let mut receiver = Receiver::<(u32, f32)>::new(socket, config, Bincode::default())?;
//!
//! let socket = UdpTransport::new().bind(&any_port).await?;
//! let outgoing = Outgoing::<(u32, f32)>::new(socket, SenderConfig::default(), Bincode::default())?;
//! outgoing.lead_to(DatagramAddress::of(receiver.local_endpoint()));
//! outgoing.send((1, 0.5))?;
//!
//! let received = receiver.recv().await?;
//! assert_eq!((received.value, received.gap, received.late), ((1, 0.5), 0, false));
//! # Ok(())
//! # }
//! # tokio::runtime::Runtime::new().unwrap().block_on(example()).unwrap();
//! ```
//!
//! # Who may send
//!
//! By default a source has to announce itself over a connection, by [`Outgoing::connect`], to an [`Intake`]: names, codec and
//! permission are checked there as for a link, and the answer says where the socket is. The id of the session, 128 random
//! bits, is told over that connection alone and stands in every datagram, so that nobody else can send in its name without
//! reading along. The receiver never answers a datagram, so it cannot be made to flood a third party. Datagrams are neither
//! encrypted nor authenticated: whoever can read them on their way can forge them.
//!
//! # What is counted where
//!
//! Datagrams are numbered as they leave, so a number that is missing was lost between the two sockets, buffers of the system
//! included. Values that were given up before they left are counted by the sender
//! ([`SenderCounters::dropped`]) and, as every datagram says how many there were, by the receiver
//! ([`TallyCounts::skipped`](crate::protocol::TallyCounts::skipped)); those that arrived and were not taken in time are
//! [`SourceInfo::overrun`].

mod config;
mod connect;
mod intake;
mod outbox;
mod outgoing;
mod receiver;
mod sender;
mod source;

pub use config::{ReceiverConfig, SenderConfig, Sources};
pub use intake::Intake;
pub use outgoing::{Outgoing, OutgoingControl, Unsent};
pub use receiver::{Received, Receiver, ReceiverCounters, RecvError, SourceInfo};
pub use sender::{Sender, SenderCounters};
