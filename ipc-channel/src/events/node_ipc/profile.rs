//! What is let through: everything that node-ipc 9.2.1 takes, or what a guard allows.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use ipc_transport::Limits;

use super::names::{check_introspection, check_lifecycle, check_prototype};
use super::{DEFAULT_MAX_DEPTH, Envelope, MAX_DEPTH, WireError};

/// How strict an end is with its peers and with itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Profile {
    /// What node-ipc 9.2.1 takes, and the default, as the peers of this format are such.
    ///
    /// Any name is taken from a peer: names mean nothing here beyond finding handlers. To a peer the names that
    /// JavaScript finds on every object (`__proto__`, `constructor`, `toString` and the like) are refused: no 9.2.1 peer
    /// can handle them, and under some versions of Node they end its process. A frame that is no event is reported, and the next one is read.
    #[default]
    Compatible,
    /// The limits and lists of a guard, in both directions. Whoever breaks them loses the connection.
    Guarded(Guard),
}

impl Profile {
    /// Largest frame, bytes without the delimiter: [`Limits::MAX_MESSAGE_CAP`] where there is no guard.
    #[must_use]
    pub fn max_message(&self) -> usize {
        match self {
            Self::Compatible => Limits::MAX_MESSAGE_CAP,
            Self::Guarded(guard) => guard.max_message,
        }
    }

    /// How deep data may nest, in levels: [`MAX_DEPTH`] where there is no guard.
    #[must_use]
    pub fn max_depth(&self) -> usize {
        match self {
            Self::Compatible => MAX_DEPTH,
            Self::Guarded(guard) => guard.max_depth.min(MAX_DEPTH),
        }
    }

    /// The guard, if there is one.
    #[must_use]
    pub fn guard(&self) -> Option<&Guard> {
        match self {
            Self::Compatible => None,
            Self::Guarded(guard) => Some(guard),
        }
    }

    /// Checks an event that arrived.
    ///
    /// # Errors
    ///
    /// As [`Guard::check_in`]; none where there is no guard.
    pub fn check_in(&self, envelope: &Envelope<'_>) -> Result<(), WireError> {
        self.guard().map_or(Ok(()), |guard| guard.check_in(envelope))
    }

    /// Checks an event that is to be sent, with the length of its frame in bytes without the delimiter.
    ///
    /// # Errors
    ///
    /// As [`Guard::check_out`]; [`WireError::TooLarge`] and [`WireError::Reserved`] for names that JavaScript finds on
    /// every object where there is no guard.
    pub fn check_out(&self, name: &str, len: usize) -> Result<(), WireError> {
        match self {
            Self::Compatible => check_prototype(name).and_then(|()| check_len(len, self.max_message())),
            Self::Guarded(guard) => guard.check_out(name, len),
        }
    }

    /// Whether the connection ends after this error of its peer.
    ///
    /// Always where the stream cannot be followed any further. After a frame that is bad in itself node-ipc 9.2.1 raises
    /// an error and reads on, and so does [`Profile::Compatible`]; a guard ends the connection.
    #[must_use]
    pub fn closes_after(&self, error: &WireError) -> bool {
        match self {
            Self::Compatible => matches!(
                error,
                WireError::IncompleteFrame { .. }
                    | WireError::Pending { .. }
                    | WireError::TooLarge { .. }
                    | WireError::Truncated { .. }
            ),
            Self::Guarded(_) => true,
        }
    }
}

