//! The same commands without root, in a private sandbox of the user.

use crate::harness::{
    Host, HostSnapshot, Shell, host_with_public_tun, run_as_user, user_command, wait_until,
};

#[test]
fn start_ping_trace_and_stop_without_root() {
    let host = host_with_public_tun();
    let before = HostSnapshot::of(&host);
    run_as_user(&host, "uswitch start --detach --ports 3").ok();
    assert_host_untouched(&host, &before);
    for target in ["172.16.0.3", "fd00:172:16::4", "172.16.0.1"] {
        run_as_user(&host, &format!("uswitch exec container1 -- ping -n -c 1 -W 5 {target}")).ok();
    }
    run_as_user(&host, "uswitch status").ok();
    let list = run_as_user(&host, "uswitch ls").ok();
    assert!(list.contains("uswitch0"), "{list}");
    let fdb = run_as_user(&host, "uswitch fdb show --json").json();
    let behind = |port| fdb.as_array().is_some_and(|fdb| fdb.iter().any(|entry| entry["ifname"] == port));
    assert!(behind("container1") && behind("container2"), "{fdb}");
    let trace = run_as_user(&host, "uswitch trace container1 --icmp 172.16.0.3").ok();
    assert!(trace.ends_with("└─ verdict: forwarded to container2\n"), "{trace}");
    run_as_user(&host, "uswitch port add container4").ok();
    run_as_user(&host, "uswitch exec container4 -- ping -n -c 1 -W 5 172.16.0.2").ok();
    run_as_user(&host, "uswitch port del container4").ok();
    let events = run_as_user(&host, "uswitch events container1").ok();
    assert!(events.contains("port_added") && events.contains("learned"), "{events}");
    let mut follower = host.spawn(&user_command("uswitch events --follow"));
    follower.line_with("port_removed");
    run_as_user(&host, "uswitch stop").ok();
    assert!(follower.ok().ends_with("uswitch: the switch has stopped"));
    before.assert_same(&host);
}

/// Outside of the sandbox a running switch is only a process and a socket.
fn assert_host_untouched(host: &Host, before: &HostSnapshot) {
    let now = HostSnapshot::of(host);
    for kind in ["namespaces", "links", "addresses", "routes", "rules", "nftables", "sysctls"] {
        assert_eq!(now.of_kind(kind), before.of_kind(kind), "{kind} outside of the sandbox");
    }
}

/// The metrics address is in the namespace in which the switch was started, not in its sandbox.
#[test]
fn metrics_are_served_outside_the_sandbox() {
    let host = host_with_public_tun();
    let before = HostSnapshot::of(&host);
    run_as_user(&host, "uswitch start --detach --metrics 127.0.0.1:9477").ok();
    let metrics = run_as_user(&host, "curl -sS http://127.0.0.1:9477/metrics").ok();
    assert!(metrics.contains("uswitch_port_up{port=\"container1\"} 1"), "{metrics}");
    run_as_user(&host, "uswitch stop").ok();
    before.assert_same(&host);
}

/// Without root `--busy-poll` cannot keep CPUs awake: a notice says so, and the switch runs.
#[test]
fn busy_poll_reports_what_needs_root() {
    let host = host_with_public_tun();
    let start = run_as_user(&host, "uswitch start --detach --ports 2 --busy-poll 50");
    let said = start.stderr.clone();
    start.ok();
    assert!(said.starts_with("uswitch: idle CPUs may ") && said.lines().count() == 1, "{said}");
    run_as_user(&host, "uswitch exec container1 -- ping -n -c 1 -W 5 172.16.0.3").ok();
    run_as_user(&host, "uswitch stop").ok();
}

