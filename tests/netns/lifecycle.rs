//! Starting and stopping. The switch removes everything that it made, however it ends, and a start that fails changes
//! nothing.

use std::os::unix::process::ExitStatusExt;
use std::path::Path;

use nix::sys::signal::Signal;

use crate::harness::{Host, HostSnapshot, Process, Shell, TestSwitch, Uswitch, v4, wait_until};

#[test]
fn leaves_nothing_after_fifty_runs() {
    let host = Host::new();
    let before = HostSnapshot::of(&host);
    for _ in 0..50 {
        host.run("uswitch start --detach --ports 2 --nat").ok();
        host.run("uswitch stop").ok();
    }
    before.assert_same(&host);
}

/// Starts a switch in the foreground and waits until it forwards.
fn foreground(host: &Host) -> Process {
    let mut switch = host.spawn("uswitch start --ports 3 --nat");
    wait_until("the switch answers or ends", || host.run("uswitch status").succeeded() || switch.has_ended());
    host.run(&format!("ping -n -c 1 -W 5 {}", v4(1))).ok();
    switch
}

#[track_caller]
fn assert_clean_end_on(signal: Signal) {
    let host = Host::new();
    let before = HostSnapshot::of(&host);
    let switch = foreground(&host);
    switch.signal(signal);
    switch.ok();
    before.assert_same(&host);
}

#[test]
fn sigterm_removes_everything() {
    assert_clean_end_on(Signal::SIGTERM);
}

/// Ctrl-C.
#[test]
fn sigint_removes_everything() {
    assert_clean_end_on(Signal::SIGINT);
}

#[test]
fn sigquit_removes_everything() {
    assert_clean_end_on(Signal::SIGQUIT);
}

/// A signal that is ignored at the start, as nohup(1) does with SIGHUP, stays ignored.
#[test]
fn keeps_ignoring_sighup_under_nohup() {
    const SIGHUP: u64 = 1 << (Signal::SIGHUP as u64 - 1);
    const SIGTERM: u64 = 1 << (Signal::SIGTERM as u64 - 1);
    let host = Host::new();
    let switch = host.spawn_sh("trap '' HUP; exec uswitch start --ports 1");
    wait_until("the switch answers", || host.run("uswitch status").succeeded());
    let mask = |which: &str| {
        let mask = host.sh(&format!("sed -n 's/^{which}:\\s*//p' /proc/$(pgrep -x uswitch)/status")).ok();
        u64::from_str_radix(mask.trim(), 16).expect("proc_pid_status(5)")
    };
    assert_eq!(mask("SigIgn") & (SIGHUP | SIGTERM), SIGHUP);
    assert_eq!(mask("SigCgt") & (SIGHUP | SIGTERM), SIGTERM);
    switch.signal(Signal::SIGTERM);
    switch.ok();
}

/// A switch holds its ledger before its API answers and after it stops answering.
#[test]
fn stop_reports_a_switch_that_is_starting() {
    let host = Host::new();
    host.sh("mkdir -m 700 /run/uswitch").ok();
    let mut starting =
        host.spawn_sh("exec flock /run/uswitch/uswitch0.ledger sh -c 'echo held; exec sleep infinity'");
    starting.line_with("held");
    let said = host.run("uswitch stop").fails();
    assert!(said.contains("starting or stopping") && said.trim().lines().count() == 1, "{said}");
    let said = host.run("uswitch start").fails();
    assert!(
        said.contains("'uswitch0' is already starting or stopping") && !said.contains("process"),
        "{said}"
    );
}

/// A process ID has no meaning in another PID namespace.
#[test]
fn start_names_no_process_of_another_pid_namespace() {
    let s = Uswitch::with("--ports 1");
    let said = s.host().run("unshare --pid --fork --mount-proc uswitch start").fails();
    assert!(said.contains("'uswitch0' is already running (in another PID namespace)"), "{said}");
    let said = s.host().run("uswitch start").fails();
    assert!(said.contains(&format!("'uswitch0' is already running (process {})", s.pid())), "{said}");
}

