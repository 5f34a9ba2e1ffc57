//! Conformance suites: one plain check per numbered promise of a trait, for your implementation as for ours.
//!
//! | suite | contract | one test per promise |
//! |---|---|---|
//! | [`transport`] | [`Transport`](ipc_transport::Transport), [`Listener`] | [`transport_conformance!`](crate::transport_conformance) |
//! | [`datagram`] | [`DatagramTransport`](ipc_transport::DatagramTransport) | [`datagram_conformance!`](crate::datagram_conformance) |
//! | [`naming`] | [`Naming`](ipc_transport::Naming) | [`naming_conformance!`](crate::naming_conformance) |
//! | [`codec`] | the list at its head | [`codec_conformance!`](crate::codec_conformance) |
//!
//! Each macro makes one test of each check and runs it on both flavours of the tokio runtime, as far as it needs one.
//! Each suite has a `run_all` that panics at the first broken promise, and a `broken_promises` that gives them all; a
//! single check is a function that panics when its promise is broken. The macros, `run_all` and `broken_promises` end a check
//! that hangs after 30 s.
//!
//! # What a failure says
//!
//! It names the promise by its contract and its number, says what was wrong, and gives the seed of the random choices:
//!
//! ```text
//! promise 3 of the contract of Transport, `bytes_arrive_in_order`, is broken: bytes 17..20 differ
//! to see it again: IPC_SEED=0
//! ```
//!
//! The seed decides contents, sizes and splits. It is 0, so that a suite gives the same verdict each time; the
//! variable `IPC_SEED` sets another one for a whole run, and `with_seed` of a subject for one subject.

mod promise;

pub mod codec;
pub mod datagram;
pub mod naming;
pub mod transport;

use std::{future::Future, io, time::Duration};

use ipc_transport::{Connection, Error, Listener, WriteHalf};
pub use promise::{BrokenPromise, Promise};
#[doc(hidden)]
pub use promise::{Examined, keep, keep_now};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    runtime::Builder,
    time::timeout,
};

use crate::process::seed_from_environment;

/// Runs a check on a runtime of one thread and again on one of several, each under a watchdog of 60 s.
///
/// That is twice what the macros give to a check, whose own watchdog knows the promise.
///
/// # Panics
///
/// When the check panics or does not end.
pub fn on_both_runtimes<C: Future<Output = ()>>(check: impl Fn() -> C) {
    for mut runtime in [Builder::new_current_thread(), Builder::new_multi_thread()] {
        let runtime =
            runtime.worker_threads(2).enable_all().build().expect("the system has threads and pollers");
        let outcome = runtime.block_on(async { timeout(2 * WATCHDOG, check()).await });
        assert!(outcome.is_ok(), "the check did not end within {:?}", 2 * WATCHDOG);
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

/// The seed of the random choices of a suite, unless the subject has one of its own.
fn default_seed() -> u64 {
    seed_from_environment().unwrap_or(0)
}

/// Long enough for the slowest machine, short enough to be a failure and not a hang.
const WATCHDOG: Duration = Duration::from_secs(30);
/// How long a check that tries again and again leaves everybody else their turn; time passes meanwhile, paused time too.
const TURN: Duration = Duration::from_millis(1);
