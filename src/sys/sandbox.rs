//! A switch without root: in a user, network and mount namespace of its own (user_namespaces(7)), in which it is
//! root, and which goes with the last process in it.
//!
//! There `/run` is our own, so that named namespaces can be made, and all that was in the real one is bound
//! into it: name service, the user's sockets, the directory in which the switch is found from outside.
//!
//! Everything here changes the whole process, so it must have one thread only.

use std::ffi::OsString;
use std::fs::{self, DirEntry, File};
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::symlink;
use std::path::Path;

use netlink_packet_route::RouteNetlinkMessage;
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, Gid, Uid, chdir, fork, getcwd, getegid, geteuid, pipe2};
use rtnetlink::LinkUnspec;

use super::netlink::{Netlink, NetlinkError, NetlinkRequest};
use super::netns::bind;
use super::process::has_one_thread;

const RUN: &str = "/run";

/// What is in the real `/run` and of no use in a sandbox: its namespaces and switches are others.
const HIDDEN: [&str; 2] = ["netns", "uswitch"];

/// Why there is no sandbox.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// User namespaces are not for us.
    #[error("without root a switch needs a user namespace, and {0}: use sudo")]
    Forbidden(String),
    /// One of the steps failed.
    #[error("cannot {what} in a user namespace of our own: {source}; use sudo")]
    Step {
        /** Which. */
        what: &'static str,
        /** Why. */
        source: io::Error,
    },
    /// The loopback device.
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
    /// The switch to join.
    #[error("cannot enter the sandbox of process {pid}: {source}; it belongs to another user, or has ended")]
    Join {
        /** Of the switch. */
        pid: u32,
        /** Why. */
        source: io::Error,
    },
}

pub(super) fn step<E: Into<io::Error>>(what: &'static str) -> impl FnOnce(E) -> SandboxError {
    move |error| SandboxError::Step { what, source: error.into() }
}

/// Puts this process into a sandbox of its own.
///
/// # Errors
/// User namespaces are forbidden here, with the setting that forbids them.
pub fn enter() -> Result<(), SandboxError> {
    let (user, group) = (geteuid(), getegid());
    unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS)
        .map_err(forbidden)?;
    map_root(user, group)?;
    set_up_run_and_lo()
}

/// Becomes root in a user namespace that is new, and was made by this user.
pub(super) fn map_root(user: Uid, group: Gid) -> Result<(), SandboxError> {
    become_root(user, group).map_err(|error| match error.raw_os_error().map(Errno::from_raw) {
        // With AppArmor's restriction the namespace is made, without any rights in it.
        Some(errno @ (Errno::EPERM | Errno::EACCES)) => forbidden(errno),
        _ => step("become root")(error),
    })
}

/// Gives new network and mount namespaces what is in them at the beginning: `/run` and `lo`.
pub(super) fn set_up_run_and_lo() -> Result<(), SandboxError> {
    own_run().map_err(|error| match error.raw_os_error().map(Errno::from_raw) {
        Some(errno @ (Errno::EPERM | Errno::EACCES)) => forbidden(errno),
        _ => step("mount /run")(error),
    })?;
    let loopback = RouteNetlinkMessage::SetLink(LinkUnspec::new_with_name("lo").up().build());
    Ok(Netlink::open()?.apply(&[NetlinkRequest::change("turn on lo", loopback)])?)
}

/// Our user is root in the namespace, and nobody else is there (user_namespaces(7), "Defining user and group ID mappings").
fn become_root(user: Uid, group: Gid) -> io::Result<()> {
    fs::write("/proc/self/setgroups", "deny")?;
    fs::write("/proc/self/uid_map", format!("0 {user} 1"))?;
    fs::write("/proc/self/gid_map", format!("0 {group} 1"))
}

/// Puts an empty directory over `/run` and shows in it what is in the real one, but for the named namespaces and root's
/// switches.
fn own_run() -> io::Result<()> {
    // Still the real one after the mount.
    let real = File::open(RUN)?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount(Some("uswitch"), RUN, Some("tmpfs"), flags, Some("mode=0755"))?;
    for entry in fs::read_dir(format!("/proc/self/fd/{}", real.as_raw_fd()))? {
        let entry = entry?;
        if !HIDDEN.contains(&entry.file_name().to_string_lossy().as_ref()) {
            // One that has gone meanwhile, or that we may not see, is not missed.
            let _ = show(&entry);
        }
    }
    Ok(())
}

fn show(entry: &DirEntry) -> io::Result<()> {
    let target = Path::new(RUN).join(entry.file_name());
    let kind = entry.file_type()?;
    if kind.is_symlink() {
        return symlink(fs::read_link(entry.path())?, target);
    }
    if kind.is_dir() {
        fs::create_dir(&target)?;
    } else {
        File::create_new(&target)?;
    }
    // The kernel lets nobody show part of a tree that others mounted: with all that is mounted in it, or not at all.
    Ok(bind(&entry.path(), &target, MsFlags::MS_BIND | MsFlags::MS_REC)?)
}