/// `uswitch stop` also stops a switch in the foreground.
#[test]
fn stop_removes_everything() {
    let host = Host::new();
    let before = HostSnapshot::of(&host);
    let switch = foreground(&host);
    host.run("uswitch stop").ok();
    switch.ok();
    before.assert_same(&host);
    host.run("uswitch stop").fails();
}

/// A host with what a killed switch left behind.
fn killed() -> (Host, HostSnapshot) {
    let host = Host::new();
    let before = HostSnapshot::of(&host);
    let switch = foreground(&host);
    switch.signal(Signal::SIGKILL);
    let (status, _) = switch.wait();
    assert_eq!(status.signal(), Some(Signal::SIGKILL as i32));
    assert!(host.run("ip netns list").ok().contains("container1"), "named namespaces survive the process");
    (host, before)
}

#[test]
fn start_after_kill_cleans_up_and_reports_it() {
    let (host, before) = killed();
    let start = host.run("uswitch start --detach --ports 2");
    let said = format!("{}{}", start.stdout, start.stderr);
    start.ok();
    assert!(said.contains("was killed earlier: removed"), "{said}");
    let names = host.run("ip netns list").ok();
    assert!(!names.contains("container3"), "a namespace of the killed switch remains: {names}");
    host.run(&format!("ping -n -c 1 -W 5 {}", v4(2))).ok();
    host.run("uswitch stop").ok();
    before.assert_same(&host);
}

#[test]
fn stop_after_kill_cleans_up() {
    let (host, before) = killed();
    host.run("uswitch stop").ok();
    before.assert_same(&host);
}

/// The kernel closes the files of a killed process, its ledger and its device among them, after a moment.
#[test]
fn start_succeeds_immediately_after_kill() {
    let host = Host::new();
    let before = HostSnapshot::of(&host);
    host.run("uswitch start --detach --ports 0").ok();
    for _ in 0..5 {
        host.sh("kill -9 $(pidof uswitch); uswitch start --detach --ports 0").ok();
    }
    host.run("uswitch stop").ok();
    before.assert_same(&host);
}

/// An inherited pipe that stays open would make its reader wait for the switch.
#[test]
fn detached_switch_closes_inherited_descriptors() {
    let host = Host::new();
    host.sh("exec 9>/run/held; uswitch start --detach --ports 1").ok();
    let s = Uswitch::running(host);
    let open = s.host().open_files(s.pid());
    let is_open = |path: &str| open.iter().any(|file| file == Path::new(path));
    assert!(is_open("/dev/null") && !is_open("/run/held"), "{open:?}");
}

/// The kernel closes the files of an io_uring after the process has ended. A start before that waits.
#[test]
fn restarts_after_ten_kills_on_both_engines() {
    for engine in ["auto", "poll"] {
        let host = Host::new();
        let before = HostSnapshot::of(&host);
        for _ in 0..10 {
            host.run(&format!("uswitch start --detach --ports 2 --engine {engine}")).ok();
            host.netns("container1").run(&format!("ping -n -c 1 -W 5 {}", v4(2))).ok();
            host.sh("kill -9 $(pgrep -x uswitch)").ok();
        }
        host.run("uswitch stop").ok();
        before.assert_same(&host);
    }
}

/// Asserts that a start fails with one line that contains each of `words`, and changes nothing.
#[track_caller]
pub fn assert_start_rejected(host: &Host, arguments: &str, words: &[&str]) {
    assert_command_rejected(host, &format!("uswitch start --detach {arguments}"), words);
}

/// The same for a whole command line.
#[track_caller]
pub fn assert_command_rejected(host: &Host, command: &str, words: &[&str]) {
    let before = HostSnapshot::of(host);
    let said = host.run(command).fails();
    assert_eq!(said.trim().lines().count(), 1, "not one line: {said}");
    for word in words {
        assert!(said.contains(word), "'{word}' is missing in: {said}");
    }
    before.assert_same(host);
}

#[test]
fn rejects_existing_namespace() {
    let host = Host::new();
    host.run("ip netns add container3").ok();
    assert_start_rejected(&host, "--ports 3", &["container3"]);
}

