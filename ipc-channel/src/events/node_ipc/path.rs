//! Where a service is when nobody says where: the rules of node-ipc, as functions of strings.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// The rule of node-ipc 0.9 to 9: root, application space and id, one behind the other.
///
/// Node's defaults for the first two are `/tmp/` and `app.`. Nothing is escaped and no separator is added, as in Node:
/// an id with `/` names a file further down, or elsewhere with `..`, so ids are not for strangers to choose.
///
/// # Errors
///
/// [`PathError`]. Node takes an empty id when it serves and refuses it when it connects.
///
/// # Examples
///
/// ```
/// use ipc_channel::events::node_ipc::default_path_v9;
///
/// assert_eq!(default_path_v9("/tmp/", "app.", "world")?, "/tmp/app.world");
/// # Ok::<(), ipc_channel::events::node_ipc::PathError>(())
/// ```
pub fn default_path_v9(root: &str, appspace: &str, id: &str) -> Result<String, PathError> {
    check_id(id)?;
    check_nul(&[root, appspace])?;
    Ok([root, appspace, id].concat())
}

/// The rule of node-ipc 14: `node-ipc` in the user's runtime directory (`XDG_RUNTIME_DIR`), or `node-ipc-<uid>` in the
/// directory for temporary files where there is none; therein the application space and the id.
///
/// An empty runtime directory counts as none. Nothing is escaped, see [`default_path_v9`].
///
/// # Errors
///
/// [`PathError`].
///
/// # Examples
///
/// ```
/// use std::path::Path;
/// use ipc_channel::events::node_ipc::default_path_v14;
///
/// let run = Path::new("/run/user/1000");
/// let path = default_path_v14("app.", "world", Some(run), Path::new("/tmp"), 1000)?;
/// assert_eq!(path, Path::new("/run/user/1000/node-ipc/app.world"));
/// let path = default_path_v14("app.", "world", None, Path::new("/tmp"), 1000)?;
/// assert_eq!(path, Path::new("/tmp/node-ipc-1000/app.world"));
/// # Ok::<(), ipc_channel::events::node_ipc::PathError>(())
/// ```
pub fn default_path_v14(
    appspace: &str,
    id: &str,
    runtime_directory: Option<&Path>,
    temporary: &Path,
    uid: u32,
) -> Result<PathBuf, PathError> {
    check_id(id)?;
    check_nul(&[appspace])?;
    let directory = match runtime_directory.filter(|directory| !directory.as_os_str().is_empty()) {
        Some(directory) => directory.join("node-ipc"),
        None => temporary.join(format!("node-ipc-{uid}")),
    };
    // Not a join: an id or an application space that begins with `/` is no path of its own in Node either.
    let mut path = directory.into_os_string();
    path.push("/");
    path.push(appspace);
    path.push(id);
    Ok(path.into())
}

/// The same for this process: the environment is read, and the user is the effective one.
///
/// The directory for temporary files is the first of `TMPDIR`, `TMP` and `TEMP` that is set and not empty, else `/tmp`, as
/// Node has it.
///
/// # Errors
///
/// [`PathError`].
pub fn default_path_v14_here(appspace: &str, id: &str) -> Result<PathBuf, PathError> {
    let runtime_directory = env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    let temporary =
        ["TMPDIR", "TMP", "TEMP"].into_iter().filter_map(env::var_os).find(|path| !path.is_empty());
    let temporary = temporary.unwrap_or_else(|| OsString::from("/tmp"));
    let uid = rustix::process::geteuid().as_raw();
    default_path_v14(appspace, id, runtime_directory.as_deref(), Path::new(&temporary), uid)
}

/// The rule of node-ipc 14 on Windows: a named pipe with the name of the user in it.
///
/// # Errors
///
/// [`PathError`].
///
/// # Examples
///
/// ```
/// use ipc_channel::events::node_ipc::default_pipe_v14;
///
/// assert_eq!(default_pipe_v14("ada", "app.", "world")?, r"\\.\pipe\node-ipc-ada-app.world");
/// # Ok::<(), ipc_channel::events::node_ipc::PathError>(())
/// ```
pub fn default_pipe_v14(user: &str, appspace: &str, id: &str) -> Result<String, PathError> {
    check_id(id)?;
    check_nul(&[user, appspace])?;
    Ok(format!("{PIPE}node-ipc-{user}-{appspace}{id}"))
}

/// The named pipe at which a server of node-ipc 9 on Windows listens for this path: one leading `/` goes, the others become
/// `-`, and `\\.\pipe\` comes before it, also when it is there already.
///
/// # Examples
///
/// ```
/// use ipc_channel::events::node_ipc::pipe_of_server;
///
/// assert_eq!(pipe_of_server("/tmp/app.world"), r"\\.\pipe\tmp-app.world");
/// ```
#[must_use]
pub fn pipe_of_server(path: &str) -> String {
    format!("{PIPE}{}", path.strip_prefix('/').unwrap_or(path).replace('/', "-"))
}

/// The named pipe that a client of node-ipc 9 on Windows connects to for this path: as [`pipe_of_server`], but a path that
/// begins with `\\.\pipe\` is left alone.
#[must_use]
pub fn pipe_of_client(path: &str) -> String {
    if path.starts_with(PIPE) { path.to_owned() } else { pipe_of_server(path) }
}

/// Why there is no default path.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PathError {
    /// A service without an id has no place.
    #[error("empty id")]
    EmptyId,
    /// No path holds a NUL.
    #[error("NUL in a part of the path")]
    Nul,
}

fn check_id(id: &str) -> Result<(), PathError> {
    if id.is_empty() { Err(PathError::EmptyId) } else { check_nul(&[id]) }
}

fn check_nul(parts: &[&str]) -> Result<(), PathError> {
    if parts.iter().any(|part| part.contains('\0')) { Err(PathError::Nul) } else { Ok(()) }
}

const PIPE: &str = r"\\.\pipe\";
