//! Counters of each port in each VLAN. This kernel's bridge has no VLANs to compare with.

use serde_json::Value;
use uswitch::wire::Mac;

use crate::harness::{
    Frame, Shell, TEST_FRAMES, TestNetns, TestSwitch, Uswitch, end_marker, frame, mac, tagged, wait_until,
};

const A: Mac = mac(0xa);
/// Frames that are sent.
const FRAMES: u64 = 100;

/// container1 and container2 are in VLAN 10, container3 is a trunk of 10 and 20.
fn lab(arguments: &str) -> (Uswitch, [TestNetns; 3]) {
    let s =
        Uswitch::with(&format!("--ports 3 --guard off --vlan-filtering --mcast-snooping off {arguments}"));
    for port in ["container1", "container2"] {
        s.host().run(&format!("uswitch port set {port} --access 10")).ok();
    }
    s.host().run("uswitch port set container3 --trunk 10,20").ok();
    let containers = s.containers();
    (s, containers)
}

/// Received and sent frames and bytes of a port in a VLAN, as `bridge -s -j vlan show` names them.
fn counts(s: &Uswitch, port: &str, vid: u16) -> [u64; 4] {
    let report = s.json(&format!("vlan show {port} --statistics"));
    let vlans: &Vec<Value> = report[0]["vlans"].as_array().expect("its VLANs");
    let of = vlans.iter().find(|vlan| vlan["vid"] == vid).expect("it is a member");
    ["rx_packets", "rx_bytes", "tx_packets", "tx_bytes"].map(|key| of[key].as_u64().expect("a number"))
}

fn metrics(s: &Uswitch) -> String {
    s.host().run("curl -sS --unix-socket /run/uswitch/uswitch0.sock http://uswitch/metrics").ok()
}

/// Frames for one address, which is behind container1: a container sends frames of its own to groups only.
fn counts_frames_of_each_port(arguments: &str) {
    let (s, [h1, h2, h3]) = lab(&format!("--vlan-stats-per-port {arguments}"));
    h1.send(&[frame(Mac::BROADCAST, A, "here")]);
    s.wait_until_learned(A, &h1);
    let trunk = h3.capture("eth0", TEST_FRAMES);
    let last = end_marker();
    h1.send(std::slice::from_ref(&last));
    trunk.until(&tagged(&last, 10));
    let ports = [("container1", 10), ("container2", 10), ("container3", 10), ("container3", 20)];
    let all = || ports.map(|(port, vid)| counts(&s, port, vid));
    let before = all();
    let to_a = frame(A, mac(0xb), "counted");
    let sent: Vec<Frame> = (0..FRAMES).map(|_| tagged(&to_a, 10)).collect();
    let access = h1.capture("eth0", TEST_FRAMES);
    let last = end_marker();
    h3.send(&[&sent[..], &[tagged(&last, 10)]].concat());
    assert_eq!(access.until(&last).len() as u64, FRAMES);
    let (now, bytes) = (all(), to_a.len() as u64 * FRAMES);
    let grown: Vec<[u64; 4]> =
        now.iter().zip(before).map(|(now, before)| std::array::from_fn(|n| now[n] - before[n])).collect();
    let [access, other, trunk, trunk_20] = grown[..] else { panic!("{grown:?}") };
    // What the containers send to groups comes on top.
    assert!(access[2] >= FRAMES && access[3] >= bytes && access[0] < FRAMES, "{grown:?}");
    assert!(trunk[0] >= FRAMES && trunk[1] >= bytes && trunk[2] < FRAMES, "{grown:?}");
    assert!(other[2] < FRAMES && trunk_20[0] < FRAMES, "{grown:?}");
    drop(h2);
    let table = s.host().run("uswitch vlan show container3 -s").ok();
    assert!(table.starts_with("PORT        VLAN  RX FRAMES") && table.lines().count() == 3, "{table}");
    let metrics = metrics(&s);
    let series = "uswitch_port_vlan_frames_total{port=\"container3\",vlan=\"10\",direction=\"rx\"} ";
    let value = metrics.lines().find_map(|line| line.strip_prefix(series)?.parse::<u64>().ok());
    assert!(value >= Some(now[2][0]), "{value:?} {metrics}");
}

#[test]
fn counts_frames_of_each_port_with_one_worker() {
    counts_frames_of_each_port("");
}

#[test]
fn counts_frames_of_each_port_with_two_workers() {
    counts_frames_of_each_port("--workers 2");
}

/// Also on the number of a port that was deleted.
#[test]
fn counters_start_with_the_membership() {
    let (s, [_, _, h3]) = lab("--vlan-stats-per-port");
    let broadcast = frame(Mac::BROADCAST, A, "counted");
    h3.send(&[tagged(&broadcast, 20), tagged(&broadcast, 10)]);
    wait_until("both are counted", || [10, 20].iter().all(|vid| counts(&s, "container3", *vid)[0] > 0));
    s.host().run("uswitch vlan del container3 20").ok();
    s.host().run("uswitch vlan add container3 20").ok();
    assert_eq!(counts(&s, "container3", 20)[0], 0);
    assert!(counts(&s, "container3", 10)[0] > 0, "the others go on");
    s.host().run("uswitch port del container3").ok();
    s.host().run("uswitch port add new --trunk 20").ok();
    assert_eq!(counts(&s, "new", 20)[0], 0);
}

#[test]
fn off_by_default() {
    let (s, _) = lab("");
    let of_ports = s.json("vlan show container1,container2 -s");
    assert_eq!(of_ports[0]["vlans"], of_ports[1]["vlans"], "those of all ports");
    let table = s.host().run("uswitch vlan show -s").ok();
    assert!(table.starts_with("VLAN  PORTS"), "{table}");
    assert!(!metrics(&s).contains("uswitch_port_vlan_frames_total{"));
    s.stop();
    let error = s.host().run("uswitch start --detach --vlan-stats-per-port").fails();
    assert!(
        error.contains("--vlan-stats-per-port: VLANs need vlan-filtering") && error.lines().count() == 1,
        "{error}"
    );
}
