//! Listening Unix sockets, and the care for the lease while they serve.

use std::{io, time::Duration};

use async_trait::async_trait;
use socket2::SockAddr;
use tokio::{
    net::{UnixListener, UnixStream},
    runtime::Handle,
    time::{Instant, Sleep},
};

use super::{Side, finish, publish};
use crate::{
    Access, Endpoint, Error, Incoming, Lease, ListenOptions, Listener,
    accept::{AcceptPause, Pauses, check_listens},
    deadline::{after, runtime},
    endpoint::kernel_path,
    lease::FileId,
    watch::Watch,
};

/// Listens at the path of a lease, which the listener holds from then on.
pub(crate) fn listen_with(lease: Lease, options: &ListenOptions) -> Result<Box<dyn Listener>, Error> {
    let runtime = runtime()?;
    let (listener, socket) = publish::publish(lease.site(), lease.stale(), options, lease.options())?;
    let local = lease.endpoint().clone();
    let mut hold = Hold { lease, socket, watch: None, reclaim: None, publish: None };
    hold.watch_files();
    Ok(Box::new(UnixAcceptor {
        listener: Some(listener),
        local,
        options: options.clone(),
        hold: Some(hold),
        pause: AcceptPause::new(runtime.clone()),
        runtime,
    }))
}

/// Listens at an abstract name, which the kernel gives to one listener at a time.
pub(super) fn listen_abstract(
    at: &Endpoint,
    options: &ListenOptions,
    runtime: Handle,
) -> Result<Box<dyn Listener>, Error> {
    let Some(name) = at.unix_abstract_name().and_then(|_| kernel_path(at)) else {
        return Err(Error::UnknownScheme { scheme: at.scheme().to_owned() });
    };
    if !cfg!(target_os = "linux") {
        return Err(Error::io("bind", at, io::ErrorKind::Unsupported.into()));
    }
    let listener = SockAddr::unix(&*name)
        .and_then(|address| publish::new_socket(&address, options, || Ok(())))
        .map_err(|error| Error::io("bind", at, error))?;
    Ok(Box::new(UnixAcceptor {
        listener: Some(listener),
        local: at.clone(),
        options: options.clone(),
        hold: None,
        pause: AcceptPause::new(runtime.clone()),
        runtime,
    }))
}

/// Listens at a socket that somebody else made and will remove.
pub(super) fn adopt(
    listener: std::os::unix::net::UnixListener,
    options: &ListenOptions,
) -> Result<Box<dyn Listener>, Error> {
    let runtime = runtime()?;
    let failed = |error| Error::io_at("adopt", "a Unix socket", error);
    check_listens(&listener).map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    let local = match address.as_pathname() {
        Some(path) => Endpoint::unix(path)?,
        None => abstract_endpoint(&address).ok_or_else(|| failed(io::ErrorKind::AddrNotAvailable.into()))?,
    };
    Ok(Box::new(UnixAcceptor {
        listener: Some(UnixListener::from_std(listener).map_err(failed)?),
        local,
        options: options.clone(),
        hold: None,
        pause: AcceptPause::new(runtime.clone()),
        runtime,
    }))
}

#[cfg(target_os = "linux")]
fn abstract_endpoint(address: &std::os::unix::net::SocketAddr) -> Option<Endpoint> {
    use std::os::linux::net::SocketAddrExt as _;

    Endpoint::unix_abstract(address.as_abstract_name()?).ok()
}

#[cfg(not(target_os = "linux"))]
fn abstract_endpoint(_: &std::os::unix::net::SocketAddr) -> Option<Endpoint> {
    None
}

/// A listening Unix socket.
#[derive(Debug)]
struct UnixAcceptor {
    /// `None` once the lease is lost.
    listener: Option<UnixListener>,
    local: Endpoint,
    options: ListenOptions,
    /// `None` for an abstract name, and for a socket that is not ours.
    hold: Option<Hold>,
    pause: AcceptPause,
    /// Where everything is registered, whoever polls.
    runtime: Handle,
}

/// The lease of a listener, its socket, and what is known about trouble with them.
#[derive(Debug)]
struct Hold {
    lease: Lease,
    socket: FileId,
    /// Wakes the listener when its files are removed or renamed. A system that is short of watches does without: the
    /// files are looked at on every accept anyway.
    watch: Option<Watch>,
    reclaim: Option<Reclaim>,
    /// When to make the socket anew, if that failed, and how long to wait should it fail again.
    publish: Option<(Instant, Pauses)>,
}

/// An attempt to get the lease back after its lock file was replaced.
#[derive(Debug, Clone, Copy)]
struct Reclaim {
    next: Instant,
    /// When to give up if somebody else has it still then; `None` until somebody was found to have it.
    until: Option<Instant>,
    /// After failures that say nothing of who has it.
    pauses: Pauses,
}

/// What a look at the files of a lease came to.
enum State {
    /// All is well.
    Held,
    /// The lease is ours and its socket is gone.
    Unpublished,
    /// Somebody else may have the lease; look again at this time.
    Reclaiming(Instant),
    /// Somebody else has it.
    Lost,
}

#[async_trait]
impl Listener for UnixAcceptor {
    fn local_endpoint(&self) -> &Endpoint {
        &self.local
    }

    async fn accept(&mut self) -> Result<Incoming, Error> {
        loop {
            let look_again = self.tend()?;
            let Self { listener, hold, pause, local, options, runtime } = self;
            let look_again = look_again.map(|time| pause.sleep_until(time));
            let Some(listener) = listener else { return Err(lost(local)) };
            tokio::select! {
                accepted = accept(listener, pause) => match accepted {
                    Ok(stream) => {
                        return Ok(incoming(stream, local.clone(), options.access.clone(), runtime.clone()));
                    }
                    Err(error) => if let Some(error) = pause.failed(error) {
                        return Err(Error::io("accept", local, error));
                    },
                },
                () = files_changed(hold.as_ref()) => {}
                () = elapsed(look_again) => {}
            }
        }
    }

