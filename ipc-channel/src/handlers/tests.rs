//! What handlers promise, by the part of it.

use std::{
    future::pending,
    sync::{Barrier, Weak},
    thread,
    time::Duration,
};

use futures_util::{FutureExt, StreamExt};
use ipc_transport::EncodeBuffer;
use tokio::{
    sync::{mpsc, oneshot},
    task::yield_now,
};

use super::dispatch::Dispatched;
use super::*;
use crate::{PayloadCodec, event::Meta};

mod cancelling;
mod once;
mod order;
mod panics;
mod requests;
mod streams;

const BINARY: PayloadCodec = PayloadCodec::Bincode;

/// What is handed to handlers in these tests: where they write down what they did.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    fn note(&self, text: impl Into<String>) {
        self.0.lock().unwrap().push(text.into());
    }

    /// What was written since the last time.
    fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

/// One connection, without any: a dispatcher and what it hands to handlers.
struct Connection {
    dispatcher: Dispatcher<Log>,
    log: Log,
}

impl Connection {
    fn new(handlers: &Arc<Handlers<Log>>) -> Self {
        Self { dispatcher: handlers.dispatcher(), log: Log::default() }
    }

    async fn event<T: Serialize>(&mut self, name: &str, value: T) -> Dispatched {
        let payload = encoded(BINARY, &value);
        self.dispatcher.dispatch(name, BINARY, &payload, Meta::default(), &self.log).await
    }

    /// For handlers that never wait.
    fn at_once<T: Serialize>(&mut self, name: &str, value: T) -> Dispatched {
        self.event(name, value).now_or_never().unwrap()
    }
}

fn encoded<T: Serialize>(codec: PayloadCodec, value: &T) -> Vec<u8> {
    let mut bytes = Vec::new();
    codec.encode(value, &mut EncodeBuffer::growing(&mut bytes, 1 << 20)).unwrap();
    bytes
}

/// A handler of numbers that writes down who it is and what it got, without waiting.
fn noting(who: &'static str) -> impl Fn(Event<u32>, Log) -> std::future::Ready<()> + Send + Sync + 'static {
    move |event, log| {
        log.note(format!("{who} {}", *event));
        std::future::ready(())
    }
}

/// Awaits what would hang if it failed.
async fn soon<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(Duration::from_secs(60), future).await.unwrap()
}

fn ran(count: usize) -> Dispatched {
    Dispatched { ran: count, ..Dispatched::default() }
}
