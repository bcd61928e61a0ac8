//! Ports on Unix sockets: two switches on one machine, and passt.

use std::os::unix::fs::PermissionsExt;

use serde_json::json;
use uswitch::wire::Mac;

use crate::harness::{
    Host, Shell, TestNetns, TestSwitch, Uswitch, frame, frames_seen, mac, tagged, wait_until,
};
use crate::traffic::send_file;

const SOCKET: &str = "/run/between.sock";

/// Two switches that a socket connects: `uswitch0` with container1, and `two` with other1, which has this address in
/// the subnet of container1.
struct TwoSwitches {
    first: Uswitch,
}

const OTHER: &str = "172.16.0.200";

const OTHER_SOCKET: &str = "/run/other.sock";
const DATAGRAMS: &str = "--socket /run/between.sock --socket-type dgram";
/// The same for the start of the other switch.
const OF_OTHER: &str = "--socket /run/other.sock,type=dgram,remote=/run/between.sock,name=peer";

impl TwoSwitches {
    fn start(arguments: &str, of_second: &str) -> TwoSwitches {
        let first = Uswitch::with(&format!("--ports 1 --guard off {arguments}"));
        let switches = TwoSwitches { first };
        switches
            .first
            .host()
            .run(&format!("uswitch port add peer --socket {SOCKET} --listen {of_second}"))
            .ok();
        switches.start_second();
        switches.host().run(&format!("uswitch port add peer --name two --socket {SOCKET} {of_second}")).ok();
        switches.wait_for("UP");
        switches
    }

    /// The same with a datagram socket for each switch.
    fn with_datagrams(arguments: &str) -> TwoSwitches {
        let switches = TwoSwitches { first: Uswitch::with(&format!("--ports 1 --guard off {arguments}")) };
        switches.host().run(&format!("uswitch port add peer {DATAGRAMS} --remote {OTHER_SOCKET}")).ok();
        switches.start_second_with(OF_OTHER);
        switches.wait_for("UP");
        switches
    }

    fn start_second(&self) {
        self.start_second_with("");
    }

    fn start_second_with(&self, arguments: &str) {
        let start = "uswitch start --detach --name two --prefix other --ports 1 --internal --subnet 172.16.1.0/24 --guard off";
        self.host().run(&format!("{start} {arguments}")).ok();
        self.host().netns("other1").run(&format!("ip addr add {OTHER}/24 dev eth0")).ok();
    }

    fn host(&self) -> &Host {
        self.first.host()
    }

    fn hosts(&self) -> [TestNetns; 2] {
        ["container1", "other1"].map(|name| self.host().netns(name))
    }

    fn wait_for(&self, operstate: &str) {
        wait_until(operstate, || self.first.row("port show", "peer")["operstate"] == operstate);
    }
}

/// Files cross in both directions, as super-frames.
#[track_caller]
fn carries_super_frames(arguments: &str) {
    let switches = TwoSwitches::start(arguments, "");
    let [h1, other] = switches.hosts();
    h1.run(&format!("ping -n -c 1 -W 5 {OTHER}")).ok();
    send_file(&h1, &other, OTHER);
    send_file(&other, &h1, "172.16.0.2");
    for direction in ["rx", "tx"] {
        let count = |what| switches.first.count("peer", &format!("{direction}_{what}"));
        let mean = count("bytes") / count("frames");
        assert!(mean > 1514, "{direction}: {mean} bytes in a frame");
    }
}

/// Frames arrive unchanged, with and without a tag, in order: one worker reads them.
#[track_caller]
fn keeps_frames(switches: &TwoSwitches) {
    let [h1, other] = switches.hosts();
    let sent = [frame(Mac::BROADCAST, mac(1), "plain"), tagged(&frame(Mac::BROADCAST, mac(1), "tagged"), 7)];
    let [received] = frames_seen(&h1, &sent, [&other]);
    assert_eq!(received, sent);
}

