//! `--ra`: containers and other hosts make their addresses of router advertisements (SLAAC).

use std::net::Ipv6Addr;

use uswitch::switch::guard::autoconfigured;

use crate::harness::{GATEWAY_V6, Host, Shell, TestNetns, TestSwitch, Uswitch, mac, v6, wait_until};

/// The default prefix.
const PREFIX: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x172, 0x16, 0, 0, 0, 0, 0);

/// A container without an assigned address.
fn add(s: &Uswitch, name: &str, words: &str) -> TestNetns {
    s.host().run(&format!("uswitch port add {name} --ip none {words}")).ok();
    s.host().netns(name)
}

/// The global IPv6 addresses that can be used.
fn addresses(shell: &dyn Shell) -> String {
    shell.run("ip -6 -o addr show dev eth0 scope global -tentative").ok()
}

/// Waits until a container has the address of its MAC in a prefix.
fn wait_for_address(container: &TestNetns, prefix: Ipv6Addr) -> Ipv6Addr {
    let address = autoconfigured(prefix, container.mac());
    wait_until("the container has an address", || addresses(container).contains(&format!("{address}/64")));
    address
}

fn counted(s: &Uswitch, what: &str) -> u64 {
    s.json("status")["router_advertisements"][what].as_u64().unwrap_or_else(|| panic!("no {what}"))
}

#[test]
fn container_makes_an_address_and_finds_gateway_and_dns() {
    let s = Uswitch::with("--ports 1 --ra --dns --domain lab.test --mtu 1400");
    let web = add(&s, "web", "");
    let address = wait_for_address(&web, PREFIX);
    let route = web.run("ip -6 route show default").ok();
    assert!(route.contains("via fe80::") && route.contains("proto ra"), "{route}");
    for target in [GATEWAY_V6, &v6(1)] {
        web.run(&format!("ping -n -c 1 -W 20 {target}")).ok();
    }
    let shown = web.run("rdisc6 -1 -r 10 -w 5000 eth0").ok();
    for line in [
        "Router lifetime           :         1800 (0x00000708) seconds",
        "Prefix                   : fd00:172:16::/64",
        "On-link                 :          Yes",
        "Autonomous address conf.:          Yes",
        "MTU                      :         1400 bytes",
        "Recursive DNS server     : fd00:172:16::1",
        "DNS search list          : lab.test",
    ] {
        assert!(shown.contains(line), "no '{line}' in {shown}");
    }
    wait_until("the name follows", || {
        let shown = web.run(&format!("dig +short +tries=1 +time=20 @{GATEWAY_V6} web AAAA"));
        shown.ok() == format!("{address}\n")
    });
    assert!(counted(&s, "solicited") >= 1 && counted(&s, "sent") >= 2);
    assert!(s.host().run("uswitch status").ok().contains("ra         fd00:172:16::/64: "));
    for reason in ["spoofed_ip", "spoofed_nd"] {
        assert_eq!(s.drops("web", reason), 0, "{reason}");
    }
}

/// A container with an assigned IPv6 address ignores the advertisements.
#[test]
fn assigned_address_stays_the_only_one() {
    let s = Uswitch::with("--ports 1 --ra");
    let (container1, web) = (s.host().netns("container1"), add(&s, "web", ""));
    wait_for_address(&web, PREFIX);
    // The same advertisement has reached container 1.
    let shown = addresses(&container1);
    assert!(shown.lines().count() == 1 && shown.contains(&v6(1)), "{shown}");
    assert_eq!(container1.run("ip -6 route show default proto ra").ok(), "");
    assert_eq!(container1.run("cat /proc/sys/net/ipv6/conf/eth0/accept_ra").ok(), "0\n");
}

/// Also after a change of the MAC address. Others of the prefix, such as temporary ones, are dropped.
#[test]
fn guard_accepts_only_the_address_of_the_mac() {
    let s = Uswitch::with("--ports 1 --ra");
    let web = add(&s, "web", "");
    wait_for_address(&web, PREFIX);
    let other = "fd00:172:16::abcd";
    web.sh(&format!("ip -6 addr add {other}/64 dev eth0 nodad; ping -n -c 1 -W 1 -I {other} {GATEWAY_V6}"))
        .fails();
    assert!(s.drops("web", "spoofed_ip") + s.drops("web", "spoofed_nd") > 0);
    web.run(&format!("ip -6 addr del {other}/64 dev eth0")).ok();
    let moved = mac(7);
    web.sh(&format!("ip link set eth0 down; ip link set eth0 address {moved}; ip link set eth0 up")).ok();
    let address = wait_for_address(&web, PREFIX);
    wait_until("the guard follows", || {
        web.run(&format!("ping -n -c 1 -W 1 -I {address} {GATEWAY_V6}")).succeeded()
    });
}

#[test]
fn gateway_of_a_vlan_advertises_its_prefix_there() {
    let s = Uswitch::with("--ports 0 --ra --vlan-filtering --vlan-gateway 10=2001:db8:10::1/64");
    let (one, ten) = (add(&s, "one", ""), add(&s, "ten", "--access 10"));
    wait_for_address(&one, PREFIX);
    wait_for_address(&ten, Ipv6Addr::new(0x2001, 0xdb8, 0x10, 0, 0, 0, 0, 0));
    assert_eq!((addresses(&one).lines().count(), addresses(&ten).lines().count()), (1, 1));
    ten.run("ping -n -c 1 -W 20 2001:db8:10::1").ok();
}

/// A host behind an existing device keeps its device when the switch stops.
#[test]
fn route_ends_with_the_switch() {
    const DEVICE: &str = "
ip netns add other
ip link add v0 type veth peer name eth0 netns other
ip link set v0 up
ip -n other link set lo up
ip -n other link set eth0 up";
    let host = Host::new();
    host.sh(DEVICE).ok();
    let s = Uswitch::on(host, "--ports 0 --ra --device v0");
    let other = s.host().netns("other");
    wait_for_address(&other, PREFIX);
    assert!(other.run("ip -6 route show default").ok().contains("proto ra"));
    s.stop();
    wait_until("the route is gone", || other.run("ip -6 route show default").ok().is_empty());
}

#[test]
fn flood_of_solicitations_is_limited_and_counted() {
    const FLOOD: &str = r#"
import socket
s = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)
for n in range(3000):
    s.sendto(b"\x85" + bytes(7), ("ff02::2%eth0", 0))
"#;
    let s = Uswitch::with("--ports 1 --ra");
    let container1 = s.host().netns("container1");
    wait_until("the link-local address is usable", || {
        !container1.run("ip -6 -o addr show dev eth0 scope link -tentative").ok().is_empty()
    });
    container1.sh(&format!("python3 -c '{FLOOD}'")).ok();
    // What the queue of the device dropped is counted, too.
    let dropped = || s.count("container1", "queue_dropped");
    wait_until("all are counted", || counted(&s, "solicited") + counted(&s, "lost") + dropped() >= 3000);
    assert!(counted(&s, "lost") > 0);
    assert!(counted(&s, "sent") < 20, "{}", counted(&s, "sent"));
}
