//! Where the examples of events meet, as their command lines say it, and what else they share.

use std::{
    error::Error,
    io::{self, Write as _},
    pin::pin,
    process::ExitCode,
};

use clap::{Args, ValueEnum};
use futures_util::future::{Either, select};
use ipc_channel::events::{ClientConfig, ServerConfig, Wire, node_ipc::default_path_v9};
use ipc_transport::Endpoint;
use tokio::signal::unix::{SignalKind, signal};

/// Where a server is, and what is spoken with it.
#[derive(Debug, Clone, Args)]
pub struct Meeting {
    /// Where the server is: unix:/path or tcp://host:port [default: found by its id]
    #[arg(long)]
    pub endpoint: Option<Endpoint>,
    /// What is spoken
    #[arg(long, value_enum, default_value_t = Spoken::Native)]
    pub wire: Spoken,
    /// The server's id
    #[arg(long, default_value = "world")]
    pub id: String,
}

/// What can be spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Spoken {
    /// The wire of this library
    Native,
    /// JSON, as node-ipc speaks it
    NodeIpc,
}

impl Meeting {
    /// The server's configuration.
    ///
    /// # Errors
    ///
    /// The id makes no path.
    pub fn server(&self) -> Result<ServerConfig, Box<dyn Error + Send + Sync>> {
        let config = ServerConfig::new(&self.id).wire(self.wire.wire());
        Ok(match self.place()? {
            Some(endpoint) => config.endpoint(endpoint),
            None => config,
        })
    }

    /// A client's configuration.
    ///
    /// # Errors
    ///
    /// The id makes no path.
    pub fn client(&self) -> Result<ClientConfig, Box<dyn Error + Send + Sync>> {
        let config = ClientConfig::new(&self.id).wire(self.wire.wire());
        Ok(match self.place()? {
            Some(endpoint) => config.endpoint(endpoint),
            None => config,
        })
    }

    /// The address, if it is not left to the id: node-ipc has a rule of its own for it.
    fn place(&self) -> Result<Option<Endpoint>, Box<dyn Error + Send + Sync>> {
        match (&self.endpoint, self.wire) {
            (Some(endpoint), _) => Ok(Some(endpoint.clone())),
            (None, Spoken::Native) => Ok(None),
            (None, Spoken::NodeIpc) => Ok(Some(Endpoint::unix(default_path_v9("/tmp/", "app.", &self.id)?)?)),
        }
    }
}

impl Spoken {
    /// The same for servers and clients.
    #[must_use]
    pub fn wire(self) -> Wire {
        match self {
            Self::Native => Wire::Native,
            Self::NodeIpc => Wire::node_ipc(),
        }
    }
}

/// Catches SIGINT and SIGTERM from now on; the future is ready when the first of them comes.
///
/// # Errors
///
/// The signals cannot be caught.
pub fn stop_signal() -> io::Result<impl Future<Output = ()> + Send> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    Ok(async move {
        let (interrupt, terminate) = (pin!(interrupt.recv()), pin!(terminate.recv()));
        match select(interrupt, terminate).await {
            Either::Left(_) | Either::Right(_) => {}
        }
    })
}

/// Prints a line; nobody may be left to read it, which is no reason to stop.
pub fn say(line: &str) {
    drop(writeln!(io::stdout(), "{line}"));
}

/// How a program ends: well, or with what went wrong on standard error.
#[must_use]
pub fn ended(program: &str, outcome: Result<(), Box<dyn Error + Send + Sync>>) -> ExitCode {
    let Err(error) = outcome else { return ExitCode::SUCCESS };
    // Nobody is left to tell when standard error is closed.
    drop(writeln!(io::stderr(), "{program}: {}", whole_story(&*error)));
    ExitCode::FAILURE
}

/// An error with its causes, in one line.
#[must_use]
pub fn whole_story(error: &(dyn Error + 'static)) -> String {
    let mut story = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        story.push_str(": ");
        story.push_str(&error.to_string());
        cause = error.source();
    }
    story
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_story_has_every_cause_in_its_order() {
        let inner = io::Error::other("the disk is full");
        let outer = ipc_channel::events::EmitError::Full;
        assert_eq!(whole_story(&inner), "the disk is full");
        assert_eq!(whole_story(&outer), "the peer has no room now");
        let call = ipc_channel::events::CallError::Emit(outer);
        assert_eq!(whole_story(&call), "the request was not sent: the peer has no room now");
    }

    #[test]
    fn without_an_endpoint_node_ipc_has_its_own_place() {
        let meeting = |wire| Meeting { endpoint: None, wire, id: "world".to_owned() };
        assert_eq!(meeting(Spoken::Native).place().unwrap(), None);
        let place = meeting(Spoken::NodeIpc).place().unwrap();
        assert_eq!(place, Some(Endpoint::unix("/tmp/app.world").unwrap()));
    }
}
