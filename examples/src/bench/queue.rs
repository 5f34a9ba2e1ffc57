//! The faces inside one process: the queue of ipc-pipeline, and its peers, under the same loops.

use std::{io, time::Instant};

use super::{
    cli::{Face, Plan, Work},
    figures::{Figures, cpu_time},
};

/// Runs M1 or M4.
pub(crate) async fn run(plan: &Plan) -> io::Result<Figures> {
    match plan.face {
        Face::AsyncChannel => measure::<AsyncChannel>(plan).await,
        Face::Kanal => measure::<Kanal>(plan).await,
        Face::TokioMpsc => measure::<TokioMpsc>(plan).await,
        _ => measure::<Ours>(plan).await,
    }
}

/// A bounded queue of `u64`.
trait Queue: 'static {
    type Sender: Clone + Send + Sync + 'static;
    type Receiver: Send + 'static;

    fn open(capacity: usize) -> io::Result<(Self::Sender, Self::Receiver)>;

    /// Sends one value.
    fn send(sender: &Self::Sender, value: u64) -> impl Future<Output = io::Result<()>> + Send;

    /// Receives one value; `None` at the end.
    fn recv(receiver: &mut Self::Receiver) -> impl Future<Output = Option<u64>> + Send;

    /// Sends many values together, where the queue can.
    fn send_many(
        sender: &Self::Sender,
        values: std::ops::Range<u64>,
    ) -> impl Future<Output = io::Result<()>> + Send {
        async {
            for value in values {
                Self::send(sender, value).await?;
            }
            Ok(())
        }
    }

    /// Receives many values together, where the queue can; 0 at the end.
    fn recv_many(
        receiver: &mut Self::Receiver,
        out: &mut Vec<u64>,
        _max: usize,
    ) -> impl Future<Output = usize> + Send {
        async {
            let value = Self::recv(receiver).await;
            out.extend(value);
            usize::from(value.is_some())
        }
    }
}

async fn measure<Q: Queue>(plan: &Plan) -> io::Result<Figures> {
    let producers = if plan.work == Work::M4 { 4 } else { 1 };
    let (count, batch) = (plan.count(), plan.batch());
    let (sender, receiver) = Q::open(plan.capacity.get())?;
    let (start, before) = (Instant::now(), cpu_time());
    for producer in 0..producers {
        let numbers = count * producer / producers..count * (producer + 1) / producers;
        tokio::spawn(produce::<Q>(sender.clone(), numbers, batch));
    }
    drop(sender);
    let taken = tokio::spawn(consume::<Q>(receiver, producers == 1, batch)).await;
    let taken = taken.map_err(io::Error::other)??;
    let (took, cpu) = (start.elapsed(), cpu_time() - before);
    if taken != (count, (0..count).fold(0, u64::wrapping_add)) {
        return Err(io::Error::other(format!("not the values that were sent: {taken:?}")));
    }
    Ok(Figures::new(plan, false, took, cpu, Vec::new()))
}

async fn produce<Q: Queue>(sender: Q::Sender, numbers: std::ops::Range<u64>, batch: u64) -> io::Result<()> {
    if batch == 1 {
        for number in numbers {
            Q::send(&sender, number).await?;
        }
        return Ok(());
    }
    let mut from = numbers.start;
    while from < numbers.end {
        let until = numbers.end.min(from + batch);
        Q::send_many(&sender, from..until).await?;
        from = until;
    }
    Ok(())
}

/// Takes everything; how many values that were, and their sum.
async fn consume<Q: Queue>(mut receiver: Q::Receiver, in_order: bool, batch: u64) -> io::Result<(u64, u64)> {
    let (mut count, mut sum) = (0, 0_u64);
    let mut take = |value: u64| {
        let right = !in_order || value == count;
        count += 1;
        sum = sum.wrapping_add(value);
        if right { Ok(()) } else { Err(io::Error::other(format!("value {value} is out of order"))) }
    };
    if batch == 1 {
        while let Some(value) = Q::recv(&mut receiver).await {
            take(value)?;
        }
        return Ok((count, sum));
    }
    let batch = usize::try_from(batch).unwrap_or(usize::MAX);
    let mut values = Vec::new();
    while Q::recv_many(&mut receiver, &mut values, batch).await > 0 {
        values.drain(..).try_for_each(&mut take)?;
    }
    Ok((count, sum))
}

struct Ours;

impl Queue for Ours {
    type Sender = ipc_pipeline::Sender<u64>;
    type Receiver = ipc_pipeline::Receiver<u64>;

    fn open(capacity: usize) -> io::Result<(Self::Sender, Self::Receiver)> {
        ipc_pipeline::bounded(capacity).map_err(io::Error::other)
    }

    async fn send(sender: &Self::Sender, value: u64) -> io::Result<()> {
        sender.send(value).await.map_err(io::Error::other)
    }

    async fn recv(receiver: &mut Self::Receiver) -> Option<u64> {
        receiver.recv().await.ok()
    }

    async fn send_many(sender: &Self::Sender, values: std::ops::Range<u64>) -> io::Result<()> {
        sender.send_many(values).await.map(drop).map_err(io::Error::other)
    }

    async fn recv_many(receiver: &mut Self::Receiver, out: &mut Vec<u64>, max: usize) -> usize {
        receiver.recv_many(out, max).await.unwrap_or(0)
    }
}

struct TokioMpsc;

impl Queue for TokioMpsc {
    type Sender = tokio::sync::mpsc::Sender<u64>;
    type Receiver = tokio::sync::mpsc::Receiver<u64>;

    fn open(capacity: usize) -> io::Result<(Self::Sender, Self::Receiver)> {
        Ok(tokio::sync::mpsc::channel(capacity))
    }

    async fn send(sender: &Self::Sender, value: u64) -> io::Result<()> {
        sender.send(value).await.map_err(io::Error::other)
    }

    async fn recv(receiver: &mut Self::Receiver) -> Option<u64> {
        receiver.recv().await
    }

    async fn recv_many(receiver: &mut Self::Receiver, out: &mut Vec<u64>, max: usize) -> usize {
        receiver.recv_many(out, max).await
    }
}

struct AsyncChannel;

impl Queue for AsyncChannel {
    type Sender = async_channel::Sender<u64>;
    type Receiver = async_channel::Receiver<u64>;

    fn open(capacity: usize) -> io::Result<(Self::Sender, Self::Receiver)> {
        Ok(async_channel::bounded(capacity))
    }

    async fn send(sender: &Self::Sender, value: u64) -> io::Result<()> {
        sender.send(value).await.map_err(io::Error::other)
    }

    async fn recv(receiver: &mut Self::Receiver) -> Option<u64> {
        receiver.recv().await.ok()
    }
}

struct Kanal;

impl Queue for Kanal {
    type Sender = kanal::AsyncSender<u64>;
    type Receiver = kanal::AsyncReceiver<u64>;

    fn open(capacity: usize) -> io::Result<(Self::Sender, Self::Receiver)> {
        Ok(kanal::bounded_async(capacity))
    }

    async fn send(sender: &Self::Sender, value: u64) -> io::Result<()> {
        sender.send(value).await.map_err(io::Error::other)
    }

    async fn recv(receiver: &mut Self::Receiver) -> Option<u64> {
        receiver.recv().await.ok()
    }
}
