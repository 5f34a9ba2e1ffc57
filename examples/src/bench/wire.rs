//! What joins the two processes of a measurement: the transports on offer, and where each process is on them.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

use clap::ValueEnum;
use ipc_ports::NodeConfig;
use ipc_transport::{Endpoint, RuntimeDirectory, StaticNaming, TlsTransport, Transports};

use super::{certificates, cli::PeerRole};
use crate::{custom_transport::StdioTransport, joint::Joint};

/// The transports on offer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Wire {
    /// The pipes of the peer's standard input and output, by the transport of the example `custom_transport`
    Stdio,
    /// TCP on the loopback interface
    Tcp,
    /// TLS over that, each side verified by certificates of this run
    Tls,
    /// Datagrams on the loopback interface, which may be lost
    Udp,
    /// Unix sockets
    Unix,
}

impl Wire {
    /// The name on the command line and in reports.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Stdio => "stdio",
            Self::Tcp => "tcp",
            Self::Tls => "tls",
            Self::Udp => "udp",
            Self::Unix => "unix",
        }
    }

    /// The port numbers of client and peer, where both must know them before; else 0.
    pub(crate) fn free_ports(self) -> io::Result<[u16; 2]> {
        match self {
            Self::Tcp | Self::Tls => Ok([Joint::Tcp.free_port()?, Joint::Tcp.free_port()?]),
            Self::Stdio | Self::Udp | Self::Unix => Ok([0; 2]),
        }
    }
}

/// One process's view of the wire.
#[derive(Debug)]
pub(crate) struct Site {
    wire: Wire,
    directory: PathBuf,
    ports: [u16; 2],
    extra: Option<Extra>,
}

/// A transport that is not there by default.
#[derive(Debug)]
enum Extra {
    Stdio(StdioTransport),
    Tls(TlsTransport),
}

impl Site {
    /// The client's, with the pipes to its peer where these are the wire.
    pub(crate) fn of_client(
        wire: Wire,
        directory: &Path,
        ports: [u16; 2],
        pipes: Option<[OwnedFd; 2]>,
    ) -> io::Result<Self> {
        let extra = match (wire, pipes) {
            (Wire::Tls, _) => Some(Extra::Tls(certificates::transport(directory, CLIENT)?)),
            (_, Some([reader, writer])) => Some(Extra::Stdio(StdioTransport::over(reader, writer))),
            (_, None) => None,
        };
        Ok(Self { wire, directory: directory.to_owned(), ports, extra })
    }

    /// The peer's. It takes standard input and output where these are the wire.
    pub(crate) fn of_peer(role: &PeerRole) -> io::Result<Self> {
        let (wire, directory) = (role.plan.transport, role.directory.clone());
        let extra = match wire {
            Wire::Stdio => Some(Extra::Stdio(StdioTransport::from_parent()?)),
            Wire::Tls => Some(Extra::Tls(certificates::transport(&directory, PEER)?)),
            Wire::Tcp | Wire::Udp | Wire::Unix => None,
        };
        Ok(Self { wire, directory, ports: [role.client_port, role.peer_port], extra })
    }

    /// The directory of this run.
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Where client and peer listen.
    pub(crate) fn endpoints(&self) -> io::Result<[Endpoint; 2]> {
        let unix = |name: &str| Endpoint::unix(self.directory.join(name)).map_err(io::Error::other);
        let socket = |port| {
            let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
            Endpoint::new(self.wire.name(), address.to_string()).map_err(io::Error::other)
        };
        let [client, peer] = self.ports;
        Ok(match self.wire {
            // The pipes are one connection, to the peer; nobody dials the client.
            Wire::Stdio => [unix("client.sock")?, Endpoint::new("stdio", PEER).map_err(io::Error::other)?],
            Wire::Tcp | Wire::Tls | Wire::Udp => [socket(client)?, socket(peer)?],
            Wire::Unix => [unix("client.sock")?, unix("peer.sock")?],
        })
    }

    /// Every transport that is needed here.
    pub(crate) fn transports(&self) -> Transports {
        match &self.extra {
            Some(Extra::Stdio(stdio)) => Transports::default().with(stdio.clone()),
            Some(Extra::Tls(tls)) => Transports::default().with(tls.clone()),
            None => Transports::default(),
        }
    }

    /// TLS with the certificates of this process, where that is the wire.
    pub(crate) fn tls(&self) -> Option<TlsTransport> {
        match &self.extra {
            Some(Extra::Tls(tls)) => Some(tls.clone()),
            _ => None,
        }
    }

    /// A node of this name, [`CLIENT`] or [`PEER`]: on Unix sockets names are leased in the directory, elsewhere they
    /// stand in a table.
    pub(crate) fn node(&self, name: &str) -> io::Result<NodeConfig> {
        let config = NodeConfig::new(name);
        if self.wire == Wire::Unix {
            let directory = RuntimeDirectory::at(&self.directory).map_err(io::Error::other)?;
            return Ok(config.runtime_directory(directory));
        }
        let [client, peer] = self.endpoints()?;
        let config = config.naming(StaticNaming::new().with(CLIENT, client).with(PEER, peer));
        Ok(match &self.extra {
            Some(Extra::Stdio(stdio)) => config.transport(stdio.clone()),
            Some(Extra::Tls(tls)) => config.transport(tls.clone()),
            None => config,
        })
    }
}

/// The name of the process that measures.
pub(crate) const CLIENT: &str = "client";

/// The name of the other one.
pub(crate) const PEER: &str = "peer";
