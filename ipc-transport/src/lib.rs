//! Endpoints, transports, connections, codecs, identity and leases for pipelines between processes.

mod backoff;
mod codec;
mod connection;
mod endpoint;
mod error;
pub mod framing;
mod identity;
mod limits;
mod transport;
mod transports;

pub use backoff::{Backoff, BackoffConfig};
#[cfg(feature = "bincode")]
pub use codec::Bincode;
#[cfg(feature = "json")]
pub use codec::Json;
pub use codec::{BatchError, DecodeError, Decoder, EncodeBuffer, EncodeError, Encoder, Raw, Value, depth};
pub use connection::{Connection, ConnectionInfo, ReadHalf, WriteHalf};
pub use endpoint::{Endpoint, MAX_UNIX_PATH, ParseEndpointError};
pub use error::Error;
pub use identity::{Access, PeerIdentity};
pub use limits::Limits;
pub use transport::{ConnectOptions, Incoming, ListenOptions, Listener, Transport};
pub use transports::Transports;
