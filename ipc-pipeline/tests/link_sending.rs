//! Sending: values that do not encode, sends within sends, permits, and futures dropped half way.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::{
    future::{Future, poll_fn},
    pin::{Pin, pin},
    sync::{Arc, OnceLock},
    task::{Context, Poll, Waker},
    time::Duration,
};

use common::{Site, capacity, on_both_runtimes};
use ipc_pipeline::{
    SendErrorReason,
    link::{Permit, ReceiverConfig, Sender},
};
use serde::{Deserialize, Serialize, Serializer};

/// A value that does something while it is encoded.
#[derive(Clone)]
enum Odd {
    Fails,
    Panics,
    Plain(u64),
    SendsAgain(Arc<OnceLock<Sender<Self>>>, How),
}

#[derive(Clone, Copy, Debug)]
enum How {
    Send,
    TrySend,
    SendMany,
    Reserve,
}

#[derive(Deserialize, PartialEq, Debug)]
struct Read(u64);

impl Serialize for Odd {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Plain(value) => value.serialize(serializer),
            Self::Fails => Err(serde::ser::Error::custom("it will not")),
            Self::Panics => panic!("it must not"),
            Self::SendsAgain(sender, how) => {
                let sender = sender.get().unwrap();
                let reason = match how {
                    How::Send => ready(sender.send(Self::Plain(99))).unwrap_err().into_parts().1,
                    How::TrySend => sender.try_send(Self::Plain(99)).unwrap_err().reason().clone(),
                    How::SendMany => ready(sender.send_many([Self::Plain(99)])).unwrap_err().reason,
                    How::Reserve => ready(sender.reserve()).err().unwrap(),
                };
                assert_eq!(reason, SendErrorReason::Reentrant, "{how:?}");
                7_u64.serialize(serializer)
            }
        }
    }
}

/// The outcome of a future that must not wait.
fn ready<F: Future>(future: F) -> F::Output {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("it waits"),
    }
}

#[test]
fn a_value_that_does_not_encode_leaves_nothing_behind() {
    on_both_runtimes(|| async {
        let site = Site::mem().await;
        let mut receiver = site.receiver::<Read>(ReceiverConfig::default());
        let link = site.link::<Odd>(capacity(4));
        let sender = link.sender();
        for round in 0..50 {
            let error = sender.send(Odd::Fails).await.unwrap_err();
            assert!(matches!(error.reason(), SendErrorReason::Encode(_)));
            let sent =
                std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| ready(sender.send(Odd::Panics))));
            assert!(sent.is_err());
            let permit = sender.reserve().await.unwrap();
            assert!(permit.send(Odd::Fails).is_err());
            let error = sender.send_many([Odd::Plain(round), Odd::Fails, Odd::Plain(1)]).await.unwrap_err();
            assert_eq!((error.accepted, error.values.len()), (1, 2));
            assert_eq!(*receiver.recv().await.unwrap(), Read(round));
            sender.settled().await.unwrap();
        }
        // Every unit is back: the capacity is there in full.
        let permits = [
            sender.reserve().await.unwrap(),
            sender.reserve().await.unwrap(),
            sender.reserve().await.unwrap(),
            sender.reserve().await.unwrap(),
        ];
        assert!(sender.try_send(Odd::Plain(0)).unwrap_err().is_full());
        drop(permits);
        assert!(sender.try_send(Odd::Plain(0)).is_ok());
    });
}

/// A panic after values of the same batch were accepted does not leave those unsent.
#[test]
fn a_panic_in_a_batch_does_not_hold_up_what_came_before_it() {
    on_both_runtimes(|| async {
        let site = Site::mem().await;
        let mut receiver = site.receiver::<Read>(ReceiverConfig::default());
        let link = site.link::<Odd>(capacity(100));
        link.connected().await.unwrap();
        let batch = vec![Odd::Plain(1), Odd::Plain(2), Odd::Panics];
        let sent = std::panic::AssertUnwindSafe(|| ready(link.sender().send_many(batch)));
        assert!(std::panic::catch_unwind(sent).is_err());
        for value in [1, 2] {
            assert_eq!(*receiver.recv().await.unwrap(), Read(value));
        }
    });
}

