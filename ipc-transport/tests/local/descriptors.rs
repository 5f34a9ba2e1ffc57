//! Descriptors: running out of them, a crowd of connections, and none that leaks into children.

use std::{
    fs::File,
    future::{Future as _, poll_fn},
    io,
    pin::pin,
    process::{Command, Stdio},
    task::Poll,
    time::{Duration, Instant},
};

use ipc_transport::{ConnectOptions, Endpoint, ListenOptions, Transports};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::{
    secure::{open_transports, places, transports},
    support::{Role, TempDir, connect, echo, listen, say, serve_echo, watchdog},
};

pub(crate) fn limit_descriptors(most: u64) {
    let limit = getrlimit(Resource::Nofile);
    let current = Some(limit.maximum.map_or(most, |maximum| most.min(maximum)));
    setrlimit(Resource::Nofile, Rlimit { current, maximum: limit.maximum }).unwrap();
}

/// many more diallers than the backlog holds, all at once, in a process of their own. A refused connect request is
/// repeated by the kernel on TCP, after a second at first, so the backlog there is not as short.
#[test]
fn a_thousand_diallers_get_through_a_full_backlog() {
    let directory = TempDir::new();
    for (at, backlog) in places(&directory).iter().zip(["4", "128", "128"]) {
        let role = Role::start("crowd", &[&at.to_string(), backlog]);
        for hundreds in 1..=10 {
            assert_eq!(role.hear(), format!("{hundreds}00 served"));
        }
        assert!(role.finish());
    }
}

pub(crate) async fn crowd(at: &str, backlog: u32) {
    limit_descriptors(4096);
    let transports = transports();
    let options = ListenOptions::default().with_backlog(backlog);
    let listener = transports.listen(&at.parse().unwrap(), &options).await.unwrap();
    let at = listener.local_endpoint().clone();
    let diallers: Vec<_> = (0..1000)
        .map(|_| {
            let (transports, at) = (transports.clone(), at.clone());
            tokio::spawn(async move { call(&transports, &at).await })
        })
        .collect();
    // Only now does anybody accept: the backlog has been full for a while.
    tokio::task::yield_now().await;
    tokio::spawn(serve_echo(listener));
    for (index, dialler) in diallers.into_iter().enumerate() {
        if let Err(error) = dialler.await.unwrap() {
            panic!("dialler {index} of {at}: {error:?}");
        }
        if (index + 1) % 100 == 0 {
            say(format!("{} served", index + 1));
        }
    }
}

/// Dials until a word came back, within one deadline.
///
/// Over TCP a connect into a full listener does not count yet: where the backlog overflows, the kernel may drop a
/// connection that it has not handed over, and reset it later. Unix sockets know no such thing, so one dial has to do.
async fn call(transports: &Transports, at: &Endpoint) -> io::Result<()> {
    let deadline = Instant::now() + Duration::from_secs(300);
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let options = ConnectOptions::default().with_timeout(left);
        let (outcome, connected) = match transports.connect(at, &options).await {
            Ok(connection) => (echo(connection, b"x").await, true),
            Err(error) => (Err(io::Error::from(error)), false),
        };
        match outcome.as_ref().map_err(io::Error::kind) {
            Err(io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset | io::ErrorKind::NotConnected)
                if at.scheme() != "unix" => {}
            Err(io::ErrorKind::ConnectionRefused) if at.scheme() != "unix" && connected => {}
            _ => return outcome,
        }
    }
}

/// with no descriptor left, accepting pauses, longer each time, and goes on when there is one again.
#[tokio::test]
async fn accepting_waits_out_a_shortage_of_descriptors() {
    let (directory, transports) = (TempDir::new(), open_transports());
    for at in places(&directory) {
        let role = Role::start("starve", &[&at.to_string()]);
        let at: Endpoint = role.hear().parse().unwrap();
        let connection = transports.connect(&at, &ConnectOptions::default()).await.unwrap();
        watchdog(echo(connection, b"at last")).await.unwrap();
        assert_eq!(role.hear(), "recovered");
        assert!(role.finish());
    }
}

