//! Sockets that somebody else opened: taken by name, shared by processes, never removed.

use std::{
    net::TcpListener,
    os::{fd::OwnedFd, unix::net::UnixListener},
    process::{self, Command, Stdio},
};

use ipc_transport::{
    ConnectOptions, Endpoint, Error, Inherited, ListenOptions, TcpTransport, Transports, UnixTransport,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::support::{Role, TempDir, connect, listen, say, watchdog};

/// A process that serves an inherited socket, as a supervisor starts it: the socket is descriptor 3.
fn serve(socket: OwnedFd) -> Role {
    let script = "exec 3<&0 </dev/null; LISTEN_FDS=1 LISTEN_PID=$$ LISTEN_FDNAMES=control exec \"$0\" \"$@\"";
    let mut command = Command::new("sh");
    command.arg("-c").arg(script).arg(std::env::current_exe().unwrap());
    Role::start_with(command, Stdio::from(socket), "adopt", &["control"])
}

/// The role: tells each dialler which process it is.
pub(crate) async fn adopt(name: &str) {
    let mut inherited = Inherited::from_env();
    assert_eq!((inherited.len(), inherited.names().collect::<Vec<_>>()), (1, vec![name]));
    assert!(inherited.listener("other", &ListenOptions::default()).unwrap().is_none());
    let mut listener = inherited.listener(name, &ListenOptions::default()).unwrap().unwrap();
    assert!(inherited.listener(name, &ListenOptions::default()).unwrap().is_none(), "it was taken");
    say(listener.local_endpoint());
    loop {
        let (_, mut writer, _) = listener.accept().await.unwrap().establish().await.unwrap().into_parts();
        writer.write_all(process::id().to_string().as_bytes()).await.unwrap();
    }
}

async fn who_serves(at: &Endpoint) -> Result<u32, Error> {
    let (mut reader, _writer, _) =
        Transports::default().connect(at, &ConnectOptions::default()).await?.into_parts();
    let mut answer = String::new();
    reader.read_to_string(&mut answer).await.unwrap();
    Ok(answer.parse().unwrap())
}

/// Two processes on one socket: each connection is served by exactly one of them, by the other alone when one is
/// killed, and the socket outlives both.
#[tokio::test]
async fn processes_share_an_inherited_socket_and_leave_it_alone() {
    let directory = TempDir::new();
    let path = directory.file("a.sock");
    let unix = UnixListener::bind(&path).unwrap();
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    for socket in [OwnedFd::from(unix), OwnedFd::from(tcp)] {
        let (one, two) = (serve(socket.try_clone().unwrap()), serve(socket.try_clone().unwrap()));
        let at: Endpoint = one.hear().parse().unwrap();
        assert_eq!(two.hear(), at.to_string());
        for _ in 0..40 {
            let server = watchdog(who_serves(&at)).await.unwrap();
            assert!(server == one.pid() || server == two.pid());
        }
        let survivor = two.pid();
        one.kill();
        for _ in 0..10 {
            assert_eq!(watchdog(who_serves(&at)).await.unwrap(), survivor);
        }
        two.kill();
        // A supervisor that holds the socket loses no dialler: it waits for the next process.
        let waiting = tokio::spawn({
            let at = at.clone();
            async move { who_serves(&at).await }
        });
        let three = serve(socket);
        assert_eq!(watchdog(waiting).await.unwrap().unwrap(), three.pid());
        three.kill();
    }
    assert!(path.exists(), "the file is the supervisor's");
}

/// A socket that is adopted by hand keeps its file when the listener is closed; one without a name is no place to dial.
#[tokio::test]
async fn adopted_listeners_keep_their_file() {
    let directory = TempDir::new();
    let path = directory.file("a.sock");
    let at = directory.endpoint("a.sock");
    let options = ListenOptions::default();
    let mut listener = UnixTransport::new().adopt(UnixListener::bind(&path).unwrap(), &options).unwrap();
    assert_eq!(listener.local_endpoint(), &at);
    let (dialled, accepted) = tokio::join!(connect(&at), listener.accept());
    accepted.unwrap().establish().await.unwrap();
    dialled.unwrap();
    listener.close().await.unwrap();
    assert!(path.exists());
    // It is stale now, and a claim takes the place.
    listen(&at).await.unwrap().close().await.unwrap();
    let tcp = TcpTransport::new().adopt(TcpListener::bind("127.0.0.1:0").unwrap(), &options).unwrap();
    assert_eq!(tcp.local_endpoint().scheme(), "tcp");
}
