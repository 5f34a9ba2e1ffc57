//! Endpoints, transports, connections, codecs, identity and leases for pipelines between processes.

#[cfg(any(feature = "tcp", feature = "unix"))]
mod accept;
mod backoff;
mod codec;
mod connection;
mod datagram;
#[cfg(any(feature = "tcp", feature = "udp", feature = "unix"))]
mod deadline;
mod endpoint;
mod error;
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
