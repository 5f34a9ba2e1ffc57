//! What a holder writes into its lock file, for others to display: who it is.

use std::{fs::File, os::unix::fs::FileExt as _};

use rustix::{
    io::Errno,
    process::{Pid, getpid, test_kill_process},
};

/// The process that holds a lease, as it wrote itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) pid: u32,
    /// The pid namespace that the pid belongs to, where the system tells.
    namespace: u64,
}

impl Record {
    pub(super) fn own() -> Self {
        // The id of a process is positive.
        Self { pid: getpid().as_raw_nonzero().get().unsigned_abs(), namespace: own_namespace() }
    }

    /// The record in a lock file; `None` if nobody has ever held it, or released it in good order.
    pub(super) fn read(file: &File) -> Option<Self> {
        let mut bytes = [0; MAX_RECORD];
        let len = file.read_at(&mut bytes, 0).ok()?;
        let mut words = str::from_utf8(&bytes[..len]).ok()?.split_ascii_whitespace();
        Some(Self { pid: words.next()?.parse().ok()?, namespace: words.next()?.parse().ok()? })
    }

    /// Writes the record; a full disk takes nothing but the display from others.
    pub(super) fn write(self, file: &File) {
        let text = format!("{} {}\n", self.pid, self.namespace);
        let written = file.set_len(0).and_then(|()| file.write_all_at(text.as_bytes(), 0));
        if let Err(error) = written {
            tracing::debug!(%error, "the process id could not be written into the lock file");
        }
    }

    /// Removes the record when the lease is released.
    pub(super) fn clear(file: &File) {
        if let Err(error) = file.set_len(0) {
            tracing::debug!(%error, "the process id could not be removed from the lock file");
        }
    }

    /// Whether the process is certainly gone; an id of another namespace tells nothing.
    pub(super) fn is_gone(self) -> bool {
        self.namespace == own_namespace() && is_gone(self.pid)
    }
}

/// Whether no process has this id.
pub(super) fn is_gone(pid: u32) -> bool {
    let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) else { return false };
    test_kill_process(pid) == Err(Errno::SRCH)
}

#[cfg(target_os = "linux")]
fn own_namespace() -> u64 {
    rustix::fs::stat("/proc/self/ns/pid").map_or(0, |stat| stat.st_ino)
}

#[cfg(not(target_os = "linux"))]
fn own_namespace() -> u64 {
    0
}

const MAX_RECORD: usize = 64;
