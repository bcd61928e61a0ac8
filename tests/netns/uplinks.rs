//! Uplinks with one MAC address for all hosts, in a network that accepts one.

use std::fs;

use serde_json::json;
use uswitch::wire::Mac;

use crate::harness::{Host, Shell, TestNetns, TestSwitch, Uswitch, v4, v6, wait_until};
use crate::traffic::{iperf3, send_file};

/// The address of the host on the LAN, in the subnet of the containers.
const LAN: &str = "172.16.0.100";
const LAN_V6: &str = "fd00:172:16::100";
const UPLINK: &str = "00:00:5e:00:53:01";

/// A machine whose device `eth1` leads to the namespace `lan`, which drops frames from other MAC addresses.
fn machine() -> Host {
    let host = Host::new();
    host.sh(&format!(
        "ip netns add lan; ip link add eth1 type veth peer name eth0 netns lan
         ip link set eth1 address {UPLINK} up
         ip -n lan link set lo up; ip -n lan link set eth0 up
         ip -n lan addr add {LAN}/24 dev eth0; ip -n lan addr add {LAN_V6}/64 dev eth0 nodad
         ip netns exec lan nft 'add table netdev access
             add chain netdev access in {{ type filter hook ingress device eth0 priority 0; }}
             add rule netdev access in ether saddr != {UPLINK} counter drop'"
    ))
    .ok();
    host
}

/// A switch on that machine, with the uplink `eth1`.
fn switch(arguments: &str) -> Uswitch {
    let s = Uswitch::on(machine(), arguments);
    s.host().run("uswitch port add --device eth1 --uplink-mode ipvlan").ok();
    s
}

fn lan(s: &Uswitch) -> TestNetns {
    s.host().netns("lan")
}

fn ping(from: &TestNetns, to: &str) {
    from.run(&format!("ping -n -c 2 -i 0.05 -W 10 {to}")).ok();
}

/// Pings from both sides, and TCP in super-frames.
fn reaches_the_lan(arguments: &str) {
    let s = switch(&format!("--ports 2 {arguments}"));
    let [h1, h2] = [1, 2].map(|n| s.host().netns(&format!("container{n}")));
    for (n, h) in [(1, &h1), (2, &h2)] {
        ping(h, LAN);
        ping(h, LAN_V6);
        ping(&lan(&s), &v4(n));
        ping(&lan(&s), &v6(n));
    }
    // Between containers with their own MAC addresses.
    ping(&h1, &v4(2));
    let neighbours = h1.run("ip -4 neigh show to 172.16.0.3").ok();
    let mac = s.row("port show", "container2")["address"].as_str().unwrap_or_default().to_owned();
    assert!(neighbours.contains(&mac), "{neighbours}");
    iperf3(&h1, &lan(&s), &format!("{LAN} -n 20M"));
    iperf3(&lan(&s), &h2, &format!("{} -n 20M", v4(2)));
    send_file(&h1, &lan(&s), &format!("[{LAN_V6}]"));
    send_file(&lan(&s), &h2, &format!("[{}]", v6(2)));
    for direction in ["rx", "tx"] {
        let count = |what| s.count("eth1", &format!("{direction}_{what}"));
        assert!(count("bytes") / count("frames") > 1514, "{direction}: no super-frames");
    }
    // The LAN knows all hosts by one MAC address.
    let neighbours = lan(&s).run("ip -4 neigh show nud reachable nud stale nud delay").ok();
    let known = neighbours.lines().filter(|line| line.contains(UPLINK)).count();
    assert!(known >= 2 && neighbours.lines().count() == known, "{neighbours}");
}

#[test]
fn containers_reach_the_lan_with_io_uring() {
    reaches_the_lan("--engine auto");
}

#[test]
fn containers_reach_the_lan_with_poll() {
    reaches_the_lan("--engine poll");
}

#[test]
fn containers_reach_the_lan_with_two_workers() {
    reaches_the_lan("--workers 2");
}

#[test]
fn containers_reach_the_lan_without_offload() {
    let s = Uswitch::on(machine(), "--ports 1");
    s.host().run("uswitch port add --device eth1 --uplink-mode ipvlan --no-offload").ok();
    let h1 = s.host().netns("container1");
    ping(&h1, LAN);
    send_file(&h1, &lan(&s), LAN);
    send_file(&lan(&s), &h1, &v4(1));
}

