//! What all handles of an end send through, and the account of it.

use std::{
    hash::{BuildHasher as _, RandomState},
    sync::atomic::{AtomicU64, Ordering},
};

use bytes::Bytes;
use ipc_pipeline::{FullPolicy, QueueConfig, Receiver, Sender};
use ipc_transport::{AddressFamily, Datagram, DatagramAddress, Endpoint};
use serde::Serialize;

use super::{
    DatagramsConfig,
    format::Format,
    native::{self, Body},
    peers::{Peer, Peers},
};
use crate::events::EmitError;

pub(super) struct Outlet {
    pub(super) format: Format,
    pub(super) peers: Peers,
    pub(super) counts: Counts,
    local: Endpoint,
    max_datagram: usize,
    queue: Sender<Datagram>,
    /// Makes the token of each address, without having to remember it: SipHash with random keys.
    tokens: RandomState,
}

/// What happened to datagrams; see [`DatagramsCounters`](super::DatagramsCounters).
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) received: AtomicU64,
    pub(super) malformed: AtomicU64,
    pub(super) overrun: AtomicU64,
    pub(super) sent: AtomicU64,
    pub(super) refused: AtomicU64,
    pub(super) failed: AtomicU64,
    pub(super) unproved: AtomicU64,
    pub(super) panicked: AtomicU64,
}

/// What becomes a datagram; on the native wire each receiver's tokens are put into it.
pub(super) enum Message {
    Addressed(Vec<u8>),
    Same(Bytes),
}

impl Outlet {
    pub(super) fn new(
        config: &DatagramsConfig,
        local: Endpoint,
        max_datagram: usize,
    ) -> (Self, Receiver<Datagram>) {
        let capacity = config.outbox.get().min(QueueConfig::<Datagram>::MAX_CAPACITY);
        let queue = QueueConfig::new(capacity).expect("the capacity is neither 0 nor too large");
        let weigh = |datagram: &Datagram| datagram.payload.len();
        let (queue, outbox) =
            queue.policy(FullPolicy::DropOldest).byte_bound(config.byte_bound, weigh).build();
        let outlet = Self {
            format: Format::new(&config.wire, config.codec, max_datagram),
            peers: Peers::new(config.max_peers),
            counts: Counts::default(),
            local,
            max_datagram,
            queue,
            tokens: RandomState::new(),
        };
        (outlet, outbox)
    }

    pub(super) fn max_datagram(&self) -> usize {
        self.max_datagram
    }

    pub(super) fn event<T>(&self, name: &str, value: Option<&T>) -> Result<Message, EmitError>
    where
        T: Serialize + ?Sized,
    {
        let bytes = self.format.event(name, value, self.max_datagram)?;
        Ok(match self.format {
            Format::Native(_) => Message::Addressed(bytes),
            _ => Message::Same(bytes.into()),
        })
    }

    pub(super) fn bytes(&self, bytes: Bytes) -> Result<Message, EmitError> {
        self.format.bytes(bytes, self.max_datagram).map(Message::Same)
    }

    /// To an address: of a peer that is known what is known of it counts; any other is the caller's own choice.
    pub(super) fn send(&self, to: &DatagramAddress, message: Message) -> Result<(), EmitError> {
        self.check(to)?;
        match (self.peers.find(to), message) {
            (Some(peer), message) => self.send_to(&peer, &message),
            (None, Message::Same(bytes)) => self.put(to, bytes),
            (None, Message::Addressed(mut bytes)) => {
                native::address(&mut bytes, self.token(to), 0);
                self.put(to, bytes.into())
            }
        }
    }

    /// To a peer that was heard from: an unproved address gets a challenge in place of what is too large for it.
    pub(super) fn send_to(&self, peer: &Peer, message: &Message) -> Result<(), EmitError> {
        let bytes = match message {
            Message::Same(bytes) => return self.put(&peer.address, bytes.clone()),
            Message::Addressed(bytes) => bytes,
        };
        match peer.spend(bytes.len()) {
            Ok(echo) => {
                let mut bytes = bytes.clone();
                native::address(&mut bytes, self.token(&peer.address), echo);
                self.put(&peer.address, bytes.into())
            }
            Err(max) => {
                self.counts.unproved.fetch_add(1, Ordering::Relaxed);
                self.challenge(peer)?;
                Err(EmitError::Unproved { len: bytes.len(), max })
            }
        }
    }

