//! `--nat`: connections from containers to other machines, IPv4 and IPv6.

use crate::harness::{Host, HostSnapshot, LinuxBridge, Shell, TestNetns, TestSwitch, Uswitch, v4, v6};

/// Connects the host to a machine named "internet", which has no routes to the containers.
const INTERNET: &str = "
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
        assert_eq!(s.host().run("sysctl -n net.ipv4.ip_forward").ok().trim(), "1");
        s.stop();
        before.assert_same(s.host());
    }
}
