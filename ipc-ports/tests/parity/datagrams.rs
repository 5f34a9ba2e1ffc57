//! Ports that do their best: both ends choose it, sources are found by name, and the newest win.

use std::time::Duration;

use ipc_ports::{
    BestEffortConfig, BestEffortError, BestEffortIncomingPort, BestEffortOutgoingPort, ConnectError,
    PortConfig, PortError, Refusal, Status,
    best_effort::{RecvError, Unsent},
};
use ipc_transport::{Error, Json, UdpTransport};

use crate::support::{LONG, everywhere, once, until};

fn udp() -> BestEffortConfig {
    BestEffortConfig::new(UdpTransport::new(), "udp://127.0.0.1:0".parse().unwrap())
}

async fn connected<T: 'static>(out: &BestEffortOutgoingPort<T>) {
    out.status().wait_for(|status| *status == Status::Connected).await.unwrap();
}

async fn refused<T: 'static>(out: &BestEffortOutgoingPort<T>) -> Refusal {
    let mut status = out.status();
    let status = status.wait_for(|status| matches!(status, Status::Refused(_))).await.unwrap();
    let Status::Refused(refusal) = &*status else { panic!("{status:?}") };
    refusal.clone()
}

/// Sends values from `first` on until one of them is received, and gives that.
async fn pass(out: &BestEffortOutgoingPort<u64>, inp: &mut BestEffortIncomingPort<u64>, first: u64) -> u64 {
    for value in first.. {
        out.send(value).unwrap();
        if let Ok(received) = tokio::time::timeout(Duration::from_millis(200), inp.recv()).await {
            let received = received.unwrap();
            if received.value >= first {
                return received.value;
            }
        }
    }
    unreachable!("there are enough numbers")
}

#[test]
fn values_go_beside_the_connection_that_found_the_port() {
    everywhere(|world| async move {
        let (one, two) = world.pair().await;
        let out = one.outgoing_best_effort::<u64>("OUT", udp()).await.unwrap();
        out.connect("process2", "IN").unwrap();
        // The port appears later, and values of that time are not held up.
        (0..1_000).for_each(|value| out.send(value).unwrap());
        assert_eq!((out.counters().waiting, out.counters().dropped), (64, 936));
        let mut inp = two.incoming_best_effort::<u64>("IN", udp()).await.unwrap();
        connected(&out).await;
        pass(&out, &mut inp, 1_000).await;
        let [source] = &inp.sources()[..] else { panic!("one source") };
        assert_eq!((&*source.process, &*source.port, source.attached), ("process1", "OUT", true));
        // What was given up before the session began is none of its account.
        assert!(source.tally.skipped < 900);

        let already = out.connect("process2", "IN").unwrap_err();
        assert!(matches!(already, ConnectError::AlreadyConnected { .. }), "{already:?}");
        let busy = out.connect("process3", "IN").unwrap_err();
        assert!(matches!(busy, ConnectError::OutgoingPortBusy { .. }), "{busy:?}");
        out.close(LONG).await.unwrap();
        until(|| !inp.sources()[0].attached).await;
        one.shutdown(LONG).await.unwrap();
        two.shutdown(LONG).await.unwrap();
        let end = loop {
            if let Err(end) = inp.recv().await {
                break end;
            }
        };
        assert_eq!(end, RecvError::Closed);
    });
}

/// Delivery is chosen, never given in silence: a port of one kind refuses one of the other, and says why.
#[test]
fn both_ends_must_choose_best_effort() {
    everywhere(|world| async move {
        let (one, two) = world.pair().await;
        let _best = two.incoming_best_effort::<u64>("BEST", udp()).await.unwrap();
        let _reliable = two.incoming::<u64>("RELIABLE").unwrap();

        let out = one.outgoing::<u64>("RELIABLE").unwrap();
        out.connect("process2", "BEST").unwrap();
        let refusal = out.connected().await.unwrap_err();
        assert!(
            matches!(&refusal, Refusal::Incompatible { what } if what.contains("best effort")),
            "{refusal:?}"
        );
        drop(out);

        let out = one.outgoing_best_effort::<u64>("BEST", udp()).await.unwrap();
        out.connect("process2", "RELIABLE").unwrap();
        let refusal = refused(&out).await;
        assert!(
            matches!(&refusal, Refusal::Incompatible { what } if what.contains("reliable")),
            "{refusal:?}"
        );
        // Refused is not the end: it may be led elsewhere.
        out.connect("process2", "BEST").unwrap();
        connected(&out).await;
    });
}

