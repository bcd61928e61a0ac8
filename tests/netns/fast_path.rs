//! The kernel fast path: what it forwards, and that everything else is as without it.

use std::time::{Duration, Instant};

use uswitch::wire::Mac;

use crate::harness::{
    Frame, Host, HostSnapshot, Shell, TestNetns, TestSwitch, Uswitch, frame, host_with_public_tun,
    run_as_user, v4, v6, wait_until,
};

fn switch(arguments: &str) -> Uswitch {
    Uswitch::with(&format!("--ports 3 --fast-path on {arguments}"))
}

/// Frames from a port that the kernel forwarded.
fn fast(s: &Uswitch, port: &str) -> u64 {
    s.count(port, "fast")
}

/// Five echo requests and their replies. The first ones may be answered by way of the workers.
fn ping(h: &TestNetns, address: &str) {
    h.run(&format!("ping -n -c 5 -i 0.05 -W 5 {address}")).ok();
}

#[test]
fn known_stations_are_forwarded_by_the_kernel() {
    let s = switch("");
    let [h1, h2, _] = s.containers();
    assert!(s.json("status")["fast_path"].as_bool() == Some(true));
    for address in [v4(2), v6(2)] {
        let before = [fast(&s, "container1"), fast(&s, "container2")];
        ping(&h1, &address);
        let after = [fast(&s, "container1"), fast(&s, "container2")];
        assert!(after[0] >= before[0] + 3 && after[1] >= before[1] + 3, "{before:?} {after:?}");
    }
    // The gateway answers.
    let before = [fast(&s, "container2"), s.count("container2", "answered")];
    ping(&h2, "172.16.0.1");
    assert_eq!(fast(&s, "container2"), before[0]);
    assert!(s.count("container2", "answered") >= before[1] + 5);
}

#[test]
fn the_host_is_a_station_of_the_kernel() {
    let s = switch("");
    let [h1, ..] = s.containers();
    let mut server = s.host().spawn("iperf3 -s -1 --forceflush");
    server.line_with("listening");
    h1.run("iperf3 -c 172.16.0.1 -n 100M").ok();
    server.wait();
    for port in ["container1", "host"] {
        let (fast, forwarded) = (fast(&s, port), s.count(port, "forwarded"));
        assert!(fast > 100 && fast * 10 > forwarded * 9, "{port}: {fast} of {forwarded} frames");
    }
    // Its MAC changes, as that of a container can: containers learn it from the announcement.
    s.host().run("ip link set uswitch0 address 02:00:5e:00:53:77").ok();
    wait_until("the gateway has another MAC", || {
        h1.run("ping -n -c 1 -W 1 172.16.0.1").succeeded()
            && h1.run("ip neigh show 172.16.0.1").ok().contains("02:00:5e:00:53:77")
    });
    s.host().run(&format!("ping -n -c 2 -i 0.05 -W 5 {}", v4(1))).ok();
}

/// The gateway answers requests only, so a reply to the host needs no worker.
#[test]
fn replies_to_the_host_stay_in_the_kernel() {
    let s = switch("");
    for address in [v4(1), v6(1)] {
        let before = [fast(&s, "container1"), fast(&s, "host")];
        s.host().run(&format!("ping -n -c 5 -i 0.05 -W 5 {address}")).ok();
        let after = [fast(&s, "container1"), fast(&s, "host")];
        assert!(after[0] >= before[0] + 3 && after[1] >= before[1] + 3, "{before:?} {after:?}");
    }
}

