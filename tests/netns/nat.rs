//! `--nat`: connections from containers to other machines, IPv4 and IPv6.

use crate::harness::{
    Host, HostSnapshot, LinuxBridge, Shell, TestNetns, TestSwitch, Uswitch, v4, v6, wait_until,
};

/// Connects the host to a machine named "internet", which has no routes to the containers.
pub const INTERNET: &str = "
ip netns add internet
ip link add wan type veth peer name eth0 netns internet
ip addr add 203.0.113.1/24 dev wan
ip addr add 2001:db8::1/64 dev wan nodad
ip link set wan up
ip -n internet link set lo up
ip -n internet link set eth0 up
ip -n internet addr add 203.0.113.2/24 dev eth0
ip -n internet addr add 2001:db8::2/64 dev eth0 nodad";

/// A firewall that the host had before.
const FIREWALL: &str = "
nft add table inet mine
nft 'add chain inet mine input { type filter hook input priority filter; policy accept; }'
nft add rule inet mine input ct state established counter accept";

/// The commands that do what `--nat` does.
const MASQUERADE: &str = "
sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1
nft add table inet nat
nft 'add chain inet nat postrouting { type nat hook postrouting priority srcnat; }'
nft add rule inet nat postrouting ip saddr 172.16.0.0/24 oifname != br0 masquerade
nft add rule inet nat postrouting ip6 saddr fd00:172:16::/64 oifname != br0 masquerade
nft 'add chain inet nat forward { type filter hook forward priority filter; }'
nft add rule inet nat forward ct state new iifname != br0 oifname br0 drop";

fn with_nat() -> (Uswitch, TestNetns) {
    let host = Host::new();
    host.sh(INTERNET).ok();
    let internet = host.netns("internet");
    (Uswitch::on(host, "--ports 3 --nat"), internet)
}

/// Asserts that containers reach the internet and that it sees the host's address.
#[track_caller]
fn assert_reaches_internet(s: &impl TestSwitch, internet: &TestNetns) {
    let [h1, h2, _] = s.containers();
    for (capture, target, source) in [
        ("icmp[icmptype] == icmp-echo", "203.0.113.2", &[203, 0, 113, 1][..]),
        ("icmp6[icmp6type] == icmp6-echo", "2001:db8::2", &[0x20, 1, 0xd, 0xb8, 0, 0, 0, 0][..]),
    ] {
        let capture = internet.capture("eth0", capture);
        h1.run(&format!("ping -n -c 3 -i 0.2 -W 5 {target}")).ok();
        let frame = capture.next().expect("tcpdump saw the ping");
        let address = if source.len() == 4 { &frame[26..30] } else { &frame[22..30] };
        assert_eq!(address, source, "source address at the internet");
    }
    let mut server = internet.spawn("socat -d -d TCP6-LISTEN:80,ipv6-v6only=0,fork SYSTEM:hostname");
    server.line_with("listening on");
    h1.run("socat -u TCP:203.0.113.2:80 STDOUT").ok();
    h2.run("socat -u TCP:[2001:db8::2]:80 STDOUT").ok();
}

/// Asserts that the internet does not reach the containers, even with routes through the host.
#[track_caller]
fn assert_not_reachable_from_internet(s: &impl TestSwitch, internet: &TestNetns) {
    internet.run("ip route add 172.16.0.0/24 via 203.0.113.1").ok();
    internet.run("ip -6 route add fd00:172:16::/64 via 2001:db8::1").ok();
    internet.run(&format!("ping -n -c 2 -i 0.2 -W 1 {}", v4(1))).fails();
    internet.run(&format!("ping -n -c 2 -i 0.2 -W 1 {}", v6(1))).fails();
    s.host().run(&format!("ping -n -c 1 -W 5 {}", v4(1))).ok();
}

/// Control: the Linux bridge with rules written by hand.
#[test]
fn linux_bridge_with_nft_rules() {
    let s = LinuxBridge::start();
    s.host().sh(INTERNET).ok();
    s.host().sh(MASQUERADE).ok();
    let internet = s.host().netns("internet");
    assert_reaches_internet(&s, &internet);
    assert_not_reachable_from_internet(&s, &internet);
}

#[test]
fn allows_outbound_and_blocks_inbound() {
    let (s, internet) = with_nat();
    assert_reaches_internet(&s, &internet);
    assert_not_reachable_from_internet(&s, &internet);
}

