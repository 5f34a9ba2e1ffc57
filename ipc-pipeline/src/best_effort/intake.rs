//! Where sources announce themselves: over a connection, which lasts as long as the source may send.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use ipc_transport::{ReadHalf, WriteHalf};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::{Instant, timeout},
};

use super::receiver::Inlet;
use crate::{
    link::Greeting,
    protocol::{Answer, DeliveryMode, Hello, Refusal, SessionId},
};

/// How long a peer may take to read its answer.
const ANSWERING: Duration = Duration::from_secs(1);

/// Tells the connections of all receiving ends apart.
static CONNECTIONS: AtomicU64 = AtomicU64::new(1);

/// Lets sources into a [`Receiver`](super::Receiver); clones let them into the same one.
#[derive(Clone)]
pub struct Intake {
    inlet: Arc<Inlet>,
}

impl Intake {
    pub(super) fn new(inlet: Arc<Inlet>) -> Self {
        Self { inlet }
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
            let connection = CONNECTIONS.fetch_add(1, Ordering::Relaxed);
            let (names, peer) = ((&*hello.from_process, &*hello.from_port), greeting.info().peer.clone());
            let now = Instant::now().into_std();
            match self.inlet.lock().table.announce(hello.session, names, peer, connection, now) {
                true => Ok(Announced { inlet: self.inlet.clone(), session: hello.session, connection }),
                false => Err(Refusal::Busy),
            }
        });
        match admitted {
            Ok(announced) => {
                if let Some((reader, writer)) = greeting.into_halves() {
                    tokio::spawn(announced.hold(reader, writer));
                }
            }
            Err(refusal) => greeting.refuse(refusal).await,
        }
        Ok(())
    }

    /// Closes the receiver, while somebody waits in it: its socket closes, and what waits may still be taken.
    pub fn close(&self) {
        self.inlet.close();
    }

    /// Whether the receiver is gone: closed or dropped.
    pub fn is_gone(&self) -> bool {
        *self.inlet.closed.borrow()
    }

    fn check(&self, greeting: &Greeting) -> Result<(), Refusal> {
        let hello: &Hello = greeting.hello();
        let config = &self.inlet.config;
        if config.admission.as_ref().is_some_and(|admit| !admit(hello, greeting.info())) {
            return Err(Refusal::NotPermitted);
        }
        let what = match &config.schema {
            _ if hello.delivery != DeliveryMode::BestEffort => {
                format!("the sender's delivery is {}, the receiver's best effort", hello.delivery)
            }
            _ if hello.codec != self.inlet.codec => {
                format!("the sender's codec is {}, the receiver's {}", hello.codec, self.inlet.codec)
            }
            Some(ours) if hello.schema.as_ref().is_some_and(|theirs| theirs != ours) => {
                format!(
                    "the sender's schema is {}, the receiver's {ours}",
                    hello.schema.as_deref().unwrap_or("")
                )
            }
            _ => return Ok(()),
        };
        Err(Refusal::Incompatible { what })
    }
}

impl fmt::Debug for Intake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Intake").field("at", &self.inlet.at).finish_non_exhaustive()
    }
}

/// A source that was let in; it has hung up when this is dropped.
struct Announced {
    inlet: Arc<Inlet>,
    session: SessionId,
    connection: u64,
}

impl Announced {
    async fn hold(self, mut reader: ReadHalf, mut writer: WriteHalf) {
        let answer = Answer::Datagrams { at: self.inlet.at.clone() }.encode();
        let telling = timeout(ANSWERING, async {
            writer.write_all(&answer).await?;
            writer.flush().await
        });
        if !matches!(telling.await, Ok(Ok(()))) {
            return;
        }
        let mut closed = self.inlet.closed.subscribe();
        let mut byte = [0];
        tokio::select! {
            // The source has nothing more to say: whatever comes is the end.
            _ = reader.read(&mut byte) => {}
            _ = closed.wait_for(|closed| *closed) => {}
        }
    }
}

impl Drop for Announced {
    fn drop(&mut self) {
        self.inlet.lock().table.hang_up(self.session, self.connection);
    }
}
