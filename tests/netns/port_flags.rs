//! The settings of ports that are on or off, compared with the Linux bridge.

use uswitch::wire::Mac;

use crate::harness::{
    Frame, GROUP, LinuxBridge, Shell, TEST_FRAMES, TestNetns, TestSwitch, Uswitch, end_marker, frame, mac,
    on_both,
};

on_both!(flood_flags, isolated, hairpin, learning, locked, group_fwd_mask);

const A: Mac = mac(0xa);
const B: Mac = mac(0xb);
const UNKNOWN: Mac = mac(0xc);
const NOTHING: [Frame; 0] = [];

/// A switch whose ports can be set.
trait Settable: TestSwitch {
    /// Turns a setting of a port on or off, with its name in bridge(8).
    fn set(&self, port: &TestNetns, flag: &str, on: bool);
    /// Sets the reserved group addresses that a port forwards.
    fn set_group_fwd_mask(&self, port: &TestNetns, mask: &str);
}

impl Settable for Uswitch {
    fn set(&self, port: &TestNetns, flag: &str, on: bool) {
        let (option, value) = (flag.replace('_', "-"), if on { "on" } else { "off" });
        self.host().run(&format!("uswitch port set {} --{option} {value}", port.name())).ok();
    }
    fn set_group_fwd_mask(&self, port: &TestNetns, mask: &str) {
        self.host().run(&format!("uswitch port set {} --group-fwd-mask {mask}", port.name())).ok();
    }
}

impl Settable for LinuxBridge {
    fn set(&self, port: &TestNetns, flag: &str, on: bool) {
        let value = if on { "on" } else { "off" };
        self.host().run(&format!("bridge link set dev {} {flag} {value}", port.name())).ok();
    }
    fn set_group_fwd_mask(&self, port: &TestNetns, mask: &str) {
        let setting = format!("type bridge_slave group_fwd_mask {mask}");
        self.host().run(&format!("ip link set {} {setting}", port.name())).ok();
    }
}

/// What `receiver` gets of the frames of `sender`, [by destination](by_destination). The witness, which gets broadcasts
/// of the sender, then sends it a frame to an address that is known there.
fn received(sender: &TestNetns, frames: &[Frame], receiver: &TestNetns, witness: &TestNetns) -> Vec<Frame> {
    let (at_receiver, at_witness) =
        (receiver.capture("eth0", TEST_FRAMES), witness.capture("eth0", TEST_FRAMES));
    let (last, mut to_receiver) = (end_marker(), end_marker());
    sender.send(&[frames, std::slice::from_ref(&last)].concat());
    at_witness.until(&last);
    to_receiver[..6].copy_from_slice(&B.0);
    witness.send(std::slice::from_ref(&to_receiver));
    let mut received = at_receiver.until(&to_receiver);
    received.retain(|frame| *frame != last);
    by_destination(received)
}

/// Frames keep their order on the way from one address to another only (IEEE 802.1Q-2022 §8.6.6): the kernel fast path
/// overtakes the workers.
fn by_destination(mut frames: Vec<Frame>) -> Vec<Frame> {
    frames.sort_by_key(|frame| frame[..6].to_vec());
    frames
}

/// Containers with A behind the first and B behind the second.
fn containers(s: &impl TestSwitch) -> [TestNetns; 3] {
    let hosts = s.containers();
    for (host, h) in [(A, &hosts[0]), (B, &hosts[1])] {
        h.send(&[frame(Mac::BROADCAST, host, "I am here")]);
        s.wait_until_learned(host, h);
    }
    hosts
}

fn flood_flags<S: Settable>() {
    let s = S::start();
    let [h1, h2, h3] = containers(&s);
    let known = frame(B, A, "known unicast");
    // By destination.
    let kinds = [
        ("flood", frame(UNKNOWN, A, "unknown unicast")),
        ("mcast_flood", frame(GROUP, A, "multicast")),
        ("bcast_flood", frame(Mac::BROADCAST, A, "broadcast")),
    ];
    let all = [vec![known], kinds.iter().map(|(_, frame)| frame.clone()).collect()].concat();
    assert_eq!(received(&h1, &all, &h2, &h3), all);
    for (flag, kind) in &kinds {
        s.set(&h2, flag, false);
        let others: Vec<Frame> = all.iter().filter(|frame| *frame != kind).cloned().collect();
        assert_eq!(received(&h1, &all, &h2, &h3), others, "{flag}");
        s.set(&h2, flag, true);
    }
}

fn isolated<S: Settable>() {
    let s = S::start();
    let [h1, h2, h3] = containers(&s);
    s.set(&h1, "isolated", true);
    let frames = [frame(B, A, "known unicast"), frame(Mac::BROADCAST, A, "broadcast")];
    assert_eq!(received(&h1, &frames, &h2, &h3), frames, "only one of them is isolated");
    s.set(&h2, "isolated", true);
    assert_eq!(received(&h1, &frames, &h2, &h3), NOTHING);
    let up = [frame(UNKNOWN, A, "to all others"), frame(Mac::BROADCAST, A, "broadcast")];
    let at_h3 = h3.capture("eth0", TEST_FRAMES);
    let last = end_marker();
    h1.send(&[&up[..], std::slice::from_ref(&last)].concat());
    assert_eq!(by_destination(at_h3.until(&last)), up);
}