/// The number of events of this type.
fn events(s: &Uswitch, kind: &str) -> usize {
    s.host().run(&format!("uswitch events --type {kind} --json")).ok().lines().count()
}

/// Another program flushes the ruleset, then deletes a rule. The table is restored each time, new connections are
/// masqueraded again, and nothing is left after `stop`.
#[test]
fn restores_its_table_after_changes_by_others() {
    let host = Host::new();
    host.sh(INTERNET).ok();
    let before = HostSnapshot::of(&host);
    let internet = host.netns("internet");
    let s = Uswitch::on(host, "--ports 3 --nat");
    let installed = s.host().run("nft -s list ruleset").ok();
    let other = "nft add table inet other; nft delete table inet other";
    for (n, change) in [
        "nft flush ruleset",
        "nft flush chain inet uswitch_uswitch0 forward",
        "nft insert rule inet uswitch_uswitch0 forward accept",
    ]
    .into_iter()
    .enumerate()
    {
        s.host().run(change).ok();
        wait_until("the table is restored", || events(&s, "nat_restored") > n);
        assert_eq!(s.host().run("nft -s list ruleset").ok(), installed, "after {change}");
        s.host().sh(other).ok();
    }
    assert_reaches_internet(&s, &internet);
    assert_eq!(events(&s, "nat_restored"), 3, "not for changes of other tables, or by the switch");
    assert_eq!(s.json("status")["state"], "running");
    assert_eq!(s.json("events --type nat_restored --last 1")["value"], "nft");
    s.stop();
    before.assert_same(s.host());
}

/// Another program deletes the table whenever it is there. The switch does not fight forever, and says so.
#[test]
fn gives_up_when_others_keep_deleting_its_table() {
    let s = Uswitch::with("--ports 1 --nat");
    let _other = s
        .host()
        .spawn_sh("while :; do nft delete table inet uswitch_uswitch0 2>/dev/null || sleep 0.05; done");
    wait_until("the switch is degraded", || s.json("status")["state"] == "degraded");
    assert_eq!([events(&s, "nat_restored"), events(&s, "nat_failed")], [5, 1]);
    let text = s.host().run("uswitch status").ok();
    assert!(text.contains("degraded: other programs, such as nft, change the nftables table"), "{text}");
    let health = "curl -s -w %{http_code} --unix-socket /run/uswitch/uswitch0.sock http://uswitch/v1/health";
    let health = s.host().run(health).ok();
    assert!(health.contains("\"nat_fault\":\"other programs") && health.ends_with("503"), "{health}");
    s.stop();
}

/// Drops forwarded packets by default, like Docker.
const STRICT: &str = "
nft add table inet strict
nft 'add chain inet strict forward { type filter hook forward priority filter; policy drop; }'";

/// The start names the firewall that drops forwarded packets in one line. The rules that it suggests are enough.
#[test]
fn reports_firewall_that_drops_forwarded_traffic() {
    let host = Host::new();
    host.sh(INTERNET).ok();
    host.sh(STRICT).ok();
    let start = host.run("uswitch start --detach --ports 3 --nat");
    let said = start.stderr.clone();
    start.ok();
    assert_eq!(said.lines().count(), 1, "{said}");
    for word in ["inet strict forward", "accept 'uswitch0'", "-i uswitch0", "DOCKER-USER"] {
        assert!(said.contains(word), "'{word}' is missing in: {said}");
    }
    let h1 = host.netns("container1");
    h1.run("ping -n -c 1 -W 1 203.0.113.2").fails();
    host.run("nft add rule inet strict forward iifname uswitch0 accept").ok();
    host.run("nft add rule inet strict forward oifname uswitch0 accept").ok();
    h1.run("ping -n -c 1 -W 5 203.0.113.2").ok();
    host.run("uswitch stop").ok();
    let again = host.run("uswitch start --detach --ports 3 --nat");
    assert_eq!(again.stderr, "", "no warning once the rules are there");
    again.ok();
}

/// Control: no warning about a firewall that drops nothing of ours.
#[test]
fn ignores_firewall_that_drops_nothing() {
    let host = Host::new();
    host.sh(FIREWALL).ok();
    assert_eq!(host.run("uswitch start --detach --ports 3 --nat").stderr, "");
}

