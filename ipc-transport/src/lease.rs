//! Leases: one holder per name, decided by a lock that the kernel frees when its holder dies.

use std::{
    fmt,
    fs::{File, TryLockError},
    sync::Arc,
    time::Duration,
};

use rustix::process::{Pid, getpid};
use tokio::time::{sleep, timeout};

use crate::{Endpoint, Error, ListenOptions, Listener, deadline::runtime, unix};

mod directory;
mod hello;
mod name;
mod record;
mod site;

pub use directory::{DangerousRuntimeDirectory, RuntimeDirectory};
pub use hello::{Answer, ConnectHello, Hello};
pub(crate) use site::{FileId, Sight, Site, kind_name, look};

use record::Record;

/// The exclusive right to a name and its socket, held until it is released or its process ends.
///
/// ```text
///  open <name>.lock ── lock it ──┬─ taken, after a few tries ──▶ AddrInUse, or LeaseHeldByFork
///        ▲                       │
///        └─ the name leads ──────┤
///           elsewhere by now     ▼
///                         is <name>.sock there? ── yes ── hello ── answered ──▶ release, AddrInUse
///                                │ no                       │ silent
///                                ▼                          ▼
///                          bind a temporary name, listen, rename over <name>.sock
/// ```
///
/// - Only claimers lock. Whether somebody lives is found out by connecting, never by trying the lock.
/// - The lock file is never removed, as a lock on a removed file holds nobody back. Should something else remove it,
///   say a cleaner of temporary files, a claimer may lock a new one; therefore it says hello to the socket before it
///   believes that it has won, and the holder claims the new file for itself.
/// - The lock file holds the id of its holder's process, for display.
///
/// A process that forks without executing another program hands its lock and its listener to the child, which keeps
/// both alive after the parent's death. A claimer tells this as [`Error::LeaseHeldByFork`]; the child itself never
/// releases them when it drops the lease.
#[derive(Debug)]
pub struct Lease {
    site: Site,
    file: File,
    /// The socket that stood there when the lease was claimed, and did not answer.
    stale: Option<Sight>,
    owner: Pid,
    options: LeaseOptions,
}

/// How to claim a lease.
#[derive(Clone)]
#[non_exhaustive]
pub struct LeaseOptions {
    /// How to find out whether a socket is served; [`ConnectHello`] by default.
    pub hello: Arc<dyn Hello>,
    /// How long a holder tries to get its lease back when its lock file was replaced, serving all the while, before
    /// it gives up with [`Error::LeaseLost`]. 2 s by default: a claimer that locked the new file by mistake lets go
    /// within milliseconds.
    pub reclaim: Duration,
    on_step: Option<StepHook>,
}

type StepHook = Arc<dyn Fn(LeaseStep) + Send + Sync>;

impl LeaseOptions {
    /// Sets [`LeaseOptions::hello`].
    #[must_use]
    pub fn with_hello(mut self, hello: impl Hello) -> Self {
        self.hello = Arc::new(hello);
        self
    }

    /// Sets [`LeaseOptions::reclaim`].
    #[must_use]
    pub fn with_reclaim(mut self, reclaim: Duration) -> Self {
        self.reclaim = reclaim;
        self
    }

    /// Calls a function at each step of a claim, which may block: tests force interleavings with it.
    #[doc(hidden)]
    #[must_use]
    pub fn on_step(mut self, hook: impl Fn(LeaseStep) + Send + Sync + 'static) -> Self {
        self.on_step = Some(Arc::new(hook));
        self
    }

    pub(crate) fn step(&self, step: LeaseStep) {
        if let Some(hook) = &self.on_step {
            hook(step);
        }
    }
}

impl Default for LeaseOptions {
    fn default() -> Self {
        Self { hello: Arc::new(ConnectHello), reclaim: Duration::from_secs(2), on_step: None }
    }
}

impl fmt::Debug for LeaseOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LeaseOptions")
            .field("hello", &self.hello)
            .field("reclaim", &self.reclaim)
            .finish_non_exhaustive()
    }
}

