//! The tutorial of ipcIO: a server of two commands, and a client that sends each of them every few seconds.
//!
//! ```text
//! cargo run --example ipcio_tutorial -- server
//! cargo run --example ipcio_tutorial -- client
//! ```
//!
//! Run each in a terminal of its own, in either order; both go on until they are interrupted. Without a role both run in
//! one process, twenty times as fast, and end by themselves.

use std::{error::Error, pin::pin, process::ExitCode, time::Duration};

use clap::{Parser, ValueEnum};
use ipc_channel::{
    Event,
    events::{Client, ClientConfig, ClientStatus, GaveUp, Reply, Server, ServerConfig},
};
use ipc_examples::meeting::{ended, say, stop_signal};
use tokio::{
    sync::{oneshot, watch},
    time::{Instant, interval_at},
};

/// The tutorial of ipcIO
#[derive(Debug, Parser)]
#[command(name = "ipcio_tutorial")]
struct Cli {
    /// Which side to be; both, for a short while, if it is not said
    #[arg(value_enum)]
    role: Option<Role>,
    /// Divides the times between two commands [default: 1, or 20 without a role]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    faster: Option<u32>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Role {
    /// Sends commands
    Client,
    /// Answers commands
    Server,
}

type Outcome = Result<(), Box<dyn Error + Send + Sync>>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    ended("ipcio_tutorial", run(Cli::parse()).await)
}

async fn run(cli: Cli) -> Outcome {
    match cli.role {
        Some(Role::Server) => serve(stop_signal()?).await,
        Some(Role::Client) => command(cli.faster.unwrap_or(1), None, stop_signal()?).await,
        None => {
            let (done, server_stops) = oneshot::channel::<()>();
            let client = async {
                command(cli.faster.unwrap_or(20), Some(2), std::future::pending()).await?;
                drop(done);
                Ok(())
            };
            let server = serve(async {
                let _ = server_stops.await;
            });
            tokio::try_join!(server, client).map(|((), ())| ())
        }
    }
}

async fn serve(stop: impl Future<Output = ()>) -> Outcome {
    let server = Server::start(ServerConfig::new(SERVER).domain(DOMAIN)).await?;
    // Commands can be taken in a loop, which sends by asking the server...
    let mut requests = server.events::<String>("example_request_command", 16)?;
    // ...or by a handler, which sends through the handle that it gets.
    server.on("other_request_command", |request: Event<String>, client: Reply| async move {
        show("Other", &request, &client);
        if let Err(error) = client.emit("other_response_command", "other response data").await {
            say(&format!("server: {error}"));
        }
    });
    say(&format!("server: waiting at {}", server.endpoint()));
    let mut stop = pin!(stop);
    loop {
        let (request, client) = tokio::select! {
            request = requests.next() => request.ok_or("the server has ended")?,
            () = &mut stop => break,
        };
        show("Example", &request, &client);
        let name = client.name().unwrap_or(client.id());
        let sent = server.emit(name, "example_response_command", "example response data").await;
        if let Err(error) = sent {
            // It may be gone already.
            say(&format!("server: {error}"));
        }
    }
    if let Err(rest) = server.close(PATIENCE).await {
        say(&format!("server: {rest}"));
    }
    Ok(())
}

fn show(which: &str, request: &Event<String>, client: &Reply) {
    say(&format!("server: {which} command handler triggered."));
    say(&format!("server: Client name: {}", client.name().unwrap_or("none")));
    say(&format!("server: Receiving data: {}", **request));
}

/// Sends until it is told to stop, or so many of the rarer commands were answered.
async fn command(faster: u32, enough: Option<u64>, stop: impl Future<Output = ()>) -> Outcome {
    let config = ClientConfig::new(SERVER).domain(DOMAIN).name("example_client");
    let client = Client::start(config)?;
    let (count, mut answered) = watch::channel(0);
    client.on("example_response_command", move |response: Event<String>, _| {
        say(&format!("client: Received example response command with data: {}", *response));
        count.send_modify(|count| *count += 1);
        async {}
    });
    client.on("other_response_command", |response: Event<String>, _| {
        say(&format!("client: Received other response command with data: {}", *response));
        async {}
    });
    let mut timers = [EXAMPLE, OTHER].map(|period| {
        let period = period / faster;
        interval_at(Instant::now() + period, period)
    });
    let [example, other] = &mut timers;
    let status = client.status();
    let mut over = pin!(async move {
        tokio::select! {
            () = stop => Ok(()),
            Ok(_) = answered.wait_for(|count| enough.is_some_and(|enough| *count >= enough)) => Ok(()),
            // A client of this name is there already, for one.
            why = gave_up(status) => Err(why),
        }
    });
    loop {
        // A full pipeline to a server that is not there must not hold up the end.
        let sent = tokio::select! {
            over = &mut over => {
                over?;
                break;
            }
            _ = example.tick() => client.try_emit("example_request_command", "example request data"),
            _ = other.tick() => client.try_emit("other_request_command", "other request data"),
        };
        if let Err(error) = sent {
            say(&format!("client: {error}"));
        }
    }
    if let Err(rest) = client.close(PATIENCE).await {
        say(&format!("client: {rest}"));
    }
    Ok(())
}

async fn gave_up(mut status: watch::Receiver<ClientStatus>) -> GaveUp {
    let status = status.wait_for(|status| matches!(status, ClientStatus::GaveUp(_))).await;
    match status.as_deref() {
        Ok(ClientStatus::GaveUp(why)) => why.clone(),
        _ => GaveUp::Stopped,
    }
}

const DOMAIN: &str = "example_domain";
const SERVER: &str = "test-server";

/// Between two `example_request_command`s.
const EXAMPLE: Duration = Duration::from_millis(7_331);

/// Between two `other_request_command`s.
const OTHER: Duration = Duration::from_millis(1_338);

/// How long the other side may hold up the end.
const PATIENCE: Duration = Duration::from_secs(2);
