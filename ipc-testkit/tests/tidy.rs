//! The absences that the architecture promises, written down and checked: each test is one invariant.
//!
//! Plain text search over the sources: it knows no Rust beyond comments, strings and doc comments, which is enough and
//! fails loudly when it is not.

#![allow(clippy::unwrap_used, reason = "a test may unwrap, its helpers too")]

#[path = "tidy/source.rs"]
mod source;

use std::{collections::BTreeSet, fs};

use source::{Source, dependencies, files, ids, is_name, manifests, promises, read, root, sources};

/// Behaviours of the sources that this project claims to show, each by a test that names it in its doc comment, or by
/// an example in the documentation that does.
#[rustfmt::skip]
const CLAIMED: &[&str] = &[
    "I-01", "I-02", "I-03", "I-04", "I-05", "I-06", "I-07", "I-08", "I-09", "I-10", "I-11", "I-12", "I-13",
    "I-14", "I-15", "I-16", "I-17", "I-18", "I-19", "I-20", "N-01", "N-02", "N-03", "N-04", "N-05", "N-06",
    "N-07", "N-08", "N-09", "N-10", "N-11", "N-12", "N-13", "N-14", "N-15", "N-16", "N-17", "N-18", "N-19",
    "N-20", "N-21", "N-22", "N-23", "N-24", "N-25", "N-26", "N-27", "N-28", "N-29", "N-30", "N-31", "N-32",
    "N-33", "N-34", "N-35", "N-36", "N-37", "N-38", "N-39", "N-40", "P-01", "P-02", "P-03", "P-04", "P-05",
    "P-06", "P-07", "P-08", "P-09", "P-10", "P-11", "P-12", "P-13", "P-14", "P-15", "P-16", "P-17", "P-18",
    "P-19", "P-20", "P-21", "P-22", "P-23", "P-24", "P-25", "P-26", "P-27", "P-28", "P-29", "P-30", "P-31",
    "P-32", "W-01", "W-02", "W-04", "W-05", "W-09", "W-10", "X-01", "X-02", "X-03", "X-04", "X-05", "X-06",
    "X-07", "X-08", "X-09", "X-10", "X-11", "X-12", "X-13", "X-14", "X-15", "X-16", "X-17", "X-18", "X-19",
    "X-20", "X-21", "X-22", "X-23", "X-24", "X-25", "X-27", "X-28", "X-29", "X-30", "X-31", "X-33", "X-34",
    "X-36",
];

/// Which of the workspace's crates each crate may build on; whatever is not named here may build on all.
const EDGES: &[(&str, &[&str])] = &[
    ("ipc-transport", &[]),
    ("ipc-pipeline", &["ipc-transport"]),
    ("ipc-ports", &["ipc-pipeline", "ipc-transport"]),
    ("ipc-channel", &["ipc-pipeline", "ipc-transport"]),
    ("ipc-testkit", &["ipc-pipeline", "ipc-transport"]),
];

/// Where numbered contracts stand, and the suites that check them. That of codecs stands at the head of its suite, as
/// links to its checks, so that the documentation fails with it.
const CONTRACTS: &[(&str, &str)] = &[
    ("ipc-transport/src/transport.rs", "ipc-testkit/src/conformance/transport"),
    ("ipc-transport/src/datagram.rs", "ipc-testkit/src/conformance/datagram"),
    ("ipc-transport/src/naming.rs", "ipc-testkit/src/conformance/naming"),
];

/// What a suite has beside its checks.
const WHOLE_SUITE: &[&str] = &["broken_promises", "run_all"];

/// The only files that may contain unsafe code.
const UNSAFE: &[&str] = &["ipc-pipeline/src/ring.rs"];

/// The in-process queue: no IO, no runtime, atomics and cells through one façade.
const QUEUE_ROOMS: &[&str] = &["merge", "queue", "ring", "signal"];

/// The one place that names atomics and cells.
const FACADE: &str = "ipc-pipeline/src/sync.rs";

