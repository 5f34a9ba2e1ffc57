//! The processes on the machines: a node with a port for each direction, and one that passes bytes on, badly.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use ipc_ports::{
    AckMode, BackoffConfig, Delivery, IncomingPort, Limits, Node, NodeConfig, OutgoingPort, PortConfig,
    PortSender, Raw, RecvError, StaticNaming, Status, Transport,
};
use ipc_testkit::{
    FaultPlan, Faulty, Rule,
    process::{self, Parent},
};
use ipc_transport::{
    ConnectOptions, Connection, KeepAlive, ListenOptions, ReadHalf, TcpTransport, TlsTransport, WriteHalf,
    tls::{ClientConfig, Identity, Roots, ServerConfig},
};
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    runtime::Builder,
    sync::{mpsc, oneshot, watch},
};

/// Values that an outgoing port keeps.
pub(crate) const CAPACITY: usize = 64;

/// A deadline that nothing is meant to reach.
const LONG: Duration = Duration::from_secs(100);

/// How a node is set up.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Setup {
    pub(crate) name: String,
    /// Whom to send to.
    pub(crate) peer: String,
    /// The table of names.
    pub(crate) places: Vec<(String, String)>,
    /// Present if everything is to be encrypted.
    pub(crate) papers: Option<Papers>,
    /// Whether values are acked by hand, after they were told of.
    pub(crate) explicit: bool,
    /// How often to ask for a sign of life.
    pub(crate) ping: Option<Duration>,
    /// How long the kernel waits for the other kernel's word.
    pub(crate) user_timeout: Duration,
    /// How long dialling and greeting may take.
    pub(crate) patience: Duration,
}

/// Who a machine is and whom it trusts, in PEM.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Papers {
    pub(crate) roots: String,
    pub(crate) certificate: String,
    pub(crate) key: String,
}

/// An order to a node.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Do {
    /// Sends so many values, or until [`Do::Enough`]; answered by [`Told::Accepted`] after the last one.
    Send { count: Option<u64>, len: usize },
    /// Ends the sending.
    Enough,
    /// Answered by [`Told::Full`] when the port keeps as many values as it can.
    Fill,
    /// Ends the stream; answered by [`Told::Closed`] when everything is released.
    Close,
}

/// What a node says.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Told {
    /// So many values were accepted in all.
    Accepted(u64),
    Closed {
        reconnects: u64,
    },
    Connected,
    /// The stream from the other side has ended.
    Ended,
    Full {
        pending: usize,
    },
    Lost,
    Ready,
    Took(Vec<Run>),
}

/// Consecutive numbers that arrived one after the other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Run {
    pub(crate) first: u64,
    pub(crate) count: u64,
    pub(crate) redelivered: bool,
}

#[test]
fn role_node() {
    let Some(parent) = process::enter("roles::role_node") else { return };
    let setup = parent.argument();
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(Actor::play(setup, parent));
    // Whoever is done does not wait for what still tries to reach the other side.
    runtime.shutdown_background();
}

struct Actor {
    out: Option<OutgoingPort<Bytes>>,
    enough: Arc<AtomicBool>,
    voice: Voice,
    _node: Node,
}

impl Actor {
    async fn play(setup: Setup, mut parent: Parent) {
        let node = Node::start(setup.node()).await.unwrap();
        let port = PortConfig::new().capacity(CAPACITY);
        let port = setup.ping.map_or(port.clone(), |interval| port.ping(interval));
        let out = node.outgoing_codec("OUT", port, Raw).unwrap();
        let mode = if setup.explicit { AckMode::Explicit } else { AckMode::Automatic };
        let inp = node.incoming_codec("IN", PortConfig::new().ack_mode(mode), Raw).unwrap();
        let (voice, mut said) = mpsc::channel(1);
        let voice = Voice(voice);
        tokio::spawn(tell_status(out.sender(), voice.clone()));
        tokio::spawn(take(inp, voice.clone()));
        out.connect(&setup.peer, "IN").unwrap();
        parent.send(&Told::Ready).unwrap();
        let mut actor = Self { out: Some(out), enough: Arc::default(), voice, _node: node };
        loop {
            tokio::select! {
                order = parent.recv::<Do>() => match order.unwrap() {
                    Some(order) => actor.begin(order),
                    None => return,
                },
                Some((told, heard)) = said.recv() => {
                    parent.send(&told).unwrap();
                    let _: Result<(), ()> = heard.send(());
                }
            }
        }
    }

