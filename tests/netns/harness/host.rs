//! A private machine: network, mount and PID namespaces.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use uswitch::wire::Mac;

use super::frame::Frame;
use super::process::child_of;
use super::shell::Shell;

/// The script of a host's init process: it sets the machine up, reports that it is ready, and runs until its
/// standard input closes. With SIGCHLD ignored, the kernel reaps orphaned processes.
const INIT: &str = r#"
set -e
mount -t tmpfs -o mode=755 tmpfs /run
mount -t tmpfs -o mode=755 tmpfs /var/lib
mount -t sysfs sysfs /sys
mkdir /run/bin /run/netns
touch /run/bin/uswitch
mount --bind "$1" /run/bin/uswitch
ip link set lo up
echo ready
exec env --ignore-signal=CHLD cat
"#;

/// A private machine: network, mount and PID namespaces, a `/run` that contains only the program under test, and
/// an empty `/var/lib`.
///
/// Its init process reads from a pipe that only this process holds. When the pipe closes, because this value
/// is dropped or this process dies, the init process ends, and the kernel kills all other processes in the
/// PID namespace.
pub struct Host {
    unshare: Child,
    init: u32,
}

impl Host {
    /// A new machine, with `lo` up.
    pub fn new() -> Host {
        assert!(
            nix::unistd::geteuid().is_root(),
            "the netns tests make network namespaces and need root: run `make test`, or `cargo netns` (through sudo)"
        );
        let mut unshare = Command::new("unshare")
            .args(["--net", "--mount", "--propagation", "private", "--pid", "--fork", "--kill-child"])
            .args(["--mount-proc", "sh", "-c", INIT, "sh", env!("CARGO_BIN_EXE_uswitch")])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("unshare (util-linux) runs");
        let mut line = String::new();
        let stdout = unshare.stdout.take().expect("it is piped");
        BufReader::new(stdout).read_line(&mut line).expect("the init process writes a line");
        assert_eq!(line, "ready\n", "the init process failed; see its message above");
        let init = child_of(unshare.id());
        Host { unshare, init }
    }

    /// The network namespace of this host with this name for `ip netns`.
    pub fn netns(&self, name: &str) -> TestNetns {
        TestNetns { init: self.init, name: name.to_owned() }
    }

    /// The path of a file of this host, for this process.
    pub fn path(&self, path: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{path}", self.init))
    }
}

impl Shell for Host {
    fn init(&self) -> u32 {
        self.init
    }
    fn netns(&self) -> Option<&str> {
        None
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        drop(self.unshare.stdin.take());
        self.unshare.wait().expect("unshare ends with its child");
    }
}

/// A network namespace of a [`Host`]: a container, or a remote machine.
pub struct TestNetns {
    init: u32,
    name: String,
}

impl TestNetns {
    /// Its name for `ip netns`, and the name of its port.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Sends frames on its `eth0`, unchanged and in this order.
    pub fn send(&self, frames: &[Frame]) {
        self.send_on("eth0", frames);
    }

    /// The MAC of its `eth0`.
    pub fn mac(&self) -> Mac {
        self.run("cat /sys/class/net/eth0/address")
            .ok()
            .trim()
            .parse()
            .expect("the file contains a MAC address")
    }
}

impl Shell for TestNetns {
    fn init(&self) -> u32 {
        self.init
    }
    fn netns(&self) -> Option<&str> {
        Some(&self.name)
    }
}
