//! `uswitch trace` predicts what happens, and changes nothing.

use serde_json::Value;

use crate::harness::{
    CommandOutput, GATEWAY_V4, GROUP, Shell, TestNetns, TestSwitch, Uswitch, frame, v4, wait_until,
};

/// Traces a frame that enters on `port`.
fn trace(s: &Uswitch, port: &TestNetns, words: &str) -> CommandOutput {
    s.host().run(&format!("uswitch trace {} {words}", port.name()))
}

#[track_caller]
fn verdict(s: &Uswitch, port: &TestNetns, words: &str) -> Value {
    trace(s, port, &format!("{words} --json")).json()["verdict"].clone()
}

/// Forwarding database and counters.
fn state(s: &Uswitch) -> [Value; 2] {
    [s.json("fdb show"), s.json("stats")]
}

/// A frame to an address is flooded before its owner sends a frame, and forwarded after.
#[test]
fn floods_before_ping_and_forwards_after() {
    let s = Uswitch::start();
    let [h1, h2, _] = s.containers();
    let echo = format!("--icmp {}", v4(2));
    // Containers send IPv6 neighbour discovery for some seconds after they come up.
    h2.run("sysctl -qw net.ipv6.conf.eth0.disable_ipv6=1").ok();
    h2.run("ip link set eth0 address 00:00:5e:00:53:02").ok();
    s.host().run("uswitch fdb flush").ok();
    let to_h2 = format!("{echo} --dst 00:00:5e:00:53:02");
    assert_eq!(verdict(&s, &h1, &to_h2)["verdict"], "flood");
    h1.run(&format!("ping -n -c 1 -W 5 {}", v4(2))).ok();
    let expected = serde_json::json!({"verdict": "forward", "ifname": "container2"});
    assert_eq!(verdict(&s, &h1, &to_h2), expected);
    let tree = trace(&s, &h1, &to_h2).ok();
    for line in ["├─ learning: known on container1, would be refreshed", "│  └─ container2: sent"] {
        assert!(tree.lines().any(|found| found == line), "{tree}");
    }
}

#[test]
fn trace_changes_nothing() {
    let s = Uswitch::start();
    let [h1, h2, _] = s.containers();
    h1.run(&format!("ping -n -c 1 -W 5 {}", v4(2))).ok();
    let mut looks = (state(&s), state(&s));
    wait_until("the containers send nothing and no address ages", || {
        let before = state(&s);
        for words in ["--src 00:00:5e:00:53:99 --dst broadcast", "--dst gateway", "--arp-for 172.16.0.1"] {
            trace(&s, &h1, words).ok();
            trace(&s, &h2, &format!("{words} --vlan 7")).ok();
        }
        looks = (before, state(&s));
        without_ages(&looks.0) == without_ages(&looks.1)
    });
    assert!(!s.fdb_json().contains("00:00:5e:00:53:99"), "a trace was learned");
}

/// Without the seconds since the last frame of each address.
fn without_ages(state: &[Value; 2]) -> [Value; 2] {
    let mut state = state.clone();
    for entry in state[0].as_array_mut().into_iter().flatten() {
        entry.as_object_mut().map(|entry| entry.remove("updated"));
    }
    state
}

#[test]
fn explains_down_port_and_spoofed_gateway() {
    let s = Uswitch::start();
    let [h1, _, h3] = s.containers();
    h3.run("ip link set eth0 down").ok();
    wait_until("the port is down", || s.row("port show", "container3")["state"] == "disabled");
    let tree = trace(&s, &h1, "--dst broadcast").ok();
    assert!(tree.contains("container3: refused: the port is down, so not part of the flood"), "{tree}");
    assert_eq!(verdict(&s, &h3, "--dst broadcast")["reason"], "ingress_down");
    let gateway = s.host().run("cat /sys/class/net/uswitch0/address").ok();
    let spoofed = verdict(&s, &h1, &format!("--src {} --dst broadcast", gateway.trim()));
    assert_eq!((&spoofed["reason"], &spoofed["ifname"]), (&"spoofed_gateway".into(), &"container1".into()));
    let tree = trace(&s, &h1, &format!("--arp-for {GATEWAY_V4}")).ok();
    assert!(tree.ends_with("└─ verdict: answered by the switch\n"), "{tree}");
}

/// A pcap file written by tcpdump.
#[test]
fn traces_frames_of_a_file() {
    let s = Uswitch::start();
    let [h1, ..] = s.containers();
    let tcpdump = "tcpdump -i eth0 -Q out -n -U --immediate-mode -c 3 -w /run/ping.pcap icmp";
    let mut capture = h1.spawn(tcpdump);
    capture.line_with("listening on");
    h1.run(&format!("ping -n -c 3 -i 0.1 -W 5 {}", v4(2))).ok();
    capture.ok();
    let text = trace(&s, &h1, "--pcap /run/ping.pcap").ok();
    assert_eq!(text.matches("└─ verdict: forwarded to container2").count(), 3, "{text}");
    assert!(text.contains("ICMP echo request, id "), "{text}");
    let text = trace(&s, &h1, "--pcap /run/ping.pcap --limit 2").ok();
    assert_eq!(text.matches("verdict: ").count(), 2, "{text}");
    assert!(text.ends_with("/run/ping.pcap has more than 2 frames: --limit N traces more.\n"), "{text}");
    let lines = trace(&s, &h1, "--pcap /run/ping.pcap --json").ok();
    assert_eq!(lines.lines().count(), 3, "{lines}");
}

