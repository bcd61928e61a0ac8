//! Network namespaces, named as `ip netns` names them.
//!
//! A namespace exists while something refers to it: a process or thread in it, an open file or a mount of
//! it, or a socket that was created in it. Its name is a mount at `/run/netns/NAME`, and `ip netns del`
//! removes only that mount. A deleted container's namespace disappears only if the switch does not refer to
//! it: no thread stays in it, no file of it stays open, and no socket. A TAP queue is a socket of the
//! namespace in which `/dev/net/tun` was *opened*.
//!
//! - In a namespace that the switch created, it opens the device in place. Its queues keep the namespace
//!   alive. When the name is removed ([`super::netns_name_monitor`]), the switch closes the queues; then the
//!   namespace and the device disappear.
//! - A namespace of another program can disappear without notice, with its last process. There the switch
//!   opens the device in the staging namespace, which has no name, and moves it. The
//!   device disappears with the container's namespace, and reads of its queues fail with `EBADFD`. A move
//!   takes some 20 ms with the kernel's RTNL lock held: too long for hundreds of ports.
//!
//! A thread is in one namespace, so code that enters another one runs on a [`NetnsThread`], which ends with
//! it.

use std::collections::HashSet;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::thread::{self, Scope, ScopedJoinHandle};
use std::time::Duration;

use caps::Capability;
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::statfs::{NSFS_MAGIC, fstatfs};
use serde::{Deserialize, Serialize};

use super::caps::Raised;

/// The directory of the names (`NETNS_RUN_DIR` of iproute2).
pub const DIRECTORY: &str = "/run/netns";

/// The namespace of another user's process, and a named one in another user's directory.
const OPEN: [Capability; 2] = [Capability::CAP_SYS_PTRACE, Capability::CAP_DAC_READ_SEARCH];
/// A name in a directory that root does not own, as in some containers.
const NAME: [Capability; 1] = [Capability::CAP_DAC_OVERRIDE];

/// The calling thread's namespace.
const CURRENT: &str = "/proc/thread-self/ns/net";

/// Why an operation on a namespace failed.
#[derive(Debug, thiserror::Error)]
pub enum NetnsError {
    /// The name is not a valid file name.
    #[error(
        "'{0}' is not a namespace name: use 1 to 255 bytes without '/' or blanks, and do not begin with '.' or '-'"
    )]
    Name(String),
    /// The name is in use.
    #[error(
        "the network namespace '{0}' exists already: choose another name, or remove it with `ip netns del {0}`"
    )]
    Exists(String),
    /// There is no such file.
    #[error("there is no network namespace {}: `ip netns` lists the named ones", .0.display())]
    Missing(PathBuf),
    /// The file is not a network namespace.
    #[error("{} is not a network namespace", .0.display())]
    NotNetns(PathBuf),
    /// Another process holds the lock of the directory of names.
    #[error(
        "{DIRECTORY} stays locked by another process: find that process with `fuser {DIRECTORY}`, end it, and try again"
    )]
    Locked,
    /// The kernel refused.
    #[error("cannot {what}: {source}")]
    Kernel {
        /** The operation. */
        what: String,
        /** The kernel's error. */
        source: io::Error,
    },
}

pub(super) fn kernel<E: Into<io::Error>>(what: impl Into<String>) -> impl FnOnce(E) -> NetnsError {
    move |error| NetnsError::Kernel { what: what.into(), source: error.into() }
}

/// Identifies a namespace. The kernel reuses inode numbers, so the inode's creation time is part of it. That
/// time stays the same as long as something (the name's mount) refers to the namespace's file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct NetnsIdentity {
    /// The device number of nsfs.
    pub dev: u64,
    /// The inode number: the number in `net:[4026531840]`.
    pub ino: u64,
    /// The inode's creation time: seconds and nanoseconds.
    pub born: (i64, i64),
}

impl NetnsIdentity {
    pub(super) fn of(found: &fs::Metadata) -> NetnsIdentity {
        NetnsIdentity { dev: found.dev(), ino: found.ino(), born: (found.ctime(), found.ctime_nsec()) }
    }

    /// Whether both are the same namespace, provided that both exist now.
    pub fn is(&self, other: &NetnsIdentity) -> bool {
        (self.dev, self.ino) == (other.dev, other.ino)
    }
}

/// An open file of a namespace, which keeps the namespace alive. Only the staging namespace is kept open for
/// long.
#[derive(Debug)]
pub struct Netns {
    file: File,
}

