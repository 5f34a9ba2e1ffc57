//! How ports find each other, who may come in, and what strangers can do.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use ipc_pipeline::protocol::{Answer, Control, Hello, PREAMBLE_LEN, Preamble, ProtocolError, Welcome};
use ipc_ports::{ConnectError, NodeConfig, PortConfig, Refusal, SendErrorReason, Status};
use ipc_transport::{
    Connection, Endpoint, ListenOptions, Listener, ReadHalf, StaticNaming, Transports, WriteHalf,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::{
    raw::{dial, hello, read_answer},
    support::{LONG, everywhere, once, polled, until},
};

/// P-09.
#[test]
fn one_pipeline_leaves_an_outgoing_port() {
    everywhere(|world| async move {
        let (one, two) = world.pair().await;
        let inp = two.incoming::<u64>("IN").unwrap();
        let out = one.outgoing::<u64>("OUT").unwrap();
        out.connect("process2", "IN").unwrap();
        let already = ConnectError::AlreadyConnected { process: "process2".into(), port: "IN".into() };
        let busy = ConnectError::OutgoingPortBusy { process: "process2".into(), port: "IN".into() };
        assert_eq!(out.connect("process2", "IN").unwrap_err(), already);
        assert_eq!(out.connect("process2", "OTHER").unwrap_err(), busy);
        out.connected().await.unwrap();
        assert_eq!(out.connect("process2", "IN").unwrap_err(), already);
        assert_eq!(out.connect("process3", "IN").unwrap_err(), busy);
        assert!(matches!(out.connect("", "IN"), Err(ConnectError::InvalidName { .. })));
        out.close(LONG).await.unwrap();
        drop(inp);
    });
}

/// P-10.
#[test]
fn the_incoming_side_is_connected_without_a_call() {
    everywhere(|world| async move {
        let (one, two) = world.pair().await;
        let inp = two.incoming::<u64>("IN").unwrap();
        let out = one.outgoing::<u64>("OUT").unwrap();
        assert!(!out.is_connected_to("process2", "IN") && !inp.is_connected_to("process1", "OUT"));
        out.connect("process2", "IN").unwrap();
        out.connected().await.unwrap();
        assert!(out.is_connected_to("process2", "IN"));
        // Accepting the hello is the connect-back, so it is there before the answer to it.
        assert!(inp.is_connected_to("process1", "OUT"));
        assert!(!out.is_connected_to("process2", "OTHER") && !out.is_connected_to("process3", "IN"));
        assert!(!inp.is_connected_to("process1", "OTHER") && !inp.is_connected_to("process3", "OUT"));
        out.close(LONG).await.unwrap();
        until(|| !inp.is_connected_to("process1", "OUT")).await;
    });
}

/// P-11: by the kernel's word, not by the source's own.
#[test]
fn a_hook_decides_by_the_process_behind_the_connection() {
    once(|world| async move {
        let (one, two) = world.pair().await;
        for own in [true, false] {
            let config = PortConfig::new()
                .connection_request(move |request| (request.peer.pid() == Some(std::process::id())) == own);
            let inp = two.incoming_with::<u64>(if own { "OWN" } else { "OTHERS" }, config).unwrap();
            let out = one.outgoing::<u64>("OUT").unwrap();
            out.connect("process2", inp.name()).unwrap();
            let expected = if own { Ok(()) } else { Err(Refusal::NotPermitted) };
            assert_eq!(out.connected().await, expected);
            let pids = inp.sources().into_iter().map(|id| inp.source(id).unwrap().peer.pid());
            assert!(pids.eq(own.then_some(Some(std::process::id()))));
            let _ = out.abort().await;
        }
    });
}

/// P-11.
#[test]
fn a_hook_sees_who_wants_to_come_in_and_may_refuse() {
    everywhere(|world| async move {
        let (one, two) = world.pair().await;
        let seen = Arc::new(Mutex::new(Vec::new()));
        let noting = seen.clone();
        let config = PortConfig::new().connection_request(move |request| {
            let welcome = request.port == "GOOD" && request.credentials == b"key";
            noting.lock().unwrap().push((request.process.clone(), request.port.clone()));
            welcome
        });
        let mut inp = two.incoming_with::<u64>("IN", config).unwrap();
        let bad = one.outgoing::<u64>("BAD").unwrap();
        bad.send(1).await.unwrap();
        bad.connect("process2", "IN").unwrap();
        assert_eq!(bad.connected().await.unwrap_err(), Refusal::NotPermitted);
        let error = bad.send(2).await.unwrap_err();
        assert_eq!(error.into_parts(), (2, SendErrorReason::Refused));
        assert_eq!(bad.settled().await.unwrap_err(), SendErrorReason::Refused);
        assert_eq!(bad.pending(), 1, "what was accepted is kept for another target");

        let good = one.outgoing_with::<u64>("GOOD", PortConfig::new().credentials(*b"key")).unwrap();
        good.connect("process2", "IN").unwrap();
        good.connected().await.unwrap();
        good.send(3).await.unwrap();
        assert_eq!(*inp.recv().await.unwrap(), 3);
        let seen = seen.lock().unwrap().clone();
        assert_eq!(seen, [("process1".into(), "BAD".into()), ("process1".into(), "GOOD".into())]);

        // A refused port may be connected anew, and brings along what it kept.
        let mut other = two.incoming::<u64>("OTHER").unwrap();
        bad.connect("process2", "OTHER").unwrap();
        bad.connected().await.unwrap();
        assert_eq!(*other.recv().await.unwrap(), 1);
        bad.send(4).await.unwrap();
        assert_eq!(*other.recv().await.unwrap(), 4);
        bad.close(LONG).await.unwrap();
        good.close(LONG).await.unwrap();
    });
}

/// P-21.
#[test]
fn two_incoming_ports_of_one_process_never_see_each_others_values() {
    everywhere(|world| async move {
        let (one, two) = world.pair().await;
        let mut ends = Vec::new();
        for number in 0..2_u64 {
            let inp = two.incoming::<u64>(&format!("IN{number}")).unwrap();
            let out = one.outgoing::<u64>(&format!("OUT{number}")).unwrap();
            out.connect("process2", &format!("IN{number}")).unwrap();
            ends.push((number, inp, out));
        }
        for value in 0..20 {
            for (number, _, out) in &ends {
                out.connected().await.unwrap();
                out.send(value * 2 + number).await.unwrap();
            }
        }
        for (number, mut inp, out) in ends {
            assert_eq!(inp.sources().len(), 1);
            for value in 0..20 {
                assert_eq!(*inp.recv().await.unwrap(), value * 2 + number);
            }
            assert!(inp.try_recv().unwrap().is_none());
            out.close(LONG).await.unwrap();
        }
    });
}

/// P-20: what no port has announced is counted and refused, and everybody else is served.
#[test]
fn garbage_at_the_listener_is_counted_and_refused() {
    everywhere(|world| async move {
        let (one, two) = world.pair().await;
        let mut inp = two.incoming::<u64>("IN").unwrap();
        let out = one.outgoing::<u64>("OUT").unwrap();
        out.connect("process2", "IN").unwrap();
        out.connected().await.unwrap();

        let mut hello = hello("process2", "IN");
        let mut early = hello.encode().unwrap();
        early[0] ^= 1;
        let mut frames = Vec::new();
        Control::Resume { first: 1, maybe_seen_until: 0 }.encode(&mut frames);
        frames.extend_from_slice(&[8, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8]);
        let mut rng = fastrand::Rng::with_seed(20);
        let noise: Vec<u8> = std::iter::repeat_with(|| rng.u8(..)).take(100_000).collect();
        let garbage = [b"GET / HTTP/1.1\r\n\r\n".to_vec(), frames.clone(), noise, early, vec![0; 8]];
        for (number, bytes) in garbage.iter().enumerate() {
            let (mut reader, mut writer) = dial(&world, "process2").await;
            // The node may hang up before it has read everything.
            let _ = writer.write_all(bytes).await;
            let _ = reader.read_to_end(&mut Vec::new()).await;
            until(|| two.counters().failed == number as u64 + 1).await;
        }
        // A stranger who says hello properly but means another process, and one who breaks the protocol afterwards.
        hello.to_process = "elsewhere".to_owned();
        let (mut reader, mut writer) = dial(&world, "process2").await;
        writer.write_all(&hello.encode().unwrap()).await.unwrap();
        let refused = read_answer(&mut reader).await;
        assert_eq!(refused, Answer::Refused(Refusal::WrongProcess { wanted: "elsewhere".to_owned() }));
        assert_eq!(two.counters().refused, 1);
        hello.to_process = "process2".to_owned();
        let (mut reader, mut writer) = dial(&world, "process2").await;
        writer.write_all(&hello.encode().unwrap()).await.unwrap();
        assert!(matches!(read_answer(&mut reader).await, Answer::Welcome(_)));
        writer.write_all(&frames[20..]).await.unwrap();
        assert_eq!(
            reader.read_to_end(&mut Vec::new()).await.unwrap_or(0),
            0,
            "values without a RESUME are not taken"
        );

        out.send(7).await.unwrap();
        assert_eq!(*inp.recv().await.unwrap(), 7);
        assert!(inp.try_recv().unwrap().is_none());
        out.close(LONG).await.unwrap();
    });
}

/// P-32: what a receiving end does wrong reaches the sender's status as a typed reason, and the pipeline goes on.
#[test]
fn protocol_errors_of_the_receiving_end_are_typed_and_survived() {
    once(|world| async move {
        let at = Endpoint::unix(world.path().join("impostor.sock")).unwrap();
        let transports = Transports::local();
        let mut listener = transports.listen(&at, &ListenOptions::default()).await.unwrap();
        let naming =
            StaticNaming::new().with("impostor", at).with("process1", "tcp://127.0.0.1:0".parse().unwrap());
        let one = ipc_ports::Node::start(NodeConfig::new("process1").naming(naming)).await.unwrap();
        let out = one.outgoing::<u64>("OUT").unwrap();
        let mut status = out.status();
        out.send(1).await.unwrap();
        out.connect("impostor", "IN").unwrap();

        // Claims a value that was never sent.
        let (_, mut writer, _) = greeted(&mut *listener).await;
        writer.write_all(&Answer::Welcome(welcome(5)).encode()).await.unwrap();
        let reason = lost(&mut status).await;
        assert!(matches!(reason, ProtocolError::UnknownValue { received: 5, .. }), "{reason}");

        // Acks a value that was never sent: the wrong sequence.
        let (mut reader, mut writer, _) = greeted(&mut *listener).await;
        writer.write_all(&Answer::Welcome(welcome(0)).encode()).await.unwrap();
        let mut ack = Vec::new();
        Control::Ack { released: 9, max_values: 100, max_bytes: 1 << 20 }.encode(&mut ack);
        writer.write_all(&ack).await.unwrap();
        let _ = reader.read_to_end(&mut Vec::new()).await;
        let reason = lost(&mut status).await;
        assert!(matches!(reason, ProtocolError::AckBeyondSent { released: 9, .. }), "{reason}");

        // Answers with something that is no answer.
        let (_, mut writer, _) = greeted(&mut *listener).await;
        writer.write_all(&Answer::Welcome(welcome(0)).encode()).await.unwrap();
        writer.write_all(&[8, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8]).await.unwrap();
        let reason = lost(&mut status).await;
        assert!(
            matches!(reason, ProtocolError::UnexpectedFrame { .. } | ProtocolError::MalformedFrame { .. }),
            "{reason}"
        );

        // Takes credit back.
        let (_, mut writer, _) = greeted(&mut *listener).await;
        writer.write_all(&Answer::Welcome(welcome(0)).encode()).await.unwrap();
        let mut ack = Vec::new();
        Control::Ack { released: 0, max_values: 1, max_bytes: 1 }.encode(&mut ack);
        writer.write_all(&ack).await.unwrap();
        assert_eq!(lost(&mut status).await, ProtocolError::CreditLowered);

        // And the one that behaves gets the value.
        let (mut reader, mut writer, _) = greeted(&mut *listener).await;
        writer.write_all(&Answer::Welcome(welcome(0)).encode()).await.unwrap();
        let mut data = vec![0; 20 + 20 + 12];
        reader.read_exact(&mut data).await.unwrap();
        assert_eq!(data[data.len() - 8..], 1_u64.to_le_bytes());
        let mut ack = Vec::new();
        Control::Ack { released: 1, max_values: 100, max_bytes: 1 << 20 }.encode(&mut ack);
        writer.write_all(&ack).await.unwrap();
        out.settled().await.unwrap();
        drop(out.abort());
    });
}

/// P-32: a sender whose numbers are wrong is cut off, and nothing of what it sent is handed out.
#[test]
fn a_sender_with_the_wrong_sequence_is_cut_off() {
    everywhere(|world| async move {
        let two = world.node("process2").await;
        let mut inp = two.incoming::<u64>("IN").unwrap();
        for frames in [
            [Control::Resume { first: 3, maybe_seen_until: 0 }, Control::Fin],
            [Control::Resume { first: 1, maybe_seen_until: 0 }, Control::Checkpoint { next: 2, waiting: 0 }],
            [
                Control::Resume { first: 1, maybe_seen_until: 0 },
                Control::Resume { first: 1, maybe_seen_until: 0 },
            ],
            [Control::Resume { first: 1, maybe_seen_until: 0 }, Control::Aborted { released: 0, taken: 0 }],
        ] {
            let (mut reader, mut writer) = dial(&world, "process2").await;
            writer.write_all(&hello("process2", "IN").encode().unwrap()).await.unwrap();
            assert!(matches!(read_answer(&mut reader).await, Answer::Welcome(_)));
            let mut bytes = Vec::new();
            frames.into_iter().for_each(|frame| frame.encode(&mut bytes));
            bytes.extend_from_slice(&[8, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8]);
            let _ = writer.write_all(&bytes).await;
            let _ = reader.read_to_end(&mut Vec::new()).await;
        }
        until(|| !inp.is_connected_to("raw", "OUT")).await;
        assert!(inp.try_recv().unwrap().is_none());
        assert_eq!(inp.counters().taken, 0);
    });
}

/// A connection whose hello was read.
async fn greeted(listener: &mut dyn Listener) -> (ReadHalf, WriteHalf, Hello) {
    let connection: Connection = listener.accept().await.unwrap().establish().await.unwrap();
    let (mut reader, writer, _) = connection.into_parts();
    let mut preamble = [0; PREAMBLE_LEN];
    reader.read_exact(&mut preamble).await.unwrap();
    let mut fields = vec![0; Preamble::decode(preamble, false).unwrap().len.into()];
    reader.read_exact(&mut fields).await.unwrap();
    (reader, writer, Hello::decode(&fields).unwrap())
}

fn welcome(received: u64) -> Welcome {
    Welcome {
        incarnation: 77,
        received,
        released: 0,
        max_values: 20,
        max_bytes: 64 * 1024,
        unknown_session: false,
        restated: true,
        ticked: false,
    }
}

/// The next protocol error in a status.
async fn lost(status: &mut tokio::sync::watch::Receiver<Status>) -> ProtocolError {
    loop {
        status.changed().await.unwrap();
        let seen = status.borrow_and_update().clone();
        if let Status::Lost(reason) = seen {
            let text = format!("{reason:?}");
            let ipc_pipeline::link::LostReason::Protocol(error) = reason else { panic!("{text}") };
            return error;
        }
    }
}

/// A handshake that says nothing holds nobody else up.
#[test]
fn a_silent_stranger_delays_nobody() {
    everywhere(|world| async move {
        let (one, two) = world.pair().await;
        let mut inp = two.incoming::<u64>("IN").unwrap();
        let silent = dial(&world, "process2").await;
        let out = one.outgoing::<u64>("OUT").unwrap();
        out.connect("process2", "IN").unwrap();
        out.send(1).await.unwrap();
        assert_eq!(*inp.recv().await.unwrap(), 1);
        drop(silent);
        out.close(LONG).await.unwrap();
    });
}

/// P-16 for an awaited status: nothing but looking is given up.
#[test]
fn waiting_to_be_connected_can_be_given_up_at_any_time() {
    everywhere(|world| async move {
        let (one, two) = world.pair().await;
        let out = one.outgoing::<u64>("OUT").unwrap();
        assert!(
            polled(3, tokio::time::timeout(Duration::from_millis(1), out.connected()))
                .await
                .unwrap()
                .is_err()
        );
        out.connect("process2", "IN").unwrap();
        assert!(polled(1, out.connected()).await.is_none());
        let inp = two.incoming::<u64>("IN").unwrap();
        until(|| inp.is_connected_to("process1", "OUT")).await;
        out.connected().await.unwrap();
        out.close(LONG).await.unwrap();
    });
}