    /// Carries an order out, beside others.
    fn begin(&mut self, order: Do) {
        let voice = self.voice.clone();
        match order {
            Do::Send { count, len } => {
                let (sender, enough) = (self.sender(), self.enough.clone());
                tokio::spawn(async move {
                    let mut number = sender.counters().accepted;
                    let end = count.map_or(u64::MAX, |count| number + count);
                    while number < end && !enough.load(Ordering::Relaxed) {
                        sender.send(value(number, len)).await.unwrap();
                        number += 1;
                    }
                    voice.say(Told::Accepted(number)).await;
                });
            }
            Do::Enough => self.enough.store(true, Ordering::Relaxed),
            Do::Fill => {
                let sender = self.sender();
                tokio::spawn(async move {
                    let mut pending = sender.pending();
                    while pending < sender.capacity() {
                        // Sleeps between two looks: no event tells how many values are kept.
                        tokio::time::sleep(Duration::from_millis(1)).await;
                        pending = sender.pending();
                    }
                    voice.say(Told::Full { pending }).await;
                });
            }
            Do::Close => {
                let out = self.out.take().unwrap();
                tokio::spawn(async move {
                    let sender = out.sender();
                    out.close(LONG).await.unwrap();
                    voice.say(Told::Closed { reconnects: sender.counters().reconnects }).await;
                });
            }
        }
    }

    fn sender(&self) -> PortSender<Bytes> {
        self.out.as_ref().unwrap().sender()
    }
}

/// What the tasks of a node say, one after the other.
#[derive(Clone)]
struct Voice(mpsc::Sender<(Told, oneshot::Sender<()>)>);

impl Voice {
    /// Returns when it is out of the process: what is heard of, a kill cannot take back.
    async fn say(&self, told: Told) {
        let (heard, hearing) = oneshot::channel();
        if self.0.send((told, heard)).await.is_ok() {
            let _ = hearing.await;
        }
    }
}

async fn tell_status(sender: PortSender<Bytes>, voice: Voice) {
    let mut status = sender.status();
    while status.changed().await.is_ok() {
        let now = status.borrow_and_update().clone();
        match now {
            Status::Connected => voice.say(Told::Connected).await,
            Status::Lost(_) => voice.say(Told::Lost).await,
            _ => {}
        }
    }
}

/// Takes what comes, tells of it, and only then acks it.
async fn take(mut inp: IncomingPort<Bytes>, voice: Voice) {
    let mut taken: Vec<Delivery<Bytes>> = Vec::new();
    loop {
        match inp.recv_deliveries(&mut taken, 16).await {
            Ok(_) => {
                voice.say(Told::Took(runs(&taken))).await;
                for delivery in taken.drain(..) {
                    delivery.ack();
                }
            }
            Err(RecvError::EndOfStream) => voice.say(Told::Ended).await,
            Err(error) => panic!("{error}"),
        }
    }
}

fn runs(taken: &[Delivery<Bytes>]) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for delivery in taken {
        let (number, redelivered) = (number(delivery), delivery.redelivered());
        match runs.last_mut() {
            Some(run) if run.first + run.count == number && run.redelivered == redelivered => run.count += 1,
            _ => runs.push(Run { first: number, count: 1, redelivered }),
        }
    }
    runs
}

impl Setup {
    fn node(&self) -> NodeConfig {
        let naming = self
            .places
            .iter()
            .fold(StaticNaming::new(), |naming, (name, place)| naming.with(name, place.parse().unwrap()));
        let probes =
            KeepAlive::default().with_idle(self.user_timeout).with_interval(self.user_timeout).with_probes(2);
        let tcp = TcpTransport::new().keep_alive(Some(probes)).user_timeout(Some(self.user_timeout));
        let soon = BackoffConfig::remote()
            .with_first(Duration::from_millis(5))
            .with_quick_max(Duration::from_millis(100))
            .with_max(Duration::from_millis(100));
        let config = NodeConfig::new(&self.name)
            .naming(naming)
            .backoff(soon)
            .connect_timeout(self.patience)
            .limits(Limits::default().with_handshake_timeout(self.patience));
        match &self.papers {
            Some(papers) => config.transport(papers.transport().tcp(tcp)),
            None => config.transport(tcp),
        }
    }
}

impl Papers {
    /// Each side verifies the other.
    fn transport(&self) -> TlsTransport {
        let identity = Identity::from_pem(&self.certificate, &self.key).unwrap();
        let roots = Roots::from_pem(&self.roots).unwrap();
        let server = ServerConfig::builder(identity.clone()).verify_clients_against(roots.clone()).unwrap();
        let client = ClientConfig::builder().verify_against(roots).unwrap().identity(identity);
        TlsTransport::new().server(server.build().unwrap()).client(client.build().unwrap())
    }
}

