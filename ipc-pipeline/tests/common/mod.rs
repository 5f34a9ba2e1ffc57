//! A receiving endpoint on a transport, and links that lead to it.

#![allow(dead_code, reason = "each test target uses its own part")]
#![allow(clippy::unwrap_used, reason = "a test helper fails by panicking")]

use std::{
    future::Future,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use ipc_pipeline::link::{
    Connector, Greeting, Intake, LinkConfig, LinkNames, OutgoingLink, Receiver, ReceiverConfig,
};
use ipc_testkit::MemTransport;
use ipc_transport::{
    Bincode, ConnectOptions, Connection, ConnectionInfo, Decoder, Encoder, Endpoint, Error, ListenOptions,
    PeerIdentity, Transport,
};
use serde::{Serialize, de::DeserializeOwned};
use tokio::io::{BufWriter, duplex, split};

/// Where a receiver listens; the receiver behind it can be replaced, as by a restarted process.
#[derive(Debug, Clone)]
pub(crate) struct Site {
    pub(crate) transport: Arc<dyn Transport>,
    pub(crate) at: Endpoint,
    intake: Arc<Mutex<Option<Intake>>>,
    hidden: Arc<Mutex<Option<Intake>>>,
}

impl Site {
    pub(crate) async fn on(transport: impl Transport, at: Endpoint) -> Self {
        let transport: Arc<dyn Transport> = Arc::new(transport);
        let mut listener = transport.listen(&at, &ListenOptions::default()).await.unwrap();
        let site = Self {
            at: listener.local_endpoint().clone(),
            transport,
            intake: Arc::default(),
            hidden: Arc::default(),
        };
        let of_task = site.clone();
        tokio::spawn(async move {
            while let Ok(incoming) = listener.accept().await {
                let site = of_task.clone();
                tokio::spawn(async move {
                    let Ok(connection) = incoming.establish().await else { return };
                    let Ok(greeting) = Greeting::read(connection, Duration::from_secs(5)).await else {
                        return;
                    };
                    let intake = site.intake.lock().unwrap().clone();
                    if let Some(intake) = intake {
                        let _ = intake.accept(greeting).await;
                    }
                });
            }
        });
        site
    }

    /// A receiver's place beside a listener of the test's own.
    pub(crate) fn beside(transport: impl Transport, at: Endpoint) -> Self {
        Self { at, transport: Arc::new(transport), intake: Arc::default(), hidden: Arc::default() }
    }

    pub(crate) async fn mem() -> Self {
        Self::on(MemTransport::new(), Endpoint::new("mem", "receiver").unwrap()).await
    }

    pub(crate) fn receiver<T: DeserializeOwned + Send + 'static>(
        &self,
        config: ReceiverConfig,
    ) -> Receiver<T> {
        self.receiver_with(config, Bincode::default())
    }

    pub(crate) fn receiver_with<T: 'static>(
        &self,
        config: ReceiverConfig,
        decoder: impl Decoder<T>,
    ) -> Receiver<T> {
        let receiver = Receiver::new(config, decoder);
        *self.intake.lock().unwrap() = Some(receiver.intake());
        receiver
    }

    pub(crate) fn link<T: Serialize + Send + 'static>(&self, config: LinkConfig) -> OutgoingLink<T> {
        self.link_from("OUT", config, Bincode::default())
    }

    pub(crate) fn link_from<T: 'static>(
        &self,
        port: &str,
        config: LinkConfig,
        encoder: impl Encoder<T>,
    ) -> OutgoingLink<T> {
        let link = OutgoingLink::new(config, encoder);
        self.connect_as(port, &link);
        link
    }

    pub(crate) fn connect<T: 'static>(&self, link: &OutgoingLink<T>) {
        self.connect_as("OUT", link);
    }

    pub(crate) fn connect_as<T: 'static>(&self, port: &str, link: &OutgoingLink<T>) {
        link.connect(Arc::new(self.clone()), LinkNames::new(("a", port), ("b", "IN"))).unwrap();
    }

    /// The receiver cannot be reached for now.
    pub(crate) fn hide(&self) {
        let intake = self.intake.lock().unwrap().take();
        *self.hidden.lock().unwrap() = intake;
    }

    /// The hidden receiver can be reached again.
    pub(crate) fn show(&self) {
        let intake = self.hidden.lock().unwrap().take();
        *self.intake.lock().unwrap() = intake;
    }

    /// A receiver is here again.
    pub(crate) fn occupy(&self, intake: Intake) {
        *self.intake.lock().unwrap() = Some(intake);
    }

    /// The receiver is gone for now: connections are hung up on.
    pub(crate) fn vacate(&self) {
        *self.intake.lock().unwrap() = None;
    }
}

