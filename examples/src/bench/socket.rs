//! The bare sockets of the faces `raw` and `feed`.

use std::{io, path::Path};

use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream, UnixListener, UnixStream},
};

/// A socket that both baseline faces run on, without a dynamic call.
pub(crate) trait Socket: AsyncRead + AsyncWrite + Send + Unpin + Sized + 'static {
    /// What accepts.
    type Listener: Send;

    /// Listens; also returns where.
    fn listen(directory: &Path) -> impl Future<Output = io::Result<(Self::Listener, String)>> + Send;

    /// Accepts one connection.
    fn accept(listener: Self::Listener) -> impl Future<Output = io::Result<Self>> + Send;

    /// Dials.
    fn connect(address: &str) -> impl Future<Output = io::Result<Self>> + Send;
}

impl Socket for UnixStream {
    type Listener = UnixListener;

    async fn listen(directory: &Path) -> io::Result<(UnixListener, String)> {
        let path = directory.join("bench.sock");
        Ok((UnixListener::bind(&path)?, path.to_string_lossy().into_owned()))
    }

    async fn accept(listener: UnixListener) -> io::Result<Self> {
        Ok(listener.accept().await?.0)
    }

    async fn connect(address: &str) -> io::Result<Self> {
        Self::connect(address).await
    }
}

impl Socket for TcpStream {
    type Listener = TcpListener;

    async fn listen(_: &Path) -> io::Result<(TcpListener, String)> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?.to_string();
        Ok((listener, address))
    }

    async fn accept(listener: TcpListener) -> io::Result<Self> {
        let stream = listener.accept().await?.0;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    async fn connect(address: &str) -> io::Result<Self> {
        let stream = Self::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }
}
