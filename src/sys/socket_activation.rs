//! Socket activation: a listening socket that systemd opens and passes to the service (sd_listen_fds(3)).

use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::{env, process};

/// The first passed descriptor (`SD_LISTEN_FDS_START`).
const FIRST: RawFd = 3;

/// Whether the socket has an owner.
static TAKEN: AtomicBool = AtomicBool::new(false);

/// Takes the socket that systemd passed to this process; `None` if it passed none, or if it is taken already.
///
/// # Errors
/// systemd passed several sockets, or the descriptor is not open.
pub fn take_socket() -> io::Result<Option<OwnedFd>> {
    let variable = |name| env::var(name).ok().and_then(|value| value.parse::<u32>().ok());
    match (variable("LISTEN_PID") == Some(process::id()), variable("LISTEN_FDS")) {
        (false, _) | (true, None | Some(0)) => Ok(None),
        (true, Some(1)) if TAKEN.swap(true, Ordering::Relaxed) => Ok(None),
        (true, Some(1)) => own(FIRST).map(Some),
        (true, Some(many)) => {
            Err(io::Error::other(format!("systemd has passed {many} sockets instead of one")))
        }
    }
}

/// The descriptor, which programs that this process starts do not inherit.
fn own(descriptor: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: F_SETFD accepts any number and touches no memory. It fails if the descriptor is not open.
    let done = unsafe { libc::fcntl(descriptor, libc::F_SETFD, libc::FD_CLOEXEC) };
    if done < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor is open, and systemd has opened it for this process, so nothing else owns it. `TAKEN` is
    // set, so no other call owns it either.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}
