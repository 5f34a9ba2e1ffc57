//! The runtime directory: what is used, what is tightened, what is refused, and the names in it.

use std::{
    fs::{self, Permissions},
    os::unix::fs::{PermissionsExt as _, symlink},
};

use ipc_transport::{Error, MAX_UNIX_PATH, RuntimeDirectory};

use super::support::{Role, TempDir};

fn mode(path: &std::path::Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

///
#[test]
fn a_directory_that_is_not_there_is_made_for_the_owner_alone() {
    let temporary = TempDir::new();
    let path = temporary.file("runtime");
    let directory = RuntimeDirectory::at(&path).unwrap();
    assert_eq!(directory.path(), path);
    assert_eq!(mode(&path), 0o700);
    RuntimeDirectory::at(&path).unwrap();
}

///
#[test]
fn a_directory_that_others_may_enter_is_refused_at_an_explicit_path() {
    let temporary = TempDir::new();
    for bits in [0o755, 0o710, 0o701, 0o770, 0o707, 0o1777] {
        let path = temporary.file(&format!("{bits:o}"));
        fs::create_dir(&path).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(bits)).unwrap();
        let error = RuntimeDirectory::at(&path).unwrap_err();
        assert!(matches!(&error, Error::UnsafeDirectory { .. }), "{bits:o}: {error}");
        assert_eq!(mode(&path), bits);
    }
}

/// the directory of an application is tightened, unless others may have written to it. The choice of the
/// directory depends on the environment, so it is made in a process of its own.
#[test]
fn the_directory_of_an_application_is_tightened_or_refused() {
    for (bits, expected) in
        [(0o755, "tightened"), (0o711, "tightened"), (0o700, "tightened"), (0o777, "refused")]
    {
        let temporary = TempDir::new();
        let path = temporary.file("app");
        fs::create_dir(&path).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(bits)).unwrap();
        let said = open_app(&[("XDG_RUNTIME_DIR", temporary.path().to_str().unwrap())]);
        match expected {
            "tightened" => {
                assert_eq!(said, path.to_str().unwrap());
                assert_eq!(mode(&path), 0o700);
            }
            _ => {
                assert!(said.starts_with("refused"), "{said}");
                assert_eq!(mode(&path), bits);
            }
        }
    }
}

/// without a usable `XDG_RUNTIME_DIR` the directory is root's in /run, and anybody else's in the temporary one.
#[test]
fn without_a_runtime_directory_of_the_session_another_is_chosen() {
    let temporary = TempDir::new();
    let uid = rustix::process::geteuid().as_raw();
    if uid == 0 {
        // What root would choose is not this test's to make.
        return;
    }
    let tmp = temporary.path().to_str().unwrap();
    for xdg in ["", "relative", "/nowhere/at/all", "/"] {
        let said = open_app(&[("XDG_RUNTIME_DIR", xdg), ("TMPDIR", tmp)]);
        assert_eq!(said, format!("{tmp}/app-{uid}"));
    }
}

fn open_app(environment: &[(&str, &str)]) -> String {
    let mut command = std::process::Command::new(std::env::current_exe().unwrap());
    command.envs(environment.iter().copied());
    Role::start_by(command, "open_app", &[]).hear()
}

///
#[test]
fn links_files_and_directories_of_others_are_refused() {
    let temporary = TempDir::new();
    let real = temporary.file("real");
    RuntimeDirectory::at(&real).unwrap();
    symlink(&real, temporary.file("link")).unwrap();
    fs::write(temporary.file("file"), "precious").unwrap();
    for name in ["link", "file"] {
        let error = RuntimeDirectory::at(temporary.file(name)).unwrap_err();
        assert!(matches!(&error, Error::UnsafeDirectory { .. }), "{name}: {error}");
    }
    assert_eq!(fs::read_to_string(temporary.file("file")).unwrap(), "precious");
    if rustix::process::geteuid().is_root() {
        let foreign = temporary.file("foreign");
        RuntimeDirectory::at(&foreign).unwrap();
        std::os::unix::fs::chown(&foreign, Some(65_534), None).unwrap();
        let error = RuntimeDirectory::at(&foreign).unwrap_err();
        assert!(matches!(&error, Error::UnsafeDirectory { .. }), "{error}");
    }
}

/// two processes come to the same address for a name that does not fit.
#[test]
fn both_sides_shorten_a_long_name_alike() {
    let temporary = TempDir::new();
    let directory = RuntimeDirectory::at(temporary.path()).unwrap();
    for name in ["a".repeat(33), "ä/".replace('/', "b").repeat(80), "n".repeat(255)] {
        let here = directory.endpoint(&name).unwrap();
        let there = Role::start("endpoint_of", &[temporary.path().to_str().unwrap(), &name]).hear();
        assert_eq!(here.to_string(), there);
        assert!(here.unix_path().unwrap().as_os_str().len() <= MAX_UNIX_PATH);
    }
    assert_ne!(directory.endpoint(&"a".repeat(34)).unwrap(), directory.endpoint(&"a".repeat(35)).unwrap());
    assert_eq!(directory.endpoint("short").unwrap(), temporary.endpoint("short.sock"));
}

/// a directory that leaves no room says so.
#[test]
fn a_directory_without_room_for_names_says_how_long_the_path_is() {
    let temporary = TempDir::new();
    let path = temporary.file(&"d".repeat(100));
    let directory = RuntimeDirectory::at(&path).unwrap();
    let len = path.as_os_str().len() + "/a.sock".len();
    let error = directory.endpoint("a").unwrap_err();
    assert!(matches!(error, Error::PathTooLong { len: said, max: MAX_UNIX_PATH } if said == len), "{error}");
}
