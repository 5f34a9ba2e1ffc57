//! The examples `udp_world` and `udp_hello`, as two terminals run them.
#![allow(clippy::unwrap_used, reason = "a test may unwrap, its helpers too")]

use std::{
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};

/// Far above what a run takes, so that it speaks only of a hang.
const WATCHDOG: Duration = Duration::from_secs(60);

/// Where cargo put an example, beside the directory of this test.
fn example(name: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let path = test.parent().and_then(Path::parent).unwrap().join("examples").join(name);
    assert!(path.is_file(), "{} is missing: `cargo test -p ipc-examples` builds it", path.display());
    path
}

/// A running `udp_world`, killed when dropped.
struct World {
    child: Child,
    lines: mpsc::Receiver<String>,
}

impl World {
    fn start(wire: &str) -> Self {
        let mut child = Command::new(example("udp_world"))
            .args(["--port", "0", "--wire", wire])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let stdout = child.stdout.take().unwrap();
        let (sender, lines) = mpsc::sync_channel(1_000);
        thread::spawn(move || {
            let lines = BufReader::new(stdout).lines().map_while(Result::ok);
            lines.map(|line| sender.send(line)).take_while(Result::is_ok).for_each(drop);
        });
        Self { child, lines }
    }

    fn line(&self) -> String {
        self.lines.recv_timeout(WATCHDOG).expect("it hangs or ended early")
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn hello_prints_what_the_world_answers_over_udp_on_either_wire() {
    for wire in ["native", "node-ipc"] {
        let mut world = World::start(wire);
        let line = world.line();
        let port = line.strip_prefix("world hears at udp://127.0.0.1:").unwrap().to_owned();
        let output = Command::new(example("udp_hello"))
            .args(["--port", "0", "--to", &port, "--wire", wire])
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        let answer = String::from_utf8(output.stdout).unwrap();
        assert_eq!(answer, "got a message from world: Hello world!\n");
        assert!(world.line().starts_with("got a message from hello at 127.0.0.1:"));
        kill_process(Pid::from_child(&world.child), Signal::TERM).unwrap();
        assert!(world.child.wait().unwrap().success(), "a signal ends it well");
    }
}

#[test]
fn hello_says_so_when_nobody_answers() {
    // An end that hears and says nothing: this socket.
    let silent = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port().to_string();
    let output = Command::new(example("udp_hello"))
        .args(["--port", "0", "--to", &port, "--timeout", "1"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "udp_hello: no answer within 1 s\n");
}