/// Without `--nat` no packet of a container leaves the host.
#[test]
fn no_nat_by_default() {
    let host = Host::new();
    host.sh(INTERNET).ok();
    let internet = host.netns("internet");
    let s = Uswitch::on(host, "--ports 3");
    let [h1, ..] = s.containers();
    let capture = internet.capture("eth0", "icmp");
    h1.run("ping -n -c 1 -W 1 203.0.113.2").fails();
    s.host().run("ping -n -c 1 -W 5 203.0.113.2").ok();
    let first = capture.next().expect("tcpdump saw the host's ping");
    assert_eq!(&first[26..30], [203, 0, 113, 1], "not the container's address");
}

/// With `--internal` the containers reach each other and not the host.
#[test]
fn internal_switch_has_no_host_port() {
    let s = Uswitch::with("--ports 3 --internal");
    let [h1, ..] = s.containers();
    h1.run(&format!("ping -n -c 1 -W 5 {}", v4(2))).ok();
    s.host().run(&format!("ping -n -c 1 -W 1 {}", v4(1))).fails();
    s.host().run("ip link show uswitch0").fails();
}

/// Forwarding, whether on or off before, and the firewall are restored.
#[test]
fn stop_restores_forwarding_and_firewall() {
    for forwarding in ["0", "1"] {
        let host = Host::new();
        host.sh(INTERNET).ok();
        host.sh(FIREWALL).ok();
        host.run(&format!(
            "sysctl -w net.ipv4.ip_forward={forwarding} net.ipv6.conf.all.forwarding={forwarding}"
        ))
        .ok();
        let before = HostSnapshot::of(&host);
        let s = Uswitch::on(host, "--ports 3 --nat");
        assert!(s.host().run("nft list ruleset").ok().contains("masquerade"));
        assert_eq!(s.host().run("sysctl -n net.ipv4.conf.wan.forwarding").ok().trim(), "1");
        assert_eq!(s.host().run("sysctl -n net.ipv6.conf.all.forwarding").ok().trim(), "1");
        s.stop();
        before.assert_same(s.host());
    }
}

/// Docker, libvirt and others enable forwarding when they start. The switch leaves it on when it stops, also on
/// interfaces that were made in the meantime.
#[test]
fn stop_keeps_forwarding_that_another_program_enabled() {
    const FORWARDING: &str = "sysctl -n net.ipv4.ip_forward net.ipv6.conf.all.forwarding net.ipv4.conf.wan.forwarding \
                              net.ipv6.conf.wan.forwarding net.ipv4.conf.other.forwarding net.ipv6.conf.other.forwarding";
    let (s, _internet) = with_nat();
    let host = s.host();
    host.run("sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1").ok();
    host.run("ip link add other type bridge").ok();
    s.stop();
    assert_eq!(host.run(FORWARDING).ok(), "1\n".repeat(6));
}

/// Forwarding that no other program enabled is off again, except on the interface where one did.
#[test]
fn stop_disables_forwarding_that_only_the_switch_needed() {
    let (s, _internet) = with_nat();
    let host = s.host();
    host.sh("ip link add other type bridge; sysctl -qw net.ipv6.conf.other.forwarding=1").ok();
    s.stop();
    let all = host.run("sysctl -n net.ipv4.conf.wan.forwarding net.ipv6.conf.all.forwarding").ok();
    assert_eq!(all, "0\n0\n");
    assert_eq!(host.run("sysctl -n net.ipv6.conf.other.forwarding").ok(), "1\n");
}

/// A container sends from addresses outside the subnets of the switch. None of these packets is forwarded.
#[test]
fn drops_foreign_source_addresses() {
    let host = Host::new();
    host.sh(INTERNET).ok();
    let internet = host.netns("internet");
    // The guard would drop them first.
    let s = Uswitch::on(host, "--ports 3 --nat --guard off");
    let [h1, ..] = s.containers();
    for address in ["10.9.9.9/32", "8.8.8.8/32", "2001:db8:99::9/128"] {
        h1.run(&format!("ip addr add {address} dev eth0 nodad")).ok();
    }
    let capture = internet.capture("eth0", "udp port 7777 or icmp[icmptype] == icmp-echo");
    for (source, target) in
        [("10.9.9.9", "203.0.113.2"), ("8.8.8.8", "203.0.113.2"), ("[2001:db8:99::9]", "[2001:db8::2]")]
    {
        let family = if source.starts_with('[') { "UDP6" } else { "UDP4" };
        h1.sh(&format!("echo forged | socat -u STDIN {family}:{target}:7777,bind={source}:7777")).ok();
    }
    h1.run("ping -n -c 1 -W 5 203.0.113.2").ok();
    let first = capture.next().expect("tcpdump saw the ping");
    assert_eq!(first[23], 1, "ICMP, which was sent last: {first:02x?}");
}

