//! What to do when accepting fails: wait out a shortage, skip a lost connection, report the rest.

use std::{io, time::Duration};

use rustix::io::Errno;
use tokio::time::{Instant, sleep_until};

/// Keeps a listener from spinning while the process has no descriptors left.
///
/// The pause is kept here and not in the future of one `accept` call, so that a caller that drops and repeats the
/// call in a `select!` waits as well.
#[derive(Debug, Default)]
pub(crate) struct AcceptPause {
    until: Option<Instant>,
    last: Duration,
}

impl AcceptPause {
    /// Waits until the pause is over; at once if there is none. Cancel safe.
    pub(crate) async fn over(&mut self) {
        if let Some(until) = self.until {
            sleep_until(until).await;
            self.until = None;
        }
    }

    /// Takes note of a failure: `None` when accepting shall go on, the error when it is of no use.
    pub(crate) fn failed(&mut self, error: io::Error) -> Option<io::Error> {
        match Errno::from_io_error(&error) {
            // No descriptor or no memory: somebody has to give some back first.
            Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM) => {
                self.last = (self.last * 2).clamp(SHORTEST_PAUSE, LONGEST_PAUSE);
                self.until = Some(Instant::now() + self.last);
                tracing::warn!(%error, pause = ?self.last, "accepting pauses for lack of resources");
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
        self.last = Duration::ZERO;
    }
}

const SHORTEST_PAUSE: Duration = Duration::from_millis(5);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn pauses_double_up_to_a_second_and_start_again_after_a_success() {
        let mut pause = AcceptPause::default();
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

    #[test]
    fn a_lost_connection_does_not_end_the_listener_and_a_broken_listener_does() {
        let mut pause = AcceptPause::default();
        assert!(pause.failed(Errno::CONNABORTED.into()).is_none());
        assert!(pause.until.is_none());
        assert!(pause.failed(Errno::BADF.into()).is_some());
    }
}
