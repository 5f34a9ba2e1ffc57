//! Bytes of lanes, over every kind of connection.

use std::{
    io::{self, IoSlice},
    num::NonZeroUsize,
    pin::{Pin, pin},
    task::{Context, Poll},
    time::Duration,
};

use ipc_pipeline::trunk::TrunkEnd;
use ipc_testkit::{
    FaultPlan, Faulty, MemTransport, Rule,
    process::{TempDir, rounds},
};
use ipc_transport::{Connection, Endpoint, ReadHalf, TcpTransport, UnixTransport, WriteHalf};
use tokio::{
    io::{AsyncReadExt, AsyncWrite, AsyncWriteExt, BufWriter},
    task::JoinSet,
};

use crate::{
    common::on_both_runtimes,
    support::{Side, connections, pattern, pipe, poll_once, sides},
};

const SIZES: [usize; 7] = [0, 1, 4_092, 65_535, 65_536, 65_537, 3 << 20];

fn mem() -> Endpoint {
    Endpoint::new("mem", "trunk").unwrap()
}

async fn write_whole(mut writer: WriteHalf, bytes: Vec<u8>) {
    writer.write_all(&bytes).await.unwrap();
    writer.shutdown().await.unwrap();
}

async fn read_whole(mut reader: ReadHalf, expected: Vec<u8>) {
    let mut bytes = Vec::new();
    reader.read_to_end(&mut bytes).await.unwrap();
    assert!(bytes == expected, "{} bytes came instead of {} others", bytes.len(), expected.len());
}

/// Every lane carries bytes of its own both ways at the same time.
async fn carry(connections: (Connection, Connection), sizes: &[usize]) {
    let lanes = sizes.len() as u8;
    let [ours, theirs] = sides(connections, lanes).await;
    let mut tasks = JoinSet::new();
    for (lane, size) in (0..).zip(sizes) {
        for (number, side) in [(lane, &ours), (lane + lanes, &theirs)] {
            let (reader, writer) = side.lane(lane);
            // What the other side writes on this lane.
            let other = (number + lanes) % (2 * lanes);
            tasks.spawn(write_whole(writer, pattern(number, *size)));
            tasks.spawn(read_whole(reader, pattern(other, *size)));
        }
    }
    while let Some(outcome) = tasks.join_next().await {
        outcome.unwrap();
    }
    ours.trunk.cut();
    assert_eq!(ours.driver.await.unwrap(), TrunkEnd::Cut);
    assert_eq!(theirs.driver.await.unwrap(), TrunkEnd::HangUp);
}

#[test]
fn lanes_carry_any_amount_both_ways_in_memory() {
    on_both_runtimes(|| async {
        for buffer in [1, 5, 1_000, 1 << 20] {
            let world = MemTransport::new().with_buffer(NonZeroUsize::new(buffer).unwrap());
            let sizes = if buffer < 1_000 { &SIZES[..6] } else { &SIZES };
            carry(connections(&world, &mem()).await, sizes).await;
        }
    });
}

#[test]
fn lanes_carry_any_amount_over_a_unix_socket() {
    on_both_runtimes(|| async {
        let place = TempDir::new().unwrap();
        let at = Endpoint::new("unix", place.join("trunk").to_str().unwrap()).unwrap();
        carry(connections(&UnixTransport::new(), &at).await, &SIZES).await;
    });
}

#[test]
fn lanes_carry_any_amount_over_tcp() {
    on_both_runtimes(|| async {
        let at = Endpoint::new("tcp", "127.0.0.1:0").unwrap();
        carry(connections(&TcpTransport::new(), &at).await, &SIZES).await;
    });
}

#[test]
fn lanes_carry_any_amount_over_a_transport_of_frames() {
    on_both_runtimes(|| async {
        let world = MemTransport::new().with_frames();
        carry(connections(&world, &mem()).await, &SIZES).await;
    });
}

#[test]
fn lanes_carry_any_amount_through_writers_that_keep_bytes_back() {
    on_both_runtimes(|| async {
        for capacity in [7, 8 * 1024, 1 << 20] {
            let buffered = |connection: Connection| {
                let (reader, writer, info) = connection.into_parts();
                Connection::from_bytes(reader, BufWriter::with_capacity(capacity, writer), info)
            };
            let (dialled, accepted) = pipe(10_000);
            carry((buffered(dialled), buffered(accepted)), &SIZES).await;
        }
    });
}

#[test]
fn lanes_carry_any_amount_through_writers_that_take_one_slice() {
    on_both_runtimes(|| async {
        let plain = |connection: Connection| {
            let (reader, writer, info) = connection.into_parts();
            Connection::from_bytes(reader, OneSlice(writer), info)
        };
        let (dialled, accepted) = pipe(10_000);
        carry((plain(dialled), plain(accepted)), &SIZES).await;
    });
}

/// X-10 at the trunk: every header and every chunk is split at every byte, and nothing moves for a while.
#[test]
fn lanes_carry_any_amount_in_any_pieces() {
    for seed in rounds(6, 200) {
        on_both_runtimes(|| async {
            let mut random = fastrand::Rng::with_seed(seed);
            let most = if seed % 3 == 0 { 1 } else { random.usize(1..70_000) };
            let plan = FaultPlan::new(seed)
                .with(Rule::split(NonZeroUsize::new(most).unwrap()))
                .with(Rule::stall_after_for(random.u64(..5_000), Duration::from_millis(2)).chance(0.5));
            let buffer = NonZeroUsize::new(random.usize(1..70_000)).unwrap();
            let transport = Faulty::new(MemTransport::new().with_buffer(buffer), plan);
            let connections = connections(&transport, &mem()).await;
            let sizes: Vec<_> = (0..random.usize(1..8)).map(|_| random.usize(..70_000)).collect();
            carry(connections, &sizes).await;
        });
    }
}