#[test]
fn trace_metrics_and_events_explain_the_uplink() {
    let s = switch("--ports 1 --metrics 127.0.0.1:9477");
    let h1 = s.host().netns("container1");
    ping(&h1, LAN);
    let mac = s.row("port show", "container1")["address"].as_str().unwrap_or_default().to_owned();
    let trace = s.host().run(&format!("uswitch trace container1 --icmp {LAN}")).ok();
    assert!(trace.contains(&format!("eth1: sent, from {UPLINK}, the uplink's")), "{trace}");
    let echo = format!("--src 02:00:00:00:00:09 --dst {UPLINK} --icmp {LAN} {}", v4(1));
    let trace = s.host().run(&format!("uswitch trace eth1 {echo}")).ok();
    for line in [
        format!("uplink eth1: for {mac}, by its IP address"),
        format!("destination {mac}: behind container1"),
        "verdict: forwarded to container1".to_owned(),
    ] {
        assert!(trace.contains(&line), "{trace}");
    }
    let metrics = s.host().run("curl -sS http://127.0.0.1:9477/metrics").ok();
    let series = "uswitch_uplink_hosts{port=\"eth1\"} ";
    let hosts = metrics.lines().find_map(|line| line.strip_prefix(series)?.parse::<u64>().ok());
    assert!(hosts >= Some(1), "{metrics}");
    let events = |kind: &str| s.host().run(&format!("uswitch events eth1 --type {kind}")).ok();
    let learned = format!("{} is behind container1", v4(1));
    wait_until("it is reported", || events("uplink_learned").contains(&learned));
    s.host().run("uswitch port del container1").ok();
    ping(&s.host().netns("lan"), "172.16.0.1");
    wait_until("it is forgotten", || events("uplink_forgotten").contains(&v4(1)));
}

/// With their own MAC addresses they are not heard.
#[test]
fn mode_can_be_changed() {
    let s = Uswitch::on(machine(), "--ports 1");
    s.host().run("uswitch port add --device eth1").ok();
    let h1 = s.host().netns("container1");
    h1.run(&format!("ping -n -c 1 -W 1 {LAN}")).fails();
    s.host().run("uswitch port set eth1 --uplink-mode ipvlan").ok();
    ping(&h1, LAN);
    let report = s.row("port show", "eth1")["uplink"].clone();
    let host =
        json!({"address": v4(1), "mac": s.row("port show", "container1")["address"], "ifname": "container1"});
    assert!(report["hosts"].as_array().is_some_and(|hosts| hosts.contains(&host)), "{report}");
    let shown = s.host().run("uswitch port show eth1").ok();
    assert!(shown.contains("eth1: uplink in mode ipvlan") && shown.contains("on container1"), "{shown}");
    s.host().run("uswitch port set eth1 --uplink-mode bridge").ok();
    assert_eq!(s.row("port show", "eth1").get("uplink"), None);
    h1.run(&format!("ping -n -c 1 -W 1 {LAN}")).fails();
}

/// The switch follows the MAC address of the device, which is its only one in the LAN.
#[test]
fn follows_the_device() {
    let s = switch("--ports 1");
    let h1 = s.host().netns("container1");
    ping(&h1, LAN);
    let other = "00:00:5e:00:53:02";
    s.host().run(&format!("ip link set eth1 address {other}")).ok();
    wait_until("the switch has seen it", || s.row("port show", "eth1")["address"] == other);
    let capture = lan(&s).capture("eth0", "arp");
    h1.run("ip neigh flush all").ok();
    h1.run(&format!("ping -n -c 1 -W 1 {LAN}")).fails();
    let arp = capture.next().expect("an ARP request");
    let mac: Mac = other.parse().expect("a MAC address");
    assert_eq!((&arp[6..12], &arp[22..28]), (&mac.0[..], &mac.0[..]));
}

/// Its reply is a broadcast, because the MAC address in the request is not that of the uplink.
#[test]
fn container_gets_its_address_by_dhcp() {
    let s = switch("--ports 0 --guard off --no-gateway");
    s.host().run("uswitch port add client --ip none").ok();
    let file = "start 172.16.0.150\nend 172.16.0.150\ninterface eth0\nlease_file /run/leases\npidfile /run/udhcpd.pid\n";
    fs::write(s.host().path("/run/udhcpd.conf"), file).expect("/run is writable");
    fs::write(s.host().path("/run/leases"), "").expect("/run is writable");
    let _server = lan(&s).spawn("busybox udhcpd -f /run/udhcpd.conf");
    let client = s.host().netns("client");
    let lease = client.sh("busybox udhcpc -i eth0 -f -n -q -t 10 -T 1 -s /bin/true 2>&1").ok();
    assert!(lease.contains("172.16.0.150"), "{lease}");
    client.run("ip addr add 172.16.0.150/24 dev eth0").ok();
    ping(&client, LAN);
}

#[test]
fn configuration_file_has_the_mode() {
    let host = machine();
    let file = "ports = 1\ndevice = ['eth1']\n[port.eth1]\nuplink-mode = 'ipvlan'\n";
    fs::write(host.path("/run/lab.toml"), file).expect("/run is writable");
    let s = Uswitch::on(host, "--config /run/lab.toml");
    ping(&s.host().netns("container1"), LAN);
    for (command, words) in [
        ("port set container1 --uplink-mode ipvlan", "container1 is not a port on an existing device"),
        ("port add --uplink-mode ipvlan", "--device"),
        ("port set eth1 --uplink-mode macvlan", "macvlan"),
    ] {
        let said = s.host().run(&format!("uswitch {command}")).fails();
        assert!(said.contains(words), "{said}");
    }
}
