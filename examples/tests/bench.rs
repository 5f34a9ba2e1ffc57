//! The benchmark as a program: every face runs every workload that fits it and prints the agreed fields.
#![allow(clippy::unwrap_used, reason = "a test may unwrap, its helpers too")]

use std::process::{Command, Output};

use serde_json::Value;

/// Every field that a line must have.
const FIELDS: [&str; 11] = [
    "face",
    "transport",
    "work",
    "size",
    "capacity",
    "msgs",
    "secs",
    "rate",
    "gib_per_s",
    "p50_ns",
    "p99_ns",
];

fn run(line: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_ipc-bench")).args(line.split_whitespace()).output().unwrap()
}

fn measure(line: &str) -> Value {
    let output = run(line);
    let text = String::from_utf8(output.stdout).unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{line}: {errors}");
    assert_eq!(text.lines().count(), 1, "{line}: {text}");
    let figures: Value = serde_json::from_str(&text).unwrap();
    for field in FIELDS.iter().chain(&["cpu_s"]) {
        assert!(figures.get(field).is_some(), "{line}: {field} is missing in {text}");
    }
    for field in ["secs", "rate", "gib_per_s", "cpu_s"] {
        assert!(figures[field].as_f64().unwrap() >= 0.0, "{line}: {text}");
    }
    figures
}

#[test]
fn every_face_between_processes_runs_every_workload() {
    for face in ["raw", "feed", "pipeline", "port"] {
        for (work, count) in [("W1", 50), ("W2", 2_000), ("W3", 20_000), ("W4a", 100), ("W4b", 20)] {
            for transport in ["unix", "tcp", "tls"] {
                let line = format!("--face {face} --work {work} --count {count} --transport {transport}");
                let figures = measure(&line);
                assert_eq!(figures["face"], face);
                assert_eq!(figures["work"], work);
                assert_eq!(figures["transport"], transport);
                assert_eq!(figures["msgs"], count);
                assert_eq!(figures["p50_ns"].is_u64(), work == "W1", "{figures}");
                assert_eq!(figures["p99_ns"].is_u64(), work == "W1", "{figures}");
                assert!(figures["lost"].is_null(), "{figures}");
            }
        }
    }
}

#[test]
fn the_pipes_of_the_peer_carry_every_face() {
    for face in ["raw", "feed", "pipeline", "port"] {
        for (work, count) in [("W1", 50), ("W2", 2_000), ("W3", 20_000), ("W4a", 100), ("W4b", 20)] {
            // Links need a connection each way for round trips, and a process has one.
            if matches!(face, "pipeline" | "port") && matches!(work, "W1" | "W2") {
                continue;
            }
            let figures =
                measure(&format!("--face {face} --work {work} --count {count} --transport stdio --batch 64"));
            assert_eq!(figures["transport"], "stdio");
            assert_eq!(figures["msgs"], count);
        }
    }
}

#[test]
fn datagrams_that_do_not_arrive_are_counted() {
    for face in ["raw", "best-effort"] {
        for size in [8, 64, 1_200, 65_467] {
            for (work, count) in [("W1", 50_u64), ("W3", 20_000)] {
                let plan =
                    format!("--face {face} --work {work} --count {count} --transport udp --size {size}");
                let figures = measure(&plan);
                assert_eq!(figures["transport"], "udp");
                assert_eq!(figures["msgs"], count);
                assert_eq!(figures["p50_ns"].is_u64(), work == "W1", "{figures}");
                let lost = figures["lost"].as_u64().unwrap();
                assert!(work == "W1" || lost <= count, "{figures}");
            }
        }
    }
}

#[test]
fn events_are_measured_on_either_wire() {
    for wire in ["native", "node-ipc"] {
        for (work, count) in [("W1", 50), ("W2", 2_000), ("W3", 20_000)] {
            for transport in ["unix", "tcp", "tls"] {
                let line = format!(
                    "--face events --wire {wire} --work {work} --count {count} --transport {transport}"
                );
                let figures = measure(&line);
                assert_eq!(figures["wire"], wire);
                assert_eq!(figures["work"], work);
                assert_eq!(figures["transport"], transport);
                assert_eq!(figures["msgs"], count);
                assert_eq!(figures["p50_ns"].is_u64(), work == "W1", "{figures}");
            }
        }
        measure(&format!("--face events --wire {wire} --work W2 --count 500 --runtime multi --capacity 64"));
        measure(&format!("--face events --wire {wire} --work W3 --count 500 --runtime multi --capacity 1"));
    }
}

#[test]
fn a_stalled_client_in_a_crowd_is_set_against_a_calm_one() {
    for wire in ["native", "node-ipc"] {
        let figures = measure(&format!(
            "--face events --wire {wire} --work crowd --clients 40 --count 3000 --capacity 16"
        ));
        let crowd = &figures["crowd"];
        assert_eq!(crowd["clients"], 40);
        for field in ["calm_p50_ns", "calm_p99_ns", "p50_ratio", "p99_ratio"] {
            assert!(crowd[field].as_f64().unwrap() > 0.0, "{figures}");
        }
        // Without acks it counts as gone what the socket has room for.
        assert!(wire == "node-ipc" || crowd["dropped"].as_u64().unwrap() > 0, "{figures}");
    }
}

#[test]
fn one_by_one_and_batched_take_the_same_values() {
    for face in ["raw", "feed", "pipeline", "port"] {
        for work in ["W1", "W2", "W3"] {
            for batch in [1, 7, 500] {
                measure(&format!("--face {face} --work {work} --count 3000 --batch {batch}"));
            }
        }
    }
}

#[test]
fn sizes_capacities_and_runtimes_are_free_to_choose() {
    for face in ["raw", "feed", "pipeline", "port"] {
        for rest in [
            "--work W1 --size 1 --count 20",
            "--work W2 --size 1000 --count 500 --runtime multi",
            "--work W3 --size 100 --count 500 --capacity 1 --batch 64",
            "--work W3 --size 40000 --count 200 --capacity 3",
        ] {
            measure(&format!("--face {face} {rest}"));
        }
    }
}

#[test]
fn both_processes_can_share_a_core() {
    for face in ["raw", "port"] {
        let figures = measure(&format!("--face {face} --work W1 --count 100 --pin same"));
        assert_eq!(figures["pin"], "same");
    }
}

#[test]
fn the_queue_is_measured_inside_one_process() {
    for face in ["queue", "tokio-mpsc", "async-channel", "kanal"] {
        for (work, batch, runtime) in [("M1", 1, "current"), ("M4", 1, "multi"), ("M1", 64, "multi")] {
            let rest = format!("--work {work} --count 20001 --batch {batch} --runtime {runtime}");
            let figures = measure(&format!("--face {face} {rest}"));
            assert_eq!(figures["msgs"], 20_001);
            assert!(figures["transport"].is_null());
        }
    }
}

#[test]
fn bad_usage_has_status_2() {
    for line in [
        "",
        "--face raw",
        "--face raw --work M1",
        "--face queue --work W1",
        "--face raw --work W1 --size 0",
        "--face raw --work W2 --transport udp",
        "--face raw --work W1 --transport udp --size 7",
        "--face port --work W3 --transport udp",
        "--face port --work W1 --transport stdio",
    ] {
        let output = run(line);
        assert_eq!(output.status.code(), Some(2), "{line}");
        assert!(!output.stderr.is_empty() && output.stdout.is_empty(), "{line}");
    }
}
