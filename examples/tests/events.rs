//! The examples of events, each role in a process of its own.
#![allow(clippy::unwrap_used, reason = "a test may unwrap, its helpers too")]

use std::{
    fs,
    io::{BufRead as _, BufReader},
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Output, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};

/// Far above what a run takes, so that it speaks only of a hang.
const WATCHDOG: Duration = Duration::from_secs(60);

/// A program of the examples with its arguments, whose names live in this directory.
fn program(name: &str, arguments: &str, directory: &Directory) -> Command {
    let test = std::env::current_exe().unwrap();
    // Where cargo put the example, beside the directory of this test.
    let path = test.parent().and_then(Path::parent).unwrap().join("examples").join(name);
    assert!(path.is_file(), "{} is missing: `cargo test -p ipc-examples` builds it", path.display());
    let mut command = Command::new(path);
    command.args(arguments.split_whitespace()).env("XDG_RUNTIME_DIR", &directory.0).stdin(Stdio::null());
    command
}

/// A program that runs until it is told to stop; killed when dropped.
struct Process {
    child: Child,
    lines: mpsc::Receiver<String>,
}

impl Process {
    fn start(name: &str, arguments: &str, directory: &Directory) -> Self {
        let mut child = program(name, arguments, directory).stdout(Stdio::piped()).spawn().unwrap();
        let stdout = child.stdout.take().unwrap();
        let (sender, lines) = mpsc::sync_channel(100);
        thread::spawn(move || read(stdout, &sender));
        Self { child, lines }
    }

    /// The first line to come that has this text.
    fn wait_for(&self, text: &str) -> String {
        loop {
            let line = self.lines.recv_timeout(WATCHDOG).expect("it hangs or ended early");
            if line.contains(text) {
                return line;
            }
        }
    }

