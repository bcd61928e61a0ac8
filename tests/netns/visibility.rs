//! What a person sees: frames with tcpdump, and for every frame not delivered the reason.

use serde_json::Value;
use uswitch::wire::Mac;

use crate::harness::{
    GATEWAY_V4, GATEWAY_V6, GROUP, OURS, Shell, Subject, Uswitch, ethernet, frame, last, mac, on_both, seen,
    v4, v6, wait_until,
};
use crate::traffic::iperf3;

on_both!(third_port);

/// tcpdump on a third port sees a ping to an unknown station, and nothing of one to a known station.
fn third_port<S: Subject>() {
    let s = S::start();
    let [h1, _, h3] = s.containers();
    h1.run(&format!("ping -n -c 1 -W 5 {}", v4(2))).ok();
    let capture = h3.capture("eth0", &format!("icmp or ({OURS})"));
    h1.run(&format!("ping -n -c 5 -i 0.2 -W 5 {}", v4(2))).ok();
    h1.send(&[last()]);
    assert_eq!(capture.until(&last()), Vec::<Vec<u8>>::new());
    h1.run(&format!("ip neigh replace 172.16.0.99 lladdr {} dev eth0", mac(0x99))).ok();
    h1.run("ping -n -c 1 -W 1 172.16.0.99").fails();
    let unknown = capture.next().expect("tcpdump saw the ping");
    assert_eq!(unknown[..6], mac(0x99).0);
}

/// Each frame is dropped for one reason, and counted under it once.
#[test]
fn drop_reasons() {
    let s = Uswitch::start();
    let [h1, h2, h3] = s.containers();
    let gateway: Mac =
        s.host().run("cat /sys/class/net/uswitch0/address").ok().trim().parse().expect("a MAC");
    let stations = [frame(Mac::BROADCAST, mac(1), "one"), frame(Mac::BROADCAST, mac(2), "two")];
    seen(&h1, &stations, [&h2, &h3]);
    for (reason, frame) in [
        ("bad_source", frame(mac(9), GROUP, "from a group")),
        ("reserved_address", frame(Mac([0x01, 0x80, 0xc2, 0, 0, 0x0e]), mac(1), "LLDP's address")),
        ("filtered", frame(mac(1), mac(2), "between two stations of one port")),
        ("spoofed_gateway", frame(mac(9), gateway, "from the gateway")),
    ] {
        let before = s.drops("container1", reason);
        assert_eq!(seen(&h1, &[frame], [&h2, &h3]), [vec![], vec![] as Vec<Vec<u8>>], "{reason}");
        assert_eq!(s.drops("container1", reason), before + 1, "{reason}");
    }
}

/// Two ports with different MTUs: what the egress cannot take is counted there.
#[test]
fn oversize_for_the_egress() {
    let s = Uswitch::with("--ports 3 --mtu 9000");
    let [h1, h2, h3] = s.containers();
    h2.run("ip link set eth0 mtu 1500").ok();
    wait_until("the port shows its MTU", || s.row("port show", "container2")["mtu"] == 1500);
    let mut long = frame(mac(9), mac(1), "long");
    long.resize(5000, 0);
    let short = frame(mac(9), mac(1), "short");
    let both = [long, short.clone()];
    assert_eq!(seen(&h1, &both, [&h2, &h3]), [vec![short], both.to_vec()]);
    assert_eq!(s.drops("container2", "oversize"), 1);
}

/// A switch with one port and no host: there is nobody to flood to.
#[test]
fn no_egress() {
    let s = Uswitch::with("--ports 1 --internal");
    let [h1, ..] = s.containers();
    let before = s.drops("container1", "no_egress");
    h1.send(&[frame(Mac::BROADCAST, mac(1), "anybody?")]);
    wait_until("it is counted", || s.drops("container1", "no_egress") > before);
}

/// To the gateway's MAC, and not for the switch itself: without a host port there is nobody to take it.
#[test]
fn no_host_port() {
    let s = Uswitch::with("--ports 2 --internal");
    let [h1, ..] = s.containers();
    h1.run(&format!("ping -n -c 1 -W 5 {GATEWAY_V4}")).ok();
    h1.run("ping -n -c 1 -W 1 192.0.2.1").fails();
    assert!(s.drops("container1", "no_host_port") > 0);
}

/// Frames and bytes are those that were sent.
#[test]
fn counters() {
    let s = Uswitch::start();
    let [h1, _, h3] = s.containers();
    h1.run(&format!("ping -n -c 1 -W 5 {}", v4(2))).ok();
    let count = |counter| s.count("container2", counter);
    let (rx, tx) = (count("rx_frames"), count("tx_frames"));
    h1.run(&format!("ping -n -c 20 -i 0.01 -W 5 {}", v4(2))).ok();
    assert!(count("rx_frames") >= rx + 20 && count("tx_frames") >= tx + 20);
    h3.run(&format!("ping -n -c 1 -W 5 {}", v6(1))).ok();
    assert!(s.count("container1", "rx_bytes") >= 20 * 98);
    assert!(s.count("container3", "flooded") > 0, "its neighbour solicitation was");
}