/// Datagrams of a flow stay in order, whether they are fragmented or not.
#[test]
fn fragments_stay_in_the_kernel_and_in_order() {
    const RECEIVE: &str = "import socket, sys
s = socket.socket(socket.AF_INET6 if \":\" in sys.argv[1] else socket.AF_INET, socket.SOCK_DGRAM)
s.bind((sys.argv[1], 5000))
print(\"bound\", flush=True)
last = late = 0
while last < 2000:
    n = int.from_bytes(s.recv(65535)[:4], \"big\")
    late += n < last
    last = max(n, last)
print(\"late:\", late, flush=True)";
    const SEND: &str = "import socket, sys, time
s = socket.socket(socket.AF_INET6 if \":\" in sys.argv[1] else socket.AF_INET, socket.SOCK_DGRAM)
for n in range(1, 2001):
    s.sendto(n.to_bytes(4, \"big\") + bytes(2000 * (n % 2)), (sys.argv[1], 5000))
    time.sleep(0.0005)
for _ in range(100):
    s.sendto((2001).to_bytes(4, \"big\"), (sys.argv[1], 5000))
    time.sleep(0.01)";
    let s = switch("--workers 1");
    let [h1, h2, _] = s.containers();
    for address in [v4(2), v6(2)] {
        ping(&h1, &address);
        let mut receiver = h2.spawn_sh(&format!("exec python3 -c '{RECEIVE}' {address}"));
        receiver.line_with("bound");
        let before = fast(&s, "container1");
        h1.sh(&format!("python3 -c '{SEND}' {address}")).ok();
        assert_eq!(receiver.line_with("late:"), "late: 0", "{address}");
        let frames = fast(&s, "container1") - before;
        assert!(frames >= 2900, "{address}: {frames} of 3000");
    }
}

/// A station that only the kernel hears is seen by it, also when the workers take over.
#[test]
fn entries_are_seen_when_the_kernel_forwards() {
    const FLOW: Duration = Duration::from_secs(5);
    let s = switch("--guard off");
    let [h1, h2, _] = s.containers();
    let (a, b) = (Mac([2, 0, 0x5e, 0, 0x53, 0xa]), Mac([2, 0, 0x5e, 0, 0x53, 0xb]));
    let seen = || s.json(&format!("fdb show --mac {a}"))[0]["updated"].as_u64().expect("it is known");
    h2.send(&[frame(a, b, "here")]);
    s.wait_until_learned(b, &h2);
    wait_until("the kernel forwards", || {
        let before = fast(&s, "container1");
        h1.send(&[frame(b, a, "to b")]);
        fast(&s, "container1") > before
    });
    let start = Instant::now();
    while start.elapsed() < FLOW {
        h1.send(&[frame(b, a, "to b")]);
    }
    let sent = Instant::now();
    let is_current = || seen() <= sent.elapsed().as_secs() + 1;
    assert!(is_current(), "{}", seen());
    // The workers decide about all frames of the port while this runs.
    s.host().run("timeout 1 uswitch capture container1");
    assert!(is_current(), "{}", seen());
}

/// Super-frames and segments, and each frame is counted where it came in and where it went out.
#[test]
fn carries_tcp_and_counts_each_frame() {
    let s = switch("");
    let [h1, h2, _] = s.containers();
    let mut server = h2.spawn("iperf3 -s -1 --forceflush");
    server.line_with("listening");
    h1.run(&format!("iperf3 -c {} -n 200M", v4(2))).ok();
    server.wait();
    wait_until("the counters agree", || {
        let total = |counter: &str| -> u64 {
            s.json("stats").as_array().into_iter().flatten().filter_map(|row| row[counter].as_u64()).sum()
        };
        let drops: u64 = ["container1", "container2", "container3", "host"]
            .iter()
            .map(|port| s.drops(port, "egress_queue_full"))
            .sum();
        total("forwarded") + total("flood_copies") + total("answered") + total("injected")
            == total("tx_frames") + drops
    });
    let (bytes, fast, forwarded) =
        (s.count("container1", "rx_bytes"), fast(&s, "container1"), s.count("container1", "forwarded"));
    assert!(bytes > 200_000_000 && fast * 10 > forwarded * 9, "{bytes} bytes, {fast} of {forwarded} frames");
}

/// With BIG TCP, a super-frame is longer than an IPv4 packet can say.
#[test]
fn carries_longer_super_frames() {
    const LONGEST: usize = 65_535 + 14;
    let s = switch("--gso-max-size 262144");
    let [h1, h2, _] = s.containers();
    let capture = h2.capture("eth0", &format!("ip and greater {}", LONGEST + 1));
    let ipv6 = h2.capture("eth0", &format!("ip6 and greater {}", LONGEST + 1));
    for address in [v4(2), v6(2)].iter().cycle().take(6) {
        let mut server = h2.spawn("iperf3 -s -1 --forceflush");
        server.line_with("listening");
        h1.run(&format!("iperf3 -C cubic -c {address} -n 200M")).ok();
        server.wait();
    }
    assert!(capture.next().is_some() && ipv6.next().is_some(), "none was longer");
    // The workers take 64 KiB at most, so the kernel cuts what is for them.
    s.host().run("uswitch port set container2 --egress-rate 100gbit").ok();
    let mut server = h2.spawn("iperf3 -s -1 --forceflush");
    server.line_with("listening");
    h1.run(&format!("iperf3 -c {} -n 20M", v4(2))).ok();
    server.wait();
}

/// Sends broadcasts from a container.
fn broadcast(from: &TestNetns, count: usize) {
    from.send_on("eth0", &vec![broadcast_of(from); count]);
}

fn broadcast_of(from: &TestNetns) -> Frame {
    frame(Mac::BROADCAST, from.mac(), "to all")
}

/// The workers flood the first broadcast of a known station, and the kernel the next ones. Each is counted.
#[test]
fn floods_in_the_kernel() {
    let s = switch("");
    let [h1, h2, h3] = s.containers();
    ping(&h1, &v4(2));
    // Flooded frames, their copies, and what the kernel forwarded. The container may also send multicasts.
    let counts = || {
        let row = s.row("stats", "container1");
        ["flooded", "flood_copies", "fast"].map(|counter| row[counter].as_u64().expect("a counter"))
    };
    let sent = |count: usize| {
        let before = counts();
        broadcast(&h1, count);
        let after = counts();
        std::array::from_fn::<_, 3, _>(|n| after[n] - before[n])
    };
    wait_until("the kernel floods", || sent(1)[2] == 1);
    let captures = [&h2, &h3].map(|h| h.capture("eth0", "ether broadcast and ether proto 0x88b5"));
    let [flooded, copies, fast] = sent(50);
    assert!(fast >= 50 && copies == 3 * flooded, "{flooded} became {copies}, {fast} fast");
    for capture in &captures {
        assert!((0..50).all(|_| capture.next() == Some(broadcast_of(&h1))));
    }
    broadcast(&h2, 1);
    assert_eq!(captures[1].until(&broadcast_of(&h2)), Vec::<Frame>::new(), "nothing came twice");
    let flood = "uswitch trace container1 --dst broadcast --json";
    assert_eq!(s.host().run(flood).json()["datapath"]["datapath"], "kernel");
    // A port that gets none changes the flood of all.
    s.host().run("uswitch port set container3 --bcast-flood off").ok();
    assert_eq!(sent(5)[2], 0);
    let why = s.host().run(flood).json()["datapath"]["why"].clone();
    assert_eq!(why, "of container3: flood, mcast_flood or bcast_flood is off, or hairpin is on");
    s.host().run("uswitch port set container3 --bcast-flood on").ok();
    s.host().run("uswitch port del container3").ok();
    wait_until("the kernel floods again", || sent(1)[2] == 1);
    let [flooded, copies, fast] = sent(5);
    assert!(fast >= 5 && copies == 2 * flooded, "{flooded} became {copies}, {fast} fast");
}

/// container1 and container2 are in VLAN 10, the others in VLAN 20.
fn vlans() -> Uswitch {
    let s = Uswitch::with("--ports 4 --fast-path on --vlan-filtering --vlan-stats-per-port");
    for (port, vlan) in [("container1", 10), ("container2", 10), ("container3", 20), ("container4", 20)] {
        s.host().run(&format!("uswitch port set {port} --access {vlan}")).ok();
    }
    s
}

fn reaches(from: &TestNetns, to: u16) -> bool {
    from.run(&format!("ping -n -c 1 -W 1 {}", v4(to))).succeeded()
}

#[test]
fn keeps_vlans_apart_in_the_kernel() {
    let s = vlans();
    let [h1, h3, h4] = ["container1", "container3", "container4"].map(|name| s.host().netns(name));
    // Received frames of container1 in VLAN 10, and those that the kernel forwarded.
    let counts = || {
        let report = s.json("vlan show container1 --statistics");
        let of = report[0]["vlans"].as_array().and_then(|vlans| vlans.iter().find(|vlan| vlan["vid"] == 10));
        let in_vlan = of.and_then(|vlan| vlan["rx_packets"].as_u64()).expect("a counter");
        [in_vlan, fast(&s, "container1")]
    };
    ping(&h1, &v4(2));
    wait_until("the kernel floods", || {
        let before = counts();
        broadcast(&h1, 1);
        counts()[1] > before[1]
    });
    let (seen, before) = (h4.capture("eth0", "ether broadcast and ether proto 0x88b5"), counts());
    ping(&h1, &v4(2));
    broadcast(&h1, 50);
    broadcast(&h3, 1);
    assert_eq!(seen.until(&broadcast_of(&h3)), Vec::<Frame>::new(), "frames of VLAN 10");
    let [in_vlan, fast_frames] = counts();
    assert!(fast_frames >= before[1] + 55 && in_vlan >= before[0] + 55, "{in_vlan} {fast_frames} {before:?}");
    assert!(!reaches(&h1, 3));
}

#[test]
fn changes_of_vlans_take_effect_at_once() {
    let s = vlans();
    let [h1, h3] = ["container1", "container3"].map(|name| s.host().netns(name));
    // Until all stations are known.
    ping(&h1, &v4(2));
    ping(&h3, &v4(4));
    s.host().run("uswitch port set container2 --access 20").ok();
    assert!(!reaches(&h1, 2));
    let before = fast(&s, "container3");
    ping(&h3, &v4(2));
    assert!(fast(&s, "container3") >= before + 3);
    // The workers know tags, and states in a VLAN.
    s.host().run("uswitch vlan add container2 20 --pvid").ok();
    assert!(!reaches(&h3, 2), "container2 knows no tags");
    let why = "it forwards in no VLAN of which it is an untagged member with PVID";
    assert_eq!(s.row("port show", "container2")["slow"], why);
    let flood = s.host().run("uswitch trace container3 --dst broadcast --json").json();
    let tagged = "it is a tagged member of this VLAN, or does not forward in it";
    assert_eq!(flood["datapath"]["why"], format!("of container2: {tagged}"));
    s.host().run("uswitch vlan set container4 20 --state blocking").ok();
    assert!(!reaches(&h3, 4));
    s.host().run("uswitch vlan set container4 20 --state forwarding").ok();
    assert!(reaches(&h3, 4));
}

/// A port that gets another device is in the same VLAN, also for the kernel.
#[test]
fn replaced_device_gets_the_floods_of_its_vlan() {
    let s = Uswitch::with("--ports 2 --fast-path on --vlan-filtering");
    s.host().sh("ip netns add again; uswitch port add again --netns again").ok();
    let [h1, again] = ["container1", "again"].map(|name| s.host().netns(name));
    let floods = || {
        let before = fast(&s, "container1");
        broadcast(&h1, 1);
        fast(&s, "container1") > before
    };
    ping(&h1, &v4(2));
    wait_until("the kernel floods", floods);
    again.run("ip link del eth0").ok();
    wait_until("the device is gone", || s.row("port show", "again")["operstate"] == "NOTPRESENT");
    s.host().run("uswitch port add again --netns again --replace").ok();
    wait_until("the kernel floods again", floods);
    let capture = again.capture("eth0", "ether broadcast and ether proto 0x88b5");
    broadcast(&h1, 5);
    assert!((0..5).all(|_| capture.next() == Some(broadcast_of(&h1))));
}

#[test]
fn trace_tells_the_datapath() {
    let s = switch("");
    let [h1, ..] = s.containers();
    let datapath = |arguments: &str| {
        s.host().run(&format!("uswitch trace {arguments} --json")).json()["datapath"].clone()
    };
    assert_eq!(datapath("container1 --arp-for 172.16.0.9")["datapath"], "worker");
    ping(&h1, &v4(2));
    let echo = format!("container1 --icmp {}", v4(2));
    assert_eq!(datapath(&echo)["datapath"], "kernel");
    assert!(datapath("container1 --icmp 172.16.0.1")["why"].as_str().is_some_and(|why| !why.is_empty()));
    s.host().run("uswitch port set container2 --isolated on").ok();
    // What the kernel knows, it also decides: that isolated ports exchange no frames.
    assert_eq!(datapath(&echo)["datapath"], "kernel");
    s.host().run("uswitch port set container2 --learning off").ok();
    let why = "learning is off";
    assert_eq!(datapath(&echo)["why"], format!("of container2: {why}"));
    assert_eq!(s.row("port show", "container2")["slow"], why);
    let shown = s.host().run("uswitch port show").ok();
    assert!(shown.contains(&format!("container2: not in the fast path: {why}\n")), "{shown}");
    assert_eq!(shown.matches("not in the fast path").count(), 1, "{shown}");
    assert!(
        Uswitch::with("--ports 1 --fast-path off")
            .host()
            .run("uswitch trace container1 --dst broadcast --json")
            .json()["datapath"]
            .is_null()
    );
}

#[test]
fn auto_uses_it_where_it_helps() {
    for (arguments, expected) in [
        ("", None),
        ("--vlan-filtering", None),
        ("--hub", Some("the switch is a hub")),
        ("--no-offload", Some("the ports have no offload")),
        ("--busy-poll 100", None),
    ] {
        let status = Uswitch::with(&format!("--ports 1 {arguments}")).json("status");
        assert_eq!(status["fast_path"], expected.is_none(), "{arguments}");
        let note = status["fast_path_note"].as_str().map(|note| note.replace("no kernel fast path: ", ""));
        assert_eq!(note.as_deref(), expected, "{arguments}");
    }
}

#[test]
fn a_capture_sees_every_frame() {
    let s = switch("");
    let [h1, ..] = s.containers();
    ping(&h1, &v4(2));
    let before = fast(&s, "container1");
    let mut capture = s.host().spawn("uswitch capture container1 -c 10 icmp");
    capture.line_with("capturing");
    ping(&h1, &v4(2));
    capture.ok();
    assert_eq!(fast(&s, "container1"), before);
    wait_until("the kernel forwards again", || {
        h1.run(&format!("ping -n -c 1 -W 5 {}", v4(2))).ok();
        fast(&s, "container1") > before
    });
    // One of other ports does not matter.
    let mut capture = s.host().spawn("uswitch capture container3");
    capture.line_with("capturing");
    let before = fast(&s, "container1");
    ping(&h1, &v4(2));
    assert!(fast(&s, "container1") >= before + 5);
}

#[test]
fn the_guard_checks_fast_frames() {
    let s = switch("");
    let [h1, ..] = s.containers();
    ping(&h1, &v4(2));
    h1.run("ip addr add 172.16.0.99/24 dev eth0").ok();
    h1.run(&format!("ping -n -c 2 -i 0.05 -W 1 -I 172.16.0.99 {}", v4(2))).fails();
    assert!(s.drops("container1", "spoofed_ip") >= 2);
    // With its own address, at once.
    h1.run(&format!("ping -n -c 1 -W 5 {}", v4(2))).ok();
}

#[test]
fn settings_of_a_port_take_effect_at_once() {
    let s = switch("");
    let [h1, h2, h3] = s.containers();
    for (from, to) in [(&h1, 2), (&h2, 3), (&h3, 1)] {
        ping(from, &v4(to));
    }
    let once = |from: &TestNetns, to: u16| from.run(&format!("ping -n -c 1 -W 1 {}", v4(to)));
    for port in ["container1", "container2"] {
        s.host().run(&format!("uswitch port set {port} --isolated on")).ok();
    }
    once(&h1, 2).fails();
    once(&h2, 3).ok();
    for port in ["container1", "container2"] {
        s.host().run(&format!("uswitch port set {port} --isolated off")).ok();
    }
    once(&h1, 2).ok();
    for (on, off) in [("--loss 100%", "--no-impairment"), ("--egress-rate 1kbit:1500", "--egress-rate off")] {
        s.host().run(&format!("uswitch port set container2 {on}")).ok();
        let before = fast(&s, "container1");
        // A burst of the rate limit may pass.
        let said = h1.run(&format!("ping -n -c 3 -i 0.05 -s 1400 -W 1 {}", v4(2)));
        assert!(said.stdout.matches("bytes from").count() < 3, "{on}");
        assert_eq!(fast(&s, "container1"), before, "{on}");
        s.host().run(&format!("uswitch port set container2 {off}")).ok();
        once(&h1, 2).ok();
    }
    s.host().run("uswitch port set container2 --down").ok();
    assert_eq!(s.row("port show", "container2")["admin_state"], "down");
    once(&h1, 2).fails();
    wait_until("no carrier", || h2.run("cat /sys/class/net/eth0/carrier").ok().trim() == "0");
    s.host().run("uswitch port set container2 --up").ok();
    wait_until("the link is up", || s.row("port show", "container2")["operstate"] == "UP");
    once(&h1, 2).ok();
    h2.run("ip link set eth0 down").ok();
    wait_until("the link is down", || s.row("port show", "container2")["operstate"] == "DOWN");
    h2.run("ip link set eth0 up").ok();
    wait_until("the link is up", || s.row("port show", "container2")["operstate"] == "UP");
    once(&h1, 2).ok();
}

/// What the database forgets or moves, the kernel does not know any more when the command returns or the frame is
/// decided.
#[test]
fn follows_the_forwarding_database() {
    let s = switch("--no-gateway");
    let [h1, h2, h3] = s.containers();
    for (n, h) in [(1, &h1), (2, &h2), (3, &h3)] {
        h.run(&format!("ip addr add {}/24 dev eth0", v4(n))).ok();
    }
    ping(&h1, &v4(2));
    let known = |s: &Uswitch| fast(s, "container1");
    let before = known(&s);
    s.host().run("uswitch fdb flush").ok();
    h1.run(&format!("ping -n -c 1 -W 5 {}", v4(2))).ok();
    assert_eq!(known(&s), before, "the first frame after a flush is flooded");
    ping(&h1, &v4(2));
    // container3 takes the addresses of container2, and says so.
    let mac: Mac = h2.mac();
    h2.run("ip link set eth0 down").ok();
    h3.run(&format!("ip link set eth0 address {mac}")).ok();
    h3.run(&format!("ip addr add {}/24 dev eth0", v4(2))).ok();
    h3.run(&format!("ping -n -c 1 -W 5 -I {} {}", v4(2), v4(1))).ok();
    assert_eq!(s.port_of(mac).as_deref(), Some("container3"));
    let before = s.count("container3", "tx_frames");
    ping(&h1, &v4(2));
    assert!(s.count("container3", "tx_frames") >= before + 5);
}

#[test]
fn ports_in_existing_namespaces_come_and_go() {
    let s = switch("");
    let host = s.host();
    host.run("ip netns add web").ok();
    host.run("uswitch port add --netns web").ok();
    let (web, h1) = (host.netns("web"), host.netns("container1"));
    ping(&web, &v4(1));
    assert!(fast(&s, "web") > 0);
    let address = s.row("port show", "web")["addresses"][0].as_str().expect("an address").to_owned();
    let address = address.split('/').next().expect("an address").to_owned();
    host.run("uswitch port del web").ok();
    assert!(!web.run("ip link show eth0").succeeded(), "the device is gone");
    h1.run(&format!("ping -n -c 1 -W 1 {address}")).fails();
    host.run("uswitch port add --netns web").ok();
    ping(&web, &v4(1));
    host.run("ip netns del container1").ok();
    wait_until("the port is gone", || s.row("port show", "container1")["operstate"] == "NOTPRESENT");
    s.stop();
    assert!(!web.run("ip link show eth0").succeeded(), "the device is gone");
}

#[test]
fn nothing_is_left_after_a_kill() {
    let host = Host::new();
    let before = HostSnapshot::of(&host);
    let s = Uswitch::on(host, "--ports 3 --fast-path on");
    let [h1, ..] = s.containers();
    ping(&h1, &v4(2));
    s.host().run(&format!("kill -9 {}", s.pid())).ok();
    s.host().run("uswitch start --detach --ports 3 --fast-path on").ok();
    ping(&s.host().netns("container1"), &v4(3));
    s.stop();
    before.assert_same(s.host());
}

#[test]
fn needs_privileges() {
    let host = host_with_public_tun();
    let error = run_as_user(&host, "uswitch start --detach --ports 2 --fast-path on").fails();
    assert!(error.contains("no kernel fast path") && error.trim().lines().count() == 1, "{error}");
    run_as_user(&host, "uswitch start --detach --ports 2 --fast-path auto").ok();
    let status = run_as_user(&host, "uswitch status --json").json();
    assert_eq!(status["fast_path"], false);
    assert!(status["fast_path_note"].as_str().is_some_and(|note| note.contains("not permitted")), "{status}");
    run_as_user(&host, "uswitch stop").ok();
}