#[test]
fn what_does_not_fit_is_refused() {
    once(|world| async move {
        let (one, two) = world.pair().await;
        let picky = udp()
            .connection_request(|request| request.credentials == b"key" && request.process == "process1");
        let _inp = two.incoming_best_effort::<u64>("IN", picky.schema("frames")).await.unwrap();
        let attempts = [(udp(), "not permitted"), (udp().credentials(*b"key").schema("samples"), "schema")];
        for (config, reason) in attempts {
            let out = one.outgoing_best_effort::<u64>("OUT", config).await.unwrap();
            out.connect("process2", "IN").unwrap();
            let refusal = refused(&out).await.to_string();
            assert!(refusal.contains(reason), "{refusal}");
        }
        let config = udp().credentials(*b"key");
        let out =
            one.outgoing_best_effort_codec::<u64>("OUT", config.clone(), Json::default()).await.unwrap();
        out.connect("process2", "IN").unwrap();
        assert!(refused(&out).await.to_string().contains("codec"));
        drop(out);
        let other_family =
            BestEffortConfig::new(UdpTransport::new(), "udp://[::1]:0".parse().unwrap()).credentials(*b"key");
        let out = one.outgoing_best_effort::<u64>("OUT", other_family).await.unwrap();
        out.connect("process2", "IN").unwrap();
        let refusal = refused(&out).await.to_string();
        assert!(refusal.contains("udp://127.0.0.1") && refusal.contains("udp://[::1]"), "{refusal}");
        drop(out);
        let out = one.outgoing_best_effort::<u64>("OUT", config).await.unwrap();
        out.connect("process2", "IN").unwrap();
        connected(&out).await;
    });
}

#[test]
fn names_are_shared_with_reliable_ports() {
    once(|world| async move {
        let node = world.node("process1").await;
        let taken =
            |error: &BestEffortError| matches!(error, BestEffortError::Port(PortError::NameTaken { .. }));
        let (_out, _inp) = (node.outgoing::<u64>("A").unwrap(), node.incoming::<u64>("A").unwrap());
        assert!(taken(&node.outgoing_best_effort::<u64>("A", udp()).await.unwrap_err()));
        assert!(taken(&node.incoming_best_effort::<u64>("A", udp()).await.unwrap_err()));
        let out = node.outgoing_best_effort::<u64>("B", udp()).await.unwrap();
        let inp = node.incoming_best_effort::<u64>("B", udp()).await.unwrap();
        assert!(node.outgoing_with::<u64>("B", PortConfig::new()).is_err());
        assert!(node.incoming::<u64>("B").is_err());
        let elsewhere = BestEffortConfig::new(UdpTransport::new(), inp.local_endpoint().clone());
        let error = node.incoming_best_effort::<u64>("C", elsewhere).await.unwrap_err();
        assert!(matches!(error, BestEffortError::Socket(Error::AddrInUse { .. })), "{error:?}");
        drop(out);
        inp.close().await;
        let _out = node.outgoing::<u64>("B").unwrap();
        let _inp = node.incoming_best_effort::<u64>("B", udp()).await.unwrap();
        let errors = [
            node.outgoing_best_effort::<u64>("D", udp().capacity(0)).await.unwrap_err(),
            node.incoming_best_effort::<u64>("D", udp().capacity(0)).await.unwrap_err(),
        ];
        for error in errors {
            assert!(matches!(error, BestEffortError::Port(PortError::ZeroCapacity)), "{error:?}");
        }
    });
}

#[test]
fn a_restarted_receiver_is_found_again() {
    everywhere(|world| async move {
        let (one, two) = world.pair().await;
        let out = one.outgoing_best_effort::<u64>("OUT", udp()).await.unwrap();
        out.connect("process2", "IN").unwrap();
        let mut inp = two.incoming_best_effort::<u64>("IN", udp()).await.unwrap();
        let last = pass(&out, &mut inp, 0).await;
        drop(inp);
        two.shutdown(LONG).await.unwrap();
        let two = world.node("process2").await;
        let mut inp = two.incoming_best_effort::<u64>("IN", udp()).await.unwrap();
        pass(&out, &mut inp, last + 1).await;
        assert_eq!(inp.sources().len(), 1);
        // Nowhere to go any more: nobody waits for that beyond the deadline.
        drop(inp);
        drop(two);
        out.status().wait_for(|status| *status != Status::Connected).await.unwrap();
        (0..10).for_each(|value| out.send(value).unwrap());
        let unsent = out.close(Duration::from_millis(1)).await;
        assert!(matches!(unsent, Err(Unsent { count: 1.. })), "{unsent:?}");
    });
}

/// A port that nobody answers, or that was refused, does not hold up the end of its node; nor does a handle that lives on.
#[test]
fn a_port_without_a_way_does_not_hold_up_a_shutdown() {
    once(|world| async move {
        let (one, two) = world.pair().await;
        let _reliable = two.incoming::<u64>("RELIABLE").unwrap();
        let idle = one.outgoing_best_effort::<u64>("IDLE", udp()).await.unwrap();
        let out = one.outgoing_best_effort::<u64>("OUT", udp()).await.unwrap();
        out.connect("process2", "RELIABLE").unwrap();
        refused(&out).await;
        idle.send(1).unwrap();
        out.send(1).unwrap();
        let handle = out.sender();
        drop(out);
        assert!(handle.is_closed() && handle.send(2).is_err());
        one.shutdown(Duration::MAX).await.unwrap();
        assert!(idle.send(1).is_err());
    });
}
