//! `--dhcp`: real DHCP clients in containers.

use nix::sys::signal::Signal;

use crate::harness::{Host, HostSnapshot, Process, Shell, TestNetns, TestSwitch, Uswitch, wait_until};
use crate::nat::INTERNET;

/// What udhcpc runs when it has got an address.
const SCRIPT: &str = r#"#!/bin/sh
case $1 in
bound|renew) ip -4 addr flush dev $interface; ip addr add $ip/$mask dev $interface
    ip route replace default via $router ;;
deconfig) ip link set $interface up; ip -4 addr flush dev $interface ;;
esac
echo "$1 ip=$ip/$mask router=$router dns=$dns domain=$domain mtu=$mtu lease=$lease serverid=$serverid"
"#;
/// udhcpc in the foreground, at eth0.
const UDHCPC: &str = "udhcpc -f -t 10 -T 2 -i eth0 -s /run/udhcpc.sh";

/// A switch whose containers have the script.
fn switch(host: Host, words: &str) -> Uswitch {
    host.sh(&format!("cat >/run/udhcpc.sh <<'END'\n{SCRIPT}END\nchmod +x /run/udhcpc.sh")).ok();
    Uswitch::on(host, &format!("--dhcp {words}"))
}

/// Gets an address, and ends: what the script was told.
fn bound(container: &TestNetns, words: &str) -> String {
    let output = container.run(&format!("{UDHCPC} -n -q {words}")).ok();
    let line = output.lines().find(|line| line.starts_with("bound "));
    line.unwrap_or_else(|| panic!("no address: {output}")).to_owned()
}

/// A client that keeps its address.
fn daemon(container: &TestNetns, words: &str) -> Process {
    container.spawn(&format!("{UDHCPC} {words}"))
}

/// A container without an address.
fn add(s: &Uswitch, name: &str) -> TestNetns {
    s.host().run(&format!("uswitch port add {name} --ip none")).ok();
    s.host().netns(name)
}

fn count(s: &Uswitch, what: &str) -> u64 {
    s.json("status")["dhcp"][what].as_u64().unwrap_or_else(|| panic!("no {what}"))
}

#[test]
fn clients_get_address_router_dns_and_domain() {
    let s = switch(Host::new(), "--ports 1 --dns --domain lab.test --mtu 1400");
    let container1 = s.host().netns("container1");
    assert_eq!(
        bound(&container1, ""),
        "bound ip=172.16.0.2/24 router=172.16.0.1 dns=172.16.0.1 domain=lab.test mtu=1400 lease=3600 \
         serverid=172.16.0.1",
        "the address that the port has"
    );
    let (web, b) = (add(&s, "web"), add(&s, "b"));
    assert!(bound(&web, "").starts_with("bound ip=172.16.0.3/24 router=172.16.0.1 "));
    assert!(bound(&b, "").starts_with("bound ip=172.16.0.4/24 "));
    web.run("ping -c 1 -W 20 172.16.0.4").ok();
    web.run("ping -c 1 -W 20 172.16.0.1").ok();
    wait_until("the name follows", || {
        container1.run("dig +short +tries=1 +time=20 @172.16.0.1 web A").ok() == "172.16.0.3\n"
    });
    assert_eq!((count(&s, "leases"), count(&s, "acknowledged")), (2, 3));
    assert!(s.host().run("uswitch status").ok().contains("dhcp       2 leases of 3600 s: 3 offered"));
}

/// The guard drops what a container sends from an address before it has that, and from others afterwards.
#[test]
fn guard_accepts_the_leased_address_until_it_is_released() {
    let s = switch(Host::new(), "--ports 1");
    let a = add(&s, "a");
    let ping = "ip addr replace 172.16.0.3/24 dev eth0; ip link set eth0 up; ping -c 1 -W 1 172.16.0.1";
    assert!(!a.sh(ping).succeeded());
    let mut client = daemon(&a, "-R");
    client.line_with("bound ip=172.16.0.3/24");
    a.run("ping -c 1 -W 20 172.16.0.1").ok();
    client.signal(Signal::SIGUSR1);
    client.line_with("renew ip=172.16.0.3/24");
    // A client repeats a request that is answered late.
    assert!(count(&s, "leases") == 1 && count(&s, "acknowledged") >= 2);
    client.signal(Signal::SIGTERM);
    wait_until("the lease ends", || count(&s, "leases") == 0);
    assert!(!a.sh(ping).succeeded());
}

