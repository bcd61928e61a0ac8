//! IGMP and MLD snooping with the kernel's hosts, compared with the Linux bridge.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use etherparse::PacketBuilder;
use nix::sys::signal::Signal;
use serde_json::Value;
use uswitch::wire::Mac;

use crate::harness::{
    Frame, LinuxBridge, Process, Shell, TestNetns, TestSwitch, Uswitch, end_marker, mac, on_both, v4,
    wait_until,
};

on_both!(sends_groups_to_members_only, floods_groups_without_a_querier, router_ports_get_all_groups);

/// A switch that snoops.
trait Snoops: TestSwitch {
    /// Starts one that is the querier.
    fn querier() -> Self;
    /// The entries of the multicast database, in the format of `bridge -j mdb show`.
    fn mdb(&self) -> Value;

    /// Changes a setting of a port, with its name in bridge(8).
    fn set(&self, port: &TestNetns, setting: &str, value: &str);

    /// Whether a port has joined a group.
    fn has_member(&self, port: &TestNetns, group: &str) -> bool {
        let entries = self.mdb()[0]["mdb"].as_array().cloned().unwrap_or_default();
        entries.iter().any(|entry| entry["port"] == port.name() && entry["grp"] == group)
    }
}

impl Snoops for Uswitch {
    fn querier() -> Uswitch {
        Uswitch::with("--ports 3 --guard off --mcast-querier on")
    }
    fn mdb(&self) -> Value {
        self.json("mdb show")
    }
    fn set(&self, port: &TestNetns, setting: &str, value: &str) {
        let option = setting.replace('_', "-").replace("fastleave", "mcast-fast-leave");
        self.host().run(&format!("uswitch port set {} --{option} {value}", port.name())).ok();
    }
}

impl Snoops for LinuxBridge {
    fn querier() -> LinuxBridge {
        let bridge = LinuxBridge::start();
        let querier = "mcast_querier 1 mcast_igmp_version 3 mcast_mld_version 2";
        bridge.host().run(&format!("ip link set br0 type bridge {querier}")).ok();
        bridge
    }
    fn mdb(&self) -> Value {
        self.host().run("bridge -j -d mdb show").json()
    }
    fn set(&self, port: &TestNetns, setting: &str, value: &str) {
        self.host().run(&format!("bridge link set dev {} {setting} {value}", port.name())).ok();
    }
}

