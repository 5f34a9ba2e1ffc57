//! How a link ends, and how the receiver's stream does.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::{
    future::{Future, poll_fn},
    pin::pin,
    task::Poll,
    time::Duration,
};

use common::{Site, capacity, on_both_runtimes, paused};
use ipc_pipeline::{
    SendErrorReason,
    link::{AckMode, Event, LostReason, OutgoingLink, ReceiverConfig, RecvError, Status},
    protocol::Budget,
};
use ipc_transport::Bincode;

const LONG: Duration = Duration::from_secs(20);

/// Cuts the link, and has the receiver out of reach from then on.
async fn lose(site: &Site, link: &OutgoingLink<u64>) {
    site.hide();
    let mut status = link.sender().status();
    link.sender().cut();
    status.wait_for(|status| matches!(status, Status::Lost(_))).await.unwrap();
}

async fn wait_until(mut condition: impl FnMut() -> bool) {
    while !condition() {
        tokio::task::yield_now().await;
    }
}

/// P-22. Nothing taken: everything accepted was not delivered, exactly.
#[test]
fn an_abort_counts_what_was_not_delivered() {
    on_both_runtimes(|| async {
        for taken in [0, 1, 3] {
            for explicit in [false, true] {
                let site = Site::mem().await;
                let mut config = ReceiverConfig::default();
                config.ack_mode = if explicit { AckMode::Explicit } else { AckMode::Automatic };
                let mut receiver = site.receiver::<u64>(config);
                let link = site.link::<u64>(capacity(20));
                link.connected().await.unwrap();
                for value in 0..7 {
                    link.sender().send(value).await.unwrap();
                }
                for value in 0..taken {
                    assert_eq!(*receiver.recv().await.unwrap(), value);
                }
                let aborted = link.abort().await;
                assert_eq!(aborted.exact(), Some(7 - taken), "{taken} taken, explicit: {explicit}");
                // What the receiver had in hand and not given out went with it.
                assert_eq!(receiver.recv().await.unwrap_err(), RecvError::EndOfStream);
            }
        }
    });
}

#[test]
fn an_abort_without_an_answer_gives_a_range() {
    on_both_runtimes(|| async {
        let site = Site::mem().await;
        let mut receiver = site.receiver::<u64>(ReceiverConfig::default());
        let link = site.link::<u64>(capacity(20));
        for value in 0..7 {
            link.sender().send(value).await.unwrap();
        }
        for _ in 0..3 {
            let _ = receiver.recv().await.unwrap();
        }
        site.vacate();
        link.sender().cut();
        wait_until(|| matches!(*link.sender().status().borrow(), Status::Lost(_) | Status::Waiting)).await;
        for value in 7..9 {
            link.sender().send(value).await.unwrap();
        }
        let aborted = link.abort().await;
        assert!(aborted.at_least >= 2 && aborted.at_least <= 6, "{aborted:?}");
        assert!(aborted.at_most >= 6 && aborted.at_most <= 9, "{aborted:?}");
    });
}

/// A receiver that is out of reach for a moment hears of the abort when it is back, and its stream ends.
#[test]
fn an_abort_between_two_connections_is_heard_and_exact() {
    for explicit in [false, true] {
        paused(async {
            let site = Site::mem().await;
            let mut config = ReceiverConfig::default();
            config.ack_mode = if explicit { AckMode::Explicit } else { AckMode::Automatic };
            let mut receiver = site.receiver::<u64>(config);
            let link = site.link::<u64>(capacity(20));
            for value in 0..7 {
                link.sender().send(value).await.unwrap();
            }
            for _ in 0..2 {
                let _ = receiver.recv().await.unwrap();
            }
            lose(&site, &link).await;
            let aborting = tokio::spawn(link.abort());
            tokio::time::sleep(Duration::from_millis(100)).await;
            site.show();
            assert_eq!(aborting.await.unwrap().exact(), Some(5), "explicit: {explicit}");
            assert_eq!(receiver.recv().await.unwrap_err(), RecvError::EndOfStream);
        });
    }
}

