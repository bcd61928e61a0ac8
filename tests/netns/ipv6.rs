//! The containers' own IPv6 works as on any LAN: duplicate address detection, and configuration from router
//! advertisements. The host ignores what containers advertise.

use crate::harness::{Shell, TestSwitch, Uswitch, wait_until};

#[test]
fn detects_duplicate_address() {
    let s = Uswitch::start();
    let [h1, h2, _] = s.containers();
    let flags = |container: &dyn Shell| container.run("ip -6 -o addr show dev eth0 to fd00:172:16::99").ok();
    h1.run("ip -6 addr add fd00:172:16::99/64 dev eth0").ok();
    wait_until("the first has the address", || !flags(&h1).contains("tentative"));
    h2.run("ip -6 addr add fd00:172:16::99/64 dev eth0").ok();
    wait_until("the second has found the duplicate", || flags(&h2).contains("dadfailed"));
    assert!(!flags(&h1).contains("dadfailed"));
}

#[test]
fn assigned_addresses_are_usable_at_once() {
    let s = Uswitch::start();
    let [h1, ..] = s.containers();
    let assigned = h1.run("ip -6 -o addr show dev eth0 scope global").ok();
    assert!(assigned.contains("fd00:172:16::2/64") && !assigned.contains("tentative"), "{assigned}");
}

/// The settings of a namespace that another program made stay as they are, and its router serves the other containers.
#[test]
fn containers_use_router_advertisements_and_the_host_does_not() {
    const ROUTER: &str = "
ip netns add router
uswitch port add --netns router
ip netns exec router sysctl -qw net.ipv6.conf.all.forwarding=1
ip -n router addr add 2001:db8:5::1/64 dev eth0 nodad
printf 'interface eth0 { AdvSendAdvert on; MinRtrAdvInterval 3; MaxRtrAdvInterval 4; prefix 2001:db8:5::/64 { }; };' \
    >/run/ra.conf";
    let s = Uswitch::start();
    s.host().sh(ROUTER).ok();
    let router = s.host().netns("router");
    assert_eq!(router.run("cat /proc/sys/net/ipv6/conf/eth0/dad_transmits").ok(), "1\n");
    let _radvd =
        router.spawn("radvd --nodaemon --logmethod stderr --config /run/ra.conf --pidfile /run/ra.pid");
    let [h1, ..] = s.containers();
    let configured =
        |shell: &dyn Shell| shell.run("ip -6 -o addr show scope global").ok().contains("2001:db8:5:");
    wait_until("the container has an address", || configured(&h1));
    assert!(!configured(s.host()), "the host has no address from a container");
    assert!(!s.host().run("ip -6 route show default").ok().contains("proto ra"));
}
