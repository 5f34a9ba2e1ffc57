//! The runtime directory: where the names of one application on one machine live.

use std::{
    env, fmt,
    os::{fd::OwnedFd, unix::ffi::OsStrExt},
    path::{Path, PathBuf},
};

use rustix::{
    fs::{CWD, FileType, Mode, OFlags, Stat, fchmod, fstat, mkdirat, openat, stat},
    io::Errno,
    process::geteuid,
};

use super::name;
use crate::{Endpoint, Error};

/// A directory that only the own user can enter, with the sockets and locks of one application's names.
///
/// What is made sure of whenever it is opened:
///
/// | found | answer |
/// |---|---|
/// | nothing | made with mode 0700, whatever the umask |
/// | a directory of ours, closed to group and others | used |
/// | a directory of ours that group or others may read or search but not write | tightened to 0700 by [`RuntimeDirectory::open`], as its name says that it is the application's own; [`Error::UnsafeDirectory`] by [`RuntimeDirectory::at`], as it may serve other purposes |
/// | a directory of ours that group or others may write to | [`Error::UnsafeDirectory`]: they may have put things there already |
/// | a directory of somebody else | [`Error::UnsafeDirectory`] |
/// | a symbolic link, a file | [`Error::UnsafeDirectory`], untouched |
/// | a directory on a network file system | [`Error::UnsafeDirectory`], unless [`RuntimeDirectory::dangerous`] allowed it: locks do not hold between machines there (Linux tells; elsewhere this is not checked) |
///
/// It is opened anew, with all of these checks, for each claim and each look at a name: a directory that a cleaner of
/// temporary files removed is made again by the first who needs it, and found again by all others. Nobody keeps it
/// open who only looks, since the removal of an open directory is not told to those who watch it.
#[derive(Clone)]
pub struct RuntimeDirectory {
    path: PathBuf,
    checks: Checks,
}

/// What opening the directory makes sure of, apart from what it always does.
#[derive(Debug, Clone, Copy)]
struct Checks {
    parent: Parent,
    found: Found,
    network: Network,
}

impl RuntimeDirectory {
    /// The directory of an application: `$XDG_RUNTIME_DIR/<app>`, else `/run/<app>` for root, else
    /// `<tmp>/<app>-<uid>`. It is made if it is not there.
    ///
    /// `$XDG_RUNTIME_DIR` counts if it is an absolute path to a directory of the own user; `sudo` may leave one of
    /// another user in the environment. All processes of an application must come to the same choice, so they need
    /// the same environment in this respect.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidName`] if `app` is not a valid name, [`Error::UnsafeDirectory`] as said above.
    pub fn open(app: &str) -> Result<Self, Error> {
        let app = name::file_stem(app)?;
        let uid = geteuid();
        let tmp = env::temp_dir();
        let run = Path::new("/run");
        let (path, parent) =
            match env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|path| is_own(path)) {
                Some(xdg) => (xdg.join(app), Parent::Trusted),
                None if uid.is_root() && is_own(run) => (run.join(app), Parent::Trusted),
                None => (tmp.join(format!("{app}-{}", uid.as_raw())), Parent::Shared),
            };
        Self::new(path, Checks { parent, found: Found::Tightened, network: Network::Refused })
    }

    /// This very directory; it is made if it is not there, its parent is not.
    ///
    /// # Errors
    ///
    /// [`Error::UnsafeDirectory`] as said above, [`Error::Io`] if it cannot be made or opened.
    pub fn at(path: impl Into<PathBuf>) -> Result<Self, Error> {
        let checks = Checks { parent: Parent::Trusted, found: Found::Refused, network: Network::Refused };
        Self::new(path.into(), checks)
    }

    /// What is not safe everywhere.
    pub fn dangerous() -> DangerousRuntimeDirectory {
        DangerousRuntimeDirectory(())
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The endpoint of a name in this directory, the same in every process. Names of more than 32 bytes are
    /// shortened to a part of them and a hash.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidName`], and [`Error::PathTooLong`] if the directory's own path leaves no room.
    pub fn endpoint(&self, name: &str) -> Result<Endpoint, Error> {
        Endpoint::unix(self.path.join(format!("{}.sock", name::file_stem(name)?)))
    }

    /// Opens the directory that is there now; it is made if it is not there.
    pub(crate) fn descriptor(&self) -> Result<OwnedFd, Error> {
        let Self { path, checks } = self;
        let failed = |error: Errno| Error::io_at("open the directory", path.display(), error.into());
        if let (Parent::Shared, Some(parent)) = (checks.parent, path.parent()) {
            check_shared_parent(parent)?;
        }
        let made = match mkdirat(CWD, path, Mode::RWXU) {
            Ok(()) => true,
            Err(Errno::EXIST) => false,
            Err(error) => return Err(failed(error)),
        };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let descriptor = match openat(CWD, path, flags, Mode::empty()) {
            Ok(descriptor) => descriptor,
            Err(Errno::LOOP | Errno::NOTDIR) => {
                return Err(unsafe_directory(path, "it is not a real directory"));
            }
            Err(error) => return Err(failed(error)),
        };
        let state = fstat(&descriptor).map_err(failed)?;
        if state.st_uid != geteuid().as_raw() {
            return Err(unsafe_directory(path, "it belongs to another user"));
        }
        let mode = Mode::from_raw_mode(state.st_mode);
        if mode.intersects(Mode::WGRP | Mode::WOTH) {
            return Err(unsafe_directory(path, "group or others may write to it; its mode should be 0700"));
        }
        let others = Mode::RWXG | Mode::RWXO;
        if mode.intersects(others) {
            match checks.found {
                Found::Tightened => fchmod(&descriptor, mode - others).map_err(failed)?,
                Found::Refused => {
                    return Err(unsafe_directory(
                        path,
                        "group or others may enter it; its mode should be 0700",
                    ));
                }
            }
        }
        if made && !mode.contains(Mode::RWXU) {
            fchmod(&descriptor, Mode::RWXU).map_err(failed)?;
        }
        if matches!(checks.network, Network::Refused) && is_on_network(&descriptor).map_err(failed)? {
            return Err(unsafe_directory(path, "it is on a network file system, where locks do not hold"));
        }
        Ok(descriptor)
    }

    fn new(path: PathBuf, checks: Checks) -> Result<Self, Error> {
        let directory = Self { path, checks };
        directory.descriptor()?;
        Ok(directory)
    }
}

