//! A transport of your own: `stdio:` talks with a child process over the pipes of its standard input and output, as one
//! does with plug-ins and language servers. The program at the end runs ports over it. To its child a parent has one
//! connection, which the parent dials, and a port takes one: so ports lead one way here, from the parent to the child.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program that shows what it does")]

use std::{collections::BTreeMap, env, ffi::OsString, fs::File, io, os::fd::AsFd as _, os::fd::OwnedFd};
use std::{sync::Arc, sync::Mutex, sync::MutexGuard, time::Duration};

use async_trait::async_trait;
use ipc_ports::{AckMode, Node, NodeConfig, PortConfig};
use ipc_transport::{Access, ListenOptions, Listener, PeerIdentity, StaticNaming, Transport};
use ipc_transport::{ConnectOptions, Connection, ConnectionInfo, Endpoint, Error, Incoming};
use tokio::{net::unix::pipe, process::Command, runtime::Handle, sync::mpsc};

/// Connections over pipes. `stdio:NAME` is the listener of that name among the clones of this transport, or else the
/// command of that name, started anew by each connection; dropping both halves of it kills and reaps the process.
#[derive(Debug, Clone, Default)]
pub struct StdioTransport(Arc<Mutex<BTreeMap<String, Place>>>);

#[derive(Debug)]
enum Place {
    Command(OsString, Vec<OsString>),
    Listener(mpsc::Sender<Pipes>),
    /// Without a name: a connection that is there before anybody asks for it.
    Pipes(Pipes),
}

impl StdioTransport {
    /// The transport of a child process. Its standard input and output are a connection now, and `/dev/null` instead of
    /// them, so that no `print!` gets into it and nothing but the connection keeps the pipes open.
    pub fn from_parent() -> io::Result<Self> {
        let reader = io::stdin().as_fd().try_clone_to_owned()?;
        let writer = io::stdout().as_fd().try_clone_to_owned()?;
        rustix::stdio::dup2_stdin(File::open("/dev/null")?)?;
        rustix::stdio::dup2_stdout(File::options().write(true).open("/dev/null")?)?;
        Ok(Self::over(reader, writer))
    }

    /// A transport with one connection, over these ends of two pipes, for whoever listens or dials first.
    pub fn over(reader: OwnedFd, writer: OwnedFd) -> Self {
        Self(Arc::new(Mutex::new([(String::new(), Place::Pipes(Pipes(reader, writer)))].into())))
    }

    /// Gives a name to a program with its arguments.
    #[must_use]
    pub fn with_command(self, name: &str, program: impl Into<OsString>, arguments: &[&str]) -> Self {
        let command = Place::Command(program.into(), arguments.iter().map(Into::into).collect());
        self.places().insert(name.to_owned(), command);
        self
    }

    fn places(&self) -> MutexGuard<'_, BTreeMap<String, Place>> {
        self.0.lock().expect("nothing panics under this lock")
    }
}

#[async_trait]
impl Transport for StdioTransport {
    fn scheme(&self) -> &str {
        "stdio"
    }

    async fn connect(&self, to: &Endpoint, options: &ConnectOptions) -> Result<Connection, Error> {
        Handle::try_current().map_err(|_| Error::NoRuntime)?;
        let refused = || Error::ConnectionRefused { endpoint: to.clone() };
        let (mut near, far) = Pipes::pair().map_err(|error| Error::io("make pipes", to, error))?;
        let (mut places, mut child) = (self.places(), None);
        match places.get(to.address()) {
            Some(Place::Command(program, arguments)) => {
                let mut command = Command::new(program);
                command.args(arguments).stdin(far.0).stdout(far.1).kill_on_drop(true);
                child = Some(command.spawn().map_err(|error| Error::io("start", to, error))?);
            }
            Some(Place::Listener(listener)) => listener.try_send(far).map_err(|_| refused())?,
            _ => match places.remove("") {
                Some(Place::Pipes(waiting)) => near = waiting,
                _ => return Err(refused()),
            },
        }
        Ok(near.open(to, &options.access)?.holding(child))
    }