/// Nothing is pending, and yet the receiver has to hear that nothing follows.
#[test]
fn a_close_between_two_connections_announces_the_end() {
    paused(async {
        let site = Site::mem().await;
        let mut receiver = site.receiver::<u64>(ReceiverConfig::default());
        let link = site.link::<u64>(capacity(20));
        link.sender().send(1).await.unwrap();
        assert_eq!(*receiver.recv().await.unwrap(), 1);
        link.sender().settled().await.unwrap();
        lose(&site, &link).await;
        let closing = tokio::spawn(link.close(LONG));
        tokio::time::sleep(Duration::from_secs(5)).await;
        site.show();
        closing.await.unwrap().unwrap();
        assert_eq!(receiver.recv().await.unwrap_err(), RecvError::EndOfStream);
    });
}

/// A receiver that left in good order has let the session go: there is nobody to announce the end to.
#[test]
fn a_close_waits_for_no_receiver_that_has_left() {
    on_both_runtimes(|| async {
        let site = Site::mem().await;
        let mut receiver = site.receiver::<u64>(ReceiverConfig::default());
        let link = site.link::<u64>(capacity(20));
        link.sender().send(1).await.unwrap();
        assert_eq!(*receiver.recv().await.unwrap(), 1);
        link.sender().settled().await.unwrap();
        site.vacate();
        drop(receiver);
        let mut status = link.sender().status();
        status.wait_for(|status| *status == Status::Lost(LostReason::Detached)).await.unwrap();
        // Far beyond the watchdog.
        link.close(Duration::from_secs(3_600)).await.unwrap();
    });
}

/// Everything is delivered before the deadline, or the rest is counted at it.
#[test]
fn a_close_delivers_everything_or_counts_the_rest() {
    on_both_runtimes(|| async {
        let site = Site::mem().await;
        let mut receiver = site.receiver::<u64>(ReceiverConfig::default());
        let link = site.link::<u64>(capacity(10_000));
        link.sender().send_many(0..10_000).await.unwrap();
        let closing = tokio::spawn(link.close(LONG));
        for value in 0..10_000 {
            assert_eq!(*receiver.recv().await.unwrap(), value);
        }
        assert_eq!(receiver.recv().await.unwrap_err(), RecvError::EndOfStream);
        closing.await.unwrap().unwrap();

        let link = site.link::<u64>(capacity(100));
        link.sender().send_many(0..100).await.unwrap();
        let sender = link.sender().clone();
        assert_eq!(link.close(Duration::from_millis(30)).await.unwrap_err().count, 100);
        let error = sender.send(1).await.unwrap_err();
        assert_eq!(error.reason(), &SendErrorReason::Closed);
        assert_eq!(sender.settled().await, Err(SendErrorReason::Closed));
    });
}

/// The same with a connection that takes a byte at a time, so that every frame is cut everywhere.
#[test]
fn a_close_is_confirmed_over_the_narrowest_connection() {
    on_both_runtimes(|| async {
        for values in [0, 1, 5] {
            let transport = ipc_testkit::MemTransport::new().with_buffer(std::num::NonZeroUsize::MIN);
            let at = ipc_transport::Endpoint::new("mem", "narrow").unwrap();
            let site = Site::on(transport, at).await;
            let mut receiver = site.receiver::<u64>(ReceiverConfig::default());
            let link = site.link::<u64>(capacity(4));
            link.connected().await.unwrap();
            let taking = tokio::spawn(async move {
                let mut count = 0;
                while receiver.recv().await.is_ok() {
                    count += 1;
                }
                count
            });
            for value in 0..values {
                link.sender().send(value).await.unwrap();
            }
            // Far beyond the watchdog: only a confirmation can end it.
            link.close(Duration::from_secs(3_600)).await.unwrap();
            assert_eq!(taking.await.unwrap(), values);
        }
    });
}

