//! Modes: what is ours alone, what others may reach when asked for, and never more than that, not even for an instant.

use std::{
    env, fs,
    os::unix::fs::{FileTypeExt as _, MetadataExt as _},
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle},
};

use ipc_transport::{
    Access, Lease, LeaseOptions, LeaseStep, ListenOptions, RuntimeDirectory, Transport as _, UnixTransport,
};

use super::support::{Role, TempDir, say};

/// N-31: with no umask at all, which belongs to a process of its own, the directory is 0700, the socket 0600, and each
/// mode that is asked for is what the socket has, under its temporary name as well.
#[test]
fn sockets_are_never_more_open_than_asked_for() {
    let mut command = Command::new("sh");
    command.args(["-c", "umask 0; exec \"$0\" \"$@\""]).arg(env::current_exe().unwrap());
    let role = Role::start_by(command, "modes", &[]);
    assert_eq!(role.hear(), "the default is closed");
    assert_eq!(role.hear(), "never wider");
    assert!(role.finish());
}

pub(crate) async fn modes() {
    let temporary = TempDir::new();
    let path = temporary.file("app");
    let directory = RuntimeDirectory::at(&path).unwrap();
    let lease = Lease::claim(&directory, "kitchen", &LeaseOptions::default()).await.unwrap();
    let listener = lease.listen(&ListenOptions::default()).unwrap();
    let me = rustix::process::geteuid().as_raw();
    for (path, mode) in
        [(path.clone(), 0o700), (path.join("kitchen.sock"), 0o600), (path.join("kitchen.lock"), 0o600)]
    {
        let found = fs::metadata(&path).unwrap();
        assert_eq!((found.mode() & 0o7777, found.uid()), (mode, me), "{}", path.display());
    }
    listener.close().await.unwrap();
    say("the default is closed");

    // What node-ipc calls readableAll, writableAll and both stands among them.
    for mode in [0o600, 0o644, 0o622, 0o666, 0o640, 0o660, 0o400] {
        let at = temporary.endpoint("a.sock");
        let options = ListenOptions::default().with_access(Access::Any).with_mode(mode);
        let observer = Observer::start(temporary.path());
        let under_temporary_name = Arc::new(AtomicU32::new(0));
        let seen = under_temporary_name.clone();
        let place = temporary.file(".~a.sock");
        let lease = LeaseOptions::default().on_step(move |step| {
            if step == LeaseStep::Bound {
                seen.store(fs::metadata(&place).unwrap().mode() & 0o7777, Ordering::Relaxed);
            }
        });
        let transport = UnixTransport::new().lease(lease);
        for _ in 0..12 {
            let listener = transport.listen(&at, &options).await.unwrap();
            assert_eq!(under_temporary_name.load(Ordering::Relaxed), mode);
            observer.look_once_more();
            listener.close().await.unwrap();
        }
        let seen = observer.finish();
        assert_ne!(seen, 0, "it was seen at least under its final name");
        assert_eq!(seen & !(mode | 0o600), 0, "{seen:o} was seen when {mode:o} was asked for");
    }
    say("never wider");
}

/// Looks at the sockets of a directory all the time and notes every permission that one of them ever had.
struct Observer {
    seen: Arc<AtomicU32>,
    looks: Arc<AtomicUsize>,
    enough: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Observer {
    fn start(directory: &Path) -> Self {
        let (seen, looks) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicUsize::new(0)));
        let enough = Arc::new(AtomicBool::new(false));
        let thread = thread::spawn({
            let (seen, looks, enough) = (seen.clone(), looks.clone(), enough.clone());
            let places = [".~a.sock", "a.sock"].map(|name| directory.join(name));
            move || {
                while !enough.load(Ordering::Relaxed) {
                    for mode in places.iter().filter_map(mode_of_socket) {
                        seen.fetch_or(mode, Ordering::Relaxed);
                    }
                    looks.fetch_add(1, Ordering::Release);
                }
            }
        });
        Self { seen, looks, enough, thread }
    }

    /// Returns after a look that began after the call.
    fn look_once_more(&self) {
        let so_far = self.looks.load(Ordering::Acquire);
        while self.looks.load(Ordering::Acquire) < so_far + 2 {
            thread::yield_now();
        }
    }

    fn finish(self) -> u32 {
        self.enough.store(true, Ordering::Relaxed);
        self.thread.join().unwrap();
        self.seen.load(Ordering::Relaxed)
    }
}

fn mode_of_socket(path: &PathBuf) -> Option<u32> {
    let found = fs::symlink_metadata(path).ok()?;
    found.file_type().is_socket().then(|| found.mode() & 0o7777)
}
