//! Each check: as it should be, not as it should be, and the suggested fix.

use super::checks::WORKER_LOCKED_BYTES;
use super::facts::{Facts, NftState, TunState, UsernsState};
use super::{CheckState, Finding, run_checks};
use crate::control::topology::LedgerHolder;
use crate::control::topology::firewall::{DroppingChain, Hook, Tool};
use crate::control::topology::inspect::KnownSwitch;
use crate::control::topology::preflight::UsedNetwork;
use crate::sys::sandbox::RESTRICTIONS;

/// A machine on which everything works, with root as the current user.
fn healthy() -> Facts {
    Facts {
        start: "uswitch start --ports 3".into(),
        release: "6.12.48-amd64".into(),
        no_uring: None,
        io_uring_disabled: Some(0),
        tun: TunState::Open { to_all: true },
        missing_capabilities: Vec::new(),
        owns_network: true,
        userns: UsernsState::Allowed,
        nft: NftState::Works { dropping: Vec::new() },
        forwarding: [Some(1), Some(1)],
        rp_filter: [Some(0), Some(2)],
        subnets: vec!["172.16.0.0/24".parse().unwrap(), "fd00:172:16::/64".parse().unwrap()],
        taken: vec![taken("192.0.2.1/24", "lan"), taken("0.0.0.0/0", "lan")],
        devices: vec!["lo".into(), "lan".into()],
        used_names: Vec::new(),
        workers: 1,
        open_files: 1 << 20,
        locked_memory: None,
        no_packet_ports: None,
        wireless: Vec::new(),
        wmem_max: Some(4 << 20),
        landlock: true,
        no_fast_path: None,
        neighbours: 1 << 14,
        switches: Vec::new(),
    }
}

/// The same machine, with another user.
fn by_user() -> Facts {
    let missing_capabilities = vec!["CAP_NET_ADMIN", "CAP_SYS_ADMIN"];
    Facts { missing_capabilities, nft: NftState::NotQueried, ..healthy() }
}

fn taken(net: &str, device: &str) -> UsedNetwork {
    UsedNetwork { net: net.parse().unwrap(), device: device.into() }
}

fn switch(name: &str, pid: Option<u32>) -> KnownSwitch {
    KnownSwitch {
        name: name.into(),
        holder: pid.map(LedgerHolder::Process),
        containers: vec!["container1".into()],
    }
}

fn finding(facts: &Facts, check: &str) -> Finding {
    run_checks(facts).into_iter().find(|finding| finding.check == check).expect("there is such a check")
}

/// Asserts the state of a check, a part of its explanation, and the suggested command.
#[track_caller]
fn assert_finding(facts: &Facts, check: &str, (state, what, fix): (CheckState, &str, Option<&str>)) {
    let found = finding(facts, check);
    assert_eq!((found.state, found.fix.as_deref()), (state, fix), "{found:?}");
    assert!(found.what.contains(what), "no '{what}' in {found:?}");
}

/// Asserts whether a start works for the current user, and the explanation.
#[track_caller]
fn assert_start(facts: &Facts, works: bool, words: &str) {
    let found = finding(facts, "start");
    assert_eq!(found.state, if works { CheckState::Ok } else { CheckState::Problem }, "{found:?}");
    assert_eq!(found.what, format!("`uswitch start --ports 3` {words}"));
    let problems = run_checks(facts).iter().filter(|found| found.state == CheckState::Problem).count();
    assert_eq!(problems > 0, !works);
}

const EVERYWHERE: &str = "works here, as root and without root";
const AS_ROOT: &str = "works here as root, not without root";
const AS_USER: &str = "works here without root, not as root";
const NOWHERE: &str = "does not work here";

#[test]
fn healthy_machine_has_no_findings() {
    assert!(run_checks(&healthy()).iter().all(|found| found.state == CheckState::Ok && found.fix.is_none()));
    assert_start(&healthy(), true, EVERYWHERE);
    assert_start(&by_user(), true, EVERYWHERE);
    assert_finding(&by_user(), "capabilities", (CheckState::Note, "CAP_NET_ADMIN, CAP_SYS_ADMIN", None));
}