/// A capture of the switch has the ingress port of each frame, and frames that left are not replayed.
#[test]
fn replays_a_capture_at_the_ports_that_frames_entered() {
    let s = Uswitch::start();
    let [h1, ..] = s.containers();
    h1.run(&format!("ping -n -c 1 -W 5 {}", v4(2))).ok();
    let mut capture = s.host().spawn("uswitch capture -c 8 -w /run/ping.pcapng icmp");
    capture.line_with("capturing on");
    (0..2).for_each(|_| _ = h1.run(&format!("ping -n -c 1 -W 5 {}", v4(2))).ok());
    capture.ok();
    let lines = s.host().run("uswitch trace --pcap /run/ping.pcapng --json").ok();
    let traces: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).expect("a trace")).collect();
    let ways: Vec<_> = traces.iter().map(|trace| (&trace["ifname"], &trace["verdict"]["ifname"])).collect();
    let [there, back] = [("container1", "container2"), ("container2", "container1")]
        .map(|(from, to)| (Value::from(from), Value::from(to)));
    assert_eq!(ways, [(&there.0, &there.1), (&back.0, &back.1)].repeat(2));
    s.host().run("tshark -r /run/ping.pcapng -F pcap -w /run/ping.pcap").ok();
    let error = s.host().run("uswitch trace --pcap /run/ping.pcap").fails();
    assert!(error.contains("names its ingress port"), "{error}");
}

/// Checks the first line of a trace.
#[track_caller]
fn assert_sends(s: &Uswitch, h: &TestNetns, words: &str, frame: &str) {
    let tree = trace(s, h, words).ok();
    assert!(tree.lines().next().is_some_and(|line| line.contains(frame)), "{words}: {tree}");
}

/// The routes, addresses and neighbours are those that the container has now.
#[test]
fn trace_follows_routes_and_neighbours_of_the_container() {
    let s = Uswitch::start();
    let [h1, ..] = s.containers();
    let (v4, v6) = ("--icmp 10.1.2.3", "--icmp 2001:db8::3");
    h1.sh("ip route del default; ip -6 route del default").ok();
    for (words, destination) in [(v4, "10.1.2.3"), (v6, "2001:db8::3")] {
        let error = trace(&s, &h1, words).fails();
        assert!(
            error.contains(&format!("container1 has no route to {destination}: it sends nothing")),
            "{error}"
        );
    }
    h1.sh("ip addr add 172.16.0.77/24 dev eth0; ip route add 10.1.0.0/16 via 172.16.0.8 src 172.16.0.77; \
           ip route add 2001:db8::/32 via fd00:172:16::8")
        .ok();
    assert_sends(&s, &h1, v4, "ARP, who-has 172.16.0.8 tell 172.16.0.77");
    assert_sends(&s, &h1, v6, "neighbor solicitation, who has fd00:172:16::8");
    h1.sh("for a in 172.16.0.8 fd00:172:16::8; do ip neigh add $a lladdr 02:00:5e:00:53:08 dev eth0; done")
        .ok();
    assert_sends(&s, &h1, v4, "> 02:00:5e:00:53:08, IP 172.16.0.77 > 10.1.2.3: ICMP echo request");
    assert_sends(&s, &h1, v6, "> 02:00:5e:00:53:08, IP6 fd00:172:16::2 > 2001:db8::3: ICMP6, echo request");
    let json = trace(&s, &h1, &format!("{v4} --json")).json();
    let route = serde_json::json!({"next_hop": "172.16.0.8", "mac": "02:00:5e:00:53:08"});
    assert_eq!(json["route"], route);
    // A source address that no host has, as in a packet that it makes up.
    assert_sends(&s, &h1, "--icmp 192.0.2.1 10.1.2.3", "> 02:00:5e:00:53:08, IP 192.0.2.1 > 10.1.2.3");
}

#[test]
fn trace_says_that_the_container_sends_nothing() {
    let s = Uswitch::start();
    let [h1, ..] = s.containers();
    h1.run("ip addr add 172.16.0.77/24 dev eth0").ok();
    h1.run("ip route replace 10.1.0.0/16 dev lo").ok();
    let error = trace(&s, &h1, "--icmp 10.1.2.3").fails();
    assert!(error.contains("from its device lo, not from its port"), "{error}");
    for kind in ["unreachable", "blackhole", "prohibit"] {
        h1.run(&format!("ip route replace {kind} 10.1.0.0/16")).ok();
        let error = trace(&s, &h1, "--icmp 10.1.2.3").fails();
        assert!(error.contains("container1 has no route to 10.1.2.3"), "{kind}: {error}");
    }
    let error = trace(&s, &h1, "--icmp 172.16.0.77").fails();
    assert!(error.contains("172.16.0.77 is an address of container1 itself"), "{error}");
}

