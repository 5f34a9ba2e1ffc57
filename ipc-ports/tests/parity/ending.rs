//! How pipelines end: in good order, at once, from either side, and how the others learn of it.

use std::time::Duration;

use ipc_pipeline::protocol::{Answer, Control, Header, Kind};
use ipc_ports::{AckMode, PortConfig, RecvError, Refusal, SendErrorReason, Status};

use tokio::io::AsyncWriteExt;

use crate::{
    raw::{dial, hello, read_answer},
    support::{LONG, everywhere, fill, is_pending, until},
};

/// P-22.
#[test]
fn abort_returns_the_number_of_values_that_were_not_delivered() {
    everywhere(|world| async move {
        let (one, two) = world.pair().await;
        for connected in [false, true] {
            let mut inp = two.incoming::<u64>("IN").unwrap();
            let out = one.outgoing::<u64>("OUT").unwrap();
            if connected {
                out.connect("process2", "IN").unwrap();
                out.connected().await.unwrap();
            }
            fill(&out, 0..7);
            assert_eq!(out.abort().await.exact(), Some(7));
            if connected {
                assert_eq!(inp.recv().await.unwrap_err(), RecvError::EndOfStream);
            }
            assert!(inp.try_recv().unwrap().is_none());
            assert_eq!(inp.counters().taken, 0);
        }
    });
}

/// P-22: what the consumer has begun to take from is given up as well, and never comes after it was counted.
#[test]
fn abort_counts_what_the_consumer_has_not_taken_of_a_run() {
    everywhere(|world| async move {
        let (one, two) = world.pair().await;
        for mode in [AckMode::Automatic, AckMode::Explicit] {
            let mut inp = two.incoming_with::<u64>("IN", PortConfig::new().ack_mode(mode)).unwrap();
            let out = one.outgoing::<u64>("OUT").unwrap();
            fill(&out, 0..7);
            out.connect("process2", "IN").unwrap();
            for value in 0..3 {
                assert_eq!(*inp.recv().await.unwrap(), value);
            }
            assert_eq!(out.abort().await.exact(), Some(4));
            assert_eq!(inp.recv().await.unwrap_err(), RecvError::EndOfStream);
            assert_eq!(inp.counters().taken, 3);
        }
    });
}

/// P-22: after an abort another port may come under the same name, and its values are not mixed up with the old ones.
#[test]
fn a_new_port_follows_an_aborted_one() {
    everywhere(|world| async move {
        let (one, two) = world.pair().await;
        let mut inp = two.incoming::<u64>("IN").unwrap();
        for round in 0..20 {
            let out = one.outgoing::<u64>("OUT").unwrap();
            fill(&out, round * 100..round * 100 + 20);
            out.connect("process2", "IN").unwrap();
            assert_eq!(*inp.recv().await.unwrap(), round * 100);
            assert_eq!(out.abort().await.exact(), Some(19));
            assert_eq!(inp.recv().await.unwrap_err(), RecvError::EndOfStream);
        }
    });
}

/// P-22: `close` delivers everything.
#[test]
fn close_delivers_everything_that_was_accepted() {
    everywhere(|world| async move {
        let (one, two) = world.pair().await;
        let out = one.outgoing::<u64>("OUT").unwrap();
        fill(&out, 0..20);
        out.connect("process2", "IN").unwrap();
        let sender = out.sender();
        let mut closing = Box::pin(out.close(LONG));
        assert!(is_pending(closing.as_mut()).await);
        let error = sender.send(20).await.unwrap_err();
        assert_eq!(error.into_parts(), (20, SendErrorReason::Closed));
        let mut inp = two.incoming::<u64>("IN").unwrap();
        let taking = async {
            for value in 0..20 {
                assert_eq!(*inp.recv().await.unwrap(), value);
            }
            assert_eq!(inp.recv().await.unwrap_err(), RecvError::EndOfStream);
        };
        let (closed, ()) = tokio::join!(closing, taking);
        closed.unwrap();
        assert_eq!(sender.pending(), 0);
    });
}

/// X-19 within one process; the unresponsive peer is another process's business.
#[test]
fn close_flushes_ten_thousand_values_and_counts_what_it_cannot() {
    everywhere(|world| async move {
        let (one, two) = world.pair().await;
        let config = PortConfig::new().capacity(10_000);
        let out = one.outgoing_with::<u64>("OUT", config.clone()).unwrap();
        fill(&out, 0..10_000);
        out.connect("process2", "IN").unwrap();
        let mut inp = two.incoming::<u64>("IN").unwrap();
        let taking = async {
            let mut values = Vec::new();
            while values.len() < 10_000 {
                inp.recv_many(&mut values, 1_000).await.unwrap();
            }
            assert!(values.into_iter().eq(0..10_000));
            assert_eq!(inp.recv().await.unwrap_err(), RecvError::EndOfStream);
        };
        let (closed, ()) = tokio::join!(out.close(LONG), taking);
        closed.unwrap();

        // Nobody takes: the deadline passes, and what was not released is counted.
        let out = one.outgoing_with::<u64>("OUT", config).unwrap();
        fill(&out, 0..10_000);
        out.connect("process2", "IN").unwrap();
        let undelivered = out.close(Duration::from_millis(50)).await.unwrap_err();
        assert_eq!(undelivered.count, 10_000);
    });
}

