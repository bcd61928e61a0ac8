//! Network namespaces: named as `ip netns` names them, entered by threads of their own.
//!
//! A namespace lives while something holds it: a process or thread in it, an open file of it, a mount of it,
//! or a socket that was made in it. Its name is a mount of it at `/run/netns/NAME`; `ip netns del` takes only
//! that away. So for a deleted container to be gone, nothing of ours may hold it: no thread stays in it, no file of it
//! stays open, and no socket, which is what a TAP's queue is: of the namespace in which it was *opened*.
//!
//! - In a namespace of our own, devices are opened in place. We hold it with them, see its name go
//!   ([`super::netns_name_monitor`]), and close them: then it goes, and they with it.
//! - Another's may end without a sign, with its last process. There a device is opened in the staging namespace, a
//!   namespace of ours without a name, and moved. It goes with its namespace, and its queues say `EBADFD`. A move
//!   makes the kernel wait for all that may still use the device, some 20 ms with everybody's network
//!   configuration locked: too long for hundreds of ports.
//!
//! Which namespace a thread is in is a property of the thread, so nothing here changes the caller's: a
//! [`NetnsThread`] is a thread that may move, and it ends when its errand is done.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::statfs::{NSFS_MAGIC, fstatfs};
use serde::{Deserialize, Serialize};

/// Where the names are (`NETNS_RUN_DIR` of iproute2).
pub const DIRECTORY: &str = "/run/netns";

/// The calling thread's namespace.
const HERE: &str = "/proc/thread-self/ns/net";

/// Why something could not be done with a namespace.
#[derive(Debug, thiserror::Error)]
pub enum NetnsError {
    /// The name cannot be that of a file.
    #[error(
        "'{0}' is not a namespace name: it takes 1 to 255 bytes, without '/' and blanks, not starting with '.' or '-'"
    )]
    Name(String),
    /// The name is taken.
    #[error("there is a network namespace '{0}' already: choose another --prefix, or `ip netns del {0}`")]
    Exists(String),
    /// Nothing there.
    #[error("there is no network namespace {}: `ip netns` lists the named ones", .0.display())]
    Missing(PathBuf),
    /// Something else there.
    #[error("{} is not a network namespace", .0.display())]
    NotNetns(PathBuf),
    /// Another process keeps the directory of names to itself.
    #[error(
        "{DIRECTORY} stays locked by another process: find it with `fuser {DIRECTORY}`, end it, and try again"
    )]
    Locked,
    /// The kernel refused.
    #[error("cannot {what}: {source}")]
    Kernel {
        /** What was tried. */
        what: String,
        /** Its error. */
        source: io::Error,
    },
}

fn kernel<E: Into<io::Error>>(what: impl Into<String>) -> impl FnOnce(E) -> NetnsError {
    move |error| NetnsError::Kernel { what: what.into(), source: error.into() }
}

/// Tells one namespace from another. Inode numbers are used again, so the time at which the inode was made is part of
/// it: it stays the same for as long as something (the name's mount) holds the namespace's file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct NetnsIdentity {
    /// The device of nsfs.
    pub dev: u64,
    /// The inode in it: the number in `net:[4026531840]`.
    pub ino: u64,
    /// When the inode was made: seconds and nanoseconds.
    pub born: (i64, i64),
}

impl NetnsIdentity {
    pub(super) fn of(found: &fs::Metadata) -> NetnsIdentity {
        NetnsIdentity { dev: found.dev(), ino: found.ino(), born: (found.ctime(), found.ctime_nsec()) }
    }

    /// Is the same namespace, both being alive now.
    pub fn is(&self, other: &NetnsIdentity) -> bool {
        (self.dev, self.ino) == (other.dev, other.ino)
    }
}

/// A namespace held open. Short-lived, but for the staging namespace: it keeps the namespace alive.
#[derive(Debug)]
pub struct Netns {
    file: File,
}

