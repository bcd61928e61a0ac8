//! `--dhcp` with an IPv6 subnet: real DHCPv6 clients in containers.

use crate::harness::{GATEWAY_V6, Host, Shell, TestNetns, TestSwitch, Uswitch, v6, wait_until};

/// What dhclient runs when it has got an address.
const SCRIPT: &str = r#"#!/bin/sh
case $reason in
BOUND6|RENEW6|REBIND6) ip -6 addr replace $new_ip6_address/64 dev $interface nodad ;;
RELEASE6|STOP6|EXPIRE6) ip -6 addr flush dev $interface scope global ;;
esac
echo "$reason $new_ip6_address dns=$new_dhcp6_name_servers domain=$new_dhcp6_domain_search" >>/run/$interface.log
"#;
const DHCLIENT: &str =
    "dhclient -6 -v -sf /run/dhclient6.sh -lf /run/dhclient6.leases -pf /run/dhclient6.pid";

/// A switch whose containers have the script.
fn switch(words: &str) -> Uswitch {
    let host = Host::new();
    host.sh(&format!("cat >/run/dhclient6.sh <<'END'\n{SCRIPT}END\nchmod +x /run/dhclient6.sh")).ok();
    Uswitch::on(host, &format!("--dhcp {words}"))
}

/// A container without an address.
fn add(s: &Uswitch, name: &str, words: &str) -> TestNetns {
    s.host().run(&format!("uswitch port add {name} --ip none {words}")).ok();
    ready(s, name)
}

/// A container whose link-local address is usable.
fn ready(s: &Uswitch, name: &str) -> TestNetns {
    let container = s.host().netns(name);
    wait_until("the link-local address is usable", || {
        !container.run("ip -6 -o addr show dev eth0 scope link -tentative").ok().is_empty()
    });
    container
}

/// Runs dhclient until it has an address, or has done what its words say: what its script wrote last.
fn dhclient(container: &TestNetns, words: &str) -> String {
    container.sh(&format!("{DHCLIENT} {words} eth0 2>&1")).ok();
    let log = container.run("cat /run/eth0.log").ok();
    log.lines().last().unwrap_or_default().to_owned()
}

fn count(s: &Uswitch, what: &str) -> u64 {
    s.json("status")["dhcp"][what].as_u64().unwrap_or_else(|| panic!("no {what}"))
}

#[test]
fn dhclient_gets_renews_and_releases_an_address() {
    let s = switch("--ports 1 --dns --domain lab.test");
    let web = add(&s, "web", "");
    let bound = dhclient(&web, "-1");
    assert_eq!(bound, "BOUND6 fd00:172:16::3 dns=fd00:172:16::1 domain=lab.test.");
    for target in [GATEWAY_V6, &v6(1)] {
        web.run(&format!("ping -n -c 1 -W 20 {target}")).ok();
    }
    wait_until("the name follows", || {
        web.run(&format!("dig +short +tries=1 +time=20 @{GATEWAY_V6} web AAAA")).ok() == "fd00:172:16::3\n"
    });
    assert_eq!((count(&s, "leases"), count(&s, "offered"), count(&s, "acknowledged")), (1, 1, 1));
    assert_eq!(s.drops("web", "spoofed_ip"), 0);
    dhclient(&web, "-r");
    wait_until("the lease ends", || count(&s, "leases") == 0);
    let ping = format!("ip -6 addr replace fd00:172:16::3/64 dev eth0 nodad; ping -n -c 1 -W 1 {GATEWAY_V6}");
    assert!(!web.sh(&ping).succeeded(), "the guard drops it");
}

/// Its own address needs no lease.
#[test]
fn container_gets_the_address_of_its_port() {
    let s = switch("--ports 1");
    let container1 = ready(&s, "container1");
    assert!(dhclient(&container1, "-1").starts_with(&format!("BOUND6 {} ", v6(1))));
    assert_eq!(count(&s, "leases"), 0);
}