/// Joins a group, from all sources or from one, until it is ended.
fn join(h: &TestNetns, group: &str, source: Option<&str>) -> Process {
    const PROGRAM: &str = "import socket, sys
group, source = sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else None
if \":\" in group:
    s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, socket.inet_pton(socket.AF_INET6, group)
                 + socket.if_nametoindex(\"eth0\").to_bytes(4, \"little\"))
else:
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    interface = socket.inet_aton(sys.argv[3] if source else \"0.0.0.0\")
    request = socket.inet_aton(group) + interface
    # IP_ADD_SOURCE_MEMBERSHIP, IP_ADD_MEMBERSHIP
    s.setsockopt(0, *((39, request + socket.inet_aton(source)) if source else (35, request)))
print(\"joined\", flush=True)
sys.stdin.read()";
    let own = h.name().trim_start_matches("container").parse().map(v4).expect("container N");
    let arguments = source.map_or(group.to_owned(), |source| format!("{group} {source} {own}"));
    let mut process = h.spawn_sh(&format!("exec python3 -c '{PROGRAM}' {arguments} < /dev/zero"));
    process.line_with("joined");
    process
}

/// A UDP datagram to a group.
fn datagram(source: &str, group: &str) -> Frame {
    let group: IpAddr = group.parse().expect("an address");
    let destination = Mac::of_group(group).expect("a group");
    let ethernet = PacketBuilder::ethernet2(mac(0xa).0, destination.0);
    let packet = match (source.parse().expect("an address"), group) {
        (IpAddr::V4(source), IpAddr::V4(group)) => {
            ethernet.ipv4(Ipv4Addr::octets(&source), group.octets(), 4).udp(5000, 5000)
        }
        (IpAddr::V6(source), IpAddr::V6(group)) => {
            ethernet.ipv6(Ipv6Addr::octets(&source), group.octets(), 4).udp(5000, 5000)
        }
        _ => unreachable!("both are of one family"),
    };
    let mut frame = Vec::new();
    packet.write_to_vec(&mut frame, b"a datagram of some length").expect("it fits");
    frame
}

/// Which of `receivers` see a datagram that container1 sends.
fn receivers<const N: usize>(s: &impl TestSwitch, sent: &Frame, receivers: [&TestNetns; N]) -> [bool; N] {
    let [h1, ..] = s.containers();
    let captures = receivers.map(|h| h.capture("eth0", "udp port 5000 or ether proto 0x88b5"));
    let last = end_marker();
    h1.send(&[sent.clone(), last.clone()]);
    captures.map(|capture| capture.until(&last).contains(sent))
}

fn sends_groups_to_members_only<S: Snoops>() {
    let s = S::querier();
    let [_, h2, h3] = s.containers();
    let (one, other) = (v4(1), "198.51.100.9");
    let any_source = join(&h2, "239.1.1.1", None);
    let _ipv6 = join(&h2, "ff15::1", None);
    let _one_source = join(&h3, "239.1.1.1", Some(&one));
    for (h, group) in [(&h2, "239.1.1.1"), (&h2, "ff15::1"), (&h3, "239.1.1.1")] {
        wait_until("the switch knows the members", || s.has_member(h, group));
    }
    // Hosts have 10 s to report. Until then groups are flooded.
    let unjoined = [datagram(&one, "239.9.9.9"), datagram("2001:db8::1", "ff15::9")];
    wait_until("groups without members are not flooded", || {
        unjoined.iter().all(|frame| receivers(&s, frame, [&h2, &h3]) == [false, false])
    });
    let seen = |source: &str, group: &str| receivers(&s, &datagram(source, group), [&h2, &h3]);
    assert_eq!(seen(&one, "239.1.1.1"), [true, true]);
    assert_eq!(seen(other, "239.1.1.1"), [true, false], "container3 wants another source");
    assert_eq!(seen("2001:db8::1", "ff15::1"), [true, false]);
    assert_eq!(seen(&one, "224.0.0.251"), [true, true], "always flooded");
    assert_eq!(seen("2001:db8::1", "ff02::1"), [true, true], "always flooded");
    any_source.signal(Signal::SIGKILL);
    wait_until("container2 has left", || !s.has_member(&h2, "239.1.1.1"));
    assert_eq!(seen(&one, "239.1.1.1"), [false, true]);
}

fn floods_groups_without_a_querier<S: Snoops>() {
    let s = S::start();
    let [_, h2, h3] = s.containers();
    let _member = join(&h2, "239.1.1.1", None);
    wait_until("the switch knows the member", || s.has_member(&h2, "239.1.1.1"));
    for group in ["239.1.1.1", "239.9.9.9"] {
        assert_eq!(receivers(&s, &datagram(&v4(1), group), [&h2, &h3]), [true, true], "{group}");
    }
}

fn router_ports_get_all_groups<S: Snoops>() {
    let s = S::querier();
    let [h1, h2, h3] = s.containers();
    let unjoined = datagram(&v4(1), "239.9.9.9");
    wait_until("groups without members are not flooded", || {
        receivers(&s, &unjoined, [&h2, &h3]) == [false, false]
    });
    s.set(&h3, "mcast_router", "2");
    assert_eq!(receivers(&s, &unjoined, [&h2, &h3]), [false, true]);
    let link: Value = serde_json::from_str(&s.link_json()).expect("JSON");
    let ports = link.as_array().expect("an array");
    let h3_port = ports.iter().find(|port| port["ifname"] == h3.name()).expect("its port");
    assert_eq!(h3_port["mcast_router"], 2);
    assert_eq!(s.mdb()[0]["router"][S::DEVICE][0]["port"], h3.name());
    s.set(&h3, "mcast_router", "0");
    // A PIM hello, which makes a router port of any other.
    let hello = Frame::from([&[1, 0, 0x5e, 0, 0, 13][..], &mac(0xc).0, &[8, 0], &pim_hello()].concat());
    for h in [&h3, &h2] {
        h.send(std::slice::from_ref(&hello));
    }
    wait_until("container2 is a router", || receivers(&s, &unjoined, [&h2, &h3]) == [true, false]);
    drop(h1);
}

/// A PIM hello without options (RFC 7761 §4.9.2) from 172.16.0.77 to 224.0.0.13.
fn pim_hello() -> Vec<u8> {
    const PIM: u8 = 103;
    let mut ip =
        etherparse::Ipv4Header::new(4, 1, PIM.into(), [172, 16, 0, 77], [224, 0, 0, 13]).expect("short");
    ip.header_checksum = ip.calc_header_checksum();
    // The version and type, and the checksum over them.
    [&ip.to_bytes()[..], &[0x20, 0, 0xdf, 0xff]].concat()
}

#[test]
fn ports_have_multicast_settings() {
    let s = Uswitch::querier();
    let [_, h2, h3] = s.containers();
    let host = s.host();
    let shown = host.run("uswitch port set container2 --mcast-max-groups 1 --mcast-fast-leave on").ok();
    assert!(shown.ends_with("container2: fastleave on, mcast_max_groups 1\n"), "{shown}");
    let port = s.row("port show", "container2");
    assert_eq!((&port["fastleave"], &port["mcast_max_groups"]), (&true.into(), &1.into()));
    // The group of its link-local address, which the container has joined, has no place if it was not known before.
    let entries = |port: &str| {
        let mdb = s.mdb()[0]["mdb"].as_array().cloned().unwrap_or_default();
        mdb.iter().filter(|entry| entry["port"] == port).count()
    };
    let _second = ["239.1.1.1", "239.1.1.2"].map(|group| [&h2, &h3].map(|h| join(h, group, None)));
    wait_until("container3 has both groups", || {
        s.has_member(&h3, "239.1.1.1") && s.has_member(&h3, "239.1.1.2")
    });
    wait_until("groups were refused", || s.mdb()[0]["counters"]["refused_limit"].as_u64() > Some(0));
    assert!(!s.has_member(&h2, "239.1.1.2"), "{}", s.mdb());
    assert_eq!(s.row("port show", "container2")["mcast_n_groups"], entries("container2"));
    let table = host.run("uswitch mdb show container2").ok();
    assert!(table.contains("of at most 1 groups, fast leave\n"), "{table}");
    for (setting, message) in [
        ("--mcast-router 3", "3 is out of range: choose 0 to 2"),
        ("--mcast-max-groups 4097", "4097 is out of range: choose 0 to 4096"),
        ("--mcast-fast-leave 1", "--mcast-fast-leave: expected on or off, not \"1\""),
    ] {
        let error = host.run(&format!("uswitch port set container2 {setting}")).fails();
        assert!(error.contains(message), "{error}");
    }
}

/// A group-specific query asks whether another host behind the port is a member.
#[test]
fn fast_leave_sends_no_query() {
    let s = Uswitch::querier();
    let [h1, h2, _] = s.containers();
    s.set(&h2, "fastleave", "on");
    for (h, is_asked) in [(&h1, true), (&h2, false)] {
        let member = join(h, "239.1.1.1", None);
        wait_until("the switch knows the member", || s.has_member(h, "239.1.1.1"));
        let queries = h.capture("eth0", "dst 239.1.1.1 and ip proto 2 or ether proto 0x88b5");
        member.signal(Signal::SIGKILL);
        wait_until("it has left", || !s.has_member(h, "239.1.1.1"));
        let last = end_marker();
        s.containers()[2].send(std::slice::from_ref(&last));
        assert_eq!(!queries.until(&last).is_empty(), is_asked, "{}", h.name());
    }
}

#[test]
fn configuration_file_has_multicast_settings() {
    let host = crate::harness::Host::new();
    let file = "[port.container2]\nmcast-router = 2\nmcast-fast-leave = true\nmcast-max-groups = 0\n";
    std::fs::write(host.path("/run/lab.toml"), file).unwrap();
    let s = Uswitch::on(host, "--ports 2 --config /run/lab.toml");
    let shown = s.host().run("uswitch port show").ok();
    assert!(shown.contains("container2: mcast_router 2, fastleave on, mcast_max_groups 0\n"), "{shown}");
    let groups = s.host().run("uswitch mdb show").ok();
    assert!(groups.contains("multicast router behind container2 (permanent)"), "{groups}");
    assert!(groups.contains("groups, without a limit, fast leave"), "{groups}");
}

/// The other switch is a Linux bridge in a container.
#[test]
fn obeys_the_querier_of_another_switch() {
    let s = Uswitch::with("--ports 3 --guard off");
    let [_, h2, h3] = s.containers();
    // In hundredths of a second.
    h3.sh("ip link add br9 type bridge mcast_querier 1 mcast_query_response_interval 100
ip link set eth0 master br9
ip link set br9 up")
        .ok();
    let knows = |family: &str| {
        let mdb = &s.mdb()[0];
        let queriers = mdb["querier"].as_array().cloned().unwrap_or_default();
        queriers.iter().any(|querier| {
            querier["family"] == family && querier["port"] == h3.name() && querier["active"] == true
        })
    };
    wait_until("the querier is elected", || knows("inet"));
    assert_eq!(s.mdb()[0]["router"]["uswitch0"][0]["port"], h3.name());
    let _member = join(&h2, "239.1.1.1", None);
    wait_until("the switch knows the member", || s.has_member(&h2, "239.1.1.1"));
    let seen = |group: &str| receivers(&s, &datagram(&v4(1), group), [&h2, &h3]);
    assert_eq!(seen("239.1.1.1"), [true, true]);
    assert_eq!(seen("239.9.9.9"), [false, true], "to the router only");
    let events = s.host().run("uswitch events --json --type mdb_querier,mdb_router_added,mdb_added").ok();
    for kind in ["mdb_querier", "mdb_router_added", "mdb_added"] {
        assert!(events.contains(kind), "{kind} in {events}");
    }
}

/// Runs a PIM-SM router in a container, which queries for groups every other second, until it is ended.
fn pim_router(s: &Uswitch, h: &TestNetns) -> Process {
    let config = format!("/run/pimd-{}.conf", h.name());
    let settings = "igmp-query-interval 2\nphyint eth0 enable\n";
    std::fs::write(s.host().path(&config), settings).expect("it can be written");
    h.spawn_sh(&format!("exec pimd --foreground --disable-vifs --config={config}"))
}

/// The address and the port of the IPv4 querier.
fn querier(s: &Uswitch) -> [String; 2] {
    let queriers = s.mdb()[0]["querier"].as_array().cloned().unwrap_or_default();
    let querier = queriers.into_iter().find(|querier| querier["family"] == "inet").expect("a querier");
    ["address", "port"].map(|key| querier[key].as_str().unwrap_or_default().to_owned())
}

/// pimd in two containers. It queries from its own address, so it wins against the switch, which queries from 0.0.0.0;
/// the lower address wins between the two.
#[test]
fn obeys_pim_routers() {
    let s = Uswitch::querier();
    let [_, h2, h3] = s.containers();
    let unjoined = datagram(&v4(1), "239.9.9.9");
    wait_until("groups without members are not flooded", || {
        receivers(&s, &unjoined, [&h2, &h3]) == [false, false]
    });
    assert_eq!(querier(&s), ["0.0.0.0", ""]);
    let is_router = |h: &TestNetns| s.mdb()[0]["router"].to_string().contains(h.name());
    let _higher = pim_router(&s, &h3);
    wait_until("container3 is a router", || is_router(&h3));
    assert_eq!(receivers(&s, &unjoined, [&h2, &h3]), [false, true]);
    wait_until("the kernel of the router has the group", || {
        receivers(&s, &unjoined, [&h3]);
        h3.run("ip mroute show").ok().contains(&format!("({},239.9.9.9)", v4(1)))
    });
    wait_until("container3 is the querier", || querier(&s) == [&v4(3), h3.name()]);
    let _member = join(&h2, "239.1.1.1", None);
    wait_until("the switch knows the member", || s.has_member(&h2, "239.1.1.1"));
    assert_eq!(receivers(&s, &datagram(&v4(1), "239.1.1.1"), [&h2, &h3]), [true, true]);
    let _lower = pim_router(&s, &h2);
    wait_until("container2 is the querier", || querier(&s) == [&v4(2), h2.name()]);
    assert!(is_router(&h2) && is_router(&h3));
}

#[test]
fn groups_stay_in_their_vlan() {
    let s = Uswitch::with("--ports 3 --guard off --vlan-filtering --mcast-querier on");
    let [h1, h2, h3] = s.containers();
    for (port, vlans) in [
        ("container1", "--access 10"),
        ("container2", "--access 10"),
        ("container3", "--trunk 30 --native 20"),
    ] {
        s.host().run(&format!("uswitch port set {port} {vlans}")).ok();
    }
    let _members = [&h2, &h3].map(|h| join(h, "239.1.1.1", None));
    for h in [&h2, &h3] {
        wait_until("the switch knows the members", || s.has_member(h, "239.1.1.1"));
    }
    let entries = s.mdb()[0]["mdb"].as_array().cloned().unwrap_or_default();
    let vid = |h: &TestNetns| {
        let found = entries.iter().find(|entry| entry["port"] == h.name() && entry["grp"] == "239.1.1.1");
        found.map(|entry| entry["vid"].clone())
    };
    assert_eq!([vid(&h2), vid(&h3)], [Some(10.into()), Some(20.into())]);
    let table = s.host().run("uswitch mdb show").ok();
    assert!(table.starts_with("GROUP") && table.contains("PORT        VLAN  STATE"), "{table}");
    assert!(table.contains("IPv4 querier 0.0.0.0 (this switch) in VLAN 20"), "{table}");
    let unjoined = datagram(&v4(1), "239.9.9.9");
    wait_until("groups without members are not flooded", || receivers(&s, &unjoined, [&h2]) == [false]);
    assert_eq!(receivers(&s, &datagram(&v4(1), "239.1.1.1"), [&h2]), [true]);
    // The trunk gets the queries of its VLANs, with and without their tags.
    let queries = h3.capture("eth0", "ip proto 2 or (vlan and ip proto 2)");
    s.host().run("uswitch port set container3 --down").ok();
    s.host().run("uswitch port set container3 --up").ok();
    let tags = [queries.next(), queries.next()].map(|query| query.map(|query| query[12..16].to_vec()));
    assert!(tags.contains(&Some(vec![0x81, 0, 0, 30])), "{tags:?}");
    h1.run("uswitch vlan del container2 10").ok();
    wait_until("the member is forgotten", || !s.has_member(&h2, "239.1.1.1"));
}

#[test]
fn mdb_command_adds_deletes_and_explains() {
    let s = Uswitch::with("--ports 2 --guard off --mcast-querier on");
    let run = |command: &str| s.host().run(&format!("uswitch {command}"));
    run("mdb add 239.1.1.1 container2 --permanent").ok();
    run("mdb add ff15::1 container2 --src 2001:db8::1").ok();
    let entries = s.mdb()[0]["mdb"].as_array().cloned().expect("an array");
    let has = |group: &str, key: &str, value: &str| {
        entries.iter().any(|entry| entry["grp"] == group && entry[key] == value)
    };
    assert!(has("239.1.1.1", "state", "permanent") && has("ff15::1", "src", "2001:db8::1"), "{entries:?}");
    for (command, message) in [
        ("mdb add 239.1.1.1 container2", "the port is a member of that group already"),
        ("mdb add 224.0.0.5 container2", "224.0.0.5 is always flooded"),
        ("mdb add 192.0.2.1 container2", "192.0.2.1 is not a multicast group"),
        ("mdb add 239.1.1.1 nobody", "no port named nobody"),
        ("mdb add 239.1.1.1 container1 --vlan 7", "this switch does not filter VLANs: omit VLAN 7"),
        ("mdb add 239.1.1.1 container1 --src ff15::1", "cannot be a source"),
        ("mdb del 239.1.1.7 container2", "the port is not a member of that group"),
        ("start --name other --mcast-querier on --mcast-snooping off", "a querier needs multicast snooping"),
    ] {
        let error = run(command).fails();
        assert!(error.contains(message) && error.trim().lines().count() == 1, "{command}: {error}");
    }
    run("mdb del 239.1.1.1 container2").ok();
    assert!(!run("mdb show").ok().contains("239.1.1.1"));
    s.stop();
    let s = Uswitch::on(crate::harness::Host::new(), "--ports 1 --mcast-snooping off");
    assert!(s.host().run("uswitch mdb show").fails().contains("multicast snooping is off"));
}