/// Whether this process's capabilities are valid in its network namespace. They are not if the network
/// namespace belongs to a parent of this process's user namespace (ioctl_ns(2), `NS_GET_USERNS`).
///
/// # Errors
/// `/proc` is not mounted.
pub fn is_administered() -> io::Result<bool> {
    let current = File::open(CURRENT)?;
    // SAFETY: `current` is an open namespace file, and this ioctl has no argument.
    match unsafe { ioctl::ns_get_userns(current.as_raw_fd()) } {
        Ok(opened) => {
            // SAFETY: the kernel opened this descriptor for this call (`open_related_ns` in `fs/nsfs.c`);
            // nothing else owns it.
            drop(unsafe { OwnedFd::from_raw_fd(opened) });
            Ok(true)
        }
        Err(errno) => Ok(errno != Errno::EPERM),
    }
}

mod ioctl {
    nix::ioctl_none!(ns_get_userns, 0xb7, 1); // NS_GET_USERNS, which libc lacks
}

impl Netns {
    /// The calling thread's namespace.
    ///
    /// # Errors
    /// `/proc` is not mounted.
    pub fn current() -> Result<Netns, NetnsError> {
        Netns::open(Path::new(CURRENT))
    }

    /// The namespace at a path: `/run/netns/NAME`, `/proc/PID/ns/net`.
    ///
    /// # Errors
    /// [`NetnsError::Missing`], [`NetnsError::NotNetns`], or no permission.
    pub fn open(path: &Path) -> Result<Netns, NetnsError> {
        let what = || format!("open the namespace {}", path.display());
        // Opened for reading only after its type is known: opening a FIFO would block, and opening a device
        // can have side effects.
        let _raised = Raised::new(&OPEN);
        let found = OpenOptions::new().read(true).custom_flags(libc::O_PATH).open(path);
        let found = found.map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => NetnsError::Missing(path.to_owned()),
            _ => kernel(what())(error),
        })?;
        let kind = fstatfs(&found).map_err(kernel("ask for the kind of a file"))?;
        if kind.filesystem_type() != NSFS_MAGIC {
            return Err(NetnsError::NotNetns(path.to_owned()));
        }
        let file = File::open(format!("/proc/self/fd/{}", found.as_raw_fd())).map_err(kernel(what()))?;
        Ok(Netns { file })
    }

    /// The namespace that an open file refers to.
    ///
    /// # Errors
    /// [`NetnsError::NotNetns`].
    pub fn from_file(file: OwnedFd) -> Result<Netns, NetnsError> {
        let kind = fstatfs(&file).map_err(kernel("ask for the kind of a file"))?;
        if kind.filesystem_type() != NSFS_MAGIC {
            return Err(NetnsError::NotNetns(PathBuf::from("the file that was passed")));
        }
        Ok(Netns { file: file.into() })
    }

    /// Another descriptor of it.
    ///
    /// # Errors
    /// The process has all the files that it may open.
    pub fn duplicate(&self) -> io::Result<Netns> {
        self.file.try_clone().map(Netns::from)
    }

    /// The namespace's identity.
    ///
    /// # Errors
    /// fstat(2) failed.
    pub fn identity(&self) -> Result<NetnsIdentity, NetnsError> {
        self.file.metadata().map(|found| NetnsIdentity::of(&found)).map_err(kernel("identify a namespace"))
    }

    /// Gives it a name for `ip netns`. The name keeps it alive until [`delete`].
    ///
    /// # Errors
    /// [`NetnsError::Exists`], or the mount failed; then the name is removed again.
    pub fn bind_name(&self, name: &str) -> Result<(), NetnsError> {
        let path = path(name);
        let _raised = Raised::new(&NAME);
        let file = OpenOptions::new().write(true).create_new(true).mode(0o444).open(&path);
        file.map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => NetnsError::Exists(name.to_owned()),
            _ => kernel(format!("make {}", path.display()))(error),
        })?;
        let source = format!("/proc/self/fd/{}", self.file.as_raw_fd());
        bind(Path::new(&source), &path, MsFlags::MS_BIND).map_err(|error| {
            // Without the mount the name is useless. The first error is the one to report.
            let _ = fs::remove_file(&path);
            kernel(format!("mount the namespace at {}", path.display()))(error)
        })
    }
}

impl AsRawFd for Netns {
    fn as_raw_fd(&self) -> i32 {
        self.file.as_raw_fd()
    }
}

