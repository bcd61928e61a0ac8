//! Storm control and rate limits of ports.

use std::fs;
use std::time::Instant;

use uswitch::wire::Mac;

use crate::harness::{Frame, Host, Shell, TestSwitch, Uswitch, ethernet, frame, mac, v4, wait_until};
use crate::traffic::iperf3;

const A: Mac = mac(0x0a);
const FRAMES: u64 = 200;

/// Frames of about a thousand bytes.
fn large(destination: Mac) -> Vec<Frame> {
    (0..FRAMES).map(|_| ethernet(destination, A, 0x88b5, &[0; 1000])).collect()
}

fn small(destination: Mac) -> Vec<Frame> {
    (0..FRAMES).map(|n| frame(destination, A, &format!("frame {n}"))).collect()
}

/// Waits until a port has received all frames of container1, and returns how many were dropped for a reason.
fn dropped(s: &Uswitch, frames: &[Frame], port: &str, reason: &str) -> u64 {
    let received = || s.count("container1", "rx_frames") + s.count("container1", "queue_dropped");
    let before = received();
    s.host().netns("container1").send(frames);
    wait_until("all frames have arrived", || received() >= before + FRAMES);
    s.drops(port, reason)
}

#[test]
fn storm_control_limits_flooded_frames_of_a_port() {
    let s = Uswitch::start();
    let set = |options: &str| s.host().run(&format!("uswitch port set container1 {options}")).ok();
    let shown = set("--storm-broadcast 1:20 --storm-unknown-unicast 1:30 --storm-multicast 1:40");
    assert!(shown.contains("container1: broadcast at most 1 frames/s"), "{shown}");
    // A few more pass while the frames are sent.
    let group = Mac([1, 0, 0x5e, 0, 0x53, 1]);
    for (destination, reason, burst) in [
        (Mac::BROADCAST, "storm_broadcast", 20),
        (mac(0x77), "storm_unknown_unicast", 30),
        (group, "storm_multicast", 40),
    ] {
        let count = dropped(&s, &small(destination), "container1", reason);
        assert!(count <= FRAMES && count >= FRAMES - burst - 30, "{reason}: {count}");
    }
    // The bucket gets a token each second.
    wait_until("a trace shows the limit", || {
        dropped(&s, &small(Mac::BROADCAST), "container1", "storm_broadcast");
        let trace = s.host().run("uswitch trace container1 --dst broadcast").ok();
        trace.contains("storm control allows (storm_broadcast, counted on container1)")
    });
    // Known addresses are not limited.
    s.host().run(&format!("uswitch fdb add {} container2", mac(0x0b))).ok();
    let before = s.count("container2", "tx_frames");
    dropped(&s, &small(mac(0x0b)), "container1", "storm_unknown_unicast");
    wait_until("all frames are sent", || s.count("container2", "tx_frames") >= before + FRAMES);
    let limits = &s.row("port show", "container1")["limits"];
    assert_eq!(limits["storm_broadcast"]["burst"], 20);
    wait_until("an event shows the drops", || {
        s.host().run("uswitch events container1 --type dropped").ok().contains("storm_broadcast")
    });
    set("--storm-broadcast off --storm-unknown-unicast off --storm-multicast off");
    let before = s.drops("container1", "storm_broadcast");
    assert_eq!(dropped(&s, &small(Mac::BROADCAST), "container1", "storm_broadcast"), before);
}

#[test]
fn rate_limits_drop_frames_on_their_side() {
    let s = Uswitch::start();
    let set = |port: &str, options: &str| s.host().run(&format!("uswitch port set {port} {options}")).ok();
    s.host().run(&format!("uswitch fdb add {} container2", mac(0x0b))).ok();
    set("container1", "--ingress-rate 1kbit:20000");
    let count = dropped(&s, &large(mac(0x0b)), "container1", "ingress_rate");
    assert!((170..=FRAMES).contains(&count), "{count}");
    set("container1", "--ingress-rate off");
    set("container2", "--egress-rate 1kbit:20000");
    let count = dropped(&s, &large(mac(0x0b)), "container2", "egress_rate");
    assert!((170..=FRAMES).contains(&count), "{count}");
}

/// Bytes that a TCP transfer delivers: those of the burst, and those of the time that it took.
#[test]
fn rate_limits_bound_the_bytes_of_a_transfer() {
    let s = Uswitch::with("--ports 2");
    let [h1, h2] = [1, 2].map(|n| s.host().netns(&format!("container{n}")));
    for (port, option) in [("container2", "--egress-rate"), ("container1", "--ingress-rate")] {
        let set = |value: &str| s.host().run(&format!("uswitch port set {port} {option} {value}")).ok();
        set("20mbit:100k");
        let (before, started) = (s.count("container2", "tx_bytes"), Instant::now());
        iperf3(&h1, &h2, &format!("{} -t 2", v4(2)));
        let sent = s.count("container2", "tx_bytes") - before;
        // A frame of 64 KiB more, because the bucket may be full again.
        let most = 20e6 / 8.0 * started.elapsed().as_secs_f64() + 102_400.0 + 65_536.0;
        assert!(sent > 0 && (sent as f64) < most, "{option}: {sent} bytes, at most {most}");
        set("off");
    }
    assert!(s.drops("container2", "egress_rate") > 0 && s.drops("container1", "ingress_rate") > 0);
}

#[test]
fn configuration_file_has_limits() {
    let host = Host::new();
    let file = "[port.container1.limits]\nstorm-broadcast = { rate = 1, burst = 5 }\negress-rate = { rate = 1000 }\n";
    fs::write(host.path("/run/lab.toml"), file).expect("/run is writable");
    let s = Uswitch::on(host, "--guard off --config /run/lab.toml");
    assert!(dropped(&s, &small(Mac::BROADCAST), "container1", "storm_broadcast") >= FRAMES - 35);
    assert_eq!(s.row("port show", "container1")["limits"]["egress_rate"]["rate"], 1000);
}

#[test]
fn refuses_limits_that_are_out_of_range() {
    let s = Uswitch::with("--ports 1");
    let fails = |options: &str, message: &str| {
        let said = s.host().run(&format!("uswitch port set container1 {options}")).fails();
        assert!(said.trim().lines().count() == 1 && said.contains(message), "{said}");
    };
    fails("--down --ingress-rate 999", "999 is out of range: choose 1000 to 1000000000000");
    fails("--ingress-rate 10mbit:1499", "1499 is out of range: choose 1500 to 1073741824");
    fails("--storm-broadcast 1:0", "0 is out of range: choose 1 to 1000000000");
    fails("--storm-broadcast many", "'many' is not a limit");
    fails("--egress-rate 10mb", "'10mb' is not a rate");
    let port = s.row("port show", "container1");
    assert_eq!((&port["admin_state"], port["limits"].to_string()), (&"up".into(), "{}".to_owned()));
}
