//! Links whose runtime goes away, and links that are used where none is.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::{
    future::Future,
    pin::pin,
    sync::Arc,
    task::{Context, Poll, Waker},
    thread,
    time::Duration,
};

use async_trait::async_trait;
use common::{Site, capacity, on_both_runtimes};
use ipc_pipeline::{
    SendErrorReason,
    link::{Connector, LinkNames, OutgoingLink, ReceiverConfig, RecvError, Status},
};
use ipc_transport::{Bincode, Connection, Error};
use tokio::runtime::{Builder, Runtime};

fn runtime() -> Runtime {
    Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

/// Everybody who waits for a driver is told that it is gone; what was accepted is kept for the next one.
#[test]
fn a_link_outlives_its_runtime_and_nobody_waits_for_that() {
    let first = runtime();
    let (link, _receiver) = first.block_on(async {
        let site = Site::mem().await;
        let receiver = site.receiver::<u64>(ReceiverConfig::default());
        let link = site.link::<u64>(capacity(1));
        link.connected().await.unwrap();
        link.sender().send(1).await.unwrap();
        (link, receiver)
    });
    let (sending, settling) = (link.sender().clone(), link.sender().clone());
    let sending = thread::spawn(move || sending.blocking_send(2));
    let settling = thread::spawn(move || settling.blocking_settled());
    let mut room = link.sender().room();
    first.block_on(room.wait_for(|room| room.full)).unwrap();
    drop(first);
    let error = sending.join().unwrap().unwrap_err();
    assert_eq!((error.reason(), *error.value()), (&SendErrorReason::NotConnected, 2));
    assert_eq!(settling.join().unwrap(), Err(SendErrorReason::NotConnected));
    assert_eq!(*link.sender().status().borrow(), Status::Closed);

    runtime().block_on(async {
        let site = Site::mem().await;
        let mut receiver = site.receiver::<u64>(ReceiverConfig::default());
        site.connect(&link);
        assert_eq!(*receiver.recv().await.unwrap(), 1);
        link.sender().send(2).await.unwrap();
        assert_eq!(*receiver.recv().await.unwrap(), 2);
        link.close(Duration::from_secs(20)).await.unwrap();
        assert_eq!(receiver.recv().await.unwrap_err(), RecvError::EndOfStream);
    });
}

#[derive(Debug)]
struct Panics;

#[async_trait]
impl Connector for Panics {
    async fn connect(&self) -> Result<Connection, Error> {
        panic!("a connector of the user's panics");
    }
}

#[test]
fn a_driver_that_panics_lets_everybody_go() {
    on_both_runtimes(|| async {
        let link = OutgoingLink::<u64>::new(capacity(1), Bincode::default());
        link.sender().send(1).await.unwrap();
        link.connect(Arc::new(Panics), LinkNames::default()).unwrap();
        assert_eq!(link.sender().settled().await, Err(SendErrorReason::NotConnected));
        assert_eq!(link.sender().send(2).await.unwrap_err().reason(), &SendErrorReason::NotConnected);
        assert_eq!(link.close(Duration::from_secs(3_600)).await.unwrap_err().count, 1);
    });
}

fn poll_once<F: Future>(future: F) -> Poll<F::Output> {
    pin!(future).poll(&mut Context::from_waker(Waker::noop()))
}

/// Where nothing drives the link there is nothing to wait for, and no clock is needed.
#[test]
fn ends_of_an_unconnected_link_need_no_runtime() {
    for values in 0..3 {
        let link = || {
            let link = OutgoingLink::<u64>::new(capacity(5), Bincode::default());
            for value in 0..values {
                link.sender().blocking_send(value).unwrap();
            }
            link
        };
        let Poll::Ready(aborted) = poll_once(link().abort()) else { panic!("it waits for nothing") };
        assert_eq!(aborted.exact(), Some(values));
        let Poll::Ready(closed) = poll_once(link().close(Duration::MAX)) else {
            panic!("it waits for nothing")
        };
        assert_eq!(
            closed.map_err(|error| error.count),
            if values == 0 { Ok(()) } else { Err(values as usize) }
        );
        let closed = link().blocking_close(Duration::MAX);
        assert_eq!(
            closed.map_err(|error| error.count),
            if values == 0 { Ok(()) } else { Err(values as usize) }
        );
    }
}

/// A connected link is closed by a thread, and its futures may be polled by any executor.
#[test]
fn ends_of_a_connected_link_may_be_awaited_outside_its_runtime() {
    let runtime = runtime();
    let (link, other, mut receiver) = runtime.block_on(async {
        let site = Site::mem().await;
        let receiver = site.receiver::<u64>(ReceiverConfig::default());
        let link = site.link::<u64>(capacity(5));
        link.connected().await.unwrap();
        link.sender().send(1).await.unwrap();
        let other = site.link_from::<u64>("OTHER", capacity(5), Bincode::default());
        other.connected().await.unwrap();
        (link, other, receiver)
    });
    let control = link.control();
    assert!(poll_once(control.close(Duration::from_secs(20))).is_pending());
    assert!(link.control().blocking_close(Duration::ZERO).is_err());
    other.sender().blocking_send(2).unwrap();
    let closing = thread::spawn(move || other.blocking_close(Duration::MAX));
    while *receiver.blocking_recv().unwrap() != 2 {}
    closing.join().unwrap().unwrap();
}
