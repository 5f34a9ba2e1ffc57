//! Interleavings of claims that are forced step by step, and lock files that disappear under their holders.

use std::{
    fs::{self, File},
    path::Path,
    sync::mpsc,
    thread,
    time::Duration,
};

use ipc_transport::{
    Endpoint, Error, Lease, LeaseOptions, LeaseStep, ListenOptions, Listener, RuntimeDirectory,
    Transport as _, UnixTransport,
};

use super::support::{
    TempDir, connect, echo, leave_stale_socket, listen, serve_echo, wait_until_silent, watchdog,
};

/// A starter on a thread of its own that stops at one step of its claim until it is told to go on.
struct Stopped {
    go_on: mpsc::Sender<()>,
    outcome: mpsc::Receiver<Result<(), Error>>,
    close: mpsc::Sender<()>,
}

impl Stopped {
    /// Returns when the starter has reached the step for the first time.
    fn at(step: LeaseStep, endpoint: &Endpoint) -> Self {
        let (go_on, may_go_on) = mpsc::channel::<()>();
        let (reached, is_reached) = mpsc::channel();
        let (outcome, has_outcome) = mpsc::channel();
        let (close, is_closed) = mpsc::channel::<()>();
        let may_go_on = std::sync::Mutex::new(Some(may_go_on));
        let options = LeaseOptions::default().on_step(move |at| {
            if at == step
                && let Some(may_go_on) = may_go_on.lock().unwrap().take()
            {
                reached.send(()).unwrap();
                may_go_on.recv_timeout(WATCHDOG).unwrap();
            }
        });
        let endpoint = endpoint.clone();
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let transport = UnixTransport::new().lease(options);
            let listener = runtime.block_on(transport.listen(&endpoint, &ListenOptions::default()));
            let (listener, result) = match listener {
                Ok(listener) => (Some(listener), Ok(())),
                Err(error) => (None, Err(error)),
            };
            outcome.send(result).unwrap();
            // Holds what it won until the test is done with it.
            let _ = is_closed.recv_timeout(WATCHDOG);
            drop(listener);
        });
        is_reached.recv_timeout(WATCHDOG).unwrap();
        Self { go_on, outcome: has_outcome, close }
    }

    /// Lets it go on; how its claim ends, and what keeps its listener open.
    fn go_on(self) -> (Result<(), Error>, mpsc::Sender<()>) {
        self.go_on.send(()).unwrap();
        (self.outcome.recv_timeout(WATCHDOG).unwrap(), self.close)
    }
}

/// the first saw the stale file and is about to replace it; the second comes along and finds it stale too.
#[tokio::test]
async fn two_starters_over_one_stale_file_have_one_winner() {
    for step in
        [LeaseStep::Locked, LeaseStep::Recorded, LeaseStep::Silent, LeaseStep::Bound, LeaseStep::Published]
    {
        let directory = TempDir::new();
        let at = directory.endpoint("a.sock");
        leave_stale_socket(at.unix_path().unwrap());
        let first = Stopped::at(step, &at);
        let second = watchdog(listen(&at)).await;
        assert!(matches!(second, Err(Error::AddrInUse { .. })), "{step:?}: {second:?}");
        let (outcome, _open) = first.go_on();
        assert!(outcome.is_ok(), "{step:?}: {outcome:?}");
        watchdog(connect(&at)).await.unwrap();
    }
}

/// the first is overtaken before it locks.
#[tokio::test]
async fn a_starter_that_is_overtaken_before_it_locks_loses() {
    let directory = TempDir::new();
    let at = directory.endpoint("a.sock");
    leave_stale_socket(at.unix_path().unwrap());
    let first = Stopped::at(LeaseStep::Opened, &at);
    let _second = watchdog(listen(&at)).await.unwrap();
    let (outcome, _) = first.go_on();
    assert!(
        matches!(outcome, Err(Error::AddrInUse { holder: Some(pid), .. }) if pid == std::process::id()),
        "{outcome:?}"
    );
    watchdog(connect(&at)).await.unwrap();
}

/// the lock file is removed under the first, which then locks a file that has no name.
#[tokio::test]
async fn a_lock_on_a_removed_file_wins_nothing() {
    for step in [LeaseStep::Opened, LeaseStep::Locked] {
        let directory = TempDir::new();
        let at = directory.endpoint("a.sock");
        leave_stale_socket(at.unix_path().unwrap());
        let first = Stopped::at(step, &at);
        fs::remove_file(directory.file("a.sock.lock")).unwrap();
        let _second = watchdog(listen(&at)).await.unwrap();
        let (outcome, _) = first.go_on();
        assert!(matches!(outcome, Err(Error::AddrInUse { .. })), "{step:?}: {outcome:?}");
        watchdog(connect(&at)).await.unwrap();
    }
}

