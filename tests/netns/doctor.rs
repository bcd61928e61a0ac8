//! `uswitch doctor` predicts whether a start works, and changes nothing.

use std::fs;

use serde_json::Value;

use crate::harness::{
    CommandOutput, Host, HostSnapshot, Shell, host_with_public_tun, run_as_user, wait_until,
};
use crate::lifecycle::{LAN, WITHOUT_NFT};

/// One finding of `doctor --json`.
#[track_caller]
fn finding(doctor: &CommandOutput, check: &str) -> Value {
    let all: Vec<Value> =
        serde_json::from_str(&doctor.stdout).unwrap_or_else(|error| panic!("{error}: {doctor}"));
    all.into_iter().find(|finding| finding["check"] == check).unwrap_or_else(|| panic!("no {check}"))
}

#[test]
fn reports_healthy_machine() {
    let host = host_with_public_tun();
    let before = HostSnapshot::of(&host);
    let said = host.run("uswitch doctor").ok();
    assert!(!said.contains("problem") && !said.contains('\x1b'), "{said}");
    let release = host.run("uname -r").ok();
    assert!(said.contains(&format!("Linux {}", release.trim())), "{said}");
    let last = said.lines().last().unwrap_or_default();
    assert!(last.starts_with("ok ") && last.contains("works here, as root and without root"), "{said}");
    before.assert_same(&host);
    host.run("uswitch start --detach --ports 3").ok();
    let running = host.run("uswitch doctor");
    assert!(running.stdout.contains("fix: uswitch stop\n"), "{}", running.stdout);
    running.fails();
    host.run("uswitch stop").ok();
    host.run("uswitch doctor").ok();
}

/// The start with the suggested subnet works.
#[test]
fn reports_overlapping_route() {
    let host = Host::new();
    host.sh(LAN).ok();
    host.run("ip -6 route add fd00:172:16::/64 dev lan").ok();
    let doctor = host.run("uswitch doctor --json");
    let subnets = finding(&doctor, "subnets");
    assert_eq!(subnets["state"], "problem", "{subnets}");
    assert_eq!(finding(&doctor, "start")["state"], "problem");
    doctor.fails();
    let fix = subnets["fix"].as_str().expect("there is another subnet");
    host.run("uswitch doctor --subnet 172.16.0.0/24").ok();
    host.run(&format!("{fix} --detach")).ok();
}

#[test]
fn reports_missing_nft() {
    let host = Host::new();
    host.sh(WITHOUT_NFT).ok();
    let doctor = host.run("unshare --mount sh -eu /run/without-nft uswitch doctor --json");
    let nft = finding(&doctor, "nft");
    assert_eq!((&nft["state"], &nft["fix"]), (&"note".into(), &"sudo apt install nftables".into()));
    doctor.ok();
}

#[test]
fn reports_firewall_with_drop_policy() {
    let host = Host::new();
    host.run("nft add table inet strict").ok();
    host.sh("nft 'add chain inet strict forward { type filter hook forward priority filter; policy drop; }'")
        .ok();
    let state = || finding(&host.run("uswitch doctor --json"), "firewall")["state"].clone();
    // As iptables-nft writes them, in the chain that Docker provides for users.
    host.run("nft add chain inet strict DOCKER-USER").ok();
    host.run("nft add rule inet strict DOCKER-USER iifname uswitch0 counter accept").ok();
    host.run("nft add rule inet strict DOCKER-USER oifname uswitch1 counter accept").ok();
    host.run("nft add rule inet strict DOCKER-USER oifname uswitch0 counter drop").ok();
    host.sh("nft 'add table ip other; add chain ip other forward; add rule ip other forward oifname uswitch0 accept'")
        .ok();
    assert_eq!(state(), "note", "one direction is not enough");
    host.run("nft add rule inet strict DOCKER-USER oifname uswitch0 counter accept").ok();
    assert_eq!(state(), "ok");
    host.run("nft flush chain inet strict DOCKER-USER").ok();
    fix_works(&host, "firewall", "note");
    let rules = host.run("nft list chain inet strict forward").ok();
    assert!(
        rules.contains("iifname \"uswitch0\" accept") && rules.contains("oifname \"uswitch0\" accept"),
        "{rules}"
    );
}

/// Like firewalld: the policy is accept, and the last rule rejects the rest.
#[test]
fn reports_firewall_with_final_reject_rule() {
    let host = Host::new();
    host.run("nft add table inet firewalld").ok();
    host.sh("nft 'add chain inet firewalld filter_FORWARD { type filter hook forward priority filter + 10; policy accept; }'")
        .ok();
    host.run("nft add rule inet firewalld filter_FORWARD iifname other0 drop").ok();
    host.run("nft add chain inet firewalld elsewhere").ok();
    host.run("nft add rule inet firewalld elsewhere drop").ok();
    let found = finding(&host.run("uswitch doctor --json"), "firewall");
    assert_eq!(found["state"], "ok", "neither rule drops all forwarded packets: {found}");
    host.sh("nft add rule inet firewalld filter_FORWARD counter reject with icmpx admin-prohibited").ok();
    fix_works(&host, "firewall", "note");
}

