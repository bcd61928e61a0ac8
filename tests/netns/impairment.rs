//! Impairments of ports, with real traffic.

use std::fs;
use std::time::{Duration, Instant};

use uswitch::wire::Mac;

use crate::harness::{
    Frame, Host, Shell, TEST_FRAMES, TestNetns, TestSwitch, Uswitch, frame, frames_seen, mac, v4, wait_until,
};

const A: Mac = mac(0x0a);
const B: Mac = mac(0x0b);

/// The round trip of a ping in milliseconds.
fn round_trip(from: &TestNetns, to: &str) -> f64 {
    let said = from.run(&format!("ping -n -c 1 -W 10 {to}")).ok();
    let time = said.split("time=").nth(1).and_then(|rest| rest.split(' ').next());
    time.and_then(|time| time.parse().ok()).unwrap_or_else(|| panic!("no time in {said}"))
}

/// Frames from A to B, which is behind container2.
fn numbered(frames: usize) -> Vec<Frame> {
    (0..frames).map(|n| frame(B, A, &format!("frame {n}"))).collect()
}

/// A switch with `arguments`, on which B is known and container2 has this impairment.
fn impaired(arguments: &str, impairment: &str) -> Uswitch {
    let s = Uswitch::with(&format!("--ports 3 --guard off {arguments}"));
    s.host().run(&format!("uswitch fdb add {B} container2")).ok();
    s.host().run(&format!("uswitch port set container2 {impairment}")).ok();
    s
}

/// Sends frames from container1, no more at a time than its device holds. Returns how many the switch has received: the
/// device may lose some.
fn send(s: &Uswitch, frames: &[Frame]) -> u64 {
    let counts = || ["rx_frames", "queue_dropped"].map(|counter| s.count("container1", counter));
    let [received, lost] = counts();
    let mut sum = received + lost;
    for part in frames.chunks(200) {
        s.host().netns("container1").send(part);
        sum += part.len() as u64;
        wait_until("the frames have arrived", || counts().iter().sum::<u64>() >= sum);
    }
    counts()[0] - received
}

/// A delay is never shorter than asked. How much longer depends on the machine.
#[test]
fn delays_packets_in_each_direction() {
    for engine in ["auto", "poll"] {
        let s = Uswitch::with(&format!("--ports 2 --engine {engine}"));
        let (host, h1) = (s.host(), s.host().netns("container1"));
        round_trip(&h1, &v4(2));
        let set = |options: &str| host.run(&format!("uswitch port set container2 {options}")).ok();
        let shown = set("--delay 200ms");
        assert!(shown.contains("container2: impaired: egress delay 200ms\n"), "{shown}");
        let one_way = round_trip(&h1, &v4(2));
        assert!(one_way >= 200.0, "{one_way}");
        set("--delay 200ms --direction both");
        let both = round_trip(&h1, &v4(2));
        assert!(both >= 400.0, "{both}");
        let impairment = &s.row("port show", "container2")["impairment"];
        assert_eq!(
            (&impairment["ingress"]["delay_us"], impairment["egress"]["seed"].is_u64()),
            (&200_000.into(), true)
        );
        set("--no-impairment --direction both");
        round_trip(&h1, &v4(2));
        assert_eq!(s.row("port show", "container2")["impairment"].to_string(), "{}");
    }
}

/// Every frame is sent or counted as lost.
#[test]
fn counts_each_lost_frame() {
    let s = impaired("", "--loss 30% --seed 7");
    let sent_before = s.count("container2", "tx_frames");
    let received = send(&s, &numbered(400));
    let lost = || s.drops("container2", "egress_loss");
    wait_until("each frame is sent or lost", || {
        s.count("container2", "tx_frames") - sent_before + lost() >= received
    });
    assert!((60..=200).contains(&lost()), "{}", lost());
    s.host().run("uswitch port set container1 --loss 30% --seed 7 --direction ingress").ok();
    s.host().run("uswitch port set container2 --no-impairment").ok();
    send(&s, &numbered(400));
    let lost = s.drops("container1", "ingress_loss");
    assert!((60..=200).contains(&lost), "{lost}");
}

#[test]
fn receiver_sees_duplicates() {
    let s = impaired("", "--duplicate 100%");
    let [h1, h2, h3] = ["container1", "container2", "container3"].map(|name| s.host().netns(name));
    let frames = [frame(Mac::BROADCAST, A, "one"), frame(Mac::BROADCAST, A, "two")];
    let [at_h2, at_h3] = frames_seen(&h1, &frames, [&h2, &h3]);
    let [one, two] = frames.clone();
    assert_eq!(at_h2, [one.clone(), one, two.clone(), two]);
    assert_eq!(at_h3, frames, "another port");
    let ping = h1.run(&format!("ping -n -c 2 -W 10 {}", v4(2))).ok();
    assert!(ping.contains("DUP!"), "{ping}");
    assert!(s.count("container2", "duplicated") >= 4);
}

/// Nearly all inverted bits are in the payload.
#[test]
fn receiver_sees_wrong_checksums() {
    let s = Uswitch::with("--ports 2");
    let [h1, h2] = ["container1", "container2"].map(|name| s.host().netns(name));
    h1.run(&format!("ping -n -c 1 -W 5 {}", v4(2))).ok();
    s.host().run("uswitch port set container2 --corrupt 100%").ok();
    // A packet whose inverted bit is in its source MAC address is answered.
    h1.sh(&format!("ping -n -c 20 -i 0.01 -W 1 -s 1400 {} || true", v4(2))).ok();
    let errors = h2.sh("awk '/^Icmp: [0-9]/ {print $4}' /proc/net/snmp").ok();
    assert!(errors.trim().parse::<u32>().is_ok_and(|errors| errors > 0), "{errors}");
}

