//! The main job as a person runs it: its exit status, its figures, and that it leaves nothing behind.
#![allow(clippy::unwrap_used, reason = "a test may unwrap, its helpers too")]

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _},
    path::{Path, PathBuf},
    process::{Child, ChildStderr, ChildStdout, Command, ExitStatus, Stdio},
    sync::{
        atomic::{AtomicU32, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

use ipc_testkit::process::rounds;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// A place of our own for input and for the program's temporary files; it must be empty of the latter at the end.
struct Place(PathBuf);

impl Place {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("ipc-demo-test-{}-{number}", std::process::id()));
        fs::create_dir_all(path.join("tmp")).unwrap();
        Self(path)
    }

    fn file(&self, name: &str, content: &[u8]) -> PathBuf {
        let path = self.0.join("input").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        path
    }

    /// Some files of every awkward size, one of them in a directory of its own.
    fn tree(&self) -> PathBuf {
        self.file("empty", b"");
        self.file("one", b"1");
        self.file("sub/deep/chunk", &pattern(16 * 1024));
        self.file("sub/more", &pattern(16 * 1024 + 1));
        self.file("large", &pattern(1_000_000));
        self.0.join("input")
    }

    fn start(&self, arguments: &[&str]) -> Running {
        let mut child = Command::new(env!("CARGO_BIN_EXE_ipc-demo"))
            .args(arguments)
            .env("TMPDIR", self.0.join("tmp"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let stderr = child.stderr.take().unwrap();
        Running { child, stdout: Some(stdout), stderr: Some(stderr) }
    }

    /// Runs the program to its end, and sees that it left no file.
    fn run(&self, arguments: &[&str]) -> Ended {
        let ended = self.start(arguments).end();
        self.assert_clean();
        ended
    }

    fn assert_clean(&self) {
        let left: Vec<_> = fs::read_dir(self.0.join("tmp")).unwrap().collect();
        assert!(left.is_empty(), "left behind: {left:?}");
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

struct Running {
    child: Child,
    stdout: Option<BufReader<ChildStdout>>,
    stderr: Option<ChildStderr>,
}

struct Ended {
    status: ExitStatus,
    stdout: String,
    stderr: String,
}

impl Running {
    /// Waits for the end, which is when nobody holds its output any more: not the program, not its children.
    fn end(mut self) -> Ended {
        let (mut stdout, mut stderr) = (self.stdout.take().unwrap(), self.stderr.take().unwrap());
        let (done, finished) = mpsc::channel();
        thread::spawn(move || {
            let mut texts = (String::new(), String::new());
            let errors = thread::spawn(move || {
                stderr.read_to_string(&mut texts.1).unwrap();
                texts.1
            });
            stdout.read_to_string(&mut texts.0).unwrap();
            let _ = done.send((texts.0, errors.join().unwrap()));
        });
        let texts = finished.recv_timeout(WATCHDOG);
        let (stdout, stderr) = texts.expect("the program or a child of it is still there: it hangs");
        let status = self.child.wait().unwrap();
        Ended { status, stdout, stderr }
    }

    /// Reads lines until one contains the text.
    fn read_until(&mut self, text: &str) {
        let mut line = String::new();
        while !line.contains(text) {
            line.clear();
            assert_ne!(self.stdout.as_mut().unwrap().read_line(&mut line).unwrap(), 0, "it ended early");
        }
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Ended {
    fn json(&self) -> Value {
        let last = self.stdout.lines().last().unwrap_or_default();
        serde_json::from_str(last).unwrap_or_else(|error| panic!("{error} in {last:?}\n{}", self.stderr))
    }

    fn assert_clean_run(&self) -> Value {
        let report = self.json();
        assert_eq!(self.status.code(), Some(0), "{}\n{}", self.stdout, self.stderr);
        for key in ["lost", "duplicated", "reordered"] {
            assert_eq!(report[key], 0, "{key} in {report}");
        }
        assert_eq!(report["sha256_ok"], true);
        assert_eq!(report["sent"], report["taken"]);
        report
    }
}

fn pattern(length: usize) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(length as u64);
    std::iter::repeat_with(|| random.u8(..)).take(length).collect()
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn the_default_input_arrives_whole_without_kills() {
    let report = Place::new().run(&["--kills", "0", "--json"]).assert_clean_run();
    assert_eq!(report["kills"], 0);
    assert_eq!(report["passes"], 1);
    assert_eq!(report["redelivered"], 0);
    assert!(report["files"].as_u64().unwrap() > 20, "{report}");
}

#[test]
fn the_default_run_survives_its_kills() {
    let report = Place::new().run(&["--json"]).assert_clean_run();
    assert_eq!(report["kills"], 2);
    assert!(report["reconnects"].as_u64().unwrap() >= 2, "{report}");
    assert!(report["seconds"].as_f64().unwrap() > 0.0);
}

#[test]
fn every_file_of_a_directory_arrives_once_from_each_producer() {
    let place = Place::new();
    let input = place.tree();
    let report = place.run(&["--kills", "0", "--json", "--input", text(&input)]).assert_clean_run();
    assert_eq!(report["files"], 5);
    let bytes = 1 + 16 * 1024 + 16 * 1024 + 1 + 1_000_000;
    assert_eq!(report["bytes"], 2 * bytes);
    assert_eq!(report["sent"], 2 * (1 + 1 + 1 + 2 + 62));
}

#[test]
fn a_directory_survives_kills_over_tcp() {
    let place = Place::new();
    let input = place.tree();
    let arguments = ["--json", "--input", text(&input), "--transport", "tcp", "--kill-within", "200"];
    let report = place.run(&arguments).assert_clean_run();
    assert_eq!(report["kills"], 2);
    assert_eq!(report["transport"], "tcp");
}

#[test]
fn a_single_file_is_an_input() {
    let place = Place::new();
    let file = place.file("name with spaces", b"content");
    let report = place.run(&["--json", "--input", text(&file), "--kill-within", "100"]).assert_clean_run();
    assert_eq!(report["files"], 1);
    assert_eq!(report["kills"], 2);
}

#[test]
fn an_empty_file_is_one_empty_chunk() {
    let place = Place::new();
    let file = place.file("empty", b"");
    let report = place.run(&["--json", "--input", text(&file), "--kills", "0"]).assert_clean_run();
    assert_eq!((report["sent"].as_u64(), report["bytes"].as_u64()), (Some(2), Some(0)));
}

#[test]
fn any_fleet_and_any_capacity_lose_nothing() {
    let place = Place::new();
    let input = place.tree();
    for (producers, capacity, chunk) in [("1", "1", "4096"), ("5", "2", "16384"), ("3", "1000", "100000")] {
        let report = place
            .run(&[
                "--json",
                "--input",
                text(&input),
                "--kills",
                "1",
                "--kill-within",
                "100",
                "--producers",
                producers,
                "--capacity",
                capacity,
                "--chunk",
                chunk,
            ])
            .assert_clean_run();
        assert_eq!(report["kills"], 1);
        assert_eq!(report["producers"].to_string(), producers);
    }
}

#[test]
fn a_missing_input_is_named_with_status_2() {
    let ended = Place::new().run(&["--input", "/no/such/place", "--json"]);
    assert_eq!(ended.status.code(), Some(2));
    assert!(ended.stderr.contains("/no/such/place"), "{}", ended.stderr);
    assert!(ended.stderr.contains("No such file"), "{}", ended.stderr);
    assert!(ended.stdout.is_empty());
}

#[test]
fn a_directory_without_files_is_refused_with_status_2() {
    let place = Place::new();
    let ended = place.run(&["--input", text(&place.0.join("tmp"))]);
    assert_eq!(ended.status.code(), Some(2));
    assert!(ended.stderr.contains("no file"), "{}", ended.stderr);
}

#[test]
fn bad_usage_has_status_2_and_help_explains() {
    let place = Place::new();
    for arguments in [["--kills", "many"], ["--capacity", "0"], ["--no-such-option", "1"]] {
        assert_eq!(place.run(&arguments).status.code(), Some(2), "{arguments:?}");
    }
    let help = place.run(&["--help"]);
    assert_eq!(help.status.code(), Some(0));
    for word in ["--input", "--kills", "--json", "Exit status"] {
        assert!(help.stdout.contains(word), "{word} is missing in {}", help.stdout);
    }
}

#[test]
fn without_a_terminal_events_are_plain_lines() {
    let ended = Place::new().run(&["--kills", "1", "--kill-within", "50"]);
    assert_eq!(ended.status.code(), Some(0));
    assert!(!ended.stdout.contains('\x1b'), "{:?}", ended.stdout);
    for word in ["killed, 1 of 1", "back as process", "lost 0", "OK: nothing was lost"] {
        assert!(ended.stdout.contains(word), "{word} is missing in {}", ended.stdout);
    }
}

#[test]
fn a_file_that_changes_under_the_run_fails_the_check_with_status_1() {
    let place = Place::new();
    let file = place.file("changing", &pattern(100_000));
    let mut demo = place.start(&["--json", "--input", text(&file), "--kills", "12", "--kill-within", "200"]);
    demo.read_until("killed, 1 of 12");
    let mut content = pattern(100_000);
    content[50_000] ^= 1;
    fs::write(&file, content).unwrap();
    let ended = demo.end();
    assert_eq!(ended.status.code(), Some(1), "{}", ended.stderr);
    let report = ended.json();
    assert_eq!(report["sha256_ok"], false);
    assert_eq!(report["ok"], false);
    place.assert_clean();
}

#[test]
fn a_killed_launcher_leaves_no_child_behind() {
    let place = Place::new();
    let mut demo = place.start(&["--kills", "1000000", "--kill-within", "50"]);
    demo.read_until("killed, 2 of");
    demo.signal(Signal::KILL);
    // The children share its standard error, so its end is theirs.
    assert_eq!(demo.end().status.code(), None);
}

#[test]
fn an_interrupt_ends_the_fleet_and_cleans_up() {
    let place = Place::new();
    let mut demo = place.start(&["--kills", "1000000", "--kill-within", "50"]);
    demo.read_until("killed, 2 of");
    demo.signal(Signal::INT);
    let ended = demo.end();
    assert_eq!(ended.status.code(), Some(130), "{}", ended.stderr);
    place.assert_clean();
}

/// 5 runs; 200 with `IPC_STRESS=full`. The seed of a run is also what `--seed` takes.
#[test]
fn sigkill_of_the_consumer_at_random_instants_loses_nothing() {
    let place = Place::new();
    let input = place.tree();
    let mut sums = [("kills", 0), ("redelivered", 0), ("torn", 0), ("reconnects", 0), ("sent", 0)];
    let mut runs = 0;
    for run in rounds(5, 200) {
        let seed = run.to_string();
        // By turns the files of the test and this repository, with two kills and three.
        let mut arguments = vec!["--json", "--seed", &seed, "--kill-within", "250"];
        arguments.extend(["--kills", if run % 3 == 0 { "3" } else { "2" }]);
        if run % 2 == 0 {
            arguments.extend(["--input", text(&input)]);
        }
        let report = place.run(&arguments).assert_clean_run();
        sums.iter_mut().for_each(|(key, sum)| *sum += report[*key].as_u64().unwrap());
        runs += 1;
    }
    println!("{runs} runs: {sums:?}, nothing lost, duplicated or reordered");
}

/// Far above what any run takes, so that it speaks only of a hang.
const WATCHDOG: Duration = Duration::from_secs(120);
