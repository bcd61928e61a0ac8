//! A process in new network, mount and PID namespaces, and without root also in a user namespace. It
//! is the init process of its PID namespace: when it ends, the kernel kills all processes that it started,
//! and then removes the namespaces and their devices. So nothing has to be cleaned up, and nothing is left
//! behind.
//!
//! The process has a private `/run` and `/proc`. Its network namespace has `lo` and is the "host" of what it
//! builds.

use std::fs::File;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::mount::{MsFlags, mount};
use nix::sched::CloneFlags;
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, Gid, Pid, Uid, fork, getegid, geteuid, pipe2, setsid};

use super::process::has_one_thread;
use super::sandbox::{self, SandboxError};

/// A running isolated process, with a pipe from it. Dropping this kills the process and all that it started.
#[derive(Debug)]
pub struct IsolatedProcess {
    process: Pid,
    /// What the process writes. End of file means that the process has ended.
    pub output: File,
}

/// Whether the caller needs a user namespace.
#[derive(Debug, Clone, Copy)]
enum Privilege {
    /// The caller may create the other namespaces.
    Root,
    /// The process needs a user namespace, in which this user and group are root.
    User(Uid, Gid),
}

impl IsolatedProcess {
    /// Starts a process in new namespaces that runs `task` and ends. `task` gets the result of setting up the
    /// namespaces, and the pipe. Call this while the process has one thread.
    ///
    /// # Errors
    /// The process has several threads, or may not create namespaces.
    pub fn start(task: impl FnOnce(Result<(), SandboxError>, File)) -> Result<IsolatedProcess, SandboxError> {
        let failed = sandbox::step("start a process");
        if !has_one_thread().unwrap_or(false) {
            return Err(failed(io::Error::other("this process has several threads")));
        }
        let can_build = super::caps::can_manage_network().unwrap_or(false);
        let privilege = if can_build { Privilege::Root } else { Privilege::User(geteuid(), getegid()) };
        let (read, write) = pipe2(OFlag::O_CLOEXEC).map_err(sandbox::step("make a pipe"))?;
        match fork_into_namespaces(privilege).map_err(sandbox::forbidden)? {
            Some(process) => Ok(IsolatedProcess { process, output: File::from(read) }),
            None => {
                drop(read);
                let done = catch_unwind(AssertUnwindSafe(|| {
                    task(set_up_namespaces(privilege), File::from(write));
                }));
                process::exit(i32::from(done.is_err()));
            }
        }
    }
}

/// Starts another process that runs `task` and ends. If an isolated process starts it, it ends with that one at the
/// latest. Call this while the process has one thread.
///
/// # Errors
/// fork(2) failed, or the process has several threads.
pub fn fork_child(task: impl FnOnce()) -> io::Result<()> {
    if !has_one_thread()? {
        return Err(io::Error::other("this process has several threads"));
    }
    // SAFETY: this is the only thread, so no thread that is missing in the child holds a lock. The child may do what
    // any process may do.
    match unsafe { fork() }? {
        ForkResult::Parent { .. } => Ok(()),
        ForkResult::Child => {
            let done = catch_unwind(AssertUnwindSafe(task));
            process::exit(i32::from(done.is_err()));
        }
    }
}

impl Drop for IsolatedProcess {
    fn drop(&mut self) {
        // If it has ended, the kernel keeps its PID until the waitpid below.
        let _ = kill(self.process, Signal::SIGKILL);
        // Returns when all processes in the PID namespace have ended (`zap_pid_ns_processes` in
        // `kernel/pid_namespace.c`).
        while waitpid(self.process, None) == Err(Errno::EINTR) {}
    }
}

/// fork(2) into new namespaces. Returns `None` in the child.
fn fork_into_namespaces(privilege: Privilege) -> nix::Result<Option<Pid>> {
    let mut flags = CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWPID;
    if let Privilege::User(..) = privilege {
        flags |= CloneFlags::CLONE_NEWUSER;
    }
    let flags = libc::c_long::from(flags.bits() | libc::SIGCHLD);
    // SAFETY: without CLONE_VM and with a null stack, the child has a copy of all memory and continues as
    // after fork(2). The caller has checked that this is the only thread, so no thread that is missing in
    // the child holds a lock. The other arguments are pointers that the kernel does not read with these
    // flags.
    let child = unsafe { libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0) };
    let child = i32::try_from(Errno::result(child)?).map_err(|_| Errno::EOVERFLOW)?;
    Ok((child != 0).then(|| Pid::from_raw(child)))
}

fn set_up_namespaces(privilege: Privilege) -> Result<(), SandboxError> {
    set_pdeathsig(Signal::SIGKILL).map_err(sandbox::step("set the parent death signal"))?;
    // Signals of the terminal (Ctrl-C) go to the parent only.
    setsid().map_err(sandbox::step("start a session"))?;
    if let Privilege::User(user, group) = privilege {
        sandbox::map_root(user, group)?;
    }
    let private = MsFlags::MS_PRIVATE | MsFlags::MS_REC;
    mount(None::<&str>, "/", None::<&str>, private, None::<&str>)
        .map_err(sandbox::step("make mounts private"))?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("proc"), "/proc", Some("proc"), flags, None::<&str>).map_err(sandbox::step("mount /proc"))?;
    sandbox::set_up_run_and_lo()
}