/// Half of the frames are delayed, and the others overtake them.
#[test]
fn frames_overtake_others() {
    const FRAMES: usize = 40;
    let s = impaired("", "--delay 300ms --reorder 50% --seed 7");
    let capture = s.host().netns("container2").capture("eth0", TEST_FRAMES);
    let sent = numbered(FRAMES);
    send(&s, &sent);
    let mut received: Vec<Frame> = (0..FRAMES).filter_map(|_| capture.next()).collect();
    assert_ne!(received, sent);
    received.sort_unstable();
    let mut sent = sent;
    sent.sort_unstable();
    assert_eq!(received, sent);
}

/// The last frame is sent when the link has had the time for all. Several workers have one rate.
#[test]
fn rate_bounds_what_is_sent() {
    for workers in [1, 2] {
        let s = impaired(&format!("--workers {workers}"), "--rate 800kbit");
        let capture = s.host().netns("container2").capture("eth0", TEST_FRAMES);
        let frames: Vec<Frame> = (0..100).map(|n| frame(B, A, &format!("{n:0>986}"))).collect();
        let bits: usize = frames.iter().map(|frame| frame.len() * 8).sum();
        let started = Instant::now();
        s.host().netns("container1").send(&frames);
        assert_eq!((0..100).filter_map(|_| capture.next()).count(), 100);
        let least = Duration::from_secs_f64(bits as f64 / 800e3);
        assert!(started.elapsed() >= least, "{:?} for {bits} bits", started.elapsed());
    }
}

/// A queue has 1000 frames. Without the impairment they leave.
#[test]
fn frames_beyond_the_queue_are_counted() {
    let s = impaired("--workers 1", "--delay 60s");
    let received = send(&s, &numbered(1100));
    let dropped = s.drops("container2", "egress_delay_full");
    assert!(dropped >= received - 1000 && dropped < received, "{dropped} of {received}");
    let table = s.host().run("uswitch stats").ok();
    assert!(table.contains("1000 frames"), "{table}");
    let before = s.count("container2", "tx_frames");
    s.host().run("uswitch port set container2 --no-impairment").ok();
    wait_until("the others are sent", || s.count("container2", "tx_frames") >= before + received - dropped);
}

#[test]
fn loses_packets_not_super_frames() {
    let s = Uswitch::with("--ports 2");
    let (host, [h1, h2]) = (s.host(), [1, 2].map(|n| s.host().netns(&format!("container{n}"))));
    host.run("uswitch port set container2 --loss 2% --seed 7").ok();
    crate::traffic::iperf3(&h1, &h2, &format!("{} --bytes 20M", v4(2)));
    assert!(s.drops("container2", "egress_loss") > 50);
    let stats = s.row("stats", "container2");
    assert!(stats["segments"].as_u64() > stats["segmented"].as_u64(), "{stats}");
    host.run("uswitch port set container2 --loss 100%").ok();
    h1.run(&format!("ping -n -c 1 -W 1 {}", v4(2))).fails();
    wait_until("an event shows the drops", || {
        host.run("uswitch events container2 --type dropped").ok().contains("egress_loss")
    });
}

#[test]
fn trace_shows_impairments() {
    let s = impaired("", "--delay 20ms --jitter 5ms --distribution normal --loss 1%");
    let trace = || s.host().run(&format!("uswitch trace container1 --src {A} --dst {B}")).ok();
    let said = trace();
    let egress = "container2: sent, impaired: delay 20ms jitter 5ms distribution normal loss 1%";
    assert!(said.contains(egress), "{said}");
    s.host().run("uswitch port set container1 --rate 1mbit --direction ingress").ok();
    let said = trace();
    assert!(said.contains("ingress container1: up, impaired: rate 1000000 bit/s"), "{said}");
}

/// The number of a deleted port goes to the next one, without its impairment.
#[test]
fn new_port_is_not_impaired() {
    let s = Uswitch::with("--ports 2");
    let host = s.host();
    host.run("uswitch port set container2 --loss 100% --direction both").ok();
    host.run("uswitch port del container2").ok();
    host.run("uswitch port add other").ok();
    host.netns("other").run(&format!("ping -n -c 1 -W 10 {}", v4(1))).ok();
}

#[test]
fn configuration_file_has_impairments() {
    let host = Host::new();
    let file = "[port.container2.impairment.ingress]\nloss = 100.0\n";
    fs::write(host.path("/run/lab.toml"), file).expect("/run is writable");
    let s = Uswitch::on(host, "--config /run/lab.toml");
    s.host().netns("container2").run(&format!("ping -n -c 1 -W 1 {}", v4(1))).fails();
    assert!(s.drops("container2", "ingress_loss") > 0);
}

#[test]
fn refuses_impairments_in_one_line() {
    let s = Uswitch::with("--ports 1");
    let fails = |options: &str, message: &str| {
        let said = s.host().run(&format!("uswitch port set container1 {options}")).fails();
        assert!(said.trim().lines().count() == 1 && said.contains(message), "{said}");
    };
    fails("--delay 20", "'20' is not a time");
    fails("--delay 61s", "61s is out of range");
    fails("--loss 101%", "'101%' is not a percentage");
    fails("--down --rate 10bit", "10 is out of range: choose 1000 to 1000000000000");
    fails("--reorder 5%", "--delay");
    fails("--direction both", "missing an option that says what to change");
    fails("--delay 1ms --no-impairment", "--no-impairment");
    assert_eq!(s.row("port show", "container1")["admin_state"], "up");
}
