//! `--detach`: the shell gets its prompt back when the switch forwards, or the error when it does not.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, FromRawFd, OwnedFd, RawFd};

use nix::fcntl::OFlag;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, chdir, dup2_stderr, dup2_stdin, dup2_stdout, fork, pipe2, setsid};

use super::process::has_one_thread;

/// Which of the two processes this is after [`detach`].
#[derive(Debug)]
pub enum Role {
    /// The one that the shell waits for: it has nothing to do but to exit with this code.
    Parent(u8),
    /// The one that goes on, without the terminal, and says when it is ready.
    Child(ReadyNotifier),
}

/// To be said when the switch forwards. Dropped without, the parent waits for the child's end and takes its exit code.
#[derive(Debug)]
pub struct ReadyNotifier {
    pipe: File,
}

/// Makes a process that outlives the shell. To be called before the process has a second thread.
///
/// # Errors
/// The kernel has no room for a process, or there are threads already.
pub fn detach() -> io::Result<Role> {
    if !has_one_thread()? {
        return Err(io::Error::other("a process with several threads cannot detach"));
    }
    let (read, write) = pipe2(OFlag::O_CLOEXEC)?;
    // SAFETY: this thread is the only one, so no lock is held by one that the child does not have, and the child
    // may go on as any process.
    match unsafe { fork() }? {
        ForkResult::Parent { child } => {
            drop(write);
            await_ready(File::from(read), child).map(Role::Parent)
        }
        ForkResult::Child => {
            close_inherited()?;
            setsid()?;
            Ok(Role::Child(ReadyNotifier { pipe: File::from(write) }))
        }
    }
}

/// Closes what the shell had open besides the standard three: who waits for the end of such a pipe, or for a lock on
/// such a file, would wait for the switch. They are told by having come through an `execve`: whatever this
/// program opens has `FD_CLOEXEC`.
fn close_inherited() -> io::Result<()> {
    let numbers = fs::read_dir("/proc/self/fd")?.flatten();
    let numbers: Vec<RawFd> = numbers.filter_map(|file| file.file_name().to_str()?.parse().ok()).collect();
    for number in numbers.into_iter().filter(|number| *number > libc::STDERR_FILENO) {
        // SAFETY: asks for the flags of a number, which may be any.
        let flags = unsafe { libc::fcntl(number, libc::F_GETFD) };
        if flags == 0 {
            // SAFETY: it is open, and was not opened by this program, so nothing in it owns or uses it.
            drop(unsafe { OwnedFd::from_raw_fd(number) });
        }
    }
    Ok(())
}

/// The exit code: success when the child is ready, else its own.
fn await_ready(mut pipe: File, child: Pid) -> io::Result<u8> {
    let mut said = Vec::new();
    pipe.read_to_end(&mut said)?;
    if !said.is_empty() {
        return Ok(0);
    }
    Ok(match waitpid(child, None)? {
        WaitStatus::Exited(_, code) => u8::try_from(code & 0xff).unwrap_or(1),
        // As shells say it.
        WaitStatus::Signaled(_, signal, _) => 128 + u8::try_from(signal as i32).unwrap_or(0),
        _ => 1,
    })
}

impl ReadyNotifier {
    /// Lets go of the terminal, the working directory and the parent.
    ///
    /// # Errors
    /// The parent was killed meanwhile (`BrokenPipe`): nobody waits for the switch any more.
    pub fn notify(mut self) -> io::Result<()> {
        let null = OpenOptions::new().read(true).write(true).open("/dev/null")?;
        dup2_stdin(null.as_fd())?;
        dup2_stdout(null.as_fd())?;
        dup2_stderr(null.as_fd())?;
        chdir("/")?;
        self.pipe.write_all(b"!")
    }
}
