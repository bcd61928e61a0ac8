//! Commands that run on a host and in its network namespaces.

use std::fmt::{self, Display, Formatter};
use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread;

use nix::sched::{CloneFlags, CpuSet, sched_setaffinity, setns};
use nix::unistd::Pid;
use pnet_datalink::{Channel, Config};
use uswitch::datapath::allowed_cpus;

use super::frame::Frame;
use super::process::Process;
use super::tcpdump::Tcpdump;

/// Kills a command after a minute. Only one that hangs reaches this.
const WITH_LIMIT: &[&str] = &["timeout", "--kill-after=2", "60"];

fn words(command: &str) -> Vec<&str> {
    command.split_whitespace().collect()
}

/// A place where commands run: a host, or a network namespace of a host.
pub trait Shell {
    /// The PID of the host's init process, in this process's PID namespace.
    fn init(&self) -> u32;
    /// The name of the network namespace; `None` for the host's own.
    fn netns(&self) -> Option<&str>;

    /// Runs a command to its end. Its words are separated by spaces; there is no quoting.
    fn run(&self, command: &str) -> CommandOutput {
        CommandOutput::of(self.enter(WITH_LIMIT, &words(command)))
    }

    /// Runs a shell script to its end.
    fn sh(&self, script: &str) -> CommandOutput {
        CommandOutput::of(self.enter(WITH_LIMIT, &["sh", "-euc", script]))
    }

    /// Starts a command. Dropping the returned process kills it.
    fn spawn(&self, command: &str) -> Process {
        Process::start(self.enter(Process::START, &words(command)))
    }

    /// Starts a shell script. Dropping the returned process kills it.
    fn spawn_sh(&self, script: &str) -> Process {
        Process::start(self.enter(Process::START, &["sh", "-euc", script]))
    }

    /// Starts to capture the frames that `device` receives and that match `filter` (pcap-filter(7)). The
    /// capture is active when this returns. Its buffer (in KiB) holds 500 of the longest frames.
    fn capture(&self, device: &str, filter: &str) -> Tcpdump {
        const BUFFER: &str = "--buffer-size=32768 --snapshot-length=65600";
        let tcpdump = format!("tcpdump -i {device} -Q in -n -U --immediate-mode {BUFFER} -w - {filter}");
        Tcpdump::start(self.enter(&[], &words(&tcpdump)))
    }

    /// Sends frames on `device`, unchanged and in this order.
    fn send_on(&self, device: &str, frames: &[Frame]) {
        let path = match self.netns() {
            Some(name) => format!("/proc/{}/root/run/netns/{name}", self.init()),
            None => format!("/proc/{}/ns/net", self.init()),
        };
        let netns = File::open(path).expect("the namespace exists");
        // On another thread, because this one must stay in its namespace.
        let sender = || {
            sched_setaffinity(Pid::from_raw(0), &sending_cpu_set()).expect("this process may use it");
            setns(netns, CloneFlags::CLONE_NEWNET).expect("root may enter it");
            transmit(device, frames);
        };
        thread::scope(|scope| scope.spawn(sender).join()).expect("the frames were sent");
    }

    /// The open files of a process of this host, except those that it closes meanwhile.
    fn open_files(&self, pid: u32) -> Vec<PathBuf> {
        let directory = format!("/proc/{}/root/proc/{pid}/fd", self.init());
        let files = fs::read_dir(directory).expect("the process runs");
        files.filter_map(|file| fs::read_link(file.ok()?.path()).ok()).collect()
    }

    /// The command that runs `words` here, started by `wrapper` in the host's namespaces.
    fn enter(&self, wrapper: &[&str], words: &[&str]) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.init().to_string(), "--net", "--mount", "--pid", "--"]);
        command.args(wrapper);
        if let Some(name) = self.netns() {
            command.args(["ip", "netns", "exec", name]);
        }
        command.args(words).stdin(Stdio::null());
        let path = std::env::var("PATH").unwrap_or_default();
        command.env("PATH", format!("/run/bin:/usr/sbin:/sbin:{path}")).env("LC_ALL", "C");
        command
    }
}

/// The CPU from which [`Shell::send_on`] sends. A veth device has a queue for each CPU, and keeps the order
/// only within a queue.
pub fn sending_cpu() -> usize {
    *allowed_cpus().first().expect("this process may use a CPU")
}

fn sending_cpu_set() -> CpuSet {
    let mut set = CpuSet::new();
    set.set(sending_cpu()).expect("its number is valid");
    set
}

fn transmit(device: &str, frames: &[Frame]) {
    let interface = pnet_datalink::interfaces()
        .into_iter()
        .find(|interface| interface.name == device)
        .unwrap_or_else(|| panic!("there is no {device}"));
    let config = Config { promiscuous: false, ..Config::default() };
    let Ok(Channel::Ethernet(mut sender, _)) = pnet_datalink::channel(&interface, config) else {
        panic!("no packet socket on {device}");
    };
    for frame in frames {
        sender.send_to(frame, None).expect("an Ethernet socket").expect("the device takes the frame");
    }
}

/// The result of a command that has ended.
pub struct CommandOutput {
    /// The command.
    pub command: String,
    /// Its exit code; `None` if a signal ended it.
    pub code: Option<i32>,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

impl Display for CommandOutput {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let CommandOutput { command, code, stdout, stderr } = self;
        match code {
            Some(code) => write!(f, "`{command}` ended with {code}")?,
            None => write!(f, "`{command}` was killed")?,
        }
        write!(f, "\nstdout: {stdout}\nstderr: {stderr}")
    }
}

impl CommandOutput {
    fn of(mut command: Command) -> CommandOutput {
        let output = command.output().expect("nsenter (util-linux) runs");
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        let words: Vec<_> = command.get_args().skip(6).map(|word| word.to_string_lossy()).collect();
        CommandOutput {
            command: words.join(" "),
            code: output.status.code(),
            stdout: text(output.stdout),
            stderr: text(output.stderr),
        }
    }

    /// Whether it succeeded.
    pub fn succeeded(&self) -> bool {
        self.code == Some(0)
    }

    /// Its standard output; panics if it failed.
    #[track_caller]
    pub fn ok(self) -> String {
        assert!(self.succeeded(), "{self}");
        self.stdout
    }

    /// Its standard error; panics if it succeeded, was killed by a signal or the time limit, or panicked
    /// itself.
    #[track_caller]
    pub fn fails(self) -> String {
        const TIMED_OUT: i32 = 124;
        const PANICKED: i32 = 101;
        assert!(
            !matches!(self.code, None | Some(0 | TIMED_OUT | PANICKED)),
            "it should have failed with an error: {self}"
        );
        self.stderr
    }

    /// Its standard output as JSON; panics if it failed.
    #[track_caller]
    pub fn json(self) -> serde_json::Value {
        let text = self.ok();
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error} in {text}"))
    }
}
