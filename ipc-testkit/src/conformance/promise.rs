//! Which promise is checked, and with which seed: the one place where a failing check learns what it says of itself.

use std::{
    any::Any,
    fmt,
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
};

use futures_util::FutureExt;
use tokio::time::timeout;

use super::WATCHDOG;

/// A promise of a numbered contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Promise {
    /// Whose contract it is: the name of a trait, or of the suite that has the list.
    pub contract: &'static str,
    /// Its number there, from 1.
    pub number: usize,
    /// Its name, which is that of its check.
    pub name: &'static str,
}

impl fmt::Display for Promise {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "promise {} of the contract of {}, `{}`,", self.number, self.contract, self.name)
    }
}

/// A promise that a check found broken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
#[error("{promise} is broken: {reason}{}", seed_text(*.seed))]
pub struct BrokenPromise {
    /// The promise.
    pub promise: Promise,
    /// What the check said when it panicked, or that it did not end.
    pub reason: String,
    /// The seed of all random choices of the check; `None` if its suite makes none.
    pub seed: Option<u64>,
}

fn seed_text(seed: Option<u64>) -> String {
    seed.map_or_else(String::new, |seed| format!("\nto see it again: IPC_SEED={seed}"))
}

/// What a suite checks, as far as its failures have to know.
#[doc(hidden)]
pub trait Examined {
    /// Whose contract it is.
    const CONTRACT: &'static str;
    /// Its checks, in the order of the promises.
    const CHECKS: &'static [&'static str];

    /// The seed of the random choices, if there are any.
    fn seed(&self) -> Option<u64>;
}

/// Runs a check under its watchdog, and tells which promise is broken if it panics or does not end.
pub(super) async fn examine<S: Examined, C: Future<Output = ()>>(
    name: &'static str,
    subject: S,
    check: impl FnOnce(S) -> C,
) -> Result<(), BrokenPromise> {
    let broken = broken::<S>(name, &subject);
    match timeout(WATCHDOG, AssertUnwindSafe(check(subject)).catch_unwind()).await {
        Ok(outcome) => outcome.map_err(|panic| broken(reason(panic.as_ref()))),
        Err(_) => Err(broken(format!("the check did not end within {WATCHDOG:?}"))),
    }
}

/// As [`examine`], for checks that wait for nothing.
pub(super) fn examine_now<S: Examined>(
    name: &'static str,
    subject: S,
    check: impl FnOnce(S),
) -> Result<(), BrokenPromise> {
    let broken = broken::<S>(name, &subject);
    let outcome = catch_unwind(AssertUnwindSafe(|| check(subject)));
    outcome.map_err(|panic| broken(reason(panic.as_ref())))
}

/// Runs a check and panics with the promise that it finds broken.
///
/// # Cancel safety
///
/// Dropping the future ends the check.
#[doc(hidden)]
pub async fn keep<S: Examined, C: Future<Output = ()>>(
    name: &'static str,
    subject: S,
    check: impl FnOnce(S) -> C,
) {
    if let Err(broken) = examine(name, subject, check).await {
        panic!("{broken}");
    }
}

/// As [`keep`], for checks that wait for nothing.
#[doc(hidden)]
pub fn keep_now<S: Examined>(name: &'static str, subject: S, check: impl FnOnce(S)) {
    if let Err(broken) = examine_now(name, subject, check) {
        panic!("{broken}");
    }
}

fn broken<S: Examined>(name: &'static str, subject: &S) -> impl FnOnce(String) -> BrokenPromise + use<S> {
    let place =
        S::CHECKS.iter().position(|check| *check == name).expect("the macros name the checks of the list");
    let promise = Promise { contract: S::CONTRACT, number: place + 1, name };
    let seed = subject.seed();
    move |reason| BrokenPromise { promise, reason, seed }
}

/// What a panic said; the panic of a task says it within the error that joining it gave.
fn reason(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("the check panicked").to_owned()
}

#[doc(hidden)]
#[macro_export]
macro_rules! __names_of_checks {
    ([] $($check:ident)*) => { &[$(stringify!($check)),*] };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __run_checks {
    ([$factory:ident] $($check:ident)*) => {{
        $($crate::conformance::keep(stringify!($check), $factory(), $check).await;)*
    }};
}

#[doc(hidden)]
#[macro_export]
macro_rules! __collect_broken {
    ([$factory:ident] $($check:ident)*) => {
        [$($crate::conformance::promise::examine(stringify!($check), $factory(), $check).await),*]
            .into_iter()
            .filter_map(Result::err)
            .collect()
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __test_checks {
    ([$suite:ident $name:ident, $factory:expr] $($check:ident)*) => {
        mod $name {
            #[allow(unused_imports, reason = "the factory may need nothing from outside")]
            use super::*;

            $(
                #[test]
                fn $check() {
                    let factory = $factory;
                    $crate::conformance::on_both_runtimes(|| {
                        let check = $crate::conformance::$suite::$check;
                        $crate::conformance::keep(stringify!($check), factory(), check)
                    });
                }
            )*
        }
    };
}
