//! Each judgement: works, does not, and what mends it.

use super::facts::{Facts, Nft, Tun, Userns};
use super::judge::PINNED;
use super::{Finding, State, examine};
use crate::control::topology::preflight::Taken;
use crate::control::topology::survey::Found;
use crate::sys::sandbox::RESTRICTIONS;

/// A machine on which everything works, asked about by root.
fn healthy() -> Facts {
    Facts {
        start: "uswitch start --ports 3".into(),
        release: "6.12.48-amd64".into(),
        no_uring: None,
        io_uring_disabled: Some(0),
        tun: Tun::Open { to_all: true },
        missing_capabilities: Vec::new(),
        owns_network: true,
        userns: Userns::Allowed,
        nft: Nft::Works { dropping_chain: None },
        forwarding: [Some(1), Some(1)],
        rp_filter: [Some(0), Some(2)],
        subnets: vec!["172.16.0.0/24".parse().unwrap(), "fd00:172:16::/64".parse().unwrap()],
        taken: vec![taken("192.0.2.1/24", "lan"), taken("0.0.0.0/0", "lan")],
        devices: vec!["lo".into(), "lan".into()],
        taken_names: Vec::new(),
        workers: 1,
        open_files: 1 << 20,
        locked_memory: None,
        switches: Vec::new(),
    }
}

/// The same, asked about by somebody else.
fn by_user() -> Facts {
    let missing_capabilities = vec!["CAP_NET_ADMIN", "CAP_SYS_ADMIN"];
    Facts { missing_capabilities, nft: Nft::Unasked, ..healthy() }
}

fn taken(net: &str, device: &str) -> Taken {
    Taken { net: net.parse().unwrap(), device: device.into() }
}

fn switch(name: &str, pid: Option<u32>) -> Found {
    Found { name: name.into(), pid, containers: vec!["container1".into()] }
}

fn finding(facts: &Facts, check: &str) -> Finding {
    examine(facts).into_iter().find(|finding| finding.check == check).expect("all are judged")
}

/// A check comes to that: its state, words of what it says, the command.
#[track_caller]
fn comes_to(facts: &Facts, check: &str, (state, what, mend): (State, &str, Option<&str>)) {
    let found = finding(facts, check);
    assert_eq!((found.state, found.mend.as_deref()), (state, mend), "{found:?}");
    assert!(found.what.contains(what), "no '{what}' in {found:?}");
}

/// Whether a start works: for who asks, and in words.
#[track_caller]
fn start(facts: &Facts, works: bool, words: &str) {
    let found = finding(facts, "start");
    assert_eq!(found.state, if works { State::Ok } else { State::Problem }, "{found:?}");
    assert_eq!(found.what, format!("`uswitch start --ports 3` {words}"));
    let problems = examine(facts).iter().filter(|found| found.state == State::Problem).count();
    assert_eq!(problems > 0, !works);
}

const EVERYWHERE: &str = "works here, as root and without root";
const AS_ROOT: &str = "works here as root, not without root";
const AS_USER: &str = "works here without root, not as root";
const NOWHERE: &str = "does not work here";

#[test]
fn all_is_well_on_a_healthy_machine() {
    assert!(examine(&healthy()).iter().all(|found| found.state == State::Ok && found.mend.is_none()));
    start(&healthy(), true, EVERYWHERE);
    start(&by_user(), true, EVERYWHERE);
    comes_to(&by_user(), "capabilities", (State::Note, "CAP_NET_ADMIN, CAP_SYS_ADMIN", None));
}

#[test]
fn root_of_another_network() {
    let inside = Facts { owns_network: false, ..healthy() };
    comes_to(&inside, "capabilities", (State::Problem, "does not own this network", None));
    start(&inside, false, AS_USER);
    start(&Facts { owns_network: false, ..by_user() }, true, EVERYWHERE);
}

#[test]
fn kernels() {
    for (release, state, what) in [
        ("5.10.0-32-amd64", State::Note, "older than 5.15"),
        ("5.15.0", State::Note, "large UDP"),
        ("6.1.0-40", State::Note, "large UDP"),
        ("6.2.16", State::Note, ": no io_uring: "),
        ("6.4.0-rc1", State::Ok, "6.4.0-rc1"),
        ("7.3+", State::Ok, "7.3+"),
        ("strange", State::Note, "says nothing"),
    ] {
        comes_to(&Facts { release: release.into(), ..healthy() }, "kernel", (state, what, None));
    }
}

#[test]
fn engines() {
    let without = |io_uring_disabled| Facts {
        no_uring: Some("it is forbidden".into()),
        io_uring_disabled,
        ..healthy()
    };
    let allow = Some("sudo sysctl kernel.io_uring_disabled=0");
    for (disabled, mend) in [(None, None), (Some(0), None), (Some(1), allow), (Some(2), allow)] {
        comes_to(&without(disabled), "engine", (State::Note, "poll, which is slower: it is forbidden", mend));
        start(&without(disabled), true, EVERYWHERE);
    }
}