/// A number, bytes that follow from it, and a sum over both.
fn value(number: u64, len: usize) -> Bytes {
    let mut bytes = number.to_le_bytes().to_vec();
    bytes.resize(len.max(16) - 8, 0);
    fastrand::Rng::with_seed(number).fill(&mut bytes[8..]);
    bytes.extend(sum(&bytes).to_le_bytes());
    Bytes::from(bytes)
}

/// The number in a value that is as it was sent.
fn number(value: &[u8]) -> u64 {
    let (body, told) = value.split_last_chunk().unwrap();
    assert_eq!(sum(body), u64::from_le_bytes(*told), "a value was damaged");
    u64::from_le_bytes(*body.first_chunk().unwrap())
}

/// FNV-1a.
fn sum(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |sum, byte| (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

/// From where to where bytes are passed on, and how.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Detour {
    pub(crate) at: String,
    pub(crate) to: String,
    pub(crate) seed: u64,
    pub(crate) trouble: Trouble,
}

/// What happens to connections on a detour.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) enum Trouble {
    /// Bytes come late and in pieces, pause for a while, and the first so many connections break anywhere.
    Cuts { connections: u64 },
    /// The first connection stands still after so many bytes to the receiver, until it is told to go on.
    Standstill { after: u64 },
}

impl Trouble {
    fn plan(self, seed: u64) -> FaultPlan {
        let plan = FaultPlan::new(seed);
        match self {
            Self::Cuts { connections } => plan
                .with(Rule::delay_up_to_ms(3))
                .with(Rule::stall_after_for(30_000, Duration::from_millis(50)).chance(0.5))
                .with(Rule::cut_between(0..=50_000).dialled().connections(0..connections)),
            Self::Standstill { after } => {
                plan.with(Rule::stall_after(after).dialled().writing().connections(0..1))
            }
        }
    }
}

/// Asks a detour to let everything go on, until the first connection has come to its end on both sides.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct GoOn;

/// How many connections a detour has made and cut.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Passed {
    pub(crate) connections: u64,
    pub(crate) cut: u64,
}

/// Passes bytes on; answers each [`GoOn`], and at first that it is there, by [`Passed`].
#[test]
fn role_detour() {
    let Some(mut parent) = process::enter("roles::role_detour") else { return };
    let detour: Detour = parent.argument();
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let faulty = Faulty::new(TcpTransport::new(), detour.trouble.plan(detour.seed));
        let handle = faulty.handle();
        let at = detour.at.parse().unwrap();
        let mut listener = TcpTransport::new().listen(&at, &ListenOptions::default()).await.unwrap();
        let to = detour.to.parse().unwrap();
        let (over, mut ended) = watch::channel(0_u64);
        tokio::spawn(async move {
            while let Ok(incoming) = listener.accept().await {
                let (faulty, to, over) = (faulty.clone(), Clone::clone(&to), over.clone());
                tokio::spawn(async move {
                    let near = incoming.establish().await?;
                    let far = faulty.connect(&to, &ConnectOptions::default()).await?;
                    join(near, far).await;
                    over.send_modify(|count| *count += 1);
                    Ok::<(), ipc_transport::Error>(())
                });
            }
        });
        loop {
            let dialled = handle.counters().dialled;
            parent.send(&Passed { connections: dialled.connections, cut: dialled.cut }).unwrap();
            let Some(GoOn) = parent.recv().await.unwrap() else { return };
            handle.resume();
            ended.wait_for(|count| *count > 0).await.unwrap();
        }
    });
}

/// Each direction goes on by itself, whatever becomes of the other.
async fn join(near: Connection, far: Connection) {
    let (near_reader, near_writer, _) = near.into_parts();
    let (far_reader, far_writer, _) = far.into_parts();
    tokio::join!(pass(near_reader, far_writer), pass(far_reader, near_writer));
}

async fn pass(mut from: ReadHalf, mut to: WriteHalf) {
    let mut buffer = vec![0; 8 * 1024];
    loop {
        let read = match from.read(&mut buffer).await {
            Ok(read) if read > 0 => read,
            _ => break,
        };
        if to.write_all(&buffer[..read]).await.is_err() || to.flush().await.is_err() {
            return;
        }
    }
    let _ = to.shutdown().await;
}
