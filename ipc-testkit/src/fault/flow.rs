//! The faults of one direction of one connection, decided without IO.

use std::{num::NonZeroUsize, time::Duration};

use super::plan::{Chunk, Direction, Fault, FaultPlan, Rule, Side, Verdict};

/// What one direction of one connection goes through: which rules strike it, and how far it has come.
#[derive(Debug)]
pub(super) struct Flow {
    side: Side,
    direction: Direction,
    connection: u64,
    rng: fastrand::Rng,
    rules: Vec<Rule>,
    cut_at: Option<u64>,
    stalls: Vec<(u64, Option<Duration>)>,
    moved: u64,
}

/// What a direction may do next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Nothing more: the connection is to be cut.
    Cut,
    /// Move a chunk of at most so many bytes.
    Move(usize),
    /// Wait, for a time or until it is resumed.
    Stall(Option<Duration>),
}

/// What happens to a chunk: first a wait, then the verdict.
#[derive(Debug, Clone, Copy)]
pub(super) struct Judgement {
    pub(super) delay: Duration,
    pub(super) verdict: Verdict,
}

impl Flow {
    pub(super) fn new(plan: &FaultPlan, side: Side, direction: Direction, connection: u64) -> Self {
        let lane = u64::from(side == Side::Dialled) << 1 | u64::from(direction == Direction::Writing);
        let mut rng = generator(plan.seed() ^ salt(side), connection << 2 | lane);
        let (mut cut_at, mut stalls, mut rules) = (None::<u64>, Vec::new(), Vec::new());
        for rule in plan.rules() {
            if !rule.concerns(side, connection) || !rule.concerns_direction(direction) {
                continue;
            }
            match &rule.fault {
                // A refused connection never comes here, and one that was spared has nothing more to fear.
                Fault::Refuse => {}
                // A socket has no connection that could end, and its datagrams stay whole.
                Fault::Cut { .. } | Fault::Split { .. } if side == Side::Bound => {}
                Fault::Cut { after } => {
                    let at = rng.u64(after.clone());
                    if strikes(&mut rng, rule.chance) {
                        cut_at = Some(cut_at.map_or(at, |earlier| earlier.min(at)));
                    }
                }
                Fault::Stall { after, lasting } => {
                    if strikes(&mut rng, rule.chance) {
                        stalls.push((*after, *lasting));
                    }
                }
                _ => rules.push(rule.clone()),
            }
        }
        stalls.sort_by_key(|&(after, _)| std::cmp::Reverse(after));
        Self { side, direction, connection, rng, rules, cut_at, stalls, moved: 0 }
    }

    /// Whether nothing can go wrong any more, so that bytes may pass without being looked at.
    pub(super) fn is_clear(&self) -> bool {
        self.rules.is_empty() && self.cut_at.is_none() && self.stalls.is_empty()
    }

    /// Whether the connection is to be cut here.
    pub(super) fn is_cut(&self) -> bool {
        self.cut_at == Some(self.moved)
    }

    /// What comes next; a wait is told once. `len` is the most that the caller can move.
    pub(super) fn next(&mut self, len: usize) -> Next {
        if self.is_cut() {
            return Next::Cut;
        }
        if let Some((_, lasting)) = self.stalls.pop_if(|(after, _)| *after <= self.moved) {
            return Next::Stall(lasting);
        }
        let mut most = len;
        for rule in &self.rules {
            if let Fault::Split { max } = rule.fault
                && strikes(&mut self.rng, rule.chance)
            {
                most = most.min(self.rng.usize(1..=max.get()));
            }
        }
        let bound = [self.cut_at, self.stalls.last().map(|&(after, _)| after)].into_iter().flatten().min();
        if let Some(bound) = bound {
            most = most.min(usize::try_from(bound - self.moved).unwrap_or(usize::MAX));
        }
        Next::Move(most)
    }

    /// What happens to these bytes. Every rule is asked; waits add up, and of the rest the first one counts.
    pub(super) fn judge(&mut self, bytes: &[u8]) -> Judgement {
        let mut judgement = Judgement { delay: Duration::ZERO, verdict: Verdict::Pass };
        for rule in &self.rules {
            if matches!(rule.fault, Fault::Split { .. }) || !strikes(&mut self.rng, rule.chance) {
                continue;
            }
            let verdict = match &rule.fault {
                Fault::Corrupt => Verdict::Corrupt,
                Fault::Custom(judge) => (judge.0)(&Chunk {
                    side: self.side,
                    direction: self.direction,
                    connection: self.connection,
                    offset: self.moved,
                    bytes,
                }),
                Fault::Delay { by } => {
                    let span = by.end().saturating_sub(*by.start());
                    Verdict::Delay(*by.start() + span.mul_f64(self.rng.f64()))
                }
                Fault::Duplicate => Verdict::Duplicate,
                Fault::Lose => Verdict::Lose,
                Fault::Reorder => Verdict::Reorder,
                Fault::Truncate => Verdict::Truncate,
                Fault::Cut { .. } | Fault::Refuse | Fault::Split { .. } | Fault::Stall { .. } => {
                    Verdict::Pass
                }
            };
            match verdict {
                Verdict::Delay(delay) => judgement.delay += delay,
                verdict if judgement.verdict == Verdict::Pass => judgement.verdict = verdict,
                _ => {}
            }
        }
        judgement
    }

