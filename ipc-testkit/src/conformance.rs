//! Conformance suites: one plain check per numbered promise of a trait, for your implementation as for ours.
//!
//! Each suite has a `run_all` and a macro that makes one test of each check:
//! [`transport_conformance!`](crate::transport_conformance), [`datagram_conformance!`](crate::datagram_conformance),
//! [`codec_conformance!`](crate::codec_conformance) and [`naming_conformance!`](crate::naming_conformance). A check panics when the promise is broken and hangs never: the
//! tests that the macros make run it under a watchdog, on both flavours of the tokio runtime.

pub mod codec;
pub mod datagram;
pub mod naming;
pub mod transport;

use std::{future::Future, io, time::Duration};

use ipc_transport::{Connection, Error, Listener, WriteHalf};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    runtime::Builder,
    time::timeout,
};

/// Runs a check on a runtime of one thread and again on one of several, each under a watchdog of 30 s.
///
/// # Panics
///
/// When the check panics or does not end.
pub fn on_both_runtimes<C: Future<Output = ()>>(check: impl Fn() -> C) {
    for mut runtime in [Builder::new_current_thread(), Builder::new_multi_thread()] {
        let runtime =
            runtime.worker_threads(2).enable_all().build().expect("the system has threads and pollers");
        let outcome = runtime.block_on(async { timeout(WATCHDOG, check()).await });
        assert!(outcome.is_ok(), "the check did not end within {WATCHDOG:?}");
    }
}

/// Sees that a listener serves whoever dials it.
///
/// Connections that end at once are passed over: a claimer may look whether the holder of an address answers.
async fn assert_serves(listener: &mut dyn Listener, dial: impl Future<Output = Result<Connection, Error>>) {
    let dialling = async {
        let (reader, mut writer, _) = dial.await.expect("somebody listens there").into_parts();
        write_out(&mut writer, b"?").await.expect("the listener serves");
        (reader, writer)
    };
    let accepting = async {
        loop {
            let incoming = listener.accept().await.expect("a dialler is coming");
            let Ok(connection) = incoming.establish().await else { continue };
            let (mut reader, _writer, _) = connection.into_parts();
            if let Ok(byte) = reader.read_u8().await {
                break assert_eq!(byte, b'?', "somebody else was accepted");
            }
        }
    };
    tokio::join!(dialling, accepting);
}

/// Writes it all and has it sent: a transport may keep what it is given until it is flushed.
async fn write_out(writer: &mut WriteHalf, bytes: &[u8]) -> io::Result<()> {
    writer.write_all(bytes).await?;
    writer.flush().await
}

/// Long enough for the slowest machine, short enough to be a failure and not a hang.
const WATCHDOG: Duration = Duration::from_secs(30);