/// Commands that give the host a network interface.
pub const LAN: &str =
    "ip link add lan type veth peer name elsewhere; ip link set lan up; ip link set elsewhere up";

#[test]
fn rejects_overlapping_address() {
    let host = Host::new();
    host.sh(LAN).ok();
    host.run("ip addr add 172.16.255.7/16 dev lan").ok();
    assert_start_rejected(&host, "--ports 3", &["172.16.0.0/", "--subnet"]);
}

#[test]
fn rejects_overlapping_route() {
    let host = Host::new();
    host.sh(LAN).ok();
    host.run("ip -6 route add fd00:172:16::/64 dev lan").ok();
    assert_start_rejected(&host, "--ports 3", &["fd00:172:16::/64", "--subnet"]);
}

#[test]
fn accepts_default_route() {
    let host = Host::new();
    host.sh(LAN).ok();
    host.run("ip addr add 192.0.2.1/24 dev lan").ok();
    host.run("ip route add default via 192.0.2.254").ok();
    Uswitch::on(host, "--ports 2").stop();
}

#[test]
fn rejects_second_switch_of_the_same_name() {
    let s = Uswitch::start();
    assert_start_rejected(s.host(), "--ports 3", &["uswitch0", "--name"]);
    let [h1, ..] = s.containers();
    h1.run(&format!("ping -n -c 1 -W 5 {}", v4(2))).ok();
}

#[test]
fn rejects_existing_device_name() {
    let host = Host::new();
    host.run("ip link add uswitch0 type bridge").ok();
    assert_start_rejected(&host, "--ports 3", &["uswitch0", "--name"]);
}

#[test]
fn rejects_missing_tun_device() {
    let host = Host::new();
    host.run("mount -t tmpfs none /dev/net").ok();
    assert_start_rejected(&host, "--ports 3", &["/dev/net/tun"]);
}

/// Makes a script that runs a command in a mount namespace in which nft is not a regular file.
pub const WITHOUT_NFT: &str = "cat >/run/without-nft <<'END'
        IFS=:
        for directory in $PATH; do
            [ ! -f $directory/nft ] || mount --bind /dev/null $directory/nft
        done
        exec \"$@\"\nEND";

#[test]
fn rejects_nat_without_nft() {
    let host = Host::new();
    host.sh(WITHOUT_NFT).ok();
    let start = "unshare --mount sh -eu /run/without-nft uswitch start --detach --ports 3";
    assert_command_rejected(&host, &format!("{start} --nat"), &["--nat", "nft", "nftables"]);
    host.run(start).ok();
    host.run("uswitch stop").ok();
}

/// Each queue is an open file, and each container needs one more. The limit that the error names is enough.
#[test]
fn rejects_more_ports_than_open_files() {
    let host = Host::new();
    let start = "uswitch start --detach --ports 300 --workers 2";
    assert_command_rejected(
        &host,
        &format!("prlimit --nofile=256:256 {start}"),
        &["256", "ulimit -n 1030", "--ports"],
    );
    let before = HostSnapshot::of(&host);
    host.run(&format!("prlimit --nofile=64:1030 {start}")).ok();
    host.netns("container1").run(&format!("ping -n -c 1 -W 5 {}", v4(300))).ok();
    host.run("uswitch stop").ok();
    before.assert_same(&host);
}

