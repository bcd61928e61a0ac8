//! The behaviour of any learning bridge (802.1D-2004 §7.7 to §7.9), compared with the Linux bridge.

use uswitch::wire::Mac;

use crate::harness::{
    Frame, GROUP, Shell, TEST_FRAMES, TestNetns, TestSwitch, Uswitch, end_marker, frame, frames_seen, mac,
    on_both, tagged, wait_until,
};

on_both!(
    learning,
    does_not_learn_group_or_zero_sources,
    flooding,
    ageing,
    mac_move,
    does_not_reflect_to_ingress,
    reserved_addresses,
    forwards_frames_unmodified,
);

const NOTHING: [Frame; 0] = [];
const A: Mac = mac(0xa);
const B: Mac = mac(0xb);

/// Makes the switch learn that `host` is on the port of `h`.
fn make_known(s: &impl TestSwitch, host: Mac, h: &TestNetns) {
    h.send(&[frame(Mac::BROADCAST, host, "I am here")]);
    s.wait_until_learned(host, h);
}

fn learning<S: TestSwitch>() {
    let s = S::start();
    let [h1, h2, h3] = s.containers();
    assert_eq!(s.port_of(A), None);
    make_known(&s, A, &h1);
    let to_a = [frame(A, B, "to a known host")];
    assert_eq!(frames_seen(&h2, &to_a, [&h1, &h3]), [to_a.to_vec(), vec![]]);
    s.wait_until_learned(B, &h2);
}

/// Group addresses and zero are not valid sources (802.1D-2004 §7.8; Linux `br_handle_frame`).
fn does_not_learn_group_or_zero_sources<S: TestSwitch>() {
    let s = S::start();
    let [h1, h2, h3] = s.containers();
    let sources = [GROUP, Mac::ZERO, Mac::BROADCAST];
    let frames = sources.map(|source| frame(B, source, "from an invalid source"));
    assert_eq!(frames_seen(&h1, &frames, [&h2, &h3]), [NOTHING, NOTHING]);
    for source in sources {
        assert_eq!(s.fdb().iter().find(|entry| entry.mac == source && entry.ifname == h1.name()), None);
    }
}

fn flooding<S: TestSwitch>() {
    let s = S::start();
    let [h1, h2, h3] = s.containers();
    let host = s.host().capture(S::DEVICE, TEST_FRAMES);
    let frames = [
        frame(Mac::BROADCAST, A, "broadcast"),
        frame(GROUP, A, "multicast"),
        frame(mac(0xc), A, "unknown unicast"),
    ];
    let last = end_marker();
    let all = [&frames[..], std::slice::from_ref(&last)].concat();
    assert_eq!(frames_seen(&h1, &all, [&h1, &h2, &h3]), [vec![], all.clone(), all.clone()]);
    assert_eq!(host.until(&last), frames);
}

/// A silent host ages out; one that sends does not.
fn ageing<S: TestSwitch>() {
    let s = S::with_ageing_time(2);
    let [h1, h2, h3] = s.containers();
    make_known(&s, A, &h1);
    make_known(&s, B, &h2);
    wait_until("a silent host ages out", || {
        h2.send(&[frame(Mac::BROADCAST, B, "still here")]);
        s.wait_until_learned(B, &h2);
        s.port_of(A).is_none()
    });
    let to_a = [frame(A, B, "to a host that aged out")];
    assert_eq!(frames_seen(&h2, &to_a, [&h1, &h3]), [to_a.to_vec(), to_a.to_vec()]);
}

fn mac_move<S: TestSwitch>() {
    let s = S::start();
    let [h1, h2, h3] = s.containers();
    make_known(&s, A, &h1);
    make_known(&s, A, &h2);
    let to_a = [frame(A, B, "to a host that moved")];
    assert_eq!(frames_seen(&h3, &to_a, [&h1, &h2]), [vec![], to_a.to_vec()]);
    assert_eq!(s.fdb().iter().filter(|entry| entry.mac == A).count(), 1);
}

/// Two hosts behind one port: frames between them are not forwarded.
fn does_not_reflect_to_ingress<S: TestSwitch>() {
    let s = S::start();
    let [h1, h2, h3] = s.containers();
    make_known(&s, A, &h1);
    make_known(&s, B, &h1);
    let local = [frame(A, B, "to a neighbour"), frame(B, A, "and back")];
    assert_eq!(frames_seen(&h1, &local, [&h1, &h2, &h3]), [NOTHING, NOTHING, NOTHING]);
}

/// 01-80-C2-00-00-00 to -0F are not forwarded (802.1Q-2022 table 8-1); -10 is.
fn reserved_addresses<S: TestSwitch>() {
    let s = S::start();
    let [h1, h2, h3] = s.containers();
    let to = |last| frame(Mac([0x01, 0x80, 0xc2, 0, 0, last]), A, "to a reserved address");
    let mut frames: Vec<Frame> = S::RESERVED.map(to).collect();
    frames.push(to(0x10));
    assert_eq!(frames_seen(&h1, &frames, [&h2, &h3]), [[to(0x10)], [to(0x10)]]);
}

/// Short, long, tagged and double-tagged frames are forwarded unmodified.
fn forwards_frames_unmodified<S: TestSwitch>() {
    let s = S::start();
    let [h1, h2, _] = s.containers();
    make_known(&s, B, &h2);
    let mut full = frame(B, A, "as long as the MTU allows");
    full.extend((0..1514 - full.len()).map(|i| i.to_le_bytes()[0]));
    let short = frame(B, A, "short");
    let frames = [short.clone(), full.clone(), tagged(&short, 10), tagged(&full, 4094), tagged(&short, 0)];
    assert_eq!(frames_seen(&h1, &frames, [&h2]), [frames.to_vec()]);
}

/// A bridge with a spanning tree in a container, with two ports on the switch: its BPDUs come back to it, so it
/// blocks one of them.
#[test]
fn bridge_in_a_container_finds_loop() {
    let s = Uswitch::with("--ports 1");
    s.host().run("ip netns add second").ok();
    for port in ["left", "right"] {
        s.host()
            .run(&format!("uswitch port add {port} --netns second --shared-netns --ifname {port} --mtu 1500"))
            .ok();
    }
    let second = s.host().netns("second");
    second.run("ip link add br1 type bridge stp_state 1 forward_delay 200 hello_time 100").ok();
    second.sh("for port in left right; do ip link set $port master br1; done; ip link set br1 up").ok();
    wait_until("the bridge blocks one of its ports", || {
        let ports = second.run("bridge -d link show").ok();
        ports.contains("state blocking") && ports.contains("state forwarding")
    });
}
