//! Why a run of the demonstration ends without a verdict, and the exit status that says so.

use std::{fmt, io, path::PathBuf};

/// What stopped the program.
#[derive(Debug)]
pub(crate) enum Failure {
    /// A child ended, or said something, that it should not have.
    Child { who: String, what: String },
    /// The input holds no file.
    EmptyInput { path: PathBuf },
    /// The input is not there or cannot be read.
    Input { path: PathBuf, source: io::Error },
    /// The user asked to stop.
    Interrupted,
    /// A port, a node or a codec failed.
    Port { what: &'static str, source: Box<dyn std::error::Error + Send + Sync> },
    /// Nothing moved for so long that the fleet must be stuck.
    Stuck { seconds: u64 },
    /// An operating-system call of our own failed.
    System { what: &'static str, source: io::Error },
}

impl Failure {
    /// The status of a run whose check failed.
    pub(crate) const CHECK: u8 = 1;
    /// The status of bad usage and missing input, as clap has it.
    const USAGE: u8 = 2;
    /// The status of a program ended by an interrupt, as shells have it.
    const INTERRUPTED: u8 = 130;

    /// A closure for `map_err` on operating-system calls.
    pub(crate) fn system(what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::System { what, source }
    }

    /// A closure for `map_err` on the libraries' calls.
    pub(crate) fn port<E>(what: &'static str) -> impl FnOnce(E) -> Self
    where
        E: std::error::Error + Send + Sync + 'static,
    {
        move |source| Self::Port { what, source: Box::new(source) }
    }

    /// The exit status.
    pub(crate) fn status(&self) -> u8 {
        match self {
            Self::EmptyInput { .. } | Self::Input { .. } => Self::USAGE,
            Self::Interrupted => Self::INTERRUPTED,
            Self::Child { .. } | Self::Port { .. } | Self::Stuck { .. } | Self::System { .. } => Self::CHECK,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Child { who, what } => write!(f, "{who} {what}"),
            Self::EmptyInput { path } => write!(f, "no file to send in {}", path.display()),
            Self::Input { path, .. } => write!(f, "cannot read input {}", path.display()),
            Self::Interrupted => f.write_str("interrupted"),
            Self::Port { what, .. } | Self::System { what, .. } => write!(f, "cannot {what}"),
            Self::Stuck { seconds } => write!(f, "nothing moved for {seconds} s"),
        }
    }
}

impl std::error::Error for Failure {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Input { source, .. } | Self::System { source, .. } => Some(source),
            Self::Port { source, .. } => Some(&**source),
            Self::Child { .. } | Self::EmptyInput { .. } | Self::Interrupted | Self::Stuck { .. } => None,
        }
    }
}