#[test]
fn dependencies_point_down() {
    for (name, manifest) in manifests() {
        let Some((_, allowed)) = EDGES.iter().find(|(of, _)| *of == name) else { continue };
        for (section, dependency, _) in dependencies(&manifest) {
            if !section.contains("dev-dependencies") && is_ours(&dependency) {
                assert!(allowed.contains(&dependency.as_str()), "{name} must not build on {dependency}");
            }
        }
    }
}

#[test]
fn dev_dependencies_on_our_own_crates_have_a_path_and_no_version() {
    let root = read("Cargo.toml");
    for (of, (section, dependency, value)) in manifests()
        .into_iter()
        .flat_map(|(of, text)| dependencies(&text).into_iter().map(move |entry| (of.clone(), entry)))
        .chain(dependencies(&root).into_iter().map(|entry| ("the workspace".to_owned(), entry)))
    {
        let watched = section.contains("dev-dependencies") || section == "workspace.dependencies";
        if watched && is_ours(&dependency) {
            let inherited = value.contains("workspace = true");
            assert!(inherited || value.contains("path ="), "{of}: {dependency} is not taken by its path");
            assert!(!value.contains("version"), "{of}: a version of {dependency} would block packaging");
        }
    }
}

#[test]
fn the_testkit_is_used_from_tests_only() {
    let rooms = sources().filter(|source| source.is_in("src") && !source.is_of("ipc-testkit"));
    assert_absent(rooms, &["ipc_testkit"], "the testkit is for tests");
}

#[test]
fn the_foreign_ipc_channel_stays_out_of_the_lock_file() {
    for package in read("Cargo.lock").split("[[package]]") {
        let foreign = package.contains("name = \"ipc-channel\"") && package.contains("source =");
        assert!(!foreign, "the registry's ipc-channel is another project");
    }
}

#[test]
fn every_file_says_first_what_it_is_for() {
    let silent = sources().filter(|source| !source.text.starts_with("//! ")).map(|source| source.path);
    assert_none(silent, "the first line of a file is its `//!`");
}

#[test]
fn no_queue_is_unbounded() {
    let forbidden = ["unbounded(", "unbounded::<", "unbounded_channel", "UnboundedSender", "mpsc::channel()"];
    assert_absent(sources().filter(|source| source.is_in("src")), &forbidden, "every queue has a bound");
}

#[test]
fn every_public_async_function_tells_its_cancel_safety() {
    let mut silent = Vec::new();
    for source in sources().filter(|source| source.is_in("src")) {
        for function in source.functions() {
            let promised = function.head.starts_with("pub async fn ")
                || (function.head.starts_with("async fn ") && function.head.ends_with(';'));
            if promised && !function.docs.contains("# Cancel safety") {
                silent.push(format!("{}:{}: {}", source.path, function.line, function.head));
            }
        }
    }
    assert_none(silent, "each has a `# Cancel safety` paragraph in its doc comment");
}

#[test]
fn every_promise_of_a_contract_has_a_check_of_its_name() {
    for (contract, suite) in CONTRACTS {
        let (numbers, promises): (Vec<usize>, Vec<String>) = promises(&read(contract)).into_iter().unzip();
        assert!(!promises.is_empty(), "{contract} has no numbered contract");
        assert_eq!(numbers, (1..=numbers.len()).collect::<Vec<_>>(), "the numbers of {contract}");
        let (mut checks, mut listed) = (BTreeSet::new(), Vec::new());
        for source in sources().filter(|source| source.path.starts_with(suite)) {
            checks.extend(source.functions().into_iter().filter_map(|function| {
                let name = function.head.strip_prefix("pub async fn ")?.split('(').next()?;
                (!WHOLE_SUITE.contains(&name)).then(|| name.to_owned())
            }));
            let lines = source.text.lines().map(|line| line.trim().to_owned());
            listed.extend(lines.filter(|line| promises.contains(line)));
        }
        assert_eq!(
            promises.iter().collect::<BTreeSet<_>>(),
            checks.iter().collect(),
            "the promises of {contract} and the checks in {suite}"
        );
        // A failing check says the number of its place in this list.
        assert_eq!(promises, listed, "the promises of {contract} and the list in the macro of {suite}");
    }
}