pub(crate) async fn starve(at: &str) {
    limit_descriptors(64);
    let at = at.parse().unwrap();
    let mut listener = open_transports().listen(&at, &ListenOptions::default()).await.unwrap();
    let mut hoard = Vec::new();
    while let Ok(file) = File::open("/dev/null") {
        hoard.push(file);
    }
    say(listener.local_endpoint());
    let started = Instant::now();
    let mut polls = 0;
    let mut accept = pin!(listener.accept());
    let incoming = poll_fn(|cx| {
        polls += 1;
        // Before the connection comes there may be one poll without a failure.
        if polls == 8 {
            // Six pauses are over by now; a busy loop would be here at once.
            assert!(started.elapsed() >= Duration::from_millis(5 + 10 + 20 + 40 + 80 + 160));
            hoard.clear();
        }
        accept.as_mut().poll(cx)
    })
    .await
    .unwrap();
    assert!(polls >= 8, "the connection was accepted although no descriptor was left");
    let (mut reader, mut writer, _) = incoming.establish().await.unwrap().into_parts();
    let mut word = [0; 7];
    reader.read_exact(&mut word).await.unwrap();
    writer.write_all(&word).await.unwrap();
    say("recovered");
}

/// The same for a listener that has to make its socket anew: it waits until there are descriptors for it.
#[test]
fn a_removed_socket_is_made_anew_after_a_shortage_of_descriptors() {
    let role = Role::start("starve_holder", &[]);
    assert_eq!(role.hear(), "recovered");
    assert!(role.finish());
}

pub(crate) async fn starve_holder() {
    let directory = TempDir::new();
    let at = directory.endpoint("a.sock");
    let mut listener = listen(&at).await.unwrap();
    limit_descriptors(64);
    std::fs::remove_file(directory.file("a.sock")).unwrap();
    let mut hoard = Vec::new();
    while let Ok(file) = File::open("/dev/null") {
        hoard.push(file);
    }
    let mut accept = Box::pin(listener.accept());
    for _ in 0..3 {
        poll_fn(|cx| match accept.as_mut().poll(cx) {
            Poll::Pending => Poll::Ready(()),
            Poll::Ready(outcome) => panic!("{outcome:?}"),
        })
        .await;
    }
    hoard.clear();
    let dialling = async {
        loop {
            match connect(&at).await {
                Ok(connection) => break connection,
                Err(_) => tokio::task::yield_now().await,
            }
        }
    };
    let (_dialled, accepted) = watchdog(async { tokio::join!(dialling, accept) }).await;
    accepted.unwrap().establish().await.unwrap();
    say("recovered");
}

/// a program that is started gets none of the sockets, locks and watches.
#[tokio::test]
async fn a_started_program_inherits_nothing() {
    let directory = TempDir::new();
    let transports = transports();
    let (mut open, mut listeners) = (Vec::new(), Vec::new());
    let without_a_file = Endpoint::unix_abstract(directory.path().as_os_str().as_encoded_bytes()).unwrap();
    for at in places(&directory).into_iter().chain([without_a_file]) {
        let mut listener = transports.listen(&at, &ListenOptions::default()).await.unwrap();
        let (to, options) = (listener.local_endpoint().clone(), ConnectOptions::default());
        let accepting = async { listener.accept().await.unwrap().establish().await };
        let (dialled, accepted) =
            watchdog(async { tokio::join!(transports.connect(&to, &options), accepting) }).await;
        open.extend([dialled.unwrap(), accepted.unwrap()]);
        listeners.push(listener);
    }
    let output = Command::new("ls")
        .args(["-l", "/proc/self/fd"])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .unwrap();
    let listing = String::from_utf8(output.stdout).unwrap();
    assert!(listing.contains("/proc/"), "{listing}");
    for kind in ["socket:", ".lock", "inotify"] {
        assert!(!listing.contains(kind), "{kind} in {listing}");
    }
}

/// A refused second start leaves no descriptor behind, nor does a cycle of listening and closing.
#[tokio::test]
async fn claims_that_fail_or_end_leave_no_lock_behind() {
    let directory = TempDir::new();
    let at = directory.endpoint("a.sock");
    for _ in 0..20 {
        let first = listen(&at).await.unwrap();
        assert!(listen(&at).await.is_err());
        first.close().await.unwrap();
    }
    // Other tests of this process have descriptors of their own; those of this directory are told by their path.
    let locks = std::fs::read_dir("/proc/self/fd")
        .unwrap()
        .filter_map(|entry| std::fs::read_link(entry.unwrap().path()).ok())
        .filter(|target| target.starts_with(directory.path()))
        .count();
    assert_eq!(locks, 0);
}
