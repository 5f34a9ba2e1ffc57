//! Finds the receiver by a connection: dial, greet, send to the place that the answer names until the connection is gone.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use ipc_transport::{Backoff, Connection, DatagramAddress, Endpoint, ReadHalf};
use tokio::{io::AsyncReadExt, time::sleep};

use super::sender::Shared;
use crate::{
    link::{
        AttemptError, Connector, LinkNames, LostReason, Status,
        dial::{Greeted, greet},
        secret_session,
    },
    protocol::{DeliveryMode, Hello, Refusal},
};

/// A connection that lasted this long was worth dialling at once again.
const LASTING: Duration = Duration::from_secs(1);

/// Keeps a sending end connected, as one order.
pub(super) struct Task {
    shared: Arc<Shared>,
    order: u64,
    connector: Arc<dyn Connector>,
    names: LinkNames,
    codec: String,
}

impl Task {
    pub(super) fn new(
        shared: Arc<Shared>,
        order: u64,
        connector: Arc<dyn Connector>,
        names: LinkNames,
        codec: String,
    ) -> Self {
        Self { shared, order, connector, names, codec }
    }

    /// Until it is refused for good, or nothing will be sent any more.
    pub(super) async fn run(self) {
        tokio::select! {
            () = self.keep_connected() => {}
            _ = self.shared.outbox.gone() => {}
        }
    }

