//! A loop or a host that sends frames back does not take the switch away from the others.

use serde_json::Value;
use uswitch::wire::Mac;

use crate::harness::{
    Frame, LossCheck, Shell, TestNetns, TestSwitch, Uswitch, frame, frames_seen, mac, v4, wait_until,
};

/// A bridge over both devices of a container: with two ports of one switch, a loop.
const BRIDGE: &str = "ip link add br9 type bridge
ip link set eth0 master br9
ip link set eth1 master br9
ip link set br9 up";

/// Sends back each group-addressed frame that `eth0` receives.
const REFLECT: &str = "exec python3 -c 'import socket
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3)); s.bind((\"eth0\", 3))
s.setsockopt(263, 23, 1)  # SOL_PACKET, PACKET_IGNORE_OUTGOING
while True:
    f = s.recv(65535)
    if f[0] & 1: s.send(f)'";

/// The pair between which the pings of [`LossCheck`] go are container1 and container2, so container3 is the culprit.
const CULPRIT: &str = "container3";

fn loops(s: &Uswitch, port: &str) -> u64 {
    s.count(port, "loops")
}

fn state(s: &Uswitch, port: &str) -> Value {
    s.row("port show", port)["state"].clone()
}

/// Broadcasts from container1 until a port was blocked this often.
fn broadcast_until_blocked(s: &Uswitch, port: impl Fn(&Uswitch) -> bool) {
    let [h1, ..] = s.containers();
    let hello = frame(Mac::BROADCAST, h1.mac(), "hello");
    wait_until("a port is blocked", || {
        h1.send(std::slice::from_ref(&hello));
        port(s)
    });
}

fn has_loop_event(s: &Uswitch, port: &str) -> bool {
    let lines = s.host().run("uswitch events --json --type loop_detected").ok();
    let events = lines.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    events.into_iter().any(|event| event["ifname"] == port && event["mac"].is_string())
}

#[test]
fn blocks_one_port_of_a_loop_until_the_cable_is_removed() {
    for guard in ["on", "off"] {
        let s = Uswitch::with(&format!("--ports 3 --guard {guard}"));
        let h3 = s.host().netns(CULPRIT);
        s.host().run(&format!("uswitch port add second --netns {CULPRIT} --shared-netns --ifname eth1")).ok();
        let pings = (guard == "on").then(|| LossCheck::start(&s));
        h3.sh(BRIDGE).ok();
        let ports = [CULPRIT, "second"];
        broadcast_until_blocked(&s, |s| ports.map(|port| loops(s, port)).iter().sum::<u64>() >= 3);
        let blocked = ports.into_iter().max_by_key(|port| loops(&s, port)).expect("two");
        assert!(has_loop_event(&s, blocked), "{guard}");
        let [h1, h2, _] = s.containers();
        match pings {
            Some(pings) => pings.assert_nothing_lost(),
            // Until the port is blocked, the address of a sender is learned there.
            None => drop(h1.run(&format!("ping -n -c 3 -i 0.2 -W 5 {}", v4(2))).ok()),
        }
        let more = loops(&s, blocked);
        h3.run("ip link set eth1 nomaster").ok();
        wait_until("both ports forward", || ports.iter().all(|port| state(&s, port) == "forwarding"));
        h3.run("ip link del br9").ok();
        let hello = frame(Mac::BROADCAST, h1.mac(), "after the loop");
        assert_eq!(frames_seen_by(&s, &h1, std::slice::from_ref(&hello), &h2), [hello], "{guard}: one copy");
        wait_until("container3 is reached again", || {
            h1.run(&format!("ping -n -c 1 -W 1 {}", v4(3))).succeeded()
        });
        assert!(loops(&s, blocked) <= more + 1, "{guard}: frames that were on their way");
        assert_eq!(loops(&s, "container1") + loops(&s, "container2") + loops(&s, "host"), 0, "{guard}");
    }
}

/// As [`frames_seen`], for a guarded sender, whose frames all need its own MAC.
fn frames_seen_by(s: &Uswitch, from: &TestNetns, frames: &[Frame], at: &TestNetns) -> Vec<Frame> {
    s.host().run(&format!("uswitch port set {} --guard off", from.name())).ok();
    let [seen] = frames_seen(from, frames, [at]);
    seen
}

#[test]
fn blocks_a_host_that_sends_frames_back_until_it_stops() {
    for guard in ["on", "off"] {
        let s = Uswitch::with(&format!("--ports 3 --guard {guard}"));
        let h3 = s.host().netns(CULPRIT);
        let reflector = h3.spawn_sh(REFLECT);
        broadcast_until_blocked(&s, |s| loops(s, CULPRIT) >= 2);
        assert!(has_loop_event(&s, CULPRIT), "{guard}");
        let [h1, ..] = s.containers();
        h1.run(&format!("ping -n -c 3 -i 0.2 -W 5 {}", v4(2))).ok();
        drop(reflector);
        wait_until("it is reached again", || h1.run(&format!("ping -n -c 1 -W 1 {}", v4(3))).succeeded());
        assert_eq!(state(&s, CULPRIT), "forwarding");
        assert_eq!(loops(&s, "container1") + loops(&s, "container2") + loops(&s, "host"), 0, "{guard}");
    }
}

/// The kernel forwards what it gets, so the workers see only what it sends back.
#[test]
fn blocks_a_host_that_sends_unicast_back() {
    let s = Uswitch::with("--ports 3");
    let [h1, _, h3] = s.containers();
    for (from, address, to) in [(&h1, v4(3), &h3), (&h3, v4(1), &h1)] {
        from.run(&format!("ip neigh replace {address} lladdr {} dev eth0 nud permanent", to.mac())).ok();
    }
    let ping = |count: u32| h1.run(&format!("ping -n -c {count} -i 0.05 -W 1 {}", v4(3)));
    ping(40).ok();
    let mut reflector =
        h3.spawn_sh(&REFLECT.replace("if f[0] & 1: ", "").replace("while", "print(1, flush=True)\nwhile"));
    reflector.line_with("1");
    ping(40);
    wait_until("it is blocked", || loops(&s, CULPRIT) >= 1);
    assert!(has_loop_event(&s, CULPRIT));
    assert_eq!(loops(&s, "container1"), 0);
}

/// The commands say that a port is blocked, why and for how long, and that it is not any more.
#[test]
fn a_blocked_port_is_shown() {
    let s = Uswitch::start();
    let [h1, h2, _] = s.containers();
    let [genuine, forged] = ["genuine", "forged"].map(|text| frame(Mac::BROADCAST, h2.mac(), text));
    let forge = || {
        for _ in 0..6 {
            h2.send(std::slice::from_ref(&genuine));
            h1.send(std::slice::from_ref(&forged));
        }
    };
    // Twice as long each time, so that there is time to look.
    wait_until("it is blocked for 8 s or more", || {
        forge();
        s.row("port show", "container1")["blocked"]["remaining"].as_u64().is_some_and(|seconds| seconds > 6)
    });
    let row = s.row("port show", "container1");
    assert_eq!((&row["state"], &row["operstate"]), (&Value::from("blocking"), &Value::from("UP")));
    assert_eq!(row["blocked"]["other"], "container2");
    assert_eq!(row["blocked"]["mac"], h2.mac().to_string());
    let table = s.host().run("uswitch port show container1").ok();
    assert!(table.contains("blocked (loop, "), "{table}");
    h1.send(&[frame(Mac::BROADCAST, h1.mac(), "blocked")]);
    wait_until("the drop is counted", || s.drops("container1", "ingress_blocked") > 0);
    let trace = |port: &str| s.host().run(&format!("uswitch trace {port} --dst broadcast")).ok();
    let said = trace("container1");
    assert!(said.contains("(ingress_blocked, counted on container1)"), "{said}");
    let said = trace("container2");
    assert!(said.contains("container1: refused: the port is blocked, so not part of the flood"), "{said}");
    let stats = s.host().run("uswitch stats container1").ok();
    assert!(stats.contains("times, because frames of other ports came back: a loop"), "{stats}");
    let events = s.host().run("uswitch events container1 --type loop_detected").ok();
    assert!(events.contains("the address of container2 came in here: blocked for 8 s"), "{events}");
    assert!(s.host().run("uswitch status").ok().contains("loops      detected"));
    wait_until("it is unblocked", || state(&s, "container1") == "forwarding");
    let events = s.host().run("uswitch events container1 --type port_unblocked").ok();
    assert!(events.contains("port_unblocked"), "{events}");
    h1.run(&format!("ping -n -c 1 -W 5 {}", v4(3))).ok();
    assert_eq!(loops(&s, "container2"), 0, "the victim");
}

/// A deleted port takes its block with it.
#[test]
fn a_port_that_is_made_again_is_not_blocked() {
    let s = Uswitch::start();
    let [h1, h2, _] = s.containers();
    let frames = [frame(Mac::BROADCAST, h2.mac(), "mine")];
    wait_until("it is blocked", || {
        h2.send(&frames);
        h1.send(&frames);
        state(&s, "container1") == "blocking"
    });
    s.host().run("uswitch port del container1").ok();
    s.host().run("uswitch port add container1").ok();
    assert_eq!(state(&s, "container1"), "forwarding");
    s.host().netns("container1").run(&format!("ping -n -c 1 -W 5 {}", v4(3))).ok();
}

#[test]
fn ordinary_moves_block_nothing() {
    let s = Uswitch::start();
    let containers = s.containers();
    let moves = || ["container1", "container2", "container3"].map(|port| s.count(port, "fdb_moved"));
    // A host is plugged in somewhere else, four times.
    let host = [frame(Mac::BROADCAST, mac(0x77), "a host that moves")];
    for h in [&containers[0], &containers[1], &containers[2], &containers[1]] {
        h.send(&host);
        s.wait_until_learned(mac(0x77), h);
    }
    assert_eq!(moves(), [0, 2, 1]);
    // A container is made again.
    for _ in 0..3 {
        s.host().run("uswitch port del container3").ok();
        s.host().run("uswitch port add container3").ok();
        s.host().netns("container3").run(&format!("ping -n -c 1 -W 5 {}", v4(1))).ok();
    }
    assert_eq!(s.host().run("uswitch events --type loop_detected").ok(), "");
}

#[test]
fn loop_detection_can_be_turned_off() {
    let s = Uswitch::with("--ports 3 --guard off --loop-detection off");
    let [h1, h2, _] = s.containers();
    let frames = [frame(Mac::BROADCAST, h2.mac(), "mine")];
    wait_until("the address has moved often", || {
        h2.send(&frames);
        h1.send(&frames);
        s.count("container1", "fdb_moved") > 20
    });
    assert_eq!((state(&s, "container1"), loops(&s, "container1")), ("forwarding".into(), 0));
    assert_eq!(s.json("status")["loop_detection"], false);
    assert!(s.host().run("uswitch status").ok().contains("loops      not detected"));
}
