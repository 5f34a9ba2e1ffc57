//! Messages as lines of JSON, read by a thread so that waiting for one can be cancelled.

use std::{
    io::{self, BufRead},
    thread,
};

use serde::{Serialize, de::DeserializeOwned};
use tokio::sync::mpsc;

use super::ProcessError;

/// Marks the lines of a role's output that are messages, among what the test harness prints.
pub(super) const MARK: &str = "\u{1}ipc:";

/// Messages that wait to be taken, before their sender is held.
const WAITING: usize = 1024;

/// The messages that come out of a pipe.
#[derive(Debug)]
pub(super) struct Lines {
    messages: mpsc::Receiver<String>,
}

impl Lines {
    /// Starts to read; of marked input, what stands on other lines is dropped.
    pub(super) fn read(
        name: String,
        source: impl BufRead + Send + 'static,
        marked: bool,
    ) -> io::Result<Self> {
        let (sender, messages) = mpsc::channel(WAITING);
        thread::Builder::new().name(name).spawn(move || {
            for line in source.lines().map_while(Result::ok) {
                let message = if marked { line.strip_prefix(MARK) } else { Some(line.as_str()) };
                if message.is_some_and(|message| sender.blocking_send(message.to_owned()).is_err()) {
                    return;
                }
            }
        })?;
        Ok(Self { messages })
    }

    /// The next message, or `None` when the pipe has ended.
    pub(super) async fn next(&mut self) -> Option<String> {
        self.messages.recv().await
    }

    pub(super) fn blocking_next(&mut self) -> Option<String> {
        self.messages.blocking_recv()
    }
}

pub(super) fn print(message: &impl Serialize) -> String {
    serde_json::to_string(message).expect("messages are plain data")
}

pub(super) fn parse<M: DeserializeOwned>(role: &str, line: &str) -> Result<M, ProcessError> {
    serde_json::from_str(line).map_err(|source| ProcessError::Malformed {
        role: role.to_owned(),
        line: line.to_owned(),
        source,
    })
}
