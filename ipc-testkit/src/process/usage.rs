//! What a process holds, for tests that look for leaks (Linux).

use std::{fs, io};

/// How many descriptors a process has open, the one needed for looking not counted.
///
/// # Errors
///
/// When there is no such process, or the system has no `/proc`.
pub fn open_descriptors(process: u32) -> io::Result<usize> {
    let own = usize::from(process == std::process::id());
    Ok(fs::read_dir(format!("/proc/{process}/fd"))?.count() - own)
}

/// How many threads a process has.
///
/// # Errors
///
/// As for [`open_descriptors`].
pub fn threads(process: u32) -> io::Result<usize> {
    status_field(process, "Threads:").map(|count| count as usize)
}

/// How much memory of a process is resident, in bytes.
///
/// # Errors
///
/// As for [`open_descriptors`].
pub fn resident_bytes(process: u32) -> io::Result<u64> {
    status_field(process, "VmRSS:").map(|kibibytes| kibibytes * 1024)
}

fn status_field(process: u32, name: &str) -> io::Result<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status"))?;
    let field = status.lines().find_map(|line| line.strip_prefix(name));
    field
        .and_then(|rest| rest.split_whitespace().next())
        .and_then(|number| number.parse().ok())
        .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, format!("process {process} has no {name}")))
}
