//! The producer: reads the input in passes and sends it, chunk by chunk, through its outgoing port.

use std::{
    fs::File,
    path::Path,
    time::{Duration, Instant},
};

use bytes::Bytes;

use super::{
    cli::ProduceRole,
    failure::Failure,
    input::{Tree, read_full},
    lines::{Chunk, Facts, Line},
    pipes::{self, Ear, Mouth, Order},
    wire::{self, LinkWatch, Outlet},
};

/// Runs the process.
pub(crate) fn run(role: &ProduceRole) -> Result<(), Failure> {
    wire::runtime()?.block_on(produce(role))
}

async fn produce(role: &ProduceRole) -> Result<(), Failure> {
    let (mouth, mut ear) = pipes::open()?;
    let tree = Tree::read_list(&role.list).map_err(Failure::system("read the list of files"))?;
    let (outlet, watch) = Outlet::open(&role.site, role.source).await?;
    let mut producer = Producer { role, outlet, watch, mouth, cuts: Cuts::new(role), finish: !role.repeat };
    for pass in 1.. {
        for (path, file) in tree.paths().zip(0..) {
            producer.send_file(&path, pass, file, &mut ear).await?;
        }
        producer.mouth.say(&Line::Passed { pass });
        producer.mouth.flush().await?;
        if producer.finish {
            break;
        }
    }
    producer.end().await
}

struct Producer<'a> {
    role: &'a ProduceRole,
    outlet: Outlet,
    watch: LinkWatch,
    mouth: Mouth,
    cuts: Cuts,
    finish: bool,
}

impl Producer<'_> {
    async fn send_file(&mut self, path: &Path, pass: u32, file: u32, ear: &mut Ear) -> Result<(), Failure> {
        let unreadable = |source| Failure::Input { path: path.to_owned(), source };
        let mut from = File::open(path).map_err(unreadable)?;
        let size = self.role.chunk as usize;
        let mut offset = 0;
        loop {
            let mut payload = vec![0; size];
            let count = read_full(&mut from, &mut payload).map_err(unreadable)?;
            if count == 0 && offset > 0 {
                return Ok(());
            }
            payload.truncate(count);
            let payload = Bytes::from(payload);
            self.send(Chunk { source: self.role.source, pass, file, offset, payload }, ear).await?;
            offset += count as u64;
            if count < size {
                return Ok(());
            }
        }
    }

    async fn send(&mut self, chunk: Chunk, ear: &mut Ear) -> Result<(), Failure> {
        let facts: Facts = chunk.facts();
        // Waiting for room risks nothing: until the permit is there the chunk is ours.
        let room = loop {
            tokio::select! {
                biased;
                linked = self.watch.changed() => {
                    self.mouth.say(if linked { &Line::Linked } else { &Line::Unlinked });
                    self.mouth.flush().await?;
                }
                order = ear.order(), if !self.finish => match order {
                    Order::Finish => self.finish = true,
                    Order::Leave => return Err(launcher_is_gone()),
                },
                room = self.outlet.room() => break room?,
            }
        };
        room.send(chunk)?;
        self.mouth.say(&Line::Accepted { chunk: facts, pending: self.outlet.pending() });
        if self.cuts.is_due() && self.watch.is_linked() {
            self.outlet.cut();
            self.cuts.done();
            self.mouth.say(&Line::Cut);
        }
        self.mouth.flush().await
    }

    async fn end(mut self) -> Result<(), Failure> {
        let counters = self.outlet.close().await?;
        self.mouth.say(&Line::Done { counters });
        self.mouth.flush().await
    }
}

fn launcher_is_gone() -> Failure {
    Failure::Child { who: "launcher".into(), what: "is gone".into() }
}

/// When to cut: once at a random chunk of the first pass, then at random times.
struct Cuts {
    random: fastrand::Rng,
    first_in: u64,
    next: Option<Instant>,
}

impl Cuts {
    fn new(role: &ProduceRole) -> Self {
        let mut random = fastrand::Rng::with_seed(role.seed);
        Self { first_in: random.u64(1..=role.first_cut.max(1)), random, next: None }
    }

    fn is_due(&mut self) -> bool {
        self.first_in = self.first_in.saturating_sub(1);
        match self.next {
            None => self.first_in == 0,
            Some(next) => next <= Instant::now(),
        }
    }

    fn done(&mut self) {
        self.next = Some(Instant::now() + Duration::from_millis(self.random.u64(CUT_AFTER_MS)));
    }
}

/// Time from one cut to the next, milliseconds: often enough to hit every state of a link, rarely enough to watch.
const CUT_AFTER_MS: std::ops::Range<u64> = 50..600;
