//! The threads of a switch: their state in `/proc`, and freezing one.

use std::fs;
use std::path::{Path, PathBuf};

use nix::sys::ptrace;
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;

use super::shell::Shell;
use super::test_switch::{TestSwitch, Uswitch};

/// A thread that is stopped by ptrace(2), until this is dropped or the thread that made it ends.
pub struct FrozenThread(Pid);

impl FrozenThread {
    /// Freezes the thread of a switch with this name.
    pub fn freeze(s: &Uswitch, name: &str) -> FrozenThread {
        let directory = thread_directory(s, name);
        let tid = directory.file_name().and_then(|tid| tid.to_str()?.parse().ok());
        let tid = Pid::from_raw(tid.expect("the directory is a thread's number"));
        ptrace::seize(tid, ptrace::Options::empty()).expect("root may trace it");
        ptrace::interrupt(tid).expect("the thread is traced");
        waitpid(tid, Some(WaitPidFlag::__WALL)).expect("the thread stops");
        FrozenThread(tid)
    }
}

impl Drop for FrozenThread {
    fn drop(&mut self) {
        if ptrace::detach(self.0, None).is_err() {
            // The thread was killed. Like a parent, a tracer must wait for it.
            let _ = waitpid(self.0, Some(WaitPidFlag::__WALL));
        }
    }
}

/// A field of `/proc/PID/task/TID/status`, of the thread of a switch with this name.
pub fn thread_status(s: &Uswitch, name: &str, field: &str) -> String {
    let status = fs::read_to_string(thread_directory(s, name).join("status")).expect("the thread exists");
    let value = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    value.unwrap_or_else(|| panic!("no {field} in {status}")).trim().to_owned()
}

/// `/proc/PID/task/TID` of the thread of a switch with this name, in the `/proc` of this process.
fn thread_directory(s: &Uswitch, name: &str) -> PathBuf {
    let threads = processes(s).into_iter().flat_map(|process| entries(&process.join("task")));
    let found = threads.into_iter().find(|thread| has_name(thread, name));
    found.unwrap_or_else(|| panic!("the switch has no thread {name}"))
}

/// `/proc/PID` of the switch's processes, which are in the PID namespace of its host.
fn processes(s: &Uswitch) -> Vec<PathBuf> {
    let namespace = |process: &Path| fs::read_link(process.join("ns/pid")).ok();
    let host = namespace(Path::new(&format!("/proc/{}", s.host().init())));
    let mut processes = entries(Path::new("/proc"));
    processes.retain(|process| has_name(process, "uswitch") && namespace(process) == host);
    processes
}

fn has_name(task: &Path, name: &str) -> bool {
    fs::read_to_string(task.join("comm")).is_ok_and(|comm| comm.trim() == name)
}

fn entries(directory: &Path) -> Vec<PathBuf> {
    fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}
