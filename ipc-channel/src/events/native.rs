//! The native wire: links on the lanes of a trunk, so that what was accepted survives lost connections.
//!
//! ```text
//!   lane 0  events of the client, to the server             lane 2  events of the server, to this client
//!   lane 1  requests and answers of the client              lane 3  events of the server, to every client
//!                                                            lane 4  requests and answers of the server
//! ```
//!
//! Whoever takes from a control lane never waits for a handler, so an answer never waits for an event, and nested calls
//! cannot hold each other up.

use std::{sync::Arc, time::Duration};

use ipc_pipeline::{
    SendErrorReason, TrySendError,
    link::{Greeting, Intake, LinkControl, LinkNames, OutgoingLink, Receiver, Sender},
    trunk::{Trunk, TrunkSlot},
};
use ipc_transport::Error;
use tokio::{runtime::Handle, sync::Semaphore};

use super::{
    EmitError,
    config::Tuning,
    frame::{Frame, FrameCodec},
};

/// What an answer that waits counts at least: a small one has a task as well.
const LEAST_WEIGHT: usize = 256;

/// Lanes of a trunk between a client and a server.
pub(super) const LANES: u8 = 5;

const CLIENT_PRIVATE: u8 = 0;
const CLIENT_CONTROL: u8 = 1;
const SERVER_PRIVATE: u8 = 2;
const SERVER_BROADCAST: u8 = 3;
const SERVER_CONTROL: u8 = 4;

/// Which side of a trunk this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Client,
    Server,
}

/// The sending ends to one peer, and the place of the trunk that they use.
pub(super) struct Native {
    pub(super) slot: TrunkSlot,
    private: OutgoingLink<Frame>,
    broadcast: Option<OutgoingLink<Frame>>,
    control: OutgoingLink<Frame>,
    events_in: Intake,
    control_in: Intake,
    side: Side,
    handshake_timeout: Duration,
    /// Bytes of answers that found no room on their lane: as many as may wait there.
    waiting: Arc<Semaphore>,
    runtime: Handle,
}

/// The receiving ends of one peer, for the tasks that take from them.
pub(super) struct Inlets {
    pub(super) events: Receiver<Frame>,
    pub(super) control: Receiver<Frame>,
}

impl Native {
    /// Both directions to one peer, without a trunk as yet.
    pub(super) fn new(side: Side, tuning: &Tuning) -> Result<(Self, Inlets), Error> {
        let slot = TrunkSlot::new();
        let link = |config, lane: u8, name: &str| {
            let link = OutgoingLink::new(config, FrameCodec);
            link.connect(Arc::new(slot.connector(lane)), LinkNames::new(("", name), ("", name)))?;
            Ok::<_, Error>(link)
        };
        let (private, broadcast, control) = match side {
            Side::Client => (
                link(tuning.private(), CLIENT_PRIVATE, "private")?,
                None,
                link(tuning.control(), CLIENT_CONTROL, "control")?,
            ),
            Side::Server => (
                link(tuning.private(), SERVER_PRIVATE, "private")?,
                Some(link(tuning.broadcast(), SERVER_BROADCAST, "broadcast")?),
                link(tuning.control(), SERVER_CONTROL, "control")?,
            ),
        };
        let events = Receiver::new(tuning.receiver(), FrameCodec);
        let incoming = Receiver::new(tuning.receiver(), FrameCodec);
        let native = Self {
            slot,
            private,
            broadcast,
            control,
            events_in: events.intake(),
            control_in: incoming.intake(),
            side,
            handshake_timeout: tuning.limits.handshake_timeout,
            waiting: Arc::new(Semaphore::new(tuning.byte_bound.max(tuning.limits.max_message))),
            runtime: Handle::try_current().map_err(|_| Error::NoRuntime)?,
        };
        Ok((native, Inlets { events, control: incoming }))
    }

    /// Has the links use this trunk from now on, in both directions.
    pub(super) fn attach(&self, trunk: &Trunk) {
        let incoming: &[(u8, &Intake)] = match self.side {
            Side::Client => &[
                (SERVER_PRIVATE, &self.events_in),
                (SERVER_BROADCAST, &self.events_in),
                (SERVER_CONTROL, &self.control_in),
            ],
            Side::Server => &[(CLIENT_PRIVATE, &self.events_in), (CLIENT_CONTROL, &self.control_in)],
        };
        for (lane, intake) in incoming {
            tokio::spawn(take_in(trunk.clone(), *lane, (*intake).clone(), self.handshake_timeout));
        }
        self.slot.put(trunk.clone());
    }