#[async_trait]
impl Connector for Site {
    async fn connect(&self) -> Result<Connection, Error> {
        self.transport.connect(&self.at, &ConnectOptions::default()).await
    }
}

/// Leads straight into a receiver, without a listener.
#[derive(Debug)]
pub(crate) struct Direct {
    /// Who the receiver is told to be talking with.
    pub(crate) peer: PeerIdentity,
    /// Whether both writers keep up to 64 KiB back until they are flushed.
    pub(crate) buffered: bool,
    pub(crate) intake: Intake,
}

#[async_trait]
impl Connector for Direct {
    async fn connect(&self) -> Result<Connection, Error> {
        let (ours, theirs) = duplex(64 * 1024);
        let connection = |stream, peer| {
            let at = Endpoint::new("direct", "here").unwrap();
            let info = ConnectionInfo::new(at.clone(), at, peer);
            let (reader, writer) = split(stream);
            if self.buffered {
                Connection::from_bytes(reader, BufWriter::with_capacity(64 * 1024, writer), info)
            } else {
                Connection::from_bytes(reader, writer, info)
            }
        };
        let accepted = connection(theirs, self.peer.clone());
        let intake = self.intake.clone();
        tokio::spawn(async move {
            let greeting = Greeting::read(accepted, Duration::from_secs(5)).await.unwrap();
            let _ = intake.accept(greeting).await;
        });
        Ok(connection(ours, PeerIdentity::Unknown))
    }
}

/// Polls once, and tells whether that was not enough.
pub(crate) async fn is_pending<F: Future>(mut future: std::pin::Pin<&mut F>) -> bool {
    std::future::poll_fn(|cx| std::task::Poll::Ready(future.as_mut().poll(cx).is_pending())).await
}

/// Runs a test on both tokio flavours, under a watchdog.
pub(crate) fn on_both_runtimes<F: Future<Output = ()>>(test: impl Fn() -> F) {
    for threads in [0, 2] {
        let runtime = match threads {
            0 => tokio::runtime::Builder::new_current_thread().enable_all().build(),
            _ => tokio::runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build(),
        };
        let guarded = async { tokio::time::timeout(Duration::from_secs(120), test()).await };
        runtime.unwrap().block_on(guarded).expect("the watchdog barked: the test hangs");
    }
}

/// Runs a test under paused time, on one thread.
pub(crate) fn paused(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
    let guarded = async { tokio::time::timeout(Duration::from_secs(100_000), test).await };
    runtime.unwrap().block_on(guarded).expect("the watchdog barked: the test hangs");
}

pub(crate) fn capacity(capacity: usize) -> LinkConfig {
    let mut config = LinkConfig::default();
    config.capacity = capacity.try_into().unwrap();
    config
}

/// Decodes eight bytes of what `Raw` sends; anything else is an error.
pub(crate) struct BigEndian;

impl Decoder<u64> for BigEndian {
    fn id(&self) -> &str {
        "raw"
    }

    fn decode(&self, input: &[u8]) -> Result<u64, ipc_transport::DecodeError> {
        let bytes = input.try_into().map_err(|_| ipc_transport::DecodeError::TrailingBytes { count: 1 })?;
        Ok(u64::from_be_bytes(bytes))
    }
}
