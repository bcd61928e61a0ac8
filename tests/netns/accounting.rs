//! The counters of a running switch balance to the last frame, with traffic of real programs.

use serde_json::Value;
use uswitch::datapath::{self, EngineKind};
use uswitch::switch::{DropReason, Side};
use uswitch::wire::Mac;

use crate::harness::{
    GATEWAY_V4, GATEWAY_V6, GROUP, Shell, TestSwitch, Uswitch, ethernet, frame, mac, v4, v6, wait_until,
};
use crate::traffic::iperf3;

#[test]
fn balances_with_io_uring() {
    match datapath::probe() {
        (EngineKind::Uring, _) => check_balance("--engine uring"),
        // The reason is tested in engines.rs.
        (EngineKind::Poll, _) => check_balance("--engine auto"),
    }
}

#[test]
fn balances_with_poll() {
    check_balance("--engine poll");
}

#[test]
fn balances_with_two_workers() {
    check_balance("--workers 2");
}

/// Every received frame has one outcome and so has each of its copies, and the counters equal those of the kernel's
/// devices: with a port without offload, and while ports are added and deleted.
fn check_balance(arguments: &str) {
    let s = Uswitch::with(&format!("--ports 3 {arguments}"));
    s.host().run("uswitch port add plain --no-offload").ok();
    all_kinds_of_traffic(&s);
    let (after, devices) = counters_at_rest(&s);
    assert_balanced(&after);
    for counter in ["forwarded", "flooded", "answered", "segmented"] {
        assert!(sum(&after, counter) > 0, "{counter}: {after:#}");
    }
    for (port, device) in devices {
        let row = rows(&after).iter().find(|row| row["ifname"] == port).expect("it is a port");
        let counters = ["rx_frames", "rx_bytes", "tx_frames", "tx_bytes", "queue_dropped"];
        assert_eq!(counters.map(|counter| row[counter].as_u64()), device.map(Some), "{port}: {row:#}");
    }
    let plain = rows(&after).iter().find(|row| row["ifname"] == "plain").expect("it is a port");
    assert!(
        plain["segments"].as_u64() > plain["segmented"].as_u64(),
        "super-frames were segmented: {plain:#}"
    );
    s.host().run("uswitch port del plain").ok();
    let (deleted, _) = counters_at_rest(&s);
    assert_eq!(rows(&deleted).last().expect("a row")["ifname"], "(deleted)");
    assert!(sum(&deleted, "rx_frames") >= sum(&after, "rx_frames"), "nothing is forgotten");
    assert_balanced(&deleted);
    // A new port in its place starts at zero.
    s.host().run("uswitch port add plain").ok();
    all_kinds_of_traffic(&s);
    assert_balanced(&counters_at_rest(&s).0);
}

/// Lost, duplicated and delayed frames, and frames beyond a limit, are counted too.
#[test]
fn balances_with_impairments_and_limits() {
    let s = Uswitch::with("--ports 3");
    s.host().run("uswitch port add plain --no-offload").ok();
    for (port, settings) in [
        ("container1", "--delay 1ms --loss 1% --direction both"),
        ("container2", "--duplicate 10% --delay 1ms --jitter 1ms --direction both"),
        ("container3", "--egress-rate 20mbit"),
        ("plain", "--loss 1% --duplicate 1% --ingress-rate 20mbit"),
    ] {
        s.host().run(&format!("uswitch port set {port} {settings}")).ok();
    }
    all_kinds_of_traffic(&s);
    let (after, _) = counters_at_rest(&s);
    assert_balanced(&after);
    let drops = |port, reason| s.drops(port, reason);
    assert!(drops("container1", "egress_loss") > 0 && drops("container1", "ingress_loss") > 0);
    assert!(drops("container3", "egress_rate") > 0 && s.count("container2", "duplicated") > 0);
}

/// A container sends faster than the switch reads: `queue_dropped` has what its device's queue could not hold.
#[test]
fn counts_frames_lost_in_the_device_queue() {
    let s = Uswitch::with("--ports 3 --txqueuelen 2 --fast-path off");
    let [h1, ..] = s.containers();
    // The short queue may lose some of these, too.
    h1.run(&format!("ping -n -c 10 -i 0.1 -W 5 {}", v4(2))).ok();
    let burst = format!(
        "python3 -c 'import socket; s = socket.socket(type=socket.SOCK_DGRAM); \
         [s.sendto(b\"x\", (\"{}\", 9)) for _ in range(2000)]'",
        v4(2)
    );
    wait_until("the queue overflows", || {
        h1.sh(&burst).ok();
        s.count("container1", "queue_dropped") > 0
    });
    let (after, devices) = counters_at_rest(&s);
    assert_balanced(&after);
    assert_eq!(s.count("container1", "queue_dropped"), devices[0].1[4]);
}

