//! Bulk traffic arrives complete and in order, with each engine, with and without offload.

use serde_json::Value;
use uswitch::datapath::{self, EngineKind};

use crate::harness::{Host, LinuxBridge, Shell, TestNetns, TestSwitch, Uswitch, v4, v6};
use crate::lifecycle::assert_start_rejected;

/// Sends files, streams and datagrams through a switch.
fn carries_everything(s: &impl TestSwitch) {
    let [h1, h2, _] = s.containers();
    send_file(&h1, &h2, &v4(2));
    send_file(&h2, &h1, &format!("[{}]", v6(1)));
    tcp_both_ways(&h1, &h2);
    udp_in_order(&h1, &h2);
}

/// The same with io_uring. Where `probe` finds it unusable (Linux before 6.4, or forbidden), `start` gives the reason.
#[track_caller]
fn uring_carries_everything(arguments: &str) {
    let arguments = format!("--ports 3 --engine uring {arguments}");
    match datapath::probe() {
        (EngineKind::Uring, _) => carries_everything(&Uswitch::with(&arguments)),
        (EngineKind::Poll, reason) => {
            let reason = reason.expect("a reason not to take io_uring");
            assert_start_rejected(&Host::new(), &arguments, &["--engine auto", &reason]);
        }
    }
}

#[test]
fn linux_bridge_carries_everything() {
    carries_everything(&LinuxBridge::start());
}

#[test]
fn uring_with_offload() {
    uring_carries_everything("");
}

#[test]
fn uring_without_offload() {
    uring_carries_everything("--no-offload");
}

#[test]
fn uring_with_two_workers() {
    uring_carries_everything("--workers 2");
}

#[test]
fn poll_with_offload() {
    carries_everything(&Uswitch::with("--ports 3 --engine poll"));
}

#[test]
fn poll_without_offload() {
    carries_everything(&Uswitch::with("--ports 3 --engine poll --no-offload"));
}

#[test]
fn poll_with_two_workers() {
    carries_everything(&Uswitch::with("--ports 3 --engine poll --workers 2"));
}

/// Sends 100 MB of random bytes over TCP and compares the SHA-256 sums.
pub fn send_file(from: &TestNetns, to: &TestNetns, address: &str) {
    let mut receiver = to.spawn_sh("socat -d -d -u TCP6-LISTEN:5001,ipv6-v6only=0 STDOUT | sha256sum");
    receiver.line_with("listening on");
    let sum = from.sh("head -c 100000000 /dev/urandom >/run/file; sha256sum </run/file").ok();
    from.run(&format!("socat -u OPEN:/run/file TCP:{address}:5001")).ok();
    let received = receiver.ok();
    assert!(received.contains(sum.trim()), "sent {sum}, received {received}");
}

/// Runs one iperf3 test to its end and returns its report.
#[track_caller]
pub fn iperf3(client: &TestNetns, server: &TestNetns, arguments: &str) -> Value {
    let mut listener = server.spawn("iperf3 -s -1 --forceflush");
    listener.line_with("Server listening");
    let report = client.run(&format!("iperf3 -c {arguments} --json")).json();
    listener.ok();
    report
}

fn tcp_both_ways(h1: &TestNetns, h2: &TestNetns) {
    let report = iperf3(h1, h2, &format!("{} -t 2 --bidir", v4(2)));
    for sum in ["sum_received", "sum_received_bidir_reverse"] {
        let bytes = report["end"][sum]["bytes"].as_u64();
        assert!(bytes.is_some_and(|bytes| bytes > 1_000_000), "{sum}: {bytes:?} bytes in {report}");
    }
}

/// 5 Mbit/s of UDP arrives completely and in order. On a busy machine the receiver's socket may overflow; its namespace
/// is new, so the kernel's counter there counts only this stream.
fn udp_in_order(h1: &TestNetns, h2: &TestNetns) {
    let report = iperf3(h1, h2, &format!("{} -u -b 5M -t 2", v6(2)));
    let stream = &report["end"]["streams"][0]["udp"];
    assert_eq!(stream["out_of_order"], 0, "{stream}");
    let overflows = h2.sh("awk '/^Udp6RcvbufErrors/ {print $2}' /proc/net/snmp6").ok();
    let overflows: u64 = overflows.trim().parse().expect("a count");
    let lost = stream["lost_packets"].as_u64();
    assert!(lost.is_some_and(|lost| lost <= overflows), "{stream}, {overflows} of them by the socket");
}

/// A frame of the MTU passes; a longer one does not leave its sender.
#[track_caller]
fn longest_frame(s: &impl TestSwitch, mtu: u32) {
    const HEADERS: u32 = 20 + 8;
    let [h1, ..] = s.containers();
    h1.run(&format!("ping -n -c 2 -i 0.2 -W 5 -M do -s {} {}", mtu - HEADERS, v4(2))).ok();
    h1.run(&format!("ping -n -c 1 -W 1 -M do -s {} {}", mtu - HEADERS + 1, v4(2))).fails();
}

#[test]
fn standard_mtu() {
    longest_frame(&Uswitch::with("--ports 3"), 1500);
    longest_frame(&LinuxBridge::start(), 1500);
}

#[test]
fn jumbo_mtu() {
    let s = Uswitch::with("--ports 3 --mtu 9000");
    longest_frame(&s, 9000);
    let [h1, h2, _] = s.containers();
    send_file(&h1, &h2, &v4(2));
}

/// The largest MTU of a TAP (`drivers/net/tun.c`, `MAX_MTU`).
#[test]
fn largest_mtu() {
    longest_frame(&Uswitch::with("--ports 3 --mtu 65521"), 65521);
}
