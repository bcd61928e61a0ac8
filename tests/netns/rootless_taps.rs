//! Ports on existing TAP devices of the machine, of a switch without root: the user owns the device.

use crate::harness::{Host, Shell, host_with_public_tun, run_as_user, v4, wait_until};

/// The address of the host on the device, in the subnet of the containers.
const HOST: &str = "172.16.0.100";

/// A machine with a persistent TAP device of the user, and a switch of that user.
fn machine(options: &str, start: &str) -> Host {
    let host = host_with_public_tun();
    host.sh(&format!(
        "ip tuntap add tap0 mode tap user 65534 {options}
         ip addr add {HOST}/24 dev tap0 && ip link set tap0 up"
    ))
    .ok();
    run_as_user(&host, &format!("uswitch start --detach --ports 1 {start}")).ok();
    host
}

fn port_state(host: &Host, name: &str) -> serde_json::Value {
    let ports = run_as_user(host, "uswitch port show --json").json();
    ports
        .as_array()
        .and_then(|ports| ports.iter().find(|port| port["ifname"] == name))
        .cloned()
        .unwrap_or_default()
}

/// TCP in both directions, and the device stays as it was.
#[track_caller]
fn carries_traffic(options: &str, start: &str) {
    let host = machine(options, start);
    let device = || host.sh("ip -d -o link show tap0; ethtool -k tap0 | sed 's/ .requested on.//'").ok();
    let (settings, said) = (device(), run_as_user(&host, "uswitch port add lan --tap tap0").ok());
    assert!(said.contains("lan"), "{said}");
    run_as_user(&host, &format!("uswitch exec container1 -- ping -n -c 1 -W 5 {HOST}")).ok();
    host.run(&format!("ping -n -c 1 -W 5 {}", v4(1))).ok();
    let mut server = host.spawn("iperf3 -s -1 --forceflush");
    server.line_with("Server listening");
    run_as_user(&host, &format!("uswitch exec container1 -- iperf3 -n 4M -c {HOST}")).ok();
    server.ok();
    let shown = port_state(&host, "lan");
    assert_eq!((&shown["polled"], &shown["offload"]), (&true.into(), &options.contains("vnet_hdr").into()));
    run_as_user(&host, "uswitch port del lan").ok();
    wait_until("the device is closed", || host.run("ip link show tap0").ok().contains("NO-CARRIER"));
    run_as_user(&host, "uswitch port add --tap tap0").ok();
    run_as_user(&host, "uswitch stop").ok();
    wait_until("the device is closed", || host.run("ip link show tap0").ok().contains("NO-CARRIER"));
    assert_eq!(device(), settings);
}

#[test]
fn reaches_the_machine() {
    for start in ["--engine uring", "--engine poll", "--workers 2"] {
        carries_traffic("", start);
    }
}

#[test]
fn uses_offloads_and_queues_of_the_device() {
    carries_traffic("vnet_hdr", "");
    carries_traffic("multi_queue vnet_hdr", "--workers 2");
}

#[test]
fn refuses_other_devices_in_one_line() {
    let host = machine("", "");
    host.sh("ip tuntap add roots mode tap user 0; ip tuntap add tun0 mode tun user 65534").ok();
    host.sh("ip tuntap add tap1 mode tap user 65534 pi").ok();
    let before = run_as_user(&host, "uswitch port show").ok();
    let refused = |device: &str, words: &str| {
        let error = run_as_user(&host, &format!("uswitch port add new --tap {device}")).fails();
        assert!(error.contains(words) && error.trim().lines().count() == 1, "{device}: {error}");
    };
    refused("roots", "no permission to open the TAP device 'roots': only its owner and root may");
    refused("tun0", "'tun0' is not a TAP device");
    refused("tap1", "has packet information before each frame");
    refused("missing", "there is no device named 'missing' in that namespace");
    assert_eq!(run_as_user(&host, "uswitch port show").ok(), before);
    let tap = "TUN,tun-name=tap0,tun-type=tap,iff-no-pi,iff-up";
    let _other = host.spawn(&format!("socat -u {tap} OPEN:/dev/null"));
    wait_until("another program has it open", || !host.run("ip link show tap0").ok().contains("NO-CARRIER"));
    refused("tap0", "another program has the TAP device 'tap0' open: without root");
    run_as_user(&host, "uswitch stop").ok();
}

/// The switch does not see the namespace of the device, but its queue tells its name, and its end.
#[test]
fn port_follows_its_device() {
    let host = machine("", "");
    run_as_user(&host, "uswitch port add lan --tap tap0").ok();
    let ping = || host.run(&format!("ping -n -c 1 -W 1 {}", v4(1))).succeeded();
    wait_until("it forwards", ping);
    host.sh(&format!(
        "ip link set tap0 down; ip link set tap0 name other; ip link set other up
         ip addr replace {HOST}/24 dev other"
    ))
    .ok();
    wait_until("it forwards again", ping);
    host.run("ip link del other").ok();
    wait_until("the port is gone", || port_state(&host, "lan")["operstate"] == "NOTPRESENT");
    run_as_user(&host, "uswitch stop").ok();
}
