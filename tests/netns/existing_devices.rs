//! Ports on existing devices: a container and hosts behind one end of a veth pair, the "LAN".

use serde_json::json;
use uswitch::wire::Mac;

use crate::harness::{
    Frame, Host, Shell, TestNetns, TestSwitch, Uswitch, frame, frames_seen, mac, tagged, v4, wait_until,
};
use crate::traffic::send_file;

/// The address of the host on the LAN, in the subnet of the containers.
const LAN: &str = "172.16.0.100";
const LAN_V6: &str = "fd00:172:16::100";
const LAN_MAC: &str = "00:00:5e:00:53:64";

/// A machine whose device `eth1` leads to the namespace `lan`.
fn machine() -> Host {
    let host = Host::new();
    host.sh(&format!(
        "ip netns add lan; ip link add eth1 type veth peer name eth0 netns lan; ip link set eth1 up
         ip -n lan link set lo up; ip -n lan link set eth0 address {LAN_MAC} up
         ip -n lan addr add {LAN}/24 dev eth0; ip -n lan addr add {LAN_V6}/64 dev eth0 nodad"
    ))
    .ok();
    host
}

/// A switch on that machine, with the port `eth1`.
fn switch(arguments: &str) -> Uswitch {
    let s = Uswitch::on(machine(), arguments);
    s.host().run("uswitch port add --device eth1").ok();
    s
}

fn lan(s: &Uswitch) -> TestNetns {
    s.host().netns("lan")
}

fn promiscuity(host: &Host) -> serde_json::Value {
    host.run("ip -d -j link show eth1").json()[0]["promiscuity"].clone()
}

/// Files cross in both directions, as super-frames: the frames are longer than the MTU on average.
#[track_caller]
fn carries_traffic(arguments: &str) {
    let s = switch(arguments);
    let [h1, ..] = s.containers();
    h1.run(&format!("ping -n -c 1 -W 5 {LAN}")).ok();
    lan(&s).run(&format!("ping -n -c 1 -W 5 {}", v4(1))).ok();
    s.host().run(&format!("ping -n -c 1 -W 5 {LAN}")).ok();
    send_file(&h1, &lan(&s), LAN);
    send_file(&lan(&s), &h1, &v4(1));
    send_file(&h1, &lan(&s), &format!("[{LAN_V6}]"));
    for direction in ["rx", "tx"] {
        let count = |what| s.count("eth1", &format!("{direction}_{what}"));
        let mean = count("bytes") / count("frames");
        assert!(mean > 1514, "{direction}: {mean} bytes in a frame");
    }
}

#[test]
fn uring_carries_traffic_of_a_device() {
    carries_traffic("--ports 2 --engine uring");
}

#[test]
fn poll_carries_traffic_of_a_device() {
    carries_traffic("--ports 2 --engine poll");
}

#[test]
fn several_workers_share_a_device() {
    carries_traffic("--ports 2 --workers 3");
}

/// The kernel takes the outermost tag out of a frame that a device receives.
#[test]
fn keeps_vlan_tags() {
    for engine in ["uring", "poll"] {
        let s = switch(&format!("--ports 1 --guard off --engine {engine}"));
        let h1 = s.host().netns("container1");
        let plain = frame(Mac::BROADCAST, mac(1), "plain");
        // One tag, with a priority, and a tag behind another.
        let sent = [plain.clone(), tagged(&plain, 0x6007), tagged(&tagged(&plain, 3), 5), tagged(&plain, 0)];
        let [received] = frames_seen(&lan(&s), &sent, [&h1]);
        assert_eq!(received, sent, "{engine}");
        let [received] = frames_seen(&h1, &sent, [&lan(&s)]);
        assert_eq!(received, sent, "{engine}");
    }
}

