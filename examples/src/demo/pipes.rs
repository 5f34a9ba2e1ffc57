//! A child's side of its two pipes: lines out to the launcher, orders in from it.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
};

use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines},
    net::unix::pipe,
};

use super::{failure::Failure, lines::Line};

/// Where a child's lines go: its standard output, which must be a pipe.
#[derive(Debug)]
pub(crate) struct Mouth {
    pipe: pipe::Sender,
    buffer: Vec<u8>,
}

/// Where a child's orders come from: its standard input, which must be a pipe.
#[derive(Debug)]
pub(crate) struct Ear(Lines<BufReader<pipe::Receiver>>);

/// What the launcher may order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    /// Finish what is begun, and end.
    Finish,
    /// The pipe ended: the launcher is gone.
    Leave,
}

/// The text of [`Order::Finish`].
pub(crate) const FINISH: &str = "finish\n";

/// Opens both pipes, and asks the kernel to end this process with its launcher.
pub(crate) fn open() -> Result<(Mouth, Ear), Failure> {
    // The end of standard input says the same, but only to a process that is not busy or stuck.
    #[cfg(target_os = "linux")]
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))
        .map_err(|error| Failure::System { what: "follow the launcher", source: error.into() })?;
    let what = "use standard input and output as the launcher's pipes";
    let owned = |fd: io::Result<OwnedFd>| fd.map_err(Failure::system(what));
    let stdout = owned(io::stdout().as_fd().try_clone_to_owned())?;
    let stdin = owned(io::stdin().as_fd().try_clone_to_owned())?;
    let pipe = pipe::Sender::from_owned_fd(stdout).map_err(Failure::system(what))?;
    let ear = pipe::Receiver::from_owned_fd(stdin).map_err(Failure::system(what))?;
    Ok((Mouth { pipe, buffer: Vec::new() }, Ear(BufReader::new(ear).lines())))
}

impl Mouth {
    /// Puts a line aside for the next [`Mouth::flush`].
    pub(crate) fn say(&mut self, line: &Line) {
        line.write_to(&mut self.buffer);
    }

    /// Writes everything said, completely: once this returns Ok the lines survive this process.
    pub(crate) async fn flush(&mut self) -> Result<(), Failure> {
        self.pipe.write_all(&self.buffer).await.map_err(Failure::system("write to the launcher"))?;
        self.buffer.clear();
        Ok(())
    }
}

impl Ear {
    /// The next order. Cancel safe: a line half read stays for the next call.
    pub(crate) async fn order(&mut self) -> Order {
        match self.0.next_line().await {
            Ok(Some(line)) if line == FINISH.trim_end() => Order::Finish,
            _ => Order::Leave,
        }
    }
}