    async fn listen(&self, at: &Endpoint, options: &ListenOptions) -> Result<Box<dyn Listener>, Error> {
        let mut places = self.places();
        let taken = |place: &Place| !matches!(place, Place::Listener(listener) if listener.is_closed());
        if places.get(at.address()).is_some_and(taken) {
            return Err(Error::AddrInUse { endpoint: at.clone(), holder: Some(std::process::id()) });
        }
        let (sender, arriving) = mpsc::channel(options.backlog.max(1) as usize);
        if let Some(Place::Pipes(first)) = places.remove("") {
            sender.try_send(first).expect("it has room for one");
        }
        places.insert(at.address().to_owned(), Place::Listener(sender));
        Ok(Box::new(StdioListener { at: at.clone(), access: options.access.clone(), arriving }))
    }
}

#[derive(Debug)]
struct StdioListener {
    at: Endpoint,
    access: Access,
    arriving: mpsc::Receiver<Pipes>,
}

#[async_trait]
impl Listener for StdioListener {
    fn local_endpoint(&self) -> &Endpoint {
        &self.at
    }

    async fn accept(&mut self) -> Result<Incoming, Error> {
        let (at, access) = (self.at.clone(), self.access.clone());
        let pipes = self.arriving.recv().await.ok_or_else(|| Error::NotFound { endpoint: at.to_string() })?;
        Ok(Incoming::new(at.clone(), async move { pipes.open(&at, &access) }))
    }

    async fn close(self: Box<Self>) -> Result<(), Error> {
        Ok(())
    }
}

/// One side of a connection, to read from and to write to, before a runtime looks after it.
#[derive(Debug)]
struct Pipes(OwnedFd, OwnedFd);

impl Pipes {
    fn pair() -> io::Result<(Self, Self)> {
        let ((near_reader, far_writer), (far_reader, near_writer)) = (io::pipe()?, io::pipe()?);
        Ok((Self(near_reader.into(), near_writer.into()), Self(far_reader.into(), far_writer.into())))
    }

    fn open(self, at: &Endpoint, access: &Access) -> Result<Connection, Error> {
        Handle::try_current().map_err(|_| Error::NoRuntime)?;
        let peer = PeerIdentity::Unknown;
        if !access.admits(&peer) {
            return Err(Error::AccessDenied { endpoint: at.clone(), peer: peer.to_string() });
        }
        let failed = |error| Error::io("open", at, error);
        let reader = pipe::Receiver::from_owned_fd(self.0).map_err(failed)?;
        let writer = pipe::Sender::from_owned_fd(self.1).map_err(failed)?;
        Ok(Connection::from_bytes(reader, writer, ConnectionInfo::new(at.clone(), at.clone(), peer)))
    }
}

/// Parent and child, each a node with a port; the child is this program again.
#[tokio::main]
pub async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let naming =
        StaticNaming::new().with("parent", "stdio:parent".parse()?).with("child", "stdio:child".parse()?);
    if env::args().nth(1).as_deref() == Some("child") {
        let config = NodeConfig::new("child").naming(naming).transport(StdioTransport::from_parent()?);
        let node = Node::start(config).await?;
        // A parent that is gone does not come back, and a value counts as taken when something was done with it.
        let port = PortConfig::new().source_ttl(Duration::ZERO).ack_mode(AckMode::Explicit);
        let mut incoming = node.incoming_with::<String>("IN", port)?;
        while let Ok(word) = incoming.recv().await {
            eprintln!("child: took {:?}", *word);
            word.ack();
        }
        return Ok(node.shutdown(Duration::from_secs(60)).await?);
    }
    let transport = StdioTransport::default().with_command("child", env::current_exe()?, &["child"]);
    let node = Node::start(NodeConfig::new("parent").naming(naming).transport(transport)).await?;
    let out = node.outgoing::<String>("OUT")?;
    out.connect("child", "IN")?;
    for word in ["bounded", "buffered", "loss-free"] {
        out.send(word.to_owned()).await?;
        println!("parent: sent {word:?}");
    }
    out.close(Duration::from_secs(60)).await?;
    println!("parent: the child has taken everything");
    Ok(node.shutdown(Duration::from_secs(60)).await?)
}
