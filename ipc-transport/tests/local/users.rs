//! Other users of the machine: kept out of what is ours, and not taken for ours, unless that is asked for.

use std::{
    env, fs,
    os::unix::{fs::PermissionsExt as _, process::CommandExt as _},
    path::{Path, PathBuf},
    process::Command,
};

use ipc_transport::{Access, ConnectOptions, Error, ListenOptions, Transport as _, UnixTransport};

use super::support::{Role, TempDir, echo, role_arguments, say, serve_echo, watchdog};

/// The user whom most systems call nobody.
const STRANGER: u32 = 65_534;

/// A role that can become another user: played by root, or in a user namespace that has several. Where there is neither,
/// nothing can be shown, which is an error if `IPC_REQUIRE_USERS` is set.
fn of_many_users(role: &str) -> Option<Role> {
    let can_change = |command: &mut Command| command.output().is_ok_and(|output| output.status.success());
    let is_root = rustix::process::geteuid().is_root();
    // Root of a namespace with one user cannot become anybody else.
    if is_root && can_change(Command::new("true").uid(STRANGER).gid(STRANGER).current_dir("/")) {
        return Some(Role::start(role, &[]));
    }
    let unshare = || {
        let mut command = Command::new("unshare");
        command.args(["--map-root-user", "--map-auto"]);
        command
    };
    if can_change(unshare().args(["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "true"])) {
        let mut command = unshare();
        command.arg(env::current_exe().unwrap());
        return Some(Role::start_by(command, role, &[]));
    }
    assert!(env::var_os("IPC_REQUIRE_USERS").is_none(), "there is no second user to be had here");
    #[allow(clippy::print_stderr, reason = "whoever reads the output shall know what was not shown")]
    {
        eprintln!("NOT SHOWN: {role} needs root, or unshare with subordinate users");
    }
    None
}

/// A directory that everybody may enter, with this executable, as the other user may have no right to where it lies.
fn common_ground(mode: u32) -> (TempDir, PathBuf) {
    let directory = TempDir::new();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(mode)).unwrap();
    let executable = directory.file("executable");
    fs::copy(env::current_exe().unwrap(), &executable).unwrap();
    (directory, executable)
}

fn as_stranger(executable: &Path, role: &str, arguments: &[&str]) -> Role {
    let mut command = Command::new(executable);
    command.uid(STRANGER).gid(STRANGER).current_dir("/");
    Role::start_by(command, role, arguments)
}

async fn hear(role: Role) -> (Role, String) {
    let heard = tokio::task::spawn_blocking(move || {
        let said = role.hear();
        (role, said)
    });
    heard.await.unwrap()
}

/// a client of another user is refused by default and let in when that is allowed; the kernel's word decides, as
/// directory and socket are open to everybody here.
#[test]
fn a_client_of_another_user_is_refused_unless_it_is_allowed() {
    let Some(role) = of_many_users("door") else { return };
    assert_eq!(role.hear(), "shown");
    assert!(role.finish());
}

pub(crate) async fn door() {
    let (directory, executable) = common_ground(0o755);
    for (access, is_admitted) in [
        (Access::default(), false),
        (Access::SameUser, false),
        (Access::Uids(vec![STRANGER - 1]), false),
        (Access::Group(STRANGER - 1), false),
        (Access::custom(|peer| peer.foreign_user().is_none()), false),
        (Access::Uids(vec![STRANGER]), true),
        (Access::Group(STRANGER), true),
        (Access::Any, true),
    ] {
        let at = directory.endpoint("a.sock");
        // In a namespace not every group exists, so its ownership is left out where it is to refuse anyway.
        let options = ListenOptions::default().with_mode(0o666);
        let mut listener = match &access {
            Access::Group(group) if *group != STRANGER => {
                let group = *group;
                let rule = Access::custom(move |peer| Access::Group(group).admits(peer));
                UnixTransport::new().listen(&at, &options.with_access(rule)).await.unwrap()
            }
            _ => UnixTransport::new().listen(&at, &options.with_access(access.clone())).await.unwrap(),
        };
        let stranger = as_stranger(&executable, "stranger", &[&at.to_string()]);
        let accepted = watchdog(listener.accept()).await.unwrap().establish().await;
        match &accepted {
            Ok(_) => {}
            Err(Error::AccessDenied { peer, .. }) => {
                assert!(peer.contains(&format!("user {STRANGER}")), "{peer}");
            }
            Err(error) => panic!("{error}"),
        }
        assert_eq!(accepted.is_ok(), is_admitted, "{access:?}");
        let (mut reader, mut writer) = match accepted {
            Ok(connection) => {
                let (reader, writer, _) = connection.into_parts();
                (reader, writer)
            }
            Err(_) => {
                let (_, said) = hear(stranger).await;
                assert_ne!(said, "Ok(())", "{access:?}");
                continue;
            }
        };
        let (_, (_, said)) =
            tokio::join!(async { tokio::io::copy(&mut reader, &mut writer).await }, hear(stranger));
        assert_eq!(said, "Ok(())", "{access:?}");
    }
    say("shown");
}

/// X-09, the other direction: a server of another user, who was first at an address that everybody may write to, is not
/// talked to unless that is allowed.
#[test]
fn a_server_of_another_user_is_refused_unless_it_is_allowed() {
    let Some(role) = of_many_users("squatted") else { return };
    assert_eq!(role.hear(), "shown");
    assert!(role.finish());
}

pub(crate) async fn squatted() {
    let (directory, executable) = common_ground(0o1777);
    let at = directory.endpoint("a.sock");
    let (_squatter, said) = hear(as_stranger(&executable, "squat", &[&at.to_string()])).await;
    assert_eq!(said, "listening");
    for (access, is_admitted) in [
        (Access::default(), false),
        (Access::SameUser, false),
        (Access::Uids(vec![STRANGER]), true),
        (Access::Any, true),
    ] {
        let options = ConnectOptions::default().with_access(access.clone());
        match watchdog(UnixTransport::new().connect(&at, &options)).await {
            Ok(connection) => {
                assert!(is_admitted, "{access:?}");
                assert_eq!(connection.info().peer.foreign_user(), Some(STRANGER));
                watchdog(echo(connection, b"allowed")).await.unwrap();
            }
            Err(Error::AccessDenied { peer, .. }) => {
                assert!(!is_admitted, "{access:?}");
                assert!(peer.contains(&format!("user {STRANGER}")), "{peer}");
            }
            Err(error) => panic!("{error}"),
        }
    }
    say("shown");
}

/// The role of somebody who takes an address first and lets everybody in.
pub(crate) async fn squat() {
    let options = ListenOptions::default().with_access(Access::Any);
    let at = role_arguments()[0].parse().unwrap();
    let listener = UnixTransport::new().listen(&at, &options).await.unwrap();
    say("listening");
    serve_echo(listener).await;
}
