//! The input: which files are sent, and what their chunks must look like when they arrive.

use std::{
    ffi::OsStr,
    fs, io,
    io::{Read, Write as _},
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use super::{
    failure::Failure,
    lines::{Digest, Facts},
};

/// The files to send, in the order of sending.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Tree {
    /// Where the paths start.
    root: PathBuf,
    /// Regular files, relative to the root, sorted.
    files: Vec<PathBuf>,
}

/// What every chunk of the input is: the truth that the ledger compares with.
#[derive(Debug)]
pub(crate) struct Manifest {
    chunk: u32,
    files: Vec<FileEntry>,
    chunks: u64,
    bytes: u64,
}

#[derive(Debug)]
struct FileEntry {
    length: u64,
    /// The number of the file's first chunk within a pass.
    first: u64,
    digests: Vec<Digest>,
}

impl Tree {
    /// Finds the files under `input`, or the repository's own tracked sources.
    pub(crate) fn find(input: Option<&Path>) -> Result<Self, Failure> {
        let tree = match input {
            Some(path) => Self::of_path(path)?,
            None => Self::of_repository()?,
        };
        if tree.files.is_empty() {
            return Err(Failure::EmptyInput { path: tree.root });
        }
        Ok(tree)
    }

    /// The tree that a list file describes; the producers' way to the very same files in the same order.
    pub(crate) fn read_list(path: &Path) -> io::Result<Self> {
        let bytes = fs::read(path)?;
        let mut paths = bytes.split(|&byte| byte == 0).map(|bytes| PathBuf::from(OsStr::from_bytes(bytes)));
        let root = paths.next().ok_or(io::ErrorKind::InvalidData)?;
        let files = paths.filter(|path| !path.as_os_str().is_empty()).collect();
        Ok(Self { root, files })
    }

    /// Writes the list: the root and every path, each ended by a zero byte, which no path contains.
    pub(crate) fn write_list(&self, path: &Path) -> io::Result<()> {
        let mut list = Vec::new();
        for path in std::iter::once(&self.root).chain(&self.files) {
            list.extend_from_slice(path.as_os_str().as_bytes());
            list.push(0);
        }
        fs::File::create_new(path)?.write_all(&list)
    }

    /// Where the paths start.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// The files with their full paths.
    pub(crate) fn paths(&self) -> impl Iterator<Item = PathBuf> + '_ {
        self.files.iter().map(|file| self.root.join(file))
    }

    fn of_path(path: &Path) -> Result<Self, Failure> {
        let unreadable = |source| Failure::Input { path: path.to_owned(), source };
        let root = path.canonicalize().map_err(unreadable)?;
        if root.is_dir() {
            return Self::walk(root, |_| true);
        }
        if !root.is_file() {
            return Err(unreadable(io::Error::other("neither a regular file nor a directory")));
        }
        let name = root.file_name().map(PathBuf::from).expect("a canonical file path ends in a name");
        let root = root.parent().map(PathBuf::from).expect("a file has a directory");
        Ok(Self { root, files: vec![name] })
    }

    /// The workspace that this program was built from, else the current directory.
    fn of_repository() -> Result<Self, Failure> {
        let built_from = Path::new(env!("CARGO_MANIFEST_DIR")).parent().filter(|path| path.is_dir());
        let root = built_from.unwrap_or(Path::new("."));
        let root = root.canonicalize().map_err(|source| Failure::Input { path: root.to_owned(), source })?;
        match tracked(&root) {
            Some(files) => Ok(Self { root, files }),
            // A source archive has no history, so the build's leavings must be told by their names.
            None => Self::walk(root, |name| name != ".git" && !name.as_bytes().starts_with(b"target")),
        }
    }

    /// Every regular file below `root` whose directories are all wanted. Links are not followed.
    fn walk(root: PathBuf, wanted: impl Fn(&OsStr) -> bool) -> Result<Self, Failure> {
        let mut files = Vec::new();
        let mut open = vec![PathBuf::new()];
        while let Some(directory) = open.pop() {
            let path = root.join(&directory);
            let unreadable = |source| Failure::Input { path: path.clone(), source };
            for entry in fs::read_dir(&path).map_err(unreadable)? {
                let entry = entry.map_err(unreadable)?;
                let kind = entry.file_type().map_err(unreadable)?;
                let name = directory.join(entry.file_name());
                if kind.is_dir() && wanted(&entry.file_name()) {
                    open.push(name);
                } else if kind.is_file() {
                    files.push(name);
                }
            }
        }
        files.sort();
        Ok(Self { root, files })
    }
}

