//! The three tasks of an end: one takes datagrams in, one runs handlers, one sends.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use bytes::Bytes;
use ipc_pipeline::{FullPolicy, QueueConfig, Receiver, Sender};
use ipc_transport::{Datagram, DatagramReader, DatagramWriter};
use tokio::time::sleep;

use super::{
    DatagramReply, DatagramsConfig,
    format::{Format, frames},
    native::{Body, Packet},
    outlet::Outlet,
    peers::Peer,
};
use crate::{
    PayloadCodec,
    event::Meta,
    events::{MAX_NAME, NodeIpc, hooks::Hooks},
    handlers::Dispatcher,
};

/// After the system has reported something of the socket, so that a report without end does not become a busy loop.
const FAILURE_PAUSE: Duration = Duration::from_millis(10);

/// What an event costs beside its bytes, at least.
const OVERHEAD: usize = 64;

/// What has arrived and waits for its handlers.
pub(super) struct Arrived {
    place: Place,
    content: Content,
}

/// A peer's place among those that wait; free again when this is dropped.
struct Place(Arc<Peer>);

enum Content {
    Bytes(Bytes),
    Event { name: Box<str>, codec: PayloadCodec, payload: Bytes, claimed: Option<Arc<str>> },
}

impl Arrived {
    fn weight(&self) -> usize {
        OVERHEAD
            + match &self.content {
                Content::Bytes(bytes) => bytes.len(),
                Content::Event { name, payload, .. } => name.len() + payload.len(),
            }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.end_wait();
    }
}

/// Takes datagrams in, and never waits for a handler.
pub(super) struct Intake {
    outlet: Arc<Outlet>,
    inbox: Sender<Arrived>,
    max_of_one: usize,
}

impl Intake {
    pub(super) fn new(config: &DatagramsConfig, outlet: Arc<Outlet>) -> (Self, Receiver<Arrived>) {
        let capacity = config.inbox.get().min(QueueConfig::<Arrived>::MAX_CAPACITY);
        let queue = QueueConfig::new(capacity).expect("the capacity is neither 0 nor too large");
        let (inbox, arrivals) =
            queue.policy(FullPolicy::Fail).byte_bound(config.byte_bound, Arrived::weight).build();
        (Self { outlet, inbox, max_of_one: capacity.div_ceil(4) }, arrivals)
    }

    /// Until the socket is of no more use.
    pub(super) async fn run(self, mut reader: DatagramReader) {
        while let Some(received) = reader.recv().await {
            match received {
                Ok(datagram) => self.take_in(&datagram),
                Err(error) => {
                    self.outlet.counts.failed.fetch_add(1, Ordering::Relaxed);
                    tracing::debug!(%error, "a socket of datagrams reports");
                    sleep(FAILURE_PAUSE).await;
                }
            }
        }
    }

    fn take_in(&self, datagram: &Datagram) {
        self.outlet.counts.received.fetch_add(1, Ordering::Relaxed);
        match &self.outlet.format {
            Format::Native(_) => self.take_native(datagram),
            Format::NodeIpc(wire) => self.take_frames(&wire.1, datagram),
            Format::Raw => {
                let peer = self.outlet.peers.hear(&datagram.peer, datagram.payload.len(), 0, false);
                self.put(&peer, Content::Bytes(datagram.payload.clone()));
            }
        }
    }

    fn take_native(&self, datagram: &Datagram) {
        let Datagram { payload, peer: from } = datagram;
        let Ok(Packet { token, echo, body }) = Packet::decode(payload) else {
            return self.is_malformed(datagram);
        };
        let proves = self.outlet.proves(from, echo);
        let hear = || self.outlet.peers.hear(from, payload.len(), token, proves);
        match body {
            Body::Event { codec, name, payload: value } => {
                let payload = payload.slice_ref(value);
                let event = Content::Event { name: name.into(), codec, payload, claimed: None };
                self.put(&hear(), event);
            }
            // Only who had a token of ours asks and answers; to others nothing is said.
            Body::Challenge if proves => self.outlet.answer(from, token),
            Body::Answer if proves => drop(hear()),
            Body::Challenge | Body::Answer => {}
        }
    }

    fn take_frames(&self, wire: &NodeIpc, datagram: &Datagram) {
        let (frames, wrong) = frames(wire, &datagram.payload);
        if wrong.is_some() {
            self.is_malformed(datagram);
        }
        if frames.is_empty() {
            return;
        }
        let peer = self.outlet.peers.hear(&datagram.peer, datagram.payload.len(), 0, false);
        for frame in frames {
            let envelope = frame.envelope();
            let claimed = if wire.identify_peer { envelope.claimed_id() } else { None };
            let claimed = claimed.filter(|id| id.len() <= MAX_NAME).map(Arc::from);
            // Copied, so that what waits keeps no more than its own bytes; without data a handler gets `null`.
            let payload = Bytes::copy_from_slice(envelope.data.unwrap_or(b"null"));
            let name = envelope.name.into();
            self.put(&peer, Content::Event { name, codec: PayloadCodec::Json, payload, claimed });
        }
    }

    fn is_malformed(&self, datagram: &Datagram) {
        self.outlet.counts.malformed.fetch_add(1, Ordering::Relaxed);
        if let Some(peer) = self.outlet.peers.find(&datagram.peer) {
            peer.broke_the_format();
        }
    }

    fn put(&self, peer: &Arc<Peer>, content: Content) {
        let accepted = peer.begin_wait(self.max_of_one) && {
            let place = Place(peer.clone());
            self.inbox.try_send(Arrived { place, content }).is_ok()
        };
        if !accepted {
            self.outlet.counts.overrun.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Runs handlers, one event after the other.
pub(super) async fn run_handlers(
    outlet: Arc<Outlet>,
    mut dispatcher: Dispatcher<DatagramReply>,
    bare: Arc<Hooks<(Bytes, DatagramReply)>>,
    mut arrivals: Receiver<Arrived>,
) {
    while let Ok(Arrived { place, content }) = arrivals.recv().await {
        let peer = place.0.clone();
        // Its handlers begin: it does not wait any more.
        drop(place);
        match content {
            Content::Bytes(bytes) => {
                let reply = DatagramReply::new(outlet.clone(), peer, None);
                let panicked = bare.run((bytes, reply)).await;
                outlet.counts.panicked.fetch_add(panicked, Ordering::Relaxed);
            }
            Content::Event { name, codec, payload, claimed } => {
                let reply = DatagramReply::new(outlet.clone(), peer, claimed);
                dispatcher.dispatch(&name, codec, &payload, Meta::default(), &reply).await;
            }
        }
    }
}

/// Sends until the outbox is closed and empty.
pub(super) async fn send(outlet: Arc<Outlet>, mut writer: DatagramWriter, mut outbox: Receiver<Datagram>) {
    while let Ok(datagram) = outbox.recv().await {
        match writer.send(datagram).await {
            Ok(()) => outlet.counts.sent.fetch_add(1, Ordering::Relaxed),
            Err(error) => {
                tracing::debug!(%error, "a datagram was not sent");
                outlet.counts.refused.fetch_add(1, Ordering::Relaxed)
            }
        };
    }
}
