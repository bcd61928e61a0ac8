//! Least privilege for the switch's process and its workers.
//!
//! A switch starts with the capabilities that it needs for that ([`restrict_process`]), and keeps those that ports need
//! ([`restrict_control`]). Most of them are effective only during an operation ([`super::caps::Raised`]). A worker
//! reads what containers send, so it needs none: it has no capabilities, and a seccomp filter allows only the system
//! calls of the engines and of the Rust runtime ([`restrict_worker`]). It cannot open a file, create a socket, start a
//! program or signal another process. Landlock forbids most of this again, where the kernel has it.
//!
//! Landlock does not fit control: a thread in a Landlock domain can neither mount, which named namespaces need, nor
//! open the namespace of a process outside the domain (landlock(7)).
//!
//! All threads share the process's memory and open files. So this limits what a fault in a worker can do, but it
//! is not a barrier against code that runs in a worker and can write to memory.

use std::collections::BTreeMap;
use std::io;

use caps::{CapSet, Capability, CapsHashSet};
use landlock::{
    Access, AccessFs, AccessNet, CompatLevel, Compatible, Ruleset, RulesetAttr, RulesetStatus, Scope,
};
use nix::sys::prctl::set_no_new_privs;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
};

/// What a switch needs only while it starts.
const START: [Capability; 2] = [
    // Receives link notifications of all network namespaces (NETLINK_LISTEN_ALL_NSID). The kernel checks later ones by
    // the capabilities of the thread that opened the socket.
    Capability::CAP_NET_BROADCAST,
    // Registers the buffers of io_uring, whatever RLIMIT_MEMLOCK is.
    Capability::CAP_IPC_LOCK,
];
/// What it needs for single operations.
const RAISED: [Capability; 5] = [
    // Announces addresses of ports, with packet sockets.
    Capability::CAP_NET_RAW,
    // Opens the namespace of another user's process: `/proc/PID/ns/net` needs ptrace access.
    Capability::CAP_SYS_PTRACE,
    // Opens a named namespace in another user's directory.
    Capability::CAP_DAC_READ_SEARCH,
    // Makes and removes names in /run that root does not own, as in some containers.
    Capability::CAP_DAC_OVERRIDE,
    // Reserves published ports below 1024.
    Capability::CAP_NET_BIND_SERVICE,
];
/// What it needs for most of what it does.
const EFFECTIVE: [Capability; 2] = [
    // Devices, addresses, routes, nftables, sysctls of the network.
    Capability::CAP_NET_ADMIN,
    // Network namespaces and their mounts.
    Capability::CAP_SYS_ADMIN,
];