    async fn close(mut self: Box<Self>) -> Result<(), Error> {
        self.retire()
    }
}

impl UnixAcceptor {
    /// Looks after the lease; gives the time when to look again, if there is trouble.
    fn tend(&mut self) -> Result<Option<Instant>, Error> {
        let (Some(hold), Some(_)) = (&mut self.hold, &self.listener) else { return Ok(None) };
        let _context = self.runtime.enter();
        match hold.look() {
            State::Held => Ok(None),
            State::Reclaiming(next) => Ok(Some(next)),
            State::Unpublished => {
                let now = Instant::now();
                let mut pauses = Pauses::default();
                match hold.publish {
                    Some((next, _)) if now < next => return Ok(Some(next)),
                    Some((_, so_far)) => pauses = so_far,
                    None => tracing::warn!(endpoint = %self.local, "the socket was removed; it is made anew"),
                }
                match publish::publish(hold.lease.site(), None, &self.options, hold.lease.options()) {
                    Ok((listener, socket)) => {
                        // Diallers that wait in the old one's backlog see it closed and dial again.
                        self.listener = Some(listener);
                        hold.socket = socket;
                        hold.publish = None;
                        hold.watch_files();
                        Ok(None)
                    }
                    // Somebody who does not respect the lease put something there.
                    Err(error @ (Error::AddrInUse { .. } | Error::Obstructed { .. })) => Err(error),
                    Err(error) => {
                        let next = now + pauses.longer();
                        tracing::debug!(%error, "the socket could not be made anew");
                        hold.publish = Some((next, pauses));
                        Ok(Some(next))
                    }
                }
            }
            State::Lost => {
                self.listener = None;
                Err(lost(&self.local))
            }
        }
    }

    /// Removes the socket while the lease is still held, then stops listening, then releases the lease.
    fn retire(&mut self) -> Result<(), Error> {
        let removed = match &self.hold {
            Some(hold) if hold.lease.is_own() && hold.lease.is_intact() => {
                let site = hold.lease.site();
                site.remove_socket(site.socket(), hold.socket).map(drop)
            }
            _ => Ok(()),
        };
        self.listener = None;
        self.hold = None;
        removed.map_err(|error| Error::io("close", &self.local, error))
    }
}

impl Drop for UnixAcceptor {
    fn drop(&mut self) {
        if let Err(error) = self.retire() {
            tracing::warn!(%error, "a socket could not be removed");
        }
    }
}

impl Hold {
    fn look(&mut self) -> State {
        if !self.lease.is_intact() {
            let now = Instant::now();
            let reclaim = self.reclaim.get_or_insert_with(|| {
                tracing::warn!(endpoint = %self.lease.endpoint(), "the lock file was replaced; claiming again");
                Reclaim { next: now, until: None, pauses: Pauses::default() }
            });
            if now < reclaim.next {
                return State::Reclaiming(reclaim.next);
            }
            match self.lease.try_reclaim() {
                Ok(true) => self.watch_files(),
                Ok(false) => {
                    let patience = self.lease.options().reclaim;
                    if now >= *reclaim.until.get_or_insert_with(|| after(now, patience)) {
                        return State::Lost;
                    }
                    reclaim.next = now + Duration::from_millis(fastrand::u64(10..=50));
                    return State::Reclaiming(reclaim.next);
                }
                // Nobody was found to have it; a shortage, or what stands in the way, goes by.
                Err(error) => {
                    reclaim.next = now + reclaim.pauses.longer();
                    tracing::debug!(%error, "claiming again failed");
                    return State::Reclaiming(reclaim.next);
                }
            }
        }
        self.reclaim = None;
        let site = self.lease.site();
        match site.look(site.socket()) {
            Ok(Some(sight)) if sight.id == self.socket => State::Held,
            Ok(None) => State::Unpublished,
            // Somebody who does not respect the lease put something else there.
            Ok(Some(_)) => State::Lost,
            Err(error) => {
                tracing::warn!(%error, "the socket could not be looked at");
                State::Held
            }
        }
    }

    fn watch_files(&mut self) {
        let site = self.lease.site();
        let watch = Watch::new().and_then(|watch| {
            watch.add_file(&site.lock_path())?;
            watch.add_file(&site.socket_path())?;
            Ok(watch)
        });
        self.watch =
            watch.inspect_err(|error| tracing::debug!(%error, "the files of a lease are not watched")).ok();
    }
}

async fn accept(listener: &UnixListener, pause: &mut AcceptPause) -> io::Result<UnixStream> {
    pause.over().await;
    let (stream, _) = pause.inside(listener.accept()).await?;
    pause.succeeded();
    Ok(stream)
}

async fn files_changed(hold: Option<&Hold>) {
    match hold.and_then(|hold| hold.watch.as_ref()) {
        Some(watch) => watch.changed().await,
        None => std::future::pending().await,
    }
}

async fn elapsed(time: Option<Sleep>) {
    match time {
        Some(time) => time.await,
        None => std::future::pending().await,
    }
}

fn incoming(stream: UnixStream, local: Endpoint, access: Access, runtime: Handle) -> Incoming {
    let remote = local.clone();
    Incoming::new(remote, async move {
        // It may be established outside of the runtime to which the socket belongs.
        let _context = runtime.enter();
        finish(stream, &access, Side::Acceptor, &local)
    })
}

fn lost(endpoint: &Endpoint) -> Error {
    Error::LeaseLost { name: endpoint.to_string() }
}
