//! The fleet: child processes that are this executable again, and the pipes between them and the launcher.

use std::{
    env,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    process::{Child, ChildStdin, ChildStdout, Command},
    sync::{mpsc, oneshot},
};

use super::{cli::Options, failure::Failure, lines::Line, pipes::FINISH};

/// A member of the fleet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Who {
    /// The consumer, in this life, from 1.
    Consumer { life: u32 },
    /// A producer, from 0.
    Producer { source: u16 },
}

impl std::fmt::Display for Who {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Consumer { life } => write!(f, "consumer (life {life})"),
            Self::Producer { source } => write!(f, "producer {}", source + 1),
        }
    }
}

/// What the launcher hears of a member.
#[derive(Debug)]
pub(crate) enum Event {
    /// It is gone, and its pipe was read to the end.
    Ended { status: ExitStatus, torn: bool },
    /// It wrote a whole line.
    Line(Line),
    /// It wrote a whole line that is none of ours, or its pipe broke.
    Nonsense(String),
}

/// What every child is told.
#[derive(Debug)]
pub(crate) struct Yard {
    executable: PathBuf,
    common: Vec<std::ffi::OsString>,
    events: mpsc::Sender<(Who, Event)>,
}

/// A running child.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) pid: u32,
    stdin: Option<ChildStdin>,
    kill: Option<oneshot::Sender<()>>,
}

impl Yard {
    /// Prepares to start children; their events arrive at the receiver.
    pub(crate) fn new(
        directory: &Path,
        tcp_port: u16,
        options: &Options,
    ) -> Result<(Self, mpsc::Receiver<(Who, Event)>), Failure> {
        let executable = env::current_exe().map_err(Failure::system("find this executable"))?;
        let mut common = vec!["--directory".into(), directory.into()];
        let numbers = [("--tcp-port", tcp_port.to_string()), ("--capacity", options.capacity.to_string())];
        for (name, value) in numbers {
            common.extend([name.into(), value.into()]);
        }
        common.extend(["--transport".into(), options.transport.name().into()]);
        let (events, receiver) = mpsc::channel(EVENTS);
        Ok((Self { executable, common, events }, receiver))
    }

    /// Starts a child with its subcommand and the arguments that are its own.
    pub(crate) fn start(&self, who: Who, arguments: &[std::ffi::OsString]) -> Result<Member, Failure> {
        let role = match who {
            Who::Consumer { .. } => "__consume",
            Who::Producer { .. } => "__produce",
        };
        let mut child = Command::new(&self.executable)
            .arg(role)
            .args(&self.common)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // Whatever ends the launcher's task, a panic included, ends the child.
            .kill_on_drop(true)
            .spawn()
            .map_err(Failure::system("start a child process"))?;
        let pid = child.id().expect("a child that was not waited for has its id");
        let stdin = child.stdin.take();
        let stdout = child.stdout.take().expect("standard output was asked to be a pipe");
        let (kill, killed) = oneshot::channel();
        tokio::spawn(attend(who, child, stdout, killed, self.events.clone()));
        Ok(Member { pid, stdin, kill: Some(kill) })
    }
}

impl Member {
    /// Sends SIGKILL. The child's end is reported as an event, after everything it wrote.
    pub(crate) fn kill(&mut self) {
        if let Some(kill) = self.kill.take() {
            // The task is gone only when the child is.
            let _ = kill.send(());
        }
    }

    /// Orders the child to finish.
    pub(crate) async fn finish(&mut self) {
        if let Some(stdin) = &mut self.stdin {
            // A child that is gone cannot be told; its end is an event of its own.
            let _ = stdin.write_all(FINISH.as_bytes()).await;
        }
    }
}

/// Reads a child's lines to the end, kills it when asked, and waits for it.
async fn attend(
    who: Who,
    mut child: Child,
    mut stdout: ChildStdout,
    mut killed: oneshot::Receiver<()>,
    events: mpsc::Sender<(Who, Event)>,
) {
    let mut lines = LineBuffer::default();
    let mut may_kill = true;
    let torn = loop {
        tokio::select! {
            biased;
            order = &mut killed, if may_kill => {
                may_kill = false;
                if order.is_ok() {
                    // It fails only for a child that has ended by itself, which the next read shows.
                    let _ = child.start_kill();
                }
            }
            read = stdout.read_buf(&mut lines.bytes) => match read {
                Ok(0) => break lines.is_torn(),
                Ok(_) => {
                    while let Some(event) = lines.next() {
                        if events.send((who, event)).await.is_err() {
                            return;
                        }
                    }
                }
                Err(error) => {
                    let _ = events.send((who, Event::Nonsense(error.to_string()))).await;
                    break lines.is_torn();
                }
            },
        }
    };
    if let Ok(status) = child.wait().await {
        let _ = events.send((who, Event::Ended { status, torn })).await;
    }
}

/// Whole lines out of what arrived. A line without its newline was never written completely, so it does not count.
#[derive(Debug, Default)]
struct LineBuffer {
    bytes: Vec<u8>,
    start: usize,
}

impl LineBuffer {
    fn next(&mut self) -> Option<Event> {
        let rest = &self.bytes[self.start..];
        let Some(end) = rest.iter().position(|&byte| byte == b'\n') else {
            self.bytes.drain(..self.start);
            self.start = 0;
            return None;
        };
        let line = &rest[..end];
        let nonsense = || Event::Nonsense(String::from_utf8_lossy(line).into_owned());
        let event = Line::parse(line).map_or_else(nonsense, Event::Line);
        self.start += end + 1;
        Some(event)
    }

    fn is_torn(&self) -> bool {
        !self.bytes.is_empty()
    }
}

/// Events on their way to the launcher; when it lags behind, the children's pipes fill and hold them up.
const EVENTS: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_counts_only_with_its_newline() {
        let mut text = Vec::new();
        Line::Ready.write_to(&mut text);
        Line::Cut.write_to(&mut text);
        for cut in 0..text.len() {
            let mut lines = LineBuffer { bytes: text[..cut].to_vec(), start: 0 };
            let whole = text[..cut].iter().filter(|&&byte| byte == b'\n').count();
            let mut seen = 0;
            while let Some(event) = lines.next() {
                assert!(matches!(event, Event::Line(_)));
                seen += 1;
            }
            assert_eq!(seen, whole);
            assert_eq!(lines.is_torn(), !matches!(text[..cut].last(), None | Some(b'\n')));
        }
    }

    #[test]
    fn a_whole_line_that_is_none_of_ours_is_nonsense() {
        let mut lines = LineBuffer { bytes: b"hello\n".to_vec(), start: 0 };
        assert!(matches!(lines.next(), Some(Event::Nonsense(text)) if text == "hello"));
    }
}
