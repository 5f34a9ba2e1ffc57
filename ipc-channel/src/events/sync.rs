//! One question after the other: the next one is sent when the one before it was answered.

use std::{fmt, sync::Arc, time::Duration};

use serde::{Serialize, de::DeserializeOwned};
use tokio::{
    sync::{Mutex, oneshot},
    time::{Instant, timeout_at},
};

use super::{CallError, Client, Reply};
use crate::{Event, Subscription, handlers::Handlers};

/// The longest deadline, as good as none.
const EVER: Duration = Duration::from_secs(60 * 60 * 24 * 365);

/// Sends one question at a time to the server of a client: what node-ipc has as `sync`.
///
/// Questions wait for their turn in the order in which they were asked, each until its own deadline, and nothing of one is
/// sent before its turn. Clones share the turn; each [`Client::sync`] begins one of its own. Whatever else the client
/// says and hears goes on meanwhile, and releases nothing. It does not keep the client alive.
#[derive(Clone)]
pub struct SyncClient {
    server: Reply,
    handlers: Arc<Handlers<Reply>>,
    turn: Arc<Mutex<()>>,
}

impl SyncClient {
    /// Asks as [`Client::call`] does, when it is this question's turn.
    ///
    /// The answer is told from everything else that arrives by its number. The wire of node-ipc has no such numbers: see
    /// [`request_event`](Self::request_event).
    ///
    /// # Errors
    ///
    /// [`CallError::TimedOut`] at the deadline, also when it was not yet its turn: then nothing was sent. Otherwise as
    /// [`Client::call`]. Either way the next question has its turn.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives the turn to the next question; one that was sent is given up as with [`Client::call`].
    pub async fn request<T, R>(&self, name: &str, value: &T, deadline: Duration) -> Result<R, CallError>
    where
        T: Serialize + Sync + ?Sized,
        R: DeserializeOwned,
    {
        let until = Instant::now() + deadline.min(EVER);
        let _turn = self.turn(until).await?;
        self.server.call(name, value, until.saturating_duration_since(Instant::now())).await
    }

    /// Sends an event when it is this question's turn, and takes the next event named `answer` as the answer, on any wire.
    ///
    /// Nothing but its name tells that it is one: an event of that name that comes for another reason is taken as well, and
    /// so is the answer to an earlier question that came after its deadline. One that is no `R` is passed over. Other
    /// handlers of that name get it too.
    ///
    /// # Errors
    ///
    /// [`CallError::TimedOut`] at the deadline, also when it was not yet its turn, and when the answer was lost with its
    /// connection; [`CallError::Emit`]. Either way the next question has its turn.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives the turn to the next question, whose answer may then be that of this one.
    pub async fn request_event<T, R>(
        &self,
        name: &str,
        value: &T,
        answer: &str,
        deadline: Duration,
    ) -> Result<R, CallError>
    where
        T: Serialize + Sync + ?Sized,
        R: DeserializeOwned + Send + 'static,
    {
        let until = Instant::now() + deadline.min(EVER);
        let _turn = self.turn(until).await?;
        let (answered, waiting) = oneshot::channel();
        let answered = Arc::new(std::sync::Mutex::new(Some(answered)));
        let listening = self.handlers.once(answer, move |event: Event<R>, _| {
            let answered = answered.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
            if let Some(answered) = answered {
                // Whoever waited may have given up just now.
                let _ = answered.send(event.into_value());
            }
            async {}
        });
        let _listening = Listening(listening);
        let asked = async {
            self.server.emit(name, value).await?;
            // The handler stays until it is removed below.
            waiting.await.map_err(|_| CallError::Disconnected)
        };
        timeout_at(until, asked).await.unwrap_or(Err(CallError::TimedOut))
    }

    async fn turn(&self, until: Instant) -> Result<tokio::sync::MutexGuard<'_, ()>, CallError> {
        timeout_at(until, self.turn.lock()).await.map_err(|_| CallError::TimedOut)
    }
}

/// A handler that goes with whoever waits for it.
struct Listening(Subscription);

impl Drop for Listening {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

impl fmt::Debug for SyncClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SyncClient").field("server", &self.server).finish_non_exhaustive()
    }
}

impl Client {
    /// One question after the other, as node-ipc's `sync` has it: see [`SyncClient`].
    pub fn sync(&self) -> SyncClient {
        SyncClient { server: self.server(), handlers: self.handlers(), turn: Arc::default() }
    }
}
