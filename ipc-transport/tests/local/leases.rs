//! Who gets an address: races, crashes, late closes, and what stands in the way.

use std::{
    fs::{self, File},
    future::poll_fn,
    os::unix::{
        fs::{MetadataExt as _, symlink},
        net::UnixListener as StdUnixListener,
    },
    pin::pin,
    sync::{Barrier, Mutex},
    task::Poll,
    thread,
};

use async_trait::async_trait;
use futures_util::future::join_all;
use ipc_testkit::process::{repetitions, rounds};
use ipc_transport::{
    Answer, ConnectHello, Endpoint, Error, Hello, Lease, LeaseOptions, ListenOptions, RuntimeDirectory,
};

use super::support::{
    Role, TempDir, connect, echo, leave_stale_socket, listen, serve_echo, wait_until_silent, watchdog,
};

/// the refusal names the process, however many try at once, and the first keeps serving.
#[tokio::test]
async fn a_second_server_is_refused_and_told_which_process_serves() {
    let directory = TempDir::new();
    let at = directory.endpoint("a.sock");
    let first = Role::start("serve", &[&at.to_string()]);
    assert_eq!(first.hear(), "listening");
    let starts = repetitions(50, 200);
    println!("{starts} starts over a live address");
    for batch in 0..starts.div_ceil(10) {
        let racing = (10 * batch..starts.min(10 * batch + 10)).map(|_| listen(&at));
        for outcome in watchdog(join_all(racing)).await {
            let error = outcome.unwrap_err();
            assert!(
                matches!(&error, Error::AddrInUse { holder: Some(pid), .. } if *pid == first.pid()),
                "{error}"
            );
            assert!(error.to_string().contains(&first.pid().to_string()));
        }
        watchdog(async { echo(connect(&at).await.unwrap(), b"still there").await.unwrap() }).await;
    }
}

/// The start race of the threat model: 16 starters over a stale socket, and some rounds with fewer.
#[test]
fn of_racing_starters_over_a_stale_socket_exactly_one_wins() {
    const LANES: usize = 4;
    let seeds: Vec<u64> = rounds(2_000, 10_000).collect();
    println!("{} races of 16 starters", seeds.len());
    let lanes = seeds.chunks(seeds.len().div_ceil(LANES).max(1));
    let lanes: Vec<_> = lanes.map(<[u64]>::to_vec).map(|seeds| thread::spawn(move || race(&seeds))).collect();
    for lane in lanes {
        lane.join().unwrap();
    }
}

/// Races 16 starters, each on its own thread, once for each seed; then an eighth as often 2 to 15 of them.
///
/// The seed says what a race finds in the directory, how long each starter hesitates, and how it waits for its lock.
fn race(seeds: &[u64]) {
    const STARTERS: usize = 16;
    let fewer = seeds.len().div_ceil(8);
    let races: Vec<(u64, bool)> = seeds
        .iter()
        .map(|seed| (*seed, true))
        .chain(seeds[..fewer].iter().map(|seed| (*seed, false)))
        .collect();
    let directory = TempDir::new();
    let (gate, outcomes) = (Barrier::new(STARTERS), Mutex::new(Vec::new()));
    thread::scope(|scope| {
        for starter in 0..STARTERS {
            let (directory, gate, outcomes, races) = (&directory, &gate, &outcomes, &races);
            scope.spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                for (round, (seed, all)) in races.iter().enumerate() {
                    // Every starter draws the same, and then goes its own way.
                    let mut random = fastrand::Rng::with_seed(*seed);
                    let racing = if *all { STARTERS } else { random.usize(2..STARTERS) };
                    // Every few rounds the lock file is missing too, as on a machine's first day.
                    let name =
                        if random.u8(..5) == 0 { format!("{round}.sock") } else { "a.sock".to_owned() };
                    let recorded = random.u8(..3) == 0;
                    // What the lease itself draws comes from this thread's generator.
                    fastrand::seed(seed.wrapping_add(starter as u64));
                    let at = directory.endpoint(&name);
                    if starter == 0 {
                        leave_stale_socket(at.unix_path().unwrap());
                        if recorded {
                            fs::write(directory.file(&format!("{name}.lock")), record_of_the_dead()).unwrap();
                        }
                        outcomes.lock().unwrap().clear();
                    }
                    let hesitation = fastrand::u32(..200);
                    gate.wait();
                    (0..hesitation).for_each(|_| std::hint::spin_loop());
                    let mut listener = None;
                    if starter < racing {
                        let outcome = runtime.block_on(async {
                            let listening = listen(&at).await?;
                            listener = Some(listening);
                            connect(&at).await.map(drop)
                        });
                        outcomes.lock().unwrap().push(outcome.map_err(|error| format!("{error:?}")));
                    }
                    gate.wait();
                    // Nobody panics before all are through the gate: the others would wait there for ever.
                    let outcomes = outcomes.lock().unwrap().clone();
                    if let Some(listener) = listener {
                        runtime.block_on(listener.close()).unwrap();
                    }
                    gate.wait();
                    let winners = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
                    let refused = |outcome: &&Result<(), String>| {
                        outcome.as_ref().is_err_and(|error| error.starts_with("AddrInUse"))
                    };
                    let losers = outcomes.iter().filter(refused).count();
                    assert_eq!(
                        (winners, losers),
                        (1, racing - 1),
                        "run it alone with IPC_STRESS=1 IPC_SEED={seed}: {outcomes:?}"
                    );
                }
            });
        }
    });
}