/// P-23.
#[test]
fn closing_an_incoming_port_gives_blocked_values_back() {
    everywhere(|world| async move {
        let (one, two) = world.pair().await;
        let inp = two.incoming::<u64>("IN").unwrap();
        let mut producers = Vec::new();
        for number in 0..3 {
            let out =
                one.outgoing_with::<u64>(&format!("OUT{number}"), PortConfig::new().capacity(2)).unwrap();
            out.connect("process2", "IN").unwrap();
            out.connected().await.unwrap();
            fill(&out, 0..2);
            producers.push(out);
        }
        let mut blocked: Vec<_> = producers.iter().map(|out| Box::pin(out.send(2))).collect();
        for send in &mut blocked {
            assert!(is_pending(send.as_mut()).await);
        }
        inp.close().await;
        for send in blocked {
            assert_eq!(send.await.unwrap_err().into_parts(), (2, SendErrorReason::PeerClosed));
        }
        // A port of the same name is another one: senders of the closed one are told so again, and stay out.
        let mut again = two.incoming::<u64>("IN").unwrap();
        for out in producers {
            out.status().wait_for(|status| *status == Status::Refused(Refusal::PeerClosed)).await.unwrap();
            assert_eq!(out.settled().await.unwrap_err(), SendErrorReason::PeerClosed);
            assert_eq!(out.close(LONG).await.unwrap_err().count, 2);
        }
        assert!(again.try_recv().unwrap().is_none());
        let out = one.outgoing::<u64>("OUT0").unwrap();
        out.connect("process2", "IN").unwrap();
        out.send(9).await.unwrap();
        assert_eq!(*again.recv().await.unwrap(), 9);
        out.close(LONG).await.unwrap();
    });
}

/// P-23: whoever waits for a value learns that the port closed.
#[test]
fn waiting_receives_end_when_the_port_closes() {
    everywhere(|world| async move {
        let two = world.node("process2").await;
        let shared = two.incoming::<u64>("IN").unwrap().into_shared();
        let waiting: Vec<_> = (0..10)
            .map(|_| {
                let shared = shared.clone();
                tokio::spawn(async move { shared.recv().await })
            })
            .collect();
        let mut own = Box::pin(shared.recv());
        assert!(is_pending(own.as_mut()).await);
        shared.close().await;
        assert_eq!(own.await.unwrap_err(), RecvError::Closed);
        for receive in waiting {
            assert_eq!(receive.await.unwrap().unwrap_err(), RecvError::Closed);
        }
        assert_eq!(shared.recv().await.unwrap_err(), RecvError::Closed);
        // The name is free, as the port is closed and not only its handles.
        drop(shared);
        two.incoming::<u64>("IN").unwrap();
    });
}

/// P-23 for a node that shuts down: its receives end, and the senders keep what they have.
#[test]
fn waiting_receives_end_when_the_node_shuts_down() {
    everywhere(|world| async move {
        let (one, two) = world.pair().await;
        let mut inp = two.incoming::<u64>("IN").unwrap();
        let out = one.outgoing::<u64>("OUT").unwrap();
        out.connect("process2", "IN").unwrap();
        out.connected().await.unwrap();
        let (ended, down) = tokio::join!(inp.recv(), two.shutdown(LONG));
        assert_eq!(ended.unwrap_err(), RecvError::Closed);
        down.unwrap();
        drop(inp);
        out.status().wait_for(|status| matches!(status, Status::Lost(_))).await.unwrap();
        out.send(1).await.unwrap();
        let two = world.node("process2").await;
        let mut inp = two.incoming::<u64>("IN").unwrap();
        let delivery = inp.recv().await.unwrap();
        assert_eq!((*delivery, delivery.redelivered()), (1, false));
        out.close(LONG).await.unwrap();
    });
}