/// Limits and lists for a peer that is not trusted. Each has an error of its own, see [`WireError`].
///
/// Names of three kinds are always refused, in both directions: those that JavaScript finds on objects and functions
/// (`__proto__`, `constructor`, `prototype`, `toString` and the like), some of which may end the process of a 9.2.1 peer;
/// those under which node-ipc reports the life of its connections (`connect`, `disconnect`, `destroy`, `error`, `data`,
/// `close`, `start`, `socket.disconnected`) and its `*` for all events, which a peer could forge there; and, unless
/// [`Guard::introspection`] is set, those by which peers ask for each other's events (`get.events.listening`,
/// `get.events.broadcasting`, `events.listening`, `events.broadcasting`).
///
/// # Examples
///
/// ```
/// use ipc_channel::events::node_ipc::{Guard, WireError};
///
/// let guard = Guard::default().with_allowed(["message", "goodbye"]);
/// assert_eq!(guard.check_out("message", 100), Ok(()));
/// assert_eq!(guard.check_out("launch", 100), Err(WireError::NotAllowed));
/// assert_eq!(guard.check_out("__proto__", 100), Err(WireError::Reserved { name: "__proto__" }));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Guard {
    /// Largest frame, bytes without the delimiter. 1 MiB, as [`Limits::max_message`].
    pub max_message: usize,
    /// Longest name of an event, bytes of UTF-8. 256, as native names have it.
    pub max_name: usize,
    /// How deep data may nest, in levels. [`DEFAULT_MAX_DEPTH`]; more than [`MAX_DEPTH`] is taken as that.
    pub max_depth: usize,
    /// The only names that may pass, in either direction. `None`, the default, lets all pass that are not reserved.
    pub allowed: Option<Arc<BTreeSet<String>>>,
    /// Whether peers may ask for events and be told of them. `false`, as the answer tells what a service does.
    ///
    /// The four names then pass whatever [`Guard::allowed`] says; the connection itself answers, no handler sees them.
    pub introspection: bool,
    /// Bytes that may wait to be written to one peer. 4 MiB, so that some frames of the largest size fit.
    ///
    /// The connection counts them and reports [`WireError::Pending`].
    pub max_pending: usize,
    /// How long a frame may be incomplete, from its first byte on. 30 s, as [`Limits::frame_timeout`].
    ///
    /// The connection measures it, see [`Reader::pending`](super::Reader::pending), and reports
    /// [`WireError::IncompleteFrame`].
    pub frame_timeout: Duration,
}

impl Guard {
    /// Sets [`Guard::max_message`].
    #[must_use]
    pub fn with_max_message(mut self, max_message: usize) -> Self {
        self.max_message = max_message;
        self
    }

    /// Sets [`Guard::max_name`].
    #[must_use]
    pub fn with_max_name(mut self, max_name: usize) -> Self {
        self.max_name = max_name;
        self
    }

    /// Sets [`Guard::max_depth`].
    #[must_use]
    pub fn with_max_depth(mut self, max_depth: usize) -> Self {
        self.max_depth = max_depth;
        self
    }

    /// Sets [`Guard::allowed`].
    #[must_use]
    pub fn with_allowed(mut self, names: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.allowed = Some(Arc::new(names.into_iter().map(Into::into).collect()));
        self
    }

    /// Sets [`Guard::introspection`].
    #[must_use]
    pub fn with_introspection(mut self, introspection: bool) -> Self {
        self.introspection = introspection;
        self
    }

    /// Sets [`Guard::max_pending`].
    #[must_use]
    pub fn with_max_pending(mut self, max_pending: usize) -> Self {
        self.max_pending = max_pending;
        self
    }

    /// Sets [`Guard::frame_timeout`].
    #[must_use]
    pub fn with_frame_timeout(mut self, frame_timeout: Duration) -> Self {
        self.frame_timeout = frame_timeout;
        self
    }

    /// Checks an event that arrived. The size and the depth of its frame were checked while it was read.
    ///
    /// # Errors
    ///
    /// [`WireError::NameTooLong`], [`WireError::Reserved`], [`WireError::NotAllowed`].
    pub fn check_in(&self, envelope: &Envelope<'_>) -> Result<(), WireError> {
        self.check_name(&envelope.name)
    }

    /// Checks an event that is to be sent, with the length of its frame in bytes without the delimiter.
    ///
    /// # Errors
    ///
    /// As [`Guard::check_in`], and [`WireError::TooLarge`].
    pub fn check_out(&self, name: &str, len: usize) -> Result<(), WireError> {
        self.check_name(name)?;
        check_len(len, self.max_message)
    }

    fn check_name(&self, name: &str) -> Result<(), WireError> {
        if name.len() > self.max_name {
            return Err(WireError::NameTooLong { len: name.len(), max: self.max_name });
        }
        check_prototype(name)?;
        check_lifecycle(name)?;
        if let Err(reserved) = check_introspection(name) {
            return if self.introspection { Ok(()) } else { Err(reserved) };
        }
        match &self.allowed {
            Some(allowed) if !allowed.contains(name) => Err(WireError::NotAllowed),
            _ => Ok(()),
        }
    }
}

impl Default for Guard {
    fn default() -> Self {
        Self {
            max_message: 1024 * 1024,
            max_name: 256,
            max_depth: DEFAULT_MAX_DEPTH,
            allowed: None,
            introspection: false,
            max_pending: 4 * 1024 * 1024,
            frame_timeout: Duration::from_secs(30),
        }
    }
}

fn check_len(len: usize, max: usize) -> Result<(), WireError> {
    if len > max { Err(WireError::TooLarge { len, max }) } else { Ok(()) }
}
