//! What a faulty transport does to its connections, and what its handle and counters tell.

#![allow(clippy::unwrap_used, reason = "a test may unwrap, its helpers too")]

use std::{io::ErrorKind, num::NonZeroUsize, time::Duration};

use ipc_testkit::{
    FaultPlan, Faulty, MemTransport, Rule, Verdict,
    proptest::prelude::*,
    strategy::{self, Chunking},
};
use ipc_transport::{
    ConnectOptions, Connection, Endpoint, Error, ListenOptions, Listener, ReadHalf, Transport, WriteHalf,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::{Instant, timeout},
};

/// A faulty dialler's end and an honest acceptor's end of one connection, in one world.
struct Ends {
    faulty: Faulty<MemTransport>,
    listener: Box<dyn Listener>,
    reader: ReadHalf,
    writer: WriteHalf,
    far_reader: ReadHalf,
    far_writer: WriteHalf,
}

async fn connect(plan: FaultPlan) -> Ends {
    let world = MemTransport::new();
    let at = Endpoint::new("mem", "a").expect("a plain name");
    let mut listener = world.listen(&at, &ListenOptions::default()).await.expect("the world is empty");
    let faulty = Faulty::new(world, plan);
    let near = faulty.connect(&at, &ConnectOptions::default()).await.expect("the plan lets it through");
    let far = listener.accept().await.expect("somebody dialled").establish().await.expect("it is honest");
    let ((reader, writer, _), (far_reader, far_writer, _)) = (near.into_parts(), far.into_parts());
    Ends { faulty, listener, reader, writer, far_reader, far_writer }
}

async fn read_all(reader: &mut ReadHalf) -> Vec<u8> {
    let mut all = Vec::new();
    reader.read_to_end(&mut all).await.expect("the memory transport ends without a reset");
    all
}

/// What arrives of these chunks, each written at once.
async fn sent_through(plan: FaultPlan, chunks: &[&[u8]]) -> Vec<u8> {
    let mut ends = connect(plan).await;
    for chunk in chunks {
        ends.writer.write_all(chunk).await.unwrap();
    }
    ends.writer.shutdown().await.unwrap();
    read_all(&mut ends.far_reader).await
}

/// What arrives of these chunks when the reading side suffers.
async fn received_through(plan: FaultPlan, chunks: &[&[u8]]) -> Vec<u8> {
    let mut ends = connect(plan).await;
    let (mut all, mut buffer) = (Vec::new(), [0; 64]);
    for chunk in chunks {
        ends.far_writer.write_all(chunk).await.unwrap();
        // One read per chunk, if one comes: a chunk that is held or lost gives none yet.
        if let Ok(count) = timeout(Duration::from_secs(1), ends.reader.read(&mut buffer)).await {
            all.extend_from_slice(&buffer[..count.unwrap()]);
        }
    }
    drop((ends.far_writer, ends.far_reader));
    all.extend(read_all(&mut ends.reader).await);
    all
}

#[tokio::test(start_paused = true)]
async fn a_cut_after_n_written_bytes_lets_exactly_those_through() {
    for n in [0, 1, 5, 9] {
        let mut ends = connect(FaultPlan::new(1).with(Rule::cut_after(n).writing())).await;
        let error = ends.writer.write_all(b"0123456789").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
        assert_eq!(read_all(&mut ends.far_reader).await, b"0123456789"[..n as usize]);
        assert_eq!(ends.reader.read(&mut [0]).await.unwrap_err().kind(), ErrorKind::ConnectionReset);
        assert_eq!(ends.far_writer.write(b"x").await.unwrap_err().kind(), ErrorKind::BrokenPipe);
        let counters = ends.faulty.handle().counters().dialled;
        assert_eq!((counters.cut, counters.written), (1, n));
    }
}

#[tokio::test(start_paused = true)]
async fn a_cut_after_n_read_bytes_lets_exactly_those_through() {
    let mut ends = connect(FaultPlan::new(1).with(Rule::cut_after(4).reading())).await;
    ends.far_writer.write_all(b"0123456789").await.unwrap();
    let mut first = [0; 4];
    ends.reader.read_exact(&mut first).await.unwrap();
    assert_eq!(&first, b"0123");
    assert_eq!(ends.reader.read(&mut [0]).await.unwrap_err().kind(), ErrorKind::ConnectionReset);
    assert_eq!(ends.far_reader.read(&mut [0]).await.unwrap(), 0, "the peer sees the end at once");
}

