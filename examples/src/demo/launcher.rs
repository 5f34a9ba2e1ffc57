//! The launcher: starts the fleet, disturbs it, keeps the ledger and gives the verdict.

use std::{
    ffi::OsString,
    os::unix::process::ExitStatusExt as _,
    process::ExitStatus,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{sync::mpsc, time};

use super::{
    cli::Options,
    display::{ConsumerView, Display, ProducerView, Rate},
    failure::Failure,
    fleet::{Event, Member, Who, Yard},
    input::{Manifest, Tree},
    ledger::{ChunkId, Ledger},
    lines::{Counters, Line},
    plan::{Moment, Plan},
    report::{Report, Tally, count, size},
};
use crate::directory::RunDirectory;

/// Runs the program; true means that the check was passed.
pub(crate) fn run(options: &Options) -> Result<bool, Failure> {
    let tree = Tree::find(options.input.as_deref())?;
    let manifest = Arc::new(Manifest::read(&tree, options.chunk)?);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(Failure::system("start a runtime"))?.block_on(launch(options, &tree, manifest))
}

async fn launch(options: &Options, tree: &Tree, manifest: Arc<Manifest>) -> Result<bool, Failure> {
    let seed = options.seed.unwrap_or_else(|| fastrand::u64(..=u64::from(u32::MAX)));
    let directory =
        RunDirectory::create("ipc-demo").map_err(Failure::system("create a directory for this run"))?;
    let list = directory.path().join("files");
    tree.write_list(&list).map_err(Failure::system("write the list of files"))?;
    let tcp_port = options.transport.free_port().map_err(Failure::system("find a free TCP port"))?;
    let (yard, mut events) = Yard::new(directory.path(), tcp_port, options)?;
    let display = Display::new(options.producers, manifest.chunks());
    display.event(&format!(
        "{} from {}: {}, {} · seed {seed}",
        count(manifest.files(), "file"),
        tree.root().display(),
        size(manifest.bytes() as f64),
        count(manifest.chunks(), "chunk"),
    ));
    let mut run = Run::start(options, seed, manifest, yard, display, list.into())?;
    let outcome = run.until_done(&mut events).await;
    if outcome.is_err() {
        run.abandon(&mut events).await;
    }
    outcome.map(|()| run.verdict())
}

struct Run<'a> {
    options: &'a Options,
    seed: u64,
    random: fastrand::Rng,
    started: Instant,
    manifest: Arc<Manifest>,
    ledger: Ledger,
    yard: Yard,
    display: Display,
    tally: Tally,
    producers: Vec<Producer>,
    consumer: Consumer,
    moved: Instant,
}

struct Producer {
    member: Member,
    view: ProducerView,
    rate: Rate,
    done: bool,
    ended: bool,
}

struct Consumer {
    member: Member,
    view: ConsumerView,
    plan: Plan,
    /// When it was killed the last time, until it is seen to work again.
    since_kill: Option<Instant>,
    done: bool,
    ended: bool,
}

impl<'a> Run<'a> {
    fn start(
        options: &'a Options,
        seed: u64,
        manifest: Arc<Manifest>,
        yard: Yard,
        display: Display,
        list: OsString,
    ) -> Result<Self, Failure> {
        let mut random = fastrand::Rng::with_seed(seed);
        let started = Instant::now();
        // Chance decides who starts first: the ports do not mind.
        let early = random.bool().then(|| yard.start(Who::Consumer { life: 1 }, &[])).transpose()?;
        let mut producers = Vec::new();
        for source in 0..options.producers {
            let mut arguments: Vec<OsString> = vec!["--list".into(), list.clone()];
            let numbers = [
                ("--source", u64::from(source)),
                ("--chunk", u64::from(options.chunk)),
                ("--seed", random.u64(..)),
                ("--first-cut", manifest.chunks().min(FIRST_CUT_WITHIN)),
            ];
            for (name, value) in numbers {
                arguments.extend([name.into(), value.to_string().into()]);
            }
            if options.kills > 0 {
                arguments.push("--repeat".into());
            }
            let member = yard.start(Who::Producer { source }, &arguments)?;
            let view = ProducerView { pass: 1, ..ProducerView::default() };
            producers.push(Producer { member, view, rate: Rate::new(), done: false, ended: false });
        }
        let member = early.map_or_else(|| yard.start(Who::Consumer { life: 1 }, &[]), Ok)?;
        let view = ConsumerView { life: 1, pid: member.pid, ..ConsumerView::default() };
        let consumer =
            Consumer { member, view, plan: Plan::Spare, since_kill: None, done: false, ended: false };
        let ledger = Ledger::new(manifest.clone(), producers.len());
        let mut run = Self {
            options,
            seed,
            random,
            started,
            manifest,
            ledger,
            yard,
            display,
            tally: Tally::default(),
            producers,
            consumer,
            moved: Instant::now(),
        };
        run.plan_kill();
        Ok(run)
    }

