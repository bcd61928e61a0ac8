//! A cell: a process in user, network, mount and PID namespaces of its own. It is process 1 there, so the kernel ends
//! all that it started when it ends itself, and with the last of them go the namespaces and devices. Whatever
//! happens, nothing has to be taken away, and nothing can be left behind.
//!
//! In it are a `/run` and a `/proc` of its own, and a network namespace with `lo`, the "host" of what is built there.

use std::fs::{self, File};
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
use nix::unistd::{Gid, Pid, Uid, getegid, geteuid, pipe2, setsid};

use super::sandbox::{self, SandboxError};

/// A running cell, with a pipe out of it. Dropped, it ends at once with all that is in it.
#[derive(Debug)]
pub struct IsolatedProcess {
    process: Pid,
    /// What the cell writes; its end is the cell's.
    pub output: File,
}

/// Who we are outside.
#[derive(Debug, Clone, Copy)]
enum Privilege {
    /// Namespaces can be made as we are.
    Root,
    /// They take a user namespace, in which we are root.
    User(Uid, Gid),
}

impl IsolatedProcess {
    /// Starts a process in new namespaces that runs `errand` and ends. The errand hears whether the namespaces have what
    /// they should, and gets the pipe. To be called while the process has one thread.
    ///
    /// # Errors
    /// There are threads already, or namespaces are not for us.
    pub fn start(
        errand: impl FnOnce(Result<(), SandboxError>, File),
    ) -> Result<IsolatedProcess, SandboxError> {
        let failed = sandbox::step("start a process");
        let threads = fs::read_dir("/proc/self/task").map(Iterator::count);
        if !matches!(threads, Ok(1)) {
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
                    errand(set_up_namespaces(privilege), File::from(write));
                }));
                process::exit(i32::from(done.is_err()));
            }
        }
    }
}

impl Drop for IsolatedProcess {
    fn drop(&mut self) {
        // It may have ended already; then the kernel keeps its number until it was waited for, which is now.
        let _ = kill(self.process, Signal::SIGKILL);
        // Returns when all in the PID namespace have ended (`zap_pid_ns_processes` in `kernel/pid_namespace.c`).
        while waitpid(self.process, None) == Err(Errno::EINTR) {}
    }
}

/// fork(2), but into new namespaces. `None` in the child.
fn fork_into_namespaces(privilege: Privilege) -> nix::Result<Option<Pid>> {
    let mut flags = CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWPID;
    if let Privilege::User(..) = privilege {
        flags |= CloneFlags::CLONE_NEWUSER;
    }
    let flags = libc::c_long::from(flags.bits() | libc::SIGCHLD);
    // SAFETY: without CLONE_VM, and with no stack given, the child gets a copy of all memory and goes on as after
    // fork(2). The caller has made sure that this is the only thread, so no lock is held by one that the child does not
    // have. The other arguments are pointers that these flags do not ask for.
    let child = unsafe { libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0) };
    let child = i32::try_from(Errno::result(child)?).map_err(|_| Errno::EOVERFLOW)?;
    Ok((child != 0).then(|| Pid::from_raw(child)))
}

fn set_up_namespaces(privilege: Privilege) -> Result<(), SandboxError> {
    set_pdeathsig(Signal::SIGKILL).map_err(sandbox::step("end with the one who started us"))?;
    // What a terminal sends is for who started us.
    setsid().map_err(sandbox::step("leave the terminal"))?;
    if let Privilege::User(user, group) = privilege {
        sandbox::map_root(user, group)?;
    }
    let private = MsFlags::MS_PRIVATE | MsFlags::MS_REC;
    mount(None::<&str>, "/", None::<&str>, private, None::<&str>)
        .map_err(sandbox::step("keep our mounts to ourselves"))?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("proc"), "/proc", Some("proc"), flags, None::<&str>).map_err(sandbox::step("mount /proc"))?;
    sandbox::set_up_run_and_lo()
}
