//! MAC addresses: another prefix for each switch and machine, kept for the next start.

use std::collections::BTreeSet;

use crate::harness::{Host, HostSnapshot, Shell, host_with_public_tun, run_as_user};

const FILE: &str = "/var/lib/uswitch/uswitch0.mac-prefix";

/// The MAC prefix of the switch that is started with these arguments and stopped again.
fn prefix_of(host: &Host, arguments: &str) -> String {
    let (said, prefix) = start_and_stop(host, arguments);
    assert_eq!(said, "");
    prefix
}

/// What the start says on standard error, and the MAC prefix.
fn start_and_stop(host: &Host, arguments: &str) -> (String, String) {
    let started = host.run(&format!("uswitch start --detach {arguments}"));
    let said = started.stderr.clone();
    let listed = started.ok();
    let name = arguments.split_whitespace().skip_while(|word| *word != "--name").nth(1).unwrap_or("uswitch0");
    let status = host.run(&format!("uswitch status --name {name} --json")).json();
    let prefix = status["mac_prefix"].as_str().expect("a text").to_owned();
    for number in 0..3 {
        assert!(listed.contains(&format!(" {prefix}:00:0{number} ")), "{prefix}: {listed}");
    }
    host.run(&format!("uswitch stop --name {name}")).ok();
    (said, prefix)
}

#[test]
fn mac_addresses_are_the_same_after_a_restart() {
    let host = Host::new();
    let first = prefix_of(&host, "");
    assert_eq!(prefix_of(&host, "--ports 5"), first);
    host.run("uswitch start --detach").ok();
    host.sh("kill -9 $(pgrep -x uswitch)").ok();
    host.run("uswitch stop").ok();
    assert_eq!(prefix_of(&host, ""), first);
    assert_eq!(host.run(&format!("cat {FILE}")).ok().trim(), first);
    let found = host.sh("stat -c '%a %n' /var/lib/uswitch /var/lib/uswitch/*").ok();
    assert_eq!(found, format!("700 /var/lib/uswitch\n600 {FILE}\n"));
}

#[test]
fn mac_addresses_differ_between_machines_and_switches() {
    let hosts: [Host; 2] = std::array::from_fn(|_| Host::new());
    let all = hosts.iter().flat_map(|host| ["", "--name lan2"].map(|arguments| prefix_of(host, arguments)));
    let all: BTreeSet<String> = all.collect();
    assert_eq!(all.len(), 4, "{all:?}");
}

/// Starts a switch in namespaces that share only `/var/lib` with the host, prints its state, and stops it.
const IN_CONTAINER: &str = "
touch /mnt/uswitch
mount --bind /run/bin/uswitch /mnt/uswitch
unshare --net --mount sh -euc '
    mount -t tmpfs -o mode=755 none /run
    ip link set lo up
    /mnt/uswitch start --detach > /run/output
    /mnt/uswitch status --json
    /mnt/uswitch stop > /run/output'";

#[test]
fn running_switches_of_one_name_have_different_mac_addresses() {
    let host = Host::new();
    host.run("mount -t tmpfs none /mnt").ok();
    host.run("uswitch start --detach").ok();
    let kept = host.run("uswitch status --json").json()["mac_prefix"].clone();
    let second = host.sh(IN_CONTAINER);
    let said = second.stderr.clone();
    let prefix = second.json()["mac_prefix"].clone();
    assert_ne!(prefix, kept);
    assert!(said.contains(&format!("another running switch uses {FILE}")), "{said}");
    assert!(said.trim().ends_with(prefix.as_str().expect("a text")) && said.lines().count() == 1, "{said}");
    host.run("uswitch stop").ok();
    assert_eq!(host.sh(IN_CONTAINER).json()["mac_prefix"], kept);
}

#[test]
fn mac_prefix_can_be_chosen() {
    let host = Host::new();
    assert_eq!(prefix_of(&host, "--mac-prefix 52-00-5E-10"), "52:00:5e:10");
    host.run("ls /var/lib/uswitch").fails();
    let said = host.run("uswitch start --mac-prefix 01:00:5e:10").fails();
    assert!(said.contains("--mac-prefix: '01:00:5e:10' is not a prefix"), "{said}");
}

/// The start succeeds, and one line says that the addresses are not kept.
#[test]
fn unusable_state_directory_is_reported() {
    for (script, why) in [
        ("mount -t tmpfs -o ro none /var/lib", "cannot create /var/lib/uswitch: Read-only file system"),
        (
            "mkdir /var/lib/uswitch; mount -t tmpfs -o size=4k none /var/lib/uswitch
             head -c 4096 /dev/zero > /var/lib/uswitch/fill",
            "uswitch0.mac-prefix: No space left on device",
        ),
        ("touch /var/lib/uswitch", "Not a directory"),
        ("mkdir -p /var/lib/uswitch/uswitch0.mac-prefix", "Is a directory"),
        (
            "mkdir /var/lib/uswitch; ln -s /etc/hostname /var/lib/uswitch/uswitch0.mac-prefix",
            "symbolic links",
        ),
    ] {
        let host = Host::new();
        host.sh(script).ok();
        let before = (HostSnapshot::of(&host), host.run("find /var/lib").ok());
        let (said, first) = start_and_stop(&host, "");
        assert!(said.contains(why) && said.trim().lines().count() == 1, "{script}: {said}");
        assert!(said.ends_with(&format!("--mac-prefix {first}\n")), "{said}");
        assert_ne!(start_and_stop(&host, "").1, first, "{script}");
        before.0.assert_same(&host);
        assert_eq!(host.run("find /var/lib").ok(), before.1);
    }
}

/// An empty or torn file, as after a power failure.
#[test]
fn invalid_kept_mac_prefix_is_replaced() {
    let host = Host::new();
    for content in ["", "02:de:a", "01:00:5e:00"] {
        host.sh(&format!("mkdir -p /var/lib/uswitch; printf '{content}' > {FILE}")).ok();
        let first = prefix_of(&host, "");
        assert_eq!(prefix_of(&host, ""), first);
    }
}

#[test]
fn mac_prefix_is_kept_without_root() {
    let host = host_with_public_tun();
    let prefix = || {
        run_as_user(&host, "uswitch start --detach").ok();
        let status = run_as_user(&host, "uswitch status --json").json();
        run_as_user(&host, "uswitch stop").ok();
        status["mac_prefix"].clone()
    };
    let first = prefix();
    assert_eq!(prefix(), first);
    let file = host.run("find /var/lib/nobody -type f -printf %p:%m:%U").ok();
    assert_eq!(file, "/var/lib/nobody/.local/state/uswitch/uswitch0.mac-prefix:600:65534");
    let nowhere = run_as_user(&host, "env -u HOME uswitch start --detach");
    assert!(nowhere.stderr.contains("neither XDG_STATE_HOME nor HOME is set"), "{}", nowhere.stderr);
    run_as_user(&host, "uswitch stop").ok();
}
