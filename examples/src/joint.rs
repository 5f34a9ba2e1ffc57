//! What joins the processes of a program: the transports on offer, and how nodes find each other over them.

use std::{
    fs, io,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::Path,
    sync::Arc,
};

use clap::ValueEnum;
use ipc_transport::{Endpoint, Error, Naming, RuntimeDirectory, RuntimeNaming, StaticNaming};

/// The transports on offer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Joint {
    /// TCP on the loopback interface, with a static table of names
    Tcp,
    /// Unix sockets, with names leased in a runtime directory
    Unix,
}

impl Joint {
    /// The name on the command line and in reports.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Unix => "unix",
        }
    }

    /// How nodes find each other: by leases in the directory, or by this table of names and loopback ports.
    pub(crate) fn naming(self, directory: &Path, table: &[(&str, u16)]) -> Result<Arc<dyn Naming>, Error> {
        Ok(match self {
            Self::Tcp => {
                let endpoint = |port| Endpoint::tcp(SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
                let entries = table.iter();
                let naming = entries
                    .fold(StaticNaming::new(), |naming, &(name, port)| naming.with(name, endpoint(port)));
                Arc::new(naming)
            }
            Self::Unix => Arc::new(RuntimeNaming::new(RuntimeDirectory::at(directory)?)),
        })
    }

    /// A port number for a listener that others must know before it starts; 0 where names are leased.
    ///
    /// It lies below the range from which the system numbers outgoing connections: a dialler that tries such a number
    /// again and again while nobody listens would one day be connected with itself.
    pub(crate) fn free_port(self) -> io::Result<u16> {
        if self == Self::Unix {
            return Ok(0);
        }
        let end = outgoing_ports_start().clamp(FIRST_PORT + 1_000, u16::MAX);
        for _ in 0..ATTEMPTS {
            let port = fastrand::u16(FIRST_PORT..end);
            match TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
                Ok(_) => return Ok(port),
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
                Err(error) => return Err(error),
            }
        }
        Err(io::ErrorKind::AddrInUse.into())
    }
}

/// Where the system's numbers for outgoing connections begin.
fn outgoing_ports_start() -> u16 {
    let range = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range");
    let start = range.ok().and_then(|range| range.split_whitespace().next()?.parse().ok());
    // The start of the range that the standard of port numbers sets aside.
    start.unwrap_or(49_152)
}

/// Above the well-known and most of the customary numbers.
const FIRST_PORT: u16 = 20_000;

/// How many numbers are tried: far more than a machine with a usable loopback needs.
const ATTEMPTS: u32 = 1_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_free_port_can_be_listened_at_and_is_never_an_outgoing_one() {
        let port = Joint::Tcp.free_port().unwrap();
        assert!(port >= FIRST_PORT && port < outgoing_ports_start().max(FIRST_PORT + 1_000));
        TcpListener::bind((Ipv4Addr::LOCALHOST, port)).unwrap();
        assert_eq!(Joint::Unix.free_port().unwrap(), 0);
    }
}
