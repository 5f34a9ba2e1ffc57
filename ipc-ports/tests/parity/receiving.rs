//! What an incoming port hands out: what it is, to whom, from whom, and how much of it may be under way.

use std::{collections::HashMap, thread, time::Duration};

use bytes::Bytes;
use ipc_pipeline::{SendErrorReason, protocol::Budget};
use ipc_ports::{AckMode, Delivery, PortConfig, RecvError};
use ipc_testkit::Faulty;
use ipc_transport::{Bincode, EncodeBuffer, EncodeError, Encoder, Raw, TcpTransport, UnixTransport};
use serde::{Deserialize, Serialize};

use crate::support::{LONG, everywhere, fill, until};

/// P-14: without a take no payload leaves the producer beyond the credit that the receiver granted.
#[test]
fn nothing_leaves_the_producer_beyond_the_credit() {
    everywhere(|world| async move {
        let unix = Faulty::pass_through(UnixTransport::new());
        let tcp = Faulty::pass_through(TcpTransport::new());
        let handles = [unix.handle(), tcp.handle()];
        let written = || handles.iter().map(|handle| handle.counters().dialled.written).sum::<u64>();
        let config = world.config("process1").transport(unix).transport(tcp);
        let one = ipc_ports::Node::start(config).await.unwrap();
        let two = world.node("process2").await;
        let mut inp = two.incoming_codec::<Bytes>("IN", PortConfig::new().window(4), Raw).unwrap();
        let out = one.outgoing_codec::<Bytes>("OUT", PortConfig::new().capacity(1_000), Raw).unwrap();
        let payload = Bytes::from(vec![7; 1_000]);
        out.send_many((0..1_000).map(|_| payload.clone())).await.unwrap();
        out.connect("process2", "IN").unwrap();
        out.connected().await.unwrap();
        let source = inp.sources()[0];
        for taken in 0..10 {
            let received = || inp.source(source).unwrap().received_bytes;
            let granted = (4 + taken) * 1_004;
            until(|| received() == granted).await;
            // Everything else on the connection: a hello and some control frames.
            assert!(
                written() < granted + 2_000 + 100 * taken,
                "{} bytes left after {taken} takes",
                written()
            );
            assert_eq!(inp.recv().await.unwrap().len(), 1_000);
        }
        assert_eq!(out.abort().await.exact(), Some(990));
    });
}

/// Threads that know no runtime use ports as well, by parking; a timeout gives the value back.
#[test]
fn threads_use_ports_without_a_runtime() {
    everywhere(|world| async move {
        let (one, two) = world.pair().await;
        let mut inp = two.incoming::<u64>("IN").unwrap();
        let out = one.outgoing_with::<u64>("OUT", PortConfig::new().capacity(3)).unwrap();
        assert!((0..3).all(|value| out.try_send(value).is_ok()));
        let out = tokio::task::spawn_blocking(move || {
            let late = out.blocking_send_timeout(3, Duration::from_millis(1)).unwrap_err();
            assert_eq!(late.into_parts(), (3, SendErrorReason::TimedOut));
            out
        });
        let out = out.await.unwrap();
        out.connect("process2", "IN").unwrap();
        let sending = thread::spawn(move || {
            (3..100).for_each(|value| out.blocking_send(value).unwrap());
            out
        });
        let taking = tokio::task::spawn_blocking(move || {
            for value in 0..100 {
                assert_eq!(*inp.blocking_recv().unwrap(), value);
            }
            assert!(inp.blocking_recv_timeout(Duration::from_millis(1)).unwrap().is_none());
            inp
        });
        let _inp = taking.await.unwrap();
        let out = sending.join().unwrap();
        out.close(LONG).await.unwrap();
    });
}

