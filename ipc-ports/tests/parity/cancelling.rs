//! Futures that are dropped at any await point lose nothing and double nothing.

use std::future::Future;

use ipc_ports::{Delivery, IncomingPort, Node, OutgoingPort, PortConfig, RecvError, SendErrorReason};
use tokio::task::yield_now;

use crate::support::{LONG, everywhere, fill, polled};

/// P-16: ten thousand sends and receives dropped at random, over the four ways in which scenarios run.
#[test]
fn random_cancellations_lose_nothing_and_double_nothing() {
    const CANCELLATIONS: usize = 2_500;
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    everywhere(|world| async move {
        let (one, two) = world.pair().await;
        let mut inp = two.incoming::<u64>("IN").unwrap();
        let out = one.outgoing_with::<u64>("OUT", PortConfig::new().capacity(3)).unwrap();
        out.connect("process2", "IN").unwrap();
        let sending = tokio::spawn(async move {
            let mut rng = fastrand::Rng::with_seed(seed);
            let mut cancelled = 0;
            while cancelled < CANCELLATIONS {
                let next = out.counters().accepted;
                let polls = rng.usize(..4);
                let done = match rng.u8(..8) {
                    0..3 => polled(polls, out.send(next)).await.map(|sent| (sent.unwrap(), Some(1))),
                    3..5 => polled(polls, out.reserve()).await.map(|permit| {
                        let permit = permit.unwrap();
                        let used = rng.bool();
                        if used {
                            permit.send(next).unwrap();
                        }
                        ((), Some(u64::from(used)))
                    }),
                    5 => polled(polls, out.send_many(next..next + 5))
                        .await
                        .map(|sent| (assert_eq!(sent.unwrap(), 5), Some(5))),
                    6 => polled(polls, out.settled()).await.map(|settled| (settled.unwrap(), Some(0))),
                    _ => polled(polls, out.connected()).await.map(|connected| (connected.unwrap(), Some(0))),
                };
                let accepted = out.counters().accepted - next;
                match done {
                    Some(((), sent)) => assert_eq!(Some(accepted), sent),
                    None => {
                        cancelled += 1;
                        assert!(accepted < 5, "a batch that was accepted whole has completed");
                    }
                }
                if rng.u8(..100) == 0 {
                    out.cut();
                }
                yield_now().await;
            }
            let accepted = out.counters().accepted;
            out.close(LONG).await.unwrap();
            accepted
        });
        let mut rng = fastrand::Rng::with_seed(!seed);
        let mut cancelled = 0;
        let mut next = 0;
        let mut values = Vec::new();
        let mut deliveries: Vec<Delivery<u64>> = Vec::new();
        loop {
            let polls = rng.usize(..4);
            let done = match rng.u8(..3) {
                0 => polled(polls, inp.recv())
                    .await
                    .map(|outcome| outcome.map(|delivery| deliveries.push(delivery))),
                1 => polled(polls, inp.recv_many(&mut values, 2)).await.map(|outcome| outcome.map(drop)),
                _ => polled(polls, inp.recv_deliveries(&mut deliveries, 2))
                    .await
                    .map(|outcome| outcome.map(drop)),
            };
            let taken = values.drain(..).chain(deliveries.drain(..).map(Delivery::into_value));
            for value in taken {
                assert_eq!(value, next);
                next += 1;
            }
            match done {
                Some(Ok(())) => {}
                Some(Err(error)) => break assert_eq!(error, RecvError::EndOfStream),
                None => {
                    cancelled += 1;
                    yield_now().await;
                }
            }
        }
        assert_eq!(next, sending.await.unwrap());
        assert!(cancelled > 100, "{cancelled}");
    });
}

/// Plays a scenario with a future that is dropped after 0, 1, 2, … polls, until it completes before that.
async fn at_every_await<F: Future<Output = bool>>(mut scenario: impl FnMut(usize) -> F) {
    let mut polls = 0;
    while !scenario(polls).await {
        polls += 1;
        assert!(polls < 1_000, "it never completes");
    }
    assert!(polls > 0, "a future that was never polled cannot complete");
}

fn ends(one: &Node, two: &Node, capacity: usize) -> (OutgoingPort<u64>, IncomingPort<u64>) {
    let inp = two.incoming::<u64>("IN").unwrap();
    let out = one.outgoing_with::<u64>("OUT", PortConfig::new().capacity(capacity)).unwrap();
    out.connect("process2", "IN").unwrap();
    (out, inp)
}

/// P-16: `Node::start`.
#[test]
fn a_start_that_is_dropped_frees_the_name() {
    everywhere(|world| async move {
        at_every_await(|polls| {
            let world = world.clone();
            async move {
                let started = polled(polls, Node::start(world.config("process1"))).await;
                let done = started.is_some();
                if let Some(node) = started {
                    node.unwrap().shutdown(LONG).await.unwrap();
                }
                world.node("process1").await.shutdown(LONG).await.unwrap();
                done
            }
        })
        .await;
    });
}

