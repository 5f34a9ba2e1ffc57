//! The bare sockets of the faces `raw` and `feed`.

use std::io;

use ipc_transport::{ConnectOptions, ListenOptions, Listener, ReadHalf, WriteHalf};
use tokio::{
    io::{AsyncRead, AsyncWrite, Join, join},
    net::{TcpListener, TcpStream, UnixListener, UnixStream},
};

use super::wire::Site;

/// What both baseline faces run on: a socket without a dynamic call, or the two halves of a connection.
pub(crate) trait Socket: AsyncRead + AsyncWrite + Send + Unpin + Sized + 'static {
    /// What accepts.
    type Listener: Send;

    /// Listens; also returns where.
    fn listen(site: &Site) -> impl Future<Output = io::Result<(Self::Listener, String)>> + Send;

    /// Accepts one connection.
    fn accept(listener: Self::Listener) -> impl Future<Output = io::Result<Self>> + Send;

    /// Dials.
    fn connect(site: &Site, address: &str) -> impl Future<Output = io::Result<Self>> + Send;
}

impl Socket for UnixStream {
    type Listener = UnixListener;

    async fn listen(site: &Site) -> io::Result<(UnixListener, String)> {
        let path = site.directory().join("bench.sock");
        Ok((UnixListener::bind(&path)?, path.to_string_lossy().into_owned()))
    }

    async fn accept(listener: UnixListener) -> io::Result<Self> {
        Ok(listener.accept().await?.0)
    }

    async fn connect(_: &Site, address: &str) -> io::Result<Self> {
        Self::connect(address).await
    }
}

impl Socket for TcpStream {
    type Listener = TcpListener;

    async fn listen(_: &Site) -> io::Result<(TcpListener, String)> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?.to_string();
        Ok((listener, address))
    }

    async fn accept(listener: TcpListener) -> io::Result<Self> {
        let stream = listener.accept().await?.0;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    async fn connect(_: &Site, address: &str) -> io::Result<Self> {
        let stream = Self::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }
}

/// For the wires that no single socket makes: what the transport itself gives, without anything above it.
impl Socket for Join<ReadHalf, WriteHalf> {
    type Listener = Box<dyn Listener>;

    async fn listen(site: &Site) -> io::Result<(Self::Listener, String)> {
        let [_, at] = site.endpoints()?;
        let listener = site.transports().listen(&at, &ListenOptions::default()).await?;
        let address = listener.local_endpoint().to_string();
        Ok((listener, address))
    }

    async fn accept(mut listener: Self::Listener) -> io::Result<Self> {
        let (reader, writer, _) = listener.accept().await?.establish().await?.into_parts();
        Ok(join(reader, writer))
    }

    async fn connect(site: &Site, address: &str) -> io::Result<Self> {
        let to = address.parse().map_err(io::Error::other)?;
        let connection = site.transports().connect(&to, &ConnectOptions::default()).await?;
        let (reader, writer, _) = connection.into_parts();
        Ok(join(reader, writer))
    }
}
