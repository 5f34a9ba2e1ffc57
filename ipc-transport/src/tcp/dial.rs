//! Dialling: which addresses an endpoint stands for, and where a connection comes from.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use tokio::net::{TcpSocket, TcpStream, lookup_host};

use crate::{AddressFamily, Endpoint, Error, deadline::Deadline};

/// Where connections come from, as far as it is settled.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Source {
    pub(super) address: Option<IpAddr>,
    /// 0 lets the system choose.
    pub(super) port: u16,
}

impl Source {
    async fn connect(self, to: SocketAddr, place: &Endpoint) -> Result<TcpStream, Error> {
        let failed = |error| Error::io("connect", place, error);
        if self.address.is_none() && self.port == 0 {
            return TcpStream::connect(to).await.map_err(failed);
        }
        let (socket, any) = if to.is_ipv4() {
            (TcpSocket::new_v4(), IpAddr::from(Ipv4Addr::UNSPECIFIED))
        } else {
            (TcpSocket::new_v6(), IpAddr::from(Ipv6Addr::UNSPECIFIED))
        };
        let (socket, local) =
            (socket.map_err(failed)?, SocketAddr::new(self.address.unwrap_or(any), self.port));
        // A fixed port can be used again while earlier connections from it are in TIME_WAIT, and for several peers at
        // once; where somebody listens it stays refused.
        socket.set_reuseaddr(self.port != 0).map_err(failed)?;
        socket.bind(local).map_err(|error| match error.kind() {
            io::ErrorKind::AddrNotAvailable => Error::AddrNotAvailable { address: local },
            _ => Error::io("bind", &Endpoint::tcp(local), error),
        })?;
        match socket.connect(to).await {
            // The two addresses have a connection already, or had one a moment ago. Without a fixed port it would say
            // that all ports are taken.
            Err(error) if self.port != 0 && error.kind() == io::ErrorKind::AddrNotAvailable => {
                Err(Error::AddrInUse { endpoint: Endpoint::tcp(local), holder: None })
            }
            other => other.map_err(failed),
        }
    }
}

/// Tries the addresses of an endpoint one after the other.
pub(super) async fn dial(
    to: &Endpoint,
    source: Source,
    family: AddressFamily,
    deadline: Deadline,
) -> Result<TcpStream, Error> {
    if let Some(address) = source.address.filter(|address| !family.admits(*address)) {
        let endpoint = Endpoint::tcp(SocketAddr::new(address, source.port));
        return Err(Error::WrongFamily { endpoint, family });
    }
    let family = source.address.map_or(family, AddressFamily::of);
    let addresses = resolve(to, family).await?;
    let mut last = Error::NotFound { endpoint: to.to_string() };
    for (index, address) in addresses.iter().enumerate() {
        let share = Deadline::after(deadline.remaining() / (addresses.len() - index) as u32)?;
        match share.run("connect", to, source.connect(*address, to)).await {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// The addresses of this family that an endpoint stands for: itself, or what the system's resolver says, at most eight.
pub(super) async fn resolve(endpoint: &Endpoint, family: AddressFamily) -> Result<Vec<SocketAddr>, Error> {
    let Some((host, port)) = endpoint.host_port() else {
        return Err(Error::UnknownScheme { scheme: endpoint.scheme().to_owned() });
    };
    let all = match endpoint.socket_addr() {
        Some(address) => vec![address],
        None => {
            lookup_host((host, port)).await.map_err(|error| Error::io("look up", endpoint, error))?.collect()
        }
    };
    let any = !all.is_empty();
    let fitting: Vec<SocketAddr> =
        all.into_iter().filter(|address| family.admits(address.ip())).take(MAX_ADDRESSES).collect();
    if any && fitting.is_empty() {
        return Err(Error::WrongFamily { endpoint: endpoint.clone(), family });
    }
    Ok(fitting)
}

const MAX_ADDRESSES: usize = 8;