#[test]
fn settled_waits_for_a_lost_connection_and_not_for_later_values() {
    on_both_runtimes(|| async {
        let site = Site::mem().await;
        let mut receiver = site.receiver::<u64>(ReceiverConfig::default());
        let link = site.link::<u64>(capacity(20));
        for value in 0..5 {
            link.sender().send(value).await.unwrap();
        }
        let mut settled = pin!(link.sender().settled());
        assert!(poll_fn(|cx| Poll::Ready(settled.as_mut().poll(cx).is_pending())).await);
        link.sender().send(5).await.unwrap();
        link.sender().cut();
        for value in 0..5 {
            assert_eq!(*receiver.recv().await.unwrap(), value);
        }
        settled.await.unwrap();
        assert_eq!(link.sender().pending(), 1);
    });
}

/// P-23. The receiver closes: senders get their values back, `settled` and `close` say so.
#[test]
fn an_incoming_close_is_final_for_sessions_that_were_attached() {
    on_both_runtimes(|| async {
        let site = Site::mem().await;
        let receiver = site.receiver::<u64>(ReceiverConfig::default());
        let link = site.link::<u64>(capacity(2));
        link.connected().await.unwrap();
        link.sender().send(1).await.unwrap();
        link.sender().send(2).await.unwrap();
        let (a, b) = (link.sender().clone(), link.sender().clone());
        let blocked = tokio::spawn(async move { a.send(3).await });
        let settling = tokio::spawn(async move { b.settled().await });
        tokio::task::yield_now().await;
        receiver.close().await;
        let error = blocked.await.unwrap().unwrap_err();
        assert_eq!((error.reason(), *error.value()), (&SendErrorReason::PeerClosed, 3));
        assert_eq!(settling.await.unwrap(), Err(SendErrorReason::PeerClosed));
        assert_eq!(link.close(LONG).await.unwrap_err().count, 2);
    });
}

/// The same for one that comes back after the close.
#[test]
fn a_sender_that_was_away_hears_of_the_close_when_it_returns() {
    on_both_runtimes(|| async {
        let site = Site::mem().await;
        let receiver = site.receiver::<u64>(ReceiverConfig::default());
        let link = site.link::<u64>(capacity(2));
        link.connected().await.unwrap();
        let intake = receiver.intake();
        site.vacate();
        link.sender().cut();
        let mut status = link.sender().status();
        status.wait_for(|status| !matches!(status, Status::Connected)).await.unwrap();
        receiver.close().await;
        site.occupy(intake);
        status.wait_for(|status| matches!(status, Status::Refused(_))).await.unwrap();
        assert_eq!(link.sender().send(1).await.unwrap_err().reason(), &SendErrorReason::PeerClosed);
    });
}

/// Dropping an end that was never finished goes on delivering; dropping the receiver keeps values for a successor.
#[test]
fn a_dropped_end_lingers_and_a_dropped_receiver_is_waited_for() {
    on_both_runtimes(|| async {
        let site = Site::mem().await;
        let mut receiver = site.receiver::<u64>(ReceiverConfig::default());
        let link = site.link::<u64>(capacity(100));
        link.sender().send_many(0..50).await.unwrap();
        link.connected().await.unwrap();
        drop(link);
        for value in 0..50 {
            assert_eq!(*receiver.recv().await.unwrap(), value);
        }
        assert_eq!(receiver.recv().await.unwrap_err(), RecvError::EndOfStream);

        let link = site.link::<u64>(capacity(100));
        link.sender().send_many(0..50).await.unwrap();
        assert_eq!(*receiver.recv().await.unwrap(), 0);
        drop(receiver);
        let mut receiver = site.receiver::<u64>(ReceiverConfig::default());
        for value in 1..50 {
            assert_eq!(*receiver.recv().await.unwrap(), value);
        }
        link.close(LONG).await.unwrap();
    });
}

