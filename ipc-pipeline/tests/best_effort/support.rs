//! Sockets in the hands of the test: what leaves is caught, and what arrives is what the test puts in.

use std::{
    future::poll_fn,
    pin::{Pin, pin},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use futures_util::{Sink, stream, task::AtomicWaker};
use ipc_pipeline::best_effort::{Outgoing, Receiver, ReceiverConfig, SenderConfig, Sources};
use ipc_transport::{Bincode, Datagram, DatagramAddress, DatagramSocket, Endpoint, Error};
use tokio::sync::mpsc;

pub(crate) const LONG: Duration = Duration::from_secs(20);

/// Waits for something that another task brings about.
pub(crate) async fn until(condition: impl Fn() -> bool) {
    while !condition() {
        tokio::task::yield_now().await;
    }
}

/// Polls once, and tells whether that was not enough.
pub(crate) async fn is_pending<F: Future>(future: F) -> bool {
    let mut future = pin!(future);
    poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx).is_pending())).await
}

/// A future under a watchdog.
pub(crate) async fn guarded(test: impl Future<Output = ()>) {
    tokio::time::timeout(Duration::from_secs(60), test).await.expect("the watchdog barked: the test hangs");
}

/// Runs a test on both tokio flavours, under a watchdog.
pub(crate) fn on_both_runtimes<F: Future<Output = ()>>(test: impl Fn() -> F) {
    for mut builder in
        [tokio::runtime::Builder::new_current_thread(), tokio::runtime::Builder::new_multi_thread()]
    {
        let runtime = builder.worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(guarded(test()));
    }
}

pub(crate) fn name(name: &str) -> DatagramAddress {
    DatagramAddress::Name(name.into())
}

fn at() -> Endpoint {
    Endpoint::new("caught", "here").unwrap()
}

/// What a sending end handed to its socket; it can be told to take nothing for a while.
#[derive(Clone, Default)]
pub(crate) struct Caught {
    datagrams: Arc<Mutex<Vec<Datagram>>>,
    blocked: Arc<AtomicBool>,
    waker: Arc<AtomicWaker>,
}

impl Caught {
    pub(crate) fn socket(&self, max_payload: usize) -> DatagramSocket {
        DatagramSocket::new(stream::pending(), self.clone(), at(), max_payload)
    }

    /// A sending end whose values go nowhere but here.
    pub(crate) fn sender<T: serde::Serialize + 'static>(&self, config: SenderConfig) -> Outgoing<T> {
        let sender = Outgoing::new(self.socket(1_200), config, Bincode::default()).unwrap();
        sender.lead_to(Some(name("there")));
        sender
    }

    pub(crate) fn block(&self, blocked: bool) {
        self.blocked.store(blocked, Ordering::SeqCst);
        self.waker.wake();
    }

    pub(crate) fn count(&self) -> usize {
        self.datagrams.lock().unwrap().len()
    }

    pub(crate) fn take(&self) -> Vec<Datagram> {
        std::mem::take(&mut *self.datagrams.lock().unwrap())
    }

    fn poll(&self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.waker.register(cx.waker());
        if self.blocked.load(Ordering::SeqCst) { Poll::Pending } else { Poll::Ready(Ok(())) }
    }
}

impl Sink<Datagram> for Caught {
    type Error = Error;

    fn poll_ready(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.poll(cx)
    }

    fn start_send(self: Pin<&mut Self>, datagram: Datagram) -> Result<(), Error> {
        self.datagrams.lock().unwrap().push(datagram);
        Ok(())
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }
}

/// Puts datagrams into a receiving end.
pub(crate) type Feed = mpsc::UnboundedSender<Result<Datagram, Error>>;

/// A socket that receives what the test puts in.
pub(crate) fn fed() -> (Feed, DatagramSocket) {
    let (feed, mut arriving) = mpsc::unbounded_channel();
    let arriving = stream::poll_fn(move |cx| arriving.poll_recv(cx));
    (feed, DatagramSocket::new(arriving, Caught::default(), at(), 1_200))
}

/// A receiving end that takes datagrams from anybody.
pub(crate) fn receiver<T: serde::de::DeserializeOwned + 'static>(
    change: impl FnOnce(&mut ReceiverConfig),
) -> (Feed, Receiver<T>) {
    let (feed, socket) = fed();
    let mut config = ReceiverConfig::default();
    config.sources = Sources::Anybody;
    change(&mut config);
    (feed, Receiver::new(socket, config, Bincode::default()).unwrap())
}

/// Gives a receiving end everything, and waits until it has entered it.
pub(crate) async fn give<T: 'static>(feed: &Feed, receiver: &Receiver<T>, datagrams: Vec<Datagram>) {
    let entered = || {
        let counters = receiver.counters();
        let known: u64 = receiver
            .sources()
            .iter()
            .map(|source| source.tally.received + source.tally.duplicates + source.tally.stale)
            .sum();
        known + counters.malformed + counters.mismatched + counters.unannounced + counters.turned_away
    };
    let expected = entered() + datagrams.len() as u64;
    for datagram in datagrams {
        feed.send(Ok(datagram)).unwrap();
    }
    until(|| entered() >= expected).await;
}