#[tokio::test(start_paused = true)]
async fn splitting_moves_single_bytes_and_loses_none() {
    let mut ends = connect(FaultPlan::new(1).with(Rule::split_at_every_byte())).await;
    assert_eq!(ends.writer.write(b"abc").await.unwrap(), 1);
    ends.far_writer.write_all(b"xyz").await.unwrap();
    assert_eq!(ends.reader.read(&mut [0; 9]).await.unwrap(), 1);
    let plan = FaultPlan::new(3).with(Rule::split(NonZeroUsize::new(7).unwrap()));
    assert_eq!(sent_through(plan.clone(), &[b"abcdefgh", b"ijklmnop"]).await, b"abcdefghijklmnop");
    assert_eq!(received_through(plan, &[b"abcdefgh", b"ijklmnop"]).await, b"abcdefghijklmnop");
}

#[tokio::test(start_paused = true)]
async fn a_stalled_direction_goes_on_when_it_is_resumed() {
    let mut ends = connect(FaultPlan::new(1).with(Rule::stall_after(3).writing())).await;
    let handle = ends.faulty.handle();
    let writing = tokio::spawn(async move {
        ends.writer.write_all(b"abcdef").await.unwrap();
        ends.writer
    });
    handle.wait_until(|counters| counters.dialled.written == 3).await;
    let mut first = [0; 3];
    ends.far_reader.read_exact(&mut first).await.unwrap();
    timeout(Duration::from_secs(60), ends.far_reader.read_u8()).await.expect_err("it is stalled");
    handle.resume();
    ends.far_reader.read_exact(&mut first).await.unwrap();
    assert_eq!(&first, b"def");
    writing.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_stall_for_a_time_ends_by_itself() {
    let lasting = Duration::from_secs(5);
    let mut ends = connect(FaultPlan::new(1).with(Rule::stall_after_for(0, lasting).reading())).await;
    ends.far_writer.write_all(b"a").await.unwrap();
    let began = Instant::now();
    assert_eq!(ends.reader.read_u8().await.unwrap(), b'a');
    assert_eq!(began.elapsed().as_secs(), 5);
}

#[tokio::test(start_paused = true)]
async fn the_handle_stalls_and_resumes_both_directions() {
    let mut ends = connect(FaultPlan::new(0)).await;
    let handle = ends.faulty.handle();
    handle.stall();
    ends.far_writer.write_all(b"a").await.unwrap();
    timeout(Duration::from_secs(1), ends.reader.read_u8()).await.expect_err("it is stalled");
    timeout(Duration::from_secs(1), ends.writer.write_u8(b'b')).await.expect_err("it is stalled");
    let reading = tokio::spawn(async move { ends.reader.read_u8().await });
    tokio::task::yield_now().await;
    handle.resume();
    assert_eq!(reading.await.unwrap().unwrap(), b'a');
    ends.writer.write_u8(b'b').await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn delays_hold_chunks_back_and_keep_their_order() {
    let second = Duration::from_secs(1);
    for direction in [Rule::writing as fn(Rule) -> Rule, Rule::reading] {
        let plan = FaultPlan::new(9).with(direction(Rule::delay(second..=2 * second)));
        let began = Instant::now();
        assert_eq!(sent_through(plan.clone(), &[b"one ", b"two ", b"three"]).await, b"one two three");
        let written = began.elapsed();
        assert_eq!(written >= 3 * second, plan.to_string().contains("writing"), "{written:?}");
    }
    let plan = FaultPlan::new(9).with(Rule::delay(second / 10..=second / 5));
    let began = Instant::now();
    assert_eq!(received_through(plan, &[b"one ", b"two ", b"three"]).await, b"one two three");
    assert!(began.elapsed() >= 3 * second / 10);
}

#[tokio::test(start_paused = true)]
async fn corruption_flips_one_bit_of_a_chunk() {
    for seed in 0..50 {
        let plan = FaultPlan::new(seed).with(Rule::corrupt());
        for arrived in
            [sent_through(plan.clone(), &[&[0; 16]]).await, received_through(plan, &[&[0; 16]]).await]
        {
            assert_eq!(arrived.len(), 16);
            assert_eq!(arrived.iter().map(|byte| byte.count_ones()).sum::<u32>(), 1);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn chunks_are_lost_doubled_and_overtaken_as_told() {
    let second = || Rule::custom(|chunk| if chunk.offset == 1 { Verdict::Lose } else { Verdict::Pass });
    let chunks: [&[u8]; 3] = [b"1", b"2", b"3"];
    let table = [
        (Rule::lose(), "", ""),
        (Rule::duplicate(), "112233", "112323"),
        (
            Rule::custom(|chunk| if chunk.bytes == b"1" { Verdict::Reorder } else { Verdict::Pass }),
            "213",
            "123",
        ),
        (second(), "13", "13"),
    ];
    for (rule, sent, received) in table {
        let plan = FaultPlan::new(5).with(rule);
        assert!(!plan.keeps_the_contract());
        assert_eq!(sent_through(plan.clone(), &chunks).await, sent.as_bytes(), "{plan}");
        assert_eq!(received_through(plan.clone(), &chunks).await, received.as_bytes(), "{plan}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_chunk_held_for_reordering_goes_out_when_nothing_follows() {
    let reorder = || FaultPlan::new(5).with(Rule::reorder());
    assert_eq!(sent_through(reorder(), &[b"only"]).await, b"only");
    assert_eq!(received_through(reorder(), &[b"only"]).await, b"only");
    let mut ends = connect(reorder()).await;
    ends.writer.write_all(b"held").await.unwrap();
    assert_eq!(ends.faulty.handle().counters().dialled.written, 0);
    ends.writer.flush().await.unwrap();
    assert_eq!(ends.faulty.handle().counters().dialled.written, 4);
}

#[tokio::test(start_paused = true)]
async fn refusing_by_rule_hits_the_named_connections_only() {
    let world = MemTransport::new();
    let faulty = Faulty::new(world, FaultPlan::new(4).with(Rule::refuse().dialled().connections(0..2)));
    let at = Endpoint::new("mem", "a").unwrap();
    let _listener = faulty.listen(&at, &ListenOptions::default()).await.unwrap();
    let mut outcomes = Vec::new();
    for _ in 0..4 {
        outcomes.push(faulty.connect(&at, &ConnectOptions::default()).await.map(drop));
    }
    assert!(matches!(
        outcomes[..2],
        [Err(Error::ConnectionRefused { .. }), Err(Error::ConnectionRefused { .. })]
    ));
    assert!(matches!(outcomes[2..], [Ok(()), Ok(())]));
    let counters = faulty.handle().counters().dialled;
    assert_eq!((counters.refused, counters.connections), (2, 2));
}

#[tokio::test(start_paused = true)]
async fn an_acceptor_that_refuses_closes_the_dialler() {
    let world = MemTransport::new();
    let faulty = Faulty::new(world.clone(), FaultPlan::new(4).with(Rule::refuse()));
    let at = Endpoint::new("mem", "a").unwrap();
    let mut listener = faulty.listen(&at, &ListenOptions::default()).await.unwrap();
    let dialled: Connection = world.connect(&at, &ConnectOptions::default()).await.unwrap();
    let error = listener.accept().await.unwrap().establish().await.unwrap_err();
    assert!(matches!(error, Error::ConnectionRefused { .. }));
    let (mut reader, _writer, _) = dialled.into_parts();
    assert_eq!(read_all(&mut reader).await, b"");
}

#[tokio::test(start_paused = true)]
async fn the_handle_refuses_and_admits() {
    let mut ends = connect(FaultPlan::new(0)).await;
    let (handle, at) = (ends.faulty.handle(), ends.listener.local_endpoint().clone());
    handle.refuse();
    ends.faulty.connect(&at, &ConnectOptions::default()).await.unwrap_err();
    assert_eq!(ends.faulty.handle().counters().dialled.refused, 1);
    handle.admit();
    ends.faulty.connect(&at, &ConnectOptions::default()).await.unwrap();
    ends.listener.accept().await.unwrap().refuse();
}

#[tokio::test(start_paused = true)]
async fn cut_all_ends_both_sides_even_when_nobody_polls() {
    let mut ends = connect(FaultPlan::new(0)).await;
    let handle = ends.faulty.handle();
    ends.writer.write_all(b"before").await.unwrap();
    assert_eq!((handle.live(), handle.cut_all(), handle.cut_all()), (1, 1, 0));
    assert_eq!(read_all(&mut ends.far_reader).await, b"before", "the faulty halves were not polled");
    assert_eq!(handle.live(), 0);
    assert_eq!(ends.writer.write(b"x").await.unwrap_err().kind(), ErrorKind::ConnectionReset);
}

#[tokio::test(start_paused = true)]
async fn cut_all_wakes_a_waiting_reader() {
    let mut ends = connect(FaultPlan::new(0)).await;
    let handle = ends.faulty.handle();
    let reading = tokio::spawn(async move { ends.reader.read_u8().await });
    tokio::task::yield_now().await;
    handle.cut_all();
    assert_eq!(reading.await.unwrap().unwrap_err().kind(), ErrorKind::ConnectionReset);
}

/// The counters are what P-14 is observed by: bytes that left and bytes that were taken, each side for itself.
#[tokio::test(start_paused = true)]
async fn the_counters_tell_the_bytes_of_each_direction() {
    let mut ends = connect(FaultPlan::new(0)).await;
    ends.writer.write_all(b"12345").await.unwrap();
    ends.far_writer.write_all(b"123").await.unwrap();
    let counters = ends.faulty.handle().counters().dialled;
    assert_eq!((counters.written, counters.read), (5, 0), "unread bytes do not count");
    ends.reader.read_exact(&mut [0; 3]).await.unwrap();
    assert_eq!(ends.faulty.handle().counters().dialled.read, 3);
    assert_eq!(ends.faulty.handle().counters().accepted, Default::default());
}

#[tokio::test(start_paused = true)]
async fn equal_seeds_make_equal_faults() {
    async fn trace(seed: u64) -> Vec<(usize, Vec<u8>)> {
        let plan = FaultPlan::new(seed)
            .with(Rule::split(NonZeroUsize::new(9).unwrap()).chance(0.7))
            .with(Rule::corrupt().chance(0.3))
            .with(Rule::lose().chance(0.2))
            .with(Rule::cut_between(100..=400).chance(0.9));
        let mut ends = connect(plan).await;
        let mut trace = Vec::new();
        for _ in 0..100 {
            let Ok(count) = ends.writer.write(&[0x55; 12]).await else { break };
            let mut arrived = Vec::new();
            let mut buffer = [0; 64];
            if let Ok(read) = timeout(Duration::from_millis(1), ends.far_reader.read(&mut buffer)).await {
                arrived.extend_from_slice(&buffer[..read.unwrap()]);
            }
            trace.push((count, arrived));
        }
        trace
    }
    assert_eq!(trace(17).await, trace(17).await);
    assert_ne!(trace(17).await, trace(18).await);
}

proptest! {
    #[test]
    fn plans_that_keep_the_contract_deliver_a_beginning_and_all_of_it_unless_they_cut(
        plan in strategy::fault_plans(),
        bytes in strategy::payloads(5_000),
        chunking in strategy::chunkings(NonZeroUsize::new(600).unwrap()),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        runtime.block_on(beginning_arrives(plan, bytes, chunking))?;
    }
}

/// Sends in both directions through a faulty transport on both sides; what arrives must be a beginning.
async fn beginning_arrives(plan: FaultPlan, bytes: Vec<u8>, chunking: Chunking) -> Result<(), TestCaseError> {
    let faulty = Faulty::new(MemTransport::new().with_buffer(NonZeroUsize::new(300).unwrap()), plan);
    let at = Endpoint::new("mem", "a").unwrap();
    let mut listener = faulty.listen(&at, &ListenOptions::default()).await.unwrap();
    // The plan hits at most five connections on each side; a refused one has a number on one side only.
    for number in 0..=10 {
        let Ok(near) = faulty.connect(&at, &ConnectOptions::default()).await else { continue };
        let Ok(far) = listener.accept().await.unwrap().establish().await else { continue };
        let ((mut reader, mut writer, _), (mut far_reader, mut far_writer, _)) =
            (near.into_parts(), far.into_parts());
        let ((), there, (), back) = tokio::join!(
            write(&mut writer, &bytes, &chunking),
            read(&mut far_reader),
            write(&mut far_writer, &bytes, &chunking),
            read(&mut reader),
        );
        prop_assert!(bytes.starts_with(&there) && bytes.starts_with(&back));
        let counters = faulty.handle().counters();
        let cut = counters.dialled.cut + counters.accepted.cut;
        prop_assert!(cut > 0 || (there == bytes && back == bytes));
        prop_assert!(
            number < 10 || (there == bytes && back == bytes),
            "rules hit the first few connections only"
        );
    }
    Ok(())
}

async fn write(writer: &mut WriteHalf, bytes: &[u8], chunking: &Chunking) {
    for piece in chunking.pieces(bytes) {
        if writer.write_all(piece).await.is_err() {
            return;
        }
    }
    let _ = writer.shutdown().await;
}

async fn read(reader: &mut ReadHalf) -> Vec<u8> {
    let mut all = Vec::new();
    let _ = reader.read_to_end(&mut all).await;
    all
}