/// Runs the suggested command and checks again.
#[track_caller]
fn fix_works(host: &Host, check: &str, state: &str) {
    let found = finding(&host.run("uswitch doctor --json"), check);
    assert_eq!(found["state"], state, "{found}");
    let fix = found["fix"].as_str().and_then(|fix| fix.strip_prefix("sudo ")).expect("a command");
    host.sh(fix).ok();
    let found = finding(&host.run("uswitch doctor --json"), check);
    assert_eq!((&found["state"], &found["fix"]), (&"ok".into(), &Value::Null), "{found}");
}

#[test]
fn suggested_commands_work() {
    let host = Host::new();
    for rp_filter in ["all", "default"] {
        host.run("sysctl -q -w net.ipv4.conf.all.rp_filter=0").ok();
        host.run(&format!("sysctl -q -w net.ipv4.conf.{rp_filter}.rp_filter=1")).ok();
        fix_works(&host, "rp_filter", "note");
    }
    host.run("ip netns add container2").ok();
    fix_works(&host, "names", "problem");
    host.run("ip tuntap add dev uswitch0 mode tap").ok();
    fix_works(&host, "names", "problem");
    let few = "ulimit -n 100; uswitch doctor --json";
    let files = finding(&host.sh(&format!("{few} || true")), "open files");
    assert_eq!(files["state"], "problem", "{files}");
    let fix = files["fix"].as_str().and_then(|fix| fix.strip_prefix("sudo ")).expect("a command");
    // Raising the hard limit needs CAP_SYS_RESOURCE, which root does not have in every container.
    host.sh(&format!("{fix}; uswitch doctor; uswitch start --detach --ports 3")).ok();
}

#[test]
fn reports_forwarding() {
    let host = Host::new();
    for (v4, v6, what) in
        [(0, 0, "IPv4 off, IPv6 off;"), (1, 0, "IPv4 on, IPv6 off;"), (0, 1, "IPv4 off, IPv6 on;")]
    {
        host.run(&format!("sysctl -q -w net.ipv4.ip_forward={v4} net.ipv6.conf.all.forwarding={v6}")).ok();
        let found = finding(&host.run("uswitch doctor --json"), "forwarding");
        assert!(
            found["state"] == "ok" && found["what"].as_str().is_some_and(|it| it.starts_with(what)),
            "{found}"
        );
    }
}

/// nft is installed and fails. A start with --nat reports the same error.
#[test]
fn reports_failing_nft() {
    let host = Host::new();
    host.sh("printf '#!/bin/sh\ncat > /dev/null; echo no rights >&2; exit 1\n' > /run/bin/nft; chmod 755 /run/bin/nft")
        .ok();
    let doctor = host.run("uswitch doctor --json");
    let nft = finding(&doctor, "nft");
    assert_eq!(
        (&nft["state"], &nft["what"]),
        (&"note".into(), &"--nat does not work: nft failed: no rights".into())
    );
    assert_eq!(finding(&doctor, "firewall")["what"], "not checked: needs root and nft");
    doctor.ok();
    let said = host.run("uswitch start --detach --ports 1 --nat").fails();
    assert!(said.contains("no rights") && said.contains("uswitch: nft failed"), "{said}");
}

#[test]
fn reports_for_user_without_root() {
    let host = host_with_public_tun();
    let before = HostSnapshot::of(&host);
    let doctor = run_as_user(&host, "uswitch doctor --json");
    assert_eq!(finding(&doctor, "capabilities")["state"], "note");
    assert_eq!(finding(&doctor, "start")["state"], "ok");
    doctor.ok();
    let little = run_as_user(&host, "prlimit --memlock=65536 uswitch doctor --json");
    assert_eq!(finding(&little, "locked memory")["state"], "note");
    before.assert_same(&host);
    assert_eq!(finding(&little, "firewall")["what"], "not checked: needs root and nft");
    host.run("chmod 0600 /dev/net/tun").ok();
    let closed = finding(&host.run("uswitch doctor --json"), "tun");
    assert_eq!((&closed["state"], &closed["fix"]), (&"note".into(), &"sudo chmod 0666 /dev/net/tun".into()));
    let doctor = run_as_user(&host, "uswitch doctor --json");
    let tun = finding(&doctor, "tun");
    assert_eq!((&tun["state"], &tun["fix"]), (&"problem".into(), &"sudo chmod 0666 /dev/net/tun".into()));
    doctor.fails();
    run_as_user(&host, "uswitch start --detach --ports 3").fails();
}