    /// An event to this peer, waiting for room by the policy.
    pub(super) async fn event(&self, frame: Frame) -> Result<(), EmitError> {
        self.private.sender().send(frame).await.map_err(|error| error.into_parts().1.into())
    }

    /// An event to this peer, if there is room.
    pub(super) fn try_event(&self, frame: Frame) -> Result<(), EmitError> {
        try_send(self.private.sender(), frame)
    }

    /// An event that goes to everybody, if there is room; by its policy there always is.
    pub(super) fn try_broadcast(&self, frame: Frame) -> Result<(), EmitError> {
        try_send(self.broadcast.as_ref().unwrap_or(&self.private).sender(), frame)
    }

    /// As [`try_broadcast`](Self::try_broadcast), waiting for room.
    pub(super) async fn broadcast(&self, frame: Frame) -> Result<(), EmitError> {
        let link = self.broadcast.as_ref().unwrap_or(&self.private);
        link.sender().send(frame).await.map_err(|error| error.into_parts().1.into())
    }

    /// A request, an answer, or the end of one.
    pub(super) async fn control(&self, frame: Frame) -> Result<(), EmitError> {
        self.control.sender().send(frame).await.map_err(|error| error.into_parts().1.into())
    }

    /// As [`control`](Self::control), if there is room.
    pub(super) fn try_control(&self, frame: Frame) -> Result<(), EmitError> {
        try_send(self.control.sender(), frame)
    }

    /// As [`control`](Self::control) from where nothing may wait; what finds no room is sent by a task of its own.
    ///
    /// A peer that asks on and on and takes no answer is hung up on when as many bytes wait so as may.
    pub(super) fn post(&self, frame: Frame) {
        match self.control.sender().try_send(frame) {
            Ok(()) => {}
            Err(TrySendError::Full(frame)) => {
                let weight = u32::try_from(frame.len().max(LEAST_WEIGHT)).unwrap_or(u32::MAX);
                let Ok(place) = self.waiting.clone().try_acquire_many_owned(weight) else {
                    return self.slot.clear();
                };
                let sender = self.control.sender().clone();
                self.runtime.spawn(async move {
                    let _ = sender.send(frame).await;
                    drop(place);
                });
            }
            // The peer is gone for good, and with it whoever would have read this.
            Err(_) => {}
        }
    }

    /// Everything accepted so far has been taken by the peer.
    pub(super) async fn settled(&self) -> Result<(), EmitError> {
        for link in self.event_links() {
            link.sender().settled().await.map_err(EmitError::from)?;
        }
        Ok(())
    }

    /// Events kept for the peer.
    pub(super) fn pending(&self) -> usize {
        self.event_links().map(|link| link.sender().pending()).sum()
    }

    /// Broadcasts and events that the policies dropped.
    pub(super) fn dropped(&self) -> u64 {
        self.event_links().map(|link| link.sender().counters().dropped).sum()
    }

    /// The handles that close the links of events.
    pub(super) fn closers(&self) -> Vec<LinkControl> {
        self.event_links().map(OutgoingLink::control).collect()
    }

    /// The handle that closes the link of requests and answers.
    pub(super) fn control_closer(&self) -> LinkControl {
        self.control.control()
    }

    /// Gives everything up that is not delivered.
    pub(super) fn abandon(&self) {
        for link in self.event_links().chain([&self.control]) {
            link.control().abandon();
        }
    }

    /// Takes nothing more, and tells the peer how far this side came, which waits for 1 s at most: what was handed to
    /// handlers is not repeated to a successor.
    pub(super) async fn detach(&self) {
        tokio::join!(self.events_in.detach(), self.control_in.detach());
    }

    fn event_links(&self) -> impl Iterator<Item = &OutgoingLink<Frame>> {
        [Some(&self.private), self.broadcast.as_ref()].into_iter().flatten()
    }
}

fn try_send(sender: &Sender<Frame>, frame: Frame) -> Result<(), EmitError> {
    sender.try_send(frame).map_err(|error| match error {
        TrySendError::Failed(error) => error.into_parts().1.into(),
        _ => SendErrorReason::Full.into(),
    })
}

/// Takes in the link that the peer puts on one lane of a trunk.
async fn take_in(trunk: Trunk, lane: u8, intake: Intake, limit: Duration) {
    let Some(connection) = trunk.lane(lane) else { return };
    match Greeting::read(connection, limit).await {
        // A receiving end that is gone leaves the peer waiting, and so does the trunk's end.
        Ok(greeting) => drop(intake.accept(greeting).await),
        // The link was closed before it began; the others go on.
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {}
        Err(error) => {
            tracing::debug!(%error, lane, "a lane was not greeted");
            trunk.cut();
        }
    }
}