#[test]
fn trace_knows_the_addresses_of_groups() {
    let s = Uswitch::start();
    let [h1, ..] = s.containers();
    assert_sends(&s, &h1, "--icmp 255.255.255.255", "> ff:ff:ff:ff:ff:ff, IP 172.16.0.2 > 255.255.255.255");
    assert_sends(&s, &h1, "--icmp 172.16.0.255", "> ff:ff:ff:ff:ff:ff, IP 172.16.0.2 > 172.16.0.255");
    assert_sends(&s, &h1, "--icmp 224.0.0.9", "> 01:00:5e:00:00:09, IP 172.16.0.2 > 224.0.0.9");
    assert_sends(&s, &h1, "--icmp ff02::2", "> 33:33:00:00:00:02, IP6 ");
}

/// The host is a sender as any other.
#[test]
fn trace_follows_routes_of_the_host() {
    let s = Uswitch::start();
    let error = s.host().run("uswitch trace host --icmp 10.1.2.3").fails();
    assert!(error.contains("host has no route to 10.1.2.3"), "{error}");
    s.host().run("ip route add 10.1.0.0/16 via 172.16.0.8").ok();
    let tree = s.host().run("uswitch trace host --icmp 10.1.2.3").ok();
    assert!(tree.contains("ARP, who-has 172.16.0.8 tell 172.16.0.1"), "{tree}");
}

/// The destination is in the subnet, but no container has it.
#[test]
fn trace_of_an_unused_address_is_an_arp_request() {
    let s = Uswitch::start();
    let [h1, ..] = s.containers();
    let tree = trace(&s, &h1, "--icmp 172.16.0.200").ok();
    assert!(tree.contains("ARP, who-has 172.16.0.200 tell 172.16.0.2"), "{tree}");
    assert!(
        tree.contains("├─ route: next hop 172.16.0.200, whose MAC address container1 asks for first"),
        "{tree}"
    );
    assert!(tree.contains("└─ verdict: flooded to "), "{tree}");
}

#[test]
fn trace_errors_are_one_line() {
    let s = Uswitch::start();
    for (words, why) in [
        ("container9 --dst gateway", "no port named container9"),
        ("container1 --dst nobody", "nobody is neither a port"),
        ("container1 --hex 0g", "'0g' is not a frame"),
        ("host --icmp fd00::1 10.0.0.1", "are of different address families"),
        ("container1 --pcap /nonexistent", "cannot read /nonexistent"),
        ("container1 --pcap /etc/passwd", "/etc/passwd: not a pcap or pcapng file"),
    ] {
        let output = s.host().run(&format!("uswitch trace {words}")).fails();
        assert!(output.contains(why) && output.trim().lines().count() == 1, "{words}: {output}");
    }
}

/// The frames of a ping.
#[test]
fn follows_live_frames_of_a_ping() {
    let s = Uswitch::start();
    let [h1, ..] = s.containers();
    let mut follow = s.host().spawn("uswitch trace container1 --follow --limit 3");
    wait_until("it has reached its limit", || {
        h1.run(&format!("ping -n -c 1 -W 5 {}", v4(2))).ok();
        follow.has_ended()
    });
    let output = follow.ok();
    assert_eq!(output.matches("└─ verdict: ").count(), 3, "{output}");
    assert!(output.contains(": ICMP echo request, id "), "{output}");
    assert!(output.contains("├─ learning: known on container1, refreshed\n"), "{output}");
    assert!(output.contains("│  └─ container2: sent\n"), "{output}");
}

#[test]
fn follows_drops_only() {
    let s = Uswitch::start();
    let [h1, h2, _] = s.containers();
    let mut follow = s.host().spawn("uswitch trace --follow --drops --limit 1 --json");
    wait_until("it has reached its limit", || {
        h1.run(&format!("ping -n -c 1 -W 5 {}", v4(2))).ok();
        h1.send(&[frame(h2.mac(), GROUP, "from a group")]);
        follow.has_ended()
    });
    let line: Value = serde_json::from_str(&follow.ok()).expect("one trace");
    let expected = serde_json::json!({"verdict": "drop", "reason": "bad_source", "ifname": "container1",
        "why": "the source is a group address or zero"});
    assert_eq!(line["verdict"], expected);
}

/// `trace --follow` ends when its reader closes, although no frame is dropped.
#[test]
fn follow_ends_with_its_reader() {
    let s = Uswitch::start();
    s.host().sh("uswitch trace --follow --drops | true").ok();
}

/// `trace --follow` ends when the switch stops.
#[test]
fn follow_ends_with_the_switch() {
    let s = Uswitch::start();
    let [h1, ..] = s.containers();
    let mut follow = s.host().spawn("uswitch trace --follow");
    let _ping = h1.spawn(&format!("ping -n -i 0.1 {}", v4(2)));
    follow.line_with("└─ verdict: ");
    s.stop();
    follow.line_with("uswitch: the switch has stopped");
    follow.ok();
}