/// P-16: `Node::shutdown`, which is then a drop of the node: its ports live on.
#[test]
fn a_shutdown_that_is_dropped_loses_no_value() {
    everywhere(|world| async move {
        at_every_await(|polls| {
            let world = world.clone();
            async move {
                let (one, two) = world.pair().await;
                let (out, mut inp) = ends(&one, &two, 20);
                fill(&out, 0..20);
                let taking = tokio::spawn(async move {
                    let mut value = 0;
                    while value < 20 {
                        match inp.recv().await {
                            Ok(delivery) => assert_eq!(*delivery, value),
                            // The sender of the round before lingers, and may come first to say that it has ended.
                            Err(error) => {
                                assert_eq!(error, RecvError::EndOfStream);
                                continue;
                            }
                        }
                        value += 1;
                        yield_now().await;
                    }
                    inp
                });
                let done = polled(polls, one.shutdown(LONG)).await;
                drop(taking.await.unwrap());
                drop(out);
                two.shutdown(LONG).await.unwrap();
                // The name is free as soon as the acceptor is gone.
                loop {
                    match Node::start(world.config("process1")).await {
                        Ok(node) => break node.shutdown(LONG).await.unwrap(),
                        Err(_) => yield_now().await,
                    }
                }
                done.is_some_and(|outcome| outcome.is_ok())
            }
        })
        .await;
    });
}

/// P-16: `connected`, `send`, `reserve`, `send_many` and `settled`, each at every await point.
#[test]
fn sends_that_are_dropped_at_any_await_point_lose_nothing_and_double_nothing() {
    everywhere(|world| async move {
        let (one, two) = world.pair().await;
        for operation in 0..5 {
            let (out, mut inp) = ends(&one, &two, 2);
            let taking = tokio::spawn(async move {
                let mut next = 0;
                loop {
                    match inp.recv().await {
                        Ok(delivery) => assert_eq!(*delivery, next),
                        Err(error) => break assert_eq!(error, RecvError::EndOfStream),
                    }
                    next += 1;
                    yield_now().await;
                }
                (inp, next)
            });
            at_every_await(|polls| {
                let out = &out;
                async move {
                    // Full, so that it has to wait, and cut, so that it has to wait longer.
                    while out.try_send(out.counters().accepted).is_ok() {}
                    out.cut();
                    let next = out.counters().accepted;
                    let outcome = match operation {
                        0 => polled(polls, out.connected()).await.map(|connected| connected.unwrap()),
                        1 => polled(polls, out.send(next)).await.map(|sent| sent.unwrap()),
                        2 => polled(polls, out.reserve())
                            .await
                            .map(|permit| permit.unwrap().send(next).unwrap()),
                        3 => polled(polls, out.send_many(next..next + 7))
                            .await
                            .map(|sent| assert_eq!(sent.unwrap(), 7)),
                        _ => polled(polls, out.settled()).await.map(|settled| settled.unwrap()),
                    };
                    let accepted = out.counters().accepted - next;
                    match (operation, outcome) {
                        (0 | 4, _) | (1 | 2, None) => assert_eq!(accepted, 0),
                        (1 | 2, Some(())) => assert_eq!(accepted, 1),
                        (_, Some(())) => assert_eq!(accepted, 7),
                        (_, None) => assert!(accepted < 7),
                    }
                    outcome.is_some()
                }
            })
            .await;
            let accepted = out.counters().accepted;
            out.close(LONG).await.unwrap();
            // Only now may the port go: a connection that was cut behind the end is made once more to tell of the rest.
            let (inp, taken) = taking.await.unwrap();
            assert_eq!(taken, accepted);
            drop(inp);
        }
    });
}

/// P-16: `close` of an outgoing port, which is then a drop of the port: it goes on delivering for a while.
#[test]
fn a_close_that_is_dropped_still_delivers() {
    everywhere(|world| async move {
        let (one, two) = world.pair().await;
        at_every_await(|polls| {
            let (one, two) = (&one, &two);
            async move {
                let (out, mut inp) = ends(one, two, 20);
                fill(&out, 0..20);
                out.connected().await.unwrap();
                let taking = tokio::spawn(async move {
                    for value in 0..20 {
                        assert_eq!(*inp.recv().await.unwrap(), value);
                        yield_now().await;
                    }
                    assert_eq!(inp.recv().await.unwrap_err(), RecvError::EndOfStream);
                });
                let done = polled(polls, out.close(LONG)).await;
                taking.await.unwrap();
                done.is_some_and(|outcome| outcome.is_ok())
            }
        })
        .await;
    });
}

