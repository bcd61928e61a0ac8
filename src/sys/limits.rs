//! Limits of the process that a switch with many ports runs into.

use std::io;

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Raises the limit of open files to the most that the process may have, and returns it.
/// Each queue of each port is an open file.
///
/// # Errors
/// The kernel refused, which it has no reason to.
pub fn raise_open_files() -> io::Result<u64> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    if soft < hard {
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    }
    Ok(hard)
}

/// How many files the process may have open at most (the hard limit).
///
/// # Errors
/// The kernel refused, which it has no reason to.
pub fn open_files() -> io::Result<u64> {
    Ok(getrlimit(Resource::RLIMIT_NOFILE)?.1)
}

/// How much memory the process may have pinned, in bytes.
///
/// # Errors
/// The kernel refused, which it has no reason to.
pub fn locked_memory() -> io::Result<u64> {
    Ok(getrlimit(Resource::RLIMIT_MEMLOCK)?.0)
}