#[test]
fn the_tun_device() {
    let (load, open) = (Some("sudo modprobe tun"), Some("sudo chmod 0666 /dev/net/tun"));
    for (tun, facts, (state, mend), words) in [
        (Tun::Missing, healthy(), (State::Problem, load), NOWHERE),
        (Tun::Broken("broken".into()), by_user(), (State::Problem, load), NOWHERE),
        (Tun::Closed, by_user(), (State::Problem, open), AS_ROOT),
        (Tun::Open { to_all: false }, healthy(), (State::Note, open), AS_ROOT),
        (Tun::Open { to_all: false }, by_user(), (State::Ok, None), EVERYWHERE),
    ] {
        let facts = Facts { tun, ..facts };
        comes_to(&facts, "tun", (state, "", mend));
        start(&facts, state != State::Problem, words);
    }
}

#[test]
fn user_namespaces() {
    let [none, debian, apparmor] = RESTRICTIONS;
    for (restriction, mend) in [
        (none, "sudo sysctl user.max_user_namespaces=15000"),
        (debian, "sudo sysctl kernel.unprivileged_userns_clone=1"),
        (apparmor, "sudo sysctl kernel.apparmor_restrict_unprivileged_userns=0"),
    ] {
        let userns = Userns::Restricted(restriction);
        let (root, user) = (Facts { userns: userns.clone(), ..healthy() }, Facts { userns, ..by_user() });
        comes_to(&root, "user namespaces", (State::Note, restriction.sysctl, Some(mend)));
        comes_to(&user, "user namespaces", (State::Problem, restriction.meaning, Some(mend)));
        start(&root, true, AS_ROOT);
        start(&user, false, AS_ROOT);
    }
    let user = Facts { userns: Userns::Forbidden("the container forbids it".into()), ..by_user() };
    let mend = Some("sudo uswitch start --ports 3");
    comes_to(&user, "user namespaces", (State::Problem, "the container forbids it", mend));
}

#[test]
fn switches_that_run_and_that_were_killed() {
    let with = |facts, found: Found| Facts { switches: vec![found], ..facts };
    let running = with(healthy(), switch("uswitch0", Some(7)));
    comes_to(&running, "switches", (State::Problem, "process 7", Some("uswitch stop")));
    start(&running, false, AS_USER);
    start(&with(by_user(), switch("uswitch0", Some(7))), false, AS_ROOT);
    let other = with(healthy(), switch("lab", Some(7)));
    comes_to(&other, "switches", (State::Ok, "running: lab", None));
    let killed = with(healthy(), switch("lab", None));
    comes_to(&killed, "switches", (State::Note, "lab was killed", Some("uswitch stop lab")));
    start(&killed, true, EVERYWHERE);
}

#[test]
fn names_that_are_taken() {
    let taken = |switches| Facts { taken_names: vec!["container1".into()], switches, ..healthy() };
    let somebodys = taken(Vec::new());
    comes_to(&somebodys, "names", (State::Problem, "container1", Some("sudo ip netns del container1")));
    start(&somebodys, false, AS_USER);
    for (owner, state, mend) in [
        (switch("uswitch0", None), State::Ok, None),
        (switch("uswitch0", Some(7)), State::Problem, Some("uswitch stop uswitch0")),
        (switch("lab", None), State::Problem, Some("uswitch stop lab")),
    ] {
        comes_to(&taken(vec![owner]), "names", (state, "", mend));
    }
    let device = Facts { devices: vec!["uswitch0".into()], ..healthy() };
    comes_to(&device, "names", (State::Problem, "device", Some("sudo ip link del uswitch0")));
    let running = Facts { switches: vec![switch("uswitch0", Some(7))], ..device };
    comes_to(&running, "names", (State::Problem, "device", Some("uswitch stop")));
    comes_to(
        &Facts { devices: vec!["uswitch0".into()], ..by_user() },
        "names",
        (State::Note, "device", Some("sudo ip link del uswitch0")),
    );
}

#[test]
fn subnets_in_use() {
    let lan = |taken, facts| Facts { taken, ..facts };
    let overlap = vec![taken("172.16.0.0/12", "lan"), taken("10.1.0.0/16", "lan")];
    let mend = Some("uswitch start --ports 3 --subnet 10.2.0.0/24 --subnet fd00:172:16::/64");
    let what = "172.16.0.0/24 overlaps 172.16.0.0/12 of this host (lan)";
    comes_to(&lan(overlap.clone(), healthy()), "subnets", (State::Problem, what, mend));
    start(&lan(overlap.clone(), healthy()), false, AS_USER);
    start(&lan(overlap, by_user()), true, AS_USER);
    let v6 = vec![taken("fd00:172::/32", "lan")];
    let mend = Some("uswitch start --ports 3 --subnet 172.16.0.0/24 --subnet fd00:10:1::/64");
    comes_to(&lan(v6, healthy()), "subnets", (State::Problem, "fd00:172:16::/64", mend));
    let everything = vec![taken("172.16.0.0/12", "lan"), taken("10.0.0.0/8", "lan")];
    comes_to(&lan(everything, healthy()), "subnets", (State::Problem, what, None));
    let own = vec![taken("172.16.0.1/24", "uswitch0")];
    let running = Facts { switches: vec![switch("uswitch0", Some(7))], ..lan(own, healthy()) };
    comes_to(&running, "subnets", (State::Problem, "uswitch0", Some("uswitch stop")));
    let mend = Some("uswitch start --ports 3 --subnet 10.1.0.0/24 --subnet fd00:172:16::/64");
    let somebodys = Facts { switches: Vec::new(), ..running };
    comes_to(&somebodys, "subnets", (State::Problem, "(uswitch0)", mend));
    let elsewhere = lan(vec![taken("172.16.0.9/24", "lan")], healthy());
    let running = Facts { switches: vec![switch("uswitch0", Some(7))], ..elsewhere };
    comes_to(&running, "subnets", (State::Problem, "(lan)", mend));
}