#[test]
fn super_frames_cross_between_two_switches_with_uring() {
    carries_super_frames("--engine uring");
}

#[test]
fn super_frames_cross_between_two_switches_with_poll() {
    carries_super_frames("--engine poll");
}

#[test]
fn frames_cross_unchanged() {
    for engine in ["uring", "poll"] {
        for kind in ["seqpacket", "stream"] {
            keeps_frames(&TwoSwitches::start(
                &format!("--engine {engine}"),
                &format!("--socket-type {kind}"),
            ));
        }
        keeps_frames(&TwoSwitches::with_datagrams(&format!("--engine {engine}")));
    }
}

#[test]
fn several_workers_share_a_socket() {
    carries_super_frames("--workers 3");
}

/// Without a virtio-net header, the switch completes each frame.
#[test]
fn stream_and_datagrams_carry_complete_frames() {
    let stream = |arguments: &str| TwoSwitches::start(arguments, "--socket-type stream");
    for (switches, arguments) in [
        (stream as fn(&str) -> TwoSwitches, "--engine uring"),
        (stream, "--engine poll --workers 2"),
        (TwoSwitches::with_datagrams, "--engine uring"),
        (TwoSwitches::with_datagrams, "--engine poll --workers 2"),
    ] {
        let switches = switches(arguments);
        let [h1, other] = switches.hosts();
        h1.run(&format!("ping -n -c 1 -W 5 {OTHER}")).ok();
        send_file(&h1, &other, OTHER);
        send_file(&other, &h1, "172.16.0.2");
        assert!(switches.first.count("peer", "segmented") > 0);
    }
}

#[test]
fn port_follows_its_peer() {
    for kind in ["seqpacket", "stream"] {
        let switches = TwoSwitches::start("", &format!("--socket-type {kind}"));
        let host = switches.host();
        let [h1, _] = switches.hosts();
        h1.run(&format!("ping -n -c 1 -W 5 {OTHER}")).ok();
        host.run("uswitch stop --name two").ok();
        switches.wait_for("DOWN");
        let port = switches.first.row("port show", "peer");
        assert_eq!(port["flags"], json!(["NO-CARRIER", "BROADCAST", "MULTICAST", "UP"]), "{port}");
        // The other side appears again: it connects when this one listens, and looks for it again when it connects.
        switches.start_second();
        host.run("uswitch port del peer").ok();
        host.run(&format!(
            "uswitch port add peer --name two --socket {SOCKET} --socket-type {kind} --listen"
        ))
        .ok();
        host.run(&format!("uswitch port add peer --socket {SOCKET} --socket-type {kind}")).ok();
        switches.wait_for("UP");
        h1.run(&format!("ping -n -c 1 -W 5 {OTHER}")).ok();
        host.run("uswitch port del peer --name two").ok();
        switches.wait_for("DOWN");
        host.run(&format!(
            "uswitch port add peer --name two --socket {SOCKET} --socket-type {kind} --listen"
        ))
        .ok();
        switches.wait_for("UP");
        h1.run(&format!("ping -n -c 1 -W 5 {OTHER}")).ok();
    }
}

/// From the configuration file and from the command line, with and without options.
#[test]
fn starts_with_sockets() {
    let host = Host::new();
    let file = "ports = 1\nguard = false\nsocket = [\"/run/between.sock,listen,name=peer\"]\n";
    host.sh(&format!("printf '{file}' >/run/lab.toml")).ok();
    let switches = TwoSwitches { first: Uswitch::on(host, "--config /run/lab.toml") };
    switches.start_second_with(&format!("--socket {SOCKET}"));
    let [h1, _] = switches.hosts();
    switches.wait_for("UP");
    h1.run(&format!("ping -n -c 1 -W 5 {OTHER}")).ok();
    let host = switches.host();
    for (arguments, words) in [
        ("--socket /run/x.sock,talk", "--socket: 'talk' is not an option of a socket"),
        (&format!("--socket {SOCKET},listen"), "another program has it open"),
    ] {
        let start = "uswitch start --detach --name three --prefix three --internal --subnet 172.16.2.0/24";
        let error = host.run(&format!("{start} {arguments}")).fails();
        assert!(error.contains(words) && error.trim().lines().count() == 1, "{error}");
        assert!(!host.path("/run/netns/three1").exists(), "everything is removed");
    }
}

