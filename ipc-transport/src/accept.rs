//! What to do when accepting fails: wait out a shortage, skip a lost connection, report the rest.

use std::{future::poll_fn, io, pin::pin, time::Duration};

use rustix::{fd::AsFd, io::Errno};
use tokio::{
    runtime::Handle,
    time::{Instant, Sleep, sleep_until},
};

/// An error unless a socket that somebody else opened listens. Apple's systems do not tell; there accepting fails.
pub(crate) fn check_listens(socket: impl AsFd) -> io::Result<()> {
    #[cfg(not(target_vendor = "apple"))]
    let listens = rustix::net::sockopt::socket_acceptconn(socket)?;
    #[cfg(target_vendor = "apple")]
    let (_, listens) = (socket, true);
    if listens { Ok(()) } else { Err(io::Error::new(io::ErrorKind::InvalidInput, "it does not listen")) }
}

/// Keeps a listener from spinning while the process has no descriptors left.
///
/// The pause is kept here and not in the future of one `accept` call, so that a caller that drops and repeats the
/// call in a `select!` waits as well.
#[derive(Debug)]
pub(crate) struct AcceptPause {
    /// The runtime of the listener, which may be asked to accept outside of it.
    runtime: Handle,
    until: Option<Instant>,
    pauses: Pauses,
}

impl AcceptPause {
    pub(crate) fn new(runtime: Handle) -> Self {
        Self { runtime, until: None, pauses: Pauses::default() }
    }

    /// Waits until the pause is over; at once if there is none. Cancel safe.
    pub(crate) async fn over(&mut self) {
        if let Some(until) = self.until {
            self.sleep_until(until).await;
            self.until = None;
        }
    }

    /// Takes note of a failure: `None` when accepting shall go on, the error when it is of no use.
    pub(crate) fn failed(&mut self, error: io::Error) -> Option<io::Error> {
        match Errno::from_io_error(&error) {
            // No descriptor or no memory: somebody has to give some back first.
            Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM) => {
                let pause = self.pauses.longer();
                self.until = Some(Instant::now() + pause);
                tracing::warn!(%error, ?pause, "accepting pauses for lack of resources");
                None
            }
            // The connection that was waiting is gone, or the network reported a fault of its path; the listener
            // itself is sound.
            Some(
                Errno::CONNABORTED
                | Errno::CONNRESET
                | Errno::INTR
                | Errno::PERM
                | Errno::PROTO
                | Errno::NETDOWN
                | Errno::NETUNREACH
                | Errno::NOPROTOOPT
                | Errno::HOSTDOWN
                | Errno::HOSTUNREACH
                | Errno::OPNOTSUPP
                | Errno::TIMEDOUT,
            ) => {
                tracing::debug!(%error, "a connection was lost before it was accepted");
                None
            }
            _ => Some(error),
        }
    }

    /// Takes note that accepting works.
    pub(crate) fn succeeded(&mut self) {
        self.pauses = Pauses::default();
    }

    /// Runs a future as the listener's runtime would, whoever polls.
    pub(crate) async fn inside<T>(&self, future: impl Future<Output = T>) -> T {
        let mut future = pin!(future);
        poll_fn(|cx| {
            let _context = self.runtime.enter();
            future.as_mut().poll(cx)
        })
        .await
    }

    /// Sleeps by the clock of the listener's runtime.
    pub(crate) fn sleep_until(&self, time: Instant) -> Sleep {
        let _context = self.runtime.enter();
        sleep_until(time)
    }
}

/// Pauses after failures, each twice as long as the one before, up to a second.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Pauses {
    last: Duration,
}

impl Pauses {
    /// The pause after one more failure.
    pub(crate) fn longer(&mut self) -> Duration {
        self.last = (self.last * 2).clamp(SHORTEST_PAUSE, LONGEST_PAUSE);
        self.last
    }
}

const SHORTEST_PAUSE: Duration = Duration::from_millis(5);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn pauses_double_up_to_a_second_and_start_again_after_a_success() {
        let mut pause = AcceptPause::new(Handle::current());
        let mut waited = Vec::new();
        for _ in 0..10 {
            assert!(pause.failed(Errno::MFILE.into()).is_none());
            let start = Instant::now();
            pause.over().await;
            waited.push(start.elapsed().as_millis());
        }
        assert_eq!(waited, [5, 10, 20, 40, 80, 160, 320, 640, 1000, 1000]);
        pause.succeeded();
        assert!(pause.failed(Errno::MFILE.into()).is_none());
        let start = Instant::now();
        pause.over().await;
        assert_eq!(start.elapsed().as_millis(), 5);
    }

    #[tokio::test]
    async fn a_lost_connection_does_not_end_the_listener_and_a_broken_listener_does() {
        let mut pause = AcceptPause::new(Handle::current());
        assert!(pause.failed(Errno::CONNABORTED.into()).is_none());
        assert!(pause.until.is_none());
        assert!(pause.failed(Errno::BADF.into()).is_some());
    }

    #[test]
    fn a_pause_is_waited_for_outside_of_the_runtime() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let mut pause = AcceptPause::new(runtime.handle().clone());
        assert!(pause.failed(Errno::MFILE.into()).is_none());
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        assert!(pin!(pause.over()).poll(&mut context).is_pending());
    }
}
