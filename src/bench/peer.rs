//! The switches to compare.

use std::collections::BTreeMap;
use std::env;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use clap::ValueEnum;

use super::plan::word;
use super::results::PeerInfo;
use crate::fastpath::FastPath;
use crate::sys::tap;

/// A switch, or a substitute for one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Peer {
    /// This program
    Uswitch,
    /// ... with the kernel fast path, or not at all
    UswitchFast,
    /// ... with the kernel fast path and super-frames of 256 KiB (BIG TCP)
    UswitchBig,
    /// ... without the kernel fast path
    UswitchTap,
    /// Kernel bridge with a veth pair for each container
    LinuxBridge,
    /// One veth pair between the containers, without a switch
    Veth,
    /// Open vSwitch, userspace datapath
    Ovs,
    /// ... with TCP segmentation offload
    OvsTso,
    /// vde_switch with TAP devices
    Vde,
    /// One thread for each direction that reads and writes one frame at a time (crate tun-tap)
    Naive,
}

/// A program, and the Debian package that contains it.
struct Package {
    program: &'static str,
    package: &'static str,
}

impl Peer {
    /// A description in one line.
    fn what(self) -> &'static str {
        match self {
            Peer::Uswitch => "this program",
            Peer::UswitchFast => "this program, --fast-path on",
            Peer::UswitchBig => "this program, --fast-path on --gso-max-size 262144",
            Peer::UswitchTap => "this program, --fast-path off",
            Peer::LinuxBridge => "kernel bridge, a veth pair for each container",
            Peer::Veth => "one veth pair between the containers, no switch",
            Peer::Ovs => "Open vSwitch, userspace datapath, TAP devices",
            Peer::OvsTso => "Open vSwitch, userspace datapath, TAP devices, userspace-tso-enable",
            Peer::Vde => "vde_switch, TAP devices",
            Peer::Naive => {
                "read() and write() of one frame at a time, a thread for each direction (crate tun-tap)"
            }
        }
    }

    /// Whether it has a device in the host's namespace.
    pub fn has_host(self) -> bool {
        !matches!(self, Peer::Veth | Peer::Vde | Peer::Naive)
    }

    /// Approximate time to create it.
    pub fn set_up(self) -> Duration {
        match self {
            Peer::Ovs | Peer::OvsTso => Duration::from_secs(2),
            _ => Duration::from_millis(500),
        }
    }

    fn packages(self) -> &'static [Package] {
        const OVS: &[Package] = &[
            Package { program: "ovs-vswitchd", package: "openvswitch-switch" },
            Package { program: "ovsdb-server", package: "openvswitch-switch" },
            Package { program: "ovsdb-tool", package: "openvswitch-common" },
            Package { program: "ovs-vsctl", package: "openvswitch-switch" },
        ];
        match self {
            Peer::Ovs | Peer::OvsTso => OVS,
            Peer::Vde => &[Package { program: "vde_switch", package: "vde2" }],
            _ => &[],
        }
    }

    /// Why it cannot be measured here. `None` if it can.
    pub fn missing(self) -> Option<String> {
        let missing = self.packages().iter().find(|package| program(package.program).is_none());
        match missing {
            Some(Package { program, package }) => {
                Some(format!("{program} is not installed: run `apt-get install {package}`"))
            }
            None if matches!(self, Peer::LinuxBridge | Peer::Veth) => None,
            None if matches!(self, Peer::UswitchFast | Peer::UswitchBig) => {
                FastPath::new(2, [0, 1], BTreeMap::new())
                    .err()
                    .map(|error| format!("no kernel fast path: {error}"))
            }
            None => tap::check_driver().err().map(|error| error.to_string()),
        }
    }

    /// Description for the results. `kernel` is the kernel version of the machine.
    pub fn report(self, kernel: &str) -> PeerInfo {
        let version = match self {
            Peer::Uswitch | Peer::UswitchFast | Peer::UswitchBig | Peer::UswitchTap => {
                Some(env!("CARGO_PKG_VERSION").to_owned())
            }
            Peer::LinuxBridge | Peer::Veth => Some(kernel.to_owned()),
            Peer::Ovs | Peer::OvsTso => version("ovs-vswitchd"),
            Peer::Vde => version("vde_switch"),
            Peer::Naive => None,
        };
        PeerInfo { name: word(&self), what: self.what().to_owned(), version, skipped: self.missing() }
    }
}

/// Directories of system programs, for users whose PATH lacks them.
const SYSTEM: [&str; 3] = ["/usr/local/sbin", "/usr/sbin", "/sbin"];

/// Finds a program in PATH or a system directory.
pub(super) fn program(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let directories = env::split_paths(&path).chain(SYSTEM.iter().map(PathBuf::from));
    directories.map(|directory| directory.join(name)).find(|path| path.is_file())
}

/// A command for a program found by [`program`].
pub(super) fn command(name: &str) -> Command {
    let mut command = Command::new(program(name).unwrap_or_else(|| name.into()));
    command.stdin(Stdio::null());
    command
}

/// The first word of `program --version` that begins with a digit and contains a dot.
fn version(program: &str) -> Option<String> {
    let output = command(program).arg("--version").output().ok()?;
    find_version(&String::from_utf8_lossy(&output.stdout))
}

fn find_version(text: &str) -> Option<String> {
    let is_version = |word: &&str| word.starts_with(|c: char| c.is_ascii_digit()) && word.contains('.');
    text.split_whitespace().find(is_version).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_version_in_program_output() {
        let version = |text| find_version(text).unwrap_or_default();
        assert_eq!(version("ovs-vswitchd (Open vSwitch) 3.1.0\n"), "3.1.0");
        assert_eq!(version("VDE 2.3.2\nCopyright 2003\n"), "2.3.2");
        assert_eq!(version("no version"), "");
    }

    #[test]
    fn finds_program_in_path() {
        assert!(program("sh").is_some());
        assert!(program("no-such-program").is_none());
    }
}
