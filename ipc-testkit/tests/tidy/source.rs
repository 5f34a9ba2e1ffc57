//! The sources of the workspace as text, with just enough sense for Rust to search them.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// One Rust file, by its path from the root of the workspace.
pub(crate) struct Source {
    pub(crate) path: String,
    pub(crate) text: String,
}

/// A function as the text shows it.
pub(crate) struct Function {
    pub(crate) line: usize,
    pub(crate) head: String,
    pub(crate) docs: String,
    pub(crate) is_test: bool,
    pub(crate) is_declaration_only: bool,
}

impl Source {
    /// Whether it lies in this directory of its crate.
    pub(crate) fn is_in(&self, directory: &str) -> bool {
        self.path_of_crate().nth(1) == Some(directory)
    }

    pub(crate) fn is_of(&self, package: &str) -> bool {
        self.path_of_crate().next() == Some(package)
    }

    /// The parts of the path, from the directory of the crate on.
    fn path_of_crate(&self) -> impl Iterator<Item = &str> {
        self.path.strip_prefix(".ci/outside/").unwrap_or(&self.path).split('/')
    }

    /// The lines with their numbers, without comments.
    pub(crate) fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        self.text.lines().enumerate().map(|(index, line)| (index + 1, without_comment(line)))
    }

    /// Where the code, comments apart, contains one of these.
    pub(crate) fn places_of(&self, forbidden: &[&str]) -> Vec<String> {
        // The files of this test name what they forbid.
        if self.path.contains("tests/tidy") {
            return Vec::new();
        }
        self.code()
            .filter(|(_, line)| forbidden.iter().any(|word| line.contains(word)))
            .map(|(number, line)| format!("{}:{number}: {}", self.path, line.trim()))
            .collect()
    }

    /// Where a test sleeps outside of an item that pauses the time, without a comment on the line or above it that
    /// begins with "Sleeps" and says why.
    pub(crate) fn unexplained_sleeps(&self) -> Vec<String> {
        let (mut places, mut paused, mut above) = (Vec::new(), false, "");
        for ((number, code), line) in self.code().zip(self.text.lines()) {
            paused |=
                ["paused(true)", "start_paused = true", " paused("].iter().any(|word| code.contains(word));
            let sleeps = ["sleep(", "sleep_until("].iter().any(|word| code.contains(word));
            let explained = line.contains("// Sleeps ") || above.trim_start().starts_with("// Sleeps ");
            // The files of this test name what they forbid.
            if sleeps && !paused && !explained && !self.path.contains("tests/tidy") {
                places.push(format!("{}:{number}: {}", self.path, line.trim()));
            }
            if line.starts_with('}') {
                paused = false;
            }
            above = line;
        }
        places
    }

    pub(crate) fn functions(&self) -> Vec<Function> {
        let lines: Vec<&str> = self.text.lines().collect();
        let mut functions = Vec::new();
        for (index, line) in lines.iter().enumerate() {
            let head = without_comment(line).trim();
            let signature = head.strip_prefix("pub ").unwrap_or(head);
            if !["fn ", "async fn ", "const fn "].iter().any(|start| signature.starts_with(start)) {
                continue;
            }
            let above = lines[..index].iter().rev().map(|line| line.trim());
            let above: Vec<&str> = above.take_while(|line| belongs_to_what_follows(line)).collect();
            let end = lines[index..]
                .iter()
                .find_map(|line| without_comment(line).chars().find(|letter| matches!(letter, ';' | '{')));
            functions.push(Function {
                line: index + 1,
                head: head.to_owned(),
                docs: above
                    .iter()
                    .rev()
                    .filter(|line| line.starts_with("///"))
                    .map(|line| format!("{line}\n"))
                    .collect(),
                is_test: above
                    .iter()
                    .any(|line| line.starts_with("#[test") || line.starts_with("#[tokio::test")),
                is_declaration_only: end == Some(';'),
            });
        }
        functions
    }

    /// The doc comments with an example in them, which is a test as well.
    pub(crate) fn examples(&self) -> Vec<String> {
        let is_doc =
            |line: &&str| line.trim_start().starts_with("///") || line.trim_start().starts_with("//!");
        let lines: Vec<&str> = self.text.lines().collect();
        let blocks =
            lines.chunk_by(|one, next| is_doc(one) == is_doc(next)).filter(|block| is_doc(&block[0]));
        blocks.map(|block| block.join("\n")).filter(|docs| docs.contains("```")).collect()
    }
}

/// Doc comments, attributes over any number of lines, and comments between them.
fn belongs_to_what_follows(line: &str) -> bool {
    line.starts_with("///")
        || !(line.is_empty() || line.starts_with("//!") || line.ends_with(['}', ';', '{']))
}

/// The line up to a `//` that does not stand in a string.
fn without_comment(line: &str) -> &str {
    for (at, _) in line.match_indices("//") {
        let quotes = line[..at].matches('"').count() - line[..at].matches("\\\"").count();
        if quotes.is_multiple_of(2) {
            return &line[..at];
        }
    }
    line
}

/// The numbered items of a contract in doc comments: number and name.
pub(crate) fn promises(text: &str) -> Vec<(usize, String)> {
    let items = text.lines().filter_map(|line| {
        let (number, rest) = line.trim().strip_prefix("/// ")?.split_once(". `")?;
        Some((number.parse().ok()?, rest.split_once("`:")?.0.to_owned()))
    });
    items.collect()
}

