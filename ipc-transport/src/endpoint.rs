//! Endpoints: where a listener listens and a dialler dials, as text that parses and prints round-trip.

use std::{
    borrow::Cow,
    fmt,
    net::SocketAddr,
    os::unix::ffi::{OsStrExt, OsStringExt},
    path::{Path, PathBuf},
    str::FromStr,
};

use crate::Error;

mod escape;
#[cfg(test)]
mod tests;

/// The longest path that fits into a Unix socket address, in bytes.
///
/// The kernel's buffer has 108 bytes on Linux and 104 elsewhere. One of them is for the closing NUL: Linux would
/// take a path without it, but then other programs cannot name the socket, so it is never left out here.
pub const MAX_UNIX_PATH: usize = if cfg!(target_os = "linux") { 107 } else { 103 };

/// An address of one transport.
///
/// | text | meaning |
/// |---|---|
/// | `unix:/run/app/a.sock` | a Unix socket in the file system |
/// | `unix:@name` | a Unix socket in the abstract space of the network namespace (Linux) |
/// | `tcp://127.0.0.1:9000`, `tcp://[::1]:0`, `tcp://host:9000` | TCP; port 0 lets the system choose when listening |
/// | `tls://…`, `udp://…` | as `tcp` |
/// | `mem:name`, `anything:rest` | the address means what the transport of that scheme says |
///
/// Text and value map to each other: `text.parse::<Endpoint>()?.to_string()` parses to an equal endpoint. Bytes of a
/// path that are not UTF-8, control characters and `%` itself are written as `%` and two hexadecimal digits, so that
/// every path has a text. IP addresses are brought into their shortest form; host names are kept as written.
///
/// # Examples
///
/// ```
/// use ipc_transport::Endpoint;
///
/// let endpoint: Endpoint = "tcp://[0:0::1]:9000".parse()?;
/// assert_eq!(endpoint.scheme(), "tcp");
/// assert_eq!(endpoint.to_string(), "tcp://[::1]:9000");
/// assert_eq!(Endpoint::unix("/run/a b%.sock")?.to_string(), "unix:/run/a b%25.sock");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Endpoint {
    scheme: Cow<'static, str>,
    address: String,
    /// The decoded address of a `unix:` endpoint.
    unix: Option<UnixAddress>,
}

/// The two kinds of Unix socket addresses, decoded.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum UnixAddress {
    Abstract(Vec<u8>),
    Path(PathBuf),
}

impl Endpoint {
    /// An endpoint of any scheme; the address is the text that [`Endpoint::address`] will give back.
    ///
    /// # Errors
    ///
    /// Those of parsing `scheme:address`.
    pub fn new(scheme: impl Into<String>, address: impl Into<String>) -> Result<Self, ParseEndpointError> {
        let (scheme, address) = (scheme.into(), address.into());
        check_scheme(&scheme)?;
        match scheme.as_str() {
            "unix" => Self::parse_unix(&address),
            "tcp" | "tls" | "udp" => Self::parse_host_port(scheme, &address),
            _ => Self::custom(scheme, address),
        }
    }

    /// A Unix socket at this path; a relative one is relative to the working directory at the time of use.
    ///
    /// # Errors
    ///
    /// [`Error::PathTooLong`] beyond [`MAX_UNIX_PATH`], [`Error::InvalidEndpoint`] for an empty path and for one
    /// with a NUL byte.
    pub fn unix(path: impl Into<PathBuf>) -> Result<Self, Error> {
        Ok(Self::from_path(path.into())?)
    }

    /// A Unix socket in the abstract space (Linux): no file, gone with its listener, visible to every user and
    /// container that shares the network namespace. Prefer a path.
    ///
    /// # Errors
    ///
    /// [`Error::PathTooLong`] beyond [`MAX_UNIX_PATH`], [`Error::InvalidEndpoint`] for an empty name.
    pub fn unix_abstract(name: impl AsRef<[u8]>) -> Result<Self, Error> {
        Ok(Self::from_abstract(name.as_ref().to_vec())?)
    }

    /// A TCP address.
    pub fn tcp(address: SocketAddr) -> Self {
        Self::of_socket("tcp", address)
    }

    pub(crate) fn of_socket(scheme: &'static str, address: SocketAddr) -> Self {
        Self { scheme: Cow::Borrowed(scheme), address: address.to_string(), unix: None }
    }