/// The steps of a claim, each before the next action.
#[doc(hidden)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LeaseStep {
    /// The lock file is open and not yet locked.
    Opened,
    /// The lock file is locked, and was not yet looked at again.
    Locked,
    /// The lease is ours; the socket was not yet looked at.
    Recorded,
    /// The socket that stands there did not answer, or there is none.
    Silent,
    /// The new socket listens under its temporary name.
    Bound,
    /// The new socket has its name.
    Published,
}

impl Lease {
    /// Claims a name in a runtime directory.
    ///
    /// # Errors
    ///
    /// [`Error::AddrInUse`] if another process holds it, [`Error::LeaseHeldByFork`] if nobody but a forked child of
    /// its former holder does, [`Error::Obstructed`] if something that is no socket stands in its place.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future releases whatever was claimed.
    pub async fn claim(
        directory: &RuntimeDirectory,
        name: &str,
        options: &LeaseOptions,
    ) -> Result<Self, Error> {
        Self::claim_site(Site::of_name(directory, name)?, options).await
    }

    /// Where the holder is to listen.
    pub fn endpoint(&self) -> &Endpoint {
        self.site.endpoint()
    }

    /// Listens at the lease's endpoint. The listener holds the lease from then on and releases it when it is closed
    /// or dropped.
    ///
    /// # Errors
    ///
    /// [`Error::Obstructed`] if something that is no socket came to stand there meanwhile, [`Error::Io`].
    pub fn listen(self, options: &ListenOptions) -> Result<Box<dyn Listener>, Error> {
        unix::listen_with(self, options)
    }

    pub(crate) async fn claim_site(site: Site, options: &LeaseOptions) -> Result<Self, Error> {
        runtime()?;
        let file = lock(&site, options).await?;
        let mut lease = Self { site, file, stale: None, owner: getpid(), options: options.clone() };
        Record::own().write(&lease.file);
        options.step(LeaseStep::Recorded);
        lease.stale = lease.find_stale().await?;
        options.step(LeaseStep::Silent);
        Ok(lease)
    }

    pub(crate) fn site(&self) -> &Site {
        &self.site
    }

    pub(crate) fn options(&self) -> &LeaseOptions {
        &self.options
    }

    pub(crate) fn stale(&self) -> Option<Sight> {
        self.stale
    }

    /// Whether the lease is still ours: its name leads to the file that we hold locked.
    pub(crate) fn is_intact(&self) -> bool {
        self.site.is_lock(&self.file)
    }

    /// Whether this process claimed it, and did not inherit it by a fork.
    pub(crate) fn is_own(&self) -> bool {
        self.owner == getpid()
    }

    /// Tries once to lock the file that the name leads to now, in place of the one that was removed.
    pub(crate) fn try_reclaim(&mut self) -> Result<bool, Error> {
        self.site.reopen()?;
        let file = self.site.open_lock()?;
        match file.try_lock() {
            Ok(()) if self.site.is_lock(&file) => {
                Record::own().write(&file);
                self.file = file;
                Ok(true)
            }
            Ok(()) | Err(TryLockError::WouldBlock) => Ok(false),
            Err(TryLockError::Error(error)) => Err(Error::io("claim again", self.site.endpoint(), error)),
        }
    }

    /// The socket at the site if nobody serves it; `AddrInUse` if somebody does.
    async fn find_stale(&self) -> Result<Option<Sight>, Error> {
        // When a process is killed the kernel frees its lock a moment before it closes its listener, and a child of it
        // between fork and exec has a copy of the listener for a moment longer.
        let mut holder = None;
        for attempt in 0..TRIES {
            if attempt > 0 {
                sleep(jitter()).await;
            }
            let Some(found) = self.site.find_socket()? else { return Ok(None) };
            match say_hello(&self.site, &self.options).await? {
                Answer::Refused => return Ok(Some(found)),
                Answer::Answered { pid } | Answer::Connected { pid } => holder = pid,
            }
        }
        Err(Error::AddrInUse { endpoint: self.site.endpoint().clone(), holder })
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if !self.is_own() {
            return;
        }
        Record::clear(&self.file);
        // Closing the file is not enough while a child between fork and exec has a copy of the descriptor.
        if let Err(error) = self.file.unlock() {
            tracing::debug!(%error, "a lock file could not be unlocked before it is closed");
        }
    }
}

