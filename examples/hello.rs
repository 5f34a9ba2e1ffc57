//! The client `hello`: says `hello` to the server `world` and prints what that answers.
//!
//! ```text
//! cargo run --example hello
//! cargo run --example hello -- --wire node-ipc --endpoint tcp://127.0.0.1:8000
//! ```
//!
//! It may start first: it keeps trying, and what it says waits. With `--wire node-ipc` the server may be any process that
//! uses node-ipc.

use std::{error::Error, process::ExitCode, sync::Arc, time::Duration};

use clap::Parser;
use ipc_channel::events::{Client, ConnectError};
use ipc_examples::meeting::{Meeting, ended, say};
use tokio::{sync::watch, time::timeout};

/// Says hello and prints the answer
#[derive(Debug, Parser)]
#[command(name = "hello")]
struct Cli {
    #[command(flatten)]
    meeting: Meeting,
    /// Seconds until it stops waiting for the answer
    #[arg(long, default_value = "30", value_parser = seconds)]
    timeout: Duration,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    ended("hello", run(Cli::parse()).await)
}

async fn run(cli: Cli) -> Result<(), Box<dyn Error + Send + Sync>> {
    let client = Client::start(cli.meeting.client()?)?;
    let (failures, last_failure) = watch::channel(None);
    client.on_attempt_failed(move |failure| {
        failures.send_replace(Some(failure.error));
        async {}
    });
    let mut answers = client.events::<String>("message", 1)?;
    let talk = async {
        client.connected().await?;
        client.emit("message", "hello").await?;
        let (answer, _) = answers.next().await.ok_or("the client has ended")?;
        Ok::<_, Box<dyn Error + Send + Sync>>(answer.into_value())
    };
    let told = timeout(cli.timeout, talk).await;
    let answer = told.unwrap_or_else(|_| {
        let failure = if client.is_connected() { None } else { last_failure.borrow().clone() };
        Err(NoAnswer { after: cli.timeout, failure }.into())
    });
    if let Ok(answer) = &answer {
        say(answer);
        // A server keeps the place of one that does not say goodbye.
        let _ = client.close(GOODBYE).await;
    } else {
        client.abort().await;
    }
    answer.map(drop)
}

/// Why there is no answer.
#[derive(Debug)]
struct NoAnswer {
    after: Duration,
    /// Why it is not connected.
    failure: Option<Arc<ConnectError>>,
}

impl std::fmt::Display for NoAnswer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "no answer within {:?}", self.after)
    }
}

impl Error for NoAnswer {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.failure.as_deref().map(|failure| failure as &dyn Error)
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().map_err(|_| "not a number of seconds".to_owned())?;
    Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())
}

/// How long saying goodbye may take: the answer is there, and nothing else is owed.
const GOODBYE: Duration = Duration::from_secs(1);
