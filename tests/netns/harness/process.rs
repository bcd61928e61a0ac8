//! Programs that run in the background of a test.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{WAIT_LIMIT, wait_until};

/// A program that nsenter started. Dropping this kills it.
pub(super) struct NsenterChild {
    nsenter: Child,
    pid: u32,
}

impl NsenterChild {
    /// Wraps an nsenter whose program has started.
    pub(super) fn new(nsenter: Child) -> NsenterChild {
        let pid = child_of(nsenter.id());
        NsenterChild { nsenter, pid }
    }

    /// Its exit status, if it has ended.
    fn ended(&mut self) -> Option<ExitStatus> {
        self.nsenter.try_wait().expect("it is a child of this process")
    }

    fn signal(&self, signal: Signal) -> nix::Result<()> {
        let pid = i32::try_from(self.pid).expect("the kernel's limit is 2^22");
        kill(Pid::from_raw(pid), signal)
    }
}

impl Drop for NsenterChild {
    fn drop(&mut self) {
        if self.ended().is_none() {
            // An error means that it has just ended by itself.
            let _ = self.signal(Signal::SIGKILL);
            self.nsenter.wait().expect("nsenter ends with its child");
        }
    }
}

/// A running program. Its lines of output are standard output and standard error combined.
pub struct Process {
    running: NsenterChild,
    lines: Receiver<String>,
    received: Vec<String>,
}

impl Process {
    /// Writes a line, then runs the program.
    pub(super) const START: &[&str] = &["sh", "-c", r#"echo started; exec "$0" "$@" 2>&1"#];

    /// Starts a command that is wrapped in [`Process::START`].
    pub(super) fn start(mut command: Command) -> Process {
        let mut nsenter = command.stdout(Stdio::piped()).spawn().expect("nsenter (util-linux) runs");
        let mut stdout = BufReader::new(nsenter.stdout.take().expect("it is piped"));
        let mut line = String::new();
        stdout.read_line(&mut line).expect("the wrapper writes a line");
        assert_eq!(line, "started\n", "could not start {command:?}");
        let (sender, lines) = channel();
        thread::spawn(move || stdout.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        Process { running: NsenterChild::new(nsenter), lines, received: Vec::new() }
    }

    /// Takes the lines that it has written until now, so that the next one is newer.
    pub fn take_lines(&mut self) {
        self.received.extend(self.lines.try_iter());
    }

    /// The next line that contains `text`. Panics if the program ends, or writes nothing for [`WAIT_LIMIT`],
    /// before such a line.
    pub fn line_with(&mut self, text: &str) -> String {
        while let Ok(line) = self.lines.recv_timeout(WAIT_LIMIT) {
            self.received.push(line.clone());
            if line.contains(text) {
                return line;
            }
        }
        panic!("no line contains '{text}': {:#?}", self.received);
    }

    /// The next line; `None` if the program has ended, or writes nothing for [`WAIT_LIMIT`].
    pub fn line(&mut self) -> Option<String> {
        self.lines.recv_timeout(WAIT_LIMIT).ok()
    }

    /// Whether it has ended.
    pub fn has_ended(&mut self) -> bool {
        self.running.ended().is_some()
    }

    /// Sends a signal to it.
    pub fn signal(&self, signal: Signal) {
        self.running.signal(signal).expect("the process exists");
    }

    /// Waits until it ends. Returns its exit status and its whole output.
    pub fn wait(mut self) -> (ExitStatus, String) {
        let mut status = None;
        wait_until("a program ends", || {
            status = self.running.ended();
            status.is_some()
        });
        while let Ok(line) = self.lines.recv_timeout(WAIT_LIMIT) {
            self.received.push(line);
        }
        (status.expect("it ended"), self.received.join("\n"))
    }

    /// Waits until it ends. Returns its whole output; panics if it failed.
    #[track_caller]
    pub fn ok(self) -> String {
        let (status, output) = self.wait();
        assert!(status.success(), "{status}: {output}");
        output
    }
}

/// The only child of a process.
pub(super) fn child_of(pid: u32) -> u32 {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))
        .expect("the kernel lists children (CONFIG_PROC_CHILDREN)");
    children.trim().parse().unwrap_or_else(|_| panic!("not one child: '{children}'"))
}
