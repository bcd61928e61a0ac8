//! A machine made of namespaces.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use uswitch::wire::Mac;

use super::frame::Frame;
use super::process::child_of;
use super::shell::Shell;

/// What the first process of a host does: makes the machine, says so, and lives until its standard input closes.
/// Ignoring SIGCHLD makes the kernel reap what a daemon leaves to it.
const INIT: &str = r#"
set -e
mount -t tmpfs -o mode=755 tmpfs /run
mount -t sysfs sysfs /sys
mkdir /run/bin /run/netns
touch /run/bin/uswitch
mount --bind "$1" /run/bin/uswitch
ip link set lo up
trap '' CHLD
echo ready
exec cat
"#;

/// A machine of its own: network, mount and PID namespaces, `/run` empty but for the program under test.
///
/// Its first process reads from a pipe that only this process holds: when that closes, by drop or by death, the
/// first process ends, and the kernel kills everything else in the PID namespace.
pub struct Host {
    unshare: Child,
    init: u32,
}

impl Host {
    /// A new machine, its loopback up.
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
        BufReader::new(stdout).read_line(&mut line).expect("the host's first process speaks");
        assert_eq!(line, "ready\n", "the host's first process failed; see its message above");
        let init = child_of(unshare.id());
        Host { unshare, init }
    }

    /// A network namespace of this host, by its name for `ip netns`.
    pub fn netns(&self, name: &str) -> TestNetns {
        TestNetns { init: self.init, name: name.to_owned() }
    }

    /// A file of this host, as this process reaches it.
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

/// A network namespace of a [`Host`]: a container, or a machine beyond.
pub struct TestNetns {
    init: u32,
    name: String,
}

impl TestNetns {
    /// Its name for `ip netns`, which is its port's name too.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Puts frames on its `eth0` as they are, in this order.
    pub fn send(&self, frames: &[Frame]) {
        self.send_on("eth0", frames);
    }

    /// The MAC of its `eth0`.
    pub fn mac(&self) -> Mac {
        self.run("cat /sys/class/net/eth0/address").ok().trim().parse().expect("the kernel knows MACs")
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