    /// `unix`, `tcp`, `tls`, `udp`, `mem`, or the scheme of a custom transport.
    pub fn scheme(&self) -> &str {
        &self.scheme
    }

    /// What follows the scheme: `/run/a.sock`, `@name`, `127.0.0.1:9000`, or what a custom transport understands.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The path of a `unix:` endpoint that has one.
    pub fn unix_path(&self) -> Option<&Path> {
        match &self.unix {
            Some(UnixAddress::Path(path)) => Some(path),
            _ => None,
        }
    }

    /// The name of a `unix:@name` endpoint, decoded and without the `@`.
    pub fn unix_abstract_name(&self) -> Option<&[u8]> {
        match &self.unix {
            Some(UnixAddress::Abstract(name)) => Some(name),
            _ => None,
        }
    }

    /// The address of a `tcp`, `tls` or `udp` endpoint that names an IP address and not a host.
    pub fn socket_addr(&self) -> Option<SocketAddr> {
        self.host_port().and_then(|_| self.address.parse().ok())
    }

    /// Host and port of a `tcp`, `tls` or `udp` endpoint; an IPv6 address comes without its brackets.
    pub fn host_port(&self) -> Option<(&str, u16)> {
        if !is_host_port_scheme(&self.scheme) {
            return None;
        }
        let (host, port) = self.address.rsplit_once(':')?;
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        Some((host, port.parse().ok()?))
    }

    fn parse_unix(address: &str) -> Result<Self, ParseEndpointError> {
        if let Some(name) = address.strip_prefix('@') {
            return Self::from_abstract(escape::decode(name)?);
        }
        Self::from_path(PathBuf::from(std::ffi::OsString::from_vec(escape::decode(address)?)))
    }

    fn from_path(path: PathBuf) -> Result<Self, ParseEndpointError> {
        let bytes = path.as_os_str().as_bytes();
        if bytes.is_empty() {
            return Err(ParseEndpointError::EmptyAddress { scheme: "unix".to_owned() });
        }
        if bytes.contains(&0) {
            return Err(ParseEndpointError::NulInPath { path: path.display().to_string() });
        }
        check_len(bytes.len())?;
        // A relative path that begins with an `@` would read as an abstract name.
        let address = match bytes {
            [b'@', rest @ ..] => format!("%40{}", escape::encode(rest)),
            _ => escape::encode(bytes),
        };
        Ok(Self { scheme: Cow::Borrowed("unix"), address, unix: Some(UnixAddress::Path(path)) })
    }

    fn from_abstract(name: Vec<u8>) -> Result<Self, ParseEndpointError> {
        if name.is_empty() {
            return Err(ParseEndpointError::EmptyAddress { scheme: "unix".to_owned() });
        }
        check_len(name.len())?;
        let address = format!("@{}", escape::encode(&name));
        Ok(Self { scheme: Cow::Borrowed("unix"), address, unix: Some(UnixAddress::Abstract(name)) })
    }

    fn parse_host_port(scheme: String, address: &str) -> Result<Self, ParseEndpointError> {
        let text = address.strip_prefix("//").unwrap_or(address);
        if let Ok(address) = text.parse::<SocketAddr>() {
            return Ok(Self { scheme: scheme.into(), address: address.to_string(), unix: None });
        }
        let (host, port) =
            text.rsplit_once(':').ok_or_else(|| ParseEndpointError::NoPort { text: text.to_owned() })?;
        if host.is_empty() || !host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte))
        {
            return Err(ParseEndpointError::InvalidHost { host: host.to_owned() });
        }
        let port: u16 =
            port.parse().map_err(|_| ParseEndpointError::InvalidPort { port: port.to_owned() })?;
        Ok(Self { scheme: scheme.into(), address: format!("{host}:{port}"), unix: None })
    }

    fn custom(scheme: String, address: String) -> Result<Self, ParseEndpointError> {
        if address.is_empty() {
            return Err(ParseEndpointError::EmptyAddress { scheme });
        }
        Ok(Self { scheme: scheme.into(), address, unix: None })
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let slashes = if is_host_port_scheme(&self.scheme) { "//" } else { "" };
        write!(f, "{}:{slashes}{}", self.scheme, self.address)
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Custom addresses may hold anything; escaped, they cannot forge a line of a log.
        write!(f, "{}", self.to_string().escape_debug())
    }
}

