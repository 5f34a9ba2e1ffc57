//! The suites notice what they are there to notice: each broken implementation fails the check that is about it.
//!
//! Each implementation is sound but for one thing. All checks of its suite run over it, under paused time, so that one
//! that hangs meets its watchdog at once; those that fail must be the expected ones and no others.

#![allow(clippy::unwrap_used, reason = "a test may unwrap, its helpers too")]

mod codec;
mod datagram;
mod naming;
mod transport;

use std::{
    any::Any,
    collections::BTreeSet,
    fmt,
    sync::{Arc, Mutex},
};

use ipc_testkit::conformance::{BrokenPromise, Examined};
use ipc_transport::Endpoint;

/// What is expected of one mutant.
struct Bite<M> {
    mutant: M,
    /// The promise that it breaks.
    about: &'static str,
    /// Part of what the check of that promise says.
    says: &'static str,
    /// Promises that cannot be kept without that one.
    also: &'static [&'static str],
}

impl<M: fmt::Debug> Bite<M> {
    /// What is not as expected.
    fn complaint(&self, broken: &[BrokenPromise]) -> Option<String> {
        let names: BTreeSet<&str> = broken.iter().map(|broken| broken.promise.name).collect();
        let expected: BTreeSet<&str> = self.also.iter().copied().chain([self.about]).collect();
        let said = broken.iter().find(|broken| broken.promise.name == self.about);
        let as_expected = names == expected && said.is_some_and(|broken| broken.reason.contains(self.says));
        (!as_expected).then(|| format!("{:?} breaks {names:?}, saying {said:?}", self.mutant))
    }
}

/// Sees that somebody breaks each promise of a suite, so that none of its checks is blind.
fn assert_all_covered<S: Examined, M>(bites: &[Bite<M>]) {
    let covered: BTreeSet<&str> = bites.iter().map(|bite| bite.about).collect();
    assert_eq!(covered, S::CHECKS.iter().copied().collect(), "the promises that some mutant breaks");
}

fn mem(name: &str) -> Endpoint {
    Endpoint::new("mem", name).unwrap()
}

/// What mutants forget to drop, as long as one of them lives.
#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Vec<Box<dyn Any + Send>>>>);

impl Kept {
    fn keep(&self, thing: impl Any + Send) {
        self.0.lock().unwrap().push(Box::new(thing));
    }

    /// Keeps something that may still be taken out again.
    fn lend<T: Any + Send>(&self, thing: T) -> Arc<Mutex<Option<T>>> {
        let place = Arc::new(Mutex::new(Some(thing)));
        self.keep(place.clone());
        place
    }
}

impl fmt::Debug for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Kept")
    }
}
