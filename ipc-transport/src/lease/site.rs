//! The files of one name: where they lie and what stands there, always seen through the directory's descriptor.

use std::{
    ffi::{OsStr, OsString},
    fs::File,
    io,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

use rustix::{
    fs::{AtFlags, CWD, FileType, Mode, OFlags, Stat, fstat, openat, statat, unlinkat},
    io::Errno,
};

use super::directory::RuntimeDirectory;
use crate::{Endpoint, Error};

/// One socket with its lock file beside it.
#[derive(Debug)]
pub(crate) struct Site {
    directory: OwnedFd,
    directory_path: PathBuf,
    /// A runtime directory is made anew when it was deleted under its users; any other one is not ours to make.
    runtime: Option<RuntimeDirectory>,
    socket: OsString,
    lock: OsString,
    endpoint: Endpoint,
}

/// What tells one file from another under the same name, for as long as one of them is in use.
///
/// A file system may give the number of a removed file to the next one, so it says nothing about a file that nobody
/// has open; see [`Sight`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FileId {
    device: u64,
    inode: u64,
}

/// One state of a file: it differs for another file, and for the same one after a rename or a change of its mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sight {
    pub(crate) kind: FileType,
    pub(crate) id: FileId,
    changed: (i64, u64),
}

impl Site {
    /// The site of an explicit path: its lock file is `<path>.lock`.
    pub(crate) fn of_path(endpoint: &Endpoint, path: &Path) -> Result<Self, Error> {
        let Some(file) = path.file_name() else {
            return Err(Error::Obstructed {
                path: path.display().to_string(),
                found: "a directory",
                expected: "a socket",
            });
        };
        let parent = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
            _ => PathBuf::from("."),
        };
        let mut lock = file.to_owned();
        lock.push(".lock");
        let directory = open_directory(&parent).map_err(|error| Error::io("listen", endpoint, error))?;
        Ok(Self {
            directory,
            directory_path: parent,
            runtime: None,
            socket: file.to_owned(),
            lock,
            endpoint: endpoint.clone(),
        })
    }

    /// The site of a name in a runtime directory: `<name>.sock` and `<name>.lock`.
    pub(crate) fn of_name(directory: &RuntimeDirectory, name: &str) -> Result<Self, Error> {
        let endpoint = directory.endpoint(name)?;
        let stem = super::name::file_stem(name)?;
        Ok(Self {
            directory: directory.descriptor()?,
            directory_path: directory.path().to_owned(),
            runtime: Some(directory.clone()),
            socket: format!("{stem}.sock").into(),
            lock: format!("{stem}.lock").into(),
            endpoint,
        })
    }

    pub(crate) fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    pub(crate) fn directory(&self) -> &OwnedFd {
        &self.directory
    }

    pub(crate) fn directory_path(&self) -> &Path {
        &self.directory_path
    }

    pub(crate) fn socket(&self) -> &OsStr {
        &self.socket
    }

    pub(crate) fn socket_path(&self) -> PathBuf {
        self.directory_path.join(&self.socket)
    }

    pub(crate) fn lock_path(&self) -> PathBuf {
        self.directory_path.join(&self.lock)
    }

    /// The socket at the site, if one stands there; [`Error::Obstructed`] for anything else, links included.
    pub(crate) fn find_socket(&self) -> Result<Option<Sight>, Error> {
        let found =
            self.look(&self.socket).map_err(|error| Error::io_at("look at", &self.endpoint, error))?;
        match found {
            None => Ok(None),
            Some(sight) if sight.kind == FileType::Socket => Ok(Some(sight)),
            Some(other) => Err(self.obstructed(&self.socket, kind_name(other.kind), "a socket")),
        }
    }

    /// The file of this name in the directory, not following links.
    pub(crate) fn look(&self, name: &OsStr) -> io::Result<Option<Sight>> {
        look(&self.directory, name)
    }

    /// Opens the lock file, making it if need be; [`Error::Obstructed`] if it is not a file of our own.
    pub(crate) fn open_lock(&self) -> Result<File, Error> {
        let failed = |error: Errno| match error {
            Errno::LOOP => self.obstructed(&self.lock, "a symbolic link", "a lock file"),
            Errno::ISDIR => self.obstructed(&self.lock, "a directory", "a lock file"),
            Errno::NXIO => self.obstructed(&self.lock, "a socket or pipe", "a lock file"),
            error => Error::io_at("open the lock file", self.lock_path().display(), error.into()),
        };
        // Without waiting, so that a pipe under this name cannot hold the claimer up.
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let file = openat(&self.directory, &self.lock, flags, Mode::RUSR | Mode::WUSR).map_err(failed)?;
        let stat = fstat(&file).map_err(failed)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(self.obstructed(&self.lock, "something else", "a lock file"));
        }
        // In a directory that others may write to, they could have put it there to keep the lock for themselves, or
        // linked another file of ours to have it written to.
        if stat.st_uid != rustix::process::geteuid().as_raw() {
            return Err(self.obstructed(&self.lock, "a file of another user", "a lock file"));
        }
        if stat.st_nlink > 1 {
            return Err(self.obstructed(&self.lock, "a file with several names", "a lock file"));
        }
        Ok(File::from(file))
    }

    /// Whether the lock file's name still leads to this open file.
    pub(crate) fn is_lock(&self, file: &File) -> bool {
        let Ok(stat) = fstat(file) else { return false };
        matches!(self.look(&self.lock), Ok(Some(sight)) if sight.id == FileId::of(&stat))
    }

    /// Removes a file of this name if it is this very socket, and says whether it was.
    pub(crate) fn remove_socket(&self, name: &OsStr, id: FileId) -> io::Result<bool> {
        match self.look(name)? {
            Some(found) if found.kind == FileType::Socket && found.id == id => {
                unlinkat(&self.directory, name, AtFlags::empty())?;
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    /// Finds the directory again after it was deleted; does nothing while it is there.
    pub(crate) fn reopen(&mut self) -> Result<(), Error> {
        let failed = |error| Error::io("claim again", &self.endpoint, error);
        if fstat(&self.directory).map_err(|error| failed(error.into()))?.st_nlink > 0 {
            return Ok(());
        }
        self.directory = match &self.runtime {
            Some(runtime) => runtime.descriptor()?,
            None => open_directory(&self.directory_path).map_err(failed)?,
        };
        Ok(())
    }

    pub(crate) fn obstructed(&self, name: &OsStr, found: &'static str, expected: &'static str) -> Error {
        Error::Obstructed { path: self.directory_path.join(name).display().to_string(), found, expected }
    }
}

impl FileId {
    fn of(stat: &Stat) -> Self {
        #[allow(clippy::unnecessary_cast, reason = "the types differ between systems")]
        Self { device: stat.st_dev as u64, inode: stat.st_ino as u64 }
    }
}

/// The file of this name in a directory, not following links.
pub(crate) fn look(directory: &OwnedFd, name: &OsStr) -> io::Result<Option<Sight>> {
    let stat = match statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => stat,
        Err(Errno::NOENT) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    #[allow(clippy::unnecessary_cast, reason = "the types differ between systems")]
    let changed = (stat.st_ctime as i64, stat.st_ctime_nsec as u64);
    Ok(Some(Sight { kind: FileType::from_raw_mode(stat.st_mode), id: FileId::of(&stat), changed }))
}

/// A descriptor to look files up by; it needs no right to list the directory where the system can do without.
pub(crate) fn open_directory(path: &Path) -> io::Result<OwnedFd> {
    #[cfg(target_os = "linux")]
    let access = OFlags::PATH;
    #[cfg(not(target_os = "linux"))]
    let access = OFlags::RDONLY;
    Ok(openat(CWD, path, access | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?)
}

pub(crate) fn kind_name(kind: FileType) -> &'static str {
    match kind {
        FileType::BlockDevice | FileType::CharacterDevice => "a device",
        FileType::Directory => "a directory",
        FileType::Fifo => "a pipe",
        FileType::RegularFile => "a regular file",
        FileType::Socket => "a socket",
        FileType::Symlink => "a symbolic link",
        _ => "something else",
    }
}
