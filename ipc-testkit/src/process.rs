//! Processes to kill: roles played by the test executable itself, with typed messages and no leaks.
//!
//! A *role* is a test that does nothing unless it was started by [`Role::spawn`]. The executable of the running
//! test is started again with `--exact ROLE --nocapture` and an environment variable, so that no helper programs have to
//! be built or found:
//!
//! ```no_run
//! use ipc_testkit::process::{self, Role};
//!
//! #[test]
//! fn role_echo() {
//!     let Some(mut parent) = process::enter("role_echo") else { return };
//!     parent.send(&"ready").unwrap();
//!     while let Some(word) = parent.blocking_recv::<String>().unwrap() {
//!         parent.send(&word).unwrap();
//!     }
//! }
//!
//! #[tokio::test]
//! async fn a_word_comes_back() {
//!     let mut echo = Role::new("role_echo").spawn().unwrap();
//!     assert_eq!(echo.recv::<String>().await.unwrap(), "ready");
//!     echo.send(&"word").unwrap();
//!     assert_eq!(echo.recv::<String>().await.unwrap(), "word");
//!     echo.kill();
//! }
//! # fn main() {}
//! ```
//!
//! Messages are lines of JSON over the pipes of standard input and output. A [`RoleProcess`] that is dropped is killed
//! and reaped; a role whose parent dies, be it by SIGKILL, is killed by the kernel (Linux) or reads the end of its input.

mod lines;
mod parent;
mod rounds;
mod temporary;
mod usage;

use std::{
    io::{self, Write},
    os::unix::process::ExitStatusExt,
    path::PathBuf,
    process::{Child, ChildStdin, Command, ExitStatus, Stdio},
    sync::{LazyLock, mpsc},
    thread,
    time::Duration,
};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};
use serde::{Serialize, de::DeserializeOwned};
use tokio::{sync::watch, time::timeout};

use self::lines::Lines;
pub(crate) use self::rounds::seed_from_environment;
pub use self::{
    parent::{Parent, enter},
    rounds::{Rounds, repetitions, rounds},
    temporary::TempDir,
    usage::{open_descriptors, resident_bytes, threads},
};

/// A role to be played by another process.
#[derive(Debug, Clone)]
#[must_use = "a role does nothing until it is spawned"]
pub struct Role {
    name: String,
    argument: String,
    environment: Vec<(String, String)>,
    launcher: Vec<String>,
}

impl Role {
    /// The role of this name: the full path of its test, such as `role_echo` or `roles::echo`.
    pub fn new(name: impl Into<String>) -> Self {
        let (environment, launcher) = (Vec::new(), Vec::new());
        Self { name: name.into(), argument: "null".to_owned(), environment, launcher }
    }

    /// What the role gets from [`Parent::argument`]; nothing (`()`) by default.
    ///
    /// # Panics
    ///
    /// When the value cannot be written as JSON.
    pub fn argument(mut self, argument: &impl Serialize) -> Self {
        self.argument = serde_json::to_string(argument).expect("arguments are plain data");
        self
    }

    /// Sets a variable in the environment of the process.
    pub fn env(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.environment.push((key.into(), value.into()));
        self
    }

    /// Starts the process through another program, such as `nice`, `nsenter` or `ip netns exec`: the program's name, then
    /// its arguments; the command of the role is appended. None by default.
    ///
    /// The program must turn into the command, in the same process: the harness talks to the process that it started,
    /// and kills no other.
    pub fn through<A: Into<String>>(mut self, launcher: impl IntoIterator<Item = A>) -> Self {
        self.launcher = launcher.into_iter().map(Into::into).collect();
        self
    }

