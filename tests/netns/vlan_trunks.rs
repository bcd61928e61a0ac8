//! A trunk between two switches, over each kind of port that can connect them. Tags are inserted where frames enter the
//! trunk and removed where they leave it, also those of super-frames.

use uswitch::wire::Mac;

use crate::harness::{Frame, Host, Shell, TestNetns, TestSwitch, Uswitch, frame, frames_seen, mac, tagged};
use crate::traffic::send_file;

/// The addresses of other1 and other2, in the subnet of the first switch.
const OTHERS: [&str; 2] = ["172.16.0.201", "172.16.0.202"];

/// What connects the switches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Link {
    /// A TAP device of the first switch, of which the second one has the container's end.
    Tap,
    /// The ends of a veth pair.
    Device,
    /// A Unix socket of this type.
    Socket(&'static str),
    /// A datagram socket of each switch.
    Datagrams,
}

impl Link {
    /// The port of the first switch.
    const fn port(self) -> &'static str {
        match self {
            Link::Tap => "container3",
            Link::Device => "eth1",
            Link::Socket(_) | Link::Datagrams => "peer",
        }
    }

    /// Starts the second switch, and connects both with trunks of VLAN 10 and 20.
    fn connect(self, host: &Host, arguments: &str) {
        const TRUNK: &str = "--trunk 10,20";
        const SOCKET: &str = "/run/trunk.sock";
        let start = format!(
            "uswitch start --detach --name two --prefix other --ports 2 --internal --subnet 172.16.1.0/24 {arguments}"
        );
        let add = |port: &str| host.run(&format!("uswitch port add {port} {TRUNK}")).ok();
        match self {
            Link::Tap => {
                host.run(&format!("uswitch port set container3 {TRUNK}")).ok();
                // Not with `ip netns exec`: its namespaces would be named in another mount namespace.
                host.run(&format!("nsenter --net=/run/netns/container3 {start} --device eth0")).ok();
                host.run(&format!("uswitch port set eth0 --name two {TRUNK}")).ok();
            }
            Link::Device => {
                host.sh(
                    "ip link add eth1 type veth peer name eth2; ip link set eth1 up; ip link set eth2 up",
                )
                .ok();
                host.run(&start).ok();
                add("--device eth1");
                add("--name two --device eth2");
            }
            Link::Socket(kind) => {
                host.run(&start).ok();
                add(&format!("peer --socket {SOCKET} --socket-type {kind} --listen"));
                add(&format!("peer --name two --socket {SOCKET} --socket-type {kind}"));
            }
            Link::Datagrams => {
                host.run(&start).ok();
                add("peer --socket /run/one.sock --socket-type dgram --remote /run/two.sock");
                add("peer --name two --socket /run/two.sock --socket-type dgram --remote /run/one.sock");
            }
        }
    }
}

/// The hosts in VLAN 10: container1 and container4 of the first switch, other1 of the second.
struct Ten {
    h1: TestNetns,
    h4: TestNetns,
    other: TestNetns,
}

/// Two switches. container2 and other2 are in VLAN 20.
fn two_switches(link: Link, engine: &str) -> (Uswitch, Ten) {
    let arguments = format!("--guard off --vlan-filtering --engine {engine}");
    let s = Uswitch::with(&format!("--ports 4 {arguments}"));
    let host = s.host();
    link.connect(host, &arguments);
    for (port, vid) in [
        ("container1", 10),
        ("container2", 20),
        ("container4", 10),
        ("other1 --name two", 10),
        ("other2 --name two", 20),
    ] {
        host.run(&format!("uswitch port set {port} --access {vid}")).ok();
    }
    for (n, address) in (1..).zip(OTHERS) {
        host.netns(&format!("other{n}")).run(&format!("ip addr add {address}/24 dev eth0")).ok();
    }
    let [h1, h4, other] = ["container1", "container4", "other1"].map(|name| host.netns(name));
    (s, Ten { h1, h4, other })
}

/// In both directions: frames with and without a tag, at once to ports that get them with and without it, and TCP.
#[track_caller]
fn carries_vlans(link: Link, engine: &str) {
    let (s, Ten { h1, h4, other }) = two_switches(link, engine);
    h1.run(&format!("ping -n -c 1 -W 5 {}", OTHERS[0])).ok();
    h1.run(&format!("ping -n -c 1 -W 1 {}", OTHERS[1])).fails();
    let plain: Vec<Frame> = (0..50).map(|n| frame(Mac::BROADCAST, mac(1), &format!("frame {n}"))).collect();
    let with_priority: Vec<Frame> = plain.iter().map(|frame| tagged(frame, 0x6000)).collect();
    let both = [&plain[..], &with_priority].concat();
    let expected = [&plain[..], &plain].concat();
    let [at_h4, at_other] = frames_seen(&h1, &both, [&h4, &other]);
    assert_eq!((&at_h4, &at_other), (&expected, &expected), "{link:?}");
    let [at_h1, at_h4] = frames_seen(&other, &both, [&h1, &h4]);
    assert_eq!((&at_h1, &at_h4), (&expected, &expected), "{link:?}");
    send_file(&h1, &other, OTHERS[0]);
    send_file(&other, &h1, "172.16.0.2");
    let count = |what| s.count(link.port(), what);
    if matches!(link, Link::Socket("stream") | Link::Datagrams) {
        assert!(count("segmented") > 0);
    } else {
        assert!(count("tx_bytes") / count("tx_frames") > 1514, "super-frames are not segmented");
    }
    // Each frame leaves with its tag on the trunk, and without it to container4.
    s.host().run("uswitch port set container1 --hub on").ok();
    send_file(&h1, &other, OTHERS[0]);
    assert!(s.count("container4", "tx_bytes") > 100_000_000);
}

#[test]
fn tap_carries_vlans_with_io_uring() {
    carries_vlans(Link::Tap, "auto");
}

#[test]
fn tap_carries_vlans_with_poll() {
    carries_vlans(Link::Tap, "poll");
}

#[test]
fn device_carries_vlans_with_io_uring() {
    carries_vlans(Link::Device, "auto");
}

#[test]
fn device_carries_vlans_with_poll() {
    carries_vlans(Link::Device, "poll");
}

#[test]
fn seqpacket_socket_carries_vlans_with_io_uring() {
    carries_vlans(Link::Socket("seqpacket"), "auto");
}

#[test]
fn seqpacket_socket_carries_vlans_with_poll() {
    carries_vlans(Link::Socket("seqpacket"), "poll");
}

#[test]
fn stream_socket_carries_vlans_with_io_uring() {
    carries_vlans(Link::Socket("stream"), "auto");
}

#[test]
fn stream_socket_carries_vlans_with_poll() {
    carries_vlans(Link::Socket("stream"), "poll");
}

#[test]
fn datagrams_carry_vlans_with_io_uring() {
    carries_vlans(Link::Datagrams, "auto");
}

#[test]
fn datagrams_carry_vlans_with_poll() {
    carries_vlans(Link::Datagrams, "poll");
}
