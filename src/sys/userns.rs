//! User namespaces (user_namespaces(7)): whose capabilities are valid in a network namespace.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;

use nix::errno::Errno;
use nix::sched::{CloneFlags, setns};
use nix::unistd::{Gid, Uid, setresgid, setresuid};

use super::netns::Netns;

/// An open user namespace.
#[derive(Debug)]
pub struct UserNs {
    file: File,
}

impl UserNs {
    /// That of this process.
    ///
    /// # Errors
    /// `/proc` is not mounted.
    pub fn current() -> io::Result<UserNs> {
        Ok(UserNs { file: File::open("/proc/self/ns/user")? })
    }

    /// That of a process.
    ///
    /// # Errors
    /// The process has ended, or this user may not trace it (ptrace(2)).
    pub fn of_process(pid: u32) -> io::Result<UserNs> {
        Ok(UserNs { file: File::open(format!("/proc/{pid}/ns/user"))? })
    }

    /// The one that owns a network namespace. `None`: it is neither this process's nor below it.
    ///
    /// # Errors
    /// The kernel refused for another reason.
    pub fn owner_of(netns: &Netns) -> io::Result<Option<UserNs>> {
        // SAFETY: `netns` is an open namespace file, and this ioctl has no argument.
        UserNs::related(unsafe { ioctl::ns_get_userns(netns.as_raw_fd()) })
    }

    /// The one in which it was created. `None`: it is above this process's.
    fn parent(&self) -> io::Result<Option<UserNs>> {
        // SAFETY: `file` is an open namespace file, and this ioctl has no argument.
        UserNs::related(unsafe { ioctl::ns_get_parent(self.file.as_raw_fd()) })
    }

    fn related(opened: nix::Result<libc::c_int>) -> io::Result<Option<UserNs>> {
        match opened {
            // SAFETY: the kernel created this descriptor for this call (`open_related_ns` in `fs/nsfs.c`): it has no
            // other owner.
            Ok(fd) => Ok(Some(UserNs { file: File::from(unsafe { OwnedFd::from_raw_fd(fd) }) })),
            Err(Errno::EPERM) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether it is `other` or was created below it, so that capabilities in `other` are valid in it.
    ///
    /// # Errors
    /// The kernel refused to open a parent.
    pub fn is_within(&self, other: &UserNs) -> io::Result<bool> {
        if self.is(other)? {
            return Ok(true);
        }
        let mut above = self.parent()?;
        while let Some(userns) = above {
            if userns.is(other)? {
                return Ok(true);
            }
            above = userns.parent()?;
        }
        Ok(false)
    }

    /// Whether both are the same.
    ///
    /// # Errors
    /// fstat(2) failed.
    pub fn is(&self, other: &UserNs) -> io::Result<bool> {
        let (own, other) = (self.file.metadata()?, other.file.metadata()?);
        Ok((own.dev(), own.ino()) == (other.dev(), other.ino()))
    }

    /// Moves this process into it, with all capabilities there, and as its root if it has one. The process must have
    /// one thread.
    ///
    /// # Errors
    /// Neither this user nor one of its capabilities owns the namespace, or it has several threads.
    pub fn enter(&self) -> io::Result<()> {
        setns(&self.file, CloneFlags::CLONE_NEWUSER)?;
        // A user that is not mapped cannot own devices there. A namespace without root keeps the user.
        let (root, group) = (Uid::from_raw(0), Gid::from_raw(0));
        let _ = setresgid(group, group, group).and_then(|()| setresuid(root, root, root));
        Ok(())
    }
}

mod ioctl {
    nix::ioctl_none!(ns_get_userns, 0xb7, 1); // NS_GET_USERNS, which libc lacks
    nix::ioctl_none!(ns_get_parent, 0xb7, 2); // NS_GET_PARENT, which libc lacks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_user_namespace_is_within_itself() {
        let own = UserNs::current().unwrap();
        assert!(own.is_within(&own).unwrap());
        assert!(own.is(&UserNs::of_process(std::process::id()).unwrap()).unwrap());
        assert!(UserNs::of_process(u32::MAX).is_err());
    }
}
