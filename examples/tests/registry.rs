//! The registry example: what is dialled is chosen by the scheme, and one that nobody registered is an error.
#![allow(clippy::unwrap_used, reason = "a test may unwrap, its helpers too")]

use std::{
    path::Path,
    process::{Command, Stdio},
};

struct Outcome {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

fn run(line: &str) -> Outcome {
    let test = std::env::current_exe().unwrap();
    // Where cargo put the example, beside the directory of this test.
    let path = test.parent().and_then(Path::parent).unwrap().join("examples/registry");
    assert!(path.is_file(), "{} is missing: `cargo test -p ipc-examples` builds it", path.display());
    let output = Command::new(path).args(line.split_whitespace()).stdin(Stdio::null()).output().unwrap();
    Outcome {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

#[test]
fn a_scheme_that_was_added_is_dialled_like_the_others() {
    let outcome = run("--scheme counted tcp://127.0.0.1:0 counted:127.0.0.1:0 counted:127.0.0.1:0");
    assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
    let lines = [
        "schemes: counted, tcp, unix",
        "tcp://127.0.0.1:0: hello over tcp",
        "counted:127.0.0.1:0: hello over counted",
        "counted:127.0.0.1:0: hello over counted",
        "counted: dialled 2 times",
    ];
    assert_eq!(outcome.stdout.lines().collect::<Vec<_>>(), lines);
}

#[test]
fn a_scheme_that_nobody_added_is_an_error_and_the_others_go_on() {
    let outcome = run("counted:127.0.0.1:0 tcp://127.0.0.1:0");
    assert_eq!(outcome.code, Some(1));
    let message = "no transport for scheme \"counted\"; register one with Transports::with";
    assert!(outcome.stderr.contains(message), "{}", outcome.stderr);
    assert!(outcome.stdout.contains("hello over tcp"), "{}", outcome.stdout);
}

#[test]
fn an_address_that_the_transport_does_not_understand_is_an_error() {
    let outcome = run("--scheme counted counted:nowhere");
    assert_eq!(outcome.code, Some(1));
    assert!(outcome.stderr.starts_with("counted:nowhere: "), "{}", outcome.stderr);
}

#[test]
fn what_is_no_endpoint_is_bad_usage() {
    for line in ["", "no-scheme", "tcp://no-port"] {
        assert_eq!(run(line).code, Some(2), "{line}");
    }
}
