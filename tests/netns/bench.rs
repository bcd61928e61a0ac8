//! `uswitch bench` in a test host: what it measures, and that it cleans up.

use std::collections::BTreeSet;
use std::fs;

use nix::sys::signal::Signal;
use serde_json::Value;
use uswitch::datapath::allowed_cpus;

use crate::harness::{
    Host, HostSnapshot, Shell, host_with_public_tun, run_as_user, user_command, wait_until,
};

const SHORT: &str = "uswitch bench --peers uswitch,linux-bridge,naive --tests tcp,pps,broadcast,rtt,rtt-tcp,ping --repeat 1 --duration 1";

/// Metrics that each of the three switches must have.
const METRICS: [&str; 12] = [
    "tcp.cubic",
    "tcp.cubic.cpu.switch",
    "tcp.cubic.cpu.machine",
    "pps.64",
    "pps.1518",
    "broadcast.64",
    "rfc2544.64",
    "rtt.p50",
    "rtt.p99",
    "rtt.p99.9",
    "rtt-tcp.p50",
    "ping.p50",
];

#[track_caller]
fn check(results: &Value) {
    assert_eq!(results["schema"], 1, "{results}");
    assert_eq!(results["options"]["mtu"], 1500);
    let samples = results["samples"].as_array().expect("a list");
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    for peer in ["uswitch", "linux-bridge", "naive"] {
        let of_peer = samples.iter().filter(|sample| sample["peer"] == peer);
        let metrics: BTreeSet<String> = of_peer.map(|sample| text(&sample["metric"])).collect();
        let missing: Vec<&&str> = METRICS.iter().filter(|metric| !metrics.contains(**metric)).collect();
        assert!(missing.is_empty(), "{peer} has no {missing:?}: {}", results["notes"]);
        let distributions = results["distributions"].as_array().expect("a list");
        assert!(distributions.iter().any(|one| one["peer"] == peer && one["metric"] == "rtt"), "{results}");
    }
    let counts =
        |metric: &str| metric.starts_with("tcp.") && !metric.contains("cpu") || metric.starts_with("pps.");
    let is_zero = |sample: &&Value| counts(&text(&sample["metric"])) && sample["value"].as_f64() <= Some(0.0);
    assert_eq!(samples.iter().find(is_zero), None, "a sample is zero");
    let has_distance = |sample: &Value| sample["cpu_distance_ns"].as_f64().is_some_and(|ns| ns > 0.0);
    let several = allowed_cpus().len() > 1;
    assert!(samples.iter().all(|sample| has_distance(sample) == several), "{samples:?}");
    let peers = results["peers"].as_array().expect("a list");
    assert!(peers.iter().all(|peer| peer["skipped"].is_null()), "{peers:?}");
}

/// Processes that a measurement has started on the host. (The host's first process reaps no children.)
fn processes(host: &Host) -> String {
    host.sh("ps -e -o stat=,comm= | grep -v '^Z' | grep -E 'uswitch|exe|iperf3' || true").ok()
}

#[test]
fn measures_as_root() {
    let host = Host::new();
    let before = HostSnapshot::of(&host);
    let done = host.run(&format!("{SHORT} --json"));
    let output: Vec<&str> = done.stderr.lines().filter(|line| !line.contains("debug build")).collect();
    assert_eq!(output, [""; 0], "no output beside the JSON");
    check(&done.json());
    before.assert_same(&host);
    assert_eq!(processes(&host), "");
}

#[test]
fn measures_without_root() {
    let host = host_with_public_tun();
    let before = HostSnapshot::of(&host);
    check(&run_as_user(&host, &format!("{SHORT} --json")).json());
    before.assert_same(&host);
    assert_eq!(processes(&host), "");
}