/// what appears at the path in the last moment is not overwritten, a socket as little as a file.
#[tokio::test]
async fn what_appears_in_the_last_moment_is_not_removed() {
    for stale in [false, true] {
        let directory = TempDir::new();
        let at = directory.endpoint("a.sock");
        let path = at.unix_path().unwrap();
        for with_file in [false, true] {
            let _ = fs::remove_file(path);
            if stale {
                leave_stale_socket(path);
            }
            let first = Stopped::at(LeaseStep::Bound, &at);
            let _ = fs::remove_file(path);
            let other = if with_file {
                fs::write(path, "precious").unwrap();
                None
            } else {
                Some(std::os::unix::net::UnixListener::bind(path).unwrap())
            };
            let (outcome, _) = first.go_on();
            if other.is_some() {
                assert!(matches!(outcome, Err(Error::AddrInUse { .. })), "{outcome:?}");
                watchdog(connect(&at)).await.unwrap();
            } else {
                assert!(matches!(outcome, Err(Error::Obstructed { .. })), "{outcome:?}");
                assert_eq!(fs::read_to_string(path).unwrap(), "precious");
            }
            assert_eq!(directory.list(), ["a.sock", "a.sock.lock"]);
        }
    }
}

/// The lock file is removed under a serving holder: a claimer that locks the new one says hello and lets go, and the
/// holder gets its lease back, having served all the while.
#[tokio::test]
async fn a_holder_whose_lock_file_was_removed_gets_its_lease_back() {
    let directory = TempDir::new();
    let at = directory.endpoint("a.sock");
    // A holder that a slow machine keeps waiting is not to give up.
    let options = LeaseOptions::default().with_reclaim(Duration::from_secs(60));
    let listener = UnixTransport::new().lease(options).listen(&at, &ListenOptions::default()).await.unwrap();
    let serving = tokio::spawn(serve_echo(listener));
    for _ in 0..3 {
        fs::remove_file(directory.file("a.sock.lock")).unwrap();
        // The claimer has the new lock and has not yet said hello; the holder cannot have it back now.
        let claimer = loop {
            // The holder may have been quicker than the claimer; then the claimer waits in vain for its step.
            match try_stop(LeaseStep::Recorded, &at) {
                Some(claimer) => break claimer,
                None => fs::remove_file(directory.file("a.sock.lock")).unwrap(),
            }
        };
        watchdog(async { echo(connect(&at).await.unwrap(), b"serving").await.unwrap() }).await;
        let (outcome, _) = tokio::task::spawn_blocking(|| claimer.go_on()).await.unwrap();
        assert!(matches!(outcome, Err(Error::AddrInUse { .. })), "{outcome:?}");
        watchdog(async {
            while !is_locked(&directory) {
                tokio::task::yield_now().await;
            }
        })
        .await;
        watchdog(async { echo(connect(&at).await.unwrap(), b"serving").await.unwrap() }).await;
    }
    serving.abort();
    let _ = serving.await;
    assert_eq!(directory.list(), ["a.sock.lock"]);
}

/// As [`Stopped::at`], or `None` if the claim was refused before it reached the step.
fn try_stop(step: LeaseStep, endpoint: &Endpoint) -> Option<Stopped> {
    let (sender, receiver) = mpsc::channel();
    let endpoint = endpoint.clone();
    thread::spawn(move || {
        let stopped = std::panic::catch_unwind(|| Stopped::at(step, &endpoint));
        let _ = sender.send(stopped.ok());
    });
    receiver.recv_timeout(WATCHDOG).unwrap()
}

fn is_locked(directory: &TempDir) -> bool {
    let Ok(file) = File::open(directory.file("a.sock.lock")) else { return false };
    match file.try_lock() {
        // A program that another test is just starting may have a copy of the descriptor, so closing it is not enough.
        Ok(()) => file.unlock().is_err(),
        Err(_) => true,
    }
}

/// The new lock stays taken: the holder serves until the time for claiming again is over, and then says so.
#[tokio::test]
async fn a_lease_that_cannot_be_claimed_again_is_lost() {
    let directory = TempDir::new();
    let at = directory.endpoint("a.sock");
    let options = LeaseOptions::default().with_reclaim(Duration::from_millis(300));
    let listener = UnixTransport::new().lease(options).listen(&at, &ListenOptions::default()).await.unwrap();
    let serving = tokio::spawn(serve_echo(listener));
    let usurper = replace_lock(&directory);
    watchdog(async { echo(connect(&at).await.unwrap(), b"serving").await.unwrap() }).await;
    let error = watchdog(serving).await.unwrap();
    assert!(matches!(&error, Error::LeaseLost { .. }), "{error}");
    // The socket is the business of whoever has the lease now.
    assert_eq!(directory.list(), ["a.sock", "a.sock.lock"]);
    wait_until_silent(at.unix_path().unwrap());
    drop(usurper);
    watchdog(listen(&at)).await.unwrap();
}