/// P-24. The stream ends when every source has; expected ones are waited for; it ends again after it began again.
#[test]
fn the_stream_ends_once_for_each_time_that_every_source_has() {
    on_both_runtimes(|| async {
        let site = Site::mem().await;
        let mut config = ReceiverConfig::default();
        config.expect_sources = 2;
        let mut receiver = site.receiver::<u64>(config);
        let first = site.link_from::<u64>("first", capacity(5), Bincode::default());
        first.sender().send(1).await.unwrap();
        let closing = tokio::spawn(first.close(LONG));
        assert_eq!(*receiver.recv().await.unwrap(), 1);
        closing.await.unwrap().unwrap();
        {
            let mut end = pin!(receiver.recv());
            assert!(poll_fn(|cx| Poll::Ready(end.as_mut().poll(cx).is_pending())).await);
            let second = site.link_from::<u64>("second", capacity(5), Bincode::default());
            second.connected().await.unwrap();
            assert!(poll_fn(|cx| Poll::Ready(end.as_mut().poll(cx).is_pending())).await);
            second.close(LONG).await.unwrap();
            assert_eq!(end.await.unwrap_err(), RecvError::EndOfStream);
        }
        assert!(receiver.try_recv().unwrap().is_none(), "the end is told once");
        let third = site.link_from::<u64>("third", capacity(5), Bincode::default());
        third.sender().send(3).await.unwrap();
        let closing = tokio::spawn(third.close(LONG));
        assert_eq!(*receiver.recv().await.unwrap(), 3);
        assert_eq!(receiver.recv().await.unwrap_err(), RecvError::EndOfStream);
        closing.await.unwrap().unwrap();
    });
}

/// A lost source holds the end of the stream, for as long as `source_ttl` says, counted from its last loss.
#[test]
fn a_lost_source_holds_the_end_until_it_expires() {
    paused(async {
        let site = Site::mem().await;
        let mut config = ReceiverConfig::default();
        config.source_ttl = Some(Duration::from_secs(60));
        let mut receiver = site.receiver::<u64>(config);
        let intake = receiver.intake();
        let link = site.link::<u64>(capacity(5));
        link.connected().await.unwrap();
        for round in 0..3 {
            site.vacate();
            link.sender().cut();
            let mut status = link.sender().status();
            status.wait_for(|status| !matches!(status, Status::Connected)).await.unwrap();
            tokio::time::sleep(Duration::from_secs(50)).await;
            assert!(receiver.try_recv().unwrap().is_none(), "round {round}");
            if round < 2 {
                site.occupy(intake.clone());
                status.wait_for(|status| matches!(status, Status::Connected)).await.unwrap();
            }
        }
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert!(receiver.try_recv().unwrap().is_none());
        let ended = receiver.recv().await;
        assert_eq!(ended.unwrap_err(), RecvError::EndOfStream);
    });
}

/// What its senders were told is undelivered does not come out of an end that has left.
#[test]
fn nothing_is_handed_out_after_the_last_word() {
    on_both_runtimes(|| async {
        for (closing, many) in [(true, false), (true, true), (false, false), (false, true)] {
            let site = Site::mem().await;
            let mut receiver = site.receiver::<u64>(ReceiverConfig::default());
            let intake = receiver.intake();
            let link = site.link::<u64>(capacity(100));
            link.sender().send_many(0..100).await.unwrap();
            let first = receiver.recv().await.unwrap();
            wait_until(|| receiver.source(first.source()).unwrap().received_bytes == 1_200).await;
            site.vacate();
            if closing {
                intake.close().await;
            } else {
                intake.detach().await;
            }
            let mut out = Vec::new();
            if many {
                assert_eq!(receiver.recv_many(&mut out, 50).await, Err(RecvError::Closed));
            }
            assert_eq!(receiver.try_recv().unwrap_err(), RecvError::Closed);
            assert_eq!(receiver.recv().await.unwrap_err(), RecvError::Closed);
            assert!(out.is_empty());
            if closing {
                assert_eq!(link.close(LONG).await.unwrap_err().count, 99);
            } else {
                let mut successor = site.receiver::<u64>(ReceiverConfig::default());
                for value in 1..100 {
                    assert_eq!(*successor.recv().await.unwrap(), value);
                }
                link.close(LONG).await.unwrap();
            }
        }
    });
}

