//! Finds the receiver by a connection: dial, greet, send to the place that the answer names until the connection is gone.

use std::{
    future::poll_fn,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use ipc_transport::{Backoff, Connection, DatagramAddress, Endpoint, ReadHalf};
use tokio::{io::AsyncReadExt, sync::watch, time::sleep};

use super::outlet::Outlet;
use crate::{
    link::{
        Connector, LinkNames, LostReason, Status,
        dial::{Greeted, greet},
        fresh_session,
    },
    protocol::{DeliveryMode, Hello, Refusal, SessionId},
};

pub(super) struct Task {
    pub(super) outlet: Arc<Outlet>,
    pub(super) status: Arc<watch::Sender<Status>>,
    pub(super) order: Arc<AtomicU64>,
    pub(super) mine: u64,
    pub(super) connector: Arc<dyn Connector>,
    pub(super) names: LinkNames,
    pub(super) codec: String,
    pub(super) max_message: u64,
    pub(super) local: Endpoint,
}

impl Task {
    /// Until it is refused for good, or nothing will be sent any more.
    pub(super) async fn run(self) {
        tokio::select! {
            () = self.keep_connected() => {}
            _ = poll_fn(|cx| self.outlet.poll_gone(cx)) => {}
        }
    }

    async fn keep_connected(&self) {
        let configured = self.outlet.config.backoff.clone();
        let mut shape = configured.clone().unwrap_or_else(|| self.connector.backoff());
        let mut backoff = Backoff::new(shape.clone(), fastrand::u64(..));
        loop {
            if let Ok(connection) = self.connector.connect().await {
                match self.attempt(connection).await {
                    Ok(()) => {
                        self.set_status(Status::Lost(LostReason::HangUp));
                        backoff.reset();
                    }
                    Err(Some(refusal)) if !refusal.is_transient() => {
                        self.set_status(Status::Refused(refusal));
                        return;
                    }
                    Err(_) => {}
                }
            }
            if configured.is_none() && self.connector.backoff() != shape {
                shape = self.connector.backoff();
                backoff = Backoff::new(shape.clone(), fastrand::u64(..));
            }
            let delay = backoff.next_delay(Instant::now());
            tokio::select! {
                () = sleep(delay) => {}
                () = self.connector.changed() => {}
            }
        }
    }

    /// `Ok` when values could flow for a while.
    async fn attempt(&self, connection: Connection) -> Result<(), Option<Refusal>> {
        let config = &self.outlet.config;
        let session = fresh_session();
        let mut hello = Hello::new(session, &*self.codec);
        hello.from_process.clone_from(&self.names.from_process);
        hello.from_port.clone_from(&self.names.from_port);
        hello.to_process.clone_from(&self.names.to_process);
        hello.to_port.clone_from(&self.names.to_port);
        hello.schema.clone_from(&config.schema);
        hello.credentials.clone_from(&config.credentials);
        hello.max_message = self.max_message;
        hello.capacity = config.capacity.get() as u64;
        hello.delivery = DeliveryMode::BestEffort;
        let remote = connection.info().remote.clone();
        let (at, reader, writer) = match greet(connection, &hello, config.handshake_timeout, || {}).await {
            Greeted::Datagrams(answer) => *answer,
            Greeted::Refused(refusal) => return Err(Some(refusal)),
            Greeted::Failed(error) => {
                tracing::debug!(?error, "handshake failed");
                return Err(None);
            }
            Greeted::Welcome(_) => {
                let what = "the receiver does not know best effort".to_owned();
                return Err(Some(Refusal::Unsupported { what }));
            }
        };
        let to = self.target(&at, &remote).map_err(Some)?;
        // The way out ends with the connection, also when this task is aborted.
        let hold = Hold { outlet: &self.outlet, session };
        self.outlet.lead_to(Some((to, session)));
        self.set_status(Status::Connected);
        hang_on(reader).await;
        drop(hold);
        drop(writer);
        Ok(())
    }

    /// Tells the state, unless another order came: that one has told it by then, or does so after this.
    fn set_status(&self, status: Status) {
        self.status.send_if_modified(|current| {
            let newest = self.order.load(Ordering::SeqCst) == self.mine;
            if newest {
                *current = status;
            }
            newest
        });
    }

    /// The address behind the receiver's endpoint, if this socket can reach it.
    fn target(&self, at: &str, remote: &Endpoint) -> Result<DatagramAddress, Refusal> {
        let incompatible = || Refusal::Incompatible {
            what: format!(
                "the receiver's datagrams go to {}, the sender's socket is {}",
                at.escape_debug(),
                self.local
            ),
        };
        let endpoint: Endpoint = at.parse().map_err(|_| incompatible())?;
        if endpoint.scheme() != self.local.scheme() {
            return Err(incompatible());
        }
        let address = DatagramAddress::of(&endpoint).ok_or_else(incompatible)?;
        match (address, DatagramAddress::of(&self.local)) {
            (DatagramAddress::Ip(to), Some(DatagramAddress::Ip(from))) if to.is_ipv4() != from.is_ipv4() => {
                Err(incompatible())
            }
            // A socket for every address of its machine is where the connection led.
            (DatagramAddress::Ip(to), _) if to.ip().is_unspecified() => {
                let machine = remote.socket_addr().map(|remote| remote.ip());
                let same_family = machine.filter(|ip| ip.is_ipv4() == to.is_ipv4());
                let ip = same_family.ok_or_else(incompatible)?;
                Ok(DatagramAddress::Ip(SocketAddr::new(ip, to.port())))
            }
            (address, _) => Ok(address),
        }
    }
}

/// Until the receiver hangs up; it has nothing more to say.
async fn hang_on(mut reader: ReadHalf) {
    let mut byte = [0];
    let _ = reader.read(&mut byte).await;
}

struct Hold<'a> {
    outlet: &'a Outlet,
    session: SessionId,
}

impl Drop for Hold<'_> {
    fn drop(&mut self) {
        self.outlet.hold_back(self.session);
    }
}