fn hairpin<S: Settable>() {
    let s = S::start();
    let [_, h2, h3] = containers(&s);
    let frames = [frame(B, mac(0xb1), "to another host behind this port")];
    assert_eq!(received(&h2, &frames, &h2, &h3), NOTHING);
    s.set(&h2, "hairpin", true);
    assert_eq!(received(&h2, &frames, &h2, &h3), frames);
}

fn learning<S: Settable>() {
    let s = S::start();
    let [h1, h2, h3] = containers(&s);
    s.set(&h1, "learning", false);
    received(&h1, &[frame(Mac::BROADCAST, UNKNOWN, "not learned")], &h2, &h3);
    assert_eq!(s.port_of(UNKNOWN), None);
    s.set(&h1, "learning", true);
    received(&h1, &[frame(Mac::BROADCAST, UNKNOWN, "learned")], &h2, &h3);
    s.wait_until_learned(UNKNOWN, &h1);
}

/// A locked port accepts the addresses that are in the forwarding database on that port.
fn locked<S: Settable>() {
    let s = S::start();
    let [h1, h2, h3] = containers(&s);
    s.set(&h2, "locked", true);
    let (unknown, of_another) = (frame(A, UNKNOWN, "unknown"), frame(Mac::BROADCAST, A, "of h1"));
    let known = frame(A, B, "known");
    let at_h1 = h1.capture("eth0", TEST_FRAMES);
    h2.send(&[unknown, of_another, known.clone()]);
    assert_eq!(at_h1.until(&known), NOTHING);
    assert_eq!((s.port_of(UNKNOWN), s.port_of(A).as_deref()), (None, Some(h1.name())));
    drop(h3);
}

fn group_fwd_mask<S: Settable>() {
    let s = S::start();
    let [h1, h2, h3] = s.containers();
    let frames: Vec<Frame> =
        (2..16).map(|last| frame(Mac([1, 0x80, 0xc2, 0, 0, last]), A, "to a reserved address")).collect();
    // LACP and LLDP.
    s.set_group_fwd_mask(&h1, "0x4004");
    let [lacp, lldp] = [&frames[0], &frames[12]].map(Frame::clone);
    assert_eq!(crate::harness::frames_seen(&h1, &frames, [&h3]), [[lacp, lldp]]);
    assert_eq!(crate::harness::frames_seen(&h2, &frames, [&h3]), [NOTHING], "from another port");
}

#[test]
fn hub_floods_every_frame_and_learns_nothing() {
    let s = Uswitch::with("--ports 3 --hub --guard off");
    let [h1, h2, h3] = s.containers();
    let shown = s.host().run("uswitch port show").ok();
    assert!(shown.contains("container1: hub on\n"), "{shown}");
    h2.send(&[frame(Mac::BROADCAST, B, "I am here")]);
    let frames = [frame(B, A, "seen by all")];
    let [at_h2, at_h3] = crate::harness::frames_seen(&h1, &frames, [&h2, &h3]);
    assert_eq!((at_h2, at_h3), (frames.to_vec(), frames.to_vec()));
    assert_eq!((s.port_of(A), s.port_of(B)), (None, None));
    h1.run(&format!("ping -n -c 1 -W 5 {}", crate::harness::GATEWAY_V4)).ok();
    s.host().run("uswitch port set container2 --hub off").ok();
    assert_eq!(s.row("port show", "container2")["hub"], false);
}

#[test]
fn changed_settings_are_shown_and_explained() {
    let s = Uswitch::with("--ports 2");
    let host = s.host();
    let shown = host.run("uswitch port set container2 --isolated on --bcast-flood off").ok();
    assert!(shown.contains("container2: bcast_flood off, isolated on\n"), "{shown}");
    let port = s.row("port show", "container2");
    assert_eq!((&port["isolated"], &port["bcast_flood"]), (&true.into(), &false.into()));
    let trace = host.run("uswitch trace container1 --dst broadcast").ok();
    assert!(trace.contains("container2: refused: the port does not take floods of this kind"), "{trace}");
    host.run("uswitch port set container1 --isolated on").ok();
    let trace = host.run("uswitch trace container1 --dst broadcast").ok();
    assert!(trace.contains("both ports are isolated, so not part of the flood"), "{trace}");
    let shown = host.run("uswitch port set container1 --group-fwd-mask 0xffff --isolated off").ok();
    assert!(shown.ends_with("container1: group_fwd_mask 0xffff\n"), "{shown}");
    assert_eq!(s.row("port show", "container1")["group_fwd_mask"], 0xffff);
    let refused = host.run("uswitch port set container2 --group-fwd-mask 0x10000").fails();
    assert!(refused.contains("65536 is out of range: choose 0 to 65535"), "{refused}");
    let refused = host.run("uswitch port set container2 --isolated perhaps").fails();
    assert!(refused.contains("--isolated"), "{refused}");
    let nothing = host.run("uswitch port set container2").fails();
    assert!(nothing.contains("missing an option that says what to change"), "{nothing}");
}

#[test]
fn configuration_file_has_flags_of_ports() {
    let host = crate::harness::Host::new();
    let file = "hub = true\n[port.container2]\nhub = false\nmcast-flood = false\nlocked = true\ngroup-fwd-mask = 0x4000\n";
    std::fs::write(host.path("/run/lab.toml"), file).unwrap();
    let s = Uswitch::on(host, "--ports 2 --config /run/lab.toml");
    let shown = s.host().run("uswitch port show").ok();
    assert!(
        shown.contains("container1: hub on\ncontainer2: mcast_flood off, locked on, group_fwd_mask 0x4000\n"),
        "{shown}"
    );
}
