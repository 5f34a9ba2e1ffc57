//! Names in the runtime directory.

use std::{
    ffi::OsString,
    io,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use async_trait::async_trait;
use rustix::fs::FileType;
use tokio::sync::Notify;

use super::{NameWatch, Naming};
use crate::{
    Endpoint, Error, Lease, LeaseOptions, ListenOptions, Listener, RuntimeDirectory, Transports,
    lease::{Sight, look},
    watch::Watch,
};

/// Names in the runtime directory: Unix sockets and leases, for the processes of one user on one machine.
///
/// A claim takes the [`Lease`] of the name and listens at `<directory>/<name>.sock` by the Unix transport of this
/// crate, whatever transports the caller has. A watch completes as soon as the name's socket appears, is replaced or
/// goes away (Linux); where the system cannot tell, or is short of watches, it never completes.
///
/// A directory that was removed is made again by the first claim or look-up that needs it. A watch that waits meanwhile
/// goes over to the new one when the last process has closed the old one, and at the latest with its next call.
#[derive(Debug, Clone)]
pub struct RuntimeNaming {
    directory: RuntimeDirectory,
    lease: LeaseOptions,
    /// The one watch on the directory that all waiting diallers of this naming share, while there are any.
    events: Arc<Mutex<Weak<Events>>>,
}

impl RuntimeNaming {
    /// Names in this directory.
    pub fn new(directory: RuntimeDirectory) -> Self {
        Self { directory, lease: LeaseOptions::default(), events: Arc::default() }
    }

    /// Sets how names are claimed.
    #[must_use]
    pub fn lease(mut self, options: LeaseOptions) -> Self {
        self.lease = options;
        self
    }

    /// The directory.
    pub fn directory(&self) -> &RuntimeDirectory {
        &self.directory
    }

    fn events(&self) -> io::Result<Arc<Events>> {
        let mut shared = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(events) = shared.upgrade() {
            return Ok(events);
        }
        let events =
            Events { watch: Watch::new()?, directory: self.directory.clone(), happened: Notify::new() };
        events.renew()?;
        let events = Arc::new(events);
        *shared = Arc::downgrade(&events);
        Ok(events)
    }
}

#[async_trait]
impl Naming for RuntimeNaming {
    async fn claim(
        &self,
        name: &str,
        _transports: &Transports,
        options: &ListenOptions,
    ) -> Result<Box<dyn Listener>, Error> {
        Lease::claim(&self.directory, name, &self.lease).await?.listen(options)
    }

    async fn resolve(&self, name: &str) -> Result<Endpoint, Error> {
        let place = Place::of(&self.directory, name)?;
        match place.look()? {
            Some(_) => Ok(place.endpoint),
            None => Err(Error::NotFound { endpoint: place.endpoint.to_string() }),
        }
    }

    fn watch(&self, name: &str) -> Result<Box<dyn NameWatch>, Error> {
        crate::deadline::runtime()?;
        let place = Place::of(&self.directory, name)?;
        let events = self
            .events()
            .inspect_err(|error| tracing::debug!(%error, "the runtime directory is not watched"))
            .ok();
        let seen = place.look().ok().flatten();
        Ok(Box::new(PlaceWatch { place, events, seen }))
    }
}

/// Where the socket of a name is to be found.
#[derive(Debug)]
struct Place {
    directory: RuntimeDirectory,
    file: OsString,
    endpoint: Endpoint,
}

impl Place {
    fn of(directory: &RuntimeDirectory, name: &str) -> Result<Self, Error> {
        let endpoint = directory.endpoint(name)?;
        let file = endpoint.unix_path().and_then(|path| path.file_name()).unwrap_or_default().to_owned();
        Ok(Self { directory: directory.clone(), file, endpoint })
    }

    /// The socket that stands there; a new one is told from an old one that had the same inode number.
    fn look(&self) -> Result<Option<Sight>, Error> {
        let sight = look(&self.directory.descriptor()?, &self.file)
            .map_err(|error| Error::io("resolve", &self.endpoint, error))?;
        Ok(sight.filter(|sight| sight.kind == FileType::Socket))
    }
}

/// Events of the directory, read by whoever of the waiting comes first and passed on to the others.
#[derive(Debug)]
struct Events {
    watch: Watch,
    directory: RuntimeDirectory,
    happened: Notify,
}

impl Events {
    /// Watches the directory that is there now; nothing changes if it is the one that was there before.
    fn renew(&self) -> io::Result<()> {
        let path = self.directory.path();
        self.watch.add_directory(path).or_else(|_| {
            // It was removed, and has to be there again to be watched.
            self.directory.descriptor()?;
            self.watch.add_directory(path)
        })
    }
}

#[derive(Debug)]
struct PlaceWatch {
    place: Place,
    /// `None` where directories cannot be watched.
    events: Option<Arc<Events>>,
    seen: Option<Sight>,
}

#[async_trait]
impl NameWatch for PlaceWatch {
    async fn changed(&mut self) {
        let Some(events) = &self.events else { return std::future::pending().await };
        loop {
            let happened = events.happened.notified();
            tokio::pin!(happened);
            // Enrolled before looking, so that an event after the look is not missed.
            happened.as_mut().enable();
            // Renewed before looking as well: what is found is then in the directory that is watched, or the event of
            // that one's removal is still to come.
            if let Err(error) = events.renew() {
                tracing::debug!(%error, "the runtime directory is not watched");
            }
            let sight = self.place.look().ok().flatten();
            if sight != self.seen {
                self.seen = sight;
                return;
            }
            tokio::select! {
                () = &mut happened => {}
                () = events.watch.changed() => events.happened.notify_waiters(),
            }
        }
    }
}
