//! Being told when files change: inotify where there is one, nothing elsewhere.

use std::{io, path::Path};

#[cfg(target_os = "linux")]
use std::os::fd::OwnedFd;

#[cfg(target_os = "linux")]
use rustix::{
    fs::inotify::{self, CreateFlags, WatchFlags},
    io::Errno,
};
#[cfg(target_os = "linux")]
use tokio::io::unix::AsyncFd;

/// Tells that something may have changed. What it was, the caller finds out by looking.
#[derive(Debug)]
pub(crate) struct Watch {
    #[cfg(target_os = "linux")]
    inotify: AsyncFd<OwnedFd>,
}

#[cfg(target_os = "linux")]
impl Watch {
    pub(crate) fn new() -> io::Result<Self> {
        let inotify = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
        #[allow(
            deprecated,
            reason = "its successor is unsafe, and asks for what an owned descriptor promises anyway"
        )]
        let inotify = AsyncFd::with_interest(inotify, tokio::io::Interest::READABLE)?;
        Ok(Self { inotify })
    }

    /// Watches one file for being removed or renamed; adding it again renews the watch.
    pub(crate) fn add_file(&self, path: &Path) -> io::Result<()> {
        // Removing a file that is still open shows as a change of its number of names.
        self.add(path, WatchFlags::ATTRIB | WatchFlags::DELETE_SELF | WatchFlags::MOVE_SELF)
    }

    /// Watches a directory for files that appear and disappear in it.
    pub(crate) fn add_directory(&self, path: &Path) -> io::Result<()> {
        let flags = WatchFlags::CREATE
            | WatchFlags::DELETE
            | WatchFlags::MOVED_FROM
            | WatchFlags::MOVED_TO
            | WatchFlags::DELETE_SELF
            | WatchFlags::MOVE_SELF;
        self.add(path, flags | WatchFlags::ONLYDIR)
    }

    fn add(&self, path: &Path, flags: WatchFlags) -> io::Result<()> {
        inotify::add_watch(self.inotify.get_ref(), path, flags)?;
        Ok(())
    }

    /// Waits for something to happen and forgets what it was. Cancel safe: an event is consumed only on return.
    pub(crate) async fn changed(&self) {
        let mut buffer = [0; 4096];
        loop {
            // Without a driver there are no events; the callers do without them.
            let Ok(mut ready) = self.inotify.readable().await else { return std::future::pending().await };
            let read = ready.try_io(|inotify| Ok(rustix::io::read(inotify.get_ref(), &mut buffer)?));
            match read {
                Ok(Ok(_)) => return,
                Ok(Err(error)) if Errno::from_io_error(&error) == Some(Errno::INTR) => {}
                Ok(Err(_)) => return std::future::pending().await,
                Err(_would_block) => {}
            }
        }
    }
}

#[cfg(not(target_os = "linux"))]
impl Watch {
    pub(crate) fn new() -> io::Result<Self> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub(crate) fn add_file(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    pub(crate) fn add_directory(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    pub(crate) async fn changed(&self) {
        std::future::pending().await
    }
}