#[test]
fn root_without_network_namespace_is_a_problem() {
    let inside = Facts { owns_network: false, ..healthy() };
    assert_finding(
        &inside,
        "capabilities",
        (CheckState::Problem, "does not own this network namespace", None),
    );
    assert_start(&inside, false, AS_USER);
    assert_start(&Facts { owns_network: false, ..by_user() }, true, EVERYWHERE);
}

#[test]
fn notes_missing_kernel_features() {
    for (release, state, what) in [
        ("5.10.0-32-amd64", CheckState::Note, "older than 5.15"),
        ("5.15.0", CheckState::Note, "no UDP segmentation offload"),
        ("6.1.0-40", CheckState::Note, "no UDP segmentation offload"),
        ("6.2.16", CheckState::Note, ": no io_uring engine and no ports on existing devices (need 6.4)"),
        ("6.4.0-rc1", CheckState::Ok, "6.4.0-rc1"),
        ("7.3+", CheckState::Ok, "7.3+"),
        ("strange", CheckState::Note, "unknown version"),
    ] {
        assert_finding(&Facts { release: release.into(), ..healthy() }, "kernel", (state, what, None));
    }
}

#[test]
fn notes_forbidden_io_uring() {
    let without = |io_uring_disabled| Facts {
        no_uring: Some("it is forbidden".into()),
        io_uring_disabled,
        ..healthy()
    };
    let allow = Some("sudo sysctl kernel.io_uring_disabled=0");
    for (disabled, fix) in [(None, None), (Some(0), None), (Some(1), allow), (Some(2), allow)] {
        assert_finding(
            &without(disabled),
            "engine",
            (CheckState::Note, "poll, which is slower than io_uring: it is forbidden", fix),
        );
        assert_start(&without(disabled), true, EVERYWHERE);
    }
}

#[test]
fn checks_tun_device() {
    let (load, open) = (Some("sudo modprobe tun"), Some("sudo chmod 0666 /dev/net/tun"));
    for (tun, facts, (state, fix), words) in [
        (TunState::Missing, healthy(), (CheckState::Problem, load), NOWHERE),
        (TunState::Broken("broken".into()), by_user(), (CheckState::Problem, load), NOWHERE),
        (TunState::NoPermission, by_user(), (CheckState::Problem, open), AS_ROOT),
        (TunState::Open { to_all: false }, healthy(), (CheckState::Note, open), AS_ROOT),
        (TunState::Open { to_all: false }, by_user(), (CheckState::Ok, None), EVERYWHERE),
    ] {
        let facts = Facts { tun, ..facts };
        assert_finding(&facts, "tun", (state, "", fix));
        assert_start(&facts, state != CheckState::Problem, words);
    }
}

#[test]
fn checks_user_namespaces() {
    let [none, debian, apparmor] = RESTRICTIONS;
    for (restriction, fix) in [
        (none, "sudo sysctl user.max_user_namespaces=15000"),
        (debian, "sudo sysctl kernel.unprivileged_userns_clone=1"),
        (apparmor, "sudo sysctl kernel.apparmor_restrict_unprivileged_userns=0"),
    ] {
        let userns = UsernsState::Restricted(restriction);
        let (root, user) = (Facts { userns: userns.clone(), ..healthy() }, Facts { userns, ..by_user() });
        assert_finding(&root, "user namespaces", (CheckState::Note, restriction.sysctl, Some(fix)));
        assert_finding(&user, "user namespaces", (CheckState::Problem, restriction.meaning, Some(fix)));
        assert_start(&root, true, AS_ROOT);
        assert_start(&user, false, AS_ROOT);
    }
    let user = Facts { userns: UsernsState::Forbidden("the container forbids it".into()), ..by_user() };
    let fix = Some("sudo uswitch start --ports 3");
    assert_finding(&user, "user namespaces", (CheckState::Problem, "the container forbids it", fix));
}