    /// Flips one bit somewhere in these bytes.
    pub(super) fn flip(&mut self, bytes: &mut [u8]) {
        if let Some(len) = NonZeroUsize::new(bytes.len()) {
            bytes[self.rng.usize(..len.get())] ^= 1 << self.rng.u8(..8);
        }
    }

    /// A length below this one; 0 for an empty datagram.
    pub(super) fn shorter(&mut self, len: usize) -> usize {
        if len == 0 { 0 } else { self.rng.usize(..len) }
    }

    /// So many bytes went this way.
    pub(super) fn advance(&mut self, count: usize) {
        self.moved += count as u64;
    }
}

/// Whether a plan turns this connection away.
pub(super) fn refuses(plan: &FaultPlan, side: Side, connection: u64) -> bool {
    let lane = u64::from(side == Side::Dialled);
    let mut rng = generator(plan.seed() ^ REFUSING ^ salt(side), connection << 1 | lane);
    plan.rules().iter().filter(|rule| matches!(rule.fault, Fault::Refuse)).any(|rule| {
        // Drawn even where the rule does not apply, so that a narrower rule does not shift the choices of the next.
        let strikes = strikes(&mut rng, rule.chance);
        strikes && rule.concerns(side, connection)
    })
}

fn strikes(rng: &mut fastrand::Rng, chance: f64) -> bool {
    chance >= 1.0 || rng.f64() < chance
}

/// A generator for each lane of each seed; the multiplication keeps neighbouring lanes apart.
fn generator(seed: u64, lane: u64) -> fastrand::Rng {
    fastrand::Rng::with_seed(seed ^ lane.wrapping_add(1).wrapping_mul(GOLDEN))
}

/// Keeps sockets apart from connections, whose two sides are kept apart by their lanes.
fn salt(side: Side) -> u64 {
    if side == Side::Bound { SOCKETS } else { 0 }
}

const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;
const REFUSING: u64 = 0x5265_6675_7365_2121;
const SOCKETS: u64 = 0x536f_636b_6574_2121;

#[cfg(test)]
mod tests {
    use super::*;

    fn flow(plan: &FaultPlan) -> Flow {
        Flow::new(plan, Side::Dialled, Direction::Writing, 0)
    }

    #[test]
    fn equal_plans_make_equal_choices_and_lanes_differ() {
        let plan = FaultPlan::new(3)
            .with(Rule::split(NonZeroUsize::new(1000).unwrap()))
            .with(Rule::cut_between(0..=900));
        let run = |mut flow: Flow| {
            let mut steps = Vec::new();
            while let Next::Move(count) = flow.next(usize::MAX) {
                flow.advance(count);
                steps.push(count);
            }
            steps
        };
        assert_eq!(run(flow(&plan)), run(flow(&plan)));
        let other = Flow::new(&plan, Side::Dialled, Direction::Reading, 0);
        assert_ne!(run(flow(&plan)), run(other));
        assert_ne!(run(flow(&plan)), run(Flow::new(&plan, Side::Dialled, Direction::Writing, 1)));
    }

    #[test]
    fn chunks_end_where_a_cut_or_a_stall_begins() {
        let plan = FaultPlan::new(0).with(Rule::stall_after(4)).with(Rule::cut_after(6));
        let mut flow = flow(&plan);
        assert_eq!(flow.next(100), Next::Move(4));
        flow.advance(4);
        assert_eq!(flow.next(100), Next::Stall(None));
        assert_eq!(flow.next(100), Next::Move(2));
        flow.advance(2);
        assert_eq!(flow.next(100), Next::Cut);
    }

    #[test]
    fn waits_add_up_and_the_first_other_verdict_counts() {
        let second = Duration::from_secs(1);
        let plan = FaultPlan::new(0)
            .with(Rule::delay(second..=second))
            .with(Rule::lose())
            .with(Rule::custom(move |_| Verdict::Delay(second)))
            .with(Rule::duplicate());
        let judgement = flow(&plan).judge(b"x");
        assert_eq!(judgement.delay, 2 * second);
        assert_eq!(judgement.verdict, Verdict::Lose);
    }

    #[test]
    fn a_chance_strikes_about_as_often_as_it_says() {
        let plan = FaultPlan::new(11).with(Rule::refuse().chance(0.25));
        let refused = (0..4000).filter(|&connection| refuses(&plan, Side::Accepted, connection)).count();
        assert!((800..1200).contains(&refused), "{refused} of 4000");
    }
}
