//! What the handlers of events promise.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicU64, Ordering},
};

use ipc_transport::EncodeBuffer;
use serde::Serialize;

use super::*;
use crate::{PayloadCodec, event::Meta};

mod order;

/// What is handed to handlers in these tests: a place to write down what was done.
type Log = Arc<Mutex<Vec<String>>>;

fn note(log: &Log, text: impl Into<String>) {
    log.lock().unwrap().push(text.into());
}

fn taken(log: &Log) -> Vec<String> {
    std::mem::take(&mut log.lock().unwrap())
}

fn encoded<T: Serialize>(codec: PayloadCodec, value: &T) -> Vec<u8> {
    let mut bytes = Vec::new();
    codec.encode(value, &mut EncodeBuffer::growing(&mut bytes, 1 << 20)).unwrap();
    bytes
}

/// Dispatches one value in binary.
async fn send<T: Serialize>(to: &mut Dispatcher<Log>, name: &str, value: &T, log: &Log) -> Dispatched {
    let codec = PayloadCodec::Bincode;
    to.dispatch(name, codec, &encoded(codec, value), Meta::default(), log).await
}