    async fn keep_connected(&self) {
        let configured = self.shared.outbox.config.backoff.clone();
        let mut shape = configured.clone().unwrap_or_else(|| self.connector.backoff());
        let mut backoff = Backoff::new(shape.clone(), fastrand::u64(..));
        loop {
            let began = Instant::now();
            let attempt = match self.connector.connect().await {
                Ok(connection) => self.attempt(connection).await,
                Err(error) => Err(Failure::Error(AttemptError::Dial(error))),
            };
            match attempt {
                Ok(()) => {
                    self.set_status(Status::Lost(LostReason::HangUp));
                    // A peer that answers and hangs up at once must not be dialled in a busy loop.
                    if began.elapsed() >= LASTING {
                        backoff.reset();
                    }
                }
                Err(Failure::Error(error)) => self.tell_error(Some(error)),
                Err(Failure::Overtaken) => {}
                Err(Failure::Refused(refusal)) => {
                    self.tell_error(None);
                    self.set_status(Status::Refused(refusal));
                    return;
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
    async fn attempt(&self, connection: Connection) -> Result<(), Failure> {
        let config = &self.shared.outbox.config;
        let remote = connection.info().remote.clone();
        let failed = |error| Failure::Error(AttemptError::handshake(remote.clone(), error));
        // Without a secret anybody could send in this one's name; better to try again.
        let session =
            secret_session().ok_or_else(|| failed(io::Error::other("the system has no randomness")))?;
        let mut hello = Hello::new(session, &*self.codec);
        hello.from_process.clone_from(&self.names.from_process);
        hello.from_port.clone_from(&self.names.from_port);
        hello.to_process.clone_from(&self.names.to_process);
        hello.to_port.clone_from(&self.names.to_port);
        hello.schema.clone_from(&config.schema);
        hello.credentials.clone_from(&config.credentials);
        hello.capacity = config.capacity.get() as u64;
        hello.delivery = DeliveryMode::BestEffort;
        let (at, reader, writer) = match greet(connection, &hello, config.handshake_timeout, || {}).await {
            Greeted::Datagrams(answer) => *answer,
            Greeted::Refused(refusal) if refusal.is_transient() => {
                return Err(Failure::Error(AttemptError::Refused(refusal)));
            }
            Greeted::Refused(refusal) => return Err(Failure::Refused(refusal)),
            Greeted::Failed(error) => return Err(failed(error)),
            Greeted::Welcome(_) => {
                let what = "the receiver does not know best effort".to_owned();
                return Err(Failure::Refused(Refusal::Unsupported { what }));
            }
        };
        let to = target(&at, &self.shared.local, &remote).map_err(Failure::Refused)?;
        // Values are held back again with the connection, also when this task is aborted.
        let lead = Lead { task: self };
        // Told before any value can arrive because of it.
        self.tell_error(None);
        self.set_status(Status::Connected);
        if !self.shared.outbox.lead_to(self.order, to, session) {
            return Err(Failure::Overtaken);
        }
        hang_on(reader).await;
        drop(lead);
        drop(writer);
        Ok(())
    }

    /// Tells what is in the way, under the condition of [`set_status`](Self::set_status).
    fn tell_error(&self, error: Option<AttemptError>) {
        self.shared.last_error.tell(error, || self.shared.outbox.is_latest(self.order));
    }

    /// Tells the state, unless another order came: that one has told it by then, or does so after this.
    fn set_status(&self, status: Status) {
        self.shared.status.send_if_modified(|current| {
            let newest = self.shared.outbox.is_latest(self.order);
            if newest {
                *current = status;
            }
            newest
        });
    }
}

/// Why no value could flow.
enum Failure {
    /// To be tried again.
    Error(AttemptError),
    /// Another order came.
    Overtaken,
    /// For good.
    Refused(Refusal),
}

/// However the task ends, with its runtime too: nobody looks for the receiver any more.
impl Drop for Task {
    fn drop(&mut self) {
        self.shared.outbox.hold_back(self.order, false);
        self.shared.status.send_if_modified(|current| {
            let is_stale = self.shared.outbox.is_latest(self.order) && !matches!(current, Status::Refused(_));
            if is_stale {
                *current = Status::Closed;
            }
            is_stale
        });
    }
}

/// Values go somewhere as long as this is held.
struct Lead<'a> {
    task: &'a Task,
}

impl Drop for Lead<'_> {
    fn drop(&mut self) {
        self.task.shared.outbox.hold_back(self.task.order, true);
    }
}

/// Until the receiver hangs up; it has nothing more to say.
async fn hang_on(mut reader: ReadHalf) {
    let mut byte = [0];
    let _ = reader.read(&mut byte).await;
}

/// The address behind the endpoint in an answer, if the socket here can reach it and it is where the connection led: nobody
/// is to be sent what somebody else was asked to receive.
fn target(at: &str, local: &Endpoint, remote: &Endpoint) -> Result<DatagramAddress, Refusal> {
    let incompatible = || Refusal::Incompatible {
        what: format!(
            "the receiver at {remote} has its datagrams go to {}, and the sender's socket is at {local}",
            at.escape_debug()
        ),
    };
    let endpoint: Endpoint = at.parse().map_err(|_| incompatible())?;
    if endpoint.scheme() != local.scheme() {
        return Err(incompatible());
    }
    let to = match DatagramAddress::of(&endpoint).ok_or_else(incompatible)? {
        DatagramAddress::Ip(to) => to,
        name => return Ok(name),
    };
    let there = match remote.socket_addr() {
        Some(remote) => remote,
        // A connection that does not leave this machine.
        None if to.ip().is_unspecified() || to.ip().is_loopback() => SocketAddr::new(loopback_of(to), 0),
        // Who is on this machine is believed.
        None => to,
    };
    let is_there = if to.ip().is_unspecified() {
        to.is_ipv4() == there.is_ipv4()
    } else {
        to.ip() == there.ip() || to.ip().is_loopback() && there.ip().is_loopback()
    };
    let to = if to.ip().is_unspecified() { at_port(there, to.port()) } else { to };
    let from = local.socket_addr().map_or(to.ip(), |local| local.ip());
    let reaches = from.is_ipv4() == to.is_ipv4()
        && (from.is_unspecified() || from.is_loopback() == to.ip().is_loopback());
    if is_there && reaches && to.port() != 0 && !to.ip().is_multicast() {
        Ok(DatagramAddress::Ip(to))
    } else {
        Err(incompatible())
    }
}

/// With its zone, if it has one.
fn at_port(mut address: SocketAddr, port: u16) -> SocketAddr {
    address.set_port(port);
    address
}

fn loopback_of(address: SocketAddr) -> IpAddr {
    if address.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn datagrams_go_where_the_connection_led_or_nowhere() {
        let outcome = |at: &str, local: &str, remote: &str| {
            let (local, remote) = (local.parse().unwrap(), remote.parse().unwrap());
            target(at, &local, &remote).ok().map(|address| address.to_string())
        };
        let (any, here) = ("udp://0.0.0.0:5", "udp://127.0.0.1:5");
        for (at, local, remote, expected) in [
            ("udp://127.0.0.1:9", here, "unix:/run/a.sock", Some("127.0.0.1:9")),
            ("udp://0.0.0.0:9", here, "unix:/run/a.sock", Some("127.0.0.1:9")),
            ("udp://[::]:9", "udp://[::1]:5", "unix:/run/a.sock", Some("[::1]:9")),
            ("udp://192.0.2.7:9", any, "unix:/run/a.sock", Some("192.0.2.7:9")),
            ("udp://127.0.0.1:9", here, "tcp://127.0.0.1:1", Some("127.0.0.1:9")),
            ("udp://127.0.0.2:9", here, "tcp://127.0.0.1:1", Some("127.0.0.2:9")),
            ("udp://192.0.2.7:9", any, "tcp://192.0.2.7:1", Some("192.0.2.7:9")),
            ("udp://0.0.0.0:9", any, "tls://192.0.2.7:1", Some("192.0.2.7:9")),
            ("mem:b", "mem:a", "unix:/run/a.sock", Some("b")),
            // Somebody else's services, or one's own.
            ("udp://192.0.2.8:9", any, "tcp://192.0.2.7:1", None),
            ("udp://127.0.0.1:9", any, "tcp://192.0.2.7:1", None),
            ("udp://192.0.2.7:9", here, "tcp://192.0.2.7:1", None),
            ("udp://192.0.2.7:9", "udp://192.0.2.1:5", "tcp://192.0.2.7:1", Some("192.0.2.7:9")),
            ("udp://127.0.0.1:9", "udp://192.0.2.1:5", "unix:/run/a.sock", None),
            ("udp://224.0.0.1:9", any, "unix:/run/a.sock", None),
            ("udp://127.0.0.1:0", here, "unix:/run/a.sock", None),
            ("udp://[::1]:9", here, "unix:/run/a.sock", None),
            ("udp://[::]:9", "udp://[::]:5", "tcp://192.0.2.7:1", None),
            ("udp://[::]:9", any, "tcp://192.0.2.7:1", None),
            ("udp://0.0.0.0:9", "udp://[::]:5", "tcp://[2001:db8::1]:1", None),
            ("udp://[::]:9", "udp://[::]:5", "tcp://[2001:db8::1]:1", Some("[2001:db8::1]:9")),
            ("udp://localhost:9", here, "unix:/run/a.sock", None),
            ("mem:b", here, "unix:/run/a.sock", None),
            ("", here, "unix:/run/a.sock", None),
        ] {
            assert_eq!(outcome(at, local, remote).as_deref(), expected, "{at} from {local} by {remote}");
        }
    }
}
