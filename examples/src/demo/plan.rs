//! When the consumer is killed next.

use std::time::Duration;

use tokio::time::Instant;

use super::ledger::ChunkId;

/// The next kill.
#[derive(Debug)]
pub(crate) enum Plan {
    /// After the consumer did this, so much later.
    After(Moment, Duration),
    /// At this instant, or as soon after it as chunks are unacked.
    At(Instant),
    /// It was sent, while these chunks were accepted and not reported.
    Sent(Vec<ChunkId>),
    /// None is to come.
    Spare,
}

/// From what a kill is timed, so that every state of a life is hit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Moment {
    /// The consumer's first report of this life was read.
    FirstReport,
    /// It said that it listens.
    Ready,
    /// Its process was started.
    Start,
}

impl Plan {
    /// A random moment and a random delay of at most so many milliseconds.
    pub(crate) fn draw(random: &mut fastrand::Rng, within: u64) -> Self {
        let moments = [Moment::Start, Moment::Ready, Moment::FirstReport];
        let moment = moments[random.usize(..moments.len())];
        Self::After(moment, Duration::from_micros(random.u64(..=within.saturating_mul(1000))))
    }

    /// The consumer has come to this moment: the clock starts, if that was waited for.
    pub(crate) fn reached(&mut self, reached: Moment) {
        if let Self::After(moment, delay) = *self
            && moment == reached
        {
            *self = Self::At(Instant::now() + delay);
        }
    }

    /// When to kill, if that is known.
    pub(crate) fn instant(&self) -> Option<Instant> {
        match self {
            Self::At(instant) => Some(*instant),
            Self::After(..) | Self::Sent(_) | Self::Spare => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_starts_only_at_the_moment_that_was_drawn() {
        let mut random = fastrand::Rng::with_seed(1);
        for _ in 0..100 {
            let mut plan = Plan::draw(&mut random, 5);
            let Plan::After(drawn, delay) = plan else { panic!("a plan begins with a moment") };
            assert!(delay <= Duration::from_millis(5));
            for moment in [Moment::Start, Moment::Ready, Moment::FirstReport] {
                if moment != drawn {
                    plan.reached(moment);
                    assert_eq!(plan.instant(), None);
                }
            }
            plan.reached(drawn);
            assert!(plan.instant().is_some());
        }
    }

    #[test]
    fn one_seed_gives_one_plan() {
        let draw = |seed| format!("{:?}", Plan::draw(&mut fastrand::Rng::with_seed(seed), 400));
        assert_eq!(draw(7), draw(7));
    }
}
