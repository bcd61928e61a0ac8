//! Resource limits of this process (getrlimit(2)) that a switch with many ports can reach.

use std::io::{self, ErrorKind};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{SigHandler, Signal, signal};

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

/// Makes a write beyond the limit of the file size (`RLIMIT_FSIZE`) fail with `EFBIG`. By default the kernel also sends
/// SIGXFSZ, which ends the process. Programs that this process executes inherit it.
///
/// # Errors
/// sigaction(2) failed.
pub fn ignore_file_size_signal() -> io::Result<()> {
    // SAFETY: ignoring a signal runs no code of ours.
    unsafe { signal(Signal::SIGXFSZ, SigHandler::SigIgn) }?;
    Ok(())
}

/// Adds what sets the limit to the error of a write beyond the limit of the file size.
pub fn explain_write_error(error: io::Error) -> io::Error {
    match error.kind() {
        ErrorKind::FileTooLarge => {
            io::Error::new(error.kind(), format!("{error}: `ulimit -f` sets the limit"))
        }
        _ => error,
    }
}
