//! The contract of [`Naming`], one check per numbered promise.

use std::{any::Any, fmt, sync::Arc};

use ipc_transport::{ConnectOptions, Endpoint, Error, ListenOptions, Listener, Naming, Transports};

use super::{BrokenPromise, Examined, assert_serves};

/// What is checked: a naming, the transports that its endpoints need, a name to claim and one that nobody ever claims.
///
/// # Examples
///
/// ```
/// use ipc_testkit::{MemTransport, conformance::naming::Subject};
/// use ipc_transport::{StaticNaming, Transports};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let table = StaticNaming::new().with("worker", "mem:worker".parse()?);
/// let subject = Subject::new(table, Transports::none().with(MemTransport::new()), "worker").without_watch();
/// # let _ = subject;
/// # Ok(())
/// # }
/// ```
pub struct Subject {
    naming: Arc<dyn Naming>,
    transports: Transports,
    name: String,
    unknown: String,
    watches: bool,
    kept: Vec<Box<dyn Any + Send + Sync>>,
}

impl Subject {
    /// A naming in which nobody holds this name yet.
    pub fn new(naming: impl Naming, transports: Transports, name: impl Into<String>) -> Self {
        Self {
            naming: Arc::new(naming),
            transports,
            name: name.into(),
            unknown: "nobody-ever-claims-this".to_owned(),
            watches: true,
            kept: Vec::new(),
        }
    }

    /// The naming says that it cannot tell when a name appears, which promise 5 allows.
    #[must_use]
    pub fn without_watch(mut self) -> Self {
        self.watches = false;
        self
    }

    /// Keeps something alive as long as the subject: the runtime directory, for one.
    #[must_use]
    pub fn keeping(mut self, guard: impl Any + Send + Sync) -> Self {
        self.kept.push(Box::new(guard));
        self
    }

    async fn try_claim(&self) -> Result<Box<dyn Listener>, Error> {
        self.naming.claim(&self.name, &self.transports, &ListenOptions::default()).await
    }

    async fn claim(&self) -> Box<dyn Listener> {
        self.try_claim().await.expect("nobody holds the name")
    }

    async fn resolve(&self) -> Endpoint {
        self.naming.resolve(&self.name).await.expect("the name is held")
    }

    /// Dials what the name resolves to and sees that it is this listener who answers.
    async fn assert_served_by(&self, listener: &mut dyn Listener) {
        let to = self.resolve().await;
        assert_serves(listener, self.transports.connect(&to, &ConnectOptions::default())).await;
    }
}

impl Examined for Subject {
    const CONTRACT: &'static str = "Naming";
    const CHECKS: &'static [&'static str] = crate::__each_naming_check! { __names_of_checks };

    fn seed(&self) -> Option<u64> {
        None
    }
}

impl fmt::Debug for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subject")
            .field("naming", &self.naming)
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// Promise 1: while a name is held it resolves to where its holder can be dialled.
///
/// # Panics
///
/// When the promise is broken.
///
/// # Cancel safety
///
/// Dropping the future ends the check.
pub async fn a_claimed_name_resolves(subject: Subject) {
    let mut listener = subject.claim().await;
    assert_eq!(
        subject.resolve().await,
        *listener.local_endpoint(),
        "the listener tells what others are to dial"
    );
    subject.assert_served_by(listener.as_mut()).await;
    subject.assert_served_by(listener.as_mut()).await;
}

/// Promise 2: a name that is held cannot be claimed again, and its holder goes on serving.
///
/// # Panics
///
/// When the promise is broken.
///
/// # Cancel safety
///
/// Dropping the future ends the check.
pub async fn a_second_claim_is_refused(subject: Subject) {
    let mut holder = subject.claim().await;
    for _ in 0..3 {
        let error = subject.try_claim().await.expect_err("the name is held");
        assert!(matches!(error, Error::AddrInUse { .. }), "{error:?}");
    }
    subject.assert_served_by(holder.as_mut()).await;
}