/// The time counts from a recovery as well, which cuts the connection.
#[test]
fn a_source_that_does_not_return_after_a_recovery_expires() {
    paused(async {
        let site = Site::mem().await;
        let mut config = ReceiverConfig::default();
        config.source_ttl = Some(Duration::from_secs(60));
        config.ack_mode = AckMode::Explicit;
        let mut receiver = site.receiver::<u64>(config);
        let link = site.link::<u64>(capacity(5));
        link.sender().send(1).await.unwrap();
        let _unacked = receiver.recv().await.unwrap();
        site.vacate();
        receiver.recover();
        assert_eq!(receiver.recv().await.unwrap_err(), RecvError::EndOfStream);
    });
}

/// What is here of the old session comes first, then the notice, then the new one's values.
#[test]
fn a_restarted_source_is_told_between_its_sessions() {
    on_both_runtimes(|| async {
        let site = Site::mem().await;
        let mut receiver = site.receiver::<u64>(ReceiverConfig::default());
        let old = site.link::<u64>(capacity(100));
        old.sender().send_many(0..10).await.unwrap();
        old.connected().await.unwrap();
        let new = site.link::<u64>(capacity(100));
        new.connected().await.unwrap();
        // The old end lingers on: it was not there when the new one came, but it is of the time before.
        old.sender().send_many(10..30).await.unwrap();
        wait_until(|| {
            receiver.sources().first().is_some_and(|_| old.sender().counters().bytes_written > 200)
        })
        .await;
        new.sender().send_many(100..110).await.unwrap();
        tokio::task::yield_now().await;
        let mut found = Vec::new();
        let mut restarted_at = None;
        while found.len() < 40 {
            match receiver.recv_event().await.unwrap() {
                Event::Value(delivery) => found.push(*delivery),
                Event::SourceRestarted { .. } => restarted_at = Some(found.len()),
                other => panic!("{other:?}"),
            }
        }
        let restarted_at = restarted_at.expect("the notice came");
        assert!(found[..10].iter().copied().eq(0..10));
        assert!(found[..restarted_at].iter().all(|value| *value < 100));
        assert_eq!(receiver.counters().restarts, 1);
    });
}

/// An end that was told to abort or close does not keep those waiting who wait for a connection.
#[test]
fn nobody_waits_for_the_connection_of_a_link_that_is_over() {
    on_both_runtimes(|| async {
        let link = OutgoingLink::<u64>::new(capacity(5), Bincode::default());
        let _ = link.abort_now().await;
        assert!(link.connected().await.is_err());
    });
}

/// An end that comes while the hello is under way is announced: no stream stays open for a source that is gone.
#[test]
fn an_end_in_the_midst_of_a_handshake_leaves_no_stream_open() {
    on_both_runtimes(|| async {
        for turns in 0..60 {
            for aborting in [false, true] {
                let site = Site::mem().await;
                let mut receiver = site.receiver::<u64>(ReceiverConfig::default());
                let link = site.link::<u64>(capacity(20));
                for _ in 0..turns {
                    tokio::task::yield_now().await;
                }
                if aborting {
                    let _ = link.abort().await;
                } else {
                    link.close(LONG).await.unwrap();
                }
                let other = site.link_from::<u64>("OTHER", capacity(20), Bincode::default());
                other.sender().send(1).await.unwrap();
                let closing = tokio::spawn(async move { other.close(LONG).await });
                let mut taken = false;
                loop {
                    match receiver.recv().await {
                        Ok(value) => taken = *value == 1,
                        // The source that sent nothing may have had an end of its own.
                        Err(error) => assert_eq!(error, RecvError::EndOfStream),
                    }
                    if taken {
                        break;
                    }
                }
                closing.await.unwrap().unwrap();
                assert_eq!(receiver.recv().await.unwrap_err(), RecvError::EndOfStream, "{turns} turns");
            }
        }
    });
}

