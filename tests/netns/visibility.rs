//! What a user can observe: frames with tcpdump, and the drop reason of every frame.

use uswitch::wire::Mac;

use crate::harness::{
    GATEWAY_V4, GROUP, Shell, TEST_FRAMES, TestSwitch, Uswitch, end_marker, frame, frames_seen, mac, on_both,
    v4, v6, wait_until,
};

on_both!(does_not_leak_unicast_to_third_port);

/// tcpdump on a third port sees a ping to an unknown host, and not one to a known host.
fn does_not_leak_unicast_to_third_port<S: TestSwitch>() {
    let s = S::start();
    let [h1, _, h3] = s.containers();
    h1.run(&format!("ping -n -c 1 -W 5 {}", v4(2))).ok();
    let capture = h3.capture("eth0", &format!("icmp or ({TEST_FRAMES})"));
    h1.run(&format!("ping -n -c 5 -i 0.2 -W 5 {}", v4(2))).ok();
    let last = end_marker();
    h1.send(std::slice::from_ref(&last));
    assert_eq!(capture.until(&last), Vec::<Vec<u8>>::new());
    h1.run(&format!("ip neigh replace 172.16.0.99 lladdr {} dev eth0", mac(0x99))).ok();
    h1.run("ping -n -c 1 -W 1 172.16.0.99").fails();
    let unknown = capture.next().expect("tcpdump saw the ping");
    assert_eq!(unknown[..6], mac(0x99).0);
}

/// Each frame is dropped for one reason, and counted once.
#[test]
fn counts_drops_by_reason() {
    let s = Uswitch::start();
    let [h1, h2, h3] = s.containers();
    let gateway: Mac =
        s.host().run("cat /sys/class/net/uswitch0/address").ok().trim().parse().expect("a MAC");
    let hosts = [frame(Mac::BROADCAST, mac(1), "one"), frame(Mac::BROADCAST, mac(2), "two")];
    frames_seen(&h1, &hosts, [&h2, &h3]);
    for (reason, frame) in [
        ("bad_source", frame(mac(9), GROUP, "from a group")),
        ("reserved_address", frame(Mac([0x01, 0x80, 0xc2, 0, 0, 0x0e]), mac(1), "LLDP's address")),
        ("filtered", frame(mac(1), mac(2), "between two hosts of one port")),
        ("spoofed_gateway", frame(mac(9), gateway, "from the gateway")),
    ] {
        let before = s.drops("container1", reason);
        assert_eq!(frames_seen(&h1, &[frame], [&h2, &h3]), [vec![], vec![] as Vec<Vec<u8>>], "{reason}");
        assert_eq!(s.drops("container1", reason), before + 1, "{reason}");
    }
}

/// Two ports with different MTUs: frames that are too long for the egress port are counted there.
#[test]
fn counts_oversize_on_the_egress_port() {
    let s = Uswitch::with("--ports 3 --guard off --mtu 9000");
    let [h1, h2, h3] = s.containers();
    h2.run("ip link set eth0 mtu 1500").ok();
    wait_until("the port shows its MTU", || s.row("port show", "container2")["mtu"] == 1500);
    let mut long = frame(mac(9), mac(1), "long");
    long.resize(5000, 0);
    let short = frame(mac(9), mac(1), "short");
    let both = [long, short.clone()];
    assert_eq!(frames_seen(&h1, &both, [&h2, &h3]), [vec![short], both.to_vec()]);
    assert_eq!(s.drops("container2", "oversize"), 1);
}

/// A switch with one port and no host port has no egress port for a flood.
#[test]
fn counts_no_egress() {
    let s = Uswitch::with("--ports 1 --internal --guard off");
    let [h1, ..] = s.containers();
    let before = s.drops("container1", "no_egress");
    h1.send(&[frame(Mac::BROADCAST, mac(1), "anybody?")]);
    wait_until("it is counted", || s.drops("container1", "no_egress") > before);
}

/// Frames to the gateway's MAC that the switch does not answer need a host port.
#[test]
fn counts_no_host_port() {
    let s = Uswitch::with("--ports 2 --internal --guard off");
    let [h1, ..] = s.containers();
    let gateway = s.json("status")["gateway"]["mac"].as_str().and_then(|mac| mac.parse().ok());
    h1.send(&[frame(gateway.expect("a MAC address"), mac(1), "host?")]);
    wait_until("it is counted", || s.drops("container1", "no_host_port") > 0);
}

#[test]
fn gateway_answers_without_host_port() {
    let s = Uswitch::with("--ports 1");
    s.host().run("ip link del uswitch0").ok();
    s.host().netns("container1").run(&format!("ping -n -c 1 -W 5 {GATEWAY_V4}")).ok();
}

/// The frames and bytes that were sent are counted.
#[test]
fn counters_balance() {
    let s = Uswitch::start();
    let [h1, _, h3] = s.containers();
    h1.run(&format!("ping -n -c 1 -W 5 {}", v4(2))).ok();
    let count = |counter| s.count("container2", counter);
    let (rx, tx) = (count("rx_frames"), count("tx_frames"));
    let said = h1.run(&format!("ping -n -c 20 -i 0.01 -W 5 {}", v4(2))).ok();
    // A busy machine may lose a frame in a queue. A write is counted when it has completed.
    let answers = said.matches("bytes from").count() as u64;
    assert!(answers > 0 && count("rx_frames") >= rx + answers);
    wait_until("the requests are counted", || count("tx_frames") >= tx + answers);
    h3.run(&format!("ping -n -c 1 -W 5 {}", v6(1))).ok();
    assert!(s.count("container1", "rx_bytes") >= answers * 98);
    assert!(s.count("container3", "flooded") > 0, "its neighbour solicitation was");
}
