//! What can be set on an end of datagrams, with a reason for each default.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    num::NonZeroUsize,
    sync::Arc,
};

use ipc_transport::{
    AddressFamily, DatagramSocket, DatagramTransport, Endpoint, Error, Limits, UdpTransport,
};

use crate::{PayloadCodec, events::Wire};

/// The port of node-ipc's servers where none is set: 8000.
pub const NODE_IPC_PORT: u16 = 8000;

/// How [`Datagrams`](super::Datagrams) start.
#[derive(Debug, Clone)]
#[must_use]
pub struct DatagramsConfig {
    pub(super) at: Endpoint,
    pub(super) wire: Wire,
    pub(super) codec: PayloadCodec,
    family: AddressFamily,
    transport: Option<Arc<dyn DatagramTransport>>,
    max_datagram: Option<usize>,
    pub(super) max_peers: NonZeroUsize,
    pub(super) inbox: NonZeroUsize,
    pub(super) outbox: NonZeroUsize,
    pub(super) byte_bound: usize,
}

impl DatagramsConfig {
    /// An end at this address, such as `udp://127.0.0.1:0`, on the native wire. Port 0 lets the system choose.
    pub fn new(at: Endpoint) -> Self {
        let usual = NonZeroUsize::new(1024).expect("1,024 is not zero");
        Self {
            at,
            wire: Wire::Native,
            codec: PayloadCodec::Bincode,
            family: AddressFamily::Any,
            transport: None,
            max_datagram: None,
            max_peers: usual,
            inbox: usual,
            outbox: usual,
            byte_bound: 4 * 1024 * 1024,
        }
    }

    /// An end as node-ipc's `serveNet(host, port, 'udp4')` or `'udp6'` opens it, on its wire.
    ///
    /// Its default host is `::1`; under `udp4` that is 127.0.0.1, there and here. [`NODE_IPC_PORT`] is its default port.
    pub fn node_ipc(family: AddressFamily, host: IpAddr, port: u16) -> Self {
        let host = match family {
            AddressFamily::V4 if host == Ipv6Addr::LOCALHOST => Ipv4Addr::LOCALHOST.into(),
            _ => host,
        };
        let at = format!("udp://{}", SocketAddr::new(host, port));
        let at = at.parse().expect("an address with a port makes an endpoint");
        Self { family, ..Self::new(at) }.wire(Wire::node_ipc())
    }

    /// What is spoken. [`Wire::Native`] by default; all ends that talk with each other must speak the same.
    ///
    /// A catalogue and a greeting of [`NodeIpc`](crate::events::NodeIpc) are for streams and mean nothing here.
    pub fn wire(mut self, wire: Wire) -> Self {
        self.wire = wire;
        self
    }

    /// How values are encoded on the native wire. [`PayloadCodec::Bincode`] by default; every datagram says which it is,
    /// and both are read. The wire of node-ipc has [`PayloadCodec::Json`] always.
    pub fn codec(mut self, codec: PayloadCodec) -> Self {
        self.codec = codec;
        self
    }

    /// How datagrams travel, in place of UDP on this machine.
    ///
    /// A [`UdpTransport`] of your own has a limit of its own: for more than 1,200 bytes raise
    /// [`UdpTransport::max_payload`] as well. [`UdpTransport::dangerous`] lets other machines in, on every wire; on those of
    /// node-ipc and of bare bytes nothing proves an address there.
    pub fn transport(mut self, transport: impl DatagramTransport) -> Self {
        self.transport = Some(Arc::new(transport));
        self
    }

    /// The most bytes of a datagram that is sent, all that stands in it included. 1,200 on the native wire, what passes on
    /// every path without being cut into pieces; 65,507, the largest that there is, on the other two, as their peers
    /// expect it. What is larger is [`EmitError::TooLarge`](crate::events::EmitError::TooLarge). It takes no less than 64.
    pub fn max_datagram(mut self, bytes: usize) -> Self {
        self.max_datagram = Some(bytes.clamp(64, UdpTransport::MAX_PAYLOAD_CAP));
        self
    }

    /// Peers heard from that are remembered, to be told broadcasts. 1,024, a few hundred bytes each; beyond it those
    /// whose address is not proved are forgotten first, and then the longest silent.
    pub fn max_peers(mut self, peers: NonZeroUsize) -> Self {
        self.max_peers = peers;
        self
    }

    /// Events that wait for handlers, at most. 1,024, so that a burst finds room; a quarter of it for each peer, so that a
    /// loud one does not silence the others. What finds no room is dropped and counted, as the system does it with a full
    /// socket.
    pub fn inbox(mut self, events: NonZeroUsize) -> Self {
        self.inbox = events;
        self
    }

    /// Datagrams that wait to be sent, at most. 1,024; the oldest make room and are counted.
    pub fn outbox(mut self, datagrams: NonZeroUsize) -> Self {
        self.outbox = datagrams;
        self
    }

    /// Bytes that wait, in each direction. 4 MiB, as the counts alone would allow 64.
    pub fn byte_bound(mut self, bytes: usize) -> Self {
        self.byte_bound = bytes;
        self
    }

    /// Opens the socket; and the most bytes of a datagram on it.
    pub(super) async fn bind(&self) -> Result<(DatagramSocket, usize), Error> {
        if let Some(address) = self.at.socket_addr()
            && !self.family.admits(address.ip())
        {
            return Err(Error::WrongFamily { endpoint: self.at.clone(), family: self.family });
        }
        let usual = match self.wire {
            Wire::Native => USUAL,
            _ => UdpTransport::MAX_PAYLOAD_CAP,
        };
        let max = self.max_datagram.unwrap_or(usual);
        let socket = match &self.transport {
            Some(transport) => transport.bind(&self.at).await?,
            None => UdpTransport::new().max_payload(max).bind(&self.at).await?,
        };
        let max = max.min(socket.max_payload()).min(Limits::MAX_MESSAGE_CAP);
        Ok((socket, max))
    }
}

/// What the minimum of IPv6's path leaves after the headers, with something to spare for tunnels.
const USUAL: usize = 1_200;