/// The parity ids in a text: a capital letter, a dash and two digits.
pub(crate) fn ids(text: &str) -> Vec<String> {
    let words = text.split(|letter: char| !(letter.is_ascii_alphanumeric() || letter == '-'));
    let is_id = |word: &&str| {
        let bytes = word.as_bytes();
        bytes.len() == 4
            && matches!(bytes[0], b'I' | b'N' | b'P' | b'W' | b'X')
            && bytes[1] == b'-'
            && bytes[2..].iter().all(u8::is_ascii_digit)
    };
    words.filter(is_id).map(str::to_owned).collect()
}

/// Whether a text could be the name of a function.
pub(crate) fn is_name(text: &str) -> bool {
    text.chars().all(|letter| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '_')
}

/// The manifests of the member crates, by package name.
pub(crate) fn manifests() -> Vec<(String, String)> {
    let mut manifests = Vec::new();
    for entry in fs::read_dir(root()).unwrap() {
        let path = entry.unwrap().path().join("Cargo.toml");
        let Ok(text) = fs::read_to_string(path) else { continue };
        let name = text.lines().find_map(|line| line.strip_prefix("name = ")).unwrap().trim_matches('"');
        manifests.push((name.to_owned(), text));
    }
    assert!(manifests.len() >= 4, "the workspace is not where it was");
    manifests
}

/// Section, name and value of each dependency in a manifest.
pub(crate) fn dependencies(manifest: &str) -> Vec<(String, String, String)> {
    let mut section = String::new();
    let mut found = Vec::new();
    for line in manifest.lines().map(str::trim).filter(|line| !line.starts_with('#')) {
        if let Some(header) = line.strip_prefix('[') {
            section = header.trim_end_matches(']').to_owned();
        } else if section.ends_with("dependencies")
            && let Some((key, value)) = line.split_once('=')
        {
            let (name, inherited) = key.trim().split_once('.').unwrap_or((key.trim(), ""));
            found.push((section.clone(), name.to_owned(), format!("{inherited} ={value}").trim().to_owned()));
        }
    }
    found
}

/// Every Rust file of the workspace.
pub(crate) fn sources() -> impl Iterator<Item = Source> {
    let root = root();
    files(&root).into_iter().filter(|path| path.extension().is_some_and(|extension| extension == "rs")).map(
        move |path| Source {
            text: fs::read_to_string(&path).unwrap(),
            path: path.strip_prefix(&root).unwrap().to_str().unwrap().to_owned(),
        },
    )
}

/// Every file of the workspace, sorted, without what is built or hidden.
pub(crate) fn files(directory: &Path) -> Vec<PathBuf> {
    let mut entries: Vec<PathBuf> =
        fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    let mut found = Vec::new();
    for path in entries {
        let name = path.file_name().unwrap().to_str().unwrap_or_default().to_owned();
        if name.starts_with('.') && !matches!(name.as_str(), ".ci" | ".github") || name.starts_with("target")
        {
            continue;
        }
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push(path);
        }
    }
    found
}

pub(crate) fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap()
}

pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

#[test]
fn this_search_sees_what_it_should() {
    let source = Source {
        path: "crate/src/a.rs".to_owned(),
        text: "//! A.\n\n/// Docs, P-07.\n/// # Cancel safety\n#[inline]\npub async fn f(\n    a: u8,\n) {\n    \
               let url = \"http://x\"; // unbounded\n}\n\n/// X-01 (P-02)\n#[tokio::test]\nasync fn g() {}\n"
            .to_owned(),
    };
    let functions = source.functions();
    assert_eq!(functions.len(), 2);
    assert!(functions[0].docs.contains("# Cancel safety") && !functions[0].is_declaration_only);
    assert!(functions[1].is_test && !functions[0].is_test);
    assert_eq!(ids(&functions[1].docs), ["X-01", "P-02"]);
    let documented =
        Source { path: String::new(), text: "//! P-17\n//! ```\n\n/// P-18\nfn f() {}\n".to_owned() };
    assert_eq!(documented.examples(), ["//! P-17\n//! ```"]);
    assert!(source.code().any(|(_, line)| line.contains("http://x")));
    assert!(source.places_of(&["unbounded"]).is_empty(), "it stands in a comment");
    let outside = Source { path: ".ci/outside/echo/src/main.rs".to_owned(), text: String::new() };
    assert!(source.is_in("src") && outside.is_in("src") && outside.is_of("echo"));
    assert_eq!(source.places_of(&["http"]), ["crate/src/a.rs:9: let url = \"http://x\";"]);
    let sleepy = Source {
        path: "crate/tests/a.rs".to_owned(),
        text: "fn a() {\n    paused(async {\n        sleep(1);\n    });\n}\n\nfn b() {\n    sleep(2);\n    // Sleeps \
               well.\n    sleep(3);\n}\n"
            .to_owned(),
    };
    assert_eq!(sleepy.unexplained_sleeps(), ["crate/tests/a.rs:8: sleep(2);"]);
    assert_eq!(
        promises("/// 1. `a_b`: text\n///    `c`\n/// 2. `d`: x"),
        [(1, "a_b".to_owned()), (2, "d".to_owned())]
    );
}
