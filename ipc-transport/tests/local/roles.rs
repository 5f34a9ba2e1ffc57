//! What helper processes do. A role ends when it is killed, or when its parent is gone.

use std::{env, fs, os::fd::OwnedFd, process::Command, process::Stdio, thread, time::Duration};

use ipc_transport::{
    ConnectOptions, Endpoint, Lease, LeaseOptions, LeaseStep, ListenOptions, RuntimeDirectory,
    Transport as _, UnixTransport,
};
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, getppid, pidfd_getfd, pidfd_open};

use super::support::{listen, role_arguments, say, serve_echo};

/// Does nothing unless a test started this process for a role.
#[test]
fn play() {
    let Ok(role) = env::var("IPC_ROLE") else { return };
    end_with_parent();
    let arguments = role_arguments();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        match role.as_str() {
            "serve" => serve(&arguments[0]).await,
            "serve_name" => serve_name(&arguments[0], &arguments[1]).await,
            "stop_at" => stop_at(&arguments[0], &arguments[1]).await,
            "leave_to_fork" => leave_to_fork(&arguments[0], &arguments[1]).await,
            "starve_holder" => super::descriptors::starve_holder().await,
            "starve" => super::descriptors::starve(&arguments[0]).await,
            "stranger" => stranger(&arguments[0]).await,
            "door" => super::users::door().await,
            "squatted" => super::users::squatted().await,
            "squat" => super::users::squat().await,
            "modes" => super::modes::modes().await,
            "open_app" => match RuntimeDirectory::open("app") {
                Ok(directory) => say(directory.path().display()),
                Err(error) => say(format!("refused: {error}")),
            },
            "crowd" => super::descriptors::crowd(&arguments[0], arguments[1].parse().unwrap()).await,
            "full_and_starved" => super::sockets::full_and_starved().await,
            #[cfg(feature = "inherited")]
            "adopt" => super::inherited::adopt(&arguments[0]).await,
            #[cfg(feature = "inherited")]
            "names" => super::inherited::names(),
            "dying_peer" => super::unix::write_to_dying_peers().await,
            "endpoint_of" => {
                say(RuntimeDirectory::at(&arguments[0]).unwrap().endpoint(&arguments[1]).unwrap())
            }
            other => panic!("no such role: {other}"),
        }
    });
}

/// Listens and echoes.
async fn serve(at: &str) {
    let listener = listen(&at.parse().unwrap()).await.unwrap();
    say("listening");
    serve_echo(listener).await;
}

async fn serve_name(directory: &str, name: &str) {
    let directory = RuntimeDirectory::at(directory).unwrap();
    let lease = Lease::claim(&directory, name, &LeaseOptions::default()).await.unwrap();
    let listener = lease.listen(&ListenOptions::default()).unwrap();
    say("listening");
    serve_echo(listener).await;
}

/// Stops for good at a step of a claim.
async fn stop_at(at: &str, step: &str) {
    let step = step.to_owned();
    let options = LeaseOptions::default().on_step(move |reached: LeaseStep| {
        if format!("{reached:?}") == step {
            say("stopped");
            loop {
                thread::park();
            }
        }
    });
    let at: Endpoint = at.parse().unwrap();
    let _ = UnixTransport::new().lease(options).listen(&at, &ListenOptions::default()).await;
    panic!("the step was never reached");
}

/// Holds a lease and hands its descriptors to a child that outlives it, as a fork does.
///
/// `what` is `lock` or `all`: without the listener the socket is silent.
async fn leave_to_fork(at: &str, what: &str) {
    let listener = listen(&at.parse().unwrap()).await.unwrap();
    let own = pidfd_open(rustix::process::getpid(), PidfdFlags::empty()).unwrap();
    let mut inherited = vec![];
    for entry in fs::read_dir("/proc/self/fd").unwrap() {
        let entry = entry.unwrap();
        let Ok(target) = fs::read_link(entry.path()) else { continue };
        let target = target.to_string_lossy().into_owned();
        if target.ends_with(".lock") || (what == "all" && target.starts_with("socket:")) {
            let number = entry.file_name().to_str().unwrap().parse().unwrap();
            let copy: OwnedFd = pidfd_getfd(&own, number, PidfdGetfdFlags::empty()).unwrap();
            // Copies that are not close-on-exec, which is what a fork without exec comes to.
            rustix::io::fcntl_setfd(&copy, rustix::io::FdFlags::empty()).unwrap();
            inherited.push(copy);
        }
    }
    #[allow(clippy::zombie_processes, reason = "it is to outlive this process, and the test ends it")]
    let child = Command::new("sleep").arg("60").stdout(Stdio::null()).spawn().unwrap();
    drop(inherited);
    say(child.id());
    serve_echo(listener).await;
}

/// Dials as another user and says how it went.
async fn stranger(at: &str) {
    let options = ConnectOptions::default().with_access(ipc_transport::Access::Any);
    let answer = match UnixTransport::new().connect(&at.parse().unwrap(), &options).await {
        Ok(connection) => {
            super::support::echo(connection, b"let me in").await.map_err(|error| error.to_string())
        }
        Err(error) => Err(error.to_string()),
    };
    say(format!("{answer:?}"));
}

/// Ends this process soon after the one that started it is gone, so that a killed test leaves nobody behind.
fn end_with_parent() {
    let parent: Option<Pid> = getppid();
    thread::spawn(move || {
        loop {
            // Sleeps between two looks, until nobody needs this process any more.
            thread::sleep(Duration::from_millis(200));
            if getppid() != parent {
                std::process::exit(1);
            }
        }
    });
}
