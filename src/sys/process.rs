//! Other processes, as proc(5) shows them, and the priority of this one's threads.

use std::os::fd::RawFd;
use std::os::unix::fs::MetadataExt;
use std::time::Duration;
use std::{fs, io};

use nix::errno::Errno;

/// The flag of a task that is exiting: `PF_EXITING` of the kernel's `include/linux/sched.h`.
const EXITING: u64 = 4;
/// SIGKILL in a set of signals.
const KILLED: u64 = 1 << (libc::SIGKILL - 1);

/// Whether this process has only one thread, so that it can fork(2) safely.
///
/// # Errors
/// `/proc` is not mounted.
pub fn has_one_thread() -> io::Result<bool> {
    Ok(fs::read_dir("/proc/self/task")?.count() == 1)
}

/// The open descriptors of this process, without the standard three.
///
/// # Errors
/// `/proc` is not mounted.
pub fn open_descriptors() -> io::Result<Vec<RawFd>> {
    let names = fs::read_dir("/proc/self/fd")?.flatten().map(|file| file.file_name());
    let numbers = names.filter_map(|name| name.to_str()?.parse().ok());
    Ok(numbers.filter(|number| *number > libc::STDERR_FILENO).collect())
}

/// The inode number of this process's PID namespace (pid_namespaces(7)).
///
/// # Errors
/// `/proc` is not mounted.
pub fn pid_namespace() -> io::Result<u64> {
    Ok(fs::metadata("/proc/self/ns/pid")?.ino())
}

/// Whether the process has ended, or was killed and will end soon. The kernel then releases its locks and
/// files.
pub fn is_ending(pid: u32) -> bool {
    pid != 0 && fs::read_to_string(format!("/proc/{pid}/stat")).map_or(true, |stat| has_exit_state(&stat))
}

/// Whether the process is stopped by a signal (SIGSTOP), or by a debugger.
pub fn is_stopped(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, after_name)| after_name.trim_start().starts_with(['T', 't']))
}

/// Sets the nice value of the calling thread (setpriority(2); on Linux each thread has its own).
///
/// # Errors
/// A lower value than now needs `CAP_SYS_NICE` or a higher `RLIMIT_NICE`.
pub fn set_thread_nice(nice: i32) -> io::Result<()> {
    // SAFETY: three plain numbers; 0 is the calling thread.
    let outcome = unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, nice) };
    if outcome == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The nice value of the calling thread; `None` if its scheduling policy is not `SCHED_OTHER`.
pub fn thread_nice() -> Option<i32> {
    // SAFETY: 0 is the calling thread.
    let policy = unsafe { libc::sched_getscheduler(0) };
    Errno::clear();
    // SAFETY: two plain numbers; 0 is the calling thread.
    let nice = unsafe { libc::getpriority(libc::PRIO_PROCESS, 0) };
    (policy == libc::SCHED_OTHER && Errno::last_raw() == 0).then_some(nice)
}

/// Sets the time slice of the calling thread, whose scheduling policy is `SCHED_OTHER` with this nice value; `None` for
/// the kernel's default. A thread with a shorter slice than the running one preempts it when it wakes (Linux 6.12,
/// `PREEMPT_SHORT` in `kernel/sched/features.h`). Older kernels ignore it.
///
/// # Errors
/// sched_setattr(2) failed.
pub fn set_time_slice(slice: Option<Duration>, nice: i32) -> io::Result<()> {
    // The first version of the structure, sched_setattr(2).
    #[repr(C)]
    struct SchedAttr {
        size: u32,
        policy: u32,
        flags: u64,
        nice: i32,
        priority: u32,
        runtime: u64,
        deadline: u64,
        period: u64,
    }
    const SIZE: usize = std::mem::size_of::<SchedAttr>();
    const _: () = assert!(SIZE == 48);
    let nanoseconds = slice.map_or(0, |slice| u64::try_from(slice.as_nanos()).unwrap_or(u64::MAX));
    let attr = SchedAttr {
        size: 48,
        policy: libc::SCHED_OTHER.unsigned_abs(),
        flags: 0,
        nice,
        priority: 0,
        runtime: nanoseconds,
        deadline: 0,
        period: 0,
    };
    // SAFETY: the kernel reads `size` bytes of `attr`; 0 is the calling thread.
    let outcome = unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attr, 0) };
    if outcome == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Parses `/proc/PID/stat`. The name, in parentheses, may contain blanks and parentheses.
fn has_exit_state(stat: &str) -> bool {
    let Some((_, after_name)) = stat.rsplit_once(')') else { return false };
    let fields: Vec<&str> = after_name.split_whitespace().collect();
    // In proc(5) the field after the name is the third.
    let field = |number: usize| fields.get(number - 3).copied().unwrap_or_default();
    let has = |number, bit| field(number).parse().is_ok_and(|bits: u64| bits & bit != 0);
    matches!(field(3), "Z" | "X") || has(9, EXITING) || has(31, KILLED)
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use nix::sys::wait::{Id, WaitPidFlag, waitid};
    use nix::unistd::Pid;

    use super::*;

    /// The slice as sched_getattr(2) shows it, which is the kernel's default where a thread has none of its own.
    fn time_slice() -> Duration {
        let mut attr = [0_u64; 6];
        // SAFETY: the kernel writes at most 48 bytes to `attr`.
        let outcome = unsafe { libc::syscall(libc::SYS_sched_getattr, 0, attr.as_mut_ptr(), 48, 0) };
        assert_eq!(outcome, 0);
        Duration::from_nanos(attr[3])
    }

    #[test]
    fn sets_the_time_slice_of_a_thread_and_keeps_its_nice_value() {
        let thread = || {
            let _ = set_thread_nice(3);
            let nice = thread_nice().unwrap();
            let default = time_slice();
            set_time_slice(Some(Duration::from_micros(100)), nice).unwrap();
            let short = time_slice();
            assert_eq!(thread_nice(), Some(nice));
            set_time_slice(None, nice).unwrap();
            (default, short, time_slice())
        };
        let (default, short, again) = std::thread::spawn(thread).join().unwrap();
        assert_eq!(again, default);
        // Before Linux 6.12 there are no slices of threads, and the call shows 0.
        assert!(short == Duration::from_micros(100) || default.is_zero(), "{short:?}");
    }

    #[test]
    fn tells_ended_processes_from_live_ones() {
        assert!(!is_ending(std::process::id()));
        assert!(!is_ending(0), "no process");
        let mut child = Command::new("true").spawn().unwrap();
        let pid = Pid::from_raw(child.id().cast_signed());
        waitid(Id::Pid(pid), WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT).unwrap();
        assert!(is_ending(child.id()), "a zombie");
        child.wait().unwrap();
        assert!(is_ending(child.id()), "it was reaped");
    }

    #[test]
    fn killed_process_counts_as_ending() {
        let stat = |state: &str, flags: u64, pending: u64| {
            let before = "0 ".repeat(5) + &flags.to_string() + &" 0".repeat(21);
            has_exit_state(&format!("7 (a) b) {state} {before} {pending} 0 0\n"))
        };
        assert!(!stat("S", 0x40_0000, 0));
        assert!(stat("D", 0x40_0004, 0), "it is exiting");
        assert!(stat("D", 0x40_0000, 256), "SIGKILL is pending");
        assert!(!stat("S", 0x40_0000, 1 << 14), "SIGTERM may be ignored");
        assert!(!has_exit_state(""));
    }
}
