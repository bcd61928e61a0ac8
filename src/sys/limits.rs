//! Resource limits of this process (getrlimit(2)) that a switch with many ports can reach.

use std::io;

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Raises the soft limit of open files to the hard limit, and returns it. Each queue of each port is an open
/// file.
///
/// # Errors
/// getrlimit(2) or setrlimit(2) failed.
pub fn raise_open_files() -> io::Result<u64> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    if soft < hard {
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    }
    Ok(hard)
}

/// The hard limit of open files.
///
/// # Errors
/// getrlimit(2) failed.
pub fn open_files() -> io::Result<u64> {
    Ok(getrlimit(Resource::RLIMIT_NOFILE)?.1)
}

/// The soft limit of locked memory (`RLIMIT_MEMLOCK`), in bytes.
///
/// # Errors
/// getrlimit(2) failed.
pub fn locked_memory() -> io::Result<u64> {
    Ok(getrlimit(Resource::RLIMIT_MEMLOCK)?.0)
}