/// The tracked files of the repository at `root`, or `None` where git does not answer.
fn tracked(root: &Path) -> Option<Vec<PathBuf>> {
    let output = Command::new("git")
        .arg("-C")
        .arg(root)
        .args(["ls-files", "-z"])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .ok()
        .filter(|output| output.status.success())?;
    let mut files: Vec<PathBuf> = output
        .stdout
        .split(|&byte| byte == 0)
        .filter(|path| !path.is_empty())
        .map(|path| PathBuf::from(OsStr::from_bytes(path)))
        // Tracked and deleted, links and submodules: not files to send.
        .filter(|path| fs::symlink_metadata(root.join(path)).is_ok_and(|metadata| metadata.is_file()))
        .collect();
    files.sort();
    Some(files).filter(|files| !files.is_empty())
}

impl Manifest {
    /// Reads the whole input once.
    pub(crate) fn read(tree: &Tree, chunk: u32) -> Result<Self, Failure> {
        let mut manifest = Self { chunk, files: Vec::new(), chunks: 0, bytes: 0 };
        let mut buffer = vec![0; chunk as usize];
        for path in tree.paths() {
            let unreadable = |source| Failure::Input { path: path.clone(), source };
            let mut file = fs::File::open(&path).map_err(unreadable)?;
            let mut entry = FileEntry { length: 0, first: manifest.chunks, digests: Vec::new() };
            loop {
                let count = read_full(&mut file, &mut buffer).map_err(unreadable)?;
                if count == 0 && !entry.digests.is_empty() {
                    break;
                }
                entry.digests.push(Digest::of(&buffer[..count]));
                entry.length += count as u64;
                if count < buffer.len() {
                    break;
                }
            }
            manifest.chunks += entry.digests.len() as u64;
            manifest.bytes += entry.length;
            manifest.files.push(entry);
        }
        Ok(manifest)
    }

    /// Files in the input.
    pub(crate) fn files(&self) -> u64 {
        self.files.len() as u64
    }

    /// Chunks in one pass; an empty file has one, empty.
    pub(crate) fn chunks(&self) -> u64 {
        self.chunks
    }

    /// Bytes in one pass.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The number of a chunk within its pass, if the input has a chunk of this length there.
    pub(crate) fn position(&self, chunk: &Facts) -> Option<u64> {
        let file = self.files.get(chunk.file as usize)?;
        let size = u64::from(self.chunk);
        let within = chunk.offset / size;
        let starts = chunk.offset.is_multiple_of(size) && within < file.digests.len() as u64;
        let length = size.min(file.length.checked_sub(chunk.offset)?);
        (starts && length == u64::from(chunk.length)).then_some(file.first + within)
    }

    /// Whether the digest is that of the file on disk. The chunk must have a position.
    pub(crate) fn matches(&self, chunk: &Facts) -> bool {
        let digests = self.files.get(chunk.file as usize).map(|file| &file.digests);
        let within = chunk.offset / u64::from(self.chunk);
        digests.and_then(|digests| digests.get(usize::try_from(within).ok()?)) == Some(&chunk.sha256)
    }
}