#[test]
fn subnets_instead_of_those_in_use() {
    for (subnets, mend) in [
        // Not twice the same, and not one that was asked for beside it.
        (["172.16.0.0/24", "172.17.0.0/24"], "--subnet 10.1.0.0/24 --subnet 10.2.0.0/24"),
        (["172.16.0.0/24", "10.1.0.0/24"], "--subnet 10.2.0.0/24 --subnet 10.1.0.0/24"),
        // Of the same size, and a whole one of it.
        (["172.16.0.0/12", "fd00::/64"], "--subnet 10.16.0.0/12 --subnet fd00::/64"),
    ] {
        let subnets = subnets.map(|subnet| subnet.parse().unwrap()).into();
        let facts = Facts { subnets, taken: vec![taken("172.16.0.0/12", "lan")], ..healthy() };
        let mend = format!("uswitch start --ports 3 {mend}");
        comes_to(&facts, "subnets", (State::Problem, "(lan)", Some(&mend)));
    }
}

#[test]
fn the_way_beyond_the_host() {
    let with = |nft| Facts { nft, ..healthy() };
    let without = with(Nft::Missing);
    comes_to(&without, "nft", (State::Note, "--nat", Some("sudo apt install nftables")));
    comes_to(&without, "firewall", (State::Ok, "not looked at", None));
    let off = Facts { forwarding: [Some(0), None], ..healthy() };
    comes_to(&off, "forwarding", (State::Ok, "IPv4 off, IPv6 not there", None));
    comes_to(&by_user(), "nft", (State::Ok, "installed", None));
    comes_to(&by_user(), "firewall", (State::Ok, "not looked at", None));
    let broken = with(Nft::Broken("nft failed: it may not".into()));
    comes_to(&broken, "nft", (State::Note, "there is no --nat: nft failed: it may not", None));
    comes_to(&broken, "firewall", (State::Ok, "not looked at", None));
    let docker = with(Nft::Works { dropping_chain: Some("ip filter FORWARD".into()) });
    let mend = "sudo nft 'insert rule ip filter FORWARD iifname uswitch0 accept; \
                insert rule ip filter FORWARD oifname uswitch0 accept'";
    comes_to(&docker, "firewall", (State::Note, "ip filter FORWARD", Some(mend)));
    for facts in [without, off, broken, docker] {
        start(&facts, true, EVERYWHERE);
    }
    let loosen = Some("sudo sysctl net.ipv4.conf.all.rp_filter=2");
    for (rp_filter, state, mend) in [
        ([Some(1), Some(0)], State::Note, loosen),
        ([Some(0), Some(1)], State::Note, loosen),
        ([Some(2), Some(1)], State::Ok, None),
        ([None, None], State::Ok, None),
    ] {
        comes_to(&Facts { rp_filter, ..healthy() }, "rp_filter", (state, "strict", mend));
    }
}

#[test]
fn limits() {
    for (open_files, state, what, mend) in [
        (8319, State::Ok, "4095", None),
        (8318, State::Note, "4094 ports", Some("sudo prlimit --pid $$ --nofile=8319")),
        (1024, State::Note, "447 ports", Some("sudo prlimit --pid $$ --nofile=8319")),
        (135, State::Note, "3 ports", Some("sudo prlimit --pid $$ --nofile=8319")),
        (134, State::Problem, "too few", Some("sudo prlimit --pid $$ --nofile=135")),
    ] {
        comes_to(&Facts { open_files, ..healthy() }, "open files", (state, what, mend));
    }
    let two_workers = Facts { open_files: 138, workers: 2, ..healthy() };
    let mend = Some("sudo prlimit --pid $$ --nofile=139");
    comes_to(&two_workers, "open files", (State::Problem, "too few", mend));
    for (limit, state, what, mend) in [
        (2 * PINNED, State::Ok, "workers: 2", None),
        (PINNED, State::Ok, "workers: 1", None),
        (64 << 10, State::Note, "64 KiB", Some("sudo prlimit --pid $$ --memlock=6518784")),
    ] {
        comes_to(&Facts { locked_memory: Some(limit), ..healthy() }, "locked memory", (state, what, mend));
    }
}