#[test]
fn checks_running_and_killed_switches() {
    let with = |facts, found: KnownSwitch| Facts { switches: vec![found], ..facts };
    let running = with(healthy(), switch("uswitch0", Some(7)));
    assert_finding(&running, "switches", (CheckState::Problem, "process 7", Some("uswitch stop")));
    assert_start(&running, false, AS_USER);
    assert_start(&with(by_user(), switch("uswitch0", Some(7))), false, AS_ROOT);
    let other = with(healthy(), switch("lab", Some(7)));
    assert_finding(&other, "switches", (CheckState::Ok, "running: lab", None));
    let killed = with(healthy(), switch("lab", None));
    assert_finding(
        &killed,
        "switches",
        (CheckState::Note, "lab was killed", Some("uswitch stop --name lab")),
    );
    assert_start(&killed, true, EVERYWHERE);
}

#[test]
fn checks_used_names() {
    let taken = |switches| Facts { used_names: vec!["container1".into()], switches, ..healthy() };
    let foreign = taken(Vec::new());
    assert_finding(
        &foreign,
        "names",
        (CheckState::Problem, "container1", Some("sudo ip netns del container1")),
    );
    assert_start(&foreign, false, AS_USER);
    for (owner, state, fix) in [
        (switch("uswitch0", None), CheckState::Ok, None),
        (switch("uswitch0", Some(7)), CheckState::Problem, Some("uswitch stop --name uswitch0")),
        (switch("lab", None), CheckState::Problem, Some("uswitch stop --name lab")),
    ] {
        assert_finding(&taken(vec![owner]), "names", (state, "", fix));
    }
    let device = Facts { devices: vec!["uswitch0".into()], ..healthy() };
    assert_finding(&device, "names", (CheckState::Problem, "device", Some("sudo ip link del uswitch0")));
    let running = Facts { switches: vec![switch("uswitch0", Some(7))], ..device };
    assert_finding(&running, "names", (CheckState::Problem, "device", Some("uswitch stop")));
    assert_finding(
        &Facts { devices: vec!["uswitch0".into()], ..by_user() },
        "names",
        (CheckState::Note, "device", Some("sudo ip link del uswitch0")),
    );
}

#[test]
fn checks_used_subnets() {
    let lan = |taken, facts| Facts { taken, ..facts };
    let overlap = vec![taken("172.16.0.0/12", "lan"), taken("10.1.0.0/16", "lan")];
    let fix = Some("uswitch start --ports 3 --subnet 10.2.0.0/24 --subnet fd00:172:16::/64");
    let what = "172.16.0.0/24 overlaps 172.16.0.0/12 on this host (device lan)";
    assert_finding(&lan(overlap.clone(), healthy()), "subnets", (CheckState::Problem, what, fix));
    assert_start(&lan(overlap.clone(), healthy()), false, AS_USER);
    assert_start(&lan(overlap, by_user()), true, AS_USER);
    let v6 = vec![taken("fd00:172::/32", "lan")];
    let fix = Some("uswitch start --ports 3 --subnet 172.16.0.0/24 --subnet fd00:10:1::/64");
    assert_finding(&lan(v6, healthy()), "subnets", (CheckState::Problem, "fd00:172:16::/64", fix));
    let everything = vec![taken("172.16.0.0/12", "lan"), taken("10.0.0.0/8", "lan")];
    assert_finding(&lan(everything, healthy()), "subnets", (CheckState::Problem, what, None));
    let own = vec![taken("172.16.0.1/24", "uswitch0")];
    let running = Facts { switches: vec![switch("uswitch0", Some(7))], ..lan(own, healthy()) };
    assert_finding(&running, "subnets", (CheckState::Problem, "uswitch0", Some("uswitch stop")));
    let fix = Some("uswitch start --ports 3 --subnet 10.1.0.0/24 --subnet fd00:172:16::/64");
    let foreign = Facts { switches: Vec::new(), ..running };
    assert_finding(&foreign, "subnets", (CheckState::Problem, "(device uswitch0)", fix));
    let elsewhere = lan(vec![taken("172.16.0.9/24", "lan")], healthy());
    let running = Facts { switches: vec![switch("uswitch0", Some(7))], ..elsewhere };
    assert_finding(&running, "subnets", (CheckState::Problem, "(device lan)", fix));
}