/// Waiting for a write, a flush or a read may be given up at any time.
#[test]
fn lanes_lose_and_double_nothing_when_waiting_is_given_up() {
    for seed in rounds(20, 2_000) {
        on_both_runtimes(|| async {
            let mut random = fastrand::Rng::with_seed(seed);
            let [ours, theirs] = sides(pipe(random.usize(1..3_000)), 2).await;
            let mut tasks = JoinSet::new();
            for lane in 0..2 {
                let (_, writer) = ours.lane(lane);
                let (reader, _) = theirs.lane(lane);
                let bytes = pattern(lane, random.usize(..200_000));
                tasks.spawn(write_impatiently(writer, bytes.clone(), random.fork()));
                tasks.spawn(read_impatiently(reader, bytes, random.fork()));
            }
            while let Some(outcome) = tasks.join_next().await {
                outcome.unwrap();
            }
        });
    }
}

async fn write_impatiently(mut writer: WriteHalf, bytes: Vec<u8>, mut random: fastrand::Rng) {
    let mut rest = &bytes[..];
    while !rest.is_empty() {
        let part = &rest[..random.usize(1..=rest.len())];
        match poll_once(pin!(writer.write(part))).await {
            Some(count) => rest = &rest[count.unwrap()..],
            None => tokio::task::yield_now().await,
        }
        if random.u8(..4) == 0 {
            poll_once(pin!(writer.flush())).await.transpose().unwrap();
        }
    }
    // The peer's side of the lane is gone once it has read everything.
    while poll_once(pin!(writer.shutdown())).await.is_none() {
        tokio::task::yield_now().await;
    }
}

async fn read_impatiently(mut reader: ReadHalf, expected: Vec<u8>, mut random: fastrand::Rng) {
    let mut bytes = Vec::new();
    loop {
        let mut part = vec![0; random.usize(1..50_000)];
        match poll_once(pin!(reader.read(&mut part))).await {
            Some(Ok(0)) => break,
            Some(count) => bytes.extend_from_slice(&part[..count.unwrap()]),
            None => tokio::task::yield_now().await,
        }
    }
    assert!(bytes == expected, "{} bytes came instead of {} others", bytes.len(), expected.len());
}

#[test]
fn empty_slices_before_the_bytes_change_nothing() {
    on_both_runtimes(|| async {
        let [ours, theirs] = sides(pipe(1_000), 1).await;
        let ((_, mut writer), (mut reader, _)) = (ours.lane(0), theirs.lane(0));
        let mut slices = vec![IoSlice::new(&[]); 50];
        slices.push(IoSlice::new(b"hello"));
        assert_eq!(writer.write_vectored(&slices).await.unwrap(), 5);
        let mut bytes = [0; 5];
        reader.read_exact(&mut bytes).await.unwrap();
        assert_eq!(&bytes, b"hello");
    });
}

#[test]
fn more_slices_than_one_call_takes_are_written_in_several() {
    on_both_runtimes(|| async {
        let [ours, theirs] = sides(pipe(1_000), 1).await;
        let ((_, mut writer), (reader, _)) = (ours.lane(0), theirs.lane(0));
        let bytes = pattern(0, 1_000);
        let slices: Vec<_> = bytes.chunks(3).map(IoSlice::new).collect();
        let count = writer.write_vectored(&slices).await.unwrap();
        assert!(count > 0 && count <= bytes.len());
        let reading = tokio::spawn(read_whole(reader, bytes.clone()));
        write_whole(writer, bytes[count..].to_vec()).await;
        reading.await.unwrap();
    });
}

/// One lane is idle and two are busy; what is idle is not forgotten, and its bytes are there at once.
#[test]
fn a_ping_on_one_lane_passes_streams_on_the_others() {
    on_both_runtimes(|| async {
        let [ours, theirs] = sides(pipe(20_000), 3).await;
        let mut streams = JoinSet::new();
        for lane in 1..3 {
            let (reader, _writer) = theirs.lane(lane);
            streams.spawn(async move {
                tokio::io::copy(&mut { reader }, &mut tokio::io::sink()).await.unwrap();
            });
            let (_, mut writer) = ours.lane(lane);
            streams.spawn(async move { while writer.write_all(&[7; 100_000]).await.is_ok() {} });
        }
        let ((mut to_us, mut from_us), (mut to_them, mut from_them)) = (ours.lane(0), theirs.lane(0));
        let echo = tokio::spawn(async move {
            let mut value = [0; 8];
            while to_them.read_exact(&mut value).await.is_ok() {
                from_them.write_all(&value).await.unwrap();
            }
        });
        for value in 0..200_u64 {
            from_us.write_all(&value.to_le_bytes()).await.unwrap();
            let mut answer = [0; 8];
            to_us.read_exact(&mut answer).await.unwrap();
            assert_eq!(u64::from_le_bytes(answer), value);
        }
        from_us.shutdown().await.unwrap();
        echo.await.unwrap();
        let Side { trunk, driver } = ours;
        trunk.cut();
        assert_eq!(driver.await.unwrap(), TrunkEnd::Cut);
        while let Some(outcome) = streams.join_next().await {
            outcome.unwrap();
        }
    });
}

/// Takes the first slice alone, as writers do that know nothing of vectors.
struct OneSlice(WriteHalf);

impl AsyncWrite for OneSlice {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
