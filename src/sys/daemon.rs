//! `--detach`: the command returns when the switch forwards, or with the error if it fails to start.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, FromRawFd, OwnedFd};

use nix::fcntl::OFlag;
use nix::sys::signal::{SigHandler, Signal, signal};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, chdir, dup2_stderr, dup2_stdin, dup2_stdout, fork, pipe2, setsid};

use super::process::{has_one_thread, open_descriptors};

/// Which of the two processes this is after [`detach`].
#[derive(Debug)]
pub enum DaemonRole {
    /// The process that the shell waits for. It must exit with this code.
    Parent(u8),
    /// The background process, without the terminal. It reports when it is ready.
    Child(ReadyNotifier),
}

/// Reports to the parent that the switch forwards. If it is dropped without [`ReadyNotifier::notify`], the
/// parent waits for the child and exits with its exit code.
#[derive(Debug)]
pub struct ReadyNotifier {
    pipe: File,
}

/// Forks a process that outlives the shell. Call it while the process has one thread.
///
/// # Errors
/// fork(2) failed, or the process has several threads.
pub fn detach() -> io::Result<DaemonRole> {
    if !has_one_thread()? {
        return Err(io::Error::other("a process with several threads cannot detach"));
    }
    let (read, write) = pipe2(OFlag::O_CLOEXEC)?;
    // SAFETY: this is the only thread, so no thread that is missing in the child holds a lock. The child may
    // do what any process may do.
    match unsafe { fork() }? {
        ForkResult::Parent { child } => {
            drop(write);
            await_ready(File::from(read), child).map(DaemonRole::Parent)
        }
        ForkResult::Child => {
            close_inherited()?;
            setsid()?;
            // The hang-up of a terminal does not concern it.
            // SAFETY: ignoring a signal runs no code of ours.
            unsafe { signal(Signal::SIGHUP, SigHandler::SigIgn) }?;
            Ok(DaemonRole::Child(ReadyNotifier { pipe: File::from(write) }))
        }
    }
}

/// Closes inherited descriptors other than 0, 1 and 2. Otherwise a program that waits for the end of such a
/// pipe, or for a lock on such a file, would wait for the switch. Inherited descriptors are those without
/// `FD_CLOEXEC`: this program opens all of its files with that flag.
fn close_inherited() -> io::Result<()> {
    for number in open_descriptors()? {
        // SAFETY: F_GETFD accepts any number and touches no memory.
        let flags = unsafe { libc::fcntl(number, libc::F_GETFD) };
        if flags == 0 {
            // SAFETY: the descriptor is open, and this program did not open it, so nothing here owns or uses
            // it.
            drop(unsafe { OwnedFd::from_raw_fd(number) });
        }
    }
    Ok(())
}

/// The exit code of the parent: success when the child is ready, otherwise the child's exit code.
fn await_ready(mut pipe: File, child: Pid) -> io::Result<u8> {
    let mut message = Vec::new();
    pipe.read_to_end(&mut message)?;
    if !message.is_empty() {
        return Ok(0);
    }
    Ok(match waitpid(child, None)? {
        WaitStatus::Exited(_, code) => u8::try_from(code & 0xff).unwrap_or(1),
        // The convention of shells.
        WaitStatus::Signaled(_, signal, _) => 128 + u8::try_from(signal as i32).unwrap_or(0),
        _ => 1,
    })
}

impl ReadyNotifier {
    /// Releases the terminal and the working directory, and lets the parent exit.
    ///
    /// # Errors
    /// The parent was killed (`BrokenPipe`): no shell waits for the switch any more.
    pub fn notify(mut self) -> io::Result<()> {
        let null = OpenOptions::new().read(true).write(true).open("/dev/null")?;
        dup2_stdin(null.as_fd())?;
        dup2_stdout(null.as_fd())?;
        dup2_stderr(null.as_fd())?;
        chdir("/")?;
        self.pipe.write_all(b"!")
    }
}
