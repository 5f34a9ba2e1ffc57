//! The example `ports`, as the two terminals run it.
#![allow(clippy::unwrap_used, reason = "a test may unwrap, its helpers too")]

use std::{
    fs,
    io::{BufRead as _, BufReader},
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

/// Far above what a run takes, so that it speaks only of a hang.
const WATCHDOG: Duration = Duration::from_secs(60);

/// Where cargo put the example, beside the directory of this test.
fn example() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let path = test.parent().and_then(Path::parent).unwrap().join("examples/ports");
    assert!(path.is_file(), "{} is missing: `cargo test -p ipc-examples` builds it", path.display());
    path
}

/// A running process of the example, killed when dropped.
struct Process {
    child: Child,
    lines: mpsc::Receiver<String>,
}

impl Process {
    fn start(role: &str, runtime_directory: &Path) -> Self {
        let mut child = Command::new(example())
            .arg(role)
            .env("XDG_RUNTIME_DIR", runtime_directory)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let stdout = child.stdout.take().unwrap();
        let (sender, lines) = mpsc::sync_channel(100);
        thread::spawn(move || read(stdout, &sender));
        Self { child, lines }
    }

    fn wait_for(&self, text: &str) {
        while !self.lines.recv_timeout(WATCHDOG).expect("it hangs or ended early").contains(text) {}
    }

    /// The rest of its lines; it must end well.
    fn end(mut self) -> Vec<String> {
        let mut rest = Vec::new();
        loop {
            match self.lines.recv_timeout(WATCHDOG) {
                Ok(line) => rest.push(line),
                Err(mpsc::RecvTimeoutError::Disconnected) => break,
                Err(mpsc::RecvTimeoutError::Timeout) => panic!("it hangs after {rest:?}"),
            }
        }
        assert!(self.child.wait().unwrap().success());
        rest
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn read(stdout: ChildStdout, lines: &mpsc::SyncSender<String>) {
    for line in BufReader::new(stdout).lines().map_while(Result::ok) {
        if lines.send(line).is_err() {
            return;
        }
    }
}

struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("ipc-ports-{name}-{}", std::process::id()));
        fs::DirBuilder::new().mode(0o700).create(&path).unwrap();
        Self(path)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn assert_all_values(lines: &[String]) {
    let taken: Vec<_> = lines.iter().filter(|line| line.contains("took")).collect();
    assert_eq!(taken.len(), 30, "{lines:?}");
    for (line, number) in taken.iter().zip(1..) {
        assert!(line.contains(&format!("\"value {number}\"")), "{line}");
    }
    assert!(lines.last().unwrap().contains("process1 closed its port"), "{lines:?}");
}

/// P-06 P-10
#[test]
fn process1_may_start_first() {
    let directory = Directory::new("first");
    let process1 = Process::start("process1", &directory.0);
    process1.wait_for("value 20 accepted, 20 of 20");
    let process2 = Process::start("process2", &directory.0);
    assert_all_values(&process2.end());
    assert!(process1.end().last().unwrap().contains("everything was taken"));
}

/// P-26 (by hand, the other order)
#[test]
fn process2_may_start_first() {
    let directory = Directory::new("second");
    let process2 = Process::start("process2", &directory.0);
    process2.wait_for("waiting for values");
    let process1 = Process::start("process1", &directory.0);
    assert_all_values(&process2.end());
    assert!(process1.end().last().unwrap().contains("everything was taken"));
}