/// Why privileges could not be dropped.
#[derive(Debug, thiserror::Error)]
pub enum ConfineError {
    /// capset(2) or prctl(2).
    #[error("cannot drop capabilities: {0}")]
    Capabilities(#[from] caps::errors::CapsError),
    /// prctl(2).
    #[error("cannot set no_new_privs: {0}")]
    NoNewPrivileges(#[from] nix::Error),
    /// seccomp(2).
    #[error("cannot install a seccomp filter: {0}")]
    Seccomp(#[from] seccompiler::Error),
    /// landlock_restrict_self(2).
    #[error("cannot restrict a thread with Landlock: {0}")]
    Landlock(#[from] landlock::RulesetError),
    /// The filter itself.
    #[error("cannot build a seccomp filter: {0}")]
    Filter(#[from] seccompiler::BackendError),
}

impl From<ConfineError> for io::Error {
    fn from(error: ConfineError) -> io::Error {
        io::Error::other(error)
    }
}

/// Drops all capabilities of this process but those that a switch needs to start, also for the programs that it starts,
/// and sets no_new_privs. Call this while the process has one thread: threads started later inherit it.
///
/// # Errors
/// The kernel refused.
pub fn restrict_process() -> Result<(), ConfineError> {
    let kept: CapsHashSet = [&START[..], &RAISED, &EFFECTIVE].concat().into_iter().collect();
    if caps::has_cap(None, CapSet::Effective, Capability::CAP_SETPCAP)? {
        for capability in caps::read(None, CapSet::Bounding)?.difference(&kept) {
            caps::drop(None, CapSet::Bounding, *capability)?;
        }
    }
    // The effective set first: it may not exceed the permitted set.
    for set in [CapSet::Effective, CapSet::Permitted, CapSet::Inheritable] {
        keep(set, &kept)?;
    }
    Ok(set_no_new_privs()?)
}

/// Drops the capabilities that the calling thread needs only to start a switch, and lowers those that it needs only for
/// single operations.
///
/// # Errors
/// The kernel refused.
pub fn restrict_control() -> Result<(), ConfineError> {
    keep(CapSet::Effective, &EFFECTIVE.into_iter().collect())?;
    keep(CapSet::Permitted, &[&RAISED[..], &EFFECTIVE].concat().into_iter().collect())
}

fn keep(set: CapSet, kept: &CapsHashSet) -> Result<(), ConfineError> {
    let now = caps::read(None, set)?;
    Ok(caps::set(None, set, &now.intersection(kept).copied().collect())?)
}

/// Drops all capabilities of the calling thread.
///
/// # Errors
/// The kernel refused.
pub fn drop_capabilities() -> Result<(), ConfineError> {
    for set in [CapSet::Ambient, CapSet::Effective, CapSet::Permitted, CapSet::Inheritable] {
        caps::clear(None, set)?;
    }
    Ok(())
}

/// Drops all capabilities of the calling thread, and limits its system calls to those of a worker.
///
/// # Errors
/// The kernel refused.
pub fn restrict_worker() -> Result<(), ConfineError> {
    drop_capabilities()?;
    restrict_with_landlock()?;
    // Sets no_new_privs for this thread, too.
    Ok(seccompiler::apply_filter(&worker_filter()?)?)
}

/// Whether the kernel has Landlock, and it is enabled.
pub fn has_landlock() -> bool {
    let oldest = AccessFs::from_all(landlock::ABI::V1);
    let ruleset = Ruleset::default().set_compatibility(CompatLevel::HardRequirement).handle_access(oldest);
    ruleset.and_then(Ruleset::create).is_ok()
}

/// Forbids the calling thread to open files, to use TCP ports and abstract sockets, and to signal other processes: as
/// much of this as the kernel supports. Returns whether it supports any (Linux 5.13).
fn restrict_with_landlock() -> Result<bool, ConfineError> {
    const NEWEST: landlock::ABI = landlock::ABI::V6;
    let ruleset = Ruleset::default()
        .handle_access(AccessFs::from_all(NEWEST))?
        .handle_access(AccessNet::from_all(NEWEST))?
        .scope(Scope::from_all(NEWEST))?;
    Ok(ruleset.create()?.restrict_self()?.ruleset != RulesetStatus::NotEnforced)
}

/// The system calls of a worker. Calls on the path of a frame have no conditions: the kernel then decides them by
/// a bitmap (Linux 5.11).
fn worker_filter() -> Result<BpfProgram, seccompiler::BackendError> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = ALLOWED.iter().map(|call| (*call, Vec::new())).collect();
    let argument = |index, operator, value: libc::c_int| {
        let value = u64::from(value.unsigned_abs());
        SeccompCondition::new(index, SeccompCmpArgLen::Dword, operator, value)
    };
    let not_executable = SeccompCmpOp::MaskedEq(u64::from(libc::PROT_EXEC.unsigned_abs()));
    for call in [libc::SYS_mmap, libc::SYS_mprotect] {
        rules.insert(call, vec![SeccompRule::new(vec![argument(2, not_executable.clone(), 0)?])?]);
    }
    // The Rust runtime checks in debug builds that a descriptor which it closes is open.
    let get_flags = argument(1, SeccompCmpOp::Eq, libc::F_GETFD)?;
    // Writes to a slow port need a second descriptor of its queue.
    let duplicate = argument(1, SeccompCmpOp::Eq, libc::F_DUPFD_CLOEXEC)?;
    let fcntl = vec![SeccompRule::new(vec![get_flags])?, SeccompRule::new(vec![duplicate])?];
    rules.insert(libc::SYS_fcntl, fcntl);
    // A thread that aborts signals itself.
    let own = i32::try_from(std::process::id()).unwrap_or(i32::MAX);
    rules.insert(libc::SYS_tgkill, vec![SeccompRule::new(vec![argument(0, SeccompCmpOp::Eq, own)?])?]);
    // Of the calling thread. More than a time slice needs privileges.
    let own_scheduling = vec![argument(0, SeccompCmpOp::Eq, 0)?];
    rules.insert(libc::SYS_sched_setattr, vec![SeccompRule::new(own_scheduling)?]);
    let register = |opcode: u8| SeccompRule::new(vec![argument(1, SeccompCmpOp::Eq, opcode.into())?]);
    let registers = super::uring::REGISTERED_LATER.into_iter().map(register).collect::<Result<_, _>>()?;
    rules.insert(libc::SYS_io_uring_register, registers);
    let denied = SeccompAction::Errno(libc::EPERM.unsigned_abs());
    let filter = SeccompFilter::new(rules, denied, SeccompAction::Allow, std::env::consts::ARCH.try_into()?)?;
    filter.try_into()
}

const ALLOWED: &[i64] = &[
    // Frames and wake-ups.
    libc::SYS_io_uring_enter,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_epoll_wait,
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_ctl,
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_readv,
    libc::SYS_writev,
    libc::SYS_recvmsg,
    // The end of a connection, which a thread that relays frames waits for.
    libc::SYS_shutdown,
    libc::SYS_close,
    // Time, locks and waiting.
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_nanosleep,
    libc::SYS_futex,
    libc::SYS_sched_yield,
    // The allocator, and random keys of hash tables.
    libc::SYS_brk,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_getrandom,
    // Signals, panics, and the end of the thread.
    libc::SYS_rt_sigreturn,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigaction,
    libc::SYS_sigaltstack,
    libc::SYS_restart_syscall,
    libc::SYS_getpid,
    libc::SYS_gettid,
    libc::SYS_exit,
    libc::SYS_exit_group,
];

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::{Read, Write};
    use std::net::UdpSocket;
    use std::os::unix::net::UnixStream;
    use std::process::Command;
    use std::thread;

    use super::*;

    /// Runs `test` on a thread that is restricted as a worker.
    fn as_worker<T: Send>(test: impl FnOnce() -> T + Send) -> T {
        let worker = || {
            restrict_worker().unwrap();
            test()
        };
        thread::scope(|scope| scope.spawn(worker).join().unwrap())
    }

    fn is_denied<T>(outcome: io::Result<T>) -> bool {
        outcome.err().and_then(|error| error.raw_os_error()) == Some(libc::EPERM)
    }

    #[test]
    fn worker_cannot_open_files_create_sockets_or_start_programs() {
        as_worker(|| {
            assert!(is_denied(File::open("/dev/null")));
            assert!(is_denied(File::create("/tmp/uswitch-worker")));
            assert!(is_denied(UdpSocket::bind("127.0.0.1:0")));
            assert!(is_denied(UnixStream::pair()));
            assert!(Command::new("true").spawn().is_err());
            assert!(thread::Builder::new().spawn(|| ()).is_err());
            assert_eq!(nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET), Err(nix::Error::EPERM));
        });
    }

    #[test]
    fn worker_cannot_signal_another_process() {
        as_worker(|| {
            let signal = |process: u32| {
                // SAFETY: tgkill(2) takes three numbers. Signal 0 only checks the permission.
                let sent = unsafe { libc::syscall(libc::SYS_tgkill, process, nix::unistd::gettid(), 0) };
                nix::errno::Errno::result(sent)
            };
            assert_eq!(signal(std::os::unix::process::parent_id()), Err(nix::Error::EPERM));
            assert_eq!(signal(std::process::id()), Ok(0));
        });
    }

    #[test]
    fn landlock_forbids_files() {
        thread::scope(|scope| {
            scope.spawn(|| {
                set_no_new_privs().unwrap();
                let restricted = restrict_with_landlock().unwrap();
                assert_eq!(restricted, has_landlock());
                let opened = File::open("/dev/null").map(drop).map_err(|error| error.kind());
                let expected = if restricted { Err(io::ErrorKind::PermissionDenied) } else { Ok(()) };
                assert_eq!(opened, expected);
            });
        });
    }

    #[test]
    fn control_keeps_few_capabilities_effective() {
        thread::scope(|scope| {
            scope.spawn(|| {
                let before = caps::read(None, CapSet::Permitted).unwrap();
                restrict_control().unwrap();
                let permitted = caps::read(None, CapSet::Permitted).unwrap();
                let effective = caps::read(None, CapSet::Effective).unwrap();
                assert!(effective.is_subset(&EFFECTIVE.into_iter().collect()), "{effective:?}");
                assert!(START.iter().all(|capability| !permitted.contains(capability)), "{permitted:?}");
                assert!(RAISED.iter().all(|it| permitted.contains(it) == before.contains(it)));
            });
        });
    }

    #[test]
    fn worker_can_set_its_time_slice_only() {
        use crate::sys::process::{set_time_slice, thread_nice};

        let nice = thread_nice().unwrap();
        as_worker(move || set_time_slice(Some(std::time::Duration::from_micros(100)), nice)).unwrap();
        as_worker(|| {
            let other = libc::sched_param { sched_priority: 0 };
            // SAFETY: `other` lives; 1 is another process.
            let outcome = unsafe { libc::syscall(libc::SYS_sched_setattr, 1, &raw const other, 0) };
            assert_eq!((outcome, io::Error::last_os_error().raw_os_error()), (-1, Some(libc::EPERM)));
            assert_eq!(thread_nice(), None, "not allowed");
        });
    }

    #[test]
    fn worker_has_no_capabilities_and_a_filter() {
        let mut status = File::open("/proc/thread-self/status").unwrap();
        let mut of_this_thread = String::new();
        status.read_to_string(&mut of_this_thread).unwrap();
        let (sender, tid) = std::sync::mpsc::channel();
        let (release, held) = std::sync::mpsc::channel::<()>();
        let worker = thread::spawn(move || {
            restrict_worker().unwrap();
            sender.send(nix::unistd::gettid()).unwrap();
            let _ = held.recv();
        });
        let status =
            std::fs::read_to_string(format!("/proc/self/task/{}/status", tid.recv().unwrap())).unwrap();
        let field = |text: &str, name: &str| {
            let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            value.unwrap().trim().to_owned()
        };
        for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
            assert_eq!(u64::from_str_radix(&field(&status, set), 16), Ok(0), "{set}");
        }
        assert_eq!((field(&status, "Seccomp"), field(&status, "NoNewPrivs")), ("2".into(), "1".into()));
        drop(release);
        worker.join().unwrap();
        assert_ne!(field(&of_this_thread, "Seccomp"), "2", "only that thread is restricted");
    }

    #[test]
    fn worker_can_move_frames_allocate_and_panic() {
        let (mut near, mut far) = std::io::pipe().unwrap();
        as_worker(move || {
            far.write_all(b"frame").unwrap();
            near.read_exact(&mut [0; 5]).unwrap();
            let large = vec![1_u8; 64 << 20];
            assert_eq!(large.iter().map(|byte| u64::from(*byte)).sum::<u64>(), 64 << 20);
            let hashed: std::collections::HashSet<u32> = (0..1000).collect();
            assert_eq!(hashed.len(), 1000);
            thread::sleep(std::time::Duration::from_millis(1));
            let panicked = std::panic::catch_unwind(|| panic!("a worker's panic"));
            assert!(panicked.is_err());
        });
    }
}