    async fn until_done(&mut self, events: &mut mpsc::Receiver<(Who, Event)>) -> Result<(), Failure> {
        let mut tick = time::interval(TICK);
        let mut interrupt = std::pin::pin!(tokio::signal::ctrl_c());
        while !self.consumer.ended {
            let kill_at = self.consumer.plan.instant();
            tokio::select! {
                event = events.recv() => {
                    let (who, event) = event.expect("the yard keeps a sender");
                    self.handle(who, event).await?;
                }
                () = sleep_until(kill_at) => self.kill(),
                _ = tick.tick() => self.tick()?,
                _ = &mut interrupt => return Err(Failure::Interrupted),
            }
        }
        Ok(())
    }

    /// Kills what still runs and waits for it, so that nobody writes into the directory while it is removed.
    async fn abandon(&mut self, events: &mut mpsc::Receiver<(Who, Event)>) {
        let producers = self.producers.iter_mut().filter(|producer| !producer.ended);
        let members = producers.map(|producer| &mut producer.member);
        let consumer = (!self.consumer.ended).then_some(&mut self.consumer.member);
        let mut running = 0;
        for member in members.chain(consumer) {
            member.kill();
            running += 1;
        }
        let ended = async {
            while running > 0 {
                if let Some((_, Event::Ended { .. })) = events.recv().await {
                    running -= 1;
                }
            }
        };
        // Whoever is stuck in the kernel for longer than that is not waited for.
        let _ = time::timeout(LAST_WAIT, ended).await;
    }

    async fn handle(&mut self, who: Who, event: Event) -> Result<(), Failure> {
        self.moved = Instant::now();
        match event {
            Event::Ended { status, torn } => self.handle_end(who, status, torn).await,
            Event::Line(line) => self.handle_line(who, line).await,
            Event::Nonsense(text) => {
                Err(Failure::Child { who: who.to_string(), what: format!("wrote no line of ours: {text}") })
            }
        }
    }

    async fn handle_line(&mut self, who: Who, line: Line) -> Result<(), Failure> {
        match (who, line) {
            (Who::Consumer { .. }, Line::Ready) => self.consumer.plan.reached(Moment::Ready),
            (Who::Consumer { life }, Line::Report { chunk, redelivered }) => {
                self.ledger.reported(life, &chunk, redelivered);
                self.consumer.view.reports += 1;
                self.consumer.view.redelivered += u64::from(redelivered);
                // What a killed consumer wrote before is still read, and is no sign of life.
                if life == self.consumer.view.life && !matches!(self.consumer.plan, Plan::Sent(_)) {
                    self.recovered();
                    self.consumer.plan.reached(Moment::FirstReport);
                }
            }
            (Who::Consumer { .. }, Line::Done { .. }) => self.consumer.done = true,
            (Who::Producer { source }, line) => return self.handle_producer(source, line),
            (Who::Consumer { .. }, line) => {
                return Err(Failure::Child { who: who.to_string(), what: format!("wrote {line:?}") });
            }
        }
        Ok(())
    }

    fn handle_producer(&mut self, source: u16, line: Line) -> Result<(), Failure> {
        let producer = &mut self.producers[usize::from(source)];
        match line {
            Line::Accepted { chunk, pending } => {
                self.ledger.accepted(&chunk);
                producer.rate.add(u64::from(chunk.length));
                let view = &mut producer.view;
                view.pending = pending;
                if view.pass != chunk.pass {
                    (view.pass, view.chunks) = (chunk.pass, 0);
                }
                view.chunks += 1;
            }
            Line::Cut => {
                self.tally.cuts += 1;
                self.display.event(&format!("producer {}: cut its connection on purpose", source + 1));
            }
            Line::Done { counters: Counters { resent, reconnects, .. } } => {
                producer.done = true;
                producer.view.pending = 0;
                self.tally.resent += resent;
                self.tally.reconnects += reconnects;
            }
            Line::Linked => producer.view.linked = true,
            Line::Passed { pass } => self.ledger.passed(source, pass),
            Line::Unlinked => producer.view.linked = false,
            Line::Ready | Line::Report { .. } => {
                let who = Who::Producer { source }.to_string();
                return Err(Failure::Child { who, what: format!("wrote {line:?}") });
            }
        }
        Ok(())
    }

