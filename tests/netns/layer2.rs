//! A switch without a gateway, or with a gateway at another address: no container's address is claimed by the switch.

use crate::harness::{Host, Shell, TestSwitch, Uswitch, v4};

/// Adds a port with the address .1, and asserts that container 2 reaches it there.
#[track_caller]
fn assert_first_address_is_free(s: &Uswitch) {
    s.host().run("uswitch port add first --ip 172.16.0.1/24").ok();
    let [first, h2] = ["first", "container2"].map(|name| s.host().netns(name));
    h2.run("ip addr replace 172.16.0.3/24 dev eth0").ok();
    h2.run("ping -n -c 1 -W 5 172.16.0.1").ok();
    let neighbour = h2.run("ip neigh show 172.16.0.1").ok();
    let mac = first.run("cat /sys/class/net/eth0/address").ok();
    assert!(neighbour.contains(mac.trim()), "{neighbour}");
}

#[test]
fn no_gateway_leaves_all_addresses_to_the_containers() {
    let s = Uswitch::with("--ports 2 --no-gateway");
    for shell in
        [s.host().run("ip -o -4 addr show dev uswitch0"), s.host().netns("container1").run("ip -o -4 addr")]
    {
        assert!(!shell.ok().contains("172.16.0."));
    }
    assert_first_address_is_free(&s);
    s.host().run("ip addr add 172.16.0.9/24 dev uswitch0").ok();
    s.host().run("ping -n -c 1 -W 5 172.16.0.1").ok();
}

#[test]
fn no_gateway_with_a_subnet_assigns_addresses_without_routes() {
    let s = Uswitch::with("--ports 2 --no-gateway --subnet 172.16.0.0/24");
    let h1 = s.host().netns("container1");
    assert!(h1.run("ip -o -4 addr show dev eth0").ok().contains("172.16.0.2/24"));
    assert_eq!(h1.run("ip route show default").ok(), "");
    assert_first_address_is_free(&s);
}

#[test]
fn internal_switch_has_no_gateway() {
    assert_first_address_is_free(&Uswitch::with("--ports 2 --internal"));
}

#[test]
fn gateway_can_have_another_address() {
    let s = Uswitch::with("--ports 2 --gateway 172.16.0.254");
    let h1 = s.host().netns("container1");
    assert!(h1.run("ip route show default").ok().contains("via 172.16.0.254"));
    h1.run("ping -n -c 1 -W 5 172.16.0.254").ok();
    h1.run("ping -n -c 1 -W 5 fd00:172:16::1").ok();
    s.host().run("uswitch port add router --ip 172.16.0.1/24").ok();
    h1.run("ping -n -c 1 -W 5 172.16.0.1").ok();
    let error = s.host().run("uswitch port add other --ip 172.16.0.254/24").fails();
    assert!(error.contains("172.16.0.254 is the gateway's"), "{error}");
}

/// The user gives it one later, so the guard is off.
#[test]
fn port_without_address() {
    let s = Uswitch::with("--ports 1");
    let said = s.host().sh("uswitch port add silent --ip none 2>&1 >/dev/null").ok();
    assert!(said.contains("the guard is off on this port") && said.lines().count() == 1, "{said}");
    let silent = s.host().netns("silent");
    assert_eq!(silent.run("ip -o addr show dev eth0 scope global").ok(), "");
    silent.run("ip addr add 172.16.0.99/24 dev eth0").ok();
    silent.run(&format!("ping -n -c 1 -W 5 {}", v4(1))).ok();
    s.host().run("uswitch port add silent --replace").ok();
    assert_eq!(s.row("port show", "silent")["source_guard"], false);
    // The switch knows the address that it leases.
    let s = Uswitch::with("--ports 1 --dhcp");
    assert_eq!(s.host().sh("uswitch port add client --ip none 2>&1 >/dev/null").ok(), "");
    assert_eq!(s.row("port show", "client")["source_guard"], true);
}

#[test]
fn rejects_gateway_of_a_container_or_outside_the_subnets() {
    let host = Host::new();
    for (arguments, words) in [
        ("--ports 2 --gateway 172.16.0.3", "172.16.0.3 is the address of container 2"),
        ("--gateway 10.0.0.1", "10.0.0.1 is not a host address"),
        ("--no-gateway --nat", "'no-gateway' excludes"),
    ] {
        let error = host.run(&format!("uswitch start --detach {arguments}")).fails();
        assert!(error.contains(words) && error.lines().count() == 1, "{error}");
    }
}
