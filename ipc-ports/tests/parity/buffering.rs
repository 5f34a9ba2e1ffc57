//! What an outgoing port keeps, and how it tells that it is full.

use std::pin::pin;

use ipc_ports::{PortConfig, PortError, SendErrorReason, Status};

use crate::support::{LONG, everywhere, fill, is_pending};

/// P-01, P-02.
#[test]
fn twenty_sends_complete_and_each_take_lets_exactly_one_more_through() {
    everywhere(|world| async move {
        let (one, two) = world.pair().await;
        let mut inp = two.incoming::<u64>("IN").unwrap();
        let out = one.outgoing::<u64>("OUT").unwrap();
        out.connect("process2", "IN").unwrap();
        for value in 0..20 {
            out.send(value).await.unwrap();
        }
        let mut first = Box::pin(out.send(20));
        let mut second = Box::pin(out.send(21));
        let mut third = Box::pin(out.send(22));
        assert!(is_pending(first.as_mut()).await);
        assert!(is_pending(second.as_mut()).await);
        assert!(is_pending(third.as_mut()).await);
        assert_eq!((out.capacity(), out.pending()), (20, 20));

        assert_eq!(*inp.recv().await.unwrap(), 0);
        first.await.unwrap();
        assert!(is_pending(second.as_mut()).await && is_pending(third.as_mut()).await);
        assert_eq!(out.pending(), 20);

        assert_eq!(*inp.recv().await.unwrap(), 1);
        second.await.unwrap();
        assert!(is_pending(third.as_mut()).await);
        assert_eq!(*inp.recv().await.unwrap(), 2);
        third.await.unwrap();
        for value in 3..23 {
            assert_eq!(*inp.recv().await.unwrap(), value);
        }
        out.close(LONG).await.unwrap();
    });
}

/// P-01 before there is any connection: the buffer is the port's own.
#[test]
fn twenty_sends_complete_with_nobody_there() {
    everywhere(|world| async move {
        let one = world.node("process1").await;
        let out = one.outgoing::<u64>("OUT").unwrap();
        for value in 0..20 {
            out.send(value).await.unwrap();
        }
        assert!(is_pending(pin!(out.send(20))).await);
        assert!(out.try_send(20).unwrap_err().is_full());
        assert_eq!((out.capacity(), out.pending()), (20, 20));
        assert_eq!(out.abort().await.exact(), Some(20));
    });
}

/// P-03.
#[test]
fn custom_capacities_are_exact_and_zero_is_none() {
    everywhere(|world| async move {
        let (one, two) = world.pair().await;
        for capacity in [1, 2, 1_000] {
            let name = format!("IN{capacity}");
            let mut inp = two.incoming::<u64>(&name).unwrap();
            let out = one.outgoing_with::<u64>("OUT", PortConfig::new().capacity(capacity)).unwrap();
            out.connect("process2", &name).unwrap();
            for value in 0..capacity as u64 {
                out.send(value).await.unwrap();
            }
            let mut held = Box::pin(out.send(capacity as u64));
            assert!(is_pending(held.as_mut()).await);
            assert_eq!((out.capacity(), out.pending()), (capacity, capacity));
            assert_eq!(*inp.recv().await.unwrap(), 0);
            held.await.unwrap();
            assert!(out.try_send(0).unwrap_err().is_full());
            for value in 1..=capacity as u64 {
                assert_eq!(*inp.recv().await.unwrap(), value);
            }
            out.close(LONG).await.unwrap();
        }
        let refused = one.outgoing_with::<u64>("OUT", PortConfig::new().capacity(0)).unwrap_err();
        assert_eq!(refused, PortError::ZeroCapacity);
        let refused = two.incoming_with::<u64>("IN", PortConfig::new().window(0)).unwrap_err();
        assert_eq!(refused, PortError::ZeroCapacity);
    });
}

/// P-04.
#[test]
fn a_port_that_starts_closed_gives_values_back_until_it_is_opened() {
    everywhere(|world| async move {
        let (one, two) = world.pair().await;
        let mut inp = two.incoming::<String>("IN").unwrap();
        let out = one.outgoing_with::<String>("OUT", PortConfig::new().start_closed()).unwrap();
        out.connect("process2", "IN").unwrap();
        let error = out.send("early".to_owned()).await.unwrap_err();
        assert_eq!(error.into_parts(), ("early".to_owned(), SendErrorReason::PortClosed));
        let error = out.try_send("early".to_owned()).unwrap_err();
        assert_eq!((error.reason(), error.is_full()), (&SendErrorReason::PortClosed, false));
        assert_eq!(out.reserve().await.unwrap_err(), SendErrorReason::PortClosed);
        let error = out.send_many(["a".to_owned(), "b".to_owned()]).await.unwrap_err();
        assert_eq!((error.values.len(), error.reason), (2, SendErrorReason::PortClosed));
        assert_eq!(out.pending(), 0);
        out.open();
        out.send("in time".to_owned()).await.unwrap();
        assert_eq!(*inp.recv().await.unwrap(), "in time");
        out.close(LONG).await.unwrap();
    });
}