/// A kernel setting that keeps users from namespaces of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Restriction {
    /// As sysctl(8) has it.
    pub sysctl: &'static str,
    /// Forbids.
    pub value: &'static str,
    /// Allows, whatever else there is.
    pub allowing: &'static str,
    /// What it means.
    pub meaning: &'static str,
}

/// All there are; the second is Debian's, the third AppArmor's (Ubuntu).
pub const RESTRICTIONS: [Restriction; 3] = [
    Restriction {
        sysctl: "user.max_user_namespaces",
        value: "0",
        allowing: "15000",
        meaning: "there are none here",
    },
    Restriction {
        sysctl: "kernel.unprivileged_userns_clone",
        value: "0",
        allowing: "1",
        meaning: "only root may make one here",
    },
    Restriction {
        sysctl: "kernel.apparmor_restrict_unprivileged_userns",
        value: "1",
        allowing: "0",
        meaning: "AppArmor forbids it here",
    },
];

/// The setting that keeps users from namespaces of their own, if one does.
pub fn restriction() -> Option<Restriction> {
    let path = |sysctl: &str| Path::new("/proc/sys").join(sysctl.replace('.', "/"));
    let value = |sysctl: &str| fs::read_to_string(path(sysctl)).unwrap_or_default();
    RESTRICTIONS.into_iter().find(|restriction| value(restriction.sysctl).trim() == restriction.value)
}

/// Whether [`enter`] would do, tried in a process that ends with it. To be called before this process has a second
/// thread. What stands against it, in a sentence.
///
/// # Errors
/// There is no room for a process, or there are threads already.
pub fn probe() -> io::Result<Result<(), String>> {
    if !has_one_thread()? {
        return Err(io::Error::other("a process with several threads cannot try a sandbox out"));
    }
    let (read, write) = pipe2(OFlag::O_CLOEXEC)?;
    // SAFETY: this thread is the only one, so no lock is held by one that the child does not have.
    match unsafe { fork() }? {
        ForkResult::Child => {
            let said = enter().err().map(|error| error.to_string()).unwrap_or_default();
            // Who does not hear it takes the exit code for it.
            let written = File::from(write).write_all(said.as_bytes());
            let code = i32::from(!said.is_empty() || written.is_err());
            // SAFETY: ends this process, which is a copy with nothing of its own to clean up.
            unsafe { libc::_exit(code) }
        }
        ForkResult::Parent { child } => {
            drop(write);
            let mut said = String::new();
            File::from(read).read_to_string(&mut said)?;
            match waitpid(child, None)? {
                WaitStatus::Exited(_, 0) => Ok(Ok(())),
                _ => Ok(Err(said)),
            }
        }
    }
}

/// Why there are no user namespaces for us, in the words of the setting that says so.
pub(super) fn forbidden(error: Errno) -> SandboxError {
    let reason = if let Some(Restriction { sysctl, value, meaning, .. }) = restriction() {
        format!("{meaning} (sysctl {sysctl} is {value})")
    } else if error == Errno::ENOSPC {
        "there are too many here (sysctl user.max_user_namespaces)".to_owned()
    } else if error == Errno::EINVAL {
        "a process with several threads cannot get one".to_owned()
    } else {
        format!("the kernel, or the container around us, forbids it ({})", error.desc())
    };
    SandboxError::Forbidden(reason)
}

/// Puts this process into the sandbox of a running switch, from its user's shell; the working directory
/// stays where it is, if it is there.
///
/// # Errors
/// The process has ended, or belongs to another user.
pub fn join(pid: u32) -> Result<(), SandboxError> {
    let failed = |errno: Errno| SandboxError::Join { pid, source: errno.into() };
    let directory = getcwd().map_or(OsString::from("/"), OsString::from);
    let process = open_process(pid).map_err(failed)?;
    let all = CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS;
    setns(&process, all).map_err(failed)?;
    chdir(directory.as_os_str()).or_else(|_| chdir("/")).map_err(failed)
}

/// A file that stays that process, whoever gets its number next.
fn open_process(pid: u32) -> nix::Result<OwnedFd> {
    // SAFETY: pidfd_open takes two plain numbers and touches no memory of ours.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    let fd = Errno::result(fd)?;
    let fd = i32::try_from(fd).map_err(|_| Errno::EOVERFLOW)?;
    // SAFETY: the kernel has just opened `fd` for us, and nothing else knows of it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusal_names_the_cause() {
        let text = forbidden(Errno::EINVAL).to_string();
        assert!(text.contains("user namespace") && text.ends_with("use sudo"), "{text}");
    }

    #[test]
    fn cannot_join_ended_process() {
        assert!(matches!(join(u32::MAX), Err(SandboxError::Join { .. })));
    }
}
