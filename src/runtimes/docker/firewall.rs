//! Docker's firewall drops forwarded packets by default (the policy of iptables' chain FORWARD), so it has to accept
//! those of a switch. Its chain DOCKER-USER is for rules of others, and survives a restart of dockerd.
//!
//! Packets to Docker's own networks are dropped, as between those (chain DOCKER-ISOLATION-STAGE-2). What may come in is
//! decided by the table of the switch.

use std::process::{Command, Stdio};

/// The chain, which is there if dockerd manages the firewall.
const CHAIN: &str = "DOCKER-USER";

/// The rules of the host port `device`, the last one first.
fn rules(device: &str) -> [[&str; 4]; 3] {
    [
        ["-o", device, "-j", "ACCEPT"],
        ["-i", device, "-j", "ACCEPT"],
        ["-i", device, "-j", "DOCKER-ISOLATION-STAGE-2"],
    ]
}

/// Lets Docker's firewall accept the packets of a host port.
pub(super) fn accept(device: &str) {
    withdraw(device);
    for rule in rules(device) {
        change("-I", rule);
    }
}

/// Removes the rules of a host port.
pub(super) fn withdraw(device: &str) {
    for rule in rules(device) {
        change("-D", rule);
    }
}

/// A rule that is not there, or a chain that is not there because dockerd does not manage the firewall, is not an error.
fn change(operation: &str, rule: [&str; 4]) {
    for program in ["iptables", "ip6tables"] {
        let mut command = Command::new(program);
        command.args(["--wait", operation, CHAIN]).args(rule);
        let _ = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
    }
}
