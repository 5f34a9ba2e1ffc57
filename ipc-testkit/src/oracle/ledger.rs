//! The ledger: what was accepted against what was delivered, across restarts of the receiver.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

/// Keeps account of the values of any number of sources and tells every breach of the delivery guarantee.
///
/// Values have numbers that grow within their source; they need not be dense. The guarantee that it holds a link to:
///
/// - Within one incarnation of the receiver each value comes at most once, in order ([`Ledger::deliver`]).
/// - A later incarnation may get a value again that an earlier one got, but only flagged as redelivered
///   ([`Ledger::receiver_restarted`]). A value flagged although nobody ever got it is allowed: the flag means *maybe*.
/// - The same incarnation gets values again, flagged, only when it asked for them ([`Ledger::recovered`]).
/// - What the source knows as released never comes again ([`Ledger::released`]).
/// - In the end everything that was accepted and not reported as dropped has come ([`Ledger::finish`]).
///
/// # Examples
///
/// ```
/// use ipc_testkit::oracle::{Ledger, Violation};
///
/// let mut ledger = Ledger::new();
/// ledger.accept("a", 1);
/// ledger.accept("a", 2);
/// ledger.deliver("a", 1, false)?;
/// ledger.receiver_restarted();
/// ledger.deliver("a", 1, true)?;
/// assert_eq!(ledger.finish(), Err(vec![Violation::Lost { source: "a", number: 2 }]));
/// # Ok::<(), Violation<&str>>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct Ledger<S> {
    sources: BTreeMap<S, Account>,
}

#[derive(Debug, Clone, Default)]
struct Account {
    accepted: BTreeSet<u64>,
    dropped: BTreeSet<u64>,
    /// What any incarnation ever got.
    delivered: BTreeSet<u64>,
    /// The newest number that this incarnation got, in the pass that is running.
    newest: Option<u64>,
    released: Option<u64>,
}

impl<S: Ord + Clone + fmt::Debug> Ledger<S> {
    /// An empty ledger.
    pub fn new() -> Self {
        Self { sources: BTreeMap::new() }
    }

    /// The source accepted a value: its `send` returned Ok.
    ///
    /// It may be entered after the value was delivered, since two threads tell of the two.
    pub fn accept(&mut self, source: S, number: u64) {
        self.account(source).accepted.insert(number);
    }

    /// The source was told that this value is dropped, or not delivered: it need not come.
    pub fn report_dropped(&mut self, source: S, number: u64) {
        self.account(source).dropped.insert(number);
    }

    /// The source knows that the receiver released everything up to this number.
    pub fn released(&mut self, source: S, up_to: u64) {
        let account = self.account(source);
        account.released = account.released.max(Some(up_to));
    }

    /// A new incarnation of the receiver takes over.
    pub fn receiver_restarted(&mut self) {
        for account in self.sources.values_mut() {
            account.newest = None;
        }
    }

    /// The receiver asks for what it did not acknowledge; values that it already got come again, flagged.
    pub fn recovered(&mut self, source: S) {
        self.account(source).newest = None;
    }

    /// The receiver handed a value to the application.
    ///
    /// # Errors
    ///
    /// The first breach that it is.
    pub fn deliver(&mut self, source: S, number: u64, redelivered: bool) -> Result<(), Violation<S>> {
        let account = self.account(source.clone());
        let known = account.delivered.contains(&number);
        let verdict = match account.newest {
            Some(newest) if newest == number => Err(Violation::Duplicated { source, number }),
            Some(newest) if newest > number && known => Err(Violation::Duplicated { source, number }),
            Some(after) if after > number => Err(Violation::Reordered { source, number, after }),
            _ if account.released.is_some_and(|released| number <= released) && known => {
                Err(Violation::DeliveredAfterRelease { source, number })
            }
            _ if known && !redelivered => Err(Violation::NotFlagged { source, number }),
            _ => Ok(()),
        };
        account.newest = account.newest.max(Some(number));
        account.delivered.insert(number);
        verdict
    }

    /// Closes the account: everything accepted has come or was reported, and nothing else came.
    ///
    /// # Errors
    ///
    /// Every breach that is left, by source and number.
    pub fn finish(&self) -> Result<(), Vec<Violation<S>>> {
        let mut violations = Vec::new();
        for (source, account) in &self.sources {
            for &number in account.accepted.difference(&account.delivered) {
                if !account.dropped.contains(&number) {
                    violations.push(Violation::Lost { source: source.clone(), number });
                }
            }
            for &number in account.delivered.difference(&account.accepted) {
                violations.push(Violation::Invented { source: source.clone(), number });
            }
            for &number in account.delivered.intersection(&account.dropped) {
                violations.push(Violation::DeliveredAfterDrop { source: source.clone(), number });
            }
        }
        if violations.is_empty() { Ok(()) } else { Err(violations) }
    }

    /// How many values of a source were accepted and have neither come nor been reported.
    pub fn outstanding(&self, source: &S) -> usize {
        self.sources.get(source).map_or(0, |account| {
            account
                .accepted
                .iter()
                .filter(|number| !account.delivered.contains(number) && !account.dropped.contains(number))
                .count()
        })
    }

    fn account(&mut self, source: S) -> &mut Account {
        self.sources.entry(source).or_default()
    }
}

/// A breach of the delivery guarantee.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
#[non_exhaustive]
pub enum Violation<S: fmt::Debug> {
    /// A value came although its source was told that it is dropped.
    #[error("value {number} of {source:?} was reported as dropped and came all the same")]
    DeliveredAfterDrop {
        /// Where it came from.
        source: S,
        /// Its number.
        number: u64,
    },
    /// A value came again although its source knows that it was released.
    #[error("value {number} of {source:?} came again after it was released")]
    DeliveredAfterRelease {
        /// Where it came from.
        source: S,
        /// Its number.
        number: u64,
    },
    /// A value came twice to one incarnation.
    #[error("value {number} of {source:?} came twice")]
    Duplicated {
        /// Where it came from.
        source: S,
        /// Its number.
        number: u64,
    },
    /// A value came that nobody sent.
    #[error("value {number} of {source:?} came and was never accepted")]
    Invented {
        /// Where it came from.
        source: S,
        /// Its number.
        number: u64,
    },
    /// A value never came.
    #[error("value {number} of {source:?} was accepted and never came")]
    Lost {
        /// Where it came from.
        source: S,
        /// Its number.
        number: u64,
    },
    /// A value came again without the flag that says so.
    #[error("value {number} of {source:?} came again and was not flagged as redelivered")]
    NotFlagged {
        /// Where it came from.
        source: S,
        /// Its number.
        number: u64,
    },
    /// A value came after a later one.
    #[error("value {number} of {source:?} came after value {after}")]
    Reordered {
        /// Where it came from.
        source: S,
        /// Its number.
        number: u64,
        /// The later value that came before it.
        after: u64,
    },
}