#[test]
fn a_send_from_inside_an_encoding_is_refused() {
    on_both_runtimes(|| async {
        let site = Site::mem().await;
        let mut receiver = site.receiver::<Read>(ReceiverConfig::default());
        let link = site.link::<Odd>(capacity(4));
        let slot: Arc<OnceLock<_>> = Arc::default();
        slot.set(link.sender().clone()).unwrap();
        for how in [How::Send, How::TrySend, How::SendMany, How::Reserve] {
            link.sender().send(Odd::SendsAgain(slot.clone(), how)).await.unwrap();
            assert_eq!(*receiver.recv().await.unwrap(), Read(7));
        }
    });
}

/// A permit that is used or dropped while a value of the same link is encoded is given back.
#[test]
fn a_permit_inside_an_encoding_is_given_back() {
    thread_local!(static PERMIT: std::cell::RefCell<Option<Permit<'static, Nested>>> = const { std::cell::RefCell::new(None) });
    struct Nested(bool);
    impl Serialize for Nested {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            if let Some(permit) = PERMIT.take() {
                match self.0 {
                    true => drop(permit),
                    false => {
                        let error = permit.send(Self(true)).unwrap_err();
                        assert_eq!(error.reason(), &SendErrorReason::Reentrant);
                    }
                }
            }
            1_u64.serialize(serializer)
        }
    }
    on_both_runtimes(|| async {
        let site = Site::mem().await;
        let mut receiver = site.receiver::<Read>(ReceiverConfig::default());
        let link = site.link::<Nested>(capacity(2));
        let sender: &'static Sender<Nested> = Box::leak(Box::new(link.sender().clone()));
        for drops in [true, false] {
            let permit = ready(sender.reserve()).unwrap();
            PERMIT.set(Some(permit));
            ready(sender.send(Nested(drops))).unwrap();
            ready(sender.send(Nested(true))).unwrap();
            for _ in 0..2 {
                let _ = receiver.recv().await.unwrap();
            }
            sender.settled().await.unwrap();
        }
    });
}

/// A batch gets its turn although others wait all the time.
#[test]
fn a_batch_is_not_starved_by_single_sends() {
    on_both_runtimes(|| async {
        let site = Site::mem().await;
        let mut receiver = site.receiver::<u64>(ReceiverConfig::default());
        let link = site.link::<u64>(capacity(1));
        let mut others = tokio::task::JoinSet::new();
        for _ in 0..4 {
            let sender = link.sender().clone();
            others.spawn(async move { while sender.send(0).await.is_ok() {} });
        }
        let sender = link.sender().clone();
        let batch = tokio::spawn(async move { sender.send_many(1..=20).await.unwrap() });
        let mut next = 1;
        while next <= 20 {
            let delivery = receiver.recv().await.unwrap();
            if *delivery > 0 {
                assert_eq!(*delivery, next);
                next += 1;
            }
        }
        assert_eq!(batch.await.unwrap(), 20);
        others.abort_all();
    });
}

/// A sender that waited through a pause finds the room that came meanwhile.
#[test]
fn a_pause_does_not_lose_who_waits() {
    on_both_runtimes(|| async {
        let site = Site::mem().await;
        let mut receiver = site.receiver::<u64>(ReceiverConfig::default());
        let link = site.link::<u64>(capacity(1));
        link.sender().send(0).await.unwrap();
        let mut waiting = pin!(link.sender().reserve());
        assert!(poll_fn(|cx| Poll::Ready(waiting.as_mut().poll(cx).is_pending())).await);
        link.set_paused(true);
        assert_eq!(*receiver.recv().await.unwrap(), 0);
        while link.sender().pending() > 0 {
            tokio::task::yield_now().await;
        }
        link.set_paused(false);
        waiting.await.unwrap().send(1).unwrap();
        assert_eq!(*receiver.recv().await.unwrap(), 1);
    });
}