impl fmt::Debug for RuntimeDirectory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RuntimeDirectory").field(&self.path).finish()
    }
}

/// Runtime directories that need a reason; see [`RuntimeDirectory::dangerous`].
#[derive(Debug)]
pub struct DangerousRuntimeDirectory(());

impl DangerousRuntimeDirectory {
    /// As [`RuntimeDirectory::at`], on a network file system too.
    ///
    /// Two machines may then both hold the same name, as many such file systems do not share locks, and a socket
    /// there leads to the machine that made it only.
    ///
    /// # Errors
    ///
    /// Those of [`RuntimeDirectory::at`] but for the file system.
    pub fn at_any_file_system(self, path: impl Into<PathBuf>) -> Result<RuntimeDirectory, Error> {
        let checks = Checks { parent: Parent::Trusted, found: Found::Refused, network: Network::Allowed };
        RuntimeDirectory::new(path.into(), checks)
    }
}

/// Whether others may put things beside the directory.
#[derive(Debug, Clone, Copy)]
enum Parent {
    Shared,
    Trusted,
}

/// What to do with a directory that others may look into.
#[derive(Debug, Clone, Copy)]
enum Found {
    Refused,
    Tightened,
}

/// What to do with a directory on a network file system.
#[derive(Debug, Clone, Copy)]
enum Network {
    Allowed,
    Refused,
}

fn is_own(path: &Path) -> bool {
    let is_own = |state: Stat| {
        FileType::from_raw_mode(state.st_mode) == FileType::Directory && state.st_uid == geteuid().as_raw()
    };
    path.is_absolute() && path.as_os_str().as_bytes().len() > 1 && stat(path).is_ok_and(is_own)
}

/// In a shared directory without the sticky bit others could put their own directory in the place of ours.
fn check_shared_parent(path: &Path) -> Result<(), Error> {
    let state = stat(path).map_err(|error| Error::io_at("look at", path.display(), error.into()))?;
    let mode = Mode::from_raw_mode(state.st_mode);
    if mode.intersects(Mode::WGRP | Mode::WOTH) && !mode.contains(Mode::SVTX) {
        return Err(unsafe_directory(path, "others may write to it and it has no sticky bit"));
    }
    Ok(())
}

fn unsafe_directory(path: &Path, reason: &'static str) -> Error {
    Error::UnsafeDirectory { path: path.display().to_string(), reason }
}

#[cfg(target_os = "linux")]
fn is_on_network(descriptor: &OwnedFd) -> Result<bool, Errno> {
    // The type's width and sign differ between machines; the magic numbers have 32 bits.
    Ok(NETWORK_FILE_SYSTEMS.contains(&(rustix::fs::fstatfs(descriptor)?.f_type as u32)))
}

#[cfg(not(target_os = "linux"))]
fn is_on_network(_: &OwnedFd) -> Result<bool, Errno> {
    Ok(false)
}

/// The numbers by which statfs(2) tells file systems that several machines may share: 9P, AFS (two), Ceph, CIFS, Coda,
/// FUSE (which may be sshfs), GFS2, GPFS, Lustre, NCP, NFS, OCFS2, SMB, SMB2.
#[cfg(target_os = "linux")]
const NETWORK_FILE_SYSTEMS: [u32; 15] = [
    0x0102_1997,
    0x5346_414f,
    0x6b41_4653,
    0x00c3_6400,
    0xff53_4d42,
    0x7375_7245,
    0x6573_5546,
    0x0116_1970,
    0x4750_4653,
    0x0bd0_0bd0,
    0x0000_564c,
    0x0000_6969,
    0x7461_636f,
    0x0000_517b,
    0xfe53_4d42,
];
