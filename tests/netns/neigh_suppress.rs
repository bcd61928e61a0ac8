//! Suppression of ARP and neighbour discovery with the kernel's hosts, compared with the Linux bridge.

use serde_json::Value;

use crate::harness::{
    LinuxBridge, Shell, Tcpdump, TestNetns, TestSwitch, Uswitch, on_both, v4, v6, wait_until,
};

on_both!(
    answers_for_known_neighbours,
    answered_requests_reach_the_other_ports,
    floods_requests_for_unknown_ones,
    keeps_probes_from_the_port
);

/// A switch with `neigh_suppress` on the port of container2, whose addresses it knows.
trait Suppresses: TestSwitch {
    /// Starts it.
    fn suppressing() -> Self;
}

impl Suppresses for Uswitch {
    fn suppressing() -> Uswitch {
        let s = Uswitch::with("--ports 3 --guard on");
        s.host().run("uswitch port set container2 --neigh-suppress on").ok();
        s
    }
}

impl Suppresses for LinuxBridge {
    fn suppressing() -> LinuxBridge {
        let s = LinuxBridge::start();
        let mac = device_mac(&s.containers()[1]);
        for address in [v4(2), v6(2)] {
            s.host().run(&format!("ip neigh add {address} lladdr {mac} dev br0 nud permanent")).ok();
        }
        s.host().run("bridge link set dev container2 neigh_suppress on").ok();
        s
    }
}

/// The MAC address of a container's device.
fn device_mac(h: &TestNetns) -> String {
    let link: Value = h.run("ip -j link show eth0").json();
    link[0]["address"].as_str().expect("a MAC address").to_owned()
}

/// The containers. The first two know each other, as the switch knows them.
fn containers(s: &impl TestSwitch) -> [TestNetns; 3] {
    let hosts = s.containers();
    for address in [v4(2), v6(2)] {
        hosts[0].run(&format!("ping -n -c 1 -W 5 {address}")).ok();
    }
    hosts
}

/// Broadcast ARP, and pings.
const V4: &str = "(arp and ether broadcast) or icmp";
/// Neighbour solicitations to groups, and pings.
const V6: &str = "(ether multicast and ip6[40] == 135) or ip6[40] == 128";

/// Captures messages of `h1` on another container.
fn messages(h1: &TestNetns, at: &TestNetns, filter: &str) -> Tcpdump {
    at.capture("eth0", &format!("ether src {} and ({filter})", device_mac(h1)))
}

/// What kind of message a frame is.
fn kind(frame: &[u8]) -> &'static str {
    match (&frame[12..14], frame.get(54)) {
        ([8, 6], _) => "ARP",
        ([8, 0], _) => "ping",
        ([0x86, 0xdd], Some(135)) => "solicitation",
        _ => "ping6",
    }
}

fn answers_for_known_neighbours<S: Suppresses>() {
    let s = S::suppressing();
    let [h1, h2, _] = containers(&s);
    for (address, filter, expected) in [(v4(2), V4, "ping"), (v6(2), V6, "ping6")] {
        h1.run("ip neigh flush all").ok();
        let at_h2 = messages(&h1, &h2, filter);
        h1.run(&format!("ping -n -c 1 -W 5 {address}")).ok();
        assert_eq!(at_h2.next().map(|frame| kind(&frame)), Some(expected));
        let neighbour: Value = h1.run(&format!("ip -j neigh show {address} dev eth0")).json();
        assert_eq!(neighbour[0]["lladdr"], device_mac(&h2), "{neighbour}");
    }
}