    /// Tells it to stop, which it must do well; the rest of its lines.
    fn stop(mut self, signal: Signal) -> Vec<String> {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
        let mut rest = Vec::new();
        loop {
            match self.lines.recv_timeout(WATCHDOG) {
                Ok(line) => rest.push(line),
                Err(mpsc::RecvTimeoutError::Disconnected) => break,
                Err(mpsc::RecvTimeoutError::Timeout) => panic!("it hangs after {rest:?}"),
            }
        }
        let status = self.child.wait().unwrap();
        assert!(status.success(), "{status}: {rest:?}");
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

/// A program that ends by itself.
fn run(name: &str, arguments: &str, directory: &Directory) -> Output {
    program(name, arguments, directory).output().unwrap()
}

struct Directory(PathBuf);

impl Directory {
    fn new() -> Self {
        let path = std::env::temp_dir().join(format!("ipc-events-{:016x}", fastrand::u64(..)));
        fs::DirBuilder::new().mode(0o700).create(&path).unwrap();
        Self(path)
    }

    /// Every socket in it.
    fn sockets(&self) -> Vec<PathBuf> {
        let (mut found, mut left) = (Vec::new(), vec![self.0.clone()]);
        while let Some(directory) = left.pop() {
            for entry in fs::read_dir(directory).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    left.push(path);
                } else if path.extension().is_some_and(|extension| extension == "sock") {
                    found.push(path);
                }
            }
        }
        found
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// What `hello` prints, which must end well.
fn hello(arguments: &str, directory: &Directory) -> String {
    let output = run("hello", arguments, directory);
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// N-01, as two programs: over either wire, a Unix socket and TCP.
#[test]
fn hello_prints_what_world_answers() {
    let directory = Directory::new();
    let path = directory.0.join("own.sock");
    for wire in ["native", "node-ipc"] {
        for endpoint in [format!("unix:{}", path.display()), "tcp://127.0.0.1:0".to_owned()] {
            let place = format!("--wire {wire} --endpoint");
            let world = Process::start("world", &format!("{place} {endpoint}"), &directory);
            let line = world.wait_for("world listens at ");
            let endpoint = line.rsplit(' ').next().unwrap();
            for _ in 0..2 {
                assert_eq!(hello(&format!("{place} {endpoint}"), &directory), "hello world!\n");
                world.wait_for("got a message: hello");
            }
            assert_eq!(world.stop(Signal::TERM), Vec::<String>::new());
            assert_eq!(directory.sockets(), Vec::<PathBuf>::new(), "a socket stays behind");
        }
    }
}

#[test]
fn without_an_endpoint_world_is_found_by_its_id() {
    let directory = Directory::new();
    // The place of node-ipc belongs to everybody, so the id is nobody else's.
    let id = format!("world-{:016x}", fastrand::u64(..));
    for (wire, place) in [("native", &directory.0), ("node-ipc", &PathBuf::from("/tmp/app."))] {
        let arguments = format!("--wire {wire} --id {id}");
        let world = Process::start("world", &arguments, &directory);
        let line = world.wait_for("world listens at ");
        assert!(line.contains(&format!("{}", place.display())) && line.contains(&id), "{line}");
        assert_eq!(hello(&arguments, &directory), "hello world!\n");
        world.stop(Signal::INT);
        assert_eq!(directory.sockets(), Vec::<PathBuf>::new(), "a socket stays behind");
        let socket = line.rsplit(' ').next().unwrap().strip_prefix("unix:").unwrap().to_owned();
        assert!(!Path::new(&socket).exists(), "{socket} stays behind");
    }
}

#[test]
fn hello_may_start_before_world() {
    let directory = Directory::new();
    let hello = Process::start("hello", "", &directory);
    let world = Process::start("world", "", &directory);
    hello.wait_for("hello world!");
    world.wait_for("got a message: hello");
    world.stop(Signal::TERM);
}

#[test]
fn hello_says_why_there_is_no_answer() {
    let directory = Directory::new();
    for wire in ["native", "node-ipc"] {
        let path = directory.0.join("nobody.sock");
        let output = run(
            "hello",
            &format!("--wire {wire} --endpoint unix:{} --timeout 0.5", path.display()),
            &directory,
        );
        let errors = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0), "{errors}");
        assert!(errors.starts_with("hello: no answer within 500ms"), "{errors}");
        assert!(errors.contains("nobody.sock"), "{errors}");
    }
    let output = run("hello", "--timeout never", &directory);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let output = run("hello", "--endpoint nowhere", &directory);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
}

#[test]
fn a_second_world_at_the_same_place_says_so() {
    let directory = Directory::new();
    let world = Process::start("world", "", &directory);
    world.wait_for("world listens at ");
    let output = run("world", "", &directory);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(output.stderr.starts_with(b"world: "), "{output:?}");
    world.stop(Signal::TERM);
}

/// I-01: both commands are answered, each in its own way.
#[test]
fn the_tutorial_of_ipcio_runs_in_two_processes() {
    let directory = Directory::new();
    let client = Process::start("ipcio_tutorial", "client --faster 20", &directory);
    let server = Process::start("ipcio_tutorial", "server", &directory);
    for command in ["Other", "Example"] {
        server.wait_for(&format!("server: {command} command handler triggered."));
        server.wait_for("server: Client name: example_client");
        let data = format!("server: Receiving data: {} request data", command.to_lowercase());
        server.wait_for(&data);
    }
    client.wait_for("client: Received example response command with data: example response data");
    client.wait_for("client: Received other response command with data: other response data");
    client.stop(Signal::INT);
    server.stop(Signal::TERM);
    assert_eq!(directory.sockets(), Vec::<PathBuf>::new(), "a socket stays behind");
}

/// I-01
#[test]
fn the_tutorial_of_ipcio_runs_in_one_process_and_ends() {
    let directory = Directory::new();
    let output = run("ipcio_tutorial", "", &directory);
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    let count = |wanted: &str| text.lines().filter(|line| *line == wanted).count();
    let examples = "client: Received example response command with data: example response data";
    let others = "client: Received other response command with data: other response data";
    assert!(count(examples) >= 2 && count(others) >= 2, "{text}");
    assert_eq!(directory.sockets(), Vec::<PathBuf>::new(), "a socket stays behind");
}