/// P-15: a hundred receives and a hundred values.
#[test]
fn each_of_a_hundred_receives_gets_exactly_one_value() {
    everywhere(|world| async move {
        let (one, two) = world.pair().await;
        let shared = two.incoming::<u64>("IN").unwrap().into_shared();
        let out = one.outgoing_with::<u64>("OUT", PortConfig::new().capacity(30)).unwrap();
        out.connect("process2", "IN").unwrap();
        let receives: Vec<_> = (0..100)
            .map(|_| {
                let shared = shared.clone();
                tokio::spawn(async move { shared.recv().await.unwrap().into_value() })
            })
            .collect();
        for value in 0..100 {
            out.send(value).await.unwrap();
        }
        let mut values = Vec::new();
        for receive in receives {
            values.push(receive.await.unwrap());
        }
        values.sort_unstable();
        assert!(values.into_iter().eq(0..100));
        let mut inp = shared.into_inner().unwrap();
        assert!(inp.try_recv().unwrap().is_none());
        out.close(LONG).await.unwrap();
    });
}

/// P-13: with all producers saturated each gets its share of every window of receipts.
#[test]
fn saturated_producers_are_served_in_fair_turns() {
    const PRODUCERS: usize = 8;
    const EACH: u64 = 400;
    everywhere(|world| async move {
        let (one, two) = world.pair().await;
        let mut inp = two.incoming::<u64>("IN").unwrap();
        let mut producers = Vec::new();
        for number in 0..PRODUCERS {
            let config = PortConfig::new().capacity(EACH as usize);
            let out = one.outgoing_with::<u64>(&format!("OUT{number}"), config).unwrap();
            fill(&out, 0..EACH);
            out.connect("process2", "IN").unwrap();
            producers.push(out);
        }
        let arrived = || {
            let sources = inp.sources();
            sources.len() == PRODUCERS
                && sources.iter().all(|source| inp.source(*source).unwrap().received_bytes == EACH * 12)
        };
        until(arrived).await;
        let mut order = Vec::new();
        let mut batch: Vec<Delivery<u64>> = Vec::new();
        while order.len() < PRODUCERS * EACH as usize {
            // Single values and batches of any size alike.
            let max = 1 + order.len() % 77;
            inp.recv_deliveries(&mut batch, max).await.unwrap();
            order.extend(batch.drain(..).map(|delivery| (delivery.source(), *delivery)));
        }
        let mut next = HashMap::new();
        for (source, value) in &order {
            let next = next.entry(*source).or_insert(0);
            assert_eq!(value, next, "the order of each producer is kept");
            *next += 1;
        }
        // As long as everybody has something left.
        let saturated = &order[..PRODUCERS * (EACH as usize - 32)];
        for window in saturated.windows(PRODUCERS * 100) {
            let mut shares: HashMap<_, usize> = HashMap::new();
            window.iter().for_each(|(source, _)| *shares.entry(*source).or_default() += 1);
            assert!(shares.len() == PRODUCERS && shares.values().all(|share| *share >= 50), "{shares:?}");
        }
        for out in producers {
            out.close(LONG).await.unwrap();
        }
    });
}

/// Writes the bytes as they are, but says that they are in the default codec.
struct Pretender;

impl Encoder<Vec<u8>> for Pretender {
    fn id(&self) -> &str {
        Bincode::ID
    }

    fn encode(&self, value: &Vec<u8>, out: &mut EncodeBuffer<'_>) -> Result<(), EncodeError> {
        out.write(value)
    }
}

