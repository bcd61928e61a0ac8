//! Running commands on a host and in its network namespaces.

use std::fmt::{self, Display, Formatter};
use std::fs::File;
use std::process::{Command, Stdio};
use std::thread;

use nix::sched::{CloneFlags, CpuSet, sched_setaffinity, setns};
use nix::unistd::Pid;
use pnet_datalink::{Channel, Config};
use uswitch::datapath::allowed_cpus;

use super::frame::Frame;
use super::process::Process;
use super::tcpdump::Tcpdump;

/// Kills a command after a minute: only one that hangs meets it.
const WITH_LIMIT: &[&str] = &["timeout", "--kill-after=2", "60"];

fn words(command: &str) -> Vec<&str> {
    command.split_whitespace().collect()
}

/// Somewhere that commands run: a host, or a network namespace of one.
pub trait Shell {
    /// The host's first process, as this process numbers it.
    fn init(&self) -> u32;
    /// The network namespace, if it is not the host's own.
    fn netns(&self) -> Option<&str>;

    /// Runs a command to its end; words are separated by spaces, no quotes.
    fn run(&self, command: &str) -> CommandOutput {
        CommandOutput::of(self.enter(WITH_LIMIT, &words(command)))
    }

    /// Runs a shell script to its end.
    fn sh(&self, script: &str) -> CommandOutput {
        CommandOutput::of(self.enter(WITH_LIMIT, &["sh", "-euc", script]))
    }

    /// Starts a command; it is killed when the process is dropped.
    fn spawn(&self, command: &str) -> Process {
        Process::start(self.enter(Process::START, &words(command)))
    }

    /// Starts a shell script; likewise.
    fn spawn_sh(&self, script: &str) -> Process {
        Process::start(self.enter(Process::START, &["sh", "-euc", script]))
    }

    /// Starts to capture the frames that come in on `device`, those that match `filter` (pcap-filter(7)).
    /// When this returns, no frame is missed: the buffer (in KiB) takes 500 of the longest.
    fn capture(&self, device: &str, filter: &str) -> Tcpdump {
        const BUFFER: &str = "--buffer-size=32768 --snapshot-length=65600";
        let tcpdump = format!("tcpdump -i {device} -Q in -n -U --immediate-mode {BUFFER} -w - {filter}");
        Tcpdump::start(self.enter(&[], &words(&tcpdump)))
    }

    /// Puts frames on `device` as they are, in this order.
    fn send_on(&self, device: &str, frames: &[Frame]) {
        let path = match self.netns() {
            Some(name) => format!("/proc/{}/root/run/netns/{name}", self.init()),
            None => format!("/proc/{}/ns/net", self.init()),
        };
        let netns = File::open(path).expect("the namespace is there");
        // A thread of its own, because a thread enters a namespace for good.
        let sender = || {
            sched_setaffinity(Pid::from_raw(0), &sending_cpu_set()).expect("it is one of ours");
            setns(netns, CloneFlags::CLONE_NEWNET).expect("root may enter it");
            transmit(device, frames);
        };
        thread::scope(|scope| scope.spawn(sender).join()).expect("the frames were sent");
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

/// The CPU from which all frames made by hand are sent: veth has a queue for each, and order only within one.
pub fn sending_cpu() -> usize {
    *allowed_cpus().first().expect("we are running somewhere")
}

fn sending_cpu_set() -> CpuSet {
    let mut set = CpuSet::new();
    set.set(sending_cpu()).expect("it was in a set");
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

/// A command that has ended.
pub struct CommandOutput {
    /// What ran.
    pub command: String,
    /// Its exit code; `None` if a signal ended it.
    pub code: Option<i32>,
    /// What it printed.
    pub stdout: String,
    /// What it complained.
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

    /// What it printed; panics if it failed.
    #[track_caller]
    pub fn ok(self) -> String {
        assert!(self.succeeded(), "{self}");
        self.stdout
    }

    /// What it complained; panics if it succeeded, or was killed at its time limit, or panicked itself.
    #[track_caller]
    pub fn fails(self) -> String {
        const TIMED_OUT: i32 = 124;
        const PANICKED: i32 = 101;
        assert!(
            !matches!(self.code, None | Some(0 | TIMED_OUT | PANICKED)),
            "it should have failed by itself: {self}"
        );
        self.stderr
    }

    /// What it printed, as JSON; panics if it failed.
    #[track_caller]
    pub fn json(self) -> serde_json::Value {
        let text = self.ok();
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error} in {text}"))
    }
}
