//! The server `world`: answers each `message` with the same and ` world!` behind it, until it is interrupted.
//!
//! ```text
//! cargo run --example world
//! cargo run --example world -- --wire node-ipc --endpoint tcp://127.0.0.1:8000
//! ```
//!
//! `hello` is its client; with `--wire node-ipc` any process that uses node-ipc is one as well.

use std::{error::Error, process::ExitCode, time::Duration};

use clap::Parser;
use ipc_channel::{
    Event,
    events::{Reply, Server},
};
use ipc_examples::meeting::{Meeting, ended, say, stop_signal};

/// Answers messages until SIGINT or SIGTERM
#[derive(Debug, Parser)]
#[command(name = "world")]
struct Cli {
    #[command(flatten)]
    meeting: Meeting,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    ended("world", run(Cli::parse()).await)
}

async fn run(cli: Cli) -> Result<(), Box<dyn Error + Send + Sync>> {
    let stop = stop_signal()?;
    let server = Server::start(cli.meeting.server()?).await?;
    server.on("message", |message: Event<String>, client: Reply| async move {
        let answer = client.emit("message", &format!("{} world!", *message)).await;
        say(&format!("got a message: {}", *message));
        if let Err(error) = answer {
            say(&format!("no answer was sent: {error}"));
        }
    });
    say(&format!("world listens at {}", server.endpoint()));
    stop.await;
    if let Err(rest) = server.close(PATIENCE).await {
        // A client that is gone cannot be told.
        say(&rest.to_string());
    }
    Ok(())
}

/// How long clients that do not read may hold up the end.
const PATIENCE: Duration = Duration::from_secs(2);
