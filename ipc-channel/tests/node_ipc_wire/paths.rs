//! Where a service is: the rules of both generations as tables.

use std::path::Path;

use ipc_channel::events::node_ipc::{
    PathError, default_path_v9, default_path_v14, default_path_v14_here, default_pipe_v14, pipe_of_client,
    pipe_of_server,
};

/// N-04: root, application space and id, one behind the other, with nothing between and nothing escaped.
#[test]
fn the_path_of_version_9_is_root_space_and_id() {
    let table = [
        ("/tmp/", "app.", "world", "/tmp/app.world"),
        ("/tmp/", "app.", "hello world", "/tmp/app.hello world"),
        ("/tmp/", "", "world", "/tmp/world"),
        ("/tmp", "app.", "world", "/tmpapp.world"),
        ("", "app.", "world", "app.world"),
        ("/run/ipc/", "my.", "välden 🦀", "/run/ipc/my.välden 🦀"),
        ("/tmp/", "app.", "a/b", "/tmp/app.a/b"),
        ("/tmp/", "app.", "../x", "/tmp/app.../x"),
        ("/tmp/", "app.", "*?%20\\", "/tmp/app.*?%20\\"),
        ("/tmp/", "app.", ".", "/tmp/app.."),
    ];
    for (root, space, id, path) in table {
        assert_eq!(default_path_v9(root, space, id).unwrap(), path);
    }
}

/// N-04: a directory of the user, or one with the user's number beside the files of others.
#[test]
fn the_path_of_version_14_lies_in_a_directory_of_the_user() {
    let table = [
        (Some("/run/user/1000"), "/tmp", 1_000, "world", "/run/user/1000/node-ipc/app.world"),
        (Some("/run/user/1000/"), "/tmp", 1_000, "world", "/run/user/1000/node-ipc/app.world"),
        (None, "/tmp", 1_000, "world", "/tmp/node-ipc-1000/app.world"),
        (Some(""), "/var/tmp", 0, "world", "/var/tmp/node-ipc-0/app.world"),
        (None, "/tmp/", 7, "a b", "/tmp/node-ipc-7/app.a b"),
        (None, "/tmp", 7, "/a", "/tmp/node-ipc-7/app./a"),
    ];
    for (run, temporary, uid, id, path) in table {
        let found = default_path_v14("app.", id, run.map(Path::new), Path::new(temporary), uid).unwrap();
        assert_eq!(found.to_str().unwrap(), path);
    }
    let rooted = default_path_v14("", "/a", None, Path::new("/tmp"), 7).unwrap();
    assert_eq!(rooted.to_str().unwrap(), "/tmp/node-ipc-7//a", "it does not leave the directory");
}

/// N-04: this process's own place has the same form, whatever its environment says.
#[test]
fn the_path_of_version_14_here_ends_alike() {
    let path = default_path_v14_here("app.", "world").unwrap();
    assert!(path.is_absolute() && path.ends_with("app.world"), "{}", path.display());
    let directory = path.parent().and_then(Path::file_name).unwrap().to_str().unwrap();
    assert!(directory == "node-ipc" || directory.starts_with("node-ipc-"));
}

/// N-04: on Windows the path becomes the name of a pipe; a client leaves one that is such a name already.
#[test]
fn windows_paths_become_names_of_pipes() {
    let table = [
        ("/tmp/app.world", r"\\.\pipe\tmp-app.world"),
        ("//tmp//app.world", r"\\.\pipe\-tmp--app.world"),
        ("app.world", r"\\.\pipe\app.world"),
        (r"C:\temp\app.world", r"\\.\pipe\C:\temp\app.world"),
        ("", r"\\.\pipe\"),
    ];
    for (path, pipe) in table {
        assert_eq!((pipe_of_server(path), pipe_of_client(path)), (pipe.to_owned(), pipe.to_owned()));
    }
    let pipe = r"\\.\pipe\tmp-app.world";
    assert_eq!(pipe_of_client(pipe), pipe);
    assert_eq!(pipe_of_server(pipe), r"\\.\pipe\\\.\pipe\tmp-app.world", "as Node's server has it");
    assert_eq!(default_pipe_v14("ada", "app.", "world").unwrap(), r"\\.\pipe\node-ipc-ada-app.world");
}

/// N-04: an id that names nothing, or that no path can hold, is an error by every rule.
#[test]
fn ids_without_characters_or_with_a_nul_are_errors() {
    let none = Path::new("/tmp");
    for (id, error) in [("", PathError::EmptyId), ("a\0b", PathError::Nul), ("\0", PathError::Nul)] {
        assert_eq!(default_path_v9("/tmp/", "app.", id), Err(error.clone()));
        assert_eq!(default_path_v14("app.", id, None, none, 0), Err(error.clone()));
        assert_eq!(default_path_v14_here("app.", id), Err(error.clone()));
        assert_eq!(default_pipe_v14("ada", "app.", id), Err(error));
    }
    assert_eq!(default_path_v9("/tmp/", "a\0", "b"), Err(PathError::Nul));
    assert_eq!(default_path_v9("\0", "a", "b"), Err(PathError::Nul));
}
