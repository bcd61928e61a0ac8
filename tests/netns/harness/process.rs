//! Programs that run while a test goes on.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{WAIT_LIMIT, wait_until};

/// A program that nsenter started: killed when this is dropped.
pub(super) struct NsenterChild {
    nsenter: Child,
    pid: u32,
}

impl NsenterChild {
    /// Of an nsenter whose program is known to have started.
    pub(super) fn new(nsenter: Child) -> NsenterChild {
        let pid = child_of(nsenter.id());
        NsenterChild { nsenter, pid }
    }

    /// How it ended, if it has.
    fn ended(&mut self) -> Option<ExitStatus> {
        self.nsenter.try_wait().expect("it is our child")
    }

    fn signal(&self, signal: Signal) -> nix::Result<()> {
        let pid = i32::try_from(self.pid).expect("the kernel's limit is 2^22");
        kill(Pid::from_raw(pid), signal)
    }
}

impl Drop for NsenterChild {
    fn drop(&mut self) {
        if self.ended().is_none() {
            // An error says that it has ended by itself just now.
            let _ = self.signal(Signal::SIGKILL);
            self.nsenter.wait().expect("nsenter ends with its child");
        }
    }
}

/// A running program: its output line by line, both streams in one.
pub struct Process {
    running: NsenterChild,
    lines: Receiver<String>,
    heard: Vec<String>,
}

impl Process {
    /// Runs a program and says so first.
    pub(super) const START: &[&str] = &["sh", "-c", r#"echo started; exec "$0" "$@" 2>&1"#];

    /// Starts a command that is wrapped in [`Process::START`].
    pub(super) fn start(mut command: Command) -> Process {
        let mut nsenter = command.stdout(Stdio::piped()).spawn().expect("nsenter (util-linux) runs");
        let mut stdout = BufReader::new(nsenter.stdout.take().expect("it is piped"));
        let mut line = String::new();
        stdout.read_line(&mut line).expect("the wrapper speaks");
        assert_eq!(line, "started\n", "could not start {command:?}");
        let (sender, lines) = channel();
        thread::spawn(move || stdout.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        Process { running: NsenterChild::new(nsenter), lines, heard: Vec::new() }
    }

    /// The next line that has `text` in it. Panics if the program ends, or falls silent for
    /// [`WAIT_LIMIT`], without one.
    pub fn line_with(&mut self, text: &str) -> String {
        while let Ok(line) = self.lines.recv_timeout(WAIT_LIMIT) {
            self.heard.push(line.clone());
            if line.contains(text) {
                return line;
            }
        }
        panic!("no line with '{text}' came, but: {:#?}", self.heard);
    }

    /// The next line; `None` if it has ended, or falls silent for [`WAIT_LIMIT`].
    pub fn line(&mut self) -> Option<String> {
        self.lines.recv_timeout(WAIT_LIMIT).ok()
    }

    /// Whether it is there no more.
    pub fn has_ended(&mut self) -> bool {
        self.running.ended().is_some()
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        self.running.signal(signal).expect("the process is there");
    }

    /// Waits for its end: how it ended, and all that it said.
    pub fn wait(mut self) -> (ExitStatus, String) {
        let mut status = None;
        wait_until("a program ends", || {
            status = self.running.ended();
            status.is_some()
        });
        while let Ok(line) = self.lines.recv_timeout(WAIT_LIMIT) {
            self.heard.push(line);
        }
        (status.expect("it ended"), self.heard.join("\n"))
    }

    /// Waits for its end; all that it said. Panics if it failed.
    #[track_caller]
    pub fn ok(self) -> String {
        let (status, said) = self.wait();
        assert!(status.success(), "{status}: {said}");
        said
    }
}

/// The one child of a process.
pub(super) fn child_of(pid: u32) -> u32 {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))
        .expect("the kernel lists children (CONFIG_PROC_CHILDREN)");
    children.trim().parse().unwrap_or_else(|_| panic!("not one child: '{children}'"))
}
