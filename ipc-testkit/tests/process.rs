//! The process harness: roles talk, die when told, and never outlive their parent or their handle.

#![allow(clippy::unwrap_used, reason = "a test may unwrap, its helpers too")]

use std::{fs, os::unix::process::ExitStatusExt, time::Duration};

use ipc_testkit::process::{self, ProcessError, Role, RoleProcess, TempDir};
use serde::{Deserialize, Serialize};

#[derive(Debug, PartialEq, Serialize, Deserialize)]
enum Say {
    Ready { limit: u32 },
    Word(String),
}

#[test]
fn role_echo() {
    let Some(mut parent) = process::enter("role_echo") else { return };
    parent.send(&Say::Ready { limit: parent.argument() }).unwrap();
    while let Some(word) = parent.blocking_recv::<Say>().unwrap() {
        parent.send(&word).unwrap();
    }
}

#[test]
fn role_failing() {
    let Some(_parent) = process::enter("role_failing") else { return };
    std::process::exit(3);
}

/// Starts a role of its own, tells its id, and waits to be killed.
#[tokio::test]
async fn role_grandparent() {
    let Some(mut parent) = process::enter("role_grandparent") else { return };
    // From a thread that ends at once: the kernel looks at the thread, and the harness must see to that.
    let spawning = std::thread::spawn(|| Role::new("role_echo").argument(&1).spawn().unwrap());
    let mut grandchild = spawning.join().unwrap();
    ready(&mut grandchild).await;
    parent.send(&grandchild.id()).unwrap();
    parent.hung_up().await;
}

async fn echo() -> RoleProcess {
    let mut echo = Role::new("role_echo").argument(&7).spawn().unwrap();
    ready(&mut echo).await;
    echo
}

async fn ready(role: &mut RoleProcess) {
    assert!(matches!(role.recv::<Say>().await.unwrap(), Say::Ready { .. }));
}

/// Whether a process is there, be it as a zombie.
fn exists(id: u32) -> bool {
    fs::exists(format!("/proc/{id}")).unwrap()
}

/// The letter of a process's state: `T` for stopped, `Z` for ended and not yet reaped.
fn state(id: u32) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    stat.rsplit(')').next()?.trim_start().chars().next()
}

fn runs(id: u32) -> bool {
    !matches!(state(id), None | Some('X' | 'Z'))
}

#[tokio::test]
async fn a_role_may_be_started_through_another_program() {
    let mut echo = Role::new("role_echo").argument(&7).through(["env", "-u", "NOBODY"]).spawn().unwrap();
    assert_eq!(echo.recv::<Say>().await.unwrap(), Say::Ready { limit: 7 });
    echo.send(&Say::Word("word".to_owned())).unwrap();
    assert_eq!(echo.recv::<Say>().await.unwrap(), Say::Word("word".to_owned()));
    echo.hang_up();
    echo.succeeds().await;
}

#[tokio::test]
async fn a_role_gets_its_argument_and_messages_go_both_ways() {
    let mut echo = Role::new("role_echo").argument(&7).spawn().unwrap();
    assert_eq!(echo.recv::<Say>().await.unwrap(), Say::Ready { limit: 7 });
    for word in ["one", "two\nlines", "\u{1}ipc:"] {
        echo.send(&Say::Word(word.to_owned())).unwrap();
        assert_eq!(echo.recv::<Say>().await.unwrap(), Say::Word(word.to_owned()));
    }
    echo.hang_up();
    echo.succeeds().await;
}

#[tokio::test]
async fn a_killed_role_is_reaped_and_says_no_more() {
    let mut echo = echo().await;
    let id = echo.id();
    assert!(exists(id));
    assert_eq!(echo.kill().signal(), Some(9));
    assert!(!exists(id));
    assert!(
        matches!(echo.recv::<Say>().await, Err(ProcessError::Ended { status, .. }) if status.signal() == Some(9))
    );
    assert!(echo.send(&Say::Word(String::new())).is_err());
}