/// Polls a future so many times, with a pause for others in between, and drops it; its output if it completed.
async fn poll_times<F: Future>(future: F, times: usize) -> Option<F::Output> {
    let mut future = pin!(future);
    for _ in 0..times {
        let polled = poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx))).await;
        if let Poll::Ready(output) = polled {
            return Some(output);
        }
        tokio::task::yield_now().await;
    }
    None
}

/// P-16. Sends, batches, reservations, `settled` and receives, dropped after any number of polls: every accepted
/// value arrives once and in order, and no unit of capacity is lost.
#[test]
fn a_dropped_future_loses_and_doubles_nothing() {
    on_both_runtimes(|| async {
        for polls in 0..7 {
            let site = Site::mem().await;
            let mut receiver = site.receiver::<u64>(ReceiverConfig::default());
            let link = site.link::<u64>(capacity(3));
            let sender = link.sender();
            let (mut accepted, mut received) = (Vec::new(), Vec::new());
            let mut batch = Vec::new();
            for round in 0..300_u64 {
                if let Some(Ok(())) = poll_times(sender.send(round * 10), polls).await {
                    accepted.push(round * 10);
                }
                if let Some(Ok(permit)) = poll_times(sender.reserve(), polls).await
                    && round % 3 > 0
                {
                    permit.send(round * 10 + 1).unwrap();
                    accepted.push(round * 10 + 1);
                }
                let before = sender.counters().accepted;
                let values = [round * 10 + 2, round * 10 + 3];
                poll_times(sender.send_many(values), polls).await;
                accepted.extend(&values[..(sender.counters().accepted - before) as usize]);
                poll_times(sender.settled(), polls).await;
                poll_times(link.connected(), polls).await;
                if let Some(Ok(delivery)) = poll_times(receiver.recv(), polls).await {
                    received.push(*delivery);
                }
                if let Some(Ok(_)) = poll_times(receiver.recv_many(&mut batch, 2), polls).await {
                    received.append(&mut batch);
                }
                assert!(batch.is_empty(), "what a dropped receive took is lost");
                let mut deliveries = Vec::new();
                poll_times(receiver.recv_deliveries(&mut deliveries, 2), polls).await;
                received.extend(deliveries.iter().map(|delivery| **delivery));
            }
            while received.len() < accepted.len() {
                received.push(*receiver.recv().await.unwrap());
            }
            assert_eq!(received, accepted, "{polls} polls");
            sender.settled().await.unwrap();
            let permits = [sender.reserve().await.unwrap(), sender.reserve().await.unwrap()];
            drop((sender.reserve().await.unwrap(), permits));
            link.close(Duration::from_secs(20)).await.unwrap();
        }
    });
}

/// A close, an abort and a receiver's close that are dropped after any number of polls end the link all the same.
#[test]
fn a_dropped_end_is_an_end() {
    type Ending = Pin<Box<dyn Future<Output = ()> + Send>>;
    on_both_runtimes(|| async {
        for polls in 0..4 {
            for which in 0..4 {
                let site = Site::mem().await;
                let mut receiver = site.receiver::<u64>(ReceiverConfig::default());
                let link = site.link::<u64>(capacity(3));
                link.connected().await.unwrap();
                let sender = link.sender().clone();
                sender.send(1).await.unwrap();
                assert_eq!(*receiver.recv().await.unwrap(), 1);
                let ending: Ending = match which {
                    0 => Box::pin(async move { drop(link.close(Duration::from_secs(5)).await) }),
                    1 => Box::pin(async move {
                        let _ = link.abort().await;
                    }),
                    _ => {
                        let intake = receiver.intake();
                        let closes = which == 2;
                        let rest = async move {
                            if closes { receiver.close().await } else { receiver.detach().await }
                        };
                        poll_times(rest, polls).await;
                        assert!(intake.is_gone());
                        continue;
                    }
                };
                poll_times(ending, polls).await;
                assert!(receiver.recv().await.is_err(), "{which} after {polls} polls");
                assert!(sender.send(2).await.is_err());
            }
        }
    });
}