/// P-16: `abort`, which gives up all the same; one that was never polled is a drop of the port.
#[test]
fn an_abort_that_is_dropped_gives_up_all_the_same() {
    everywhere(|world| async move {
        let (one, two) = world.pair().await;
        at_every_await(|polls| {
            let (one, two) = (&one, &two);
            async move {
                let (out, mut inp) = ends(one, two, 20);
                out.connected().await.unwrap();
                fill(&out, 0..20);
                let sender = out.sender();
                let done = polled(polls, out.abort()).await;
                // What was taken before the word of it came was delivered.
                let mut next = 0;
                let end = loop {
                    match inp.recv().await {
                        Ok(delivery) => assert_eq!(*delivery, next),
                        Err(error) => break error,
                    }
                    next += 1;
                };
                assert_eq!(end, RecvError::EndOfStream);
                assert!(polls > 0 || next == 20);
                assert_eq!(sender.send(20).await.unwrap_err().into_parts(), (20, SendErrorReason::Closed));
                done.is_some_and(|aborted| aborted.exact() == Some(20 - next))
            }
        })
        .await;
    });
}

/// P-16: every way of receiving, at every await point.
#[test]
fn receives_that_are_dropped_at_any_await_point_lose_nothing_and_double_nothing() {
    everywhere(|world| async move {
        let (one, two) = world.pair().await;
        for operation in 0..4 {
            let (out, mut inp) = ends(&one, &two, 2);
            let sender = out.sender();
            let mut next = 0;
            let mut polls = 0;
            loop {
                let sending = tokio::spawn({
                    let sender = sender.clone();
                    let first = sender.counters().accepted;
                    async move {
                        for value in first..first + 3 {
                            yield_now().await;
                            sender.send(value).await.unwrap();
                        }
                    }
                });
                let (mut values, mut deliveries) = (Vec::new(), Vec::new());
                let done = match operation {
                    0 => polled(polls, inp.recv()).await.map(|delivery| deliveries.push(delivery.unwrap())),
                    1 => polled(polls, inp.recv_event()).await.map(|event| match event.unwrap() {
                        ipc_ports::Event::Value(delivery) => deliveries.push(delivery),
                        other => panic!("{other:?}"),
                    }),
                    2 => polled(polls, inp.recv_many(&mut values, 2))
                        .await
                        .map(|many| assert!(many.unwrap() > 0)),
                    _ => polled(polls, inp.recv_deliveries(&mut deliveries, 2))
                        .await
                        .map(|many| assert!(many.unwrap() > 0)),
                };
                assert_eq!(done.is_some(), !(values.is_empty() && deliveries.is_empty()));
                for value in values.into_iter().chain(deliveries.into_iter().map(Delivery::into_value)) {
                    assert_eq!(value, next);
                    next += 1;
                }
                while next < 3 * (polls as u64 + 1) {
                    assert_eq!(*inp.recv().await.unwrap(), next);
                    next += 1;
                }
                sending.await.unwrap();
                if done.is_some() {
                    break;
                }
                polls += 1;
            }
            out.close(LONG).await.unwrap();
        }
    });
}

/// P-16: a shared port's `recv` gives up its place in the queue and nothing else.
#[test]
fn a_shared_receive_that_is_dropped_leaves_the_value_to_the_next() {
    everywhere(|world| async move {
        let (one, two) = world.pair().await;
        let (out, inp) = ends(&one, &two, 4);
        let shared = inp.into_shared();
        for round in 0..50 {
            for polls in 0..3 {
                assert!(polled(polls, shared.recv()).await.is_none_or(|outcome| outcome.is_err()));
                if polls == 1 {
                    // Others wait behind the one that is dropped.
                    let behind = tokio::spawn({
                        let shared = shared.clone();
                        async move { shared.recv().await.unwrap().into_value() }
                    });
                    let dropped = polled(1, shared.recv()).await;
                    out.send(round).await.unwrap();
                    let value = match dropped {
                        Some(delivery) => delivery.unwrap().into_value(),
                        None => behind.await.unwrap(),
                    };
                    assert_eq!(value, round);
                    break;
                }
            }
        }
        out.close(LONG).await.unwrap();
    });
}

/// P-16: `close` of an incoming port is final from its first poll on.
#[test]
fn an_incoming_close_that_is_dropped_closes_all_the_same() {
    everywhere(|world| async move {
        let (one, two) = world.pair().await;
        at_every_await(|polls| {
            let (one, two) = (&one, &two);
            async move {
                let (out, inp) = ends(one, two, 4);
                out.connected().await.unwrap();
                fill(&out, 0..4);
                let done = polled(polls, inp.close()).await;
                if polls == 0 {
                    // Never polled: the port was dropped, and its successor gets everything.
                    let mut successor = two.incoming::<u64>("IN").unwrap();
                    for value in 0..4 {
                        assert_eq!(*successor.recv().await.unwrap(), value);
                    }
                } else {
                    assert_eq!(out.settled().await.unwrap_err(), SendErrorReason::PeerClosed);
                    assert_eq!(out.close(LONG).await.unwrap_err().count, 4);
                }
                done.is_some()
            }
        })
        .await;
    });
}