/// Nothing reports that the peer of a datagram socket is gone.
#[test]
fn port_on_datagrams_follows_its_peer() {
    let switches = TwoSwitches::with_datagrams("");
    let [h1, _] = switches.hosts();
    for end in ["uswitch stop --name two", "pkill -KILL -f [n]ame.two"] {
        h1.run(&format!("ping -n -c 1 -W 5 {OTHER}")).ok();
        switches.host().run(end).ok();
        switches.wait_for("DOWN");
        switches.start_second_with(OF_OTHER);
        switches.wait_for("UP");
    }
    let h1 = switches.host().netns("container1");
    h1.run(&format!("ping -n -c 1 -W 5 {OTHER}")).ok();
}

#[test]
fn socket_is_accessible_to_its_owner_only_and_removed_at_the_end() {
    let s = Uswitch::with("--ports 1");
    let host = s.host();
    let path = host.path(SOCKET);
    let (listener, datagrams) =
        (format!("--socket {SOCKET} --listen"), format!("{DATAGRAMS} --remote /run/x"));
    let ends = ["uswitch port del peer", "uswitch stop", "pkill -KILL -x uswitch"];
    for (end, port) in ends.iter().flat_map(|end| [(*end, &listener), (*end, &datagrams)]) {
        host.run(&format!("uswitch port add peer {port}")).ok();
        let mode = std::fs::metadata(&path).expect("it exists").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        host.run(end).ok();
        if end.contains("KILL") {
            let said = host.sh("uswitch stop 2>&1").ok();
            assert!(said.contains("1 socket"), "{said}");
        }
        assert!(!path.exists(), "{end}");
        if !end.contains("del") {
            host.run("uswitch start --detach --ports 1").ok();
        }
    }
}

#[test]
fn rejects_a_socket_that_cannot_be_a_port() {
    let s = Uswitch::with("--ports 1");
    let host = s.host();
    host.run(&format!("uswitch port add peer --socket {SOCKET} --listen")).ok();
    host.sh("echo kept >/run/file").ok();
    let before = host.run("uswitch port show").ok();
    for (arguments, words) in [
        (format!("new --socket {SOCKET} --listen"), "another program has it open"),
        (format!("new {DATAGRAMS} --remote /run/x"), "another program has it open"),
        ("new --socket /run/x --socket-type dgram".to_owned(), "needs 'remote'"),
        (
            "new --socket /run/x --socket-type dgram --remote /run/y --listen".to_owned(),
            "'listen' is for sockets",
        ),
        ("new --socket /run/x --remote /run/y".to_owned(), "'remote' is for sockets of type dgram only"),
        (
            format!("new --socket /run/x --socket-type dgram --remote /run/{}", "x".repeat(110)),
            "at most 107 bytes",
        ),
        ("new --socket /run/file --listen".to_owned(), "a file that is not a socket"),
        (format!("new --socket /run/{} --listen", "x".repeat(110)), "at most 107 bytes"),
        ("--socket /run/.x.sock --listen".to_owned(), "give the port a name"),
        ("new --socket /run/missing/x.sock --listen".to_owned(), "No such file"),
        ("new --listen".to_owned(), "--socket"),
        (format!("new --socket {SOCKET} --netns lan"), "--socket cannot be combined with --netns"),
    ] {
        let error = host.run(&format!("uswitch port add {arguments}")).fails();
        assert!(error.contains(words) && error.trim().lines().count() == 1, "{error}");
    }
    assert_eq!(host.run("uswitch port show").ok(), before);
    assert_eq!(host.run("cat /run/file").ok(), "kept\n");
}

