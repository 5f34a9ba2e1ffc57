//! A new socket comes to its name: bound under a temporary one, then renamed.

use std::{ffi::OsString, io, os::unix::ffi::OsStrExt as _, path::PathBuf};

use rustix::{
    fs::{AtFlags, FileType, Gid, Mode, chmodat, chownat, fchmod, renameat, unlinkat},
    io::Errno,
};
use socket2::{Domain, SockAddr, Socket, Type};
use tokio::net::UnixListener;

use crate::{
    Access, Error, ListenOptions, MAX_UNIX_PATH,
    lease::{FileId, LeaseOptions, LeaseStep, Sight, Site, kind_name},
};

/// Binds and listens at the site of a held lease, in place of a stale socket.
///
/// The caller holds the lock, so nobody else that respects it is at work here; what does not respect it is treated
/// with care all the same.
pub(super) fn publish(
    site: &Site,
    stale: Option<Sight>,
    options: &ListenOptions,
    lease: &LeaseOptions,
) -> Result<(UnixListener, FileId), Error> {
    let failed = |operation, error| Error::io(operation, site.endpoint(), error);
    let mut temporary = OsString::from(".~");
    temporary.push(site.socket());
    sweep(site, &temporary)?;
    let listener = bind(site, &temporary, options).map_err(|error| failed("bind", error))?;
    let published = (|| {
        let found = site.look(&temporary).map_err(|error| failed("bind", error))?;
        let Some(Sight { kind: FileType::Socket, id, .. }) = found else {
            return Err(Error::AddrInUse { endpoint: site.endpoint().clone(), holder: None });
        };
        lease.step(LeaseStep::Bound);
        place(site, &temporary, stale)?;
        lease.step(LeaseStep::Published);
        Ok(id)
    })();
    match published {
        Ok(id) => Ok((listener, id)),
        Err(error) => {
            // What cannot be swept now, the next holder sweeps.
            let _ = sweep(site, &temporary);
            Err(error)
        }
    }
}

/// A socket that listens, closed to everybody else from its first instant.
///
/// The mode of a Unix socket's file is that of its descriptor, less the umask; without the first step it would be
/// open to others between bind and a later change.
pub(super) fn new_socket(
    address: &SockAddr,
    options: &ListenOptions,
    bound: impl FnOnce() -> io::Result<()>,
) -> io::Result<UnixListener> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    fchmod(&socket, Mode::RUSR | Mode::WUSR)?;
    socket.bind(address)?;
    bound()?;
    socket.listen(i32::try_from(options.backlog).unwrap_or(i32::MAX))?;
    UnixListener::from_std(std::os::unix::net::UnixListener::from(std::os::fd::OwnedFd::from(socket)))
}

fn bind(site: &Site, temporary: &OsString, options: &ListenOptions) -> io::Result<UnixListener> {
    let mut path = site.directory_path().join(temporary);
    if path.as_os_str().as_bytes().len() > MAX_UNIX_PATH {
        // The temporary name is longer than the final one, which fits.
        path = through_descriptor(site, temporary).ok_or(Errno::NAMETOOLONG)?;
    }
    new_socket(&SockAddr::unix(&path)?, options, || {
        let mode = Mode::from_raw_mode(options.mode.unwrap_or_else(|| derived_mode(&options.access)) as _);
        if let Access::Group(group) = options.access {
            let group = Some(Gid::from_raw(group));
            chownat(site.directory(), temporary, None, group, AtFlags::SYMLINK_NOFOLLOW)?;
        }
        Ok(chmodat(site.directory(), temporary, mode, AtFlags::empty())?)
    })
}

fn derived_mode(access: &Access) -> u32 {
    match access {
        Access::Any | Access::Uids(_) => 0o666,
        Access::Group(_) => 0o660,
        Access::Custom(_) | Access::Names(_) | Access::SameUser | Access::WhereKnown => 0o600,
    }
}

#[cfg(target_os = "linux")]
fn through_descriptor(site: &Site, name: &OsString) -> Option<PathBuf> {
    use std::os::fd::AsRawFd as _;

    let path = PathBuf::from(format!("/proc/self/fd/{}", site.directory().as_raw_fd())).join(name);
    (path.as_os_str().as_bytes().len() <= MAX_UNIX_PATH).then_some(path)
}

#[cfg(not(target_os = "linux"))]
fn through_descriptor(_: &Site, _: &OsString) -> Option<PathBuf> {
    None
}

/// Removes the temporary socket of a claimer that was killed half-way; the lock says that nobody uses it.
fn sweep(site: &Site, temporary: &OsString) -> Result<(), Error> {
    let failed = |error| Error::io("remove a temporary socket of", site.endpoint(), error);
    match site.look(temporary).map_err(failed)? {
        None => Ok(()),
        Some(found) if found.kind == FileType::Socket => {
            site.remove_socket(temporary, found.id).map(drop).map_err(failed)
        }
        Some(other) => Err(site.obstructed(temporary, kind_name(other.kind), "a socket")),
    }
}

/// Renames the temporary socket to its final name, where nothing or the stale socket stands.
///
/// Where the file system can, whatever came to stand there in the last instant is not overwritten: the rename
/// refuses an occupied name, and an exchange keeps what it displaces.
fn place(site: &Site, temporary: &OsString, stale: Option<Sight>) -> Result<(), Error> {
    let failed = |error: Errno| Error::io("rename the socket of", site.endpoint(), error.into());
    let in_use = || Error::AddrInUse { endpoint: site.endpoint().clone(), holder: None };
    let found = site.find_socket()?;
    if found.is_some() && found != stale {
        return Err(in_use());
    }
    match exclusive_rename(site, temporary, found.is_some()) {
        Ok(()) => {}
        Err(Errno::EXIST | Errno::NOENT) => {
            return Err(site.find_socket().map_or_else(|error| error, |_| in_use()));
        }
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
            let directory = site.directory();
            return renameat(directory, temporary, directory, site.socket()).map_err(failed);
        }
        Err(error) => return Err(failed(error)),
    }
    let Some(stale) = found else { return Ok(()) };
    let displaced = site.look(temporary).map_err(|error| Error::io("look at", site.endpoint(), error))?;
    if displaced.is_some_and(|displaced| displaced.id == stale.id) {
        return unlinkat(site.directory(), temporary, AtFlags::empty()).map_err(failed);
    }
    // Something else got there between the look and the exchange: it goes back to where it was.
    exclusive_rename(site, temporary, true).map_err(failed)?;
    Err(site.find_socket().map_or_else(|error| error, |_| in_use()))
}

/// Renames to a free name, or exchanges with an occupied one.
#[cfg(target_os = "linux")]
fn exclusive_rename(site: &Site, temporary: &OsString, occupied: bool) -> Result<(), Errno> {
    use rustix::fs::{RenameFlags, renameat_with};

    let flags = if occupied { RenameFlags::EXCHANGE } else { RenameFlags::NOREPLACE };
    renameat_with(site.directory(), temporary, site.directory(), site.socket(), flags)
}

#[cfg(not(target_os = "linux"))]
fn exclusive_rename(_: &Site, _: &OsString, _: bool) -> Result<(), Errno> {
    Err(Errno::NOSYS)
}
