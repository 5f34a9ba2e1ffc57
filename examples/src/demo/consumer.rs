//! The consumer: takes chunks, reports each completely to the launcher's pipe, and only then acks it.

use super::{
    cli::ConsumeRole,
    failure::Failure,
    lines::{Counters, Line},
    pipes::{self, Order},
    wire::{self, Inlet},
};

/// Runs the process. It is killed while it works, so nothing here may depend on a tidy end.
pub(crate) fn run(role: &ConsumeRole) -> Result<(), Failure> {
    wire::runtime()?.block_on(consume(role))
}

async fn consume(role: &ConsumeRole) -> Result<(), Failure> {
    let (mut mouth, mut ear) = pipes::open()?;
    let mut inlet = Inlet::open(&role.site).await?;
    mouth.say(&Line::Ready);
    mouth.flush().await?;
    let mut taken = Vec::new();
    let mut values = 0;
    loop {
        tokio::select! {
            biased;
            order = ear.order() => match order {
                Order::Finish => break,
                Order::Leave => return Ok(()),
            },
            result = inlet.take(&mut taken, BATCH) => result?,
        }
        for delivery in &taken {
            let chunk = delivery.chunk().facts();
            mouth.say(&Line::Report { chunk, redelivered: delivery.redelivered() });
        }
        mouth.flush().await?;
        values += taken.len() as u64;
        for delivery in taken.drain(..) {
            delivery.ack();
        }
    }
    inlet.close().await?;
    mouth.say(&Line::Done { counters: Counters { values, ..Counters::default() } });
    mouth.flush().await
}

/// Chunks per turn, reported with one write: few enough that a kill finds reports and acks in every state, and more
/// than the system writes to a pipe in one piece, so that it finds lines half written, too.
const BATCH: usize = 32;