/// The table of `uswitch stats` balances too.
#[test]
fn stats_table_balances() {
    let s = Uswitch::start();
    let [h1, ..] = s.containers();
    h1.run(&format!("ping -n -c 3 -i 0.01 -W 5 {}", v4(2))).ok();
    h1.send(&[frame(mac(9), GROUP, "from a group")]);
    counters_at_rest(&s);
    let table = s.host().run("uswitch stats").ok();
    let total: Vec<&str> = table.lines().last().expect("a line").split_whitespace().collect();
    let count = |column: usize| total[column].parse::<u64>().expect("a count");
    assert_eq!(total[0], "TOTAL", "{table}");
    assert_eq!(count(1), count(3) + count(4) + count(5) + count(6), "{table}");
    assert!(table.contains("bad_source 1"), "{table}");
    let explained = s.host().run("uswitch stats container1").ok();
    assert!(explained.contains("the source is a group address or zero"), "{explained}");
    let unknown = s.host().run("uswitch stats nowhere").fails();
    assert!(unknown.contains("no port named nowhere"), "{unknown}");
}

fn rows(stats: &Value) -> &[Value] {
    stats.as_array().expect("a list of ports")
}

/// A counter of all ports.
fn sum(stats: &Value, counter: &str) -> u64 {
    rows(stats).iter().filter_map(|row| row[counter].as_u64()).sum()
}

/// The drops of one side.
fn dropped(row: &Value, side: Side) -> u64 {
    let reasons = DropReason::ALL.iter().filter(|reason| reason.side() == side);
    reasons.map(|reason| row["drops"][reason.name()].as_u64().expect("every reason is there")).sum()
}

/// Checks the sums that docs/API.md documents.
#[track_caller]
fn assert_balanced(stats: &Value) {
    for row in rows(stats) {
        let ends =
            ["forwarded", "flooded", "answered"].map(|counter| row[counter].as_u64().expect("a count"));
        let ends = ends.iter().sum::<u64>() + dropped(row, Side::Ingress);
        assert_eq!(row["rx_frames"].as_u64(), Some(ends), "{row:#}");
    }
    let begun = ["forwarded", "flood_copies", "answered", "injected", "duplicated", "segments"];
    let sum_of = |counters: &[&str]| counters.iter().map(|counter| sum(stats, counter)).sum::<u64>();
    let (begun, ended) = (sum_of(&begun), sum_of(&["segmented", "tx_frames"]));
    let refused: u64 = rows(stats).iter().map(|row| dropped(row, Side::Egress)).sum();
    assert_eq!(begun, ended + refused, "{stats:#}");
}

/// Streams, pings, and hand-made frames for every outcome that a sender can cause. (Except a runt: the kernel pads a
/// frame that is shorter than a header.)
fn all_kinds_of_traffic(s: &Uswitch) {
    let [h1, h2, h3] = s.containers();
    let gateway = s.host().run("cat /sys/class/net/uswitch0/address").ok().trim().parse().expect("a MAC");
    iperf3(&h1, &h2, &format!("{} -t 1 --bidir", v4(2)));
    iperf3(&h2, &h3, &format!("{} -t 1 -u -b 100M", v6(3)));
    iperf3(&h1, &s.host().netns("plain"), &format!("{} -t 1 --bidir", v4(4)));
    for address in [GATEWAY_V4, GATEWAY_V6] {
        h1.run(&format!("ping -n -c 5 -i 0.01 -W 5 {address}")).ok();
    }
    let reserved = Mac([0x01, 0x80, 0xc2, 0, 0, 0x0e]);
    let addresses = [
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
    let frames = addresses.map(|(destination, source)| frame(destination, source, "one of several outcomes"));
    let shortest = ethernet(mac(1), mac(2), 0x88b5, &[]);
    let mixed: Vec<_> = frames.into_iter().chain([shortest]).cycle().take(600).collect();
    for part in mixed.chunks(200) {
        h1.send(part);
        h2.send(part);
    }
}

/// The counters of the switch and of each port's device (frames and bytes, received and sent), once two reads in a row
/// are the same.
fn counters_at_rest(s: &Uswitch) -> (Value, Vec<(String, [u64; 5])>) {
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

/// The counters of a device, in the port's view: what the device sent, the port received.
fn device_counters(shell: &impl Shell, device: &str) -> [u64; 5] {
    ["tx_packets", "tx_bytes", "rx_packets", "rx_bytes", "tx_dropped"].map(|counter| {
        let count = shell.run(&format!("cat /sys/class/net/{device}/statistics/{counter}")).ok();
        count.trim().parse().expect("a count")
    })
}