/// The directory of names has room for one namespace, so making the second one fails.
#[test]
fn rolls_back_failed_start() {
    let host = Host::new();
    host.sh("mount -t tmpfs -o nr_inodes=2 none /run/netns
        touch /run/netns/one
        if touch /run/netns/two; then false; fi
        rm /run/netns/one")
        .ok();
    assert_start_rejected(&host, "--ports 3 --nat", &["make /run/netns/container2", "No space left"]);
}

/// A ledger on a full file system, with so little room left in its last page that an entry does not fit.
const FULL_LEDGER: &str = "
ledger=/run/uswitch/uswitch0.ledger
number=0
while [ $(($(stat -c %s $ledger) % 4096)) -lt 3980 ]; do
    number=$((number + 1))
    uswitch port add more$number
done
dd if=/dev/zero of=/run/uswitch/fill bs=4k 2>/dev/null || true
dd if=/dev/zero of=/run/uswitch/fill bs=1 count=5000 oflag=append conv=notrunc 2>/dev/null || true";

#[test]
fn full_disk_fails_port_add_and_loses_no_ledger_entry() {
    let host = Host::new();
    host.sh("mkdir -m 700 /run/uswitch; mount -t tmpfs -o size=64k,mode=700 none /run/uswitch").ok();
    let before = HostSnapshot::of(&host);
    host.run("uswitch start --detach --ports 3 --subnet 172.16.0.0/16").ok();
    host.sh(FULL_LEDGER).ok();
    for name in ["full1", "full2"] {
        let error = host.run(&format!("uswitch port add {name}")).fails();
        assert!(error.contains("uswitch0.ledger") && error.contains("No space left on device"), "{error}");
        host.run(&format!("ip netns exec {name} true")).fails();
    }
    // The namespace goes although its entry cannot be removed.
    host.run("uswitch port del container2").ok();
    host.run("rm /run/uswitch/fill").ok();
    host.run("uswitch port add later").ok();
    host.sh("kill -9 $(pgrep -x uswitch)").ok();
    host.run("uswitch stop").ok();
    before.assert_same(&host);
}

/// A write beyond the limit fails like one to a full disk: the kernel's SIGXFSZ does not end the switch.
#[test]
fn file_size_limit_fails_start_or_port_add() {
    const REFUSED: &str = "uswitch0.ledger: File too large (os error 27): `ulimit -f` sets the limit";
    let host = Host::new();
    let before = HostSnapshot::of(&host);
    let said = host.sh("ulimit -f 1; exec uswitch start --detach --ports 30").fails();
    assert!(said.contains(REFUSED) && said.trim().lines().count() == 1, "{said}");
    before.assert_same(&host);
    host.sh("ulimit -f 4; exec uswitch start --detach --ports 2").ok();
    let refused =
        (0..50).map(|n| host.run(&format!("uswitch port add more{n}"))).find(|add| !add.succeeded());
    let said = refused.expect("a full ledger").fails();
    assert!(said.contains(REFUSED) && said.trim().lines().count() == 1, "{said}");
    host.run(&format!("ip netns exec container1 ping -n -c 1 -W 5 {}", v4(2))).ok();
    host.run("uswitch port del container2").ok();
    host.run("uswitch stop").ok();
    before.assert_same(&host);
}

/// The program of `exec` ends at the limit, as without `exec`.
#[test]
fn exec_keeps_the_disposition_of_signals() {
    let s = Uswitch::with("--ports 1");
    let ignored = "sed -n s/^SigIgn://p /proc/self/status";
    let expected = s.host().run(ignored).ok();
    assert_eq!(s.host().run(&format!("uswitch exec container1 -- {ignored}")).ok(), expected);
}

/// An obstacle to the second container is found before the first one is made.
#[test]
fn rejects_obstructed_namespace_path() {
    let host = Host::new();
    host.sh("mkdir -p /run/netns/container2/in-the-way").ok();
    assert_start_rejected(&host, "--ports 3 --nat", &["container2"]);
}

#[test]
fn rejects_too_small_subnet() {
    assert_start_rejected(&Host::new(), "--ports 3 --subnet 192.0.2.0/30", &["192.0.2.0/30", "3"]);
}

#[test]
fn reports_line_of_configuration_error() {
    let host = Host::new();
    host.sh("printf 'ports = 3\\nmtu = big\\n' >/run/lab.toml").ok();
    assert_start_rejected(&host, "--config /run/lab.toml", &["/run/lab.toml:2", "mtu"]);
    host.sh("printf 'ports = 3\\nprots = 3\\n' >/run/lab.toml").ok();
    assert_start_rejected(&host, "--config /run/lab.toml", &["/run/lab.toml:2", "prots"]);
    assert_start_rejected(&host, "--config /run/no-such.toml", &["/run/no-such.toml"]);
}

#[test]
fn rejects_unknown_option() {
    assert_start_rejected(&Host::new(), "--prots 3", &["--prots"]);
}

/// Command line options override the file.
#[test]
fn options_override_configuration_file() {
    let host = Host::new();
    host.sh("printf 'ports = 5\\nprefix = \"lab\"\\nsubnet = [\"192.0.2.0/24\"]\\n' >/run/lab.toml").ok();
    let s = Uswitch::on(host, "--config /run/lab.toml --ports 2");
    s.host().run("ping -n -c 1 -W 5 192.0.2.3").ok();
    let names = s.host().run("ip netns list").ok();
    assert!(names.contains("lab2") && !names.contains("lab3"), "{names}");
}

/// Without the capabilities, and without a user namespace that would give them.
#[test]
fn rejects_missing_capabilities() {
    let host = Host::new();
    let before = HostSnapshot::of(&host);
    // The limit applies to the new user namespace only.
    let start = host.sh("unshare --user --map-root-user sh -c '
            echo 0 >/proc/sys/user/max_user_namespaces && exec uswitch start --detach --ports 2'");
    let said = start.fails();
    assert_eq!(said.trim().lines().count(), 1, "not one line: {said}");
    before.assert_same(&host);
}

#[test]
fn runs_two_switches_side_by_side() {
    let host = Host::new();
    let before = HostSnapshot::of(&host);
    host.run("uswitch start --detach --ports 2").ok();
    host.run("uswitch start --detach --ports 2 --name lab --prefix node --subnet 198.51.100.0/24").ok();
    host.netns("node1").run("ping -n -c 1 -W 5 198.51.100.3").ok();
    host.netns("container1").run(&format!("ping -n -c 1 -W 5 {}", v4(2))).ok();
    let list = host.run("uswitch ls").ok();
    assert!(list.contains("uswitch0") && list.contains("lab"), "{list}");
    host.run("uswitch stop --name lab").ok();
    host.netns("container1").run(&format!("ping -n -c 1 -W 5 {}", v4(2))).ok();
    host.run("uswitch stop").ok();
    before.assert_same(&host);
}

/// A second switch needs nothing but a name: it uses container names and subnets that are free, and says which.
#[test]
fn second_switch_chooses_free_names_and_subnets() {
    let host = Host::new();
    let before = HostSnapshot::of(&host);
    host.run("uswitch start --detach --ports 2").ok();
    let start = host.run("uswitch start --detach --ports 2 --name lab2");
    let notices = start.stderr.clone();
    start.ok();
    for words in ["named lab2-N", "172.16.0.0/24 overlaps", "using 10.1.0.0/24", "using fd00:10:1::/64"] {
        assert!(notices.contains(words), "'{words}' is missing in: {notices}");
    }
    host.netns("lab2-1").run("ping -n -c 1 -W 5 10.1.0.3").ok();
    host.netns("container1").run(&format!("ping -n -c 1 -W 5 {}", v4(2))).ok();
    host.run("uswitch stop lab2").ok();
    host.run("uswitch stop").ok();
    before.assert_same(&host);
    let again = host.run("uswitch start --detach --ports 2 --name lab2");
    assert_eq!(again.stderr, "", "the defaults are free");
    again.ok();
    host.run("ip netns exec container1 true").ok();
}

#[test]
fn reports_all_conflicts_at_once() {
    let s = Uswitch::start();
    let arguments = "--name lab2 --ports 3 --prefix container --subnet 172.16.0.0/16 --subnet fd00:172::/32";
    assert_start_rejected(
        s.host(),
        arguments,
        &["container1", "2 more", "172.16.0.1/24", "fd00:172:16::1/64"],
    );
}

/// Programs that rotate logs send SIGHUP to daemons.
#[test]
fn detached_switch_ignores_sighup() {
    let host = Host::new();
    host.run("uswitch start --detach --ports 2").ok();
    host.sh("kill -HUP $(pgrep -x uswitch)").ok();
    host.netns("container1").run(&format!("ping -n -c 1 -W 5 {}", v4(2))).ok();
    host.run("uswitch stop").ok();
}