#[test]
fn unsafe_code_stands_in_the_ring_alone() {
    let rooms = || sources().filter(|source| source.is_in("src") && !UNSAFE.contains(&source.path.as_str()));
    let forbidden = ["unsafe {", "unsafe fn", "unsafe impl", "unsafe trait", "unsafe extern", "unsafe("];
    assert_absent(rooms(), &forbidden, "use a crate with a safe interface");
    assert_absent(rooms(), &["allow(unsafe_code", "expect(unsafe_code"], "use a crate with a safe interface");
}

#[test]
fn the_environment_is_never_changed() {
    assert_absent(sources(), &["set_var(", "remove_var("], "other threads may be reading the environment");
}

#[test]
fn protocol_machines_know_no_clock_no_socket_and_no_runtime() {
    let rooms =
        ["ipc-pipeline/src/protocol", "ipc-channel/src/events/node_ipc", "ipc-channel/src/events/message"];
    let machines = sources().filter(|source| rooms.iter().any(|room| source.path.starts_with(room)));
    let io = ["tokio", "std::net", "std::os", "std::fs", "spawn", "thread::", "async fn", ".await"];
    let time = ["Instant::now", "SystemTime"];
    let forbidden = [&io[..], &time[..]].concat();
    assert_absent(machines, &forbidden, "a machine gets its time and its bytes as arguments");
}

#[test]
fn the_queue_performs_no_io_and_names_no_runtime() {
    let rooms = sources().filter(|source| is_queue_room(source) || source.path == FACADE);
    let forbidden = ["tokio", "std::net", "std::fs", "std::os", "std::io", "ipc_transport"];
    assert_absent(rooms, &forbidden, "the queue works under any runtime and without one");
}

#[test]
fn atomics_and_cells_of_the_queue_come_through_one_facade() {
    let forbidden = ["std::sync::atomic", "core::sync::atomic", "std::cell", "core::cell", "loom::"];
    assert_absent(
        sources().filter(is_queue_room),
        &forbidden,
        "loom can check only what comes through crate::sync",
    );
}

#[test]
fn no_test_is_ignored() {
    assert_absent(sources(), &["#[ignore", "ignore ="], "a test that does not run shows nothing");
}

#[test]
fn no_test_asserts_that_something_was_quick() {
    let tests = sources().filter(|source| source.is_in("tests"));
    assert_absent(tests, &["elapsed() <"], "machines are slow; await the event under a watchdog");
}

/// Under paused time a sleep is an event like others; elsewhere it hopes that something has happened meanwhile.
#[test]
fn no_test_sleeps_in_real_time_without_a_reason() {
    let sleeps =
        sources().filter(|source| source.is_in("tests")).flat_map(|source| source.unexplained_sleeps());
    assert_none(sleeps, "await the event, pause the time, or say why: `// Sleeps …` on the line or above it");
}

#[test]
fn no_file_names_a_place_of_one_machine() {
    let roots = [["/wo", "rk/"], ["/tm", "p/h/"], ["/tm", "p/target"], ["/ro", "ot/"], ["/ho", "me/"]];
    let places = roots.map(|parts| parts.concat());
    let mut found = Vec::new();
    for path in files(&root()) {
        let Ok(text) = fs::read_to_string(&path) else { continue };
        for (index, line) in text.lines().enumerate() {
            if places.iter().any(|place| line.contains(place.as_str())) {
                found.push(format!("{}:{}: {}", path.display(), index + 1, line.trim()));
            }
        }
    }
    assert_none(found, "files are for every machine");
}

/// the oldest Rust is held by a lint, crates are built without their default features, and the README's example
/// is a doctest like those of the crates.
#[test]
fn the_oldest_rust_the_features_and_the_readme_are_held_by_the_gate() {
    let read = |path: &str| fs::read_to_string(root().join(path)).unwrap();
    assert!(read("Cargo.toml").contains("incompatible_msrv = \"warn\""));
    assert!(read("Cargo.toml").contains("rust-version = "));
    let gate = read(".ci/run");
    for line in
        ["clippy --workspace --all-targets --all-features", "--no-default-features", "cargo test --workspace"]
    {
        assert!(gate.contains(line), "the gate runs {line}");
    }
    assert!(read("examples/src/lib.rs").contains("README.md"), "the README's example is compiled and run");
}

