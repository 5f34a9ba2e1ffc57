//! The examples that are one short program each run to their end and say what they claim.
#![allow(clippy::unwrap_used, reason = "a test may unwrap, its helpers too")]

use std::{
    path::Path,
    process::{Command, Stdio},
};

/// What an example prints; it must end well.
fn run(name: &str) -> Vec<String> {
    let test = std::env::current_exe().unwrap();
    // Where cargo put the example, beside the directory of this test.
    let path = test.parent().and_then(Path::parent).unwrap().join("examples").join(name);
    assert!(path.is_file(), "{} is missing: `cargo test -p ipc-examples` builds it", path.display());
    let output = Command::new(path).stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

#[test]
fn ports_talk_over_tls_and_a_stranger_is_told_why_not() {
    let lines = run("tls_ports");
    assert_eq!(lines[..3], ["store: 20.5 degrees", "store: 21 degrees", "store: 21.5 degrees"]);
    assert_eq!(lines[3], "stranger: the peer could not be dialled");
    assert!(lines[4].starts_with("stranger: no TLS connection with tls://127.0.0.1:"), "{lines:?}");
    assert!(lines[5].contains("leads to no trusted root"), "{lines:?}");
}

/// Nothing is asserted of datagrams that may be lost.
#[test]
fn best_effort_keeps_the_newest_and_gives_up_the_others() {
    let lines = run("best_effort");
    assert!(lines.contains(&"camera: 10 accepted, 3 sent, 7 given up".to_owned()), "{lines:?}");
    let old = lines.iter().find(|line| line.starts_with("screen: picture") && line.contains("picture 7"));
    assert_eq!(old, None, "{lines:?}");
    assert!(lines.last().unwrap().starts_with("screen: "), "{lines:?}");
}

#[test]
fn a_broadcast_reaches_everybody_and_an_event_the_one_it_is_for() {
    let lines = run("broadcast");
    let expected = [
        "town: told 3 clients",
        "ann: news, the bridge is open",
        "bob: news, the bridge is open",
        "cyd: news, the bridge is open",
        "bob: a letter, your parcel is here",
        "bob: told 2 others",
        "ann: news, bob has a parcel",
        "cyd: news, bob has a parcel",
    ];
    assert_eq!(lines, expected);
}

#[test]
fn events_over_tls_are_for_those_with_papers_of_the_same_authority() {
    let lines = run("tls_mutual");
    assert_eq!(lines[0], "friend: hello world!");
    let told = |who: &str| lines.iter().filter(|line| line.starts_with(who)).cloned().collect::<Vec<_>>();
    let (stranger, doubter) = (told("stranger: ").join("\n"), told("doubter: ").join("\n"));
    assert!(stranger.contains("the peer refused: UnknownCA"), "{stranger}");
    assert!(doubter.contains("leads to no trusted root"), "{doubter}");
}
