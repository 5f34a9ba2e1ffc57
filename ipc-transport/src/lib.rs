//! Endpoints, transports, connections, codecs, identity and leases for pipelines between processes.
//!
//! The lowest layer: how two processes find and reach each other, and what a value looks like in bytes. An
//! [`Endpoint`] says where, a [`Transport`] makes [`Connection`]s of it, an [`Encoder`] and a [`Decoder`] turn values
//! into bytes and back. Unix sockets (`unix:`), TCP (`tcp://`) and, by features, TLS (`tls://`) and datagrams (`udp://`)
//! are here; a transport of your own is a trait with two methods and a numbered contract, for which `ipc-testkit` has the
//! checks.
//!
//! # Examples
//!
//! Accepting is not handshaking: `accept` gives an unfinished connection, so that a slow peer stalls nobody.
//!
//! ```
//! # #[cfg(feature = "unix")]
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! # let place = std::env::temp_dir().join(format!("transport-doc-{}", std::process::id()));
//! use ipc_transport::{ConnectOptions, Endpoint, ListenOptions, RuntimeDirectory, Transports};
//! use tokio::io::{AsyncReadExt, AsyncWriteExt};
//!
//! let directory = RuntimeDirectory::at(&place)?; // entered by this user only
//! let at = Endpoint::unix(place.join("kitchen.sock"))?;
//! let transports = Transports::local();
//! let mut listener = transports.listen(&at, &ListenOptions::default()).await?;
//!
//! let serving = async { listener.accept().await?.establish().await };
//! let options = ConnectOptions::default();
//! let (accepted, dialled) = tokio::try_join!(serving, transports.connect(&at, &options))?;
//!
//! let (_, mut writer, _) = dialled.into_parts();
//! writer.write_all(b"tea, please").await?;
//! writer.shutdown().await?;
//!
//! let (mut reader, _, info) = accepted.into_parts();
//! let mut order = String::new();
//! reader.read_to_string(&mut order).await?;
//! assert_eq!(order, "tea, please");
//! assert_eq!(info.peer.pid(), Some(std::process::id()), "the kernel says who it is");
//! listener.close().await?;
//! # drop(directory);
//! # Ok(std::fs::remove_dir_all(place)?)
//! # }
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! #     #[cfg(feature = "unix")]
//! #     tokio::runtime::Runtime::new()?.block_on(example())?;
//! #     Ok(())
//! # }
//! ```
//!
//! # Guarantees
//!
//! - Bytes arrive in order or the connection reports an error, and closing a writer is seen as the end after
//!   everything that was written before: the whole list stands at [`Transport`].
//! - Of any number of processes that claim one address on a machine exactly one gets it, whoever was killed there
//!   before, and a live holder is never robbed of it: see [`Lease`].
//! - Who may connect is decided by the kernel's word ([`PeerIdentity`], [`Access`]), never by a process id.
//! - Lengths are checked against [`Limits`] before anything is allocated, nesting is bounded, and every byte of a
//!   message has to be consumed: garbage is an error, not a panic.
//! - Features add. Without `unix` and `tcp` the traits, framing and codecs remain.
//!
//! # Non-goals
//!
//! A connection may be lost, and with it what was under way; `ipc-pipeline` is the layer that loses nothing. Nothing
//! here reconnects or keeps a message. Datagrams never pretend to be connections. Windows is not served.

#[cfg(any(feature = "tcp", feature = "unix"))]
mod accept;
mod acceptor;
mod backoff;
mod codec;
mod connection;
mod datagram;
#[cfg(any(feature = "tcp", feature = "udp", feature = "unix"))]
mod deadline;
mod endpoint;
mod error;
mod family;
pub mod framing;
mod identity;
#[cfg(feature = "inherited")]
mod inherited;
#[cfg(feature = "unix")]
mod lease;
mod limits;
mod name;
mod naming;
#[cfg(any(feature = "tcp", feature = "unix"))]
mod quiet;
#[cfg(feature = "tcp")]
mod tcp;
#[cfg(feature = "tls")]
pub mod tls;
mod transport;
mod transports;
#[cfg(feature = "udp")]
mod udp;
#[cfg(feature = "unix")]
mod unix;
#[cfg(feature = "unix")]
mod watch;

pub use acceptor::{Acceptor, Handshaking};
pub use backoff::{Backoff, BackoffConfig};
#[cfg(feature = "bincode")]
pub use codec::Bincode;
#[cfg(feature = "json")]
pub use codec::Json;
#[cfg(feature = "messagepack")]
pub use codec::MessagePack;
#[cfg(feature = "postcard")]
pub use codec::Postcard;
pub use codec::{BatchError, DecodeError, Decoder, EncodeBuffer, EncodeError, Encoder, Raw, Value, depth};
pub use connection::{Connection, ConnectionInfo, ReadHalf, WriteHalf};
pub use datagram::{
    Datagram, DatagramAddress, DatagramReader, DatagramSocket, DatagramTransport, DatagramWriter,
};
pub use endpoint::{Endpoint, MAX_UNIX_PATH, ParseEndpointError};
pub use error::Error;
pub use family::AddressFamily;
pub use identity::{Access, PeerCertificate, PeerIdentity};
#[cfg(feature = "inherited")]
pub use inherited::Inherited;
#[cfg(feature = "unix")]
pub use lease::{
    Answer, ConnectHello, DangerousRuntimeDirectory, Hello, Lease, LeaseOptions, LeaseStep, RuntimeDirectory,
};
pub use limits::Limits;
pub use name::{MAX_NAME, check_name};
#[cfg(feature = "unix")]
pub use naming::RuntimeNaming;
pub use naming::{NameWatch, Naming, StaticNaming};
#[cfg(feature = "tcp")]
pub use tcp::{KeepAlive, TcpTransport};
#[cfg(feature = "tls")]
pub use tls::TlsTransport;
pub use transport::{ConnectOptions, Incoming, ListenOptions, Listener, Transport};
pub use transports::Transports;
#[cfg(feature = "udp")]
pub use udp::{DangerousUdpTransport, UdpTransport};
#[cfg(feature = "unix")]
pub use unix::UnixTransport;