#[test]
fn dhclient_gets_and_releases_an_address() {
    let s = switch(Host::new(), "--ports 0");
    let a = add(&s, "a");
    let dhclient = "dhclient -4 -1 -v -sf /bin/true -lf /run/dhclient.leases -pf /run/dhclient.pid";
    let output = a.sh(&format!("{dhclient} eth0 2>&1")).ok();
    assert!(output.contains("bound to 172.16.0.2"), "{output}");
    assert_eq!(count(&s, "leases"), 1);
    a.sh(&format!("ip addr add 172.16.0.2/24 dev eth0; {dhclient} -r eth0 2>&1")).ok();
    wait_until("the lease ends", || count(&s, "leases") == 0);
}

#[test]
fn exhausted_subnet_gives_no_address_until_one_is_free() {
    let s = switch(Host::new(), "--ports 1 --subnet 10.9.0.0/29");
    let containers: Vec<TestNetns> = ["a", "b", "c", "d"].iter().map(|name| add(&s, name)).collect();
    for (n, container) in containers.iter().enumerate() {
        assert!(bound(container, "").starts_with(&format!("bound ip=10.9.0.{}/29", n + 3)));
    }
    let last = add(&s, "last");
    last.run("udhcpc -f -n -q -t 2 -T 1 -i eth0 -s /run/udhcpc.sh").fails();
    assert!(count(&s, "exhausted") >= 2);
    let mut client = daemon(&containers[1], "-R");
    client.line_with("bound ip=10.9.0.4/29");
    // The client drops its address at once, so its release cannot wait for ARP.
    containers[1].run("ping -c 1 -W 20 10.9.0.1").ok();
    client.signal(Signal::SIGTERM);
    wait_until("the lease ends", || count(&s, "leases") == 3);
    assert!(bound(&last, "").starts_with("bound ip=10.9.0.4/29"));
}

/// Also the guard accepts it again before the client asks: its device may be older than the switch.
#[test]
fn leases_survive_a_restart() {
    let s = switch(Host::new(), "--ports 0");
    let (_first, second) = (add(&s, "a"), add(&s, "b"));
    assert!(bound(&second, "-r 172.16.0.77").starts_with("bound ip=172.16.0.77/24"));
    s.stop();
    s.host().run("uswitch start --detach --dhcp --ports 0").ok();
    let second = add(&s, "b");
    assert_eq!(count(&s, "leases"), 1);
    second.sh("ip addr add 172.16.0.77/24 dev eth0; ping -c 1 -W 20 172.16.0.1").ok();
    assert!(bound(&second, "").starts_with("bound ip=172.16.0.77/24"));
}

#[test]
fn gateways_of_vlans_serve_their_vlans() {
    let s = switch(Host::new(), "--ports 0 --vlan-filtering --vlan-gateway 10=172.16.10.1/24");
    s.host().run("uswitch port add web --ip none --access 10").ok();
    let web = s.host().netns("web");
    assert!(bound(&web, "").starts_with("bound ip=172.16.10.2/24 router=172.16.10.1 "));
}

#[test]
fn no_other_network_is_served() {
    let host = Host::new();
    host.sh(INTERNET).ok();
    let internet = host.netns("internet");
    let s = switch(host, "--ports 1");
    let device = internet.run("ip -br link show type veth").ok();
    let device = device.split(['@', ' ']).next().expect("a device").to_owned();
    internet.run(&format!("udhcpc -f -n -q -t 2 -T 1 -i {device} -s /bin/true")).fails();
    assert_eq!((count(&s, "offered"), count(&s, "ignored")), (0, 0));
    assert!(bound(&s.host().netns("container1"), "").starts_with("bound ip=172.16.0.2/24"));
}

