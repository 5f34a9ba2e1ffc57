//! Fresh directories that go away by themselves.

use std::{
    env, fs, io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

/// A fresh directory of a unique name, for its owner only, removed with all its contents when dropped.
///
/// Its path is short, so that sockets fit into it.
#[derive(Debug)]
pub struct TempDir {
    path: PathBuf,
}

impl TempDir {
    /// Makes the directory.
    ///
    /// # Errors
    ///
    /// What the operating system reports.
    pub fn new() -> io::Result<Self> {
        loop {
            let path = env::temp_dir().join(format!("ipc-{:010x}", fastrand::u64(..1 << 40)));
            match fs::DirBuilder::new().mode(0o700).create(&path) {
                Ok(()) => return Ok(Self { path }),
                // Somebody has the name; there are a trillion others.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The path of something in it.
    pub fn join(&self, name: impl AsRef<Path>) -> PathBuf {
        self.path.join(name)
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        // What cannot be removed is left to the system's own cleaning; a test must not fail by it.
        let _ = fs::remove_dir_all(&self.path);
    }
}
