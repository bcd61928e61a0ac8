//! The sandbox of a switch without root: a new user, network and mount namespace
//! (user_namespaces(7)), in which the user is root. The kernel removes it with the last process in it.
//!
//! The sandbox has a private `/run`, so that named namespaces can be created in it. The entries of the real
//! `/run` are bind-mounted into it: name service, the user's sockets, the runtime directory of the switch.
//!
//! The functions here change the whole process, so it must have one thread.

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

/// Entries of the real `/run` that the sandbox does not show: it has its own namespaces and switches.
const HIDDEN: [&str; 2] = ["netns", "uswitch"];

/// Why a sandbox cannot be created or entered.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// This process may not create user namespaces.
    #[error("without root a switch needs a user namespace, and {0}: use sudo")]
    Forbidden(String),
    /// A step failed.
    #[error("cannot {what} in a user namespace: {source}; use sudo")]
    Step {
        /** The step. */
        what: &'static str,
        /** The kernel's error. */
        source: io::Error,
    },
    /// The loopback device cannot be set up.
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
    /// The switch's sandbox cannot be entered.
    #[error("cannot enter the sandbox of process {pid}: {source}; it belongs to another user, or has ended")]
    Join {
        /** The process of the switch. */
        pid: u32,
        /** The kernel's error. */
        source: io::Error,
    },
}

pub(super) fn step<E: Into<io::Error>>(what: &'static str) -> impl FnOnce(E) -> SandboxError {
    move |error| SandboxError::Step { what, source: error.into() }
}

/// Moves this process into a new sandbox.
///
/// # Errors
/// User namespaces are forbidden; the error names the setting.
pub fn enter() -> Result<(), SandboxError> {
    let (user, group) = (geteuid(), getegid());
    unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS)
        .map_err(forbidden)?;
    map_root(user, group)?;
    set_up_run_and_lo()
}

/// Maps this user and group to root in the new user namespace that this process is in.
pub(super) fn map_root(user: Uid, group: Gid) -> Result<(), SandboxError> {
    become_root(user, group).map_err(|error| match error.raw_os_error().map(Errno::from_raw) {
        // With AppArmor's restriction the namespace is created, but without capabilities in it.
        Some(errno @ (Errno::EPERM | Errno::EACCES)) => forbidden(errno),
        _ => step("become root")(error),
    })
}

/// Sets up new network and mount namespaces: mounts a private `/run` and enables `lo`.
pub(super) fn set_up_run_and_lo() -> Result<(), SandboxError> {
    mount_private_run().map_err(|error| match error.raw_os_error().map(Errno::from_raw) {
        Some(errno @ (Errno::EPERM | Errno::EACCES)) => forbidden(errno),
        _ => step("mount /run")(error),
    })?;
    let loopback = RouteNetlinkMessage::SetLink(LinkUnspec::new_with_name("lo").up().build());
    Ok(Netlink::open()?.apply(&[NetlinkRequest::change("enable lo", loopback)])?)
}

/// Maps this user and group, and no others (user_namespaces(7), "Defining user and group ID mappings").
fn become_root(user: Uid, group: Gid) -> io::Result<()> {
    fs::write("/proc/self/setgroups", "deny")?;
    fs::write("/proc/self/uid_map", format!("0 {user} 1"))?;
    fs::write("/proc/self/gid_map", format!("0 {group} 1"))
}

/// Mounts a tmpfs on `/run` and bind-mounts the entries of the real `/run` in it, except [`HIDDEN`].
fn mount_private_run() -> io::Result<()> {
    // This descriptor refers to the real directory after the mount, too.
    let real = File::open(RUN)?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount(Some("uswitch"), RUN, Some("tmpfs"), flags, Some("mode=0755"))?;
    for entry in fs::read_dir(format!("/proc/self/fd/{}", real.as_raw_fd()))? {
        let entry = entry?;
        if !HIDDEN.contains(&entry.file_name().to_string_lossy().as_ref()) {
            // Entries that were removed meanwhile, or that this user may not access, are skipped.
            let _ = bind_entry(&entry);
        }
    }
    Ok(())
}

