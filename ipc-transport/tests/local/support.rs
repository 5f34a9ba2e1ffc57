//! Fresh directories, watchdogs, and helper processes that end with their test.

use std::{
    env,
    fmt::Write as _,
    fs,
    future::Future,
    io::{BufRead as _, BufReader},
    os::unix::{
        fs::DirBuilderExt as _,
        net::{UnixListener as StdUnixListener, UnixStream as StdUnixStream},
    },
    path::{Path, PathBuf},
    pin::pin,
    process::{Child, Command, Stdio},
    sync::{Arc, mpsc},
    task::{Context, Poll, Wake, Waker},
    thread,
    time::Duration,
};

use ipc_transport::{
    ConnectOptions, Connection, Endpoint, Error, ListenOptions, Listener, Transport, UnixTransport,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// Fails when a test hangs.
pub(crate) async fn watchdog<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(WATCHDOG, future).await.expect("the test came to its end in time")
}

/// Runs a future on this thread, which belongs to no runtime.
pub(crate) fn run_outside<T>(future: impl Future<Output = T>) -> T {
    struct Unpark(thread::Thread);

    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }

    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(value) => return value,
            Poll::Pending => thread::park(),
        }
    }
}

/// A fresh directory with mode 0700, removed at the end of the test.
#[derive(Debug)]
pub(crate) struct TempDir(PathBuf);

impl TempDir {
    pub(crate) fn new() -> Self {
        let mut name = String::from("ipc-");
        for _ in 0..12 {
            write!(name, "{}", fastrand::alphanumeric()).unwrap();
        }
        let path = env::temp_dir().join(name);
        fs::DirBuilder::new().mode(0o700).create(&path).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub(crate) fn endpoint(&self, name: &str) -> Endpoint {
        Endpoint::unix(self.file(name)).unwrap()
    }

    /// The names in the directory, sorted.
    pub(crate) fn list(&self) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(&self.0)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Leaves a socket that nobody serves, as a killed process does.
pub(crate) fn leave_stale_socket(path: &Path) {
    let _ = fs::remove_file(path);
    drop(StdUnixListener::bind(path).unwrap());
    wait_until_silent(path);
}

/// Waits until nobody listens at a path any more.
///
/// Other tests of this process start programs all the time, and a child that is about to do so has a copy of every
/// descriptor for a moment.
pub(crate) fn wait_until_silent(path: &Path) {
    while StdUnixStream::connect(path).is_ok() {
        thread::yield_now();
    }
}

pub(crate) async fn listen(at: &Endpoint) -> Result<Box<dyn Listener>, Error> {
    UnixTransport::new().listen(at, &ListenOptions::default()).await
}

pub(crate) async fn connect(to: &Endpoint) -> Result<Connection, Error> {
    UnixTransport::new().connect(to, &ConnectOptions::default()).await
}

/// Accepts for ever and sends back what comes in.
pub(crate) async fn serve_echo(mut listener: Box<dyn Listener>) -> Error {
    loop {
        match listener.accept().await {
            Ok(incoming) => {
                tokio::spawn(async move {
                    let Ok(connection) = incoming.establish().await else { return };
                    let (mut reader, mut writer, _) = connection.into_parts();
                    let _ = tokio::io::copy(&mut reader, &mut writer).await;
                });
            }
            Err(error) => return error,
        }
    }
}

/// Sends a word and waits for it to come back.
pub(crate) async fn echo(connection: Connection, word: &[u8]) -> std::io::Result<()> {
    let (mut reader, mut writer, _) = connection.into_parts();
    writer.write_all(word).await?;
    let mut back = vec![0; word.len()];
    reader.read_exact(&mut back).await?;
    assert_eq!(back, word);
    Ok(())
}

/// A helper process: this test executable, in a role of `roles.rs`. It is killed when dropped.
#[derive(Debug)]
pub(crate) struct Role {
    child: Child,
    lines: mpsc::Receiver<String>,
}

impl Role {
    pub(crate) fn start(role: &str, arguments: &[&str]) -> Self {
        Self::start_by(Command::new(env::current_exe().unwrap()), role, arguments)
    }

    /// As `start`, under another program that takes the rest of its command line for a command: `env`, `sh -c`.
    pub(crate) fn start_by(command: Command, role: &str, arguments: &[&str]) -> Self {
        Self::start_with(command, Stdio::null(), role, arguments)
    }

    /// As `start_by`, with this as its standard input.
    pub(crate) fn start_with(mut command: Command, input: Stdio, role: &str, arguments: &[&str]) -> Self {
        command
            .args(["--exact", "roles::play", "--nocapture", "--test-threads=1"])
            .env("IPC_ROLE", role)
            .env("IPC_ROLE_ARGUMENTS", arguments.join("\n"))
            .stdin(input)
            .stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                // The harness of the child prints before and after, without an end of line at times.
                if let Some((_, said)) = line.split_once(SAYS) {
                    let _ = sender.send(said.to_owned());
                }
            }
        });
        Self { child, lines }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The next line that the role says; a role that ends without a word fails the test.
    pub(crate) fn hear(&self) -> String {
        self.lines.recv_timeout(WATCHDOG).expect("the role says something in time")
    }

    /// Ends it as nothing but the kernel can, and waits until it is gone.
    pub(crate) fn kill(mut self) {
        self.end();
    }

    /// Waits for it to end by itself; whether all went well.
    pub(crate) fn finish(mut self) -> bool {
        // The reading thread hangs up when the process closes its output.
        while self.lines.recv_timeout(WATCHDOG).is_ok() {}
        self.child.wait().unwrap().success()
    }

    fn end(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Role {
    fn drop(&mut self) {
        self.end();
    }
}

/// Says a line to the test that started this role.
pub(crate) fn say(line: impl std::fmt::Display) {
    println!("\n{SAYS}{line}");
}

/// The arguments of this role.
pub(crate) fn role_arguments() -> Vec<String> {
    env::var("IPC_ROLE_ARGUMENTS").unwrap().lines().map(str::to_owned).collect()
}

const SAYS: &str = "@role ";
/// A connect request that the kernel has to repeat until a full listener takes it waits 31 s before the fifth time.
const WATCHDOG: Duration = Duration::from_secs(120);
