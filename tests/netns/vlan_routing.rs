//! `--vlan-gateway`: an address of the host in each VLAN, by which it routes between them.

use serde_json::json;

use crate::harness::{
    Host, HostSnapshot, Shell, TestNetns, TestSwitch, Uswitch, host_with_public_tun, run_as_user, v4,
    wait_until,
};
use crate::nat::INTERNET;

const GATEWAYS: &str = "--vlan-filtering --vlan-gateway 10=172.16.10.1/24,fd00:172:10::1/64 \
                        --vlan-gateway 20=172.16.20.254/24,fd00:172:20::1/64";
/// The second and the third port get the addresses of their numbers.
const TEN: [&str; 2] = ["172.16.10.3", "fd00:172:10::3"];
const TWENTY: [&str; 2] = ["172.16.20.4", "fd00:172:20::4"];

/// container1 is in the VLAN of the host port, `ten` in VLAN 10, `twenty` in VLAN 20.
fn lab(host: Host, arguments: &str) -> (Uswitch, [TestNetns; 3]) {
    let s = Uswitch::on(host, &format!("--ports 1 {GATEWAYS} {arguments}"));
    for (port, vlan) in [("ten", 10), ("twenty", 20)] {
        s.host().run(&format!("uswitch port add {port} --access {vlan}")).ok();
    }
    let containers = ["container1", "ten", "twenty"].map(|name| s.host().netns(name));
    (s, containers)
}

#[track_caller]
fn assert_reaches(from: &TestNetns, address: &str) {
    from.run(&format!("ping -n -c 1 -W 5 {address}")).ok();
}

fn routes_between_vlans(engine: &str) {
    let (s, [one, ten, twenty]) = lab(Host::new(), engine);
    for address in [&TWENTY[..], &["172.16.10.1", "fd00:172:10::1", &v4(1)]].concat() {
        assert_reaches(&ten, address);
    }
    for address in [&TEN[..], &["172.16.20.254", "fd00:172:20::1"]].concat() {
        assert_reaches(&twenty, address);
    }
    for address in [TEN, TWENTY].concat() {
        assert_reaches(&one, address);
        s.host().run(&format!("ping -n -c 1 -W 5 {address}")).ok();
    }
    // By way of the host, whose gateway in VLAN 10 is the first hop.
    let expired = ten.run(&format!("ping -n -c 1 -W 5 -t 1 {}", TWENTY[0]));
    assert!(expired.stdout.contains("From 172.16.10.1"), "{expired}");
    let mut server = twenty.spawn("socat -d -d -u TCP-LISTEN:80 OPEN:/dev/null");
    server.line_with("listening on");
    ten.sh(&format!("head -c 8000000 /dev/zero | socat -u STDIN TCP:{}:80", TWENTY[0])).ok();
    server.ok();
}

#[test]
fn routes_between_vlans_with_io_uring() {
    routes_between_vlans("--engine auto");
}

#[test]
fn routes_between_vlans_with_poll() {
    routes_between_vlans("--engine poll");
}

#[test]
fn each_gateway_answers_in_its_vlan_only() {
    let (s, [_, ten, twenty]) = lab(Host::new(), "--guard off");
    let asks = |from: &TestNetns, address: &str| from.run(&format!("arping -I eth0 -c 1 -w 1 {address}"));
    asks(&ten, "172.16.10.1").ok();
    asks(&twenty, "172.16.20.254").ok();
    asks(&ten, "172.16.20.254").fails();
    asks(&twenty, "172.16.10.1").fails();
    asks(&ten, "172.16.0.1").fails();
    let before = s.drops("ten", "spoofed_gateway");
    ten.run("ip addr add 172.16.10.1/32 dev eth0").ok();
    ten.run(&format!("ping -n -c 1 -W 1 -I 172.16.10.1 {}", TWENTY[0])).fails();
    assert!(s.drops("ten", "spoofed_gateway") > before);
}

#[test]
fn follows_the_mac_address_of_the_vlans_device() {
    let (s, [_, ten, twenty]) = lab(Host::new(), "");
    let mac = "02:00:5e:00:53:77";
    s.host().run(&format!("ip link set uswitch0.10 address {mac}")).ok();
    wait_until("the switch follows", || s.json("status")["vlan_gateways"][0]["mac"] == mac);
    ten.run("ip neigh flush all").ok();
    assert_reaches(&ten, TWENTY[0]);
    assert_reaches(&twenty, TEN[0]);
    assert!(ten.run("ip neigh show 172.16.10.1").ok().contains(mac));
}

/// Neither after `stop` nor after a kill.
#[test]
fn leaves_nothing_behind() {
    let host = Host::new();
    let before = HostSnapshot::of(&host);
    for end in ["uswitch stop", "kill -9 $(pgrep -x uswitch); uswitch stop"] {
        host.run(&format!("uswitch start --detach --ports 2 {GATEWAYS}")).ok();
        host.run("uswitch port add ten --access 10").ok();
        host.sh(end).ok();
        before.assert_same(&host);
    }
    host.run("ip link add uswitch0.20 type veth peer name other").ok();
    let before = HostSnapshot::of(&host);
    let error = host.run(&format!("uswitch start --detach {GATEWAYS}")).fails();
    assert!(error.contains("a device named 'uswitch0.20' already exists"), "{error}");
    before.assert_same(&host);
}