fn bind_entry(entry: &DirEntry) -> io::Result<()> {
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
    // MS_REC: in a user namespace the kernel refuses to bind a tree without its submounts.
    Ok(bind(&entry.path(), &target, MsFlags::MS_BIND | MsFlags::MS_REC)?)
}

/// A kernel setting that forbids user namespaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Restriction {
    /// Its name for sysctl(8).
    pub sysctl: &'static str,
    /// The value that forbids user namespaces.
    pub value: &'static str,
    /// A value that allows them.
    pub allowing: &'static str,
    /// What the forbidding value means.
    pub meaning: &'static str,
}

/// All such settings. The second is Debian's, the third AppArmor's (Ubuntu).
pub const RESTRICTIONS: [Restriction; 3] = [
    Restriction {
        sysctl: "user.max_user_namespaces",
        value: "0",
        allowing: "15000",
        meaning: "this system allows none",
    },
    Restriction {
        sysctl: "kernel.unprivileged_userns_clone",
        value: "0",
        allowing: "1",
        meaning: "only root may create one",
    },
    Restriction {
        sysctl: "kernel.apparmor_restrict_unprivileged_userns",
        value: "1",
        allowing: "0",
        meaning: "AppArmor forbids it",
    },
];

/// The setting that forbids user namespaces on this system, if there is one.
pub fn restriction() -> Option<Restriction> {
    let path = |sysctl: &str| Path::new("/proc/sys").join(sysctl.replace('.', "/"));
    let value = |sysctl: &str| fs::read_to_string(path(sysctl)).unwrap_or_default();
    RESTRICTIONS.into_iter().find(|restriction| value(restriction.sysctl).trim() == restriction.value)
}

/// Tests in a child process whether [`enter`] succeeds. Returns the reason if it does not. Call this while
/// the process has one thread.
///
/// # Errors
/// fork(2) failed, or the process has several threads.
pub fn probe() -> io::Result<Result<(), String>> {
    if !has_one_thread()? {
        return Err(io::Error::other("a process with several threads cannot test a sandbox"));
    }
    let (read, write) = pipe2(OFlag::O_CLOEXEC)?;
    // SAFETY: this is the only thread, so no thread that is missing in the child holds a lock.
    match unsafe { fork() }? {
        ForkResult::Child => {
            let reason = enter().err().map(|error| error.to_string()).unwrap_or_default();
            // The exit code reports the failure even if the pipe does not.
            let written = File::from(write).write_all(reason.as_bytes());
            let code = i32::from(!reason.is_empty() || written.is_err());
            // SAFETY: ends this child process, which owns nothing that needs cleanup.
            unsafe { libc::_exit(code) }
        }
        ForkResult::Parent { child } => {
            drop(write);
            let mut reason = String::new();
            File::from(read).read_to_string(&mut reason)?;
            match waitpid(child, None)? {
                WaitStatus::Exited(_, 0) => Ok(Ok(())),
                _ => Ok(Err(reason)),
            }
        }
    }
}

/// Explains why this process cannot create a user namespace, with the name of the setting if one forbids it.
pub(super) fn forbidden(error: Errno) -> SandboxError {
    let reason = if let Some(Restriction { sysctl, value, meaning, .. }) = restriction() {
        format!("{meaning} (sysctl {sysctl} is {value})")
    } else if error == Errno::ENOSPC {
        "there are too many (sysctl user.max_user_namespaces)".to_owned()
    } else if error == Errno::EINVAL {
        "a process with several threads cannot create one".to_owned()
    } else {
        format!("the kernel, or the container that this runs in, forbids it ({})", error.desc())
    };
    SandboxError::Forbidden(reason)
}

/// Moves this process into the sandbox of a running switch of the same user. The working directory stays the
/// same if it exists there.
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

/// Opens a pidfd, which refers to the same process even if its PID is reused.
fn open_process(pid: u32) -> nix::Result<OwnedFd> {
    // SAFETY: pidfd_open takes two numbers and accesses no memory of this process.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    let fd = Errno::result(fd)?;
    let fd = i32::try_from(fd).map_err(|_| Errno::EOVERFLOW)?;
    // SAFETY: the kernel opened `fd` for this call, and nothing else owns it.
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
