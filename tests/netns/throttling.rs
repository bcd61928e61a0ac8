//! A port that costs the others too much time is throttled, and only that port.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use serde_json::Value;
use uswitch::datapath::{self, EngineKind};

use crate::harness::{Shell, TestNetns, TestSwitch, Uswitch, v4, wait_until};
use crate::traffic::send_file;

/// Packet filter rules of a receiver, evaluated one after the other for each frame: some 500 us.
const RULES: u32 = 20_000;

/// Sends some thousand ARP requests for the gateway a second, more than a slow port may be written.
const ASK_FOR_GATEWAY: &str = "exec python3 -c 'import socket, time
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW); s.bind((\"eth0\", 0))
mac = s.getsockname()[4]
arp = bytes.fromhex(\"0001080006040001\") + mac + bytes([172, 16, 0, 2]) + bytes(6) + bytes([172, 16, 0, 1])
while True: s.send(b\"\\xff\" * 6 + mac + b\"\\x08\\x06\" + arp); time.sleep(0.0002)'";

/// The engines of this machine.
fn engines() -> &'static [&'static str] {
    match datapath::probe() {
        (EngineKind::Uring, _) => &["uring", "poll"],
        (EngineKind::Poll, _) => &["poll"],
    }
}

/// Every frame that reaches the container runs through all the rules.
fn make_reception_expensive(s: &Uswitch, container: &TestNetns) {
    let mut rules =
        "table netdev t {\nchain c {\ntype filter hook ingress device eth0 priority 0\n".to_owned();
    for n in 0..RULES {
        rules += &format!("ip saddr 10.1.{}.{} udp dport 9 drop\n", n >> 8, n & 255);
    }
    rules += "}\n}\n";
    fs::write(s.host().path("/run/rules"), rules).expect("the host's /run can be written");
    container.run("nft -f /run/rules").ok();
}

/// The ports with a `throttled` event for this reason.
fn throttled(s: &Uswitch, reason: &str) -> BTreeSet<String> {
    let lines = s.host().run("uswitch events --json --type throttled").ok();
    let events = lines.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    let of_reason = events.filter(|event| event["reason"] == reason);
    of_reason.map(|event| event["ifname"].as_str().expect("a port").to_owned()).collect()
}

/// The drops at the ports 2 and 3, except for queues that were full.
fn drops_of_the_pair(s: &Uswitch) -> BTreeMap<String, u64> {
    let mut drops = BTreeMap::new();
    for port in ["container2", "container3"] {
        let counts = s.row("stats", port)["drops"].clone();
        for (reason, count) in counts.as_object().expect("reasons") {
            *drops.entry(reason.clone()).or_default() += count.as_u64().expect("a count");
        }
    }
    drops.remove("egress_queue_full");
    drops
}

/// The writes to a container with an expensive packet filter leave the worker. The frames of others do not wait.
#[test]
fn writes_to_a_slow_receiver_in_the_background() {
    for engine in engines() {
        let s = Uswitch::with(&format!("--ports 4 --engine {engine} --workers 1 --fast-path off"));
        let [h1, h2, h3] = s.containers();
        make_reception_expensive(&s, &h1);
        let before = drops_of_the_pair(&s);
        let flood = h1.spawn_sh(ASK_FOR_GATEWAY);
        wait_until("the port is throttled", || {
            throttled(&s, "egress").contains("container1")
                && s.row("port show", "container1")["throttled"] != Value::Null
        });
        wait_until("frames are dropped while others need the worker", || {
            send_file(&h2, &h3, &v4(3));
            s.drops("container1", "egress_throttled") > 0
        });
        let stats = s.host().run("uswitch stats container1").ok();
        assert!(stats.contains("in background") && stats.contains("egress_throttled"), "{stats}");
        assert_eq!(throttled(&s, "egress"), BTreeSet::from(["container1".to_owned()]), "{engine}");
        assert_eq!(drops_of_the_pair(&s), before, "{engine}");
        drop(flood);
        h1.run("nft delete table netdev t").ok();
        wait_until("the port is not throttled any more", || {
            h1.run("ping -n -c 1 -W 1 172.16.0.1").succeeded()
                && s.row("port show", "container1")["throttled"] == Value::Null
        });
    }
}

/// Deleting a slow port waits for the writes in progress, and its number can be used again.
#[test]
fn deletes_a_slow_port() {
    let s = Uswitch::with("--ports 3 --workers 2 --fast-path off");
    let [h1, h2, _] = s.containers();
    make_reception_expensive(&s, &h1);
    let flood = h1.spawn("ping -n -f -q -w 60 172.16.0.1");
    wait_until("the port is throttled", || s.count("container1", "background") > 0);
    s.host().run("uswitch port del container1").ok();
    drop(flood);
    s.host().run("uswitch port add container1").ok();
    s.host().netns("container1").run(&format!("ping -n -c 3 -i 0.1 -W 5 {}", v4(2))).ok();
    h2.run(&format!("ping -n -c 1 -W 5 {}", v4(3))).ok();
    assert_eq!(s.count("container1", "background"), 0);
}

/// A flood that costs a copy for each of many ports is read less often while others need the worker.
#[test]
fn reads_a_flooding_port_less_often() {
    const PORTS: u16 = 60;
    for engine in engines() {
        let s = Uswitch::with(&format!(
            "--ports {PORTS} --guard off --engine {engine} --workers 1 --fast-path off"
        ));
        let [h1, h2, h3] = s.containers();
        let flood = h1.spawn_sh(
            "exec python3 -c 'import socket; s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW); s.bind((\"eth0\", 0))\n\
             while True:\n try: s.send(b\"\\xff\" * 6 + b\"\\x02\" * 6 + b\"\\x88\\xb5\" + bytes(46))\n except OSError: pass'",
        );
        wait_until("it floods", || s.count("container1", "flooded") > 100);
        wait_until("the port is throttled", || {
            send_file(&h2, &h3, &v4(3));
            throttled(&s, "ingress").contains("container1")
        });
        assert!(s.count("container1", "throttled_us") > 0);
        assert_eq!(throttled(&s, "ingress"), BTreeSet::from(["container1".to_owned()]), "{engine}");
        assert_eq!(throttled(&s, "egress"), BTreeSet::new(), "{engine}");
        drop(flood);
        wait_until("frames of container1 pass again", || {
            h1.run(&format!("ping -n -c 1 -W 1 {}", v4(2))).succeeded()
        });
    }
}
