//! Writing to sockets without SIGPIPE, whatever the program has made of that signal.
//!
//! A Rust program ignores SIGPIPE from its start, but a library may also live in a program of another language,
//! where a write to a dead peer would end the process.

use std::io::{self, IoSlice};

use rustix::{
    fd::BorrowedFd,
    net::{self, SendAncillaryBuffer, SendFlags},
};

/// Writes one slice; a peer that is gone is an error and never a signal.
pub(crate) fn send(socket: BorrowedFd<'_>, buf: &[u8]) -> io::Result<usize> {
    // The plain call is the cheaper one for a single slice.
    Ok(net::send(socket, buf, NO_SIGNAL)?)
}

/// The same for many slices.
pub(crate) fn send_vectored(socket: BorrowedFd<'_>, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
    let bufs = &bufs[..bufs.len().min(MAX_SLICES)];
    Ok(net::sendmsg(socket, bufs, &mut SendAncillaryBuffer::default(), NO_SIGNAL)?)
}

/// Apple's systems know it as an option of the socket instead, which the standard library sets.
const NO_SIGNAL: SendFlags =
    if cfg!(target_vendor = "apple") { SendFlags::empty() } else { SendFlags::NOSIGNAL };
/// What one call takes on every system; more would be refused.
const MAX_SLICES: usize = 1024;