/// What a killed holder leaves in its lock file.
fn record_of_the_dead() -> String {
    let namespace = fs::metadata("/proc/self/ns/pid").map_or(0, |metadata| metadata.ino());
    // Larger than any id that the system gives.
    format!("{} {namespace}\n", i32::MAX)
}

/// X-02, P-31: a start after a kill -9 succeeds at once.
#[tokio::test]
async fn the_socket_of_a_killed_server_does_not_hinder_its_successor() {
    let directory = TempDir::new();
    let at = directory.endpoint("a.sock");
    for _ in 0..repetitions(100, 1_000) {
        let server = Role::start("serve", &[&at.to_string()]);
        assert_eq!(server.hear(), "listening");
        server.kill();
        assert!(at.unix_path().unwrap().exists());
    }
    let listener = watchdog(listen(&at)).await.unwrap();
    assert_eq!(directory.list(), ["a.sock", "a.sock.lock"]);
    listener.close().await.unwrap();
    assert_eq!(directory.list(), ["a.sock.lock"]);
}

/// wherever a claimer is killed, nothing that it leaves hinders the next.
#[tokio::test]
async fn a_claimer_killed_at_any_step_hinders_nobody() {
    let directory = TempDir::new();
    let at = directory.endpoint("a.sock");
    for step in ["Opened", "Locked", "Recorded", "Silent", "Bound", "Published"] {
        for stale in [false, true] {
            if stale {
                leave_stale_socket(at.unix_path().unwrap());
            }
            let claimer = Role::start("stop_at", &[&at.to_string(), step]);
            assert_eq!(claimer.hear(), "stopped");
            claimer.kill();
            let listener = watchdog(listen(&at)).await.unwrap();
            watchdog(connect(&at)).await.unwrap();
            listener.close().await.unwrap();
            assert_eq!(directory.list(), ["a.sock.lock"], "{step}");
        }
    }
}

/// the old server's close comes after its successor started (its lock file was removed meanwhile).
#[tokio::test]
async fn a_late_close_leaves_the_successors_socket_alone() {
    let directory = TempDir::new();
    let at = directory.endpoint("a.sock");
    for closing in [true, false] {
        let old = listen(&at).await.unwrap();
        fs::remove_file(directory.file("a.sock.lock")).unwrap();
        fs::remove_file(directory.file("a.sock")).unwrap();
        let successor = listen(&at).await.unwrap();
        if closing {
            old.close().await.unwrap();
        } else {
            drop(old);
        }
        assert_eq!(directory.list(), ["a.sock", "a.sock.lock"]);
        watchdog(connect(&at)).await.unwrap();
        successor.close().await.unwrap();
        assert_eq!(directory.list(), ["a.sock.lock"]);
    }
}