#[test]
fn every_claimed_behaviour_is_named_by_a_test() {
    let shown = shown();
    assert_none(CLAIMED.iter().filter(|id| !shown.contains(**id)), "a test names each in its doc comment");
}

/// N-40: each of node-ipc's 195 test titles has a row, with ids that tests of ours show, or a reason why there are none.
#[test]
fn every_test_of_node_ipc_has_its_counterpart_or_a_reason() {
    let shown = shown();
    let page = read("docs/node-ipc-tests.md");
    let rows: Vec<Vec<&str>> = page
        .lines()
        .filter(|line| line.starts_with("| ") && line[2..].starts_with(|first: char| first.is_ascii_digit()))
        .map(|line| line.split('|').map(str::trim).collect())
        .collect();
    assert_eq!(rows.len(), 195);
    let mut missing = Vec::new();
    for (index, row) in rows.iter().enumerate() {
        let [_, number, title, by, why, _] = row[..] else { panic!("{row:?} has other columns") };
        assert_eq!(number, (index + 1).to_string());
        assert!(!title.is_empty() && !why.is_empty(), "row {number} has a title and a reason");
        if by != "not applicable" {
            let named = ids(by);
            assert!(!named.is_empty(), "row {number} names what shows it");
            missing.extend(
                named.into_iter().filter(|id| !shown.contains(id)).map(|id| format!("{number}: {id}")),
            );
        }
    }
    assert_none(missing, "a test names each of these in its doc comment");
}

/// The behaviours that doc comments of tests and examples name.
fn shown() -> BTreeSet<String> {
    let mut shown = BTreeSet::new();
    for source in sources() {
        for function in source.functions().into_iter().filter(|function| function.is_test) {
            shown.extend(ids(&function.docs));
        }
        shown.extend(source.examples().iter().flat_map(|docs| ids(docs)));
    }
    shown
}

/// Each test that the document names, words of three parts and more, is one of the file that is named before it.
#[test]
fn every_test_that_the_security_document_names_exists() {
    let text = read("SECURITY.md");
    let (mut file, mut found, mut missing) = (None, 0, Vec::new());
    for quoted in text.split('`').skip(1).step_by(2) {
        if quoted.ends_with(".rs") {
            file = sources().find(|source| source.path == quoted);
            assert!(file.is_some(), "there is no {quoted}");
        } else if is_name(quoted) && quoted.matches('_').count() >= 2 {
            let tests = file.iter().flat_map(Source::functions).filter(|function| function.is_test);
            let is_it = |head: &str| {
                head.split_once("fn ").is_some_and(|(_, name)| name.starts_with(&format!("{quoted}(")))
            };
            match tests.into_iter().any(|function| is_it(&function.head)) {
                true => found += 1,
                false => missing.push(quoted.to_owned()),
            }
        }
    }
    assert_none(missing, "the document names a test that is not where it says");
    assert!(found > 30, "the document names tests");
}

/// Fails with every finding at once.
fn assert_none(findings: impl IntoIterator<Item = impl ToString>, rule: &str) {
    let findings: Vec<String> = findings.into_iter().map(|finding| finding.to_string()).collect();
    assert!(findings.is_empty(), "{rule}; found:\n{}", findings.join("\n"));
}

fn assert_absent(sources: impl Iterator<Item = Source>, forbidden: &[&str], rule: &str) {
    assert_none(sources.flat_map(|source| source.places_of(forbidden)), rule);
}

fn is_queue_room(source: &Source) -> bool {
    let Some(room) = source.path.strip_prefix("ipc-pipeline/src/") else { return false };
    QUEUE_ROOMS.contains(&room.split(['/', '.']).next().unwrap_or_default())
}

fn is_ours(dependency: &str) -> bool {
    EDGES.iter().any(|(name, _)| *name == dependency) || dependency == "ipc-examples"
}