/// Every frame that came in went out or was dropped, and a flooded one as often as it had egress ports. What came in and
/// went out is what the kernel counts at the devices.
#[test]
fn counters_add_up() {
    const PORTS: u64 = 4;
    let s = Uswitch::start();
    // While it started there were fewer ports to flood to.
    let (before, _) = at_rest(&s);
    all_kinds_of_traffic(&s);
    let (after, devices) = at_rest(&s);
    let gained = |counter: &str| sum(&after, counter) - sum(&before, counter);
    let dropped = all_drops(&after) - all_drops(&before);
    // Not back to where it came from; one of the others is counted with all that came in.
    let copies = gained("flooded") * (PORTS - 2);
    assert_eq!(gained("rx_frames") + copies, gained("tx_frames") + dropped, "{before:#} {after:#}");
    assert!(gained("flooded") > 0 && gained("answered") > 0 && dropped > 0, "{after:#}");
    for (port, device) in devices {
        let row = rows(&after).iter().find(|row| row["ifname"] == port).expect("it is a port");
        let ours = ["rx_frames", "rx_bytes", "tx_frames", "tx_bytes"].map(|counter| row[counter].as_u64());
        assert_eq!(ours, device.map(Some), "{port}: {row:#}");
    }
}

fn rows(stats: &Value) -> &[Value] {
    stats.as_array().expect("a list of ports")
}

/// A counter of all ports.
fn sum(stats: &Value, counter: &str) -> u64 {
    rows(stats).iter().filter_map(|row| row[counter].as_u64()).sum()
}

/// Whatever the reason.
fn all_drops(stats: &Value) -> u64 {
    let drops = rows(stats).iter().filter_map(|row| row["drops"].as_object());
    drops.flat_map(|drops| drops.values()).filter_map(Value::as_u64).sum()
}

/// Streams, pings, and frames by hand of every fate that a sender can bring about. (A runt he cannot: the kernel fills
/// up what is shorter than a header.)
fn all_kinds_of_traffic(s: &Uswitch) {
    let [h1, h2, h3] = s.containers();
    let gateway = s.host().run("cat /sys/class/net/uswitch0/address").ok().trim().parse().expect("a MAC");
    iperf3(&h1, &h2, &format!("{} -t 1 --bidir", v4(2)));
    iperf3(&h2, &h3, &format!("{} -t 1 -u -b 100M", v6(3)));
    for address in [GATEWAY_V4, GATEWAY_V6] {
        h1.run(&format!("ping -n -c 5 -i 0.01 -W 5 {address}")).ok();
    }
    let reserved = Mac([0x01, 0x80, 0xc2, 0, 0, 0x0e]);
    let fates = [
        (Mac::BROADCAST, mac(1)),
        (mac(1), mac(2)),
        (h2.mac(), mac(1)),
        (h3.mac(), mac(3)),
        (GROUP, mac(4)),
        (mac(0x99), mac(1)),
        (mac(1), GROUP),
        (mac(1), Mac::ZERO),
        (reserved, mac(1)),
        (mac(1), gateway),
        (gateway, mac(5)),
    ];
    let frames = fates.map(|(destination, source)| frame(destination, source, "of some fate"));
    let shortest = ethernet(mac(1), mac(2), 0x88b5, &[]);
    let mixed: Vec<_> = frames.into_iter().chain([shortest]).cycle().take(600).collect();
    for part in mixed.chunks(200) {
        h1.send(part);
        h2.send(part);
    }
}

/// The counters of the switch and those of each port's device (received from it, sent to it: frames, bytes), of one
/// moment: nothing came between two looks.
fn at_rest(s: &Uswitch) -> (Value, Vec<(String, [u64; 4])>) {
    let mut looks = (Value::Null, Vec::new());
    wait_until("the traffic has come to rest", || {
        let before = s.json("stats");
        let containers = s.containers().map(|h| (h.name().to_owned(), device_counters(&h, "eth0")));
        let host = ("host".to_owned(), device_counters(s.host(), "uswitch0"));
        looks = (s.json("stats"), containers.into_iter().chain([host]).collect());
        looks.0 == before
    });
    looks
}

/// What a device sent is what its port received.
fn device_counters(shell: &impl Shell, device: &str) -> [u64; 4] {
    ["tx_packets", "tx_bytes", "rx_packets", "rx_bytes"].map(|counter| {
        let count = shell.run(&format!("cat /sys/class/net/{device}/statistics/{counter}")).ok();
        count.trim().parse().expect("a count")
    })
}