#[test]
fn suggests_free_subnets() {
    for (subnets, fix) in [
        // Neither the same subnet twice nor one that is configured already.
        (["172.16.0.0/24", "172.17.0.0/24"], "--subnet 10.1.0.0/24 --subnet 10.2.0.0/24"),
        (["172.16.0.0/24", "10.1.0.0/24"], "--subnet 10.2.0.0/24 --subnet 10.1.0.0/24"),
        // A subnet of the same size, aligned to it.
        (["172.16.0.0/12", "fd00::/64"], "--subnet 10.16.0.0/12 --subnet fd00::/64"),
    ] {
        let subnets = subnets.map(|subnet| subnet.parse().unwrap()).into();
        let facts = Facts { subnets, taken: vec![taken("172.16.0.0/12", "lan")], ..healthy() };
        let fix = format!("uswitch start --ports 3 {fix}");
        assert_finding(&facts, "subnets", (CheckState::Problem, "(device lan)", Some(&fix)));
    }
}

#[test]
fn checks_nat_requirements() {
    let with = |nft| Facts { nft, ..healthy() };
    let without = with(NftState::Missing);
    assert_finding(&without, "nft", (CheckState::Note, "--nat", Some("sudo apt install nftables")));
    assert_finding(&without, "firewall", (CheckState::Ok, "not checked", None));
    let off = Facts { forwarding: [Some(0), None], ..healthy() };
    assert_finding(&off, "forwarding", (CheckState::Ok, "IPv4 off, IPv6 not available", None));
    assert_finding(&by_user(), "nft", (CheckState::Ok, "installed", None));
    assert_finding(&by_user(), "firewall", (CheckState::Ok, "not checked", None));
    let broken = with(NftState::Broken("nft failed: it may not".into()));
    assert_finding(&broken, "nft", (CheckState::Note, "--nat does not work: nft failed: it may not", None));
    assert_finding(&broken, "firewall", (CheckState::Ok, "not checked", None));
    let chain = |tool, hook, name: &str| DroppingChain { tool, hook, name: name.to_owned() };
    let docker =
        with(NftState::Works { dropping: vec![chain(Tool::Nft, Hook::Forward, "ip filter FORWARD")] });
    let fix = "sudo sh -c 'nft insert rule ip filter FORWARD iifname uswitch0 accept; \
               nft insert rule ip filter FORWARD oifname uswitch0 accept'";
    let what = "drops forwarded packets by default (chain ip filter FORWARD)";
    assert_finding(&docker, "firewall", (CheckState::Note, what, Some(fix)));
    let input = with(NftState::Works { dropping: vec![chain(Tool::IptablesLegacy, Hook::Input, "INPUT")] });
    let fix = "sudo sh -c 'iptables-legacy -I INPUT -i uswitch0 -j ACCEPT'";
    let what = "drops packets to the host by default (chain iptables-legacy INPUT)";
    assert_finding(&input, "firewall", (CheckState::Note, what, Some(fix)));
    for facts in [without, off, broken, docker, input] {
        assert_start(&facts, true, EVERYWHERE);
    }
    let loosen = Some("sudo sysctl net.ipv4.conf.all.rp_filter=2");
    for (rp_filter, state, fix) in [
        ([Some(1), Some(0)], CheckState::Note, loosen),
        ([Some(0), Some(1)], CheckState::Note, loosen),
        ([Some(2), Some(1)], CheckState::Ok, None),
        ([None, None], CheckState::Ok, None),
    ] {
        assert_finding(&Facts { rp_filter, ..healthy() }, "rp_filter", (state, "strict", fix));
    }
}