/// Fills the buffer as far as the file goes: a short count means the end of the file.
pub(crate) fn read_full(from: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match from.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::directory::RunDirectory;

    fn facts(file: u32, offset: u64, bytes: &[u8]) -> Facts {
        let length = u32::try_from(bytes.len()).unwrap();
        Facts { source: 0, pass: 1, file, offset, length, sha256: Digest::of(bytes) }
    }

    fn directory_with(files: &[(&str, &[u8])]) -> RunDirectory {
        let directory = RunDirectory::create("ipc-demo").unwrap();
        for (name, content) in files {
            let path = directory.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        directory
    }

    #[test]
    fn a_directory_is_walked_in_a_fixed_order() {
        let directory = directory_with(&[("b", b"2"), ("a/z", b"1"), ("c/d/e", b"3"), (".git/kept", b"4")]);
        let tree = Tree::find(Some(directory.path())).unwrap();
        let expected: Vec<PathBuf> = [".git/kept", "a/z", "b", "c/d/e"].map(PathBuf::from).into();
        assert_eq!(tree.files, expected);
    }

    #[test]
    fn links_are_not_followed() {
        let directory = directory_with(&[("a", b"1")]);
        std::os::unix::fs::symlink(directory.path(), directory.path().join("loop")).unwrap();
        std::os::unix::fs::symlink("a", directory.path().join("again")).unwrap();
        assert_eq!(Tree::find(Some(directory.path())).unwrap().files, [PathBuf::from("a")]);
    }

    #[test]
    fn a_single_file_is_an_input() {
        let directory = directory_with(&[("a", b"1"), ("b", b"2")]);
        let tree = Tree::find(Some(&directory.path().join("b"))).unwrap();
        assert_eq!(tree.files, [PathBuf::from("b")]);
    }

    #[test]
    fn a_missing_input_names_its_path_and_gives_status_2() {
        let failure = Tree::find(Some(Path::new("/no/such/place"))).unwrap_err();
        assert_eq!(failure.status(), 2);
        assert!(failure.to_string().contains("/no/such/place"), "{failure}");
    }

    #[test]
    fn an_empty_directory_gives_status_2() {
        let directory = directory_with(&[]);
        let failure = Tree::find(Some(directory.path())).unwrap_err();
        assert!(matches!(failure, Failure::EmptyInput { .. }));
        assert_eq!(failure.status(), 2);
    }

    #[test]
    fn the_default_input_is_this_repository_without_its_build() {
        let tree = Tree::find(None).unwrap();
        assert!(tree.files.contains(&PathBuf::from("examples/src/demo/input.rs")), "{:?}", tree.root);
        assert!(!tree.files.iter().any(|file| file.starts_with("target") || file.starts_with(".git/")));
    }

    #[test]
    fn the_list_carries_paths_that_are_not_text() {
        let directory = directory_with(&[]);
        let odd = PathBuf::from(OsStr::from_bytes(b"od\xff\nd"));
        let tree = Tree { root: PathBuf::from("/r"), files: vec![PathBuf::from("a b"), odd] };
        let list = directory.path().join("list");
        tree.write_list(&list).unwrap();
        assert_eq!(Tree::read_list(&list).unwrap(), tree);
    }

    #[test]
    fn the_manifest_knows_every_chunk_and_nothing_else() {
        let directory = directory_with(&[("empty", b""), ("exact", b"12345678"), ("rest", b"abcdef")]);
        let tree = Tree::find(Some(directory.path())).unwrap();
        let manifest = Manifest::read(&tree, 4).unwrap();
        assert_eq!((manifest.files(), manifest.chunks(), manifest.bytes()), (3, 5, 14));
        let right = [(0, 0, &b""[..]), (1, 0, b"1234"), (1, 4, b"5678"), (2, 0, b"abcd"), (2, 4, b"ef")];
        for (number, (file, offset, bytes)) in right.into_iter().enumerate() {
            let chunk = facts(file, offset, bytes);
            assert_eq!(manifest.position(&chunk), Some(number as u64));
            assert!(manifest.matches(&chunk));
        }
        assert!(!manifest.matches(&facts(1, 0, b"1235")));
        let wrong = [(3, 0, &b""[..]), (1, 8, b""), (1, 2, b"34"), (2, 4, b"efg"), (2, 8, b""), (0, 4, b"")];
        for (file, offset, bytes) in wrong {
            assert_eq!(manifest.position(&facts(file, offset, bytes)), None, "{file} {offset}");
        }
    }
}
