//! The switches that are compared.

use std::env;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use clap::ValueEnum;

use super::plan::word;
use super::results::PeerInfo;
use crate::sys::tap;

/// A switch, or what stands for one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Peer {
    /// This program
    Uswitch,
    /// The kernel's bridge with a veth pair to each container
    LinuxBridge,
    /// One veth pair from container to container: no switch at all
    Veth,
    /// Open vSwitch, userspace datapath
    Ovs,
    /// ... with TCP segmentation offload
    OvsTso,
    /// vde_switch with TAP devices
    Vde,
    /// What one writes first: a thread each way that reads a frame and writes it, over the crate tun-tap
    Naive,
}

/// A Debian package, and a program of it that we run.
struct Package {
    program: &'static str,
    package: &'static str,
}

impl Peer {
    /// What it is, in one line.
    fn what(self) -> &'static str {
        match self {
            Peer::Uswitch => "this program",
            Peer::LinuxBridge => "the kernel's bridge, a veth pair to each container",
            Peer::Veth => "one veth pair from container to container, no switch",
            Peer::Ovs => "Open vSwitch, userspace datapath, TAP devices",
            Peer::OvsTso => "Open vSwitch, userspace datapath, TAP devices, userspace-tso-enable",
            Peer::Vde => "vde_switch, TAP devices",
            Peer::Naive => {
                "read() and write() of one frame at a time over the crate tun-tap, a thread each way"
            }
        }
    }

    /// Has a device in the host's namespace.
    pub fn has_host(self) -> bool {
        matches!(self, Peer::Uswitch | Peer::LinuxBridge | Peer::Ovs | Peer::OvsTso)
    }

    /// How long it takes to make, about.
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

    /// Why it cannot be measured here; `None`: it can.
    pub fn missing(self) -> Option<String> {
        let missing = self.packages().iter().find(|package| program(package.program).is_none());
        match missing {
            Some(Package { program, package }) => {
                Some(format!("{program} is not installed: `apt-get install {package}`"))
            }
            None if matches!(self, Peer::LinuxBridge | Peer::Veth) => None,
            None => tap::check_driver().err().map(|error| error.to_string()),
        }
    }

    /// As it is reported; `kernel` is what the machine runs.
    pub fn report(self, kernel: &str) -> PeerInfo {
        let version = match self {
            Peer::Uswitch => Some(env!("CARGO_PKG_VERSION").to_owned()),
            Peer::LinuxBridge | Peer::Veth => Some(kernel.to_owned()),
            Peer::Ovs | Peer::OvsTso => version("ovs-vswitchd"),
            Peer::Vde => version("vde_switch"),
            Peer::Naive => None,
        };
        PeerInfo { name: word(&self), what: self.what().to_owned(), version, skipped: self.missing() }
    }
}

/// Where system programs are, whoever's PATH lacks it.
const SYSTEM: [&str; 3] = ["/usr/local/sbin", "/usr/sbin", "/sbin"];

/// Where a program is.
pub(super) fn program(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let directories = env::split_paths(&path).chain(SYSTEM.iter().map(PathBuf::from));
    directories.map(|directory| directory.join(name)).find(|path| path.is_file())
}

/// A command that runs a program, found as [`program`] finds it.
pub(super) fn command(name: &str) -> Command {
    let mut command = Command::new(program(name).unwrap_or_else(|| name.into()));
    command.stdin(Stdio::null());
    command
}

/// The first word with a dot and digits that `program --version` says.
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
        let found = |text| find_version(text).unwrap_or_default();
        assert_eq!(found("ovs-vswitchd (Open vSwitch) 3.1.0\n"), "3.1.0");
        assert_eq!(found("VDE 2.3.2\nCopyright 2003\n"), "2.3.2");
        assert_eq!(found("no version"), "");
    }

    #[test]
    fn finds_program_in_path() {
        assert!(program("sh").is_some());
        assert!(program("no-such-program").is_none());
    }
}