/// A process in a chroot(2) cannot make a user namespace. No setting shows this, only the attempt does.
#[test]
fn reports_forbidden_user_namespaces() {
    let host = host_with_public_tun();
    host.sh("mkdir /run/root; mount --rbind / /run/root").ok();
    let doctor = host.run("chroot --userspec=65534:65534 /run/root uswitch doctor --json");
    let userns = finding(&doctor, "user namespaces");
    assert_eq!(
        (&userns["state"], &userns["fix"]),
        (&"problem".into(), &"sudo uswitch start --ports 3".into())
    );
    doctor.fails();
}

/// Root of a user namespace that does not own the network namespace.
#[test]
fn reports_root_without_network_namespace() {
    let host = Host::new();
    let doctor = host.run("unshare --user --map-root-user uswitch doctor --json");
    assert_eq!(finding(&doctor, "capabilities")["state"], "problem");
    doctor.fails();
    host.run("unshare --user --map-root-user uswitch start --detach --ports 3").fails();
}

#[test]
fn reports_forbidden_io_uring() {
    let host = Host::new();
    fs::write(host.path("/run/no_io_uring.py"), include_str!("harness/no_io_uring.py"))
        .expect("the host's /run can be written");
    let doctor = host.run("python3 /run/no_io_uring.py uswitch doctor --json");
    let engine = finding(&doctor, "engine");
    assert_eq!(engine["state"], "note", "{engine}");
    assert!(
        engine["what"].as_str().is_some_and(|what| what.contains("poll") && what.contains("forbidden")),
        "{engine}"
    );
    doctor.ok();
    // The setting exists since Linux 6.6. A bind mount keeps the machine's own value unchanged.
    const SETTING: &str = "/proc/sys/kernel/io_uring_disabled";
    if !host.run(&format!("test -e {SETTING}")).succeeded() {
        return;
    }
    host.sh(&format!("echo 2 > /run/two; mount --bind /run/two {SETTING}")).ok();
    let doctor = host.run("python3 /run/no_io_uring.py uswitch doctor --json");
    assert_eq!(finding(&doctor, "engine")["fix"], "sudo sysctl kernel.io_uring_disabled=0");
}

/// Kernels that count the queues of io_uring as locked memory refuse it. Others only cannot register the buffers.
#[test]
fn reports_too_low_limit_of_locked_memory() {
    let host = Host::new();
    let few = "prlimit --memlock=0 setpriv --bounding-set -ipc_lock --inh-caps -ipc_lock";
    let doctor = host.run(&format!("{few} uswitch doctor --json"));
    assert!(finding(&doctor, "locked memory")["fix"].to_string().contains("--memlock="), "{doctor}");
    let engine = finding(&doctor, "engine");
    let what = engine["what"].to_string();
    if engine["state"] == "note" {
        assert!(what.contains("the limit of 0 KiB") && what.contains("`ulimit -l`"), "{what}");
        let said = host.run(&format!("{few} uswitch start --engine uring")).fails();
        assert!(said.contains("`ulimit -l`") && said.trim().lines().count() == 1, "{said}");
    }
    assert!(!what.contains("io_uring_disabled") && !what.contains("seccomp"), "{what}");
}

#[test]
fn reports_missing_tun_device() {
    let host = host_with_public_tun();
    host.run("rm /dev/net/tun").ok();
    for doctor in [host.run("uswitch doctor --json"), run_as_user(&host, "uswitch doctor --json")] {
        let tun = finding(&doctor, "tun");
        assert_eq!((&tun["state"], &tun["fix"]), (&"problem".into(), &"sudo modprobe tun".into()));
        assert_eq!(tun["what"], "/dev/net/tun does not exist");
        doctor.fails();
    }
}

/// What a killed switch left is reported and is not a problem, because the next start removes it.
#[test]
fn reports_killed_switch() {
    let host = Host::new();
    host.run("uswitch start --detach --ports 3").ok();
    let pid = host.run("uswitch status --json").json()["pid"].clone();
    host.run(&format!("kill -9 {pid}")).ok();
    wait_until("its device is gone", || !host.run("ip link show uswitch0").succeeded());
    wait_until("its ledger is free", || host.run("flock -n /run/uswitch/uswitch0.ledger true").succeeded());
    let doctor = host.run("uswitch doctor --json");
    let switches = finding(&doctor, "switches");
    assert_eq!(
        (&switches["state"], &switches["fix"]),
        (&"note".into(), &"uswitch stop --name uswitch0".into())
    );
    doctor.ok();
    host.run("uswitch stop").ok();
    assert_eq!(finding(&host.run("uswitch doctor --json"), "switches")["state"], "ok");
}
