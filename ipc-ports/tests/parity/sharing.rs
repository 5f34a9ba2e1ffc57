//! Many at once: threads with one handle, connections with pieces of frames.

use std::collections::HashMap;

use ipc_pipeline::protocol::{Answer, Control, HEADER_LEN, Header, Kind};
use ipc_ports::{PortConfig, RecvError};
use tokio::{io::AsyncWriteExt, runtime::Handle};

use crate::{
    raw::{dial, hello, read_answer},
    support::{LONG, everywhere},
};

///
#[test]
fn the_order_of_each_of_eight_threads_with_one_handle_is_kept() {
    const THREADS: u64 = 8;
    const EACH: u64 = 2_000;
    everywhere(|world| async move {
        let (one, two) = world.pair().await;
        let mut inp = two.incoming::<(u64, u64)>("IN").unwrap();
        let out = one.outgoing_with::<(u64, u64)>("OUT", PortConfig::new().capacity(100)).unwrap();
        out.connect("process2", "IN").unwrap();
        let threads: Vec<_> = (0..THREADS)
            .map(|thread| {
                let (sender, runtime) = (out.sender(), Handle::current());
                std::thread::spawn(move || {
                    runtime.block_on(async {
                        let mut value = 0;
                        while value < EACH {
                            // Each way of sending, in turns.
                            match value % 3 {
                                0 => sender.send((thread, value)).await.unwrap(),
                                1 => sender.reserve().await.unwrap().send((thread, value)).unwrap(),
                                _ => {
                                    let many = (value..EACH.min(value + 8)).map(|value| (thread, value));
                                    value += sender.send_many(many).await.unwrap() as u64 - 1;
                                }
                            }
                            value += 1;
                        }
                    });
                })
            })
            .collect();
        let mut next = [0; THREADS as usize];
        for _ in 0..THREADS * EACH {
            let (thread, value) = inp.recv().await.unwrap().into_value();
            assert_eq!(value, next[thread as usize]);
            next[thread as usize] += 1;
        }
        for thread in threads {
            thread.join().unwrap();
        }
        out.close(LONG).await.unwrap();
        assert_eq!(inp.recv().await.unwrap_err(), RecvError::EndOfStream);
    });
}

///
#[test]
fn fifty_connections_with_interleaved_pieces_of_frames_are_kept_apart() {
    const CONNECTIONS: u64 = 50;
    const EACH: u64 = 20;
    everywhere(|world| async move {
        let two = world.node("process2").await;
        let mut inp = two.incoming::<u64>("IN").unwrap();
        let mut rng = fastrand::Rng::with_seed(11);
        let mut open = Vec::new();
        for number in 0..CONNECTIONS {
            let (reader, writer) = dial(&world, "process2").await;
            let mut hello = hello("process2", "IN");
            hello.from_port = format!("OUT{number}");
            let hello = hello.encode().unwrap();
            let mut frames = Vec::new();
            Control::Resume { first: 1, maybe_seen_until: 0 }.encode(&mut frames);
            for value in 0..EACH {
                frames.extend_from_slice(&Header::new(Kind::Data, 8).encode());
                frames.extend_from_slice(&(number * 1_000 + value).to_le_bytes());
            }
            Control::Fin.encode(&mut frames);
            assert_eq!(frames.len(), (16 + HEADER_LEN) + EACH as usize * 12 + HEADER_LEN);
            open.push((reader, writer, hello, frames));
        }
        // First the hellos in pieces, then the answers, then the frames in pieces.
        let mut at = vec![0; open.len()];
        write_pieces(&mut rng, &mut at, &mut open, |(_, writer, hello, _)| (writer, hello)).await;
        for (reader, ..) in &mut open {
            assert!(matches!(read_answer(reader).await, Answer::Welcome(_)));
        }
        at.fill(0);
        write_pieces(&mut rng, &mut at, &mut open, |(_, writer, _, frames)| (writer, frames)).await;
        let mut next: HashMap<_, u64> = HashMap::new();
        for _ in 0..CONNECTIONS * EACH {
            let delivery = inp.recv().await.unwrap();
            let next = next.entry(delivery.source()).or_default();
            let port = inp.source(delivery.source()).unwrap().port;
            assert_eq!(port, format!("OUT{}", *delivery / 1_000));
            assert_eq!(*delivery % 1_000, *next);
            *next += 1;
        }
        assert_eq!(inp.recv().await.unwrap_err(), RecvError::EndOfStream);
        assert_eq!(next.len() as u64, CONNECTIONS);
    });
}

/// Writes a little to one connection, then to another, in random order, until everything is written.
async fn write_pieces<O, W: AsyncWriteExt + Unpin>(
    rng: &mut fastrand::Rng,
    at: &mut [usize],
    open: &mut [O],
    parts: impl for<'a> Fn(&'a mut O) -> (&'a mut W, &'a mut Vec<u8>),
) {
    let mut left: Vec<usize> = (0..open.len()).collect();
    while !left.is_empty() {
        let pick = rng.usize(..left.len());
        let number = left[pick];
        let (writer, bytes) = parts(&mut open[number]);
        let end = bytes.len().min(at[number] + rng.usize(1..=23));
        writer.write_all(&bytes[at[number]..end]).await.unwrap();
        at[number] = end;
        if end == bytes.len() {
            left.swap_remove(pick);
        }
        if rng.u8(..4) == 0 {
            tokio::task::yield_now().await;
        }
    }
}

/// the wall clock can jump, so that nothing below a port may look at it; time comes from the monotonic clock.
#[test]
fn no_timeout_depends_on_the_wall_clock() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut left: Vec<_> =
        ["ipc-ports/src", "ipc-pipeline/src", "ipc-transport/src"].map(|dir| root.join(dir)).into();
    let mut files = 0;
    while let Some(path) = left.pop() {
        if path.is_dir() {
            left.extend(std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
        } else if path.extension() == Some("rs".as_ref()) {
            files += 1;
            let text = std::fs::read_to_string(&path).unwrap();
            for name in ["SystemTime", "UNIX_EPOCH", "clock_gettime(ClockId::Realtime"] {
                assert!(!text.contains(name), "{} names {name}", path.display());
            }
        }
    }
    assert!(files > 50, "the sources were not found");
}
