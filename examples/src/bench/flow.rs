//! The loops of the workloads, over whatever moves the values.

use std::{io, time::Instant};

use super::cli::Plan;

/// One end of a two-way stream of numbered values.
pub(crate) trait Flow: Send + 'static {
    /// Hands over the values `from .. from + count` and sets them moving.
    fn send(&mut self, from: u64, count: u64) -> impl Future<Output = io::Result<()>> + Send;

    /// Waits for values, takes at most `max`, checks that they are number `next` and on, and returns how many.
    fn receive(&mut self, next: u64, max: u64) -> impl Future<Output = io::Result<u64>> + Send;

    /// The client's end: everything sent is delivered, and the peer learns that this was all.
    fn finish(self) -> impl Future<Output = io::Result<()>> + Send;

    /// The peer's end: waits until the client has finished, so that it finds somebody to finish with.
    fn wait_for_end(self) -> impl Future<Output = io::Result<()>> + Send;
}

/// Round trips before the clock starts: connections, buffers and caches come into being here.
pub(crate) const WARM_UP: u64 = 1_000;

/// Client of W1 and W2: the time of each round trip with one in flight, else none.
pub(crate) async fn round_trips<F: Flow>(
    flow: &mut F,
    numbers: std::ops::Range<u64>,
    in_flight: u64,
) -> io::Result<Vec<u64>> {
    let mut times = Vec::new();
    if in_flight == 1 {
        times.reserve_exact(usize::try_from(numbers.end - numbers.start).unwrap_or_default());
        for number in numbers {
            let start = Instant::now();
            flow.send(number, 1).await?;
            flow.receive(number, 1).await?;
            times.push(u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX));
        }
        return Ok(times);
    }
    let (mut sent, mut received) = (numbers.start, numbers.start);
    while received < numbers.end {
        let room = (in_flight - (sent - received)).min(numbers.end - sent);
        if room > 0 {
            flow.send(sent, room).await?;
            sent += room;
        }
        received += flow.receive(received, in_flight).await?;
    }
    Ok(times)
}

/// Peer of W1 and W2.
pub(crate) async fn echo<F: Flow>(flow: &mut F, plan: &Plan, in_flight: u64) -> io::Result<()> {
    let mut next = 0;
    while next < plan.count() + WARM_UP {
        let count = flow.receive(next, in_flight).await?;
        flow.send(next, count).await?;
        next += count;
    }
    Ok(())
}

/// Client of the one-way workloads.
pub(crate) async fn stream_out<F: Flow>(flow: &mut F, plan: &Plan) -> io::Result<()> {
    let (mut sent, batch) = (0, plan.batch());
    while sent < plan.count() {
        let count = batch.min(plan.count() - sent);
        flow.send(sent, count).await?;
        sent += count;
    }
    Ok(())
}

/// Peer of the one-way workloads.
pub(crate) async fn stream_in<F: Flow>(flow: &mut F, plan: &Plan) -> io::Result<()> {
    let (mut received, batch) = (0, plan.batch());
    while received < plan.count() {
        received += flow.receive(received, batch.min(plan.count() - received)).await?;
    }
    Ok(())
}