    /// Starts the process.
    ///
    /// # Errors
    ///
    /// What the operating system reports.
    pub fn spawn(self) -> io::Result<RoleProcess> {
        let mut command = match self.launcher.split_first() {
            None => Command::new(own_executable()?),
            Some((program, arguments)) => {
                let mut command = Command::new(program);
                // By its path: in a launcher's own process `/proc/self` is the launcher.
                command.args(arguments).arg(std::env::current_exe()?);
                command
            }
        };
        command
            .args(["--exact", &self.name, "--nocapture", "--test-threads=1", "--quiet"])
            .envs(self.environment)
            .env(ROLE_VARIABLE, &self.name)
            .env(PARENT_VARIABLE, std::process::id().to_string())
            .env(ARGUMENT_VARIABLE, self.argument)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut child = spawn_from_lasting_thread(command)?;
        let pid = Pid::from_child(&child);
        let stdin = child.stdin.take();
        let stdout = child.stdout.take().expect("standard output is piped");
        let (ended_sender, ended) = watch::channel(false);
        thread::Builder::new().name(format!("exit of {}", self.name)).spawn(move || {
            // Seen without reaping, so that the process id stays ours until the handle reaps it.
            while waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT)
                .is_err_and(|error| error == rustix::io::Errno::INTR)
            {}
            ended_sender.send_replace(true);
        })?;
        let lines = Lines::read(format!("output of {}", self.name), io::BufReader::new(stdout), true)?;
        Ok(RoleProcess { name: self.name, child, pid, stdin, lines, ended, status: None })
    }
}

/// A process that plays a role. Dropping it kills and reaps it.
#[derive(Debug)]
pub struct RoleProcess {
    name: String,
    child: Child,
    pid: Pid,
    stdin: Option<ChildStdin>,
    lines: Lines,
    ended: watch::Receiver<bool>,
    status: Option<ExitStatus>,
}

impl RoleProcess {
    /// The id of the process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The next message of the role, waited for at most [`PATIENCE`].
    ///
    /// At most 1,024 messages wait to be taken; a role that says more is held.
    ///
    /// # Errors
    ///
    /// [`ProcessError::Ended`] when the role ended without saying more, [`ProcessError::Malformed`] when it said
    /// something else, [`ProcessError::TimedOut`] when it said nothing in time.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: a message is returned or still there.
    pub async fn recv<M: DeserializeOwned>(&mut self) -> Result<M, ProcessError> {
        let Ok(line) = timeout(PATIENCE, self.lines.next()).await else {
            return Err(ProcessError::TimedOut { role: self.name.clone(), what: "said nothing" });
        };
        match line {
            Some(line) => lines::parse(&self.name, &line),
            None => Err(ProcessError::Ended { role: self.name.clone(), status: self.exit().await? }),
        }
    }

    /// Says something to the role. It blocks while the pipe is full, as that of a stopped process may be.
    ///
    /// # Errors
    ///
    /// [`ProcessError::Io`] when the role has ended or closed its input.
    pub fn send(&mut self, message: &impl Serialize) -> Result<(), ProcessError> {
        let stdin = self.stdin.as_mut().ok_or(io::ErrorKind::BrokenPipe);
        let outcome = stdin
            .map_err(io::Error::from)
            .and_then(|stdin| stdin.write_all(format!("{}\n", lines::print(message)).as_bytes()));
        outcome.map_err(|source| ProcessError::Io { role: self.name.clone(), source })
    }

    /// Closes the input of the role, which then receives `None` from its parent.
    pub fn hang_up(&mut self) {
        self.stdin = None;
    }

    /// Ends the process with SIGKILL, at whatever it is doing, and reaps it.
    pub fn kill(&mut self) -> ExitStatus {
        if let Some(status) = self.status {
            return status;
        }
        self.signal(Signal::KILL);
        let status = self.child.wait().expect("a child that was not reaped can be waited for");
        *self.status.insert(status)
    }

    /// Stops the process with SIGSTOP and returns when it stands still.
    pub fn stop(&self) {
        self.signal(Signal::STOP);
        let change = WaitIdOptions::STOPPED | WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        while waitid(WaitId::Pid(self.pid), change).is_err_and(|error| error == rustix::io::Errno::INTR) {}
    }

