//! The custom transport keeps the contract, talks with real programs, and its own program runs to its end.
#![allow(clippy::unwrap_used, reason = "a test may unwrap, its helpers too")]

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use ipc_examples::custom_transport::StdioTransport;
use ipc_testkit::{
    conformance::{on_both_runtimes, transport::Subject},
    process::TempDir,
    transport_conformance,
};
use ipc_transport::{Access, ConnectOptions, Connection, Endpoint, Error, ListenOptions, Transport as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

transport_conformance!(stdio, || Subject::new(StdioTransport::default(), at("place")));

fn at(name: &str) -> Endpoint {
    Endpoint::new("stdio", name).unwrap()
}

async fn talk_with(program: &str, arguments: &[&str]) -> Connection {
    let transport = StdioTransport::default().with_command("program", program, arguments);
    transport.connect(&at("program"), &ConnectOptions::default()).await.unwrap()
}

#[test]
fn a_program_reads_the_end_and_answers_after_it() {
    // It says nothing before its input has ended, so both directions must end by themselves.
    on_both_runtimes(async || {
        let (mut reader, mut writer, _) = talk_with("sort", &[]).await.into_parts();
        writer.write_all(b"b\nc\na\n").await.unwrap();
        writer.shutdown().await.unwrap();
        let mut answer = String::new();
        reader.read_to_string(&mut answer).await.unwrap();
        assert_eq!(answer, "a\nb\nc\n");
        assert!(writer.write(b"more").await.is_err(), "it was closed");
    });
}

#[test]
fn a_dropped_writer_ends_the_input_and_leaves_the_program_to_answer() {
    on_both_runtimes(async || {
        let (mut reader, mut writer, _) = talk_with("sort", &[]).await.into_parts();
        writer.write_all(b"b\nc\na\n").await.unwrap();
        drop(writer);
        let mut answer = String::new();
        reader.read_to_string(&mut answer).await.unwrap();
        assert_eq!(answer, "a\nb\nc\n");
    });
}

#[test]
fn a_dropped_reader_leaves_the_program_to_take_its_input() {
    let directory = TempDir::new().unwrap();
    let path = directory.join("taken");
    on_both_runtimes(async || {
        let script = r#"read line; echo "$line" > "$0.new"; mv "$0.new" "$0"; read more"#;
        let (reader, mut writer, _) =
            talk_with("sh", &["-c", script, path.to_str().unwrap()]).await.into_parts();
        drop(reader);
        writer.write_all(b"a line\n").await.unwrap();
        while !path.exists() {
            // Sleeps between two looks; the watchdog ends a hang.
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert_eq!(fs::read_to_string(&path).unwrap(), "a line\n");
        fs::remove_file(&path).unwrap();
    });
}

#[test]
fn much_more_than_a_pipe_holds_passes_through_a_program_in_order() {
    on_both_runtimes(async || {
        let (mut reader, mut writer, _) = talk_with("cat", &[]).await.into_parts();
        let sent: Vec<u8> = (0..4 << 20).map(|index: u32| (index ^ (index >> 8)) as u8).collect();
        let writing = async {
            writer.write_all(&sent).await.unwrap();
            writer.shutdown().await.unwrap();
        };
        let mut received = Vec::new();
        let ((), count) = tokio::join!(writing, reader.read_to_end(&mut received));
        assert_eq!(count.unwrap(), sent.len());
        assert!(received == sent, "the bytes differ");
    });
}

#[test]
fn dropping_the_connection_ends_and_reaps_a_program_that_does_not_listen() {
    on_both_runtimes(async || {
        let (mut reader, writer, _) = talk_with("sh", &["-c", "echo $$; exec sleep 1000"]).await.into_parts();
        let mut line = Vec::new();
        while line.last() != Some(&b'\n') {
            line.push(reader.read_u8().await.unwrap());
        }
        let process = PathBuf::from("/proc").join(String::from_utf8(line).unwrap().trim());
        drop((reader, writer));
        while process.exists() {
            // Sleeps between two looks; the watchdog ends a hang.
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
}

#[test]
fn every_connection_starts_a_program_of_its_own() {
    on_both_runtimes(async || {
        let transport = StdioTransport::default().with_command("program", "sh", &["-c", "echo $$"]);
        let mut processes = Vec::new();
        for _ in 0..2 {
            let connection = transport.connect(&at("program"), &ConnectOptions::default()).await.unwrap();
            let (mut reader, _writer, info) = connection.into_parts();
            assert_eq!(info.remote, at("program"));
            let mut line = String::new();
            reader.read_to_string(&mut line).await.unwrap();
            processes.push(line);
        }
        assert_ne!(processes[0], processes[1]);
    });
}

#[test]
fn what_cannot_be_started_or_is_not_admitted_is_an_error() {
    on_both_runtimes(async || {
        let missing = "/nowhere/at/all";
        let transport = StdioTransport::default().with_command("missing", missing, &[]);
        let connect =
            async |name| transport.connect(&at(name), &ConnectOptions::default()).await.unwrap_err();
        assert!(matches!(connect("missing").await, Error::NotFound { .. }));
        assert!(matches!(connect("unknown").await, Error::ConnectionRefused { .. }));
        let taken = transport.listen(&at("missing"), &ListenOptions::default()).await.unwrap_err();
        assert!(matches!(taken, Error::AddrInUse { .. }));
        let transport = transport.with_command("known", "cat", &[]);
        let strict = ConnectOptions::default().with_access(Access::SameUser);
        let error = transport.connect(&at("known"), &strict).await.unwrap_err();
        assert!(matches!(error, Error::AccessDenied { .. }), "nobody tells who is behind a pipe: {error}");
    });
}

#[test]
fn the_example_runs_ports_between_parent_and_child_and_ends() {
    let output = Command::new(example()).stdin(Stdio::null()).output().unwrap();
    let (stdout, stderr) =
        (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert!(output.status.success(), "{stdout}{stderr}");
    let words = ["bounded", "buffered", "loss-free"];
    assert_eq!(stderr, words.map(|word| format!("child: took {word:?}\n")).concat(), "{stdout}");
    let sent = words.map(|word| format!("parent: sent {word:?}\n")).concat();
    assert_eq!(stdout, format!("{sent}parent: the child has taken everything\n"));
}

/// Where cargo put the example, beside the directory of this test.
fn example() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let path = test.parent().and_then(Path::parent).unwrap().join("examples/custom_transport");
    assert!(path.is_file(), "{} is missing: `cargo test -p ipc-examples` builds it", path.display());
    path
}
