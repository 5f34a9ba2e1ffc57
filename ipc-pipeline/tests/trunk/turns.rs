//! Who goes next when several lanes wait for one socket, and that nobody is forgotten.

use std::{
    io,
    pin::{Pin, pin},
    sync::{Arc, Mutex},
    task::{Context, Poll, Waker},
};

use tokio::io::{AsyncWrite, AsyncWriteExt};

use crate::{
    common::on_both_runtimes,
    support::{Side, Silence, alone, by_hand, pattern, poll_once, read_chunk},
};

#[test]
fn lanes_take_turns_at_the_boundaries_of_chunks() {
    on_both_runtimes(|| async {
        const LANES: u8 = 4;
        let (trunk, driver, mut reader, _writer) = by_hand(LANES, 1_000).await;
        let ours = Side::new((trunk, driver));
        for lane in 0..LANES {
            let (_, mut writer) = ours.lane(lane);
            tokio::spawn(async move { while writer.write_all(&vec![lane; 1 << 20]).await.is_ok() {} });
        }
        let mut seen = [0; LANES as usize];
        for _ in 0..200 {
            let (lane, bytes) = read_chunk(&mut reader).await;
            assert!(bytes.iter().all(|byte| *byte == lane));
            seen[usize::from(lane)] += 1;
        }
        assert!(seen.iter().all(|count| *count >= 25), "{seen:?}");
    });
}

/// A small chunk goes behind the one that is on its way, however much its neighbour still has.
#[test]
fn a_chunk_waits_for_one_chunk_of_each_other_lane_at_most() {
    on_both_runtimes(|| async {
        let (trunk, driver, mut reader, _writer) = by_hand(2, 100).await;
        let ours = Side::new((trunk, driver));
        let ((_, mut bulk), (_, mut small)) = (ours.lane(0), ours.lane(1));
        let bytes = vec![0; 1 << 20];
        let mut flood = pin!(bulk.write_all(&bytes));
        while small.write(b"now").await.unwrap() == 0 {}
        for _ in 0..10 {
            assert!(poll_once(flood.as_mut()).await.is_none());
            tokio::task::yield_now().await;
        }
        let mut writing = pin!(small.write_all(b"and now"));
        assert!(
            poll_once(writing.as_mut()).await.is_some(),
            "its own chunk has gone, and that of the other not"
        );
        let mut lanes = Vec::new();
        for _ in 0..4 {
            let reading = async { lanes.push(read_chunk(&mut reader).await.0) };
            tokio::select! {
                _ = &mut flood => panic!("nobody has read a mebibyte"),
                () = reading => {}
            }
        }
        assert_eq!(lanes, [1, 0, 1, 0]);
    });
}

/// A flush waits for what came before it, and not for what the neighbours write afterwards.
#[test]
fn a_flush_ends_beside_neighbours_that_never_stop() {
    on_both_runtimes(|| async {
        let (trunk, driver, mut reader, _writer) = by_hand(4, 1_000).await;
        let ours = Side::new((trunk, driver));
        let (_, mut small) = ours.lane(0);
        for lane in 1..4 {
            let (_, mut bulk) = ours.lane(lane);
            tokio::spawn(async move { while bulk.write_all(&vec![0; 1 << 20]).await.is_ok() {} });
        }
        let reading = tokio::spawn(async move {
            loop {
                read_chunk(&mut reader).await;
            }
        });
        for _ in 0..20 {
            small.write_all(b"small").await.unwrap();
            small.flush().await.unwrap();
        }
        reading.abort();
    });
}

/// The socket makes room, and before it wakes the driver a lane finds out by itself: whoever else waits has to be woken.
#[test]
fn a_lane_that_flushes_for_others_wakes_them() {
    on_both_runtimes(|| async {
        let gate = Arc::new(Mutex::new(Gate { open: true, waker: None }));
        let (trunk, driver) = alone(Silence, Gated(gate.clone()), 2).await;
        let ours = Side::new((trunk, driver));
        gate.lock().unwrap().open = false;
        let ((_, mut first), (_, mut second)) = (ours.lane(0), ours.lane(1));
        first.write_all(&pattern(0, 100)).await.unwrap();
        let flushing = tokio::spawn(async move { first.flush().await });
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
        // Nobody is woken by this: the next flush sees it, and whose waker was there before is forgotten.
        gate.lock().unwrap().open = true;
        second.write_all(b"x").await.unwrap();
        flushing.await.unwrap().unwrap();
    });
}

/// Takes every byte, and says that they are gone when it is open.
#[derive(Debug)]
struct Gate {
    open: bool,
    waker: Option<Waker>,
}

struct Gated(Arc<Mutex<Gate>>);

impl AsyncWrite for Gated {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut gate = self.0.lock().unwrap();
        gate.waker = (!gate.open).then(|| cx.waker().clone());
        if gate.open { Poll::Ready(Ok(())) } else { Poll::Pending }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_flush(cx)
    }
}
