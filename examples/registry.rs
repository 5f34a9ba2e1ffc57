//! A registry of transports to which schemes are added at run time, and connections that are dialled by scheme alone:
//!
//! ```text
//! cargo run --example registry -- --scheme counted tcp://127.0.0.1:0 counted:127.0.0.1:0 pigeon:coop
//! ```
//!
//! Each endpoint gets a listener, is dialled, and echoes one line. `--scheme NAME` adds TCP under another name, which
//! counts how often it was dialled. For `pigeon` there is no transport, which is an error and not a guess.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program that shows what it does")]

use std::{
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use async_trait::async_trait;
use clap::Parser;
use ipc_transport::{
    ConnectOptions, Connection, ConnectionInfo, Endpoint, Error, Incoming, ListenOptions, Listener,
    TcpTransport, Transport, Transports,
};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};

/// Dials endpoints by their schemes
#[derive(Debug, Parser)]
struct Cli {
    /// A scheme to add: TCP under this name, with a count
    #[arg(long, value_name = "NAME")]
    scheme: Vec<String>,
    /// What to listen at and to dial
    #[arg(required = true)]
    endpoints: Vec<Endpoint>,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    let mut transports = Transports::default();
    let mut added = Vec::new();
    for scheme in cli.scheme {
        let counted = Counted { scheme, tcp: TcpTransport::new(), dialled: Arc::default() };
        added.push(counted.clone());
        transports = transports.with(counted);
    }
    println!("schemes: {}", transports.schemes().collect::<Vec<_>>().join(", "));
    let mut status = ExitCode::SUCCESS;
    for endpoint in &cli.endpoints {
        match echo(&transports, endpoint).await {
            Ok(answer) => println!("{endpoint}: {answer}"),
            Err(error) => {
                eprintln!("{endpoint}: {error}");
                status = ExitCode::FAILURE;
            }
        }
    }
    for counted in added {
        println!("{}: dialled {} times", counted.scheme, counted.dialled.load(Ordering::Relaxed));
    }
    status
}

/// Listens, dials what the listener says, and returns the line that comes back.
async fn echo(transports: &Transports, at: &Endpoint) -> Result<String, Error> {
    let mut listener = transports.listen(at, &ListenOptions::default()).await?;
    let to = listener.local_endpoint().clone();
    let serving = async {
        let (reader, mut writer, _) = listener.accept().await?.establish().await?.into_parts();
        let failed = |error| Error::io("echo", &to, error);
        tokio::io::copy_buf(&mut BufReader::new(reader), &mut writer).await.map_err(failed)?;
        writer.shutdown().await.map_err(failed)
    };
    let asking = async {
        let (reader, mut writer, info) =
            transports.connect(&to, &ConnectOptions::default()).await?.into_parts();
        let failed = |error| Error::io("ask", &to, error);
        let question = format!("hello over {}\n", info.remote.scheme());
        writer.write_all(question.as_bytes()).await.map_err(failed)?;
        writer.shutdown().await.map_err(failed)?;
        let mut answer = String::new();
        BufReader::new(reader).read_line(&mut answer).await.map_err(failed)?;
        Ok(answer.trim_end().to_owned())
    };
    let ((), answer) = tokio::try_join!(serving, asking)?;
    listener.close().await?;
    Ok(answer)
}

/// TCP under a scheme of its own: what is to be dialled is rewritten on the way in, and what is told on the way out.
#[derive(Debug, Clone)]
struct Counted {
    scheme: String,
    tcp: TcpTransport,
    dialled: Arc<AtomicUsize>,
}

impl Counted {
    fn inner(&self, endpoint: &Endpoint) -> Result<Endpoint, Error> {
        Ok(Endpoint::new("tcp", endpoint.address())?)
    }

    fn outer(&self, endpoint: &Endpoint) -> Result<Endpoint, Error> {
        Ok(Endpoint::new(&self.scheme, endpoint.address())?)
    }

    fn rename(&self, connection: Connection) -> Result<Connection, Error> {
        let (reader, writer, info) = connection.into_parts();
        let info = ConnectionInfo::new(self.outer(&info.local)?, self.outer(&info.remote)?, info.peer);
        Ok(Connection::from_bytes(reader, writer, info))
    }
}

#[async_trait]
impl Transport for Counted {
    fn scheme(&self) -> &str {
        &self.scheme
    }

    async fn connect(&self, to: &Endpoint, options: &ConnectOptions) -> Result<Connection, Error> {
        self.dialled.fetch_add(1, Ordering::Relaxed);
        self.rename(self.tcp.connect(&self.inner(to)?, options).await?)
    }

    async fn listen(&self, at: &Endpoint, options: &ListenOptions) -> Result<Box<dyn Listener>, Error> {
        let listener = self.tcp.listen(&self.inner(at)?, options).await?;
        let local = self.outer(listener.local_endpoint())?;
        Ok(Box::new(CountedListener { counted: self.clone(), listener, local }))
    }
}

#[derive(Debug)]
struct CountedListener {
    counted: Counted,
    listener: Box<dyn Listener>,
    local: Endpoint,
}

#[async_trait]
impl Listener for CountedListener {
    fn local_endpoint(&self) -> &Endpoint {
        &self.local
    }

    async fn accept(&mut self) -> Result<Incoming, Error> {
        let incoming = self.listener.accept().await?;
        let counted = self.counted.clone();
        let remote = counted.outer(incoming.remote_endpoint())?;
        Ok(Incoming::new(remote, async move { counted.rename(incoming.establish().await?) }))
    }

    async fn close(self: Box<Self>) -> Result<(), Error> {
        self.listener.close().await
    }
}