/// Whether root's capabilities here are worth anything in the network namespace around us: not, where that belongs to a
/// user namespace above ours (ioctl_ns(2), `NS_GET_USERNS`).
///
/// # Errors
/// `/proc` is not mounted.
pub fn is_administered() -> io::Result<bool> {
    let here = File::open(HERE)?;
    // SAFETY: `here` is an open namespace, and this ioctl has no argument.
    match unsafe { ioctl::ns_get_userns(here.as_raw_fd()) } {
        Ok(opened) => {
            // SAFETY: the kernel has made this descriptor for this call (`open_related_ns` in `fs/nsfs.c`): nobody else has it.
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
    /// The calling thread's.
    ///
    /// # Errors
    /// `/proc` is not mounted.
    pub fn current() -> Result<Netns, NetnsError> {
        Netns::open(Path::new(HERE))
    }

    /// The namespace at a path: `/run/netns/NAME`, `/proc/PID/ns/net`.
    ///
    /// # Errors
    /// [`NetnsError::Missing`], [`NetnsError::NotNetns`], or no permission.
    pub fn open(path: &Path) -> Result<Netns, NetnsError> {
        let what = || format!("open the namespace {}", path.display());
        // Found first, and opened when it is known to be one: a FIFO would wait for its writer, and a device may do
        // anything.
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

    /// Which this is.
    ///
    /// # Errors
    /// The kernel has no reason for any.
    pub fn identity(&self) -> Result<NetnsIdentity, NetnsError> {
        self.file.metadata().map(|found| NetnsIdentity::of(&found)).map_err(kernel("identify a namespace"))
    }

    /// Gives it a name for `ip netns`, which keeps it alive until [`delete`].
    ///
    /// # Errors
    /// [`NetnsError::Exists`], or the mount failed; then the name is free again.
    pub fn bind_name(&self, name: &str) -> Result<(), NetnsError> {
        let path = path(name);
        let file = OpenOptions::new().write(true).create_new(true).mode(0o444).open(&path);
        file.map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => NetnsError::Exists(name.to_owned()),
            _ => kernel(format!("make {}", path.display()))(error),
        })?;
        let source = format!("/proc/self/fd/{}", self.file.as_raw_fd());
        bind(Path::new(&source), &path, MsFlags::MS_BIND).map_err(|error| {
            // The name is of no use without the mount; that it cannot be taken back adds nothing to `error`.
            let _ = fs::remove_file(&path);
            kernel(format!("mount the namespace at {}", path.display()))(error)
        })
    }
}

impl AsFd for Netns {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// A thread that may change its namespace.
#[derive(Debug)]
pub struct NetnsThread(());

impl NetnsThread {
    /// Goes into a namespace.
    ///
    /// # Errors
    /// No `CAP_SYS_ADMIN` here or there.
    pub fn enter(&mut self, netns: &Netns) -> Result<(), NetnsError> {
        setns(netns, CloneFlags::CLONE_NEWNET).map_err(kernel("enter a network namespace"))
    }

    /// Makes a new namespace and goes there.
    ///
    /// # Errors
    /// No permission, or too many (`user.max_net_namespaces`).
    pub fn create(&mut self) -> Result<Netns, NetnsError> {
        unshare(CloneFlags::CLONE_NEWNET).map_err(kernel("make a network namespace"))?;
        Netns::current()
    }
}

/// Runs `errand` on a thread of its own, which ends with it, and returns what it returned.
///
/// # Errors
/// There can be no further thread (`RLIMIT_NPROC`, `pids.max`).
pub fn in_netns<T: Send>(errand: impl FnOnce(&mut NetnsThread) -> T + Send) -> Result<T, NetnsError> {
    let journey = std::thread::scope(|scope| {
        let thread = thread::Builder::new().spawn_scoped(scope, || errand(&mut NetnsThread(())))?;
        Ok(thread.join())
    });
    let journey = journey.map_err(kernel::<io::Error>("start a thread that enters the namespace"))?;
    Ok(journey.unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
}

/// The path of the namespace with this name.
pub fn path(name: &str) -> PathBuf {
    Path::new(DIRECTORY).join(name)
}

/// Checks that a namespace can have this name.
///
/// # Errors
/// [`NetnsError::Name`].
pub fn check_name(name: &str) -> Result<(), NetnsError> {
    let fits = (1..=255).contains(&name.len())
        && !name.starts_with(['.', '-'])
        && name.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'/');
    if fits { Ok(()) } else { Err(NetnsError::Name(name.to_owned())) }
}

/// What is at a name's path: a namespace's identity, a file that is none, or nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NetnsEntry {
    /// Nothing.
    Missing,
    /// A file that is no namespace: a name that was being given or taken when its maker died.
    NotNetns,
    /// A namespace.
    Netns(NetnsIdentity),
}

/// Looks what is at a name's path, without entering or keeping it.
///
/// # Errors
/// Only those of a broken `/run`.
pub fn look_up(name: &str) -> Result<NetnsEntry, NetnsError> {
    let path = path(name);
    match Netns::open(&path) {
        Ok(netns) => netns.identity().map(NetnsEntry::Netns),
        Err(NetnsError::Missing(_)) => Ok(NetnsEntry::Missing),
        Err(NetnsError::NotNetns(_)) => Ok(NetnsEntry::NotNetns),
        Err(error) => Err(error),
    }
}

/// A path of the namespace: its name's, or that of a process in it. None: it has neither, and has gone for all that can
/// be seen here.
pub fn locate(identity: &NetnsIdentity) -> Option<PathBuf> {
    let files = |directory| fs::read_dir(directory).into_iter().flatten().flatten().map(|file| file.path());
    let of_processes = files("/proc").map(|process| process.join("ns/net"));
    let mut paths = files(DIRECTORY).chain(of_processes);
    paths.find(|path| fs::metadata(path).is_ok_and(|found| NetnsIdentity::of(&found).is(identity)))
}

/// Takes a name away. The namespace goes when nobody is in it any more.
///
/// # Errors
/// The mount or the file could not be removed. That there is none is no error.
pub fn delete(name: &str) -> Result<(), NetnsError> {
    let path = path(name);
    match umount2(&path, MntFlags::MNT_DETACH) {
        // EINVAL: not a mount, as when its maker died before the mount.
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

/// Makes the directory of names ready, as `ip netns add` does, so that each sees the other's: it must be a mount
/// of its own that is shared, for a name made or removed in one mount namespace to be so in all, and not to
/// stay alive in another that has a copy of it. It stays when the last name has gone, for others use it too.
///
/// # Errors
/// It cannot be made or mounted, or is locked.
pub fn prepare_directory() -> Result<(), NetnsError> {
    let what = || format!("make {DIRECTORY} ready for named namespaces");
    let path = Path::new(DIRECTORY);
    DirBuilder::new().recursive(true).mode(0o755).create(path).map_err(kernel(what()))?;
    // EINVAL: not a mount yet.
    match share(path) {
        Err(Errno::EINVAL) => {}
        shared => return shared.map_err(kernel(what())),
    }
    // Two at once would mount it twice; iproute2 (6.5 and later) takes the same lock.
    let _lock = lock_directory()?;
    match share(path) {
        Err(Errno::EINVAL) => bind(path, path, MsFlags::MS_BIND | MsFlags::MS_REC)
            .and_then(|()| share(path))
            .map_err(kernel(what())),
        shared => shared.map_err(kernel(what())),
    }
}

/// Everybody may open the directory and lock it, so it is not waited for as long as somebody likes.
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

/// Shows `source` at `target` too.
pub(super) fn bind(source: &Path, target: &Path, flags: MsFlags) -> nix::Result<()> {
    mount(Some(source), target, None::<&str>, flags, None::<&str>)
}

/// Moves the process into the namespace at `path` before it executes another program, with `/sys` and the
/// files of `/etc/netns/NAME` as the namespace should see them (`ip-netns(8)`). The process must have one thread.
///
/// # Errors
/// The namespace or a mount namespace could not be entered.
pub fn enter_for_exec(path: &Path) -> Result<(), NetnsError> {
    let netns = Netns::open(path)?;
    setns(&netns, CloneFlags::CLONE_NEWNET).map_err(kernel(format!("enter {}", path.display())))?;
    unshare(CloneFlags::CLONE_NEWNS).map_err(kernel("make a mount namespace"))?;
    let slave = MsFlags::MS_SLAVE | MsFlags::MS_REC;
    mount(None::<&str>, "/", None::<&str>, slave, None::<&str>)
        .map_err(kernel("keep our mounts to ourselves"))?;
    show_devices();
    if let Some(name) = path.strip_prefix(DIRECTORY).ok().filter(|name| name.components().count() == 1) {
        show_files(&Path::new("/etc/netns").join(name));
    }
    Ok(())
}

/// `/sys/class/net` shows the devices of the namespace in which sysfs was mounted. Without it a program works
/// all the same, and where the container around us hides parts of sysfs the kernel allows none: no error.
fn show_devices() {
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    let _ = mount(Some("sysfs"), "/sys", Some("sysfs"), flags, None::<&str>);
}

/// Puts each file of `directory` over the one of that name in `/etc`. Those that are missing there are skipped,
/// as `ip netns exec` does.
fn show_files(directory: &Path) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let target = Path::new("/etc").join(entry.file_name());
        let _ = bind(&entry.path(), &target, MsFlags::MS_BIND);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
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

    /// Opening it would wait for a writer.
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