/// Logs its arguments and the route of its connections to `/mnt/iperf3.log`, and then runs iperf3.
const IPERF3: &str = r#"#!/bin/sh
echo "$* | $(ip -4 route show 172.16.0.0/24)" >>/mnt/iperf3.log
PATH=${PATH#/mnt:} exec iperf3 "$@"
"#;

/// Checks both ends of each connection. Apart from the congestion control, the route is the one that the
/// kernel created.
#[track_caller]
fn check_routes(host: &Host, run: impl FnOnce(&str) -> String) {
    const BENCH: &str =
        "uswitch bench --peers uswitch,linux-bridge --tests tcp,host --repeat 1 --duration 1 --json";
    host.sh("mount -t tmpfs -o mode=777 none /mnt").ok();
    fs::write(host.path("/mnt/iperf3"), IPERF3).expect("the host has a /mnt");
    host.sh(&format!("chmod +x /mnt/iperf3; PATH=/mnt:$PATH {}", run(BENCH))).ok();
    let output = fs::read_to_string(host.path("/mnt/iperf3.log")).expect("iperf3 was called");
    let mut cubic_streams = 0;
    let lines: Vec<&str> = output.lines().collect();
    for ends in lines.chunks(2) {
        let [server, client] = ends else { panic!("a server or a client is missing: {output}") };
        let control = client.split_whitespace().skip_while(|word| *word != "-C").nth(1);
        let control = control.unwrap_or_else(|| panic!("{client} has no control"));
        cubic_streams += usize::from(control == "cubic");
        for end in [server, client] {
            assert!(end.contains(" proto kernel scope link src 172.16.0."), "{end}");
            assert!(end.trim_end().ends_with(&format!(" congctl {control}")), "not with {control}: {end}");
        }
    }
    assert_eq!(cubic_streams, 4, "two switches, each to a container and to the host: {output}");
}

#[test]
fn sets_congestion_control_before_connecting() {
    check_routes(&Host::new(), str::to_owned);
}

#[test]
fn sets_congestion_control_before_connecting_without_root() {
    check_routes(&host_with_public_tun(), user_command);
}

/// Interrupts a stream while the switch, a server and a client run.
#[track_caller]
fn check_interrupt(signal: Signal, code: i32) {
    let host = Host::new();
    let before = HostSnapshot::of(&host);
    let bench = host.spawn("uswitch bench --peers uswitch --tests tcp --repeat 1 --duration 60");
    wait_until("iperf3 sends", || processes(&host).matches("iperf3").count() == 2);
    bench.signal(signal);
    let (status, output) = bench.wait();
    assert_eq!(status.code(), Some(code), "{output}");
    assert!(output.contains("interrupted") && output.contains("everything was removed"), "{output}");
    assert_eq!(processes(&host), "");
    before.assert_same(&host);
}

#[test]
fn cleans_up_after_sigint() {
    check_interrupt(Signal::SIGINT, 130);
}

#[test]
fn cleans_up_after_sigterm() {
    check_interrupt(Signal::SIGTERM, 143);
}

/// After SIGKILL no process is left that could clean up.
#[test]
fn cleans_up_after_sigkill() {
    let host = Host::new();
    let before = HostSnapshot::of(&host);
    let bench = host.spawn("uswitch bench --peers uswitch --tests tcp --repeat 1 --duration 60");
    wait_until("iperf3 sends", || processes(&host).matches("iperf3").count() == 2);
    bench.signal(Signal::SIGKILL);
    // Long before the stream would have ended by itself.
    wait_until("all processes have ended", || processes(&host).is_empty());
    bench.wait();
    before.assert_same(&host);
}

#[test]
fn reports_missing_iperf3() {
    let host = Host::new();
    let output = host.sh("mount -t tmpfs none /usr/bin; PATH=/run/bin uswitch bench --tests tcp").fails();
    assert!(
        output.contains("iperf3 is not installed") && output.contains("apt-get install iperf3"),
        "{output}"
    );
    assert_eq!(output.trim().lines().count(), 1, "{output}");
}

#[test]
fn reports_that_no_peer_is_available() {
    let host = Host::new();
    let output =
        host.sh("mount -t tmpfs none /usr/bin; PATH=/run/bin uswitch bench --peers vde --tests rtt").fails();
    assert!(
        output.starts_with("uswitch: no switch can be measured: vde: vde_switch is not installed"),
        "{output}"
    );
    assert_eq!(output.lines().count(), 1, "{output}");
}

/// A switch that is not installed is skipped with an explanation. The others are measured.
#[test]
fn skips_peer_that_is_not_installed() {
    let host = Host::new();
    let hidden = "uswitch bench --peers vde,veth --tests rtt --repeat 1 --duration 1 --json";
    let done = host.sh(&format!("mount -t tmpfs none /usr/bin; PATH=/run/bin {hidden}"));
    let output = done.stderr.clone();
    let results = done.json();
    assert!(
        output.contains("vde is skipped: vde_switch is not installed: run `apt-get install vde2`"),
        "{output}"
    );
    assert!(results["samples"].as_array().is_some_and(|samples| !samples.is_empty()), "{results}");
    assert!(results["peers"][0]["skipped"].is_string(), "{results}");
}

/// The results mention settings that only one of the switches uses.
#[test]
fn notes_busy_polling() {
    let host = Host::new();
    let notes_awake_cpus = |arguments: &str| {
        let bench = format!("uswitch bench --tests rtt --repeat 1 --duration 1 {arguments} --json");
        host.run(&bench).json()["notes"].to_string().contains("keeps idle CPUs awake")
    };
    assert!(notes_awake_cpus("--peers uswitch --busy-poll 50"));
    assert!(!notes_awake_cpus("--peers uswitch --busy-poll 0"));
    assert!(!notes_awake_cpus("--peers veth --busy-poll 50"));
}

#[test]
fn writes_report_without_overwriting() {
    let host = Host::new();
    let bench = "uswitch bench --peers veth --tests rtt --repeat 1 --duration 1 --out /run/report";
    let table = host.run(bench).ok();
    assert!(table.contains("VETH") && table.contains("rtt.p50"), "{table}");
    let files = host.run("ls /run/report").ok();
    assert_eq!(files.split_whitespace().collect::<Vec<_>>(), ["report.md", "results.json", "round-trip.svg"]);
    assert!(host.run(bench).fails().contains("exists"));
}