/// P-24.
#[test]
fn the_stream_ends_when_every_producer_has_closed_and_everything_was_taken() {
    everywhere(|world| async move {
        let (one, two) = world.pair().await;
        let mut inp = two.incoming::<u64>("IN").unwrap();
        assert!(inp.try_recv().unwrap().is_none(), "nobody has come, so nothing has ended");
        let first = one.outgoing::<u64>("FIRST").unwrap();
        let second = one.outgoing::<u64>("SECOND").unwrap();
        for out in [&first, &second] {
            out.connect("process2", "IN").unwrap();
            out.connected().await.unwrap();
        }
        fill(&first, 0..5);
        let mut closing = Box::pin(first.close(LONG));
        assert!(is_pending(closing.as_mut()).await);
        for value in 0..5 {
            assert_eq!(*inp.recv().await.unwrap(), value);
        }
        closing.await.unwrap();
        assert!(inp.try_recv().unwrap().is_none(), "the other one is still there");
        // A lost source holds the end until it is back.
        second.cut();
        fill(&second, 5..10);
        let mut closing = Box::pin(second.close(LONG));
        assert!(is_pending(closing.as_mut()).await);
        for value in 5..10 {
            assert_eq!(*inp.recv().await.unwrap(), value);
        }
        assert_eq!(inp.recv().await.unwrap_err(), RecvError::EndOfStream);
        closing.await.unwrap();
        assert!(inp.try_recv().unwrap().is_none(), "the end is reported once");

        // A later source arms it again.
        let third = one.outgoing::<u64>("THIRD").unwrap();
        third.send(10).await.unwrap();
        third.connect("process2", "IN").unwrap();
        assert_eq!(*inp.recv().await.unwrap(), 10);
        third.close(LONG).await.unwrap();
        assert_eq!(inp.recv().await.unwrap_err(), RecvError::EndOfStream);
    });
}

/// P-24: a sender whose connection breaks before it hears that its end was seen comes back, and ends nothing twice.
#[test]
fn the_end_of_a_stream_is_reported_once_however_often_the_connection_breaks() {
    everywhere(|world| async move {
        let (one, two) = world.pair().await;
        let mut inp = two.incoming::<u64>("IN").unwrap();
        for round in 0..100 {
            let out = one.outgoing::<u64>("OUT").unwrap();
            out.connect("process2", "IN").unwrap();
            out.connected().await.unwrap();
            out.send(round).await.unwrap();
            let sender = out.sender();
            let closing = tokio::spawn(out.close(LONG));
            assert_eq!(*inp.recv().await.unwrap(), round);
            sender.cut();
            assert_eq!(inp.recv().await.unwrap_err(), RecvError::EndOfStream);
            closing.await.unwrap().unwrap();
            assert!(inp.try_recv().unwrap().is_none());
        }
    });
}

/// P-24: a source that is followed by another session of the same name, with no end between the two.
#[test]
fn a_source_that_begins_anew_does_not_end_the_stream() {
    everywhere(|world| async move {
        let two = world.node("process2").await;
        let mut inp = two.incoming::<u64>("IN").unwrap();
        let (taken, mut takes) = tokio::sync::mpsc::channel(1);
        let receiving = tokio::spawn(async move {
            for round in 0..200 {
                assert_eq!(*inp.recv().await.unwrap(), round);
                taken.send(()).await.unwrap();
            }
            inp
        });
        for round in 0..200_u64 {
            // Lost without a word, as if its process had been killed.
            let (mut reader, mut writer) = dial(&world, "process2").await;
            writer.write_all(&hello("process2", "IN").encode().unwrap()).await.unwrap();
            assert!(matches!(read_answer(&mut reader).await, Answer::Welcome(_)));
            let mut frames = Vec::new();
            Control::Resume { first: 1, maybe_seen_until: 0 }.encode(&mut frames);
            frames.extend_from_slice(&Header::new(Kind::Data, 8).encode());
            frames.extend_from_slice(&round.to_le_bytes());
            writer.write_all(&frames).await.unwrap();
            takes.recv().await.unwrap();
        }
        assert_eq!(receiving.await.unwrap().counters().restarts, 199);
    });
}

/// P-24 with a number of sources to wait for, and with a lost source that is given up.
#[test]
fn the_end_waits_for_expected_sources_and_not_for_lost_ones() {
    everywhere(|world| async move {
        let (one, two) = world.pair().await;
        let config = PortConfig::new().expect_sources(2).source_ttl(Duration::from_millis(20));
        let mut inp = two.incoming_with::<u64>("IN", config).unwrap();
        let first = one.outgoing::<u64>("FIRST").unwrap();
        first.connect("process2", "IN").unwrap();
        first.connected().await.unwrap();
        first.close(LONG).await.unwrap();
        assert!(inp.try_recv().unwrap().is_none());
        let three = world.node("process3").await;
        let second = three.outgoing::<u64>("SECOND").unwrap();
        second.connect("process2", "IN").unwrap();
        second.connected().await.unwrap();
        until(|| inp.is_connected_to("process3", "SECOND")).await;
        assert!(inp.try_recv().unwrap().is_none());
        // It goes away without a word, as far as the receiver can tell, and does not come back.
        assert_eq!(second.abort().await.exact(), Some(0));
        assert_eq!(inp.recv().await.unwrap_err(), RecvError::EndOfStream);
    });
}