/// What the host sends on the device goes to the LAN only, as with macvlan.
#[test]
fn ignores_what_the_host_sends_on_the_device() {
    let s = switch("--ports 1 --guard off");
    let h1 = s.host().netns("container1");
    let on_lan = lan(&s).capture("eth0", "ether proto 0x88b5");
    let own = frame(Mac::BROADCAST, mac(1), "own");
    s.host().send_on("eth1", std::slice::from_ref(&own));
    assert_eq!(on_lan.next(), Some(own));
    // A later frame has passed the device.
    let [received] = frames_seen(&lan(&s), &[], [&h1]);
    assert_eq!(received, [] as [Frame; 0]);
    assert_eq!(s.port_of(mac(1)), None);
}

#[test]
fn leaves_the_device_as_it_was() {
    let host = machine();
    let before = host.run("ip -d link show eth1").ok();
    let s = Uswitch::on(host, "--ports 1");
    let host = s.host();
    for end in ["uswitch port del eth1", "uswitch stop", "pkill -KILL -x uswitch"] {
        host.run("uswitch port add --device eth1").ok();
        assert_eq!(promiscuity(host), 1);
        host.run(end).ok();
        wait_until("the sockets are closed", || promiscuity(host) == 0);
        assert_eq!(host.run("ip -d link show eth1").ok(), before, "{end}");
        if !end.contains("del") {
            host.run("uswitch start --detach --ports 1").ok();
        }
    }
}

#[test]
fn rejects_a_device_that_cannot_be_a_port() {
    let s = switch("--ports 1");
    let host = s.host();
    host.sh("ip link add br0 type bridge; ip link add member type veth peer name other; ip link set member master br0")
        .ok();
    let before = host.run("uswitch port show").ok();
    for (device, words) in [
        ("missing", "no device named 'missing'"),
        // It exists in the namespaces of the containers and of the LAN.
        ("eth0", "no device named 'eth0' in the network namespace of the switch"),
        ("lo", "'lo' is not an Ethernet device"),
        ("eth1", "'eth1' is already a port"),
        ("uswitch0", "'uswitch0' is the device of the host port"),
        ("member", "'member' belongs to 'br0'"),
        ("not/a/name", "cannot name a network device"),
    ] {
        let error = host.run(&format!("uswitch port add new --device {device}")).fails();
        assert!(error.contains(words) && error.trim().lines().count() == 1, "{error}");
    }
    for option in ["--netns lan", "--mtu 1400", "--ifname eth5", "--shared-netns"] {
        let error = host.run(&format!("uswitch port add new --device other {option}")).fails();
        assert!(error.contains("--device cannot be combined with"), "{option}: {error}");
    }
    assert_eq!(host.run("uswitch port show").ok(), before);
    assert_eq!(host.run("ip -d -j link show member").json()[0]["promiscuity"], 1, "only that of the bridge");
}

#[test]
fn port_follows_its_device() {
    let s = switch("--ports 1");
    let host = s.host();
    let h1 = host.netns("container1");
    let state = |state: &'static str| {
        wait_until(state, || s.row("port show", "eth1")["operstate"] == state);
    };
    let port = s.row("port show", "eth1");
    assert_eq!((&port["kind"], &port["source_guard"]), (&json!("device"), &json!(false)));
    host.run("ip link set eth1 down").ok();
    state("DOWN");
    host.run("ip link set eth1 mtu 1400 up").ok();
    state("UP");
    h1.run(&format!("ping -n -c 1 -W 5 {LAN}")).ok();
    wait_until("the port has the MTU", || s.row("port show", "eth1")["mtu"] == 1400);
    host.run("uswitch port set eth1 --down").ok();
    h1.run(&format!("ping -n -c 1 -W 1 {LAN}")).fails();
    assert_eq!(host.run("ip -j link show eth1").json()[0]["operstate"], "UP", "the device is not ours");
    host.run("uswitch port set eth1 --up").ok();
    h1.run(&format!("ping -n -c 1 -W 5 {LAN}")).ok();
    host.run("ip link del eth1").ok();
    state("NOTPRESENT");
    host.run("uswitch port del eth1").ok();
    h1.run(&format!("ping -n -c 1 -W 5 {}", "172.16.0.1")).ok();
}

