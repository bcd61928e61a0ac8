//! Everything that a switch could leave behind on a machine.

use std::collections::BTreeMap;

use super::host::Host;
use super::shell::Shell;

/// The state of a host: a text for each kind of object. Two snapshots are equal if nothing was left behind
/// and nothing is missing.
#[derive(Debug, PartialEq, Eq)]
pub struct HostSnapshot(BTreeMap<&'static str, String>);

/// The kinds, and the script that lists each. Two directories may stay: `/run/uswitch`, and `/run/netns`, which
/// iproute2 does not remove either. What `/var/lib` keeps is not listed. Link-local routes are excluded, because the
/// kernel adds them at any time. A script that writes to standard error has failed: not every shell reports the failure
/// of a command in the middle of a pipe.
const KINDS: &[(&str, &str)] = &[
    ("namespaces", "ls /run/netns"),
    ("links", "ip -o link show | sed 's/^[0-9]*: //'"),
    ("addresses", "ip -o addr show | sed 's/^[0-9]*: //; s/ tentative//; s/ valid_lft.*//'"),
    ("routes", "ip route show table all | sed '/fe80::/d'"),
    ("rules", "ip rule show; ip -6 rule show"),
    ("nftables", "nft list ruleset"),
    ("sysctls", "sysctl -a --pattern '^net\\.(core|ipv4|ipv6)\\.' 2>/dev/null"),
    ("sockets", "ss -Hlxtun | awk '{print $1, $5}' | sort"),
    ("files", "find /run -ignore_readdir_race -type f -o -type s -o -type l | sort"),
    ("mounts", "awk '$5 != \"/run/netns\" {print $5}' /proc/self/mountinfo | sort"),
    ("processes", "ps -C uswitch -o stat= | sed '/Z/d' | wc -l"),
];

impl HostSnapshot {
    /// Takes a snapshot of a host.
    pub fn of(host: &Host) -> HostSnapshot {
        let list = |&(kind, script)| {
            let done = host.sh(script);
            assert!(done.succeeded() && done.stderr.is_empty(), "cannot list the {kind}: {done}");
            (kind, done.stdout)
        };
        HostSnapshot(KINDS.iter().map(list).collect())
    }

    /// The objects of one kind.
    pub fn of_kind(&self, kind: &str) -> &str {
        &self.0[kind]
    }

    /// Panics with the difference if the host is not in the same state now.
    #[track_caller]
    pub fn assert_same(&self, host: &Host) {
        let now = HostSnapshot::of(host);
        for (kind, before) in &self.0 {
            let after = &now.0[kind];
            let missing = |from: &str, other: &str| -> Vec<String> {
                from.lines().filter(|line| !other.lines().any(|o| o == *line)).map(str::to_owned).collect()
            };
            assert!(
                before == after,
                "{kind}: gone {:#?}, left behind {:#?}",
                missing(before, after),
                missing(after, before)
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn snapshot_changes_nothing() {
        let host = Host::new();
        HostSnapshot::of(&host).assert_same(&host);
    }

    /// Leaves one object of each kind behind.
    #[test]
    fn snapshot_shows_each_kind_of_leftover() {
        for (kind, script) in [
            ("namespaces", "ip netns add left"),
            ("links", "ip link add left type bridge"),
            ("addresses", "ip addr add 192.0.2.9/32 dev lo"),
            ("routes", "ip route add 198.51.100.0/24 dev lo"),
            ("routes", "ip -6 route add 2001:db8:9::/64 dev lo"),
            ("rules", "ip rule add from 192.0.2.0/24 table 9"),
            ("nftables", "nft add table inet left"),
            ("sysctls", "sysctl -qw net.ipv4.ip_forward=1"),
            ("sysctls", "sysctl -qw net.ipv6.conf.all.forwarding=1"),
            ("files", "touch /run/left"),
            ("mounts", "mkdir /run/left; mount -t tmpfs none /run/left"),
        ] {
            let host = Host::new();
            let before = HostSnapshot::of(&host);
            host.sh(script).ok();
            assert_ne!(HostSnapshot::of(&host).of_kind(kind), before.of_kind(kind), "{script}");
        }
    }

    #[test]
    fn snapshot_shows_a_listener() {
        let host = Host::new();
        let before = HostSnapshot::of(&host);
        let mut listener = host.spawn("socat -d -d UNIX-LISTEN:/run/left.sock STDOUT");
        listener.line_with("listening on");
        assert_ne!(HostSnapshot::of(&host).of_kind("sockets"), before.of_kind("sockets"));
    }
}