/// P-05.
#[test]
fn open_and_pause_are_idempotent_reversible_and_visible() {
    everywhere(|world| async move {
        let (one, two) = world.pair().await;
        let mut inp = two.incoming::<u64>("IN").unwrap();
        let out = one.outgoing_with::<u64>("OUT", PortConfig::new().capacity(1)).unwrap();
        out.connect("process2", "IN").unwrap();
        assert!(out.is_open());
        out.open();
        assert!(out.is_open());
        out.send(0).await.unwrap();
        let mut held = Box::pin(out.send(1));
        assert!(is_pending(held.as_mut()).await);
        for _ in 0..2 {
            out.pause();
            assert!(!out.is_open());
        }
        // Whoever waits for room gets the value back, and what was accepted goes on.
        let error = held.await.unwrap_err();
        assert_eq!(error.into_parts(), (1, SendErrorReason::PortClosed));
        assert_eq!(*inp.recv().await.unwrap(), 0);
        assert_eq!(out.send(2).await.unwrap_err().into_value(), 2);
        for _ in 0..2 {
            out.open();
            assert!(out.is_open());
        }
        out.send(3).await.unwrap();
        assert_eq!(*inp.recv().await.unwrap(), 3);
        out.close(LONG).await.unwrap();

        let out = one.outgoing_with::<u64>("OUT", PortConfig::new().start_closed()).unwrap();
        assert!(!out.is_open());
        out.open();
        assert!(out.is_open());
    });
}

/// P-06.
#[test]
fn what_was_sent_before_connecting_arrives_in_order_after_it() {
    everywhere(|world| async move {
        let one = world.node("process1").await;
        let out = one.outgoing::<u64>("OUT").unwrap();
        assert!(out.is_open());
        fill(&out, 0..10);
        assert_eq!(*out.status().borrow(), Status::Closed);
        out.connect("process2", "IN").unwrap();
        fill(&out, 10..20);
        assert!(out.try_send(20).unwrap_err().is_full());
        let two = world.node("process2").await;
        let mut held = Box::pin(out.send(20));
        assert!(is_pending(held.as_mut()).await);
        let mut inp = two.incoming::<u64>("IN").unwrap();
        let taking = async {
            for value in 0..21 {
                assert_eq!(*inp.recv().await.unwrap(), value);
            }
        };
        let (sent, ()) = tokio::join!(held, taking);
        sent.unwrap();
        out.close(LONG).await.unwrap();
    });
}

/// P-07.
#[test]
fn a_strict_port_gives_values_back_while_it_is_not_connected() {
    everywhere(|world| async move {
        let (one, two) = world.pair().await;
        let out = one.outgoing_with::<u64>("OUT", PortConfig::new().strict()).unwrap();
        let refuses = |value| {
            let out = &out;
            async move {
                let error = out.send(value).await.unwrap_err();
                assert_eq!(error.into_parts(), (value, SendErrorReason::NotConnected));
            }
        };
        refuses(1).await;
        out.connect("process2", "IN").unwrap();
        refuses(2).await;
        let mut inp = two.incoming::<u64>("IN").unwrap();
        out.connected().await.unwrap();
        out.send(3).await.unwrap();
        assert_eq!(*inp.recv().await.unwrap(), 3);

        let mut status = out.status();
        drop(inp);
        status.wait_for(|status| matches!(status, Status::Lost(_))).await.unwrap();
        refuses(4).await;
        let mut inp = two.incoming::<u64>("IN").unwrap();
        out.connected().await.unwrap();
        out.send(5).await.unwrap();
        assert_eq!(*inp.recv().await.unwrap(), 5);
        out.close(LONG).await.unwrap();
    });
}

/// P-25.
#[test]
fn room_is_told_once_for_each_time_the_port_was_full_and_never_too_early() {
    everywhere(|world| async move {
        let (one, two) = world.pair().await;
        let mut inp = two.incoming::<u64>("IN").unwrap();
        let out = one.outgoing_with::<u64>("OUT", PortConfig::new().capacity(4)).unwrap();
        out.connect("process2", "IN").unwrap();
        let mut room = out.room();
        for transition in 1..=5 {
            fill(&out, 0..4);
            assert!(!room.borrow().full, "a port at its capacity has refused nobody yet");
            for _ in 0..3 {
                assert!(out.try_send(4).unwrap_err().is_full());
            }
            assert!(room.borrow_and_update().full);
            assert_eq!(room.borrow().drained, transition - 1);
            assert_eq!(*inp.recv().await.unwrap(), 0);
            let seen = *room.wait_for(|room| !room.full).await.unwrap();
            assert_eq!(seen.drained, transition);
            // There is room when it is told.
            out.try_send(4).unwrap();
            for value in 1..=4 {
                assert_eq!(*inp.recv().await.unwrap(), value);
            }
            out.settled().await.unwrap();
            assert_eq!(room.borrow().drained, transition, "the other takes are no transitions");
            assert!(!room.has_changed().unwrap());
        }
        out.close(LONG).await.unwrap();
    });
}

/// P-25 with a send that waits: whoever was held up comes first, and then there is no room to tell of.
#[test]
fn room_that_goes_to_a_waiting_send_is_not_told() {
    everywhere(|world| async move {
        let (one, two) = world.pair().await;
        let mut inp = two.incoming::<u64>("IN").unwrap();
        let out = one.outgoing_with::<u64>("OUT", PortConfig::new().capacity(2)).unwrap();
        out.connect("process2", "IN").unwrap();
        fill(&out, 0..2);
        let mut held = Box::pin(out.send(2));
        assert!(is_pending(held.as_mut()).await);
        let mut room = out.room();
        assert!(room.borrow_and_update().full);
        assert_eq!(*inp.recv().await.unwrap(), 0);
        held.await.unwrap();
        assert_eq!((room.borrow().full, room.borrow().drained), (true, 0));
        assert_eq!(*inp.recv().await.unwrap(), 1);
        assert_eq!(room.wait_for(|room| !room.full).await.unwrap().drained, 1);
        assert_eq!(*inp.recv().await.unwrap(), 2);
        out.close(LONG).await.unwrap();
    });
}