/// The workers go on when a device disappears to another namespace with its sockets open.
#[test]
fn device_that_was_moved_is_gone() {
    for engine in ["uring", "poll"] {
        let s = switch(&format!("--ports 2 --engine {engine}"));
        s.host().run("ip link set eth1 netns lan").ok();
        wait_until("it is gone", || s.row("port show", "eth1")["operstate"] == "NOTPRESENT");
        s.host().netns("container1").run(&format!("ping -n -c 1 -W 5 {}", v4(2))).ok();
    }
}

/// A device has no guard, unless the user says which host is behind it.
#[test]
fn guard_needs_the_addresses_of_the_host_behind_the_device() {
    let s = switch("--ports 1");
    let host = s.host();
    for command in ["uswitch port set eth1 --guard on", "uswitch port add new --device eth1 --guard"] {
        let error = host.run(command).fails();
        assert!(error.contains("needs the addresses of the host behind it"), "{error}");
    }
    host.run("uswitch port del eth1").ok();
    host.run(&format!("uswitch port add lan1 --device eth1 --mac {LAN_MAC} --ip {LAN}/24 --guard")).ok();
    let h1 = host.netns("container1");
    h1.run(&format!("ping -n -c 1 -W 5 {LAN}")).ok();
    let spoofed = frame(Mac::BROADCAST, mac(9), "spoofed");
    lan(&s).send(&[spoofed]);
    wait_until("the frame is dropped", || s.drops("lan1", "spoofed_mac") == 1);
    lan(&s).run("ip addr add 172.16.0.101/24 dev eth0").ok();
    lan(&s).run(&format!("ping -n -c 1 -W 1 -I 172.16.0.101 {}", v4(1))).fails();
    host.run("uswitch port set lan1 --guard off").ok();
    lan(&s).run(&format!("ping -n -c 1 -W 5 -I 172.16.0.101 {}", v4(1))).ok();
}

/// From the configuration file, and by several names.
#[test]
fn starts_with_devices() {
    let host = machine();
    host.sh("printf 'ports = 1\\ndevice = [\"eth1\"]\\n' >/run/lab.toml").ok();
    let s = Uswitch::on(host, "--config /run/lab.toml");
    s.host().netns("container1").run(&format!("ping -n -c 1 -W 5 {LAN}")).ok();
    s.stop();
    let host = s.host();
    let error = host.run("uswitch start --detach --device eth1 --device missing").fails();
    assert!(error.contains("no device named 'missing'") && error.trim().lines().count() == 1, "{error}");
    assert_eq!(promiscuity(host), 0);
    let error = host.run("uswitch start --detach --device eth1 --device eth1").fails();
    assert!(error.contains("--device: 'eth1' is given twice"), "{error}");
}

/// A program has the other end of a TAP device, as a virtual machine or a VPN daemon: here, a wire to a second one.
#[test]
fn tap_of_another_program_becomes_a_port() {
    let s = Uswitch::on(machine(), "--ports 1");
    let host = s.host();
    let tap = |name| format!("TUN,tun-name={name},tun-type=tap,iff-no-pi,iff-up");
    let _wire = host.spawn(&format!("socat {} {}", tap("tap0"), tap("tap1")));
    wait_until("both devices are up", || host.sh("ip link show tap1 | grep -qw UP").succeeded());
    // A bridge, because socat ends if it writes to a device that is down, as one is that moves to another namespace.
    host.sh("ip link add br0 type bridge; ip link set br0 up; for port in tap1 eth1; do ip link set $port master br0; done")
        .ok();
    host.run("uswitch port add vm --device tap0").ok();
    host.netns("container1").run(&format!("ping -n -c 1 -W 5 {LAN}")).ok();
}
