//! The role's side: entering it, and talking to the process that started it.

use std::{
    env,
    io::{self, BufReader, Write},
};

use rustix::process::{Signal, getppid};
use serde::{Serialize, de::DeserializeOwned};

use super::{
    ARGUMENT_VARIABLE, PARENT_VARIABLE, ProcessError, ROLE_VARIABLE,
    lines::{self, Lines, MARK},
};

/// Enters a role, or gives `None` when the test that plays it runs as one test among others.
///
/// From then on the process does not outlive its parent. A parent that is already gone ends it at once.
///
/// # Panics
///
/// When it is called twice in one process, or the system has no thread left.
pub fn enter(role: &str) -> Option<Parent> {
    if env::var(ROLE_VARIABLE).ok()? != role {
        return None;
    }
    let expected = env::var(PARENT_VARIABLE).ok().and_then(|id| id.parse::<i32>().ok());
    #[cfg(target_os = "linux")]
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
        .expect("SIGKILL is a signal, and asking for it needs no right");
    // It may have died before it was asked for; then somebody else is our parent by now.
    if getppid().map(|parent| parent.as_raw_nonzero().get()) != expected {
        std::process::exit(1);
    }
    let lines = Lines::read(format!("input of {role}"), BufReader::new(io::stdin()), false)
        .expect("the system has a thread left");
    Some(Parent { role: role.to_owned(), lines })
}

/// The process that started this role.
#[derive(Debug)]
pub struct Parent {
    role: String,
    lines: Lines,
}

impl Parent {
    /// What the parent gave with [`Role::argument`](super::Role::argument).
    ///
    /// # Panics
    ///
    /// When it is of another type.
    pub fn argument<A: DeserializeOwned>(&self) -> A {
        let argument = env::var(ARGUMENT_VARIABLE).expect("whoever sets the role sets the argument");
        lines::parse(&self.role, &argument).unwrap_or_else(|error| panic!("{error}"))
    }

    /// Says something to the parent, readiness for one.
    ///
    /// # Errors
    ///
    /// [`ProcessError::Io`] when the parent is gone.
    pub fn send(&self, message: &impl Serialize) -> Result<(), ProcessError> {
        // The line break in front ends what the test harness may have begun to print.
        let line = format!("\n{MARK}{}\n", lines::print(message));
        let mut output = io::stdout().lock();
        let outcome = output.write_all(line.as_bytes()).and_then(|()| output.flush());
        outcome.map_err(|source| ProcessError::Io { role: self.role.clone(), source })
    }

    /// The next message from the parent; `None` when it hung up.
    ///
    /// # Errors
    ///
    /// [`ProcessError::Malformed`] when it is of another type.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: a message is returned or still there.
    pub async fn recv<M: DeserializeOwned>(&mut self) -> Result<Option<M>, ProcessError> {
        self.lines.next().await.map(|line| lines::parse(&self.role, &line)).transpose()
    }

    /// As [`Parent::recv`], for a role without a runtime.
    ///
    /// # Errors
    ///
    /// As for [`Parent::recv`].
    pub fn blocking_recv<M: DeserializeOwned>(&mut self) -> Result<Option<M>, ProcessError> {
        self.lines.blocking_next().map(|line| lines::parse(&self.role, &line)).transpose()
    }

    /// Waits until the parent hangs up or kills this process.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe, apart from messages: they are dropped.
    pub async fn hung_up(&mut self) {
        while self.lines.next().await.is_some() {}
    }
}
