//! Naming: from the names of processes to the endpoints where they listen.

use std::fmt;

use async_trait::async_trait;

use crate::{Endpoint, Error, ListenOptions, Listener, Transports};

#[cfg(feature = "unix")]
mod runtime;
mod table;

#[cfg(feature = "unix")]
pub use runtime::RuntimeNaming;
pub use table::StaticNaming;

/// Knows where named processes listen, and lets one process at a time listen under a name.
///
/// The two that come along are [`RuntimeNaming`] (processes of one user on one machine) and [`StaticNaming`] (a table
/// of addresses, for several machines).
///
/// # Contract
///
/// 1. `a_claimed_name_resolves`: while a claim is held, [`Naming::resolve`] of that name gives an endpoint at which
///    its listener can be dialled.
/// 2. `a_second_claim_is_refused`: a name that is held cannot be claimed again, [`Error::AddrInUse`], and its holder
///    goes on serving.
/// 3. `a_closed_claim_frees_the_name`: after the listener of a claim was closed or dropped the name can be claimed
///    again.
/// 4. `an_unknown_name_is_not_found`: resolving a name that nobody has ever claimed gives [`Error::NotFound`], as long
///    as no table says otherwise; it never waits for the name to appear.
/// 5. `a_watch_ends_when_a_name_appears`: [`NameWatch::changed`] completes after a name was claimed since the watch
///    was made or last completed, unless the naming says that it cannot tell.
#[async_trait]
pub trait Naming: fmt::Debug + Send + Sync + 'static {
    /// Claims a name for this process and listens there.
    ///
    /// The listener is the claim: closing or dropping it frees the name. Its
    /// [`local_endpoint`](Listener::local_endpoint) is what others are to dial.
    ///
    /// # Errors
    ///
    /// [`Error::AddrInUse`] if another process holds the name, [`Error::InvalidName`], [`Error::NotFound`] if this
    /// naming has no place for it, and those of [`Transport::listen`](crate::Transport::listen).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future releases whatever was claimed.
    async fn claim(
        &self,
        name: &str,
        transports: &Transports,
        options: &ListenOptions,
    ) -> Result<Box<dyn Listener>, Error>;

    /// Where the holder of a name listens, or may listen: it is not dialled to find out.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] if nobody holds it as far as can be seen, [`Error::InvalidName`].
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: nothing is changed by it.
    async fn resolve(&self, name: &str) -> Result<Endpoint, Error>;

    /// A watch over one name, for a dialler that waits to try again.
    ///
    /// Make it before the first attempt, so that nothing is missed between a failure and the wait.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidName`].
    fn watch(&self, name: &str) -> Result<Box<dyn NameWatch>, Error>;
}

/// A watch over one name; see [`Naming::watch`].
#[async_trait]
pub trait NameWatch: fmt::Debug + Send + 'static {
    /// Completes when the place of the name has changed since the watch was made or last completed, which is a good
    /// moment to dial; it may complete without cause. A naming that cannot tell never completes.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: a change that was not returned is returned by the next call.
    async fn changed(&mut self);
}