/// A host that another program has made a router, and a machine that has routes to the VLANs.
fn router() -> (Host, TestNetns) {
    let host = Host::new();
    host.sh(INTERNET).ok();
    host.run("sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1").ok();
    let internet = host.netns("internet");
    internet.run("ip route add 172.16.10.0/24 via 203.0.113.1").ok();
    internet.run("ip route add fd00:172:10::/64 via 2001:db8::1").ok();
    (host, internet)
}

#[test]
fn nat_is_for_vlans_too() {
    let (host, internet) = router();
    let (_s, [_, ten, twenty]) = lab(host, "--nat");
    for address in ["203.0.113.2", "2001:db8::2", TWENTY[0]] {
        assert_reaches(&ten, address);
    }
    assert_reaches(&twenty, "203.0.113.2");
    for address in TEN {
        internet.run(&format!("ping -n -c 1 -W 1 {address}")).fails();
    }
}

#[test]
fn other_networks_need_nat() {
    let (host, internet) = router();
    let (s, [_, ten, _]) = lab(host, "");
    for (echo, address, of_host) in [
        ("icmp[icmptype] == icmp-echo", "203.0.113.2", &[203, 0, 113, 1][..]),
        ("icmp6[icmp6type] == icmp6-echo", "2001:db8::2", &[0x20, 1, 0xd, 0xb8, 0, 0, 0, 0][..]),
    ] {
        let capture = internet.capture("eth0", echo);
        ten.run(&format!("ping -n -c 1 -W 1 {address}")).fails();
        s.host().run(&format!("ping -n -c 1 -W 5 {address}")).ok();
        let frame = capture.next().expect("tcpdump saw the ping of the host");
        let source = if of_host.len() == 4 { &frame[26..30] } else { &frame[22..30] };
        assert_eq!(source, of_host, "the first echo request on the other network");
    }
    for address in TEN {
        internet.run(&format!("ping -n -c 1 -W 1 {address}")).fails();
    }
    assert_reaches(&ten, TWENTY[0]);
}

/// A container without a guard uses an address of another VLAN: its packets are not routed.
#[test]
fn drops_packets_with_addresses_of_another_vlan() {
    let (_s, [one, ten, _]) = lab(Host::new(), "--guard off");
    ten.run("ip addr add 172.16.20.9/32 dev eth0").ok();
    let capture = one.capture("eth0", "icmp[icmptype] == icmp-echo");
    ten.run(&format!("ping -n -c 1 -W 1 -I 172.16.20.9 {}", v4(1))).fails();
    assert_reaches(&ten, &v4(1));
    let frame = capture.next().expect("tcpdump saw the second ping");
    assert_eq!(frame[26..30], [172, 16, 10, 3]);
}

#[test]
fn routes_without_root() {
    let host = host_with_public_tun();
    let before = HostSnapshot::of(&host);
    run_as_user(&host, &format!("uswitch start --detach --ports 0 {GATEWAYS}")).ok();
    for (port, vlan) in [("ten", 10), ("twenty", 20)] {
        run_as_user(&host, &format!("uswitch port add {port} --access {vlan}")).ok();
    }
    for address in ["172.16.20.3", "fd00:172:20::3"] {
        run_as_user(&host, &format!("uswitch exec ten -- ping -n -c 1 -W 5 {address}")).ok();
    }
    run_as_user(&host, "uswitch exec host.10 -- ping -n -c 1 -W 5 172.16.10.2").ok();
    run_as_user(&host, "uswitch stop").ok();
    before.assert_same(&host);
}

#[test]
fn host_ports_stay_in_their_vlans() {
    let (s, _) = lab(Host::new(), "");
    let before = s.json("vlan show");
    for (command, words) in [
        ("vlan add host 20", "VLAN 20 has a host port of its own, host.20"),
        ("port set host --trunk 5,10", "VLAN 10 has a host port of its own, host.10"),
        ("vlan add host.10 30", "host.10 is the host port of its VLAN, and stays there"),
        ("vlan del host.10 10", "host.10 is the host port of its VLAN, and stays there"),
        ("port set host.10 --access 30", "stays in its VLAN"),
        ("port set host.10 --guard on", "the host port has no guard"),
        ("port del host.10", "the host port cannot be deleted"),
        ("port add host.30", "'host.30' cannot name a container"),
        ("port add other --ip 172.16.10.1/24", "172.16.10.1 is the gateway's"),
    ] {
        let error = s.host().run(&format!("uswitch {command}")).fails();
        assert!(error.contains(words) && error.lines().count() == 1, "{command}: {error}");
    }
    assert_eq!(s.json("vlan show"), before);
    let gateways = s.json("status")["vlan_gateways"].clone();
    assert_eq!(gateways[1]["addresses"], json!(["172.16.20.254/24", "fd00:172:20::1/64"]));
    let status = s.host().run("uswitch status").ok();
    assert!(status.contains("  VLAN 10    gateway 172.16.10.1/24 fd00:172:10::1/64 ("), "{status}");
}