/// An uplink that gets its address, goes and comes back while the switch runs.
#[test]
fn reaches_ipv4_networks_through_a_later_uplink() {
    const UPLINK: &str = "
ip link add wan type veth peer name eth0 netns internet
ip link set wan up
ip -n internet link set eth0 up
ip -n internet addr add 203.0.113.2/24 dev eth0
ip addr add 203.0.113.1/24 dev wan";
    let host = Host::new();
    host.run("ip netns add internet").ok();
    let s = Uswitch::on(host, "--ports 1 --nat");
    let [h1, ..] = s.containers();
    for _ in 0..2 {
        s.host().sh(UPLINK).ok();
        let forwards = || s.host().run("sysctl -n net.ipv4.conf.wan.forwarding").ok() == "1\n";
        wait_until("forwarding on the uplink", forwards);
        h1.run("ping -n -c 1 -W 5 203.0.113.2").ok();
        s.host().run("ip link del wan").ok();
    }
    assert_eq!(s.host().run("sysctl -n net.ipv4.ip_forward").ok(), "0\n");
}

/// Router advertisements give the host its IPv6 default route before, during and after `--nat`, also on an interface
/// that appears in the meantime.
#[test]
fn keeps_ipv6_default_routes_from_router_advertisements() {
    const ROUTER: &str = "
ip netns add router
ip netns exec router sysctl -qw net.ipv6.conf.all.forwarding=1
ip link add up0 type veth peer name eth0 netns router
ip -n router link set eth0 up
ip link set up0 up
printf 'interface eth%s { IgnoreIfMissing on; AdvSendAdvert on; MinRtrAdvInterval 3; MaxRtrAdvInterval 4; };\n' 0 1 >/run/ra.conf";
    let host = Host::new();
    host.sh(ROUTER).ok();
    let router = host.netns("router");
    let _radvd =
        router.spawn("radvd --nodaemon --logmethod stderr --config /run/ra.conf --pidfile /run/ra.pid");
    let has_route = |host: &Host, device: &str| {
        host.run(&format!("ip -6 route show default dev {device}")).ok().contains("proto ra")
    };
    wait_until("a default route through up0", || has_route(&host, "up0"));
    let s = Uswitch::on(host, "--ports 1 --nat");
    assert!(has_route(s.host(), "up0"));
    s.host().sh("ip link add up1 type veth peer name eth1 netns router; ip -n router link set eth1 up; ip link set up1 up").ok();
    wait_until("a default route through up1", || has_route(s.host(), "up1"));
    s.stop();
    assert!(has_route(s.host(), "up0") && has_route(s.host(), "up1"));
}

/// iptables-legacy has tables of its own, which nft does not show. Chains on the way to the host count as well.
#[test]
fn reports_dropping_chains_of_iptables_legacy_and_to_the_host() {
    for (rules, words) in [
        ("iptables-legacy -P FORWARD DROP", ["chain iptables-legacy FORWARD", "-i uswitch0 -j ACCEPT"]),
        ("ip6tables-legacy -P FORWARD DROP", ["chain ip6tables-legacy FORWARD", "-o uswitch0 -j ACCEPT"]),
        ("iptables-legacy -P INPUT DROP", ["chain iptables-legacy INPUT", "-I INPUT -i uswitch0"]),
        ("iptables-nft -P INPUT DROP", ["chain ip filter INPUT", "iifname uswitch0 accept"]),
    ] {
        let host = Host::new();
        host.run(rules).ok();
        let start = host.run("uswitch start --detach --ports 1 --nat");
        let notices = start.stderr.clone();
        start.ok();
        assert_eq!(notices.lines().count(), 1, "{rules}: {notices}");
        assert!(words.iter().all(|word| notices.contains(word)), "{rules}: {notices}");
        host.run("uswitch stop").ok();
        let doctor = host.run("uswitch doctor --json").json();
        let firewall =
            doctor.as_array().unwrap().iter().find(|finding| finding["check"] == "firewall").unwrap();
        let fix = firewall["fix"].as_str().and_then(|fix| fix.strip_prefix("sudo ")).expect("a command");
        host.sh(fix).ok();
        assert_eq!(host.run("uswitch start --detach --ports 1 --nat").stderr, "", "{fix} is enough");
    }
}