impl FromStr for Endpoint {
    type Err = ParseEndpointError;

    fn from_str(text: &str) -> Result<Self, ParseEndpointError> {
        let (scheme, address) =
            text.split_once(':').ok_or_else(|| ParseEndpointError::NoScheme { text: text.to_owned() })?;
        if is_host_port_scheme(scheme) && !address.starts_with("//") {
            return Err(ParseEndpointError::NoSlashes { text: text.to_owned() });
        }
        Self::new(scheme, address)
    }
}

impl TryFrom<&str> for Endpoint {
    type Error = ParseEndpointError;

    fn try_from(text: &str) -> Result<Self, ParseEndpointError> {
        text.parse()
    }
}

/// Why a text is not an endpoint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParseEndpointError {
    /// Nothing follows the scheme.
    #[error("nothing follows the scheme {scheme:?}")]
    EmptyAddress {
        /// The scheme.
        scheme: String,
    },
    /// A `%` is not followed by two hexadecimal digits.
    #[error(
        "a percent sign in {text:?} is not followed by two hexadecimal digits; write %25 for the sign itself"
    )]
    InvalidEscape {
        /// The address as given.
        text: String,
    },
    /// The host is neither an IP address nor a host name.
    #[error("{host:?} is neither an IP address nor a host name; IPv6 addresses are written in brackets")]
    InvalidHost {
        /// The host as given.
        host: String,
    },
    /// The port is not a number up to 65,535.
    #[error("{port:?} is not a port number")]
    InvalidPort {
        /// The port as given.
        port: String,
    },
    /// A scheme is a lower-case letter followed by lower-case letters, digits, `+`, `-` and `.`.
    #[error("{scheme:?} is not a scheme")]
    InvalidScheme {
        /// The scheme as given.
        scheme: String,
    },
    /// The address names no port.
    #[error("{text:?} names no port; write host:port, with port 0 to let the system choose")]
    NoPort {
        /// The address as given.
        text: String,
    },
    /// The text has no scheme.
    #[error("endpoint {text:?} has no scheme; write unix:/path or tcp://host:port")]
    NoScheme {
        /// The text as given.
        text: String,
    },
    /// Two slashes belong between this scheme and its address.
    #[error("endpoint {text:?} lacks the two slashes after its scheme")]
    NoSlashes {
        /// The text as given.
        text: String,
    },
    /// A path cannot hold a NUL byte.
    #[error("path {path:?} holds a NUL byte")]
    NulInPath {
        /// The path as given.
        path: String,
    },
    /// A path or abstract name does not fit into a socket address.
    #[error("socket path of {len} bytes is longer than the {max} that the system allows")]
    PathTooLong {
        /// Its length in bytes.
        len: usize,
        /// The most that fits.
        max: usize,
    },
}

/// The path of a Unix socket as an operating system string with the leading NUL of abstract names.
#[cfg(feature = "unix")]
pub(crate) fn kernel_path(endpoint: &Endpoint) -> Option<Cow<'_, std::ffi::OsStr>> {
    match endpoint.unix.as_ref()? {
        UnixAddress::Abstract(name) => {
            let mut bytes = Vec::with_capacity(name.len() + 1);
            bytes.push(0);
            bytes.extend_from_slice(name);
            Some(Cow::Owned(std::ffi::OsString::from_vec(bytes)))
        }
        UnixAddress::Path(path) => Some(Cow::Borrowed(path.as_os_str())),
    }
}

fn is_host_port_scheme(scheme: &str) -> bool {
    matches!(scheme, "tcp" | "tls" | "udp")
}

fn check_scheme(scheme: &str) -> Result<(), ParseEndpointError> {
    let starts_well = scheme.starts_with(|first: char| first.is_ascii_lowercase());
    let goes_on_well = scheme
        .bytes()
        .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"+-.".contains(&byte));
    if starts_well && goes_on_well {
        Ok(())
    } else {
        Err(ParseEndpointError::InvalidScheme { scheme: scheme.to_owned() })
    }
}

fn check_len(len: usize) -> Result<(), ParseEndpointError> {
    if len > MAX_UNIX_PATH {
        return Err(ParseEndpointError::PathTooLong { len, max: MAX_UNIX_PATH });
    }
    Ok(())
}