/// A listener that lost its lease goes on to say so.
#[tokio::test]
async fn a_lost_lease_stays_lost() {
    let directory = TempDir::new();
    let at = directory.endpoint("a.sock");
    let options = LeaseOptions::default().with_reclaim(Duration::ZERO);
    let mut listener: Box<dyn Listener> =
        UnixTransport::new().lease(options).listen(&at, &ListenOptions::default()).await.unwrap();
    let usurper = replace_lock(&directory);
    for _ in 0..2 {
        let error = watchdog(listener.accept()).await.unwrap_err();
        assert!(matches!(&error, Error::LeaseLost { .. }), "{error}");
        assert!(listener.local_endpoint() == &at);
    }
    drop(usurper);
}

/// What stands in the way of the lock file is nobody's claim: the holder serves on, for as long as it takes.
#[tokio::test]
async fn a_holder_that_cannot_claim_again_for_another_reason_serves_on() {
    let directory = TempDir::new();
    let at = directory.endpoint("a.sock");
    let lock = directory.file("a.sock.lock");
    let options = LeaseOptions::default().with_reclaim(Duration::ZERO);
    let listener = UnixTransport::new().lease(options).listen(&at, &ListenOptions::default()).await.unwrap();
    let serving = tokio::spawn(serve_echo(listener));
    fs::create_dir(directory.file("away")).unwrap();
    exchange(&directory.file("away"), &lock);
    for _ in 0..3 {
        watchdog(async { echo(connect(&at).await.unwrap(), b"serving").await.unwrap() }).await;
    }
    fs::remove_dir(&lock).unwrap();
    watchdog(async {
        while !is_locked(&directory) {
            tokio::task::yield_now().await;
        }
    })
    .await;
    watchdog(async { echo(connect(&at).await.unwrap(), b"serving").await.unwrap() }).await;
    serving.abort();
}

fn exchange(one: &Path, other: &Path) {
    use rustix::fs::{CWD, RenameFlags, renameat_with};

    renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE).unwrap();
}

/// A time beyond what the clock can express.
#[tokio::test]
async fn a_holder_may_claim_again_for_ever() {
    let directory = TempDir::new();
    let at = directory.endpoint("a.sock");
    let options = LeaseOptions::default().with_reclaim(Duration::MAX);
    let listener = UnixTransport::new().lease(options).listen(&at, &ListenOptions::default()).await.unwrap();
    let serving = tokio::spawn(serve_echo(listener));
    let usurper = replace_lock(&directory);
    for _ in 0..3 {
        watchdog(async { echo(connect(&at).await.unwrap(), b"serving").await.unwrap() }).await;
    }
    assert!(!serving.is_finished());
    drop(usurper);
    serving.abort();
}

/// Removes the lock file and locks a new one at once, so that the holder cannot.
fn replace_lock(directory: &TempDir) -> File {
    let new = File::create(directory.file("new")).unwrap();
    new.try_lock().unwrap();
    fs::rename(directory.file("new"), directory.file("a.sock.lock")).unwrap();
    new
}

/// A cleaner of temporary files took the socket: it is made anew.
#[tokio::test]
async fn a_socket_that_was_removed_is_made_anew() {
    let directory = TempDir::new();
    let at = directory.endpoint("a.sock");
    let serving = tokio::spawn(serve_echo(listen(&at).await.unwrap()));
    for _ in 0..3 {
        fs::remove_file(directory.file("a.sock")).unwrap();
        dial_until_served(&at).await;
    }
    serving.abort();
    let _ = serving.await;
    assert_eq!(directory.list(), ["a.sock.lock"]);
}

/// The whole runtime directory was removed: the holder makes it anew, with its lock and its socket.
#[tokio::test]
async fn a_runtime_directory_that_was_removed_is_made_anew() {
    let temporary = TempDir::new();
    let path = temporary.file("runtime");
    let directory = RuntimeDirectory::at(&path).unwrap();
    let lease = Lease::claim(&directory, "a", &LeaseOptions::default()).await.unwrap();
    let at = lease.endpoint().clone();
    let serving = tokio::spawn(serve_echo(lease.listen(&ListenOptions::default()).unwrap()));
    for _ in 0..3 {
        fs::remove_dir_all(&path).unwrap();
        dial_until_served(&at).await;
        let again = RuntimeDirectory::at(&path).unwrap();
        let error = watchdog(Lease::claim(&again, "a", &LeaseOptions::default())).await.unwrap_err();
        assert!(matches!(&error, Error::AddrInUse { .. }), "{error}");
    }
    serving.abort();
}

async fn dial_until_served(at: &Endpoint) {
    watchdog(async {
        loop {
            // A connection that waited in the old socket's backlog ends without an echo.
            if let Ok(connection) = connect(at).await
                && echo(connection, b"anew").await.is_ok()
            {
                break;
            }
            tokio::task::yield_now().await;
        }
    })
    .await;
}

const WATCHDOG: Duration = Duration::from_secs(120);