/// whatever is no socket is refused and untouched, for a listener and for a dialler.
#[tokio::test]
async fn what_is_no_socket_is_left_untouched() {
    let directory = TempDir::new();
    let elsewhere = TempDir::new();
    let target = elsewhere.endpoint("target.sock");
    let _serving = listen(&target).await.unwrap();
    fs::write(directory.file("file"), "precious").unwrap();
    fs::create_dir(directory.file("directory")).unwrap();
    symlink(target.unix_path().unwrap(), directory.file("link")).unwrap();
    symlink("/nowhere/at/all", directory.file("dangling")).unwrap();
    for (name, kind) in [
        ("file", "a regular file"),
        ("directory", "a directory"),
        ("link", "a symbolic link"),
        ("dangling", "a symbolic link"),
    ] {
        let at = directory.endpoint(name);
        let error = listen(&at).await.unwrap_err();
        assert!(matches!(&error, Error::Obstructed { found, .. } if *found == kind), "{name}: {error}");
    }
    for name in ["file", "directory"] {
        let error = connect(&directory.endpoint(name)).await.unwrap_err();
        assert!(matches!(&error, Error::Obstructed { .. }), "{name}: {error}");
    }
    assert_eq!(fs::read_to_string(directory.file("file")).unwrap(), "precious");
    assert!(directory.file("directory").is_dir());
    assert_eq!(fs::read_link(directory.file("link")).unwrap(), target.unix_path().unwrap());
    assert_eq!(fs::read_link(directory.file("dangling")).unwrap().to_str(), Some("/nowhere/at/all"));
    assert!(target.unix_path().unwrap().exists());
}

/// the same for what stands where the lock file should be.
#[tokio::test]
async fn a_lock_file_that_is_none_is_left_untouched() {
    let directory = TempDir::new();
    fs::write(directory.file("target"), "precious").unwrap();
    symlink(directory.file("target"), directory.file("link.lock")).unwrap();
    fs::create_dir(directory.file("directory.lock")).unwrap();
    fs::hard_link(directory.file("target"), directory.file("linked.lock")).unwrap();
    for name in ["link", "directory", "linked"] {
        let error = listen(&directory.endpoint(name)).await.unwrap_err();
        assert!(matches!(&error, Error::Obstructed { .. }), "{name}: {error}");
    }
    assert_eq!(fs::read_to_string(directory.file("target")).unwrap(), "precious");
}

/// a live listener that knows nothing of leases is not displaced either.
#[tokio::test]
async fn a_live_listener_without_a_lease_is_not_displaced() {
    let directory = TempDir::new();
    let at = directory.endpoint("a.sock");
    let stranger = std::os::unix::net::UnixListener::bind(at.unix_path().unwrap()).unwrap();
    for _ in 0..2 {
        let error = watchdog(listen(&at)).await.unwrap_err();
        assert!(
            matches!(&error, Error::AddrInUse { holder: Some(pid), .. } if *pid == std::process::id()),
            "{error}"
        );
    }
    drop(stranger);
    wait_until_silent(at.unix_path().unwrap());
    watchdog(listen(&at)).await.unwrap();
}

