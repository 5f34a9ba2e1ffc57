//! A process that does with its ports what it is told to.

use bytes::Bytes;
use ipc_ports::{FullPolicy, IncomingPort, Node, OutgoingPort, PortConfig, RecvError, SendErrorReason};
use ipc_testkit::process::{self, Parent, Role, RoleProcess};
use ipc_transport::{ConnectOptions, Raw, Transports};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use crate::support::{LONG, Site, until};

/// An order to a process; each is answered by [`Told::Done`] unless something else is written.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Do {
    Start {
        name: String,
    },
    /// Looks whether somebody answers at the place of a name.
    Probe {
        name: String,
    },
    /// Makes the incoming port `IN`.
    Incoming {
        window: usize,
    },
    /// Makes the outgoing port `OUT`.
    Outgoing {
        capacity: usize,
        policy: Policy,
    },
    Connect {
        process: String,
    },
    /// Waits until whatever ports it has are connected to those of the other process.
    Observe {
        process: String,
    },
    /// Sends numbers, padded to a length, waiting for room; [`Told::Full`] at the first wait, if there is one.
    Send {
        from: u64,
        to: u64,
        len: usize,
    },
    /// Offers numbers without ever waiting; answered by [`Told::Offered`].
    Offer {
        count: u64,
        len: usize,
    },
    /// Answered by [`Told::Took`] when so many have come.
    Take {
        count: u64,
    },
    /// Takes one value some time, and tells it by [`Told::Received`].
    Receive,
    Settle,
    /// Sends one value, waits until it is released, and ends the process within the same breath.
    SendSettleExit {
        value: u64,
    },
    Close,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Policy {
    DropNewest,
    DropOldest,
    Fail,
    Wait,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Told {
    Done,
    Full,
    Offered {
        accepted: u64,
        dropped: u64,
        full: u64,
        pending: usize,
    },
    Received(u64),
    /// So many numbers from the first on; of the first so many it was said that they may have been seen before.
    Took {
        first: u64,
        count: u64,
        redelivered: u64,
    },
}

#[test]
fn role_node() {
    let Some(parent) = process::enter("roles::role_node") else { return };
    let site = parent.argument();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.unwrap().block_on(Actor::play(site, parent));
}

/// Starts a process whose node has this name.
pub(crate) async fn actor(site: &Site, name: &str) -> RoleProcess {
    let mut actor = Role::new("roles::role_node").argument(site).spawn().unwrap();
    tell(&mut actor, &Do::Start { name: name.to_owned() }).await;
    actor
}

/// Gives an order and waits until it is carried out.
pub(crate) async fn tell(actor: &mut RoleProcess, order: &Do) {
    assert_eq!(ask(actor, order).await, Told::Done, "{order:?}");
}

pub(crate) async fn ask(actor: &mut RoleProcess, order: &Do) -> Told {
    actor.send(order).unwrap();
    actor.recv().await.unwrap()
}

/// A process with the port `OUT`, connected to `IN` of another.
pub(crate) async fn producer(
    site: &Site,
    name: &str,
    capacity: usize,
    policy: Policy,
    to: &str,
) -> RoleProcess {
    let mut actor = actor(site, name).await;
    tell(&mut actor, &Do::Outgoing { capacity, policy }).await;
    tell(&mut actor, &Do::Connect { process: to.to_owned() }).await;
    actor
}

/// A process with the port `IN`.
pub(crate) async fn consumer(site: &Site, name: &str, window: usize) -> RoleProcess {
    let mut actor = actor(site, name).await;
    tell(&mut actor, &Do::Incoming { window }).await;
    actor
}

/// A number, padded.
pub(crate) fn value(number: u64, len: usize) -> Bytes {
    let mut bytes = vec![0; len.max(8)];
    bytes[..8].copy_from_slice(&number.to_le_bytes());
    Bytes::from(bytes)
}

/// The number in a value.
pub(crate) fn number(value: &[u8]) -> u64 {
    u64::from_le_bytes(*value.first_chunk().unwrap())
}

/// What a process has to do its orders with.
struct Actor {
    site: Site,
    node: Option<Node>,
    incoming: Option<IncomingPort<Bytes>>,
    outgoing: Option<OutgoingPort<Bytes>>,
    /// What background tasks have to say.
    voice: mpsc::Sender<Told>,
}

impl Actor {
    async fn play(site: Site, mut parent: Parent) {
        let (voice, mut said) = mpsc::channel(16);
        let mut actor = Self { site, node: None, incoming: None, outgoing: None, voice };
        loop {
            tokio::select! {
                order = parent.recv::<Do>() => match order.unwrap() {
                    Some(order) => {
                        let told = actor.carry_out(order, &parent).await;
                        parent.send(&told).unwrap();
                    }
                    None => return,
                },
                Some(told) = said.recv() => parent.send(&told).unwrap(),
            }
        }
    }

    async fn carry_out(&mut self, order: Do, parent: &Parent) -> Told {
        match order {
            Do::Start { name } => self.node = Some(self.site.node(&name).await),
            Do::Probe { name } => {
                if let Ok(at) = self.site.naming().resolve(&name).await {
                    // There may be nobody any more, or not yet.
                    let _ = Transports::default().connect(&at, &ConnectOptions::default()).await;
                }
            }
            Do::Incoming { window } => {
                let config = PortConfig::new().window(window);
                self.incoming = Some(self.node.as_ref().unwrap().incoming_codec("IN", config, Raw).unwrap());
            }
            Do::Outgoing { capacity, policy } => {
                let config = PortConfig::new().capacity(capacity).policy(policy.into());
                self.outgoing = Some(self.node.as_ref().unwrap().outgoing_codec("OUT", config, Raw).unwrap());
            }
            Do::Connect { process } => self.out().connect(&process, "IN").unwrap(),
            Do::Observe { process } => {
                if let Some(incoming) = &self.incoming {
                    until(|| incoming.is_connected_to(&process, "OUT")).await;
                }
                if let Some(outgoing) = &self.outgoing {
                    until(|| outgoing.is_connected_to(&process, "IN")).await;
                }
            }
            Do::Send { from, to, len } => self.send(from, to, len, parent).await,
            Do::Offer { count, len } => return self.offer(count, len),
            Do::Take { count } => return self.take(count).await,
            Do::Receive => {
                let (mut incoming, voice) = (self.incoming.take().unwrap(), self.voice.clone());
                tokio::spawn(async move {
                    let value = incoming.recv().await.unwrap();
                    voice.send(Told::Received(number(&value))).await.unwrap();
                    let end = incoming.recv().await.unwrap_err();
                    assert_eq!(end, RecvError::EndOfStream);
                });
            }
            Do::Settle => self.out().settled().await.unwrap(),
            Do::SendSettleExit { value: number } => {
                self.out().send(value(number, 8)).await.unwrap();
                self.out().settled().await.unwrap();
                std::process::exit(0);
            }
            Do::Close => self.outgoing.take().unwrap().close(LONG).await.unwrap(),
        }
        Told::Done
    }

    fn out(&self) -> &OutgoingPort<Bytes> {
        self.outgoing.as_ref().unwrap()
    }

    async fn send(&self, from: u64, to: u64, len: usize, parent: &Parent) {
        let out = self.out();
        let mut told = false;
        for number in from..to {
            let Err(error) = out.try_send(value(number, len)) else { continue };
            assert!(error.is_full(), "{error}");
            if !std::mem::replace(&mut told, true) {
                parent.send(&Told::Full).unwrap();
            }
            out.send(error.into_value()).await.unwrap();
        }
    }

    fn offer(&self, count: u64, len: usize) -> Told {
        let out = self.out();
        let full = (0..count)
            .filter(|number| match out.try_send(value(*number, len)) {
                Ok(()) => false,
                Err(error) => {
                    assert_eq!(*error.reason(), SendErrorReason::Full);
                    true
                }
            })
            .count() as u64;
        let counters = out.counters();
        Told::Offered { accepted: counters.accepted, dropped: counters.dropped, full, pending: out.pending() }
    }

    async fn take(&mut self, count: u64) -> Told {
        let incoming = self.incoming.as_mut().unwrap();
        let (mut first, mut next) = (None, 0);
        let mut redelivered = 0;
        for _ in 0..count {
            let delivery = incoming.recv().await.unwrap();
            let number = number(&delivery);
            assert_eq!(number, *first.get_or_insert(number) + next, "values are in order and without a gap");
            next += 1;
            redelivered += u64::from(delivery.redelivered());
        }
        Told::Took { first: first.unwrap_or(0), count, redelivered }
    }
}

impl From<Policy> for FullPolicy {
    fn from(policy: Policy) -> Self {
        match policy {
            Policy::DropNewest => Self::DropNewest,
            Policy::DropOldest => Self::DropOldest,
            Policy::Fail => Self::Fail,
            Policy::Wait => Self::Wait,
        }
    }
}