    /// Lets a stopped process go on, with SIGCONT.
    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }

    /// Sends any signal; nothing happens when the process has ended.
    pub fn signal(&self, signal: Signal) {
        // Until it is reaped, which only this handle does, the id belongs to this process.
        if self.status.is_none() {
            let _ = kill_process(self.pid, signal);
        }
    }

    /// Waits, at most [`PATIENCE`], until the process ends by itself, and reaps it.
    ///
    /// # Errors
    ///
    /// [`ProcessError::TimedOut`] when it does not end.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn exit(&mut self) -> Result<ExitStatus, ProcessError> {
        if timeout(PATIENCE, self.ended.wait_for(|&ended| ended)).await.is_err() {
            return Err(ProcessError::TimedOut { role: self.name.clone(), what: "did not end" });
        }
        // It has ended, so this kills nobody and does not wait.
        Ok(self.kill())
    }

    /// Waits until the process ends by itself, and expects that the role did not fail.
    ///
    /// # Panics
    ///
    /// When it does not end in time, or its test failed.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn succeeds(&mut self) {
        match self.exit().await {
            Ok(status) => assert!(status.success(), "role {} ended with {status}", self.name),
            Err(error) => panic!("{error}"),
        }
    }
}

impl Drop for RoleProcess {
    fn drop(&mut self) {
        let status = self.kill();
        debug_assert!(
            status.code().is_some() || status.signal().is_some(),
            "it was waited for until it ended"
        );
    }
}

/// Why there is no message from another process.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProcessError {
    /// The role ended without saying what was waited for.
    #[error("role {role} ended with {status} before it said more; is there a test of that name?")]
    Ended {
        /// The role.
        role: String,
        /// How it ended.
        status: ExitStatus,
    },
    /// A pipe failed; mostly the other side has ended.
    #[error("the pipe of role {role} failed")]
    Io {
        /// The role.
        role: String,
        /// The operating system's own report.
        #[source]
        source: io::Error,
    },
    /// A message is not of the expected type.
    #[error("role {role} got a message of another type: {line}")]
    Malformed {
        /// The role.
        role: String,
        /// The message as it came.
        line: String,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
    /// Nothing happened in time.
    #[error("role {role} {what} within {PATIENCE:?}")]
    TimedOut {
        /// The role.
        role: String,
        /// What it failed to do.
        what: &'static str,
    },
}

/// How long to wait for another process before it counts as hung: 120 s, as machines that run tests are slow.
pub const PATIENCE: Duration = Duration::from_secs(120);

const ROLE_VARIABLE: &str = "IPC_TESTKIT_ROLE";
const PARENT_VARIABLE: &str = "IPC_TESTKIT_PARENT";
const ARGUMENT_VARIABLE: &str = "IPC_TESTKIT_ARGUMENT";

/// The file may have been replaced by a rebuild meanwhile, which Linux marks; the running image can still be started.
fn own_executable() -> io::Result<PathBuf> {
    if cfg!(target_os = "linux") { Ok(PathBuf::from("/proc/self/exe")) } else { std::env::current_exe() }
}

/// Starts a process from a thread that never ends.
///
/// The kernel sends the parent-death signal when the *thread* that started a process ends, and the threads of
/// tests and runtimes come and go.
fn spawn_from_lasting_thread(command: Command) -> io::Result<Child> {
    type Job = (Command, mpsc::SyncSender<io::Result<Child>>);
    static SPAWNER: LazyLock<mpsc::SyncSender<Job>> = LazyLock::new(|| {
        let (jobs, inbox) = mpsc::sync_channel::<Job>(0);
        thread::Builder::new()
            .name("role spawner".to_owned())
            .spawn(move || {
                for (mut command, answer) in inbox {
                    // Who asked waits for the answer, so there is somebody to take it.
                    let _ = answer.send(command.spawn());
                }
            })
            .expect("the system has a thread left");
        jobs
    });
    let (answer, outcome) = mpsc::sync_channel(1);
    SPAWNER.send((command, answer)).expect("the spawner never ends");
    outcome.recv().expect("the spawner answers every job")
}