/// A second peer is refused, and does not disturb the first.
#[test]
fn a_port_has_one_peer() {
    let switches = TwoSwitches::start("", "");
    let [h1, _] = switches.hosts();
    let refused = switches.host().sh(&format!("timeout 5 socat -u UNIX-CONNECT:{SOCKET},type=5 STDOUT")).ok();
    assert_eq!(refused, "");
    h1.run(&format!("ping -n -c 1 -W 5 {OTHER}")).ok();
}

/// A container reaches servers of the host through passt, which has no device and needs no privileges.
#[test]
fn passt_connects_a_container() {
    let host = Host::new();
    host.sh("ip link add wan type veth peer name other; ip link set wan up; ip link set other up
             ip addr add 203.0.113.1/24 dev wan; ip route add default via 203.0.113.254")
        .ok();
    let s = Uswitch::on(host, "--ports 1 --internal --subnet 192.0.2.0/24 --guard off");
    let host = s.host();
    let mut passt = host.spawn_sh(
        "mkdir -m 777 /run/passt; exec passt --foreground --stderr --socket /run/passt/socket --ipv4-only \
         --address 192.0.2.2 --netmask 24 --gateway 192.0.2.1",
    );
    // It runs as nobody, and so its socket belongs to another user.
    passt.line_with("You can now start qemu");
    host.run("uswitch port add passt --socket /run/passt/socket --socket-type stream").ok();
    let h1 = host.netns("container1");
    h1.run("ip route add default via 192.0.2.1").ok();
    wait_until("passt is connected", || s.row("port show", "passt")["operstate"] == "UP");
    let mut server = host.spawn_sh("socat -d -d -u TCP-LISTEN:5001,bind=203.0.113.1 STDOUT | sha256sum");
    server.line_with("listening on");
    let sum = h1.sh("head -c 20000000 /dev/urandom >/run/file; sha256sum </run/file").ok();
    h1.run("socat -u OPEN:/run/file TCP:203.0.113.1:5001").ok();
    let received = server.ok();
    assert!(received.contains(sum.trim()), "sent {sum}, received {received}");
}

/// QEMU boots from the network: iPXE, in the ROM of the network card, answers a ping.
#[track_caller]
fn connects_a_virtual_machine(port: &str, netdev: &str) {
    const MAC: &str = "52:54:00:12:34:56";
    let s = Uswitch::with("--ports 1 --guard off");
    let host = s.host();
    host.run(&format!("uswitch port add vm1 --socket /run/vm1.sock {port}")).ok();
    let guest: Mac = MAC.parse().expect("a MAC address");
    // A second machine takes the place of the first.
    for _ in 0..2 {
        let qemu = host.spawn(&format!(
            "qemu-system-x86_64 -accel tcg -m 64 -nographic -no-reboot -monitor none -serial none -boot n \
             -netdev {netdev} -device e1000,netdev=n,mac={MAC}"
        ));
        wait_until("the guest sends frames", || s.port_of(guest).as_deref() == Some("vm1"));
        // Its link-local address (RFC 4291 appendix A).
        host.netns("container1").run("ping -n -c 1 -W 10 fe80::5054:ff:fe12:3456%eth0").ok();
        drop(qemu);
        wait_until("the port has no carrier", || s.row("port show", "vm1")["operstate"] == "DOWN");
    }
}

#[test]
fn qemu_connects_a_virtual_machine_with_a_stream() {
    connects_a_virtual_machine(
        "--socket-type stream --listen",
        "stream,id=n,server=off,addr.type=unix,addr.path=/run/vm1.sock",
    );
}

#[test]
fn qemu_connects_a_virtual_machine_with_datagrams() {
    connects_a_virtual_machine(
        "--socket-type dgram --remote /run/qemu.sock",
        "dgram,id=n,local.type=unix,local.path=/run/qemu.sock,remote.type=unix,remote.path=/run/vm1.sock",
    );
}
