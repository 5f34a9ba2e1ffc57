//! The transports of this machine keep the contract, on both flavours of the runtime.
//!
//! They have a process to themselves: where tests start programs, a child that is about to do so has a copy of every
//! listener for a moment, and an address that was closed is not free at once.

#![cfg(all(feature = "unix", feature = "tcp"))]
#![allow(clippy::unwrap_used, reason = "a test may unwrap, its helpers too")]

use std::{env, fs, net::Ipv4Addr, os::unix::fs::DirBuilderExt as _, path::PathBuf};

use async_trait::async_trait;
use ipc_testkit::{conformance::transport::Subject, transport_conformance};
use ipc_transport::{
    AddressFamily, ConnectOptions, Connection, Endpoint, Error, Incoming, Lease, LeaseOptions, ListenOptions,
    Listener, TcpTransport, Transport, UnixTransport,
};

/// A fresh directory that is removed with everything in it.
struct TempDir(PathBuf);

impl TempDir {
    fn new() -> Self {
        let path = env::temp_dir().join(format!("ipc-{:016x}", fastrand::u64(..)));
        fs::DirBuilder::new().mode(0o700).create(&path).unwrap();
        Self(path)
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

transport_conformance!(unix_path, || {
    let directory = TempDir::new();
    let at = Endpoint::unix(directory.0.join("a.sock")).unwrap();
    Subject::new(UnixTransport::new(), at).keeping(directory)
});

#[cfg(target_os = "linux")]
transport_conformance!(unix_abstract, || {
    // The name of a fresh directory is as good as a fresh name.
    let directory = TempDir::new();
    let at = Endpoint::unix_abstract(directory.0.as_os_str().as_encoded_bytes()).unwrap();
    Subject::new(UnixTransport::new(), at).keeping(directory)
});

transport_conformance!(tcp, || Subject::new(TcpTransport::new(), "tcp://127.0.0.1:0".parse().unwrap()));

transport_conformance!(tcp_from_an_address_of_its_own, || {
    let transport =
        TcpTransport::new().local_address(Some(Ipv4Addr::LOCALHOST.into())).family(AddressFamily::V4);
    Subject::new(transport, "tcp://localhost:0".parse().unwrap())
});

/// Listens at sockets that somebody else opened, as a supervisor's heir does.
#[derive(Debug)]
struct Inheriting;

#[async_trait]
impl Transport for Inheriting {
    fn scheme(&self) -> &str {
        "tcp"
    }

    async fn connect(&self, to: &Endpoint, options: &ConnectOptions) -> Result<Connection, Error> {
        TcpTransport::new().connect(to, options).await
    }

    async fn listen(&self, at: &Endpoint, options: &ListenOptions) -> Result<Box<dyn Listener>, Error> {
        let socket = std::net::TcpListener::bind(at.socket_addr().unwrap());
        TcpTransport::new().adopt(socket.map_err(|error| Error::io("bind", at, error))?, options)
    }
}

transport_conformance!(inherited_tcp, || Subject::new(Inheriting, "tcp://127.0.0.1:0".parse().unwrap()));

/// The same for Unix sockets, whose file is the supervisor's to remove.
#[derive(Debug)]
struct InheritingUnix;

/// An inherited listener, and after it the supervisor's part: the file of its socket.
#[derive(Debug)]
struct Supervised {
    listener: Box<dyn Listener>,
    file: SocketFile,
}

#[derive(Debug)]
struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

#[async_trait]
impl Transport for InheritingUnix {
    fn scheme(&self) -> &str {
        "unix"
    }

    async fn connect(&self, to: &Endpoint, options: &ConnectOptions) -> Result<Connection, Error> {
        UnixTransport::new().connect(to, options).await
    }

    async fn listen(&self, at: &Endpoint, options: &ListenOptions) -> Result<Box<dyn Listener>, Error> {
        let path = at.unix_path().unwrap();
        let socket = std::os::unix::net::UnixListener::bind(path);
        let socket = socket.map_err(|error| Error::io("bind", at, error))?;
        let file = SocketFile(path.to_owned());
        Ok(Box::new(Supervised { listener: UnixTransport::new().adopt(socket, options)?, file }))
    }
}

#[async_trait]
impl Listener for Supervised {
    fn local_endpoint(&self) -> &Endpoint {
        self.listener.local_endpoint()
    }

    async fn accept(&mut self) -> Result<Incoming, Error> {
        self.listener.accept().await
    }

    async fn close(self: Box<Self>) -> Result<(), Error> {
        let Self { listener, file } = *self;
        let closed = listener.close().await;
        drop(file);
        closed
    }
}

transport_conformance!(inherited_unix, || {
    let directory = TempDir::new();
    let at = Endpoint::unix(directory.0.join("a.sock")).unwrap();
    Subject::new(InheritingUnix, at).keeping(directory)
});

/// Futures of claims run on any thread of a runtime, and so do what they give.
#[test]
fn claims_can_move_between_threads() {
    fn assert_send<T: Send>(_: &T) {}
    let directory = TempDir::new();
    let runtime_directory = ipc_transport::RuntimeDirectory::at(&directory.0).unwrap();
    let options = LeaseOptions::default();
    assert_send(&Lease::claim(&runtime_directory, "a", &options));
}
