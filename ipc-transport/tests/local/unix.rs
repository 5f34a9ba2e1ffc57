//! Unix sockets: modes, identity, abstract names, dying peers.

use std::{fs, os::unix::fs::PermissionsExt as _, process::Command, time::Duration};

use ipc_transport::{
    Access, ConnectOptions, Endpoint, Error, ListenOptions, PeerIdentity, Transport as _, UnixTransport,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::support::{Role, TempDir, connect, echo, listen, run_outside, say, serve_echo, watchdog};

#[tokio::test]
async fn both_sides_know_who_the_other_is() {
    let directory = TempDir::new();
    let at = directory.endpoint("a.sock");
    let mut listener = listen(&at).await.unwrap();
    let dialled = connect(&at).await.unwrap();
    let accepted = listener.accept().await.unwrap().establish().await.unwrap();
    for connection in [&dialled, &accepted] {
        let PeerIdentity::Process { uid, pid, .. } = connection.info().peer else { panic!("no identity") };
        assert_eq!(uid, rustix::process::geteuid().as_raw());
        assert_eq!(pid, Some(std::process::id()));
        assert_eq!(connection.info().remote, at);
    }
}

#[tokio::test]
async fn a_peer_that_is_not_admitted_is_turned_away_by_either_side() {
    let directory = TempDir::new();
    let at = directory.endpoint("a.sock");
    let nobody = || Access::custom(|_| false);
    let mut listener =
        UnixTransport::new().listen(&at, &ListenOptions::default().with_access(nobody())).await.unwrap();
    let (mut reader, _writer, _) = connect(&at).await.unwrap().into_parts();
    let error = listener.accept().await.unwrap().establish().await.unwrap_err();
    assert!(matches!(&error, Error::AccessDenied { .. }), "{error}");
    assert_eq!(watchdog(reader.read_u8()).await.unwrap_err().kind(), std::io::ErrorKind::UnexpectedEof);

    let options = ConnectOptions::default().with_access(nobody());
    let error = UnixTransport::new().connect(&at, &options).await.unwrap_err();
    assert!(matches!(&error, Error::AccessDenied { .. }), "{error}");
}

/// The socket is closed to others unless its access rule says otherwise, and never more open than that.
#[tokio::test]
async fn the_mode_of_a_socket_follows_from_who_is_let_in() {
    let directory = TempDir::new();
    let own_group = rustix::process::getegid().as_raw();
    for (options, mode) in [
        (ListenOptions::default(), 0o600),
        (ListenOptions::default().with_access(Access::SameUser), 0o600),
        (ListenOptions::default().with_access(Access::custom(|_| true)), 0o600),
        (ListenOptions::default().with_access(Access::Group(own_group)), 0o660),
        (ListenOptions::default().with_access(Access::Uids(vec![1])), 0o666),
        (ListenOptions::default().with_access(Access::Any), 0o666),
        (ListenOptions::default().with_access(Access::Any).with_mode(0o640), 0o640),
    ] {
        let at = directory.endpoint("a.sock");
        let _listener = UnixTransport::new().listen(&at, &options).await.unwrap();
        let found = fs::metadata(at.unix_path().unwrap()).unwrap().permissions().mode() & 0o777;
        assert_eq!(found, mode, "{options:?}");
        let lock = fs::metadata(directory.file("a.sock.lock")).unwrap().permissions().mode() & 0o777;
        assert_eq!(lock, 0o600);
    }
}

#[tokio::test]
async fn the_longest_path_that_the_system_allows_can_be_listened_at() {
    let directory = TempDir::new();
    let room = ipc_transport::MAX_UNIX_PATH - directory.path().as_os_str().len() - 1;
    let at = directory.endpoint(&"x".repeat(room));
    assert_eq!(at.unix_path().unwrap().as_os_str().len(), ipc_transport::MAX_UNIX_PATH);
    let serving = tokio::spawn(serve_echo(watchdog(listen(&at)).await.unwrap()));
    watchdog(async { echo(connect(&at).await.unwrap(), b"long").await.unwrap() }).await;
    serving.abort();
}

#[tokio::test]
async fn a_path_that_is_not_utf8_can_be_listened_at() {
    use std::os::unix::ffi::OsStrExt as _;

    let directory = TempDir::new();
    let at = Endpoint::unix(directory.path().join(std::ffi::OsStr::from_bytes(b"\xff%\n.sock"))).unwrap();
    let _listener = listen(&at).await.unwrap();
    watchdog(connect(&at.to_string().parse().unwrap())).await.unwrap();
}

#[tokio::test]
async fn an_abstract_name_has_one_listener_and_no_file() {
    let directory = TempDir::new();
    let at = Endpoint::unix_abstract(directory.path().as_os_str().as_encoded_bytes()).unwrap();
    assert!(matches!(connect(&at).await, Err(Error::ConnectionRefused { .. })));
    let listener = listen(&at).await.unwrap();
    assert_eq!(listener.local_endpoint(), &at);
    let error = listen(&at).await.unwrap_err();
    assert!(matches!(&error, Error::AddrInUse { holder: None, .. }), "{error}");
    let serving = tokio::spawn(serve_echo(listener));
    watchdog(async { echo(connect(&at).await.unwrap(), b"abstract").await.unwrap() }).await;
    assert!(directory.list().is_empty());
    serving.abort();
    let _ = serving.await;
    // A program that another test is just starting holds a copy of the listener until it runs.
    let again = watchdog(async {
        loop {
            match listen(&at).await {
                Err(Error::AddrInUse { .. }) => tokio::task::yield_now().await,
                listening => break listening.unwrap(),
            }
        }
    });
    again.await.close().await.unwrap();
}

#[test]
fn outside_a_runtime_there_is_an_error_and_no_panic() {
    let directory = TempDir::new();
    let at = directory.endpoint("a.sock");
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    for future in [
        Box::pin(async { listen(&at).await.err() }) as std::pin::Pin<Box<dyn Future<Output = Option<Error>>>>,
        Box::pin(async { connect(&at).await.err() }),
    ] {
        let mut future = future;
        let polled = future.as_mut().poll(&mut cx);
        assert!(matches!(&polled, std::task::Poll::Ready(Some(Error::NoRuntime))), "{polled:?}");
    }
    assert!(directory.list().is_empty());
}

/// Whatever a listener has to do, with or without trouble, its own runtime serves for it.
#[test]
fn accepting_and_establishing_go_on_outside_of_the_runtime() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let directory = TempDir::new();
    let at = directory.endpoint("a.sock");
    let mut listener = runtime.block_on(listen(&at)).unwrap();
    let mut accept_one = || {
        let to = at.clone();
        let dialled = runtime.spawn(watchdog(async move {
            loop {
                match connect(&to).await {
                    Ok(connection) => break echo(connection, b"inside").await.unwrap(),
                    Err(_) => tokio::task::yield_now().await,
                }
            }
        }));
        run_outside(async {
            let connection = listener.accept().await.unwrap().establish().await.unwrap();
            let (mut reader, mut writer, _) = connection.into_parts();
            let mut word = [0; 6];
            reader.read_exact(&mut word).await.unwrap();
            writer.write_all(&word).await.unwrap();
        });
        runtime.block_on(dialled).unwrap();
    };
    accept_one();
    // Somebody else has the lock, so the listener looks again and again.
    let usurper = fs::File::create(directory.file("new")).unwrap();
    usurper.try_lock().unwrap();
    fs::rename(directory.file("new"), directory.file("a.sock.lock")).unwrap();
    accept_one();
    drop(usurper);
    fs::remove_file(directory.file("a.sock.lock")).unwrap();
    accept_one();
    fs::remove_file(directory.file("a.sock")).unwrap();
    accept_one();
}