#[test]
fn leases_survive_a_restart() {
    let s = switch("--ports 0");
    let web = add(&s, "web", "");
    assert!(dhclient(&web, "-1").starts_with("BOUND6 fd00:172:16::2 "));
    s.stop();
    s.host().run("uswitch start --detach --dhcp --ports 0").ok();
    let (_first, web) = (add(&s, "other", ""), add(&s, "web", ""));
    assert_eq!(count(&s, "leases"), 1);
    // It has a lease in its file: it confirms or rebinds it.
    assert!(dhclient(&web, "-1").contains(" fd00:172:16::2 "));
    web.run(&format!("ping -n -c 1 -W 20 {GATEWAY_V6}")).ok();
    assert_eq!(count(&s, "leases"), 1);
}

#[test]
fn gateway_of_a_vlan_serves_its_vlan() {
    let s = switch("--ports 0 --vlan-filtering --vlan-gateway 10=2001:db8:10::1/64");
    let ten = add(&s, "ten", "--access 10");
    assert!(dhclient(&ten, "-1").starts_with("BOUND6 2001:db8:10::2 "));
    ten.run("ping -n -c 1 -W 20 2001:db8:10::1").ok();
}

/// Solicits with the DUIDs of many clients, and rapid commit. Some messages are malformed.
const MANY: &str = r#"
import os, random, socket, struct
s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
s.bind(("::", 546))
messages = [os.urandom(200) for _ in range(10)]
messages += [bytes([n, 0, 0, n]) + os.urandom(200) for n in range(14)]
for n in range(40):
    duid = bytes([0, 3, 0, 1, 2, 0, 0, 0, 0, n])
    ia = struct.pack(">III", 1, 0, 0)
    options = [(1, duid), (14, b""), (3, ia)]
    messages.append(b"\1" + bytes(3) + b"".join(struct.pack(">HH", c, len(d)) + d for c, d in options))
random.shuffle(messages)
for message in messages: s.sendto(message, ("ff02::1:2%eth0", 547))
"#;

/// A container cannot take all addresses, and what is malformed is ignored.
#[test]
fn leases_of_a_port_are_limited() {
    let s = switch("--ports 0");
    let web = add(&s, "web", "");
    // Few messages of a port are read in a second.
    let mut sent = 0;
    wait_until("some of each kind are handled", || {
        web.sh(&format!("python3 -c '{MANY}'")).ok();
        sent += 64;
        count(&s, "limited") > 0 && count(&s, "ignored") > 0 && count(&s, "lost") > 0
    });
    // Of the malformed ones, few are valid by chance.
    wait_until("all are handled", || {
        let dropped = s.count("web", "queue_dropped");
        let handled = ["acknowledged", "limited", "ignored", "lost"].map(|what| count(&s, what));
        handled.iter().sum::<u64>() + dropped >= sent * 95 / 100
    });
    assert_eq!(count(&s, "leases"), 16);
    let other = add(&s, "other", "");
    assert!(dhclient(&other, "-1").starts_with("BOUND6 fd00:172:16::"));
    s.host().run("uswitch port del web").ok();
    assert_eq!(count(&s, "leases"), 1, "the next container has other clients");
}

/// Asks for two addresses, of which the second one is made of the MAC 02:00:00:00:00:07.
const ASK: &str = r#"
import socket, struct
s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
s.bind(("::", 546))
option = lambda code, data: struct.pack(">HH", code, len(data)) + data
for iaid, address in enumerate(["fd00:172:16::50", "fd00:172:16::ff:fe00:7"]):
    wanted = option(5, socket.inet_pton(socket.AF_INET6, address) + struct.pack(">II", 0, 0))
    ia = option(3, struct.pack(">III", iaid, 0, 0) + wanted)
    client = option(1, bytes([0, 3, 0, 1, 2, 0, 0, 0, 0, 9]))
    s.sendto(b"\1" + bytes(3) + client + option(14, b"") + ia, ("ff02::1:2%eth0", 547))
"#;

/// A container that is not there yet may make it (SLAAC).
#[test]
fn address_that_another_mac_address_makes_is_not_leased() {
    let s = switch("--ports 0 --ra");
    let web = add(&s, "web", "");
    web.sh(&format!("python3 -c '{ASK}'")).ok();
    wait_until("both have a lease", || count(&s, "leases") == 2);
    let leases = s.json("dhcp show").to_string();
    assert!(leases.contains("fd00:172:16::50\"") && !leases.contains("ff:fe00:7"), "{leases}");
}
