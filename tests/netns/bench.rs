//! `uswitch bench` on a machine of its own: what it measures, and that nothing is left of it.

use std::collections::BTreeSet;
use std::fs;

use nix::sys::signal::Signal;
use serde_json::Value;
use uswitch::datapath::allowed_cpus;

use crate::harness::{
    Host, HostSnapshot, Shell, host_with_public_tun, run_as_user, user_command, wait_until,
};

const SHORT: &str =
    "uswitch bench --peers uswitch,linux-bridge,naive --tests tcp,pps,rtt --repeat 1 --duration 1";

/// What each of the three must have been measured for.
const METRICS: [&str; 9] = [
    "tcp.cubic",
    "tcp.cubic.cpu.switch",
    "tcp.cubic.cpu.machine",
    "pps.64",
    "pps.1518",
    "rfc2544.64",
    "rtt.p50",
    "rtt.p99",
    "rtt.p99.9",
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
    let nothing = |sample: &&Value| counts(&text(&sample["metric"])) && sample["value"].as_f64() <= Some(0.0);
    assert_eq!(samples.iter().find(nothing), None, "nothing result");
    let apart = |sample: &Value| sample["cpu_distance_ns"].as_f64().is_some_and(|ns| ns > 0.0);
    let several = allowed_cpus().len() > 1;
    assert!(samples.iter().all(|sample| apart(sample) == several), "{samples:?}");
    let peers = results["peers"].as_array().expect("a list");
    assert!(peers.iter().all(|peer| peer["skipped"].is_null()), "{peers:?}");
}

/// What runs on the host of those that a measurement starts. (The host's first process reaps nobody.)
fn processes(host: &Host) -> String {
    host.sh("ps -e -o stat=,comm= | grep -v '^Z' | grep -E 'uswitch|exe|iperf3' || true").ok()
}

#[test]
fn measures_as_root() {
    let host = Host::new();
    let before = HostSnapshot::of(&host);
    let done = host.run(&format!("{SHORT} --json"));
    let said: Vec<&str> = done.stderr.lines().filter(|line| !line.contains("debug build")).collect();
    assert_eq!(said, [""; 0], "not a word beside the JSON");
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

/// Tells in `/mnt/said` how it is called, and by which route its connections go, before it becomes iperf3.
const IPERF3: &str = r#"#!/bin/sh
echo "$* | $(ip -4 route show 172.16.0.0/24)" >>/mnt/said
PATH=${PATH#/mnt:} exec iperf3 "$@"
"#;

/// At both ends; and the route is otherwise the one that the kernel made.
#[track_caller]
fn check_routes(host: &Host, run: impl FnOnce(&str) -> String) {
    const BENCH: &str =
        "uswitch bench --peers uswitch,linux-bridge --tests tcp,host --repeat 1 --duration 1 --json";
    host.sh("mount -t tmpfs -o mode=777 none /mnt").ok();
    fs::write(host.path("/mnt/iperf3"), IPERF3).expect("the host has a /mnt");
    host.sh(&format!("chmod +x /mnt/iperf3; PATH=/mnt:$PATH {}", run(BENCH))).ok();
    let said = fs::read_to_string(host.path("/mnt/said")).expect("iperf3 was called");
    let mut of_cubic = 0;
    let lines: Vec<&str> = said.lines().collect();
    for ends in lines.chunks(2) {
        let [server, client] = ends else { panic!("a server or a client is missing: {said}") };
        let control = client.split_whitespace().skip_while(|word| *word != "-C").nth(1);
        let control = control.unwrap_or_else(|| panic!("{client} has no control"));
        of_cubic += usize::from(control == "cubic");
        for end in [server, client] {
            assert!(end.contains(" proto kernel scope link src 172.16.0."), "{end}");
            assert!(end.trim_end().ends_with(&format!(" congctl {control}")), "not with {control}: {end}");
        }
    }
    assert_eq!(of_cubic, 4, "two switches, to a container and to the host: {said}");
}

#[test]
fn sets_congestion_control_before_connecting() {
    check_routes(&Host::new(), str::to_owned);
}

#[test]
fn sets_congestion_control_before_connecting_without_root() {
    check_routes(&host_with_public_tun(), user_command);
}

/// In the middle of a stream, with a switch, a server and a client there.
#[track_caller]
fn interrupted(signal: Signal, code: i32) {
    let host = Host::new();
    let before = HostSnapshot::of(&host);
    let bench = host.spawn("uswitch bench --peers uswitch --tests tcp --repeat 1 --duration 60");
    wait_until("iperf3 sends", || processes(&host).matches("iperf3").count() == 2);
    bench.signal(signal);
    let (status, said) = bench.wait();
    assert_eq!(status.code(), Some(code), "{said}");
    assert!(said.contains("interrupted") && said.contains("everything was removed"), "{said}");
    assert_eq!(processes(&host), "");
    before.assert_same(&host);
}

#[test]
fn cleans_up_after_sigint() {
    interrupted(Signal::SIGINT, 130);
}

#[test]
fn cleans_up_after_sigterm() {
    interrupted(Signal::SIGTERM, 143);
}

/// Nobody is left to clear up, and nobody has to.
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
    let said = host.sh("mount -t tmpfs none /usr/bin; PATH=/run/bin uswitch bench --tests tcp").fails();
    assert!(said.contains("iperf3 is not installed") && said.contains("apt-get install iperf3"), "{said}");
    assert_eq!(said.trim().lines().count(), 1, "{said}");
}

#[test]
fn reports_that_no_peer_is_available() {
    let host = Host::new();
    let said =
        host.sh("mount -t tmpfs none /usr/bin; PATH=/run/bin uswitch bench --peers vde --tests rtt").fails();
    assert!(
        said.starts_with("uswitch: no switch can be measured: vde: vde_switch is not installed"),
        "{said}"
    );
    assert_eq!(said.lines().count(), 1, "{said}");
}

/// What is not installed is left out, with a line that says how to get it; what is there is measured.
#[test]
fn skips_peer_that_is_not_installed() {
    let host = Host::new();
    let hidden = "uswitch bench --peers vde,veth --tests rtt --repeat 1 --duration 1 --json";
    let done = host.sh(&format!("mount -t tmpfs none /usr/bin; PATH=/run/bin {hidden}"));
    let said = done.stderr.clone();
    let results = done.json();
    assert!(
        said.contains("vde is skipped: vde_switch is not installed: run `apt-get install vde2`"),
        "{said}"
    );
    assert!(results["samples"].as_array().is_some_and(|samples| !samples.is_empty()), "{results}");
    assert!(results["peers"][0]["skipped"].is_string(), "{results}");
}

/// Who compares is told of what one switch asks of the machine and the others do not.
#[test]
fn notes_busy_polling() {
    let host = Host::new();
    let told = |arguments: &str| {
        let bench = format!("uswitch bench --tests rtt --repeat 1 --duration 1 {arguments} --json");
        host.run(&bench).json()["notes"].to_string().contains("keeps idle CPUs awake")
    };
    assert!(told("--peers uswitch --busy-poll 50"));
    assert!(!told("--peers uswitch --busy-poll 0"));
    assert!(!told("--peers veth --busy-poll 50"));
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
