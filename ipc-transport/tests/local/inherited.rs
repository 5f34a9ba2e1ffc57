//! Sockets that somebody else opened: taken by name, shared by processes, never removed.

use std::{
    io,
    net::{TcpListener, TcpStream},
    os::{
        fd::OwnedFd,
        unix::net::{UnixListener, UnixStream},
    },
    process::{self, Command, Stdio},
};

use ipc_transport::{
    ConnectOptions, Endpoint, Error, Inherited, ListenOptions, TcpTransport, Transports, UnixTransport,
};
use socket2::{Domain, SockAddr, Socket, Type};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::support::{Role, TempDir, connect, listen, say, watchdog};

/// A process that serves an inherited socket, as a supervisor starts it: the socket is descriptor 3.
fn serve(socket: OwnedFd) -> Role {
    let variables = "LISTEN_FDS=1 LISTEN_PID=$$ LISTEN_FDNAMES=control";
    start("exec 3<&0 </dev/null", variables, socket.into(), "adopt")
}

/// A role with descriptors and variables that a shell arranges.
fn start(descriptors: &str, variables: &str, input: Stdio, role: &str) -> Role {
    let script = format!("{descriptors}; {variables} exec \"$0\" \"$@\"");
    let mut command = Command::new("sh");
    command.arg("-c").arg(script).arg(std::env::current_exe().unwrap());
    Role::start_with(command, input, role, &["control"])
}

/// The role: tells what the sockets are called.
pub(crate) fn names() {
    match Inherited::from_env() {
        Ok(inherited) => {
            assert_eq!(inherited.names().count(), inherited.len());
            say(format!("{:?}", inherited.names().collect::<Vec<_>>()));
        }
        Err(error) => say(format!("{:?}", error.kind())),
    }
}

/// The role: tells each dialler which process it is.
pub(crate) async fn adopt(name: &str) {
    let mut inherited = Inherited::from_env().unwrap();
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

/// What is not set, or is meant for another process, says nothing; each socket has the name at its own place.
#[test]
fn names_are_those_of_the_sockets_that_were_handed_over() {
    for (variables, names) in [
        ("", "[]"),
        ("LISTEN_FDNAMES=control", "[]"),
        ("LISTEN_FDS=1 LISTEN_PID=1 LISTEN_FDNAMES=control", "[]"),
        ("LISTEN_FDS=2 LISTEN_PID=1 LISTEN_FDNAMES=control", "[]"),
        ("LISTEN_FDS=1 LISTEN_PID=$$ LISTEN_FDNAMES=control", r#"["control"]"#),
        ("LISTEN_FDS=1 LISTEN_FDNAMES=control", r#"["control"]"#),
        ("LISTEN_FDS=2 LISTEN_PID=$$", r#"["unknown", "unknown"]"#),
        ("LISTEN_FDS=2 LISTEN_PID=$$ LISTEN_FDNAMES=:control", r#"["", "control"]"#),
        ("LISTEN_FDS=2 LISTEN_PID=$$ LISTEN_FDNAMES=control", "InvalidInput"),
        ("LISTEN_FDS=1 LISTEN_PID=$$ LISTEN_FDNAMES=control:", "InvalidInput"),
    ] {
        let role = start("unset LISTEN_FDS LISTEN_PID LISTEN_FDNAMES", variables, Stdio::null(), "names");
        assert_eq!(role.hear(), names, "{variables}");
        assert!(role.finish());
    }
}

/// A socket without a name before it does not move the names: `control` is the second descriptor.
#[tokio::test]
async fn a_name_belongs_to_the_socket_at_its_place() {
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = Endpoint::tcp(socket.local_addr().unwrap());
    let role = start(
        "exec 3</dev/null 4<&0 </dev/null",
        "LISTEN_FDS=2 LISTEN_PID=$$ LISTEN_FDNAMES=:control",
        OwnedFd::from(socket).into(),
        "adopt",
    );
    assert_eq!(role.hear(), at.to_string());
    assert_eq!(watchdog(who_serves(&at)).await.unwrap(), role.pid());
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

/// A fresh socket and a connected one are no listeners, and adopting them says so instead of the first accept.
#[cfg(not(target_vendor = "apple"))]
#[tokio::test]
async fn only_sockets_that_listen_are_adopted() {
    let directory = TempDir::new();
    let (path, options) = (directory.file("a.sock"), ListenOptions::default());
    let _unix_server = UnixListener::bind(&path).unwrap();
    let unix = [
        {
            let fresh = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
            fresh.bind(&SockAddr::unix(directory.file("b.sock")).unwrap()).unwrap();
            OwnedFd::from(fresh)
        },
        UnixStream::connect(&path).unwrap().into(),
    ];
    for socket in unix {
        let refused = UnixTransport::new().adopt(socket.into(), &options).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::InvalidInput, "{refused:?}");
    }
    let tcp_server = TcpListener::bind("127.0.0.1:0").unwrap();
    let tcp = [
        OwnedFd::from(Socket::new(Domain::IPV4, Type::STREAM, None).unwrap()),
        TcpStream::connect(tcp_server.local_addr().unwrap()).unwrap().into(),
    ];
    for socket in tcp {
        let refused = TcpTransport::new().adopt(socket.into(), &options).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::InvalidInput, "{refused:?}");
    }
}