    async fn handle_end(&mut self, who: Who, status: ExitStatus, torn: bool) -> Result<(), Failure> {
        let unexpected = || Failure::Child { who: who.to_string(), what: format!("ended early: {status}") };
        match who {
            Who::Producer { source } => {
                let producer = &mut self.producers[usize::from(source)];
                producer.ended = true;
                if !producer.done || !status.success() {
                    return Err(unexpected());
                }
                if self.producers.iter().all(|producer| producer.ended) {
                    // Each closed its port with everything acked, so nothing is left to report; and they finish only
                    // after the last kill, so none is planned.
                    self.consumer.member.finish().await;
                }
            }
            Who::Consumer { .. } => {
                self.consumer.ended = true;
                match std::mem::replace(&mut self.consumer.plan, Plan::Spare) {
                    Plan::Sent(open) if status.signal() == Some(SIGKILL) => {
                        self.tally.torn += u64::from(torn);
                        self.count_kill(&open).await;
                        self.restart()?;
                    }
                    _ if self.consumer.done && status.success() => {}
                    _ => return Err(unexpected()),
                }
            }
        }
        Ok(())
    }

    /// A kill counts when the dead consumer's pipe, read to its end, leaves chunks that were accepted before.
    async fn count_kill(&mut self, open: &[ChunkId]) {
        let unreported = open.iter().filter(|&&id| !self.ledger.is_reported(id)).count() as u64;
        let ConsumerView { life, .. } = self.consumer.view;
        if unreported == 0 {
            self.display.event(&format!("consumer (life {life}) died with everything reported: not counted"));
            return;
        }
        self.tally.kills += 1;
        self.display.event(&format!(
            "consumer (life {life}): killed, {} of {}, with {} unacked or more",
            self.tally.kills,
            self.options.kills,
            count(unreported, "chunk"),
        ));
        if self.tally.kills == self.options.kills {
            for producer in &mut self.producers {
                producer.member.finish().await;
            }
        }
    }

    fn restart(&mut self) -> Result<(), Failure> {
        let life = self.consumer.view.life + 1;
        self.consumer.member = self.yard.start(Who::Consumer { life }, &[])?;
        self.consumer.ended = false;
        self.consumer.view.life = life;
        self.consumer.view.pid = self.consumer.member.pid;
        self.plan_kill();
        Ok(())
    }

    fn recovered(&mut self) {
        if let Some(since) = self.consumer.since_kill.take() {
            let ConsumerView { life, pid, .. } = &mut self.consumer.view;
            self.display.event(&format!(
                "consumer (life {life}): back as process {pid}, first report {:.1} ms after the kill",
                since.elapsed().as_secs_f64() * 1e3,
            ));
            self.consumer.view.dead = false;
        }
    }

    fn plan_kill(&mut self) {
        if self.tally.kills < self.options.kills {
            self.consumer.plan = Plan::draw(&mut self.random, self.options.kill_within);
        }
        self.consumer.plan.reached(Moment::Start);
    }

    fn kill(&mut self) {
        let open = self.ledger.outstanding();
        if open.is_empty() {
            self.consumer.plan = Plan::At(time::Instant::now() + KILL_RETRY);
            return;
        }
        self.consumer.member.kill();
        self.consumer.since_kill = Some(Instant::now());
        self.consumer.view.dead = true;
        self.consumer.plan = Plan::Sent(open);
    }

    fn tick(&mut self) -> Result<(), Failure> {
        if self.moved.elapsed() > PATIENCE {
            return Err(Failure::Stuck { seconds: PATIENCE.as_secs() });
        }
        if self.display.is_live() {
            for producer in &mut self.producers {
                producer.view.rate = producer.rate.now();
            }
            let views: Vec<_> = self.producers.iter().map(|producer| producer.view).collect();
            self.display.refresh(&views, &self.consumer.view, self.options.capacity.get());
        }
        Ok(())
    }

    fn verdict(&mut self) -> bool {
        let verdict = self.ledger.close();
        let files = self.manifest.files();
        let passes = self.ledger.passes();
        let took = self.started.elapsed();
        let report = Report::new(self.options, self.seed, files, passes, &verdict, &self.tally, took);
        self.display.finish(&report, self.ledger.remarks(), self.options.json);
        report.ok
    }
}

/// Sleeps until the instant; for ever if there is none.
async fn sleep_until(instant: Option<time::Instant>) {
    match instant {
        Some(instant) => time::sleep_until(instant).await,
        None => std::future::pending().await,
    }
}

/// The signal's number.
const SIGKILL: i32 = rustix::process::Signal::KILL.as_raw();

/// How often progress is drawn and the fleet is looked after.
const TICK: Duration = Duration::from_millis(50);

/// How soon to try again when a kill found nothing unacked.
const KILL_RETRY: Duration = Duration::from_millis(1);

/// A fleet that is silent for so long is stuck: every wait in it is bounded far below.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long a killed child may take to end.
const LAST_WAIT: Duration = Duration::from_secs(5);

/// The first cut falls within so many chunks, or within the first pass if that is shorter.
const FIRST_CUT_WITHIN: u64 = 500;
