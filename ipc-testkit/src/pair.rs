//! Two link machines and a wire that is cut anywhere: the whole protocol in one thread, without a clock.
//!
//! [`Pair`] carries out scripts of [`Step`]s and keeps the oracle: what was accepted, what was written, what was
//! handed out by which incarnation, with which flag, and what was acked. Every rule of the link that can be stated in one sentence is a
//! [`Violation`].

mod application;
mod carry;
mod check;
mod record;
mod script;
mod tap;
mod violation;

use std::collections::{BTreeMap, BTreeSet};

use ipc_pipeline::protocol::{Budget, End, Hello, IncomingConfig, Outgoing, OutgoingConfig, SessionId};

use self::{carry::Wire, record::Record, tap::Written};
pub use self::{
    script::{Step, configs, scripts},
    violation::Violation,
};

/// What a pair is made of.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct PairConfig {
    /// The sender's side.
    pub outgoing: OutgoingConfig,
    /// The receiver's side.
    pub incoming: IncomingConfig,
    /// The receiving process's budget in bytes.
    pub budget: usize,
    /// Whether unreported moves are reported at the end; without, half the window and requests must do.
    pub ticker: bool,
}

impl Default for PairConfig {
    fn default() -> Self {
        Self {
            outgoing: OutgoingConfig::default(),
            incoming: IncomingConfig::default(),
            budget: 64 * 1024 * 1024,
            ticker: true,
        }
    }
}

/// Two machines, a wire and an oracle.
#[derive(Debug)]
pub struct Pair {
    config: PairConfig,
    budget: Budget,
    sender: Outgoing,
    sessions: u128,
    incarnation: u64,
    records: BTreeMap<SessionId, Record>,
    wire: Option<Wire>,
    /// What was accepted, by session and number, with its size.
    accepted: BTreeMap<(SessionId, u64), usize>,
    /// Which incarnations handed a value out.
    handed: BTreeMap<(SessionId, u64), BTreeSet<u64>>,
    /// What the applications of all incarnations acked.
    acked: BTreeSet<(SessionId, u64)>,
    /// What the current session has written.
    written: Written,
    /// Numbers that receivers of the current session were told are dropped.
    skipped: BTreeSet<u64>,
    /// Numbers of the current session below this one are known to be rightly released.
    settled_below: u64,
    hellos: Vec<Hello>,
    finished: bool,
}

impl Pair {
    /// A pair that has not met.
    pub fn new(config: PairConfig) -> Self {
        Self {
            budget: Budget::new(config.budget),
            sender: Outgoing::new(SessionId::from_bits(1), config.outgoing.clone()),
            sessions: 1,
            incarnation: 1,
            records: BTreeMap::new(),
            wire: None,
            accepted: BTreeMap::new(),
            handed: BTreeMap::new(),
            acked: BTreeSet::new(),
            written: Written::default(),
            skipped: BTreeSet::new(),
            settled_below: 0,
            hellos: Vec::new(),
            finished: false,
            config,
        }
    }

    /// Carries out a script, then lets everything settle, and checks every rule.
    pub fn run(&mut self, script: &[Step]) -> Result<(), Violation> {
        for step in script {
            self.step(*step)?;
        }
        self.settle()
    }

    /// Carries out one step.
    pub fn step(&mut self, step: Step) -> Result<(), Violation> {
        match step {
            Step::Ack(which) => self.ack(which),
            Step::Cut(keep) => {
                self.forward(keep.into())?;
                self.disconnect();
            }
            Step::Dial => self.dial()?,
            Step::DialInVain => {
                self.greet(false)?;
                self.disconnect();
            }
            Step::Finish => {
                self.finished = true;
                self.sender.finish();
            }
            Step::Forget => self.forget(),
            Step::Forward(count) => self.forward(count.into())?,
            Step::LateHello => self.late_hello()?,
            Step::ReceiverDies => self.receiver_dies(),
            Step::Recover => self.recover(),
            Step::Return(count) => self.back(count.into())?,
            Step::Send(size) => self.send(size as usize)?,
            Step::SenderDies => self.sender_dies(),
            Step::Take(count) => self.take(count.into())?,
            Step::Tick => self.answer(true),
            Step::Write(count) => self.write(count.into()),
        }
        self.check()
    }

    /// Reconnects, moves every byte, takes and acks everything until nothing moves; then nothing may be missing.
    pub fn settle(&mut self) -> Result<(), Violation> {
        if self.wire.is_none() {
            self.dial()?;
        }
        self.sender.wait_for_release();
        self.calm()?;
        for _ in 0..10_000 {
            self.exchange()?;
            // A few at a time, so that small windows and their bounds are met on the way.
            self.take(3)?;
            while self.records.values().any(|record| !record.held.is_empty()) {
                self.ack(0);
            }
            self.answer(self.config.ticker);
            self.back(usize::MAX)?;
            let untaken = self.records.values().any(|record| !record.untaken.is_empty());
            let unfinished = self.finished && self.sender.end().is_none();
            if self.sender.pending() == 0 && !untaken && !unfinished {
                break;
            }
        }
        self.exchange()?;
        self.calm()?;
        self.check()?;
        self.check_complete()
    }

    /// Nobody does anything: the two ends must fall silent.
    pub fn calm(&mut self) -> Result<(), Violation> {
        for _ in 0..200 {
            if !self.exchange()? {
                return Ok(());
            }
        }
        Err(Violation::Restless)
    }

    /// The sender's machine.
    pub fn sender(&mut self) -> &mut Outgoing {
        &mut self.sender
    }

    /// How many values were handed out, by all incarnations.
    pub fn handed_out(&self) -> usize {
        self.handed.values().map(BTreeSet::len).sum()
    }

    /// The numbers of the current session's values that were handed out.
    pub fn handed_numbers(&self) -> Vec<u64> {
        let session = self.sender.session();
        self.handed.keys().filter(|value| value.0 == session).map(|value| value.1).collect()
    }

    /// How many numbers the current session's receivers were told are dropped.
    pub fn skipped(&self) -> usize {
        self.skipped.len()
    }

    /// Whether the session has ended, and how.
    pub fn end(&self) -> Option<&End> {
        self.sender.end()
    }
}
