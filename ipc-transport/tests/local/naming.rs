//! Names: claims, look-ups and watches, for the runtime directory and for a table.

use std::{fs, os::unix::fs::PermissionsExt as _, sync::Arc};

use ipc_transport::{
    ConnectOptions, Error, ListenOptions, Naming, RuntimeDirectory, RuntimeNaming, StaticNaming, Transports,
};

use super::support::{TempDir, echo, serve_echo, watchdog};

async fn each(check: impl AsyncFn(Arc<dyn Naming>, Transports)) {
    let directory = TempDir::new();
    let runtime = RuntimeNaming::new(RuntimeDirectory::at(directory.path()).unwrap());
    check(Arc::new(runtime), Transports::default()).await;
    let table = StaticNaming::new()
        .with("a", "tcp://127.0.0.1:0".parse().unwrap())
        .with("b", "tcp://127.0.0.1:0".parse().unwrap());
    check(Arc::new(table), Transports::default()).await;
}

#[tokio::test]
async fn a_claimed_name_resolves() {
    each(async |naming, transports| {
        let listener = naming.claim("a", &transports, &ListenOptions::default()).await.unwrap();
        let at = naming.resolve("a").await.unwrap();
        assert_eq!(&at, listener.local_endpoint());
        let serving = tokio::spawn(serve_echo(listener));
        let connection = watchdog(transports.connect(&at, &ConnectOptions::default())).await.unwrap();
        watchdog(echo(connection, b"by name")).await.unwrap();
        serving.abort();
        let _ = serving.await;
    })
    .await;
}

#[tokio::test]
async fn a_second_claim_is_refused_and_a_closed_one_frees_the_name() {
    each(async |naming, transports| {
        let options = ListenOptions::default();
        let first = naming.claim("a", &transports, &options).await.unwrap();
        let error = naming.claim("a", &transports, &options).await.unwrap_err();
        assert!(matches!(&error, Error::AddrInUse { .. }), "{error}");
        let _other = naming.claim("b", &transports, &options).await.unwrap();
        first.close().await.unwrap();
        naming.claim("a", &transports, &options).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn an_unknown_name_is_not_found_and_a_wrong_one_is_invalid() {
    each(async |naming, _| {
        assert!(matches!(naming.resolve("nobody").await, Err(Error::NotFound { .. })));
        assert!(matches!(naming.resolve("../a").await, Err(Error::InvalidName { .. })));
        assert!(matches!(naming.watch(""), Err(Error::InvalidName { .. })));
    })
    .await;
}

#[tokio::test]
async fn a_watch_ends_when_a_name_appears() {
    each(async |naming, transports| {
        let options = ListenOptions::default();
        let mut watches: Vec<_> = (0..3).map(|_| naming.watch("a").unwrap()).collect();
        let waiting: Vec<_> = watches
            .drain(..)
            .map(|mut watch| {
                tokio::spawn(async move {
                    watch.changed().await;
                    watch
                })
            })
            .collect();
        tokio::task::yield_now().await;
        assert!(waiting.iter().all(|waiting| !waiting.is_finished()));
        // Another name disturbs nobody.
        let _other = naming.claim("b", &transports, &options).await.unwrap();
        let listener = naming.claim("a", &transports, &options).await.unwrap();
        for waiting in waiting {
            let mut watch = watchdog(waiting).await.unwrap();
            assert_eq!(&naming.resolve("a").await.unwrap(), listener.local_endpoint());
            // Nothing has changed since.
            let again = tokio::time::timeout(std::time::Duration::ZERO, watch.changed()).await;
            assert!(again.is_err());
        }
    })
    .await;
}

/// A change between making the watch and waiting is not missed.
#[tokio::test]
async fn a_watch_remembers_what_happened_before_the_wait() {
    each(async |naming, transports| {
        let mut watch = naming.watch("a").unwrap();
        let _listener = naming.claim("a", &transports, &ListenOptions::default()).await.unwrap();
        watchdog(watch.changed()).await;
    })
    .await;
}

#[tokio::test]
async fn a_watch_notices_each_restart() {
    let directory = TempDir::new();
    let naming = RuntimeNaming::new(RuntimeDirectory::at(directory.path()).unwrap());
    let transports = Transports::default();
    let mut watch = naming.watch("a").unwrap();
    for _ in 0..20 {
        let listener = naming.claim("a", &transports, &ListenOptions::default()).await.unwrap();
        watchdog(watch.changed()).await;
        listener.close().await.unwrap();
        watchdog(watch.changed()).await;
    }
}

/// A cleaner of temporary files removed the directory under everybody who had it: whoever comes next makes it again,
/// and all find it, with what they have.
#[tokio::test]
async fn a_directory_that_was_removed_is_found_again() {
    let temporary = TempDir::new();
    let path = temporary.file("runtime");
    let naming = RuntimeNaming::new(RuntimeDirectory::at(&path).unwrap());
    let (transports, options) = (Transports::default(), ListenOptions::default());
    let mut watch = naming.watch("a").unwrap();
    for _ in 0..3 {
        fs::remove_dir_all(&path).unwrap();
        let other = RuntimeNaming::new(RuntimeDirectory::at(&path).unwrap());
        let listener = other.claim("a", &transports, &options).await.unwrap();
        watchdog(watch.changed()).await;
        assert_eq!(&naming.resolve("a").await.unwrap(), listener.local_endpoint());
        listener.close().await.unwrap();
        watchdog(watch.changed()).await;

        fs::remove_dir_all(&path).unwrap();
        let error = naming.resolve("a").await.unwrap_err();
        assert!(matches!(&error, Error::NotFound { .. }), "{error}");
        fs::remove_dir_all(&path).unwrap();
        let own = naming.claim("b", &transports, &options).await.unwrap();
        assert_eq!(&other.resolve("b").await.unwrap(), own.local_endpoint());
        own.close().await.unwrap();
    }
}

/// As above, while the watch waits.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_waiting_watch_goes_over_to_the_new_directory() {
    let temporary = TempDir::new();
    let path = temporary.file("runtime");
    let naming = RuntimeNaming::new(RuntimeDirectory::at(&path).unwrap());
    for _ in 0..3 {
        fs::remove_dir(&path).unwrap();
        let mut watch = naming.watch("a").unwrap();
        let waiting = tokio::spawn(async move { watch.changed().await });
        tokio::task::yield_now().await;
        fs::remove_dir_all(&path).unwrap();
        tokio::task::yield_now().await;
        let other = RuntimeNaming::new(RuntimeDirectory::at(&path).unwrap());
        let listener = other.claim("a", &Transports::default(), &ListenOptions::default()).await.unwrap();
        watchdog(waiting).await.unwrap();
        listener.close().await.unwrap();
        fs::remove_file(path.join("a.lock")).unwrap();
    }
}

/// What somebody else put in the place of the removed directory is not used.
#[tokio::test]
async fn the_place_of_a_removed_directory_is_checked_again() {
    let temporary = TempDir::new();
    let path = temporary.file("runtime");
    let naming = RuntimeNaming::new(RuntimeDirectory::at(&path).unwrap());
    fs::remove_dir(&path).unwrap();
    fs::create_dir(&path).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).unwrap();
    let claimed = naming.claim("a", &Transports::default(), &ListenOptions::default()).await;
    for error in [claimed.unwrap_err(), naming.resolve("a").await.unwrap_err()] {
        assert!(matches!(&error, Error::UnsafeDirectory { .. }), "{error}");
    }
    assert_eq!(fs::read_dir(&path).unwrap().count(), 0);
}