/// Locks the lock file of a site, or says who holds it.
async fn lock(site: &Site, options: &LeaseOptions) -> Result<File, Error> {
    let mut taken = 0;
    let mut replaced = 0;
    loop {
        let file = site.open_lock()?;
        options.step(LeaseStep::Opened);
        match file.try_lock() {
            Ok(()) => {
                options.step(LeaseStep::Locked);
                if site.is_lock(&file) {
                    return Ok(file);
                }
                // The file was replaced between opening and locking.
                replaced += 1;
                if replaced == MAX_REPLACED {
                    return Err(Error::AddrInUse { endpoint: site.endpoint().clone(), holder: None });
                }
            }
            Err(TryLockError::WouldBlock) => {
                // It may be held by another claimer that is about to let go, or by a child between fork and exec.
                taken += 1;
                // A record of a process that is gone may soon be that of a claimer that has just won; only after a
                // while it tells of a forked child.
                let is_stale = Record::read(&file).is_some_and(Record::is_gone);
                if taken >= if is_stale { PATIENT_TRIES } else { TRIES } {
                    return Err(explain(site, &file, options).await?);
                }
                sleep(jitter()).await;
            }
            Err(TryLockError::Error(error)) => return Err(Error::io("lock", site.endpoint(), error)),
        }
    }
}

/// Why a lock is taken.
///
/// A holder that lives is not said hello to: it would have to accept and wonder about a connection that says nothing.
async fn explain(site: &Site, file: &File, options: &LeaseOptions) -> Result<Error, Error> {
    let in_use = |holder| Error::AddrInUse { endpoint: site.endpoint().clone(), holder };
    let Some(record) = Record::read(file) else { return Ok(in_use(None)) };
    if !record.is_gone() {
        return Ok(in_use(Some(record.pid)));
    }
    let answer = match site.find_socket()? {
        Some(_) => say_hello(site, options).await?,
        None => Answer::Refused,
    };
    Ok(match answer {
        Answer::Answered { pid } => in_use(pid.or(Some(record.pid))),
        // Somebody else listens there, with or without a lease of its own.
        Answer::Connected { pid: Some(pid) } if !record::is_gone(pid) => in_use(Some(pid)),
        // A claimer that has just won overwrites the record first thing, so a record that stays is the holder's.
        Answer::Connected { .. } | Answer::Refused if Record::read(file) == Some(record) => {
            Error::LeaseHeldByFork { name: site.endpoint().to_string(), holder: record.pid }
        }
        Answer::Connected { .. } | Answer::Refused => in_use(Record::read(file).map(|record| record.pid)),
    })
}

async fn say_hello(site: &Site, options: &LeaseOptions) -> Result<Answer, Error> {
    match timeout(HELLO_TIMEOUT, options.hello.hello(site.endpoint())).await {
        Ok(answer) => answer,
        Err(_) => Ok(Answer::Connected { pid: None }),
    }
}

fn jitter() -> Duration {
    Duration::from_micros(fastrand::u64(200..=5_000))
}

/// How often a claimer tries a lock that is taken, and says hello to a listener that may be dying.
const TRIES: u32 = 6;
/// The same while the lock file names a process that is gone; about a tenth of a second.
const PATIENT_TRIES: u32 = 40;
/// How often the lock file may be replaced under a claimer before it gives up; each time is somebody's mistake.
const MAX_REPLACED: u32 = 100;
const HELLO_TIMEOUT: Duration = Duration::from_secs(1);
