//! The main job on a terminal: a progress line for each producer, kills and recoveries as they happen.
#![allow(clippy::unwrap_used, reason = "a test may unwrap, its helpers too")]

use std::{
    fs::File,
    io::Read as _,
    process::{Child, Command, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

use ipc_testkit::process::TempDir;
use rustix::{
    fd::OwnedFd,
    fs::{Mode, OFlags, open},
    io::{Errno, FdFlags, fcntl_setfd},
    process::{Pid, Signal, kill_process},
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
    termios::{Winsize, tcsetwinsize},
};

/// Far above what a run takes, so that it speaks only of a hang.
const WATCHDOG: Duration = Duration::from_secs(120);

#[test]
fn a_terminal_shows_progress_kills_and_recoveries_as_they_happen() {
    let (controller, terminal) = match pseudo_terminal() {
        Ok(pair) => pair,
        Err(error) => {
            println!("skipped: the system gives no pseudo-terminal: {error}");
            return;
        }
    };
    let directory = TempDir::new().unwrap();
    let mut demo = Demo::start(directory, terminal);
    let mut screen = Screen::of(controller);
    // Nothing of this is at the end only: without the interrupt it would go on and on.
    for producer in ["producer 1", "producer 2"] {
        screen.wait_for_line(&[producer, "pass ", "/s  buffer "]);
    }
    screen.wait_for_line(&["consumer", "process ", "reports"]);
    screen.wait_for_line(&["killed, 1 of 1000000"]);
    screen.wait_for_line(&["back as process"]);
    screen.wait_for_line(&["consumer", "life 2", "reports"]);
    assert!(screen.text().contains('\x1b'), "the lines are drawn in place");
    kill_process(Pid::from_child(&demo.child), Signal::INT).unwrap();
    screen.wait_for_end();
    assert_eq!(demo.child.wait().unwrap().code(), Some(130), "{}", screen.text());
}

/// A terminal of 160 columns: the side that a person looks at, and the side of the program.
fn pseudo_terminal() -> Result<(OwnedFd, OwnedFd), Errno> {
    let controller = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY)?;
    fcntl_setfd(&controller, FdFlags::CLOEXEC)?;
    grantpt(&controller)?;
    unlockpt(&controller)?;
    let name = ptsname(&controller, Vec::new())?;
    let terminal = open(name.as_c_str(), OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC, Mode::empty())?;
    tcsetwinsize(&terminal, Winsize { ws_row: 40, ws_col: 160, ws_xpixel: 0, ws_ypixel: 0 })?;
    Ok((controller, terminal))
}

/// The running program, killed when dropped, before its directory goes.
struct Demo {
    child: Child,
    _directory: TempDir,
}

impl Demo {
    fn start(directory: TempDir, terminal: OwnedFd) -> Self {
        let child = Command::new(env!("CARGO_BIN_EXE_ipc-demo"))
            .args(["--kills", "1000000", "--kill-within", "50"])
            .env("TMPDIR", directory.path())
            .env("TERM", "xterm-256color")
            .stdin(Stdio::null())
            .stdout(terminal)
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self { child, _directory: directory }
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Everything that was ever drawn.
struct Screen {
    drawn: Vec<u8>,
    more: mpsc::Receiver<Vec<u8>>,
}

impl Screen {
    fn of(controller: OwnedFd) -> Self {
        let (sender, more) = mpsc::sync_channel(100);
        thread::spawn(move || {
            let (mut controller, mut buffer) = (File::from(controller), [0; 4096]);
            // A terminal that nobody holds any more is an error to read from on Linux, and at its end elsewhere.
            while let Ok(count @ 1..) = controller.read(&mut buffer) {
                if sender.send(buffer[..count].to_vec()).is_err() {
                    break;
                }
            }
        });
        Self { drawn: Vec::new(), more }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.drawn).into_owned()
    }

    /// Reads on until a line with all these parts has been drawn.
    fn wait_for_line(&mut self, parts: &[&str]) {
        let has_all = |line: &str| parts.iter().all(|part| line.contains(part));
        while !self.text().split(['\n', '\r']).any(has_all) {
            let Ok(more) = self.more.recv_timeout(WATCHDOG) else {
                panic!("no line with {parts:?} in {}", self.text());
            };
            self.drawn.extend(more);
        }
    }

    fn wait_for_end(&mut self) {
        loop {
            match self.more.recv_timeout(WATCHDOG) {
                Ok(more) => self.drawn.extend(more),
                Err(mpsc::RecvTimeoutError::Disconnected) => return,
                Err(mpsc::RecvTimeoutError::Timeout) => panic!("it hangs after {}", self.text()),
            }
        }
    }
}
