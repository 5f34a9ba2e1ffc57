//! The ends of both kinds of pipelines, as the node sees them: what leaves it, and what takes greetings.

use std::time::Duration;

use ipc_pipeline::{
    best_effort,
    link::{self, Greeting, LinkControl, Undelivered},
    protocol::SessionId,
};

/// The pipeline of an outgoing port.
#[derive(Clone)]
pub(crate) enum OutgoingEnd {
    BestEffort(best_effort::OutgoingControl),
    Link(LinkControl),
}

impl OutgoingEnd {
    /// Closes it within the deadline. What best effort does not send is no loss that anybody was promised to hear of.
    pub(crate) async fn close(&self, deadline: Duration) -> Result<(), Undelivered> {
        match self {
            Self::BestEffort(sender) => {
                if let Err(unsent) = sender.close(deadline).await {
                    tracing::debug!(%unsent, "a best-effort port was closed");
                }
                Ok(())
            }
            Self::Link(link) => link.close(deadline).await,
        }
    }
}

/// What lets sources into an incoming port.
#[derive(Clone)]
pub(crate) enum IncomingEnd {
    BestEffort(best_effort::Intake),
    Link(link::Intake),
}

impl IncomingEnd {
    pub(crate) async fn accept(&self, greeting: Greeting) -> Result<(), Greeting> {
        match self {
            Self::BestEffort(intake) => intake.accept(greeting).await,
            Self::Link(intake) => intake.accept(greeting).await,
        }
    }

    /// Goes away in good order: sources look for a successor.
    pub(crate) async fn detach(&self) {
        match self {
            Self::BestEffort(intake) => intake.close().await,
            Self::Link(intake) => intake.detach().await,
        }
    }

    /// Whether it was closed for good, which its sessions are to hear; those of best effort look for a successor.
    pub(crate) fn is_closed(&self) -> bool {
        match self {
            Self::BestEffort(_) => false,
            Self::Link(intake) => intake.is_closed(),
        }
    }

    pub(crate) fn knows(&self, session: SessionId) -> bool {
        match self {
            Self::BestEffort(_) => false,
            Self::Link(intake) => intake.knows(session),
        }
    }
}