#[tokio::test]
async fn dropping_the_handle_kills_and_reaps_even_a_stopped_role() {
    let echo = echo().await;
    let id = echo.id();
    echo.stop();
    drop(echo);
    assert!(!exists(id));
}

#[tokio::test]
async fn a_stopped_role_stands_still_until_it_is_resumed() {
    let mut echo = echo().await;
    echo.stop();
    assert_eq!(state(echo.id()), Some('T'));
    echo.send(&Say::Word("late".to_owned())).unwrap();
    echo.resume();
    assert_eq!(echo.recv::<Say>().await.unwrap(), Say::Word("late".to_owned()));
}

#[tokio::test]
async fn the_exit_status_of_a_failing_role_is_told() {
    let mut failing = Role::new("role_failing").spawn().unwrap();
    let error = failing.recv::<Say>().await.unwrap_err();
    assert!(matches!(error, ProcessError::Ended { status, .. } if status.code() == Some(3)), "{error}");
}

#[tokio::test]
async fn a_role_that_does_not_exist_is_an_error_and_not_a_hang() {
    let error = Role::new("role_unheard_of").spawn().unwrap().recv::<Say>().await.unwrap_err();
    assert!(error.to_string().contains("is there a test of that name"), "{error}");
}

#[tokio::test]
async fn a_message_of_another_type_is_an_error() {
    let mut echo = echo().await;
    echo.send(&Say::Word("x".to_owned())).unwrap();
    assert!(matches!(echo.recv::<u32>().await, Err(ProcessError::Malformed { .. })));
}

#[tokio::test]
async fn a_role_does_not_outlive_a_killed_parent() {
    let mut grandparent = Role::new("role_grandparent").spawn().unwrap();
    let grandchild: u32 = grandparent.recv().await.unwrap();
    assert!(runs(grandchild));
    grandparent.kill();
    let gone = async {
        while runs(grandchild) {
            // Sleeps between two looks: nothing tells the end of a process that is no child of ours.
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(process::PATIENCE, gone).await.expect("the kernel kills it");
}

#[test]
fn temporary_directories_are_fresh_private_and_go_away() {
    use std::os::unix::fs::PermissionsExt;
    let (one, other) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    assert_ne!(one.path(), other.path());
    assert_eq!(fs::metadata(one.path()).unwrap().permissions().mode() & 0o777, 0o700);
    fs::create_dir(one.join("inside")).unwrap();
    fs::write(one.join("inside/file"), "x").unwrap();
    let path = one.path().to_owned();
    drop(one);
    assert!(!path.exists() && other.path().exists());
}

/// Descriptors are counted in a process of its own, since other tests open theirs at the same time.
#[test]
fn role_counting() {
    let Some(parent) = process::enter("role_counting") else { return };
    let own = std::process::id();
    let before = process::open_descriptors(own).unwrap();
    let file = fs::File::open("/proc/self/status").unwrap();
    let during = process::open_descriptors(own).unwrap();
    drop(file);
    let threads = process::threads(own).unwrap();
    let (stop, wait) = std::sync::mpsc::channel::<()>();
    let thread = std::thread::spawn(move || wait.recv());
    let more_threads = process::threads(own).unwrap();
    drop(stop);
    let _ = thread.join();
    assert!(process::resident_bytes(own).unwrap() > 100_000);
    parent.send(&(during - before, more_threads - threads)).unwrap();
}

#[tokio::test]
async fn descriptors_and_threads_are_counted() {
    let mut counting = Role::new("role_counting").spawn().unwrap();
    assert_eq!(counting.recv::<(usize, usize)>().await.unwrap(), (1, 1));
    counting.succeeds().await;
}

#[test]
fn rounds_count_up_from_one_seed() {
    let seeds: Vec<u64> = process::rounds(3, 1000).collect();
    assert!(seeds.windows(2).all(|pair| pair[1] == pair[0].wrapping_add(1)), "{seeds:?}");
}