    /// To every peer heard from, once; how many were told.
    pub(super) fn broadcast(&self, message: &Message) -> Result<usize, EmitError> {
        let mut told = 0;
        for peer in self.peers.all() {
            match self.send_to(&peer, message) {
                Ok(()) => told += 1,
                Err(EmitError::Unproved { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(told)
    }

    /// Whether this is the token of that address, which then receives what is sent there.
    pub(super) fn proves(&self, address: &DatagramAddress, echo: u64) -> bool {
        self.token(address) == echo
    }

    /// Answers a challenge, which was found to be from where it seems to be.
    pub(super) fn answer(&self, to: &DatagramAddress, echo: u64) {
        let mut answer = native::bare(Body::Answer);
        native::address(&mut answer, self.token(to), echo);
        // An end that is closed answers nobody.
        let _ = self.put(to, answer.into());
    }

    fn challenge(&self, peer: &Peer) -> Result<(), EmitError> {
        let mut challenge = native::bare(Body::Challenge);
        // It counts as all else does; without room for it the peer's next word makes some.
        let Ok(echo) = peer.spend(challenge.len()) else { return Ok(()) };
        native::address(&mut challenge, self.token(&peer.address), echo);
        self.put(&peer.address, challenge.into())
    }

    /// Never 0, which stands for none.
    fn token(&self, address: &DatagramAddress) -> u64 {
        self.tokens.hash_one(address).max(1)
    }

    fn put(&self, to: &DatagramAddress, payload: Bytes) -> Result<(), EmitError> {
        let datagram = Datagram { payload, peer: to.clone() };
        // It drops what is older rather than to say that it is full.
        self.queue.try_send(datagram).map_err(|_| EmitError::Closed)
    }

    /// Where an endpoint leads from here, without asking anybody for a name; `localhost` is the own loopback address.
    pub(super) fn resolve(&self, to: &Endpoint) -> Result<DatagramAddress, EmitError> {
        let unreachable = || EmitError::Unreachable { to: to.to_string() };
        if to.scheme() != self.local.scheme() {
            return Err(unreachable());
        }
        if let (Some(("localhost", port)), Some(local)) = (to.host_port(), self.local.socket_addr()) {
            let loopback = match AddressFamily::of(local.ip()) {
                AddressFamily::V4 => std::net::Ipv4Addr::LOCALHOST.into(),
                _ => std::net::Ipv6Addr::LOCALHOST.into(),
            };
            return Ok(std::net::SocketAddr::new(loopback, port).into());
        }
        DatagramAddress::of(to).ok_or_else(unreachable)
    }

    /// Whether a datagram can go there from here, as far as that is known.
    fn check(&self, to: &DatagramAddress) -> Result<(), EmitError> {
        let Some(local) = self.local.socket_addr() else { return Ok(()) };
        match to {
            DatagramAddress::Ip(to) if AddressFamily::of(local.ip()).admits(to.ip()) => Ok(()),
            _ => Err(EmitError::Unreachable { to: to.to_string() }),
        }
    }

    /// Datagrams dropped because newer ones came.
    pub(super) fn dropped(&self) -> u64 {
        self.queue.counters().dropped
    }

    /// Datagrams that were accepted and have not left.
    pub(super) fn pending(&self) -> usize {
        let counters = self.queue.counters();
        let done = self.counts.sent.load(Ordering::Relaxed) + self.counts.refused.load(Ordering::Relaxed);
        usize::try_from(counters.accepted.saturating_sub(counters.dropped + done)).unwrap_or(usize::MAX)
    }

    /// Nothing more is accepted.
    pub(super) fn close(&self) {
        self.queue.close();
    }
}