/// a deadline is kept by the monotonic clock, which a paused one stands for here.
#[tokio::test(start_paused = true)]
async fn a_dialler_gives_up_at_its_deadline_while_the_backlog_is_full() {
    let directory = TempDir::new();
    let at = directory.endpoint("a.sock");
    let options = ListenOptions::default().with_backlog(0);
    let _listener = UnixTransport::new().listen(&at, &options).await.unwrap();
    let patience = ConnectOptions::default().with_timeout(Duration::from_secs(3600));
    let mut waiting = Vec::new();
    let started = tokio::time::Instant::now();
    let error = loop {
        match UnixTransport::new().connect(&at, &patience).await {
            Ok(connection) => waiting.push(connection),
            Err(error) => break error,
        }
    };
    assert!(matches!(&error, Error::TimedOut { operation: "connect", .. }), "{error}");
    assert!(started.elapsed() >= patience.timeout);
}

/// nothing in the crate asks for the time of day.
#[test]
fn no_source_file_names_the_wall_clock() {
    fn visit(directory: &std::path::Path, files: &mut usize) {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                visit(&path, files);
            } else {
                *files += 1;
                let text = fs::read_to_string(&path).unwrap();
                for clock in ["SystemTime", "UNIX_EPOCH", "ClockId::Realtime"] {
                    assert!(!text.contains(clock), "{} names {clock}", path.display());
                }
            }
        }
    }
    let mut files = 0;
    visit(&std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut files);
    assert!(files > 20);
}