impl From<File> for Netns {
    fn from(file: File) -> Netns {
        Netns { file }
    }
}

impl AsFd for Netns {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// A thread that may change its network namespace. See [`in_netns`].
#[derive(Debug)]
pub struct NetnsThread(());

impl NetnsThread {
    /// Enters a namespace.
    ///
    /// # Errors
    /// The thread does not have `CAP_SYS_ADMIN` in its own user namespace and in that of `netns`.
    pub fn enter(&mut self, netns: &Netns) -> Result<(), NetnsError> {
        setns(netns, CloneFlags::CLONE_NEWNET).map_err(kernel("enter a network namespace"))
    }

    /// Creates a namespace and enters it.
    ///
    /// # Errors
    /// No permission, or the user has reached `user.max_net_namespaces`.
    pub fn create(&mut self) -> Result<Netns, NetnsError> {
        unshare(CloneFlags::CLONE_NEWNET).map_err(kernel("make a network namespace"))?;
        Netns::current()
    }
}

/// Runs `task` on a new thread, which may change its namespace, and returns its result.
///
/// # Errors
/// No thread can be started (`RLIMIT_NPROC`, `pids.max`).
pub fn in_netns<T: Send>(task: impl FnOnce(&mut NetnsThread) -> T + Send) -> Result<T, NetnsError> {
    let result = thread::scope(|scope| spawn_in_netns(scope, task).map(ScopedJoinHandle::join))?;
    Ok(result.unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
}

/// Starts `task` on a thread of `scope`, which may change its namespace.
///
/// # Errors
/// As [`in_netns`].
pub fn spawn_in_netns<'scope, T: Send + 'scope>(
    scope: &'scope Scope<'scope, '_>,
    task: impl FnOnce(&mut NetnsThread) -> T + Send + 'scope,
) -> Result<ScopedJoinHandle<'scope, T>, NetnsError> {
    let thread = thread::Builder::new().spawn_scoped(scope, || task(&mut NetnsThread(())));
    thread.map_err(kernel("start a thread that enters the namespace"))
}

/// The path of the namespace with this name.
pub fn path(name: &str) -> PathBuf {
    Path::new(DIRECTORY).join(name)
}

/// The name of the namespace at `path`, if that is the path of a named one.
pub fn name_of(path: &Path) -> Option<&str> {
    path.strip_prefix(DIRECTORY).ok()?.to_str().filter(|name| !name.contains('/'))
}

/// Checks that this is a valid name of a namespace.
///
/// # Errors
/// [`NetnsError::Name`].
pub fn check_name(name: &str) -> Result<(), NetnsError> {
    let fits = (1..=255).contains(&name.len())
        && !name.starts_with(['.', '-'])
        && name.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'/');
    if fits { Ok(()) } else { Err(NetnsError::Name(name.to_owned())) }
}

/// What the path of a name refers to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NetnsEntry {
    /// Nothing: the name is free.
    Missing,
    /// A file that is not a namespace: a process died while it was adding or removing the name.
    NotNetns,
    /// A namespace.
    Netns(NetnsIdentity),
}

/// Looks up a name, without entering the namespace or keeping it alive.
///
/// # Errors
/// `/run` cannot be read.
pub fn look_up(name: &str) -> Result<NetnsEntry, NetnsError> {
    let path = path(name);
    match Netns::open(&path) {
        Ok(netns) => netns.identity().map(NetnsEntry::Netns),
        Err(NetnsError::Missing(_)) => Ok(NetnsEntry::Missing),
        Err(NetnsError::NotNetns(_)) => Ok(NetnsEntry::NotNetns),
        Err(error) => Err(error),
    }
}

/// Finds a path of the namespace: that of its name, or of a process in it. `None`: no name or process refers
/// to it.
pub fn locate(identity: &NetnsIdentity) -> Option<PathBuf> {
    Some(paths().find(|(_, found)| found.is(identity))?.0)
}

/// The namespaces that have a name or a process, each with one path.
pub fn paths() -> impl Iterator<Item = (PathBuf, NetnsIdentity)> {
    let files = |directory| fs::read_dir(directory).into_iter().flatten().flatten().map(|file| file.path());
    let of_processes = files("/proc").map(|process| process.join("ns/net"));
    let mut seen = HashSet::new();
    files(DIRECTORY).chain(of_processes).filter_map(move |path| {
        let found = {
            let _raised = Raised::new(&OPEN);
            NetnsIdentity::of(&fs::metadata(&path).ok()?)
        };
        seen.insert((found.dev, found.ino)).then_some((path, found))
    })
}