/// Real clients get an address by DHCPv6 and a router advertisement.
#[test]
fn containers_are_configured_by_the_gateway_without_root() {
    let host = host_with_public_tun();
    run_as_user(&host, "uswitch start --detach --ports 1 --ra --dhcp").ok();
    run_as_user(&host, "uswitch port add web --ip none").ok();
    let exec = |command: &str| run_as_user(&host, &format!("uswitch exec web -- {command}"));
    wait_until("the link-local address is usable", || {
        !exec("ip -6 -o addr show dev eth0 scope link -tentative").ok().is_empty()
    });
    let advertised = exec("rdisc6 -1 -r 10 -w 5000 eth0").ok();
    assert!(advertised.contains("Prefix                   : fd00:172:16::/64"), "{advertised}");
    let files = "-lf /run/user/65534/leases -pf /run/user/65534/pid";
    exec(&format!("dhclient -6 -1 -sf /bin/true {files} eth0")).ok();
    let leases = run_as_user(&host, "uswitch dhcp show --json").json();
    assert_eq!((&leases[0]["ifname"], &leases[0]["address"]), (&"web".into(), &"fd00:172:16::3".into()));
    run_as_user(&host, "uswitch stop").ok();
}

#[test]
fn status_suggests_sudo_for_a_switch_of_root() {
    let host = host_with_public_tun();
    run_as_user(&host, "uswitch status").fails();
    host.run("uswitch start --detach --ports 1").ok();
    let said = run_as_user(&host, "uswitch status").fails();
    assert!(said.contains("try sudo") && said.trim().lines().count() == 1, "{said}");
}

/// The switch starts, and one line says what NAT needs.
#[test]
fn nat_reports_what_it_needs_without_root() {
    let host = host_with_public_tun();
    let before = HostSnapshot::of(&host);
    let start = run_as_user(&host, "uswitch start --detach --ports 2 --nat");
    let said = start.stderr.clone();
    start.ok();
    assert!(said.lines().count() == 1 && said.contains("--nat") && said.contains("sudo"), "{said}");
    assert_host_untouched(&host, &before);
    run_as_user(&host, "uswitch exec container1 -- ping -n -c 1 -W 5 172.16.0.1").ok();
    run_as_user(&host, "uswitch stop").ok();
    before.assert_same(&host);
}

#[test]
fn socket_is_accessible_to_its_owner_only() {
    let host = host_with_public_tun();
    run_as_user(&host, "uswitch start --detach --ports 2").ok();
    let mode = host.sh("find /run/user/65534 -type s -exec stat -c '%a %u' {} +").ok();
    assert_eq!(mode.trim(), "600 65534");
    run_as_user(&host, "uswitch stop").ok();
}

/// Adding a port, looking up a route and announcing an address need a thread for a moment.
#[test]
fn process_limit_fails_the_operation_but_not_the_switch() {
    let host = host_with_public_tun();
    run_as_user(&host, "uswitch start --detach --ports 2").ok();
    run_as_user(&host, "uswitch log warn").ok();
    let pid = host.run("pidof uswitch").ok();
    let limit =
        |soft: &str| run_as_user(&host, &format!("prlimit --nproc={soft}: --pid {}", pid.trim())).ok();
    limit("1");
    for command in ["port add container3", "trace container1 --icmp 172.16.0.3"] {
        let said = run_as_user(&host, &format!("uswitch {command}")).fails();
        assert!(said.contains("cannot start a thread"), "{said}");
    }
    let change = "uswitch exec container1 -- ip link set eth0 address 02:00:5e:00:53:01";
    run_as_user(&host, change).ok();
    wait_until("the switch reports that it cannot announce the address", || {
        let log = host.run("cat /run/user/65534/uswitch/uswitch0.log");
        log.stdout.contains("addresses of ports are not announced")
    });
    limit("1000");
    run_as_user(&host, "uswitch port add container3").ok();
    run_as_user(&host, "uswitch stop").ok();
}

#[test]
fn captures_live_frames() {
    let host = host_with_public_tun();
    run_as_user(&host, "uswitch start --detach --ports 2").ok();
    let file = "/run/user/65534/frames.pcapng";
    let mut capture = host.spawn(&user_command(&format!("uswitch capture -c 4 -w {file} icmp")));
    capture.line_with("capturing on");
    run_as_user(&host, "uswitch exec container1 -- ping -n -c 1 -W 5 172.16.0.3").ok();
    capture.ok();
    let read = host.run(&format!("tshark -r {file} -T fields -e frame.interface_name")).ok();
    assert_eq!(read.split_whitespace().count(), 4, "{read}");
    run_as_user(&host, "uswitch stop").ok();
}