/// What nobody will take is not charged to the process any more, whether the sources are here or away.
#[test]
fn a_closed_end_gives_its_budget_back() {
    on_both_runtimes(|| async {
        for away in [false, true] {
            let site = Site::mem().await;
            let budget = Budget::new(1_000_000);
            let mut config = ReceiverConfig::default();
            config.budget = budget.clone();
            let receiver = site.receiver::<Vec<u8>>(config);
            let intake = receiver.intake();
            let link = site.link::<Vec<u8>>(capacity(20));
            link.sender().send_many((0..20).map(|_| vec![1; 20_000])).await.unwrap();
            wait_until(|| budget.used() > 300_000).await;
            if away {
                site.vacate();
                link.sender().cut();
                wait_until(|| receiver.sources().iter().all(|id| !receiver.source(*id).unwrap().connected))
                    .await;
            }
            receiver.close().await;
            wait_until(|| budget.used() == 0).await;
            assert!(intake.is_closed());
        }
    });
}

/// A recovery that comes after the last word finds nothing to take back.
#[test]
fn a_recovery_after_the_last_word_is_harmless() {
    on_both_runtimes(|| async {
        for closing in [false, true] {
            let site = Site::mem().await;
            let mut config = ReceiverConfig::default();
            config.ack_mode = AckMode::Explicit;
            let mut receiver = site.receiver::<Vec<u8>>(config);
            let intake = receiver.intake();
            let link = site.link::<Vec<u8>>(capacity(100));
            link.sender().send_many((0..100).map(|_| vec![1; 3_000])).await.unwrap();
            let first = receiver.recv().await.unwrap();
            wait_until(|| receiver.source(first.source()).unwrap().received_bytes > 200_000).await;
            if closing {
                intake.close().await;
            } else {
                intake.detach().await;
            }
            receiver.recover();
            first.ack();
            assert_eq!(receiver.recv().await.unwrap_err(), RecvError::Closed);
        }
    });
}

/// The notice itself wakes the task that waits for it: the new session may have nothing to send.
#[test]
fn a_silent_restart_is_noticed() {
    on_both_runtimes(|| async {
        let site = Site::mem().await;
        let mut receiver = site.receiver::<u64>(ReceiverConfig::default());
        let first = site.link::<u64>(capacity(20));
        first.connected().await.unwrap();
        let waiting = tokio::spawn(async move { (receiver.recv_event().await, receiver) });
        tokio::task::yield_now().await;
        let second = site.link::<u64>(capacity(20));
        second.connected().await.unwrap();
        let (event, _receiver) = waiting.await.unwrap();
        assert!(matches!(event, Ok(Event::SourceRestarted { .. })));
        drop((first, second));
    });
}

/// A successor cannot know what its predecessor took, so an abort that it answers is not exact.
#[test]
fn an_abort_that_a_successor_answers_gives_a_range() {
    on_both_runtimes(|| async {
        let site = Site::mem().await;
        let mut config = ReceiverConfig::default();
        config.ticker = false;
        let mut receiver = site.receiver::<u64>(config);
        let link = site.link::<u64>(capacity(20));
        link.sender().send_many(0..7).await.unwrap();
        for _ in 0..5 {
            let _ = receiver.recv().await.unwrap();
        }
        lose(&site, &link).await;
        let _successor = site.receiver::<u64>(ReceiverConfig::default());
        let aborted = link.abort().await;
        assert!(aborted.at_least <= 2 && aborted.at_most >= 2, "{aborted:?}");
    });
}
