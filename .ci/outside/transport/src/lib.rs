//! A transport of frames within one process: `hall:NAME`, over the bounded channels of the futures crates.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use bytes::Bytes;
use futures_channel::mpsc;
use futures_util::{SinkExt as _, StreamExt as _};
use ipc_transport::{
    Access, ConnectOptions, Connection, ConnectionInfo, Endpoint, Error, Incoming, ListenOptions, Listener,
    PeerIdentity, Transport,
};

/// A hall in which everybody hears of everybody; its clones are the same hall.
#[derive(Debug, Clone, Default)]
pub struct Hall {
    listeners: Arc<Mutex<BTreeMap<String, mpsc::Sender<End>>>>,
}

/// One side of a connection.
#[derive(Debug)]
struct End {
    reader: mpsc::Receiver<Bytes>,
    writer: mpsc::Sender<Bytes>,
}

impl Hall {
    /// A hall with nobody in it.
    pub fn new() -> Self {
        Self::default()
    }

    fn listeners(&self) -> MutexGuard<'_, BTreeMap<String, mpsc::Sender<End>>> {
        // No operation on the table can leave it half-done.
        self.listeners.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl End {
    fn pair() -> [Self; 2] {
        let (near_writer, far_reader) = mpsc::channel(FRAMES);
        let (far_writer, near_reader) = mpsc::channel(FRAMES);
        [Self { reader: near_reader, writer: near_writer }, Self { reader: far_reader, writer: far_writer }]
    }

    fn open(self, at: &Endpoint, access: &Access) -> Result<Connection, Error> {
        let peer = PeerIdentity::Unknown;
        if !access.admits(&peer) {
            return Err(Error::AccessDenied { endpoint: at.clone(), peer: peer.to_string() });
        }
        let info = ConnectionInfo::new(at.clone(), at.clone(), peer);
        let at = at.clone();
        let writer =
            self.writer.sink_map_err(move |_| Error::io("write", &at, io::ErrorKind::BrokenPipe.into()));
        Ok(Connection::from_frames(self.reader.map(Ok), writer, info))
    }
}

#[async_trait]
impl Transport for Hall {
    fn scheme(&self) -> &str {
        "hall"
    }

    async fn connect(&self, to: &Endpoint, options: &ConnectOptions) -> Result<Connection, Error> {
        let [near, far] = End::pair();
        let connection = near.open(to, &options.access)?;
        let refused = || Error::ConnectionRefused { endpoint: to.clone() };
        // With too many waiting already a dialler is refused; it may try again.
        self.listeners().get_mut(to.address()).ok_or_else(refused)?.try_send(far).map_err(|_| refused())?;
        Ok(connection)
    }

    async fn listen(&self, at: &Endpoint, options: &ListenOptions) -> Result<Box<dyn Listener>, Error> {
        let (sender, arriving) = mpsc::channel(options.backlog as usize);
        match self.listeners().entry(at.address().to_owned()) {
            Entry::Occupied(_) => return Err(Error::AddrInUse { endpoint: at.clone(), holder: None }),
            Entry::Vacant(place) => place.insert(sender),
        };
        let (hall, access) = (self.clone(), options.access.clone());
        Ok(Box::new(Door { hall, at: at.clone(), access, arriving }))
    }
}

/// Where one listens.
#[derive(Debug)]
struct Door {
    hall: Hall,
    at: Endpoint,
    access: Access,
    arriving: mpsc::Receiver<End>,
}

#[async_trait]
impl Listener for Door {
    fn local_endpoint(&self) -> &Endpoint {
        &self.at
    }

    async fn accept(&mut self) -> Result<Incoming, Error> {
        let (at, access) = (self.at.clone(), self.access.clone());
        let arrived = self.arriving.next().await;
        let end = arrived.ok_or_else(|| Error::NotFound { endpoint: at.to_string() })?;
        Ok(Incoming::new(at.clone(), async move { end.open(&at, &access) }))
    }

    async fn close(self: Box<Self>) -> Result<(), Error> {
        Ok(())
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        self.hall.listeners().remove(self.at.address());
    }
}

/// Frames under way in one direction, before a writer has to wait.
const FRAMES: usize = 16;