/// Removes a name. The namespace disappears when nothing else refers to it.
///
/// # Errors
/// The mount or the file cannot be removed. A missing name is not an error.
pub fn delete(name: &str) -> Result<(), NetnsError> {
    let path = path(name);
    let _raised = Raised::new(&NAME);
    match umount2(&path, MntFlags::MNT_DETACH) {
        // EINVAL: not a mount; the process that added the name died before the mount.
        Ok(()) | Err(Errno::EINVAL | Errno::ENOENT) => {}
        Err(error) => return Err(kernel(format!("unmount {}", path.display()))(error)),
    }
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(kernel(format!("remove {}", path.display()))(error))
        }
        _ => Ok(()),
    }
}

/// Creates and mounts the directory of names, as `ip netns add` does. It must be a shared mount, so that a
/// name which is added or removed in one mount namespace is added or removed in all. The directory stays
/// after the last name is removed, because other programs use it too.
///
/// # Errors
/// It cannot be created or mounted, or is locked.
pub fn prepare_directory() -> Result<(), NetnsError> {
    let what = || format!("prepare {DIRECTORY} for named namespaces");
    let path = Path::new(DIRECTORY);
    DirBuilder::new().recursive(true).mode(0o755).create(path).map_err(kernel(what()))?;
    // EINVAL: not a mount yet.
    match share(path) {
        Err(Errno::EINVAL) => {}
        shared => return shared.map_err(kernel(what())),
    }
    // Two processes at once would mount it twice. iproute2 (6.5 and later) takes the same lock.
    let _lock = lock_directory()?;
    match share(path) {
        Err(Errno::EINVAL) => bind(path, path, MsFlags::MS_BIND | MsFlags::MS_REC)
            .and_then(|()| share(path))
            .map_err(kernel(what())),
        shared => shared.map_err(kernel(what())),
    }
}

/// Any user can open and lock the directory, so the wait has a limit.
fn lock_directory() -> Result<Flock<File>, NetnsError> {
    const STEP: Duration = Duration::from_millis(10);
    const STEPS: u32 = 100;
    let mut directory = File::open(DIRECTORY).map_err(kernel(format!("open {DIRECTORY}")))?;
    for _ in 0..STEPS {
        match Flock::lock(directory, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => return Ok(lock),
            Err((unlocked, Errno::EWOULDBLOCK)) => directory = unlocked,
            Err((_, error)) => return Err(kernel(format!("lock {DIRECTORY}"))(error)),
        }
        thread::sleep(STEP);
    }
    Err(NetnsError::Locked)
}

fn share(path: &Path) -> nix::Result<()> {
    mount(None::<&str>, path, None::<&str>, MsFlags::MS_SHARED | MsFlags::MS_REC, None::<&str>)
}

/// Bind-mounts `source` at `target`.
pub(super) fn bind(source: &Path, target: &Path, flags: MsFlags) -> nix::Result<()> {
    mount(Some(source), target, None::<&str>, flags, None::<&str>)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checks_namespace_names() {
        for name in ["container1", "a", "x.y", "lan-1"] {
            assert!(check_name(name).is_ok(), "{name}");
        }
        for name in ["", ".", "..", ".a", "-a", "a/b", "../etc", "a b", "a\0", "ü"] {
            assert!(check_name(name).is_err(), "{name}");
        }
    }

    #[test]
    fn rejects_files_that_are_not_namespaces() {
        assert!(matches!(Netns::open(Path::new("/nowhere")), Err(NetnsError::Missing(_))));
        assert!(matches!(Netns::open(Path::new("/proc/self/status")), Err(NetnsError::NotNetns(_))));
        assert!(Netns::current().is_ok());
    }

    /// open(2) of a FIFO waits for a writer.
    #[test]
    fn rejects_fifo_without_blocking() {
        let directory = tempfile::tempdir().unwrap();
        let fifo = directory.path().join("fifo");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(matches!(Netns::open(&fifo), Err(NetnsError::NotNetns(_))));
    }

    #[test]
    fn same_namespace_has_same_identity() {
        let first = Netns::current().unwrap();
        assert_eq!(first.identity().unwrap(), Netns::current().unwrap().identity().unwrap());
    }
}
