//! Where sources announce themselves: over a connection, which lasts as long as the source may send.

use std::{fmt, sync::Arc, time::Duration};

use ipc_transport::{ReadHalf, WriteHalf};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::{Instant, timeout},
};

use super::receiver::Inbox;
use crate::{
    link::Greeting,
    protocol::{Answer, DeliveryMode, Hello, Refusal, SessionId, Terms},
};

/// How long a peer may take to read its answer, and a socket to close.
const ANSWERING: Duration = Duration::from_secs(1);

/// Lets sources into a [`Receiver`](super::Receiver); clones let them into the same one.
#[derive(Clone)]
pub struct Intake {
    inbox: Arc<Inbox>,
}

impl Intake {
    pub(super) fn new(inbox: Arc<Inbox>) -> Self {
        Self { inbox }
    }

    /// Answers a greeting: tells the source where to send its datagrams, and keeps the connection for as long as both ends
    /// stand, or refuses it.
    ///
    /// Must be called within a tokio runtime.
    ///
    /// # Errors
    ///
    /// The greeting comes back unanswered when the receiver is gone.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future hangs up; the source dials again.
    pub async fn accept(&self, greeting: Greeting) -> Result<(), Greeting> {
        if self.is_gone() {
            return Err(greeting);
        }
        let hello = greeting.hello();
        let admitted = self.check(&greeting).and_then(|()| {
            let (names, peer) = ((&*hello.from_process, &*hello.from_port), greeting.info().peer.clone());
            let now = Instant::now().into_std();
            self.inbox.lock().table.announce(hello.session, names, peer, now)?;
            Ok(Announcement { inbox: self.inbox.clone(), session: hello.session })
        });
        match admitted {
            Ok(announcement) => {
                if let Some((reader, writer)) = greeting.into_halves() {
                    tokio::spawn(announcement.hold(reader, writer));
                }
            }
            Err(refusal) => greeting.refuse(refusal).await,
        }
        Ok(())
    }

    /// Closes the receiver, while somebody waits in it, and waits until its address is free, at most 1 s; what waits may still
    /// be taken.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes all the same, if it was polled.
    pub async fn close(&self) {
        self.inbox.close();
        let _ = timeout(ANSWERING, self.inbox.idle()).await;
    }

    /// Whether the receiver is gone: closed or dropped.
    pub fn is_gone(&self) -> bool {
        *self.inbox.closed.borrow()
    }

    fn check(&self, greeting: &Greeting) -> Result<(), Refusal> {
        let hello: &Hello = greeting.hello();
        let config = &self.inbox.config;
        if config.admission.as_ref().is_some_and(|admit| !admit(hello, greeting.info())) {
            return Err(Refusal::NotPermitted);
        }
        let terms = Terms {
            delivery: DeliveryMode::BestEffort,
            codec: &self.inbox.codec,
            schema: config.schema.as_deref(),
            max_message: None,
        };
        terms.check(hello)
    }
}

impl fmt::Debug for Intake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Intake").field("at", &self.inbox.at).finish_non_exhaustive()
    }
}

/// A source that was let in; it has hung up when this is dropped.
struct Announcement {
    inbox: Arc<Inbox>,
    session: SessionId,
}

impl Announcement {
    async fn hold(self, mut reader: ReadHalf, mut writer: WriteHalf) {
        let answer = Answer::Datagrams { at: self.inbox.at.clone() }.encode();
        let telling = timeout(ANSWERING, async {
            writer.write_all(&answer).await?;
            writer.flush().await
        });
        if !matches!(telling.await, Ok(Ok(()))) {
            return;
        }
        let mut closed = self.inbox.closed.subscribe();
        let mut byte = [0];
        tokio::select! {
            // The source has nothing more to say: whatever comes is the end.
            _ = reader.read(&mut byte) => {}
            _ = closed.wait_for(|closed| *closed) => {}
        }
    }
}

impl Drop for Announcement {
    fn drop(&mut self) {
        let now = Instant::now().into_std();
        self.inbox.lock().table.hang_up(self.session, now);
    }
}