/// Promise 3: after the listener of a claim was closed or dropped the name can be claimed again.
///
/// # Panics
///
/// When the promise is broken.
///
/// # Cancel safety
///
/// Dropping the future ends the check.
pub async fn a_closed_claim_frees_the_name(subject: Subject) {
    subject.claim().await.close().await.expect("closing works");
    drop(subject.claim().await);
    let mut third = subject.claim().await;
    subject.assert_served_by(third.as_mut()).await;
}

/// Promise 4: a name that nobody ever claimed is not found, at once.
///
/// # Panics
///
/// When the promise is broken.
///
/// # Cancel safety
///
/// Dropping the future ends the check.
pub async fn an_unknown_name_is_not_found(subject: Subject) {
    let error = subject.naming.resolve(&subject.unknown).await.expect_err("nobody has this name");
    assert!(matches!(error, Error::NotFound { .. }), "{error:?}");
    let _other = subject.claim().await;
    let error = subject.naming.resolve(&subject.unknown).await.expect_err("another name was claimed");
    assert!(matches!(error, Error::NotFound { .. }), "{error:?}");
}

/// Promise 5: a watch completes after the name was claimed, whether somebody waits already or comes later.
///
/// # Panics
///
/// When the promise is broken.
///
/// # Cancel safety
///
/// Dropping the future ends the check.
pub async fn a_watch_ends_when_a_name_appears(subject: Subject) {
    if !subject.watches {
        return;
    }
    let (mut early, mut late) =
        [(); 2].map(|()| subject.naming.watch(&subject.name).expect("the name is valid")).into();
    let waiting = tokio::spawn(async move { early.changed().await });
    tokio::task::yield_now().await;
    let mut holder = subject.claim().await;
    waiting.await.expect("waiting does not panic");
    late.changed().await;
    subject.assert_served_by(holder.as_mut()).await;
}

/// Hands the name of each check to a macro, so that the list stands in one place.
#[doc(hidden)]
#[macro_export]
macro_rules! __each_naming_check {
    ($then:ident $($with:tt)*) => {
        $crate::$then! {
            [$($with)*]
            a_claimed_name_resolves
            a_second_claim_is_refused
            a_closed_claim_frees_the_name
            an_unknown_name_is_not_found
            a_watch_ends_when_a_name_appears
        }
    };
}

/// Makes a test of each promise of [`Naming`](ipc_transport::Naming), in a module of the given name.
///
/// The factory is called for each test, inside a tokio runtime, and gives a
/// [`naming::Subject`](crate::conformance::naming::Subject).
///
/// # Examples
///
/// ```
/// use ipc_testkit::{MemTransport, conformance::naming::Subject, naming_conformance};
/// use ipc_transport::{StaticNaming, Transports};
///
/// naming_conformance!(table, || {
///     let table = StaticNaming::new().with("a", "mem:a".parse().unwrap());
///     Subject::new(table, Transports::none().with(MemTransport::new()), "a").without_watch()
/// });
/// ```
#[macro_export]
macro_rules! naming_conformance {
    ($name:ident, $factory:expr) => {
        $crate::__each_naming_check! { __test_checks naming $name, $factory }
    };
}

/// Runs all checks, one after the other, each on a subject of its own.
///
/// # Panics
///
/// At the first broken promise.
///
/// # Cancel safety
///
/// Dropping the future ends the check that is running.
pub async fn run_all(factory: impl Fn() -> Subject) {
    crate::__each_naming_check! { __run_checks factory }
}

/// Runs all checks, as [`run_all`] does, and gives every promise that is broken.
///
/// # Cancel safety
///
/// Dropping the future ends the check that is running.
pub async fn broken_promises(factory: impl Fn() -> Subject) -> Vec<BrokenPromise> {
    crate::__each_naming_check! { __collect_broken factory }
}