/// The lock outlives its holder in a forked child: the claimer is told, whether the child has the listener or not.
#[tokio::test]
async fn a_lease_kept_by_a_forked_child_is_told_as_such() {
    for what in ["lock", "all"] {
        let directory = TempDir::new();
        let at = directory.endpoint("a.sock");
        let holder = Role::start("leave_to_fork", &[&at.to_string(), what]);
        let child: i32 = holder.hear().parse().unwrap();
        let pid = holder.pid();
        let error = watchdog(listen(&at)).await.unwrap_err();
        assert!(matches!(&error, Error::AddrInUse { holder: Some(of), .. } if *of == pid), "{what}: {error}");
        holder.kill();
        let error = watchdog(listen(&at)).await.unwrap_err();
        assert!(matches!(&error, Error::LeaseHeldByFork { holder, .. } if *holder == pid), "{what}: {error}");
        let child = rustix::process::Pid::from_raw(child).unwrap();
        rustix::process::kill_process(child, rustix::process::Signal::KILL).unwrap();
        // Nobody waits for the orphan here, so its end shows by its lock being free.
        watchdog(async {
            while listen(&at).await.is_err() {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }
}

/// P-31, with a name in the runtime directory: a crashed holder's files do not prevent a restart.
#[tokio::test]
async fn a_crashed_holder_of_a_name_does_not_prevent_a_restart() {
    let directory = TempDir::new();
    let runtime_directory = RuntimeDirectory::at(directory.path()).unwrap();
    let holder = Role::start("serve_name", &[directory.path().to_str().unwrap(), "consumer"]);
    assert_eq!(holder.hear(), "listening");
    let options = LeaseOptions::default();
    let error = watchdog(Lease::claim(&runtime_directory, "consumer", &options)).await.unwrap_err();
    assert!(matches!(&error, Error::AddrInUse { holder: Some(pid), .. } if *pid == holder.pid()), "{error}");
    holder.kill();
    assert_eq!(directory.list(), ["consumer.lock", "consumer.sock"]);
    let lease = watchdog(Lease::claim(&runtime_directory, "consumer", &options)).await.unwrap();
    let at = lease.endpoint().clone();
    let serving = tokio::spawn(serve_echo(lease.listen(&ListenOptions::default()).unwrap()));
    watchdog(async { echo(connect(&at).await.unwrap(), b"again").await.unwrap() }).await;
    serving.abort();
    let _ = serving.await;
    assert_eq!(directory.list(), ["consumer.lock"]);
}

#[tokio::test]
async fn a_lease_without_a_listener_keeps_others_out_and_is_released_by_drop() {
    let directory = TempDir::new();
    let runtime_directory = RuntimeDirectory::at(directory.path()).unwrap();
    let options = LeaseOptions::default();
    let lease = Lease::claim(&runtime_directory, "a", &options).await.unwrap();
    let error = Lease::claim(&runtime_directory, "a", &options).await.unwrap_err();
    assert!(
        matches!(&error, Error::AddrInUse { holder: Some(pid), .. } if *pid == std::process::id()),
        "{error}"
    );
    drop(lease);
    Lease::claim(&runtime_directory, "a", &options).await.unwrap();
}

/// A claim that is dropped at any of its await points leaves no lock and no socket, and hinders no later one.
#[tokio::test]
async fn a_claim_can_be_dropped_at_every_await_point() {
    enum By {
        Holder,
        StaleSocket,
        Stranger,
    }

    for occupied in [By::Holder, By::StaleSocket, By::Stranger] {
        let temporary = TempDir::new();
        let directory = RuntimeDirectory::at(temporary.path()).unwrap();
        let socket = temporary.file("a.sock");
        let (mut holder, mut stranger) = (None, None);
        match occupied {
            By::Holder => {
                let lease = Lease::claim(&directory, "a", &LeaseOptions::default()).await.unwrap();
                holder = Some(lease.listen(&ListenOptions::default()).unwrap());
            }
            By::StaleSocket => leave_stale_socket(&socket),
            By::Stranger => stranger = Some(StdUnixListener::bind(&socket).unwrap()),
        }
        let options = LeaseOptions::default().with_hello(HesitantHello);
        let mut points = 0;
        let outcome = loop {
            let claim = Lease::claim(&directory, "a", &options);
            if let Some(outcome) = watchdog(poll_at_most(points + 1, claim)).await {
                break outcome;
            }
            points += 1;
            assert_eq!(temporary.list(), ["a.lock", "a.sock"]);
            if holder.is_none() {
                File::open(temporary.file("a.lock")).unwrap().try_lock().unwrap();
            }
        };
        // There was something to be dropped at: pauses for a lock that is taken, hesitation for a socket.
        assert!(points > 1, "{points}");
        if holder.is_some() || stranger.is_some() {
            let error = outcome.unwrap_err();
            assert!(matches!(&error, Error::AddrInUse { .. }), "{error}");
            watchdog(connect(&directory.endpoint("a").unwrap())).await.unwrap();
        } else {
            drop(outcome.unwrap());
        }
        drop((holder, stranger));
        if socket.exists() {
            wait_until_silent(&socket);
        }
        let lease = watchdog(Lease::claim(&directory, "a", &options)).await.unwrap();
        let listener = lease.listen(&ListenOptions::default()).unwrap();
        watchdog(connect(listener.local_endpoint())).await.unwrap();
        listener.close().await.unwrap();
        assert_eq!(temporary.list(), ["a.lock"]);
    }
}

/// Has await points before and after its connect.
#[derive(Debug)]
struct HesitantHello;

#[async_trait]
impl Hello for HesitantHello {
    async fn hello(&self, at: &Endpoint) -> Result<Answer, Error> {
        tokio::task::yield_now().await;
        let answer = ConnectHello.hello(at).await;
        tokio::task::yield_now().await;
        answer
    }
}

/// Polls a future whenever it asks for it, and drops it when it has been polled so often and is not ready.
async fn poll_at_most<T>(times: usize, future: impl Future<Output = T>) -> Option<T> {
    let mut future = pin!(future);
    let mut polls = 0;
    poll_fn(|cx| {
        polls += 1;
        match future.as_mut().poll(cx) {
            Poll::Ready(value) => Poll::Ready(Some(value)),
            Poll::Pending if polls == times => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}