/// P-19, P-32: by every way of receiving.
#[test]
fn a_value_that_does_not_decode_is_an_error_with_its_source_and_the_next_one_comes() {
    everywhere(|world| async move {
        let (one, two) = world.pair().await;
        for mode in [AckMode::Automatic, AckMode::Explicit] {
            let mut inp = two.incoming_with::<u64>("IN", PortConfig::new().ack_mode(mode)).unwrap();
            let out = one.outgoing_codec::<Vec<u8>>("OUT", PortConfig::new(), Pretender).unwrap();
            let good = |value: u64| value.to_le_bytes().to_vec();
            for round in 0..4 {
                for value in
                    [good(round), vec![1, 2, 3], vec![], good(round + 100), vec![9; 9], good(round + 200)]
                {
                    out.send(value).await.unwrap();
                }
                if round == 0 {
                    out.connect("process2", "IN").unwrap();
                    out.connected().await.unwrap();
                }
                let mut outcomes = Vec::new();
                while outcomes.len() < 6 {
                    let mut many = Vec::new();
                    let mut deliveries = Vec::new();
                    let outcome = match (round, mode) {
                        (0, _) | (2, AckMode::Explicit) => {
                            inp.recv().await.map(|delivery| deliveries.push(delivery))
                        }
                        (1, _) => inp.recv_deliveries(&mut deliveries, 10).await.map(drop),
                        (2, _) => inp.recv_many(&mut many, 10).await.map(drop),
                        _ => inp.recv_event().await.map(|event| match event {
                            ipc_ports::Event::Value(delivery) => deliveries.push(delivery),
                            other => panic!("{other:?}"),
                        }),
                    };
                    outcomes.extend(many.into_iter().map(Ok));
                    outcomes.extend(deliveries.into_iter().map(|delivery| Ok(delivery.ack())));
                    if let Err(error) = outcome {
                        let RecvError::Undecodable { source_id, number, .. } = error else {
                            panic!("{error}")
                        };
                        assert_eq!(inp.source(source_id).unwrap().port, "OUT");
                        outcomes.push(Err(number - round * 6));
                    }
                }
                assert_eq!(outcomes, [Ok(round), Err(2), Err(3), Ok(round + 100), Err(5), Ok(round + 200)]);
                // They count as released.
                out.settled().await.unwrap();
            }
            assert_eq!((inp.counters().taken, inp.counters().undecodable), (12, 12));
            out.close(LONG).await.unwrap();
        }
    });
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Parcel {
    label: String,
    contents: Vec<u8>,
}

/// P-27: every length at which something in the way changes its form, and text of all kinds.
#[test]
fn contents_of_any_length_and_any_text_survive() {
    const MIB: usize = 1024 * 1024;
    everywhere(|world| async move {
        let (one, two) = world.pair().await;
        let config = PortConfig::new().max_message(17 * MIB);
        let mut inp = two.incoming_with::<Parcel>("IN", config.clone()).unwrap();
        let mut raw = two.incoming_codec::<Bytes>("RAW", config.clone(), Raw).unwrap();
        let out = one.outgoing_with::<Parcel>("OUT", config.clone()).unwrap();
        let raw_out = one.outgoing_codec::<Bytes>("RAW", config, Raw).unwrap();
        out.connect("process2", "IN").unwrap();
        raw_out.connect("process2", "RAW").unwrap();
        let lens = [0, 1, 254, 255, 256, 16_383, 16_384, 65_531, 65_532, 65_535, 65_536, 65_537];
        let larger = [256 * 1024 - 1, 256 * 1024, 256 * 1024 + 1, MIB, 16 * MIB];
        let texts = ["", "naïve", "Ἑλλάς", "日本語", "🦀\u{0}\u{7f}\u{202e}", "\u{10ffff}"];
        let parcels: Vec<Parcel> = lens
            .into_iter()
            .chain(larger)
            .enumerate()
            .map(|(at, len)| Parcel {
                label: texts[at % texts.len()].to_owned(),
                contents: (0..len).map(|byte| (byte * 31 + at) as u8).collect(),
            })
            .collect();
        let sending = async {
            for parcel in &parcels {
                out.send(parcel.clone()).await.unwrap();
                raw_out.send(Bytes::from(parcel.contents.clone())).await.unwrap();
            }
        };
        let taking = async {
            for parcel in &parcels {
                assert!(*inp.recv().await.unwrap() == *parcel, "a parcel of {}", parcel.contents.len());
                assert!(
                    raw.recv().await.unwrap()[..] == parcel.contents[..],
                    "{} bytes",
                    parcel.contents.len()
                );
            }
        };
        tokio::join!(sending, taking);
        out.close(LONG).await.unwrap();
        raw_out.close(LONG).await.unwrap();
    });
}

/// P-18: ownership is the type system's business, so a received value goes on through another port as it is.
#[test]
fn a_received_value_is_forwarded_as_it_is() {
    everywhere(|world| async move {
        let (one, two) = world.pair().await;
        let mut middle = two.incoming::<Parcel>("IN").unwrap();
        let mut last = one.incoming::<Parcel>("BACK").unwrap();
        let out = one.outgoing::<Parcel>("OUT").unwrap();
        let back = two.outgoing::<Parcel>("FORTH").unwrap();
        out.connect("process2", "IN").unwrap();
        back.connect("process1", "BACK").unwrap();
        let parcel = Parcel { label: "there and back".to_owned(), contents: vec![1, 2, 3] };
        out.send(parcel.clone()).await.unwrap();
        back.send(middle.recv().await.unwrap().into_value()).await.unwrap();
        assert_eq!(*last.recv().await.unwrap(), parcel);
        out.close(LONG).await.unwrap();
        back.close(LONG).await.unwrap();
    });
}

/// by a sender whose byte bound and a receiver whose budget are far smaller than the value.
#[test]
fn a_single_value_larger_than_the_budget_is_deliverable() {
    const MIB: usize = 1024 * 1024;
    everywhere(|world| async move {
        let (one, two) = world.pair().await;
        let incoming = PortConfig::new().max_message(8 * MIB).budget(Budget::new(0)).window(2);
        let mut inp = two.incoming_codec::<Bytes>("IN", incoming, Raw).unwrap();
        let mut producers = Vec::new();
        // Several at once, since a port lets in one such value at a time.
        for number in 0..3_u8 {
            let outgoing = PortConfig::new().max_message(8 * MIB).byte_bound(1_000).capacity(4);
            let out = one.outgoing_codec::<Bytes>(&format!("OUT{number}"), outgoing, Raw).unwrap();
            out.connect("process2", "IN").unwrap();
            producers.push(tokio::spawn(async move {
                for len in [10, 8 * MIB, 65_537, 3 * MIB, 0, MIB] {
                    out.send(Bytes::from(vec![number; len])).await.unwrap();
                }
                out.close(LONG).await.unwrap();
            }));
        }
        let mut sizes: HashMap<_, Vec<usize>> = HashMap::new();
        for _ in 0..18 {
            let delivery = inp.recv().await.unwrap();
            sizes.entry(delivery.source()).or_default().push(delivery.len());
        }
        for sizes in sizes.values() {
            assert_eq!(*sizes, [10, 8 * MIB, 65_537, 3 * MIB, 0, MIB]);
        }
        assert_eq!(inp.recv().await.unwrap_err(), RecvError::EndOfStream);
        for producer in producers {
            producer.await.unwrap();
        }
    });
}

/// what exceeds the limit of the port itself comes back, and the port goes on.
#[test]
fn a_value_larger_than_the_limit_comes_back() {
    everywhere(|world| async move {
        let (one, two) = world.pair().await;
        let mut inp = two.incoming_codec::<Bytes>("IN", PortConfig::new().max_message(100), Raw).unwrap();
        let out = one.outgoing_codec::<Bytes>("OUT", PortConfig::new().max_message(100), Raw).unwrap();
        out.connect("process2", "IN").unwrap();
        for len in [101, 100_000] {
            let error = out.send(Bytes::from(vec![1; len])).await.unwrap_err();
            assert_eq!(*error.reason(), ipc_ports::SendErrorReason::TooLarge { len, max: 100 });
            assert_eq!(error.into_value().len(), len);
        }
        out.send(Bytes::from(vec![1; 100])).await.unwrap();
        assert_eq!(inp.recv().await.unwrap().len(), 100);
        out.close(LONG).await.unwrap();
    });
}