/// a write to a peer that died fails once it is known, and the signal for it is never raised. The program that
/// starts the role blocks the signal, so that it would stay pending even though Rust programs ignore it.
#[test]
fn writing_to_a_dying_peer_is_an_error_and_no_signal() {
    let mut command = Command::new("env");
    command.arg("--block-signal=PIPE").arg(std::env::current_exe().unwrap());
    let supported = Command::new("env").args(["--block-signal=PIPE", "true"]).output();
    if !supported.is_ok_and(|output| output.status.success()) {
        command = Command::new(std::env::current_exe().unwrap());
    }
    let role = Role::start_by(command, "dying_peer", &[]);
    assert_eq!(role.hear(), "no signal");
    assert!(role.finish());
}

pub(crate) async fn write_to_dying_peers() {
    let directory = TempDir::new();
    let transports = ipc_transport::Transports::default();
    for at in [directory.endpoint("a.sock"), "tcp://127.0.0.1:0".parse().unwrap()] {
        for vectored in [false, true] {
            let mut listener = transports.listen(&at, &ListenOptions::default()).await.unwrap();
            let to = listener.local_endpoint().clone();
            let (_reader, mut writer, _) =
                transports.connect(&to, &ConnectOptions::default()).await.unwrap().into_parts();
            drop(listener.accept().await.unwrap());
            listener.close().await.unwrap();
            let mut failures = 0;
            let kind = watchdog(async {
                loop {
                    let written = if vectored {
                        let slices = [std::io::IoSlice::new(b"to "), std::io::IoSlice::new(b"nobody")];
                        writer.write_vectored(&slices).await
                    } else {
                        writer.write(b"to nobody").await
                    };
                    match written {
                        // TCP learns of it by the answer to the first bytes.
                        Ok(_) => tokio::task::yield_now().await,
                        Err(_) if failures == 0 => failures += 1,
                        Err(error) => break error.kind(),
                    }
                }
            })
            .await;
            assert_eq!(kind, std::io::ErrorKind::BrokenPipe);
        }
    }
    let status = fs::read_to_string("/proc/thread-self/status").unwrap();
    for line in status.lines().filter(|line| line.starts_with("SigPnd") || line.starts_with("ShdPnd")) {
        let pending = u64::from_str_radix(line.split_whitespace().nth(1).unwrap(), 16).unwrap();
        assert_eq!(pending & (1 << 12), 0, "SIGPIPE is pending: {line}");
    }
    say("no signal");
}