#[test]
fn checks_limits() {
    for (open_files, state, what, fix) in [
        (8319, CheckState::Ok, "4095", None),
        (8318, CheckState::Note, "4094 ports", Some("sudo prlimit --pid $$ --nofile=8319")),
        (1024, CheckState::Note, "447 ports", Some("sudo prlimit --pid $$ --nofile=8319")),
        (135, CheckState::Note, "3 ports", Some("sudo prlimit --pid $$ --nofile=8319")),
        (134, CheckState::Problem, "too low", Some("sudo prlimit --pid $$ --nofile=135")),
    ] {
        assert_finding(&Facts { open_files, ..healthy() }, "open files", (state, what, fix));
    }
    let two_workers = Facts { open_files: 138, workers: 2, ..healthy() };
    let fix = Some("sudo prlimit --pid $$ --nofile=139");
    assert_finding(&two_workers, "open files", (CheckState::Problem, "too low", fix));
    for (limit, state, what, fix) in [
        (2 * WORKER_LOCKED_BYTES, CheckState::Ok, "workers: 2", None),
        (WORKER_LOCKED_BYTES, CheckState::Ok, "workers: 1", None),
        (64 << 10, CheckState::Note, "64 KiB", Some("sudo prlimit --pid $$ --memlock=6805504")),
    ] {
        assert_finding(
            &Facts { locked_memory: Some(limit), ..healthy() },
            "locked memory",
            (state, what, fix),
        );
    }
}

#[test]
fn checks_requirements_of_device_and_socket_ports() {
    let why = "it needs CAP_NET_RAW";
    let without = Facts { no_packet_ports: Some(why.into()), ..healthy() };
    assert_finding(&without, "device ports", (CheckState::Note, why, None));
    assert_finding(&by_user(), "device ports", (CheckState::Ok, "of the sandbox", None));
    let with_wifi = Facts { wireless: vec!["wlan0".into()], ..healthy() };
    assert_finding(&with_wifi, "device ports", (CheckState::Ok, "wlan0 with --uplink-mode ipvlan", None));
    let small = |facts| Facts { wmem_max: Some(208 << 10), ..facts };
    let fix = Some("sudo sysctl net.core.wmem_max=4194304");
    assert_finding(&small(by_user()), "socket ports", (CheckState::Note, "only 208 KiB", fix));
    // The limit is not one for root.
    assert_finding(&small(healthy()), "socket ports", (CheckState::Ok, "4096 KiB", None));
    for facts in [without, small(by_user())] {
        assert_start(&facts, true, EVERYWHERE);
    }
}

#[test]
fn fast_path_is_optional() {
    let why = "cannot create a BPF map: Operation not permitted (os error 1)\nlog";
    let without = Facts { no_fast_path: Some(why.to_owned()), ..healthy() };
    let said = "not here, so all frames cross user space: cannot create a BPF map: Operation not permitted (os error 1)";
    assert_finding(&without, "fast path", (CheckState::Note, said, None));
}

#[test]
fn landlock_is_optional() {
    let without = Facts { landlock: false, ..healthy() };
    assert_finding(&without, "landlock", (CheckState::Note, "seccomp confines the workers", None));
    assert_start(&without, true, EVERYWHERE);
}

#[test]
fn checks_neighbour_table_limit() {
    let fix = "sudo sysctl net.ipv4.neigh.default.gc_thresh3=16384 net.ipv6.neigh.default.gc_thresh3=16384";
    for (neighbours, state, what, fix) in [
        (
            1024,
            CheckState::Note,
            "1024 entries on the whole machine are enough for 512 active ports",
            Some(fix),
        ),
        (8189, CheckState::Note, "4094", Some(fix)),
        (8190, CheckState::Ok, "enough for all 4095 ports", None),
    ] {
        assert_finding(&Facts { neighbours, ..healthy() }, "neighbour tables", (state, what, fix));
    }
}