/// container3 gets the request, container2 does not, and there is one reply.
fn answered_requests_reach_the_other_ports<S: Suppresses>() {
    let s = S::suppressing();
    let [h1, h2, h3] = containers(&s);
    // Containers announce their own addresses.
    let request = format!("arp and ether broadcast and dst host {}", v4(2));
    let [at_h2, at_h3] = [(&h2, V4), (&h3, &*request)].map(|(h, filter)| messages(&h1, h, filter));
    let said = h1.run(&format!("arping -b -c 1 -w 2 -I eth0 {}", v4(2))).ok();
    assert!(said.contains("Received 1 response"), "{said}");
    assert_eq!(at_h3.next().map(|frame| kind(&frame)), Some("ARP"));
    h1.run(&format!("ping -n -c 1 -W 5 {}", v4(2))).ok();
    assert_eq!(at_h2.next().map(|frame| kind(&frame)), Some("ping"));
}

fn floods_requests_for_unknown_ones<S: Suppresses>() {
    let s = S::suppressing();
    let [h1, h2, _] = containers(&s);
    let at_h2 = messages(&h1, &h2, V4);
    h1.run("arping -c 1 -w 1 -I eth0 172.16.0.77").fails();
    assert_eq!(at_h2.next().map(|frame| kind(&frame)), Some("ARP"));
}

fn keeps_probes_from_the_port<S: Suppresses>() {
    let s = S::suppressing();
    let [h1, h2, h3] = containers(&s);
    let [at_h2, at_h3] = [&h2, &h3].map(|h| messages(&h1, h, V4));
    // Duplicate address detection for its own address, which no other host has; then gratuitous ARP.
    for option in ["-D", "-U"] {
        h1.run(&format!("arping {option} -c 1 -w 1 -I eth0 {}", v4(1)));
        assert_eq!(at_h3.next().map(|frame| kind(&frame)), Some("ARP"), "{option}");
    }
    h1.run(&format!("ping -n -c 1 -W 5 {}", v4(2))).ok();
    assert_eq!(at_h2.next().map(|frame| kind(&frame)), Some("ping"));
}

/// The switch knows the addresses that the device has now.
#[test]
fn knows_addresses_of_a_container_without_a_guard() {
    let s = Uswitch::with("--ports 3 --guard off");
    s.host().run("uswitch port set container2 --neigh-suppress on").ok();
    let [h1, h2, _] = containers(&s);
    let trace = |address: &str| s.host().run(&format!("uswitch trace container1 --arp-for {address}")).ok();
    assert!(trace(&v4(2)).contains("answered by the switch"));
    h2.run("ip addr add 172.16.0.99/24 dev eth0").ok();
    wait_until("the new address is known", || trace("172.16.0.99").contains("answered by the switch"));
    h1.run("ping -n -c 1 -W 5 172.16.0.99").ok();
    h2.run("ip addr del 172.16.0.99/24 dev eth0").ok();
    wait_until("it is forgotten", || trace("172.16.0.99").contains("flooded to"));
}

#[test]
fn suppression_is_shown_explained_and_counted() {
    let s = Uswitch::suppressing();
    let [h1, _, _] = containers(&s);
    let host = s.host();
    let shown = host.run("uswitch port show").ok();
    assert!(shown.contains("container2: neigh_suppress on\n"), "{shown}");
    assert_eq!(s.row("port show", "container2")["neigh_suppress"], true);
    let trace = host.run(&format!("uswitch trace container1 --arp-for {}", v4(2))).ok();
    let mac = device_mac(&s.containers()[1]);
    let reply = format!("neighbour suppression: replies: ARP reply, {} is-at {mac}", v4(2));
    assert!(trace.contains(&reply) && trace.contains("answered by the switch"), "{trace}");
    let before = s.drops("container2", "neigh_suppress");
    h1.run(&format!("arping -U -c 1 -w 1 -I eth0 {}", v4(1)));
    assert!(s.drops("container2", "neigh_suppress") > before);
    let own = host.run(&format!("uswitch trace container1 --arp-for {}", v4(1))).ok();
    assert!(own.contains("neighbour suppression: not flooded to ports with neigh_suppress"), "{own}");
    host.run("uswitch port set container2 --neigh-suppress off").ok();
    let trace = host.run(&format!("uswitch trace container1 --arp-for {}", v4(2))).ok();
    assert!(trace.contains("flooded to"), "{trace}");
}
