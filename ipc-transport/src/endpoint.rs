//! Endpoints: where a listener listens and a dialler dials, as text that parses and prints round-trip.

use std::{
    fmt,
    net::SocketAddr,
    path::{Path, PathBuf},
    str::FromStr,
};

use crate::Error;

/// The longest path that fits into a Unix socket address, without its closing NUL.
pub const MAX_UNIX_PATH: usize = if cfg!(target_os = "linux") { 107 } else { 103 };

/// An address of one transport: `unix:/run/a.sock`, `unix:@abstract`, `tcp://127.0.0.1:9000`, `mem:name`.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Endpoint {
    scheme: String,
    address: String,
}

impl Endpoint {
    /// An endpoint of any scheme; the address means what the transport of that scheme says.
    pub fn new(scheme: impl Into<String>, address: impl Into<String>) -> Result<Self, ParseEndpointError> {
        todo!()
    }
    /// A Unix socket at this path.
    pub fn unix(path: impl Into<PathBuf>) -> Result<Self, Error> {
        todo!()
    }
    /// A TCP address.
    pub fn tcp(address: SocketAddr) -> Self {
        todo!()
    }
    /// `unix`, `tcp`, `mem`, or the scheme of a custom transport.
    pub fn scheme(&self) -> &str {
        &self.scheme
    }
    /// What follows the scheme.
    pub fn address(&self) -> &str {
        &self.address
    }
    /// The path of a `unix:` endpoint that has one.
    pub fn unix_path(&self) -> Option<&Path> {
        todo!()
    }
}
impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        todo!()
    }
}
impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
impl FromStr for Endpoint {
    type Err = ParseEndpointError;
    fn from_str(s: &str) -> Result<Self, ParseEndpointError> {
        todo!()
    }
}

/// Why a text is not an endpoint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParseEndpointError {
    /// The text has no scheme.
    #[error("endpoint {text:?} has no scheme; write unix:/path or tcp://host:port")]
    NoScheme {
        /// The text as given.
        text: String,
    },
}