#[test]
fn malformed_messages_are_ignored_and_counted() {
    const FLOOD: &str = r#"
import os, socket
client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
client.bind(("", 68))
for n in range(50):
    client.sendto(os.urandom(400), ("172.16.0.1", 67))
    client.sendto(b"\1\1\6\0" + os.urandom(20) + bytes(212) + b"\x63\x82\x53\x63" + os.urandom(200), ("172.16.0.1", 67))
"#;
    // The guard would drop those with another MAC.
    let s = switch(Host::new(), "--ports 1 --guard off");
    let container1 = s.host().netns("container1");
    container1.sh(&format!("python3 -c '{FLOOD}'")).ok();
    wait_until("all are read", || count(&s, "ignored") >= 90);
    assert!(bound(&container1, "").starts_with("bound ip=172.16.0.2/24"));
}

#[test]
fn port_that_is_in_use_is_refused_in_one_line() {
    let host = Host::new();
    let mut taken = host.spawn("socat -d -d UDP4-RECVFROM:67,fork /dev/null");
    taken.line_with("receiving on");
    let before = HostSnapshot::of(&host);
    let error = host.run("uswitch start --detach --ports 1 --dhcp").fails();
    assert!(error.lines().count() == 1 && error.contains("cannot serve DHCP on uswitch0"), "{error}");
    before.assert_same(&host);
}

/// The kept events of a type, each with its address and reason.
fn events(s: &Uswitch, kind: &str) -> Vec<(String, String)> {
    let lines = s.host().run(&format!("uswitch events --json --type {kind}")).ok();
    let event = |line: &str| {
        let event: serde_json::Value = serde_json::from_str(line).expect("an event in each line");
        let field = |name: &str| event[name].as_str().unwrap_or_default().to_owned();
        (field("value"), field("reason"))
    };
    lines.lines().map(event).collect()
}

#[test]
fn leases_are_listed_and_their_changes_are_events() {
    let s = switch(Host::new(), "--ports 0");
    let a = add(&s, "a");
    let mut client = daemon(&a, "-R");
    client.line_with("bound ip=172.16.0.2/24");
    let shown = s.host().run("uswitch dhcp show").ok();
    assert!(
        shown.lines().nth(1).is_some_and(|line| line.starts_with("a     172.16.0.2  container  ")),
        "{shown}"
    );
    let leases = s.json("dhcp show a");
    assert_eq!(leases[0]["address"], "172.16.0.2");
    client.signal(Signal::SIGUSR1);
    client.line_with("renew ip=172.16.0.2/24");
    a.run("ping -c 1 -W 20 172.16.0.1").ok();
    client.signal(Signal::SIGTERM);
    wait_until("the lease ends", || !events(&s, "dhcp_ended").is_empty());
    let with = |reason: &str| vec![("172.16.0.2".to_owned(), reason.to_owned())];
    assert_eq!(events(&s, "dhcp_leased"), with(""));
    assert_eq!(events(&s, "dhcp_renewed"), with(""));
    assert_eq!(events(&s, "dhcp_ended"), with("released"));
    assert_eq!(s.json("dhcp show"), serde_json::json!([]));
}

#[test]
fn reserved_addresses_go_to_their_clients() {
    let words = "--ports 0 --dhcp-host web,172.16.0.2 --dhcp-host 02:00:5e:10:00:09,172.16.0.3";
    let s = switch(Host::new(), words);
    let (a, web) = (add(&s, "a"), add(&s, "web"));
    assert!(bound(&a, "-r 172.16.0.2").starts_with("bound ip=172.16.0.4/24 "), "the others are reserved");
    assert!(bound(&web, "").starts_with("bound ip=172.16.0.2/24 "));
    s.host().run("uswitch port add mac --ip none --mac 02:00:5e:10:00:09").ok();
    assert!(bound(&s.host().netns("mac"), "").starts_with("bound ip=172.16.0.3/24 "));
}

/// Neither the number of the port nor the wish of the client leads out of the range.
#[test]
fn clients_get_addresses_of_the_range() {
    let s = switch(Host::new(), "--ports 0 --dhcp-range 172.16.0.100-172.16.0.101");
    let [a, b, c] = ["a", "b", "c"].map(|name| add(&s, name));
    assert!(bound(&a, "").starts_with("bound ip=172.16.0.100/24 "));
    assert!(bound(&b, "-r 172.16.0.7").starts_with("bound ip=172.16.0.101/24 "));
    c.run("udhcpc -f -n -q -t 2 -T 1 -i eth0 -s /bin/true").fails();
    assert!(count(&s, "exhausted") > 0);
}
